# Copyright 2026 rgbx_seg_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""Folders of paired frames: what is read, and how one that is not right is told."""

import json

import cv2
import numpy as np
import pytest
from rgbx_seg_ros.datasets import FolderDataset, open_dataset
from rgbx_seg_ros.datasets.folder import X_FOLDERS
from rgbx_seg_ros.errors import DataError
from rgbx_seg_ros.frames.images import read_rgb
import yaml


@pytest.fixture
def folder(tmp_path, write_frames):
    return write_frames(tmp_path / 'data', count=3, size=(8, 12))


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
    assert FolderDataset(folder, exclude=['a0', 'a2']).names == ['a1']
    with pytest.raises(DataError, match="no frame 'b' to exclude"):
        FolderDataset(folder, exclude=['a0', 'b'])
    with pytest.raises(DataError, match='holds no frames'):
        FolderDataset(folder, exclude=['a0', 'a1', 'a2'])


def no_rgb(root):
    (root / 'rgb').rename(root / 'color')


def no_x(root):
    (root / 'thermal').rename(root / 'infrared')


def two_x(root):
    (root / 'depth').mkdir()


def no_partner(root):
    (root / 'thermal' / 'a1.png').unlink()


def labels_of_other_names(root):
    for path in (root / 'label').iterdir():
        path.rename(path.with_stem(f'{path.stem}_mask'))


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
    (labels_of_other_names, "label' holds 3 images, and none has the name of a frame: they are "
                            "named as 'a0_mask', the frames as 'a0'; rename them, or remove"),
    (no_frames, 'holds no frames'),
    (the_same_name_twice, "holds 'a1.jpg' and 'a1.png': remove one"),
])
def test_a_folder_that_is_not_right_is_told_why(folder, change, message):
    change(folder)
    with pytest.raises(DataError, match=message):
        FolderDataset(folder)


def test_files_that_belong_to_no_frame_are_known(folder):
    assert FolderDataset(folder).unused == {'label': []}
    (folder / 'label' / 'a1.png').rename(folder / 'label' / 'a1_mask.png')
    (folder / 'label' / 'a2.json').touch()
    (folder / 'label' / '._a0.png').touch()
    (folder / 'boxes').mkdir()
    for name in ('a0.txt', 'classes.txt'):
        (folder / 'boxes' / name).touch()
    data = FolderDataset(folder)
    assert data.unused == {'label': ['a1_mask.png', 'a2.json'], 'boxes': ['classes.txt']}
    assert data.files('a1').label is None and data.other_folders == []


def test_other_folders_are_known_where_there_are_no_labels(folder):
    (folder / 'masks').mkdir()
    assert FolderDataset(folder).other_folders == []
    (folder / 'label').rename(folder / 'labels')
    assert FolderDataset(folder).other_folders == ['labels', 'masks']


def test_each_frame_of_a_data_set_with_classes_has_a_label_of_its_own(tmp_path, write_frames):
    root = write_frames(tmp_path / 'demo', 3, (8, 12), 'depth', np.uint16)
    assert len(open_dataset('gmrpd', tmp_path)) == 3
    (root / 'label' / 'a1.png').rename(root / 'label' / 'b1.png')
    with pytest.raises(DataError, match="label' lacks 1 of 3 labels, such as 'a1'"):
        open_dataset('gmrpd', tmp_path)


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
    with pytest.raises(DataError, match='it is (not an image|empty)|truncated') as error:
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
    for encoding in ('utf-8-sig', 'utf-16'):
        (folder / 'boxes' / 'a1.txt').write_text(' 2 0.5 0.25 0.1 0.2 \r\n', encoding=encoding)
        assert data.boxes('a1') == [(2, 0.5, 0.25, 0.1, 0.2)]


def test_polygons_and_pixels_are_told_from_boxes(folder):
    (folder / 'boxes').mkdir()
    for line, said in (('2 .1 .1 .5 .1 .5 .5', "one is '2 .1 .*; a line of more numbers is a pol"),
                       ('2 64 48 32 24', 'as shares of the frame, 0 to 1: divide pixels by its')):
        (folder / 'boxes' / 'a0.txt').write_text(f'{line}\n')
        with pytest.raises(DataError, match=said):
            FolderDataset(folder).boxes('a0')
    (folder / 'boxes' / 'a0.txt').write_text('2 -0.1 0.5 1.000001 2')  # over the border
    assert len(FolderDataset(folder).boxes('a0')) == 1


@pytest.mark.parametrize('line', [b'2 0.5 0.5 0.1', b'2 0.5 0.5 0.1 0.1 0.9', b'2.0 0 0 1 1',
                                  b'person 0 0 1 1', b'2 0,5 0 1 1', b'2 nan 0 1 1', b'\xff\xfe',
                                  b'2 64 48 32 24', b'2 0.5 0.5 -0.1 0.1', b'2,0.5,0.5,0.1,0.1',
                                  b'2 0.1 0.1 0.5 0.1 0.5 0.5'])
