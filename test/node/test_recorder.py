# Copyright 2026 rgbx_seg_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""The black box of the node: events, what is in a recording, and what the verbs make of it."""

import gc
import json
from pathlib import Path
import sys
import threading
import time
import weakref

import numpy as np
import pytest

pytest.importorskip('rclpy', reason='needs rclpy, from a ROS distribution or the ros extra')
pytest.importorskip('std_srvs', reason='needs std_srvs, from a ROS distribution or the ros extra')

from rclpy.lifecycle import TransitionCallbackReturn  # noqa: E402,I100
from rclpy.parameter import Parameter  # noqa: E402
from rgbx_seg_ros import engines  # noqa: E402
from rgbx_seg_ros.bags.storage import BagReader  # noqa: E402
from rgbx_seg_ros.extraction.extract import extract  # noqa: E402
from rgbx_seg_ros.health.report import Level  # noqa: E402
from rgbx_seg_ros.inference import disagreement  # noqa: E402
from rgbx_seg_ros.inference.pipeline import Frame, Job  # noqa: E402
from rgbx_seg_ros.inference.segmenter import Segmenter  # noqa: E402
from rgbx_seg_ros.messages.images import decode_x, stamp_ns, to_image  # noqa: E402
from rgbx_seg_ros.node.diagnostics import from_array  # noqa: E402
from rgbx_seg_ros.replay.replay import replay  # noqa: E402
from rgbx_seg_ros.sensors import Sensors  # noqa: E402
from sensor_msgs.msg import CameraInfo, CompressedImage  # noqa: E402
from std_msgs.msg import Header  # noqa: E402
from std_srvs.srv import Trigger  # noqa: E402
from support.node_stage import RGB, walk, X  # noqa: E402
from support.ros_stage import header  # noqa: E402

MS = 1_000_000
MASK = '/segmentation/mask'
NOISE = np.random.default_rng(0).integers(0, 99, RGB.shape, np.uint8)


def take(node, modality, pixels, stamp):
    """Hand the node an image, as its subscription does."""
    encoding = 'rgb8' if pixels.ndim == 3 else 'mono8'
    source = node._run._inputs[modality]
    source._subscriptions[0].callback(to_image(pixels, encoding, header(stamp, modality)))


def segment(stage, node, stamps):
    """Hand the node pairs, each once the mask of the one before is published."""
    counts = node._run._telemetry.counts
    for number, stamp in enumerate(stamps):
        before = counts().get('masks', 0)
        take(node, 'x', X, stamp + 3 * MS)
        take(node, 'rgb', NOISE + np.uint8(number), stamp)
        node._run._submit(node._run._pairer.flush())
        stage.wait(lambda b=before: counts().get('masks', 0) > b)


@pytest.fixture
def node(make_node, tmp_path):
    """Return a function that makes an active node that records, and does not spin."""
    def make(**parameters):
        folder = tmp_path / 'recordings'
        folder.mkdir(exist_ok=True)
        return make_node(spins=False, **{
            'record__folder': str(folder), 'record__duration_after_s': 0.0,
            'sync__max_wait_ms': 10_000.0, **parameters})
    return make


def box_of(node):
    return node._run._recorder._box


def recorded(stage, node):
    """Wait until nothing is being recorded; return the path of the newest recording."""
    stage.wait(lambda: box_of(node).summary()['state'] != 'recording')
    return box_of(node).summary()['newest']


def received(path, topic):
    """Return the messages of a topic in a bag."""
    with BagReader(path) as bag:
        return [message for _, _, message in bag.messages([topic])] if topic in bag.topics else []


