# Copyright 2026 rgbx_seg_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""The projection node over the real middleware, fed with scenes of which every metre is known."""

import json
import subprocess
import sys
import time

import numpy as np
import pytest

pytest.importorskip('rclpy', reason='needs rclpy, from a ROS distribution or the ros extra')

from diagnostic_msgs.msg import DiagnosticArray  # noqa: E402,I100
from nav_msgs.msg import OccupancyGrid  # noqa: E402
from rclpy.parameter import Parameter  # noqa: E402
from rgbx_seg_ros.messages.images import stamp_ns, to_image  # noqa: E402
from rgbx_seg_ros.node.projection_node import ProjectionNode  # noqa: E402
from rgbx_seg_ros.projection.ground import FREE, OCCUPIED, UNKNOWN  # noqa: E402
from rgbx_seg_ros.projection.points import POINT  # noqa: E402
from sensor_msgs.msg import CameraInfo, Image, PointCloud2, PointField  # noqa: E402
from std_msgs.msg import String  # noqa: E402
from support.projection_stage import (  # noqa: E402
    at,
    cells,
    DEPTH,
    is_right,
    MASK,
    quaternion_of,
    SCENE,
)
from support.ray_scenes import BOX, GRASS, ROAD  # noqa: E402
from support.ros_stage import header, LATCHED  # noqa: E402
from support.tf_stand_in import Buffer, MODULE  # noqa: E402

POSE = {'camera__height': 1.5, 'camera__pitch': 0.2, 'camera__roll': 0.03, 'camera__yaw': -0.05,
        'camera__x': 0.5, 'camera__y': 0.2}
PALETTE = json.dumps([
    {'id': i, 'name': name, 'color': color, 'groups': groups} for i, name, color, groups in (
        (0, 'sky', [0, 0, 1], []), (ROAD, 'road', [9, 9, 9], ['drivable']),
        (BOX, 'box', [200, 0, 0], ['dynamic']), (GRASS, 'grass', [0, 200, 0], []),
        (255, 'unlabeled', [0, 0, 0], []))])
GRID, COSTS = 'segmentation/ground_grid', 'segmentation/cost_grid'
OBSTACLES, POINTS = 'segmentation/obstacle_points', 'segmentation/points'


def info_message(stamp, frame='camera', **changes):
    info = CameraInfo(header=header(stamp, frame), width=160, height=120,
                      distortion_model='plumb_bob', d=SCENE.info.d)
    info.k[:] = SCENE.info.k
    info.r[:] = SCENE.info.r
    for name, value in changes.items():
        setattr(info, name, value)
    return info


@pytest.fixture
def tf(monkeypatch):
    """Let tf2_ros be there; give its class of buffers."""
    monkeypatch.setitem(sys.modules, 'tf2_ros', MODULE)
    return Buffer


@pytest.fixture
def make_projection(stage):
    """Give a function that makes the node with parameters, and starts it."""
    nodes = []

    def make(start=True, **parameters):
        parameters = {'max_age_ms': 60_000.0, **parameters}
        node = ProjectionNode(context=stage.context, parameter_overrides=[
            Parameter(name.replace('__', '.'), value=value)
            for name, value in parameters.items()])
        nodes.append(node)
        stage.spin(node)
        if start:
            assert node.start()
        return node
    yield make
    stage.rest()
    for node in nodes:
        node.destroy_node()


class Feed:
    """A segmentation node that shows what a test wants."""

    def __init__(self, stage, *topics):
        self.stage = stage
        for kind, topic in topics:
            stage.listen(kind, topic)
        self._palette = stage.node.create_publisher(String, 'segmentation/palette', LATCHED)
        self._palette.publish(String(data=PALETTE))
        self.info = {}
        stage.listen(DiagnosticArray, '/diagnostics')

    def show(self, mask=MASK, confidence=None, stamp=None, frame='camera', info=True):
        """Send a mask with all that goes with it; return its stamp."""
        stage, stamp = self.stage, stamp or self.stage.stamp()
        if info:
            stage.publisher(CameraInfo, 'segmentation/camera_info').publish(
                info_message(stamp, **{'frame': frame, **self.info}))
        for name, pixels in (('mask', mask), ('confidence', confidence)):
            if pixels is None:
                pixels = np.full(mask.shape, 250, np.uint8)
            stage.publisher(Image, f'segmentation/{name}').publish(
                to_image(pixels, 'mono8', header(stamp, frame)))
        return stamp

    def until(self, topic, condition=lambda message: True, **shown):
        """Show masks until a message of `topic` fulfils the condition; return it."""
        found, last = [], [0.0]

        def came():
            if time.monotonic() - last[0] > 0.2:
                last[0] = time.monotonic()
                self.show(**shown)
            found.extend(m for m, _ in self.stage.received[topic][:] if condition(m))
            return found
        self.stage.wait(came)
        return found[-1]


