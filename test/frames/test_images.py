# Copyright 2026 rgbx_seg_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""Image files: what is read of them, and which are refused with their name and a remedy."""

import os
import re

import cv2
import numpy as np
import pytest
from rgbx_seg_ros.errors import DataError
from rgbx_seg_ros.files import check_outputs, MARK
from rgbx_seg_ros.frames import images
from rgbx_seg_ros.frames.images import read_header, read_image, read_rgb, write_image
from support.picture_files import encode, png, png_chunk, tiff, turned

COLORS = np.random.default_rng(0).integers(0, 256, (7, 11, 3), np.uint8)
GREY = COLORS[..., 0]


@pytest.fixture
def write(tmp_path):
    """Return a function that writes bytes to a file and returns its path."""
    def written(content, name='a.png'):
        path = tmp_path / name
        path.write_bytes(content)
        return path
    return written


@pytest.mark.parametrize('dtype', images.TYPES)
@pytest.mark.parametrize('image', [COLORS, GREY])
def test_pixels_come_with_their_type_and_channels_and_colours_as_rgb(write, image, dtype):
    path = write(tiff(image.astype(dtype)))
    read = read_image(path)
    assert read.dtype == dtype and np.array_equal(read, image)


def test_transparency_is_left_out(write):
    assert np.array_equal(read_image(write(encode('.png', np.dstack([COLORS, GREY])))),
                          COLORS[..., ::-1])
    painted = png(GREY % 2, 1, True)
    assert b'tRNS' in painted and read_image(write(painted)).shape == (7, 11, 3)


def test_only_the_still_picture_of_an_animated_png_is_decoded(write, monkeypatch):
    """Where a frame is larger than the picture, OpenCV 4.11 dies of a segmentation fault."""
    still = png(GREY, 8, False)
    path = write(png(GREY, 8, False, png_chunk(b'acTL', bytes(8)) + png_chunk(b'fcTL', bytes(26))))
    decode = cv2.imdecode

    def checked(file, flags):
        assert file.tobytes() == still
        return decode(file, flags)
    monkeypatch.setattr(cv2, 'imdecode', checked)
    assert np.array_equal(read_image(path), GREY)


@pytest.mark.parametrize('image', [
    GREY.astype(np.float64), COLORS.astype(np.float64), GREY.astype(np.int32)])
def test_a_type_that_no_network_takes_is_told_with_the_file(write, image):
    path = write(tiff(image), 'x.tif')
    with pytest.raises(DataError) as error:
        read_image(path)
    text = str(error.value)
    # Old versions of cv2 do not read three bands of float64, and take integers for floats.
    assert f'{str(path)!r} is {image.dtype}, a network takes uint8, uint16, float32' in text or (
        re.search(f'cannot read {str(path)!r}.*(a sort that cv2 lacks|takes for)', text))
    assert '\n' not in text


def test_a_picture_that_is_too_large_is_told_with_a_way_out(write, monkeypatch):
    monkeypatch.setattr(cv2, 'imdecode', lambda *_: pytest.fail('decoded'))
    path = write(tiff(GREY, _256=60_000, _257=60_000), 'x.tif')
    with pytest.raises(DataError, match=r"x.tif': it has 60000x60000 pixels, at most \d+ are read "
                                        'whole; cut it into tiles, or predict with a model'):
        read_image(path)
    path = write(b'')
    os.truncate(path, images.MAX_BYTES + 1)  # takes no room on the disk
    with pytest.raises(DataError, match=r"a.png': it has \d+ bytes, at most .*cut it into tiles"):
        read_image(path)


def test_a_jpeg_that_ends_early_is_refused_and_not_painted_grey(write):
    jpeg = encode('.jpg', np.repeat(COLORS, 8, 0).repeat(8, 1))
    with pytest.raises(DataError, match="a.jpg': the JPEG of .* bytes is truncated"):
        read_rgb(write(jpeg[:-40], 'a.jpg'))


