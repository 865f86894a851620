# Copyright 2026 rgbx_seg_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""Scores of a model on a folder, with an engine whose masks are known."""

import json
import math

import cv2
import numpy as np
import pytest
from rgbx_seg_ros.card import load_card
from rgbx_seg_ros.datasets import FolderDataset
from rgbx_seg_ros.errors import DataError
from rgbx_seg_ros.evaluate import BOX_FOUND, BoxScore, evaluate
from rgbx_seg_ros.segmenter import Segmenter

SIZE = (20, 40)


class WarmIsPerson:
    """Class 2 wherever X is warm."""

    device = 'nowhere'

    def __call__(self, rgb, x, x_range, present):
        mask = np.where(x * present[1] > 100, 2, 0).astype(np.uint8)
        return mask, mask


@pytest.fixture
def segmenter(write_card):
    return Segmenter(load_card(write_card()), WarmIsPerson())


@pytest.fixture
def data(tmp_path, write_frames):
    return write_frames(tmp_path / 'data', 3, SIZE)


def write_boxes(data, name, *boxes):
    (data / 'boxes').mkdir(exist_ok=True)
    (data / 'boxes' / f'{name}.txt').write_text('\n'.join(' '.join(map(str, b)) for b in boxes))


def set_warm(data, name, *areas):
    x = np.zeros(SIZE, np.uint8)
    for top, bottom, left, right in areas:
        x[top:bottom, left:right] = 200
    cv2.imwrite(str(data / 'thermal' / f'{name}.png'), x)


def test_masks_are_scored_against_labels_and_frames_without_one_are_left_out(data, segmenter):
    matrix, boxes = evaluate(segmenter, FolderDataset(data))
    assert boxes == {}
    np.testing.assert_array_equal(matrix.iou(), [1.0, math.nan, 1.0])
    assert matrix.counts.sum() == 3 * SIZE[0] * SIZE[1]
    label = cv2.imread(str(data / 'label' / 'a0.png'), -1)
    cv2.imwrite(str(data / 'label' / 'a0.png'), np.where(label == 2, 1, label))
    (data / 'label' / 'a1.png').unlink()
    matrix, _ = evaluate(segmenter, FolderDataset(data))
    assert matrix.counts.sum() == 2 * SIZE[0] * SIZE[1]
    assert matrix.counts[1, 2] == (label == 2).sum()


def test_a_box_is_found_when_enough_of_it_has_its_class(data, segmenter):
    # The left half of the frame: 20 x 20 pixels; a fifth of them are 4 rows.
    enough = math.ceil(BOX_FOUND * 20)
    left = (2, 0.25, 0.5, 0.5, 1.0)
    for name, rows in (('a0', enough), ('a1', enough - 1)):
        set_warm(data, name, (0, rows, 0, 20), (0, rows, 20, 25))
        write_boxes(data, name, left, (1, 0.75, 0.5, 0.5, 1.0))
    set_warm(data, 'a2')
    _, boxes = evaluate(segmenter, FolderDataset(data))
    assert boxes.keys() == {'car', 'person'}
    person, car = boxes['person'], boxes['car']
    assert (person.boxes, person.found) == (2, 0.5)
    assert person.inside == pytest.approx(20 / 25)
    assert (car.boxes, car.found) == (2, 0.0) and math.isnan(car.inside)


def test_boxes_over_the_border_count_their_visible_part_and_overlaps_once(data, segmenter):
    set_warm(data, 'a0', (0, 20, 0, 10))
    write_boxes(data, 'a0', (2, 0.0, 0.5, 0.5, 2.0), (2, 0.125, 0.5, 0.25, 1.0),
                (2, 3.0, 3.0, 0.5, 0.5))
    for name in ('a1', 'a2'):
        set_warm(data, name)
    _, boxes = evaluate(segmenter, FolderDataset(data))
    assert boxes['person'] == BoxScore(boxes=2, found=1.0, inside=1.0)


def test_nothing_to_score_against_is_told(data, segmenter):
    for path in (data / 'label').iterdir():
        path.unlink()
    with pytest.raises(DataError, match='neither label/ nor boxes/'):
        evaluate(segmenter, FolderDataset(data))


def test_a_box_or_a_label_of_a_class_that_the_model_lacks_names_the_frame(data, segmenter):
    write_boxes(data, 'a1', (7, 0.5, 0.5, 0.1, 0.1))
    with pytest.raises(DataError, match=r"frame 'a1' has a box of class 7, allowed are 0\.\.2"):
        evaluate(segmenter, FolderDataset(data))
    cv2.imwrite(str(data / 'label' / 'a1.png'), np.full(SIZE, 9, np.uint8))
    with pytest.raises(DataError, match="frame 'a1': label holds the id 9"):
        evaluate(segmenter, FolderDataset(data))


def test_the_command_prints_a_table_and_writes_json_without_nan(data, tiny_card, tmp_path,
                                                                command):
    write_boxes(data, 'a0', (1, 0.5, 0.5, 0.5, 0.5), (2, 0.5, 0.5, 0.5, 0.5))
    path = tmp_path / 'scores.json'
    code, out, _ = command('evaluate', '--model', tiny_card, '--data', data, '--json', path,
                           '--device', 'cpu')
    assert code == 0
    assert out.startswith('tiny on 3 pairs, percent\nclass') and 'of 1 boxes found' in out
    assert max(map(len, out.splitlines())) <= 100
    found = json.loads(path.read_text(), parse_constant=pytest.fail)
    assert found['iou'].keys() == {'background', 'car', 'person'}
    assert 0 <= found['pixel_accuracy'] <= 1 and found['pairs'] == 3
    assert found['boxes']['person']['boxes'] == 1
    for label in (data / 'label').iterdir():
        label.unlink()
    assert command('evaluate', '--model', tiny_card, '--data', data, '--json', path)[0] == 0
    found = json.loads(path.read_text(), parse_constant=pytest.fail)
    assert found['mean_iou'] is None and found['iou']['car'] is None


def test_the_command_sees_that_it_cannot_write_before_the_work(data, tiny_card, tmp_path, command,
                                                               monkeypatch):
    monkeypatch.setattr('rgbx_seg_ros.evaluate.evaluate', pytest.fail)
    code, _, err = command('evaluate', '--model', tiny_card, '--data', data, '--json',
                           tmp_path / 'nowhere' / 'scores.json')
    assert code == 2
    assert 'its folder does not exist' in err and err.count('\n') == 1


def test_a_model_is_scored_without_a_modality(segmenter, data):
    both, _ = evaluate(segmenter, FolderDataset(data))
    without_x, _ = evaluate(segmenter, FolderDataset(data), lost='x')
    without_rgb, _ = evaluate(segmenter, FolderDataset(data), lost='rgb')
    assert without_x.iou()[2] == 0 < both.iou()[2]
    assert np.array_equal(without_rgb.iou(), both.iou(), equal_nan=True)
