# Copyright 2026 rgbx_seg_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""What came of pairs sent to a live node at several rates, and which rate goes well."""

from dataclasses import dataclass
import math
from pathlib import Path

import numpy as np
from rgbx_seg_ros.errors import ParameterError, RgbxSegError
from rgbx_seg_ros.tables import aligned, wrapped

ALLOWED_LOSS = 0.05
"""Share of the pairs that may get no mask at the rate that is searched for."""
LOWEST_HZ, LIMIT_HZ = 0.1, 200.0
"""Rates that are tried; the node is not made for cameras that are quicker."""
WARM_UP = 5
"""So many pairs at the start of a run are not in latency and jitter."""
FIGURES = ('mean', 'p50', 'p95', 'p99', 'max')
"""What is told of latency and jitter."""
MAX_RATES = 4
"""So many fixed rates fit into a table of 80 columns."""
_STEP, _RESOLUTION = 1.3, 1.02


@dataclass(frozen=True)
class Settings:
    """What is measured, and for how long."""

    model: str
    """A card, or the name of one."""
    engine: str = 'torch'
    device: str = 'auto'
    rates_hz: tuple[float, ...] = (10.0, 30.0)
    """Rates at which latency and jitter are measured, besides the one that is found."""
    seconds: float = 20.0
    """Length of a run at one of these rates; those of the search have a quarter of it."""
    data: Path | None = None
    """Folder of the frames to send, as `make_bag` takes it; None: those of the demo."""

    def __post_init__(self):
        for rate in self.rates_hz:
            if not LOWEST_HZ <= rate <= LIMIT_HZ:
                raise ParameterError(f'rate is {rate!r} Hz, allowed is {LOWEST_HZ:g} to '
                                     f'{LIMIT_HZ:g}')
        if len(self.rates_hz) > MAX_RATES:
            raise ParameterError(f'rates are {self.rates_hz!r}, allowed are at most {MAX_RATES}')
        if not 1.0 <= self.seconds <= 3600.0:
            raise ParameterError(f'seconds is {self.seconds!r}, allowed is 1 to 3600')


@dataclass(frozen=True)
class Run:
    """What came of pairs sent at one rate."""

    rate_hz: float
    """As it was asked of the cameras."""
    sent: int
    masks: int
    """Received by the subscriber."""
    lost: float
    """Share of the pairs that got no mask."""
    sent_hz: float
    masks_hz: float | None
    latency_ms: dict[str, float]
    """FIGURES of the times from the stamp of a pair to its mask in the subscriber's callback."""
    jitter_ms: dict[str, float]
    """The same of the sizes of the second differences of the times when masks were received."""
    drops: dict[str, int] | None = None
    """By the node's own counters, and what got lost on the way; None where they were not read."""

    @classmethod
    def of(cls, rate_hz: float, stamps: list[int], received: dict[int, int]) -> 'Run':
        """Return the run of pairs with `stamps`, whose masks were `received` at ns by stamp."""
        masks = [stamp for stamp in stamps if stamp in received]
        counted = [stamp for stamp in stamps[WARM_UP:] if stamp in received]
        # From the first stamp on: a float64 holds the ns of today only to 256.
        steady = np.sort([received[stamp] - stamps[0] for stamp in counted]) / 1e6
        return cls(
            rate_hz, len(stamps), len(masks), 1 - len(masks) / len(stamps),
            _frequency(stamps), _frequency([received[stamp] for stamp in masks]),
            _figures([(received[stamp] - stamp) / 1e6 for stamp in counted]),
            _figures(np.abs(np.diff(steady, n=2))))


def _frequency(times_ns):
    """Return how many of the times come in a second; None for less than two."""
    span_ns = max(times_ns, default=0) - min(times_ns, default=0)
    return (len(times_ns) - 1) * 1e9 / span_ns if span_ns else None


def _figures(values):
    """Return FIGURES of the values, none of no values."""
    if not len(values):
        return {}
    numbers = np.mean(values), *np.percentile(values, (50, 95, 99)), np.max(values)
    return dict(zip(FIGURES, map(float, numbers), strict=True))


@dataclass(frozen=True)
class Result:
    """What the node delivers."""

    model: str
    engine: str
    device: str
    """In words, as the node tells it."""
    middleware: str
    frames: str
    """Size and encoding of what was sent."""
    cores: int
    first_mask_s: float
    """From the start of the node's process to its first mask."""
    throughput: Run
    """At the highest rate that goes well."""
    runs: tuple[Run, ...]
    """At the fixed rates."""
    search: tuple[Run, ...]
    """What was tried for `throughput`, in this order."""