def test_the_pairs_in_a_recording_are_those_that_the_node_has_segmented(
        stage, node, tiny_card, tmp_path):
    node = node()
    start = stage.stamp()
    stamps = [start + i * 100 * MS for i in range(5)]
    segment(stage, node, stamps)
    box_of(node).trigger('snapshot', '', start)
    path = recorded(stage, node)
    assert [stamp_ns(m.header) for m in received(path, MASK)] == stamps
    np.testing.assert_array_equal(decode_x(received(path, MASK)[0]), X > 128)
    out = tmp_path / 'out'
    assert extract([path], out).pairs == 5
    lines = [json.loads(line) for line in (out / 'manifest.jsonl').read_text().splitlines()]
    pairs = [[line[name]['stamp']['sec'] * 1000 * MS + line[name]['stamp']['nanosec']
              for name in ('rgb', 'x')] for line in lines]
    assert pairs == [[stamp, stamp + 3 * MS] for stamp in stamps]
    assert {line['rgb']['topic'] for line in lines} == {'/rgb/image'}
    report = replay(path, Segmenter.from_card(tiny_card, device='cpu'), tmp_path / 'masks')
    assert report.pairs == 5
    assert [stamp_ns(m.header) for m in received(tmp_path / 'masks', MASK)] == stamps


def test_compressed_images_camera_infos_and_diagnostics_are_recorded_as_they_came(stage, node):
    node = node(rgb__transport='compressed')
    jpeg = CompressedImage(header=header(stage.stamp(), 'rgb'), format='jpeg', data=b'\xff\xd8')
    inputs = node._run._inputs
    inputs['rgb']._subscriptions[0].callback(jpeg)
    for name in ('rgb', 'x'):
        info = CameraInfo(header=header(7, name), width=64, height=48)
        inputs[name]._subscriptions[1].callback(info)
    node._run._publish_diagnostics()
    box_of(node).trigger('snapshot', '', 1)
    path = recorded(stage, node)
    with BagReader(path) as bag:
        assert bag.counts == {'/rgb/image/compressed': 1, '/rgb/camera_info': 1,
                              '/x/camera_info': 1, '/diagnostics': 1}
        assert bag.topics['/diagnostics'] == 'diagnostic_msgs/msg/DiagnosticArray'
    found = received(path, '/rgb/image/compressed')[0]
    assert bytes(found.data) == bytes(jpeg.data) and found.header.frame_id == 'rgb'
    assert received(path, '/x/camera_info')[0].width == 64


def test_nothing_is_serialized_and_nothing_copied_before_an_event(stage, node, monkeypatch):
    node = node()
    monkeypatch.setattr(box_of(node), '_serialize', lambda message: pytest.fail('too early'))
    message = to_image(X, 'mono8', header(stage.stamp(), 'x'))
    node._run._inputs['x']._subscriptions[0].callback(message)
    assert box_of(node)._held[-1].message is message


@pytest.mark.parametrize(('events', 'count'), [
    ('sensor_failed', 1), ('all', 1), ('low_confidence', 0), ('none', 0)])
def test_a_sensor_that_fails_is_an_event(stage, node, events, count):
    node = node(record__events=events, health__saturated_share=0.98, record__max_disagreement=1.0)
    start = stage.stamp()
    segment(stage, node, [start])
    take(node, 'x', np.zeros_like(X), start + 200 * MS)
    assert box_of(node).summary()['events'] == count
    take(node, 'x', np.zeros_like(X), start + 300 * MS)  # it still has failed
    assert box_of(node).summary()['events'] == count
    if count:
        path = recorded(stage, node)
        assert path.endswith('_sensor_failed')
        assert [stamp_ns(m.header) for m in received(path, '/x/image')][:2] == [
            start + 3 * MS, start + 200 * MS]


def test_a_sensor_that_was_never_there_is_none(node):
    node = node()
    states = {'rgb': 'ok', 'x': 'dead'}
    node._run._recorder.watch_sensors(states, {'rgb': 10.0, 'x': None})
    assert box_of(node).summary()['events'] == 0
    node._run._recorder.watch_sensors({**states, 'rgb': 'frozen'}, {'rgb': 10.0, 'x': None})
    assert box_of(node).summary()['events'] == 1


