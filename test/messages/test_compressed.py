# Copyright 2026 rgbx_seg_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""CompressedImage: JPEG, PNG and compressedDepth, and what can be wrong with their files."""

import struct
import subprocess
import sys
import zlib

import cv2
import numpy as np
import pytest
from rgbx_seg_ros.errors import MessageError
from rgbx_seg_ros.messages.compressed import MAX_PIXELS
from rgbx_seg_ros.messages.images import decode_rgb, decode_x
from support.message_flavours import encode, FLAVOURS, Rosbags

RNG = np.random.default_rng(0)
# Broad stripes, so that JPEG keeps the colours.
STRIPES = np.repeat(np.array([[(200, 40, 20), (10, 160, 90)]], np.uint8), 16, 1).repeat(16, 0)
BGR = STRIPES[..., ::-1]
DEEP_BGR = BGR.astype(np.uint16) * 256 + 200
DEPTH = RNG.integers(0, 2**16, (16, 32), np.uint16)


@pytest.fixture(params=FLAVOURS)
def flavour(request):
    return request.param()


def chunk(kind, content):
    """Return a chunk of a PNG with the right checksum."""
    body = kind + content
    return struct.pack('>I', len(content)) + body + struct.pack('>I', zlib.crc32(body))


def png(width, height, bits=8, kind=2, content=b'', before=(), after=()):
    """Return a PNG of these chunks; `kind` 0 is grey, 2 RGB, 3 a palette, 4 and 6 with alpha."""
    header = struct.pack('>IIBBBBB', width, height, bits, kind, 0, 0, 0)
    return b''.join((b'\x89PNG\r\n\x1a\n', chunk(b'IHDR', header), *before,
                     chunk(b'IDAT', zlib.compress(content)), *after, chunk(b'IEND', b'')))


@pytest.mark.parametrize('text', ['jpeg', 'jpg', '', 'rgb8; jpeg compressed bgr8',
                                  'bgr8; jpeg compressed bgr8', 'yuv422; jpeg compressed bgr8',
                                  'bayer_rggb8; jpeg compressed bgr8', 'rgb8; jpeg compressed'])
def test_jpeg_comes_out_as_rgb_whatever_the_camera_had(flavour, text):
    msg = flavour.compressed(text, encode('.jpg', BGR))
    for decode in (decode_rgb, decode_x):
        assert np.abs(decode(msg).astype(int) - STRIPES).mean() < 6


@pytest.mark.parametrize('suffix', ['.png', '.jpg'])
def test_a_file_said_to_be_compressed_rgb_has_red_and_blue_swapped(flavour, suffix):
    msg = flavour.compressed('rgb8; x compressed rgb8', encode(suffix, STRIPES))
    assert np.abs(decode_rgb(msg).astype(int) - STRIPES).mean() < 6


def test_png_of_any_kind_comes_out_as_rgb(flavour):
    alpha = np.dstack([BGR, np.full(BGR.shape[:2], 9, np.uint8)])
    for text, pixels in (('png', BGR), ('rgba8; png compressed bgr8', alpha),
                         ('rgb16; png compressed bgr16', DEEP_BGR),
                         ('8UC3; png compressed ', BGR)):
        msg = flavour.compressed(text, encode('.png', pixels))
        assert np.array_equal(decode_rgb(msg), STRIPES)
    grey = flavour.compressed('mono8; png compressed ', encode('.png', BGR[..., 0]))
    assert np.array_equal(decode_rgb(grey), np.stack([BGR[..., 0]] * 3, -1))


@pytest.mark.parametrize('encoding, scale', [('bayer_grbg8', 1), ('bayer_bggr16', 256)])
def test_a_mosaic_stored_as_png_is_demosaiced(flavour, encoding, scale):
    level = {'r': 200, 'g': 100, 'b': 50}
    tile = np.array([level[letter] for letter in encoding[6:10]]).reshape(2, 2)
    mosaic = (np.tile(tile, (4, 5)) * scale).astype(np.uint8 if scale == 1 else np.uint16)
    msg = flavour.compressed(f'{encoding}; png compressed ', encode('.png', mosaic))
    assert (decode_rgb(msg) == (200, 100, 50)).all()


