# Copyright 2026 rgbx_seg_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""
Operators that PyTorch lacks, in plain PyTorch: for CPU and CUDA, for training and for export.

Fixed sizes only, and no complex tensors.
"""

from rgbx_seg_ros.networks.operators.deformable import deformable_sampling
from rgbx_seg_ros.networks.operators.frequency import complex_logistic, RealDFT
from rgbx_seg_ros.networks.operators.neighborhood import NeighborhoodAttention
from rgbx_seg_ros.networks.operators.scan import selective_scan
from rgbx_seg_ros.networks.operators.topk import smallest_share

__all__ = [
    'complex_logistic',
    'deformable_sampling',
    'NeighborhoodAttention',
    'RealDFT',
    'selective_scan',
    'smallest_share',
]
