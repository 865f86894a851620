# Copyright 2026 rgbx_seg_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""X on RGB: points land where OpenCV's camera models put them, frames of every type arrive."""

import cv2
import numpy as np
import pytest
from rgbx_seg_ros.cards.card import load_card
from rgbx_seg_ros.engines.graph import Normalize
from rgbx_seg_ros.errors import FrameError, ParameterError
from rgbx_seg_ros.frames.raw import find_x_limits, X_TYPES
from rgbx_seg_ros.registration.warp import Camera, Extrinsics, Homography, Registration
from support.cameras import camera_info, LENSES, projected
import torch

IDENTITY = (1, 0, 0, 0, 1, 0, 0, 0, 1)
NO_TURN = (0.0, 0.0, 0.0, 1.0)


def quaternion(turn):
    vector = cv2.Rodrigues(turn)[0].ravel()
    angle = np.linalg.norm(vector)
    return (*(np.sin(angle / 2) * vector / angle).tolist(), float(np.cos(angle / 2)))


def test_without_a_geometry_frames_stay_as_they_are():
    x = np.arange(12, dtype=np.uint16).reshape(3, 4)
    assert Registration().apply(x, (40, 30)) is x
    assert Registration().seen(x, (40, 30)).all()


@pytest.mark.parametrize('kind', ['thermal', 'depth'])
@pytest.mark.parametrize('x_type', X_TYPES)
@pytest.mark.parametrize('channels', [(), (1,), (3,)])
def test_the_identity_keeps_every_pixel_of_every_type(kind, x_type, channels):
    x = np.random.default_rng(0).integers(0, 200, (30, 40, *channels)).astype(x_type)
    moved = Registration(Homography(IDENTITY, (40, 30), (40, 30)), kind).apply(x, (40, 30))
    assert moved.dtype == x.dtype
    np.testing.assert_array_equal(moved, x.squeeze() if channels == (1,) else x)


def test_a_homography_moves_pixels_of_x_to_where_it_says():
    numbers = (1.5, 0.0, 10.0, 0.0, 1.5, -6.0, 0.0, 0.0, 1.0)
    x = np.zeros((30, 40), np.float32)
    x[10, 20] = 1.0
    moved = Registration(Homography(numbers, (40, 30), (80, 60)), 'depth').apply(x, (80, 60))
    rows, columns = np.nonzero(moved == 1.0)
    assert abs(columns.mean() - (1.5 * 20 + 10)) <= 0.5
    assert abs(rows.mean() - (1.5 * 10 - 6)) <= 0.5


def test_a_homography_with_perspective_agrees_with_opencv():
    numbers = (0.9, 0.05, 12.0, -0.04, 1.1, -8.0, 2e-4, -1e-4, 1.0)
    x = cv2.GaussianBlur(np.random.default_rng(1).random((60, 80)).astype(np.float32), (0, 0), 3)
    moved = Registration(Homography(numbers, (80, 60), (80, 60))).apply(x, (80, 60))
    expected = cv2.warpPerspective(x, np.array(numbers).reshape(3, 3), (80, 60),
                                   borderMode=cv2.BORDER_REPLICATE)
    known = np.isfinite(moved)
    assert 0.5 < known.mean() < 0.95
    np.testing.assert_allclose(moved[known], expected[known], atol=2e-3)


@pytest.mark.parametrize('zoom', [(0.5, 1), (2, 1), (1, 0.5), (1, 2), (2, 0.5)])
def test_frames_of_another_size_than_calibrated_show_the_same_view(zoom):
    numbers = (1.1, 0.02, 5.0, -0.03, 0.95, 7.0, 1e-4, 5e-5, 1.0)
    registration = Registration(Homography(numbers, (80, 60), (160, 120)))
    # A plane wave in coordinates that do not depend on the size.
    x = np.fromfunction(lambda row, column: np.sin((column + 0.5) / (80 * zoom[0]) * 9)
                        + np.cos((row + 0.5) / (60 * zoom[0]) * 7),
                        (round(60 * zoom[0]), round(80 * zoom[0]))).astype(np.float32)
    size = round(160 * zoom[1]), round(120 * zoom[1])
    moved = registration.apply(x, size)
    rows, columns = np.nonzero(np.isfinite(moved))
    on_rgb = np.column_stack([(columns + 0.5) / zoom[1] - 0.5, (rows + 0.5) / zoom[1] - 0.5])
    back = np.linalg.inv(np.array(numbers).reshape(3, 3))
    on_x = cv2.perspectiveTransform(on_rgb[None], back)[0]
    expected = np.sin((on_x[:, 0] + 0.5) / 80 * 9) + np.cos((on_x[:, 1] + 0.5) / 60 * 7)
    inside = ((on_x > 1.5) & (on_x < (77.5, 57.5))).all(axis=1)
    np.testing.assert_allclose(moved[rows, columns][inside], expected[inside], atol=0.02)


