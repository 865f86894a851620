# Copyright 2026 rgbx_seg_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""Training crops: one geometry for all three images, colours of RGB only."""

import colorsys
from pathlib import Path
import warnings

import cv2
import numpy as np
import pytest
from rgbx_seg_ros.datasets import Sample
from rgbx_seg_ros.errors import DataError
from rgbx_seg_ros.fields import from_mapping
from rgbx_seg_ros.training.augment import (
    Augment,
    blurred,
    darkened,
    jittered,
    recolored,
    softened,
    stretched,
)
import yaml

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


def raw(x):
    """Make X ready as for a network that takes raw values."""
    return np.atleast_3d(x).astype(np.float32)


@pytest.mark.parametrize('seed', range(8))
@pytest.mark.parametrize('crop', [(32, 40), (64, 96), (100, 80), (90, 130)])
def test_rgb_x_and_label_are_cut_and_mirrored_alike(seed, crop):
    rgb, x, label = Augment(crop, **{**PLAIN, 'flip': 0.5})(coordinates(), rng(seed), raw)
    assert rgb.shape == (*crop, 3) and x.shape == (*crop, 1) and label.shape == crop
    inside = label != 255
    assert np.array_equal(rgb[inside][:, 0], x[inside][:, 0])
    assert np.array_equal(rgb[inside][:, 1], label[inside])
    # What lies outside of the frame is black and unlabeled, all of the frame that fits is in.
    assert not rgb[~inside].any() and not x[~inside].any()
    assert inside.sum() == min(crop[0], H) * min(crop[1], W)


@pytest.mark.parametrize('factor', [0.3, 0.5, 0.7, 1.6, 2.0])
def test_the_three_images_keep_together_when_they_are_scaled(factor):
    augment = Augment((48, 64), **{**PLAIN, 'scale': (factor, factor), 'anchor': 0.0})
    rgb, x, label = augment(coordinates(), rng(), raw)
    inside = label != 255
    inside[:, (label == W).any(axis=0)] = False  # at the edges fewer pixels are averaged
    inside[0], inside[:, 0] = False, False
    assert inside.any()
    # A label is taken from the nearest pixel, a colour lies between two.
    assert np.abs(rgb[inside][:, 0] - x[inside][:, 0]).max() <= 1
    assert np.abs(rgb[inside][:, 1].astype(int) - label[inside]).max() <= 1
    off = rgb[inside][:, 1].astype(int) - label[inside]
    assert abs(off.mean()) <= 0.51, 'the label lies beside the colours'
    row = label[inside.sum(axis=1).argmax()]
    assert np.diff(row[row != 255].astype(int)).mean() == pytest.approx(1 / factor, rel=0.1)


