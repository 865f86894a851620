# Copyright 2026 rgbx_seg_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""The ground seen from above, against scenes of which every metre is known."""

import math

import cv2
import numpy as np
import pytest
from rgbx_seg_ros.cards.labels import UNLABELED
from rgbx_seg_ros.errors import FrameError, ParameterError, PoseError
from rgbx_seg_ros.projection.camera import Camera
from rgbx_seg_ros.projection.ground import FREE, GridShape, GroundView, OCCUPIED, UNKNOWN
from rgbx_seg_ros.projection.pose import Pose
from support.cameras import camera_info
from support.ray_scenes import BOX, GRASS, ROAD, Scene, SKY

SHAPE = GridShape(0.2, (0.0, 40.0), (-20.0, 20.0))
OBSTACLES = np.arange(256) == BOX
FREE_ON_ROAD = np.where(np.arange(256) == ROAD, FREE, UNKNOWN)
MARKS = np.full(256, OCCUPIED)
LENSES = {  # moderate ones of 60 to 70 degrees, and a wide fisheye
    'none': (550.0, '', []), 'plumb_bob': (550.0, 'plumb_bob', [-0.3, 0.1, 0.001, -0.002, 0.0]),
    'rational': (500.0, 'rational_polynomial', [0.5, -0.2, 0.001, -0.001, 0.02, 0.8, 0.1, 0.01]),
    'fisheye': (300.0, 'equidistant', [-0.02, 0.01, -0.005, 0.001])}


def info_of(lens, size=(640, 480)):
    focal, model, distortion = LENSES[lens]
    return camera_info(size, focal * size[0] / 640, distortion_model=model, d=distortion)


def view_of(scene, shape=SHAPE, max_range=40.0):
    pose = Pose.from_angles(scene.roll, scene.pitch, scene.yaw, scene.place, optical=True)
    return GroundView(Camera.from_info('segmentation', scene.info), pose, shape, max_range)


def grid_of(scene, shape=SHAPE, max_range=40.0):
    """Return the grid of a scene and the contacts of its boxes."""
    view, (mask, _) = view_of(scene, shape, max_range), scene.render()
    contacts = view.contacts(mask, OBSTACLES)
    return view.grid(mask, FREE_ON_ROAD, contacts, MARKS), contacts


# Against ground truth


@pytest.mark.parametrize(('roll', 'pitch', 'yaw'), [
    (0.0, 0.05, 0.0), (0.06, 0.15, 0.1), (-0.1, 0.3, -0.2), (0.2, 0.1, 0.0)])
@pytest.mark.parametrize('lens', LENSES)
def test_the_edges_of_a_road_lie_within_half_a_cell_of_where_they_are(lens, roll, pitch, yaw):
    scene = Scene(info_of(lens), (0.3, -0.2, 1.5), roll, pitch, yaw, slope=0.07, end=16.3)
    grid, _ = grid_of(scene)
    centres, errors = SHAPE.centres(), []
    near = np.hypot(*(centres - scene.place[:2]).transpose(2, 0, 1)) < 20
    seen = grid == FREE
    for column in range(SHAPE.columns):
        x = centres[0, column, 0]
        rows = np.flatnonzero(seen[:, column])
        if x > 16 or not len(rows):
            continue
        for row, side in ((rows[0], -1), (rows[-1], 1)):
            y = scene.slope * x + side * scene.half_width
            beside = np.array([[x, y + side * 0.3, 0.0], [x, y - side * 0.3, 0.0]])
            pixels, ahead = scene.pixels(beside)
            inside = ahead & ((pixels > 2) & (pixels < (637, 477))).all(axis=1)
            if not near[row, column] or not inside.all():
                continue  # the edge of the frame, not that of the road
            errors.append((centres[row, column, 1] + side * 0.1 - y) / 0.2)
    for row in np.flatnonzero(seen.any(axis=1)):
        column = np.flatnonzero(seen[row])[-1]
        y = centres[row, 0, 1]
        if abs(y - scene.slope * scene.end) < 2:
            errors.append((centres[row, column, 0] + 0.1 - scene.end) / 0.2)
    assert len(errors) > 30
    assert np.abs(errors).mean() < 0.5
    assert abs(np.mean(errors)) < 0.2  # not to one side


