# Copyright 2026 rgbx_seg_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""
Turn sensor_msgs/Image and CompressedImage into numpy arrays and back.

Decoding reads attributes only, so it takes the messages of rclpy and those that the rosbags
library reads without ROS. Whatever is wrong with a message ends in a MessageError that names the
field, what was given and what is needed. cv_bridge is asked only for encodings not in ENCODINGS.
"""

from array import array
from collections.abc import Callable
from dataclasses import is_dataclass
import operator
import os
import reprlib
import struct
from typing import Any, NamedTuple

import cv2
import numpy as np
from rgbx_seg_ros.errors import MessageError
from rgbx_seg_ros.messages.compressed import check_size, decode_file, is_jpeg
from rgbx_seg_ros.messages.planar import check_rest, PLANAR, planar_to_rgb, split_rows
from rgbx_seg_ros.messages.rvl import decode_rvl

_SHORT = reprlib.Repr()
_SHORT.maxstring = _SHORT.maxother = 200
_IS_RGB = -1
_NO_COLOR = None


class Encoding(NamedTuple):
    """How an encoding stores a pixel and how RGB is made of it."""

    dtype: str
    """Kind and bytes of one channel as numpy writes them, without the byte order."""
    channels: int
    to_rgb: int | None
    """The cv2 conversion code; _IS_RGB: nothing to do; _NO_COLOR: not a picture."""


# OpenCV names a Bayer pattern after the second and third pixel of the second row, ROS after the
# first two rows: ROS rggb is OpenCV's BG.
_COLORS = {
    'rgb': (3, _IS_RGB),
    'bgr': (3, cv2.COLOR_BGR2RGB),
    'rgba': (4, cv2.COLOR_RGBA2RGB),
    'bgra': (4, cv2.COLOR_BGRA2RGB),
    'mono': (1, cv2.COLOR_GRAY2RGB),
    'bayer_rggb': (1, cv2.COLOR_BayerBG2RGB),
    'bayer_bggr': (1, cv2.COLOR_BayerRG2RGB),
    'bayer_gbrg': (1, cv2.COLOR_BayerGR2RGB),
    'bayer_grbg': (1, cv2.COLOR_BayerGB2RGB),
}

ENCODINGS = {
    **{f'{name}{8 * size}': Encoding(f'u{size}', *color)
       for size in (1, 2) for name, color in _COLORS.items()},
    'yuv422': Encoding('u1', 2, cv2.COLOR_YUV2RGB_UYVY),
    'uyvy': Encoding('u1', 2, cv2.COLOR_YUV2RGB_UYVY),
    'yuv422_yuy2': Encoding('u1', 2, cv2.COLOR_YUV2RGB_YUY2),
    'yuyv': Encoding('u1', 2, cv2.COLOR_YUV2RGB_YUY2),
    **{f'{name}C{channels}': Encoding(dtype, channels, _NO_COLOR)
       for name, dtype in (('8U', 'u1'), ('16U', 'u2'), ('32F', 'f4'))
       for channels in (1, 2, 3, 4)},
    '8UC1': Encoding('u1', 1, cv2.COLOR_GRAY2RGB),
    '8UC3': Encoding('u1', 3, cv2.COLOR_BGR2RGB),
    # Written as label images; neither a picture nor an X frame.
    '16SC1': Encoding('i2', 1, _NO_COLOR),
    '32SC1': Encoding('i4', 1, _NO_COLOR),
}
"""Every encoding that needs no cv_bridge."""


def stamp_ns(header: Any) -> int:
    """Return the stamp of a std_msgs/Header in nanoseconds."""
    stamp = getattr(header, 'stamp', None)
    return _integer(stamp, 'sec') * 1_000_000_000 + _integer(stamp, 'nanosec')


def decode_rgb(msg: Any, bits: int = 16) -> np.ndarray:
    """
    Return the picture in an Image or CompressedImage as (H, W, 3) uint8 in RGB order.

    rgb8 comes as a view of `msg.data`, with the padding of its rows as a stride; everything else
    is converted once into a new contiguous array. Of the lower `bits` that count in the values of
    16-bit pictures, 8 to 16, the upper 8 are kept; what is above them is white. 8UC1
    counts as grey and 8UC3 as BGR, as in cv_bridge. YUV is BT.601 with Y from 16 to 235. The
    orientation in a JPEG's EXIF is ignored: camera_info and X do not turn with it.
    """
    pixels, encoding = _load(msg)
    if ENCODINGS[encoding].to_rgb is _NO_COLOR:
        raise MessageError(
            f'encoding is {encoding!r}, which is not a colour picture: allowed are '
            f'{_names(lambda e: e.to_rgb is not _NO_COLOR)}; check that the topic is the camera')
    if pixels.dtype == np.uint16:
        if bits < 16:
            pixels = np.minimum(pixels, (1 << bits) - 1)
        upper = np.empty(pixels.shape, np.uint8)
        pixels = np.right_shift(pixels, bits - 8, out=upper, casting='unsafe')
    return _to_rgb(pixels, encoding)


def decode_x(msg: Any) -> np.ndarray:
    """
    Return the second modality in an Image or CompressedImage as it is stored.

    The array is (H, W) or (H, W, C) uint8, uint16 or float32 in native byte order: a view of
    `msg.data`, read-only where that is, unless the byte order or the alignment forbids it.
    Encodings that name colours (bgr8, bayer_*, yuv422, ...) come out as RGB, at their bit depth
    and without alpha; those that name only a type (8UC3, 16UC2, ...) keep the order of their
    channels. compressedDepth is read as 16UC1, or as 32FC1 with NaN for pixels without depth.
    """
    pixels, encoding = _load(msg, exact=True)
    if pixels.dtype not in (np.uint8, np.uint16, np.float32):
        raise MessageError(
            f'encoding is {encoding!r} ({pixels.dtype}): X takes uint8, uint16 and float32; '
            'publish it as 16UC1 or 32FC1')
    return _to_rgb(pixels, encoding) if _names_colors(encoding) else pixels


def raw_pixels(msg: Any) -> np.ndarray:
    """
    Return a view of what `msg` holds, (H, W[, C]); (bytes,) where only decoding finds the pixels.

    Raise MessageError unless its fields fit together. No pixel is read, so it costs nothing at the
    rate of a camera; what only decoding can tell, such as a damaged JPEG, is left to that.
    """
    if hasattr(msg, 'format'):
        _text(msg, 'format')
        return _data(msg)
    if _text(msg, 'encoding') in ENCODINGS:
        return _strided(msg, ENCODINGS[msg.encoding])
    if msg.encoding in PLANAR:
        return split_rows(*_planar(msg))[0]
    *_, data = _rows(msg)
    _cv_bridge(msg)
    return data


def to_image(pixels: np.ndarray, encoding: str, header: Any, image_class: Any = None) -> Any:
    """
    Return a sensor_msgs/Image with `pixels`, (H, W) or (H, W, C), and the given header.

    Rows are packed and little endian. Integers are widened where the encoding is wider (a uint8
    mask as 32SC1), never narrowed. `image_class` is sensor_msgs' Image, or rosbags' to work
    without ROS.
    """
    if encoding not in ENCODINGS:
        raise MessageError(f'encoding is {encoding!r}: allowed are {_names()}')
    channels = ENCODINGS[encoding].channels
    dtype = np.dtype(ENCODINGS[encoding].dtype).newbyteorder('<')
    if pixels.shape[2:] != _channel_axis(channels) or pixels.ndim < 2 or not pixels.size:
        raise MessageError(
            f'shape is {pixels.shape!r}: {encoding!r} needs (H, W{", C" * (channels > 1)}) '
            f'with {channels} channel(s) and at least one pixel')
    if not np.can_cast(pixels.dtype, dtype):
        raise MessageError(
            f'dtype is {pixels.dtype}, which does not fit into {encoding!r} ({dtype})')
    # One array.array filled at once: rclpy takes it as it is, but goes through an ndarray or a
    # list element by element (0.05 ms against 190 ms for VGA rgb8).
    data = array('B')
    data.frombytes(np.ascontiguousarray(pixels, dtype).reshape(-1).view(np.uint8).data)
    if image_class is None:
        image_class = _sensor_msgs_image()
    return image_class(
        header=header, height=pixels.shape[0], width=pixels.shape[1], encoding=encoding,
        is_bigendian=0, step=pixels.shape[1] * channels * dtype.itemsize,
        # The messages of rosbags are dataclasses and hold numpy arrays.
        data=np.frombuffer(data, np.uint8) if is_dataclass(image_class) else data)


def _sensor_msgs_image() -> Any:
    try:
        from sensor_msgs.msg import Image
    except ImportError as error:
        raise MessageError(
            f'sensor_msgs is not installed ({error}): apt install ros-{_distro()}-sensor-msgs, '
            'or source the ROS distribution') from error
    return Image


def _load(msg: Any, exact: bool = False) -> tuple[np.ndarray, str]:
    """
    Return the stored pixels and the name in ENCODINGS that tells how they are stored.

    `exact` refuses values of which bits are lost, also those of colours.
    """
    if hasattr(msg, 'format'):
        return _decompress(msg, exact)
    encoding = _text(msg, 'encoding')
    if encoding in ENCODINGS:
        return _view(msg, ENCODINGS[encoding]), encoding
    if encoding in PLANAR:
        return planar_to_rgb(*_planar(msg)), 'rgb8'
    return _by_cv_bridge(msg), 'rgb8'


def _view(msg: Any, encoding: Encoding) -> np.ndarray:
    """Return (H, W[, C]) over `msg.data`; a copy only to mend byte order or alignment."""
    pixels = _strided(msg, encoding)
    pixels = pixels.astype(pixels.dtype.newbyteorder('='), copy=False)
    # An odd step or a buffer that starts at an odd address: torch and ARM refuse such a view.
    return pixels if pixels.flags.aligned else pixels.copy()


def _strided(msg: Any, encoding: Encoding) -> np.ndarray:
    """Return (H, W[, C]) over `msg.data`, in the byte order and alignment it has."""
    height, width, step, data = _rows(msg)
    dtype = np.dtype(encoding.dtype).newbyteorder('>' if _integer(msg, 'is_bigendian') else '<')
    pixel_bytes = encoding.channels * dtype.itemsize
    if step < width * pixel_bytes:
        raise MessageError(
            f'step is {step}, a row of {msg.encoding!r} needs width*{pixel_bytes} = '
            f'{width * pixel_bytes} bytes')
    check_rest(data.size - step * height, height, step)
    channel_axis = _channel_axis(encoding.channels)
    return np.ndarray(
        (height, width, *channel_axis), dtype, data,
        strides=(step, pixel_bytes, dtype.itemsize)[:2 + len(channel_axis)])


def _planar(msg: Any) -> tuple[str, int, int, int, np.ndarray]:
    """Return what `planar` asks for."""
    return (msg.encoding, *(_integer(msg, name) for name in ('height', 'width', 'step')),
            _data(msg))


def _rows(msg: Any) -> tuple[int, int, int, np.ndarray]:
    """Return height, width, step and the bytes, which hold at least step*height."""
    height, width, step = (_integer(msg, name) for name in ('height', 'width', 'step'))
    check_size(width, height)
    data = _data(msg)
    if data.size < step * height:
        raise MessageError(f'data has {data.size} bytes, step*height needs {step * height}')
    return height, width, step, data


def _to_rgb(pixels: np.ndarray, encoding: str) -> np.ndarray:
    """Return (H, W, 3) RGB of the same dtype."""
    # cv2 takes rows with padding as they are, and is 25 to 90 times faster than [..., ::-1] with
    # the copy that torch.from_numpy needs of it (0.02 ms against 1 to 1.9 ms for VGA).
    _, channels, code = ENCODINGS[encoding]
    if code is None or code == _IS_RGB:
        return pixels
    height, width = pixels.shape[:2]
    if channels == 2 and width % 2:
        raise MessageError(f'width is {width}: {encoding!r} needs an even one, '
                           'two pixels share their colour')
    if encoding.startswith('bayer_') and min(width, height) < 3:
        # Below this cv2 returns black without a word.
        raise MessageError(f'width x height is {width} x {height}: {encoding!r} needs 3 x 3')
    return cv2.cvtColor(pixels, code)


def _by_cv_bridge(msg: Any) -> np.ndarray:
    """Return the (H, W, 3) uint8 RGB of a message whose encoding is not in ENCODINGS."""
    height, width, _, _ = _rows(msg)
    bridge = _cv_bridge(msg)
    try:
        pixels = bridge().imgmsg_to_cv2(msg, 'rgb8')
    except Exception as error:  # noqa: BLE001 its own, cv2's, KeyError, TypeError, ...
        raise MessageError(f'{_not_covered(msg)}; cv_bridge failed: {_line(error)}') from error
    if pixels.shape != (height, width, 3) or pixels.dtype != np.uint8:
        raise MessageError(
            f'{_not_covered(msg)}; cv_bridge returned {pixels.dtype} of shape '
            f'{pixels.shape!r}, needed is uint8 of ({height}, {width}, 3)')
    return pixels


def _cv_bridge(msg: Any) -> Any:
    """Return the class CvBridge, or raise where it is missing or cannot read `msg`."""
    if _integer(msg, 'is_bigendian'):
        raise MessageError(f'{_not_covered(msg)}; cv_bridge cannot read big-endian data '
                           f'(is_bigendian is {msg.is_bigendian!r})')
    try:
        from cv_bridge import CvBridge
    except Exception as error:  # noqa: BLE001 under NumPy 2 it fails in more ways
        raise MessageError(
            f'{_not_covered(msg)}; for others try apt install ros-{_distro()}-cv-bridge, which '
            f'cannot be loaded now ({_line(error)})') from error
    return CvBridge


def _not_covered(msg: Any) -> str:
    return (f'encoding is {_quoted(msg.encoding)}: covered without cv_bridge are {_names()}, '
            f'{", ".join(PLANAR)}')


def _decompress(msg: Any, exact: bool) -> tuple[np.ndarray, str]:
    """
    Return the pixels of a CompressedImage and the encoding they have.

    `format` is what compressed_image_transport writes, '<encoding>; jpeg compressed <stored>', or
    just 'jpeg' or 'png'. The transport turns every colour encoding into bgr8 for cv::imencode, so
    the file is an ordinary JPEG or PNG; only where `format` says 'compressed rgb8' has the encoder
    taken RGB for BGR, and red and blue stand swapped in the file.
    """
    text = _text(msg, 'format')
    announced, _, rest = (part.strip() for part in text.partition(';'))
    data = _data(msg).tobytes()
    if 'compressedDepth' in text:
        return _decompress_depth(data, announced, text), announced
    pixels = decode_file(data)
    channels = pixels.shape[2] if pixels.ndim == 3 else 1
    bits = 8 * pixels.dtype.itemsize
    natural = {1: 'mono', 3: 'bgr', 4: 'bgra'}[channels] + str(bits)
    if announced not in ENCODINGS:
        return pixels, natural
    needed = ENCODINGS[announced]
    colors = _names_colors(announced)
    if is_jpeg(data) and needed.dtype != 'u1' and (exact or not colors):
        raise MessageError(
            f'format is {_quoted(text)}: JPEG stores 8 bits a value, so those of {announced} are '
            "cut and nothing restores them; set the publisher's parameter "
            '<topic>.compressed.format to png, or the transport here to raw or, for depth, '
            'compressedDepth')
    if not colors:
        if (pixels.dtype, channels) != (np.dtype(needed.dtype), needed.channels):
            raise MessageError(
                f'format is {_quoted(text)}, which announces {needed.channels} channel(s) of '
                f'{np.dtype(needed.dtype)}, data holds {channels} of {pixels.dtype}')
        return pixels, announced
    if announced.startswith('bayer_') and channels == 1:
        return pixels, f'{announced[:10]}{bits}'
    if channels == 3 and rest.partition('compressed')[2].strip().startswith('rgb'):
        return pixels, f'rgb{bits}'
    return pixels, natural


def _decompress_depth(data: bytes, encoding: str, text: str) -> np.ndarray:
    """
    Return the (H, W) depth that compressed_depth_image_transport wrote.

    Before the PNG or the RVL stand an int32 and two float32, A and B. 16UC1 is stored as it is,
    32FC1 as A / depth + B rounded to 16 bits, with 0 for no depth.
    """
    if encoding not in ('16UC1', 'mono16', '32FC1'):
        raise MessageError(
            f'format is {_quoted(text)}: allowed for compressedDepth are 16UC1, mono16 and 32FC1, '
            'with png or rvl')
    if len(data) < 12:
        raise MessageError(f'data has {len(data)} bytes, compressedDepth needs 12 and a picture')
    _, quant_a, quant_b = struct.unpack_from('<iff', data)
    stored = (decode_rvl if 'rvl' in text else decode_file)(data[12:])
    if stored.dtype != np.uint16 or stored.ndim != 2:
        raise MessageError(
            f'format is {_quoted(text)}, which announces 1 channel of uint16, data holds '
            f'{stored.dtype} of shape {stored.shape!r}')
    if encoding != '32FC1':
        return stored
    if not (np.isfinite(quant_a) and np.isfinite(quant_b) and quant_a > 0):
        raise MessageError(
            f'data: the quantisation of compressedDepth is A = {quant_a!r}, B = {quant_b!r}; '
            'needed are finite numbers and A > 0')
    depth = stored.astype(np.float32)
    depth -= np.float32(quant_b)
    depth[(stored == 0) | (depth <= 0)] = np.nan
    with np.errstate(over='ignore'):
        np.divide(np.float32(quant_a), depth, out=depth)
    depth[np.isinf(depth)] = np.nan
    return depth


def _names_colors(encoding: str) -> bool:
    """Tell bgr8, bayer_rggb8, yuyv, ... from mono16, 8UC3, 32FC1, ..."""
    return not encoding.startswith('mono') and not encoding[0].isdigit()


def _channel_axis(channels: int) -> tuple[int, ...]:
    return () if channels == 1 else (channels,)


def _names(wanted: Callable[[Encoding], bool] = lambda encoding: True) -> str:
    return ', '.join(name for name, encoding in ENCODINGS.items() if wanted(encoding))


def _distro() -> str:
    return os.environ.get('ROS_DISTRO', '<distro>')


def _quoted(value: object) -> str:
    """Return `value` as its repr does, cut in the middle where a log would not hold it."""
    return _SHORT.repr(value)


def _line(error: Exception) -> str:
    return _quoted(' '.join(str(error).split()))


def _integer(holder: Any, name: str) -> int:
    value: Any = getattr(holder, name, None)
    try:
        return operator.index(value)
    except TypeError as error:
        raise MessageError(f'{name} is {_quoted(value)}, needed is an integer') from error


def _text(msg: Any, name: str) -> str:
    value = getattr(msg, name, None)
    if not isinstance(value, str):
        raise MessageError(f'{name} is {_quoted(value)}, needed is a string')
    return value


def _data(msg: Any) -> np.ndarray:
    """Return `msg.data` as (bytes,) uint8 without a copy."""
    value: Any = getattr(msg, 'data', None)
    try:
        buffer = memoryview(value)
        if buffer.nbytes:
            return np.frombuffer(buffer, np.uint8)
    except (TypeError, ValueError, BufferError) as error:
        raise MessageError(
            f'data is a {type(value).__name__}, needed are contiguous bytes') from error
    raise MessageError('data is empty')
