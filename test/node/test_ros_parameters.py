# Copyright 2026 rgbx_seg_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""The parameters of the node: set from outside in every state, and checked in each of them."""

from dataclasses import fields

import pytest

pytest.importorskip('rclpy', reason='needs rclpy, from a ROS distribution or the ros extra')

from rclpy.node import Node  # noqa: E402,I100
from rclpy.parameter import Parameter  # noqa: E402
from rgbx_seg_ros.node.ros_parameters import NodeParameters  # noqa: E402
from rgbx_seg_ros.parameters import Parameters  # noqa: E402
from support.node_stage import STATES, walk  # noqa: E402

SPECS = {spec.metadata['name']: spec for spec in fields(Parameters)}
RUNTIME = {name: spec for name, spec in SPECS.items() if spec.metadata['runtime']}
CONFIGURED = ('inactive', 'active', 'inactive again')


def good(spec):
    """Return a value that is allowed and not the default, nor at odds with other defaults."""
    if spec.metadata['allowed']:
        return next(word for word in spec.metadata['allowed'] if word != spec.default)
    return type(spec.default)(spec.default * 0.75) or min(1.0, spec.metadata['high'])


def change(node, **values):
    """Set parameters one by one; return the results."""
    return node.set_parameters([Parameter(name.replace('__', '.'), value=value)
                                for name, value in values.items()])


@pytest.mark.parametrize('state', STATES)
def test_every_parameter_that_may_change_at_run_time_may_in_every_state(
        stage, make_node, warnings, state):
    node = make_node(start=False, spins=False)
    walk(node, *STATES[state])
    for name, spec in RUNTIME.items():
        value = good(spec)
        [result] = change(node, **{name: value})
        assert result.successful, result.reason
        assert node.get_parameter(name).value == value
        [result] = change(node, **{name: 'nonsense'})
        assert not result.successful and f'parameter {name!r} is' in result.reason
        assert node.get_parameter(name).value == value
    if state in ('unconfigured', 'cleaned up'):
        walk(node, 'configure')
    if state != 'shut down':
        # They count: in what is there already, and in what activate makes.
        wanted = Parameters.from_ros({
            **{name: node.get_parameter(name).value for name in SPECS},
            **{name: good(spec) for name, spec in RUNTIME.items()}})
        run = node._run
        assert run.parameters == wanted
        assert run._pairer.settings == wanted.pairing
        assert run._health.settings == wanted.health
        if state == 'active':
            walk(node, 'deactivate')
        walk(node, 'activate')
        assert run._health.settings == wanted.health
    assert not warnings()


@pytest.mark.parametrize('state', STATES)
def test_every_other_parameter_is_fixed_while_the_node_is_configured(stage, make_node, state):
    node = make_node(start=False, spins=False)
    walk(node, *STATES[state])
    for name in SPECS.keys() - RUNTIME.keys():
        [result] = change(node, **{name: node.get_parameter(name).value})
        assert result.successful == (state not in CONFIGURED)
        if state in CONFIGURED:
            assert result.reason == (f'parameter {name!r} is fixed while the node is configured: '
                                     'deactivate and clean up first')


@pytest.mark.parametrize('state', CONFIGURED)
def test_limits_that_exclude_each_other_are_refused_while_the_node_is_configured(
        stage, make_node, state):
    node = make_node(start=False, spins=False, health__dead_ms=1500.0)
    walk(node, *STATES[state])
    before = node._run.parameters
    [result] = change(node, health__late_ms=1501.0)
    assert not result.successful
    assert result.reason == ("parameter 'health.dead_ms' is 1500.0, allowed is 1501.0, the value "
                             "of 'health.late_ms', or more")
    assert node._run.parameters is before
    assert node.set_parameters_atomically([
        Parameter('health.late_ms', value=1501.0), Parameter('health.dead_ms', value=1501.0),
    ]).successful
    assert node._run.parameters.health.late_ms == 1501.0


def test_before_configure_they_come_in_any_order_and_configure_looks_at_all(
        stage, make_node, warnings):
    """Those of a file are set one after the other; what each is at odds with may change yet."""
    node = make_node(start=False, spins=False, health__dead_ms=1500.0)
    late, dead = change(node, health__late_ms=2000.0, health__dead_ms=1999.0)
    assert late.successful and dead.successful
    assert not node.start()
    [warning] = warnings()
    assert "configure failed: parameter 'health.dead_ms' is 1999.0, allowed is 2000.0" in warning
    assert change(node, health__dead_ms=2000.0)[0].successful
    assert node.start()


def test_a_bad_value_given_at_the_start_keeps_no_other_from_being_mended(
        stage, make_node, warnings):
    node = make_node(start=False, spins=False, overlay__alpha=2.0, sync__slop_ms='soon')
    assert change(node, sync__slop_ms=20.0)[0].successful
    assert not node.start() and 'overlay.alpha' in warnings()[-1]
    assert change(node, overlay__alpha=1)[0].successful
    assert node.start()
    assert node._run.parameters.overlay_alpha == 1.0 and node._run.parameters.slop_ms == 20.0


@pytest.mark.parametrize('state', ['unconfigured', 'active'])
def test_no_parameter_can_be_taken_away(stage, make_node, state):
    node = make_node(start=False, spins=False)
    walk(node, *STATES[state])
    for name in SPECS:
        [result] = node.set_parameters([Parameter(name, Parameter.Type.NOT_SET)])
        assert not result.successful
        assert node.has_parameter(name)


def test_parameters_of_ros_itself_are_no_business_of_the_node(stage, make_node):
    node = make_node(start=False, spins=False, use_sim_time=False)
    walk(node, 'configure', 'activate')
    before = node._run.parameters
    assert change(node, use_sim_time=True)[0].successful
    assert node._run.parameters == before


def test_what_is_given_is_what_rclpy_has_been_given(stage):
    """It tells so by a name of its own, which may go: unknown parameters would pass unseen."""
    given = [Parameter('sync.slop_ms', value=1.0), Parameter('sync.slopms', value=1.0)]
    node = Node('plain', context=stage.context, parameter_overrides=given)
    told = Node('telling', context=stage.context, parameter_overrides=given,
                automatically_declare_parameters_from_overrides=True)
    try:
        found = NodeParameters(node, lambda: None)._given
        declared = told.get_parameters_by_prefix('')
        assert {name: one.value for name, one in found.items()} == {
            name: declared[name].value for name in ('sync.slop_ms', 'sync.slopms')}
        del node._parameter_overrides
        with pytest.raises(AttributeError, match='_parameter_overrides'):
            NodeParameters(node, lambda: None)
    finally:
        node.destroy_node()
        told.destroy_node()
