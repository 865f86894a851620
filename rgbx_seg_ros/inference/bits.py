# Copyright 2026 rgbx_seg_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""Whether 16-bit colour uses its 16 bits: many drivers leave the upper ones of 10 or 12 empty."""

import warnings

import numpy as np
from rgbx_seg_ros.messages.images import raw_pixels

_FRAMES = 50
_ROWS = 16
"""Rows apart of those that are looked at: a highlight is larger."""


class BitWatch:
    """Warns once, and keeps it in `trouble`, where none of many frames has a high value."""

    def __init__(self):
        self._seen = self._highest = self._bits = 0
        self.trouble = ''

    def look(self, message, bits: int) -> None:
        """Take a message of a colour camera into account, of whose values `bits` count."""
        if bits != self._bits:
            self._seen, self._highest, self._bits, self.trouble = 0, 0, bits, ''
        if self._seen == _FRAMES:
            return
        pixels = raw_pixels(message)
        if pixels.dtype.itemsize != 2:
            self._seen = _FRAMES
            return
        self._seen += 1
        self._highest = max(self._highest, int(np.max(pixels[::_ROWS])))
        used = max(8, self._highest.bit_length())
        if self._seen == _FRAMES and used < bits - 1:  # one bit less is a dim scene
            self.trouble = (
                f'no value of the 16-bit colour frames is above {self._highest}, of {bits} bits '
                f'that count: the picture is nearly black; if the camera gives {used} bits, set '
                f'rgb.bits to {used}')
            warnings.warn(self.trouble, stacklevel=2)
