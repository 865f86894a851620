# Copyright 2026 rgbx_seg_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""Raw frames: what is allowed, and which raw values of the second modality become 0 and 1."""

import numpy as np
from rgbx_seg_ros.cards.card import XInput
from rgbx_seg_ros.errors import FrameError

X_TYPES = (np.uint8, np.uint16, np.float32)
_SAMPLES_PER_FRAME = 20_000
_FULL_SCALE_8_BIT = (0.0, 255.0)
_PAINTED_LEVELS, _PAINTED_SHARE = 8, 0.1
"""The least mean distance of channels that are colours, in 8-bit values and as share of all."""


def check_rgb(rgb: np.ndarray) -> None:
    """Raise FrameError unless `rgb` is a colour frame (H, W, 3) uint8 with pixels in it."""
    if not (isinstance(rgb, np.ndarray) and rgb.dtype == np.uint8 and rgb.ndim == 3
            and rgb.shape[2] == 3 and rgb.size):
        raise FrameError(f'rgb is {_describe(rgb)}, needed is an array (H, W, 3) of uint8')


def check_x(x: np.ndarray) -> None:
    """Raise FrameError unless `x` is (H, W) or (H, W, 1 or 3) of uint8, uint16 or float32."""
    if not (isinstance(x, np.ndarray) and x.dtype in X_TYPES and x.size
            and (x.ndim == 2 or (x.ndim == 3 and x.shape[2] in (1, 3)))):
        raise FrameError(f'x is {_describe(x)}, needed is an array (H, W) or (H, W, 3) of uint8, '
                         'uint16 or float32')


def _describe(frame: object) -> str:
    if isinstance(frame, np.ndarray):
        return f'an array {frame.shape!r} of {frame.dtype}'
    return f'{type(frame).__name__}'


def find_x_limits(x: np.ndarray, spec: XInput) -> tuple[float, float]:
    """
    Return the raw values of `x` that become 0 and 1 in the network's input.

    A frame without a valid pixel, or of one value only, gets a range one unit wide. Raise
    FrameError for a frame that cannot hold what `spec` asks for.
    """
    return given_limits(x.dtype, spec) or measured_limits(x, spec) or (0.0, 1.0)


def given_limits(dtype: np.dtype, spec: XInput) -> tuple[float, float] | None:
    """
    Return the range that `spec` gives to all frames of a type; None where it follows the frame.

    Raise FrameError for a type that cannot hold what `spec` asks for.
    """
    if spec.normalization == 'fixed':
        return spec.range
    if spec.normalization == 'celsius':
        return _raw_of_celsius(dtype, spec)
    if spec.normalization == 'auto' and dtype == np.uint8:
        return _FULL_SCALE_8_BIT
    return None


def _raw_of_celsius(dtype: np.dtype, spec: XInput) -> tuple[float, float] | None:
    if dtype == np.uint8:
        raise FrameError(
            "x is of uint8 with x.normalization 'celsius': 8-bit thermal frames have lost their "
            'temperatures; let the camera send raw 16-bit (mono16) or degrees Celsius (32FC1), or '
            'use another normalization')
    if np.issubdtype(dtype, np.floating):
        return spec.range
    low, high = ((celsius - spec.celsius_at_zero) / spec.celsius_per_count
                 for celsius in spec.range or ())
    return low, high


def measured_limits(x: np.ndarray, spec: XInput) -> tuple[float, float] | None:
    """
    Return the range of the valid pixels of `x`, for minmax of all, else between percentiles.

    Percentiles come from a regular sample of some 20,000 pixels, so their cost does not grow with
    the frame. The range is at least one unit wide, and None where no pixel is valid.
    """
    minmax = spec.normalization == 'minmax'
    pixels = x if minmax else regular_sample(x, _SAMPLES_PER_FRAME)
    valid = pixels[is_valid(pixels, spec)]
    if not valid.size:  # the few that are valid may lie beside the sample
        valid = x[is_valid(x, spec)]
    if not valid.size:
        return None
    if minmax:
        low, high = float(valid.min()), float(valid.max())
    else:
        low, high = map(float, np.percentile(valid, spec.percentiles))
    return (low, high) if low < high else (low, low + 1.0)


def is_painted(x: np.ndarray) -> bool:
    """
    Tell whether X has colours, (H, W, 3) whose channels differ: thermal has those of a palette.

    What a JPEG adds to grey is no colour; nor is a frame that a palette leaves black. Depth may
    have three channels of its own, as HHA has.
    """
    if x.ndim < 3 or x.shape[2] == 1:
        return False
    pixels = regular_sample(x, _SAMPLES_PER_FRAME).astype(np.float32)
    pixels = pixels[np.isfinite(pixels).all(axis=2)]
    if not pixels.size:
        return False
    least = _PAINTED_LEVELS if x.dtype == np.uint8 else 0
    return bool(np.ptp(pixels, axis=1).mean() > max(least, _PAINTED_SHARE * np.ptp(pixels)))


def regular_sample(x: np.ndarray, count: int) -> np.ndarray:
    """Return a view of pixels of `x` at equal distances, `count` of them or a few more."""
    step = max(1, int((x.shape[0] * x.shape[1] / count) ** 0.5))
    return x[::step, ::step]


def is_valid(x: np.ndarray, spec: XInput) -> np.ndarray:
    """Return where `x` holds a measurement: a finite value that is not `spec.invalid`."""
    return np.isfinite(x) if spec.invalid is None else np.isfinite(x) & (x != spec.invalid)


def visible_x(x: np.ndarray) -> np.ndarray:
    """Return X as (h, w, 3) uint8, its range stretched; what has no measurement is black."""
    values = np.atleast_3d(x).astype(np.float32)
    valid = np.isfinite(values) & (values != 0)
    low, high = np.percentile(values[valid], (1, 99)) if valid.any() else (0, 1)
    share = ((values - low) / max(high - low, 1e-6)).clip(0, 1)
    grey = np.where(valid, 30 + 225 * share, 0).astype(np.uint8)
    return np.broadcast_to(grey, (*x.shape[:2], 3)).copy()
