# Copyright 2026 rgbx_seg_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""Classes as labels of a tool: every colour once, black for what nothing covers."""

import pytest
from rgbx_seg_ros.errors import DataError
from rgbx_seg_ros.labelling.classes import classes_of, tool_labels, ToolNames, voc_colors
from support.label_folders import MANY, ODD, PLAIN, WITH_BACKGROUND, write_folder


@pytest.mark.parametrize('labels', [PLAIN, WITH_BACKGROUND, ODD, MANY])
def test_every_id_and_255_have_a_name_and_a_colour_of_their_own(labels):
    found = tool_labels(labels)
    assert sorted(label.id for label in found) == [*range(len(labels)), 255]
    for field in ('name', 'color', 'id'):
        assert len({getattr(label, field) for label in found}) == len(found)
    names = ToolNames(labels)
    assert all(names.get(label.name) == label.id for label in found)
    assert names.uncovered == found[0].id and found[0].name == 'background'
    assert all(label.color != (0, 0, 0) for label in found[1:])


def test_colours_that_can_stay_do():
    assert {(one.name, one.color) for one in PLAIN} < {label[:2] for label in tool_labels(PLAIN)}
    assert tool_labels(WITH_BACKGROUND)[0] == ('background', (0, 0, 0), 0)
    assert tool_labels(WITH_BACKGROUND)[-1] == ('unlabeled', (224, 224, 192), 255)
    assert {label.name: label.id for label in tool_labels(ODD)}['unlabeled_255'] == 255


def test_a_name_that_is_no_class_is_told_with_the_nearest_one():
    names = ToolNames(PLAIN)
    assert names.get('persn') is None
    assert "'persn' is unknown; did you mean 'person'" in names.unknown('persn')


def test_the_colours_of_voc_are_those_of_its_development_kit():
    # The first ones of http://host.robots.ox.ac.uk/pascal/VOC/voc2012/htmldoc/devkit_doc.html
    assert voc_colors()[[0, 1, 2, 3, 4, 8, 20, 255]].tolist() == [
        [0, 0, 0], [128, 0, 0], [0, 128, 0], [128, 128, 0], [0, 0, 128], [64, 0, 0],
        [0, 64, 128], [224, 224, 192]]


def test_classes_are_those_of_the_data_set_or_of_the_card(tmp_path, write_card):
    data = write_folder(tmp_path / 'data', PLAIN)
    assert classes_of(data, None) == PLAIN
    with pytest.raises(DataError, match='classes road, person, car, the model .* they must be '):
        classes_of(data, str(write_card()))
    (tmp_path / 'data' / 'dataset.yaml').unlink()
    bare = type(data)(tmp_path / 'data')
    assert classes_of(bare, str(write_card())).names == WITH_BACKGROUND.names
    with pytest.raises(DataError, match='does not say what its classes are: name them'):
        classes_of(bare, None)
