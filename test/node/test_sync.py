# Copyright 2026 rgbx_seg_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""The policies that make pairs, all behind one interface; two are those of message_filters."""

from dataclasses import replace
from importlib.util import find_spec
from itertools import pairwise
import random
import sys
from types import SimpleNamespace

from hypothesis import given
from hypothesis import strategies as st
import pytest
from rgbx_seg_ros.errors import ParameterError
from rgbx_seg_ros.node.sync import make_synchronizer, POLICIES
from rgbx_seg_ros.sync.pairing import DROP_REASONS, Pairer, PairingSettings
from support.pairing_streams import (
    always,
    arriving,
    feed,
    in_ms,
    live,
    MS,
    periodic,
    play,
    S,
    stamps,
)

needs_message_filters = pytest.mark.skipif(
    find_spec('message_filters') is None,
    reason='needs message_filters, from a ROS distribution (ros-$ROS_DISTRO-message-filters)')


def policies(*names):
    """Run a test for each of the policies, as far as they can run here."""
    return pytest.mark.parametrize('policy', [
        pytest.param(name, marks=() if name == 'nearest' else needs_message_filters)
        for name in names])


every_policy = policies('nearest', 'approximate', 'exact')
tolerant = policies('nearest', 'approximate')
borrowed = policies('approximate', 'exact')


def made_by(policy, slop=50, max_wait=100, **others):
    others = {'learn_periods': True, **others}
    return make_synchronizer(policy, PairingSettings(slop * MS, max_wait * MS, **others))


def accounted(synchronizer, frames, pairs):
    """Tell whether every frame is in a pair, counted as dropped, or waits."""
    return frames == 2 * pairs + sum(synchronizer.drops.values()) + sum(synchronizer.waiting)


# ---------------------------------------------------------------- which there are


def test_a_policy_that_does_not_exist_is_refused_with_those_that_do():
    with pytest.raises(ParameterError, match="'nearst' is unknown; did you mean 'nearest'.*exact"):
        made_by('nearst')


def test_the_tests_here_cover_every_policy():
    assert {mark.values[0] for mark in every_policy.args[1]} == POLICIES.keys()


@pytest.mark.parametrize('policy', POLICIES)
def test_only_the_policies_of_message_filters_need_it(policy, monkeypatch):
    monkeypatch.setitem(sys.modules, 'message_filters', None)
    if policy == 'nearest':
        assert isinstance(made_by(policy), Pairer)
        return
    with pytest.raises(ParameterError) as error:
        made_by(policy)
    assert repr(policy) in str(error.value)
    assert 'apt install ros-$ROS_DISTRO-message-filters' in str(error.value)


# ---------------------------------------------------------------- pairs


@every_policy
@pytest.mark.parametrize('offset', [0, -50, 70])
def test_a_pair_carries_the_frames_themselves_and_their_own_stamps(policy, offset):
    synchronizer = made_by(policy, x_offset_ns=offset * MS)
    rgb, x = object(), object()
    assert synchronizer.add_rgb(100 * MS, rgb, 0) == []
    [pair] = synchronizer.add_x((100 - offset) * MS, x, 0)
    assert pair.rgb is rgb and pair.x is x
    assert in_ms([pair]) == [(100, 100 - offset)]
    assert synchronizer.waiting == (0, 0) and not synchronizer.drops


STREAMS = {'slower': (10, 0, 0), 'much slower': (7.5, 0, 0), 'as fast': (30, 0, 0),
           'faster': (60, 0, 0), 'skewed': (30, 7, 0), 'jittered': (30, 0, 6),
           'slower and jittered': (10, 3, 6)}


@every_policy
@pytest.mark.parametrize('kind', STREAMS)
def test_x_slower_faster_skewed_or_jittered_gives_the_pairs_of_the_policy(policy, kind):
    x_hz, skew, jitter = STREAMS[kind]
    rgb = periodic(30, 10)
    x = [t + skew * MS for t in periodic(x_hz, 10, jitter * MS, random.Random(3))]
    synchronizer = made_by(policy)
    made = play(synchronizer, [*arriving('r', live(rgb)), *arriving('x', live(x), 2 * MS)])
    count, slop = len(made), 50 * MS
    if policy == 'exact':
        slop = 0
        assert count == len(set(rgb) & set(x))
    else:
        assert count >= min(len(rgb), len(x)) - 2
    assert all(abs(pair.offset_ns) <= slop for _, pair in made)
    assert all(b.rgb_stamp_ns > a.rgb_stamp_ns and b.x_stamp_ns > a.x_stamp_ns
               for (_, a), (_, b) in pairwise(made))
    assert accounted(synchronizer, len(rgb) + len(x), count)
    assert max(synchronizer.waiting) <= 5
    assert not set(synchronizer.drops) - {'rgb_no_partner', 'x_unused'}


