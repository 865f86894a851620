# Copyright 2026 rgbx_seg_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""The node over the real middleware, with an engine that answers at once."""

import json
import sys
import threading
import time
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest

pytest.importorskip('rclpy', reason='needs rclpy, from a ROS distribution or the ros extra')

from diagnostic_msgs.msg import DiagnosticArray  # noqa: E402,I100
from rclpy.lifecycle import TransitionCallbackReturn  # noqa: E402
from rclpy.parameter import Parameter  # noqa: E402
from rgbx_seg_ros import engines  # noqa: E402
from rgbx_seg_ros.card import load_card  # noqa: E402
from rgbx_seg_ros.labels import LabelSet  # noqa: E402
from rgbx_seg_ros.messages import decode_x, stamp_ns  # noqa: E402
from rgbx_seg_ros.node import SegNode  # noqa: E402
from rgbx_seg_ros.outputs import label_info  # noqa: E402
from ros_stage import CAMERA, header, image, LATCHED, next_domain, Stage  # noqa: E402
from sensor_msgs.msg import CameraInfo, CompressedImage, Image  # noqa: E402
from std_msgs.msg import Header, String  # noqa: E402

RGB = np.full((48, 64, 3), 100, np.uint8)
X = np.zeros((48, 64), np.uint8)
X[:, 32:] = 200


class ThresholdEngine:
    """Marks what is bright in X; takes `seconds` for it, or raises `failure`."""

    device = 'test'
    seconds = 0.0
    failure = None
    calls = 0

    def __init__(self, card, device):
        pass

    def __call__(self, rgb, x, x_range, present):
        type(self).calls += 1
        if self.failure is not None:
            raise self.failure
        time.sleep(self.seconds)
        return (x > 128).astype(np.uint8), np.full(x.shape, 250, np.uint8)


@pytest.fixture
def engine(monkeypatch):
    """Give the node an engine class whose behaviour a test may change."""
    class Engine(ThresholdEngine):
        pass
    monkeypatch.setitem(engines.ENGINES, 'torch', Engine)
    return Engine


@pytest.fixture
def stage():
    """Give a stage in a domain of its own."""
    stage = Stage(next_domain())
    yield stage
    stage.close()


@pytest.fixture
def warnings(capfd):
    """Give a function that returns the warnings and errors logged so far."""
    lines = []

    def read():
        lines.extend(capfd.readouterr().err.splitlines())
        return [line for line in lines if line.startswith(('[WARN]', '[ERROR]'))]
    return read


@pytest.fixture
def make_node(stage, engine, tiny_card):
    """Give a function that makes a node with the parameters given, spinning on its own thread."""
    nodes = []

    def make(start=True, **parameters):
        parameters = {'model': str(tiny_card), **parameters}
        node = SegNode(context=stage.context, parameter_overrides=[
            Parameter(name.replace('__', '.'), value=value)
            for name, value in parameters.items()])
        nodes.append(node)
        stage.spin(node)
        if start:
            assert node.start()
        return node

    yield make
    for node in nodes:
        node.destroy_node()


def diagnostics(stage):
    """Return the newest facts the node has told about itself."""
    messages = stage.received['/diagnostics']
    return {v.key: v.value for v in messages[-1][0].status[0].values} if messages else {}


def stamps(stage, topic='segmentation/mask'):
    """Return the stamps received on `topic`."""
    return [stamp_ns(message.header) for message, _ in stage.received[topic]]


def test_mask_has_the_stamp_frame_and_size_of_the_colour_image(stage, make_node):
    make_node()
    for name in ('mask', 'confidence'):
        stage.listen(Image, f'segmentation/{name}')
    sent = [1_700_000_000_123_456_789 + i * 1_000_000_007 for i in range(3)]
    for number, stamp in enumerate(sent, 1):
        stage.send(RGB, X, stamp, stamp + 3_000_001)
        stage.wait(lambda n=number: len(stage.received['segmentation/confidence']) == n
                   and len(stage.received['segmentation/mask']) == n)
    assert stamps(stage) == sent
    for mask, _ in stage.received['segmentation/mask']:
        assert (mask.encoding, mask.step, mask.width, mask.height) == ('mono8', 64, 64, 48)
        assert mask.header.frame_id == 'rgb'
        np.testing.assert_array_equal(decode_x(mask), X > 128)
    confidence = stage.received['segmentation/confidence'][0][0]
    assert (decode_x(confidence) == 250).all()
    assert stamp_ns(confidence.header) == sent[0]


