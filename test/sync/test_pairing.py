# Copyright 2026 rgbx_seg_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""Pairing of two streams, on a fake clock."""

from dataclasses import replace
from itertools import pairwise
import random
from statistics import mean

import pytest
from rgbx_seg_ros.errors import ParameterError
from rgbx_seg_ros.sync.pairing import (
    CLOCK_SETTLE_NS,
    PairingSettings,
)
from support.pairing_reference import closest_first
from support.pairing_streams import (
    arriving,
    feed,
    FOREVER,
    in_ms,
    live,
    MS,
    pairer_ms,
    periodic,
    play,
    S,
    stamps,
)

# ---------------------------------------------------------------- which frames pair, and when


@pytest.mark.parametrize('order', ['r100 x100', 'x100 r100'])
def test_frames_in_step_pair_when_the_second_of_them_arrives(order):
    pairer = pairer_ms()
    feed(pairer, 'r33 x33 r66 x66')
    first, second = order.split()
    assert feed(pairer, first) == []
    assert feed(pairer, second) == [(100, 100)]
    assert pairer.waiting == (0, 0)


@pytest.mark.parametrize('order', ['x80 r90 r100 x100', 'r80 r100 x85 x100', 'r98 x99 r100 x100'])
def test_frames_in_step_wait_for_nothing_even_behind_undecided_ones(order):
    pairer = pairer_ms()
    assert feed(pairer, order)[-1] == (100, 100)
    assert pairer.waiting == (0, 0)


def test_a_pair_carries_the_frames_themselves_and_their_own_stamps():
    pairer = pairer_ms(x_offset_ns=-5 * MS)
    rgb, x = object(), object()
    pairer.add_rgb(100 * MS, rgb, 0)
    [pair] = pairer.add_x(105 * MS, x, 0)
    assert pair.rgb is rgb and pair.x is x
    assert (pair.rgb_stamp_ns, pair.x_stamp_ns, pair.offset_ns) == (100 * MS, 105 * MS, 5 * MS)


def test_a_later_rgb_frame_that_is_nearer_gets_the_x_frame():
    pairer = pairer_ms()
    assert feed(pairer, 'r100 x112') == []
    assert feed(pairer, 'r120') == []  # an x frame at 121 would be nearer to it
    assert feed(pairer, 'x150') == [(120, 112)]
    assert pairer.drops == {'rgb_no_partner': 1}


def test_a_pair_comes_out_as_soon_as_the_next_frame_is_seen_to_be_farther():
    pairer = pairer_ms()
    assert feed(pairer, 'r100 x105') == []
    assert feed(pairer, 'r133') == [(100, 105)]
    assert pairer.waiting == (1, 0)


def test_of_two_equally_near_partners_the_earlier_wins():
    assert feed(pairer_ms(), 'r100 x110 r120 x140') == [(100, 110)]
    assert feed(pairer_ms(), 'x100 r110 x120 r140') == [(110, 100)]


def test_a_chain_of_shrinking_gaps_is_paired_from_its_closest_end():
    # Gaps 9, 8, 7, 6, then a gap: the last two pair, and what remains before pairs from the right.
    assert feed(pairer_ms(), 'r100 x109 r117 x124 r130 x160') == [(117, 109), (130, 124)]
    assert feed(pairer_ms(), 'x100 r109 x117 r124 x160') == [(109, 100), (124, 117)]


def test_the_loser_of_an_x_frame_takes_its_second_best():
    assert feed(pairer_ms(), 'x90 r100 x106 r109 x140 r150') == [(100, 90), (109, 106)]


def test_slop_is_inclusive():
    assert feed(pairer_ms(slop=20), 'r100 x120 r160') == [(100, 120)]
    assert feed(pairer_ms(slop=19), 'r100 x120 r160') == []
    assert feed(pairer_ms(slop=0), 'r100 x100') == [(100, 100)]


def test_an_rgb_frame_without_partner_goes_at_once_when_x_is_already_past_it():
    pairer = pairer_ms()
    feed(pairer, 'x100 r150 x200')
    assert pairer.drops == {'rgb_no_partner': 1, 'x_unused': 1}
    assert pairer.waiting == (0, 1)


def test_a_promised_period_lets_nearly_equal_stamps_pair_at_once():
    pairer = pairer_ms(rgb_min_period_ns=16 * MS, x_min_period_ns=20 * MS)
    assert feed(pairer, 'r100 x101') == [(100, 101)]
    assert feed(pairer, 'x133 r134') == [(134, 133)]
    assert feed(pairer, 'r200 x209') == []  # rgb may come again at 216, nearer to 209
    assert feed(pairer, 'r216 x300 r310') == [(216, 209), (310, 300)]


