# Copyright 2026 rgbx_seg_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""
What those on both sides of the node rely on: cameras and image_transport, nvblox, Nav2.

The consumers stand here with the QoS, the matching by stamp and the reading of pixels that theirs
have: nvblox's node for masks of people, and the semantic_segmentation_layer for Nav2's costmaps.
"""

import json
import struct
import sys
from types import ModuleType

import numpy as np
import pytest

pytest.importorskip('rclpy', reason='needs rclpy, from a ROS distribution or the ros extra')

import cv2  # noqa: E402,I100
from rclpy.qos import (  # noqa: E402
    DurabilityPolicy,
    qos_profile_sensor_data,
    QoSProfile,
    ReliabilityPolicy,
)
from rgbx_seg_ros.cards.card import load_card  # noqa: E402
from rgbx_seg_ros.cards.labels import UNLABELED  # noqa: E402
from rgbx_seg_ros.messages.images import stamp_ns, to_image  # noqa: E402
from rgbx_seg_ros.node.outputs import label_info  # noqa: E402
from rosbags.typesys import get_types_from_msg, get_typestore, Stores  # noqa: E402
from sensor_msgs.msg import CameraInfo, CompressedImage, Image  # noqa: E402
from std_msgs.msg import String  # noqa: E402
from support.node_stage import RGB, stamps, X  # noqa: E402
from support.ros_stage import CAMERA, header, LATCHED  # noqa: E402

RELIABLE = QoSProfile(depth=10)
LABELS = QoSProfile(depth=5, reliability=ReliabilityPolicy.RELIABLE,
                    durability=DurabilityPolicy.TRANSIENT_LOCAL)
MASK, CONFIDENCE = 'segmentation/mask', 'segmentation/confidence'


def matched(stage, *topics):
    """Return the messages of these topics that have the same stamp, as TimeSynchronizer does."""
    streams = [{stamp_ns(m.header): m for m, _ in stage.received[topic]} for topic in topics]
    return [tuple(stream[stamp] for stream in streams)
            for stamp in sorted(set.intersection(*map(set, streams)))]


def feed(stage, topics, publish_more=lambda stamp: None):
    """Send pairs at 10 Hz until five have come back on all the topics; return their stamps."""
    sent = []

    def enough():
        now = stage.stamp()
        if not sent or now - sent[-1] > 100_000_000:
            sent.append(now)
            publish_more(now)
            stage.send(RGB, X, now)
        return len(matched(stage, *topics)) >= 5
    stage.wait(enough)
    return sent


# ---------------------------------------------------------------- nvblox


def camera_info(stamp):
    info = CameraInfo(header=header(stamp, 'rgb'), width=64, height=48,
                      distortion_model='plumb_bob', d=[0.1, 0.2, 0.0, 0.0, 0.0])
    info.k[:] = [500.0, 0.0, 32.0, 0.0, 510.0, 24.0, 0.0, 0.0, 1.0]
    info.p[:] = [490.0, 0.0, 31.0, 0.0, 0.0, 505.0, 23.0, 0.0, 0.0, 0.0, 1.0, 0.0]
    return info


@pytest.mark.parametrize('qos', [RELIABLE, qos_profile_sensor_data],
                         ids=['SYSTEM_DEFAULT', 'SENSOR_DATA'])
def test_nvblox_finds_camera_and_mask_with_the_same_stamp_size_frame_and_optics(
        stage, make_node, qos):
    make_node()
    color = ('rgb/image', Image, CAMERA), ('rgb/camera_info', CameraInfo, CAMERA)
    mask = (MASK, Image, qos), ('segmentation/camera_info', CameraInfo, qos)
    for topic, kind, asked in (*color, *mask):
        stage.listen(kind, topic, asked)
    infos = stage.publisher(CameraInfo, 'rgb/camera_info')
    topics = [topic for topic, *_ in (*color, *mask)]
    sent = feed(stage, topics, lambda stamp: infos.publish(camera_info(stamp)))
    for image, info, labels, labels_info in matched(stage, *topics):
        assert image.header == info.header == labels.header == labels_info.header
        assert (labels.encoding, labels.step) == ('mono8', labels.width)
        assert len(labels.data) == labels.width * labels.height
        assert ((labels.width, labels.height) == (image.width, image.height)
                == (labels_info.width, labels_info.height))
        assert labels_info == info
    assert set(stamps(stage)) <= set(sent)


def test_nvblox_gets_of_a_road_nothing_and_of_what_moves_all(stage, make_node, engine):
    """It takes every pixel that is not 0 as dynamic; a road has the id 1 here."""
    ids = np.resize(np.array([0, 1, 2, UNLABELED], np.uint8), X.shape)
    engine.__call__ = lambda self, rgb, x, *_: (ids, np.full_like(ids, 250))
    make_node(classes__groups='drivable=car; dynamic=person', binary__group='dynamic')
    topics = 'segmentation/binary', 'segmentation/camera_info'
    stage.listen(Image, topics[0], RELIABLE)
    stage.listen(CameraInfo, topics[1], RELIABLE)
    infos = stage.publisher(CameraInfo, 'rgb/camera_info')
    feed(stage, topics, lambda stamp: infos.publish(camera_info(stamp)))
    for mask, info in matched(stage, *topics):
        assert (mask.encoding, mask.width, mask.height) == ('mono8', info.width, info.height)
        dynamic = np.frombuffer(mask.data, np.uint8).reshape(X.shape) != 0
        np.testing.assert_array_equal(dynamic, ids == 2)


# ---------------------------------------------------------------- Nav2


def test_the_costmap_layer_knows_the_class_of_every_pixel_of_the_cloud(
        stage, make_node, engine):
    ids = np.array([0, 1, 2, UNLABELED], np.uint8)
    engine.__call__ = lambda self, rgb, x, *_: (np.resize(ids, x.shape), np.resize(ids, x.shape))
    make_node()
    # The layer cannot do without the names, so they come first: none has sent a frame yet.
    stage.listen(String, 'segmentation/palette', LABELS)
    stage.wait(lambda: stage.received['segmentation/palette'])
    names = {entry['id']: entry['name']
             for entry in json.loads(stage.received['segmentation/palette'][0][0].data)}
    assert names == {0: 'background', 1: 'car', 2: 'person', UNLABELED: 'unlabeled'}

    qos = QoSProfile(depth=50, reliability=ReliabilityPolicy.BEST_EFFORT)
    for topic in (MASK, CONFIDENCE):
        stage.listen(Image, topic, qos)
    clouds = feed(stage, (MASK, CONFIDENCE))  # an RGB-D camera stamps them as its pictures
    for mask, confidence in matched(stage, MASK, CONFIDENCE):
        assert stamp_ns(mask.header) in clouds and mask.header == confidence.header
        for image in (mask, confidence):
            assert (image.encoding, image.width, image.height) == ('mono8', 64, 48)
        # It counts points of the cloud, row by row without padding, and takes bytes for ids.
        points = [mask.data[v * mask.width + u] for v in range(48) for u in range(64)]
        assert points == np.resize(ids, 48 * 64).tolist()
        assert set(points) <= names.keys()
        assert list(confidence.data) == points


DEFINITIONS = {
    'vision_msgs/msg/VisionClass': 'uint16 class_id\nstring class_name',
    'vision_msgs/msg/LabelInfo':
        'std_msgs/Header header\nvision_msgs/VisionClass[] class_map\nfloat32 threshold',
}


def test_label_info_fills_the_fields_of_its_definition(tiny_card, monkeypatch):
    store = get_typestore(Stores.ROS2_JAZZY)
    for name, definition in DEFINITIONS.items():
        store.register(get_types_from_msg(definition, name))
    kinds = ModuleType('vision_msgs.msg')
    kinds.VisionClass = store.types['vision_msgs/msg/VisionClass']
    time = store.types['builtin_interfaces/msg/Time'](0, 0)
    kinds.LabelInfo = lambda: store.types['vision_msgs/msg/LabelInfo'](
        store.types['std_msgs/msg/Header'](time, ''), [], 0.0)
    monkeypatch.setitem(sys.modules, 'vision_msgs.msg', kinds)
    message = label_info(load_card(tiny_card).labels,
                         store.types['builtin_interfaces/msg/Time'](7, 8))
    # Over the wire only what the definition knows remains, by its types.
    wire = store.serialize_cdr(message, 'vision_msgs/msg/LabelInfo')
    message = store.deserialize_cdr(wire, 'vision_msgs/msg/LabelInfo')
    assert [(c.class_id, c.class_name) for c in message.class_map] == [
        (0, 'background'), (1, 'car'), (2, 'person')]
    assert (message.header.stamp.sec, message.header.stamp.nanosec) == (7, 8)


def test_label_info_reaches_the_costmap_layer(stage, make_node):
    kinds = pytest.importorskip(
        'vision_msgs.msg', reason='needs vision_msgs, from a ROS distribution')
    make_node()
    stage.listen(kinds.LabelInfo, 'segmentation/label_info', LABELS)
    stage.wait(lambda: stage.received['segmentation/label_info'])
    message = stage.received['segmentation/label_info'][0][0]
    assert [(c.class_id, c.class_name) for c in message.class_map] == [
        (0, 'background'), (1, 'car'), (2, 'person')]


# ---------------------------------------------------------------- image_transport


def depth_message(encoding, stamp):
    """Return the columns of X as depth: the left half unknown, the right half 200 mm or m."""
    stored, quant_a, quant_b = X.astype(np.uint16), 0.0, 0.0
    if encoding == '32FC1':
        stored, quant_a = np.where(X, 5, 0).astype(np.uint16), 1000.0
    file = cv2.imencode('.png', stored)[1].tobytes()
    return CompressedImage(
        header=header(stamp, 'x'), format=f'{encoding}; compressedDepth png',
        data=struct.pack('<iff', 0, quant_a, quant_b) + file)


@pytest.mark.parametrize('encoding', ['16UC1', '32FC1'])
def test_depth_arrives_over_compressed_depth(stage, make_node, engine, encoding):
    seen = []
    segment = engine.__call__
    engine.__call__ = lambda self, rgb, x, *rest: (
        seen.append(x), segment(self, rgb, np.nan_to_num(x), *rest))[1]
    make_node(x__transport='compressedDepth')
    stage.listen(Image, MASK)
    stamp = stage.stamp()
    stage.publisher(CompressedImage, 'x/image/compressedDepth').publish(
        depth_message(encoding, stamp))
    stage.publisher(Image, 'rgb/image').publish(to_image(RGB, 'rgb8', header(stamp, 'rgb')))
    stage.wait(lambda: stamps(stage) == [stamp])
    assert seen[0].dtype == {'16UC1': np.uint16, '32FC1': np.float32}[encoding]
    unknown = 0 if encoding == '16UC1' else np.nan
    np.testing.assert_array_equal(seen[0], np.where(X, 200, unknown))
    assert bytes(stage.received[MASK][0][0].data) == (X > 128).tobytes()


def test_thermal_of_16_bits_over_jpeg_is_refused_with_the_way_out(stage, make_node, warnings):
    make_node(x__transport='compressed')
    stage.listen(Image, MASK)
    jpeg = cv2.imencode('.jpg', X)[1].tobytes()
    camera = stage.publisher(CompressedImage, 'x/image/compressed')
    stamp = stage.stamp()
    camera.publish(CompressedImage(header=header(stamp, 'x'), data=jpeg,
                                   format='16UC1; jpeg compressed '))
    rgb = stage.publisher(Image, 'rgb/image')
    rgb.publish(to_image(RGB, 'rgb8', header(stamp, 'rgb')))
    stage.wait(lambda: any('frame dropped: format is' in line for line in warnings()))
    [warning] = [line for line in warnings() if 'frame dropped' in line]
    assert '/x/image' in warning and "'16UC1; jpeg compressed '" in warning
    assert '8 bits' in warning and 'compressed.format to png' in warning
    good = stage.stamp()
    camera.publish(CompressedImage(
        header=header(good, 'x'), format='16UC1; png compressed ',
        data=cv2.imencode('.png', X.astype(np.uint16))[1].tobytes()))
    rgb.publish(to_image(RGB, 'rgb8', header(good, 'rgb')))
    stage.wait(lambda: stamps(stage) == [good])


# ---------------------------------------------------------------- quality of service


@pytest.mark.parametrize('modality', ['rgb', 'x'])
def test_quality_of_service_is_a_matter_of_each_input(stage, make_node, modality):
    other = {'rgb': 'x', 'x': 'rgb'}[modality]
    node = make_node(**{f'{modality}__reliability': 'reliable', f'{modality}__depth': 17})
    profiles = {s.topic_name: s.qos_profile for s in node.subscriptions}
    assert profiles[f'/{modality}/image'].reliability == ReliabilityPolicy.RELIABLE
    assert profiles[f'/{modality}/image'].depth == 17
    assert profiles[f'/{other}/image'].reliability == ReliabilityPolicy.BEST_EFFORT
    assert profiles[f'/{other}/image'].depth == 5
    for name in ('rgb', 'x'):  # and others see it so
        stage.wait(lambda n=name: stage.node.get_subscriptions_info_by_topic(f'/{n}/image'))
        [seen] = stage.node.get_subscriptions_info_by_topic(f'/{name}/image')
        assert (seen.qos_profile.reliability == ReliabilityPolicy.RELIABLE) == (name == modality)


@pytest.mark.parametrize('modality', ['rgb', 'x'])
@pytest.mark.parametrize('transport', ['raw', 'compressed'])
def test_a_publisher_that_offers_less_than_an_input_asks_is_named(
        stage, make_node, warnings, modality, transport):
    make_node(**{f'{modality}__reliability': 'reliable', f'{modality}__transport': transport})
    topic = f'{modality}/image' + ('/compressed' if transport == 'compressed' else '')
    kind = Image if transport == 'raw' else CompressedImage
    camera = stage.node.create_publisher(kind, topic, CAMERA)
    said = (f'/{topic}: a publisher offers BEST_EFFORT, this subscription asks RELIABLE: set '
            f'{modality}.reliability to best_effort')
    stage.wait(lambda: any(said in line for line in warnings()))
    stage.node.destroy_publisher(camera)


@pytest.mark.parametrize('camera_qos', [CAMERA, LATCHED, RELIABLE],
                         ids=['best effort', 'latched', 'reliable'])
def test_by_default_every_camera_is_heard(stage, make_node, camera_qos):
    make_node()
    stage.listen(Image, MASK)
    for topic in ('rgb/image', 'x/image'):
        stage.publisher(Image, topic, camera_qos)
    stamp = stage.stamp()
    stage.send(RGB, X, stamp)
    stage.wait(lambda: stamp in stamps(stage))
