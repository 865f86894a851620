# Copyright 2026 rgbx_seg_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""Scores of the classes that a model and a data set have in common."""

import json

import cv2
import numpy as np
import pytest
from rgbx_seg_ros.__main__ import main
from rgbx_seg_ros.cards.card import load_card
from rgbx_seg_ros.cards.labels import LabelClass, LabelSet
from rgbx_seg_ros.datasets import FolderDataset
from rgbx_seg_ros.errors import DataError
from rgbx_seg_ros.evaluation.common import ScoredClasses
from rgbx_seg_ros.evaluation.evaluate import evaluate
from rgbx_seg_ros.inference.segmenter import Segmenter
from support.stand_ins import StandIn


def labels(*names):
    return LabelSet(LabelClass(i, name, (i, 0, 0)) for i, name in enumerate(names))


SCENE = labels('other', 'road', 'person', 'car', 'tree')
OBJECTS = labels('background', 'car', 'bus', 'person')


def test_classes_are_told_by_name_and_all_others_are_one():
    classes = ScoredClasses.common(OBJECTS, SCENE)
    assert classes.labels.names == ['rest', 'car', 'person']
    assert [label.color for label in classes.labels] == [(0, 0, 0), (3, 0, 0), (2, 0, 0)]
    ids = np.array([[0, 1, 2, 3, 4, 255]], np.uint8)
    assert classes.of_data(ids).tolist() == [[0, 1, 0, 2, 3, 255]], 'no class 4 is in the data'
    assert classes.of_model(ids).tolist() == [[0, 0, 2, 1, 0, 255]]


def test_by_themselves_they_are_the_models():
    classes, ids = ScoredClasses(SCENE), np.zeros((2, 2), np.uint8)
    assert classes.labels is SCENE
    assert classes.of_data(ids) is ids and classes.of_model(ids) is ids


@pytest.mark.parametrize(('data', 'said'), [
    (None, 'does not tell the names of its classes.*dataset.yaml'),
    (labels('sea', 'ship'), r'no class .* \(sea, ship\) and in the model \(other, road, person')])
def test_what_has_nothing_in_common_is_named(data, said):
    with pytest.raises(DataError, match=said):
        ScoredClasses.common(data, SCENE)


@pytest.fixture
def scene(tmp_path, write_frames):
    """Return frames whose labels are 3, tree, at the left and 1, person, elsewhere."""
    root = write_frames(tmp_path / 'data', 2, (8, 16))
    (root / 'dataset.yaml').write_text(
        'classes:\n' + ''.join(f'  - {{id: {i}, name: {name}, color: [{i}, 0, 0]}}\n' for i, name
                               in enumerate(('none', 'person', 'car', 'tree'))))
    label = np.ones((8, 16), np.uint8)
    label[:, :4] = 3
    for name in ('0', '1'):
        path = next((root / 'label').glob(f'*{name}.png'))
        cv2.imwrite(str(path), label)
    return root


class Person(StandIn):
    """The model's person, 2, but for the lower half, which is its background."""

    def __call__(self, rgb, x, x_limits, sensors):
        mask = np.full(rgb.shape[:2], 2, np.uint8)
        mask[4:] = 0
        return mask, mask


def test_a_score_counts_them_in_masks_labels_and_boxes(scene, write_card):
    (scene / 'boxes').mkdir()
    for name in FolderDataset(scene).names:
        (scene / 'boxes' / f'{name}.txt').write_text('1 0.5 0.25 1 0.5\n3 0.5 0.5 1 1\n')
    segmenter, data = Segmenter(load_card(write_card()), Person()), FolderDataset(scene)
    classes = ScoredClasses.common(data.CLASSES, segmenter.labels)
    scores = evaluate(segmenter, data, classes=classes)
    assert scores.labels.names == ['rest', 'person', 'car']
    iou = scores.parts['all'].tally.matrix.iou()
    assert iou[:2].tolist() == [4 * 4 / (4 * 4 + 4 * 4 + 4 * 12), 4 * 12 / (8 * 12 + 4 * 4)]
    assert np.isnan(iou[2])
    assert scores.boxes()['person'].found == 1.0


def test_the_command_offers_it_where_classes_differ(scene, write_card, capsys, monkeypatch,
                                                    tmp_path):
    command = ['rgbx-seg', 'evaluate', '--model', str(write_card()), '--data', str(scene),
               '--device', 'cpu', '--json', str(tmp_path / 'a.json')]
    monkeypatch.setattr('sys.argv', command)
    assert main() == 2
    assert '--common scores the classes that both have' in capsys.readouterr().err
    monkeypatch.setattr('sys.argv', [*command, '--common'])
    assert main() == 0
    assert 'rest' in capsys.readouterr().out
    facts = json.loads((tmp_path / 'a.json').read_text())
    assert facts['protocol']['classes'] == ['rest', 'person', 'car']
