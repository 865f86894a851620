# Copyright 2026 rgbx_seg_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""Raw frames: which are taken, and which raw values become 0 and 1."""

import warnings

import cv2
import numpy as np
import pytest
from rgbx_seg_ros.cards.card import X_NORMALIZATIONS, XInput
from rgbx_seg_ros.errors import CardError, FrameError
from rgbx_seg_ros.frames.raw import (
    check_rgb,
    check_x,
    find_x_limits,
    is_painted,
    visible_x,
    X_TYPES,
)

HALF = (0.5, 0.5, 0.5)


def spec(normalization, **changes):
    limits = {'range': (10.0, 20.0)} if normalization in ('fixed', 'celsius') else {}
    return XInput('thermal', HALF, HALF, normalization, **{**limits, **changes})


@pytest.mark.parametrize('rgb', [
    None, 3, [[[1, 2, 3]]], np.zeros((4, 6), np.uint8), np.zeros((4, 6, 4), np.uint8),
    np.zeros((4, 6, 1), np.uint8), np.zeros((4, 6, 3), np.float32), np.zeros((4, 6, 3), np.int8),
    np.zeros((0, 6, 3), np.uint8), np.zeros((1, 4, 6, 3), np.uint8)])
def test_a_colour_frame_of_another_kind_is_refused_with_what_it_is(rgb):
    with pytest.raises(FrameError, match='rgb is .*, needed is an array') as error:
        check_rgb(rgb)
    assert (str(rgb.dtype) if isinstance(rgb, np.ndarray) else type(rgb).__name__) in str(
        error.value)


@pytest.mark.parametrize('x', [
    None, [[1]], np.zeros((4, 6), np.int32), np.zeros((4, 6), np.float64), np.zeros((4, 6), bool),
    np.zeros((4, 6), '>u2'), np.zeros(6, np.uint8), np.zeros((4, 6, 2), np.uint8),
    np.zeros((4, 6, 4), np.uint8), np.zeros((4, 0), np.uint8)])
def test_an_x_frame_of_another_kind_is_refused_with_what_it_is(x):
    with pytest.raises(FrameError, match='x is .*, needed is an array') as error:
        check_x(x)
    assert (str(x.dtype) if isinstance(x, np.ndarray) else type(x).__name__) in str(error.value)


@pytest.mark.parametrize('x_type', X_TYPES)
@pytest.mark.parametrize('shape', [(4, 6), (4, 6, 1), (4, 6, 3), (1, 1)])
def test_every_x_frame_that_is_allowed_has_a_range(x_type, shape):
    for normalization in X_NORMALIZATIONS:
        x = np.arange(np.prod(shape)).reshape(shape).astype(x_type)
        check_x(x)
        if normalization == 'celsius' and x_type == np.uint8:
            continue
        low, high = find_x_limits(x, spec(normalization))
        assert isinstance(low, float) and isinstance(high, float)
        assert low < high


def test_each_normalization_takes_the_range_that_its_name_says():
    ramp = np.arange(101, dtype=np.uint16).reshape(1, 101)
    assert find_x_limits(ramp, spec('fixed')) == (10.0, 20.0)
    assert find_x_limits(ramp, spec('minmax')) == (0.0, 100.0)
    assert find_x_limits(ramp, spec('percentile', percentiles=(5.0, 90.0))) == (5.0, 90.0)
    assert find_x_limits(ramp, spec('auto')) == (1.0, 99.0)
    assert find_x_limits(ramp.astype(np.float32), spec('auto')) == (1.0, 99.0)
    assert find_x_limits(ramp.astype(np.uint8), spec('auto')) == (0.0, 255.0)


def painted(x, quality=None):
    """Return a ramp as a palette paints it, or as three channels of grey."""
    pixels = cv2.applyColorMap(x, cv2.COLORMAP_INFERNO) if quality is None else cv2.merge([x] * 3)
    if quality:
        pixels = cv2.imdecode(cv2.imencode('.jpg', pixels, [1, quality])[1], cv2.IMREAD_COLOR)
    return pixels


@pytest.mark.parametrize('scale', [1, 200])
def test_colours_of_a_palette_are_told_from_grey(scale):
    ramp = np.tile(np.arange(256, dtype=np.uint8), (64, 1))
    dark = np.random.default_rng(0).integers(0, 6, (64, 256), np.uint8)
    x_type = np.uint8 if scale == 1 else np.uint16
    assert is_painted(painted(ramp).astype(x_type) * scale)
    assert is_painted(painted(ramp).astype(np.float32) / 255)
    for grey in (ramp, ramp[..., None], painted(ramp, 0), painted(dark, 0)):
        assert not is_painted(grey.astype(x_type) * scale)
    assert not any(is_painted(painted(one, quality)) for one in (ramp, dark)
                   for quality in (30, 95))
    assert not is_painted(np.random.default_rng(0).integers(0, 6, (64, 256, 3), np.uint8))
    with_holes = painted(ramp).astype(np.float32)
    with_holes[:20] = np.nan
    assert is_painted(with_holes)


