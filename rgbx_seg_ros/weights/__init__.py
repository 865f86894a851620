# Copyright 2026 rgbx_seg_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""
Checkpoints in, whoever wrote them, without running what is in them.

It uses `cards` and `networks`.
"""

from rgbx_seg_ros.weights.checkpoint import load_weights, save_weights
from rgbx_seg_ros.weights.published import read_weights

__all__ = ['load_weights', 'read_weights', 'save_weights']
