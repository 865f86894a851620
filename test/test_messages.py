# Copyright 2026 rgbx_seg_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""Image messages: every encoding, both message flavours, and everything that can be wrong."""

from array import array
import random
import re
import struct
import sys
from types import ModuleType, SimpleNamespace
import zlib

import cv2
from hypothesis import given, settings
from hypothesis import strategies as st
import numpy as np
import pytest
from rgbx_seg_ros import messages
from rgbx_seg_ros.errors import MessageError
from rgbx_seg_ros.messages import decode_rgb, decode_x, ENCODINGS, stamp_ns, to_image
from rosbags.typesys import get_typestore, Stores

try:
    from rclpy.serialization import deserialize_message, serialize_message
    import sensor_msgs.msg as ros
except ImportError:
    ros = None

needs_ros = pytest.mark.skipif(ros is None, reason='sensor_msgs and rclpy are not installed')
STORE = get_typestore(Stores.ROS2_JAZZY)
TYPES = STORE.types
H, W = 6, 10
LOW_BYTE = 200
RNG = np.random.default_rng(0)
RGB = RNG.integers(0, 256, (H, W, 3), np.uint8)
PICTURES = [name for name, encoding in ENCODINGS.items() if encoding.to_rgb is not None]
DATA = [name for name in ENCODINGS if name[0].isdigit() or name.startswith('mono')]
X_DATA = [name for name in DATA if 'SC' not in name]


def bags_header():
    time = TYPES['builtin_interfaces/msg/Time'](sec=12, nanosec=345)
    return TYPES['std_msgs/msg/Header'](stamp=time, frame_id='camera')


class Rosbags:
    """Messages as the rosbags library reads them: the data are a read-only array."""

    def image(self, **fields):
        data = np.frombuffer(fields.pop('data'), np.uint8)
        return TYPES['sensor_msgs/msg/Image'](header=bags_header(), data=data, **fields)

    def compressed(self, text, data):
        return TYPES['sensor_msgs/msg/CompressedImage'](
            header=bags_header(), format=text, data=np.frombuffer(data, np.uint8))


class Ros:
    """Messages of rclpy, as they come out of the wire."""

    def image(self, **fields):
        msg = ros.Image(**{**fields, 'data': array('B', fields['data'])})
        return deserialize_message(serialize_message(msg), ros.Image)

    def compressed(self, text, data):
        msg = ros.CompressedImage(format=text, data=array('B', data))
        return deserialize_message(serialize_message(msg), ros.CompressedImage)


@pytest.fixture(params=[Rosbags, pytest.param(Ros, marks=needs_ros)])
def flavour(request):
    return request.param()


def image(flavour, pixels, encoding, padding=0, big=False, /, **wrong):
    """Write (H, W[, C]) the slow and obvious way, independent of to_image."""
    ordered = pixels.astype(pixels.dtype.newbyteorder('>' if big else '<'))
    rows = [row.tobytes() + b'\xee' * padding for row in ordered]
    fields = {'height': pixels.shape[0], 'width': pixels.shape[1], 'encoding': encoding,
              'is_bigendian': int(big), 'step': len(rows[0]), 'data': b''.join(rows)}
    return flavour.image(**{**fields, **wrong})


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


def test_more_data_than_needed_is_accepted(flavour):
    data = RGB.tobytes() + b'\0' * 1000
    assert np.array_equal(decode_rgb(image(flavour, RGB, 'rgb8', data=data)), RGB)


