# Copyright 2026 rgbx_seg_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""Decode a JPEG or PNG of which nothing is known but that it came in a message."""

import numpy as np
from rgbx_seg_ros import pictures
from rgbx_seg_ros.errors import MessageError, PictureError

MAX_PIXELS = 50_000_000
"""
Largest width * height accepted: a few bytes of PNG can announce gigabytes.

cv2 and the conversion after it take 20 bytes a pixel at most, that is 1 GB.
"""

_PNG = b'\x89PNG\r\n\x1a\n'
_JPEG = b'\xff\xd8'


def check_size(width: int, height: int, where: str = '') -> None:
    """Raise MessageError unless a picture may have this size; `where` opens the message."""
    try:
        pictures.check_size(width, height, MAX_PIXELS)
    except PictureError as error:
        raise MessageError(f'{where}{error}') from error


def is_jpeg(data: bytes) -> bool:
    """Tell whether `data` starts as a JPEG does."""
    return data.startswith(_JPEG)


def decode_file(data: bytes) -> np.ndarray:
    """
    Return what is in a JPEG or PNG as cv2 stores it: (H, W) or (H, W, BGR[A]) uint8 or uint16.

    Transparent colours, animation and EXIF orientation are ignored. Raise MessageError for a file
    that is neither, damaged, truncated or larger than MAX_PIXELS; of the last nothing is decoded.
    """
    if not data.startswith((_PNG, _JPEG)):
        raise MessageError(f'data starts with {data[:8]!r}, which is neither JPEG nor PNG: these '
                           'two are allowed; set the format parameter of the publisher')
    try:
        return pictures.decode(data, MAX_PIXELS)
    except PictureError as error:
        raise MessageError(f'data: {error}') from error
