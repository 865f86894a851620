# Copyright 2026 rgbx_seg_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""How often masks change where the sensors give no reason to."""

import math

import cv2
import numpy as np

STILL = 8 / 255
"""
A pixel is still when each channel of RGB and of X moves by this share of its range at most: of RGB
8 of 255 levels, of X that of the raw values that become 0 and 1.
"""
MAX_GAP_NS = 1_000_000_000
"""Frames further apart do not follow each other."""


class Flicker:
    """
    Counts the still pixels of frames that follow each other, and those whose class flips there.

    To 255 and back are flips as well. A pixel of X without a measurement (NaN) is not still.
    """

    def __init__(self):
        self._last = None
        self._flips = self._still = self._pixels = 0
        self._still_pixel_ns = 0

    def add(self, time_ns: int, rgb: np.ndarray, x: np.ndarray, limits: tuple[float, float],
            mask: np.ndarray) -> None:
        """
        Take a frame of the stamp `time_ns`.

        `rgb` is (H, W, 3) uint8, `mask` (H, W) uint8, and `x` (h, w) or (h, w, C) raw, of the same
        view, with the `limits` that become 0 and 1.
        """
        last, self._last = self._last, (time_ns, rgb, x, mask)
        if last is None or any(one.shape != other.shape or one.dtype != other.dtype
                               for one, other in zip(last[1:], self._last[1:], strict=True)):
            return
        gap_ns = time_ns - last[0]
        if not 0 < gap_ns <= MAX_GAP_NS:
            return
        still = cv2.absdiff(rgb, last[1]).max(axis=2) <= 255 * STILL
        still_x = cv2.absdiff(x, last[2]) <= STILL * (limits[1] - limits[0])
        still_x = still_x if still_x.ndim == 2 else still_x.all(axis=2)
        still &= cv2.resize(np.uint8(still_x), still.shape[::-1],
                            interpolation=cv2.INTER_NEAREST) > 0
        count = int(still.sum())
        self._pixels += still.size
        self._still += count
        self._still_pixel_ns += count * gap_ns
        self._flips += int(((mask != last[3]) & still).sum())

    @property
    def counts(self) -> tuple[int, int, int, int]:
        """Flips, still pixels, all pixels, and still pixels times ns, to be added up."""
        return self._flips, self._still, self._pixels, self._still_pixel_ns

    @property
    def per_s(self) -> float:
        """Share of the still pixels whose class flips, per second; NaN without any."""
        return flips_per_s(self._flips, self._still_pixel_ns)

    @property
    def still_share(self) -> float:
        """Share of the pixels that are still; NaN without two frames that follow each other."""
        return self._still / self._pixels if self._pixels else math.nan


def flips_per_s(flips: int, still_pixel_ns: int) -> float:
    """Return the share of the still pixels whose class flips, per second; NaN without any."""
    return flips / (still_pixel_ns / 1e9) if still_pixel_ns else math.nan
