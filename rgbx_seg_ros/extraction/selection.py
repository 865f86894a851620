# Copyright 2026 rgbx_seg_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""Which pairs of a recording are worth a label: not too close in time, and not too alike."""

import cv2
import numpy as np
from rgbx_seg_ros.errors import ParameterError
from rgbx_seg_ros.fields import check_number
from rgbx_seg_ros.sync.pairing import Pair

_SIZE = 64, 48
"""Width and height to which frames are averaged: that leaves no noise and no trembling."""


class Selection:
    """
    Says which pairs of one bag to keep, in their order.

    Between the colour frames of two that are kept lie `every_s` seconds or more. With a
    `min_change`, in percent, they differ by that or more, see `change`.
    """

    def __init__(self, every_s: float = 0.0, min_change: float = 0.0):
        check_number('--every', every_s, ParameterError, low=0)
        check_number('--min-change', min_change, ParameterError, low=0)
        self._every_ns, self._min_change = round(every_s * 1e9), min_change
        self._stamp_ns: int | None = None
        self._small: tuple[np.ndarray, np.ndarray] | None = None
        self.change: float | None = None
        """That of the pair asked for last, where it was looked at and one was kept before."""

    def wants(self, pair: Pair) -> bool:
        """Return whether to keep a pair; `keep` says that it was."""
        self.change = None
        if self._stamp_ns is not None and (
                0 <= pair.rgb_stamp_ns - self._stamp_ns < self._every_ns):
            return False
        if not self._min_change:
            return True
        self._seen = _small(pair.rgb.pixels), _small(pair.x.pixels)
        if self._small is None:
            return True
        self.change = max(map(change, self._small, self._seen))
        return self.change >= self._min_change

    def keep(self, pair: Pair) -> None:
        """Compare what follows with this pair, the one asked for last."""
        self._stamp_ns = pair.rgb_stamp_ns
        if self._min_change:
            self._small = self._seen


def change(before: np.ndarray, after: np.ndarray) -> float:
    """
    Return by how much a frame differs from one before it, both of them averaged to one size.

    It is the mean absolute difference in percent of the contrast before, that is of the span from
    the 1st to the 99th percentile; of a frame without contrast, in percent of one raw count, or of
    0.01 where values are floats.
    """
    if before.shape != after.shape:
        return 100.0  # a camera that is set to another mode
    low, high = np.percentile(before, (1, 99))
    return float(100 * np.abs(after - before).mean() / max(high - low, 1.0))


def _small(pixels):
    """
    Return a frame of any type averaged to `_SIZE`; what has no measurement counts as 0.

    Counts stay as they are, values of floats become hundredths.
    """
    scale = 100 if pixels.dtype == np.float32 else 1
    pixels = scale * np.nan_to_num(pixels.astype(np.float32), nan=0.0, posinf=0.0, neginf=0.0)
    return cv2.resize(pixels, _SIZE, interpolation=cv2.INTER_AREA)