def test_x_offset_shifts_x_and_may_change_while_frames_wait():
    pairer = pairer_ms(slop=5, x_offset_ns=-50 * MS)
    assert feed(pairer, 'r100 x150') == [(100, 150)]
    feed(pairer, 'x190')
    pairer.settings = replace(pairer.settings, x_offset_ns=-40 * MS)
    assert feed(pairer, 'r150') == [(150, 190)]
    assert feed(pairer, 'r200 x240') == [(200, 240)]
    assert not pairer.drops and not pairer.clock_jumps


def test_slop_and_wait_may_change_while_frames_wait():
    pairer = pairer_ms(slop=20, max_wait=100)
    feed(pairer, 'r100 x115')
    pairer.settings = replace(pairer.settings, slop_ns=12 * MS, max_wait_ns=30 * MS)
    pairer.poll(0)
    assert pairer.drops == {'rgb_no_partner': 1}
    feed(pairer, 'r123')
    assert pairer.next_deadline_ns == 30 * MS
    assert in_ms(pairer.poll(30 * MS)) == [(123, 115)]


# ---------------------------------------------------------------- deadline and queue bound


def test_the_deadline_forces_the_best_pair_known():
    pairer = pairer_ms(max_wait=50)
    feed(pairer, 'x90', now_ns=1 * MS)
    feed(pairer, 'r100', now_ns=2 * MS)
    assert pairer.next_deadline_ns == 52 * MS
    assert pairer.poll(52 * MS - 1) == []
    assert in_ms(pairer.poll(52 * MS)) == [(100, 90)]
    assert pairer.next_deadline_ns is None


def test_the_deadline_counts_from_receipt_whatever_the_stamps_say():
    pairer = pairer_ms(max_wait=50)
    pairer.add_rgb(10**18, None, 7 * S)
    assert pairer.next_deadline_ns == 7 * S + 50 * MS
    assert pairer.poll(7 * S + 50 * MS) == []
    assert pairer.drops == {'rgb_no_partner': 1}


def test_the_deadline_of_one_frame_leaves_later_frames_open():
    pairer = pairer_ms(max_wait=50)
    feed(pairer, 'r100', now_ns=0)
    feed(pairer, 'r133', now_ns=33 * MS)
    assert pairer.poll(50 * MS) == []
    assert pairer.waiting == (1, 0)
    assert feed(pairer, 'x133', now_ns=60 * MS) == [(133, 133)]


def test_an_x_frame_that_arrives_with_the_deadline_still_counts():
    pairer = pairer_ms(max_wait=50)
    feed(pairer, 'x90 r100', now_ns=0)
    assert feed(pairer, 'x104', now_ns=50 * MS) == [(100, 104)]


def test_time_alone_on_the_other_stream_meets_the_deadline_too():
    pairer = pairer_ms(max_wait=50)
    feed(pairer, 'x90 r100', now_ns=0)
    assert feed(pairer, 'r133', now_ns=51 * MS) == [(100, 90)]


@pytest.mark.parametrize('kind', ['r', 'x'])
def test_a_stream_on_its_own_fills_its_queue_and_then_loses_the_oldest(kind):
    pairer = pairer_ms(max_wait=FOREVER, queue_size=3)
    feed(pairer, ' '.join(f'{kind}{100 * k}' for k in range(1, 11)))
    assert pairer.waiting == ((3, 0) if kind == 'r' else (0, 3))
    assert pairer.drops == {'rgb_queue_full' if kind == 'r' else 'x_queue_full': 7}
    other = 'x' if kind == 'r' else 'r'
    assert feed(pairer, f'{other}800 {other}900') == [(800, 800), (900, 900)]


def test_a_full_queue_forces_the_best_pair_before_it_drops_anything():
    pairer = pairer_ms(max_wait=FOREVER, queue_size=2)
    assert feed(pairer, 'r100 x105 x200 x300') == [(100, 105)]
    assert not pairer.drops


def test_flush_decides_everything_that_is_left():
    pairer = pairer_ms()
    feed(pairer, 'r100 x110 r140 x145')
    assert in_ms(pairer.flush()) == [(140, 145)]
    assert pairer.waiting == (0, 0)
    feed(pairer, 'x200 x230')
    assert pairer.flush() == []
    assert pairer.drops == {'x_unused': 2}


# ---------------------------------------------------------------- frames that cannot be used


@pytest.mark.parametrize(('kind', 'stream'), [('r', 'rgb'), ('x', 'x')])
def test_unusable_stamps_are_counted_by_reason(kind, stream):
    pairer = pairer_ms()
    feed(pairer, f'{kind}0 {kind}-5 {kind}500 {kind}500 {kind}450 {kind}300 {kind}510')
    assert pairer.drops == {
        f'{stream}_no_stamp': 2, f'{stream}_duplicate': 1, f'{stream}_out_of_order': 2}
    assert sum(pairer.waiting) == 2


