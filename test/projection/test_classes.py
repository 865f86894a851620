# Copyright 2026 rgbx_seg_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""What the classes of a mask mean to a vehicle, by palette and parameters."""

import json

import numpy as np
import pytest
from rgbx_seg_ros.cards.labels import LabelClass, LabelSet
from rgbx_seg_ros.errors import ParameterError
from rgbx_seg_ros.projection.classes import Classes, parse_costs, parse_names, read_palette

LABELS = LabelSet(
    [LabelClass(i, name, (i, 10 * i, 100)) for i, name in enumerate(
        ('sky', 'road', 'person', 'car', 'grass'))],
    {'drivable': ['road'], 'dynamic': ['person', 'car']})


def ids(table):
    return np.flatnonzero(table).tolist()


def test_a_palette_becomes_the_classes_and_groups_that_it_was_made_of():
    found = read_palette(LABELS.to_json())
    assert found == LABELS and found.groups == LABELS.groups
    plain = read_palette(LabelSet(LABELS).to_json())
    assert plain == LABELS and plain.groups == {}


@pytest.mark.parametrize('text', [
    '', 'nothing', '{}', '3', '[]', '[{"id": 0}]', '[[1]]',
    json.dumps([{'id': 1, 'name': 'a', 'color': [0, 0, 0]}])])
def test_a_text_that_is_no_palette_is_refused(text):
    with pytest.raises(ParameterError, match='the palette is not that of a segmentation node'):
        read_palette(text)


def test_groups_and_classes_are_ground_and_obstacles():
    classes = Classes(LABELS, 'drivable, grass', 'dynamic')
    assert ids(classes.values == 0) == [1, 4] and ids(classes.obstacles) == [2, 3]
    assert (classes.values[[0, 2, 3, 255]] == -1).all()
    assert ids(Classes(LABELS).obstacles) == []
    assert classes.colors[4] == 4 << 16 | 40 << 8 | 100
    assert ids(Classes(LABELS, drop='grass, dynamic').dropped) == [2, 3, 4]


def test_a_later_cost_replaces_earlier_ones_and_obstacles_cost_only_at_their_foot():
    classes = Classes(LABELS, 'drivable', 'dynamic', costs='dynamic=50; person=90; grass=60')
    assert classes.cost_values[[0, 1, 2, 3, 4, 255]].tolist() == [-1, -1, -1, -1, 60, -1]
    assert classes.cost_marks[[2, 3]].tolist() == [90, 50]
    assert Classes(LABELS, obstacle='person').cost_marks[2] == 100


@pytest.mark.parametrize(('arguments', 'message'), [
    ({'ground': 'rod'}, "parameter 'classes.ground' is 'rod': 'rod' is neither a group nor a "
     "class of the model; did you mean 'road'"),
    ({'obstacle': 'cats'}, "parameter 'classes.obstacle' is 'cats'.*allowed are: sky, road"),
    ({'drop': 'xyz'}, "parameter 'points.drop'"), ({'costs': 'xyz=1'}, "'classes.costs' is 'xyz'"),
    ({'ground': 'road, person', 'obstacle': 'dynamic'}, "'person' counts as ground .* and as an "
     'obstacle'),
])
def test_names_that_the_model_does_not_have_or_that_contradict_are_refused(arguments, message):
    with pytest.raises(ParameterError, match=message):
        Classes(LABELS, **arguments)


def test_names_and_costs_are_read_from_a_line():
    assert parse_names(' a, b c ,d') == ['a', 'b c', 'd'] and parse_names(' ') == []
    assert parse_costs('a=0; b c = 100') == {'a': 0, 'b c': 100}
    for text in ('a,,b', ',', 'a,'):
        with pytest.raises(ParameterError, match='needed are names with one comma between them'):
            parse_names(text)
    for text in ('a=101', 'a=-1', 'a=1.5', 'a=b', 'a=1,2'):
        with pytest.raises(ParameterError, match="the cost of 'a' is .*whole number 0 to 100"):
            parse_costs(text)
