# Copyright 2026 rgbx_seg_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""Encoded pictures: what their headers say, ids as they are stored, and files that are no good."""

import struct

import cv2
import numpy as np
import pytest
from rgbx_seg_ros import pictures
from rgbx_seg_ros.errors import PictureError
from rgbx_seg_ros.pictures import decode, decode_ids, Header, read_header
from support.picture_files import (
    bmp,
    encode,
    exif,
    paint,
    painted_tiff,
    png,
    png_chunk,
    tiff,
    turned,
)

PIXELS = 10_000
COLORS = np.random.default_rng(0).integers(0, 256, (7, 11, 3), np.uint8)
GREY = COLORS[..., 0]
READS_BIG = cv2.imdecode(np.frombuffer(tiff(GREY, is_big=True), np.uint8), -1) is not None
"""Whether this version of cv2 reads the TIFF that is larger than 4 GB."""


def ids_of(bits):
    """Return all ids of so many bits, each of them more than once where that fits."""
    return np.resize(np.arange(2 ** bits, dtype=np.uint8), (20, 14))


@pytest.mark.parametrize(('data', 'header'), [
    (encode('.png', COLORS), Header('PNG', 11, 7, 8, False, False, 1)),
    (encode('.png', GREY.astype(np.uint16)), Header('PNG', 11, 7, 16, False, False, 1)),
    (png(GREY % 4, 2, True), Header('PNG', 11, 7, 2, True, False, 1)),
    (encode('.jpg', COLORS), Header('JPEG', 11, 7, 8, False, True, 1)),
    (encode('.jpg', COLORS, cv2.IMWRITE_JPEG_PROGRESSIVE, 1),
     Header('JPEG', 11, 7, 8, False, True, 1)),
    (encode('.bmp', COLORS), Header('BMP', 11, 7, 24, False, False, 1)),
    (bmp(GREY % 16, 4), Header('BMP', 11, 7, 4, True, False, 1)),
    (bmp(GREY % 16, 4, is_os2=True), Header('BMP', 11, 7, 4, True, False, 1)),
    (encode('.tif', COLORS), Header('TIFF', 11, 7, 8, False, False, 1, 0, 'uint8')),
    (tiff(GREY.astype(np.float32), order='>'),
     Header('TIFF', 11, 7, 32, False, False, 1, 0, 'float32')),
    (tiff(GREY, is_big=True, _274=8), Header('TIFF', 11, 7, 8, False, False, 8, 0, 'uint8')),
    (painted_tiff(GREY % 2, 1), Header('TIFF', 11, 7, 1, True, False, 1)),
    (tiff(GREY, _259=7), Header('TIFF', 11, 7, 8, False, True, 1, 0, 'uint8')),
    (tiff(GREY, _322=16, _323=32),
     Header('TIFF', 11, 7, 8, False, False, 1, 512, 'uint8')),
])
def test_the_header_says_what_is_in_the_file(data, header):
    assert read_header(data) == header
    assert read_header(memoryview(data)) == header  # a map of a file


@pytest.mark.parametrize('dtype', [
    f'{kind}{bits}' for kind in ('uint', 'int') for bits in (8, 16, 32, 64)] + [
        'float16', 'float32', 'float64'])
def test_the_values_of_a_tiff_come_as_they_are_or_not_at_all(dtype):
    """In version 4.5 of OpenCV bits of integers become floats, and a sign a high value."""
    values = np.arange(-38, 39).reshape(7, 11).astype(dtype)
    try:
        pixels = decode(tiff(values), PIXELS)
    except PictureError:
        assert dtype not in ('uint8', 'uint16', 'float32', 'float64')  # what every OpenCV reads
    else:
        assert pixels.dtype == dtype and np.array_equal(pixels, values)


@pytest.mark.parametrize(('stored', 'taken'), [
    ('int8', 'uint8'), ('int16', 'uint16'), ('int32', 'float32'), ('int64', 'float64')])
def test_values_that_an_opencv_takes_for_others_are_told(stored, taken, monkeypatch):
    file = tiff(np.full((7, 11), -1, stored))
    monkeypatch.setattr(cv2, 'imdecode', lambda *_: np.full((7, 11), -1, stored).view(taken))
    with pytest.raises(PictureError, match=f'values are {stored}, which OpenCV .* takes for '
                                           f'{taken}: convert it to uint8'):
        decode(file, PIXELS)


