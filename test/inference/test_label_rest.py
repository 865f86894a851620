# Copyright 2026 rgbx_seg_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""Labels that a model fills in: where humans have left them open, and nowhere else."""

import numpy as np
import pytest
from rgbx_seg_ros.cards.card import load_card
from rgbx_seg_ros.cards.labels import UNLABELED
from rgbx_seg_ros.frames.images import read_image, write_image
from rgbx_seg_ros.inference.label_rest import label_rest
from rgbx_seg_ros.inference.segmenter import Segmenter
from rgbx_seg_ros.sensors import Sensors
from support.stand_ins import StandIn

SHAPE = (10, 20)
BOX = (2, 0.75, 0.5, 0.5, 1.0)
"""The right half, of class 2."""


def filled(value):
    return np.full(SHAPE, value, np.uint8)


def guess(mask, confidence=255):
    return filled(mask), filled(confidence)


def test_what_a_human_says_stays():
    label = filled(UNLABELED)
    label[:, :5] = 1
    found = label_rest(label, [guess(3)], [], [])
    assert (found[:, :5] == 1).all() and (found[:, 5:] == 3).all()
    assert (label[:, 5:] == UNLABELED).all(), 'the label given was changed'


@pytest.mark.parametrize(('share', 'taken'), [(0.5, True), (0.8, True), (0.81, False)])
def test_a_guess_counts_from_a_confidence_on(share, taken):
    found = label_rest(filled(UNLABELED), [guess(3, 204)], [], [], share)
    assert (found == (3 if taken else UNLABELED)).all()


def test_the_first_guess_that_is_sure_counts():
    first, second = guess(3, 100), guess(4)
    first[1][:, :8] = 255
    found = label_rest(filled(UNLABELED), [first, second], [], [])
    assert (found[:, :8] == 3).all() and (found[:, 8:] == 4).all()


def test_nothing_is_filled_in_inside_of_a_box_and_no_object_outside():
    for mask, outside in ((2, UNLABELED), (1, 1)):
        found = label_rest(filled(UNLABELED), [guess(mask)], [BOX], [2])
        assert (found[:, :10] == outside).all() and (found[:, 10:] == UNLABELED).all()


def test_where_one_sees_an_object_that_has_no_box_another_may_be_right():
    """In the dark RGB smears an object beyond its box, and X does not."""
    found = label_rest(filled(UNLABELED), [guess(2), guess(1)], [BOX], [2])
    assert (found[:, :10] == 1).all()


def test_a_box_over_the_border_of_the_frame_counts_inside_of_it():
    found = label_rest(filled(UNLABELED), [guess(1)], [(2, 1.0, 0.5, 0.5, 3.0)], [2])
    assert (found[:, :15] == 1).all() and (found[:, 15:] == UNLABELED).all()


class Seer(StandIn):
    """Class 1 by both sensors but for the lower half, 0 by X alone; RGB alone knows nothing."""

    def __call__(self, rgb, x, x_limits, sensors):
        mask = np.full(rgb.shape[:2], {Sensors.BOTH: 1, Sensors.X: 0, Sensors.RGB: 2}[sensors],
                       np.uint8)
        sure = np.full_like(mask, 255)
        if sensors is Sensors.BOTH:
            sure[SHAPE[0] // 2:] = 0
        return mask, sure


@pytest.fixture
def frames(tmp_path, write_frames, monkeypatch, tiny_card):
    """Return a folder of two frames, of which one has no label, and a model that is `Seer`."""
    root = write_frames(tmp_path / 'data', 2, SHAPE)
    paths = sorted((root / 'label').iterdir())
    label = filled(UNLABELED)
    label[0] = 2
    write_image(paths[0], label)
    paths[1].unlink()
    monkeypatch.setattr(Segmenter, 'from_card',
                        classmethod(lambda cls, *_, **__: cls(load_card(tiny_card), Seer())))
    return root


def test_the_command_writes_a_label_for_each_frame(frames, tmp_path, command):
    out = tmp_path / 'rest'
    code, printed, _ = command('label-rest', frames, '--model', 'any', '--out', out)
    assert code == 0
    first, second = (read_image(path) for path in sorted(out.iterdir()))
    half = SHAPE[0] // 2
    assert (first[0] == 2).all() and (first[1:half] == 1).all() and (first[half:] == 0).all()
    assert (second[:half] == 1).all() and (second[half:] == 0).all()
    assert 'unlabeled were 95.0 % of the pixels, now 0.0 %' in printed


def test_the_command_leaves_a_folder_that_is_there_and_names_wrong_input(
        frames, tmp_path, command):
    out = tmp_path / 'rest'
    out.mkdir()
    code, _, err = command('label-rest', frames, '--model', 'any', '--out', out)
    assert code == 2 and 'exists already' in err
    code, _, err = command('label-rest', frames, '--model', 'any', '--out', out / 'a',
                           '--min-confidence', '1.5')
    assert code == 2 and '--min-confidence is 1.5, allowed is 0 to 1' in err
    (frames / 'boxes').mkdir()
    name = sorted((frames / 'rgb').iterdir())[0].stem
    (frames / 'boxes' / f'{name}.txt').write_text('7 0.5 0.5 0.5 0.5\n')
    code, _, err = command('label-rest', frames, '--model', 'any', '--out', out / 'a')
    assert code == 2 and 'boxes of the class 7' in err and '0..2' in err
    assert not (out / 'a').exists()