def test_scales_flips_and_places_vary_with_the_generator_and_with_nothing_else():
    augment = Augment((32, 40))
    crops = [augment(coordinates(), rng(seed), raw) for seed in range(20)]
    again = [augment(coordinates(), rng(seed), raw) for seed in range(20)]
    for first, second in zip(crops, again, strict=True):
        assert all(map(np.array_equal, first, second))
    assert len({label.tobytes() for _, _, label in crops}) == 20
    directions = {np.sign(np.median(np.diff(label[label.shape[0] // 2].astype(int))))
                  for _, _, label in crops}
    assert directions >= {-1.0, 1.0}


@pytest.mark.parametrize('x_type', [np.uint8, np.uint16, np.float32])
@pytest.mark.parametrize('channels', [None, 3])
def test_x_keeps_its_channels_and_its_values(x_type, channels):
    sample = coordinates(x_type, channels)
    augment = Augment((H, W), **{**PLAIN, 'jitter': 0.4})
    rgb, x, _ = augment(sample, rng(), raw)
    assert (x.dtype, x.shape) == (np.float32, (H, W, channels or 1))
    assert np.array_equal(x, np.atleast_3d(sample.x))
    assert not np.array_equal(rgb, sample.rgb)
    assert rgb.dtype == np.uint8


def test_strong_colours_do_not_wrap_around():
    sample = Sample('a', np.full((H, W, 3), 250, np.uint8), np.zeros((H, W), np.uint8),
                    np.zeros((H, W), np.uint8))
    augment, found = Augment((H, W), **{**PLAIN, 'jitter': 1.0}), []
    for seed in range(20):
        rgb, _, _ = augment(sample, rng(seed), raw)
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
            rgb, x, label = augment(sample, rng(seed), raw)
            dark += not rgb.any()
            constant = (x == x[-1, -1]).all()
            dead += constant
            assert rgb.any() or not constant
            assert np.array_equal(label, sample.label)
    assert 12 < dark < 40 and 12 < dead < 40


def factors(count, **changes):
    """Return what the frame was scaled by, rounded to whole columns, in many draws."""
    augment, one = Augment((140, 200), **{**PLAIN, **changes}), rng()
    labels = [augment(coordinates(), one, raw)[2] for _ in range(count)]
    return np.array([(label != 255).any(axis=0).sum() / W for label in labels])


def test_factors_are_drawn_evenly_in_themselves_or_in_their_logarithm():
    for log_scale, median in ((True, 1.0), (False, 1.25)):
        found = factors(1500, scale=(0.5, 2.0), log_scale=log_scale)
        assert 0.49 < found.min() < 0.52 and 1.98 < found.max() < 2.01
        assert np.median(found) == pytest.approx(median, abs=0.06)


def test_factors_may_be_steps_each_as_likely():
    found, counts = np.unique(factors(600, scale=(0.5, 1.75), scale_step=0.25),
                              return_counts=True)
    assert found.tolist() == [0.5, 0.75, 1.0, 1.25, 1.5, 1.75]
    assert counts.min() > 60


@pytest.mark.parametrize(('base', 'size'), [
    ((64, 96), (64, 96)), ((32, 96), (32, 48)), ((128, 960), (128, 192)), ((32, 40), (27, 40))])
def test_a_base_is_what_the_frame_is_fitted_into(base, size):
    augment, sample = Augment((200, 200), **{**PLAIN, 'base': base}), coordinates()
    upright = Sample('a', sample.rgb.transpose(1, 0, 2), sample.x.T, sample.label.T)
    for frame, wanted in ((sample, size), (upright, size[::-1])):
        inside = augment(frame, rng(), raw)[2] != 255
        assert (inside.any(axis=1).sum(), inside.any(axis=0).sum()) == wanted


def test_x_of_another_size_is_brought_to_that_of_the_frame():
    sample = Sample('a', coordinates().rgb, cv2.resize(coordinates().x, (W // 2, H // 2)),
                    coordinates().label)
    rgb, x, _ = Augment((H, W), **PLAIN)(sample, rng(), raw)
    assert np.abs(x[..., 0].astype(int) - rgb[..., 0]).max() <= 1


@pytest.mark.parametrize(('anchor', 'top', 'left'), [(0.0, 0, 0), (0.5, 18, 17), (1.0, 36, 34)])
def test_a_frame_smaller_than_the_crop_lies_where_it_is_anchored(anchor, top, left):
    augment = Augment((H + 36, W + 34), **{**PLAIN, 'anchor': anchor, 'fill_rgb': (1, 2, 3),
                                           'fill_x': 7.0})
    for seed in range(3):
        rgb, x, label = augment(coordinates(np.uint16), rng(seed), raw)
        inside = np.zeros(label.shape, bool)
        inside[top:top + H, left:left + W] = True
        assert np.array_equal(label != 255, inside)
        assert (rgb[~inside] == (1, 2, 3)).all() and (x[~inside] == 7).all()
        assert np.array_equal(rgb[inside].reshape(H, W, 3), coordinates().rgb)


def test_a_crop_within_the_frame_goes_anywhere_whatever_the_anchor():
    augment = Augment((32, 40), **{**PLAIN, 'anchor': 0.0})
    corners = {tuple(augment(coordinates(), rng(seed), raw)[0][0, 0, :2]) for seed in range(10)}
    assert len(corners) > 7


def test_a_fill_that_x_cannot_hold_is_named():
    augment = Augment((H, W), **{**PLAIN, 'fill_x': 300.0})
    augment(coordinates(np.uint16), rng(), raw)
    with pytest.raises(DataError, match="fill_x is 300.0, more than the uint8 of frame 'a' can"):
        augment(coordinates(np.uint8), rng(), raw)


def test_rows_are_mirrored_as_often_as_they_should():
    augment = Augment((H, W), **{**PLAIN, 'flip_vertical': 0.3})
    mirrored = 0
    for seed in range(100):
        rgb, x, label = augment(coordinates(), rng(seed), raw)
        up = rgb[0, 0, 0] > rgb[-1, 0, 0]
        mirrored += up
        wanted = [part[::-1] if up else part for part in (
            coordinates().rgb, coordinates().x[..., None], coordinates().label)]
        assert all(map(np.array_equal, (rgb, x, label), wanted))
    assert 18 <= mirrored <= 42


@pytest.mark.parametrize('channels', [None, 3])
@pytest.mark.parametrize('x_type', [np.uint8, np.uint16, np.float32])
def test_the_three_images_are_rotated_alike(x_type, channels):
    augment = Augment((H, W), **{**PLAIN, 'rotate': 10.0, 'fill_x': 9.0})
    rows, columns = np.mgrid[:H, :W] - np.array([(H - 1) / 2, (W - 1) / 2])[:, None, None]
    angles = []
    for seed in range(10):
        rgb, x, label = augment(coordinates(x_type, channels), rng(seed), raw)
        assert (x.dtype, x.shape) == (np.float32, (H, W, channels or 1))
        inside = cv2.erode((label != 255).astype(np.uint8), np.ones((3, 3)), borderValue=0) > 0
        # The column of a pixel is a plane over the image; its slopes are those of the angle.
        plane = np.stack((columns[inside], rows[inside], np.ones(inside.sum())), axis=1)
        along, across, middle = np.linalg.lstsq(plane, rgb[inside][:, 1].astype(float),
                                                rcond=None)[0]
        assert np.hypot(along, across) == pytest.approx(1, abs=0.01)
        assert middle == pytest.approx((W + 1) / 2, abs=0.1)
        angles.append(np.degrees(np.arctan2(across, along)))
        assert np.abs(rgb[inside][:, 0].astype(float) - x[inside][:, 0]).max() <= 1
        assert np.abs(rgb[inside][:, 1].astype(int) - label[inside]).max() <= 1
        # Corners that the frame has left are filled.
        turned = np.abs(angles[-1]) > 1
        assert (label == 255).any() or not turned
        outside = cv2.dilate((label != 255).astype(np.uint8), np.ones((5, 5))) == 0
        assert not rgb[outside].any() and (x[outside] == 9).all()
    assert max(angles) > 4 and min(angles) < -4
    assert max(map(abs, angles)) <= 10.1


def test_no_label_lies_between_two_others():
    label = np.where(coordinates().label % 5 < 2, 200, 10).astype(np.uint8)
    sample = Sample('a', coordinates().rgb, coordinates().x, label)
    augment = Augment((80, 80), scale=(0.5, 2.0), rotate=10.0)
    for seed in range(10):
        assert set(np.unique(augment(sample, rng(seed), raw)[2])) <= {10, 200, 255}


def test_rotations_are_as_rare_as_they_should():
    augment = Augment((H, W), **{**PLAIN, 'rotate': 10.0, 'rotate_chance': 0.2})
    turned = sum(not np.array_equal(augment(coordinates(), rng(seed), raw)[0], coordinates().rgb)
                 for seed in range(100))
    assert 10 <= turned <= 32


def test_a_crop_of_nearly_one_class_is_drawn_anew():
    label = np.zeros((H, W), np.uint8)
    label[:, :20], label[:40, :8] = 1, 255
    sample = Sample('a', coordinates().rgb, coordinates().x, label)
    shares = {}
    for limit in (1.0, 0.75):
        augment, shares[limit] = Augment((32, 32), **{**PLAIN, 'max_share': limit}), []
        for seed in range(100):
            counts = np.bincount(augment(sample, rng(seed), raw)[2].ravel(), minlength=256)[:255]
            shares[limit].append(counts.max() / counts.sum())
    assert np.mean(np.greater(shares[1.0], 0.75)) > 0.6
    # The eleventh crop is taken as it is.
    assert np.mean(np.greater(shares[0.75], 0.75)) < 0.2


def test_the_frame_before_its_colours_were_changed_lies_as_the_others_do():
    augment = Augment((48, 200), scale=(0.5, 1.5), flip=0.5, jitter=0.5, blank=0.5, rotate=5.0)
    for seed in range(10):
        rgb, x, label, frame = augment.with_frame(coordinates(), rng(seed), raw)
        again = augment(coordinates(), rng(seed), raw)
        assert all(map(np.array_equal, (rgb, x, label), again))
        plain = Augment((48, 200), scale=(0.5, 1.5), flip=0.5, jitter=0.0, blank=0.0, rotate=5.0)
        assert np.array_equal(frame, plain(coordinates(), rng(seed), raw)[0])
        assert not np.array_equal(frame, rgb)


@pytest.mark.parametrize('change', [
    {'blur': 0.5}, {'jitter': 0.5, 'jitter_chance': 0.5}, {'distort': 0.15}, {'soften': 0.5},
    {'autocontrast': 0.5}, {'darken': 0.5}], ids=str)
def test_colours_change_as_often_as_they_should_and_what_fills_the_crop_never(change):
    sample, changed = natural(), 0
    augment = Augment((H + 10, W), **{**PLAIN, 'fill_rgb': (9, 9, 9), **change})
    for seed in range(100):
        rgb, x, label = augment(sample, rng(seed), raw)
        inside = label != 255
        assert (rgb[~inside] == 9).all()
        assert np.array_equal(x[inside].reshape(H, W), sample.x)
        changed += not np.array_equal(rgb[inside].reshape(H, W, 3), sample.rgb)
    assert 33 <= changed <= 67


def natural():
    """Return a sample with smooth colours that do not fill the range."""
    rgb = rng(1).integers(20, 200, (H // 8, W // 8, 3)).astype(np.uint8)
    return Sample('a', cv2.resize(rgb, (W, H)), coordinates().x, coordinates().label)


def test_a_blur_is_a_gaussian_of_nine_pixels():
    weights = np.exp(-np.arange(-1, 2) ** 2 / (2 * 0.8 ** 2))
    kernel = np.outer(weights, weights) / weights.sum() ** 2
    padded = np.pad(natural().rgb, ((1, 1), (1, 1), (0, 0)), mode='reflect').astype(float)
    wanted = sum(kernel[i, j] * padded[i:i + H, j:j + W] for i, j in np.ndindex(3, 3))
    assert np.abs(blurred(natural().rgb) - wanted).max() <= 1


def test_a_jitter_scales_all_then_differences_to_the_mean_then_to_grey():
    image = natural().rgb.astype(float) * 1.3
    image = image.mean() + 0.6 * (image - image.mean())
    grey = image.mean(axis=2)
    for channel in range(3):
        wanted = np.clip(grey + 1.4 * (image[..., channel] - grey), 0, 255)
        ours = jittered(natural().rgb, 1.3, 0.6, 1.4)[..., channel]
        assert np.abs(ours - wanted).max() <= 0.51


@pytest.mark.parametrize(('saturation', 'turn'), [(1.5, 0), (0.5, 0), (1.0, 18), (1.2, -18)])
def test_saturation_and_hue_are_those_of_the_hsv_model(saturation, turn):
    rgb = natural().rgb[::7, ::7]
    ours = recolored(rgb, saturation, turn)
    for pixel, found in zip(rgb.reshape(-1, 3), ours.reshape(-1, 3), strict=True):
        hue, purity, value = colorsys.rgb_to_hsv(*pixel / 255)
        wanted = colorsys.hsv_to_rgb((hue + turn / 180) % 1, min(1, purity * saturation), value)
        assert np.abs(found - 255 * np.array(wanted)).max() <= 5  # steps of two degrees


def test_distortions_are_a_shift_of_32_levels_a_contrast_a_saturation_and_a_hue():
    grey = Sample('a', np.full((H, W, 3), 100, np.uint8), coordinates().x, coordinates().label)
    augment = Augment((H, W), **{**PLAIN, 'distort': 1.0})
    values = [int(augment(grey, rng(seed), raw)[0][0, 0, 0]) for seed in range(300)]
    # Grey has no hue and no saturation: what is left is (100 +- 32) * (0.5 to 1.5).
    assert 34 <= min(values) < 45 and 175 < max(values) <= 198
    assert all((augment(grey, rng(seed), raw)[0] == values[seed]).all() for seed in range(3))
    red = Sample('a', np.tile(np.uint8([160, 40, 40]), (H, W, 1)), grey.x, grey.label)
    colours = [augment(red, rng(seed), raw)[0][0, 0] / 255 for seed in range(300)]
    hues, purities, _ = np.transpose([colorsys.rgb_to_hsv(*colour) for colour in colours])
    hues = 180 * ((hues + 0.5) % 1 - 0.5)
    assert -20 < hues.min() < -15 and 15 < hues.max() < 20
    assert purities.min() < 0.45 and purities.max() > 0.95


def test_softening_leaves_a_tenth_and_the_outermost_pixels():
    rgb = natural().rgb.astype(float)
    kernel = np.array([[1, 1, 1], [1, 5, 1], [1, 1, 1]]) / 13
    wanted = rgb.copy()
    for row, column in np.ndindex(H - 2, W - 2):
        patch = rgb[row:row + 3, column:column + 3]
        wanted[row + 1, column + 1] = (0.1 * patch[1, 1]
                                       + 0.9 * (patch * kernel[..., None]).sum(axis=(0, 1)))
    assert np.abs(softened(natural().rgb) - wanted).max() <= 0.51


def test_autocontrast_stretches_each_channel_that_is_not_constant():
    rgb = natural().rgb.copy()
    rgb[..., 1] = 77
    out = stretched(rgb)
    assert (out[..., 1] == 77).all()
    for channel in (0, 2):
        wanted = np.interp(rgb[..., channel], (rgb[..., channel].min(), rgb[..., channel].max()),
                           (0, 255))
        assert np.abs(out[..., channel] - wanted).max() <= 0.51


def test_in_the_dark_there_is_little_light_and_noise_that_grows_with_it():
    bright = np.dstack([np.full((H, W), 200, np.uint8), np.zeros((H, W, 2), np.uint8)])
    lights, noises = [], []
    for seed in range(200):
        out = darkened(bright, rng(seed))
        lights.append(out[..., 0].mean() / 200)
        noises.append(out.std(axis=(0, 1)))
    assert 0.02 < min(lights) < 0.03 and 0.36 < max(lights) < 0.41
    assert 0.07 < np.median(lights) < 0.13, 'not even in the logarithm'
    light, dark = np.max(noises, axis=0)[:2]
    assert light > 3 * dark > 0.5


def test_a_change_of_colours_leaves_the_image_given_as_it_is():
    rgb = natural().rgb
    before = rgb.copy()
    for change in (blurred, lambda image: jittered(image, 1.2, 1.2, 1.2),
                   lambda image: recolored(image, 1.2, 3), softened, stretched,
                   lambda image: darkened(image, rng())):
        change(rgb)
        assert np.array_equal(rgb, before)


RECIPES = sorted((Path(__file__).parents[2] / 'config' / 'train').glob('*.yaml'))


@pytest.mark.parametrize('path', RECIPES, ids=lambda path: path.stem)
def test_the_changes_of_every_recipe_can_be_made(path):
    augment = from_mapping(Augment, yaml.safe_load(path.read_text())['augment'], path.name,
                           DataError)
    rgb, x, label = augment(coordinates(), rng(), raw)
    assert rgb.shape[:2] == x.shape[:2] == label.shape == augment.crop


@pytest.mark.parametrize(('changes', 'message'), [
    ({'crop': (31, 64)}, 'augment.crop is'),
    ({'scale': (0.0, 1.0)}, 'augment.scale is .* needed is 0 < low <= high'),
    ({'scale': (2.0, 1.0)}, 'augment.scale is'),
    ({'scale': (1.0, float('inf'))}, 'augment.scale is'),
    ({'flip': 1.5}, 'augment.flip is 1.5, allowed is 0 to 1'),
    ({'flip': float('nan')}, 'augment.flip is nan'),
    ({'jitter': -0.1}, 'augment.jitter is -0.1'),
    ({'blank': 0.6}, 'augment.blank is 0.6, allowed is 0 to 0.5'),
    ({'night_level': 256.0}, 'augment.night_level is 256.0, allowed is 0 to 255'),
    ({'base': (640, 480)}, r'augment.base is \(640, 480\), needed is 0 < shorter <= longer'),
    ({'base': (0, 480)}, 'augment.base is'),
    ({'scale_step': -0.25}, 'augment.scale_step is -0.25, allowed is 0 or more'),
    ({'rotate': 200.0}, 'augment.rotate is 200.0, allowed is 0 to 180'),
    ({'max_share': 0.0}, 'augment.max_share is 0.0, allowed is more than 0, up to 1'),
    ({'anchor': 1.1}, 'augment.anchor is 1.1'),
    ({'fill_rgb': (0, 0, 256)}, r'augment.fill_rgb\[2\] is 256, allowed is 0 to 255'),
    ({'fill_x': -1.0}, 'augment.fill_x is -1.0'),
    *(({name: 1.1}, f'augment.{name} is 1.1, allowed is 0 to 1') for name in (
        'rotate_chance', 'flip_vertical', 'blur', 'jitter_chance', 'distort', 'soften',
        'autocontrast', 'darken')),
])
def test_impossible_settings_are_named(changes, message):
    with pytest.raises(DataError, match=message):
        Augment(**{'crop': (64, 64), **changes})