@pytest.mark.parametrize('ending', ['.jpg', '.png', '.tif'])
@pytest.mark.parametrize('orientation', range(10))
def test_the_orientation_is_read_wherever_it_stands(ending, orientation):
    expected = orientation if 1 <= orientation <= 8 else 1
    assert read_header(turned(ending, COLORS, orientation)).orientation == expected


@pytest.mark.parametrize('content', [
    b'', b'II', exif(6)[:12], exif(6)[:-9], b'XX' + exif(6)[2:], exif(6)[:4] + b'\xff' * 4])
def test_damaged_exif_is_no_orientation_and_no_reason_to_refuse_a_picture(content):
    file = encode('.png', COLORS)
    file = file[:33] + png_chunk(b'eXIf', content) + file[33:]
    assert read_header(file).orientation == 1
    assert np.array_equal(decode(file, PIXELS), COLORS)


@pytest.mark.parametrize('image', [
    COLORS, GREY, GREY.astype(np.uint16) * 257, COLORS.astype(np.float32), GREY.astype(float)])
@pytest.mark.parametrize('order', '<>')
def test_a_tiff_of_any_type_is_decoded_as_it_is(image, order):
    assert np.array_equal(decode(tiff(image, order=order), PIXELS),
                          image if image.ndim == 2 else image[..., ::-1])


# Ids


@pytest.mark.parametrize('bits', [1, 2, 4, 8])
@pytest.mark.parametrize('is_painted', [False, True])
def test_a_png_of_few_bits_or_of_a_palette_gives_its_ids(bits, is_painted):
    ids = ids_of(bits)
    read = decode_ids(png(ids, bits, is_painted), PIXELS)
    assert read.dtype == np.uint8 and np.array_equal(read, ids)


@pytest.mark.parametrize('bits', [1, 4, 8])
@pytest.mark.parametrize('is_os2', [False, True])
def test_a_bmp_of_a_palette_gives_its_ids(bits, is_os2):
    ids = ids_of(bits)
    read = decode_ids(bmp(ids, bits, is_os2=is_os2), PIXELS)
    assert read.dtype == np.uint8 and np.array_equal(read, ids)


def test_a_bmp_gives_ids_that_its_short_palette_has_no_colour_for():
    ids = ids_of(8)
    assert np.array_equal(decode_ids(bmp(ids, 8, paint(1)), PIXELS), ids)


def test_a_bmp_of_black_and_white_gives_0_and_1():
    assert np.array_equal(decode_ids(bmp(ids_of(1), 1, [[0] * 3, [255] * 3]), PIXELS), ids_of(1))


@pytest.mark.parametrize('bits', [1, 8])
@pytest.mark.parametrize('order', '<>')
@pytest.mark.parametrize('is_big', [False, True] if READS_BIG else [False])
def test_a_tiff_of_a_palette_gives_its_ids(bits, order, is_big):
    ids = ids_of(bits)
    file = painted_tiff(ids, bits, order=order, is_big=is_big)
    assert np.array_equal(decode_ids(file, PIXELS), ids)


def test_a_tiff_of_4_bits_gives_its_ids_where_cv2_reads_it():
    ids = ids_of(4)
    try:
        read = decode_ids(painted_tiff(ids, 4), PIXELS)
    except PictureError as error:
        assert 'of a sort that cv2 lacks' in str(error)
    else:
        assert np.array_equal(read, ids)


def test_a_tiff_of_1_bit_gives_0_and_1():
    assert np.array_equal(decode_ids(tiff(ids_of(1), 1), PIXELS), ids_of(1))
    # 1 is white, and this file stores it as 0.
    assert np.array_equal(decode_ids(tiff(1 - ids_of(1), 1, _262=0), PIXELS), ids_of(1))


@pytest.mark.parametrize('ending', ['.png', '.tif', '.bmp'])
def test_ids_of_8_bits_and_colours_come_as_they_are(ending):
    assert np.array_equal(decode_ids(encode(ending, GREY), PIXELS), GREY)
    assert np.array_equal(decode_ids(encode(ending, COLORS), PIXELS), COLORS)


@pytest.mark.parametrize('data', [
    encode('.jpg', GREY), tiff(GREY, _259=7), tiff(GREY, _259=34712)])