@pytest.mark.parametrize('wrong, said', [
    ({'data': bytes(179)}, r'data has 179 bytes, step\*height needs 180'),
    ({'data': b''}, 'data is empty'),
    ({'step': 29}, r'step is 29, .* needs width\*3 = 30 bytes'),
    ({'step': 2**32 - 1}, 'data has 180 bytes, .* needs 25769803770'),
    ({'height': 0}, 'width x height is 10 x 0'),
    ({'width': 0}, 'width x height is 0 x 6'),
    ({'width': 2**32 - 1, 'height': 2**32 - 1}, 'at most 100000000 pixels'),
    ({'height': 7}, 'data has 180 bytes'),
    ({'encoding': 'rgb9'}, "encoding is 'rgb9'.*rgb8.*cv-bridge"),
    ({'encoding': ''}, "encoding is ''"),
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


def encode(suffix, pixels):
    return cv2.imencode(suffix, pixels)[1].tobytes()


# Broad stripes, so that JPEG keeps the colours.
STRIPES = np.repeat(np.array([[(200, 40, 20), (10, 160, 90)]], np.uint8), 16, 1).repeat(16, 0)
BGR = STRIPES[..., ::-1]
DEPTH = RNG.integers(0, 2**16, (16, 32), np.uint16)


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
    deep = BGR.astype(np.uint16) * 256 + LOW_BYTE
    for text, pixels in (('png', BGR), ('rgba8; png compressed bgr8', alpha),
                         ('rgb16; png compressed bgr16', deep), ('8UC3; png compressed ', BGR)):
        msg = flavour.compressed(text, encode('.png', pixels))
        assert np.array_equal(decode_rgb(msg), STRIPES)
    grey = flavour.compressed('mono8; png compressed ', encode('.png', BGR[..., 0]))
    assert np.array_equal(decode_rgb(grey), np.stack([BGR[..., 0]] * 3, -1))


@pytest.mark.parametrize('encoding', ['bayer_grbg8', 'bayer_bggr16'])
def test_a_mosaic_stored_as_png_is_demosaiced(flavour, encoding):
    mosaic, rgb = stored_picture(encoding)
    msg = flavour.compressed(f'{encoding}; png compressed ', encode('.png', mosaic))
    assert np.array_equal(decode_rgb(msg), rgb)


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


@pytest.mark.parametrize('text, data, said', [
    ('16UC1; jpeg compressed ', encode('.jpg', BGR[..., 0]), '8 bits.*use png'),
    ('mono16; jpeg compressed mono8', encode('.jpg', BGR[..., 0]), '8 bits.*use png'),
    ('32FC1; jpeg', encode('.jpg', BGR[..., 0]), '8 bits.*use png'),
    ('16UC1; png compressed ', encode('.png', BGR[..., 0]), 'announces 1 .* uint16.*uint8'),
    ('mono8; png compressed ', encode('.png', BGR), 'announces 1 channel.*holds 3'),
    ('16UC1; compressedDepth rvl', bytes(50), 'rvl.*png'),
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
    jpeg, png = encode('.jpg', BGR), encode('.png', BGR)
    for data, said in ((jpeg.replace(b'\xff\xc0', b'\xff\xe5'), 'its size'),
                       (png[:8] + png[-12:] + png[8:], 'needed is IHDR'),
                       (encode_wide_png(2_000_000), '2000000 x 1')):
        with pytest.raises(MessageError, match=said):
            decode_rgb(Rosbags().compressed('', data))


def encode_wide_png(width):
    png = bytearray(encode('.png', BGR[:1]))
    struct.pack_into('>I', png, 16, width)
    struct.pack_into('>I', png, 29, zlib.crc32(png[12:29]))
    return bytes(png)


def test_fill_bytes_between_jpeg_markers_are_skipped():
    jpeg = encode('.jpg', BGR).replace(b'\xff\xc0', b'\xff\xff\xff\xc0')
    assert decode_rgb(Rosbags().compressed('jpeg', jpeg)).shape == STRIPES.shape


def test_an_exception_of_cv2_becomes_a_message_error(monkeypatch):
    def out_of_memory(*args):
        raise cv2.error('Insufficient memory')
    monkeypatch.setattr(cv2, 'imdecode', out_of_memory)
    with pytest.raises(MessageError, match='32 x 16 pixels: Insufficient memory'):
        decode_rgb(Rosbags().compressed('png', encode('.png', BGR)))


def test_a_file_that_announces_gigabytes_is_refused_before_it_is_decoded(monkeypatch):
    jpeg = bytearray(encode('.jpg', BGR))
    struct.pack_into('>HH', jpeg, jpeg.index(b'\xff\xc0') + 5, 65500, 65500)
    png = encode_wide_png(200_000_000)
    monkeypatch.setattr(cv2, 'imdecode', lambda *args: pytest.fail('decoded'))
    for data, size in ((jpeg, '65500 x 65500'), (png, '200000000 x 1')):
        with pytest.raises(MessageError, match=f'{size}.*at most'):
            decode_rgb(Rosbags().compressed('', bytes(data)))


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
    header = ros.Image().header
    header.stamp.sec, header.stamp.nanosec, header.frame_id = -1, 999_999_999, 'camera'
    pixels = random_pixels(encoding)
    msg = to_image(pixels, encoding, header)
    assert type(to_image(pixels, encoding, header, SimpleNamespace).data) is array
    assert msg.header == header and stamp_ns(msg.header) == -1
    again = deserialize_message(serialize_message(msg), ros.Image)
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


def outcome(decode, msg):
    """Return what came out, or None after a MessageError; anything else fails the test."""
    try:
        return decode(msg)
    except MessageError as error:
        assert len(str(error)) > 10
        return None


anything = st.one_of(st.integers(-2, 40), st.integers(), st.none(), st.floats(), st.text(),
                     st.binary(max_size=80), st.sampled_from(list(ENCODINGS)))


@settings(max_examples=500, deadline=None, derandomize=True)
@given(st.sampled_from(list(ENCODINGS)), st.integers(1, 9), st.integers(1, 9), st.integers(0, 5),
       st.booleans(), st.dictionaries(
           st.sampled_from(['height', 'width', 'step', 'encoding', 'is_bigendian', 'data']),
           anything, max_size=3))
def test_any_image_gives_a_message_error_or_an_array_of_the_announced_size(
        encoding, height, width, padding, big, wrong):
    msg = image(SimpleNamespace(image=SimpleNamespace), random_pixels(encoding, height, width),
                encoding, padding, big, **wrong)
    rgb, x = outcome(decode_rgb, msg), outcome(decode_x, msg)
    assert rgb is None or rgb.shape == (msg.height, msg.width, 3) and rgb.dtype == np.uint8
    assert x is None or x.shape[:2] == (msg.height, msg.width)
    if not wrong and min(height, width) > 2 and width % 2 == 0:
        assert (rgb is None) == (encoding not in PICTURES)
        assert (x is None) == (encoding in ('16SC1', '32SC1'))


FILES = [encode('.jpg', BGR), encode('.png', BGR), encode('.png', DEPTH),
         struct.pack('<iff', 0, 1, 0) + encode('.png', DEPTH)]
FORMATS = ['jpeg', 'png', 'rgb8; jpeg compressed bgr8', 'mono8; png', '16UC1; png compressed ',
           '16UC1; compressedDepth', '32FC1; compressedDepth png', 'bayer_rggb8; jpeg compressed ']


@settings(max_examples=500, deadline=None, derandomize=True)
@given(st.one_of(st.sampled_from(FORMATS), st.text(), anything), st.sampled_from(FILES),
       st.integers(0, 6), st.integers(0), st.floats(0, 1))
def test_any_compressed_image_gives_a_message_error_or_a_bounded_array(
        text, data, changes, seed, kept):
    draw = random.Random(seed)
    data = bytearray(data[:int(len(data) * kept)] if kept < 0.5 else data)
    for _ in range(changes if data else 0):
        data[draw.randrange(min(len(data), 800))] = draw.randrange(256)
    msg = SimpleNamespace(format=text, data=bytes(data))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(messages, 'MAX_PIXELS', 10_000)
        rgb, x = outcome(decode_rgb, msg), outcome(decode_x, msg)
    assert rgb is None or rgb.ndim == 3 and rgb.shape[2] == 3 and rgb.dtype == np.uint8
    assert x is None or x.shape[0] * x.shape[1] <= 10_000