def test_a_driver_that_never_stamps_makes_no_pair_and_no_error():
    pairer = pairer_ms(max_wait=10)
    for k in range(100):
        assert pairer.add_rgb(0, None, k * MS) == pairer.add_x(0, None, k * MS) == []
    assert pairer.drops == {'rgb_no_stamp': 100, 'x_no_stamp': 100}


@pytest.mark.parametrize(('field', 'value'), [
    ('slop_ns', -1), ('max_wait_ns', -1), ('queue_size', 0),
    ('rgb_min_period_ns', 0), ('x_min_period_ns', 0),
    ('slop_ns', 2.5e7), ('x_offset_ns', None), ('queue_size', True), ('max_wait_ns', '50')])
def test_a_bad_setting_is_named_with_its_value(field, value):
    with pytest.raises(ParameterError) as error:
        PairingSettings(**{'slop_ns': 0, 'max_wait_ns': 0, field: value})
    assert field in str(error.value) and repr(value) in str(error.value)


# ---------------------------------------------------------------- clocks that jump


@pytest.mark.parametrize(('first', 'second'), ['rx', 'xr'])
def test_a_clock_jump_keeps_the_new_frames_of_both_streams_and_none_of_the_old(first, second):
    pairer = pairer_ms(slop=30)
    feed(pairer, f'{first}9940 {second}9930 {first}9980')  # some still wait when the bag loops
    # `first` is back at 1000 while `second` still delivers the end of the old loop.
    made = feed(pairer, f'{first}1000 {second}9960 {first}1033 {second}9990 '
                        f'{second}1000 {second}1033 {first}1066 {second}1066')
    assert made == [(1000, 1000), (1033, 1033), (1066, 1066)]
    assert pairer.clock_jumps == 1
    names = {'r': 'rgb_reset', 'x': 'x_reset'}
    assert pairer.drops[names[second]] >= 2
    assert set(pairer.drops) <= set(names.values())


@pytest.mark.parametrize('kind', ['r', 'x'])
def test_one_stamp_from_the_future_costs_no_more_than_its_neighbour(kind):
    pairer = pairer_ms()
    made = []
    for k in range(1, 40):
        glitch = 3_600_000 if k == 20 else 0
        for stream in 'rx':
            made += feed(pairer, f'{stream}{1000 + 33 * k + glitch * (stream == kind)}', k * MS)
    assert len(made) >= 37
    assert made == [(1000 + 33 * k,) * 2 for k in range(1, 40) if (1000 + 33 * k,) * 2 in made]


def test_a_second_jump_soon_after_the_first_is_followed_too():
    pairer = pairer_ms()
    made = feed(pairer, 'r9940 x9940 r1000 x1000 r1300 x1300 x1000 x1033 r1000 r1033 r1066 x1066')
    assert made == [(9940, 9940), (1000, 1000), (1300, 1300), (1000, 1000), (1033, 1033),
                    (1066, 1066)]
    assert pairer.clock_jumps == 2 and not pairer.drops


def test_a_jump_forward_of_both_streams_is_followed():
    pairer = pairer_ms()
    made = feed(pairer, 'r1000 x1000 r90000 x1033 x90000 r90033 x90033')
    assert made == [(1000, 1000), (90000, 90000), (90033, 90033)]


def test_a_stream_whose_clock_alone_is_set_back_blocks_the_other_only_for_a_while():
    pairer = pairer_ms()
    feed(pairer, 'r50000 x50000 r1000', now_ns=0)
    feed(pairer, 'x50033', now_ns=CLOCK_SETTLE_NS - 1)
    assert pairer.drops['x_reset'] == 1
    feed(pairer, 'x51000', now_ns=CLOCK_SETTLE_NS)
    assert pairer.waiting == (0, 1)
    assert feed(pairer, 'r51000', now_ns=CLOCK_SETTLE_NS) == [(51000, 51000)]


def test_a_single_very_late_frame_does_not_stop_the_pairs():
    pairer = pairer_ms()
    feed(pairer, 'r5000 x5000 r4000')
    assert feed(pairer, 'r5033 x5033 r5066 x5066') == [(5033, 5033), (5066, 5066)]


def test_a_receive_clock_that_is_set_back_neither_hurries_nor_stops_the_deadline():
    pairer = pairer_ms(max_wait=50)
    feed(pairer, 'x90 r100', now_ns=100 * S)
    assert pairer.poll(100 * S + 20 * MS) == []
    assert pairer.poll(2 * S) == []
    assert pairer.next_deadline_ns == 2 * S + 30 * MS
    assert pairer.poll(2 * S + 29 * MS) == []
    assert in_ms(pairer.poll(2 * S + 30 * MS)) == [(100, 90)]


