# Copyright 2026 rgbx_seg_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""
Weights from labelled pairs: recipes, augmentation, losses, exact resume.

It uses `evaluation` to choose among states, and those above it.
"""

from rgbx_seg_ros.training.augment import Augment
from rgbx_seg_ros.training.config import TrainConfig

__all__ = ['Augment', 'TrainConfig']
