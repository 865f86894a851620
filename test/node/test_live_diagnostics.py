# Copyright 2026 rgbx_seg_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""What the node tells about itself, over the real middleware."""

import pytest

pytest.importorskip('rclpy', reason='needs rclpy, from a ROS distribution or the ros extra')

from diagnostic_msgs.msg import DiagnosticArray  # noqa: E402,I100
import numpy as np  # noqa: E402
from rclpy.parameter import Parameter  # noqa: E402
from rgbx_seg_ros.health import assessor  # noqa: E402
from rgbx_seg_ros.health.report import DIAGNOSTICS, Level  # noqa: E402
from rgbx_seg_ros.health.telemetry import QUANTITIES  # noqa: E402
from rgbx_seg_ros.messages.images import to_image  # noqa: E402
from rgbx_seg_ros.node import run  # noqa: E402
from rgbx_seg_ros.node.diagnostics import from_array  # noqa: E402
from rosgraph_msgs.msg import Clock  # noqa: E402
from sensor_msgs.msg import Image  # noqa: E402
from std_msgs.msg import Header  # noqa: E402
from support.node_stage import RGB, stamps, X  # noqa: E402
from support.ros_stage import header  # noqa: E402


def told(stage):
    """Return the newest sections of the node, or none yet."""
    messages = stage.received['/diagnostics']
    return from_array(messages[-1][0]).get('rgbx_seg', {}) if messages else {}


def test_a_node_without_cameras_tells_what_it_waits_for(stage, make_node):
    make_node()
    stage.listen(DiagnosticArray, '/diagnostics')
    stage.wait(lambda: told(stage))
    sections = told(stage)
    assert sections['segmentation'].level == Level.WARN
    assert 'no frame on /rgb/image yet: nobody publishes it' in sections['rgb'].message
    assert {sections['timing'].values[f'{name}_p50'] for name in QUANTITIES
            if f'{name}_p50' in DIAGNOSTICS['timing']} == {'n/a'}


def test_a_node_at_work_tells_every_value_of_the_table(stage, make_node, tmp_path):
    make_node(record__folder=str(tmp_path))
    stage.listen(DiagnosticArray, '/diagnostics')

    def all_well():
        stage.send(RGB, X, stage.stamp())
        sections = told(stage)
        return sections and {status.level for status in sections.values()} == {Level.OK} and (
            sections['segmentation'].values['masks_hz'] != 'n/a')
    stage.wait(all_well)
    sections = told(stage)
    for name, meanings in DIAGNOSTICS.items():
        values = sections[name].values
        names = {key for key in meanings if not key.startswith('drops.')}
        assert names == {key for key in values if not key.startswith('drops.')}
        assert set(values) <= set(meanings)
        assert 'n/a' not in values.values()
    assert sections['segmentation'].values['mode'] == 'fusion'
    assert sections['segmentation'].values['device'] == 'test'
    assert sections['rgb'].hardware_id == 'rgb'
    assert sections['x'].values['topic'] == '/x/image'
    assert float(sections['timing'].values['latency_ms_p99']) < 1000


def test_colour_of_empty_bits_is_told_until_the_bits_are_set(stage, make_node):
    node = make_node(health__frozen_ms=0.0)
    stage.listen(DiagnosticArray, '/diagnostics')
    rgb = np.full((48, 64), 700, np.uint16)

    def rgb_is(level):
        stage.send(to_image(rgb, 'mono16', Header()), X, stage.stamp())
        return told(stage) and told(stage)['rgb'].level == level
    stage.wait(lambda: rgb_is(Level.WARN) and 'dark' in told(stage)['rgb'].message)
    assert told(stage)['rgb'].message.endswith('set rgb.bits to 10')
    assert told(stage)['segmentation'].level == Level.WARN
    assert node.set_parameters([Parameter('rgb.bits', value=10)])[0].successful
    stage.wait(lambda: rgb_is(Level.OK))


# Nothing comes out


@pytest.fixture
def hasty(monkeypatch):
    """Let the node tell ten times a second, and call half a second without a mask silence."""
    monkeypatch.setattr(run, '_DIAGNOSTICS_S', 0.1)
    monkeypatch.setattr(assessor, '_SILENT_S', 0.5)


