# Copyright 2026 rgbx_seg_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""
Bags in and out without ROS: frames to a bag, and the messages of one that was recorded.

It uses `messages` and `datasets`.
"""

from rgbx_seg_ros.bags.storage import BagReader, BagWriter

__all__ = ['BagReader', 'BagWriter']
