# Copyright 2026 rgbx_seg_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""The rig: X brought onto RGB as the parameters say, and watched."""

from types import SimpleNamespace

import numpy as np
import pytest
from rgbx_seg_ros.cards.card import XInput
from rgbx_seg_ros.errors import FrameError, ParameterError
from rgbx_seg_ros.parameters import Parameters
from rgbx_seg_ros.registration.rig import Rig

THERMAL = XInput(kind='thermal', mean=(0.5,), std=(0.2,))
DEPTH = XInput(kind='depth', mean=(0.5,), std=(0.2,), invalid=0.0)
X = np.arange(48 * 64, dtype=np.uint16).reshape(48, 64) + 1


def camera_info(fx=60.0, width=64, height=48, **fields):
    """Return what a CameraInfo of an ideal camera holds."""
    k = (fx, 0.0, (width - 1) / 2, 0.0, fx, (height - 1) / 2, 0.0, 0.0, 1.0)
    return SimpleNamespace(**{
        'width': width, 'height': height, 'distortion_model': 'plumb_bob', 'd': [0.0] * 5, 'k': k,
        'r': (1.0, 0, 0, 0, 1, 0, 0, 0, 1), 'p': (*k[:3], 0.0, *k[3:6], 0.0, *k[6:], 0.0),
        'roi': SimpleNamespace(width=0, height=0), **fields})


def nothing(modality):
    """Return the CameraInfo of a camera that has sent none."""
    return None


def test_without_registration_x_stays_as_it_is():
    assert Rig(Parameters(), THERMAL, nothing).place(X, (128, 96)) is X


def test_a_homography_moves_x():
    """By three pixels to the right and one down, on frames of the calibrated sizes."""
    rig = Rig(Parameters(registration_mode='homography',
                         registration_homography=[1, 0, 3, 0, 1, 1, 0, 0, 1],
                         registration_x_size=[64, 48], registration_rgb_size=[64, 48]),
              THERMAL, nothing)
    moved = rig.place(X, (64, 48))
    np.testing.assert_array_equal(moved[1:, 3:], X[:-1, :-3])
    assert moved.dtype == X.dtype and (moved[0] == X.min()).all()


def test_a_bad_homography_ends_the_start_and_not_the_first_frame():
    with pytest.raises(ParameterError, match='registration.homography'):
        Rig(Parameters(registration_mode='homography', registration_homography=[0.0] * 9),
            THERMAL, nothing)


@pytest.mark.parametrize('size', [[640.5, 480], [0, 480]])
def test_a_size_that_no_frame_has_is_named(size):
    with pytest.raises(ParameterError, match='registration.x_size'):
        Rig(Parameters(registration_mode='homography', registration_x_size=size), THERMAL, nothing)


def test_a_bad_transform_ends_the_start():
    with pytest.raises(ParameterError, match='registration.rotation'):
        Rig(Parameters(registration_mode='extrinsics', registration_rotation=[0, 0, 0, 0]),
            THERMAL, nothing)


def extrinsics(infos, **parameters):
    """Return a rig with X 0.1 m to the right of RGB, and a scene 2 m away."""
    return Rig(Parameters(registration_mode='extrinsics', registration_depth_m=2.0,
                          registration_translation=[0.1, 0, 0], **parameters), DEPTH, infos.get)


def test_extrinsics_move_x_by_the_parallax():
    """By fx * baseline / depth = 3 px; what X does not see is invalid."""
    rig = extrinsics({'rgb': camera_info(), 'x': camera_info()})
    moved = rig.place(X, (64, 48))
    np.testing.assert_array_equal(moved[:, 3:], X[:, :-3])
    assert (moved[:, :3] == 0).all()


@pytest.mark.parametrize('missing', ['rgb', 'x'])
def test_extrinsics_wait_for_both_camera_infos(missing):
    infos = {'rgb': camera_info(), 'x': camera_info()}
    late = infos.pop(missing)
    rig = extrinsics(infos)
    with pytest.raises(FrameError, match=f'nothing has come on {missing}/camera_info yet'):
        rig.place(X, (64, 48))
    infos[missing] = late
    assert rig.place(X, (64, 48)).shape == X.shape


def test_extrinsics_follow_a_camera_that_is_calibrated_anew():
    infos = {'rgb': camera_info(), 'x': camera_info()}
    rig = extrinsics(infos)
    before = rig.place(X, (64, 48))
    infos.update(rgb=camera_info(120.0), x=camera_info(120.0))
    np.testing.assert_array_equal(rig.place(X, (64, 48))[:, 6:], X[:, :-6])
    infos.update(rgb=camera_info(), x=camera_info())
    np.testing.assert_array_equal(rig.place(X, (64, 48)), before)


def test_a_camera_without_calibration_is_named():
    infos = {'rgb': camera_info(), 'x': camera_info(k=(0.0,) * 9)}
    with pytest.raises(FrameError, match='x/camera_info: the camera matrix'):
        extrinsics(infos).place(X, (64, 48))


def scene(shift):
    """Return an RGB frame with edges, and X that shows it `shift` pixels to the right."""
    rng = np.random.default_rng(3)
    blocks = np.zeros((240, 320), np.uint8)
    for _ in range(60):
        top, left = rng.integers(0, (220, 290))
        blocks[top:top + rng.integers(10, 60), left:left + rng.integers(10, 60)] = (
            rng.integers(0, 255))
    return np.repeat(blocks[..., None], 3, 2), np.roll(255 - blocks, shift, axis=1)


@pytest.mark.parametrize(('shift', 'text'), [(0, ''), (9, 'moving it by -9, +0 px')])
def test_a_camera_that_has_moved_is_told(shift, text):
    rig = Rig(Parameters(), THERMAL, nothing)
    rgb, x = scene(shift)
    for _ in range(400):
        rig.watch(rgb, x, x)
    assert rig.drift.startswith(text) and bool(rig.drift) == bool(shift)


def test_a_camera_that_changes_its_mode_is_watched_anew():
    rig = Rig(Parameters(), THERMAL, nothing)
    rgb, x = scene(9)
    for _ in range(400):
        rig.watch(rgb, x, x)
    assert rig.drift
    rgb, x = rgb[:160], x[:160]
    for _ in range(11):
        rig.watch(rgb, x, x)
    assert not rig.drift
