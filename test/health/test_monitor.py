# Copyright 2026 rgbx_seg_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""When a sensor is trusted, when no longer, when again, and what is published meanwhile."""

from itertools import pairwise, product
import random

import pytest
from rgbx_seg_ros.errors import ParameterError
from rgbx_seg_ros.health.monitor import FAILED, HealthSettings, MODES, POLICIES, STATES
from support.health_rig import fail, Rig, running


def test_a_sensor_that_falls_silent_is_late_then_dead():
    rig = running(late_ms=350, dead_ms=1500)
    for until_ms, state in ((2349, 'ok'), (2350, 'late'), (3499, 'late'), (3500, 'dead')):
        rig.wait(until_ms)
        assert (until_ms, rig.x) == (until_ms, state)
    assert rig.health.ages_ms == {'rgb': 1500.0, 'x': 1500.0}


@pytest.mark.parametrize('period_ms, late_ms, dead_ms', [
    (33, 200, 1500), (111, 333, 1500), (1000, 3000, 5000)])
def test_the_limits_follow_the_rate_of_a_slow_camera_but_have_a_lower_bound(
        period_ms, late_ms, dead_ms):
    rig = Rig()
    rig.run(12 * period_ms, period_ms)
    last_ms = rig.now_ms
    for after_ms, state in ((late_ms - 1, 'ok'), (late_ms, 'late'),
                            (dead_ms - 1, 'late'), (dead_ms, 'dead')):
        rig.wait(last_ms + after_ms)
        assert (after_ms, rig.x) == (after_ms, state)


def test_lost_frames_do_not_change_what_is_usual():
    rig = Rig()
    rng = random.Random(1)
    for at_ms in range(0, 6000, 111):
        if rng.random() > 0.3 or at_ms < 500:
            rig.frame('x', at_ms)
    last_ms = rig.now_ms
    rig.wait(last_ms + 332)
    assert rig.x == 'ok'
    rig.wait(last_ms + 333)
    assert rig.x == 'late'


def test_a_late_sensor_is_ok_with_its_next_frame_and_was_in_use_all_the_time():
    rig = running()
    rig.run(3000, x=False)
    assert rig.x == 'late'
    rig.frame('x')
    assert rig.x == 'ok'
    assert rig.modes == ['wait', 'fusion']


@pytest.mark.parametrize('pause_ms', [500, 1000])
def test_the_shutter_pause_of_a_thermal_camera_fails_nothing(pause_ms):
    silent, held = running(), running()
    silent.run(2000 + pause_ms, x=False)
    silent.run(6000)
    held.run(2000 + pause_ms, x={'pixels': -1})
    held.run(6000)
    assert silent.modes == held.modes == ['wait', 'fusion']


def test_the_same_pixels_under_new_stamps_are_frozen_after_a_time():
    rig = running(frozen_ms=2000)
    rig.frame('x', 2100, pixels=-1)
    rig.run(4000, x={'pixels': -1})
    assert rig.x == 'ok'
    rig.frame('x', 4099, pixels=-1)
    assert rig.x == 'ok'
    rig.frame('x', 4100, pixels=-1)
    assert rig.x == 'frozen'
    assert rig.health.states['rgb'] == 'ok'


