# Copyright 2026 rgbx_seg_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""Paired frames from disk: what is read, and how a folder that is not right is told."""

import cv2
import numpy as np
import pytest
from rgbx_seg_ros.datasets import DATASETS, FolderDataset
from rgbx_seg_ros.datasets.folder import X_FOLDERS
from rgbx_seg_ros.errors import DataError
from rgbx_seg_ros.frames import check_rgb, check_x
from rgbx_seg_ros.images import read_rgb

# Name of a data set: the fixture that writes a small one of four labelled pairs.
WRITERS = {'folder': 'write_frames'}


@pytest.fixture
def folder(tmp_path, write_frames):
    return write_frames(tmp_path / 'data', count=3, size=(8, 12))


@pytest.mark.parametrize('name', DATASETS)
def test_every_data_set_gives_labelled_pairs_that_a_network_can_take(name, tmp_path, request):
    data = DATASETS[name](request.getfixturevalue(WRITERS[name])(tmp_path / 'data'))
    assert len(data) == 4
    for i in range(4):
        sample = data[i]
        check_rgb(sample.rgb)
        check_x(sample.x)
        assert sample.name
        assert sample.label.shape == sample.rgb.shape[:2] and sample.label.dtype == np.uint8


@pytest.mark.parametrize('x_folder', X_FOLDERS)
@pytest.mark.parametrize('x_type', [np.uint8, np.uint16])
def test_the_pixels_are_those_of_the_files_in_the_order_of_the_names(
        tmp_path, write_frames, x_folder, x_type):
    root = write_frames(tmp_path / 'data', 3, (8, 12), x_folder, x_type)
    data = FolderDataset(root)
    assert (data.names, data.x_folder) == (['a0', 'a1', 'a2'], x_folder)
    sample = data[1]
    assert np.array_equal(sample.rgb[..., ::-1], cv2.imread(str(root / 'rgb' / 'a1.png')))
    assert np.array_equal(sample.x, cv2.imread(str(root / x_folder / 'a1.png'), -1))
    assert sample.x.dtype == x_type
    person = sample.label == 2
    assert sample.rgb[person][:, 0].min() >= 150 > sample.rgb[~person].max()


def test_a_frame_may_have_no_label_and_endings_may_differ(folder):
    (folder / 'label' / 'a1.png').unlink()
    (folder / 'rgb' / 'a1.png').rename(folder / 'rgb' / 'a1.PNG')
    (folder / 'rgb' / 'notes.txt').write_text('no frame')
    assert [sample.label is None for sample in (FolderDataset(folder)[i] for i in range(3))] == [
        False, True, False]


def test_excluded_frames_are_left_out_and_must_exist(folder):
    assert FolderDataset(folder, ['a0', 'a2']).names == ['a1']
    with pytest.raises(DataError, match="no frame 'b' to exclude"):
        FolderDataset(folder, ['a0', 'b'])
    with pytest.raises(DataError, match='holds no frames'):
        FolderDataset(folder, ['a0', 'a1', 'a2'])


def no_rgb(root):
    (root / 'rgb').rename(root / 'color')


def no_x(root):
    (root / 'thermal').rename(root / 'infrared')


def two_x(root):
    (root / 'depth').mkdir()


def no_partner(root):
    (root / 'thermal' / 'a1.png').unlink()


def no_frames(root):
    for path in [*root.glob('rgb/*'), *root.glob('thermal/*')]:
        path.unlink()


def the_same_name_twice(root):
    (root / 'thermal' / 'a1.jpg').touch()


