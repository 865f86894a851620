# Copyright 2026 rgbx_seg_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""Every data set: a small copy is read as it was written, and what is wrong is named."""

import inspect
import os
from pathlib import Path
import re

import cv2
import numpy as np
import pytest
from rgbx_seg_ros.cards.card import list_cards, load_card, X_KINDS
from rgbx_seg_ros.cards.labels import UNLABELED
from rgbx_seg_ros.datasets import DATASETS, open_dataset, PairedDataset
from rgbx_seg_ros.errors import DataError
from rgbx_seg_ros.frames.raw import check_rgb, check_x
from support.dataset_trees import shifted, TREES, write
from support.picture_files import encode, turned

ROOT = Path(__file__).parents[2]

# All but the one that is a single file, and the folder, whose labels may be missing.
IN_FILES = sorted(set(DATASETS) - {'nyuv2_mat', 'folder'})

# As the cards name what their published scores are of.
OF_CARDS = {'FMB': 'fmb', 'ISPRS Potsdam': 'potsdam', 'ISPRS Vaihingen': 'vaihingen',
            'MFD': 'mfnet', 'MFNet': 'mfnet', 'MSRS': 'msrs'}


@pytest.fixture
def tree(tmp_path):
    """Return a function that writes a data set; it returns the folder and what is in it."""
    def make(name):
        if name == 'nyuv2_mat':
            for library in ('h5py', 'scipy'):
                pytest.importorskip(library, reason=f'MATLAB files need {library}')
        if name in ('potsdam', 'vaihingen'):
            pytest.importorskip('rasterio', reason='aerial tiles need rasterio')
        return tmp_path, TREES[name](tmp_path)
    return make


def read_all(name, root, split):
    return list(open_dataset(name, root, split))


def first_split(name):
    return next(iter(DATASETS[name].SPLITS), None)


def test_every_data_set_has_a_small_copy():
    assert TREES.keys() == DATASETS.keys()


@pytest.mark.parametrize('name', DATASETS)
def test_every_data_set_gives_what_its_files_hold(name, tree):
    root, expected = tree(name)
    assert set(expected) == set(DATASETS[name].SPLITS or [None])
    for split, found in expected.items():
        data = open_dataset(name, root, split)
        assert (set(data.names), len(data), data.root) == (set(found), len(found), root)
        for sample in data:
            check_rgb(sample.rgb)
            check_x(sample.x)
            wanted = found[sample.name]
            assert np.array_equal(sample.rgb, wanted.rgb)
            assert np.array_equal(sample.x, wanted.x) and sample.x.dtype == wanted.x.dtype
            assert sample.x_limits == wanted.x_limits
            if wanted.label is None:
                assert sample.label is None
            else:
                assert sample.label.dtype == np.uint8
                assert np.array_equal(sample.label, wanted.label)
            assert data.boxes(sample.name) == []


@pytest.mark.parametrize('name', DATASETS)
def test_every_data_set_says_what_it_is(name):
    cls = DATASETS[name]
    if name != 'folder':
        assert cls.CLASSES and cls.X_KIND in X_KINDS and cls.SPLITS
    assert cls.X_TYPE in (None, 'uint8', 'uint16', 'float32')
    ids = set((cls.IDS or {}).values()) - {UNLABELED}
    assert not ids or ids == set(range(len(cls.CLASSES))), 'a class that no stored id stands for'