@policies('approximate')
@pytest.mark.parametrize(('x_hz', 'jitter'), [(9, 0), (25, 0), (30, 8), (60, 4)])
def test_the_approximate_pairs_are_those_of_message_filters_on_its_own(policy, x_hz, jitter):
    import message_filters
    from rclpy.time import Time

    rng = random.Random(x_hz)
    arrivals = sorted([*arriving('r', live(periodic(30, 5, jitter * MS, rng))),
                       *arriving('x', live(periodic(x_hz, 5, jitter * MS, rng)), 9 * MS)])
    inputs = {'r': message_filters.SimpleFilter(), 'x': message_filters.SimpleFilter()}
    expected = []
    alone = message_filters.ApproximateTimeSynchronizer(list(inputs.values()), 30, 0.05)
    alone.registerCallback(lambda rgb, x: expected.append((rgb.ns, x.ns)))
    for _, kind, ns in arrivals:
        stamp = Time(nanoseconds=ns).to_msg()
        inputs[kind].signalMessage(SimpleNamespace(header=SimpleNamespace(stamp=stamp), ns=ns))
    assert stamps(pair for _, pair in play(made_by(policy), arrivals)) == expected
    assert len(expected) > 40


@borrowed
def test_pairs_of_message_filters_come_at_once_and_need_no_poll(policy):
    synchronizer = made_by(policy, max_wait=0)
    assert feed(synchronizer, 'r100', now_ns=0) == []
    assert synchronizer.next_deadline_ns is None and synchronizer.poll(9 * S) == []
    assert feed(synchronizer, 'x100', now_ns=9 * S) == [(100, 100)]


@policies('approximate')
def test_approximate_takes_what_is_there_where_nearest_waits(policy):
    assert feed(made_by(policy), 'r100 x112 r120 x150') == [(100, 112), (120, 150)]
    assert feed(made_by('nearest'), 'r100 x112 r120 x150') == [(120, 112)]


@tolerant
def test_slop_is_inclusive_in_both(policy):
    for slop in (0, 1, 20, 1001):
        within = f'r2000 x{2000 + slop} r9000 x9000'
        assert feed(made_by(policy, slop), within) == [(2000, 2000 + slop), (9000, 9000)]
        beyond = f'r2000 x{2000 + slop + 1} r9000 x9000'
        assert feed(made_by(policy, slop), beyond) == [(9000, 9000)]


@tolerant
def test_a_nanosecond_over_the_slop_is_too_much(policy):
    for slop_ns in (7, 49_999_999, 123_456_789):
        for over in (0, 1):
            synchronizer = make_synchronizer(policy, PairingSettings(slop_ns, S))
            synchronizer.add_rgb(S, None, 0)
            synchronizer.add_x(S + slop_ns + over, None, 0)
            synchronizer.poll(2 * S)
            assert synchronizer.drops['rgb_no_partner'] == over


@policies('approximate')
def test_a_match_across_a_pair_made_before_is_not_made(policy):
    synchronizer = made_by(policy)
    assert feed(synchronizer, 'r100 r133 x130') == [(133, 130)]
    assert feed(synchronizer, 'x140') == []  # which message_filters matches with r100
    assert synchronizer.drops == {'rgb_no_partner': 1, 'x_unused': 1}
    assert feed(synchronizer, 'r166 x170') == [(166, 170)]


# ---------------------------------------------------------------- what is let go, and when


@borrowed
@pytest.mark.parametrize(('kind', 'other', 'reason'), [
    ('r', 'x', 'rgb_no_partner'), ('x', 'r', 'x_unused')])
def test_a_frame_is_let_go_as_soon_as_no_partner_can_come(policy, kind, other, reason):
    reach = 50 if policy == 'approximate' else 0
    synchronizer = made_by(policy)
    feed(synchronizer, f'{kind}100 {kind}201')
    assert feed(synchronizer, f'{other}{100 + reach}') != []
    feed(synchronizer, f'{kind}231')
    assert sum(synchronizer.waiting) == 2 and not synchronizer.drops
    assert feed(synchronizer, f'{other}{232 + reach}') == []
    assert sum(synchronizer.waiting) == 1 and synchronizer.drops == {reason: 2}
    assert len(feed(synchronizer, f'{kind}232')) == 1


