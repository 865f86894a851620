# Copyright 2026 rgbx_seg_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""The life of the node: transitions, and what each leaves behind when it fails."""

from contextlib import contextmanager
from dataclasses import fields
import gc
import sys
import threading

import pytest

pytest.importorskip('rclpy', reason='needs rclpy, from a ROS distribution or the ros extra')

from diagnostic_msgs.msg import DiagnosticArray  # noqa: E402,I100
import numpy as np  # noqa: E402
from rclpy.lifecycle import TransitionCallbackReturn  # noqa: E402
from rclpy.parameter import Parameter  # noqa: E402
from rgbx_seg_ros.engines import background, ENGINES  # noqa: E402
from rgbx_seg_ros.errors import EngineError  # noqa: E402
from rgbx_seg_ros.node import run  # noqa: E402
from rgbx_seg_ros.parameters import Parameters  # noqa: E402
from sensor_msgs.msg import Image  # noqa: E402
from support.node_stage import diagnostics, RGB, stamps, walk, X  # noqa: E402


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
    ({'model': 'nonesuch'}, ['nonesuch', 'msrs_scene']),
    ({'overlay.alpha': 2.0}, ['overlay.alpha', '2.0', '0 to 1']),
    ({'sync.slop_ms': 'soon'}, ['sync.slop_ms', 'soon', 'number']),
    ({'sync.slopms': 10.0}, ['sync.slopms', 'sync.slop_ms']),
    ({'label_encoding': 'rgb8'}, ['label_encoding', 'rgb8', '16SC1']),
])
def test_a_bad_parameter_fails_configure_and_is_named(make_node, warnings, parameters, words):
    node = make_node(start=False, **parameters)
    assert not node.start()
    assert len(warnings()) == 1
    assert all(word in warnings()[0] for word in words)


def test_a_library_that_the_python_of_a_robot_lacks_is_told_in_one_line(
        make_node, warnings, monkeypatch):
    def lack(*_):
        raise ModuleNotFoundError("No module named 'torch'", name='torch')
    monkeypatch.setattr(run.Segmenter, 'from_parameters', lack)
    node = make_node(start=False)
    assert node.trigger_configure() == TransitionCallbackReturn.FAILURE
    (line,) = warnings()
    assert f"on_configure failed: 'torch' is not installed for {sys.executable}: " in line


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


@pytest.mark.parametrize('tunes', [True, False])
def test_the_allocator_is_tuned_before_the_model_is_opened_if_at_all(
        make_node, monkeypatch, tunes):
    from rgbx_seg_ros.node import lifecycle as module
    calls = []
    opened = run.Segmenter.from_card
    monkeypatch.setattr(module, 'keep_freed_memory', lambda: calls.append('tune'))
    monkeypatch.setattr(run.Segmenter, 'from_card', lambda *arguments, **named: (
        calls.append('open'), opened(*arguments, **named))[1])
    walk(make_node(start=False, spins=False, tune_allocator=tunes), 'configure')
    assert calls == ['tune'] * tunes + ['open']


# ---------------------------------------------------------------- what a failure leaves behind


BY_PARAMETERS = {
    'no such model': {'model': 'nonesuch'},
    'a model for another sensor': {'x.kind': 'depth'},
    'limits at odds': {'health.late_ms': 500.0, 'health.dead_ms': 400.0},
    'range without a scale': {'x.range': [0.0, 40.0]},
    'scale without a range': {'x.normalization': 'fixed'},
    'no homography': {'registration.mode': 'homography', 'registration.homography': [0.0] * 9},
    'no rotation': {'registration.mode': 'extrinsics', 'registration.rotation': [0.0] * 4},
    'no message_filters': {'sync.policy': 'approximate'},
}
"""Parameters that are fine one by one, and that configure cannot do with."""


class Refusal(Exception):
    """What the middleware or a library may raise; nothing that the node expects."""


def refuse(*_, **__):
    raise Refusal('no')


def refuse_model(*_, **__):
    raise EngineError('the self-test failed')


def nth(function, number):
    """Return a function that fails at its call `number`, from 0 on, and else does its work."""
    calls = []

    def counted(*arguments, **named):
        calls.append(1)
        if len(calls) > number:
            refuse()
        return function(*arguments, **named)
    return counted


IN_CONFIGURE = {
    'open the model': (run.Segmenter, 'from_card', refuse),
    'test the model': (run, 'self_test', refuse_model),
    'test the model, unexpected': (run, 'self_test', refuse),
    'make pairs': (run, 'make_synchronizer', refuse),
    'take in the rig': (run, 'Rig', refuse),
    **{f'offer topic {number}': ('node', 'create_publisher', number) for number in range(8)},
}
IN_ACTIVATE = {
    'start the worker': (run, 'NewestWorker', refuse),
    'publish the labels': (run.Outputs, 'publish_labels', refuse),
    **{f'subscribe to topic {number}': ('node', 'create_subscription', number)
       for number in range(4)},
    **{f'start timer {number}': ('node', 'create_timer', number) for number in range(5)},
}
"""Steps of the transitions: where what they call is, and how it fails."""


