# Copyright 2026 rgbx_seg_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""
How a model degrades: `rgbx-seg evaluate --sweep` disturbs each frame step by step.

Every level is scored against the labels and against the masks of the frames as they are, which
needs no label. Losing patches (RMM) or a whole sensor (EMM), and what is to be expected where each
sensor fails by itself, are made after Liao et al., "Benchmarking multi-modal semantic segmentation
under sensor failures: missing and noisy modality robustness", CVPR Workshops 2025.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
import math
from typing import Any, NamedTuple
import zlib

import numpy as np
from rgbx_seg_ros.cards.card import XInput
from rgbx_seg_ros.datasets import PairedDataset, Sample
from rgbx_seg_ros.errors import ParameterError
from rgbx_seg_ros.evaluation.common import ScoredClasses
from rgbx_seg_ros.evaluation.disturbances import DISTURBANCES, fixed, Level
from rgbx_seg_ros.evaluation.frame_scores import without_nan
from rgbx_seg_ros.evaluation.metrics import ConfusionMatrix, percent
from rgbx_seg_ros.evaluation.presentation import Presentation
from rgbx_seg_ros.evaluation.protocols import Protocol
from rgbx_seg_ros.evaluation.results import SWEEP, SWEPT
from rgbx_seg_ros.registration.alignment import DRIFT_THRESHOLD
from rgbx_seg_ros.sensors import Sensors
from rgbx_seg_ros.tables import aligned, wrapped

FAILURES = (5, 10, 20)
"""Probabilities of a sensor to fail, in percent, for which the mean IoU is expected."""
GROUP = 'dynamic'
"""The group of classes whose masks must bear a shift; without it the worst of all must."""
LEAST_AGREEMENT = 0.9
MOST_LOSS = 0.05
"""What of its agreement a class may be left with, and what it may lose of its IoU."""

_LONGEST_GAP_NS = 1_000_000_000
"""Frames further apart do not follow each other."""


class _Point:
    """What is counted of the masks of one level."""

    def __init__(self, num_classes):
        self.labelled, self.same = (ConfusionMatrix(num_classes) for _ in range(2))
        self.counts = np.zeros(2, np.int64)
        """Masks, and by how many ns X was late in all of them."""

    def arrays(self):
        return [self.labelled.counts, self.same.counts, self.counts]

    def add(self, label, still, mask, lag_ns=0):
        if label is not None:
            self.labelled.update(label, mask)
        self.same.update(still, mask)
        self.counts += 1, lag_ns


class _View(NamedTuple):
    """What the network is shown at a level."""

    sample: Sample
    sensors: Sensors | None = None
    lag_ns: int = 0


