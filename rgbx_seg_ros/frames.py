# Copyright 2026 rgbx_seg_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""Raw frames: what is allowed, and which raw values of the second modality become 0 and 1."""

import numpy as np
from rgbx_seg_ros.card import XInput
from rgbx_seg_ros.errors import FrameError
import torch

X_TYPES = (np.uint8, np.uint16, np.float32)
_SAMPLES_PER_FRAME = 20_000
_FULL_SCALE_8_BIT = (0.0, 255.0)


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


def _describe(frame):
    if isinstance(frame, np.ndarray):
        return f'an array {frame.shape!r} of {frame.dtype}'
    return f'{type(frame).__name__}'


def x_range(x: np.ndarray, spec: XInput) -> tuple[float, float]:
    """
    Return the raw values of `x` that become 0 and 1 in the network's input.

    Percentiles come from a regular sample of some 20,000 pixels, so their cost does not grow with
    the frame. A frame without a valid pixel, or of one value only, gets a range one unit wide.
    """
    if spec.normalization == 'fixed':
        return spec.range
    if spec.normalization == 'auto' and x.dtype == np.uint8:
        return _FULL_SCALE_8_BIT
    valid = x
    if spec.normalization != 'minmax':
        step = max(1, int((x.shape[0] * x.shape[1] / _SAMPLES_PER_FRAME) ** 0.5))
        valid = x[::step, ::step]
    if valid.dtype == np.float32:
        valid = valid[np.isfinite(valid)]
    if spec.invalid is not None:
        valid = valid[valid != spec.invalid]
    if not valid.size:
        return 0.0, 1.0
    if spec.normalization == 'minmax':
        low, high = float(valid.min()), float(valid.max())
    else:
        low, high = map(float, np.percentile(valid, spec.percentiles))
    return (low, high) if low < high else (low, low + 1.0)


def to_batch(frame: np.ndarray) -> torch.Tensor:
    """Return `frame` as a batch of one, (1, H, W, C), sharing its memory where it can."""
    if frame.ndim == 2:
        frame = frame[..., None]
    # Torch takes neither negative strides, nor rows that end within a value, nor, without a
    # warning, the read-only buffer of a message.
    odd = any(stride < 0 or stride % frame.itemsize for stride in frame.strides)
    if odd or not frame.flags.writeable:
        frame = np.array(frame, order='C')
    return torch.from_numpy(frame)[None]
