# Copyright 2026 rgbx_seg_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""
Compare the policies of `sync.policy` on a recording of ten seconds that is played twice.

Run as `python test/benchmark_pairing.py`, with message_filters on the path. `alone` is
message_filters as a node usually has it: the same queue, nothing around it. Frames arrive at their
stamps, RGB first where they are equal. The cost is the median of the calls that take a message, in
the best of some rounds, in which all take turns; a pair waits from the arrival of its later frame.
"""

import random
import statistics
import time
from types import SimpleNamespace

import message_filters
from rclpy.time import Time
from rgbx_seg_ros.node.sync import make_synchronizer
from rgbx_seg_ros.sync.pairing import PairingSettings
from support.pairing_streams import MS, periodic, play, S, stamps

SECONDS = 10
ROUNDS = 7
SETTINGS = PairingSettings(
    slop_ns=50 * MS, max_wait_ns=100 * MS, rgb_min_period_ns=5 * MS, x_min_period_ns=5 * MS)
# Name, rate of X in Hz, its skew in ms, and how far both may be off, as a share of the period.
RECORDINGS = [('30 / 9', 9, 0, 0), ('30 / 25', 25, 0, 0), ('30 / 30, 8 ms apart', 30, 8, 0),
              ('30 / 30, 8 ms, jitter', 30, 8, 0.2), ('30 / 60', 60, 0, 0)]
WAITS = [('30 / 30', 30, skew) for skew in (2, 6, 10, 14, 16)] + [
    ('30 / 9', 9, 5), ('30 / 25', 25, 3), ('30 / 60', 60, 5)]


class Alone:
    """One of message_filters' synchronizers, fed with whole messages as a subscription does."""

    next_deadline_ns = None

    def __init__(self, kind, *arguments):
        self._filters = [message_filters.SimpleFilter() for _ in range(2)]
        self._pairs = []
        kind(self._filters, SETTINGS.queue_size, *arguments).registerCallback(
            lambda rgb, x: self._pairs.append(SimpleNamespace(
                rgb_stamp_ns=rgb.stamp_ns, x_stamp_ns=x.stamp_ns)))

    def add_rgb(self, stamp_ns, message, now_ns):
        """Take a message of RGB."""
        return self._add(0, message)

    def add_x(self, stamp_ns, message, now_ns):
        """Take a message of X."""
        return self._add(1, message)

    def _add(self, index, message):
        self._pairs.clear()
        self._filters[index].signalMessage(message)
        return list(self._pairs)


CONTENDERS = {
    'nearest': lambda: learning(True),
    'approximate': lambda: make_synchronizer('approximate', SETTINGS),
    'approximate, alone': lambda: Alone(message_filters.ApproximateTimeSynchronizer, 0.05),
    'exact': lambda: make_synchronizer('exact', SETTINGS),
    'exact, alone': lambda: Alone(message_filters.TimeSynchronizer),
}


def learning(learn_periods):
    """Return our own policy."""
    return make_synchronizer('nearest', PairingSettings(
        **{**vars(SETTINGS), 'learn_periods': learn_periods}))


def recording(x_hz, skew_ms, jitter, seconds=SECONDS):
    """Return the stamps of RGB at 30 Hz and of X."""
    rng = random.Random(1)
    rgb = periodic(30, seconds, round(jitter * S / 30), rng)
    x = periodic(x_hz, seconds, round(jitter * S / x_hz), rng)
    return rgb, [t + skew_ms * MS for t in x]


def twice(rgb, x):
    """Return the arrivals of two loops, and a message for each."""
    arrivals = sorted((loop * SECONDS * S + t, kind, t) for loop in range(2)
                      for kind, times in (('r', rgb), ('x', x)) for t in times)
    return [(now_ns, kind, stamp_ns, SimpleNamespace(
        stamp_ns=stamp_ns, header=SimpleNamespace(stamp=Time(nanoseconds=stamp_ns).to_msg())))
        for now_ns, kind, stamp_ns in arrivals]


def run(synchronizer, arrivals):
    """Return the pairs by loop, and the cost in us of each call that takes a message."""
    made, costs = [], []
    for now_ns, kind, stamp_ns, message in arrivals:
        due_ns = synchronizer.next_deadline_ns
        if due_ns is not None and due_ns < now_ns:
            made += [(now_ns, pair) for pair in synchronizer.poll(due_ns)]
        add = synchronizer.add_rgb if kind == 'r' else synchronizer.add_x
        start = time.perf_counter_ns()
        pairs = add(stamp_ns, message, now_ns)
        costs.append((time.perf_counter_ns() - start) / 1e3)
        made += [(now_ns, pair) for pair in pairs]
    middle_ns = S + SECONDS * S - 20 * MS
    loops = [[], []]
    for now_ns, pair in made:
        loops[now_ns > middle_ns].append(pair)
    return loops, costs


def offset_ms(pairs):
    """Return the mean distance of the frames of a pair."""
    return statistics.mean(abs(p.x_stamp_ns - p.rgb_stamp_ns) for p in pairs) / MS


def compare():
    """Print pairs, offsets, drops and cost of all policies."""
    print('| RGB / X, Hz | policy | pairs, 1st and 2nd loop | mean \\|dt\\|, ms | dropped '
          '| µs per message |')
    print('| --- | --- | ---: | ---: | ---: | ---: |')
    for name, *how in RECORDINGS:
        rgb, x = recording(*how)
        arrivals = twice(rgb, x)
        costs = {policy: [] for policy in CONTENDERS}
        for _ in range(ROUNDS):
            rows = []
            for policy, make in CONTENDERS.items():
                synchronizer = make()
                loops, cost = run(synchronizer, arrivals)
                costs[policy].append(statistics.median(cost))
                rows.append((policy, loops, getattr(synchronizer, 'drops', None)))
        for policy, (first, second), drops in rows:
            pairs = first + second
            offset = f'{offset_ms(pairs):.2f}' if pairs else '-'
            dropped = 'not told' if drops is None else sum(drops.values())
            print(f'| {name} | {policy} | {len(first)} + {len(second)} | {offset} | {dropped} '
                  f'| {min(costs[policy]):.1f} |')


def percentiles(learn_periods, rgb, x):
    """Return the pairs by stamps, and p50 and p95 of their waiting, ms."""
    pairer = learning(learn_periods)
    made = play(pairer, [*((t, 'r', t) for t in rgb), *((t, 'x', t) for t in x)])
    waits = sorted(now_ns - max(pair.rgb_stamp_ns, pair.x_stamp_ns) for now_ns, pair in made)
    pairs = set(stamps([pair for _, pair in made] + pairer.flush()))
    return pairs, [waits[round(share * (len(waits) - 1))] / MS for share in (0.5, 0.95)]


def waiting():
    """Print how long pairs wait without and with learned periods, and what that costs."""
    print('| RGB / X, Hz | skew, ms | jitter | wait p50 / p95, ms | learned '
          '| pairs | learned | of these new |')
    print('| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |')
    for jitter in (0, 0.2):
        for name, x_hz, skew_ms in WAITS:
            rgb, x = recording(x_hz, skew_ms, jitter, seconds=60)
            fixed, before = percentiles(False, rgb, x)
            learned, after = percentiles(True, rgb, x)
            print(f'| {name} | {skew_ms} | {jitter:.0%} | {before[0]:.1f} / {before[1]:.1f} '
                  f'| {after[0]:.1f} / {after[1]:.1f} | {len(fixed)} | {len(learned)} '
                  f'| {len(learned - fixed)} |')


def main():
    """Print both tables."""
    compare()
    print()
    waiting()


if __name__ == '__main__':
    main()
