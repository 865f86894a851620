# Copyright 2026 rgbx_seg_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""Points with classes, against scenes of which every metre is known."""

from types import SimpleNamespace

import numpy as np
import pytest
from rgbx_seg_ros.cards.labels import UNLABELED
from rgbx_seg_ros.errors import FrameError, MessageError
from rgbx_seg_ros.projection.camera import Camera
from rgbx_seg_ros.projection.ground import Contacts
from rgbx_seg_ros.projection.points import (
    Cloud,
    contact_points,
    DepthPoints,
    FIELDS,
    pack_colors,
    Painter,
    POINT,
    to_cloud,
)
from rgbx_seg_ros.projection.pose import Pose
from support.cameras import camera_info, LENSES, projected
from support.ray_scenes import BOX, Scene, SKY

COLORS = pack_colors(np.random.default_rng(0).integers(0, 256, (256, 3)).astype(np.uint8))
SIZE = (160, 120)


def scene_of(lens):
    return Scene(camera_info(SIZE, 130.0, lens), (0.0, 0.0, 1.5), 0.05, 0.2, 0.1,
                 boxes=((4.0, 6.0, -1.0, 1.0, 1.8),))


def confidence_of(mask):
    return np.arange(mask.size, dtype=np.uint32).reshape(mask.shape).astype(np.uint8)


# Depth


@pytest.mark.parametrize('dtype', [np.float32, np.uint16])
@pytest.mark.parametrize('lens', LENSES)
def test_pixels_with_depth_lie_where_their_rays_met_the_scene(lens, dtype):
    scene = scene_of(lens)
    mask, depth = scene.render()
    truth = (scene.rays() * depth.reshape(-1, 1)).reshape(*mask.shape, 3)
    depth = np.where(depth < 60, depth, np.nan)  # millimetres of 16 bits reach 65 m
    if dtype == np.uint16:
        depth = np.nan_to_num(1000 * depth).round()
    points = DepthPoints(Camera.from_info('x', scene.info))(
        depth.astype(dtype), mask, confidence_of(mask), COLORS)
    assert points.shape == mask.shape and points.dtype == POINT
    known = np.isfinite(points['z'])
    # In the corners of this lens OpenCV finds no ray.
    known &= np.isfinite(truth).all(axis=2)
    assert 0.3 < known.mean() < 1 and not known[mask == SKY].any()
    found = np.stack([points[name] for name in 'xyz'], axis=2)
    np.testing.assert_allclose(found[known], truth[known], atol=0.06)
    near = known & (truth[..., 2] < 8)
    np.testing.assert_allclose(found[near], truth[near], atol=3e-3)
    # From the optical frame to the vehicle: the ground lies at 0, the box up to its height.
    pose = Pose.from_angles(scene.roll, scene.pitch, scene.yaw, scene.place, optical=True)
    up = pose.of(found.reshape(-1, 3).astype(float))[:, 2].reshape(mask.shape)
    assert np.abs(up[near & (mask != BOX)]).max() < 0.01
    assert 1.7 < up[near & (mask == BOX)].max() < 1.81
    np.testing.assert_array_equal(points['label'], mask)
    np.testing.assert_array_equal(points['rgb'], COLORS[mask])
    np.testing.assert_allclose(points['confidence'], confidence_of(mask) / 255, rtol=1e-6)


@pytest.mark.parametrize('nothing', [0.0, -1.0, np.nan, np.inf, -np.inf])
def test_pixels_without_depth_are_no_points(nothing):
    camera = Camera.from_info('x', camera_info(SIZE, 130.0))
    depth = np.full(SIZE[::-1], 2.0, np.float32)
    depth[3, 4] = nothing
    mask = np.ones(SIZE[::-1], np.uint8)
    points = DepthPoints(camera)(depth, mask, mask, COLORS)
    assert [np.isnan(points[name]).sum() for name in 'xyz'] == [1, 1, 1]
    assert np.isnan(points['x'][3, 4]) and points['label'][3, 4] == 1
    assert depth[0, 0] == 2.0 and (depth[3, 4] == nothing or np.isnan(nothing))


def test_points_of_dropped_classes_are_none():
    scene = scene_of('none')
    mask, depth = scene.render()
    points = DepthPoints(Camera.from_info('x', scene.info))(
        depth.astype(np.float32), mask, mask, COLORS, np.arange(256) == BOX)
    assert np.isnan(points['x'][mask == BOX]).all() and np.isfinite(points['x'][mask == 1]).all()


@pytest.mark.parametrize('depth', [
    np.ones((60, 80), np.float32), np.ones(SIZE[::-1], np.float64), np.ones(SIZE[::-1], np.uint8)])
def test_a_depth_of_another_size_or_type_is_refused(depth):
    mask = np.ones(SIZE[::-1], np.uint8)
    with pytest.raises(FrameError, match=f'the depth is {depth.dtype} of shape .*mask.size'):
        DepthPoints(Camera.from_info('x', camera_info(SIZE, 130.0)))(depth, mask, mask, COLORS)


