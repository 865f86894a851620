# Copyright 2026 rgbx_seg_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""What holds for pairs of whatever frames arrive, and how near they are to the best."""

import copy
from itertools import pairwise
import math

from hypothesis import given
from hypothesis import strategies as st
from rgbx_seg_ros.sync.pairing import (
    CLOCK_JUMP_NS,
    CLOCK_SETTLE_NS,
    DROP_REASONS,
    Pairer,
    PairingSettings,
)
from support.pairing_reference import closest_first, most_pairs
from support.pairing_streams import (
    always,
    FOREVER,
    MS,
    pairer_ms,
    play,
    stamps,
)


def increasing(longest=12, least_gap=1, most_gap=12):
    gaps = st.lists(st.integers(least_gap, most_gap), max_size=longest)
    return gaps.map(lambda gaps: [100 + sum(gaps[:k + 1]) for k in range(len(gaps))])


def interleave(rgb, x, choices, pairer):
    """Feed two recordings in any interleaving that keeps the order of each."""
    rgb, x, made = list(rgb), list(x), []
    while rgb or x:
        if rgb and (not x or choices.draw(st.booleans())):
            made += pairer.add_rgb(rgb.pop(0), None, 0)
        else:
            made += pairer.add_x(x.pop(0), None, 0)
    return stamps(made + pairer.flush())


@always
@given(increasing(), increasing(), st.integers(0, 15), st.integers(-9, 9), st.data())
def test_any_interleaving_gives_the_offline_reference(rgb, x, slop, x_offset, data):
    pairer = Pairer(PairingSettings(slop, FOREVER, x_offset_ns=x_offset))
    expected = closest_first(rgb, [t + x_offset for t in x], slop)
    assert interleave(rgb, x, data, pairer) == [(a, b - x_offset) for a, b in expected]


@always
@given(increasing(8, 5, 15), increasing(8, 3, 15), st.integers(0, 15), st.data())
def test_a_kept_promise_of_a_period_changes_no_pair(rgb, x, slop, data):
    pairer = Pairer(PairingSettings(slop, FOREVER, rgb_min_period_ns=5, x_min_period_ns=3))
    assert interleave(rgb, x, data, pairer) == closest_first(rgb, x, slop)


@always
@given(st.lists(st.tuples(st.booleans(), st.integers(1, 5)), min_size=1, max_size=7),
       st.integers(0, 6))
def test_frames_wait_only_while_what_may_come_can_change_their_fate(events, slop):
    pairer = Pairer(PairingSettings(slop, FOREVER))
    newest = {True: 100, False: 100}
    for is_rgb, gap in events:
        newest[is_rgb] += gap
        (pairer.add_rgb if is_rgb else pairer.add_x)(newest[is_rgb], newest[is_rgb], 0)
    queued = sorted((f.time_ns, f.is_x) for q in (pairer._rgb.queue, pairer._x.queue) for f in q)
    if not queued:
        return
    first, first_is_x = queued[0]
    fates = set()
    latest = max(newest.values()) + slop + 1
    for is_rgb in (True, False):
        for stamp in (None, *range(newest[is_rgb] + 1, latest + 1)):
            future, made = copy.deepcopy(pairer), []
            if stamp:
                made += (future.add_rgb if is_rgb else future.add_x)(stamp, stamp, 0)
            made = stamps(made + future.flush())
            fates.add(next((pair for pair in made if pair[first_is_x] == first), None))
    assert len(fates) > 1


MESS = st.lists(
    st.tuples(
        st.sampled_from('rxrxrxp'),
        st.sampled_from([0, 1, 7, 16, 33, 33, 33, 60, 250, 5000, -1, -20, -150, -201, -900, -9000,
                         None]),
        st.sampled_from([0, 0, 1, 5, 20, 40, 2000, -10, -8000])),
    max_size=60)


@always
@given(MESS, st.integers(0, 60), st.integers(0, 120), st.integers(1, 5), st.integers(-50, 50),
       st.sampled_from([1, 16 * MS]))
