# Copyright 2026 rgbx_seg_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""How soon the next frame of a stream may come, told from how its frames came so far."""

from collections import deque

WINDOW = 30
"""So many gaps are looked at: one second of a camera."""

FEWEST = 10
"""Before it has seen so many gaps an estimator promises nothing."""

LONGEST_NS = 100_000_000
"""No promise is longer than this: a slow stream may become a fast one at any time."""


class PeriodEstimator:
    """
    Learn a promise for `PairingSettings.rgb_min_period_ns` or `x_min_period_ns`.

    It is nine tenths of the second shortest of the newest gaps between the stamps of one stream.
    So it is close to the period of a steady stream and less the more one jitters; lost frames,
    which only lengthen gaps, leave it as it is; a single stamp that is off does not spoil it; and
    a stream that becomes faster breaks it twice at most.
    """

    def __init__(self) -> None:
        self._gaps_ns: deque[int] = deque(maxlen=WINDOW)
        self.promise_ns = 1
        """The next frame comes no sooner than this after the newest one; 1 promises nothing."""

    def add(self, gap_ns: int) -> None:
        """Take the time from one frame to the next, more than 0."""
        self._gaps_ns.append(gap_ns)
        if len(self._gaps_ns) >= FEWEST:
            second_ns = sorted(self._gaps_ns)[1]
            self.promise_ns = max(1, min(second_ns * 9 // 10, LONGEST_NS))