@pytest.mark.parametrize('text, pixels', [
    ('16UC1; png compressed ', DEPTH), ('mono16; png', DEPTH), ('png', DEPTH),
    ('8UC1; png compressed ', BGR[..., 0]), ('8UC3; png compressed ', STRIPES),
    ('8UC4; png compressed ', RNG.integers(0, 256, (5, 4, 4), np.uint8))])
def test_png_keeps_the_values_and_their_order_for_x(flavour, text, pixels):
    decoded = decode_x(flavour.compressed(text, encode('.png', pixels)))
    assert decoded.dtype == pixels.dtype and np.array_equal(decoded, pixels)


def test_exif_orientation_does_not_turn_the_picture():
    # Orientation 6, and behind it what a thumbnail leaves: markers that end nothing.
    exif = (b'Exif\0\0II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0\x06\0\0\0\0\0\0\0'
            b'\xff\xda\xff\xd9')
    jpeg = encode('.jpg', BGR)
    jpeg = jpeg[:2] + b'\xff\xe1' + struct.pack('>H', len(exif) + 2) + exif + jpeg[2:]
    turned = cv2.imdecode(np.frombuffer(jpeg, np.uint8), cv2.IMREAD_COLOR)
    assert turned.shape == (32, 16, 3)
    assert decode_rgb(Rosbags().compressed('jpeg', jpeg)).shape == (16, 32, 3)
    with pytest.raises(MessageError, match='truncated'):
        decode_rgb(Rosbags().compressed('jpeg', jpeg[:-2]))


@pytest.mark.parametrize('encoding', ['16UC1', 'mono16'])
def test_compressed_depth_of_integers_is_read_as_it_is(flavour, encoding):
    for text in (f'{encoding}; compressedDepth', f'{encoding}; compressedDepth png'):
        decoded = decode_x(flavour.compressed(text, bytes(12) + encode('.png', DEPTH)))
        assert decoded.dtype == np.uint16 and np.array_equal(decoded, DEPTH)


def test_compressed_depth_of_floats_is_dequantised_and_0_is_nan(flavour):
    # Depths from 0.5 to 9 m with the transport's defaults: quantisation 100, depth_max 10 m.
    quant_a, quant_b = 100 * 101.0, 1 - 100 * 101.0 / 10
    depth = np.linspace(0.5, 9, 12 * 20, dtype=np.float32).reshape(12, 20)
    stored = (quant_a / depth + quant_b).astype(np.uint16)
    stored[3, 4] = 0
    header = struct.pack('<iff', 0, quant_a, quant_b)
    decoded = decode_x(flavour.compressed('32FC1; compressedDepth png',
                                          header + encode('.png', stored)))
    assert decoded.dtype == np.float32
    assert np.isnan(decoded[3, 4]) and np.isnan(decoded).sum() == 1
    decoded[3, 4] = depth[3, 4]
    # One step of 1/depth is depth^2 / A.
    assert (np.abs(decoded - depth) <= depth**2 / quant_a * 1.01).all()
    # Values that no depth leads to: at B it would be infinite, below it negative.
    impossible = encode('.png', np.array([[3, 5, 105]], np.uint16))
    decoded = decode_x(flavour.compressed('32FC1; compressedDepth',
                                          struct.pack('<iff', 0, 100, 5) + impossible))
    np.testing.assert_array_equal(decoded, [[np.nan, np.nan, 1]])


def test_a_depth_beyond_all_numbers_is_nan_without_a_warning(flavour, recwarn):
    data = struct.pack('<iff', 0, 3e38, 1 - 1e-7) + encode('.png', np.array([[1]], np.uint16))
    decoded = decode_x(flavour.compressed('32FC1; compressedDepth', data))
    assert np.isnan(decoded).all() and not recwarn.list


@pytest.mark.parametrize('text', [
    '16UC1; jpeg compressed ', 'mono16; jpeg compressed mono8', '32FC1; jpeg',
    'rgb16; jpeg compressed bgr8', 'bayer_rggb16; jpeg compressed bgr8'])
def test_jpeg_of_more_than_8_bits_is_refused_with_the_way_out(flavour, text):
    msg = flavour.compressed(text, encode('.jpg', BGR if 'bgr' in text else BGR[..., 0]))
    said = (f"format is '{text}': JPEG stores 8 bits .* those of {text.partition(';')[0]} are cut "
            'and nothing restores them; .*compressed.format to png.* raw .*compressedDepth')
    with pytest.raises(MessageError, match=said):
        decode_x(msg)
    if 'bgr' in text:  # a camera's colours are cut to 8 bits anyway
        assert np.abs(decode_rgb(msg).astype(int) - STRIPES).mean() < 6
    else:
        with pytest.raises(MessageError):
            decode_rgb(msg)


