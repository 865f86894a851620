# Copyright 2026 rgbx_seg_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""
The range of a stream of X frames: slow where the scene changes, at once where the camera does.

A range that follows each frame by itself flips labels as soon as something hot comes into view,
and one that follows slowly flips them when the camera changes its gain, or its offset behind a
closed shutter. Such a step moves every pixel along one line, after = gain * before + offset, and
with the pixels the quantiles of the frame, which motion in the image hardly changes. So where the
quantiles of two frames lie on one line, and far from where they were, the smoothed range goes
along that line. Whatever else changes is followed with a time constant.
"""

import math
from typing import NamedTuple

import numpy as np
from rgbx_seg_ros.cards.card import XInput
from rgbx_seg_ros.errors import ParameterError
from rgbx_seg_ros.frames.raw import given_limits, is_valid, measured_limits, regular_sample

MAX_GAP_NS = 3_000_000_000
"""After this long without a frame, or a stamp that goes back, the range starts anew."""

_SAMPLES_PER_FRAME = 4000
_PERCENTILES = np.arange(5, 76, 5)
"""Those that a line is fitted to; not the warm quarter, where hot objects come and go."""

# Measured on ten road scenes, shifted by up to 20 pixels: a step by a tenth of the range or more
# leaves 3 % of the quantiles' width between them and the line, 12 % where a hot patch comes with
# it, and moves them 25 times as far. A hot patch alone, of up to two fifths of the frame, leaves
# more than 20 % or moves them less than 9 times as far.
_STRAIGHT = 0.15
_CLEARLY = 10.0
_FLAT = 0.2
"""A gain below it is no gain: the shutter is closed, or something covers the lens."""


class _Seen(NamedTuple):
    """What is kept of a frame."""

    stamp_ns: int
    kind: tuple
    """Shape and type: a frame of another kind comes from another camera."""
    quantiles: np.ndarray


class LimitsTracker:
    """
    Gives each frame of a stream the raw values that become 0 and 1, smoothed over time.

    `spec` is that of the card, `time_constant_s` the time after which 63 % of a change of the
    scene are followed; 0 takes each frame by itself. Ranges that do not follow the frame (fixed,
    celsius, auto with 8 bit) stay as they are. For one thread.
    """

    def __init__(self, spec: XInput, time_constant_s: float = 5.0):
        if not 0 <= time_constant_s < math.inf:
            raise ParameterError(f'time constant of the range of X is {time_constant_s!r} s, '
                                 'allowed is 0 (no smoothing) or any finite time above')
        self._spec = spec
        self._time_constant_ns = time_constant_s * 1e9
        self._limits: tuple[float, float] | None = None
        self._seen: _Seen | None = None

    def __call__(self, x: np.ndarray, stamp_ns: int) -> tuple[float, float]:
        """
        Return (low, high) for the frame `x` taken at `stamp_ns`, low < high.

        Frames come in the order of their stamps; a stamp that goes back begins another recording.
        A frame without a valid pixel gets the range of the one before. Raise FrameError as
        `find_x_limits` does.
        """
        given = given_limits(x.dtype, self._spec)
        if given is not None:
            return given
        measured = measured_limits(x, self._spec)
        if measured is None:
            return self._limits or (0.0, 1.0)
        quantiles = self._quantiles(x)
        if quantiles is None:
            return self._limits or measured
        last, seen = self._seen, _Seen(stamp_ns, (x.shape, x.dtype), quantiles)
        limits = self._limits
        if last is None or limits is None or not self._continues(last, seen):
            limits = measured
        else:
            gain, offset, found = _line(last.quantiles, quantiles)
            if found and gain < _FLAT:
                return limits  # and the frame after the shutter is compared with `last`
            if found and gain <= 1 / _FLAT:
                low, high = (gain * limit + offset for limit in limits)
                limits = low, high
            elif found or _is_left(limits, quantiles):
                limits = measured
            share = -math.expm1((last.stamp_ns - stamp_ns) / self._time_constant_ns)
            low, high = (old + share * (new - old)
                         for old, new in zip(limits, measured, strict=True))
            limits = low, high
        self._seen, self._limits = seen, limits
        return limits

    def _quantiles(self, x: np.ndarray) -> np.ndarray | None:
        pixels = regular_sample(x, _SAMPLES_PER_FRAME)
        valid = pixels[is_valid(pixels, self._spec)].astype(float)
        return np.percentile(valid, _PERCENTILES) if valid.size else None

    def _continues(self, last: _Seen, seen: _Seen) -> bool:
        return (self._time_constant_ns > 0 and last.kind == seen.kind
                and 0 <= seen.stamp_ns - last.stamp_ns <= MAX_GAP_NS)


def _is_left(limits: tuple[float, float], quantiles: np.ndarray) -> bool:
    """Return whether most of a frame lies on one side of the limits, which tells nothing."""
    return bool(quantiles[-1] < limits[0] or quantiles[0] > limits[1])


def _line(before: np.ndarray, after: np.ndarray) -> tuple[float, float, bool]:
    """Return gain and offset of the line that quantiles went along, and whether they did."""
    if not np.ptp(before):
        return (math.inf if np.ptp(after) else 1.0), float(after[0] - before[0]), True
    gain = after.std() / before.std()
    offset = after.mean() - gain * before.mean()
    left = _rms(after - (gain * before + offset))
    clear = not _FLAT <= gain <= 1 / _FLAT or _rms(after - before) > _CLEARLY * left
    return float(gain), float(offset), bool(clear and left <= _STRAIGHT * np.ptp(after))


def _rms(values: np.ndarray) -> float:
    return float(np.mean(values ** 2) ** 0.5)