BOXES = ((6.0, 7.0, -1.5, -0.4, 1.7), (9.1, 13.5, 1.0, 2.9, 1.5), (11.0, 11.4, -3.0, -2.6, 4.0),
         (13.0, 15.0, -2.0, -0.5, 0.4))


@pytest.mark.parametrize(('roll', 'pitch', 'yaw'), [
    (0.0, 0.05, 0.0), (0.06, 0.15, 0.1), (-0.1, 0.3, -0.1), (0.25, 0.12, 0.0), (1.6, 0.2, 0.0)])
@pytest.mark.parametrize('lens', LENSES)
def test_obstacles_are_marked_where_they_meet_the_ground_and_nowhere_else(lens, roll, pitch, yaw):
    scene = Scene(info_of(lens), (0.3, -0.2, 1.6), roll, pitch, yaw, boxes=BOXES)
    grid, contacts = grid_of(scene)
    angles = np.linspace(-1.2, 1.2, 20_000)
    hits = scene.first_hits(angles)
    feet = np.array(scene.place[:2]) + np.column_stack([np.cos(angles), np.sin(angles)]) * (
        np.where(np.isfinite(hits), hits, 1e3)[:, None])
    outlines = cells_of(np.vstack([outline(box) for box in BOXES]))
    marked = np.argwhere(grid == OCCUPIED)
    assert len(marked) > 10
    # Beyond 15 m, a pixel is more than a cell.
    near = contacts.places[np.hypot(*(contacts.places - scene.place[:2]).T) < 15]
    for cells, most in ((cells_of(near), 1), (marked, 2)):
        for cell in cells:
            assert np.abs(outlines - cell).max(axis=1).min() <= most
    # And every foot that is seen is marked, unless the next pixel lies cells away.
    pixels, ahead = scene.pixels(np.column_stack([feet, np.zeros(len(feet))]))
    pixel = 1 / LENSES[lens][0]
    with np.errstate(invalid='ignore'):
        graze = np.abs(scene.first_hits(angles + pixel) - scene.first_hits(angles - pixel)) > 0.2
    seen = np.isfinite(hits) & ~graze & ahead & ((pixels > 2) & (pixels < (637, 477))).all(axis=1)
    assert seen.sum() > 500
    for cell in cells_of(feet[seen]):
        assert np.abs(marked - cell).max(axis=1).min() <= 1


def cells_of(places):
    """Return the different cells (row, column) in which places lie."""
    _, row, column = SHAPE.cells(places)
    return np.unique(np.column_stack([row, column]), axis=0)


def outline(box, step=0.02):
    """Return points along the foot of a box, (N, 2)."""
    x0, x1, y0, y1, _ = box
    x, y = np.arange(x0, x1 + step, step), np.arange(y0, y1 + step, step)
    return np.vstack([np.column_stack([x, np.full(len(x), side)]) for side in (y0, y1)]
                     + [np.column_stack([np.full(len(y), side), y]) for side in (x0, x1)])


def random_scene(seed, **changes):
    """Return a scene with a pose and boxes drawn at random."""
    rng = np.random.default_rng(seed)
    lens = list(LENSES)[seed % len(LENSES)]
    boxes = []
    for _ in range(rng.integers(1, 6)):
        x, y, length, width = rng.uniform((3, -6, 0.3, 0.3), (25, 6, 4, 2.5))
        boxes.append((x, x + length, y, y + width, rng.uniform(0.3, 5.0)))
    return Scene(info_of(lens, (320, 240)), tuple(rng.uniform((-0.5, -0.5, 0.4), (0.5, 0.5, 3))),
                 rng.uniform(-0.4, 0.4), rng.uniform(-0.1, 0.9), rng.uniform(-0.6, 0.6),
                 tuple(boxes), rng.uniform(-0.3, 0.3), 100.0, **changes)