def test_a_thermal_camera_of_9_hz_that_repeats_its_frames_at_30_hz_is_not_frozen():
    rig = Rig()
    for at_ms in range(0, 10_000, 33):
        rig.frame('rgb', at_ms)
        rig.frame('x', at_ms, pixels=at_ms // 111)
    assert rig.modes == ['wait', 'fusion']
    assert rig.x == 'ok'


def test_frozen_can_be_turned_off_for_cameras_without_noise():
    rig = running(frozen_ms=0)
    rig.run(60_000, x={'pixels': -1})
    assert rig.x == 'ok'
    rig.run(63_000, x=False)
    assert rig.x == 'dead'
    rig.run(65_000, x={'pixels': -1})
    assert rig.x == 'ok'


def test_a_slow_camera_may_repeat_a_frame():
    rig = Rig()
    rig.run(20_000, 2000)
    rig.run(28_000, 2000, x={'pixels': 0})  # first seen at 22 s
    assert rig.x == 'ok'
    rig.run(32_000, 2000, x={'pixels': 0})
    assert rig.x == 'frozen'


def test_silence_alone_does_not_make_a_sensor_frozen():
    rig = running(dead_ms=9000, frozen_ms=1000)
    rig.wait(9000)
    assert rig.x == 'late'


def test_a_saturated_frame_fails_the_sensor_at_once():
    rig = running(saturated_share=0.98)
    rig.frame('x', 2100, share=0.98)
    assert rig.x == 'ok'
    rig.frame('x', 2200, share=0.981)
    assert rig.x == 'saturated'


def test_saturation_that_was_not_measured_stays_as_it_was():
    rig = running()
    rig.frame('x', 2100, share=1.0)
    rig.run(6000, x={'share': None})
    assert rig.x == 'saturated'
    rig.run(6100)
    rig.run(8000, x={'share': None})
    assert rig.x == 'ok'


def test_saturated_can_be_turned_off():
    rig = running(saturated_share=1)
    rig.run(4000, x={'share': 1.0})
    assert rig.x == 'ok'


def test_of_several_faults_the_gravest_is_named():
    rig = running()
    rig.run(5000, x={'pixels': -1, 'share': 1.0})
    assert rig.x == 'saturated'
    rig.run(5100, x={'pixels': -1})
    assert rig.x == 'frozen'
    rig.wait(5100 + 1500)
    assert rig.x == 'dead'
    rig.frame('x', share=1.0)
    assert rig.x == 'saturated'


def test_frames_that_cannot_be_paired_are_no_sign_of_life():
    rig = running()
    for stamp_ms in (12_000, 11_900, 0, -5):  # the same, a little older, none
        for at_ms in range(rig.now_ms, rig.now_ms + 500, 100):
            rig.frame('x', at_ms, stamp_ms=stamp_ms)
    rig.wait(4000)
    assert rig.x == 'dead'
    assert rig.health.ages_ms['x'] == 2000.0


# Start

def test_before_the_first_frame_a_sensor_is_late_and_dead_after_a_grace_period():
    rig = Rig(start_ms=10_000)
    rig.wait(5000)
    assert (rig.health.states, rig.health.mode) == ({'rgb': 'late', 'x': 'late'}, 'wait')
    rig.wait(14_999)
    assert rig.x == 'late'
    rig.wait(15_000)
    assert rig.health.states == {'rgb': 'dead', 'x': 'dead'}
    assert rig.health.ages_ms == {'rgb': None, 'x': None}


@pytest.mark.parametrize('policy', POLICIES)
def test_at_the_start_every_policy_waits_for_both_sensors(policy):
    rig = Rig(policy=policy)
    rig.run(9000, x=False)
    assert rig.modes == ['wait']
    rig.frame('x')
    assert rig.modes == ['wait', 'fusion']


def test_a_sensor_that_never_comes_is_given_up_after_the_grace_period():
    rig = Rig(policy='rgb_only')
    rig.run(9900, x=False)
    assert rig.modes == ['wait']
    rig.run(10_100, x=False)
    assert rig.modes == ['wait', 'rgb_only']
    rig.run(12_000)
    assert rig.modes == ['wait', 'rgb_only', 'fusion']


def test_a_sensor_whose_first_frame_is_saturated_is_not_ok_first():
    rig = Rig()
    rig.frame('rgb')
    rig.frame('x', share=1.0)
    assert rig.x == 'saturated'
    assert rig.modes == ['wait']


# Recovery

@pytest.mark.parametrize('state', FAILED)
def test_a_sensor_that_failed_is_ok_once_it_was_good_for_the_recovery_time(state):
    rig = running(recovery_ms=1000)
    fail(rig, state)
    rig.run(6000)  # good from 5100 on
    rig.frame('x', 6099)
    assert rig.x == state
    rig.wait(6100)
    assert rig.x == state, 'without a frame nothing tells that it is well'
    rig.frame('x', 6100)
    assert rig.x == 'ok'


@pytest.mark.parametrize('state', FAILED)
def test_without_a_recovery_time_the_first_good_frame_counts(state):
    rig = running(recovery_ms=0)
    fail(rig, state)
    rig.frame('x', 5100)
    assert rig.x == 'ok'


@pytest.mark.parametrize('state', FAILED)
@pytest.mark.parametrize('relapse', ['pause', 'repeats', 'saturated'])
def test_a_relapse_starts_recovery_anew(state, relapse):
    rig = running(recovery_ms=3000)
    fail(rig, state)
    rig.run(6000)
    if relapse == 'saturated':
        rig.run(7000, x={'share': 1.0})
    else:  # half of the limits of dead and of frozen
        rig.run(7000, x=False if relapse == 'pause' else {'pixels': 0})
    since_ms = 7100
    rig.run(since_ms + 2900)
    assert rig.x in FAILED
    rig.run(since_ms + 3000)
    assert rig.x == 'ok'


def test_a_pause_of_half_the_limit_starts_recovery_anew_whatever_the_pixels():
    rig = running(recovery_ms=3000, dead_ms=1500, frozen_ms=0)
    fail(rig, 'dead')
    rig.run(6000)
    rig.run(6700, x=False)
    rig.run(6800 + 2900)
    assert rig.x == 'dead'
    rig.run(6800 + 3000)
    assert rig.x == 'ok'


def test_half_a_limit_less_one_frame_does_not_hold_recovery_up():
    rig = running(recovery_ms=3000, dead_ms=1500)
    fail(rig, 'dead')
    rig.run(6000)
    rig.run(6600, x=False)
    rig.run(8100)
    assert rig.x == 'ok'


def test_a_slow_sensor_recovers_too():
    rig = Rig()
    rig.run(20_000, 2000)
    rig.run(40_000, 2000, x=False)
    assert rig.x == 'dead'
    rig.run(42_000, 2000)
    assert rig.x == 'dead'
    rig.run(44_000, 2000)
    assert rig.x == 'ok'


# Modes

def expected_mode(policy, rgb, x):
    """Tell the mode by the words of the contract."""
    rgb_good, x_good = rgb not in FAILED, x not in FAILED
    if rgb_good and x_good:
        return 'fusion'
    if policy == 'rgb_only' and rgb_good:
        return 'rgb_only'
    if policy == 'x_only' and x_good:
        return 'x_only'
    if policy == 'unlabeled' and rgb != 'dead':
        return 'unlabeled'
    return 'wait'


@pytest.mark.parametrize('policy, rgb, x', list(product(POLICIES, STATES, STATES)))
def test_the_mode_follows_from_the_policy_and_both_states(policy, rgb, x):
    rig = running(policy=policy)
    streams = {'ok': True, 'late': False, 'dead': False, 'frozen': {'pixels': -1},
               'saturated': {'share': 1.0}}
    # Long enough for frozen and dead; a late sensor falls silent for the end alone.
    rig.run(5000, rgb=rgb == 'late' or streams[rgb], x=x == 'late' or streams[x])
    rig.run(5500, rgb=streams[rgb], x=streams[x])
    assert rig.health.states == {'rgb': rgb, 'x': x}
    assert rig.health.mode == expected_mode(policy, rgb, x)
    assert rig.health.mode in MODES


@pytest.mark.parametrize('state', FAILED)
def test_an_empty_mask_is_published_only_while_rgb_headers_come(state):
    rig = running(policy='unlabeled')
    fail(rig, state)
    rig.run(8000, rgb=False, x=False)
    assert rig.modes == ['wait', 'fusion', 'unlabeled', 'wait']


# Clocks and settings

def test_a_bag_that_starts_again_fails_nothing():
    rig = running()
    for loop in range(3):
        for at_ms in range(2100, 5000, 100):
            rig.frame('rgb', at_ms + 3000 * loop, stamp_ms=at_ms)
            rig.frame('x', at_ms + 3000 * loop, stamp_ms=at_ms)
    assert rig.modes == ['wait', 'fusion']
    rig.wait(rig.now_ms + 1500)
    assert rig.x == 'dead'


def test_a_single_stamp_far_in_the_future_does_not_silence_a_sensor():
    rig = running()
    rig.frame('x', 2050, stamp_ms=600_000)
    rig.run(6000)
    assert rig.modes == ['wait', 'fusion']
    assert rig.health.ages_ms['x'] == 0


def test_a_receive_clock_that_is_set_back_neither_ages_nor_refreshes_a_sensor():
    rig = running()
    rig.wait(3000)
    rig.wait(500)
    assert rig.health.ages_ms['x'] == 1000
    rig.wait(999)
    assert rig.x == 'late'
    rig.wait(1000)
    assert rig.x == 'dead'
    rig.run(3000)
    assert rig.health.mode == 'fusion'
    assert rig.health.ages_ms['x'] == 0


def test_new_settings_count_while_it_runs():
    rig = running(policy='wait')
    rig.run(5000, x=False)
    assert rig.health.mode == 'wait'
    rig.health.settings = HealthSettings(policy='rgb_only')
    assert rig.health.mode == 'rgb_only'
    rig.run(6200)
    rig.health.settings = HealthSettings(policy='rgb_only', frozen_ms=500)
    rig.run(6800, x={'pixels': -1})
    assert rig.x == 'frozen'
    rig.health.settings = HealthSettings(policy='rgb_only', recovery_ms=200, frozen_ms=500)
    rig.run(7100)
    assert rig.health.mode == 'fusion'


def test_a_modality_of_another_name_is_refused():
    with pytest.raises(ParameterError, match=r"'thermal' is unknown; .*rgb, x"):
        running().frame('thermal')


# Figures for diagnostics

def test_rate_and_jitter_are_those_of_the_receipts():
    rig = Rig()
    rig.wait(0)
    assert rig.health.summary() == {
        'mode': 'wait',
        'rgb_state': 'late', 'rgb_age_ms': None, 'rgb_rate_hz': None, 'rgb_stamp_rate_hz': None,
        'rgb_jitter_ms': None, 'rgb_saturation': None,
        'x_state': 'late', 'x_age_ms': None, 'x_rate_hz': None, 'x_stamp_rate_hz': None,
        'x_jitter_ms': None, 'x_saturation': None}
    for k in range(100):
        rig.frame('rgb', 40 * k)
    facts = rig.health.summary()
    assert facts['rgb_rate_hz'] == pytest.approx(25)
    assert facts['rgb_jitter_ms'] == 0
    assert facts['x_rate_hz'] is None


def test_the_rate_by_the_stamps_is_that_of_a_bag_however_fast_it_is_played():
    rig = Rig()
    for k in range(100):
        rig.frame('x', 80 * k, stamp_ms=10_000 + 40 * k)
    facts = rig.health.summary()
    assert facts['x_rate_hz'] == pytest.approx(12.5)
    assert facts['x_stamp_rate_hz'] == pytest.approx(25)
    rig.frame('x', 8000, stamp_ms=10_000)  # it starts again
    assert rig.health.summary()['x_stamp_rate_hz'] is None
    rig.frame('x', 8080, stamp_ms=10_040)
    assert rig.health.summary()['x_stamp_rate_hz'] == pytest.approx(25)


def test_the_newest_saturation_that_was_measured_is_told():
    rig = Rig()
    rig.frame('x', 0, share=0.25)
    rig.frame('x', 40, share=None)
    assert rig.health.summary()['x_saturation'] == 0.25


def test_jitter_is_how_far_the_periods_lie_off_the_usual_one():
    rig = Rig()
    for k in range(60):
        rig.frame('x', 100 * k + (20 if k % 10 == 9 else 0))
    facts = rig.health.summary()
    assert facts['x_rate_hz'] == pytest.approx(10, abs=0.1)
    assert facts['x_jitter_ms'] == 20


def test_the_rate_of_a_silent_sensor_sinks_to_zero():
    rig = running()
    rates = []
    for until_ms in (2050, 3000, 4000, 6000, 8000):
        rig.wait(until_ms)
        rates.append(rig.health.summary()['x_rate_hz'])
    assert rates[0] == pytest.approx(10)
    assert all(a > b for a, b in pairwise(rates))
    assert rates[-1] == 0


@pytest.mark.parametrize('table', [STATES, MODES])
def test_each_state_and_mode_is_explained_in_one_line(table):
    assert all(text and '\n' not in text for text in table.values())


# Settings

@pytest.mark.parametrize('name, value, hint', [
    ('policy', 'ignore', 'wait, rgb_only, x_only, unlabeled'), ('policy', [], 'wait'),
    ('late_ms', 0, 'more than 0'), ('late_ms', '9', 'finite number'),
    ('late_ms', True, 'finite number'), ('dead_ms', 199.9, 'the value of late_ms'),
    ('late_periods', 0.9, '1 or more'), ('dead_periods', 2, 'the value of late_periods'),
    ('start_ms', -1, '0 or more'), ('frozen_ms', -0.1, '0 or more'),
    ('frozen_ms', float('inf'), 'finite number'), ('recovery_ms', float('nan'), 'finite number'),
    ('recovery_ms', -1, '0 or more'), ('saturated_share', 0.49, '0.5 to 1'),
    ('saturated_share', 1.01, '0.5 to 1')])
def test_a_setting_that_makes_no_sense_is_refused_by_its_name(name, value, hint):
    with pytest.raises(ParameterError, match=f'^{name} is ') as error:
        HealthSettings(**{name: value})
    assert repr(value) in str(error.value)
    assert hint in str(error.value)


def test_the_bounds_themselves_are_allowed():
    HealthSettings(late_ms=1500, late_periods=5, start_ms=0, frozen_ms=0, saturated_share=0.5,
                   recovery_ms=0)
    HealthSettings(late_periods=1, dead_periods=3, saturated_share=1)
