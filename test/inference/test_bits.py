# Copyright 2026 rgbx_seg_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""16-bit colour whose upper bits are empty is told once, a picture that uses them is not."""

import warnings

import numpy as np
import pytest
from rgbx_seg_ros.inference.bits import _FRAMES, BitWatch
from support.message_flavours import image, Rosbags


def told(encoding, highest, bits=16, frames=_FRAMES):
    """Return what is said over so many frames with this highest value."""
    rng = np.random.default_rng(0)
    watch = BitWatch()
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter('always')
        for _ in range(frames):
            dtype = np.uint16 if '16' in encoding else np.uint8
            pixels = rng.integers(0, highest + 1, (48, 64), np.int64).astype(dtype)
            if encoding.startswith('rgb'):
                pixels = np.repeat(pixels[..., None], 3, axis=2)
            watch.look(image(Rosbags(), pixels, encoding), bits)
    return [str(one.message) for one in said]


@pytest.mark.parametrize(('encoding', 'bits'), [
    ('bayer_rggb16', 10), ('rgb16', 12), ('mono16', 8)])
def test_empty_bits_are_told_once_with_the_number_to_set(encoding, bits):
    message, = told(encoding, (1 << bits) - 1, frames=3 * _FRAMES)
    assert message.endswith(f'set rgb.bits to {bits}')


@pytest.mark.parametrize(('encoding', 'highest', 'bits'), [
    ('rgb16', 65535, 16), ('rgb16', 40000, 16), ('rgb16', 20000, 16), ('bayer_rggb16', 1023, 10),
    ('rgb8', 255, 16), ('mono8', 3, 16)])
def test_a_picture_that_uses_its_bits_is_not(encoding, highest, bits):
    assert told(encoding, highest, bits) == []


def test_what_is_wrong_stays_told_until_the_bits_are_set():
    watch, message = BitWatch(), image(Rosbags(), np.full((48, 64), 1023, np.uint16), 'mono16')
    for bits, dark in ((16, True), (10, False), (12, True)):
        with warnings.catch_warnings(record=True) as said:
            warnings.simplefilter('always')
            for _ in range(2 * _FRAMES):
                watch.look(message, bits)
        assert [str(one.message) for one in said] == [watch.trouble] * dark
        assert bool(watch.trouble) == dark


def test_a_few_dark_frames_say_nothing():
    assert told('rgb16', 100, frames=_FRAMES - 1) == []