# Lidar


@pytest.mark.parametrize('lens', LENSES)
def test_a_point_has_the_label_of_the_pixel_where_opencv_sees_it(lens):
    scene = scene_of(lens)
    mask, _ = scene.render()
    rng = np.random.default_rng(1)
    points = rng.uniform((-8, -6, -6), (8, 6, 10), (20_000, 3))
    labels, sure = Painter(Camera.from_info('x', scene.info))(points, mask, confidence_of(mask))
    off_axis = np.hypot(*points[:, :2].T) / points[:, 2]
    at = np.rint(projected(points, scene.info))
    seen = ((points[:, 2] > 0) & (off_axis < (0.8 if 'eq' not in lens else 1.5))
            & ((at >= 0) & (at < SIZE)).all(axis=1))
    assert 500 < seen.sum() < 10_000
    column, row = at[seen].astype(int).T
    # By the nearest pixel; float32 may fall to the other one when a point lies between two.
    assert (labels[seen] == mask[row, column]).mean() > 0.999
    assert (sure[seen] == confidence_of(mask)[row, column]).mean() > 0.999
    behind = points[:, 2] <= 0
    assert (labels[behind] == UNLABELED).all() and (sure[behind] == 0).all()
    outside = (points[:, 2] > 0) & ((at < -1) | (at > np.array(SIZE))).any(axis=1)
    assert outside.any() and (labels[outside & (off_axis < 0.8)] == UNLABELED).all()


def test_points_that_are_none_and_no_points_at_all_are_not_seen():
    mask = np.ones(SIZE[::-1], np.uint8)
    painter = Painter(Camera.from_info('x', camera_info(SIZE, 130.0)))
    points = np.array([[np.nan] * 3, [np.inf, 0, 1], [0, 0, np.inf], [0, 0, 0], [0, 0, 5.0]])
    labels, sure = painter(points, mask, mask)
    assert labels.tolist()[-2:] == [UNLABELED, 1] and labels.tolist()[:2] == [UNLABELED] * 2
    assert painter(np.empty((0, 3)), mask, mask)[0].shape == (0,)
    with pytest.raises(FrameError, match='the mask is 80x120, the camera .* 160x120'):
        painter(points, mask[:, ::2], mask[:, ::2])


LIDAR = np.dtype([('x', '<f4'), ('y', '<f4'), ('z', '<f4'), ('intensity', 'u1'),
                  ('return_type', 'u1'), ('channel', '<u2')])
LIDAR_FIELDS = [('x', 0, 7), ('y', 4, 7), ('z', 8, 7), ('intensity', 12, 2),
                ('return_type', 13, 2), ('channel', 14, 4)]
"""PointXYZIRC, of which Autoware's filters ask the first fields."""


def field(name, offset, datatype, count=1):
    return SimpleNamespace(name=name, offset=offset, datatype=datatype, count=count)


def lidar_message(points, rows=1, padding=0, fields=LIDAR_FIELDS, **changes):
    """Return a PointCloud2 with points of LIDAR."""
    width = len(points) // rows
    data = b''.join(points[i * width:(i + 1) * width].tobytes() + bytes(padding)
                    for i in range(rows))
    message = {'height': rows, 'width': width, 'point_step': points.itemsize, 'data': data,
               'row_step': width * points.itemsize + padding, 'is_bigendian': False,
               'fields': [field(*one) for one in fields], 'header': 'header'}
    return SimpleNamespace(**{**message, **changes})


@pytest.fixture
def lidar():
    """Return twelve points of a lidar."""
    points = np.zeros(12, LIDAR)
    rng = np.random.default_rng(0)
    for name in 'xyz':
        points[name] = rng.uniform(-9, 9, 12)
    points['intensity'], points['channel'] = np.arange(12), 300 + np.arange(12)
    return points


@pytest.mark.parametrize(('rows', 'padding'), [(1, 0), (3, 0), (3, 5)])
def test_a_cloud_is_read_with_its_rows_and_their_padding(lidar, rows, padding):
    places = Cloud(lidar_message(lidar, rows, padding)).places()
    np.testing.assert_array_equal(places, np.column_stack([lidar[name] for name in 'xyz']))


def test_doubles_are_read_and_a_cloud_without_points_is_one():
    points = np.zeros(2, np.dtype([('z', '<f8'), ('x', '<f8'), ('y', '<f4')]))
    points['x'], points['z'] = (1, 2), 1e-9
    message = lidar_message(points, fields=[('z', 0, 8), ('x', 8, 8), ('y', 16, 7)])
    np.testing.assert_array_equal(Cloud(message).places(), [[1, 0, 1e-9], [2, 0, 1e-9]])
    empty = Cloud(lidar_message(np.zeros(0, LIDAR)))
    assert empty.places().shape == (0, 3)
    painted, _ = empty.painted(np.zeros(0, np.uint8), np.zeros(0, np.uint8), COLORS)
    assert len(painted) == 0


