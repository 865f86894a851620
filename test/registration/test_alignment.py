# Copyright 2026 rgbx_seg_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""Where X lies on RGB: known moves are found again, drift is told, chance is not trusted."""

import math
from pathlib import Path

import cv2
import numpy as np
import pytest
from rgbx_seg_ros.datasets import FolderDataset
from rgbx_seg_ros.errors import DataError
from rgbx_seg_ros.registration.alignment import agreement, align, DriftMonitor, edges

W, H = 640, 480
CORNERS = np.float32([[0, 0], [W - 1, 0], [W - 1, H - 1], [0, H - 1]])


@pytest.fixture(scope='module')
def pairs():
    """Return real night and day pairs, 640x480."""
    data = FolderDataset(Path(__file__).parents[2] / 'demo')
    return [(sample.rgb, sample.x) for sample in map(data.__getitem__, range(len(data)))]


@pytest.fixture(scope='module')
def unmoved(pairs):
    """Return the alignment of the pairs as they are; their lenses differ, so not the identity."""
    return align(pairs)


def moved(pairs, matrix):
    """Return the pairs with X after `matrix`."""
    return [(rgb, cv2.warpPerspective(x, matrix, (W, H), borderMode=cv2.BORDER_REPLICATE))
            for rgb, x in pairs]


def random_move(seed):
    """Return shift, scale, turn and perspective that take corners up to 8 % of the width away."""
    rng = np.random.default_rng(seed)
    angle = math.radians(rng.uniform(-5, 5))
    turn = np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
    middle = np.array([(W - 1) / 2, (H - 1) / 2])
    target = ((CORNERS - middle) @ turn.T * rng.uniform(0.92, 1.08) + middle
              + rng.uniform(-0.05, 0.05, 2) * W + rng.uniform(-0.015, 0.015, (4, 2)) * W)
    change = target - CORNERS
    change *= min(1.0, 0.08 * W / np.linalg.norm(change, axis=1).max())
    return cv2.getPerspectiveTransform(CORNERS, (CORNERS + change).astype(np.float32))


def corner_error(found, truth, size=(W, H)):
    """Return how far apart two matrices send the corners of X, on average, in pixels of RGB."""
    corners = np.float32([[0, 0], [size[0], 0], [size[0], size[1]], [0, size[1]]])[None] - 0.5
    return float(np.linalg.norm(cv2.perspectiveTransform(corners, found)
                                - cv2.perspectiveTransform(corners, truth), axis=2).mean())


def likeness(rgb, rng):
    """Return what another sensor might see of a frame: inverted, bent, smoothed, with noise."""
    grey = 255.0 - cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY)
    bent = 255 * (grey / 255) ** 2 + rng.normal(0, 6, grey.shape)
    return cv2.GaussianBlur(bent.clip(0, 255).astype(np.uint8), (0, 0), 1.0)


def check_moves(pairs, unmoved, seeds):
    """Check that the known part of the homography is found again, and return the errors."""
    errors = []
    for seed in seeds:
        matrix = random_move(seed)
        found = align(moved(pairs, matrix))
        errors.append(corner_error(found.homography, unmoved.homography @ np.linalg.inv(matrix)))
    assert np.mean(errors) < 3.0, errors
    return errors


def test_known_moves_of_real_thermal_frames_are_found_again(pairs, unmoved):
    check_moves(pairs, unmoved, range(2))


@pytest.mark.long
@pytest.mark.timeout(900)  # twenty alignments of ten pairs each, on a machine with other work
def test_twenty_known_moves_of_real_thermal_frames_are_found_again(pairs, unmoved):
    errors = check_moves(pairs, unmoved, range(20))
    assert max(errors) < 4.0, errors


@pytest.mark.long
def test_the_corners_are_as_uncertain_as_alignments_of_other_pairs_differ(pairs, unmoved):
    assert 0.3 < unmoved.corner_sd_px.mean() < 8
    halves = [align(pairs[::2]), align(pairs[1::2])]
    apart = corner_error(halves[0].homography, halves[1].homography)
    assert apart < 5 * unmoved.corner_sd_px.mean()


