# Copyright 2026 rgbx_seg_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""
`rgbx-seg compare`: what moved between the results of two models, and whether that is chance.

The frames that both results have are drawn again with replacement, the same ones for both, and the
scores are made of the pixels of those: the paired bootstrap of Efron and Tibshirani, "An
introduction to the bootstrap", 1993.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
import math
from pathlib import Path
import re
from typing import NamedTuple

import numpy as np
from rgbx_seg_ros.errors import DataError
from rgbx_seg_ros.evaluation.frame_scores import BLIND
from rgbx_seg_ros.evaluation.pages import write_page
from rgbx_seg_ros.evaluation.protocols import PROTOCOLS
from rgbx_seg_ros.evaluation.results import (
    check_same_setting,
    classes_of,
    metric_of,
    metrics,
    read_result,
    SWEEP,
    units,
)
from rgbx_seg_ros.files import check_outputs
from rgbx_seg_ros.tables import figures, wrapped

DRAWS = 2000
"""How often the frames are drawn."""
SURE = 95
"""Share of the draws within the interval, in percent."""

_SEED = 0
_AT_ONCE = 1 << 21  # frames times draws in memory
_FILE_SCORES = ('found', 'pair_rate', 'drops', 'flicker_per_s', 'latency_p50_ms', 'latency_p95_ms')
"""What does not come from the pixels of frames, and is that of each whole file."""
_SWEEP_SCORES = re.compile(rf'{SWEEP}\.\w+\.[-\w]+\.(miou|pixel_agreement)')
_BAG_SCORES = ('miou', 'unlabeled_share', 'pair_rate')
"""What is told of each bag of a fleet."""


class Change(NamedTuple):
    """How a metric moved; None where there is no value."""

    metric: str
    old: float | None
    new: float | None
    low: float | None
    """Lower end of the interval of `SURE` percent of new minus old; None for what is of a file."""
    high: float | None

    @property
    def difference(self) -> float | None:
        """New minus old."""
        return None if self.old is None or self.new is None else self.new - self.old

    @property
    def is_sure(self) -> bool:
        """Whether the interval leaves out 0."""
        return self.low is not None and self.high is not None and (self.low > 0 or self.high < 0)


@dataclass(frozen=True)
class Comparison:
    """One result beside another one."""

    old: str
    """Names of the files."""
    new: str
    frames: int
    """Frames that both have; what has an interval is of these."""
    counts: tuple[int, int]
    """Frames of each."""
    changes: list[Change]
    unit: str = 'frames'
    """What is drawn: frames, or of fleets bags."""

    def heading(self) -> str:
        """Say what is compared."""
        return f'{self.new} against {self.old}'

    def basis(self) -> str:
        """Say on which frames."""
        if {self.frames} == {*self.counts}:
            return f'{self.frames} {self.unit}, the same in both'
        return (f'{self.frames} {self.unit} that both have, of {self.counts[0]} and '
                f'{self.counts[1]}; what has no interval is of all of each')

    def __str__(self):
        rows = [('metric', 'old', 'new', 'change ', f'{SURE} % interval')]
        for change in self.changes:
            low, high = (shown(end, change.metric, '+') for end in (change.low, change.high))
            rows.append((
                change.metric, shown(change.old, change.metric), shown(change.new, change.metric),
                shown(change.difference, change.metric, '+') + ('*' if change.is_sure else ' '),
                '' if change.low is None else f'{low} to {high}'))
        table = '\n'.join(line.rstrip() for line in figures(rows).splitlines())
        return '\n'.join([wrapped(self.heading()), wrapped(self.basis()), table])


def shown(value: float | None, metric: str, sign: str = '') -> str:
    """Return a value of a metric as text, a share in percent; `sign` + shows that of each."""
    if value is None:
        return '-'
    if metric_of(metric).share:
        return f'{100 * value:{sign}.2f}'
    return f'{value:{sign}.1f}' if metric.endswith('_ms') else f'{value:{sign}g}'


