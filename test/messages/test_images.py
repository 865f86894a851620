# Copyright 2026 rgbx_seg_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""Raw images: every encoding, both message flavours, and everything that can be wrong."""

from array import array
import re
import sys
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest
from rgbx_seg_ros.errors import MessageError
from rgbx_seg_ros.messages.images import decode_rgb, decode_x, ENCODINGS, stamp_ns, to_image
from support.message_flavours import (
    bags_header,
    FLAVOURS,
    image,
    needs_ros,
    Ros,
    Rosbags,
    STORE,
    TYPES,
)

H, W = 6, 10
LOW_BYTE = 200
RNG = np.random.default_rng(0)
RGB = RNG.integers(0, 256, (H, W, 3), np.uint8)
PICTURES = [name for name, encoding in ENCODINGS.items() if encoding.to_rgb is not None]
DATA = [name for name in ENCODINGS if name[0].isdigit() or name.startswith('mono')]
X_DATA = [name for name in DATA if 'SC' not in name]


@pytest.fixture(params=FLAVOURS)
def flavour(request):
    return request.param()


def random_pixels(encoding, height=H, width=W):
    dtype, channels, _ = ENCODINGS[encoding]
    pixels = RNG.integers(0, 256, (height, width, channels * int(dtype[1])), np.uint8)
    pixels = pixels.view(dtype)
    if dtype == 'f4':
        pixels = RNG.normal(size=pixels.shape).astype(np.float32)
    return pixels[..., 0] if channels == 1 else pixels


