# Copyright 2026 rgbx_seg_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""Whether the sensors of a running node agree: looked at now and then, as it costs two masks."""

import time

import numpy as np
from rgbx_seg_ros.inference.segmenter import Segmenter

PERIOD_S = 1.0
"""So long at least lies between the starts of two comparisons."""
MOST_SHARE = 0.1
"""Of the time, that comparisons take at most: slow networks make them less often."""


class DisagreementWatch:
    """Compares RGB alone with X alone, on few enough pairs that masks hardly wait for it."""

    def __init__(self, segmenter: Segmenter):
        self._segmenter = segmenter
        self._due_s = 0.0

    def look(self, rgb: np.ndarray, x: np.ndarray, x_limits: tuple[float, float]) -> float | None:
        """
        Take a pair, as `Segmenter.disagreement` does, and return what that tells.

        Return None, at once, where the time for a comparison has not come.
        """
        started_s = time.monotonic()
        if started_s < self._due_s:
            return None
        try:
            return self._segmenter.disagreement(rgb, x, x_limits)
        finally:  # one that fails is not tried again at once
            spent_s = time.monotonic() - started_s
            self._due_s = started_s + max(PERIOD_S, spent_s / MOST_SHARE)