@pytest.mark.parametrize('scale', [0.5, 1.9])
def test_an_inverted_view_of_known_place_and_scale_is_found_to_a_pixel(pairs, scale):
    rng = np.random.default_rng(0)
    # X of 400x320 pixels, `scale` times as wide as the RGB frame, turned and off its middle.
    size = 400, 320
    zoom = scale * W / size[0]
    truth = np.vstack([cv2.getRotationMatrix2D((200, 160), 2.0, zoom), [0, 0, 1]])
    truth[:2, 2] += W / 2 - 200 + 20, H / 2 - 160 - 15
    seen = [(rgb, cv2.warpPerspective(
        cv2.GaussianBlur(likeness(rgb, rng), (0, 0), max(0.3, 0.4 * zoom)), truth, size,
        flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP)) for rgb, _ in pairs[4:9]]
    found = align(seen)
    # The corners of the part that both see.
    visible = min(0.9, 0.9 * scale)
    inside = (0.5 + 0.5 * visible * np.float32([[-1, -1], [1, -1], [1, 1], [-1, 1]])) * (W, H)
    back = cv2.perspectiveTransform(inside[None], np.linalg.inv(truth))
    error = np.linalg.norm(cv2.perspectiveTransform(back, found.homography) - inside, axis=2)
    assert error.mean() < 1.5, error


def test_corners_without_edges_stay_where_a_shift_scale_and_turn_would_have_them(pairs):
    rng = np.random.default_rng(0)
    light = np.clip((260 - np.arange(H)) / 120, 0, 1)[:, None]  # below, all is dark and noise
    seen = []
    for rgb, _ in pairs[5:8]:
        x = likeness(rgb, rng) * light + 90 * (1 - light) + rng.normal(0, 4, (H, W))
        rgb = rgb * light[..., None] + 30 * (1 - light[..., None]) + rng.normal(0, 4, (H, W, 3))
        seen.append((rgb.clip(0, 255).astype(np.uint8), x.clip(0, 255).astype(np.uint8)))
    turn = np.vstack([cv2.getRotationMatrix2D((300, 250), 3.0, 1.04), [0, 0, 1]])
    found = align(moved(seen, turn))
    assert corner_error(found.homography, np.linalg.inv(turn)) < 5


def test_pixels_without_measurement_do_not_disturb(pairs):
    rng = np.random.default_rng(0)
    seen = []
    for rgb, _ in pairs[5:9]:
        x = likeness(rgb, rng).astype(np.float32)
        for _ in range(40):
            row, column = rng.integers(0, (H - 40, W - 40))
            x[row:row + 40, column:column + 40] = np.nan
        seen.append((rgb, x))
    assert corner_error(align(seen).homography, np.eye(3)) < 1.5


def test_agreement_tells_a_good_homography_from_a_bad_one(pairs, unmoved):
    share, residual = agreement(pairs, unmoved.homography)
    assert (share, residual) == pytest.approx((unmoved.agreement, unmoved.residual_px))
    assert share > 0.6 and residual < 4
    off = unmoved.homography + np.array([[0, 0, 30], [0, 0, 20], [0, 0, 0]])
    assert agreement(pairs, off)[0] < 0.15


@pytest.mark.parametrize('kind', ['noise', 'flat', 'other scenes', 'upside down'])
def test_frames_without_edges_in_common_are_refused(pairs, kind):
    rng = np.random.default_rng(0)
    unlike = {
        'noise': [rng.integers(0, 255, (H, W), np.uint8) for _ in range(4)],
        'flat': [np.full((H, W), 7, np.uint8)] * 4,
        'other scenes': [x for _, x in pairs[5:9]],
        'upside down': [x[::-1] for _, x in pairs[:4]],
    }[kind]
    with pytest.raises(DataError, match='too few edges in common|did not converge'):
        align([(rgb, x) for (rgb, _), x in zip(pairs[:4], unlike, strict=True)])