@pytest.mark.parametrize('seed', range(40))
def test_no_cell_behind_an_obstacle_is_free_and_none_that_is_not_seen_is_touched(seed):
    scene = random_scene(seed)
    grid, _ = grid_of(scene)
    centres = SHAPE.centres().reshape(-1, 2)
    away = centres - scene.place[:2]
    angles, distance = np.arctan2(away[:, 1], away[:, 0]), np.hypot(*away.T)
    # Two pixels to both sides: on the very edge of a box, some of them see another thing.
    pixel = 2.0 / np.array(scene.info.k)[0]
    hits = np.max([scene.first_hits(angles + side * pixel) for side in (-1, -0.5, 0, 0.5, 1)],
                  axis=0)
    pixels, ahead = scene.pixels(np.column_stack([centres, np.zeros(len(centres))]))
    # A foot that is out of sight can tell nothing; the cell behind is judged by its own pixel.
    feet = scene.place[:2] + away / distance[:, None] * np.minimum(hits, 1e4)[:, None]
    at, before = scene.pixels(np.column_stack([feet, np.zeros(len(feet))]))
    size = scene.info.width, scene.info.height
    known = before & ((at > 3) & (at < np.array(size) - 4)).all(axis=1)
    behind = known & (distance > hits + 0.2 + distance ** 2 * pixel / scene.place[2])
    assert (grid.reshape(-1)[behind] != FREE).all()
    unseen = ~ahead | ((pixels < -0.51) | (pixels > np.array(size) - 0.49)).any(axis=1)
    touched = grid.reshape(-1)[unseen]
    # The foot of what stands at the edge of the frame may lie in such a cell.
    assert (touched[touched != UNKNOWN] == OCCUPIED).all()
    assert (touched == OCCUPIED).sum() <= 40
    assert (grid == FREE).any() or scene.pitch < 0 or behind.any()


@pytest.mark.parametrize('seed', range(0, 40, 4))
def test_free_cells_are_road_to_within_a_pixel(seed):
    scene = random_scene(seed)
    grid, _ = grid_of(scene)
    free = SHAPE.centres()[grid == FREE]
    distance = np.hypot(*(free - scene.place[:2]).T)
    pixel = 0.8 * distance ** 2 / (scene.place[2] * np.array(scene.info.k)[0]) + 0.03
    inside = np.zeros(len(free), bool)
    for x0, x1, y0, y1, _ in scene.boxes:
        inside |= ((free[:, 0] > x0 + pixel) & (free[:, 0] < x1 - pixel)
                   & (free[:, 1] > y0 + pixel) & (free[:, 1] < y1 - pixel))
    assert not inside.any()


def test_a_view_of_the_sky_alone_leaves_every_cell_unknown():
    scene = Scene(info_of('none'), pitch=-0.9)
    grid, contacts = grid_of(scene)
    assert (grid == UNKNOWN).all() and len(contacts.places) == 0
    mask = np.full((480, 640), BOX, np.uint8)
    contacts = view_of(scene).contacts(mask, OBSTACLES)
    assert len(contacts.places) == 0


def test_a_camera_that_looks_straight_down_sees_all_around_it():
    scene = Scene(info_of('none'), (5.0, 0.0, 3.0), pitch=math.pi / 2,
                  boxes=((4.0, 4.4, -0.2, 0.2, 0.5), (5.7, 6.0, 0.4, 0.8, 0.5)))
    shape = GridShape(0.1, (2.0, 8.0), (-3.0, 3.0))
    grid, _ = grid_of(scene, shape)
    marked = shape.centres()[grid == OCCUPIED]
    for box, inner in zip(scene.boxes, ((4.4, 0.0), (5.7, 0.45)), strict=True):
        assert np.hypot(*(marked - inner).T).min() < 0.1
        assert np.hypot(*(outline(box)[:, None] - marked[None]).transpose(2, 0, 1)).min() < 0.1
    assert (grid[shape.cells(np.array([[5.0, 0.0], [4.7, 1.0]]))[1:]] == FREE).all()
    assert (grid[shape.cells(np.array([[3.7, 0.0], [3.3, 0.0]]))[1:]] == UNKNOWN).all()


# What a class and its confidence do


@pytest.fixture(scope='module')
def plain():
    """Give a scene with a box, its view, and the mask."""
    scene = Scene(info_of('none'), pitch=0.1, boxes=((8.0, 9.0, -0.5, 0.5, 1.6),))
    return scene, view_of(scene), scene.render()[0]


def at(grid, x, y):
    """Return the value of the cell at a place."""
    _, row, column = SHAPE.cells(np.array([[x, y]]))
    return grid[row, column][0]