def test_ids_that_compression_has_changed_are_refused(data):
    with pytest.raises(PictureError, match='compressed with loss, .* make the label anew as PNG'):
        decode_ids(data, PIXELS)


def test_a_palette_that_is_missing_is_told():
    with pytest.raises(PictureError, match='the TIFF is damaged: its palette is missing'):
        decode_ids(tiff(ids_of(8), 8, _262=3), PIXELS)
    with pytest.raises(PictureError, match='the BMP is damaged: its palette is missing'):
        # A header of 16 bytes has no room for the number of colours.
        decode_ids(bmp(ids_of(8), 8).replace(struct.pack('<I', 40), struct.pack('<I', 16), 1),
                   PIXELS)


# Files that are no good


@pytest.mark.parametrize('data', [
    encode('.png', COLORS), encode('.jpg', COLORS), encode('.tif', COLORS),
    encode('.bmp', COLORS), bmp(ids_of(8), 8), painted_tiff(ids_of(8), 8),
    tiff(GREY, is_big=True), png(ids_of(4), 4, True)])
def test_a_truncated_file_is_refused_wherever_it_ends(data):
    for decoder in (decode, decode_ids):
        for length in range(0, len(data) - 4, 7):
            with pytest.raises(PictureError):
                decoder(data[:length], PIXELS)


@pytest.mark.parametrize('data', [b'', b'P5 2 2 255\n1234', b'RIFF    WEBPVP8 ', b'\0' * 99])
def test_what_is_no_picture_of_a_known_kind_is_told_by_its_first_bytes(data):
    with pytest.raises(PictureError, match='it is not an image') as error:
        read_header(data)
    assert repr(data[:8]) in str(error.value) if data else 'it is empty' in str(error.value)


def test_any_damage_to_a_header_is_told_as_that():
    """Every byte of every header becomes the largest, the smallest and another."""
    for data in (painted_tiff(ids_of(1), 1), tiff(GREY, is_big=True), bmp(ids_of(4), 4),
                 png(ids_of(4), 4, True), turned('.jpg', GREY)):
        for place in range(min(len(data), 260)):
            for value in (0, 255, data[place] ^ 1):
                for decoder in (decode, decode_ids):
                    try:
                        decoder(data[:place] + bytes([value]) + data[place + 1:], PIXELS)
                    except PictureError as error:
                        assert '\n' not in str(error)


@pytest.mark.parametrize('data', [
    tiff(GREY, _256=60_000, _257=60_000), png(GREY, 8, False).replace(
        struct.pack('>II', 11, 7), struct.pack('>II', 60_000, 60_000)),
    bmp(GREY, 8).replace(struct.pack('<ii', 11, 7), struct.pack('<ii', 60_000, -60_000))])
def test_a_file_that_announces_gigabytes_is_refused_before_it_is_decoded(data, monkeypatch):
    monkeypatch.setattr(cv2, 'imdecode', lambda *_: pytest.fail('decoded'))
    with pytest.raises(PictureError, match='width x height is 60000 x 60000: .* at most 10000'):
        decode(data, PIXELS)


def test_a_small_picture_in_a_large_tile_is_refused_before_it_is_decoded(monkeypatch):
    """Some versions of cv2 would reserve 4 GB for this one."""
    monkeypatch.setattr(cv2, 'imdecode', lambda *_: pytest.fail('decoded'))
    with pytest.raises(PictureError, match='its tiles have 1072693504 pixels, at most 16777216'):
        decode(tiff(GREY, _322=32752, _323=32752), PIXELS)


def test_pixels_of_another_size_than_announced_are_refused():
    """As of a TIFF that cv2 turns, unasked."""
    with pytest.raises(PictureError, match='cannot decode the 11 x 7 pixels'):
        decode(turned('.tif', GREY), PIXELS)


def test_an_exception_of_cv2_is_told_as_one_line(monkeypatch):
    def out_of_memory(*_):
        raise cv2.error('Insufficient\nmemory')
    monkeypatch.setattr(pictures.cv2, 'imdecode', out_of_memory)
    with pytest.raises(PictureError, match='cv2 cannot decode 11 x 7 pixels: Insufficient memory'):
        decode(encode('.png', GREY), PIXELS)
