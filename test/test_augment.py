# Copyright 2026 rgbx_seg_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""Training crops: one geometry for all three images, colours of RGB only."""

import warnings

import numpy as np
import pytest
from rgbx_seg_ros.augment import Augment
from rgbx_seg_ros.datasets import Sample
from rgbx_seg_ros.errors import DataError

H, W = 64, 96
PLAIN = {'scale': (1.0, 1.0), 'flip': 0.0, 'jitter': 0.0, 'blank': 0.0}


def coordinates(x_type=np.uint8, channels=None):
    """Return a sample whose every pixel says where it is: row in R and X, column in G, label."""
    rows, columns = np.mgrid[1:H + 1, 1:W + 1].astype(np.uint8)
    x = rows.astype(x_type)
    if channels:
        x = np.dstack([x] * channels)
    return Sample('a', np.dstack([rows, columns, rows]), x, columns)


def rng(seed=0):
    return np.random.default_rng(seed)


@pytest.mark.parametrize('seed', range(8))
@pytest.mark.parametrize('crop', [(32, 40), (64, 96), (100, 80), (90, 130)])
def test_rgb_x_and_label_are_cut_and_mirrored_alike(seed, crop):
    rgb, x, label = Augment(crop, **{**PLAIN, 'flip': 0.5})(coordinates(), rng(seed))
    assert rgb.shape == (*crop, 3) and x.shape == (*crop, 1) and label.shape == crop
    inside = label != 255
    assert np.array_equal(rgb[inside][:, 0], x[inside][:, 0])
    assert np.array_equal(rgb[inside][:, 1], label[inside])
    # What lies outside of the frame is black and unlabeled, all of the frame that fits is in.
    assert not rgb[~inside].any() and not x[~inside].any()
    assert inside.sum() == min(crop[0], H) * min(crop[1], W)


@pytest.mark.parametrize('factor', [0.5, 0.7, 1.6, 2.0])
def test_the_three_images_keep_together_when_they_are_scaled(factor):
    augment = Augment((48, 64), **{**PLAIN, 'scale': (factor, factor)})
    rgb, x, label = augment(coordinates(), rng())
    inside = label != 255
    assert inside.any()
    # A label is taken from the nearest pixel, a colour lies between two.
    assert np.abs(rgb[inside][:, 0].astype(int) - x[inside][:, 0]).max() <= 1
    assert np.abs(rgb[inside][:, 1].astype(int) - label[inside]).max() <= 1 / min(factor, 1)
    row = label[inside.sum(axis=1).argmax()]
    assert np.diff(row[row != 255].astype(int)).mean() == pytest.approx(1 / factor, rel=0.1)


def test_scales_flips_and_places_vary_with_the_generator_and_with_nothing_else():
    augment = Augment((32, 40))
    crops = [augment(coordinates(), rng(seed)) for seed in range(20)]
    again = [augment(coordinates(), rng(seed)) for seed in range(20)]
    for first, second in zip(crops, again, strict=True):
        assert all(map(np.array_equal, first, second))
    assert len({label.tobytes() for _, _, label in crops}) == 20
    directions = {np.sign(np.median(np.diff(label[label.shape[0] // 2].astype(int))))
                  for _, _, label in crops}
    assert directions >= {-1.0, 1.0}


@pytest.mark.parametrize('x_type', [np.uint8, np.uint16, np.float32])
@pytest.mark.parametrize('channels', [None, 3])
def test_x_keeps_its_type_its_channels_and_its_values(x_type, channels):
    sample = coordinates(x_type, channels)
    augment = Augment((H, W), **{**PLAIN, 'jitter': 0.4})
    rgb, x, _ = augment(sample, rng())
    assert (x.dtype, x.shape) == (x_type, (H, W, channels or 1))
    assert np.array_equal(x, np.atleast_3d(sample.x))
    assert not np.array_equal(rgb, sample.rgb)
    assert rgb.dtype == np.uint8


def test_strong_colours_do_not_wrap_around():
    sample = Sample('a', np.full((H, W, 3), 250, np.uint8), np.zeros((H, W), np.uint8),
                    np.zeros((H, W), np.uint8))
    augment, found = Augment((H, W), **{**PLAIN, 'jitter': 1.0}), []
    for seed in range(20):
        rgb, _, _ = augment(sample, rng(seed))
        found.append(int(rgb.max()))
        assert (rgb == found[-1]).all(), 'a plain grey stays plain'
    # Brightness is drawn from 0 to 2: half of the draws end at white, none comes back from black.
    assert found.count(255) > 5
    assert all(value in (255, *range(250)) for value in found)


@pytest.mark.parametrize('x_type', [np.uint8, np.uint16, np.float32])
@pytest.mark.parametrize('channels', [None, 3])
def test_one_sensor_at_a_time_fails_as_often_as_it_should(x_type, channels):
    sample = coordinates(x_type, channels)
    if x_type == np.float32:
        sample.x[0, 0] = np.nan
    augment = Augment((H, W), **{**PLAIN, 'blank': 0.25})
    dark = dead = 0
    with warnings.catch_warnings():
        warnings.simplefilter('error')
        for seed in range(100):
            rgb, x, label = augment(sample, rng(seed))
            dark += not rgb.any()
            constant = (x == x[-1, -1]).all()
            dead += constant
            assert rgb.any() or not constant
            assert x.dtype == x_type
            assert np.array_equal(label, sample.label)
    assert 12 < dark < 40 and 12 < dead < 40


@pytest.mark.parametrize(('changes', 'message'), [
    ({'crop': (31, 64)}, 'augment.crop is'),
    ({'scale': (0.0, 1.0)}, 'augment.scale is .* needed is 0 < low <= high'),
    ({'scale': (2.0, 1.0)}, 'augment.scale is'),
    ({'scale': (1.0, float('inf'))}, 'augment.scale is'),
    ({'flip': 1.5}, 'augment.flip is 1.5, allowed is 0 to 1'),
    ({'flip': float('nan')}, 'augment.flip is nan'),
    ({'jitter': -0.1}, 'augment.jitter is -0.1'),
    ({'blank': 0.6}, 'augment.blank is 0.6, allowed is 0 to 0.5'),
])
def test_impossible_settings_are_named(changes, message):
    with pytest.raises(DataError, match=message):
        Augment(**{'crop': (64, 64), **changes})