@pytest.mark.parametrize(('limit', 'count'), [(0.99, 1), (0.9, 0)])
def test_a_mean_confidence_that_falls_below_the_limit_is_an_event(stage, node, limit, count):
    node = node(record__events='low_confidence', record__min_confidence=limit,
                record__cooldown_s=0.0)  # the engine of these tests is sure to 250 of 255
    segment(stage, node, [stage.stamp() + i * 100 * MS for i in range(3)])
    recorded(stage, node)
    assert box_of(node).summary()['events'] == count  # and it is one as long as it stays there


def test_a_mask_of_one_sensor_is_less_sure_by_its_nature_and_no_event(stage, node):
    node = node(record__events='low_confidence', record__min_confidence=0.9)
    frame = Frame(to_image(RGB, 'rgb8', header(stage.stamp(), 'rgb')), time.monotonic_ns(), 0)
    node._run._worker.submit(Job('rgb_only', frame, None))
    stage.wait(lambda: len(box_of(node)._held) == 1)
    walk(node, 'deactivate')
    assert box_of(node).summary()['events'] == 0


@pytest.fixture
def torn(engine, monkeypatch):
    """Let X alone give another class to a part of the pixels; count the masks of each alone."""
    class Torn(engine):
        share = 0.75
        asked = []

        def __call__(self, rgb, x, x_limits, sensors):
            Torn.asked.append(sensors)
            mask = np.zeros(rgb.shape[:2], np.uint8)
            mask[:round(Torn.share * len(mask))] = sensors is Sensors.X
            return mask, np.full_like(mask, 250)
    monkeypatch.setitem(engines.ENGINES, 'torch', Torn)
    monkeypatch.setattr(disagreement, 'PERIOD_S', 0.0)
    monkeypatch.setattr(disagreement, 'MOST_SHARE', 1e9)
    return Torn


def compared(stage, node, shares):
    """Segment pairs on which the sensors differ so; return what was told of each."""
    start, watch, told = stage.stamp(), node._run._recorder.watch_disagreement, []
    node._run._recorder.watch_disagreement = lambda share: (watch(share), told.append(share))
    for number, share in enumerate(shares):
        engines.ENGINES['torch'].share = share
        segment(stage, node, [start + number * 100 * MS])
        stage.wait(lambda n=number: len(told) > n)
        recorded(stage, node)
    return told


@pytest.mark.parametrize(('events', 'limit', 'shares', 'kept'), [
    ('disagreement', 0.4, [0.25, 0.5, 0.75], [50]),  # one event, however long it stays there
    ('all', 0.4, [0.5, 0.25, 0.75], [50, 75]),
    ('disagreement', 0.5, [0.0, 0.5, 0.25], [])])
def test_sensors_that_differ_on_more_than_the_limit_are_an_event(
        stage, node, torn, events, limit, shares, kept):
    node = node(record__events=events, record__max_disagreement=limit, record__cooldown_s=0.0)
    assert compared(stage, node, shares) == shares
    told = node._run._recorder.summary()
    assert (told['events'], told['disagreement']) == (len(kept), shares[-1])
    metadata = sorted(Path(told['folder']).glob('*_disagreement*/metadata.yaml'))
    for path, share in zip(metadata, kept, strict=True):
        assert f' {share} % of the pixels' in path.read_text()


def test_within_the_cooldown_a_disagreement_is_only_counted(stage, node, torn):
    node = node(record__events='disagreement', record__cooldown_s=600.0)
    compared(stage, node, [0.75, 0.25, 0.75])
    told = box_of(node).summary()
    assert (told['events'], told['files'], told['suppressed']) == (2, 1, 1)


@pytest.mark.parametrize('events', ['sensor_failed', 'low_confidence', 'none'])
def test_sensors_are_compared_only_if_asked(stage, node, torn, events):
    node = node(record__events=events)
    before = len(torn.asked)
    segment(stage, node, [stage.stamp() + i * 100 * MS for i in range(3)])
    walk(node, 'deactivate')  # which waits for the worker
    assert torn.asked[before:] == [Sensors.BOTH] * 3


