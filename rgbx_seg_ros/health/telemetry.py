# Copyright 2026 rgbx_seg_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""Counts and times of a running node, for diagnostics and reports."""

from collections import Counter, deque
import threading

import numpy as np

QUANTITIES = {
    'prepare_ms': 'from a pair taken up to frames that are ready for the engine',
    'inference_ms': 'from frames in memory to mask and confidence in memory',
    'post_ms': 'from mask in memory to the mask as it is published',
    'publish_ms': 'to hand the messages to the middleware',
    'latency_ms': 'from the stamp of the RGB frame to its mask handed to the middleware',
    'offset_ms': 'stamp of X minus stamp of RGB, as the cameras set them',
    'distance_ms': 'time between the two frames of a pair, with sync.x_offset_ms',
}
"""What is timed, and from where to where."""

SHARES = (50, 95, 99)
"""The percentiles that are told of each quantity."""


class Window:
    """The newest values of a quantity, at most `size` of them, and their percentiles."""

    def __init__(self, size: int = 1000):
        self._values: deque[float] = deque(maxlen=size)

    def add(self, value: float) -> None:
        """Take a value."""
        self._values.append(value)

    def values(self) -> list[float]:
        """Return the values, oldest first."""
        return list(self._values)

    def percentile(self, share: float) -> float | None:
        """Return the percentile `share` (0..100) of the values, or None before the first one."""
        return float(np.percentile(self.values(), share)) if self._values else None


class Telemetry:
    """What the node counts and times; its threads share one of these."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._counts: Counter[str] = Counter()
        self._windows = {name: Window() for name in QUANTITIES}

    def count(self, name: str) -> None:
        """Count one event."""
        with self._lock:
            self._counts[name] += 1

    def time(self, **values: float) -> None:
        """Take a value of each of the quantities named."""
        with self._lock:
            for name, value in values.items():
                self._windows[name].add(value)

    def counts(self) -> dict[str, int]:
        """Return how often each event was counted."""
        with self._lock:
            return dict(self._counts)

    def percentiles(self) -> dict[str, float | None]:
        """Return SHARES of each of QUANTITIES, as `latency_ms_p95`; None before the first."""
        with self._lock:
            windows = {name: window.values() for name, window in self._windows.items()}
        # Not under the lock: the threads that count must not wait for this.
        found = {}
        for name, values in windows.items():
            of_shares = np.percentile(values, SHARES).tolist() if values else [None] * len(SHARES)
            for share, value in zip(SHARES, of_shares, strict=True):
                found[f'{name}_p{share}'] = value
        return found