@contextmanager
def failing(node, monkeypatch, where, name, how):
    """Let a step fail."""
    with monkeypatch.context() as patch:
        if where == 'node':
            patch.setattr(node, name, nth(getattr(node, name), how))
        else:
            patch.setattr(where, name, how)
        yield


def state(node):
    """Return the label of the state that a node is in."""
    return node._state_machine.current_state[1]


def held(node):
    """Return how much of the middleware and of the process a node holds."""
    return {'publishers': len(list(node.publishers)), 'timers': len(list(node.timers)),
            'subscriptions': len(list(node.subscriptions)), 'threads': threading.active_count()}


def put(node, values):
    """Set parameters one by one, which must go well."""
    for name, value in values.items():
        [result] = node.set_parameters([Parameter(name, value=value)])
        assert result.successful, result.reason


def originals(values):
    """Return what makes good what `values` spoil."""
    defaults = {**Parameters().to_ros(), 'health.dead_ms': 600_000.0}
    return {name: defaults[name] for name in values}


@pytest.fixture
def without_message_filters(monkeypatch):
    """Let message_filters not be installed."""
    monkeypatch.setitem(sys.modules, 'message_filters', None)


@pytest.mark.parametrize('spoilt', BY_PARAMETERS)
def test_a_configure_that_fails_leaves_nothing_and_can_be_mended(
        make_node, engines_alive, warnings, without_message_filters, tiny_card, spoilt):
    node = make_node(start=False, spins=False)
    before = held(node)
    put(node, BY_PARAMETERS[spoilt])
    for _ in range(2):
        assert node.trigger_configure() == TransitionCallbackReturn.FAILURE
        assert state(node) == 'unconfigured'
        assert held(node) == before and not engines_alive
    assert len(warnings()) == 2
    put(node, {**originals(BY_PARAMETERS[spoilt]), 'model': str(tiny_card)})
    walk(node, 'configure', 'activate', 'deactivate', 'cleanup')
    assert held(node) == before and not engines_alive


@pytest.mark.parametrize('step', IN_CONFIGURE)
def test_no_step_of_configure_leaves_anything_when_it_fails(
        make_node, engines_alive, monkeypatch, warnings, step):
    node = make_node(start=False, spins=False)
    before = held(node)
    with failing(node, monkeypatch, *IN_CONFIGURE[step]):
        node.trigger_configure()
    assert state(node) == 'unconfigured'
    assert held(node) == before and not engines_alive
    assert 'configure' in warnings()[0]
    put(node, {'overlay.alpha': 0.25, 'label_encoding': '16UC1'})
    walk(node, 'configure', 'activate', 'deactivate', 'cleanup')
    assert held(node) == before and not engines_alive


@pytest.mark.parametrize('step', IN_ACTIVATE)
def test_no_step_of_activate_leaves_anything_when_it_fails(
        make_node, engines_alive, monkeypatch, warnings, step):
    node = make_node(start=False, spins=False)
    before = held(node)
    walk(node, 'configure')
    with failing(node, monkeypatch, *IN_ACTIVATE[step]):
        node.trigger_activate()
    assert state(node) == 'unconfigured'  # rclpy cleans up after an error
    assert held(node) == before and not engines_alive
    assert 'activate' in warnings()[0]
    put(node, {'overlay.alpha': 0.25, 'label_encoding': '16UC1'})
    walk(node, 'configure', 'activate', 'deactivate', 'cleanup')
    assert held(node) == before and not engines_alive


def test_an_activate_that_is_refused_leaves_the_node_as_configured(
        make_node, monkeypatch, warnings):
    """And not half active: what is made up to there is taken back at once."""
    node = make_node(start=False, spins=False)
    walk(node, 'configure')
    before = held(node)

    class Refused(run.Input):

        def __init__(self, node, modality, *arguments, **named):
            super().__init__(node, modality, *arguments, **named)
            if modality == 'x':
                self.destroy()
                refuse_model()

    with failing(node, monkeypatch, run, 'Input', Refused):
        assert node.trigger_activate() == TransitionCallbackReturn.FAILURE
    assert state(node) == 'inactive' and held(node) == before
    assert 'on_activate failed: the self-test failed' in warnings()[-1]
    walk(node, 'activate')


@pytest.mark.parametrize('step', ['start the worker', 'subscribe to topic 3'])
def test_a_start_that_comes_half_the_way_is_none(make_node, monkeypatch, warnings, step):
    """The process ends then, with 2, unless somebody else leads the node through its states."""
    node = make_node(start=False, spins=False)
    with failing(node, monkeypatch, *IN_ACTIVATE[step]):
        assert node.start() is False
    assert node.start() is True


@pytest.mark.parametrize('transitions', [
    ('configure',), ('configure', 'activate'), ('configure', 'activate', 'deactivate')])