def test_reset_forgets_frames_and_clocks_but_not_the_counts():
    pairer = pairer_ms()
    feed(pairer, 'r0 r5000 x5005', now_ns=9 * S)
    pairer.reset()
    assert pairer.waiting == (0, 0) and pairer.next_deadline_ns is None
    assert pairer.drops == {'rgb_no_stamp': 1, 'rgb_reset': 1, 'x_reset': 1}
    assert feed(pairer, 'r4990 x4990', now_ns=1 * S) == [(4990, 4990)]
    assert pairer.clock_jumps == 0


# ---------------------------------------------------------------- recordings played in a loop

TRANSPORTS = {
    'none': (0, 0, 0), 'x late': (2 * MS, 40 * MS, 5 * MS), 'rgb late': (60 * MS, 0, 20 * MS)}


@pytest.mark.parametrize('transport', TRANSPORTS)
@pytest.mark.parametrize(('x_hz', 'count', 'mean_ms'), [
    (9, 90, 7.41), (25, 250, 8.0), (60, 300, 0.0)])
def test_a_bag_played_in_a_loop_makes_all_pairs_every_time(x_hz, count, mean_ms, transport):
    rng = random.Random(x_hz)
    rgb_delay, x_delay, jitter = TRANSPORTS[transport]
    rgb, x = periodic(30, 10), periodic(x_hz, 10)
    pairer = pairer_ms(slop=20, max_wait=150)
    sent_rgb = [(loop * 10 * S + t, t) for loop in range(3) for t in rgb]
    sent_x = [(loop * 10 * S + t, t) for loop in range(3) for t in x]
    made = [pair for _, pair in play(pairer, [
        *arriving('r', sent_rgb, rgb_delay, jitter, rng),
        *arriving('x', sent_x, x_delay, jitter, rng)])] + pairer.flush()
    starts = [0, *(i for i in range(1, len(made))
                   if made[i].rgb_stamp_ns < made[i - 1].rgb_stamp_ns), len(made)]
    loops = [made[a:b] for a, b in pairwise(starts)]
    assert len(loops) == 3 and pairer.clock_jumps == 2
    # What is still open when the bag starts again is thrown away: at most the last pair or two.
    assert [len(loop) for loop in loops[:2]] == pytest.approx([count, count], abs=2)
    assert len(loops[2]) == count
    nearest = sorted(min(abs(a - b) for a in rgb) for b in x)[:count]
    for loop in loops:
        offset = mean(abs(pair.offset_ns) for pair in loop) / MS
        assert offset == pytest.approx(mean(nearest) / MS, abs=0.1)
        assert offset == pytest.approx(mean_ms, abs=0.1)


def test_a_bag_of_ten_pairs_in_a_loop_loses_none():
    times = periodic(30, 0.34)
    sent = [(loop * S // 3 + t, t) for loop in range(6) for t in times]
    made = play(pairer_ms(), [*arriving('r', sent), *arriving('x', sent)])
    assert [pair.rgb_stamp_ns for _, pair in made] == 6 * times and len(times) == 10
    assert all(pair.offset_ns == 0 for _, pair in made)


@pytest.mark.parametrize('x_hz', [9, 25, 30, 60])
def test_live_pairs_of_jittering_streams_equal_the_offline_reference(x_hz):
    rng = random.Random(x_hz)
    rgb, x = periodic(30, 3, 8 * MS, rng), periodic(x_hz, 3, 4 * MS, rng)
    pairer = pairer_ms(slop=25, max_wait=200)
    made = [pair for _, pair in play(pairer, [
        *arriving('r', live(rgb), 3 * MS, 9 * MS, rng),
        *arriving('x', live(x), 20 * MS, 9 * MS, rng)])] + pairer.flush()
    assert stamps(made) == closest_first(rgb, x, 25 * MS)
    assert len(made) > 0.8 * min(len(rgb), len(x))


def test_no_pair_comes_later_than_the_longest_wait_after_its_rgb_frame_arrived():
    rng = random.Random(1)
    rgb, x = periodic(30, 4, 8 * MS, rng), periodic(25, 4, 8 * MS, rng)
    arrivals = [*arriving('r', live(rgb), 3 * MS, 20 * MS, rng),
                *arriving('x', live(x), 20 * MS, 20 * MS, rng)]
    received = {stamp: now for now, kind, stamp in arrivals if kind == 'r'}
    made = play(pairer_ms(slop=20, max_wait=40), arrivals)
    waits = [now - received[pair.rgb_stamp_ns] for now, pair in made]
    assert len(waits) > 70 and max(waits) == 40 * MS
