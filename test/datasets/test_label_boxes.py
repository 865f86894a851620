# Copyright 2026 rgbx_seg_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""Weak masks from boxes: they follow the object that a box is drawn around."""

import cv2
import numpy as np
import pytest
from rgbx_seg_ros.datasets.label_boxes import label_boxes
from rgbx_seg_ros.frames.images import read_image

BOX = (2, 0.5, 0.5, 0.25, 0.5)


def scene(rgb_shows=True, x_shows=True):
    """Return RGB and X of a diamond in the middle of noise, and where it is."""
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:120, :160]
    diamond = abs(x - 79.5) / 20 + abs(y - 59.5) / 30 < 1
    rgb = rng.integers(40, 60, (120, 160, 3), np.uint8)
    thermal = rng.integers(40, 60, (120, 160), np.uint8)
    if rgb_shows:
        rgb[diamond] += 120
    if x_shows:
        thermal[diamond] += 120
    return rgb, thermal, diamond


def overlap(one, other):
    """Return the intersection over union of two masks."""
    return (one & other).sum() / (one | other).sum()


@pytest.mark.parametrize(('rgb_shows', 'x_shows'), [(True, True), (True, False), (False, True)])
def test_a_mask_follows_an_object_that_either_modality_shows(rgb_shows, x_shows):
    rgb, x, diamond = scene(rgb_shows, x_shows)
    label = label_boxes(rgb, x, [BOX])
    assert overlap(label == 2, diamond) > 0.9
    box = np.zeros_like(diamond)
    box[30:90, 60:100] = True
    assert (label[~box] == 0).all() and (label[box & (label != 2)] == 255).all()


def test_raw_frames_of_a_smaller_sensor_will_do():
    rgb, x, diamond = scene(rgb_shows=False)
    x = cv2.resize(x, (80, 60)).astype(np.uint16) * 50 + 7000
    assert overlap(label_boxes(rgb, x, [BOX]) == 2, diamond) > 0.85


def test_where_nothing_stands_out_the_middle_of_the_box_is_taken():
    flat = np.full((120, 160), 50, np.uint8)
    label = label_boxes(np.repeat(flat[..., None], 3, 2), flat, [BOX])
    assert label[60, 80] == 2
    assert 0.15 < (label[30:90, 60:100] == 2).mean() < 0.95
    assert label[31, 61] == 255


def test_a_small_object_lies_in_front_of_a_large_one():
    rgb, x, _ = scene()
    label = label_boxes(rgb, x, [(3, 0.5, 0.5, 0.06, 0.1), (1, 0.5, 0.5, 0.25, 0.5)])
    assert label[60, 80] == 3 and label[45, 80] == 1


def test_boxes_beyond_the_frame_and_tiny_ones_do_no_harm():
    rgb, x, _ = scene()
    label = label_boxes(rgb, x, [(1, 0.0, 0.0, 0.5, 0.5), (2, 0.99, 0.99, 0.01, 0.01),
                                 (2, 3.0, 3.0, 0.1, 0.1)])
    assert set(np.unique(label)) <= {0, 1, 255}
    assert label[118, 158] == 255


def test_an_object_that_seems_to_fill_its_box_is_no_object():
    """Of a box that shows nothing but the object, GrabCut takes all."""
    rng = np.random.default_rng(0)
    rgb, x = (rng.integers(40, 61, shape, np.uint8) for shape in ((120, 160, 3), (120, 160)))
    rgb[11:109, 39:121] += 120
    x[11:109, 39:121] += 120
    label = label_boxes(rgb, x, [(2, 0.5, 0.5, 0.5, 0.8)])[12:108, 40:120]
    assert label[48, 40] == 2 and label[1, 1] == 255
    assert (label == 2).mean() < 0.8  # an ellipse


def test_a_mask_does_not_depend_on_what_was_drawn_at_random_before():
    """The mixtures of GrabCut begin at random, and in this noise that shows."""
    rng = np.random.default_rng(9)
    rgb, x = (cv2.normalize(cv2.GaussianBlur(rng.integers(0, 256, shape, np.uint8), (0, 0), 2),
                            None, 0, 255, cv2.NORM_MINMAX)
              for shape in ((120, 160, 3), (120, 160)))
    labels = []
    for seed in range(4):
        cv2.setRNGSeed(seed)
        labels.append(label_boxes(rgb, x, [(2, 0.5, 0.5, 0.5, 0.6)]))
    assert all(np.array_equal(label, labels[0]) for label in labels)


@pytest.mark.parametrize(('pixels', 'is_labelled'), [(4, True), (3, False)])
def test_boxes_under_4_pixels_stay_unlabeled(pixels, is_labelled):
    rgb, x, _ = scene()
    label = label_boxes(rgb, x, [(2, (60 + pixels / 2) / 160, 0.5, pixels / 160, 0.5)])
    assert (label == 2).any() == is_labelled and (label == 255).any()


def test_frames_without_boxes_are_background():
    rgb, x, _ = scene()
    assert not label_boxes(rgb, x, []).any()


def test_the_command_writes_a_mask_for_every_frame(tmp_path, write_frames, command):
    folder = write_frames(tmp_path / 'frames', count=2)
    (folder / 'boxes').mkdir()
    (folder / 'boxes' / 'a0.txt').write_text('1 0.5 0.5 0.4 0.4\n')
    code, out, _ = command('label-boxes', str(folder), '--out', str(tmp_path / 'masks'))
    assert code == 0 and 'wrote 2 masks of 1 boxes' in out
    assert set(np.unique(read_image(tmp_path / 'masks' / 'a0.png'))) == {0, 1, 255}
    assert not read_image(tmp_path / 'masks' / 'a1.png').any()


@pytest.mark.parametrize('fault', ['no boxes', 'out exists'])
def test_what_cannot_be_done_is_said(tmp_path, write_frames, command, fault):
    folder = write_frames(tmp_path / 'frames', count=1)
    out = tmp_path / 'masks'
    if fault == 'out exists':
        out.mkdir()
    code, _, err = command('label-boxes', str(folder), '--out', str(out))
    assert code == 2
    assert ('holds no boxes' if fault == 'no boxes' else 'exists already') in err