@pytest.mark.parametrize('x_lens', LENSES)
@pytest.mark.parametrize('rgb_lens', LENSES)
def test_points_on_the_plane_land_where_both_cameras_see_them(rgb_lens, x_lens):
    rgb, x = camera_info((160, 120), 120.0, rgb_lens), camera_info((80, 64), 70.0, x_lens)
    turn = cv2.Rodrigues(np.array([0.02, -0.03, 0.05]))[0]
    shift, depth_m = (0.08, -0.03, 0.01), 4.0
    geometry = Extrinsics(Camera.from_info('rgb', rgb), Camera.from_info('x', x), shift,
                          quaternion(turn), depth_m)
    grid = np.stack(np.meshgrid(np.linspace(-1.5, 1.5, 9), np.linspace(-1.1, 1.1, 7)), axis=2)
    points = np.column_stack([grid.reshape(-1, 2), np.full(63, depth_m)])
    on_rgb = projected(points, rgb)
    on_x = projected(points, x, turn.T, -turn.T @ np.array(shift))
    where = geometry.locate((160, 120), (80, 64)).reshape(120, 160, 2).astype(np.float32)
    inside = ((on_rgb >= 0) & (on_rgb <= (159, 119))).all(axis=1)
    assert inside.sum() > 40
    found = cv2.remap(where, *on_rgb[inside].astype(np.float32).T[..., None], cv2.INTER_LINEAR)
    np.testing.assert_allclose(found.reshape(-1, 2), on_x[inside], atol=0.05)


def test_nearer_and_farther_points_are_off_by_the_parallax_that_the_docstring_gives():
    info = camera_info((160, 120), 120.0)
    camera = Camera.from_info('rgb', info)
    geometry = Extrinsics(camera, camera, (0.1, 0.0, 0.0), NO_TURN, 4.0)
    where = geometry.locate((160, 120), (160, 120)).reshape(120, 160, 2)
    for depth_m in (2.0, 8.0):
        on_rgb = projected([[0.0, 0.0, depth_m]], info)[0]
        on_x = projected([[-0.1, 0.0, depth_m]], info)[0]
        # Without turn or distortion the map is a shift, so any pixel tells it.
        drawn = on_rgb + where[60, 80] - (80, 60)
        assert on_x[0] - drawn[0] == pytest.approx(-120 * 0.1 * (1 / depth_m - 1 / 4.0))


SHIFTED = Homography((1, 0, 10, 0, 1, 0, 0, 0, 1), (40, 30), (40, 30))


@pytest.mark.parametrize('kind', ['thermal', 'depth'])
def test_outside_of_x_float_frames_hold_nan(kind):
    moved = Registration(SHIFTED, kind).apply(np.ones((30, 40), np.float32), (40, 30))
    assert np.isnan(moved[:, :10]).all() and (moved[:, 10:] == 1).all()


@pytest.mark.parametrize('x_type', [np.uint8, np.uint16])
def test_outside_of_x_integer_frames_hold_the_invalid_value_or_else_their_smallest(x_type):
    x = np.random.default_rng(0).integers(50, 90, (30, 40, 3)).astype(x_type)
    assert (Registration(SHIFTED).apply(x, (40, 30))[:, :10] == x.min()).all()
    assert (Registration(SHIFTED, invalid=7.0).apply(x, (40, 30))[:, :10] == 7).all()
    assert (Registration(SHIFTED, invalid=-1.0).apply(x, (40, 30))[:, :10] == x.min()).all()


@pytest.mark.parametrize('normalization', ['minmax', 'percentile'])
@pytest.mark.parametrize(('x_type', 'invalid'), [
    (np.uint16, None), (np.uint16, 0.0), (np.float32, None)])
def test_the_network_takes_what_x_does_not_see_for_missing(card_content, write_card, normalization,
                                                           x_type, invalid):
    x = np.random.default_rng(0).integers(3000, 3400, (30, 40)).astype(x_type)
    x_input = {**card_content['x'], 'normalization': normalization, 'invalid': invalid}
    card = load_card(write_card(x=x_input))
    moved = Registration(SHIFTED, 'thermal', invalid).apply(x, (40, 30))
    limits = find_x_limits(moved, card.x)
    seen = find_x_limits(x[:, :30], card.x)
    assert limits == pytest.approx(seen, abs=8)
    missing = Normalize(card)(torch.zeros(1, 30, 40, 3, dtype=torch.uint8),
                              torch.from_numpy(moved)[None, ..., None],
                              torch.tensor([limits]))[1][0, 0, :, :10]
    zero = -card.x.mean[0] / card.x.std[0]
    torch.testing.assert_close(missing, torch.full((30, 10), zero))


