# Copyright 2026 rgbx_seg_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""Both nodes over the real middleware, on a bag with images, camera_info and tf."""

import sys

import numpy as np
import pytest

pytest.importorskip('rclpy', reason='needs rclpy, from a ROS distribution or the ros extra')

from nav_msgs.msg import OccupancyGrid  # noqa: E402,I100
from rclpy.parameter import Parameter  # noqa: E402
from rgbx_seg_ros.bags.storage import BagWriter, image_message  # noqa: E402
from rgbx_seg_ros.messages.images import decode_x, stamp_ns, to_image  # noqa: E402
from rgbx_seg_ros.node.projection_node import ProjectionNode  # noqa: E402
from rosbags.highlevel import AnyReader  # noqa: E402
from rosbags.typesys import get_typestore, Stores  # noqa: E402
from sensor_msgs.msg import CameraInfo, Image  # noqa: E402
from support.projection_stage import at, is_right, MASK, quaternion_of, SCENE  # noqa: E402
from support.ray_scenes import BOX  # noqa: E402
from support.ros_stage import header  # noqa: E402
from support.tf_stand_in import Buffer, MODULE  # noqa: E402

TYPES = get_typestore(Stores.ROS2_HUMBLE).types


def kind(name, *fields):
    return TYPES[name](*fields)


def bag_header(stamp, frame):
    return kind('std_msgs/msg/Header',
                kind('builtin_interfaces/msg/Time', *divmod(stamp, 10 ** 9)), frame)


def write_bag(path, stamps):
    """Write a bag of a camera pair on a vehicle: X is bright where the box is."""
    rgb = np.random.default_rng(0).integers(90, 110, (*MASK.shape, 3)).astype(np.uint8)
    x = np.where(MASK == BOX, 200, 20).astype(np.uint8)
    region = kind('sensor_msgs/msg/RegionOfInterest', 0, 0, 0, 0, False)
    turn = kind('geometry_msgs/msg/Quaternion', *quaternion_of(SCENE.rotation))
    place = kind('geometry_msgs/msg/Vector3', *map(float, SCENE.place))
    static = kind('tf2_msgs/msg/TFMessage', [kind(
        'geometry_msgs/msg/TransformStamped', bag_header(stamps[0], 'base_link'), 'camera',
        kind('geometry_msgs/msg/Transform', place, turn))])
    with BagWriter(path) as bag:
        bag.write('/tf_static', static, stamps[0], True)
        for stamp in stamps:
            info = kind('sensor_msgs/msg/CameraInfo', bag_header(stamp, 'camera'), 120, 160,
                        'plumb_bob', np.array(SCENE.info.d), np.array(SCENE.info.k),
                        np.eye(3).ravel(), np.zeros(12), 0, 0, region)
            bag.write('/rgb/camera_info', info, stamp)
            bag.write('/rgb/image', image_message(rgb, 'rgb8', stamp, 'camera'), stamp)
            bag.write('/x/image', image_message(x, 'mono8', stamp, 'x'), stamp)


def play(path, stage):
    """Send what is in a bag, at once; transforms go to the stand-in of tf."""
    with AnyReader([path]) as reader:
        for connection, _, raw in reader.messages():
            message = reader.deserialize(raw, connection.msgtype)
            topic = connection.topic.removeprefix('/')
            if topic == 'tf_static':
                for one in message.transforms:
                    place, turn = one.transform.translation, one.transform.rotation
                    Buffer.newest.say(one.header.frame_id, one.child_frame_id,
                                      (place.x, place.y, place.z),
                                      (turn.x, turn.y, turn.z, turn.w))
                continue
            stamp = header(stamp_ns(message.header), message.header.frame_id)
            if topic.endswith('image'):
                stage.publisher(Image, topic).publish(
                    to_image(decode_x(message), message.encoding, stamp))
                continue
            info = CameraInfo(header=stamp, width=message.width, height=message.height,
                              distortion_model=message.distortion_model, d=message.d.tolist())
            info.k[:], info.r[:] = message.k, message.r
            stage.publisher(CameraInfo, topic).publish(info)


def test_a_bag_of_a_vehicle_becomes_grids_of_what_was_in_front_of_it(
        stage, make_node, monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, 'tf2_ros', MODULE)
    make_node(classes__groups='drivable=background; dynamic=car', max_age_ms=600_000.0)
    node = ProjectionNode(context=stage.context, parameter_overrides=[
        Parameter('max_age_ms', value=600_000.0), Parameter('tf.max_wait_ms', value=10_000.0)])
    stage.spin(node)
    try:
        assert node.start()
        stage.listen(OccupancyGrid, 'segmentation/ground_grid', 10)
        start = stage.stamp()
        stamps = [start + i * 100_000_000 for i in range(5)]
        write_bag(tmp_path / 'bag', stamps)
        for topic, message in (('rgb/image', Image), ('x/image', Image),
                               ('rgb/camera_info', CameraInfo)):
            stage.publisher(message, topic)

        def came():
            if not stage.received['segmentation/ground_grid']:
                play(tmp_path / 'bag', stage)
            return stage.received['segmentation/ground_grid']
        stage.wait(came)
        grid = stage.received['segmentation/ground_grid'][-1][0]
        assert stamp_ns(grid.header) in stamps and grid.header.frame_id == 'base_link'
        assert is_right(grid) and at(grid, 12.0, 4.5) == 0  # all but the box is background
    finally:
        stage.rest()
        node.destroy_node()
