# Copyright 2026 rgbx_seg_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""The promise that a stream's own gaps make, and what pairs and their waiting gain from it."""

from itertools import accumulate
import random

from hypothesis import given
from hypothesis import strategies as st
import numpy as np
import pytest
from rgbx_seg_ros.errors import ParameterError
from rgbx_seg_ros.sync.pairing import Pairer, PairingSettings
from rgbx_seg_ros.sync.periods import FEWEST, LONGEST_NS, PeriodEstimator, WINDOW
from support.pairing_reference import closest_first
from support.pairing_streams import always, FOREVER, MS, periodic, play, S, stamps


def promise_of(gaps_ms):
    estimator = PeriodEstimator()
    for gap in gaps_ms:
        estimator.add(round(gap * MS))
    return estimator.promise_ns / MS


def test_nothing_is_promised_before_enough_is_seen():
    assert promise_of([33] * (FEWEST - 1)) == 1 / MS
    assert promise_of([33] * FEWEST) == pytest.approx(0.9 * 33)


@pytest.mark.parametrize('lost', [0.1, 0.5, 0.8])
def test_lost_frames_leave_the_promise_as_it_is(lost):
    rng = random.Random(2)
    for _ in range(20):
        gaps = [33 * (1 + next(k for k in range(99) if rng.random() >= lost)) for _ in range(60)]
        assert promise_of(gaps) >= 0.9 * 33
        if lost < 0.8:
            assert promise_of(gaps) == pytest.approx(0.9 * 33)


def test_one_stamp_that_is_off_costs_nothing_and_a_second_only_for_a_while():
    steady, off = [33] * 20, [1, 65]
    assert promise_of(steady + off + steady) == pytest.approx(0.9 * 33)
    assert promise_of(steady + off + off + [33] * 5) == pytest.approx(0.9)
    assert promise_of(steady + off + off + [33] * WINDOW) == pytest.approx(0.9 * 33)


def test_a_faster_stream_breaks_the_promise_twice_and_a_slower_one_never():
    def broken(before, after):
        estimator, count = PeriodEstimator(), 0
        for gap in [before * MS] * 40 + [after * MS] * 40:
            count += gap < estimator.promise_ns
            estimator.add(gap)
        return count
    assert broken(33, 16) == 2
    assert broken(16, 33) == broken(33, 33) == 0


def test_no_promise_is_longer_than_the_bound():
    assert promise_of([2000] * 40) * MS == LONGEST_NS


# ---------------------------------------------------------------- in the pairer


def learning(slop_ns, max_wait_ns, **others):
    return Pairer(PairingSettings(slop_ns, max_wait_ns, learn_periods=True, **others))


def played(pairer, rgb, x):
    """Return the pairs, and how long each waited after its later frame had come, ms."""
    made = play(pairer, [*((t, 'r', t) for t in rgb), *((t, 'x', t) for t in x)])
    waits = [(now - max(pair.rgb_stamp_ns, pair.x_stamp_ns)) / MS for now, pair in made]
    return stamps([pair for _, pair in made] + pairer.flush()), waits


def frames(gap_low, gap_high):
    gaps = st.lists(st.integers(gap_low, gap_high), min_size=FEWEST + 2, max_size=26)
    return st.tuples(st.integers(1, gap_high), gaps).map(
        lambda drawn: [100 + t for t in accumulate((drawn[0], *drawn[1]))])


@always
@given(frames(50, 55), frames(30, 33), st.integers(0, 40), st.data())
def test_a_learned_promise_that_is_kept_changes_no_pair(rgb, x, slop, data):
    pairer, made = learning(slop, FOREVER), []
    waiting_rgb, waiting_x = list(rgb), list(x)
    while waiting_rgb or waiting_x:
        if waiting_rgb and (not waiting_x or data.draw(st.booleans())):
            made += pairer.add_rgb(waiting_rgb.pop(0), None, 0)
        else:
            made += pairer.add_x(waiting_x.pop(0), None, 0)
    assert stamps(made + pairer.flush()) == closest_first(rgb, x, slop)