def test_of_many_pairs_few_are_compared(stage, node, torn, monkeypatch):
    monkeypatch.setattr(disagreement, 'PERIOD_S', 600.0)
    node = node(record__events='disagreement')
    before = len(torn.asked)
    segment(stage, node, [stage.stamp() + i * 100 * MS for i in range(5)])
    walk(node, 'deactivate')
    assert torn.asked[before:] == [
        Sensors.BOTH, Sensors.RGB, Sensors.X, *[Sensors.BOTH] * 4]


def test_one_sensor_has_nobody_to_disagree_with(stage, node, torn):
    node = node(record__events='disagreement')
    before = len(torn.asked)
    frame = Frame(to_image(RGB, 'rgb8', header(stage.stamp(), 'rgb')), time.monotonic_ns(), 0)
    node._run._worker.submit(Job('rgb_only', frame, None))
    stage.wait(lambda: len(box_of(node)._held) == 1)
    walk(node, 'deactivate')
    assert torn.asked[before:] == [Sensors.RGB] and box_of(node).summary()['events'] == 0


def test_a_comparison_that_fails_costs_no_mask(stage, node, torn, warnings):
    node = node(record__events='disagreement')

    def fail(*_):
        raise RuntimeError('out of memory')
    node._run._comparison.look = fail
    segment(stage, node, [stage.stamp() + i * 100 * MS for i in range(2)])
    walk(node, 'deactivate')
    counts = node._run._telemetry.counts()
    assert counts['masks'] == 2 and 'engine_failed' not in counts
    assert any("sensors are not compared: RuntimeError('out of memory')" in line
               for line in warnings())


def test_a_call_records_and_names_the_file(stage, make_node, tmp_path):
    node = make_node(record__folder=str(tmp_path), record__duration_after_s=0.0)
    client = stage.node.create_client(Trigger, '/rgbx_seg/snapshot')
    stage.wait(client.service_is_ready)

    def call():
        future = client.call_async(Trigger.Request())
        stage.wait(future.done)
        return future.result()
    answer = call()
    assert not answer.success and 'no message has come' in answer.message
    stage.send(RGB, X, stage.stamp())
    stage.wait(lambda: node._run._telemetry.counts().get('masks'))
    for _ in range(2):  # within the cooldown as well
        answer = call()
        assert answer.success and answer.message == recorded(stage, node)
        assert len(received(answer.message, '/rgb/image')) == 1
    walk(node, 'deactivate')
    stage.wait(lambda: not client.service_is_ready())


def test_without_the_parameter_nothing_is_kept_and_no_service_offered(make_node):
    node = make_node(spins=False)
    assert node._run._recorder is None
    assert 'record' not in from_array(node._run._outputs.publish_diagnostics(
        node._run._assessor.assess(node._run._report())))['rgbx_seg']
    assert not any('snapshot' in service.srv_name for service in node.services)


def test_diagnostics_tell_of_recordings_and_of_what_is_wrong(stage, node, tmp_path):
    node = node(record__cooldown_s=0.0, record__max_total_mb=1)

    def told():
        node._run._publish_diagnostics()
        return from_array(box_of(node)._held[-1].message)['rgbx_seg']['record']
    segment(stage, node, [stage.stamp()])
    assert told().level == Level.OK and 'wait for an event' in told().message
    box_of(node).trigger('snapshot', '', 1)
    path = recorded(stage, node)
    values = told().values
    assert (values['files'], values['newest'], values['failure']) == ('1', path, 'none')
    (tmp_path / 'recordings' / path / 'more').write_bytes(bytes(1_000_000))
    box_of(node).trigger('snapshot', '', 1)
    recorded(stage, node)
    assert told().level == Level.WARN and 'record.max_total_mb is 1' in told().message
    segment(stage, node, [stage.stamp()])  # the node goes on