def test_a_malformed_box_is_told_with_its_file(folder, line):
    (folder / 'boxes').mkdir()
    (folder / 'boxes' / 'a0.txt').write_bytes(b'2 0.5 0.25 0.1 0.2\n' + line)
    with pytest.raises(DataError, match='a0.txt') as error:
        FolderDataset(folder).boxes('a0')
    assert '\n' not in str(error.value)


DESCRIPTION = {
    'x_kind': 'thermal',
    'classes': [{'id': 0, 'name': 'road', 'color': [0, 0, 0]},
                {'id': 1, 'name': 'person', 'color': [255, 0, 0]}],
    'ids': {0: 0, 2: 1, 9: 255},
}


@pytest.fixture
def described(folder):
    """Return a function that writes a description, with changes, and returns the folder."""
    def write(**changes):
        (folder / 'dataset.yaml').write_text(yaml.safe_dump({**DESCRIPTION, **changes}))
        return folder
    return write


def test_a_description_names_the_classes_and_maps_their_ids(folder, described):
    before = FolderDataset(folder)
    assert before.CLASSES is None and before.X_KIND is None
    stored = before[1].label
    assert set(np.unique(stored)) == {0, 2}
    stored[0, 0] = 9
    cv2.imwrite(str(folder / 'label' / 'a1.png'), stored)
    data = FolderDataset(described())
    assert (data.CLASSES.names, data.X_KIND) == (['road', 'person'], 'thermal')
    label = data[1].label
    assert label.dtype == np.uint8 and label[0, 0] == 255
    assert np.array_equal(label == 1, stored == 2)
    assert FolderDataset.CLASSES is None


def test_without_ids_those_of_the_classes_and_255_are_allowed(described):
    root = described(ids=None)
    with pytest.raises(DataError, match=r"a1.png' holds the ids 2, allowed are 0..1, 255"):
        FolderDataset(root)[1]


def test_splits_are_folders_which_a_description_may_name(tmp_path, write_frames):
    for split, count in (('train', 3), ('test', 2)):
        write_frames(tmp_path / split, count, (8, 12))
    assert open_dataset('folder', tmp_path, 'test').names == ['a0', 'a1']
    with pytest.raises(DataError, match=r"no split 'val', its folders are \['test', 'train'\]"):
        FolderDataset(tmp_path, split='val')
    assert FolderDataset.splits_in(tmp_path) == {}

    (tmp_path / 'dataset.yaml').write_text('splits: {train: 3, test: null}')
    assert FolderDataset.splits_in(tmp_path) == {'train': 3, 'test': None}
    assert len(FolderDataset(tmp_path, 'train', ['a1'])) == 2
    with pytest.raises(DataError, match='has several splits, name one of: train, test'):
        FolderDataset(tmp_path)
    with pytest.raises(DataError, match="split 'tests' is unknown; did you mean 'test'?"):
        FolderDataset(tmp_path, split='tests')
    (tmp_path / 'train' / 'boxes').mkdir()
    (tmp_path / 'train' / 'boxes' / 'a0.txt').write_text('1 .5 .5 .1 .1')
    assert len(FolderDataset(tmp_path, split='train').boxes('a0')) == 1


@pytest.mark.parametrize(('changes', 'message'), [
    ({'clases': []}, "'clases' is unknown; did you mean 'classes'?"),
    ({'x_kind': 'radar'}, "x_kind: 'radar' is unknown; .*allowed are: thermal, depth"),
    ({'classes': [{'id': 1, 'name': 'a', 'color': [0, 0, 0]}]}, r'class ids are \[1\]'),
    ({'ids': {0: 2}}, 'ids has 0: 2, needed is an id 0..255 in the files and the id of a class'),
    ({'ids': {300: 0}}, 'ids has 300: 0'),
    ({'ids': {'0': 0}}, "ids has '0': 0"),
    ({'splits': {'train': 'many'}}, "splits has 'train': 'many', needed is the name of a folder"),
])
def test_a_description_that_is_not_right_is_told_why(described, changes, message):
    with pytest.raises(DataError, match=message) as error:
        FolderDataset(described(**changes))
    assert 'dataset.yaml' in str(error.value)


def test_a_manifest_tells_which_frames_follow_each_other_and_of_no_frame_that_is_gone(
        tmp_path, write_frames):
    data = write_frames(tmp_path / 'data', 4)
    assert FolderDataset(data).recordings() == []
    lines = [{'name': name, 'bag': bag, 'x': {'stamp': {'sec': 1, 'nanosec': nanosec}}}
             for name, bag, nanosec in (('a3', 'one', 7), ('a0', 'two', 5), ('gone', 'one', 3),
                                        ('a1', 'one', 2))]
    path = data / 'manifest.jsonl'
    path.write_text('\n'.join(map(json.dumps, lines)))
    ns = 10 ** 9
    assert FolderDataset(data, exclude=['a2']).recordings() == [
        [('a1', ns + 2), ('a3', ns + 7)], [('a0', ns + 5)]]
    for bad in ('{', '[]', '{"name": "a0", "bag": "b", "x": {}}',
                '{"name": "a0", "bag": "b", "x": {"stamp": 7}}'):
        path.write_text(bad)
        with pytest.raises(DataError, match='manifest.jsonl.*: a line is .*, needed is that of'):
            FolderDataset(data).recordings()
