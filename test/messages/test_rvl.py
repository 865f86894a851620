# Copyright 2026 rgbx_seg_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""RVL depth, against an encoder written after the paper, number by number."""

import struct

from hypothesis import given, settings
from hypothesis import strategies as st
import numpy as np
import pytest
from rgbx_seg_ros.errors import MessageError
from rgbx_seg_ros.messages.images import decode_x
from rgbx_seg_ros.messages.rvl import decode_rvl
from support.message_flavours import Rosbags


def encode_rvl(depth):
    """Return (H, W) uint16 in RVL, with the size that compressed_depth_image_transport writes."""
    groups, pixels, before, at = [], depth.ravel().tolist(), 0, 0

    def put(number):
        while True:
            more = number >> 3
            groups.append(number & 7 | (8 if more else 0))
            number = more
            if not more:
                return

    while at < len(pixels):
        zeros = at
        while at < len(pixels) and not pixels[at]:
            at += 1
        start = at
        while at < len(pixels) and pixels[at]:
            at += 1
        put(start - zeros)
        put(at - start)
        for pixel in pixels[start:at]:
            step = pixel - before
            put((step << 1) ^ (step >> 31))
            before = pixel
    groups += [0] * (-len(groups) % 8)
    words = [sum(group << 4 * (7 - i) for i, group in enumerate(groups[at:at + 8]))
             for at in range(0, len(groups), 8)]
    return struct.pack('<ii', *depth.shape[::-1]) + struct.pack(f'<{len(words)}I', *words)


def scene(seed=0, shape=(48, 64)):
    """Return a depth image with holes, a slope and a far wall."""
    rng = np.random.default_rng(seed)
    depth = (400 + 20 * np.arange(shape[0])[:, None] + rng.integers(0, 9, shape)).astype(np.uint16)
    depth[5:20, 30:50] = 65535
    depth[rng.random(shape) < 0.1] = 0
    return depth


def test_depth_comes_out_to_the_last_bit():
    assert np.array_equal(decode_rvl(encode_rvl(scene())), scene())


@settings(deadline=None, max_examples=60)
@given(st.lists(st.sampled_from([0, 0, 0, 1, 7, 8, 500, 40000, 65535]), min_size=1, max_size=70))
def test_any_pixels_come_out(pixels):
    depth = np.array(pixels, np.uint16)[None]
    assert np.array_equal(decode_rvl(encode_rvl(depth)), depth)


@pytest.mark.parametrize('encoding', ['16UC1', 'mono16', '32FC1'])
def test_a_message_is_read_as_one_with_a_png_is(encoding):
    data = struct.pack('<iff', 0, 2000.0, 1.5) + encode_rvl(scene())
    found = decode_x(Rosbags().compressed(f'{encoding}; compressedDepth rvl', data))
    if encoding != '32FC1':
        assert np.array_equal(found, scene())
        return
    with np.errstate(divide='ignore'):
        meters = np.where(scene() > 0, 2000.0 / (scene() - 1.5), np.nan)
    np.testing.assert_allclose(found, meters, rtol=1e-6)


def test_a_file_that_was_cut_or_damaged_is_refused():
    data = encode_rvl(scene())
    for broken in (data[:8], data[:40], data[:-8], struct.pack('<ii', 64, 49) + data[8:],
                   struct.pack('<ii', 64, 20) + data[8:], struct.pack('<ii', -1, 48) + data[8:],
                   data[:8] + b'\xff' * 400):
        with pytest.raises(MessageError, match=r'RVL|width x height'):
            decode_rvl(broken)


@settings(deadline=None, max_examples=100)
@given(st.binary(max_size=200))
def test_whatever_comes_is_an_error_or_a_picture(data):
    try:
        assert decode_rvl(struct.pack('<ii', 8, 4) + data).shape == (4, 8)
    except MessageError:
        pass
