# Copyright 2026 rgbx_seg_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""
From a pair of frames to its mask: the segmenter that node, replay and scores share.

Also the way from messages to it, large images in tiles, image files, and golden frames. It uses
`engines`, `registration` and those above them.
"""

from rgbx_seg_ros.inference.segmenter import Segmentation, Segmenter

__all__ = ['Segmentation', 'Segmenter']
