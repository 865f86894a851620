# Copyright 2026 rgbx_seg_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""The report of a node as a DiagnosticArray, as other ROS tools read it."""

import pytest

pytest.importorskip('diagnostic_msgs', reason='needs diagnostic_msgs, from ROS or the ros extra')

from builtin_interfaces.msg import Time  # noqa: E402,I100
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue  # noqa: E402
from rgbx_seg_ros.health.assessor import Assessor  # noqa: E402
from rgbx_seg_ros.health.report import Level, Status  # noqa: E402
from rgbx_seg_ros.node.diagnostics import from_array, to_array  # noqa: E402
from rgbx_seg_ros.resources import share_dir  # noqa: E402
from support.health_reports import HEALTHY, sample_report  # noqa: E402
import yaml  # noqa: E402


def sections(**changes):
    assessor = Assessor()
    assessor.assess(sample_report(0.0))
    return assessor.assess(sample_report(1.0, **changes))


def test_each_section_is_a_status_named_after_node_and_section():
    array = to_array('/front/rgbx_seg', sections(), Time(sec=5, nanosec=7))
    assert [status.name for status in array.status] == [
        f'front/rgbx_seg: {name}'
        for name in ('segmentation', 'rgb', 'x', 'sync', 'timing', 'record')]
    assert [status.hardware_id for status in array.status] == [
        'night', 'rgb_optical', 'x_optical', 'night', 'night', 'night']
    assert (array.header.stamp.sec, array.header.stamp.nanosec) == (5, 7)
    values = {value.key: value.value for value in array.status[0].values}
    assert (values['mode'], values['masks_hz'], values['masks']) == ('fusion', '20.00', '820')


def test_levels_are_those_of_ros():
    levels = {name: bytes([getattr(Level, name)]) for name in ('OK', 'WARN', 'ERROR', 'STALE')}
    assert levels == {name: getattr(DiagnosticStatus, name) for name in levels}
    frozen = sections(health={**HEALTHY, 'mode': 'rgb_only', 'x_state': 'frozen'})
    array = to_array('rgbx_seg', frozen, Time())
    assert [status.level for status in array.status] == [
        DiagnosticStatus.WARN, DiagnosticStatus.OK, DiagnosticStatus.ERROR, DiagnosticStatus.OK,
        DiagnosticStatus.OK, DiagnosticStatus.OK]


def test_what_is_told_is_read_back():
    told = {'a/rgbx_seg': sections(), 'b/rgbx_seg': sections(drops={'too_old': 3})}
    arrays = [to_array(name, one, Time()) for name, one in told.items()]
    both = DiagnosticArray(status=[*arrays[0].status, *arrays[1].status])
    assert from_array(both) == told


@pytest.mark.parametrize(('name', 'key'), [
    ('camera: rgb', 'mode'), ('segmentation', 'model'), ('other: segmentation', 'state'),
    ('rgbx_seg: motor', 'mode'), ('', 'mode')])
def test_the_statuses_of_other_nodes_are_not_taken_for_ours(name, key):
    status = DiagnosticStatus(name=name, values=[KeyValue(key=key, value='1')])
    assert from_array(DiagnosticArray(status=[status])) == {}


def test_a_level_that_ros_does_not_know_counts_as_the_worst():
    status = DiagnosticStatus(name='a: segmentation', level=b'\xff',
                              values=[KeyValue(key='mode', value='wait')])
    assert from_array(DiagnosticArray(status=[status])) == {
        'a': {'segmentation': Status(Level.STALE, '', {'mode': 'wait'})}}


@pytest.mark.parametrize('node', ['/rgbx_seg', '/front/rgbx_seg'])
def test_the_aggregator_puts_each_section_under_one_heading(node):
    file = share_dir() / 'config' / 'diagnostics_aggregator.yaml'
    parameters = yaml.safe_load(file.read_text(encoding='utf-8'))['/**']['ros__parameters']
    assert isinstance(parameters.pop('path'), str)
    assert {analyzer['type'] for analyzer in parameters.values()} == {
        'diagnostic_aggregator/GenericAnalyzer'}
    parts = [part for analyzer in parameters.values() for part in analyzer['contains']]
    found = {status.name: [part for part in parts if part in status.name]
             for status in to_array(node, sections(), Time()).status}
    assert all(len(matching) == 1 for matching in found.values()), found
    assert {part for matching in found.values() for part in matching} == set(parts)
