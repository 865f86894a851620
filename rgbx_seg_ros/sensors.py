# Copyright 2026 rgbx_seg_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""Which of the two sensors a mask is made of."""

from enum import Enum


class Sensors(Enum):
    """Those that count; the mean takes the place of the frame of the other one."""

    BOTH = 'both'
    RGB = 'rgb'
    X = 'x'

    @classmethod
    def without(cls, lost: str | None) -> 'Sensors':
        """Return what is left where 'rgb' or 'x' is lost, or None of them."""
        return {None: cls.BOTH, 'rgb': cls.X, 'x': cls.RGB}[lost]

    @property
    def present(self) -> tuple[float, float]:
        """1 for RGB and for X, or 0 where it does not count: an input of the graph."""
        return float(self is not Sensors.X), float(self is not Sensors.RGB)
