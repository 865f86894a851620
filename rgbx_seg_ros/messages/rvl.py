# Copyright 2026 rgbx_seg_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""
RVL, the quick lossless code for depth that compressed_depth_image_transport offers beside PNG.

Wilson, Fast Lossless Depth Image Compression, ISS 2017. Numbers are written in groups of three
bits, each with a fourth that says whether another follows: how many pixels are 0, how many are
not, then for each of these the difference from the one before, and so on to the end.
"""

import struct

import numpy as np
from rgbx_seg_ros.errors import MessageError
from rgbx_seg_ros.messages.compressed import check_size

_MOST_GROUPS = 7
"""Groups of a number: two would do for most differences, seven hold any count of pixels."""


def decode_rvl(data: bytes) -> np.ndarray:
    """
    Return the picture (H, W) uint16 behind width and height, two int32.

    Raise MessageError for data that ends too early or is none of RVL.
    """
    if len(data) < 8:
        raise MessageError(f'data has {len(data)} bytes, RVL needs 8 for width and height')
    width, height = struct.unpack_from('<ii', data)
    check_size(width, height, 'data: ')
    numbers = _numbers(data[8:])
    taken, values, place, at = [], [], 0, 0
    while place < width * height:
        if at + 2 > numbers.size:
            break
        zeros, count = numbers[at], numbers[at + 1]
        taken.append((place + zeros, count))
        values.append(numbers[at + 2:at + 2 + count])
        place += zeros + count
        at += 2 + count
    if place != width * height or at > numbers.size:
        raise MessageError(f'data: the {len(data)} bytes of RVL are truncated or damaged: they '
                           f'do not fill {width} x {height} pixels')
    steps = np.concatenate(values)
    picture = np.zeros(width * height, np.uint16)
    where = np.concatenate([np.arange(start, start + count) for start, count in taken])
    picture[where] = np.cumsum((steps >> 1) ^ -(steps & 1))  # differences wrap as in 16 bits
    return picture.reshape(height, width)


def _numbers(data: bytes) -> np.ndarray:
    """Return the numbers that the groups in `data` make, int64."""
    words = np.frombuffer(data[:len(data) // 4 * 4], '<u4')
    groups: np.ndarray = ((words[:, None] >> np.arange(28, -1, -4, dtype=np.uint32)) & 15).ravel()
    ends = np.flatnonzero(groups < 8)
    if not ends.size:
        return ends
    starts = np.concatenate(([0], ends[:-1] + 1))
    if (ends - starts).max() >= _MOST_GROUPS:
        raise MessageError('data: the bytes of RVL are damaged: a number of more than '
                           f'{_MOST_GROUPS} groups')
    groups = groups[:ends[-1] + 1]
    places = np.arange(groups.size) - np.repeat(starts, ends - starts + 1)
    return np.add.reduceat((groups & 7).astype(np.int64) << (3 * places), starts)