def test_values_and_marks_are_those_of_the_classes(plain):
    _, view, mask = plain
    values = np.full(256, UNKNOWN)
    values[[ROAD, GRASS]] = 5, 60
    marks = np.full(256, 70)
    contacts = view.contacts(mask, OBSTACLES)
    grid = view.grid(mask, values, contacts, marks)
    assert (at(grid, 6.0, 0.0), at(grid, 15.0, 5.0), at(grid, 8.0, 0.1)) == (5, 60, 70)
    assert at(grid, 12.0, 0.1) == UNKNOWN
    assert set(np.unique(grid)) == {UNKNOWN, 5, 60, 70}


def test_the_highest_of_several_marks_in_a_cell_counts():
    scene = Scene(info_of('none'), pitch=0.1, boxes=((8.0, 9.0, -0.5, 0.5, 1.6),))
    view, mask = view_of(scene), scene.render()[0]
    both = np.where((mask == BOX) & (np.arange(640) % 2 == 0), 4, mask).astype(np.uint8)
    marks = np.zeros(256, int)
    marks[[BOX, 4]] = 40, 90
    contacts = view.contacts(both, OBSTACLES | (np.arange(256) == 4))
    for swapped in (marks, marks[::-1].copy()):
        swapped[[BOX, 4]] = marks[[BOX, 4]] if swapped is marks else (90, 40)
        grid = view.grid(both, FREE_ON_ROAD, contacts, swapped)
        assert set(np.unique(grid[grid > 0])) == {90}


def test_unlabeled_pixels_are_never_free_nor_an_obstacle(plain):
    _, view, mask = plain
    mask = np.where(mask == BOX, UNLABELED, mask)
    contacts = view.contacts(mask, np.arange(256) >= BOX + 2)
    assert not len(contacts.places)
    grid = view.grid(mask, np.zeros(256), contacts, MARKS)
    assert at(grid, 6.0, 0.0) == FREE and at(grid, 9.5, 0.1) == UNKNOWN


def test_what_is_not_sure_is_unknown_and_still_hides_what_is_behind(plain):
    _, view, mask = plain
    sure = np.full(mask.shape, 200, np.uint8)
    sure[mask == BOX] = 100
    sure[:, :200] = 127
    contacts = view.contacts(mask, OBSTACLES, sure, 128)
    assert not len(contacts.places)
    grid = view.grid(mask, FREE_ON_ROAD, contacts, MARKS, sure, 128)
    assert (at(grid, 6.0, 0.0), at(grid, 12.0, 0.1), at(grid, 6.0, 2.0)) == (0, -1, -1)
    contacts = view.contacts(mask, OBSTACLES, sure, 100)
    grid = view.grid(mask, FREE_ON_ROAD, contacts, MARKS, sure, 100)
    assert at(grid, 8.0, 0.1) == OCCUPIED and at(grid, 6.0, 2.0) == FREE


def test_an_obstacle_counts_by_what_is_amid_of_it_for_its_edges_are_never_sure(plain):
    _, view, mask = plain
    inner = cv2.erode((mask == BOX).astype(np.uint8), np.ones((9, 9)))
    sure = np.where((mask == BOX) & (inner == 0), 90, 220).astype(np.uint8)
    assert len(view.contacts(mask, OBSTACLES, sure, 128).places) > 50


def test_cells_beyond_the_range_are_unknown():
    scene = Scene(info_of('none'), pitch=0.05, boxes=((20.0, 21.0, -2.0, 2.0, 2.0),))
    grid, contacts = grid_of(scene, max_range=12.0)
    assert at(grid, 11.5, 0.0) == FREE and at(grid, 12.5, 0.0) == UNKNOWN
    assert not len(contacts.places)


def test_an_obstacle_that_goes_on_below_the_frame_is_as_near_as_that():
    scene = Scene(info_of('none'), boxes=((1.0, 2.0, -0.3, 0.3, 3.0),))
    grid, contacts = grid_of(scene)
    lowest = scene.place[2] / math.tan(math.atan2(479.5 - scene.info.k[5], scene.info.k[4]))
    middle = np.abs(contacts.places[:, 1]) < 0.2
    np.testing.assert_allclose(contacts.places[middle, 0], lowest, atol=0.02)
    assert at(grid, lowest + 2, 0.0) == UNKNOWN