NOISE = np.random.default_rng(0).integers(0, 99, RGB.shape, np.uint8)


def feed(stage, condition, rgb=NOISE, x=X, behind_s=0.0, x_behind_s=0.0, stamped=True):
    """Send pairs until the condition holds; the clocks of the cameras may be behind."""
    def hold():
        rgb_ns, x_ns = (stage.stamp() - int(1e9 * late_s) if stamped else 0
                        for late_s in (behind_s, behind_s + x_behind_s))
        for topic, frame, stamp in (('rgb/image', rgb, rgb_ns), ('x/image', x, x_ns)):
            encoding = 'rgb8' if frame.ndim == 3 else 'mono8'
            stage.publisher(Image, topic).publish(
                to_image(frame, encoding, header(stamp, 'camera')))
        return condition()
    stage.wait(hold)


SILENT = {
    'no stamps': ({'stamped': False}, ['the frames of rgb have no stamp', 'header.stamp']),
    'cameras 2 s apart': ({'x_behind_s': 2.0}, ['no two frames pair', '-2000 ms apart', 'chrony']),
    'a camera that is saturated': (
        {'x': np.full_like(X, 80)}, ['x is saturated', '100.0 %', 'health.saturated_share']),
    'a clock that is behind': (
        {'behind_s': 5.0}, ["rgb is stamped 5.0 s behind this node's clock", 'chrony']),
}


@pytest.mark.parametrize('case', SILENT)
def test_cameras_that_deliver_from_the_start_and_come_to_nothing_are_told_in_the_log(
        stage, make_node, warnings, hasty, case):
    how, words = SILENT[case]
    make_node(health__saturated_share=0.98, health__recovery_ms=0.0)
    stage.listen(DiagnosticArray, '/diagnostics')

    def said():
        return any(all(word in line for word in ('no mask yet: ', *words)) for line in warnings())
    feed(stage, said, **how)
    feed(stage, lambda: told(stage)['segmentation'].level == Level.ERROR, **how)
    feed(stage, lambda: told(stage)['segmentation'].level == Level.OK)


def test_a_camera_clock_that_falls_behind_is_not_called_a_slow_engine(
        stage, make_node, warnings, hasty):
    make_node()
    stage.listen(DiagnosticArray, '/diagnostics')
    feed(stage, lambda: told(stage) and told(stage)['segmentation'].level == Level.OK)
    feed(stage, lambda: told(stage)['segmentation'].level == Level.ERROR, behind_s=5.0)
    sections = told(stage)
    assert float(sections['segmentation'].values['masks_hz']) == 0
    assert 'rgb is stamped 5.0 s behind' in sections['segmentation'].message
    lines = [line for line in warnings() if 'a mask is dropped' in line]
    assert lines and all('it is stamped 5.0 s behind' in line for line in lines)
    assert 'smaller model' not in ''.join([*warnings(), sections['timing'].message])
    feed(stage, lambda: told(stage)['segmentation'].level == Level.OK)


def test_a_node_that_waits_for_a_clock_says_so_and_goes_on_when_it_comes(
        stage, make_node, warnings, hasty):
    make_node(use_sim_time=True)
    stage.listen(DiagnosticArray, '/diagnostics')
    stage.listen(Image, 'segmentation/mask')
    feed(stage, lambda: len(stamps(stage)) > 3 and told(stage))
    sections = told(stage)
    assert sections['segmentation'].values['clock'] == 'waiting'
    assert sections['segmentation'].level == Level.WARN
    for text in (sections['rgb'].message, *warnings()):
        assert 'use_sim_time is true, but nothing has come on /clock' in text
    assert float(sections['rgb'].values['rate_hz']) > 0

    clock = stage.publisher(Clock, '/clock')

    def ticking():
        now = stage.node.get_clock().now().to_msg()
        clock.publish(Clock(clock=now))
        return told(stage)['segmentation'].level == Level.OK
    feed(stage, ticking)
    assert told(stage)['segmentation'].values['clock'] == 'simulated'
