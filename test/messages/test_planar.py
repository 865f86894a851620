# Copyright 2026 rgbx_seg_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""YUV with its colours behind the brightness, with both meanings of height."""

import cv2
import numpy as np
import pytest
from rgbx_seg_ros.errors import MessageError
from rgbx_seg_ros.messages.images import decode_rgb, decode_x, raw_pixels
from rgbx_seg_ros.messages.planar import PLANAR
from support.message_flavours import FLAVOURS

HEIGHT, WIDTH = 30, 44
RNG = np.random.default_rng(5)
LUMA = cv2.GaussianBlur(RNG.integers(16, 236, (HEIGHT, WIDTH), np.uint8), (5, 5), 0)
SMALL = {name: RNG.integers(60, 200, (HEIGHT // 2, WIDTH // 2), np.uint8) for name in 'uv'}


def planes(encoding, padding):
    """Return the bytes of a message, its rows followed by `padding` bytes, and what it shows."""
    tall = encoding in ('nv16', 'nv61')
    u, v = (np.repeat(SMALL[name], 2, axis=0) if tall else SMALL[name] for name in 'uv')
    if encoding in ('nv21', 'nv61', 'yv12'):
        first, second = v, u
    else:
        first, second = u, v
    if encoding.startswith('nv'):
        colors = [np.dstack((first, second)).reshape(len(u), WIDTH)]
        pads = [padding]
    else:
        colors, pads = [first, second], [padding // 2] * 2
    rows = [(LUMA, padding), *zip(colors, pads, strict=True)]
    data = b''.join(row.tobytes() + b'\xee' * pad for plane, pad in rows for row in plane)
    return data, expected()


def expected():
    """Return the picture by the definition of BT.601 with Y from 16 to 235."""
    y = 1.164 * (LUMA.astype(float) - 16)
    u, v = (np.kron(SMALL[name].astype(float) - 128, np.ones((2, 2))) for name in 'uv')
    rgb = np.dstack((y + 1.596 * v, y - 0.391 * u - 0.813 * v, y + 2.018 * u))
    return np.clip(np.rint(rgb), 0, 255).astype(np.uint8)


def message(flavour, encoding, padding=0, **wrong):
    data, _ = planes(encoding, padding)
    return flavour.image(**{'height': HEIGHT, 'width': WIDTH, 'encoding': encoding,
                            'is_bigendian': 0, 'step': WIDTH + padding, 'data': data, **wrong})


@pytest.mark.parametrize('flavour', FLAVOURS)
@pytest.mark.parametrize('padding', [0, 20])
@pytest.mark.parametrize('encoding', PLANAR)
def test_the_picture_comes_out_whatever_height_means(encoding, padding, flavour):
    data, picture = planes(encoding, padding)
    for height in (HEIGHT, len(data) // (WIDTH + padding)):
        msg = message(flavour(), encoding, padding, height=height)
        for found in (decode_rgb(msg), decode_x(msg)):
            assert found.shape == (HEIGHT, WIDTH, 3) and found.dtype == np.uint8
            assert np.abs(found.astype(int) - picture).max() <= 2
        assert np.array_equal(raw_pixels(msg), LUMA)


@pytest.mark.parametrize(('encoding', 'wrong', 'said'), [
    ('nv12', {'step': WIDTH - 1}, 'step is 43, a row .* needs width = 44'),
    ('nv12', {'data': bytes(WIDTH * 20)}, 'data has 880 bytes, .* needs 3/2.step.height = 1980'),
    ('nv16', {'data': bytes(WIDTH * 20)}, 'needs 2.step.height = 2640'),
    ('nv21', {'width': WIDTH - 1}, 'width x height is 43 x 30 .* needs even ones'),
    ('i420', {'height': HEIGHT - 1}, 'width x height is 44 x 29'),
    ('yuv420', {'step': WIDTH + 1, 'data': bytes(45 * 45)}, 'with a step of 45'),
    ('nv12', {'height': 0}, 'width x height is 44 x 0'),
    ('nv12', {'data': bytes((WIDTH + 4) * HEIGHT * 3 // 2)}, 'data has 180 bytes behind its rows'),
])
def test_what_does_not_fit_is_told(encoding, wrong, said):
    msg = message(FLAVOURS[0](), encoding, **wrong)
    for read in (decode_rgb, decode_x, raw_pixels):
        with pytest.raises(MessageError, match=said):
            read(msg)
