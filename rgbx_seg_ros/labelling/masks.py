# Copyright 2026 rgbx_seg_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""Masks as a labelling tool exports them, before they belong to a frame."""

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
from rgbx_seg_ros import pictures
from rgbx_seg_ros.errors import DataError, PictureError
from rgbx_seg_ros.frames.images import check_upright
from rgbx_seg_ros.labelling.archive import Archive

_BYTES_PER_PIXEL = 8
"""More than any lossless picture of 8 bits a channel needs."""
_BESIDE = 1 << 20
"""Bytes for what stands beside the pixels: headers, profiles, comments."""


class ToolMask(NamedTuple):
    """A mask in an export."""

    file: str
    """What stands for it there."""
    image: str
    """The name of its image in the tool, with folders and an ending."""
    read: Callable[[tuple[int, int]], np.ndarray]
    """
    Returns the class ids (H, W) uint8 of a frame of this height and width.

    Raise DataError where there are none.
    """


def check_same_size(where: str, size: tuple[int, int], needed: tuple[int, int]) -> None:
    """Raise DataError unless a mask has the height and width of its frame."""
    if size != needed:
        raise DataError(f'{where} has {size[1]}x{size[0]} pixels, its frame has '
                        f'{needed[1]}x{needed[0]}: export masks in the size of the frames')


def read_pixels(archive: Archive, name: str, size: tuple[int, int]) -> np.ndarray:
    """
    Return a picture of `size`, height and width: (H, W) or (H, W, 3) RGB, uint8.

    Of one with a palette the colours count. Raise DataError for one that is not of this size,
    which is then not decoded, or that compression has changed.
    """
    data = archive.read(name, _BYTES_PER_PIXEL * size[0] * size[1] + _BESIDE)
    try:
        header = pictures.read_header(data)
        check_upright(header, Path(name))
        check_same_size(repr(name), (header.height, header.width), size)
        # It refuses loss; of a palette it returns the indices.
        pixels = pictures.decode_ids(data, size[0] * size[1])
        if header.is_painted:
            pixels = pictures.decode(data, size[0] * size[1])
    except PictureError as error:
        raise DataError(f'cannot read {name!r}: {error}') from error
    if pixels.dtype != np.uint8:
        raise DataError(f'{name!r} is {pixels.dtype}, needed are 8 bits a channel')
    return pixels if pixels.ndim == 2 else np.ascontiguousarray(pixels[..., 2::-1])
