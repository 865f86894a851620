# Copyright 2026 rgbx_seg_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""The life of the node: transitions, parameters, an engine that fails."""

import threading

import pytest

pytest.importorskip('rclpy', reason='needs rclpy, from a ROS distribution or the ros extra')

from diagnostic_msgs.msg import DiagnosticArray  # noqa: E402,I100
from rclpy.lifecycle import TransitionCallbackReturn  # noqa: E402
from rclpy.parameter import Parameter  # noqa: E402
from sensor_msgs.msg import Image  # noqa: E402
from support.node_stage import diagnostics, RGB, stamps, X  # noqa: E402


def test_an_engine_that_fails_costs_the_pair_and_not_the_node(
        stage, make_node, engine, warnings):
    make_node()
    stage.listen(Image, 'segmentation/mask')
    stage.listen(DiagnosticArray, '/diagnostics')
    engine.failure = RuntimeError('CUDA out of memory')
    stage.send(RGB, X, stage.stamp())
    stage.wait(lambda: diagnostics(stage).get('drops.engine_failed') == '1')
    assert 'CUDA out of memory' in warnings()[-1]
    engine.failure = None
    good = stage.stamp()
    stage.send(RGB, X, good)
    stage.wait(lambda: stamps(stage) == [good])


def test_lifecycle_can_be_walked_again_and_leaves_no_thread(stage, make_node):
    node = make_node()
    stage.listen(Image, 'segmentation/mask')
    threads = None
    for number in range(1, 4):
        stage.send(RGB, X, stage.stamp())
        stage.wait(lambda n=number: len(stage.received['segmentation/mask']) == n)
        for transition in (node.trigger_deactivate, node.trigger_cleanup, node.trigger_configure,
                           node.trigger_activate):
            assert transition() == TransitionCallbackReturn.SUCCESS
        stage.wait(lambda: stage.publisher(Image, 'rgb/image').get_subscription_count() == 1
                   and stage.publisher(Image, 'x/image').get_subscription_count() == 1)
        threads = threads or threading.active_count()
        assert threading.active_count() <= threads


def test_nothing_is_served_while_inactive(stage, make_node, engine):
    node = make_node()
    stage.listen(Image, 'segmentation/mask')
    publishers = [stage.publisher(Image, topic) for topic in ('rgb/image', 'x/image')]
    node.trigger_deactivate()
    stage.wait(lambda: not any(p.get_subscription_count() for p in publishers))
    assert engine.calls == 0


@pytest.mark.parametrize(('parameters', 'words'), [
    ({'model': 'nonesuch'}, ['nonesuch', 'msrs_person_car_bike']),
    ({'overlay.alpha': 2.0}, ['overlay.alpha', '2.0', '0 to 1']),
    ({'sync.slop_ms': 'soon'}, ['sync.slop_ms', 'soon', 'float']),
    ({'sync.slopms': 10.0}, ['sync.slopms', 'sync.slop_ms']),
    ({'label_encoding': 'rgb8'}, ['label_encoding', 'rgb8', '16SC1']),
])
def test_a_bad_parameter_fails_configure_and_is_named(make_node, warnings, parameters, words):
    node = make_node(start=False, **parameters)
    assert not node.start()
    assert len(warnings()) == 1
    assert all(word in warnings()[0] for word in words)


def test_parameters_change_at_run_time_only_where_they_may(stage, make_node):
    node = make_node(sync__slop_ms=40)
    assert node.get_parameter('sync.slop_ms').value == 40

    def change(name, value):
        return node.set_parameters([Parameter(name, value=value)])[0]
    assert change('overlay.alpha', 1).successful
    refused = change('overlay.alpha', 7.0)
    assert not refused.successful
    refused = change('model', 'other')
    assert not refused.successful
    assert 'deactivate' in refused.reason
    stage.listen(Image, 'segmentation/mask')
    stage.send(RGB, X, stage.stamp())
    stage.wait(lambda: stage.received['segmentation/mask'])


def test_a_refused_parameter_can_be_mended_and_configured(stage, make_node):
    node = make_node(start=False, overlay__alpha=2.0)
    assert not node.start()
    assert node.set_parameters([Parameter('overlay.alpha', value=0.5)])[0].successful
    assert node.start()