def compare(old_path: Path, old: dict, new_path: Path, new: dict) -> Comparison:
    """
    Return how the result `new` differs from `old`, facts that `read_result` has read.

    Raise DataError where they are not of the same data.
    """
    check_same_setting(old_path, old, new)
    unit = 'bags' if 'bags' in old else 'frames'
    theirs, ours = ({one['name']: one for one in units(facts)} for facts in (old, new))
    names = [name for name in theirs if name in ours]
    if not names:
        raise DataError(f'{str(old_path)!r} and {str(new_path)!r} are of other data: they have no '
                        f'{unit[:-1]} in common, take results of the same')
    pairs = [(theirs[name], ours[name]) for name in names]
    changes = [*_of_labels(old, pairs), *_without_labels(pairs), *_of_files(old, new),
               *_of_bags(old, new)]
    return Comparison(str(old_path), str(new_path), len(names), (len(theirs), len(ours)), changes,
                      unit)


def _of_labels(facts, pairs) -> Iterator[Change]:
    """Yield the changes of the scores, of all frames and of each part."""
    names = classes_of(facts)
    pairs = [pair for pair in pairs if all(frame['pixels'] for frame in pair)]
    if not names or not pairs:
        return
    protocol = facts.get('protocol', {'name': 'plain', 'classes': names})
    ids = [names.index(name) for name in protocol['classes']]
    absent = PROTOCOLS[protocol['name']].absent
    # (2, N, 3 K): of each of both and each frame the hits, labelled and predicted pixels.
    counts = np.array([[[frame['pixels'].get(name, {}).get(count, 0)
                         for count in ('hits', 'labelled', 'predicted') for name in names]
                        for frame in frames] for frames in zip(*pairs, strict=True)], np.float64)
    parts = [frame.get('part') for frame, _ in pairs]
    for part in (None, *sorted({*parts} - {None})):
        chosen = counts if part is None else counts[:, [one == part for one in parts]]
        start = f'{part}/' if part else ''
        found = _changes(chosen, lambda sums: _scores(sums, ids, absent))
        for name, change in zip(['miou', 'pixel_accuracy', *(f'iou.{name}' for name in names)],
                                found, strict=True):
            yield Change(start + name, *change)


def _scores(sums, ids, absent):
    """Return mIoU, pixel accuracy and IoU of each class, (..., 2 + K), of sums (..., 3 K)."""
    hits, labelled, predicted = np.split(sums, 3, axis=-1)
    with np.errstate(invalid='ignore', divide='ignore'):  # 0 / 0 is no score, NaN
        ious = hits / (labelled + predicted - hits)
        accuracy = hits.sum(-1) / labelled.sum(-1)
    known = ious[..., ids]
    known = known if math.isnan(absent) else np.where(np.isnan(known), absent, known)
    return np.concatenate([_nanmean(known)[..., None], accuracy[..., None], ious], axis=-1)


def _without_labels(pairs) -> Iterator[Change]:
    """Yield the changes of what frames tell without a label."""
    for name, key in zip(BLIND, ('unlabeled', 'confidence', 'disagreement'), strict=True):
        values = np.array([[frame.get(key) for frame in frames]
                           for frames in zip(*pairs, strict=True)], np.float64)
        weights = np.array([[frame.get('pairs', 1) for frame in frames]
                            for frames in zip(*pairs, strict=True)], np.float64)
        weighted = np.stack([values * weights, weights], axis=-1)
        [change] = _changes(weighted, lambda sums: sums[..., :1] / sums[..., 1:])
        if change != (None,) * 4:
            yield Change(name, *change)


def _of_files(old, new) -> Iterator[Change]:
    """Yield the changes of what is told of all frames of a file together."""
    theirs, ours = metrics(old), metrics(new)
    for name in theirs:
        if name in ours and (theirs[name] or ours[name]) and (
                name.startswith(_FILE_SCORES) or _SWEEP_SCORES.fullmatch(name)):
            yield Change(name, theirs[name], ours[name], None, None)