def test_a_jpeg_that_tells_nothing_of_its_source_is_taken_as_8_bit_x(flavour):
    decoded = decode_x(flavour.compressed('jpeg', encode('.jpg', BGR[..., 0])))
    assert decoded.dtype == np.uint8 and decoded.shape == (16, 32)


@pytest.mark.parametrize('text, data, said', [
    ('16UC1; png compressed ', encode('.png', BGR[..., 0]), 'announces 1 .* uint16.*uint8'),
    ('mono8; png compressed ', encode('.png', BGR), 'announces 1 channel.*holds 3'),
    ('16UC1; compressedDepth rvl', bytes(50), 'width x height is 0 x 0'),
    ('16UC1; compressedDepth rvl', bytes(15), 'data has 3 bytes, RVL needs 8'),
    ('8UC1; compressedDepth png', bytes(50), '8UC1.*16UC1'),
    ('16UC1; compressedDepth png', bytes(5), 'data has 5 bytes'),
    ('16UC1; compressedDepth png', bytes(50), 'neither JPEG nor PNG'),
    ('16UC1; compressedDepth png', bytes(12) + encode('.png', BGR), 'data holds uint8'),
    ('32FC1; compressedDepth', bytes(12) + encode('.png', DEPTH), 'A = 0.0'),
    ('32FC1; compressedDepth', struct.pack('<iff', 0, 1, np.nan) + encode('.png', DEPTH), 'nan'),
    ('jpeg', b'', 'data is empty'),
    ('jpeg', b'GIF89a', 'GIF89a.*neither JPEG nor PNG'),
])
def test_compressed_x_that_cannot_be_trusted_is_refused(flavour, text, data, said):
    with pytest.raises(MessageError, match=said):
        decode_x(flavour.compressed(text, data))


@pytest.mark.parametrize('suffix', ['.jpg', '.png'])
def test_a_truncated_file_is_refused_wherever_it_ends(suffix):
    whole = encode(suffix, BGR)
    for length in range(1, len(whole), 3):
        with pytest.raises(MessageError, match='truncated|neither'):
            decode_rgb(Rosbags().compressed('jpeg', whole[:length]))
    padded = decode_rgb(Rosbags().compressed('jpeg', whole + b'\0' * 64))
    assert padded.shape == STRIPES.shape


def test_a_damaged_png_is_refused():
    whole = encode('.png', BGR)
    middle = whole.index(b'IDAT') + 8
    damaged = whole[:middle] + bytes([whole[middle] ^ 255]) + whole[middle + 1:]
    with pytest.raises(MessageError, match='damaged'):
        decode_rgb(Rosbags().compressed('png', damaged))


def test_files_without_a_size_or_wider_than_cv2_takes_are_refused():
    jpeg, whole = encode('.jpg', BGR), encode('.png', BGR)
    for data, said in ((jpeg.replace(b'\xff\xc0', b'\xff\xe5'), 'its size'),
                       (whole[:8] + whole[-12:] + whole[8:], 'needed is one IHDR'),
                       (whole[:33] + whole[8:], 'needed is one IHDR'),
                       (png(2_000_000, 1), '2000000 x 1')):
        with pytest.raises(MessageError, match=said):
            decode_rgb(Rosbags().compressed('', data))


def test_fill_bytes_between_jpeg_markers_are_skipped():
    jpeg = encode('.jpg', BGR).replace(b'\xff\xc0', b'\xff\xff\xff\xc0')
    assert decode_rgb(Rosbags().compressed('jpeg', jpeg)).shape == STRIPES.shape


def test_an_exception_of_cv2_becomes_a_message_error(monkeypatch):
    def out_of_memory(*args):
        raise cv2.error('Insufficient memory')
    monkeypatch.setattr(cv2, 'imdecode', out_of_memory)
    with pytest.raises(MessageError, match='32 x 16 pixels: Insufficient memory'):
        decode_rgb(Rosbags().compressed('png', encode('.png', BGR)))


def jpeg_of_size(width, height):
    """Return a small JPEG whose header announces this size."""
    data = bytearray(encode('.jpg', BGR))
    struct.pack_into('>HH', data, data.index(b'\xff\xc0') + 5, height, width)
    return bytes(data)


