# Copyright 2026 rgbx_seg_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""What shows only of all samples together: labels that mean little, odd frames, unused files."""

import cv2
import numpy as np
import pytest
from rgbx_seg_ros.datasets import DATASETS, FolderDataset, open_dataset
from rgbx_seg_ros.datasets.survey import label_counts, Survey, survey, x_form
from rgbx_seg_ros.errors import DataError
from support.dataset_trees import TREES
import yaml


@pytest.fixture
def folder(tmp_path, write_frames):
    """Return a folder of five pairs whose labels hold the classes 0 and 2."""
    return write_frames(tmp_path / 'data', 5, (8, 12))


def told(root, **options):
    data = FolderDataset(root, **options)
    found = survey(data)
    return found.faults(data), found.remarks(data)


def relabel(root, change):
    for path in (root / 'label').iterdir():
        label = change(cv2.imread(str(path), cv2.IMREAD_UNCHANGED))
        cv2.imwrite(str(path), label.astype(np.uint8))


@pytest.mark.parametrize('name', DATASETS)
def test_of_data_sets_that_are_as_they_should_be_nothing_is_told(name, tmp_path):
    for library in {'nyuv2_mat': ('h5py', 'scipy'), 'potsdam': ('rasterio',),
                    'vaihingen': ('rasterio',)}.get(name, ()):
        pytest.importorskip(library)
    for split in TREES[name](tmp_path):
        data = open_dataset(name, tmp_path, split)
        found = survey(data)
        assert found.faults(data) == found.remarks(data) == []


def test_x_in_false_colours_is_told_and_differs_from_grey_in_nothing_else(folder):
    def paint(path, change):
        grey = cv2.imread(str(path), cv2.IMREAD_GRAYSCALE)
        cv2.imwrite(str(path), change(grey))

    paths = sorted((folder / 'thermal').iterdir())
    for path in paths:
        paint(path, lambda grey: cv2.merge([grey] * 3))
    assert told(folder) == ([], [])
    for path in paths[:2]:
        paint(path, lambda grey: cv2.applyColorMap(grey, cv2.COLORMAP_INFERNO))
    faults, (remark,) = told(folder)
    assert not faults
    assert remark.startswith(f'X of 2 frames has colours, such as {str(paths[0])!r}: if a pal')


def test_samples_are_counted_one_by_one_or_in_shares(folder):
    data = FolderDataset(folder)
    whole, one, two = survey(data), Survey(), Survey()
    for i, sample in enumerate(data):
        (one if i % 2 else two).add(sample)
    one.merge(two)
    labels = np.stack([sample.label for sample in data])
    assert np.array_equal(whole.counts, np.bincount(labels.ravel(), minlength=256))
    assert np.array_equal(one.counts, whole.counts)
    assert one.labelled == whole.labelled == 5
    assert {form: sorted(names) for form, names in one.forms.items()} == whole.forms == {
        'uint8': data.names}


@pytest.mark.parametrize(('change', 'beside'), [
    (lambda label: 255 * (label > 0), 'nothing but class 0 and 255'),
    (lambda label: np.where(label, 1, 255), 'nothing but class 1 and 255'),
    (lambda label: np.full_like(label, 255), 'nothing but 255')])
def test_255_beside_a_single_class_is_told_with_the_ways_out(folder, change, beside):
    relabel(folder, change)
    (fault,), remarks = told(folder)
    assert f'the labels hold {beside}, which means unlabeled' in fault
    assert 'store the id of a class instead' in fault and 'ids: {0: 0, 255: 1}' in fault
    assert remarks == []


def test_the_ids_that_the_message_proposes_make_a_class_of_255(folder):
    relabel(folder, lambda label: 255 * (label > 0))
    (folder / 'dataset.yaml').write_text(yaml.safe_dump({
        'ids': {0: 0, 255: 1}, 'classes': [
            {'id': i, 'name': name, 'color': [i] * 3} for i, name in enumerate(('a', 'b'))]}))
    assert told(folder) == ([], [])
    assert set(np.unique(FolderDataset(folder)[0].label)) == {0, 1}


def test_unlabeled_pixels_beside_two_classes_are_as_they_should_be(folder):
    relabel(folder, lambda label: np.where(np.arange(12) == 3, 255, label))
    assert told(folder) == ([], [])


def test_labels_of_one_class_alone_are_worth_a_look(folder):
    relabel(folder, np.zeros_like)
    assert told(folder) == ([], ['the labels hold nothing but class 0'])


