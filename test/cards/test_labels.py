# Copyright 2026 rgbx_seg_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""Class ids, colours and the pictures made of a mask."""

import copy
import json
import pickle

import numpy as np
import pytest
from rgbx_seg_ros.cards.labels import LabelClass, LabelSet, parse_groups, UNLABELED
from rgbx_seg_ros.errors import CardError, ParameterError

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
    assert copied(LABELS.grouped({'a': ['car']})).groups == {'a': ('car',)}


# Groups


def test_a_group_tells_which_ids_are_in_it_and_never_the_unlabeled():
    grouped = LabelSet(LABELS, {'dynamic': ['person', 'car'], 'warm': ['person']})
    assert np.flatnonzero(grouped.ids('dynamic')).tolist() == [1, 2]
    assert np.flatnonzero(grouped.ids('warm')).tolist() == [2]
    assert grouped.ids('warm').shape == (256,)
    assert grouped == LABELS and LABELS.groups == {}


def test_further_groups_stand_beside_the_others_or_take_their_place():
    grouped = LABELS.grouped({'a': ['car'], 'b': ['person']}).grouped({'b': ['car', 'person']})
    assert grouped.groups == {'a': ('car',), 'b': ('car', 'person')}


def test_the_palette_tells_the_groups_of_each_class_where_there_are_any():
    entries = json.loads(LABELS.grouped({'a': ['car'], 'b': ['person', 'car']}).to_json())
    assert [entry['groups'] for entry in entries] == [[], ['a', 'b'], ['b'], []]
    assert all('groups' not in entry for entry in json.loads(LABELS.to_json()))


@pytest.mark.parametrize(('groups', 'message'), [
    ({'a': ['persn']}, "group 'a': class 'persn' is unknown; did you mean 'person'"),
    ({'a': 'person'}, "group 'a' is 'person', needed is a list of class names"),
    ({'a': []}, "group 'a' is \\[\\], needed is a list"),
    ({'a': None}, "group 'a' is None, needed is a list"),
    ({'a': [1]}, "group 'a': class 1 is unknown"),
    ({'a': ['car', 'car']}, "group 'a' has the class 'car' twice"),
    ({' ': ['car']}, "a group is named ' ': needed is a word"),
    ({3: ['car']}, 'a group is named 3'),
])
def test_a_group_without_sense_is_refused(groups, message):
    with pytest.raises(CardError, match=message):
        LabelSet(LABELS, groups)


def test_a_group_that_is_not_there_is_named_with_those_that_are():
    with pytest.raises(CardError, match="group 'dynamc' is unknown; did you mean 'dynamic'"):
        LABELS.grouped({'dynamic': ['car']}).ids('dynamc')
    with pytest.raises(CardError, match="group 'a' is unknown, as the model has no groups; give"):
        LABELS.ids('a')


@pytest.mark.parametrize(('text', 'groups'), [
    ('', {}), (' ; ', {}), ('a=car', {'a': ['car']}),
    ('drivable=road; dynamic = person,traffic light ;',
     {'drivable': ['road'], 'dynamic': ['person', 'traffic light']}),
])
def test_groups_are_read_from_a_line(text, groups):
    assert parse_groups(text) == groups


@pytest.mark.parametrize(('text', 'message'), [
    ('car', "'car' is no group: needed is its name, = and class names"),
    ('a=', "'a=' is no group"), ('=car', "'=car' is no group"), ('a=car,', "'a=car,' is no group"),
    ('a=car; a=person', "group 'a' is given twice"),
])
def test_a_line_that_holds_no_groups_is_refused(text, message):
    with pytest.raises(ParameterError, match=message):
        parse_groups(text)