def drops_of(run: Run, before: dict[str, int], after: dict[str, int]) -> dict[str, int]:
    """Return what was dropped in a run, by reason, from the node's counts before and after it."""
    counts = {name: count - before.get(name, 0) for name, count in after.items()}
    drops = {name.partition('.')[2]: count for name, count in counts.items()
             if name.startswith('drops.')}
    for name in ('rgb', 'x'):
        drops[f'{name}_lost_on_the_way'] = run.sent - counts[f'{name}_received']
    drops['mask_lost_on_the_way'] = counts['masks'] - run.masks
    return {reason: count for reason, count in drops.items() if count}


def search(lost_at, start_hz: float) -> float:
    """
    Return the highest rate in Hz at which `lost_at(rate)` is at most ALLOWED_LOSS.

    From `start_hz` on, steps of 30 % lead to a rate that goes well and one that does not; the span
    between them is halved until it is 2 %. A rate that goes badly is tried once more, as something
    else may have kept the machine busy. Raise RgbxSegError if LOWEST_HZ is too much.
    """
    def goes_well(rate):
        return any(lost_at(rate) <= ALLOWED_LOSS for _ in range(2))

    good = bad = None
    rate = min(max(start_hz, LOWEST_HZ), LIMIT_HZ)
    while good is None or bad is None:
        if goes_well(rate):
            good = rate
            if rate == LIMIT_HZ:
                return rate
            rate = min(rate * _STEP, LIMIT_HZ)
        else:
            bad = rate
            if rate == LOWEST_HZ:
                raise RgbxSegError(
                    f'more than {100 * ALLOWED_LOSS:g} % of the pairs get no mask even at '
                    f'{LOWEST_HZ:g} Hz: the model is too slow for this machine')
            rate = max(rate / _STEP, LOWEST_HZ)
    while bad / good > _RESOLUTION:
        rate = math.sqrt(good * bad)
        if goes_well(rate):
            good = rate
        else:
            bad = rate
    return good


_ROWS = (
    ('pairs sent, Hz', lambda run: _text(run.sent_hz)),
    ('masks received, Hz', lambda run: _text(run.masks_hz)),
    ('pairs sent', lambda run: str(run.sent)),
    ('masks received', lambda run: str(run.masks)),
    ('pairs without a mask, %', lambda run: _text(100 * run.lost)),
)


def _text(number):
    """Return a number in at most 7 characters, up to hours in ms; `-` for one not known."""
    return '-' if number is None else f'{number:.{2 if number < 100 else int(number < 10_000)}f}'


def table(result: Result) -> str:
    """Return the result as a table in markdown between lines of text, in 80 columns."""
    runs = result.throughput, *result.runs
    rows = [('rate, Hz', 'peak', *(f'{run.rate_hz:.4g}' for run in result.runs))]
    rows += [(title, *map(value, runs)) for title, value in _ROWS]
    rows += [(f'- {reason}', *(str(run.drops.get(reason, 0)) for run in runs))
             for reason in sorted(set().union(*(run.drops for run in runs)))]
    rows += [(f'{name} {figure}, ms', *(_text(getattr(run, f'{name}_ms').get(figure))
                                        for run in runs))
             for name in ('latency', 'jitter') for figure in FIGURES]
    lines = [f'| {line} |' for line in aligned(rows, '<' + '>' * len(runs), gap=' | ')]
    _, first, *others, _ = map(len, lines[0].split('|'))
    lines.insert(1, f'| {"-" * (first - 2)} |' + ''.join(
        f' {"-" * (width - 3)}: |' for width in others))
    limit = (f', {LIMIT_HZ:g} Hz being the highest that is tried'
             if result.throughput.rate_hz == LIMIT_HZ else '')
    told = (
        f'model {result.model}, engine {result.engine}: {result.device}; {result.cores} cores, '
        f'{result.middleware}; {result.frames}; first mask {result.first_mask_s:.1f} s after the '
        'start of the node',
        f'peak: the highest rate at which at most {100 * ALLOWED_LOSS:g} % of the pairs get no '
        f'mask{limit}. - reason: drops, by the counts of the node. latency: from the stamp of a '
        'pair to the callback of a subscriber to the mask. jitter: |r[i-1] - 2 r[i] + r[i+1]| of '
        f'the times r of reception. Both leave out the first {WARM_UP} pairs of a run.')
    above, below = map(wrapped, told)
    return '\n'.join([above, '', *lines, '', below])