@pytest.mark.parametrize('encoding', ['8UC1', '16UC1', '16SC1', '32SC1'])
def test_label_encoding_is_a_parameter(stage, make_node, encoding):
    make_node(label_encoding=encoding)
    stage.listen(Image, 'segmentation/mask')
    stage.send(RGB, X, stage.stamp())
    stage.wait(lambda: stage.received['segmentation/mask'])
    mask = stage.received['segmentation/mask'][0][0]
    size = {'8UC1': 1, '16UC1': 2, '16SC1': 2, '32SC1': 4}[encoding]
    assert (mask.encoding, mask.step) == (encoding, 64 * size)
    values = np.frombuffer(mask.data, f'<i{size}').reshape(48, 64)
    np.testing.assert_array_equal(values, X > 128)


def test_palette_reaches_a_subscriber_that_comes_late(stage, make_node, card_content):
    make_node()
    stage.send(RGB, X, stage.stamp())
    stage.listen(String, 'segmentation/palette', LATCHED)
    stage.wait(lambda: stage.received['segmentation/palette'])
    palette = json.loads(stage.received['segmentation/palette'][0][0].data)
    assert palette == [*card_content['classes'],
                       {'id': 255, 'name': 'unlabeled', 'color': [0, 0, 0]}]


def test_label_info_names_the_ids(monkeypatch, tiny_card):
    # vision_msgs has no wheel: these have the fields of LabelInfo.msg and VisionClass.msg 4.1.
    kinds = SimpleNamespace(
        LabelInfo=lambda: SimpleNamespace(header=Header(), class_map=[], threshold=0.0),
        VisionClass=lambda class_id, class_name: (class_id, class_name))
    monkeypatch.setitem(sys.modules, 'vision_msgs', ModuleType('vision_msgs'))
    monkeypatch.setitem(sys.modules, 'vision_msgs.msg', kinds)
    message = label_info(load_card(tiny_card).labels, header(7, '').stamp)
    assert message.class_map == [(0, 'background'), (1, 'car'), (2, 'person')]
    assert message.header.stamp.nanosec == 7


def test_pictures_are_made_only_for_subscribers(stage, make_node, monkeypatch):
    made = []
    for method in (LabelSet.overlay, LabelSet.colorize):
        def counted(*args, method=method):
            made.append(method.__name__)
            return method(*args)
        monkeypatch.setattr(LabelSet, method.__name__, counted)
    make_node(overlay__alpha=0.25)
    stage.listen(Image, 'segmentation/mask')
    stage.send(RGB, X, stage.stamp())
    stage.wait(lambda: stage.received['segmentation/mask'])
    assert made == []

    stage.listen(Image, 'segmentation/overlay')
    stage.listen(Image, 'segmentation/color')
    stage.wait(lambda: all(stage.node.count_publishers(f'segmentation/{name}')
                           for name in ('overlay', 'color')))

    def both_came():
        stage.send(RGB, X, stage.stamp())
        return stage.received['segmentation/overlay'] and stage.received['segmentation/color']
    stage.wait(both_came)
    overlay = stage.received['segmentation/overlay'][0][0]
    assert overlay.encoding == 'rgb8'
    pixels = np.frombuffer(overlay.data, np.uint8).reshape(48, 64, 3)
    assert pixels[0, 0].tolist() == [100, 100, 100]
    np.testing.assert_allclose(pixels[0, 63], [83, 105, 139], atol=1)
    color = stage.received['segmentation/color'][0][0]
    assert bytes(color.data[:3]) + bytes(color.data[-3:]) == bytes([0, 0, 0, 30, 120, 255])


def test_a_fused_image_goes_out_with_the_mask(stage, make_node, engine, write_card):
    card = write_card(network='difusionseg', network_args={},
                      x={'kind': 'thermal', 'mean': [0.5], 'std': [0.2]})
    segment = engine.__call__
    engine.__call__ = lambda self, rgb, *rest: (*segment(self, rgb, *rest), 255 - rgb)
    make_node(model=str(card))
    stage.listen(Image, 'segmentation/mask')
    stage.listen(Image, 'segmentation/fused')
    stage.send(RGB, X, stage.stamp())
    stage.wait(lambda: stage.received['segmentation/fused'])
    fused = stage.received['segmentation/fused'][0][0]
    assert (fused.encoding, fused.height, fused.width) == ('rgb8', 48, 64)
    assert bytes(fused.data) == (255 - RGB).tobytes()
    assert stamps(stage, 'segmentation/fused') == stamps(stage)


