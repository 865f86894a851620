# Copyright 2026 rgbx_seg_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""Whatever is in a message: it becomes what was promised, or an error that names the field."""

from datetime import timedelta
import random
import re
import struct
from types import SimpleNamespace
import warnings
import zlib

from hypothesis import example, given, settings
from hypothesis import strategies as st
import numpy as np
import pytest
from rgbx_seg_ros.errors import MessageError, ParameterError
from rgbx_seg_ros.messages import compressed
from rgbx_seg_ros.messages.images import decode_rgb, decode_x, ENCODINGS, raw_pixels, stamp_ns
from rgbx_seg_ros.registration.warp import Camera
from support.message_flavours import bags_header, encode, STORE, TYPES

FIELDS = re.compile(r'(height|width|step|encoding|is_bigendian|data|format|sec|nanosec)\b')
MAX_PIXELS = 40_000
UINT32 = st.one_of(
    st.integers(0, 40), st.integers(0, 2**32 - 1),
    # Sizes below zero, as they arrive in an unsigned field, and the borders of its types.
    st.sampled_from([2**31 - 1, 2**31, 2**32 - 1, 2**32 - 480, 65_535, 65_536]))
TEXT = st.one_of(
    st.sampled_from([*ENCODINGS, 'nv21', 'rgb8 ', 'RGB8', 'bayer_', '16UC', 'mono', '8UC1;', '0']),
    st.text(max_size=20), st.sampled_from(['ü8', 'rgb８', '\0', '\ud800', '🚗' * 5000, 'a\nb']))
FLOODS = [b'\xff', b'\0', b'\x7f', np.float32(np.nan).tobytes(), np.float32(np.inf).tobytes()]
fuzz = settings(max_examples=400, deadline=timedelta(seconds=5), derandomize=True)