@pytest.mark.parametrize(('change', 'message'), [
    (no_rgb, "must hold rgb/ .* its folders are \\['color', 'label', 'thermal'\\]"),
    (no_x, 'exactly one of thermal/, depth/, disparity/, x/'),
    (two_x, "its folders are \\['depth', 'label', 'rgb', 'thermal'\\]"),
    (no_partner, "1 frames have no partner .* in rgb/ and thermal/, the first is 'a1'"),
    (no_frames, 'holds no frames'),
    (the_same_name_twice, "holds 'a1.jpg' and 'a1.png': remove one"),
])
def test_a_folder_that_is_not_right_is_told_why(folder, change, message):
    change(folder)
    with pytest.raises(DataError, match=message):
        FolderDataset(folder)


def test_a_path_that_is_no_folder_is_told_so(folder):
    for path in (folder / 'nowhere', folder / 'rgb' / 'a0.png'):
        with pytest.raises(DataError, match='is not a folder'):
            FolderDataset(path)


@pytest.mark.parametrize('content', [b'', b'text', b'\x89PNG\r\n\x1a\n'])
@pytest.mark.parametrize('part', ['rgb', 'thermal', 'label'])
def test_an_unreadable_image_is_named_and_opencv_keeps_quiet(folder, content, part, capfd):
    path = folder / part / 'a1.png'
    data = FolderDataset(folder)
    path.write_bytes(content)
    with pytest.raises(DataError, match='it is not an image') as error:
        data[1]
    assert repr(str(path)) in str(error.value)
    path.unlink()
    with pytest.raises(DataError, match='No such file'):
        data[1]
    # Only of a file that begins as an image it says more.
    assert capfd.readouterr().err == '' or content[:1] == b'\x89'


@pytest.mark.parametrize('label', [
    np.zeros((8, 12), np.uint16), np.zeros((8, 12, 3), np.uint8), np.zeros((8, 13), np.uint8),
    np.zeros((4, 6), np.uint8)])
def test_a_label_that_is_not_one_class_id_for_each_pixel_is_refused(folder, label):
    cv2.imwrite(str(folder / 'label' / 'a1.png'), label)
    with pytest.raises(DataError, match=r"a1.png' is \(.*, needed are the class ids .*\(8, 12\)"):
        FolderDataset(folder)[1]


def test_grey_rgb_is_repeated_alpha_is_left_out_and_16_bit_refused(tmp_path):
    path = tmp_path / 'a.png'
    grey = np.arange(96, dtype=np.uint8).reshape(8, 12)
    cv2.imwrite(str(path), grey)
    assert np.array_equal(read_rgb(path), np.dstack([grey] * 3))
    cv2.imwrite(str(path), np.dstack([grey, grey + 1, grey + 2, grey]))
    assert np.array_equal(read_rgb(path), np.dstack([grey + 2, grey + 1, grey]))
    cv2.imwrite(str(path), grey.astype(np.uint16))
    with pytest.raises(DataError, match='is uint16, an 8-bit colour image is needed'):
        read_rgb(path)


def test_boxes_are_read_by_name(folder):
    data = FolderDataset(folder)
    assert data.boxes('a0') == []
    (folder / 'boxes').mkdir()
    (folder / 'boxes' / 'a0.txt').write_text('2 0.5 0.25 0.1 0.2\n\n1 1 0 .5 5e-1\n')
    assert data.boxes('a0') == [(2, 0.5, 0.25, 0.1, 0.2), (1, 1.0, 0.0, 0.5, 0.5)]
    assert data.boxes('a1') == []


@pytest.mark.parametrize('line', [b'2 0.5 0.5 0.1', b'2 0.5 0.5 0.1 0.1 0.9', b'2.0 0 0 1 1',
                                  b'person 0 0 1 1', b'2 0,5 0 1 1', b'2 nan 0 1 1', b'\xff\xfe'])
def test_a_malformed_box_is_told_with_its_file(folder, line):
    (folder / 'boxes').mkdir()
    (folder / 'boxes' / 'a0.txt').write_bytes(b'2 0.5 0.25 0.1 0.2\n' + line)
    with pytest.raises(DataError, match='a0.txt') as error:
        FolderDataset(folder).boxes('a0')
    assert '\n' not in str(error.value)