def test_camera_info_goes_out_with_the_stamp_of_the_mask(stage, make_node):
    make_node()
    stage.listen(Image, 'segmentation/mask')
    stage.listen(CameraInfo, 'segmentation/camera_info')
    info = CameraInfo(width=64, height=48, distortion_model='plumb_bob', header=header(5, 'rgb'))
    info.k[0] = 500.0
    publisher = stage.publisher(CameraInfo, 'rgb/camera_info')

    def came():
        publisher.publish(info)
        stage.send(RGB, X, stage.stamp())
        return stage.received['segmentation/camera_info']
    stage.wait(came)
    out = stage.received['segmentation/camera_info'][0][0]
    assert (out.k[0], out.width, out.distortion_model) == (500.0, 64, 'plumb_bob')
    stage.wait(lambda: stamp_ns(out.header) in stamps(stage))


BAD = {
    'encoding': image(48, 64, 'rgb99', 192, RGB.tobytes()),
    'data': image(48, 64, 'rgb8', 192, RGB.tobytes()[:-1]),
    'width x height': image(0, 0, 'rgb8', 0, b''),
    'step': image(48, 64, 'rgb8', 10, RGB.tobytes()),
}


@pytest.mark.parametrize('field', BAD)
def test_a_malformed_frame_is_refused_once_and_the_next_pair_served(
        stage, make_node, warnings, field):
    make_node()
    stage.listen(Image, 'segmentation/mask')
    stage.listen(DiagnosticArray, '/diagnostics')
    start = stage.stamp()
    for i in range(3):
        stage.send(BAD[field], X, start + i * 1_000_000)
    good = start + 1_000_000_000
    stage.send(RGB, X, good)
    stage.wait(lambda: good in stamps(stage))
    assert stamps(stage) == [good]
    stage.wait(lambda: diagnostics(stage).get('rgb_malformed') == '3')
    assert len(warnings()) == 1
    assert f'/rgb/image: frame dropped: {field}' in warnings()[0]


def test_a_silent_topic_is_named_with_those_that_it_could_be(stage, make_node, warnings):
    camera = stage.node.create_publisher(Image, '/camera/image_raw', 5)
    make_node()
    stage.publisher(Image, 'x/image')
    stage.wait(lambda: len(warnings()) >= 2)
    rgb, x = warnings()
    assert 'no message on /rgb/image yet: nobody publishes it' in rgb
    assert '/camera/image_raw' in rgb and 'segmentation' not in rgb
    assert 'no message on /x/image yet: it has 1 publisher' in x
    stage.node.destroy_publisher(camera)


def test_frames_of_different_times_are_not_paired(stage, make_node):
    make_node(sync__slop_ms=20, sync__max_wait_ms=10)
    stage.listen(Image, 'segmentation/mask')
    stage.listen(DiagnosticArray, '/diagnostics')
    start = stage.stamp()
    stage.send(RGB, X, start, start + 21_000_000)
    stage.wait(lambda: diagnostics(stage).get('rgb_no_partner') == '1')
    stage.send(RGB, X, start + 10**9, start + 10**9 + 19_000_000)
    stage.wait(lambda: stamps(stage) == [start + 10**9])


def test_a_bag_that_starts_again_is_served_again(stage, make_node):
    make_node()
    stage.listen(Image, 'segmentation/mask')
    loop = [10**18 + i * 100_000_000 for i in range(5)]
    for number, stamp in enumerate(loop * 2, 1):
        stage.send(RGB, X, stamp)
        stage.wait(lambda n=number: len(stage.received['segmentation/mask']) == n)
    assert stamps(stage) == loop * 2


def test_compressed_frames_arrive_on_the_suffixed_topics(stage, make_node):
    import cv2
    make_node(rgb__transport='compressed', x__transport='compressed')
    stage.listen(Image, 'segmentation/mask')
    stamp = stage.stamp()
    for topic, pixels, kind in (('rgb/image', RGB, '.jpg'), ('x/image', X, '.png')):
        file = cv2.imencode(kind, pixels)[1].tobytes()
        stage.publisher(CompressedImage, f'{topic}/compressed').publish(CompressedImage(
            header=header(stamp, 'rgb'), format='jpeg' if kind == '.jpg' else 'png', data=file))
    stage.wait(lambda: stamps(stage) == [stamp])


def test_a_frame_that_is_too_old_when_its_mask_is_ready_gets_none(
        stage, make_node, engine, warnings):
    make_node(max_age_ms=300)
    stage.listen(Image, 'segmentation/mask')
    stage.listen(DiagnosticArray, '/diagnostics')
    engine.seconds = 0.5
    stage.send(RGB, X, stage.stamp())
    stage.wait(lambda: diagnostics(stage).get('too_old') == '1')
    assert 'max_age_ms is 300; take a smaller model or raise it' in warnings()[-1]
    engine.seconds = 0.0
    stage.send(RGB, X, stage.stamp() - 10**9)
    stage.wait(lambda: diagnostics(stage).get('too_old') == '2')
    good = stage.stamp()
    stage.send(RGB, X, good)
    stage.wait(lambda: stage.received['segmentation/mask'])
    assert stamps(stage) == [good]