def stored_picture(encoding):
    """Return how a camera stores a picture in `encoding`, and its RGB by the letters' meaning."""
    if encoding[:2] in ('yu', 'uy'):
        return stored_yuv(encoding)
    name, bits = re.fullmatch(r'(.*?)(8|16)', encoding.replace('UC1', '').replace('UC3', '')
                              ).groups()
    name = {'8UC1': 'mono', '8UC3': 'bgr'}.get(encoding, name)
    rgb = RGB
    if name == 'mono':
        rgb = np.stack([RGB[..., 0]] * 3, -1)
        stored = RGB[..., 0]
    elif name.startswith('bayer_'):
        rgb = np.full_like(RGB, (200, 100, 50))
        color = dict(zip('rgb', (200, 100, 50), strict=True))
        tile = np.array([color[letter] for letter in name[6:]], np.uint8).reshape(2, 2)
        stored = np.tile(tile, (H // 2, W // 2))
    else:
        planes = {**dict(zip('rgb', np.moveaxis(RGB, -1, 0), strict=True)),
                  'a': np.full((H, W), 7, np.uint8)}
        stored = np.stack([planes[letter] for letter in name], -1)
    # The lower byte of 16 bits must not matter, not even to round up.
    return (stored if bits == '8' else stored.astype(np.uint16) * 256 + LOW_BYTE), rgb


def stored_yuv(encoding):
    y = RNG.integers(40, 200, (H, W)).astype(float)
    u, v = (RNG.integers(100, 156, (H, W // 2)).astype(float) for _ in 'uv')
    chroma = np.stack([u, v], -1).reshape(H, W)
    planes = (chroma, y) if encoding in ('yuv422', 'uyvy') else (y, chroma)
    u, v = np.repeat(u, 2, 1) - 128, np.repeat(v, 2, 1) - 128
    luma = 255 / 219 * (y - 16)
    # ITU-R BT.601 with Kr = 0.299 and Kb = 0.114, chroma from 16 to 240.
    red = luma + 255 / 224 * 1.402 * v
    green = luma - 255 / 224 * (0.114 * 1.772 / 0.587 * u + 0.299 * 1.402 / 0.587 * v)
    blue = luma + 255 / 224 * 1.772 * u
    return np.stack(planes, -1).astype(np.uint8), np.clip(np.stack([red, green, blue], -1), 0, 255)


@pytest.mark.parametrize('big', [False, True], ids=['little', 'big'])
@pytest.mark.parametrize('padding', [0, 6])
@pytest.mark.parametrize('encoding', PICTURES)
def test_every_picture_encoding_comes_out_as_rgb(flavour, encoding, padding, big):
    stored, rgb = stored_picture(encoding)
    decoded = decode_rgb(image(flavour, stored, encoding, padding, big))
    assert decoded.dtype == np.uint8 and decoded.shape == (H, W, 3)
    assert encoding == 'rgb8' or decoded.flags.c_contiguous and decoded.flags.writeable
    tolerance = 1.5 if ENCODINGS[encoding].channels == 2 else 0
    assert np.abs(decoded.astype(float) - rgb).max() <= tolerance


@pytest.mark.parametrize('big', [False, True], ids=['little', 'big'])
@pytest.mark.parametrize('padding', [0, 3, 8])
@pytest.mark.parametrize('encoding', X_DATA)
def test_every_x_encoding_comes_out_as_stored(flavour, encoding, padding, big):
    pixels = random_pixels(encoding)
    decoded = decode_x(image(flavour, pixels, encoding, padding, big))
    assert decoded.dtype == pixels.dtype and decoded.dtype.isnative
    assert decoded.flags.aligned
    np.testing.assert_array_equal(decoded, pixels)


@pytest.mark.parametrize('encoding', [name for name in PICTURES if name not in DATA])
def test_x_that_names_its_colours_comes_out_as_rgb_at_its_depth(flavour, encoding):
    stored, rgb = stored_picture(encoding)
    decoded = decode_x(image(flavour, stored, encoding))
    assert decoded.dtype == stored.dtype
    expected = rgb if stored.dtype == np.uint8 else rgb.astype(np.uint16) * 256 + LOW_BYTE
    assert np.abs(decoded.astype(float) - expected).max() <= 1.5


@pytest.mark.parametrize('decode, encodings, said', [
    (decode_rgb, ['16UC1', '32FC1', '8UC2', '8UC4', '16SC1'], 'not a colour picture.*rgb8'),
    (decode_x, ['16SC1', '32SC1'], '16UC1 or 32FC1')])
def test_data_without_colours_and_signed_x_are_refused(flavour, decode, encodings, said):
    for encoding in encodings:
        with pytest.raises(MessageError, match=f'{encoding}.*{said}'):
            decode(image(flavour, random_pixels(encoding), encoding))


@pytest.mark.parametrize('padding', [0, 5])
def test_rgb8_and_one_byte_x_are_views_also_with_padded_rows(flavour, padding):
    msg = image(flavour, RGB, 'rgb8', padding)
    assert np.shares_memory(decode_rgb(msg), np.frombuffer(msg.data, np.uint8))
    msg = image(flavour, RGB[..., 0], 'mono8', padding)
    assert np.shares_memory(decode_x(msg), np.frombuffer(msg.data, np.uint8))


@needs_ros
@pytest.mark.parametrize('encoding', ['mono16', '16UC1', '32FC1'])
def test_aligned_little_endian_x_is_a_view(encoding):
    msg = image(Ros(), random_pixels(encoding), encoding, 8)
    assert np.shares_memory(decode_x(msg), np.frombuffer(msg.data, np.uint8))


@pytest.mark.parametrize('more', [1, 5, 30, 300])
def test_whole_rows_and_some_bytes_more_than_needed_are_accepted(flavour, more):
    data = RGB.tobytes() + b'\0' * more
    assert np.array_equal(decode_rgb(image(flavour, RGB, 'rgb8', data=data)), RGB)


@pytest.mark.parametrize('lines', [6, 7, 16])
@pytest.mark.parametrize('padding', [1, 6, 34])
def test_rows_that_are_longer_than_step_says_are_not_taken_for_a_slanted_picture(
        flavour, padding, lines):
    data = bytes(lines * (30 + padding))
    with pytest.raises(MessageError, match='bytes behind its rows, no number of rows of step 30'):
        decode_rgb(image(flavour, RGB, 'rgb8', data=data))


@pytest.mark.parametrize('wrong, said', [
    ({'data': bytes(179)}, r'data has 179 bytes, step\*height needs 180'),
    ({'data': b''}, 'data is empty'),
    ({'step': 29}, r'step is 29, .* needs width\*3 = 30 bytes'),
    ({'step': 2**32 - 1}, 'data has 180 bytes, .* needs 25769803770'),
    ({'height': 0}, 'width x height is 10 x 0'),
    ({'width': 0}, 'width x height is 0 x 6'),
    ({'width': 2**32 - 1, 'height': 2**32 - 1}, 'at most 50000000 pixels'),
    ({'height': 7}, 'data has 180 bytes'),
    ({'encoding': 'rgb9'}, "encoding is 'rgb9'.*rgb8.*cv-bridge"),
    ({'encoding': ''}, "encoding is ''"),
    ({'encoding': 'Fähre\n' * 10_000}, r"^encoding is 'Fähre\\nFähre.{0,250}\.\.\..{0,1000}$"),
])
@pytest.mark.parametrize('decode', [decode_rgb, decode_x])
def test_a_malformed_image_is_refused_naming_the_field(flavour, decode, wrong, said):
    with pytest.raises(MessageError, match=said):
        decode(image(flavour, RGB, 'rgb8', **wrong))


@pytest.mark.parametrize('field, value', [
    ('width', -1), ('height', -6), ('step', -30), ('width', 1.5), ('is_bigendian', None),
    ('data', None), ('data', [1, 2]), ('data', 'text'), ('encoding', 8), ('format', None)])
def test_a_field_of_the_wrong_type_is_refused_by_name(field, value):
    fields = {**vars(image(Rosbags(), RGB, 'rgb8')), field: value}
    with pytest.raises(MessageError, match=field):
        decode_rgb(SimpleNamespace(**fields))


def test_yuv_of_odd_width_and_tiny_bayer_are_refused(flavour):
    with pytest.raises(MessageError, match='width is 3.*even'):
        decode_rgb(image(flavour, np.zeros((2, 3, 2), np.uint8), 'yuyv'))
    with pytest.raises(MessageError, match='2 x 2.*needs 3 x 3'):
        decode_rgb(image(flavour, np.zeros((2, 2), np.uint8), 'bayer_rggb8'))


def test_an_encoding_not_covered_goes_to_cv_bridge(monkeypatch):
    msg = image(Rosbags(), RGB, 'nv24')
    bridge = ModuleType('cv_bridge')
    monkeypatch.setitem(sys.modules, 'cv_bridge', None)
    monkeypatch.setenv('ROS_DISTRO', 'jazzy')
    with pytest.raises(MessageError, match="'nv24'.*rgb8.*apt install ros-jazzy-cv-bridge"):
        decode_rgb(msg)
    monkeypatch.setitem(sys.modules, 'cv_bridge', bridge)
    asked = []
    answer = RGB.copy()
    bridge.CvBridge = lambda: SimpleNamespace(
        imgmsg_to_cv2=lambda *args: (asked.append(args), answer)[1])
    assert decode_rgb(msg) is answer and decode_x(msg) is answer
    assert asked[0][1] == 'rgb8'
    with pytest.raises(MessageError, match='big-endian'):
        decode_rgb(image(Rosbags(), RGB, 'nv24', 0, True))
    answer = RGB[:3]
    with pytest.raises(MessageError, match='cv_bridge returned uint8 of shape'):
        decode_rgb(msg)
    bridge.CvBridge = lambda: {}['type']
    with pytest.raises(MessageError, match='cv_bridge failed'):
        decode_rgb(msg)


@pytest.mark.parametrize('encoding', ENCODINGS)
def test_every_encoding_is_written_packed_and_read_back(encoding):
    pixels = random_pixels(encoding)
    msg = to_image(pixels, encoding, bags_header(), TYPES['sensor_msgs/msg/Image'])
    wire = STORE.serialize_cdr(msg, 'sensor_msgs/msg/Image')
    msg = STORE.deserialize_cdr(wire, 'sensor_msgs/msg/Image')
    assert (msg.height, msg.width, msg.encoding, msg.is_bigendian) == (H, W, encoding, 0)
    assert msg.step == W * pixels[0, 0].nbytes
    assert msg.data.tobytes() == pixels.astype(pixels.dtype.newbyteorder('<')).tobytes()
    assert stamp_ns(msg.header) == 12_000_000_345 and msg.header.frame_id == 'camera'
    if encoding in X_DATA:
        np.testing.assert_array_equal(decode_x(msg), pixels)


@needs_ros
@pytest.mark.parametrize('encoding', ['mono8', 'rgb8', '8UC1', '16UC1', '16SC1', '32SC1'])
def test_rclpy_gets_one_byte_array_and_the_same_header(encoding):
    from rclpy.serialization import deserialize_message, serialize_message
    from sensor_msgs.msg import Image
    header = Image().header
    header.stamp.sec, header.stamp.nanosec, header.frame_id = -1, 999_999_999, 'camera'
    pixels = random_pixels(encoding)
    msg = to_image(pixels, encoding, header)
    assert type(to_image(pixels, encoding, header, SimpleNamespace).data) is array
    assert msg.header == header and stamp_ns(msg.header) == -1
    again = deserialize_message(serialize_message(msg), Image)
    assert again == msg and again.data.tobytes() == pixels.tobytes()


@pytest.mark.parametrize('encoding, dtype', [
    ('mono8', 'u1'), ('8UC1', 'u1'), ('16UC1', 'u2'), ('16SC1', 'i2'), ('32SC1', 'i4')])
def test_a_mask_is_widened_to_the_label_encoding(encoding, dtype):
    mask = np.arange(256, dtype=np.uint8).reshape(8, 32).T
    msg = to_image(mask, encoding, bags_header(), TYPES['sensor_msgs/msg/Image'])
    assert np.array_equal(np.frombuffer(msg.data, f'<{dtype}').reshape(32, 8), mask)


@pytest.mark.parametrize('shape, dtype, encoding, said', [
    ((4, 5, 3), 'u1', 'mono8', r'shape is \(4, 5, 3\)'), ((4, 5), 'u1', 'rgb8', 'shape is'),
    ((5,), 'u1', 'mono8', 'shape is'), ((0, 5), 'u1', 'mono8', 'shape is'),
    ((4, 5), 'u2', 'mono8', 'dtype is uint16'), ((4, 5), 'i8', '32SC1', 'dtype is int64'),
    ((4, 5), 'u1', 'mono7', "encoding is 'mono7'.*mono8")])
def test_pixels_that_do_not_fit_the_encoding_are_not_written(shape, dtype, encoding, said):
    with pytest.raises(MessageError, match=said):
        to_image(np.zeros(shape, dtype), encoding, bags_header(), TYPES['sensor_msgs/msg/Image'])


def test_missing_sensor_msgs_are_named_with_their_apt_package(monkeypatch):
    monkeypatch.setitem(sys.modules, 'sensor_msgs.msg', None)
    monkeypatch.setenv('ROS_DISTRO', 'humble')
    with pytest.raises(MessageError, match='apt install ros-humble-sensor-msgs'):
        to_image(RGB, 'rgb8', None)


@pytest.mark.parametrize('bits', [8, 10, 12, 14, 16])
def test_of_16_bits_the_upper_8_of_those_that_count_are_kept(bits):
    wanted = np.arange(12, dtype=np.uint16).reshape(2, 2, 3) * 21
    pixels = wanted << (bits - 8) | (1 << (bits - 8)) - 1
    assert np.array_equal(decode_rgb(image(Rosbags(), pixels, 'rgb16'), bits), wanted)
    pixels[0, 0] = 65535
    assert (decode_rgb(image(Rosbags(), pixels, 'rgb16'), bits)[0, 0] == 255).all()
