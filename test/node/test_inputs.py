# Copyright 2026 rgbx_seg_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""What the node takes, and what it says of what it cannot take."""

import pytest

pytest.importorskip('rclpy', reason='needs rclpy, from a ROS distribution or the ros extra')

from diagnostic_msgs.msg import DiagnosticArray  # noqa: E402,I100
from rgbx_seg_ros.node.inputs import Input  # noqa: E402
from sensor_msgs.msg import CompressedImage, Image  # noqa: E402
from support.node_stage import diagnostics, RGB, stamps, X  # noqa: E402
from support.ros_stage import CAMERA, header, image, Stage  # noqa: E402

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
    stage.wait(lambda: diagnostics(stage).get('drops.rgb_malformed') == '3')
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


@pytest.mark.parametrize(('kind', 'reliability', 'hint'), [
    (CompressedImage, 'best_effort', 'it is published as sensor_msgs/msg/CompressedImage, and '
     'with x.transport as it is this node takes sensor_msgs/msg/Image'),
    (Image, 'reliable', 'a publisher offers BEST_EFFORT, this subscription asks RELIABLE: set '
     'x.reliability to best_effort'),
    (Image, 'best_effort', 'it has 1 publisher(s), is the QoS the same?')])
def test_a_silent_topic_that_is_published_tells_what_does_not_fit(
        stage, kind, reliability, hint):
    camera = Stage(stage.context.get_domain_id())  # one participant has one type for a topic
    camera.node.create_publisher(kind, 'x/image', CAMERA)
    told = []
    one = Input(stage.node, 'x', 'raw', reliability, 5, receive=lambda *message: None,
                warn=lambda name, text: told.append(text))
    stage.wait(one._publishers)
    told.clear()  # what the event of the middleware has told, which may be lost
    one.warn_of_silence()
    assert told[-1] == f'no message on /x/image yet: {hint}'
    assert (f'/x/image: {hint}' in told) == (reliability == 'reliable')
    report = one.report(0)
    assert report.kind == (hint if kind is CompressedImage else '')
    assert report.qos == (hint if reliability == 'reliable' else '')
    one.destroy()
    camera.close()


def test_frames_of_different_times_are_not_paired(stage, make_node):
    make_node(sync__slop_ms=20, sync__max_wait_ms=10)
    stage.listen(Image, 'segmentation/mask')
    stage.listen(DiagnosticArray, '/diagnostics')
    start = stage.stamp()
    stage.send(RGB, X, start, start + 21_000_000)
    stage.wait(lambda: diagnostics(stage).get('drops.rgb_no_partner') == '1')
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
    stage.wait(lambda: diagnostics(stage).get('drops.too_old') == '1')
    assert 'max_age_ms is 300; take a smaller model or input' in warnings()[-1]
    engine.seconds = 0.0
    stage.send(RGB, X, stage.stamp() - 10 * 10**9)
    stage.wait(lambda: diagnostics(stage).get('drops.too_old') == '2')
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
    assert any('Until then ages are counted from the receipt' in line for line in warnings())


def test_a_publisher_whose_qos_does_not_fit_is_named(stage, make_node, warnings):
    make_node(rgb__reliability='reliable')
    camera = stage.node.create_publisher(Image, 'rgb/image', CAMERA)
    stage.wait(lambda: any('offers BEST_EFFORT, this subscription asks RELIABLE' in line
                           for line in warnings()))
    assert any('set rgb.reliability to best_effort' in line for line in warnings())
    stage.node.destroy_publisher(camera)


@pytest.mark.parametrize(('transport', 'topic'), [
    ('raw', '/front/cam'), ('compressed', '/front/cam/compressed')])
def test_what_is_known_of_a_topic_can_be_told_when_its_subscription_is_gone(
        stage, transport, topic):
    from rclpy.node import Node
    node = Node('subscriber', context=stage.context,
                cli_args=['--ros-args', '-r', 'rgb/image:=/front/cam'])
    told = []
    one = Input(node, 'rgb', transport, 'reliable', 5, receive=lambda *message: None,
                warn=lambda kind, text: told.append(text))
    topics = [s.topic_name for s in node.subscriptions]
    assert topic in topics
    kind = 'Image' if transport == 'raw' else 'CompressedImage'
    for gone in (False, True):
        if gone:
            one.destroy()
        assert len(list(node.subscriptions)) == len(topics) - 2 * gone
        assert one.topic == one.report(3).topic == topic
        one.warn_of_silence()
        assert told.pop() == (f'no message on {topic} yet: nobody publishes it; topics with '
                              f'sensor_msgs/msg/{kind} are: none')
    node.destroy_node()
