# Copyright 2026 rgbx_seg_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""Masks into label/: to their frames, all or none, and over nothing that a user has."""

import shutil

import cv2
import numpy as np
import pytest
from rgbx_seg_ros.datasets import FolderDataset
from rgbx_seg_ros.errors import DataError
from rgbx_seg_ros.frames.images import read_image, write_image
from rgbx_seg_ros.labelling.imported import import_masks
from rgbx_seg_ros.labelling.masks import ToolMask
from support.label_folders import label_files, PLAIN, SIZE, write_folder


@pytest.fixture
def data(tmp_path):
    """Return a data set of three frames without labels."""
    root = tmp_path / 'data'
    write_folder(root, PLAIN, ['a', 'b', 'c'])
    shutil.rmtree(root / 'label')
    return FolderDataset(root)


def mask(image, ids=1):
    """Return a mask of a tool, all of one id or as given; of a text, one that cannot be read."""
    def read(size):
        assert size == SIZE
        if isinstance(ids, str):
            raise DataError(ids)
        return np.full(SIZE, ids, np.uint8)
    return ToolMask(f'masks/{image}', image, read)


def three(*ids):
    """Return masks of all frames."""
    return [mask(f'{name}.png', i) for name, i in zip('abc', ids or (0, 1, 255), strict=True)]


def everything(root):
    """Return the bytes of all files below a folder, hidden ones included."""
    return {path: path.read_bytes() for path in root.rglob('*') if path.is_file()}


def test_masks_become_labels(data):
    report = import_masks(data, three())
    assert (report.written, report.same, report.problems) == (3, 0, [])
    assert str(report) == (f'wrote 3 labels to {data.root / "label"}; unlabeled are 33.3 % of the '
                           'pixels')
    assert [label[0, 0] for label in label_files(data.root / 'label').values()] == [0, 1, 255]
    assert {path.name for path in data.root.iterdir()} == {
        'rgb', 'thermal', 'label', 'dataset.yaml'}
    assert FolderDataset(data.root)[1].label.tolist() == np.ones(SIZE).tolist()


def test_all_problems_are_told_at_once_and_nothing_is_written(data):
    before = everything(data.root)
    report = import_masks(data, [
        mask('a.png'), mask('day/a.png'), mask('b.png', 'unknown colour'), mask('cc.png')])
    assert report.problems == [
        "1 of 3 frames have no mask: 'c'; label them in the tool, or give --partial",
        "'masks/a.png' and 'masks/day/a.png' are both masks of the frame 'a': remove one",
        "'masks/cc.png' is of no frame: none is named 'cc'; is it 'c'?",
        'unknown colour']
    assert str(report).endswith('\nnothing is written: 4 problems')
    assert everything(data.root) == before


def test_of_many_problems_the_first_ten_are_told(data):
    report = import_masks(data, [*three(), *(mask(f'x{i}.png') for i in range(15))])
    lines = str(report).splitlines()
    assert len(lines) == 12 and lines[-2:] == ['  and 5 more', 'nothing is written: 15 problems']


def test_partial_lets_frames_be_without_a_mask(data):
    report = import_masks(data, three()[:1], partial=True)
    assert report.problems == [] and '2 frames have no mask' in str(report)
    assert [*label_files(data.root / 'label')] == ['a.png']


def test_the_same_again_changes_nothing(data):
    import_masks(data, three())
    before = everything(data.root)
    report = import_masks(data, three())
    assert (report.written, report.same, report.problems) == (0, 3, [])
    assert everything(data.root) == before


def test_a_label_that_differs_stays_unless_it_is_ours_and_replace_says_so(data):
    import_masks(data, three())
    before = everything(data.root)
    report = import_masks(data, three(0, 2, 255))
    assert len(report.problems) == 1 and 'b.png' in report.problems[0]
    assert 'give --replace' in report.problems[0]
    assert everything(data.root) == before
    report = import_masks(data, three(0, 2, 255), replace=True)
    assert (report.written, report.same) == (1, 2)
    assert read_image(data.root / 'label' / 'b.png')[0, 0] == 2


def test_a_label_of_ours_with_another_ending_is_not_joined_by_a_second_one(data):
    (data.root / 'label').mkdir()
    write_image(data.root / 'label' / 'b.tif', np.zeros(SIZE, np.uint8))
    problem, = import_masks(data, three(), replace=True).problems
    assert 'b.tif' in problem and 'is not named b.png' in problem


@pytest.mark.parametrize('name', ['b.png', 'b.bmp'])
def test_a_label_of_a_user_is_never_written_over(name, data):
    (data.root / 'label').mkdir()
    cv2.imwrite(str(data.root / 'label' / name), np.zeros(SIZE, np.uint8))
    before = everything(data.root)
    for replace in (False, True):
        report = import_masks(data, three(), replace=replace)
        assert len(report.problems) == 1 and name in report.problems[0]
        assert '--out' in report.problems[0]
        assert everything(data.root) == before
    # One with the same ids is no conflict, whoever has written it.
    assert import_masks(data, three(0, 0, 0)).same == 1


def test_ids_are_stored_as_dataset_yaml_says(tmp_path):
    ids = {0: 0, 153: 1, 1: 1, 7: 2, 9: 255}
    data = write_folder(tmp_path / 'data', PLAIN, ['a', 'b', 'c'], ids)
    assert import_masks(data, three(1, 2, 255), tmp_path / 'new').problems == []
    stored = [label[0, 0] for label in label_files(tmp_path / 'new').values()]
    assert stored == [1, 7, 9]
    shutil.rmtree(data.root / 'label')
    (tmp_path / 'new').rename(data.root / 'label')
    assert [sample.label[0, 0] for sample in FolderDataset(data.root)] == [1, 2, 255]


def test_an_id_that_dataset_yaml_cannot_store_is_told(tmp_path):
    data = write_folder(tmp_path / 'data', PLAIN, ['a', 'b', 'c'], {0: 0, 1: 1, 2: 2})
    problem, = import_masks(data, three(), tmp_path / 'new').problems
    assert 'has the class 255, for which dataset.yaml has no stored id' in problem


def test_labels_of_a_split_go_to_it(tmp_path):
    write_folder(tmp_path / 'data' / 'train', PLAIN, ['a', 'b', 'c'])
    shutil.rmtree(tmp_path / 'data' / 'train' / 'label')
    import_masks(FolderDataset(tmp_path / 'data', 'train'), three())
    assert len(label_files(tmp_path / 'data' / 'train' / 'label')) == 3


def test_a_link_to_a_folder_stays_one(data, tmp_path):
    (tmp_path / 'elsewhere').mkdir()
    (data.root / 'label').symlink_to(tmp_path / 'elsewhere')
    import_masks(data, three())
    assert (data.root / 'label').is_symlink() and len(label_files(tmp_path / 'elsewhere')) == 3
    assert not [path for path in tmp_path.iterdir() if path.name.startswith('.')]


def test_what_stops_in_the_middle_leaves_nothing(data, monkeypatch):
    before = everything(data.root)

    def write(path, image):
        if path.name == 'c.png':
            raise KeyboardInterrupt
        write_image(path, image)
    monkeypatch.setattr('rgbx_seg_ros.labelling.imported.write_image', write)
    with pytest.raises(KeyboardInterrupt):
        import_masks(data, three())
    assert everything(data.root) == before
    assert {path.name for path in data.root.iterdir()} == {'rgb', 'thermal', 'dataset.yaml'}
