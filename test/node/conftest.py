# Copyright 2026 rgbx_seg_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""
The node over the real middleware, with an engine that answers at once.

ROS is imported inside of the fixtures: where there is none, the tests that use them are skipped.
"""

import weakref

import pytest


@pytest.fixture
def engine(monkeypatch):
    """Give the node an engine class whose behaviour a test may change."""
    from rgbx_seg_ros import engines
    from support.node_stage import ThresholdEngine

    class Engine(ThresholdEngine):
        pass
    monkeypatch.setitem(engines.ENGINES, 'torch', Engine)
    return Engine


@pytest.fixture
def engines_alive(engine):
    """Give the engines that are in memory; to open one beside another is an error."""
    alive = weakref.WeakSet()
    opened = engine.__init__

    def open_alone(self, card, device):
        assert not alive, 'an engine is still in memory'
        alive.add(self)
        opened(self, card, device)
    engine.__init__ = open_alone
    return alive


@pytest.fixture
def stage():
    """Give a stage in a domain of its own."""
    from support.ros_stage import next_domain, Stage
    stage = Stage(next_domain())
    yield stage
    stage.close()


@pytest.fixture
def warnings(capfd):
    """Give a function that returns the warnings and errors logged so far."""
    lines = []

    def read():
        lines.extend(capfd.readouterr().err.splitlines())
        # rcl tells of a node of that name in the test before, which Python has not freed yet.
        return [line for line in lines if line.startswith(('[WARN]', '[ERROR]'))
                and '[rcl.logging_rosout]: Publisher already registered' not in line]
    return read


@pytest.fixture
def make_node(stage, engine, tiny_card):
    """
    Give a function that makes a node with the parameters given, or those of a file.

    It spins on a thread of its own, or not at all, and is started unless told otherwise.
    """
    from rclpy.parameter import Parameter
    from rgbx_seg_ros.node.node import SegNode
    nodes = []

    def make(start=True, spins=True, file=None, **parameters):
        # The frames of these tests come now and then, are all the same and of few colours.
        parameters = {'model': str(tiny_card), 'health__dead_ms': 600_000.0,
                      'health__frozen_ms': 0.0, 'health__saturated_share': 1.0, **parameters}
        files = ['--ros-args', '--params-file', str(file)] if file else None
        node = SegNode(context=stage.context, cli_args=files, parameter_overrides=[
            Parameter(name.replace('__', '.'), value=value)
            for name, value in parameters.items()])
        nodes.append(node)
        if spins:
            stage.spin(node)
        if start:
            assert node.start()
        return node

    yield make
    stage.rest()
    for node in nodes:
        node.destroy_node()
