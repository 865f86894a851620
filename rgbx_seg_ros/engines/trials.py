# Copyright 2026 rgbx_seg_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""
Frames on which a model must agree with PyTorch before it serves.

One comes from the cameras, as it is their frames that count, and one is the card's golden frame,
which shows objects; that of the cameras may be of a lens with its cap on.
"""

from typing import NamedTuple

import cv2
import numpy as np
from rgbx_seg_ros.cards.card import Card
from rgbx_seg_ros.engines.model_files import Difference, FrameKind
from rgbx_seg_ros.errors import EngineError
from rgbx_seg_ros.frames.golden import load_golden
from rgbx_seg_ros.frames.raw import regular_sample
from rgbx_seg_ros.sensors import Sensors

CONTRAST = 8 / 255
"""
Least share of its range that 98 % of a frame's values fill. Less is the noise of a dark sensor,
and of a frame without content any network makes much the same.
"""
_SAMPLES = 10_000
_PERCENTILES = 1, 99


class Trial(NamedTuple):
    """A pair and what PyTorch makes of it."""

    pair: tuple
    """rgb, x, x_limits and sensors, as an engine is called."""
    expected: tuple
    """What the engine returned: mask, confidence, ..."""


def check_agreement(name: str, model, trials: list[Trial], precision: str) -> None:
    """Raise EngineError unless a model gives what is expected but for rounding in a precision."""
    for trial in trials:
        difference = Difference.between(trial.expected, model(*trial.pair))
        if not difference.is_small(precision):
            raise EngineError(f'{name} gives another mask than PyTorch: {difference}')


def has_contrast(rgb: np.ndarray, x: np.ndarray, x_limits: tuple[float, float]) -> bool:
    """Return whether both frames of a raw pair show something, so that it can prove a model."""
    return all(_spread(frame, *limits) >= CONTRAST
               for frame, limits in ((rgb, (0.0, 255.0)), (x, x_limits)))


def _spread(frame, low, high):
    """Return which share of low..high the values fill that are neither very low nor very high."""
    values = regular_sample(frame, _SAMPLES).astype(np.float32)
    values = values[np.isfinite(values)].clip(low, high)
    return np.ptp(np.percentile(values, _PERCENTILES)) / (high - low) if values.size else 0.0


def golden_pair(card: Card, kind: FrameKind) -> tuple | None:
    """
    Return the golden frame of a card, at the sizes and types of a kind, as an engine is called.

    None where the card has none. Raise CardError where it cannot be read.
    """
    if card.golden is None:
        return None
    golden = load_golden(card.folder / card.golden)
    rgb, x = resized(golden.rgb, kind.rgb_size), converted(golden.x, kind)
    return rgb, x, range_of(x), Sensors.BOTH


def range_of(x: np.ndarray) -> tuple[float, float]:
    """Return a range that brings most of a frame into 0..1, whatever its type."""
    valid = x[np.isfinite(x)]
    low, high = np.percentile(valid, _PERCENTILES) if valid.size else (0, 1)
    return float(low), float(max(high, low + 1))


def resized(frame: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Return a frame at the size (H, W), made of its nearest pixels."""
    if frame.shape[:2] == tuple(size):
        return frame
    return cv2.resize(frame, (size[1], size[0]), interpolation=cv2.INTER_NEAREST)


def converted(x: np.ndarray, kind: FrameKind) -> np.ndarray:
    """Return a frame of X at the size, of the type and with the channels of a kind."""
    x = resized(x, kind.x_size)
    if x.dtype != kind.x_type:
        low, high = range_of(x)
        wanted = np.dtype(kind.x_type)
        top = np.iinfo(wanted).max if np.issubdtype(wanted, np.integer) else 100.0
        x = ((np.nan_to_num(x) - low) / (high - low)).clip(0, 1)
        x = (x * top).astype(wanted)
    if kind.x_channels == 1:
        return x if x.ndim == 2 else np.ascontiguousarray(x[..., 0])
    return x if x.ndim == 3 else np.repeat(x[..., None], 3, axis=2)