def test_invariants_hold_whatever_arrives(mess, slop, max_wait, size, offset, min_period):
    pairer = pairer_ms(slop, max_wait, queue_size=size, x_offset_ns=offset * MS,
                       rgb_min_period_ns=min_period)
    stamp, now, added, used = {'r': 10_000, 'x': 10_000}, 10_000, 0, set()
    last, jumps = (-math.inf, -math.inf), 0
    for number, (what, step, passed) in enumerate(mess):
        now += passed
        if what == 'p':
            made = pairer.poll(now * MS)
        else:
            stamp[what] = 0 if step is None else stamp[what] + step
            add = pairer.add_rgb if what == 'r' else pairer.add_x
            made = add(stamp[what] * MS, number, now * MS)
            added += 1
        if pairer.clock_jumps != jumps:
            last, jumps = (-math.inf, -math.inf), pairer.clock_jumps
        for pair in made:
            assert abs(pair.offset_ns + offset * MS) <= slop * MS
            assert not {pair.rgb, pair.x} & used
            used |= {pair.rgb, pair.x}
            assert mess[pair.rgb][0] == 'r' and mess[pair.x][0] == 'x'
            assert pair.rgb_stamp_ns > last[0] and pair.x_stamp_ns > last[1]
            last = (pair.rgb_stamp_ns, pair.x_stamp_ns)
        assert max(pairer.waiting) <= size
        assert len(used) + sum(pairer.drops.values()) + sum(pairer.waiting) == added
        assert set(pairer.drops) <= set(DROP_REASONS)
        deadline = pairer.next_deadline_ns
        assert (deadline is None) == (pairer.waiting[0] == 0)
        assert deadline is None or now * MS < deadline <= (now + max_wait) * MS


@always
@given(MESS, st.sampled_from([300, 10_000, 2_000_000]))
def test_clean_streams_pair_again_soon_after_any_mess(mess, start):
    pairer = pairer_ms()
    stamp, now = {'r': 10_000, 'x': 10_000}, 10_000
    for what, step, passed in mess:
        now += passed
        if what != 'p':
            stamp[what] = 0 if step is None else stamp[what] + step
            (pairer.add_rgb if what == 'r' else pairer.add_x)(stamp[what] * MS, None, now * MS)
    made = []
    settle = math.ceil((CLOCK_SETTLE_NS + CLOCK_JUMP_NS) / (33 * MS)) + 2
    for k in range(settle + 20):
        now_ns, stamp_ns = (now + 33 * k) * MS, (start + 33 * k) * MS
        made += pairer.add_rgb(stamp_ns, k, now_ns) + pairer.add_x(stamp_ns, k, now_ns)
    assert [(pair.rgb, pair.x) for pair in made[-20:]] == [
        (k, k) for k in range(settle, settle + 20)]


# ---------------------------------------------------------------- against the most pairs possible


def least_gap(*streams):
    return min((b - a for times in streams for a, b in pairwise(times)), default=math.inf)


def paired(rgb, x, slop):
    pairer = Pairer(PairingSettings(slop, FOREVER, queue_size=1000))
    made = [pair for _, pair in play(
        pairer, [*((t, 'r', t) for t in rgb), *((t, 'x', t) for t in x)])]
    return stamps(made + pairer.flush())


@always
@given(increasing(10, 5), increasing(10, 5), st.integers(0, 12))
def test_pairs_are_optimal_when_slop_is_less_than_half_a_period(rgb, x, slop):
    if 2 * slop < least_gap(rgb, x):
        assert paired(rgb, x, slop) == most_pairs(rgb, x, slop)


@always
@given(increasing(10, 3), increasing(10, 3), st.integers(0, 12))
def test_at_least_half_of_the_most_pairs_when_slop_is_less_than_a_period(rgb, x, slop):
    if slop < least_gap(rgb, x):
        assert 2 * len(paired(rgb, x, slop)) >= len(most_pairs(rgb, x, slop))


@always
@given(increasing(), increasing(), st.integers(0, 20))
def test_the_closest_pair_of_all_is_always_made(rgb, x, slop):
    made, most = paired(rgb, x, slop), most_pairs(rgb, x, slop)
    assert len(made) <= len(most)
    closest = min((abs(b - a) for a in rgb for b in x), default=math.inf)
    if closest <= slop:
        assert min(abs(b - a) for a, b in made) == closest


def test_bursts_with_a_wide_slop_pair_only_where_they_touch():
    # Nearness is worth more than number here: no bound holds when slop exceeds the periods.
    rgb, x = [1, 2, 3, 4], [6, 7, 8, 9]
    assert len(most_pairs(rgb, x, 10)) == 4
    assert paired(rgb, x, 10) == [(4, 6)]


@always
@given(st.integers(5, 40), st.integers(5, 40), st.integers(0, 40), st.integers(0, 40),
       st.integers(0, 40))
def test_periodic_streams_lose_at_most_one_pair_at_each_end(rgb_period, x_period, a, b, slop):
    rgb, x = list(range(100 + a, 600, rgb_period)), list(range(100 + b, 600, x_period))
    if slop < max(rgb_period, x_period):
        made, most = paired(rgb, x, slop), most_pairs(rgb, x, slop)
        assert len(most) - 2 <= len(made) <= len(most)