def _of_bags(old, new) -> Iterator[Change]:
    """Yield the changes of day and night, and of each bag that two fleets have."""
    theirs, ours = (_grouped(facts) for facts in (old, new))
    for group in theirs:
        if group in ours:
            for name in _BAG_SCORES:
                values = theirs[group].get(name), ours[group].get(name)
                if values != (None, None):
                    yield Change(f'{group}/{name}', *values, None, None)


def _grouped(facts):
    """Return the figures of day and night and then of each bag of a fleet, by name."""
    if 'bags' not in facts:
        return {}
    whole = metrics(facts)
    lights = {light: {name: whole.get(f'{light}/{name}') for name in _BAG_SCORES}
              for light in facts['totals']['parts']}
    return {**lights, **{bag['name']: metrics(bag) for bag in facts['bags']}}


def _changes(counts, score):
    """
    Return old, new, and both ends of the interval of their difference for each score.

    `counts` (2, N, C) are of the frames of old and new, and `score` makes (..., S) scores of sums
    of them (..., C).
    """
    rng = np.random.default_rng(_SEED)
    frames = counts.shape[1]
    differences, left = [], DRAWS
    while left:
        draws = min(left, max(1, _AT_ONCE // frames))
        drawn = rng.multinomial(frames, np.full(frames, 1 / frames), draws).astype(np.float64)
        old, new = score(drawn @ counts)
        differences.append(new - old)
        left -= draws
    edge = (100 - SURE) / 2
    found = []
    for old, new, moved in zip(*score(counts.sum(1)), np.concatenate(differences).T, strict=True):
        known = moved[~np.isnan(moved)]
        ends = np.percentile(known, (edge, 100 - edge)) if known.size else (math.nan, math.nan)
        found.append(tuple(None if np.isnan(value) else float(value)
                           for value in (old, new, *ends)))
    return found


def _nanmean(values):
    """Return the mean over the last axis without NaN, NaN for nothing else."""
    with np.errstate(invalid='ignore'):
        return np.nansum(values, -1) / (~np.isnan(values)).sum(-1)


def write_plot(path: Path, comparisons: Iterable[Comparison]) -> None:
    """Write a page with a table and the intervals of each comparison."""
    sections = []
    for one in comparisons:
        shares = [change for change in one.changes
                  if change.difference is not None and metric_of(change.metric).share]
        ends = [abs(end) for change in shares
                for end in (change.difference, change.low, change.high) if end is not None]
        sections.append((one, 1.05 * max(ends, default=0) or 1.0))
    write_page(path, 'compare.html.j2', {'shown': shown}, sections=sections, sure=SURE,
               draws=DRAWS, unit=sections[0][0].unit,
               is_share=lambda change: metric_of(change.metric).share)


def add_arguments(parser):
    """Declare the command's arguments."""
    parser.add_argument('results', nargs='+', type=Path, metavar='FILE.json',
                        help='what evaluate or replay wrote with --json, two or more: the others '
                             'are compared with the first')
    parser.add_argument('--plot', type=Path, metavar='FILE.html',
                        help='page with the changes and their intervals')


def main(args):
    """Run the command."""
    first, *others = args.results
    if not others:
        raise DataError(f'{str(first)!r} alone cannot be compared: name the other results behind '
                        'it')
    check_outputs((args.plot,), args.results)
    facts = [read_result(path) for path in args.results]
    comparisons = [compare(first, facts[0], path, one)
                   for path, one in zip(others, facts[1:], strict=True)]
    print('\n\n'.join(map(str, comparisons)))
    print(f'\nshares in percent; * the interval, of {DRAWS} draws of the {comparisons[0].unit}, '
          'leaves out 0')
    if args.plot:
        write_plot(args.plot, comparisons)
