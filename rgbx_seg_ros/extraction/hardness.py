# Copyright 2026 rgbx_seg_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""
How hard a pair is for a model: where it is not sure, and where it contradicts itself.

None of the three numbers needs a label. A frame that a model finds hard is the one whose label
teaches it most.
"""

from dataclasses import dataclass
from typing import NamedTuple

import cv2
import numpy as np
from rgbx_seg_ros.frames.smoothing import LimitsTracker
from rgbx_seg_ros.inference.segmenter import Segmentation, Segmenter
from rgbx_seg_ros.messages.images import stamp_ns
from rgbx_seg_ros.sensors import Sensors
from rgbx_seg_ros.sync.pairing import Pair

_LONGEST_GAP_NS = 1_000_000_000
"""Frames further apart are of two scenes."""
_BLUR = 5, 5
_STILL = 0.1
"""A pixel that moves by less of the contrast shows the same thing."""
_LEAST_STILL = 0.1
"""Of a frame of which less stands still nobody can tell whether it flickers."""


class Score(NamedTuple):
    """What a model makes of a pair."""

    confidence: float
    """Mean probability of the class in the mask, 0..1."""
    disagreement: float
    """Share of the pixels to which RGB alone and X alone give different classes, 0..1."""
    flicker: float | None
    """
    Share of the pixels whose class is not that of the pair before though neither frame has changed
    there, in a second; None without such a pair, or where next to nothing stands still.
    """


@dataclass
class _Seen:
    """A pair as the model gets it, and the mask once there is one."""

    stamp_ns: int
    rgb: np.ndarray
    x: np.ndarray
    limits: tuple[float, float]
    result: Segmentation | None = None


class Judge:
    """
    Scores pairs of one recording, in their order; masks are those of a replay.

    `see` takes every pair, since the range of X follows them all and flicker is that between
    neighbours; `score` runs the model, for those that may be chosen.
    """

    def __init__(self, segmenter: Segmenter, x_smoothing_s: float):
        self._segmenter = segmenter
        self._limits = LimitsTracker(segmenter.x, x_smoothing_s)
        self._before: _Seen | None = None
        self._now: _Seen | None = None

    def see(self, pair: Pair, x: np.ndarray) -> None:
        """Take the next pair, whose X lies on RGB as `x`; raise FrameError as a segmenter does."""
        limits = self._limits(pair.x.pixels, stamp_ns(pair.x.message.header))
        self._before = self._now
        self._now = _Seen(pair.rgb_stamp_ns, pair.rgb.pixels, x, limits)

    def score(self) -> Score:
        """Return the score of the pair that was seen last."""
        now = self._now
        assert now is not None
        rgb, x = (self._segmenter(now.rgb, now.x, sensors, now.limits).mask
                  for sensors in (Sensors.RGB, Sensors.X))
        return Score(float(self._result(now).confidence.mean() / 255),
                     float((rgb != x).mean()), self._flicker())

    def _result(self, seen):
        if seen.result is None:
            seen.result = self._segmenter(seen.rgb, seen.x, Sensors.BOTH, seen.limits)
        return seen.result

    def _flicker(self):
        before, now = self._before, self._now
        if before is None or before.rgb.shape != now.rgb.shape or before.x.shape != now.x.shape:
            return None
        gap_ns = now.stamp_ns - before.stamp_ns
        if not 0 < gap_ns <= _LONGEST_GAP_NS:
            return None
        still = _still(before.rgb, now.rgb)
        still &= cv2.resize(_still(before.x, now.x).astype(np.uint8), now.rgb.shape[1::-1],
                            interpolation=cv2.INTER_NEAREST) > 0
        if still.mean() < _LEAST_STILL:
            return None
        flipped = self._result(before).mask != self._result(now).mask
        return float(flipped[still].mean() / (gap_ns / 1e9))


def _still(before, after):
    """Return where a frame has not changed, (H, W) bool."""
    before, after = (cv2.blur(_grey(frame), _BLUR) for frame in (before, after))
    low, high = np.percentile(before[::4, ::4], (1, 99))
    return np.abs(after - before) <= _STILL * (high - low)


def _grey(frame):
    """Return a frame as float32 of one channel; what has no measurement counts as 0."""
    frame = np.nan_to_num(frame.astype(np.float32), nan=0.0, posinf=0.0, neginf=0.0)
    return frame if frame.ndim == 2 else frame.mean(axis=2)


def hardness(scores: list[Score]) -> list[float]:
    """
    Return how hard each of the pairs is among them, 0..1.

    It is the mean of three ranks, each from 0 for the easiest to 1 for the hardest: by low
    confidence, by disagreement and by flicker, which counts as 0 where it is None.
    """
    if not scores:
        return []
    columns = np.array([(-one.confidence, one.disagreement, one.flicker or 0.0)
                        for one in scores]).T
    return np.mean([_ranks(column) for column in columns], axis=0).tolist()


def _ranks(values):
    """Return the share of the others below each of the values; those alike count half."""
    ordered = np.sort(values)
    below, upto = (np.searchsorted(ordered, values, side) for side in ('left', 'right'))
    return (below + upto - 1) / 2 / max(1, len(values) - 1)
