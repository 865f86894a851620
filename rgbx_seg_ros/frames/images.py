# Copyright 2026 rgbx_seg_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""Image files to arrays and back, colours in RGB order."""

from collections.abc import Callable
import mmap
import os
from pathlib import Path

import cv2
import numpy as np
from rgbx_seg_ros import pictures
from rgbx_seg_ros.errors import DataError, PictureError
from rgbx_seg_ros.files import appearing, MARK

MAX_PIXELS = 1 << 28
"""
Largest width * height of a picture that is read whole.

With the 20 bytes a pixel that cv2 and the conversion after it may take, that is 5 GB.
"""
MAX_BYTES = 16 * MAX_PIXELS
"""Largest file: four values of 32 bits a pixel that nobody has compressed."""
TYPES = ('uint8', 'uint16', 'float32')
"""The types of pixels that networks take."""

_IN_PIECES = 'cut it into tiles, or predict with a model that has a window, which reads in pieces'


def read_image(path: Path) -> np.ndarray:
    """
    Read a picture of uint8, uint16 or float32 with the channels it has, colours in RGB order.

    Transparency is left out. Raise DataError for what cannot be read as it is meant.
    """
    image = read_stored(path)
    if image.dtype.name not in TYPES:
        raise DataError(f'{str(path)!r} is {image.dtype}, a network takes {", ".join(TYPES)}: '
                        'convert it')
    return image if image.ndim == 2 else cv2.cvtColor(image[..., :3], cv2.COLOR_BGR2RGB)


def read_rgb(path: Path) -> np.ndarray:
    """Read a colour image as (H, W, 3) uint8; a grey one has its channel repeated."""
    image = read_image(path)
    if image.dtype != np.uint8:
        raise DataError(f'{str(path)!r} is {image.dtype}, an 8-bit colour image is needed')
    return image if image.ndim == 3 else np.repeat(image[..., None], 3, axis=2)


def read_stored(path: Path, decode: Callable[[bytes, int], np.ndarray] = pictures.decode
                ) -> np.ndarray:
    """
    Return what `decode`, a function of `pictures`, makes of a file: colours in the order of cv2.

    Raise DataError for a file that it cannot decode, one larger than MAX_PIXELS, and one that
    check_upright refuses.
    """
    try:
        with path.open('rb') as file:
            size = os.fstat(file.fileno()).st_size
            if size > MAX_BYTES:
                raise DataError(f'cannot read {str(path)!r}: it has {size} bytes, at most '
                                f'{MAX_BYTES} are read whole; {_IN_PIECES}')
            content = file.read()
        header = pictures.read_header(content)
        check_upright(header, path)
        if header.width * header.height > MAX_PIXELS:
            raise DataError(
                f'cannot read {str(path)!r}: it has {header.width}x{header.height} pixels, at '
                f'most {MAX_PIXELS} are read whole; {_IN_PIECES}')
        return decode(content, MAX_PIXELS)
    except OSError as error:
        raise DataError(f'cannot read {str(path)!r}: {error.strerror}') from error
    except PictureError as error:
        raise DataError(f'cannot read {str(path)!r}: {error}') from error


def read_header(path: Path) -> pictures.Header:
    """Return what a picture file of any size says of itself; raise DataError where it cannot."""
    try:
        with path.open('rb') as file:
            content = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        return pictures.read_header(memoryview(content))
    except ValueError:  # of a file without content
        raise DataError(f'cannot read {str(path)!r}: it is empty') from None
    except OSError as error:
        raise DataError(f'cannot read {str(path)!r}: {error.strerror}') from error
    except PictureError as error:
        raise DataError(f'cannot read {str(path)!r}: {error}') from error


def check_upright(header: pictures.Header, path: Path) -> None:
    """
    Raise DataError where viewers would turn or mirror the picture.

    Its partners, the label and what was drawn on it may be turned or not: nobody can tell.
    """
    if header.orientation != 1:
        raise DataError(
            f'{str(path)!r} is stored turned or mirrored, by its EXIF orientation '
            f'{header.orientation}: turn the pixels themselves, for instance by `mogrify '
            '-auto-orient`, or remove the tag if they are right as they are')


def write_image(path: Path, image: np.ndarray) -> None:
    """Write (H, W) or (H, W, 3) RGB pixels; the ending of `path` chooses the format."""
    if image.ndim == 3:
        image = cv2.cvtColor(image, cv2.COLOR_RGB2BGR)
    # cv2 dies of an ending that is no text, and cv2.imwrite would tell of a missing folder in
    # words of its own on stderr.
    if not path.suffix.isascii() or not cv2.haveImageWriter(f'a{path.suffix}'):
        raise DataError(f'cannot write {str(path)!r}: its ending names no image format, use .png')
    try:
        is_written, content = cv2.imencode(path.suffix, image)
    except cv2.error:
        is_written = False
    if not is_written:
        raise DataError(f'cannot write {str(path)!r}: its format takes no '
                        f'{image.shape[1]}x{image.shape[0]} pixels of {image.dtype}, use .tif')
    try:
        with appearing(path) as part:
            part.write_bytes(pictures.with_comment(content.tobytes(), MARK))
    except OSError as error:
        raise DataError(f'cannot write {str(path)!r}: {error.strerror}') from error
