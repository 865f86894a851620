# Copyright 2026 rgbx_seg_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""What the node tells about itself: names, levels and sentences."""

from dataclasses import replace

import pytest
from rgbx_seg_ros.health.assessor import Assessor
from rgbx_seg_ros.health.monitor import Health, HealthSettings, STATES
from rgbx_seg_ros.health.report import DIAGNOSTICS, DROPS, Level
from rgbx_seg_ros.health.telemetry import Telemetry
from support.health_reports import HEALTHY, RECORD, sample_report


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
        newest_apart_ms=None, percentiles=Telemetry().percentiles(), record=None))
    values = {key: value for status in told.values() for key, value in status.values.items()}
    unknown = {key for key, value in values.items() if value == 'n/a'}
    assert unknown == {
        'rate_hz', 'age_ms', 'jitter_ms', 'saturation', 'stamp_age_ms', 'pairs_hz', 'masks_hz',
        'newest_apart_ms', 'frame_rate_node', 'frame_rate_msg', 'current_delay_from_realtime_ms',
        *(key for key in values if key.endswith(('_p50', '_p95', '_p99')))}
    assert told['segmentation'].level == Level.WARN
    assert told['segmentation'].message.startswith('no mask yet: no frame on /cam/rgb/image yet')
    # STALE is for a tool whose reports no longer come; fault managers take it for the worst.
    assert {status.level for status in told.values()} == {Level.WARN}


