# Copyright 2026 rgbx_seg_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""
How good the masks of a model are, as the authors of a data set score them or as we do.

It uses `inference` and those above it.
"""

from rgbx_seg_ros.evaluation.metrics import ConfusionMatrix, Tally
from rgbx_seg_ros.evaluation.protocols import Protocol, PROTOCOLS

__all__ = ['ConfusionMatrix', 'Protocol', 'PROTOCOLS', 'Tally']
