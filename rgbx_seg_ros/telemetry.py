# Copyright 2026 rgbx_seg_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""Counts and times of a running node, for diagnostics and reports."""

from collections import Counter, deque
import threading

import numpy as np


class Window:
    """The newest values of a quantity, at most `size` of them, and their percentiles."""

    def __init__(self, size: int = 1000):
        self._values: deque[float] = deque(maxlen=size)

    def add(self, value: float) -> None:
        """Take a value."""
        self._values.append(value)

    def percentile(self, share: float) -> float | None:
        """Return the percentile `share` (0..100) of the values, or None before the first one."""
        return float(np.percentile(list(self._values), share)) if self._values else None


class Telemetry:
    """What the node counts and times; its threads share one of these."""

    QUANTITIES = {
        'inference_ms': 'frames in memory to mask and confidence in memory',
        'publish_ms': 'mask in memory to the last message handed to the middleware',
        'latency_ms': 'stamp of the RGB frame to the mask handed to the middleware',
        'offset_ms': 'stamp of X minus stamp of RGB',
    }

    def __init__(self):
        self._lock = threading.Lock()
        self._counts: Counter[str] = Counter()
        self._windows = {name: Window() for name in self.QUANTITIES}

    def count(self, name: str) -> None:
        """Count one event."""
        with self._lock:
            self._counts[name] += 1

    def time(self, **values: float) -> None:
        """Take a value of each of the quantities named."""
        with self._lock:
            for name, value in values.items():
                self._windows[name].add(value)

    def summary(self) -> dict:
        """Return the counts by name, and of each quantity p50, p95 and p99 (None before any)."""
        with self._lock:
            return {**self._counts,
                    **{f'{name}_p{share}': window.percentile(share)
                       for name, window in self._windows.items() for share in (50, 95, 99)}}