def test_the_counts_and_sizes_are_the_published_ones():
    assert DATASETS['mfnet'].SPLITS['train'] + DATASETS['mfnet'].SPLITS['val'] == 1176
    assert sum(DATASETS['mfnet'].SPLITS[part] for part in ('train', 'val', 'test')) == 1569
    assert sum(DATASETS['mfnet'].SPLITS[part] for part in ('test_day', 'test_night')) == 393
    assert sum(DATASETS['msrs'].SPLITS.values()) == 1444
    assert sum(DATASETS['pst900'].SPLITS.values()) == 885
    assert sum(DATASETS['fmb'].SPLITS.values()) == 1500
    assert sum(DATASETS['cityscapes'].SPLITS.values()) == 5000
    assert sum(DATASETS['nyuv2'].SPLITS.values()) == 1449
    assert sum(DATASETS['zju_rgb_p'].SPLITS.values()) == 394
    assert {name: len(cls.CLASSES) for name, cls in DATASETS.items() if cls.CLASSES} == {
        'cityscapes': 19, 'fmb': 15, 'gmrpd': 3, 'mfnet': 9, 'msrs': 9, 'nyuv2': 40,
        'nyuv2_hha': 40, 'nyuv2_mat': 40, 'potholes': 2, 'potsdam': 6, 'pst900': 5,
        'vaihingen': 6, 'zju_rgb_p': 8}
    for name in ('potsdam', 'vaihingen'):
        tiles = [tile for part in DATASETS[name].TILES.values() for tile in part]
        assert len(set(tiles)) == len(tiles) == {'potsdam': 24, 'vaihingen': 16}[name]


def test_the_classes_are_those_of_the_cards():
    checked = set()
    for card in map(load_card, list_cards()):
        if card.published and card.published.dataset in OF_CARDS:
            cls = DATASETS[OF_CARDS[card.published.dataset]]
            assert cls.CLASSES.names == card.labels.names, card.name
            assert card.x.kind == cls.X_KIND, card.name
            checked.add(card.published.dataset)
    assert checked == OF_CARDS.keys()


def test_stored_ids_of_cityscapes_are_those_of_its_own_tools():
    ids = DATASETS['cityscapes'].IDS
    names = DATASETS['cityscapes'].CLASSES.names
    assert sorted(ids) == list(range(34))
    assert {names[own]: stored for stored, own in ids.items() if own != UNLABELED} == {
        'road': 7, 'sidewalk': 8, 'building': 11, 'wall': 12, 'fence': 13, 'pole': 17,
        'traffic_light': 19, 'traffic_sign': 20, 'vegetation': 21, 'terrain': 22, 'sky': 23,
        'person': 24, 'rider': 25, 'car': 26, 'truck': 27, 'bus': 28, 'train': 31,
        'motorcycle': 32, 'bicycle': 33}


@pytest.mark.parametrize('name', [name for name, cls in DATASETS.items() if len(cls.SPLITS) > 1])
def test_where_there_are_several_splits_one_must_be_named(name, tree):
    root, expected = tree(name)
    with pytest.raises(DataError, match=f'name one of: {", ".join(expected)}'):
        open_dataset(name, root)
    with pytest.raises(DataError, match="split 'tost' is unknown; .*allowed are: "):
        open_dataset(name, root, 'tost')


def test_an_only_split_needs_no_name(tree):
    root, expected = tree('gmrpd')
    assert open_dataset('gmrpd', root).names == list(expected['demo'])


def test_an_unknown_data_set_is_told_with_the_nearest(tmp_path):
    with pytest.raises(DataError, match="data set 'MFnet' is unknown; did you mean 'mfnet'?"):
        open_dataset('MFnet', tmp_path)


@pytest.mark.parametrize('name', DATASETS)
def test_a_frame_can_be_excluded_by_name(name, tree):
    root, expected = tree(name)
    split = first_split(name)
    first, *rest = open_dataset(name, root, split).names
    assert open_dataset(name, root, split, [first]).names == rest
    with pytest.raises(DataError, match="no frame 'nothing' to exclude"):
        open_dataset(name, root, split, ['nothing'])


@pytest.mark.parametrize('name', DATASETS)
def test_every_data_set_takes_the_arguments_of_the_base_in_their_order(name, tree):
    assert inspect.signature(DATASETS[name]) == inspect.signature(PairedDataset)
    root, _ = tree(name)
    split = first_split(name)
    first, *rest = open_dataset(name, root, split).names
    assert DATASETS[name](root, split, [first], True).names == rest


@pytest.mark.parametrize('name', DATASETS)
def test_hidden_files_and_folders_are_no_frames(name, tree):
    """Such as the ._NAME of macOS beside each file of a zip or on a disk of another kind."""
    root, expected = tree(name)
    for path in [*root.rglob('*')]:
        path.with_name(f'._{path.name}').write_bytes(b'\0\5\x16\7\0\2\0\0Mac OS X        ')
        if path.is_dir():
            (path / '.cache').mkdir()
    for split, found in expected.items():
        assert set(open_dataset(name, root, split).names) == set(found)


