# Copyright 2026 rgbx_seg_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""Files of data sets: lists of names, folders of images, ids as stored."""

import os

import cv2
import numpy as np
import pytest
from rgbx_seg_ros.datasets.files import (
    first_folder,
    folders_in,
    images_in,
    listed_names,
    read_channels,
    read_ids,
    read_lines,
)
from rgbx_seg_ros.errors import DataError
from support.picture_files import bmp, encode, painted_tiff, png, tiff, turned

IDS = np.resize(np.arange(16, dtype=np.uint8), (20, 14))


@pytest.mark.parametrize('content', [
    png(IDS, 4, True), png(IDS, 4, False), bmp(IDS, 4), painted_tiff(IDS, 8),
    encode('.png', IDS), encode('.tif', IDS), encode('.bmp', IDS)])
def test_the_ids_of_a_label_are_read_as_they_are_stored_whatever_its_format(tmp_path, content):
    path = tmp_path / 'label.png'
    path.write_bytes(content)
    read = read_ids(path)
    assert read.dtype == np.uint8 and np.array_equal(read, IDS)


def test_a_label_of_1_bit_holds_0_and_1(tmp_path):
    for name, content in (('a.png', png(IDS % 2, 1, False)), ('a.tif', tiff(IDS % 2, 1)),
                          ('a.bmp', bmp(IDS % 2, 1, [[0] * 3, [255] * 3]))):
        path = tmp_path / name
        path.write_bytes(content)
        assert cv2.imread(str(path), cv2.IMREAD_UNCHANGED).max() == 255, 'OpenCV spreads'
        assert np.array_equal(read_ids(path), IDS % 2)


@pytest.mark.parametrize('name', ['label.jpg', 'label.png'])
def test_a_label_that_compression_has_changed_is_refused_whatever_its_name(tmp_path, name):
    path = tmp_path / name
    path.write_bytes(encode('.jpg', IDS))
    with pytest.raises(DataError, match=f"{name}': this JPEG is compressed with loss.* as PNG"):
        read_ids(path)


@pytest.mark.parametrize('read', [read_ids, read_channels])
def test_a_picture_that_viewers_turn_is_refused(tmp_path, read):
    path = tmp_path / 'label.png'
    path.write_bytes(turned('.png', IDS, 3))
    with pytest.raises(DataError, match="label.png' is stored turned or mirrored"):
        read(path)


@pytest.mark.parametrize('length', [0, 20, 30, 70, 90])
def test_a_truncated_label_is_told_with_its_path(tmp_path, length):
    path = tmp_path / 'label.png'
    path.write_bytes(png(IDS, 4, True)[:length])
    with pytest.raises(DataError, match="cannot read '.*label.png': .* (empty|truncated)"):
        read_ids(path)


def test_grey_ids_and_colours_are_read_as_they_are(tmp_path):
    path = tmp_path / 'label.png'
    ids = np.arange(77, dtype=np.uint8).reshape(7, 11)
    cv2.imwrite(str(path), ids)
    assert np.array_equal(read_ids(path), ids)
    colors = np.dstack([ids, ids + 1, ids + 2])
    cv2.imwrite(str(path), colors)
    assert np.array_equal(read_ids(path), colors[..., ::-1])
    with pytest.raises(DataError, match='nowhere.png.*No such file'):
        read_ids(tmp_path / 'nowhere.png')


def test_the_fourth_channel_is_kept(tmp_path):
    path = tmp_path / 'image.png'
    stored = np.random.default_rng(0).integers(0, 256, (5, 6, 4), np.uint8)
    cv2.imwrite(str(path), stored)
    assert np.array_equal(read_channels(path), stored[..., [2, 1, 0, 3]])
    with pytest.raises(DataError, match='nowhere.png.*No such file'):
        read_channels(tmp_path / 'nowhere.png')


def test_images_are_named_without_their_ending(tmp_path):
    for name in ('b_rgb.png', 'a_rgb.JPG', 'a_label.png', 'readme.txt', 'c_rgb.tif'):
        (tmp_path / name).touch()
    assert list(images_in(tmp_path, '_rgb')) == ['a', 'b', 'c']
    assert images_in(tmp_path)['a_label'] == tmp_path / 'a_label.png'
    (tmp_path / 'a_rgb.png').touch()
    with pytest.raises(DataError, match="holds 'a_rgb.JPG' and 'a_rgb.png': remove one"):
        images_in(tmp_path, '_rgb')


