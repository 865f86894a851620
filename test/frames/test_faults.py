# Copyright 2026 rgbx_seg_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""Faults of frames: as strong as they say, and where nothing was measured still nothing."""

from dataclasses import replace

import numpy as np
import pytest
from rgbx_seg_ros.cards.card import load_card
from rgbx_seg_ros.frames.faults import changed, compressed, dimmed, lost_patches, shifted

H, W = 24, 32
TYPES = [np.uint8, np.uint16, np.float32]


@pytest.fixture
def spec(tiny_card):
    return load_card(tiny_card).x


def ramp(dtype=np.uint8, channels=()):
    """Return an X whose every pixel has another value."""
    return np.arange(H * W * int(np.prod(channels))).reshape(H, W, *channels).astype(dtype)


@pytest.mark.parametrize('channels', [(), (3,)])
@pytest.mark.parametrize(('right', 'down'), [(3, 0), (-3, 0), (0, 5), (0, -5), (2, -1), (0, 0)])
def test_a_shift_moves_the_content_and_repeats_the_edge(right, down, channels):
    x = ramp(np.uint16, channels)
    padded = np.pad(x, [(6, 6), (6, 6), *[(0, 0)] * len(channels)], 'edge')
    out = shifted(x, right, down)
    np.testing.assert_array_equal(out, padded[6 - down:6 - down + H, 6 - right:6 - right + W])
    assert out.dtype == x.dtype and out.flags.c_contiguous
    assert np.array_equal(x, ramp(np.uint16, channels))


@pytest.mark.parametrize('dtype', TYPES)
def test_a_change_is_made_between_the_limits_of_x(dtype, spec):
    x = np.array([[10, 40, 110, 210, 250]]).astype(dtype)
    limits = 10.0, 210.0
    np.testing.assert_array_equal(changed(x, limits, spec, lambda share: share),
                                  np.array([[10, 40, 110, 210, 210]]).astype(dtype))
    out = changed(x, limits, spec, lambda share: share * np.float32(0.5) + np.float32(0.25))
    assert out.dtype == x.dtype
    np.testing.assert_allclose(out, [[60, 75, 110, 160, 160]])
    for much, edge in ((2, 210), (-2, 10)):
        assert (changed(x, limits, spec, lambda share, much=much: share + much) == edge).all()


def test_what_has_no_measurement_stays_so(spec):
    x = ramp(np.float32)
    x[0], x[1] = np.nan, np.inf
    out = changed(x, (0.0, 800.0), spec, lambda share: share + np.float32(0.1))
    np.testing.assert_array_equal(out[:2], x[:2])
    np.testing.assert_allclose(out[2:20], x[2:20] + 80, rtol=1e-5)
    depth = ramp(np.uint16)
    out = changed(depth, (0.0, 800.0), replace(spec, invalid=0.0), np.ones_like)
    assert out[0, 0] == 0 and (out.ravel()[1:] == 800).all()


def test_patches_are_lost_with_their_probability_and_more_of_them_where_it_is_higher():
    size, shares = (64, 96), (0.25, 0.5, 0.75)
    lost = [[lost_patches(size, share, np.random.default_rng(seed)) for share in shares]
            for seed in range(40)]
    for one in lost:
        assert all((less <= more).all() for less, more in zip(one, one[1:], strict=False))
        grid = one[0][::8, ::8]
        np.testing.assert_array_equal(one[0], grid.repeat(8, 0).repeat(8, 1))
    np.testing.assert_allclose(np.mean(lost, axis=(0, 2, 3)), shares, atol=0.03)
    assert lost_patches((5, 7), 1.0, np.random.default_rng(0)).all()


def test_little_light_scales_the_image_and_its_noise_grows_with_the_light():
    rgb = np.zeros((H, W, 3), np.uint8)
    rgb[..., 0] = 200
    noise = np.random.default_rng(0).standard_normal(rgb.shape, np.float32)
    np.testing.assert_array_equal(dimmed(rgb, 0.5, 0.0, noise)[0, 0], [100, 0, 0])
    noisy = dimmed(rgb, 0.5, 2.0, noise)[..., 0].astype(float)
    assert noisy.mean() == pytest.approx(100, abs=3)
    assert noisy.std() == pytest.approx(2 * np.sqrt(101), rel=0.1)


def test_a_jpeg_keeps_less_the_lower_its_quality_and_the_colours_in_their_order():
    rgb = ramp(np.uint8)[..., None].repeat(3, axis=2)
    errors = [np.abs(compressed(rgb, quality).astype(int) - rgb).mean() for quality in (95, 50, 5)]
    assert errors == sorted(errors) and errors[0] < errors[2] / 2
    red = np.zeros((H, W, 3), np.uint8)
    red[..., 0] = 255
    np.testing.assert_allclose(compressed(red, 95)[0, 0], [255, 0, 0], atol=3)
