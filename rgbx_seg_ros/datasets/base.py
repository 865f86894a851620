# Copyright 2026 rgbx_seg_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""What every data set gives: paired frames by index, with a label where there is one."""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Sample:
    """One pair of frames as stored."""

    name: str
    """File name without its ending."""
    rgb: np.ndarray
    """(H, W, 3) uint8, RGB order."""
    x: np.ndarray
    """(H, W) or (H, W, 3), uint8, uint16 or float32."""
    label: np.ndarray | None
    """(H, W) uint8 class ids, 255 where unlabeled; None for a frame without a label."""