def test_the_age_of_a_frame_with_the_stamp_of_another_clock_counts_from_its_receipt(
        stage, make_node, engine, warnings):
    make_node(max_age_ms=300)
    stage.listen(Image, 'segmentation/mask')
    stage.send(RGB, X, 10**18)
    stage.wait(lambda: stamps(stage) == [10**18])
    assert any('ages are counted from the receipt' in line for line in warnings())


def test_pixels_below_the_threshold_are_unlabeled(stage, make_node, engine):
    node = make_node()
    stage.listen(Image, 'segmentation/mask')
    engine.__call__ = lambda self, rgb, x, *_: (np.ones_like(x), np.where(x > 128, 200, 100)
                                                .astype(np.uint8))
    node.set_parameters([Parameter('confidence.threshold', value=0.5)])
    stage.send(RGB, X, stage.stamp())
    stage.wait(lambda: stage.received['segmentation/mask'])
    mask = decode_x(stage.received['segmentation/mask'][0][0])
    np.testing.assert_array_equal(mask, np.where(X > 128, 1, 255))


def test_pictures_go_out_no_more_often_than_their_rate_allows(stage, make_node):
    make_node(overlay__max_rate_hz=1.0)
    stage.listen(Image, 'segmentation/mask')
    stage.listen(Image, 'segmentation/overlay')
    stage.wait(lambda: stage.node.count_publishers('segmentation/overlay'))
    started = time.monotonic()
    for number in range(1, 21):
        stage.send(RGB, X, stage.stamp())
        stage.wait(lambda n=number: len(stage.received['segmentation/mask']) == n)
    assert len(stage.received['segmentation/overlay']) <= 2 + (time.monotonic() - started)


def test_a_publisher_whose_qos_does_not_fit_is_named(stage, make_node, warnings):
    make_node(rgb__reliability='reliable')
    camera = stage.node.create_publisher(Image, 'rgb/image', CAMERA)
    stage.wait(lambda: any('offers BEST_EFFORT, this subscription asks RELIABLE' in line
                           for line in warnings()))
    assert any('set rgb.reliability to best_effort' in line for line in warnings())
    stage.node.destroy_publisher(camera)


def test_an_engine_that_fails_costs_the_pair_and_not_the_node(
        stage, make_node, engine, warnings):
    make_node()
    stage.listen(Image, 'segmentation/mask')
    stage.listen(DiagnosticArray, '/diagnostics')
    engine.failure = RuntimeError('CUDA out of memory')
    stage.send(RGB, X, stage.stamp())
    stage.wait(lambda: diagnostics(stage).get('engine_failed') == '1')
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


def test_overload_for_a_moment_drops_the_older_pairs(stage, make_node, engine):
    _overload(stage, make_node, engine, seconds=4)


@pytest.mark.slow
def test_overload_for_a_minute_keeps_latency_and_memory_bounded(stage, make_node, engine):
    _overload(stage, make_node, engine, seconds=60)


def _overload(stage, make_node, engine, seconds):
    """Send 30 pairs/s to an engine that takes 200 ms, and look at every mask."""
    engine.seconds = 0.2
    make_node()
    stage.listen(Image, 'segmentation/mask')
    stage.listen(DiagnosticArray, '/diagnostics')
    rgb, x = np.zeros((480, 640, 3), np.uint8), np.zeros((480, 640), np.uint8)
    sent, settled, start = 0, None, time.monotonic()
    while (passed := time.monotonic() - start) < seconds:
        stage.send(rgb, x, stage.stamp())
        sent += 1
        if settled is None and passed > seconds / 4:
            settled = _resident_bytes()
        time.sleep(max(0.0, start + sent / 30 - time.monotonic()))
    grown = _resident_bytes() - settled

    latencies = [(received - stamp_ns(mask.header)) / 1e6
                 for mask, received in stage.received['segmentation/mask']]
    assert len(latencies) > 2 * seconds
    assert max(latencies) < 2 * 200 + 1000 / 30

    def counted():
        facts = {name: int(value) for name, value in diagnostics(stage).items()
                 if value.isdigit()}
        return facts.get('pairs', 0) == facts.get('masks', 0) + facts.get('superseded', 0) > 0
    stage.wait(counted)
    facts = diagnostics(stage)
    assert int(facts['superseded']) > int(facts['masks'])
    # The masks that this test keeps are part of the process.
    kept = sum(len(mask.data) for mask, _ in stage.received['segmentation/mask'])
    assert grown < kept + 20e6


def _resident_bytes():
    with open('/proc/self/statm', encoding='ascii') as file:
        return int(file.read().split()[1]) * 4096
