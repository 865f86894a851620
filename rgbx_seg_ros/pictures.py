# Copyright 2026 rgbx_seg_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""
Encoded pictures, PNG, JPEG, TIFF and BMP: what their headers say, and their pixels.

cv2 takes a file at its word: it reserves whatever the header announces, paints missing rows grey,
and some versions crash over an animated PNG. So a file is walked through here first, and of a PNG
only the parts that make the picture go to cv2.
"""

import re
import struct
from typing import NamedTuple
import zlib

import cv2
import numpy as np
from rgbx_seg_ros.errors import PictureError

Data = bytes | memoryview
"""A file, or a map of it."""
PNG, JPEG, TIFF, BMP = 'PNG', 'JPEG', 'TIFF', 'BMP'
_PNG = b'\x89PNG\r\n\x1a\n'
_STARTS = {_PNG: PNG, b'\xff\xd8': JPEG, b'II*\0': TIFF, b'MM\0*': TIFF,
           b'II+\0': TIFF, b'MM\0+': TIFF, b'BM': BMP}
_PNG_PICTURE = (b'IHDR', b'PLTE', b'IDAT', b'IEND')
_PNG_GREY, _PNG_INDEXED = 0, 3
_PNG_END = 12
"""Bytes of the last chunk."""
_MAX_PARTS = 50_000
"""Chunks of a PNG or segments of a JPEG; libpng makes one of 8 kB."""
_MAX_SCANS = 100
"""Each scan of a progressive JPEG works on all pixels again; encoders make about ten."""
_JPEG_MARKER = re.compile(rb'\xff([^\xff])', re.DOTALL)
_JPEG_SCAN, _JPEG_END = re.compile(rb'\xff\xda'), re.compile(rb'\xff\xd9')
_EXIF = b'Exif\0\0'
_WIDTH, _HEIGHT, _BITS, _COMPRESSION, _PHOTOMETRIC = 256, 257, 258, 259, 262
_ORIENTATION, _COLOR_MAP, _TILE_WIDTH, _TILE_HEIGHT, _SAMPLE_FORMAT = 274, 320, 322, 323, 339
_TIFF_CODES = {1: 'B', 3: 'H', 4: 'I', 16: 'Q'}
"""The types of the tags that are read here, as `struct` names them."""
_TIFF_PAINTED = 3
_TIFF_LOSSLESS = (1, 2, 3, 4, 5, 8, 32773, 32946, 34925, 50000)
"""None, three of fax, LZW, Deflate, PackBits, old Deflate, LZMA and Zstandard."""
_TIFF_LOG = (34676, 34677)
"""Logarithms of light, SGILog: floats that are stored as integers."""
_TIFF_TYPES = {(1, 8): 'uint8', (1, 16): 'uint16', (1, 32): 'uint32', (1, 64): 'uint64',
               (2, 8): 'int8', (2, 16): 'int16', (2, 32): 'int32', (2, 64): 'int64',
               (3, 16): 'float16', (3, 32): 'float32', (3, 64): 'float64',
               (5, 32): 'complex', (6, 64): 'complex64', (6, 128): 'complex128'}
"""The types of values by sample format and bits; those of other bits are spread over 8 or 16."""
_MAX_TILE = 1 << 24
"""Largest width * height of a tile: cv2 reserves one, however small the picture is."""
_DAMAGED = (KeyError, OverflowError, struct.error)
"""What comes of following the numbers of a damaged header."""


class Header(NamedTuple):
    """What a file says of its picture."""

    kind: str
    """PNG, JPEG, TIFF or BMP."""
    width: int
    height: int
    bits: int
    """Bits of a stored value."""
    is_painted: bool
    """Whether the values are indices into a palette."""
    is_lossy: bool
    orientation: int
    """That of EXIF: 1 as stored, 2 to 8 to be mirrored or turned when shown."""
    tile_pixels: int = 0
    """Width * height of a tile, where the picture is stored in tiles."""
    type_name: str = ''
    """That of numpy for the values of a TIFF, where it has one."""


def kind_of(data: Data) -> str:
    """Return the kind of a picture by its first bytes; raise PictureError for any other."""
    start = bytes(data[:8])
    for magic, kind in _STARTS.items():
        if start.startswith(magic):
            return kind
    raise PictureError(f'it is not an image that is read here, PNG, JPEG, TIFF or BMP: it starts '
                       f'with {start!r}' if start else 'it is not an image: it is empty')


def read_header(data: Data) -> Header:
    """
    Return what a file says of its picture.

    Raise PictureError for a file of another kind, and for one that is damaged or truncated as far
    as that shows without decoding it.
    """
    return _walked(data)[0]


def check_size(width: int, height: int, max_pixels: int) -> None:
    """Raise PictureError unless a picture may have this size."""
    if width < 1 or height < 1 or width * height > max_pixels:
        raise PictureError(f'width x height is {width} x {height}: needed are at least 1 x 1 and '
                           f'at most {max_pixels} pixels')


def decode(data: bytes, max_pixels: int) -> np.ndarray:
    """
    Return what is in a file as cv2 stores it: (H, W) or (H, W, BGR[A]) of the type of the file.

    Transparent colours and animation are ignored, and so is EXIF orientation but for that of a
    TIFF. Raise PictureError for a file that is of no known kind, damaged, truncated or larger than
    `max_pixels`; of the last nothing is decoded.
    """
    header, picture = _walked(data)
    width, height = header.width, header.height
    check_size(width, height, max_pixels)
    if header.tile_pixels > _MAX_TILE:
        raise PictureError(f'its tiles have {header.tile_pixels} pixels, at most {_MAX_TILE} are '
                           'allowed: store it in smaller ones')
    try:
        # UNCHANGED keeps 16 bits and does not turn the picture by its EXIF orientation.
        pixels = cv2.imdecode(np.frombuffer(picture, np.uint8), cv2.IMREAD_UNCHANGED)
    except cv2.error as error:
        raise PictureError(f'cv2 cannot decode {width} x {height} pixels: '
                           f'{" ".join(str(error).split())}') from error
    if pixels is None or pixels.shape[:2] != (height, width):
        raise PictureError(f'the {header.kind} of {len(data)} bytes is damaged or of a sort that '
                           f'cv2 lacks: it cannot decode the {width} x {height} pixels')
    if header.type_name not in ('', pixels.dtype.name):
        # Before 4.6 it takes the bits of integers for floats, and the sign for a high value.
        raise PictureError(f'its values are {header.type_name}, which OpenCV {cv2.__version__} '
                           f'takes for {pixels.dtype}: convert it to uint8, uint16 or float32')
    return pixels


def with_comment(data: bytes, text: str) -> bytes:
    """Return a file of cv2 with a text in it that is not seen: a PNG, JPEG or TIFF, no other."""
    kind = next((kind for magic, kind in _STARTS.items() if data.startswith(magic)), None)
    comment = text.encode()
    if kind == PNG:
        chunk = b'tEXtComment\0' + comment
        end = len(data) - _PNG_END
        return b''.join((data[:end], struct.pack('>I', len(chunk) - 4), chunk,
                         struct.pack('>I', zlib.crc32(chunk)), data[end:]))
    if kind == JPEG:
        # Behind the first segment, which JFIF wants to be first.
        first, = struct.unpack_from('>H', data, 4)
        return b''.join((data[:4 + first], b'\xff\xfe', struct.pack('>H', len(comment) + 2),
                         comment, data[4 + first:]))
    # Nothing points to what follows the parts of a TIFF.
    return data + comment if kind == TIFF else data


def decode_ids(data: bytes, max_pixels: int) -> np.ndarray:
    """
    Return the ids of a label as they are stored, (H, W), or its colours, (H, W, BGR[A]).

    Where ids are painted through a palette the ids count, not the paint, and so do those of 1 to 4
    bits, which cv2 spreads over 0..255. Raise PictureError as `decode` does, and for a file that
    compression has changed.
    """
    header = read_header(data)
    if header.is_lossy:
        raise PictureError(f'this {header.kind} is compressed with loss, which makes other ids '
                           'along the edges: make the label anew as PNG')
    if not header.is_painted and header.bits >= 8:
        return decode(data, max_pixels)
    if header.is_painted and header.kind != PNG:
        try:
            data = _PAINT_GREY[header.kind](data)
        except _DAMAGED as error:
            raise PictureError(f'the {header.kind} is damaged: its palette is missing') from error
        ids = decode(data, max_pixels)
        return ids if ids.ndim == 2 else np.ascontiguousarray(ids[..., 0])
    if header.is_painted:
        data = _as_grey_png(data)
    return decode(data, max_pixels) // (255 // (2 ** header.bits - 1))


def _walked(data: Data) -> tuple[Header, Data]:
    """Return the header of a file, and what of the file shall go to cv2."""
    return _WALKS[kind_of(data)](data)


def _walk_png(data: Data) -> tuple[Header, Data]:
    """Return the header, and the PNG with its picture alone; refuse one that is truncated."""
    kinds: list[bytes] = []
    kept: list[Data] = [_PNG]
    orientation, start = 1, len(_PNG)
    while b'IEND' not in kinds[-1:]:
        kind = bytes(data[start + 4:start + 8])
        end = start + 12 + int.from_bytes(data[start:start + 4], 'big')
        if end > len(data):
            raise PictureError(f'the PNG is truncated, it has {len(data)} bytes and needs at '
                               f'least {end}')
        if kind in _PNG_PICTURE:
            kept.append(data[start:end])
        elif kind == b'eXIf':
            orientation = _exif_orientation(data[start + 8:end - 4])
        kinds.append(kind)
        if len(kinds) > _MAX_PARTS:
            raise PictureError(f'the PNG has more than {_MAX_PARTS} chunks')
        start = end
    if kinds[0] != b'IHDR' or kinds.count(b'IHDR') > 1:
        raise PictureError(f'the PNG starts with {kinds[0]!r}, needed is one IHDR and no other')
    width, height, bits, color = struct.unpack_from('>IIBB', data, 16)
    return (Header(PNG, width, height, bits, color == _PNG_INDEXED, False, orientation),
            data if len(kept) == len(kinds) + 1 else b''.join(kept))


def _walk_jpeg(data: Data) -> tuple[Header, Data]:
    """Return the header and the file; refuse one that stops before its end marker."""
    size, orientation, start = None, 1, 2
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
            if size is None or not _JPEG_END.search(data, start):
                break
            if sum(1 for _ in _JPEG_SCAN.finditer(data, start)) >= _MAX_SCANS:
                raise PictureError(f'the JPEG has more than {_MAX_SCANS} scans')
            return Header(JPEG, *size, 8, False, True, orientation), data
        length = int.from_bytes(data[start:start + 2], 'big')
        if 0xC0 <= kind <= 0xCF and kind not in (0xC4, 0xC8, 0xCC):
            height, width = struct.unpack_from('>HH', data, start + 3)
            size = width, height
        elif kind == 0xE1 and bytes(data[start + 2:start + 8]) == _EXIF:
            orientation = _exif_orientation(data[start + 8:start + length])
        start += length
    raise PictureError(f'the JPEG of {len(data)} bytes is truncated or damaged: needed are its '
                       'size, a scan and the end marker')


def _walk_tiff(data: Data) -> tuple[Header, Data]:
    """Return the header of the first picture, and the file."""
    try:
        tags = _Tags(data)
        bits = tags.first(_BITS, 1)
        header = Header(
            TIFF, tags.first(_WIDTH), tags.first(_HEIGHT), bits,
            tags.first(_PHOTOMETRIC, 0) == _TIFF_PAINTED and bits <= 8,
            tags.first(_COMPRESSION, 1) not in _TIFF_LOSSLESS, tags.orientation(),
            tags.first(_TILE_WIDTH, 0) * tags.first(_TILE_HEIGHT, 0),
            '' if tags.first(_COMPRESSION, 1) in _TIFF_LOG else _TIFF_TYPES.get(
                (tags.first(_SAMPLE_FORMAT, 1), bits), ''))
    except _DAMAGED as error:
        raise PictureError(f'the TIFF of {len(data)} bytes is truncated or damaged: needed are '
                           'its tags, width and height among them') from error
    return header, data


def _walk_bmp(data: Data) -> tuple[Header, Data]:
    """Return the header and the file."""
    try:
        form = '<HHHH' if _bmp_header_size(data) == 12 else '<iiHH'  # of OS/2, of Windows
        width, height, _, bits = struct.unpack_from(form, data, 18)
    except _DAMAGED as error:
        raise PictureError(f'the BMP of {len(data)} bytes is truncated') from error
    # The rows of one with a negative height stand from top to bottom.
    return Header(BMP, width, abs(height), bits, bits <= 8, False, 1), data


_WALKS = {PNG: _walk_png, JPEG: _walk_jpeg, TIFF: _walk_tiff, BMP: _walk_bmp}


class _Tags:
    """The tags of the first picture in a TIFF, or of EXIF, which has the same form."""

    def __init__(self, data: Data) -> None:
        self._data = data
        self._order = {b'II': '<', b'MM': '>'}[bytes(data[:2])]
        is_big = self._unpack('H', 2) == 43
        word, field = ('Q', 8) if is_big else ('I', 4)
        start = self._unpack(word, field)
        count, start = ((self._unpack('Q', start), start + 8) if is_big
                        else (self._unpack('H', start), start + 2))
        self._places: dict[int, tuple[str, int]] = {}
        for at in range(start, start + (4 + 2 * field) * min(count, 65_535), 4 + 2 * field):
            tag, kind = self._unpack('H', at), self._unpack('H', at + 2)
            code, place = _TIFF_CODES.get(kind), at + 4 + field
            if code and self._unpack(word, at + 4) * struct.calcsize(f'<{code}') > field:
                place = self._unpack(word, place)
            if code:
                self._places[tag] = code, place

    def _unpack(self, code: str, place: int) -> int:
        value: int = struct.unpack_from(self._order + code, self._data, place)[0]
        return value

    def first(self, tag: int, default: int | None = None) -> int:
        """Return the first value of a tag, or else the default; raise KeyError without both."""
        if tag not in self._places and default is not None:
            return default
        return self._unpack(*self._places[tag])

    def place(self, tag: int) -> tuple[int, str]:
        """Return where in the file the values of a tag stand, and the order of their bytes."""
        return self._places[tag][1], self._order

    def orientation(self) -> int:
        """Return the orientation, 1 where none of those that exist is told."""
        found = self.first(_ORIENTATION, 1)
        return found if 1 <= found <= 8 else 1


def _exif_orientation(data: Data) -> int:
    """Return the orientation that EXIF tells, 1 where it is damaged."""
    try:
        return _Tags(data).orientation()
    except _DAMAGED:
        return 1


def _as_grey_png(data: bytes) -> bytes:
    """Return a PNG of indices as a grey one of the same bits, which cv2 spreads over 0..255."""
    _, png = _walk_png(data)
    kept: list[Data] = [_PNG]
    at = len(_PNG)
    while at < len(png):
        length, kind = struct.unpack_from('>I4s', png, at)
        chunk = png[at:at + 12 + length]
        if kind == b'IHDR':
            body = b''.join((kind, chunk[8:17], bytes([_PNG_GREY]), chunk[18:21]))
            chunk = b''.join((chunk[:4], body, struct.pack('>I', zlib.crc32(body))))
        if kind != b'PLTE':
            kept.append(chunk)
        at += 12 + length
    return b''.join(kept)


def _paint_tiff_grey(data: bytes) -> bytes:
    """Return a TIFF of indices with a palette of grey levels, level i for index i."""
    tags = _Tags(data)
    place, order = tags.place(_COLOR_MAP)
    levels = np.tile(np.arange(2 ** tags.first(_BITS, 1)) * 257, 3).astype(f'{order}u2').tobytes()
    return data[:place] + levels + data[place + len(levels):]


def _bmp_header_size(data: Data) -> int:
    size: int = struct.unpack_from('<I', data, 14)[0]
    return size


def _paint_bmp_grey(data: bytes) -> bytes:
    """Return a BMP of indices with a palette of grey levels, level i for index i."""
    size, (start,) = _bmp_header_size(data), struct.unpack_from('<I', data, 10)
    bits, = struct.unpack_from('<H', data, 24 if size == 12 else 28)
    entry = 3 if size == 12 else 4
    levels = np.zeros((2 ** bits, entry), np.uint8)
    levels[:, :3] = np.arange(2 ** bits)[:, None]
    header = bytearray(data[:14 + size])
    struct.pack_into('<I', header, 10, len(header) + levels.nbytes)
    if size != 12:
        struct.pack_into('<I', header, 46, 0)  # as many entries as there are indices
    return bytes(header) + levels.tobytes() + data[start:]


_PAINT_GREY = {TIFF: _paint_tiff_grey, BMP: _paint_bmp_grey}