def said(stage):
    """Return the newest level and message of the node's diagnostics."""
    found = [status for message, _ in stage.received['/diagnostics'][-2:]
             for status in message.status if status.name == 'rgbx_seg_projection: projection']
    return (found[-1].level, found[-1].message) if found else (None, '')


# What comes out


def test_a_mask_becomes_a_grid_in_the_frame_of_the_vehicle(stage, make_projection):
    make_projection(**POSE, ground__z=-0.3, frame='base_footprint')
    feed = Feed(stage, (OccupancyGrid, GRID))
    grid = feed.until(GRID)
    assert grid.header.frame_id == 'base_footprint' and is_right(grid)
    info = grid.info
    assert (info.width, info.height, round(info.resolution, 6)) == (200, 200, 0.2)
    assert (info.origin.position.x, info.origin.position.y) == (0.0, -20.0)
    assert info.origin.position.z == pytest.approx(-0.3) and info.origin.orientation.w == 1.0
    assert stamp_ns(grid.header) in {stamp_ns(m.header) for m, _ in stage.received[GRID]}
    assert set(np.unique(cells(grid))) == {UNKNOWN, FREE, OCCUPIED}


def test_stamps_are_those_of_the_masks_bit_for_bit(stage, make_projection):
    make_projection(**POSE)
    feed = Feed(stage, (OccupancyGrid, GRID), (PointCloud2, OBSTACLES))
    feed.until(GRID)
    stamp = feed.show(stamp=stage.stamp() // 1000 * 1000 + 789)
    for topic in (GRID, OBSTACLES):
        stage.wait(lambda t=topic: stamp in [stamp_ns(m.header) for m, _ in stage.received[t]])


def test_costs_are_those_of_groups_and_classes(stage, make_projection):
    make_projection(**POSE, classes__costs='drivable=0; grass=60; dynamic=90')
    feed = Feed(stage, (OccupancyGrid, COSTS))
    grid = feed.until(COSTS)
    assert (at(grid, 5.0, 0.0), at(grid, 12.0, 4.5), at(grid, 6.1, 0.1)) == (0, 60, 90)
    assert not stage.received[GRID]


def test_contacts_are_points_in_the_frame_of_the_vehicle(stage, make_projection):
    make_projection(**POSE, obstacle__z=0.25, ground__z=0.5)
    feed = Feed(stage, (PointCloud2, OBSTACLES))
    cloud = feed.until(OBSTACLES)
    points = np.frombuffer(cloud.data, POINT)
    assert cloud.header.frame_id == 'base_link' and len(points) == cloud.width > 20
    # The front of the box, and what is seen of its side.
    assert (points['x'] > 5.8).all() and (points['x'] < 7.2).all()
    assert np.abs(points['y']).max() < 1.2
    np.testing.assert_allclose(points['z'], 0.75)
    assert (points['label'] == BOX).all() and (points['rgb'] == 200 << 16).all()
    np.testing.assert_allclose(points['confidence'], 250 / 255)


@pytest.mark.parametrize('encoding', ['16UC1', '32FC1'])
def test_a_depth_image_becomes_organized_points_in_the_optical_frame(
        stage, make_projection, encoding):
    make_projection(**POSE, points__source='depth', points__drop='grass')
    feed = Feed(stage, (PointCloud2, POINTS))
    depth = DEPTH.astype(np.float32)
    if encoding == '16UC1':
        depth = np.nan_to_num(1000 * np.where(depth < 60, depth, 0)).astype(np.uint16)
    camera = stage.publisher(Image, 'depth/image')

    def came():
        stamp = stage.stamp()
        camera.publish(to_image(depth, encoding, header(stamp - 5_000_000, 'depth')))
        feed.show(stamp=stamp)
        return stage.received[POINTS]
    stage.wait(came)
    cloud = stage.received[POINTS][0][0]
    assert (cloud.width, cloud.height, cloud.header.frame_id) == (160, 120, 'camera')
    points = np.frombuffer(cloud.data, POINT).reshape(120, 160)
    np.testing.assert_array_equal(points['label'], MASK)
    assert np.isnan(points['z'][MASK == GRASS]).all()
    truth = (SCENE.rays() * DEPTH.reshape(-1, 1)).reshape(120, 160, 3)
    for side, name in enumerate('xyz'):
        np.testing.assert_allclose(points[name][MASK == BOX], truth[MASK == BOX][:, side],
                                   atol=5e-3)


def lidar_cloud(points, stamp, frame='lidar'):
    """Return a cloud of points (N, 3) with an intensity."""
    data = np.zeros(len(points), [('x', '<f4'), ('y', '<f4'), ('z', '<f4'), ('i', 'u1')])
    for name, side in zip('xyz', points.T, strict=True):
        data[name] = side
    data['i'] = 7
    fields = [PointField(name=name, offset=4 * i, datatype=7 if i < 3 else 2, count=1)
              for i, name in enumerate(('x', 'y', 'z', 'intensity'))]
    return PointCloud2(header=header(stamp, frame), height=1, width=len(points), fields=fields,
                       point_step=13, row_step=13 * len(points), data=data.tobytes())


LIDAR = np.array([[5.5, 0.0, -0.5], [4.0, 0.0, -2.0], [-5.0, 0.0, 0.0], [12.0, 4.5, -2.0]])
"""On the box, on the road, behind, on the grass, where the lidar is at 0.5, 0, 2."""


def fields_of(cloud):
    """Return label and intensity of the points of a cloud."""
    named = {field.name: field for field in cloud.fields}
    rows = np.frombuffer(cloud.data, np.uint8).reshape(-1, cloud.point_step)
    start = named['label'].offset
    return (rows[:, start:start + 4].copy().view('<u4')[:, 0].tolist(),
            rows[:, named['intensity'].offset].tolist())


def test_a_cloud_is_painted_and_what_the_camera_does_not_see_is_kept(stage, make_projection):
    make_projection(**POSE, points__source='cloud', lidar__pose=[0.5, 0.0, 2.0, 0.0, 0.0, 0.0],
                    points__max_wait_ms=10_000.0)
    feed = Feed(stage, (PointCloud2, POINTS))
    lidar = stage.publisher(PointCloud2, 'lidar/points')

    def came():
        stamp = stage.stamp()
        lidar.publish(lidar_cloud(LIDAR, stamp - 1_000_000))
        feed.show(stamp=stamp)
        return any(fields_of(m)[0][0] == BOX for m, _ in stage.received[POINTS])
    stage.wait(came)
    cloud = stage.received[POINTS][-1][0]
    assert cloud.header.frame_id == 'lidar'
    assert fields_of(cloud) == ([BOX, ROAD, 255, GRASS], [7, 7, 7, 7])


def test_a_cloud_without_a_mask_goes_out_without_labels(stage, make_projection, warnings):
    make_projection(**POSE, points__source='cloud', points__max_wait_ms=50.0)
    feed = Feed(stage, (PointCloud2, POINTS))
    stage.publisher(PointCloud2, 'lidar/points').publish(lidar_cloud(LIDAR, stage.stamp()))
    stage.wait(lambda: stage.received[POINTS])
    assert fields_of(stage.received[POINTS][0][0])[0] == [255] * 4
    stage.wait(lambda: any('without labels: no mask has come yet' in w for w in warnings()))
    assert feed


def test_nothing_is_made_for_nobody(stage, make_projection, monkeypatch):
    from rgbx_seg_ros.projection.ground import GroundView
    made = []
    monkeypatch.setattr(GroundView, 'grid', lambda *_, **__: made.append(1))
    node = make_projection(**POSE)
    feed = Feed(stage)

    def taken():
        feed.show()
        return node._run._counts['masks'] > 1
    stage.wait(taken)
    assert made == []


# Confidence, failed sensors and age


def test_what_is_not_sure_is_never_free(stage, make_projection):
    make_projection(**POSE)
    feed = Feed(stage, (OccupancyGrid, GRID))
    sure = np.full(MASK.shape, 250, np.uint8)
    sure[:, :80] = 127  # that of one sensor alone, by default
    grid = feed.until(GRID, confidence=sure)
    left = cells(grid)[120:]  # y above 4 m
    assert (left != FREE).all() and at(grid, 5.0, -1.0) == FREE
    assert at(grid, 5.0, 1.0) == UNKNOWN


def test_a_mask_of_a_failed_sensor_frees_no_cell(stage, make_projection):
    make_projection(**POSE)
    feed = Feed(stage, (OccupancyGrid, GRID))
    assert (cells(feed.until(GRID, mask=np.full_like(MASK, 255))) == UNKNOWN).all()


def test_masks_that_are_too_old_make_no_grid_and_old_grids_are_cleared(
        stage, make_projection, warnings):
    make_projection(**POSE, max_age_ms=300.0)
    feed = Feed(stage, (OccupancyGrid, GRID))
    assert is_right(feed.until(GRID, is_right))
    stage.wait(lambda: (cells(stage.received[GRID][-1][0]) == UNKNOWN).all())
    count = len(stage.received[GRID])

    def warned():
        feed.show(stamp=stage.stamp() - 400_000_000)  # again, as a busy machine loses some
        return any('a mask is dropped: it is' in w for w in warnings())
    stage.wait(warned)
    assert len(stage.received[GRID]) == count


# What goes wrong: a warning that names the cause, no grid, and recovery


def trouble(stage, feed, warnings, cause, **shown):
    """Show masks until a warning names the cause; check that no grid came of them."""
    count, lines, last = len(stage.received[GRID]), [], [0.0]

    def warned():
        if time.monotonic() - last[0] > 0.2:
            last[0] = time.monotonic()
            feed.show(**shown)
        lines.extend(warnings())
        return any(cause in line for line in lines) and said(stage)[0] == b'\x02'
    stage.wait(warned)
    assert len(stage.received[GRID]) == count
    assert cause in said(stage)[1]


def recovers(stage, feed, **shown):
    """Show good masks until a right grid comes and diagnostics are good."""
    assert is_right(feed.until(GRID, is_right, **shown))
    stage.wait(lambda: feed.show(**shown) and said(stage)[0] == b'\x00')


def test_a_missing_camera_info_is_named_and_made_good(stage, make_projection, warnings):
    make_projection(**POSE)
    feed = Feed(stage, (OccupancyGrid, GRID))
    trouble(stage, feed, warnings, 'nothing has come on segmentation/camera_info yet', info=False)
    recovers(stage, feed)


def test_the_first_mask_waits_for_the_calibration_beside_it(stage, make_projection, warnings):
    """The two come on different topics, and either may be first."""
    node = make_projection(tf__max_wait_ms=10_000.0, **POSE)
    feed = Feed(stage, (OccupancyGrid, GRID))
    stage.wait(lambda: stage.node.count_publishers(GRID))
    stamp = feed.show(info=False)
    stage.wait(lambda: node._run._mask is not None)
    stage.publisher(CameraInfo, 'segmentation/camera_info').publish(info_message(stamp))
    stage.wait(lambda: stage.received[GRID])
    assert stamp_ns(stage.received[GRID][0][0].header) == stamp
    assert not any('dropped' in line for line in warnings())


@pytest.mark.parametrize(('changes', 'cause'), [
    ({'k': [0.0] * 9}, 'calibrate the camera'),
    ({'frame': 'other'}, "camera_info is of the frame 'other', the mask of 'camera'"),
    ({'width': 100}, 'a frame may be scaled, not cropped or stretched'),
    ({'distortion_model': 'spiral'}, "distortion_model is 'spiral'"),
], ids=['zero focal length', 'wrong frame', 'wrong size', 'wrong lens'])
def test_a_wrong_camera_info_is_named_and_made_good(
        stage, make_projection, warnings, changes, cause):
    make_projection(**POSE)
    feed = Feed(stage, (OccupancyGrid, GRID))
    feed.info = changes
    trouble(stage, feed, warnings, cause)
    feed.info = {}
    recovers(stage, feed)


@pytest.mark.parametrize(('parameters', 'cause'), [
    ({'classes__ground': 'drivabel'}, "'drivabel' is neither a group nor a class of the model; "
     "did you mean 'drivable'"),
    ({'classes__obstacle': 'dynamic, road'}, "'road' counts as ground"),
])
def test_a_group_that_the_model_does_not_have_is_named(
        stage, make_projection, warnings, parameters, cause):
    make_projection(**POSE, **parameters)
    feed = Feed(stage, (OccupancyGrid, GRID))
    trouble(stage, feed, warnings, cause)


def test_poses_come_from_tf_where_it_is(stage, make_projection, warnings, tf):
    make_projection(ground__z=-0.2, tf__max_wait_ms=50.0)
    feed = Feed(stage, (OccupancyGrid, GRID))
    trouble(stage, feed, warnings, "tf does not tell where 'camera' is")
    place = np.array(SCENE.place) - (0, 0, 0.2)
    tf.newest.say('base_link', 'camera', place, quaternion_of(SCENE.rotation))
    recovers(stage, feed)
    assert not any('moved' in line for line in warnings())


def test_a_mask_waits_for_a_late_transform(stage, make_projection, tf):
    make_projection(tf__max_wait_ms=10_000.0)
    feed = Feed(stage, (OccupancyGrid, GRID))
    quaternion = quaternion_of(SCENE.rotation)
    tf.newest.say('base_link', 'camera', SCENE.place, quaternion)
    feed.until(GRID)
    stamp = stage.stamp()
    tf.newest.say('base_link', 'camera', SCENE.place, quaternion, until_ns=stamp - 1)
    count = len(stage.received[GRID])
    feed.show(stamp=stamp)
    stage.wait(lambda: 'extrapolation into the future' in said(stage)[1])
    assert len(stage.received[GRID]) == count
    tf.newest.say('base_link', 'camera', SCENE.place, quaternion, until_ns=stamp)
    stage.wait(lambda: stamp_ns(stage.received[GRID][-1][0].header) == stamp)


def test_a_jump_of_tf_is_told_and_the_grid_is_that_of_the_new_pose(
        stage, make_projection, warnings, tf):
    make_projection()
    feed = Feed(stage, (OccupancyGrid, GRID))
    quaternion = quaternion_of(SCENE.rotation)
    tf.newest.say('base_link', 'camera', SCENE.place, quaternion)
    assert is_right(feed.until(GRID, is_right))
    tf.newest.say('base_link', 'camera', np.array(SCENE.place) + (1.0, 0, 0), quaternion)
    moved = feed.until(GRID, lambda grid: at(grid, 7.1, 0.1) == OCCUPIED)
    assert at(moved, 6.1, 0.1) == FREE
    stage.wait(lambda: any('has moved over the ground by 1.00 m and 0.0 degrees' in line
                           for line in warnings()))


@pytest.mark.parametrize(('place', 'quaternion', 'cause'), [
    ((0.0, 0.0, -1.0), (0.0, 0.0, 0.0, 1.0), 'the camera is -1.00 m above the ground'),
    ((0.0, 0.0, 1.0), (0.0, 0.0, 0.0, 0.0), 'which is no pose'),
    ((0.0, 0.0, float('nan')), (0.0, 0.0, 0.0, 1.0), 'which is no pose')])
def test_a_pose_that_no_camera_has_is_named(
        stage, make_projection, warnings, tf, place, quaternion, cause):
    make_projection(tf__max_wait_ms=50.0)
    feed = Feed(stage, (OccupancyGrid, GRID))
    tf.newest.say('base_link', 'camera', place, quaternion)
    trouble(stage, feed, warnings, cause)
    tf.newest.say('base_link', 'camera', SCENE.place, quaternion_of(SCENE.rotation))
    recovers(stage, feed)


def test_a_cloud_comes_to_the_time_of_its_mask_by_tf_at_both_times(stage, make_projection, tf):
    make_projection(points__source='cloud', points__fixed_frame='map',
                    points__max_wait_ms=10_000.0)
    feed = Feed(stage, (PointCloud2, POINTS))
    tf.newest.say('base_link', 'camera', SCENE.place, quaternion_of(SCENE.rotation))
    lidar_at = np.array([0.5, 0.0, 2.0]) - SCENE.place
    tf.newest.say('camera', 'lidar', lidar_at @ SCENE.rotation, quaternion_of(SCENE.rotation.T))
    lidar, sent = stage.publisher(PointCloud2, 'lidar/points'), []

    def came():
        stamp = stage.stamp()
        sent.append((stamp, stamp - 3_000_000, 'map'))
        lidar.publish(lidar_cloud(LIDAR, stamp - 3_000_000))
        feed.show(stamp=stamp)
        return any(fields_of(m)[0][0] == BOX for m, _ in stage.received[POINTS])
    stage.wait(came)
    assert fields_of(stage.received[POINTS][-1][0])[0] == [BOX, ROAD, 255, GRASS]
    assert set(tf.newest.asked) & set(sent)


# Parameters


@pytest.mark.parametrize(('parameters', 'said'), [
    ({}, "parameter 'camera.height' is 0.0, needed is the height"),
    ({'camera__pose': 'tf'}, "'camera.pose' is 'tf', but tf2_ros is not installed"),
    ({'grid__resolution': 0.0}, 'grid.resolution is 0.0, needed is the side of a cell'),
    ({'grid__x_range': [5.0, 5.0]}, 'grid.x_range is [5.0, 5.0] with cells of 0.2 m, which holds'),
    ({'classes__costs': 'road=101'}, "the cost of 'road' is '101', needed is a whole number"),
    ({'classes__ground': 'road,,grass'}, "'classes.ground' is 'road,,grass': needed are names"),
    ({'frame': ''}, "'frame' is '', needed is a name"),
    ({'grid__resolutoin': 1.0}, "'grid.resolutoin' is unknown; did you mean 'grid.resolution'"),
])
def test_a_parameter_that_cannot_be_ends_the_start_in_one_clear_line(
        make_projection, warnings, monkeypatch, parameters, said):
    monkeypatch.setitem(sys.modules, 'tf2_ros', None)
    node = make_projection(start=False, **({**POSE, **parameters} if parameters else {}))
    assert not node.start()
    [line] = warnings()
    assert said in line


@pytest.mark.parametrize('arguments', [
    ('-p', 'grid.resolution:=0.0'), ('-p', 'grid.y_range:=[1.0, 1.0]'), ('-p', 'frames:=map')])
def test_the_process_says_why_it_cannot_start_in_one_line_and_exits_with_2(arguments):
    done = subprocess.run(
        [sys.executable, '-m', 'rgbx_seg_ros.node.projection_node', '--ros-args', '-p',
         'camera.pose:=parameters', '-p', 'camera.height:=1.0', *arguments],
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=100)
    assert done.returncode == 2
    [line] = done.stdout.splitlines()
    assert arguments[1].partition(':=')[0] in line and 'Traceback' not in line


def test_without_tf_the_node_says_whose_pose_it_takes(make_projection, monkeypatch, capfd):
    monkeypatch.setitem(sys.modules, 'tf2_ros', None)
    make_projection(**POSE)
    assert 'the pose of the camera is that of camera.*' in capfd.readouterr().err


def test_a_parameter_changes_while_the_node_runs(stage, make_projection):
    node = make_projection(**POSE)
    feed = Feed(stage, (OccupancyGrid, GRID))
    feed.until(GRID, is_right)
    assert node.set_parameters([Parameter('min_confidence', value=1.0)])[0].successful
    feed.until(GRID, lambda grid: (cells(grid) == UNKNOWN).all())
    refused, = node.set_parameters([Parameter('grid.resolution', value=0.1)])
    assert not refused.successful and 'is fixed while the node is configured' in refused.reason