def test_too_few_pairs_and_pairs_of_several_sizes_are_refused(pairs):
    with pytest.raises(DataError, match='2 pairs, needed are 3 or more'):
        align(pairs[:2])
    with pytest.raises(DataError, match='frames of several sizes'):
        align([*pairs[:3], (pairs[3][0], pairs[3][1][:400])])


def test_edges_are_the_same_whichever_side_is_brighter(pairs):
    image = pairs[5][0][..., 1]
    np.testing.assert_allclose(edges(255 - image), edges(image), atol=1e-3)
    turned = edges(np.ascontiguousarray(image.T)).transpose(1, 0, 2)
    np.testing.assert_allclose(turned * (-1, 1), edges(image), atol=1e-2)


def test_there_are_no_edges_where_nothing_is_measured(pairs):
    image = cv2.cvtColor(pairs[5][0], cv2.COLOR_RGB2GRAY)
    valid = np.ones((H, W), bool)
    valid[100:300, 200:400] = False
    image[~valid] = 255
    near = np.s_[97:303, 197:403]
    assert np.abs(edges(image)[near]).max() > 2.5
    assert not edges(image, valid)[near].any()
    assert np.abs(edges(image, valid)[:90]).max() > 1


def shifted(pairs, right, down):
    return moved(pairs, np.array([[1, 0, right], [0, 1, down], [0, 0, 1.0]]))


def watch(pairs, **settings):
    monitor = DriftMonitor(**{'every': 1, 'window': 10, **settings})
    for rgb, x in pairs:
        monitor.add(rgb, x)
    return monitor.state()


def test_x_in_its_place_does_not_drift(pairs):
    state = watch(pairs)
    assert not state.drifting
    assert math.hypot(*state.shift_px) < 3


@pytest.mark.parametrize(('right', 'down'), [(14, 0), (0, -14), (-25, 15)])
def test_drift_is_told_with_its_direction(pairs, right, down):
    state = watch(shifted(pairs, right, down))
    assert state.drifting
    assert state.shift_px == pytest.approx((-right, -down), abs=2.5)


def test_drift_is_told_for_other_types_and_sizes_and_beside_missing_pixels(pairs):
    small = [(rgb, cv2.resize(x.astype(np.uint16) * 200, (320, 240)))
             for rgb, x in shifted(pairs, 16, 0)]
    assert watch(small).shift_px == pytest.approx((-16, 0), abs=3)
    holes = [(rgb, x.astype(np.float32)) for rgb, x in shifted(pairs, 16, 0)]
    for _, x in holes:
        x[:, :120] = np.nan
    assert watch(holes).shift_px == pytest.approx((-16, 0), abs=3)


def test_what_is_not_seen_makes_no_edge(pairs):
    seen = np.zeros((H, W), bool)
    seen[60:-60, 80:-80] = True
    told, untold = DriftMonitor(every=1, window=10), DriftMonitor(every=1, window=10)
    for rgb, x in shifted(pairs, 16, 0):
        x = np.where(seen, x, 255).astype(np.uint8)
        told.add(rgb, x, seen)
        untold.add(rgb, x)
    assert told.state().shift_px == pytest.approx((-16, 0), abs=3)
    # The frame drawn around X outweighs the scene.
    assert untold.state().shift_px is None


def test_drift_needs_a_full_window_and_both_halves_of_it(pairs):
    off = shifted(pairs, 16, 0)
    assert not watch(off[:9]).drifting
    assert not watch(pairs[:5] + off[5:]).drifting
    assert watch(pairs[:5] + off[:5] + off[5:]).drifting  # the window has moved on


def test_unlike_frames_tell_no_shift(pairs):
    state = watch([(rgb, pairs[(i + 3) % 10][1]) for i, (rgb, _) in enumerate(pairs)])
    assert state.shift_px is None and not state.drifting
    flat = watch([(rgb, np.zeros_like(x)) for rgb, x in pairs])
    assert flat.shift_px is None and not flat.drifting
    assert DriftMonitor().state().shift_px is None


def test_the_monitor_looks_at_every_tenth_pair(pairs):
    monitor = DriftMonitor(every=10)
    assert [monitor.add(*pairs[0]) for _ in range(21)] == [i % 10 == 0 for i in range(21)]