@pytest.fixture(autouse=True, scope='module')
def small_pictures():
    """Set the largest size so low that examples near to it are quick."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(compressed, 'MAX_PIXELS', MAX_PIXELS)
        yield


def outcome(function, msg):
    """Return what came out, or None after a MessageError; anything else fails the test."""
    with warnings.catch_warnings():
        warnings.simplefilter('error')
        try:
            return function(msg)
        except MessageError as error:
            text = str(error)
            assert FIELDS.match(text), text
            assert len(text) < 1500 and '\n' not in text
            return None


def check(msg):
    """Assert what is promised of everything that comes out of `msg`; return RGB and X."""
    seen, rgb, x = (outcome(function, msg) for function in (raw_pixels, decode_rgb, decode_x))
    for pixels in (rgb, x):
        if pixels is None:
            continue
        assert seen is not None
        assert pixels.flags.aligned and pixels.dtype.isnative
        assert 0 < pixels.shape[0] * pixels.shape[1] <= MAX_PIXELS
        assert len(pixels.tobytes()) == pixels.nbytes  # every pixel can be read
    assert rgb is None or (rgb.dtype == np.uint8 and rgb.ndim == 3 and rgb.shape[2] == 3)
    assert x is None or (x.dtype in (np.uint8, np.uint16, np.float32)
                         and (x.ndim == 2 or (x.ndim == 3 and 2 <= x.shape[2] <= 4)))
    return rgb, x


# ---------------------------------------------------------------- Image


def packed(encoding, height, width, padding, big):
    """Return the fields of a good image."""
    known = ENCODINGS.get(encoding, ENCODINGS['rgb8'])
    step = width * known.channels * np.dtype(known.dtype).itemsize + padding
    return {'encoding': encoding, 'height': height, 'width': width, 'step': step,
            'is_bigendian': int(big)}


GOOD = st.builds(packed, st.sampled_from(list(ENCODINGS)), st.integers(1, 12), st.integers(1, 12),
                 st.integers(0, 7), st.booleans())
WRONG = st.fixed_dictionaries({}, optional={
    'height': UINT32, 'width': UINT32, 'step': UINT32, 'encoding': TEXT,
    'is_bigendian': st.integers(0, 255)})
# How much of the data that the good fields need is there, and what it is.
DATA = st.tuples(st.sampled_from([1.0, 1.0, 1.0, 1.5, 0.0, 0.5]), st.integers(-3, 3),
                 st.one_of(st.sampled_from(FLOODS), st.binary(min_size=1, max_size=64)))


def content(good, data):
    share, more, pattern = data
    size = max(0, round(good['height'] * good['step'] * share) + more * (share != 1.0))
    return (pattern * (size // len(pattern) + 1))[:size]


@fuzz
@given(GOOD, WRONG, DATA)
@example(packed('32FC1', 9, 9, 0, False), {}, (1.0, 0, FLOODS[3]))
@example(packed('16UC1', 9, 9, 1, True), {}, (1.0, 0, b'\1'))
def test_any_image_becomes_pixels_of_its_size_or_an_error_that_names_the_field(good, wrong, data):
    fields = {**good, **wrong}
    raw = np.frombuffer(content(good, data), np.uint8)
    msg = TYPES['sensor_msgs/msg/Image'](header=bags_header(), data=raw, **fields)
    if fields['encoding'].isprintable():  # over the wire, where the alignment is another
        msg = STORE.deserialize_cdr(
            STORE.serialize_cdr(msg, 'sensor_msgs/msg/Image'), 'sensor_msgs/msg/Image')
    rgb, x = check(msg)
    for pixels in (rgb, x):
        assert pixels is None or pixels.shape[:2] == (fields['height'], fields['width'])
    odd = good['width'] % 2 or good['width'] < 3 or good['height'] < 3
    if not wrong and data[0] >= 1 and not odd:
        encoding = ENCODINGS[good['encoding']]
        assert (rgb is None) == (encoding.to_rgb is None)
        assert (x is None) == (encoding.dtype[0] == 'i')


@fuzz
@given(st.fixed_dictionaries({}, optional={
    name: st.one_of(st.none(), st.integers(), st.floats(), st.text(max_size=9), st.just(bytes(99)),
                    st.lists(st.integers(), max_size=3), st.just(memoryview(bytes(99))[::2]))
    for name in ('height', 'width', 'step', 'encoding', 'is_bigendian', 'data', 'format')}))
def test_any_type_in_any_field_gives_an_error_that_names_the_field(wrong):
    check(SimpleNamespace(**{**packed('rgb8', 3, 4, 0, False), 'data': bytes(36), **wrong}))


@fuzz
@given(st.integers(-2**31, 2**31 - 1), st.integers(0, 2**32 - 1))
def test_any_stamp_is_nanoseconds(sec, nanosec):
    stamp = SimpleNamespace(sec=sec, nanosec=nanosec)
    assert stamp_ns(SimpleNamespace(stamp=stamp)) == sec * 10**9 + nanosec
    assert outcome(stamp_ns, SimpleNamespace(stamp=SimpleNamespace(sec=sec))) is None
    assert outcome(stamp_ns, SimpleNamespace()) is None


# ---------------------------------------------------------------- CompressedImage

NOISE = np.random.default_rng(0).integers(0, 256, (16, 24, 4), np.uint8)
DEEP = NOISE.astype(np.uint16) * 257
JPEGS = [encode('.jpg', NOISE[..., :3]), encode('.jpg', NOISE[..., 0]),
         encode('.jpg', NOISE[..., :3], 2, 1), encode('.jpg', NOISE[..., :3], 4, 1)]
PNGS = [encode('.png', pixels)
        for pixels in (NOISE, NOISE[..., :3], NOISE[..., 0], DEEP[..., :3], DEEP[..., 0])]
FORMATS = st.one_of(TEXT, st.sampled_from([
    'jpeg', 'png', 'rgb8; jpeg compressed bgr8', 'rgb8; png compressed rgb8', 'mono8; png',
    '8UC2; png', '8UC4; png', '16UC1; png compressed ', '16SC1; png', 'bayer_rggb8; png',
    'bayer_rggb16; jpeg', '16UC1; compressedDepth', 'mono16; compressedDepth png',
    '32FC1; compressedDepth png', 'compressedDepth', ';;', 'bayer_ü; png']))


def damaged(file, changes, kept):
    """Return the first part of a file, with random bytes in it; most stand in its header."""
    data = bytearray(file[:max(1, round(len(file) * kept))])
    for seed in changes:
        draw = random.Random(seed)
        place = draw.randrange(max(1, min(len(data), draw.choice([60, 700, 9**9]))))
        data[place:place + 1] = draw.randbytes(draw.choice([0, 1, 1, 1, 4]))
    return bytes(data)


CHANGES = st.lists(st.integers(0, 2**32), max_size=5)
KEPT = st.one_of(st.just(1.0), st.just(1.0), st.floats(0, 1))
JPEG = st.builds(damaged, st.sampled_from(JPEGS), CHANGES, KEPT)


def chunk(kind, content):
    return (struct.pack('>I', len(content)) + kind + content
            + struct.pack('>I', zlib.crc32(kind + content)))


def assembled(header, chunks):
    """Return a PNG with the right checksums, whatever it says."""
    return b''.join((b'\x89PNG\r\n\x1a\n', chunk(b'IHDR', header),
                     *(chunk(*one) for one in chunks), chunk(b'IEND', b'')))


IHDR = st.one_of(st.binary(max_size=30), st.builds(
    lambda *values: struct.pack('>IIBBBBB', *values), UINT32, UINT32,
    st.sampled_from([1, 2, 4, 8, 16, 3, 255]), st.sampled_from([0, 2, 3, 4, 6, 1, 255]),
    st.sampled_from([0, 0, 0, 1]), st.sampled_from([0, 0, 0, 1]), st.integers(0, 2)))
CHUNKS = st.lists(st.one_of(
    st.tuples(st.just(b'IDAT'), st.one_of(
        st.binary(max_size=60), st.builds(lambda size: zlib.compress(bytes(size)),
                                          st.integers(0, 20_000)))),
    st.tuples(st.sampled_from([b'PLTE', b'tRNS', b'acTL', b'fcTL', b'fdAT', b'eXIf', b'iCCP',
                               b'zTXt', b'gAMA', b'IHDR', b'IEND', b'\xff\0zz']),
              st.binary(max_size=60))), max_size=6)
PNG = st.one_of(st.builds(damaged, st.sampled_from(PNGS), CHANGES, KEPT),
                st.builds(assembled, IHDR, CHUNKS))
DEPTH = st.builds(
    lambda head, a, b, file: struct.pack('<iff', head, a, b) + file,
    st.integers(-2**31, 2**31 - 1), st.floats(width=32), st.floats(width=32), PNG)


@settings(fuzz, max_examples=1500)
@given(FORMATS, st.one_of(JPEG, PNG, DEPTH, st.binary(max_size=90)))
def test_any_compressed_image_becomes_a_bounded_picture_or_an_error_that_names_the_field(
        text, data):
    check(SimpleNamespace(format=text, data=data))


@pytest.mark.parametrize('file', [*JPEGS, *PNGS])
def test_the_files_that_are_damaged_here_are_good(file):
    rgb, x = check(SimpleNamespace(format='', data=file))
    assert rgb.shape == (16, 24, 3) and x.shape[:2] == (16, 24)


# ---------------------------------------------------------------- CameraInfo

NUMBER = st.one_of(st.floats(width=64), st.floats(-1, 1), st.sampled_from([0.0, 1.0, 1e300]))
PLAIN = [500.0, 0.0, 320.0, 0.0, 500.0, 240.0, 0.0, 0.0, 1.0]


def camera_info(size, k, d, model, roi):
    region = TYPES['sensor_msgs/msg/RegionOfInterest'](0, 0, *roi, False)
    return TYPES['sensor_msgs/msg/CameraInfo'](
        bags_header(), *size, model, np.array(d), np.array(k), np.eye(3).ravel(),
        np.insert(np.array(k), (3, 6, 9), 0.0), 0, 0, region)


@settings(fuzz, max_examples=300)
@given(st.tuples(UINT32, UINT32) | st.just((480, 640)),
       st.lists(NUMBER, min_size=9, max_size=9) | st.just(PLAIN), st.lists(NUMBER, max_size=14),
       st.sampled_from(['plumb_bob', 'equidistant', 'rational_polynomial', '']) | TEXT,
       st.just((0, 0)) | st.tuples(UINT32, UINT32), st.booleans())
def test_any_camera_info_becomes_a_camera_or_an_error_that_names_the_topic(
        size, k, d, model, roi, rectified):
    with warnings.catch_warnings():
        warnings.simplefilter('error')
        try:
            camera = Camera.from_info('x', camera_info(size, k, d, model, roi), rectified)
        except ParameterError as error:
            assert str(error).startswith('x/camera_info') and '\n' not in str(error)
            return
        rays = camera.rays(np.array([[0.0, 0.0], [320.0, 240.0], [1e6, -1e6]]))
        pixels = camera.pixels(np.array([[0.0, 0.0, 1.0], [1.0, 2.0, -1.0], [9.0, 9.0, 1.0]]))
    assert rays.shape == (3, 3) and pixels.shape == (3, 2)