def test_classes_without_a_pixel_are_named(folder):
    (folder / 'dataset.yaml').write_text(yaml.safe_dump({'classes': [
        {'id': i, 'name': name, 'color': [i] * 3}
        for i, name in enumerate(('road', 'car', 'person', 'bike'))]}))
    assert told(folder) == ([], ["no label has a pixel of 'car', 'bike'"])
    data = FolderDataset(folder)
    found = survey(data)
    assert found.remarks(data, data.CLASSES[:3]) == ["no label has a pixel of 'car'"]


@pytest.mark.parametrize(('change', 'odd'), [
    (lambda x: x.astype(np.uint16), 'uint16'), (lambda x: cv2.merge([x] * 3), 'uint8 x3')])
def test_x_that_is_not_like_the_others_is_told_with_its_file(folder, change, odd):
    path = folder / 'thermal' / 'a3.png'
    cv2.imwrite(str(path), change(cv2.imread(str(path), cv2.IMREAD_UNCHANGED)))
    (fault,), remarks = told(folder)
    assert fault == (f'X of 4 frames is of uint8, that of 1 is not: {str(path)!r} of {odd}; '
                     'convert them, or leave them out')
    assert remarks == [] and told(folder, exclude=['a3']) == ([], [])


@pytest.mark.parametrize('x', [
    np.zeros((8, 12), np.float32), np.full((8, 12), np.nan, np.float32),
    np.where(np.eye(8, 12), np.inf, 7).astype(np.float32)])
def test_x_that_shows_nothing_is_told_and_is_no_other_type(tmp_path, write_frames, x):
    root = write_frames(tmp_path / 'data', 3, (8, 12))
    for i in range(3):
        (root / 'thermal' / f'a{i}.png').unlink()
        noise = np.random.default_rng(i).random((8, 12), np.float32)
        cv2.imwrite(str(root / 'thermal' / f'a{i}.tif'), x if i == 1 else noise)
    path = root / 'thermal' / 'a1.tif'
    assert told(root) == ([], [
        'X of 1 frames shows nothing, all of it has one value or none, such as '
        f'{str(path)!r}: if the sensor was dead, leave them out'])


def test_of_many_odd_files_some_are_named(tmp_path, write_frames):
    root = write_frames(tmp_path / 'data', 9, (8, 12))
    for i in (1, 3, 5, 7):
        cv2.imwrite(str(root / 'thermal' / f'a{i}.png'), np.zeros((8, 12), np.uint16))
    (fault,), _ = told(root)
    assert 'X of 5 frames is of uint8, that of 4 is not: ' in fault
    assert "a1.png' of uint16, " in fault and "a5.png' of uint16, ...; convert" in fault
    assert 'a7' not in fault


def test_images_that_belong_to_no_frame_are_a_fault_and_other_files_worth_a_look(folder):
    for name in ('b0.png', 'b1.TIF', 'a0.json', '._a0.png'):
        (folder / 'label' / name).touch()
    (folder / 'boxes').mkdir()
    for i in range(5):
        (folder / 'boxes' / f'a{i}_boxes.txt').touch()
    faults, remarks = told(folder)
    assert faults == ["2 images of label/ belong to no frame: 'b0.png', 'b1.TIF'"]
    assert remarks == [
        "1 files of label/ belong to no frame: 'a0.json'",
        "5 files of boxes/ belong to no frame: 'a0_boxes.txt', 'a1_boxes.txt', 'a2_boxes.txt', "
        '...']


def test_a_folder_of_labels_with_another_name_is_told(folder):
    (folder / 'label').rename(folder / 'labels')
    assert told(folder) == ([], ['no frame has a label: they are read from label/, and there are '
                                 'labels/'])


def test_a_sample_that_cannot_be_read_is_an_error(folder):
    (folder / 'rgb' / 'a2.png').write_bytes(b'cut')
    with pytest.raises(DataError, match="a2.png'"):
        survey(FolderDataset(folder))


def test_forms_and_counts_of_a_sample():
    assert x_form(np.arange(6, dtype=np.uint16).reshape(2, 3)) == 'uint16'
    assert x_form(np.repeat(np.float32([[[1], [2]]]), 3, 2)) == 'float32 x3'
    assert x_form(np.float32([[np.nan, 1, 1]])) == 'float32 of one value'
    assert label_counts(None) is None
    counts = label_counts(np.uint8([[1, 1], [0, 255]]))
    assert counts.shape == (256,) and counts[[0, 1, 255]].tolist() == [1, 2, 1]
