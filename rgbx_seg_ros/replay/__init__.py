# Copyright 2026 rgbx_seg_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""
A bag segmented offline as the node would, with the masks and their scores beside it; or many bags.

It uses `evaluation`, `inference` and `bags`. Nothing is re-exported: this is a verb of the command
line.
"""