class Sweep:
    """
    Counts the masks of frames that are disturbed by `kinds`, names of `DISTURBANCES`.

    The frames are those of `data`, shown as `presentation` shows them to a model that takes X as
    `x` says; `classes` and `protocol` are those of the score.
    """

    def __init__(self, kinds: Iterable[str], data: PairedDataset, presentation: Presentation,
                 x: XInput, classes: ScoredClasses, protocol: Protocol):
        self.kinds = {kind: DISTURBANCES[kind] for kind in kinds}
        self._data, self._presentation, self._x = data, presentation, x
        self._classes, self._protocol = classes, protocol
        count = len(classes.labels)
        self._points = {kind: {level: _Point(count) for level in (one.base, *one.levels)}
                        for kind, one in self.kinds.items()}
        self._widths = np.zeros(2, np.int64)  # of RGB: frames, and pixels of all of them
        self._before = _before(data, max(DISTURBANCES['lag'].levels))

    @property
    def masks(self) -> int:
        """How many masks it makes of a frame."""
        return sum(one.ways * len(one.levels) for one in self.kinds.values())

    def arrays(self) -> list[np.ndarray]:
        """Return all that is counted, to be added to in place."""
        return [self._widths, *(array for points in self._points.values()
                                for point in points.values() for array in point.arrays())]

    def add(self, sample: Sample, still: np.ndarray) -> None:
        """
        Disturb a prepared sample, whose label and mask `still` (H, W) uint8 are of the score.

        Raise DataError for what cannot be segmented.
        """
        self._widths += 1, sample.rgb.shape[1]
        sample = fixed(sample, self._x)
        for kind, points in self._points.items():
            if kind == 'lag' and sample.name not in self._before:
                continue
            points[self.kinds[kind].base].add(sample.label, still, still)
            for level in self.kinds[kind].levels:
                for view in self._views(kind, level, sample):
                    mask = self._presentation.segment(view.sample, view.sensors)[0]
                    points[level].add(sample.label, still, self._classes.of_model(mask),
                                      view.lag_ns)

    def _views(self, kind: str, level: Level, sample: Sample) -> Iterator[_View]:
        if kind == 'lost':
            yield _View(sample, Sensors.without(level))
        elif kind == 'lag':
            index, lag_ns = self._before[sample.name][level - 1]
            before = self._presentation.prepare(self._data[index])
            yield _View(replace(sample, x=before.x, x_limits=before.x_limits), lag_ns=lag_ns)
        else:
            seed = [zlib.crc32(text.encode('utf-8', 'surrogateescape'))
                    for text in (kind, sample.name)]
            for disturbed in self.kinds[kind].views(sample, level, self._x,
                                                    np.random.default_rng(seed)):
                yield _View(disturbed)

    def facts(self) -> dict[str, Any]:
        """Return all figures by kind, 0..1 and None where there is none, as they go into JSON."""
        found: dict[str, Any] = {}
        for kind, points in self._points.items():
            one = self.kinds[kind]
            found[kind] = {'text': one.text, 'unit': one.unit, 'base': one.base, 'levels': [
                self._level(level, point) for level, point in points.items()]}
        if 'shift' in found:
            found['shift'].update(self._borne(found['shift']['levels']))
        if 'lag' in found:
            for facts, point in zip(found['lag']['levels'], self._points['lag'].values(),
                                    strict=True):
                masks, lag_ns = point.counts.tolist()
                facts['lag_ms'] = lag_ns / masks / 1e6 if masks else math.nan
        if 'lost' in found:
            ious = [facts['mean_iou'] for facts in found['lost']['levels']]
            found['lost']['expected'] = [
                {'failure': share / 100, 'mean_iou': expected(*ious, share / 100)}
                for share in FAILURES]
        return without_nan(found)

    def _level(self, level, point):
        labels = self._classes.labels
        ious, same = point.labelled.iou(), point.same.iou()
        return {'level': level, 'masks': int(point.counts[0]),
                'mean_iou': self._protocol.mean(ious, labels),
                'pixel_agreement': point.same.pixel_accuracy(),
                'iou': dict(zip(labels.names, ious.tolist(), strict=True)),
                'agreement': dict(zip(labels.names, same.tolist(), strict=True))}

    def _borne(self, levels):
        """Return the shift that masks and scores bear, beside that of the drift alarm."""
        labels = self._classes.labels
        names = labels.groups.get(GROUP, labels.names)
        width = self._widths[1] / self._widths[0]
        losses = [(name, [one['iou'][name] - levels[0]['iou'][name] for one in levels])
                  for name in names]
        agreements = [(name, [one['agreement'][name] for one in levels]) for name in names]
        steps = [one['level'] for one in levels]
        borne = {'agreement': lowest(steps, agreements, LEAST_AGREEMENT),
                 'iou': lowest(steps, losses, -MOST_LOSS)}
        return {
            'classes': list(names),
            'borne': {score: None if found is None else {
                'class': found[0], 'px': found[1], 'width_share': found[1] / width}
                for score, found in borne.items()},
            'drift_alarm': {'px': DRIFT_THRESHOLD * width, 'width_share': DRIFT_THRESHOLD}}

    def __str__(self):
        return told(self.facts())


def expected(both: float, rgb: float, x: float, failure: float) -> float:
    """
    Return the mean IoU to be expected where each sensor fails by itself with a probability.

    Given are the mean IoU with both, where RGB is lost and where X is. Where both are lost there
    is no mask to score: the states with one or two sensors are weighed by their probabilities, as
    shares of what these add up to.
    """
    weights = (1 - failure) ** 2, *[(1 - failure) * failure] * 2
    return sum(weight * one for weight, one in zip(weights, (both, rgb, x), strict=True)) / sum(
        weights)


def lowest(steps: Sequence[float], scores: Iterable[tuple[str, Sequence[float]]],
           bound: float) -> tuple[str, float] | None:
    """
    Return the name whose score is the first to fall below `bound`, and the step at which it does.

    It lies on a straight line between the scores at `steps`; None where all of them stay above. A
    NaN at the first step leaves a name out.
    """
    found = []
    for name, values in scores:
        for i in range(1, len(steps)):
            before, after = values[i - 1], values[i]
            if before >= bound > after:
                share = (before - bound) / (before - after)
                found.append((steps[i - 1] + share * (steps[i] - steps[i - 1]), name))
                break
    return min(found)[::-1] if found else None


def chosen(names: Sequence[str], data: PairedDataset, lost: str | None,
           has_window: bool) -> tuple[list[str], dict[str, str]]:
    """
    Return the names of the disturbances to sweep, and why others are left out.

    Without any in `names` those that can be. Raise ParameterError for one that cannot.
    """
    faults = {kind: fault for kind in DISTURBANCES
              if (fault := _fault(kind, data, lost, has_window))}
    for name in names:
        if name in faults:
            raise ParameterError(f'--sweep {name} cannot be: {faults[name]}')
    return [kind for kind in dict.fromkeys(names or DISTURBANCES) if kind not in faults], faults


