# Copyright 2026 rgbx_seg_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""
From a pair of frames to its mask: the segmenter that node, replay and scores share.

Also large images in tiles, image files, and golden frames. It uses `engines` and those above it.
"""

from rgbx_seg_ros.inference.segmenter import Segmentation, Segmenter

__all__ = ['Segmentation', 'Segmenter']
