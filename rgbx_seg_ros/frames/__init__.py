# Copyright 2026 rgbx_seg_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""
Raw frames on their way to a network: what is allowed, and what becomes 0 and 1.

Arrays of NumPy and the files they come from; it uses `cards`.
"""

from rgbx_seg_ros.frames.images import read_image, read_rgb, write_image
from rgbx_seg_ros.frames.raw import check_rgb, check_x
from rgbx_seg_ros.frames.smoothing import LimitsTracker

__all__ = ['check_rgb', 'check_x', 'LimitsTracker', 'read_image', 'read_rgb', 'write_image']
