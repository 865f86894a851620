# Copyright 2026 rgbx_seg_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""
Image and CompressedImage to arrays and back, without a copy where that can be.

It takes messages of rclpy and of rosbags alike, so nothing of ROS is imported but by name.
"""

from rgbx_seg_ros.messages.images import decode_rgb, decode_x, stamp_ns, to_image

__all__ = ['decode_rgb', 'decode_x', 'stamp_ns', 'to_image']