@pytest.mark.parametrize('read', [read_image, read_rgb])
@pytest.mark.parametrize('ending', ['.jpg', '.png', '.tif'])
def test_a_picture_that_viewers_turn_is_refused_in_every_format(write, read, ending):
    with pytest.raises(DataError, match=f"a{ending}' is stored turned or mirrored, by its EXIF "
                                        'orientation 6: turn the pixels themselves'):
        read(write(turned(ending, COLORS), f'a{ending}'))
    assert read(write(turned(ending, COLORS, 1))).shape == COLORS.shape


def test_a_header_is_read_of_a_file_of_any_size(write):
    path = write(tiff(GREY, _256=60_000, _257=60_000))
    assert read_header(path)[:3] == ('TIFF', 60_000, 60_000)
    with pytest.raises(DataError, match="empty.tif': it is empty"):
        read_header(write(b'', 'empty.tif'))
    with pytest.raises(DataError, match="text.tif': it is not an image"):
        read_header(write(b'text', 'text.tif'))
    with pytest.raises(DataError, match="nowhere.tif': No such file"):
        read_header(path.with_name('nowhere.tif'))


@pytest.mark.parametrize('name', ['a.png', 'a.jpg', 'a.tif', 'a.tiff'])
def test_a_picture_tells_who_has_written_it_and_is_the_same_with_that(name, tmp_path):
    path = tmp_path / name
    image = np.random.default_rng(0).integers(0, 256, (40, 50, 3), np.uint8)
    for _ in range(2):
        check_outputs([path])
        write_image(path, image)
    plain = cv2.imencode(path.suffix, image[..., ::-1])[1]
    assert np.array_equal(read_rgb(path), cv2.imdecode(plain, cv2.IMREAD_COLOR)[..., ::-1])
    Image = pytest.importorskip('PIL.Image', reason='another reader than cv2')
    with Image.open(path) as picture:
        assert np.array_equal(np.array(picture), read_rgb(path))
        if name == 'a.png':
            assert picture.info == {'Comment': MARK}
        if name == 'a.jpg':
            assert picture.info['comment'] == MARK.encode()


@pytest.mark.parametrize('name', ['a.bmp', 'a.webp'])
def test_a_picture_that_takes_no_text_is_not_written_over(name, tmp_path):
    path = tmp_path / name
    write_image(path, np.zeros((4, 5, 3), np.uint8))
    assert cv2.imread(str(path)).shape == (4, 5, 3)
    with pytest.raises(DataError, match=f'{name}.: it exists already'):
        check_outputs([path])


def test_an_image_is_written_as_it_is_read(tmp_path):
    for image in (COLORS, GREY, GREY.astype(np.uint16) * 200):
        write_image(tmp_path / 'a.png', image)
        assert np.array_equal(read_image(tmp_path / 'a.png'), image)


@pytest.mark.parametrize(('path', 'message'), [
    ('a.foo', 'its ending names no image format, use .png'),
    ('a', 'its ending names no image format'),
    ('nowhere/a.png', 'No such file or directory'),
    ('', 'its ending names no image format'),
    ('a.ä', 'its ending names no image format'),
    (os.fsdecode(b'a.\xdf'), 'its ending names no image format'),  # cv2 itself would die of it
])
def test_an_image_that_cannot_be_written_is_told_and_opencv_keeps_quiet(tmp_path, path, message,
                                                                        capfd):
    with pytest.raises(DataError, match=message):
        write_image(tmp_path / path, np.zeros((4, 4), np.uint8))
    assert capfd.readouterr().err == ''


def test_an_image_that_is_too_large_for_its_format_leaves_no_empty_file(tmp_path):
    with pytest.raises(DataError, match="a.jpg': its format takes no 70000x1 pixels of uint8"):
        write_image(tmp_path / 'a.jpg', np.zeros((1, 70_000), np.uint8))
    assert not (tmp_path / 'a.jpg').exists()


def test_names_need_not_be_utf_8(tmp_path):
    path = tmp_path / os.fsdecode(b'Stra\xdfe.png')
    write_image(path, COLORS)
    assert np.array_equal(read_image(path), COLORS)
