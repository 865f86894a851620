# Copyright 2026 rgbx_seg_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""
Pairs of frames out of bags, as a data set to label.

It uses `replay`, whose pairs these are, and `datasets`. Nothing is re-exported: this is a verb of
the command line.
"""
