# Copyright 2026 rgbx_seg_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""
What a model is: classes and palette, inputs, licence, and where its weights are.

Plain data; it uses nothing but the modules at the root of the package.
"""

from rgbx_seg_ros.cards.card import Card, list_cards, load_card
from rgbx_seg_ros.cards.labels import LabelClass, LabelSet, UNLABELED

__all__ = ['Card', 'LabelClass', 'LabelSet', 'list_cards', 'load_card', 'UNLABELED']
