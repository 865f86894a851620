# Copyright 2026 rgbx_seg_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""
How hard a pair is for a model: where it is not sure, and where it contradicts itself.

None of the three numbers needs a label. A frame that a model finds hard is the one whose label
teaches it most.
"""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from rgbx_seg_ros.evaluation.frame_scores import mean_confidence
from rgbx_seg_ros.frames.smoothing import LimitsTracker
from rgbx_seg_ros.inference.segmenter import Segmentation, Segmenter
from rgbx_seg_ros.messages.images import stamp_ns
from rgbx_seg_ros.replay.flicker import flips_per_s, still_pixels, View
from rgbx_seg_ros.sensors import Sensors
from rgbx_seg_ros.sync.pairing import Pair

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
    Share of the still pixels whose class flips since the pair before, per second, as
    `replay.flicker` has it; None without such a pair, or where next to nothing stands still.
    """


@dataclass
class _Seen:
    """A pair as the model gets it, and the mask once there is one."""

    view: View
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
        self._now = _Seen(View(pair.rgb_stamp_ns, pair.rgb.pixels, x, limits))

    def score(self) -> Score:
        """Return the score of the pair that was seen last."""
        now = self._now
        assert now is not None
        _, *frames = now.view
        disagreement = self._segmenter.disagreement(*frames)
        return Score(mean_confidence(self._result(now).confidence), disagreement, self._flicker())

    def _result(self, seen):
        if seen.result is None:
            _, rgb, x, limits = seen.view
            seen.result = self._segmenter(rgb, x, Sensors.BOTH, limits)
        return seen.result

    def _flicker(self):
        before, now = self._before, self._now
        still = None if before is None else still_pixels(before.view, now.view)
        if still is None or still.mean() < _LEAST_STILL:
            return None
        flips = still & (self._result(before).mask != self._result(now).mask)
        gap_ns = now.view.time_ns - before.view.time_ns
        return flips_per_s(int(flips.sum()), int(still.sum()) * gap_ns)


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
