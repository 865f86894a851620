# Copyright 2026 rgbx_seg_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""What the node publishes, over the real middleware."""

import json
import math
from pathlib import Path
import re
import sys
import time
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest

pytest.importorskip('rclpy', reason='needs rclpy, from a ROS distribution or the ros extra')

from rclpy.parameter import Parameter  # noqa: E402
from rgbx_seg_ros.cards.card import load_card  # noqa: E402
from rgbx_seg_ros.cards.labels import LabelSet  # noqa: E402
from rgbx_seg_ros.inference.pipeline import Frame, Job  # noqa: E402
from rgbx_seg_ros.inference.segmenter import Segmentation  # noqa: E402
from rgbx_seg_ros.messages.images import decode_x, stamp_ns, to_image  # noqa: E402
from rgbx_seg_ros.node import run  # noqa: E402
from rgbx_seg_ros.node.outputs import label_info, TIMING  # noqa: E402
from sensor_msgs.msg import CameraInfo, Image  # noqa: E402
from std_msgs.msg import Float64MultiArray, Header, String  # noqa: E402
from support.node_stage import RGB, stamps, X  # noqa: E402,I100
from support.ros_stage import header, LATCHED  # noqa: E402

ROOT = Path(__file__).parents[2]


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


def timing(stage):
    """Return the numbers of the newest segmentation/timing by their names."""
    message = stage.received['segmentation/timing'][-1][0]
    [dimension] = message.layout.dim
    assert dimension.size == dimension.stride == len(message.data)
    assert dimension.label.split(', ') == [*TIMING]
    return dict(zip(TIMING, message.data, strict=True))


def test_the_times_of_each_mask_can_be_plotted(stage, make_node, engine):
    make_node(sync__x_offset_ms=1.0, sync__max_wait_ms=60.0)
    engine.seconds = 0.02
    stage.listen(Float64MultiArray, 'segmentation/timing')
    stage.listen(Image, 'segmentation/mask')
    for topic in ('segmentation/timing', 'segmentation/mask'):
        stage.wait(lambda t=topic: stage.node.count_publishers(t))
    for number in range(3):
        stamp = stage.stamp()
        stage.send(RGB, X, stamp, stamp + 4_000_000)
        stage.wait(lambda n=number: len(stage.received['segmentation/timing']) > n)
        told = timing(stage)
        assert told['stamp_s'] == pytest.approx(stamp / 1e9, abs=1e-6)
        elapsed_ms = (stage.stamp() - stamp) / 1e6
        assert 20 <= told['inference_ms'] <= told['latency_ms'] <= elapsed_ms
        assert 0 <= told['wait_ms'] <= told['latency_ms'] - told['inference_ms']
        assert told['distance_ms'] == pytest.approx(5.0)
        assert told['confidence'] == pytest.approx(250 / 255)
    assert len(stage.received['segmentation/timing']) == 3


def test_the_times_of_a_mask_of_one_sensor_have_no_distance(stage, make_node):
    node = make_node(degraded__policy='rgb_only')
    stage.listen(Float64MultiArray, 'segmentation/timing')
    stage.wait(lambda: node._run._outputs._timing.get_subscription_count())
    stamp = stage.stamp()
    frame = Frame(to_image(RGB, 'rgb8', header(stamp, 'rgb')), time.monotonic_ns(), 0)
    node._run._worker.submit(Job('rgb_only', frame, None, frame.received_ns + 2_000_000))
    stage.wait(lambda: stage.received['segmentation/timing'])
    told = timing(stage)
    assert math.isnan(told['distance_ms']) and told['wait_ms'] == 2.0
    assert told['confidence'] == pytest.approx(125 / 255)


def test_times_that_nobody_wants_are_not_made(stage, make_node, monkeypatch):
    node = make_node()
    monkeypatch.setattr(run.Run, '_timing', lambda *_: pytest.fail('nobody listens'))
    stage.listen(Image, 'segmentation/mask')
    stage.send(RGB, X, stage.stamp())
    stage.wait(lambda: stage.received['segmentation/mask'])
    stage.wait(lambda: node._run._telemetry.counts().get('masks'))


def test_the_numbers_of_the_times_stand_in_the_page_in_their_order():
    page = (ROOT / 'docs' / 'topics.md').read_text(encoding='utf-8')
    rows = re.findall(r'^\| `data\[(\d)\]` \| `(\w+)` \| (.*) \|$', page, re.MULTILINE)
    assert rows == [(str(i), name, meaning) for i, (name, meaning) in enumerate(TIMING.items())]


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


@pytest.mark.parametrize(('period_ms', 'shown'), [(100, 50), (104, 50), (48, 25), (20, 11)])
def test_at_their_rate_pictures_go_out_however_unsteady_and_beyond_it_as_many_as_it_allows(
        stage, make_node, monkeypatch, period_ms, shown):
    """Frames of a camera at that very rate come a little early and a little late."""
    from rgbx_seg_ros.node import outputs
    node = make_node(spins=False)
    made, now_ms = [], [1e6]
    monkeypatch.setattr(outputs, 'time', SimpleNamespace(monotonic=lambda: now_ms[0] / 1e3))
    monkeypatch.setattr(outputs.Outputs, '_wanted', lambda self, name: name == 'overlay')
    monkeypatch.setattr(LabelSet, 'overlay', lambda self, rgb, *_: made.append(1) or rgb)
    mask = np.zeros((48, 64), np.uint8)
    result = Segmentation(mask, mask, None, 0.0, 0.0)
    for number in range(50):
        now_ms[0] = 1e6 + number * period_ms + (2 if number % 2 else -2)
        node._run._outputs.publish_rest(result, RGB, header(7, ''), None, 0.5, 10.0)
    assert len(made) == shown


