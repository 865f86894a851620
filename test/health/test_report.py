# Copyright 2026 rgbx_seg_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""What the node tells about itself: names, levels and sentences."""

from dataclasses import replace

import pytest
from rgbx_seg_ros.health.monitor import Health, HealthSettings, STATES
from rgbx_seg_ros.health.report import Assessor, DIAGNOSTICS, DROPS, Level
from rgbx_seg_ros.health.telemetry import Telemetry
from support.health_reports import HEALTHY, sample_report


def assess(*reports):
    """Return the sections of the last of the reports, told one after another."""
    assessor = Assessor()
    for report in reports:
        sections = assessor.assess(report)
    return sections


def health(**changes):
    return {**HEALTHY, **changes}


def later(seconds=1.0, **changes):
    """Return a report `seconds` later, with so many frames, pairs and masks as there should be."""
    return sample_report(seconds, **changes)


START = sample_report(0.0)


def test_every_value_that_is_told_stands_in_the_table_and_the_other_way_round():
    told = assess(START, later(drops=dict.fromkeys(DROPS, 1)))
    assert {name: set(status.values) for name, status in told.items()} == {
        name: set(meanings) for name, meanings in DIAGNOSTICS.items()}
    assert all(meaning for meanings in DIAGNOSTICS.values() for meaning in meanings.values())


def test_a_healthy_node_is_ok_in_every_section():
    told = assess(START, later())
    assert {status.level for status in told.values()} == {Level.OK}
    assert told['segmentation'].message == 'segmenting, 20.0 masks/s'
    assert told['segmentation'].values['masks_hz'] == '20.00'
    assert told['sync'].values['pairs_hz'] == '25.00'
    assert told['timing'].message == (
        'capture to publish takes 80 ms at the median, 90 ms at p99, and the engine is slower '
        'than the cameras')
    assert told['rgb'].hardware_id == 'rgb_optical'
    assert told['segmentation'].hardware_id == 'night'


def test_nothing_is_known_before_the_first_frame():
    empty = Health(HealthSettings())
    empty.update(0)
    told = assess(sample_report(
        0.0, health=empty.summary(), rgb_received=0, x_received=0, pairs=0, masks=0, drops={},
        newest_apart_ms=None, percentiles=Telemetry().percentiles()))
    values = {key: value for status in told.values() for key, value in status.values.items()}
    unknown = {key for key, value in values.items() if value == 'n/a'}
    assert unknown == {
        'rate_hz', 'age_ms', 'jitter_ms', 'stamp_age_ms', 'pairs_hz', 'masks_hz',
        'newest_apart_ms',
        *(key for key in values if key.endswith(('_p50', '_p95', '_p99')))}
    assert told['segmentation'].level == Level.WARN
    assert told['segmentation'].message.startswith('no mask yet: no frame on /cam/rgb/image yet')
    assert {told[name].level for name in ('rgb', 'x', 'sync', 'timing')} == {Level.STALE}


@pytest.mark.parametrize(('state', 'level', 'words'), [
    ('late', Level.WARN, ['340 ms ago', 'driver']),
    ('frozen', Level.ERROR, ['the same pixels under new stamps', 'restart']),
    ('saturated', Level.ERROR, ['one value', 'shutter']),
    ('dead', Level.ERROR, ['no frame on /cam/x/image for 340 ms', 'cable']),
])
def test_a_camera_in_trouble_says_since_when_and_what_to_do(state, level, words):
    assert {'ok', 'late', 'frozen', 'saturated', 'dead'} == set(STATES)
    bad = health(x_state=state, x_age_ms=340.0)
    told = assess(START, later(1.0, health=bad), later(3.3, health=bad))
    assert told['x'].level == level
    assert told['x'].message.startswith(f'x is {state} for 2.3 s: ')
    assert all(word in told['x'].message for word in words)
    assert told['x'].values['state_s'] == '2.30'
    assert told['rgb'].level == Level.OK
    assert told['segmentation'].level == Level.WARN
    assert told['x'].message in told['segmentation'].message


