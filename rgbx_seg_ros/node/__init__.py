# Copyright 2026 rgbx_seg_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""
The ROS edge: the node, what it subscribes and publishes, `rgbx-seg top` and `view`, and the demo.

Here alone rclpy is imported, with `messages`. Nothing is re-exported: whoever looks at one module
must not wait for the others.
"""
