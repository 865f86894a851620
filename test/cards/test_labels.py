# Copyright 2026 rgbx_seg_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""Class ids, colours and the pictures made of a mask."""

import copy
import json
import pickle

import numpy as np
import pytest
from rgbx_seg_ros.cards.labels import LabelClass, LabelSet, UNLABELED
from rgbx_seg_ros.errors import CardError

LABELS = LabelSet([LabelClass(0, 'background', (9, 8, 7)), LabelClass(1, 'car', (30, 120, 255)),
                   LabelClass(2, 'person', (255, 60, 40))])


@pytest.mark.parametrize(('classes', 'message'), [
    ([], 'class ids are \\[\\]'),
    ([(1, 'a')], 'must run 0, 1, 2'),
    ([(0, 'a'), (2, 'b')], 'class ids are \\[0, 2\\]: they must run'),
    ([(1, 'a'), (0, 'b')], 'class ids are \\[1, 0\\]'),
    ([(0, 'a'), (0, 'b')], 'class ids are \\[0, 0\\]'),
    ([(0, 'a'), (1, 'a')], "'a' is given twice"),
])
def test_ids_run_without_a_gap_and_names_are_unique(classes, message):
    with pytest.raises(CardError, match=message):
        LabelSet([LabelClass(i, name, (0, 0, 0)) for i, name in classes])


@pytest.mark.parametrize(('label', 'message'), [
    ((-1, 'a', (0, 0, 0)), "'a': id is -1, allowed are 0..254"),
    ((255, 'a', (0, 0, 0)), 'id is 255'),
    ((0, 'a', (0, 0, 256)), 'color is \\(0, 0, 256\\)'),
    ((0, 'a', (-1, 0, 0)), 'color'),
    ((0, 'a', (0, 0)), 'needed are three numbers'),
])
def test_an_id_or_colour_out_of_range_is_refused(label, message):
    with pytest.raises(CardError, match=message):
        LabelClass(*label)


def test_a_mask_takes_the_colours_of_its_classes_and_black_elsewhere():
    mask = np.array([[0, 1, 2, 3, UNLABELED]], np.uint8)
    assert LABELS.colorize(mask).tolist() == [
        [[9, 8, 7], [30, 120, 255], [255, 60, 40], [0, 0, 0], [0, 0, 0]]]


@pytest.mark.parametrize('alpha', np.linspace(0, 1, 11))
def test_the_overlay_is_the_weighted_mean_for_every_brightness(alpha):
    rgb = np.repeat(np.arange(256, dtype=np.uint8)[:, None, None], 3, axis=2)
    for label in LABELS[1:]:
        mask = np.full((256, 1), label.id, np.uint8)
        exact = (1 - alpha) * rgb + alpha * np.array(label.color)
        assert np.abs(LABELS.overlay(rgb, mask, alpha) - exact).max() <= 1.5


@pytest.mark.parametrize('i', [0, UNLABELED])
def test_the_overlay_leaves_background_and_unlabeled_pixels_alone(i):
    rgb = np.random.default_rng(0).integers(0, 256, (5, 6, 3), np.uint8)
    assert np.array_equal(LABELS.overlay(rgb, np.full((5, 6), i, np.uint8), 0.7), rgb)


def test_the_palette_as_json_ends_with_unlabeled():
    entries = json.loads(LABELS.to_json())
    assert entries[1] == {'id': 1, 'name': 'car', 'color': [30, 120, 255]}
    assert [entry['id'] for entry in entries] == [0, 1, 2, UNLABELED]


@pytest.mark.parametrize('copied', [copy.deepcopy, lambda x: pickle.loads(pickle.dumps(x))])
def test_a_label_set_can_be_copied(copied):
    assert copied(LABELS) == LABELS
    assert copied(LABELS).names == ['background', 'car', 'person']
