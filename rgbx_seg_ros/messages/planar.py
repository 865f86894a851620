# Copyright 2026 rgbx_seg_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""
YUV whose colours lie behind the brightness of the whole picture: nv12 and its like.

Drivers disagree on `height`: for some it is that of the picture, as sensor_msgs says, for others
(depthai) that of all rows in `data`, those of the colours included. What is in `data` decides.
"""

from fractions import Fraction
from typing import NamedTuple

import cv2
import numpy as np
from rgbx_seg_ros.errors import MessageError
from rgbx_seg_ros.messages.compressed import check_size


class Layout(NamedTuple):
    """Where the colours of a planar encoding are."""

    rows: Fraction
    """Rows of `data` for each row of the picture."""
    to_rgb: int
    """The cv2 conversion code; with 2 rows a row, of the same values side by side."""
    is_split: bool = False
    """Whether the two colours lie one behind the other, in rows half as long."""


_420, _422 = Fraction(3, 2), Fraction(2)
PLANAR = {
    'nv12': Layout(_420, cv2.COLOR_YUV2RGB_NV12),
    'nv21': Layout(_420, cv2.COLOR_YUV2RGB_NV21),
    'i420': Layout(_420, cv2.COLOR_YUV2RGB_I420, True),
    'yuv420': Layout(_420, cv2.COLOR_YUV2RGB_I420, True),
    'yv12': Layout(_420, cv2.COLOR_YUV2RGB_YV12, True),
    'nv16': Layout(_422, cv2.COLOR_YUV2RGB_YUY2),
    'nv61': Layout(_422, cv2.COLOR_YUV2RGB_YVYU),
}


def split_rows(encoding: str, height: int, width: int, step: int,
               data: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """
    Return brightness (H, W) and the rows of the colours (h, step), views of `data` (bytes,) uint8.

    Raise MessageError where the size does not fit the encoding or the data.
    """
    check_size(width, height)
    rows = PLANAR[encoding].rows
    if step < width:
        raise MessageError(f'step is {step}, a row of {encoding!r} needs width = {width} bytes')
    if data.size < rows * height * step:
        if height % rows.numerator or data.size < step * height:
            raise MessageError(
                f'data has {data.size} bytes, {encoding!r} needs {rows}*step*height = '
                f'{rows * step * height}, or step*height where height counts all rows')
        height = int(height / rows)
    if width % 2 or (height % 2 and rows == _420) or (PLANAR[encoding].is_split and step % 2):
        raise MessageError(f'width x height is {width} x {height} with a step of {step}: '
                           f'{encoding!r} needs even ones, pixels share their colour')
    check_rest(data.size - int(rows * height) * step, height, step)
    all_rows = data[:int(rows * height) * step].reshape(-1, step)
    return all_rows[:height, :width], all_rows[height:]


def check_rest(rest: int, height: int, step: int) -> None:
    """
    Raise MessageError for so many bytes behind the rows that these may be longer than `step`.

    Whole rows and some bytes are what drivers leave there whose buffers are larger.
    """
    if rest % step and rest >= height:
        raise MessageError(f'data has {rest} bytes behind its rows, no number of rows of step '
                           f'{step}: they seem to be longer than that, let the driver set the '
                           'bytes of a row with its padding as step')


def planar_to_rgb(encoding: str, height: int, width: int, step: int,
                  data: np.ndarray) -> np.ndarray:
    """Return (H, W, 3) uint8 RGB; arguments and errors as those of `split_rows`."""
    layout = PLANAR[encoding]
    luma, colors = split_rows(encoding, height, width, step, data)
    if layout.rows == _422:
        return cv2.cvtColor(np.dstack((luma, colors[:, :width])), layout.to_rgb)
    if layout.is_split:  # two rows of colours in each row of data, each padded by itself
        colors = colors.reshape(-1, step // 2)[:, :width // 2].reshape(-1, width)
    return cv2.cvtColor(np.vstack((luma, colors[:, :width])), layout.to_rgb)
