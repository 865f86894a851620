# Copyright 2026 rgbx_seg_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""What the node tells about itself, over the real middleware."""

import pytest

pytest.importorskip('rclpy', reason='needs rclpy, from a ROS distribution or the ros extra')

from diagnostic_msgs.msg import DiagnosticArray  # noqa: E402,I100
from rgbx_seg_ros.health.report import DIAGNOSTICS, Level  # noqa: E402
from rgbx_seg_ros.health.telemetry import QUANTITIES  # noqa: E402
from rgbx_seg_ros.node.diagnostics import from_array  # noqa: E402
from support.node_stage import RGB, X  # noqa: E402


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


def test_a_node_at_work_tells_every_value_of_the_table(stage, make_node):
    make_node()
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