@policies('approximate')
def test_a_frame_just_within_the_slop_of_one_that_is_taken_is_let_go_too(policy):
    synchronizer = made_by(policy)
    assert feed(synchronizer, 'r100 r140 x150') == [(140, 150)]
    assert synchronizer.waiting == (0, 0) and synchronizer.drops == {'rgb_no_partner': 1}


@every_policy
@pytest.mark.parametrize('kind', ['r', 'x'])
def test_a_stream_on_its_own_keeps_the_newest_frames_of_its_queue(policy, kind):
    synchronizer = made_by(policy, max_wait=10**6, queue_size=3)
    feed(synchronizer, ' '.join(f'{kind}{100 * k}' for k in range(1, 11)))
    name, other = ('rgb', 'x') if kind == 'r' else ('x', 'r')
    assert synchronizer.waiting == ((3, 0) if kind == 'r' else (0, 3))
    assert synchronizer.drops == {f'{name}_queue_full': 7}
    assert feed(synchronizer, f'{other}800 {other}900') == [(800, 800), (900, 900)]


@borrowed
def test_the_queue_here_and_that_of_message_filters_hold_the_same(policy):
    synchronizer = made_by(policy, slop=10**5, queue_size=2)
    feed(synchronizer, 'r1100 r1200 r1300')
    assert feed(synchronizer, 'x1100') == ([] if policy == 'exact' else [(1200, 1100)])
    rest = feed(synchronizer, 'x1200 x1300')
    assert rest == ([(1200, 1200), (1300, 1300)] if policy == 'exact' else [(1300, 1200)])


@every_policy
@pytest.mark.parametrize(('kind', 'stream'), [('r', 'rgb'), ('x', 'x')])
def test_useless_stamps_are_counted_by_reason_and_never_paired(policy, kind, stream):
    synchronizer = made_by(policy)
    other = 'x' if kind == 'r' else 'r'
    assert feed(synchronizer, f'{other}0 {kind}0 {kind}-5 {other}-5') == []
    assert feed(synchronizer, f'{kind}500 {kind}500 {kind}450 {kind}300 {kind}510') == []
    assert synchronizer.drops[f'{stream}_no_stamp'] == 2
    assert synchronizer.drops[f'{stream}_duplicate'] == 1
    assert synchronizer.drops[f'{stream}_out_of_order'] == 2
    assert feed(synchronizer, f'{other}510 {kind}543 {other}543') == [(510, 510), (543, 543)]


@every_policy
def test_drivers_that_never_stamp_make_no_pair(policy):
    synchronizer = made_by(policy)
    for k in range(100):
        assert synchronizer.add_rgb(0, None, k * MS) == synchronizer.add_x(0, None, k * MS) == []
    assert synchronizer.drops == {'rgb_no_stamp': 100, 'x_no_stamp': 100}


@every_policy
@pytest.mark.parametrize('offset_ns', [-5 * S, 5 * S])
@pytest.mark.parametrize('stamp_ns', [1, 2**31 * S - 1, 2**31 * S + 2 * S])
def test_stamps_at_the_ends_of_their_range_stop_nothing(policy, stamp_ns, offset_ns):
    synchronizer = made_by(policy, x_offset_ns=offset_ns)
    synchronizer.add_rgb(stamp_ns, None, 0)
    synchronizer.add_x(stamp_ns, None, 0)
    synchronizer.reset()
    synchronizer.add_rgb(100 * S, None, 0)
    assert stamps(synchronizer.add_x(100 * S - offset_ns, None, 0)) == [
        (100 * S, 100 * S - offset_ns)]


# ---------------------------------------------------------------- settings that change


@every_policy
def test_the_offset_may_change_while_frames_wait(policy):
    synchronizer = made_by(policy, slop=5, x_offset_ns=-50 * MS)
    feed(synchronizer, 'x190')
    for _ in range(2):
        synchronizer.settings = replace(synchronizer.settings, x_offset_ns=-40 * MS)
    assert feed(synchronizer, 'r150 r200 x240') == [(150, 190), (200, 240)]
    assert not synchronizer.drops and not synchronizer.clock_jumps


@tolerant
def test_the_slop_may_change_while_frames_wait(policy):
    synchronizer = made_by(policy, slop=1000)
    feed(synchronizer, 'r1000 r1033')
    synchronizer.settings = replace(synchronizer.settings, slop_ns=5 * MS)
    assert feed(synchronizer, 'x1045 r1066 x1066', now_ns=200 * MS) == [(1066, 1066)]


# ---------------------------------------------------------------- clocks that jump