@pytest.mark.filterwarnings('error')
def test_x_without_a_measurement_has_no_colours():
    assert not is_painted(np.full((4, 6, 3), np.nan, np.float32))


@pytest.mark.parametrize(('raw', 'counts'), [
    (29815, {}),  # hundredths of a kelvin
    (2982, {'celsius_per_count': 0.1, 'celsius_at_zero': -273.2}),
    (1250, {'celsius_per_count': 0.1, 'celsius_at_zero': -100.0})])
def test_25_degrees_are_in_the_middle_of_0_to_50_in_counts_and_in_degrees(raw, counts):
    for value, x_type in ((raw, np.uint16), (25.0, np.float32)):
        low, high = find_x_limits(np.full((4, 6), value, x_type),
                                  spec('celsius', range=(0.0, 50.0), **counts))
        assert (value - low) / (high - low) == pytest.approx(0.5, abs=1e-9)


def test_a_celsius_range_refuses_frames_of_8_bit_and_says_what_to_send():
    with pytest.raises(FrameError, match="uint8 with x.normalization 'celsius'.*mono16.*32FC1"):
        find_x_limits(np.zeros((4, 6), np.uint8), spec('celsius'))


@pytest.mark.parametrize(('changes', 'said'), [
    ({'range': None}, 'x.range is None .* fixed and celsius need a range'),
    ({'range': (60.0, -10.0)}, 'low must be below high'),
    ({'celsius_per_count': 0.0}, 'x.celsius_per_count is 0.0'),
    ({'celsius_per_count': -0.01}, 'x.celsius_per_count is -0.01'),
    ({'celsius_per_count': np.inf}, 'x.celsius_per_count is inf'),
    ({'celsius_at_zero': np.nan}, 'x.celsius_at_zero nan')])
def test_a_celsius_range_that_makes_no_sense_is_refused(changes, said):
    with pytest.raises(CardError, match=said):
        spec('celsius', **changes)


@pytest.mark.parametrize('kind', ['depth', 'polarization', 'dsm'])
def test_only_thermal_frames_have_a_range_in_celsius(kind):
    with pytest.raises(CardError, match=f"'celsius' with x.kind '{kind}'.*use fixed"):
        XInput(kind, HALF, HALF, 'celsius', range=(0.0, 50.0))


@pytest.mark.parametrize('normalization', ['minmax', 'percentile'])
@pytest.mark.parametrize(('x', 'invalid'), [
    (np.array([[0, 0, 500, 700, 700]], np.uint16), 0.0),
    (np.array([[np.nan, np.inf, -np.inf, 500, 700]], np.float32), None),
    (np.array([[-1, np.nan, 500, 700, 700]], np.float32), -1.0),
    (np.array([[0.1, 500, 700, 700, 700]], np.float32), 0.1)])
def test_pixels_without_a_measurement_do_not_count(normalization, x, invalid):
    found = find_x_limits(x, spec(normalization, invalid=invalid, percentiles=(0.0, 100.0)))
    assert found == (500.0, 700.0)


def test_valid_pixels_beside_the_sample_are_found():
    x = np.zeros((480, 640), np.uint16)
    x[1, 1:3] = 500, 700
    few = spec('percentile', invalid=0.0, percentiles=(0.0, 100.0))
    assert find_x_limits(x, few) == (500.0, 700.0)


@pytest.mark.parametrize('normalization', ['minmax', 'percentile', 'auto'])
@pytest.mark.parametrize('x', [
    np.zeros((4, 6), np.uint16), np.full((4, 6), np.nan, np.float32),
    np.full((4, 6), 65535, np.uint16), np.full((4, 6), 7.5, np.float32)])
def test_a_frame_of_one_value_or_of_none_has_a_range_one_unit_wide(normalization, x):
    with warnings.catch_warnings():
        warnings.simplefilter('error')
        low, high = find_x_limits(x, spec(normalization, invalid=0.0))
    assert high - low == 1.0
    assert low == (float(x[0, 0]) if np.isfinite(x[0, 0]) else 0.0)


def test_percentiles_of_a_large_frame_are_close_to_the_exact_ones():
    x = np.random.default_rng(0).normal(1000, 100, (1024, 1280)).astype(np.uint16)
    exact = np.percentile(x, (1, 99))
    np.testing.assert_allclose(find_x_limits(x, spec('percentile')), exact, atol=10)


@pytest.mark.parametrize('x_type', [np.uint16, np.float32])
def test_a_frame_without_contrast_is_made_visible_and_what_was_not_measured_black(x_type):
    x = np.full((8, 8), 7000, x_type)
    x[0], x[1] = 7040, 0
    if x_type == np.float32:
        x[2], x[3] = np.nan, np.inf
    with warnings.catch_warnings():
        warnings.simplefilter('error')
        shown = visible_x(x)
    assert shown.shape == (8, 8, 3) and shown.dtype == np.uint8
    assert (shown[0] == 255).all() and (shown[4:] == 30).all() and (shown[1] == 0).all()
    if x_type == np.float32:
        assert (shown[2:4] == 0).all()