@pytest.mark.parametrize('part', ['rgb', 'x', 'label'])
@pytest.mark.parametrize('name', sorted(set(DATASETS) - {'nyuv2_mat'}))
def test_a_picture_that_viewers_turn_is_named(name, part, tree):
    root, _ = tree(name)
    data = open_dataset(name, root, first_split(name))
    path = getattr(data.files(data.names[0]), part)
    ending = path.suffix
    path.write_bytes(turned(ending, cv2.imread(str(path), cv2.IMREAD_UNCHANGED), 3))
    with pytest.raises(DataError, match=f'{re.escape(repr(str(path)))} is stored turned'):
        read_all(name, root, first_split(name))


@pytest.mark.parametrize('name', sorted(set(DATASETS) - {'nyuv2_mat', 'potsdam', 'vaihingen'}))
def test_a_label_that_compression_has_changed_is_named(name, tree):
    root, _ = tree(name)
    data = open_dataset(name, root, first_split(name))
    path = data.files(data.names[0]).label
    path.write_bytes(encode('.jpg', cv2.imread(str(path), cv2.IMREAD_UNCHANGED)))
    with pytest.raises(DataError, match='compressed with loss') as error:
        read_all(name, root, first_split(name))
    assert repr(str(path)) in str(error.value)


@pytest.mark.parametrize('part', ['rgb', 'x', 'label'])
@pytest.mark.parametrize('name', IN_FILES)
def test_a_missing_file_is_named(name, part, tree):
    root, _ = tree(name)
    split = first_split(name)
    data = open_dataset(name, root, split)
    path = getattr(data.files(data.names[-1]), part)
    path.unlink()
    with pytest.raises(DataError) as error:
        open_dataset(name, root, split)
    text = str(error.value)
    assert path.stem in text or data.names[-1] in text
    assert str(path.parent) in text or str(root / split) in text


@pytest.mark.parametrize('name', IN_FILES)
def test_a_missing_folder_is_named(name, tree):
    root, _ = tree(name)
    split = first_split(name)
    data = open_dataset(name, root, split)
    folder = data.files(data.names[0]).x.parent
    os.rename(folder, folder.with_name('elsewhere'))
    with pytest.raises(DataError) as error:
        open_dataset(name, root, split)
    assert folder.name in str(error.value)


# Colour and thermal of MFNet are one file.
@pytest.mark.parametrize(('name', 'part'), [(name, part) for name in IN_FILES
                                            for part in ('x', 'label')
                                            if (name, part) != ('mfnet', 'x')])
def test_a_file_of_the_wrong_size_is_named(name, part, tree):
    root, _ = tree(name)
    data = open_dataset(name, root, first_split(name))
    path = getattr(data.files(data.names[0]), part)
    image = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
    assert cv2.imwrite(str(path), image[:-4])
    with pytest.raises(DataError, match=re.escape(repr(str(path)))) as error:
        read_all(name, root, first_split(name))
    assert re.search(r'48x28|\(28, 48', str(error.value))


@pytest.mark.parametrize('part', ['rgb', 'x', 'label'])
@pytest.mark.parametrize('name', IN_FILES)
def test_a_truncated_file_is_named(name, part, tree):
    root, _ = tree(name)
    data = open_dataset(name, root, first_split(name))
    path = getattr(data.files(data.names[0]), part)
    path.write_bytes(path.read_bytes()[:20])
    with pytest.raises(DataError, match=f'cannot read {re.escape(repr(str(path)))}'):
        read_all(name, root, first_split(name))


@pytest.mark.parametrize('name', [name for name, cls in DATASETS.items()
                                  if cls.X_TYPE and name in IN_FILES and name != 'mfnet'])
def test_x_of_the_wrong_type_is_named(name, tree):
    root, _ = tree(name)
    data = open_dataset(name, root, first_split(name))
    path = data.files(data.names[0]).x
    wrong = np.uint8 if data.X_TYPE == 'uint16' else np.uint16
    image = cv2.imread(str(path), cv2.IMREAD_UNCHANGED).astype(wrong)
    assert cv2.imwrite(str(path), image)
    with pytest.raises(DataError, match=f'is {wrong.__name__}, needed is {data.X_TYPE}'):
        read_all(name, root, first_split(name))