@every_policy
@pytest.mark.parametrize(('x_hz', 'exact'), [(10, 100), (25, 50), (60, 300)])
def test_a_bag_in_a_loop_makes_its_pairs_every_time(policy, x_hz, exact):
    rgb, x = periodic(30, 10), periodic(x_hz, 10)
    sent = [[(loop * 10 * S + t, t) for loop in range(3) for t in times] for times in (rgb, x)]
    synchronizer = made_by(policy)
    made = play(synchronizer, [*arriving('r', sent[0]), *arriving('x', sent[1], 2 * MS)])
    loops = [[pair for now, pair in made if loop * 10 * S < now - S < (loop + 1) * 10 * S]
             for loop in range(3)]
    expected = exact if policy == 'exact' else min(len(rgb), len(x))
    assert [len(loop) for loop in loops] == pytest.approx([expected] * 3, abs=2)
    assert synchronizer.clock_jumps == 2
    assert accounted(synchronizer, 3 * (len(rgb) + len(x)), len(made))


@every_policy
@pytest.mark.parametrize(('first', 'second'), ['rx', 'xr'])
def test_a_jump_back_never_pairs_across_the_clocks(policy, first, second):
    synchronizer = made_by(policy, slop=30)
    feed(synchronizer, f'{first}9940 {second}9930 {first}9980')
    # `first` is back at 1000 while `second` still delivers the end of the old loop.
    made = feed(synchronizer, f'{first}1000 {second}9960 {first}1033 {second}9990 '
                              f'{second}1000 {second}1033 {first}1066 {second}1066')
    assert made == [(1000, 1000), (1033, 1033), (1066, 1066)]
    assert synchronizer.clock_jumps == 1
    assert synchronizer.drops['x_reset' if second == 'x' else 'rgb_reset'] >= 2


@every_policy
def test_simulated_time_that_starts_again_goes_on_pairing(policy):
    synchronizer = made_by(policy)
    for start in (50_000, 100):
        made = []
        for k in range(20):
            text = f'r{start + 33 * k} x{start + 33 * k}'
            made += feed(synchronizer, text, now_ns=(start + 33 * k) * MS)
        assert len(made) == 20
    assert synchronizer.clock_jumps == 1 and not synchronizer.drops


@every_policy
def test_reset_forgets_frames_and_clocks_but_not_the_counts(policy):
    synchronizer = made_by(policy, slop=2)
    feed(synchronizer, 'r0 r5000 x5005 r5005')
    synchronizer.reset()
    assert synchronizer.waiting == (0, 0) and synchronizer.next_deadline_ns is None
    counts = dict(synchronizer.drops)
    assert counts['rgb_no_stamp'] == 1
    assert feed(synchronizer, 'r4990 x4990') == [(4990, 4990)]
    assert synchronizer.drops == counts and synchronizer.clock_jumps == 0


MESS = st.lists(
    st.tuples(st.sampled_from('rx'),
              st.sampled_from([0, 1, 7, 16, 33, 33, 33, 60, 250, 5000, -1, -20, -201, -9000,
                               None]),
              st.sampled_from([0, 5, 40, 2000, -8000])),
    max_size=50)


@every_policy
@always
@given(MESS, st.integers(0, 60), st.integers(1, 5), st.integers(-50, 50))
def test_invariants_hold_whatever_arrives(policy, mess, slop, size, offset):
    synchronizer = made_by(policy, slop, queue_size=size, x_offset_ns=offset * MS)
    stamp, now, used, last, jumps = {'r': 10_000, 'x': 10_000}, 10_000, set(), (0, 0), 0
    for number, (kind, step, passed) in enumerate(mess):
        now += passed
        stamp[kind] = 0 if step is None else stamp[kind] + step
        add = synchronizer.add_rgb if kind == 'r' else synchronizer.add_x
        made = add(stamp[kind] * MS, number, now * MS)
        if synchronizer.clock_jumps != jumps:
            last, jumps = (0, 0), synchronizer.clock_jumps
        for pair in made:
            assert abs(pair.offset_ns + offset * MS) <= (0 if policy == 'exact' else slop * MS)
            assert not {pair.rgb, pair.x} & used
            used |= {pair.rgb, pair.x}
            assert mess[pair.rgb][0] == 'r' and mess[pair.x][0] == 'x'
            assert pair.rgb_stamp_ns > last[0] and pair.x_stamp_ns > last[1]
            last = (pair.rgb_stamp_ns, pair.x_stamp_ns)
        assert max(synchronizer.waiting) <= size
        assert accounted(synchronizer, number + 1, len(used) // 2)
        assert set(synchronizer.drops) <= set(DROP_REASONS)
