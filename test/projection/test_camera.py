# Copyright 2026 rgbx_seg_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""The optics of a camera: points appear where OpenCV has them, and pixels look back there."""

from copy import deepcopy
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
from rgbx_seg_ros.errors import FrameError, ParameterError
from rgbx_seg_ros.projection.camera import Camera, scale_info
from support.cameras import camera_info, LENSES, projected


@pytest.mark.parametrize('lens', LENSES)
def test_points_appear_where_opencv_has_them_and_pixels_look_back_there(lens):
    info = camera_info((160, 120), 120.0, lens)
    camera = Camera.from_info('rgb', info)
    points = np.random.default_rng(0).uniform((-1, -0.8, 2.0), (1, 0.8, 3.0), (200, 3))
    pixels = camera.pixels(points)
    np.testing.assert_allclose(pixels, projected(points, info), atol=1e-6)
    rays = camera.rays(pixels)
    np.testing.assert_allclose(rays[:, :2] / rays[:, 2:], points[:, :2] / points[:, 2:], atol=1e-4)


@pytest.mark.parametrize('lens', LENSES)
def test_the_camera_of_scaled_frames_sees_the_same(lens):
    camera = Camera.from_info('rgb', camera_info((160, 120), 120.0, lens))
    point = np.array([[0.3, -0.2, 1.0]])
    small = camera.scaled((80, 60))
    assert small.size == (80, 60)
    np.testing.assert_allclose(small.pixels(point) + 0.5, (camera.pixels(point) + 0.5) / 2)
    with pytest.raises(FrameError, match='rgb frames are 80x80, but the camera is calibrated for'):
        camera.scaled((80, 80))


def test_rectified_frames_use_p_and_r_and_no_distortion():
    turn = cv2.Rodrigues(np.array([0.0, 0.05, 0.0]))[0]
    p = [100.0, 0, 82.0, 0, 0, 100.0, 58.0, 0, 0, 0, 1, 0]
    info = camera_info((160, 120), 120.0, 'plumb_bob', r=turn.ravel().tolist(), p=p)
    rectified = Camera.from_info('rgb', info, rectified=True)
    point = np.array([[0.3, -0.2, 2.0]])
    seen = (turn @ point[0]) @ np.array(p).reshape(3, 4)[:, :3].T
    np.testing.assert_allclose(rectified.pixels(point)[0], seen[:2] / seen[2])
    direction = rectified.rays(rectified.pixels(point))[0]
    np.testing.assert_allclose(direction / direction[2], point[0] / 2.0, atol=1e-9)


def test_a_lens_off_its_axis_is_undone_to_a_hundredth_of_a_pixel_in_every_corner():
    """Its tangential part settles slowest where it is strong, far from the centre."""
    info = camera_info((640, 480), 300.0, distortion_model='plumb_bob',
                       d=[0.1, 0.0, 0.035, 0.035, 0.0])
    camera = Camera.from_info('rgb', info)
    pixels = np.stack(np.meshgrid(np.linspace(0, 639, 30), np.linspace(0, 479, 30)),
                      axis=-1).reshape(-1, 2)
    np.testing.assert_allclose(camera.pixels(camera.rays(pixels)), pixels, rtol=0, atol=0.01)


def test_what_lies_beyond_the_lens_or_behind_the_camera_is_not_seen():
    # Beyond 50 degrees this polynomial turns back: a point at 70 would fold into the frame.
    info = camera_info((160, 120), 80.0, d=[-0.25, 0.0, 0.0, 0.0, 0.0],
                       distortion_model='plumb_bob')
    folded = [[np.tan(np.radians(70)), 0.0, 1.0]]
    camera = Camera.from_info('x', info)
    assert abs(projected(folded, info)[0, 0]) < 160
    assert np.isnan(camera.pixels(np.array(folded))).all()
    assert np.isnan(camera.pixels(np.array([[0.0, 0.0, -1.0]]))).all()
    assert np.isfinite(camera.pixels(np.array([[0.5, 0.0, 1.0]]))).all()


@pytest.mark.parametrize(('changes', 'message'), [
    ({'k': [0.0] * 9}, 'calibrate the camera'),
    ({'k': [100.0] * 8}, '9 finite numbers'),
    ({'d': [0.1, 0.2]}, "2 numbers of distortion with the model 'plumb_bob', it has 0 or 4 or 5"),
    ({'d': [0.1, 0.2, 0.0, float('inf')]}, 'finite'),
    ({'distortion_model': 'spiral'}, "is 'spiral', allowed are: plumb_bob"),
    ({'width': 0}, 'the size'),
    ({'roi': SimpleNamespace(width=20, height=10)}, 'region of interest of 20x10'),
])
def test_camera_infos_that_do_not_describe_a_camera_are_refused(changes, message):
    with pytest.raises(ParameterError, match=message) as error:
        Camera.from_info('x', camera_info((80, 60), 70.0, 'plumb_bob', **changes))
    assert str(error.value).startswith('x/camera_info')


def test_a_rectifying_matrix_that_is_no_rotation_is_refused():
    info = camera_info((80, 60), 70.0, r=[1.0] * 9, p=[70.0, 0, 40, 0, 0, 70, 30, 0, 0, 0, 1, 0])
    with pytest.raises(ParameterError, match='no rotation'):
        Camera.from_info('rgb', info, rectified=True)


# A CameraInfo for frames of another size


@pytest.mark.parametrize('zoom', [(0.5, 0.5), (2.0, 2.0), (0.5, 0.25), (1.25, 1.0)])
def test_a_scaled_camera_info_sees_each_point_at_the_same_place_of_its_frame(zoom):
    p = [110.0, 0, 82.0, -11.0, 0, 112.0, 58.0, 0, 0, 0, 1, 0]
    info = camera_info((160, 120), 120.0, 'plumb_bob', p=p,
                       roi=SimpleNamespace(x_offset=8, y_offset=16, width=80, height=40))
    before = deepcopy(info)
    scaled = scale_info(info, zoom)
    assert vars(info) == vars(before)
    assert (scaled.width, scaled.height) == (160 * zoom[0], 120 * zoom[1])
    points = np.random.default_rng(0).uniform((-1, -0.8, 2.0), (1, 0.8, 3.0), (50, 3))
    np.testing.assert_allclose(projected(points, scaled) + 0.5,
                               (projected(points, info) + 0.5) * zoom)
    homogeneous = np.column_stack([points, np.ones(50)])
    one, two = (homogeneous @ np.reshape(i.p, (3, 4)).T for i in (info, scaled))
    np.testing.assert_allclose(two[:, :2] / two[:, 2:] + 0.5,
                               (one[:, :2] / one[:, 2:] + 0.5) * zoom)
    assert vars(scaled.roi) == {'x_offset': 8 * zoom[0], 'y_offset': 16 * zoom[1],
                                'width': 80 * zoom[0], 'height': 40 * zoom[1]}


def test_a_camera_info_without_calibration_stays_one():
    info = camera_info((160, 120), 120.0, k=[0.0] * 9, roi=SimpleNamespace(
        x_offset=0, y_offset=0, width=0, height=0))
    assert scale_info(info, (0.5, 0.5)).k == [0.0] * 9
