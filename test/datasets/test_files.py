# Copyright 2026 rgbx_seg_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""Files of data sets: lists of names, folders of images, ids as stored."""

import struct
import zlib

import cv2
import numpy as np
import pytest
from rgbx_seg_ros.datasets.files import (
    first_folder,
    images_in,
    listed_names,
    read_channels,
    read_ids,
)
from rgbx_seg_ros.errors import DataError


def indexed_png(ids, bits):
    """Return a PNG that paints ids through a palette, ids packed at so many bits."""
    def chunk(kind, body):
        return (struct.pack('>I', len(body)) + kind + body
                + struct.pack('>I', zlib.crc32(kind + body)))

    height, width = ids.shape
    spread = np.unpackbits(ids[..., None], axis=2)[..., 8 - bits:].reshape(height, width * bits)
    rows = np.packbits(spread, axis=1)
    lines = b''.join(b'\0' + row.tobytes() for row in rows)
    palette = np.random.default_rng(0).integers(0, 256, (2 ** bits, 3), np.uint8).tobytes()
    return (b'\x89PNG\r\n\x1a\n'
            + chunk(b'IHDR', struct.pack('>IIBBBBB', width, height, bits, 3, 0, 0, 0))
            + chunk(b'PLTE', palette) + chunk(b'tRNS', b'\0') + chunk(b'bKGD', b'\1')
            + chunk(b'IDAT', zlib.compress(lines)) + chunk(b'IEND', b''))


@pytest.mark.parametrize('bits', [1, 2, 4, 8])
def test_the_ids_of_an_indexed_png_are_read_not_its_colours(tmp_path, bits):
    ids = np.random.default_rng(bits).integers(0, 2 ** bits, (7, 11)).astype(np.uint8)
    path = tmp_path / 'label.png'
    path.write_bytes(indexed_png(ids, bits))
    assert cv2.imread(str(path), cv2.IMREAD_UNCHANGED).ndim == 3, 'OpenCV paints'
    read = read_ids(path)
    assert read.dtype == np.uint8 and np.array_equal(read, ids)


@pytest.mark.parametrize('length', [0, 20, 30, 70, 90])
def test_a_truncated_indexed_png_is_told_with_its_path(tmp_path, length, capfd):
    path = tmp_path / 'label.png'
    path.write_bytes(indexed_png(np.zeros((7, 11), np.uint8), 4)[:length])
    with pytest.raises(DataError, match="label.png': it is not an image"):
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


def test_a_missing_folder_is_told_with_those_beside_it(tmp_path):
    (tmp_path / 'images').mkdir()
    with pytest.raises(DataError, match=r"labels' is missing; the folders of .* \['images'\]"):
        images_in(tmp_path / 'labels')
    assert first_folder(tmp_path, 'rgb', 'images') == tmp_path / 'images'
    assert first_folder(tmp_path, 'rgb', 'RGB') == tmp_path / 'rgb'


@pytest.mark.parametrize('text', [
    '00001D\n00002N\n', '00001D.png\r\n\n00002N.png', 'RGB/00001D.jpg Label/00001D.png\n00002N',
    'C:\\data\\00001D.png\n/data/00002N.png\n'])
def test_a_list_may_hold_names_or_paths(tmp_path, text):
    (tmp_path / 'train.txt').write_bytes(text.encode())
    assert listed_names(tmp_path / 'train.txt') == ['00001D', '00002N']


def test_a_dot_in_a_name_is_no_ending(tmp_path):
    (tmp_path / 'train.txt').write_text('seq1.0001\nseq1.0002.png\n')
    assert listed_names(tmp_path / 'train.txt') == ['seq1.0001', 'seq1.0002']


@pytest.mark.parametrize(('content', 'message'), [
    (None, 'is missing: it names the frames of the split'), (b'\n \n', 'is empty'),
    (b'a\nb\na.png\n', "names 'a' twice"), (b'\xff\xfe', 'cannot read the list')])
def test_a_list_that_is_not_right_is_named(tmp_path, content, message):
    path = tmp_path / 'train.txt'
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(DataError, match=message) as error:
        listed_names(path)
    assert repr(str(path)) in str(error.value)
