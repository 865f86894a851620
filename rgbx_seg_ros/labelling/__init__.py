# Copyright 2026 rgbx_seg_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""
Frames and masks to labelling tools, and masks back from them.

Nothing is re-exported: this is a verb of the command line.
"""
