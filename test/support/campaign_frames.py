# Copyright 2026 rgbx_seg_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""
Frames that show numbers, and an engine that reads them.

Each frame shows a number as sixteen bars, bright or dark. The engine reads both numbers and draws
them into the mask, that of RGB above that of X.
"""

import itertools
import time

import numpy as np
from rgbx_seg_ros.messages.images import ENCODINGS
from support.stand_ins import StandIn

BITS = 16


class BarEngine(StandIn):
    """Reads the numbers of both frames into the mask; may take `seconds`, or fail."""

    device = 'campaign'
    seconds = 0.0
    failures = ()
    """Called one after the other, round and round; an exception that one returns is raised."""
    _calls = itertools.count()

    def __init__(self, card, device):
        pass

    def __call__(self, rgb, x, x_limits, sensors):
        if self.failures:
            failure = self.failures[next(self._calls) % len(self.failures)]
            if failure is not None:
                raise failure
        time.sleep(self.seconds)
        shown = zip((rgb, x), sensors.present, strict=True)
        mask = bars(rgb.shape[:2], *(read(frame) if there else 0 for frame, there in shown))
        return mask, np.full_like(mask, 250)


def read(frame):
    """Return the number that a frame (H, W[, C]) shows; 0 if it shows none."""
    height, width = frame.shape[:2]
    row = frame[height // 2, ((np.arange(BITS) + 0.5) * width / BITS).astype(int)]
    row = np.nan_to_num(row.reshape(BITS, -1)[:, 0].astype(np.float64), posinf=0, neginf=0)
    return int(((row > (row.min() + row.max()) / 2) << np.arange(BITS)).sum())


def bars(size, *numbers):
    """Return an image of 0 and 1 that shows the numbers, one below the other."""
    height, width = size
    rows = np.arange(height) * len(numbers) // height
    return ((np.array(numbers)[rows, None] >> (np.arange(width) * BITS // width)) & 1).astype(
        np.uint8)


def coloured(grey, encoding):
    """Return (H, W) uint8 as pixels of an encoding."""
    dtype, channels, _ = ENCODINGS[encoding]
    pixels = grey.astype(dtype) * (257 if dtype == 'u2' else 1)
    if encoding in ('yuv422', 'uyvy'):
        return np.stack([np.full_like(pixels, 128), pixels], axis=2)
    return pixels if channels == 1 else np.repeat(pixels[..., None], channels, axis=2)