def test_a_painted_cloud_keeps_what_it_has_and_gets_label_confidence_and_colour(lidar):
    labels = np.array([1, UNLABELED] * 6, np.uint8)
    sure = np.arange(0, 240, 20, dtype=np.uint8)
    points, fields = Cloud(lidar_message(lidar)).painted(labels, sure, COLORS)
    message = to_cloud(points, 'header', SimpleNamespace, SimpleNamespace, fields)
    assert [(f.name, f.offset, f.datatype) for f in message.fields[:6]] == LIDAR_FIELDS
    named = {f.name: f for f in message.fields}
    assert list(named)[6:] == ['rgb', 'label', 'confidence']
    assert (message.point_step, message.row_step, message.width) == (28, 28 * 12, 12)
    view = np.frombuffer(message.data, np.dtype({
        'names': ['intensity', 'x', 'label', 'confidence', 'rgb'],
        'formats': ['u1', '<f4', '<u4', '<f4', '<u4'],
        'offsets': [named[n].offset for n in ('intensity', 'x', 'label', 'confidence', 'rgb')],
        'itemsize': 28}))
    np.testing.assert_array_equal(view['intensity'], np.arange(12))
    np.testing.assert_array_equal(view['x'], lidar['x'])
    np.testing.assert_array_equal(view['label'], labels)
    np.testing.assert_allclose(view['confidence'], sure / 255, rtol=1e-6)
    np.testing.assert_array_equal(view['rgb'], COLORS[labels])


def test_a_cloud_painted_twice_has_the_new_paint_alone(lidar):
    first = Cloud(lidar_message(lidar)).painted(
        np.ones(12, np.uint8), np.ones(12, np.uint8), COLORS)
    message = to_cloud(first[0], 'h', SimpleNamespace, SimpleNamespace, first[1])
    _, fields = Cloud(message).painted(np.zeros(12, np.uint8), np.ones(12, np.uint8), COLORS)
    names = [f.name for f in fields]
    assert sorted(names) == sorted(set(names)) and names[-3:] == ['rgb', 'label', 'confidence']
    assert fields[-1].offset > first[1][-1].offset


def test_points_of_dropped_classes_are_left_out_and_those_not_seen_never_are(lidar):
    labels = np.array([1, 2, UNLABELED] * 4, np.uint8)
    points, _ = Cloud(lidar_message(lidar)).painted(
        labels, labels, COLORS, (np.arange(256) == 2) | (np.arange(256) == UNLABELED))
    assert points['label'].tolist() == [1, UNLABELED] * 4


@pytest.mark.parametrize(('changes', 'said'), [
    ({'is_bigendian': True}, 'is_bigendian is true'),
    ({'data': b'123'}, 'data has 3 bytes and row_step is 192'),
    ({'row_step': 7}, 'row_step is 7, which does not hold 1 rows of 12 points of 16 bytes'),
    ({'fields': [('x', 0, 7)]}, r"fields are \['x'\]: needed are x, y and z"),
    ({'fields': [(n, 4 * i, 5) for i, n in enumerate('xyz')]}, 'of FLOAT32 or FLOAT64'),
    ({'fields': [(n, 8 * i, 7) for i, n in enumerate('xyz')]}, "'z' ends beyond point_step"),
])
def test_a_cloud_that_contradicts_itself_is_refused(lidar, changes, said):
    with pytest.raises(MessageError, match=said):
        Cloud(lidar_message(lidar, **changes))


# Messages


def test_contacts_become_points_above_the_ground():
    mask = np.zeros((4, 4), np.uint8)
    mask[1, 2] = 3
    contacts = Contacts(np.array([[5.0, -1.0]]), np.array([[1, 2]]), np.zeros(1))
    points = contact_points(contacts, 0.2, mask, np.full((4, 4), 51, np.uint8), COLORS)
    assert points.tolist() == [pytest.approx((5.0, -1.0, 0.2, COLORS[3], 3, 0.2))]


def test_a_cloud_message_has_the_fields_that_pcl_and_rviz_know():
    points = np.zeros((3, 4), POINT)
    message = to_cloud(points, 'header', SimpleNamespace, SimpleNamespace)
    assert [(f.name, f.offset, f.datatype, f.count) for f in message.fields] == [
        ('x', 0, 7, 1), ('y', 4, 7, 1), ('z', 8, 7, 1), ('rgb', 12, 7, 1), ('label', 16, 6, 1),
        ('confidence', 20, 7, 1)] == [tuple(one) for one in FIELDS]
    assert (message.height, message.width, message.point_step, message.row_step) == (3, 4, 24, 96)
    assert len(message.data) == 288 and message.is_dense is False
    assert to_cloud(points.reshape(-1), 'h', SimpleNamespace, SimpleNamespace).height == 1


def test_colours_are_packed_as_red_green_blue():
    assert pack_colors(np.full((256, 3), (1, 2, 3), np.uint8))[7] == 0x010203
