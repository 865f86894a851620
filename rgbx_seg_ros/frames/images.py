# Copyright 2026 rgbx_seg_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""Image files to arrays and back, colours in RGB order."""

from pathlib import Path

import cv2
import numpy as np
from rgbx_seg_ros.errors import DataError


def read_image(path: Path) -> np.ndarray:
    """Read an image with the depth and channels it has, colours in RGB order."""
    try:
        # cv2.imread would tell of a missing file in words of its own on stderr.
        content = np.frombuffer(path.read_bytes(), np.uint8)
        image = cv2.imdecode(content, cv2.IMREAD_UNCHANGED) if content.size else None
    except OSError as error:
        raise DataError(f'cannot read {str(path)!r}: {error.strerror}') from error
    if image is None:
        raise DataError(f'cannot read {str(path)!r}: it is not an image')
    if image.ndim == 3:
        image = cv2.cvtColor(image[..., :3], cv2.COLOR_BGR2RGB)
    return image


def read_rgb(path: Path) -> np.ndarray:
    """Read a colour image as (H, W, 3) uint8; a grey one has its channel repeated."""
    image = read_image(path)
    if image.dtype != np.uint8:
        raise DataError(f'{str(path)!r} is {image.dtype}, an 8-bit colour image is needed')
    return image if image.ndim == 3 else np.repeat(image[..., None], 3, axis=2)


def write_image(path: Path, image: np.ndarray) -> None:
    """Write (H, W) or (H, W, 3) RGB pixels; the ending of `path` chooses the format."""
    if image.ndim == 3:
        image = cv2.cvtColor(image, cv2.COLOR_RGB2BGR)
    try:
        # cv2.imwrite would tell of a missing folder in words of its own on stderr.
        path.write_bytes(cv2.imencode(path.suffix, image)[1].tobytes())
    except cv2.error as error:
        raise DataError(f'cannot write {str(path)!r}: its ending names no image format, use '
                        '.png') from error
    except OSError as error:
        raise DataError(f'cannot write {str(path)!r}: {error.strerror}') from error
