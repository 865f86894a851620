# Copyright 2026 rgbx_seg_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""Files of pictures as other programs write them and cv2 does not: few bits, palettes, EXIF."""

import struct
import zlib

import cv2
import numpy as np

_CODES = {3: 'H', 4: 'I', 16: 'Q'}


def encode(ending, image, *options):
    """Return a file as cv2 writes it."""
    return cv2.imencode(ending, image, list(options))[1].tobytes()


def packed(ids, bits):
    """Return rows of ids, (H, W), at so many bits each: (H, bytes) uint8."""
    height, width = ids.shape
    spread = np.unpackbits(ids[..., None], axis=2)[..., 8 - bits:].reshape(height, width * bits)
    return np.packbits(spread, axis=1)


def paint(bits):
    """Return colours for all ids, (2 ** bits, 3) uint8; none is a grey level."""
    return np.random.default_rng(0).integers(0, 256, (2 ** bits, 3), np.uint8)


def png(ids, bits, is_painted, before=b''):
    """Return a PNG of ids, grey or painted; `before` are chunks to stand before the pixels."""
    height, width = ids.shape
    lines = b''.join(b'\0' + row.tobytes() for row in packed(ids, bits))
    palette = (png_chunk(b'PLTE', paint(bits).tobytes()) + png_chunk(b'tRNS', b'\0')
               + png_chunk(b'bKGD', b'\1')) if is_painted else b''
    header = struct.pack('>IIBBBBB', width, height, bits, 3 * is_painted, 0, 0, 0)
    return (b'\x89PNG\r\n\x1a\n' + png_chunk(b'IHDR', header) + palette + before
            + png_chunk(b'IDAT', zlib.compress(lines)) + png_chunk(b'IEND', b''))


def png_chunk(kind, body):
    return (struct.pack('>I', len(body)) + kind + body
            + struct.pack('>I', zlib.crc32(kind + body)))


def bmp(ids, bits, colors=None, is_os2=False):
    """Return a BMP of ids, painted with `colors`, (N, 3)."""
    colors = paint(bits) if colors is None else np.uint8(colors)
    height, width = ids.shape
    rows = packed(ids, bits)[::-1]
    rows = np.pad(rows, ((0, 0), (0, -rows.shape[1] % 4))).tobytes()
    if is_os2:
        header = struct.pack('<IHHHH', 12, width, height, 1, bits)
        palette = colors[:, ::-1].tobytes()
    else:
        header = struct.pack('<IiiHHIIiiII', 40, width, height, 1, bits, 0, len(rows), 0, 0,
                             len(colors), 0)
        palette = np.pad(colors[:, ::-1], ((0, 0), (0, 1))).tobytes()
    start = 14 + len(header) + len(palette)
    return (b'BM' + struct.pack('<IHHI', start + len(rows), 0, 0, start) + header + palette
            + rows)


def tiff(image, bits=None, order='<', is_big=False, **tags):
    """
    Return an uncompressed TIFF of (H, W) or (H, W, C), of ids at so many bits where that is given.

    `tags` are further ones as _NUMBER: value or values, with BigTIFF's structure if `is_big`.
    """
    bands = 1 if image.ndim == 2 else image.shape[2]
    kind = {'u': 1, 'i': 2, 'f': 3}[image.dtype.kind]
    pixels = (packed(image, bits) if bits else image.astype(
        image.dtype.newbyteorder(order))).tobytes()
    content = {256: image.shape[1], 257: image.shape[0],
               258: [bits or 8 * image.itemsize] * bands, 259: 1, 262: 1 if bands == 1 else 2,
               273: 0, 277: bands, 278: image.shape[0], 279: len(pixels), 339: [kind] * bands,
               **{int(name[1:]): value for name, value in tags.items()}}
    word, size, field = ('Q', 20, 8) if is_big else ('I', 12, 4)
    start = 16 if is_big else 8
    rest_at = start + (8 if is_big else 2) + size * len(content) + field
    rest, entries = b'', b''
    for tag, value in sorted(content.items()):
        values = value if isinstance(value, list) else [value]
        code = 3 if tag not in (256, 257, 273, 278, 279) else 4
        body = struct.pack(f'{order}{len(values)}{_CODES[code]}', *values)
        if tag == 273:
            body = b'P' * field
        if len(body) > field:
            place, rest = rest_at + len(rest), rest + body
            body = struct.pack(order + word, place)
        entries += struct.pack(f'{order}HH{word}', tag, code, len(values)) + body.ljust(
            field, b'\0')
    pixels_at = struct.pack(f'{order}I', rest_at + len(rest)).ljust(field, b'\0')
    entries = entries.replace(b'P' * field, pixels_at)
    magic = struct.pack(f'{order}HHHQ', 43, 8, 0, start) if is_big else struct.pack(
        f'{order}HI', 42, start)
    return (b'II' if order == '<' else b'MM') + magic + struct.pack(
        f'{order}{"Q" if is_big else "H"}', len(content)) + entries + bytes(field) + rest + pixels


def painted_tiff(ids, bits, **options):
    """Return a TIFF of ids painted through a palette."""
    colors = paint(bits).astype(int) * 257
    return tiff(ids, bits, _262=3, _320=colors.T.ravel().tolist(), **options)


def exif(orientation, order='<'):
    """Return EXIF that tells this orientation and nothing else."""
    entry = struct.pack(f'{order}HHIHH', 274, 3, 1, orientation, 0)
    return ((b'II' if order == '<' else b'MM') + struct.pack(f'{order}HIH', 42, 8, 1) + entry
            + bytes(4))


def turned(ending, image, orientation=6):
    """Return a picture that viewers turn: a file with its orientation in EXIF, or in the TIFF."""
    if ending == '.tif':
        return tiff(image, _274=orientation)
    content = encode(ending, image)
    if ending == '.png':
        return content[:33] + png_chunk(b'eXIf', exif(orientation)) + content[33:]
    body = b'Exif\0\0' + exif(orientation, '>')
    return content[:2] + b'\xff\xe1' + struct.pack('>H', len(body) + 2) + body + content[2:]