def test_hidden_files_are_no_images(tmp_path):
    """Such as macOS leaves beside each file on a disk of another kind."""
    for name in ('a.png', '._a.png', '.b.png'):
        (tmp_path / name).touch()
    for name in ('train', '.git', '._train'):
        (tmp_path / name).mkdir()
    assert images_in(tmp_path) == {'a': tmp_path / 'a.png'}
    assert folders_in(tmp_path) == ['train']
    with pytest.raises(DataError, match=r"the folders of .* are \['train'\]"):
        images_in(tmp_path / 'labels')


def test_a_missing_folder_is_told_with_those_beside_it(tmp_path):
    (tmp_path / 'images').mkdir()
    with pytest.raises(DataError, match=r"labels' is missing; the folders of .* \['images'\]"):
        images_in(tmp_path / 'labels')
    assert first_folder(tmp_path, 'rgb', 'images') == tmp_path / 'images'
    assert first_folder(tmp_path, 'rgb', 'RGB') == tmp_path / 'rgb'


@pytest.mark.parametrize('text', [
    '00001D\n00002N\n', '00001D.png\r\n\n00002N.png', 'RGB/00001D.jpg Label/00001D.png\n00002N',
    'C:\\data\\00001D.png\n/data/00002N.png\n', ' 00001D \n\t00002N\t\n', '00001D 1\n00002N\t0'])
@pytest.mark.parametrize('encoding', ['utf-8', 'utf-8-sig', 'utf-16'])
def test_a_list_may_hold_names_or_paths(tmp_path, text, encoding):
    (tmp_path / 'train.txt').write_bytes(text.encode(encoding))
    assert listed_names(tmp_path / 'train.txt') == ['00001D', '00002N']


@pytest.mark.parametrize('text', [
    'street 1\nstreet\nstreet 10', 'street 1.png\nstreet.png\nstreet 10.png',
    'RGB/street 1.png Label/street 1.png\nRGB/street.png Label/street.png\n'
    'RGB/street 10.png\tLabel/x.png', 'my data/street 1.png\nmy data/street.png\n'
    'my data/street 10.png 7', 'RGB/street 1.png Label/street.png\n'
    'RGB/street.png Label/street 10.png\nRGB/street 10.png Label/street 1.png'])
def test_a_name_may_have_spaces(tmp_path, text):
    (tmp_path / 'train.txt').write_text(text)
    names = ['street 1', 'street', 'street 10']
    assert listed_names(tmp_path / 'train.txt', names) == names


def test_a_list_names_files_whose_names_are_no_utf_8(tmp_path):
    (tmp_path / 'train.txt').write_bytes(b'Stra\xdfe.png\n')
    assert listed_names(tmp_path / 'train.txt') == [os.fsdecode(b'Stra\xdfe')]


def test_lines_come_without_what_windows_puts_around_them(tmp_path):
    (tmp_path / 'a.txt').write_bytes(b'\xef\xbb\xbf1 0.5 \r\n\r\n 2 0.5\r\n')
    assert read_lines(tmp_path / 'a.txt') == ['1 0.5', '2 0.5']


def test_a_dot_in_a_name_is_no_ending(tmp_path):
    (tmp_path / 'train.txt').write_text('seq1.0001\nseq1.0002.png\n')
    assert listed_names(tmp_path / 'train.txt') == ['seq1.0001', 'seq1.0002']


@pytest.mark.parametrize(('content', 'message'), [
    (None, 'is missing: it names the frames of the split'), (b'\n \n', 'is empty'),
    (b'a\nb\na.png\n', "names 'a' twice"), (b'\xff\xfe', 'is empty')])
def test_a_list_that_is_not_right_is_named(tmp_path, content, message):
    path = tmp_path / 'train.txt'
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(DataError, match=message) as error:
        listed_names(path)
    assert repr(str(path)) in str(error.value)


def test_a_list_that_is_a_folder_is_named(tmp_path):
    (tmp_path / 'train.txt').mkdir()
    with pytest.raises(DataError, match="cannot read the list '.*train.txt': Is a directory"):
        listed_names(tmp_path / 'train.txt')
