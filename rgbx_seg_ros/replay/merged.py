# Copyright 2026 rgbx_seg_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""
Results of bags told as one.

Added up are whole numbers, and what is no number of its own, such as a percentile, is made of all
values at once: the figures hang neither on the order of the bags nor on who has replayed them.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from datetime import datetime, timezone
import math
from typing import Any

import numpy as np
from rgbx_seg_ros.evaluation.frame_scores import without_nan
from rgbx_seg_ros.evaluation.metrics import class_scores, ConfusionMatrix, mean, table
from rgbx_seg_ros.evaluation.results import LATENCIES
from rgbx_seg_ros.replay.flicker import flips_per_s

DARK = 0.2
"""
Below this mean of its colour frame a pair counts as one at night. Of the 289 frames of MSRS that
come with boxes, whose names tell, 7 lie on the other side.
"""
LIGHTS = ('day', 'night')
_COUNTS = ('hits', 'labelled', 'predicted')
_OF_BAG = ('bag', 'out', 'model', 'device', 'topics', 'malformed', 'drift')


class _Frames:
    """Frames that are told of together: all, or those of a light or of an hour."""

    def __init__(self, names):
        self.names = names
        self._pixels = np.zeros((len(_COUNTS), len(names)), np.int64)
        self._labelled = 0
        self.ms, self._unlabeled, self._confidence, self._disagreement = [], [], [], []

    def add(self, frame):
        """Count a frame as the JSON of a replay tells it."""
        self.ms.append(frame['ms'])
        self._unlabeled.append(frame['unlabeled'])
        self._confidence.append(frame['confidence'])
        self._disagreement.append(frame.get('disagreement'))  # older versions have none
        self._labelled += bool(frame['pixels'])
        for name, pixels in frame['pixels'].items():
            self._pixels[:, self.names.index(name)] += [pixels[count] for count in _COUNTS]

    def __len__(self):
        return len(self.ms)

    def scores(self):
        """Return the scores as a Report has them."""
        columns, (hits, labelled, _) = class_scores(*self._pixels), self._pixels.sum(1).tolist()
        return {'classes': {name: {score: float(values[i]) for score, values in columns.items()}
                            for i, name in enumerate(self.names)},
                'mean': {score: mean(values) for score, values in columns.items()},
                'mean_iou': mean(columns['iou']),
                'pixel_accuracy': hits / labelled if labelled else math.nan}

    def facts(self):
        """Return what is told of them, however they were chosen."""
        return {
            'pairs': len(self), 'scored': self._labelled,
            'unlabeled_share': _mean(self._unlabeled), 'mean_confidence': _mean(self._confidence),
            'disagreement': _mean(self._disagreement),
            'latency_ms': {f'p{share}': value for share, value in zip(
                LATENCIES.values(), _percentiles(self.ms, LATENCIES.values()), strict=True)}}

    def part(self):
        """Return the facts as those of a part of an evaluation are, scores among them."""
        scores = self.scores() if self._labelled else {'mean': {}, 'classes': {}}
        return {**self.facts(), 'labelled': self._labelled, **scores}

    def pixels(self):
        """Return the labelled pixels of each class that occurs, as `frame_scores` has them."""
        return {name: dict(zip(_COUNTS, counts, strict=True))
                for name, counts in zip(self.names, self._pixels.T.tolist(), strict=True)
                if any(counts)}


class Merged:
    """What several results of replays tell together; `names` are those of the classes."""

    def __init__(self, names: Sequence[str], results: Iterable[dict[str, Any]] = ()):
        self._matrix = ConfusionMatrix(len(names))
        self._all = _Frames(names)
        self._lights = {light: _Frames(names) for light in LIGHTS}
        self._hours: dict[str, _Frames] = {}
        self._messages = Counter(rgb=0, x=0)
        self._drops: Counter[str] = Counter()
        self._scored = 0
        self._offset_ms: list[float] = []
        self._flicker: Counter[str] = Counter()
        for result in results:
            self.add(result)

    def add(self, result: dict[str, Any]) -> None:
        """Count the facts of a result of a bag, its `sums` among them."""
        sums = result['sums']
        self._matrix.counts += np.array(sums['confusion'], np.int64)
        self._scored += result['scored']
        self._offset_ms += sums['offset_ms']
        self._flicker.update({name: sums[name]
                              for name in ('flips', 'still', 'pixels', 'still_pixel_ns')})
        self._messages.update(result['messages'])
        self._drops.update(result['drops'])
        for frame, brightness in zip(result['frames'], sums['brightness'], strict=True):
            hour = _hour(frame['name'])
            for frames in (self._all, self._lights['night' if brightness < DARK else 'day'],
                           self._hours.setdefault(hour, _Frames(self._all.names))):
                frames.add(frame)

    def times_ms(self) -> list[float]:
        """Return the time of each frame from memory to mask."""
        return self._all.ms

    def table(self) -> str:
        """Return the scores in percent as a table."""
        return table(self._all.names, self._matrix.columns(),
                     {name: mean(column) for name, column in self._matrix.columns().items()},
                     self._matrix.pixel_accuracy())

    def facts(self) -> dict[str, Any]:
        """
        Return all figures, 0..1 and NaN as None, with the names of a Report where it has them.

        `parts` are day and night where both occur, `hours` those of the stamps in UTC.
        """
        both = all(map(len, self._lights.values()))
        median, p95 = _percentiles(self._offset_ms, (50, 95))
        time_median, time_p95 = _percentiles(self._all.ms, (50, 95))
        still, flicker = self._flicker['still'], self._flicker
        return without_nan({
            'messages': dict(self._messages), 'drops': dict(sorted(self._drops.items())),
            **self._all.facts(), 'scored': self._scored,
            'scores': self._all.scores() if self._scored else None,
            'offset_ms': {'median': median, 'p95': p95},
            'inference_ms': {'median': time_median, 'p95': time_p95},
            'flicker_per_s': flips_per_s(flicker['flips'], flicker['still_pixel_ns']),
            'still_share': still / flicker['pixels'] if flicker['pixels'] else math.nan,
            'pixels': self._all.pixels(), 'confusion': self._matrix.counts.tolist(),
            'lights': {name: len(frames) for name, frames in self._lights.items()},
            'parts': {name: frames.part() for name, frames in self._lights.items()} if both
            else {},
            'hours': {hour: frames.part() for hour, frames in sorted(self._hours.items())}})


def bag_facts(name: str, result: dict[str, Any], names: Sequence[str]) -> dict[str, Any]:
    """Return what is told of the bag `name` among others: all but its single frames."""
    stamps = [float(frame['name']) for frame in result['frames']]
    return {'name': name, **{key: result[key] for key in _OF_BAG},
            'start_s': min(stamps), 'end_s': max(stamps), **Merged(names, [result]).facts()}


def _hour(name):
    """Return the hour of the day of a frame, whose name is its stamp in seconds: '07'."""
    return f'{datetime.fromtimestamp(int(name.partition(".")[0]), timezone.utc).hour:02d}'


def _mean(values):
    """Return the mean, whatever the order of the values; NaN where one is unknown."""
    if not values or None in values:
        return math.nan
    return math.fsum(values) / len(values)


def _percentiles(values, shares):
    """Return percentiles, NaN without a value."""
    return np.percentile(values, [*shares]).tolist() if values else [math.nan] * len(shares)
