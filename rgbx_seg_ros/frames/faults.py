# Copyright 2026 rgbx_seg_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""
What befalls frames of sensors that fail, for training and for tests of what a model bears.

Frames come and go as raw arrays; chance comes from outside, so that it can be repeated.
"""

from collections.abc import Callable

import cv2
import numpy as np
from rgbx_seg_ros.cards.card import XInput
from rgbx_seg_ros.frames.raw import is_valid

DARK_NOISE = 1.0
"""Largest standard deviation of the noise of a black pixel in little light, in 8-bit levels."""
PATCHES = 8
"""Patches along the shorter side of a frame."""


def dimmed(rgb: np.ndarray, light: float, noise_levels: float, noise: np.ndarray) -> np.ndarray:
    """
    Return an image (H, W, 3) uint8 as a camera takes it at a share `light` of its light.

    `noise` is standard normal, (H, W, 3) float32; it is scaled to `noise_levels` of 255 in what is
    black, and grows with the root of the light.
    """
    level = rgb * np.float32(light)
    noisy = level + np.float32(noise_levels) * np.sqrt(1.0 + level) * noise
    return noisy.round().clip(0, 255).astype(np.uint8)


def compressed(rgb: np.ndarray, quality: int) -> np.ndarray:
    """Return an image (H, W, 3) uint8 as a JPEG of a quality, 1..100, keeps it."""
    code = cv2.imencode('.jpg', rgb[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, quality])[1]
    return np.ascontiguousarray(cv2.imdecode(code, cv2.IMREAD_COLOR)[..., ::-1])


def shifted(x: np.ndarray, right: float, down: float) -> np.ndarray:
    """
    Return X (h, w) or (h, w, C) with its content so many of its pixels further right and down.

    It moves by whole pixels, and what comes in repeats the edge.
    """
    rows, columns = (np.clip(np.arange(side) - round(move), 0, side - 1)
                     for side, move in zip(x.shape[:2], (down, right), strict=True))
    return np.ascontiguousarray(x[rows[:, None], columns])


def changed(x: np.ndarray, limits: tuple[float, float], spec: XInput,
            change: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
    """
    Return a raw X whose values within `limits`, as 0..1, have gone through `change`.

    That takes and returns float32 of the shape of `x`. What has no measurement stays as it is.
    """
    low, high = limits
    known = is_valid(x, spec)
    share = (np.where(known, x, low).astype(np.float32) - low) / (high - low)
    raw = low + change(share.clip(0, 1)).clip(0, 1) * (high - low)
    if x.dtype.kind == 'u':
        raw = raw.round().clip(0, np.iinfo(x.dtype).max)
    return np.where(known, raw.astype(x.dtype), x)


def lost_patches(size: tuple[int, int], share: float, rng: np.random.Generator) -> np.ndarray:
    """
    Return where a frame of `size` (H, W) is lost, (H, W) bool.

    Each of its square patches is lost with the probability `share` by itself; what is lost at a
    smaller one with the same chance is lost here too.
    """
    side = max(1, min(size) // PATCHES)
    grid = rng.random([-(-length // side) for length in size]) < share
    return grid.repeat(side, 0).repeat(side, 1)[:size[0], :size[1]]