def test_the_life_of_the_node_leaves_no_thread_no_file_open_and_no_message(stage, node):
    node = node(record__duration_after_s=600.0)
    before = threading.active_count()
    for number in range(3):
        message = to_image(X, 'mono8', header(stage.stamp(), 'x'))
        alive = weakref.ref(message.data)
        node._run._inputs['x']._subscriptions[0].callback(message)
        del message
        event = box_of(node).trigger('snapshot', '', 1, at_once=True)
        assert event.decided.wait(20)
        walk(node, 'deactivate')
        node._run._pairer.reset()
        gc.collect()
        assert alive() is None
        assert len(received(event.path, '/x/image')) == 1
        assert (event.path / 'metadata.yaml').is_file()
        if number == 1:
            walk(node, 'cleanup', 'configure')
        walk(node, 'activate')
        assert threading.active_count() == before
    node.destroy_node()
    assert threading.active_count() < before


@pytest.mark.parametrize('state', [(), ('configure',), ('configure', 'activate')])
def test_parameters_change_in_every_state(make_node, tmp_path, state):
    node = make_node(start=False, spins=False, record__folder=str(tmp_path))
    walk(node, *state)

    def change(name, value):
        return node.set_parameters([Parameter(name, value=value)])[0]
    assert change('record.duration_s', 3).successful
    assert not change('record.duration_s', -1.0).successful
    assert not change('record.events', 'some').successful
    refused = change('record.folder', str(tmp_path / 'other'))
    assert refused.successful == (not state)
    if state:
        assert box_of(node).parameters.record_duration_s == 3.0


def test_a_folder_that_cannot_be_written_fails_configure_and_is_named(make_node, warnings):
    node = make_node(start=False, spins=False, record__folder='/nonesuch/folder')
    assert node.trigger_configure() == TransitionCallbackReturn.FAILURE
    assert "parameter 'record.folder' is '/nonesuch/folder', needed is a folder" in warnings()[0]
    assert node.set_parameters([Parameter('record.folder', value='')])[0].successful
    walk(node, 'configure', 'activate')


def test_without_std_srvs_configure_says_what_to_install(
        make_node, tmp_path, monkeypatch, warnings):
    monkeypatch.setitem(sys.modules, 'std_srvs.srv', None)
    monkeypatch.delitem(sys.modules, 'rgbx_seg_ros.node.recorder', raising=False)
    node = make_node(start=False, spins=False, record__folder=str(tmp_path))
    assert node.trigger_configure() == TransitionCallbackReturn.FAILURE
    assert 'apt install ros-$ROS_DISTRO-std-srvs' in warnings()[0]


def test_an_activate_that_fails_leaves_no_thread(make_node, tmp_path, monkeypatch, warnings):
    node = make_node(start=False, spins=False, record__folder=str(tmp_path))
    before = threading.active_count()
    walk(node, 'configure')

    def refuse(*_, **__):
        raise RuntimeError('no')
    with monkeypatch.context() as patch:
        patch.setattr(node, 'create_service', refuse)
        node.trigger_activate()
    assert threading.active_count() == before
    walk(node, 'configure', 'activate')


def test_nodes_of_several_namespaces_share_a_folder(stage, tmp_path, tiny_card, engine):
    from rgbx_seg_ros.node.node import SegNode
    node = SegNode(context=stage.context, namespace='/front', parameter_overrides=[
        Parameter('model', value=str(tiny_card)), Parameter('record.folder', value=str(tmp_path)),
        Parameter('record.duration_after_s', value=0.0)])
    try:
        walk(node, 'configure', 'activate')
        node._run._inputs['x']._subscriptions[0].callback(to_image(X, 'mono8', Header()))
        event = box_of(node).trigger('snapshot', '', 1)
        assert event.decided.wait(20) and event.path.name.startswith('front_rgbx_seg_')
        assert received(recorded(stage, node), '/front/x/image')
    finally:
        node.destroy_node()
