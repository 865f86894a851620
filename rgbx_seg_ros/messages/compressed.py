# Copyright 2026 rgbx_seg_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""
Decode a JPEG or PNG of which nothing is known but that it came in a message.

cv2 takes a file at its word: it reserves whatever the header announces, paints missing rows grey,
and some versions crash over an animated PNG. So the file is walked through here first, and of a
PNG only the parts that make the picture go to cv2.
"""

import re
import struct

import cv2
import numpy as np
from rgbx_seg_ros.errors import MessageError

MAX_PIXELS = 50_000_000
"""
Largest width * height accepted: a few bytes of PNG can announce gigabytes.

cv2 and the conversion after it take 20 bytes a pixel at most, that is 1 GB.
"""

_PNG = b'\x89PNG\r\n\x1a\n'
_JPEG = b'\xff\xd8'
_PNG_PICTURE = (b'IHDR', b'PLTE', b'IDAT', b'IEND')
_MAX_PARTS = 50_000
"""Chunks of a PNG or segments of a JPEG; libpng makes one of 8 kB."""
_MAX_SCANS = 100
"""Each scan of a progressive JPEG works on all pixels again; encoders make about ten."""
_JPEG_MARKER = re.compile(rb'\xff([^\xff])', re.DOTALL)


def check_size(width: int, height: int, where: str = '') -> None:
    """Raise MessageError unless a picture may have this size; `where` opens the message."""
    if width < 1 or height < 1 or width * height > MAX_PIXELS:
        raise MessageError(
            f'{where}width x height is {width} x {height}: needed are at least 1 x 1 and at most '
            f'{MAX_PIXELS} pixels')


def is_jpeg(data: bytes) -> bool:
    """Tell whether `data` starts as a JPEG does."""
    return data.startswith(_JPEG)


def decode_file(data: bytes) -> np.ndarray:
    """
    Return what is in a JPEG or PNG as cv2 stores it: (H, W) or (H, W, BGR[A]) uint8 or uint16.

    Transparent colours, animation and EXIF orientation are ignored. Raise MessageError for a file
    that is neither, damaged, truncated or larger than MAX_PIXELS; of the last nothing is decoded.
    """
    if data.startswith(_PNG):
        width, height, data = _read_png(data)
    elif is_jpeg(data):
        width, height = _jpeg_size(data)
    else:
        raise MessageError(f'data starts with {data[:8]!r}, which is neither JPEG nor PNG: these '
                           'two are allowed; set the format parameter of the publisher')
    check_size(width, height, 'data: ')
    try:
        # UNCHANGED keeps 16 bits and does not turn the picture by its EXIF orientation.
        pixels = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    except cv2.error as error:
        raise MessageError(f'data: cv2 cannot decode {width} x {height} pixels: '
                           f'{" ".join(str(error).split())}') from error
    if pixels is None or pixels.shape[:2] != (height, width):
        raise MessageError(f'data: the file of {len(data)} bytes is damaged: cv2 cannot decode '
                           f'the {width} x {height} pixels it announces')
    return pixels


def _read_png(data: bytes) -> tuple[int, int, bytes]:
    """Return width, height and the PNG with its picture alone; refuse one that is truncated."""
    kinds: list[bytes] = []
    kept = [_PNG]
    start = len(_PNG)
    while b'IEND' not in kinds[-1:]:
        kind = data[start + 4:start + 8]
        end = start + 12 + int.from_bytes(data[start:start + 4], 'big')
        if end > len(data):
            raise MessageError(f'data: the PNG is truncated, it has {len(data)} bytes and needs '
                               f'at least {end}')
        if kind in _PNG_PICTURE:
            kept.append(data[start:end])
        kinds.append(kind)
        if len(kinds) > _MAX_PARTS:
            raise MessageError(f'data: the PNG has more than {_MAX_PARTS} chunks')
        start = end
    if kinds[0] != b'IHDR' or kinds.count(b'IHDR') > 1:
        raise MessageError(f'data: the PNG starts with {kinds[0]!r}, needed is one IHDR and no '
                           'other')
    width, height = struct.unpack_from('>II', data, 16)
    return width, height, data if len(kept) == len(kinds) + 1 else b''.join(kept)


def _jpeg_size(data: bytes) -> tuple[int, int]:
    """Return width and height; refuse a file that stops before its end marker."""
    size, start = None, len(_JPEG)
    for _ in range(_MAX_PARTS):
        marker = _JPEG_MARKER.search(data, start)
        # The shortest frame header and scan that make a picture are longer.
        if marker is None or marker.end() > len(data) - 7:
            break
        start, kind = marker.end(), marker[1][0]
        if kind in (0x00, 0x01) or 0xD0 <= kind <= 0xD9:
            continue  # These have no content.
        if kind == 0xDA:
            # cv2 paints the rows that are missing grey, so the end must be there. In the scans
            # themselves 0xFF is always followed by 0 or a restart marker.
            if size is None or data.find(b'\xff\xd9', start) < 0:
                break
            if data.count(b'\xff\xda', start) >= _MAX_SCANS:
                raise MessageError(f'data: the JPEG has more than {_MAX_SCANS} scans')
            return size
        if 0xC0 <= kind <= 0xCF and kind not in (0xC4, 0xC8, 0xCC):
            height, width = struct.unpack_from('>HH', data, start + 3)
            size = width, height
        start += int.from_bytes(data[start:start + 2], 'big')
    raise MessageError(f'data: the JPEG of {len(data)} bytes is truncated or damaged: needed are '
                       'its size, a scan and the end marker')
