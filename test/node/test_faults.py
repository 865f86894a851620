# Copyright 2026 rgbx_seg_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""Every fault of the campaign once or twice; docs/reliability.md has what many tries came to."""

import pytest

pytest.importorskip('rclpy', reason='needs rclpy, from a ROS distribution or the ros extra')

from campaign import run, SCENARIOS  # noqa: E402,I100
from diagnostic_msgs.msg import DiagnosticStatus  # noqa: E402
import numpy as np  # noqa: E402
from support.campaign_frames import bars, read  # noqa: E402
from support.campaign_processes import PROCESS_SCENARIOS, process_table  # noqa: E402
from support.campaign_rig import Rig, table  # noqa: E402

FEW = {
    'RGB cut and restored', 'X frozen', 'one cut, degraded mode', 'duplicated',
    'clock jumps back and returns', 'Image: random data', 'CameraInfo: turns bad', 'size changes',
    'publisher starts again', 'engine fails now and then'}
"""One of each kind."""


@pytest.mark.parametrize('name', [
    pytest.param(name, marks=[] if name in FEW else [pytest.mark.long]) for name in SCENARIOS])
def test_no_mask_is_wrong_none_is_lost_and_the_node_lives_on(tiny_card, name):
    row = run(name, tiny_card, 0.5)
    assert not row.ended, 'the node gives no masks any more'
    assert not row.wrong
    assert row.lost == 0
    assert row.tries and len(row.back_ms) == row.tries
    assert row.masks >= row.tries
    if name != 'engine fails now and then':
        assert not row.drops['engine_failed'], 'no other fault is to be laid at its door'
    assert f'| {name} | {row.tries} |' in table([row])


@pytest.mark.long
def test_a_node_that_is_killed_and_started_again_goes_on_with_the_newest_frames(tiny_card):
    row = PROCESS_SCENARIOS['node restarted under load']('restart', tiny_card, 0, 0)
    assert not row.ended
    assert not row.wrong
    assert len(row.back_ms) == row.tries == 1


@pytest.mark.long
@pytest.mark.parametrize('name', ['signal: during configure', 'log on a full disk'])
def test_the_process_ends_cleanly(tiny_card, name):
    row = PROCESS_SCENARIOS[name](name, tiny_card, 0, 0)
    assert not row.faults
    assert set(row.codes) == {0}
    assert f'| 0: {row.tries} |' in process_table([row])


# What the campaign says of the node is worth as much as its own eyes.


def test_the_campaign_sees_a_mask_that_nobody_asked_for_one_of_a_wrong_pair_and_an_old_one(
        tiny_card):
    with Rig(tiny_card) as rig:
        rig.recover()
        masks = rig.stage.received['segmentation/mask']
        rig.tick()
        assert not rig.row('', 1).wrong
        genuine = list(masks)
        last, when = genuine[-1]

        def faults(message, received_ns):
            masks[:] = [(message, received_ns)]
            return ' '.join(rig.wrong())
        pixels = np.frombuffer(last.data, np.uint8).reshape(48, 64)
        upper, lower = read(pixels[:24]), read(pixels[24:])
        assert 'ms old' in faults(last, when + 3 * 10**9)
        last.data = bars((48, 64), upper, lower ^ 6).tobytes()
        assert 'within the slop' in faults(last, when)
        last.data = bars((48, 64), upper ^ 6, lower).tobytes()
        assert 'sent was RGB' in faults(last, when)
        last.data = bars((48, 64), upper, lower).tobytes()
        assert not faults(last, when)
        reports = rig.stage.received['/diagnostics']
        report = reports[-1][0]
        for status in report.status:
            status.level = DiagnosticStatus.OK
        reports[:] = [(report, when + seconds * 10**9) for seconds in (1, 3)]
        assert 'but no mask has come' in faults(last, when)
        reports.clear()
        last.header.stamp.nanosec ^= 1
        assert 'that of no frame' in faults(last, when)
        masks[:] = [*genuine[1:-1], *genuine[:1]]
        assert 'comes after one' in ' '.join(rig.wrong())


@pytest.mark.long
def test_the_campaign_sees_a_fault_that_nobody_is_told_of(tiny_card):
    with Rig(tiny_card) as rig:
        rig.recover()
        rig.play_until_told('segmenting', seconds=3.5)  # what is OK is no fault
        untold, = rig.row('', 1).wrong
        assert untold.startswith("diagnostics do not tell of 'segmenting', but of 'OK segmenting")


def test_the_campaign_sees_a_frame_that_came_to_nothing(tiny_card):
    with Rig(tiny_card) as rig:
        rig.recover()
        rig.tick()
        assert rig.row('', 1).lost == 0
        del rig.stage.received['segmentation/mask'][0]
        assert rig.lost() == 1