@pytest.mark.parametrize('skew_ms', [2, 5, 8, 11, 14])
def test_free_running_cameras_pair_at_once_after_half_a_second(skew_ms):
    rgb = periodic(30, 4)
    x = [t + skew_ms * MS for t in rgb]
    made, waits = played(learning(50 * MS, 100 * MS), rgb, x)
    assert made == list(zip(rgb, x, strict=True))
    assert max(waits[15:]) == 0
    _, unlearned = played(Pairer(PairingSettings(50 * MS, 100 * MS)), rgb, x)
    assert min(unlearned[:-1]) > 15


@pytest.mark.parametrize(('x_hz', 'skew_ms'), [(30, 2), (30, 9), (30, 16), (9, 5), (25, 3),
                                               (60, 5)])
def test_jitter_of_a_fifth_of_the_period_costs_no_more_than_one_pair_in_a_hundred(x_hz, skew_ms):
    rng = random.Random(x_hz + skew_ms)
    rgb = periodic(30, 20, 33 * MS // 5, rng)
    x = [t + skew_ms * MS for t in periodic(x_hz, 20, S // x_hz // 5, rng)]
    made, waits = played(learning(50 * MS, 100 * MS), rgb, x)
    expected, unlearned = played(Pairer(PairingSettings(50 * MS, 100 * MS)), rgb, x)
    assert len(set(made) & set(expected)) >= 0.99 * len(expected)
    assert len(made) >= 0.99 * len(expected)
    assert np.median(waits) < np.median(unlearned)
    assert np.mean(waits) < 0.9 * np.mean(unlearned)


def test_duplicates_late_frames_and_useless_stamps_are_no_gaps():
    pairer = learning(20 * MS, FOREVER)
    for stamp in periodic(30, 1):
        for given_ns in (stamp, stamp, stamp - 5 * MS, 0):
            pairer.add_rgb(given_ns, None, 0)
    assert pairer._rgb.period.promise_ns == pytest.approx(0.9 * S / 30, rel=1e-6)


def test_a_bag_in_a_loop_keeps_what_was_learned():
    times = periodic(30, 1)
    pairer = learning(20 * MS, 100 * MS)
    for loop in range(2):
        now_ns = loop * 2 * S
        for stamp in times[:20]:
            pairer.add_rgb(stamp, None, now_ns)
            made = pairer.add_x(stamp + 8 * MS, None, now_ns)
            if loop:
                assert stamps(made) == [(stamp, stamp + 8 * MS)]
    assert pairer.clock_jumps == 1


@pytest.mark.parametrize(('given_ms', 'x_ms', 'at_once'), [
    (1, 20, True), (1, 24, False), (50, 24, True), (50, 28, False)])
def test_of_the_given_and_the_learned_promise_the_longer_counts(given_ms, x_ms, at_once):
    pairer = learning(30 * MS, FOREVER, x_min_period_ns=given_ms * MS)
    for k in range(1, 20):
        pairer.add_rgb(100 * k * MS, None, 0)
        pairer.add_x((100 * k - 50) * MS, None, 0)
        pairer.add_x(100 * k * MS, None, 0)
    # Learned is that X comes 45 ms after this frame at the soonest, given is 1 or 50 ms.
    pairer.add_x(2000 * MS, None, 0)
    made = pairer.add_rgb((2000 + x_ms) * MS, None, 0)
    assert stamps(made) == [((2000 + x_ms) * MS, 2000 * MS)] * at_once


@pytest.mark.parametrize('value', [1, None, 'yes'])
def test_learning_is_on_or_off(value):
    with pytest.raises(ParameterError, match='learn_periods is .*True and False'):
        PairingSettings(0, 0, learn_periods=value)