def test_depth_and_frames_with_an_invalid_value_are_never_blended():
    half = Homography((2, 0, 0.5, 0, 2, 0.5, 0, 0, 1), (40, 30), (80, 60))
    x = np.where(np.indices((30, 40))[1] < 20, 1000, 5000).astype(np.uint16)
    for registration in (Registration(half, 'depth'), Registration(half, 'dsm'),
                         Registration(half, 'thermal', 0.0)):
        assert set(np.unique(registration.apply(x, (80, 60)))) == {1000, 5000}
    assert len(np.unique(Registration(half, 'thermal').apply(x, (80, 60)))) > 2


def test_seen_is_where_x_reaches():
    x = np.zeros((30, 40), np.uint8)
    seen = Registration(SHIFTED).seen(x, (40, 30))
    assert seen.dtype == bool and seen.shape == (30, 40)
    assert not seen[:, :10].any() and seen[:, 10:].all()


def test_a_stream_that_changes_its_size_gets_new_maps_and_the_old_ones_again():
    registration = Registration(Homography(IDENTITY, (40, 30), (40, 30)))
    small = np.random.default_rng(0).integers(0, 255, (30, 40), np.uint8)
    large = cv2.resize(small, (80, 60), interpolation=cv2.INTER_NEAREST)
    for x, size in ((small, (40, 30)), (large, (80, 60)), (small, (40, 30))):
        np.testing.assert_array_equal(registration.apply(x, size), x)


def test_rows_with_padding_and_read_only_frames_are_taken():
    x = np.random.default_rng(0).integers(0, 255, (30, 50), np.uint8)[:, :40]
    x.flags.writeable = False
    registration = Registration(Homography(IDENTITY, (40, 30), (40, 30)))
    np.testing.assert_array_equal(registration.apply(x, (40, 30)), x)


@pytest.mark.parametrize(('x_shape', 'rgb_size', 'message'), [
    ((30, 50), (40, 30), 'X frames are 50x30.*calibrated for 40x30'),
    ((30, 40), (40, 20), 'RGB frames are 40x20.*calibrated for 40x30'),
])
def test_a_cropped_frame_is_refused_with_both_sizes(x_shape, rgb_size, message):
    registration = Registration(Homography(IDENTITY, (40, 30), (40, 30)))
    with pytest.raises(FrameError, match=message):
        registration.apply(np.zeros(x_shape, np.uint8), rgb_size)


def test_a_frame_of_another_type_is_refused():
    with pytest.raises(FrameError, match='x is an array'):
        Registration(SHIFTED).apply(np.zeros((30, 40), np.int32), (40, 30))


@pytest.mark.parametrize(('changes', 'message'), [
    ({'numbers': (1, 0, 0, 0, 1, 0, 0, 0)}, 'needed are 9 finite numbers'),
    ({'numbers': (1, 0, 0, 0, 1, 0, 0, 0, float('nan'))}, 'needed are 9 finite numbers'),
    ({'numbers': 'identity'}, 'needed are 9 finite numbers'),
    ({'numbers': (0,) * 9}, 'to infinity'),
    ({'numbers': (1, 0, 0, 1, 0, 0, 0, 0, 1)}, 'times the area'),
    ({'numbers': (1e-3, 0, 0, 0, 1e-3, 0, 0, 0, 1)}, 'times the area'),
    ({'numbers': (1, 0, 900, 0, 1, 0, 0, 0, 1)}, 'beside RGB'),
    ({'numbers': (1, 0, 0, 0, 1, 0, -0.05, 0, 1)}, 'to infinity'),
    ({'x_size': (0, 0)}, 'registration.x_size.*needed are the width and height'),
    ({'rgb_size': (640,)}, 'registration.rgb_size'),
    ({'rgb_size': (640.0, 480.0)}, 'registration.rgb_size'),
])
def test_a_homography_that_cannot_be_is_refused(changes, message):
    arguments = {'numbers': IDENTITY, 'x_size': (40, 30), 'rgb_size': (40, 30), **changes}
    with pytest.raises(ParameterError, match=message):
        Homography(**arguments)


@pytest.mark.parametrize(('changes', 'message'), [
    ({'translation': (50.0, 0.0, 0.0)}, 'allowed are -10 to 10 metres'),
    ({'translation': (0.1, 0.0)}, '3 finite numbers'),
    ({'rotation': (0.0, 0.0, 0.0, 0.0)}, 'a quaternion x, y, z, w of length 1'),
    ({'depth_m': 0.0}, 'registration.depth_m is 0.0, allowed is 0.05'),
    ({'depth_m': float('nan')}, 'registration.depth_m'),
])
def test_extrinsics_that_cannot_be_are_refused(changes, message):
    camera = Camera.from_info('rgb', camera_info((80, 60), 70.0))
    arguments = {'translation': (0.1, 0.0, 0.0), 'rotation': NO_TURN, 'depth_m': 5.0, **changes}
    with pytest.raises(ParameterError, match=message):
        Extrinsics(camera, camera, **arguments)