def test_the_time_in_a_state_begins_again_with_each_state():
    told = assess(*(later(t, health=health(x_state=state)) for t, state in (
        (0.0, 'frozen'), (5.0, 'ok'), (6.0, 'frozen'), (7.5, 'frozen'))))
    assert told['x'].message.startswith('x is frozen for 1.5 s: ')


def test_a_dead_camera_whose_publisher_is_gone_is_told_from_one_that_is_stuck():
    told = assess(START, later(health=health(rgb_state='dead'), rgb_publishers=0))
    assert 'its publisher is gone, start the driver' in told['rgb'].message


@pytest.mark.parametrize(('changes', 'level', 'words'), [
    ({'x_publishers': 0}, Level.STALE, 'nobody publishes it: start the driver, or remap x/image'),
    ({}, Level.STALE, 'it has 1 publisher(s), are type and QoS the same?'),
    ({'x_qos': 'publisher offers BEST_EFFORT, this subscription asks RELIABLE'}, Level.STALE,
     'QoS does not fit: publisher offers BEST_EFFORT, this subscription asks RELIABLE'),
    ({'health': health(x_state='dead', x_age_ms=None)}, Level.ERROR, 'no frame on /cam/x/image'),
])
def test_a_camera_that_was_never_heard_is_told_why(changes, level, words):
    told = assess(START, later(x_received=0, **changes))['x']
    assert told.level == level
    assert words in told.message


def test_a_publisher_that_is_not_heard_shows_although_another_is():
    told = assess(START, later(x_qos='publisher offers BEST_EFFORT, ...'))['x']
    assert told.level == Level.WARN
    assert told.values['qos'] == 'publisher offers BEST_EFFORT, ...'


def test_frames_without_a_stamp_are_told_from_a_late_camera():
    told = assess(START, later(health=health(x_state='late', x_age_ms=None)))['x']
    assert told.level == Level.ERROR
    assert 'header.stamp' in told.message


def test_malformed_frames_warn_while_they_come_and_no_longer():
    refusal = "encoding is 'rgb99'"
    bad = later(1.0, drops={'rgb_malformed': 3}, rgb_refusal=refusal)
    told = assess(START, bad)
    assert told['rgb'].level == Level.WARN
    assert told['rgb'].message == f'rgb: 3 frame(s) could not be read just now: {refusal}'
    told = assess(START, bad, later(2.0, drops={'rgb_malformed': 3}, rgb_refusal=refusal))
    assert told['rgb'].level == Level.OK
    assert told['rgb'].values['refusal'] == refusal
    assert told['segmentation'].values['drops.rgb_malformed'] == '3'


def test_a_camera_that_is_dead_since_its_frames_cannot_be_read_is_an_error_with_that_reason():
    told = assess(START, later(drops={'x_malformed': 25}, x_refusal='step is 10',
                               health=health(x_state='dead', x_age_ms=5000.0)))['x']
    assert told.level == Level.ERROR
    assert 'step is 10' in told.message


def test_a_reason_for_which_nothing_was_dropped_is_absent():
    values = assess(START, later(drops={'too_old': 0, 'x_unused': 2}))['segmentation'].values
    assert {key: value for key, value in values.items() if key.startswith('drops.')} == {
        'drops.x_unused': '2'}


def test_drift_of_the_registration_warns_and_says_how_far():
    told = assess(START, later(registration='homography', drift='edges are 6.1 px off; calibrate'))
    assert told['x'].level == Level.WARN
    assert 'edges are 6.1 px off; calibrate' in told['x'].message
    assert told['x'].values['registration'] == 'homography'
    assert told['segmentation'].level == Level.WARN


@pytest.mark.parametrize(('mode', 'level', 'words'), [
    ('rgb_only', Level.WARN, 'masks come from rgb alone: x is dead'),
    ('x_only', Level.WARN, 'masks come from x alone: x is dead'),
    ('unlabeled', Level.ERROR, 'every pixel is unlabeled: x is dead'),
    ('wait', Level.ERROR, 'no mask is published: x is dead'),
])
def test_a_degraded_mode_says_what_is_published_and_why(mode, level, words):
    told = assess(START, later(health=health(mode=mode, x_state='dead')))['segmentation']
    assert told.level == level
    assert told.message.startswith(words)
    assert told.values['mode'] == mode


