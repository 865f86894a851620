# Copyright 2026 rgbx_seg_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""What every data set gives: paired frames by index, with a label where there is one."""

from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from rgbx_seg_ros.errors import DataError


@dataclass(frozen=True)
class Sample:
    """One pair of frames as stored."""

    name: str
    """File name without its ending."""
    rgb: np.ndarray
    """(H, W, 3) uint8, RGB order."""
    x: np.ndarray
    """(H, W) or (H, W, 3), uint8, uint16 or float32."""
    label: np.ndarray | None
    """(H, W) uint8 class ids, 255 where unlabeled; None for a frame without a label."""


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