@pytest.mark.parametrize('name', sorted(set(IN_FILES) - {'potsdam', 'vaihingen'}))
def test_a_label_with_an_id_that_is_none_is_named(name, tree):
    root, _ = tree(name)
    data = open_dataset(name, root, first_split(name))
    path = data.files(data.names[0]).label
    ids = np.zeros(cv2.imread(str(path)).shape[:2], np.uint8)
    ids[3, 4], ids[5, 6] = 200, 202
    write(path, ids)
    with pytest.raises(DataError, match=r'holds the ids 200, 202, allowed are 0\.\.') as error:
        data[0]
    assert repr(str(path)) in str(error.value)


def test_mfnet_is_read_from_folders_of_its_own_too(tree, tmp_path):
    root, expected = tree('mfnet')
    for split_root, rgb, x, endings in (
            (tmp_path / 'a', 'rgb', 'thermal', ('', '')),
            (tmp_path / 'b', 'RGB', 'Thermal', ('_rgb', '_th')),
            (tmp_path / 'c', 'seperated_images', 'seperated_images', ('_rgb', '_th')),
            (tmp_path / 'd', 'separated_images', 'separated_images', ('_rgb', '_th'))):
        for name, one in expected['test'].items():
            write(split_root / rgb / f'{name}{endings[0]}.png', one.rgb)
            write(split_root / x / f'{name}{endings[1]}.png', one.x)
            write(split_root / 'labels' / f'{name}.png', one.label)
        (split_root / 'test.txt').write_text((root / 'test.txt').read_text())
        samples = read_all('mfnet', split_root, 'test')
        assert [sample.name for sample in samples] == list(expected['test'])
        for sample in samples:
            assert np.array_equal(sample.x, expected['test'][sample.name].x)
            assert np.array_equal(sample.rgb, expected['test'][sample.name].rgb)


@pytest.mark.parametrize('name', ['mfnet', 'nyuv2'])
def test_lists_may_come_from_windows_and_name_frames_with_spaces(name, tree):
    root, expected = tree(name)
    split = first_split(name)
    for path in [*root.glob('*/*.png')]:
        path.rename(path.with_stem(f'day {path.stem}'))
    path = root / f'{split}.txt'
    path.write_text(''.join(f'day {one}.png \r\n' for one in expected[split]),
                    encoding='utf-8-sig')
    assert open_dataset(name, root, split).names == [f'day {one}' for one in expected[split]]


def test_mfnet_without_its_fourth_channel_is_refused(tree):
    root, expected = tree('mfnet')
    write(root / 'images' / '00003D.png', expected['val']['00003D'].rgb)
    with pytest.raises(DataError, match='needed are four channels'):
        read_all('mfnet', root, 'val')


def test_labels_of_zju_may_hold_ids_instead_of_colours(tree):
    root, expected = tree('zju_rgb_p')
    write(root / 'val' / 'label' / '3_image0.png', shifted(expected['val']['3'].label))
    assert np.array_equal(read_all('zju_rgb_p', root, 'val')[0].label, expected['val']['3'].label)


def test_a_colour_that_is_no_class_is_named(tree):
    root, expected = tree('zju_rgb_p')
    colors = np.zeros((*expected['val']['3'].label.shape, 3), np.uint8)
    colors[4, 4] = 1, 2, 3
    write(root / 'val' / 'label' / '3_image0.png', colors)
    with pytest.raises(DataError, match=r'holds the colour \(1, 2, 3\), allowed are \(0, 0, 0\)'):
        read_all('zju_rgb_p', root, 'val')


def test_the_document_tells_of_every_data_set():
    rows = dict(re.findall(r'^\| `(\w+)` \|(.*)$', (ROOT / 'docs' / 'datasets.md').read_text(),
                           re.MULTILINE))
    assert rows.keys() == DATASETS.keys()
    for name, row in rows.items():
        for split, count in DATASETS[name].SPLITS.items():
            assert f'{split} {count}' in row if count else split in row, (name, split)