def test_a_node_that_is_destroyed_leaves_no_thread_and_no_model(
        make_node, engines_alive, transitions):
    node = make_node(start=False, spins=False)
    before = threading.active_count()
    walk(node, *transitions)
    node.destroy_node()
    assert threading.active_count() == before
    gc.collect()
    assert not engines_alive


# ---------------------------------------------------------------- memory


@pytest.mark.parametrize('refers_to_itself', [False, True])
def test_one_model_is_in_memory_at_most_whatever_walk_the_node_takes(
        stage, make_node, engine, engines_alive, refers_to_itself):
    if refers_to_itself:  # as the engine torch does where it cannot capture a graph
        opened = engine.__init__

        def open_in_a_circle(self, card, device):
            opened(self, card, device)
            self.run = self.__call__
        engine.__init__ = open_in_a_circle
    node = make_node(start=False)
    stage.listen(Image, 'segmentation/mask')
    gc.disable()  # Python may look for circles whenever it likes
    try:
        for number in range(1, 6):
            walk(node, 'configure')
            assert len(engines_alive) == 1
            walk(node, 'activate')
            for topic in ('rgb/image', 'x/image'):
                stage.wait(lambda t=topic: stage.publisher(
                    Image, t).get_subscription_count() == 1)
            stage.send(RGB, X, stage.stamp())
            stage.wait(lambda n=number: len(stage.received['segmentation/mask']) == n)
            walk(node, 'deactivate', 'cleanup')
            assert not engines_alive
    finally:
        gc.enable()


class _Build:
    """A build in the background that lasts until it is ended."""

    def __init__(self):
        self.started, self.ended = threading.Event(), threading.Event()

    def start(self, *_, **__):
        self.started.set()
        return self

    def wait(self, _):
        assert self.ended.wait(30)
        raise EngineError('it was stopped')

    def end(self, _):
        self.ended.set()


class _Runtime:
    """What the build is for."""

    name, key, suffix, options = 'a runtime', 'key', '.none', {}


def test_a_build_in_the_background_ends_with_the_cleanup(
        stage, make_node, engine, monkeypatch, tmp_path):
    monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path))
    build = _Build()
    for name, function in (('start_build', build.start), ('wait_for', build.wait),
                           ('end', build.end)):
        monkeypatch.setattr(background, name, function)

    class Engine(background.BackgroundEngine):

        def __init__(self, card, device):
            super().__init__(card, engine(card, device), _Runtime())

    monkeypatch.setitem(ENGINES, 'torch', Engine)
    node = make_node()
    stage.listen(Image, 'segmentation/mask')
    rng = np.random.default_rng(0)  # a frame without contrast would prove nothing
    rgb, x = (rng.integers(0, 255, frame.shape, np.uint8) for frame in (RGB, X))
    for number in (1, 2):  # of two frames of a kind it starts to build
        stage.send(rgb, x, stage.stamp())
        stage.wait(lambda n=number: len(stage.received['segmentation/mask']) == n)
    assert build.started.wait(30)
    walk(node, 'deactivate')
    assert not build.ended.is_set()
    walk(node, 'cleanup')
    assert build.ended.is_set()


# ---------------------------------------------------------------- all of it, again and again


@pytest.mark.long
def test_nothing_grows_over_twenty_lives_with_every_failure_and_every_change(
        make_node, engines_alive, monkeypatch, without_message_filters, tiny_card):
    node = make_node(start=False, spins=False)
    names = [spec.metadata['name'] for spec in fields(Parameters) if spec.metadata['runtime']]

    def change_all():
        """Set every parameter that may change at run time to the value that it has."""
        for name in names:
            put(node, {name: node.get_parameter(name).value})

    def spoil_and_mend(parameters):
        put(node, parameters)
        assert node.trigger_configure() == TransitionCallbackReturn.FAILURE
        change_all()
        put(node, {**originals(parameters), 'model': str(tiny_card)})
        walk(node, 'configure', 'cleanup')

    gc.collect()
    gc.freeze()  # to look through all that is imported would take most of the time
    try:
        before = None
        for _ in range(20):
            change_all()
            for parameters in BY_PARAMETERS.values():
                spoil_and_mend(parameters)
            for step in IN_CONFIGURE.values():
                with failing(node, monkeypatch, *step):
                    node.trigger_configure()
                assert state(node) == 'unconfigured'
            change_all()
            for step in IN_ACTIVATE.values():
                walk(node, 'configure')
                with failing(node, monkeypatch, *step):
                    node.trigger_activate()
                assert state(node) == 'unconfigured'
            walk(node, 'configure')
            change_all()
            walk(node, 'activate')
            change_all()
            walk(node, 'deactivate')
            change_all()
            walk(node, 'activate', 'deactivate', 'cleanup')
            assert not engines_alive
            before = before or held(node)
            assert held(node) == before
        walk(node, 'configure', 'activate', 'shutdown')
        change_all()
        assert state(node) == 'finalized'
        assert held(node) == before and not engines_alive
    finally:
        gc.unfreeze()