def test_a_failing_engine_is_an_error_until_it_recovers():
    failed = later(1.0, failure="RuntimeError('CUDA out of memory')", drops={'engine_failed': 1})
    told = assess(START, failed)['segmentation']
    assert told.level == Level.ERROR
    assert 'CUDA out of memory' in told.message
    told = assess(START, failed, later(2.0, drops={'engine_failed': 1}))['segmentation']
    assert told.level == Level.OK
    assert told.values['drops.engine_failed'] == '1'
    assert told.values['failure'] == 'none'


def test_cameras_whose_stamps_never_meet_are_told_by_how_much():
    told = assess(START, later(pairs=START.pairs, newest_apart_ms=-123456.7))
    assert told['sync'].level == Level.WARN
    assert 'stamps are -123457 ms apart, allowed are 50 (sync.slop_ms)' in told['sync'].message
    assert told['segmentation'].message == told['sync'].message


@pytest.mark.parametrize('changes', [
    {'x_received': START.x.received},
    {'drops': {'x_malformed': 25}},
    {'health': health(mode='rgb_only', x_state='frozen')},
    {'before': health(mode='rgb_only', x_state='frozen')},
])
def test_no_pair_is_no_fault_of_the_sync_where_a_camera_is_to_blame(changes):
    changes = dict(changes)
    before = sample_report(0.0, health=changes.pop('before', HEALTHY))
    told = assess(before, later(pairs=START.pairs, **changes))
    assert told['sync'].level == Level.OK


@pytest.mark.parametrize(('offset_ms', 'set_ms', 'advice'), [
    (30.0, 0.0, 'x is stamped 30.0 ms after rgb at the median: set sync.x_offset_ms to -30.0'),
    (-30.0, 0.0, 'x is stamped 30.0 ms before rgb at the median: set sync.x_offset_ms to 30.0'),
    (30.0, -30.0, None),
    (20.0, 0.0, None),
])
def test_an_offset_of_more_than_half_the_slop_comes_with_the_value_to_set(
        offset_ms, set_ms, advice):
    changed = later(x_offset_ms=set_ms)
    percentiles = {**changed.percentiles, 'offset_ms_p50': offset_ms}
    told = assess(START, replace(changed, percentiles=percentiles))['sync']
    assert told.level == (Level.WARN if advice else Level.OK)
    if advice:
        assert told.message == advice


def test_a_clock_that_is_set_back_is_told_when_it_happens():
    jumped = later(1.0, clock_jumps=1)
    assert 'set back' in assess(START, jumped)['sync'].message
    assert assess(START, jumped, later(2.0, clock_jumps=1))['sync'].level == Level.OK


def test_masks_that_come_too_late_warn():
    told = assess(START, later(drops={'too_old': 2}))['timing']
    assert told.level == Level.WARN
    assert told.message.startswith('2 mask(s) were too old just now')


@pytest.mark.parametrize(('age_ms', 'words'), [
    (-51.0, "x is stamped 51 ms ahead of this node's clock: synchronise"),
    (3.2e8, "x is stamped 320000.0 s behind this node's clock: synchronise"),
    (-49.0, None), (59_000.0, None)])
def test_stamps_of_another_clock_are_told(age_ms, words):
    told = assess(START, later(x_stamp_age_ms=age_ms))['x']
    assert told.level == (Level.WARN if words else Level.OK)
    assert told.message.startswith(words or 'x is ok')
    assert told.values['stamp_age_ms'] == f'{age_ms:.2f}'


def test_a_node_that_was_configured_again_has_no_rates_at_first():
    told = assess(later(50.0), START)
    assert told['segmentation'].values['masks_hz'] == 'n/a'
    assert told['sync'].level == Level.OK