@pytest.mark.parametrize('data, size', [
    (jpeg_of_size(65500, 65500), '65500 x 65500'), (png(60_000, 60_000), '60000 x 60000'),
    (png(2**31 - 1, 2**31 - 1, 16, 6), '2147483647 x 2147483647'), (png(0, 9), '0 x 9'),
    (png(MAX_PIXELS + 1, 1), f'{MAX_PIXELS + 1} x 1')])
def test_a_file_that_announces_gigabytes_is_refused_before_it_is_decoded(
        monkeypatch, data, size):
    monkeypatch.setattr(cv2, 'imdecode', lambda *args: pytest.fail('decoded'))
    for text, start in (('', b''), ('16UC1; compressedDepth', bytes(12))):
        with pytest.raises(MessageError, match=f'^data: width x height is {size}.*at most'):
            decode_x(Rosbags().compressed(text, start + data))


def frame_control(number, width, height):
    return chunk(b'fcTL', struct.pack('>5IHHBB', number, width, height, 0, 0, 1, 1, 0, 0))


def test_of_an_animated_png_the_still_picture_alone_reaches_cv2(monkeypatch):
    # OpenCV 4.11 dies of a segmentation fault where a frame is larger than the picture.
    rows = b''.join(b'\0' + row.tobytes() for row in STRIPES)
    data = png(32, 16, 8, 2, rows, [
        chunk(b'tEXt', b'Comment\0shot'), chunk(b'acTL', struct.pack('>II', 2, 0)),
        frame_control(0, 60_000, 60_000)], [
        frame_control(1, 60_000, 60_000), chunk(b'fdAT', bytes(4) + zlib.compress(rows))])
    decode = cv2.imdecode

    def checked(file, flags):
        assert file.tobytes() == png(32, 16, 8, 2, rows)
        return decode(file, flags)
    monkeypatch.setattr(cv2, 'imdecode', checked)
    assert np.array_equal(decode_rgb(Rosbags().compressed('png', data)), STRIPES)


@pytest.mark.parametrize('data, said', [
    (png(4, 4, before=[chunk(b'tEXt', b'')] * 60_000), 'more than 50000 chunks'),
    (b'\xff\xd8' + b'\xff\xe0\0\2' * 500_000 + b'\xff\xd9', 'truncated or damaged'),
    (b'\xff\xd8' + b'\xff' * 5_000_000, 'truncated or damaged'),
    (encode('.jpg', BGR)[:-2] + b'\xff\xda\0\2' * 200 + b'\xff\xd9', 'more than 100 scans')],
    ids=['chunks', 'segments', 'fill', 'scans'])
def test_a_file_of_countless_parts_is_refused_in_no_time(data, said):
    started = cv2.getTickCount()
    with pytest.raises(MessageError, match=said):
        decode_rgb(Rosbags().compressed('', data))
    assert (cv2.getTickCount() - started) / cv2.getTickFrequency() < 1.0


GREED = """
import sys, types
from rgbx_seg_ros import errors
from rgbx_seg_ros.messages import images
decode = getattr(images, sys.argv[1])
message = types.SimpleNamespace(format='', data=sys.stdin.buffer.read())
def peak():
    return int(open('/proc/self/status').read().partition('VmHWM:')[2].split()[0])
before = peak()
try:
    decode(message)
except errors.MessageError:
    pass
print((peak() - before) * 1024)
"""


def greed(decode, data):
    """Return the bytes that decoding adds to the memory of a process that does nothing else."""
    done = subprocess.run([sys.executable, '-c', GREED, decode.__name__], input=data, check=True,
                          capture_output=True, timeout=120)
    return int(done.stdout)


@pytest.mark.parametrize('decode', [decode_rgb, decode_x])
def test_decoding_takes_no_more_than_20_bytes_of_memory_a_pixel(decode):
    # 8 bytes a pixel, the most that a PNG has, and compressed to a thousandth.
    side = 2000
    data = png(side, side, 16, 6, bytes((1 + 8 * side) * side))
    assert len(data) < 64_000
    assert 8 * side**2 < greed(decode, data) < 20 * side**2


def test_a_large_size_costs_no_memory_before_it_is_refused():
    for data in (png(60_000, 60_000), jpeg_of_size(65500, 65500)):
        assert greed(decode_rgb, data) < 20e6