def test_an_obstacle_cut_off_by_the_side_of_the_frame_is_marked_only_where_its_foot_is_seen():
    """What comes in by a side is somewhere up the body, and would lie far behind it."""
    boxes = (8.0, 11.0, 2.5, 9.0, 2.5), (8.0, 11.0, -9.0, -2.5, 2.5)
    scene = Scene(info_of('none'), pitch=-0.2, boxes=boxes)
    grid, contacts = grid_of(scene)
    assert len(contacts.places) > 20
    edges = np.vstack([outline(box) for box in boxes])
    for place in contacts.places:
        assert np.hypot(*(edges - place).T).min() < 0.2
    assert (at(grid, 14.0, 6.0), at(grid, 14.0, -6.0)) == (UNKNOWN, UNKNOWN)


@pytest.mark.parametrize('roll', [0.0, 0.1])
def test_a_body_that_is_wider_than_its_foot_is_marked_at_its_foot(roll):
    """As people are, in masks that are blobs: what overhangs would lie metres behind them."""
    scene = Scene(info_of('none'), pitch=0.1, roll=roll)
    mask, _ = scene.render()
    cv2.ellipse(mask, (360, 250), (30, 70), math.degrees(-roll), 0, 360, BOX, -1)
    contacts = view_of(scene).contacts(mask, OBSTACLES)
    distance = np.hypot(*contacts.places.T)
    # At its sides it appears 2.3 times as far away.
    assert len(distance) > 60 and distance.max() < 1.45 * distance.min()


def test_a_wall_beside_the_camera_is_marked_along_its_whole_length():
    scene = Scene(info_of('none'), pitch=0.1, boxes=((3.0, 20.0, 1.0, 1.2, 2.0),))
    _, contacts = grid_of(scene)
    x, y = contacts.places[contacts.places[:, 0] < 12].T
    assert np.diff(np.sort(x)).max() < 0.5 and x.max() > 11
    assert np.abs(y[(x > 3.2)] - 1.0).mean() < 0.015


# What cannot be


@pytest.mark.parametrize('height', [0.0, -1.0, float('nan')])
def test_a_camera_that_is_not_above_the_ground_is_refused(height):
    scene = Scene(info_of('none'), (0.0, 0.0, height))
    with pytest.raises(PoseError, match=f'the camera is {height:.2f} m above the ground'):
        view_of(scene)


def test_a_mask_of_another_size_is_refused(plain):
    _, view, mask = plain
    with pytest.raises(FrameError, match='the mask is 320x480, the camera .* 640x480'):
        view.contacts(np.ascontiguousarray(mask[:, ::2]), OBSTACLES)


@pytest.mark.parametrize(('arguments', 'message'), [
    ((0.0, (0, 1), (0, 1)), 'grid.resolution is 0.0, needed'),
    ((-0.1, (0, 1), (0, 1)), 'grid.resolution is -0.1, needed'),
    ((0.1, (1, 1), (0, 1)), r'grid.x_range is \[1, 1\] with cells of 0.1 m, which holds none'),
    ((0.1, (0, 1), (1, -1)), r'grid.y_range is \[1, -1\]'),
    ((0.5, (0, 0.4), (0, 1)), 'grid.x_range'),
    ((0.001, (0, 100), (0, 100)), 'the grid has 100000 x 100000 cells, allowed are 4000000'),
])
def test_a_grid_that_cannot_be_is_refused(arguments, message):
    with pytest.raises(ParameterError, match=message):
        GridShape(*arguments)


def test_a_grid_has_the_cells_that_its_ranges_hold():
    shape = GridShape(0.1, (-1.0, 2.0), (0.3, 0.6))
    assert (shape.columns, shape.rows) == (30, 3)
    centres = shape.centres()
    np.testing.assert_allclose(centres[0, 0], (-0.95, 0.35))
    inside, row, column = shape.cells(centres.reshape(-1, 2))
    assert inside.all()
    np.testing.assert_array_equal(row * 30 + column, np.arange(90))
    assert not shape.cells(np.array([[-1.01, 0.4], [2.0, 0.4], [0.0, 0.29]]))[0].any()
    assert SKY != ROAD
