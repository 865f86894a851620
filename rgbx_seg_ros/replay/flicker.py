# Copyright 2026 rgbx_seg_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""How often masks change where the sensors give no reason to."""

import math
from typing import NamedTuple

import cv2
import numpy as np

STILL = 8 / 255
"""
A pixel is still when each channel of RGB and of X moves by this share of its range at most: of RGB
8 of 255 levels, of X that of the raw values that become 0 and 1.
"""
MAX_GAP_NS = 1_000_000_000
"""Frames further apart do not follow each other."""


class View(NamedTuple):
    """What both sensors see at a time."""

    time_ns: int
    """Its stamp."""
    rgb: np.ndarray
    """(H, W, 3) uint8."""
    x: np.ndarray
    """(h, w) or (h, w, C) raw, of the same view."""
    limits: tuple[float, float]
    """Raw values of X that become 0 and 1."""


def still_pixels(before: View, now: View) -> np.ndarray | None:
    """
    Return where neither sensor has changed, (H, W) bool; None for what does not follow each other.

    A pixel of X without a measurement (NaN) is not still.
    """
    if any(one.shape != other.shape or one.dtype != other.dtype
           for one, other in ((before.rgb, now.rgb), (before.x, now.x))):
        return None
    if not 0 < now.time_ns - before.time_ns <= MAX_GAP_NS:
        return None
    still = cv2.absdiff(now.rgb, before.rgb).max(axis=2) <= 255 * STILL
    still_x = cv2.absdiff(now.x, before.x) <= STILL * (now.limits[1] - now.limits[0])
    still_x = still_x if still_x.ndim == 2 else still_x.all(axis=2)
    return still & (cv2.resize(np.uint8(still_x), still.shape[::-1],
                               interpolation=cv2.INTER_NEAREST) > 0)


class Flicker:
    """
    Counts the still pixels of frames that follow each other, and those whose class flips there.

    To 255 and back are flips as well.
    """

    def __init__(self):
        self._last = None
        self._flips = self._still = self._pixels = 0
        self._still_pixel_ns = 0

    def add(self, view: View, mask: np.ndarray) -> None:
        """Take the next view, of which `mask` (H, W) uint8 was made."""
        last, self._last = self._last, (view, mask)
        still = None if last is None else still_pixels(last[0], view)
        if still is None:
            return
        count = int(still.sum())
        self._pixels += still.size
        self._still += count
        self._still_pixel_ns += count * (view.time_ns - last[0].time_ns)
        self._flips += int(((mask != last[1]) & still).sum())

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
