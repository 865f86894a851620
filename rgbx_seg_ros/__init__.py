# Copyright 2026 rgbx_seg_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""RGB-X semantic segmentation for ROS 2: a camera paired with thermal, depth or polarization."""

__version__ = '0.1.0'
