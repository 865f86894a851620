# Copyright 2026 rgbx_seg_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""
How fast models, engines and the live node are on this machine, and what works on it.

It uses everything else. Nothing is re-exported: these are verbs of the command line.
"""
