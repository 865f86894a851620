# Copyright 2026 rgbx_seg_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""Labels that a model fills in: where humans have left them open, and nowhere else."""

import numpy as np
import pytest
from rgbx_seg_ros.cards.card import load_card
from rgbx_seg_ros.cards.labels import UNLABELED
from rgbx_seg_ros.frames.images import read_image, write_image
from rgbx_seg_ros.inference.label_rest import draw_outlines, label_rest
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
    found = label_rest(label, [guess(3)], [], set())
    assert (found[:, :5] == 1).all() and (found[:, 5:] == 3).all()
    assert (label[:, 5:] == UNLABELED).all(), 'the label given was changed'


@pytest.mark.parametrize(('share', 'taken'), [(0.5, True), (0.8, True), (0.81, False)])
def test_a_guess_counts_from_a_confidence_on(share, taken):
    found = label_rest(filled(UNLABELED), [guess(3, 204)], [], set(), share)
    assert (found == (3 if taken else UNLABELED)).all()


def test_the_first_guess_that_is_sure_counts():
    first, second = guess(3, 100), guess(4)
    first[1][:, :8] = 255
    found = label_rest(filled(UNLABELED), [first, second], [], set())
    assert (found[:, :8] == 3).all() and (found[:, 8:] == 4).all()


def test_in_a_box_an_object_of_its_class_alone_is_filled_in_and_none_outside():
    for mask, outside, inside in ((2, UNLABELED, 2), (1, 1, UNLABELED), (3, UNLABELED, UNLABELED)):
        found = label_rest(filled(UNLABELED), [guess(mask)], [BOX], {2, 3})
        assert (found[:, :10] == outside).all() and (found[:, 10:] == inside).all()


def test_in_a_box_the_first_guess_alone_counts_and_none_where_the_outline_is_drawn():
    for guesses, outlined in (([guess(1), guess(2)], frozenset()), ([guess(2)], {2})):
        found = label_rest(filled(UNLABELED), guesses, [BOX], {2}, outlined=outlined)
        assert (found[:, 10:] == UNLABELED).all()


def test_where_one_sees_an_object_that_has_no_box_another_may_be_right():
    """In the dark RGB smears an object beyond its box, and X does not."""
    found = label_rest(filled(UNLABELED), [guess(2), guess(1)], [BOX], {2})
    assert (found[:, :10] == 1).all()


def test_a_box_over_the_border_of_the_frame_counts_inside_of_it():
    found = label_rest(filled(UNLABELED), [guess(1)], [(2, 1.0, 0.5, 0.5, 3.0)], {2})
    assert (found[:, :15] == 1).all() and (found[:, 15:] == UNLABELED).all()


def body():
    """Return an outline 4 rows high and 4 columns wide in the middle of BOX."""
    outlines = filled(0)
    outlines[:, 10:] = UNLABELED
    outlines[3:7, 13:17] = 2
    return outlines


def test_an_outline_tells_what_is_the_object_and_around_it_counts_what_lies_nearest():
    label = filled(UNLABELED)
    label[:, :10] = 1
    label[8:] = 0
    found = draw_outlines(label, body(), [BOX], {2}, {2})
    assert (found[4:6, 14:16] == 2).all()
    near = found[1:8, 11:19].copy()
    near[3:5, 3:5] = UNLABELED
    assert (near == UNLABELED).all(), 'not sure at the outline'
    assert (found[0, 10:13] == 1).all() and (found[7, 19], found[5, 10]) == (0, 1)
    assert (found[label != UNLABELED] == label[label != UNLABELED]).all()
    assert (label[:8, 10:] == UNLABELED).all(), 'the label given was changed'


def test_around_an_outline_stays_open_what_is_unknown_far_off_or_in_a_box_of_another_class():
    label = filled(UNLABELED)
    label[:, :10] = 3
    found = draw_outlines(label, body(), [BOX], {2, 3}, {2})
    assert (found == 2).sum() == 4 and (found[:, 10:][found[:, 10:] != 2] == UNLABELED).all()
    wide = np.full((10, 120), UNLABELED, np.uint8)
    wide[:, 0] = 1
    found = draw_outlines(wide, np.zeros_like(wide), [(2, 0.5, 0.5, 1.0, 1.0)], {2}, {2})
    assert (found[:, :38] == 1).all() and (found[:, 42:] == UNLABELED).all()
    label[:, :10] = 1
    found = draw_outlines(label, body(), [BOX, (3, *BOX[1:])], {2, 3}, {2})
    assert (found == label).all()


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


def test_the_command_draws_the_outlines_of_the_classes_named(frames, tmp_path, command):
    """Of class 2, person, is what is hot in the box."""
    for path in sorted((frames / 'rgb').iterdir()):
        write_image(path, np.full((*SHAPE, 3), 90, np.uint8))
    for path in sorted((frames / 'thermal').iterdir()):
        x = filled(20)
        x[2:8, 8:12] = 220
        write_image(path, x)
        (frames / 'boxes').mkdir(exist_ok=True)
        (frames / 'boxes' / f'{path.stem}.txt').write_text('2 0.5 0.5 0.5 1.0\n')
    out = tmp_path / 'rest'
    words = 'label-rest', frames, '--model', 'any', '--out', out
    code, _, err = command(*words, '--outline', 'person', 'cart')
    assert code == 2 and "--outline names 'cart'; classes with boxes are: person" in err
    assert not out.exists()
    code, _, _ = command(*words, '--outline', 'person')
    assert code == 0
    found = read_image(sorted(out.iterdir())[1])
    assert (found[3:7, 9:11] == 2).all() and (found[:, 5] != 2).all() and found[0, 5] == 1

    words = 'label-rest', frames, '--out', tmp_path / 'outlines'
    for more, told in (([], 'Give --model, --outline or both'),
                       (['--outline', 'person'], 'no dataset.yaml that names its classes')):
        code, _, err = command(*words, *more)
        assert code == 2 and told in err and not (tmp_path / 'outlines').exists()
    names = ['road', 'cart', 'person']
    (frames / 'dataset.yaml').write_text('x_kind: thermal\nclasses:\n' + ''.join(
        f'  - {{id: {i}, name: {name}, color: [0, 0, {i}]}}\n' for i, name in enumerate(names)))
    code, _, _ = command(*words, '--outline', 'person')
    assert code == 0
    alone = read_image(tmp_path / 'outlines' / sorted(out.iterdir())[1].name)
    assert (alone[3:7, 9:11] == 2).all() and set(np.unique(alone)) == {2, UNLABELED}