@pytest.mark.parametrize(('state', 'level', 'words'), [
    ('late', Level.WARN, ['340 ms ago', 'driver']),
    ('frozen', Level.ERROR, ['the same pixels under new stamps', 'restart',
                             'simulated camera without noise set health.frozen_ms to 0']),
    ('saturated', Level.ERROR, ['98.8 % of its pixels are at a limit or have one value', 'shutter',
                                'simulated scene', 'raise health.saturated_share (1: never)']),
    ('dead', Level.ERROR, ['no frame on /cam/x/image for 340 ms', 'cable']),
])
def test_a_camera_in_trouble_says_since_when_and_what_to_do(state, level, words):
    assert {'ok', 'late', 'frozen', 'saturated', 'dead'} == set(STATES)
    bad = health(x_state=state, x_age_ms=340.0, x_saturation=0.988)
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
    ({'x_publishers': 0}, Level.WARN, 'nobody publishes it: start the driver, or remap x/image'),
    ({}, Level.WARN, 'it has 1 publisher(s), is the QoS the same?'),
    ({'x_kind': 'it is published as sensor_msgs/msg/CompressedImage, ...', 'x_qos': 'unknown'},
     Level.WARN, 'yet: it is published as sensor_msgs/msg/CompressedImage, ...'),
    ({'x_qos': 'publisher offers BEST_EFFORT, this subscription asks RELIABLE'}, Level.WARN,
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
    assert told.values['type'] == 'ok'
    told = assess(START, later(x_kind='it is published as Image, ...'))['x']
    assert told.values['type'] == 'it is published as Image, ...'


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


def test_colour_of_empty_bits_warns_and_says_which_to_set():
    told = assess(START, later(dark='no value is above 1023; set rgb.bits to 10'))
    assert told['rgb'].level == told['segmentation'].level == Level.WARN
    assert told['rgb'].message.startswith('rgb is dark: no value is above 1023')
    assert told['rgb'].values['dark'] == 'no value is above 1023; set rgb.bits to 10'
    assert assess(START, later())['rgb'].values['dark'] == 'none'


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


@pytest.mark.parametrize(('clock', 'age_ms', 'words'), [
    ('system', -51.0, ["x is stamped 51 ms ahead of this node's clock", 'chrony, PTP',
                       'set use_sim_time']),
    ('system', 3.2e8, ["x is stamped 320000.0 s behind this node's clock", 'chrony, PTP',
                       'set use_sim_time']),
    ('system', 2001.0, ["x is stamped 2.0 s behind this node's clock", 'chrony, PTP', 'driver']),
    ('simulated', 3.2e8, ['x is stamped 320000.0 s behind', 'let its stamps come from /clock']),
    ('simulated', -3.2e8, ['x is stamped 320000.0 s ahead', 'let its stamps come from /clock']),
    ('waiting', -1.8e12, ['use_sim_time is true, but nothing has come on /clock',
                          'ros2 bag play --clock', 'set use_sim_time to false']),
    ('system', -49.0, None), ('system', 1999.0, None), ('simulated', 100.0, None)])
def test_stamps_of_another_clock_are_told_by_their_side_and_with_what_mends_it(
        clock, age_ms, words):
    told = assess(START, later(x_stamp_age_ms=age_ms, clock=clock))
    assert told['x'].level == (Level.WARN if words else Level.OK)
    assert all(word in told['x'].message for word in words or ['x is ok'])
    assert ('set use_sim_time and' in told['x'].message) == (clock == 'system' and bool(words))
    assert told['x'].values['stamp_age_ms'] == f'{age_ms:.2f}'
    assert told['segmentation'].level == told['x'].level
    assert told['segmentation'].values['clock'] == clock


def test_a_node_without_a_clock_says_so_once():
    told = assess(START, later(clock='waiting', rgb_stamp_age_ms=-1.8e12, x_stamp_age_ms=-1.8e12))
    assert told['segmentation'].message.count('/clock,') == 1


def test_a_delay_of_x_that_is_made_up_for_is_no_fault_of_its_clock():
    told = assess(START, later(x_stamp_age_ms=5030.0, x_offset_ms=5000.0))['x']
    assert told.level == Level.OK


def test_the_values_that_other_tools_look_for_have_their_names():
    told = assess(START, later(rgb_stamp_age_ms=12.0))
    assert {name: told['rgb'].values[name] for name in (
        'frame_rate_node', 'frame_rate_msg', 'current_delay_from_realtime_ms')} == {
            'frame_rate_node': '29.98', 'frame_rate_msg': '30.00',
            'current_delay_from_realtime_ms': '12.00'}
    head = told['segmentation'].values
    assert (head['frame_rate_node'], head['current_delay_from_realtime_ms']) == ('20.00', '80.00')


# Nothing comes out


OLD = {'drops': {'superseded': 2, 'too_old': 20}}
UNPLACED = {'drops': {'x_unregistered': 25}, 'x_refusal': 'x/camera_info: fx is 0'}
NOTHING = {
    'the engine takes too long': (
        {'drops': {'superseded': 24}}, ['24 superseded (pair that gave way to a newer one']),
    'masks are too old': ({**OLD, 'rgb_stamp_age_ms': 9.0}, [
        '20 mask(s) were too old just now: take a smaller model or input, or raise max_age_ms']),
    'a camera clock is behind': ({**OLD, 'rgb_stamp_age_ms': 5000.0}, [
        "too old just now: rgb is stamped 5.0 s behind this node's clock", 'chrony, PTP',
        'use_sim_time']),
    'frames are nearly too old when they come': ({**OLD, 'rgb_stamp_age_ms': 1900.0}, [
        "too old just now: rgb is stamped 1.9 s behind this node's clock", 'chrony, PTP']),
    'ages count from the receipt': (
        {**OLD, 'rgb_stamp_age_ms': 1e9}, ['take a smaller model or input']),
    'x cannot be registered': (
        UNPLACED, ['x: 25 frame(s) could not be brought onto rgb just now: x/camera_info: fx']),
    'less is lost for another reason': (
        {**UNPLACED, 'drops': {'superseded': 3, 'x_unregistered': 20}}, ['x/camera_info: fx']),
    'x cannot be read': ({'drops': {'x_malformed': 25}, 'x_refusal': 'step is 10'}, [
        'x: 25 frame(s) could not be read just now: step is 10']),
    'no two frames pair': (
        {'pairs': START.pairs, 'drops': {'rgb_no_partner': 30, 'x_unused': 25},
         'newest_apart_ms': -2000.0},
        ['no two frames pair: the newest stamps are -2000 ms apart', 'chrony, PTP']),
    'the last pairs are too old and RGB is faster than X': (
        {'drops': {'rgb_no_partner': 20, 'superseded': 6, 'too_old': 3}}, [
            '3 mask(s) were too old just now: take a smaller model']),
    'the engine takes too long and RGB is faster than X': (
        {'drops': {'rgb_no_partner': 20, 'superseded': 6}}, ['6 superseded (pair that gave way']),
    'x is late': (
        {'pairs': START.pairs, 'drops': {'rgb_no_partner': 30}, 'x_received': START.x.received,
         'health': health(x_state='late', x_age_ms=900.0)}, ['no mask', 'x is late']),
    'frames come twice': (
        {'pairs': START.pairs, 'x_received': START.x.received + 1, 'drops': {'rgb_duplicate': 30}},
        ['30 rgb_duplicate (RGB frame with the stamp']),
    'frames have no stamp': (
        {'pairs': START.pairs, 'drops': {'rgb_no_stamp': 30, 'x_no_stamp': 30},
         'health': health(rgb_age_ms=None, x_age_ms=None)},
        ['the frames of rgb have no stamp', 'the frames of x have no stamp']),
    'an engine is at its first pair': ({}, ['the engine is at work']),
}


@pytest.mark.parametrize('case', NOTHING)
def test_while_nothing_comes_out_the_node_is_not_ok_and_says_why(case):
    changes, words = NOTHING[case]
    changes = {'drops': {}, **changes}
    told = assess(replace(START, drops={}), later(masks=START.masks, **changes))['segmentation']
    assert told.level == Level.WARN
    assert told.message.startswith('no mask for 1.0 s: ')
    assert all(word in told.message for word in words)
    assert ('smaller model' in told.message) == ('smaller model' in ''.join(words))
    assert told.values['masks_hz'] == '0.00'
    before = replace(START, masks=0, drops={})
    told = assess(before, later(masks=0, **changes))['segmentation']
    assert told.level == Level.WARN
    assert told.message.startswith('no mask yet: ')
    assert all(word in told.message for word in words)


def test_after_some_seconds_without_a_mask_it_is_an_error_for_the_log_too():
    assessor = Assessor()
    for seconds in (0.0, 1.0, 4.9):
        told = assessor.assess(later(seconds, masks=START.masks))['segmentation']
        assert (told.level == Level.ERROR, assessor.silence) == (False, ''), seconds
    for seconds in (5.0, 15.0):
        told = assessor.assess(later(seconds, masks=START.masks))['segmentation']
        assert told.level == Level.ERROR
        assert assessor.silence == told.message
        assert f'no mask for {seconds:.1f} s' in told.message
    told = assessor.assess(later(16.0))['segmentation']
    assert (told.level, assessor.silence) == (Level.OK, '')


@pytest.mark.parametrize('state', ['saturated', 'frozen'])
def test_a_camera_that_has_failed_from_the_start_is_told_in_the_log(state):
    assessor, bad = Assessor(), health(mode='wait', x_state=state)
    for seconds in (0.0, 6.0):
        told = assessor.assess(later(seconds, masks=0, health=bad))['segmentation']
    assert told.level == Level.ERROR
    assert assessor.silence == told.message
    assert assessor.silence.startswith(f'no mask yet: x is {state} for 6.0 s: ')


@pytest.mark.parametrize('changes', [
    {'x_received': 0}, {'rgb_received': 0}, {'rgb_received': 1000, 'x_received': 1000}])
def test_the_log_is_not_told_where_no_camera_delivers_or_one_was_never_heard(changes):
    assessor = Assessor()
    for seconds in (0.0, 6.0, 12.0):
        assessor.assess(later(seconds, masks=0, **changes))
    assert assessor.silence == ''


def test_a_camera_slower_than_the_reports_is_no_fault_until_its_masks_stop():
    slow, assessor = health(rgb_rate_hz=0.5), Assessor()
    told = [assessor.assess(later(float(second), health=slow, masks=800 + min(second, 8) // 2))
            for second in range(14)]
    heads = [one['segmentation'] for one in told]
    assert {head.values['masks_hz'] for head in heads[2:12]} == {'0.50'}
    assert {head.message for head in heads[2:12]} == {'segmenting, a mask every 2.0 s'}
    assert {head.level for head in heads[:13]} == {Level.OK}
    assert (heads[13].level, heads[13].values['masks_hz']) == (Level.ERROR, '0.00')


def test_masks_that_stop_in_a_degraded_mode_are_told_by_what_stops_them():
    told = assess(START, later(
        masks=START.masks, drops={'sensor_failed': 30, 'too_old': 9}, rgb_stamp_age_ms=5000.0,
        health=health(mode='rgb_only', x_state='dead')))['segmentation']
    assert told.level == Level.ERROR
    assert 'rgb is stamped 5.0 s behind' in told.message and 'x is dead' not in told.message


def test_a_camera_without_stamps_that_falls_silent_still_has_none():
    silent = health(x_state='dead', x_age_ms=None)
    told = assess(replace(START, x=replace(START.x, received=0)), later(1.0, health=silent),
                  later(2.0, health=silent, x_received=1025))['x']
    assert (told.level, told.message) == (
        Level.ERROR, 'the frames of x have no stamp: let its driver set header.stamp')


def test_a_camera_of_which_no_frame_can_be_used_says_why_when_it_is_silent_too():
    silent = health(x_state='dead', x_age_ms=None)
    told = assess(replace(START, x=replace(START.x, received=0)), later(
        health=silent, x_refusal='step is 10'))['x']
    assert (told.level, told.message) == (
        Level.ERROR, 'x: no frame could be used yet: step is 10')


@pytest.mark.parametrize(('stamp_age_ms', 'words'), [
    (None, 'the frames of x have no stamp: let its driver set header.stamp'),
    (30.0, 'x: 25 frame(s) came just now, none with a newer stamp')])
def test_a_camera_whose_stamps_are_of_no_use_any_more_is_not_called_silent(stamp_age_ms, words):
    told = assess(START, later(health=health(x_state='dead', x_age_ms=4000.0),
                               x_stamp_age_ms=stamp_age_ms))['x']
    assert told.level == Level.ERROR
    assert words in told.message


def test_a_node_that_is_activated_again_waits_for_its_first_frames():
    waiting = health(mode='wait', rgb_state='late', rgb_age_ms=None, x_state='late',
                     x_age_ms=None)
    told = assess(replace(START, health=waiting))
    assert {told[name].level for name in ('segmentation', 'rgb', 'x')} == {Level.WARN}
    assert 'no frame on /cam/rgb/image yet' in told['segmentation'].message


def test_a_node_that_was_configured_again_has_no_rates_at_first():
    told = assess(later(50.0), START)
    assert told['segmentation'].values['masks_hz'] == 'n/a'
    assert told['sync'].level == Level.OK


# The recorder


def told_of_record(**changes):
    """Return the sections of a node that has told of no trouble a second before."""
    assessor = Assessor()
    assessor.assess(sample_report(0.0))
    return assessor.assess(sample_report(1.0, record={**RECORD, **changes}))


@pytest.mark.parametrize(('changes', 'level', 'words'), [
    ({}, Level.OK, 'the last 10.0 s wait for an event'),
    ({'state': 'recording'}, Level.OK, "an event is recorded to '/data/rgbx_seg_2'"),
    ({'state': 'cooldown'}, Level.OK, 'events are only counted'),
    ({'dropped': 7}, Level.WARN, '7 message(s) were not recorded just now'),
    ({'failure': 'No space left'}, Level.WARN, 'No space left')])
def test_the_recorder_tells_how_it_goes_and_what_is_wrong(changes, level, words):
    sections = told_of_record(**changes)
    assert sections['record'].level == level and words in sections['record'].message
    assert sections['segmentation'].level == Level.OK  # masks come whatever is recorded


def test_messages_that_were_not_recorded_long_ago_are_no_trouble_any_more():
    assessor = Assessor()
    for seconds in (0.0, 1.0):
        sections = assessor.assess(sample_report(seconds, record={**RECORD, 'dropped': 7}))
    assert sections['record'].level == Level.OK


def test_of_a_recorder_that_is_not_there_nothing_is_told():
    assert 'record' not in Assessor().assess(sample_report(0.0, record=None))