def _fault(kind, data, lost, has_window):
    if lost in DISTURBANCES[kind].sensors:
        return f'with --lost {lost} there is no {lost} to disturb'
    if kind == 'lost' and has_window:
        return 'with a window no image in pieces was ever made without one of the two sensors'
    if kind == 'lag' and not _before(data, max(DISTURBANCES['lag'].levels)):
        return (f'{str(data.root)!r} does not tell which frames follow each other, as the '
                'manifest.jsonl of rgbx-seg extract does where it has taken every pair')
    return ''


def _before(data, count):
    """
    Return by frame the index of each of `count` frames before, the last one first, and its age.

    The age is in ns. Frames that lack one of them are left out.
    """
    indices = {name: i for i, name in enumerate(data.names)}
    found = {}
    for recording in data.recordings():
        for i in range(count, len(recording)):
            run = recording[i - count:i + 1]
            if all(0 < after - before <= _LONGEST_GAP_NS for (_, before), (_, after) in zip(
                    run, run[1:], strict=False)):
                found[run[-1][0]] = [(indices[name], run[-1][1] - stamp)
                                     for name, stamp in run[-2::-1]]
    return found


def told(facts: dict[str, Any]) -> str:
    """Return the facts of a sweep as text of 80 columns."""
    rows = [('change', 'level', 'mean IoU', 'agreement', 'least', 'of class')]
    for kind, one in facts.items():
        there = [name for name, share in one['levels'][0]['agreement'].items()
                 if share is not None]
        for i, level in enumerate(one['levels']):
            known = {name: level['agreement'][name] for name in there}
            least = min(known, key=lambda name: known[name]) if known else ''
            unit = f' {one["unit"]}' if one['unit'] else ''
            rows.append((
                '' if i else kind, f'{level["level"]}{unit}', _percent(level['mean_iou']),
                _percent(level['pixel_agreement']), _percent(known.get(least)),
                least if i else ''))
    lines = ['', 'frames disturbed, percent; agreement with the masks of frames as they are',
             *(line.rstrip() for line in aligned(rows, '<>>>><'))]
    return '\n'.join([*lines, *map(wrapped, remarks(facts))])


def remarks(facts: dict[str, Any]) -> list[str]:
    """Return what follows from the facts of a sweep, in sentences."""
    found = []
    if 'lag' in facts:
        found.append('X is older by ' + ', '.join(
            f'{one["lag_ms"]:.0f} ms at {one["level"]}' for one in facts['lag']['levels'][1:]))
    if 'lost' in facts and facts['lost']['levels'][0]['mean_iou'] is not None:
        found.append('mean IoU to be expected where each sensor fails by itself, unless both do: '
                     + ', '.join(f'{_percent(one["mean_iou"])} at {100 * one["failure"]:.0f} %'
                                 for one in facts['lost']['expected']))
    if 'shift' in facts:
        found += _of_shift(facts['shift'])
    return found


def _of_shift(facts):
    for score, text in (('agreement', f'falls below {100 * LEAST_AGREEMENT:.0f} % of agreement'),
                        ('iou', f'loses {100 * MOST_LOSS:.0f} points of IoU')):
        borne = facts['borne'][score]
        if borne is not None:
            yield (f'with X shifted, {borne["class"]} is the first that {text}: at '
                   f'{borne["px"]:.1f} px, {100 * borne["width_share"]:.2f} % of the width')
        elif score == 'agreement' or facts['levels'][0]['mean_iou'] is not None:
            yield (f'with X shifted by up to {facts["levels"][-1]["level"]} px none of '
                   f'{", ".join(facts["classes"])} {text}')
    alarm = facts['drift_alarm']
    yield (f'the drift alarm of the node warns above {alarm["px"]:.1f} px, '
           f'{100 * alarm["width_share"]:.2f} % of the width')


def _percent(share):
    return percent(math.nan if share is None else share)


def metric_names(kinds: Iterable[str], classes: Sequence[str]) -> list[str]:
    """Return the full names of the metrics that a sweep of `kinds` has."""
    found = []
    for kind in kinds:
        for level in (DISTURBANCES[kind].base, *DISTURBANCES[kind].levels):
            start = f'{SWEEP}.{kind}.{level}'
            found += [f'{start}.{name}.{one}' if metric.of_class else f'{start}.{name}'
                      for name, metric in SWEPT.items()
                      for one in (classes if metric.of_class else ('',))]
    if 'lost' in kinds:
        found += [f'{SWEEP}.lost.p{share}.miou' for share in FAILURES]
    return found