# Groups of classes, and masks of another size


def test_a_binary_mask_has_the_pixels_of_its_group_with_the_header_of_the_mask(
        stage, make_node, engine):
    ids = np.array([0, 1, 2, 255], np.uint8)
    engine.__call__ = lambda self, rgb, x, *_: (np.resize(ids, x.shape), np.full_like(x, 250))
    make_node(classes__groups='dynamic=car, person; still=car', binary__group='dynamic')
    for name in ('mask', 'binary'):
        stage.listen(Image, f'segmentation/{name}')

    def came():
        stage.send(RGB, X, stage.stamp())
        return stage.received['segmentation/binary']
    stage.wait(came)
    binary = stage.received['segmentation/binary'][0][0]
    assert (binary.encoding, binary.step, binary.width, binary.height) == ('mono8', 64, 64, 48)
    np.testing.assert_array_equal(decode_x(binary),
                                  np.resize(np.array([0, 255, 255, 0], np.uint8), X.shape))
    stage.wait(lambda: stamp_ns(binary.header) in stamps(stage))
    assert binary.header.frame_id == 'rgb'


def test_the_groups_of_the_card_and_of_the_parameter_stand_in_the_palette(
        stage, make_node, write_card):
    make_node(model=str(write_card(groups={'fast': ['car'], 'warm': ['person']})),
              classes__groups='still=person; fast=car, person')
    stage.listen(String, 'segmentation/palette', LATCHED)
    stage.wait(lambda: stage.received['segmentation/palette'])
    entries = json.loads(stage.received['segmentation/palette'][0][0].data)
    assert [entry['groups'] for entry in entries] == [
        [], ['fast'], ['fast', 'warm', 'still'], []]


@pytest.mark.parametrize(('parameters', 'said'), [
    ({'binary__group': 'dynamic'}, "group 'dynamic' is unknown, as the model has no groups"),
    ({'classes__groups': 'dynamic=cat'}, "group 'dynamic': class 'cat' is unknown; did you mean "
     "'car'"),
    ({'classes__groups': 'dynamic'}, "parameter 'classes.groups' is 'dynamic': 'dynamic' is no "
     'group'),
    ({'mask__size': '0 480'}, "parameter 'mask.size' is '0 480': allowed are native, x, and"),
    ({'mask__size': 'small'}, "parameter 'mask.size' is 'small'"),
])
def test_groups_and_sizes_that_cannot_be_end_the_start_in_one_line(
        make_node, warnings, parameters, said):
    assert not make_node(start=False, **parameters).start()
    [line] = warnings()
    assert said in line


INFO_K = [50.0, 0.0, 31.5, 0.0, 52.0, 23.5, 0.0, 0.0, 1.0]


@pytest.mark.parametrize(('size', 'width', 'height'), [
    ('native', 64, 48), ('32 24', 32, 24), ('x', 40, 20), ('128x96', 128, 96)])
def test_a_mask_of_another_size_goes_out_with_a_camera_info_that_fits(
        stage, make_node, engine, size, width, height):
    def halves(self, rgb, x, *_):
        mask = np.repeat(np.arange(2, dtype=np.uint8), 32)[None].repeat(48, 0)
        return mask, mask + 200
    engine.__call__ = halves
    make_node(mask__size=size, classes__groups='car=car', binary__group='car')
    names = ('mask', 'confidence', 'binary')
    for name in names:
        stage.listen(Image, f'segmentation/{name}')
    stage.listen(Image, 'segmentation/overlay')
    stage.listen(CameraInfo, 'segmentation/camera_info')
    info = CameraInfo(width=64, height=48, distortion_model='plumb_bob', d=[0.1] * 5)
    info.k[:] = INFO_K
    publisher = stage.publisher(CameraInfo, 'rgb/camera_info')

    def came():
        publisher.publish(info)
        stage.send(RGB, X[:20, :40], stage.stamp())
        return all(stage.received[f'segmentation/{name}']
                   for name in (*names, 'camera_info', 'overlay'))
    stage.wait(came)
    for name, values in zip(names, ((0, 1), (200, 201), (0, 255)), strict=True):
        image = stage.received[f'segmentation/{name}'][0][0]
        assert (image.width, image.height, image.step) == (width, height, width)
        expected = np.repeat(np.array(values, np.uint8), width // 2)[None].repeat(height, 0)
        np.testing.assert_array_equal(decode_x(image), expected)
    out = stage.received['segmentation/camera_info'][0][0]
    assert (out.width, out.height, list(out.d)) == (width, height, [0.1] * 5)
    assert out.k[0] == pytest.approx(50 * width / 64)
    assert out.k[5] == pytest.approx(height / 2 - 0.5)  # the middle stays the middle
    assert stage.received['segmentation/overlay'][0][0].width == 64
