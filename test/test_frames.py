# Copyright 2026 rgbx_seg_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""Raw frames: which are taken, and which raw values become 0 and 1."""

import warnings

import numpy as np
import pytest
from rgbx_seg_ros.card import X_NORMALIZATIONS, XInput
from rgbx_seg_ros.errors import FrameError
from rgbx_seg_ros.frames import check_rgb, check_x, to_batch, x_range, X_TYPES

HALF = (0.5, 0.5, 0.5)


def spec(normalization, **changes):
    limits = {'range': (10.0, 20.0)} if normalization == 'fixed' else {}
    return XInput('thermal', HALF, HALF, normalization, **limits, **changes)


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
        low, high = x_range(x, spec(normalization))
        assert isinstance(low, float) and isinstance(high, float)
        assert low < high


def test_each_normalization_takes_the_range_that_its_name_says():
    ramp = np.arange(101, dtype=np.uint16).reshape(1, 101)
    assert x_range(ramp, spec('fixed')) == (10.0, 20.0)
    assert x_range(ramp, spec('minmax')) == (0.0, 100.0)
    assert x_range(ramp, spec('percentile', percentiles=(5.0, 90.0))) == (5.0, 90.0)
    assert x_range(ramp, spec('auto')) == (1.0, 99.0)
    assert x_range(ramp.astype(np.float32), spec('auto')) == (1.0, 99.0)
    assert x_range(ramp.astype(np.uint8), spec('auto')) == (0.0, 255.0)


@pytest.mark.parametrize('normalization', ['minmax', 'percentile'])
@pytest.mark.parametrize(('x', 'invalid'), [
    (np.array([[0, 0, 500, 700, 700]], np.uint16), 0.0),
    (np.array([[np.nan, np.inf, -np.inf, 500, 700]], np.float32), None),
    (np.array([[-1, np.nan, 500, 700, 700]], np.float32), -1.0),
    (np.array([[0.1, 500, 700, 700, 700]], np.float32), 0.1)])
def test_pixels_without_a_measurement_do_not_count(normalization, x, invalid):
    found = x_range(x, spec(normalization, invalid=invalid, percentiles=(0.0, 100.0)))
    assert found == (500.0, 700.0)


@pytest.mark.parametrize('normalization', ['minmax', 'percentile', 'auto'])
@pytest.mark.parametrize('x', [
    np.zeros((4, 6), np.uint16), np.full((4, 6), np.nan, np.float32),
    np.full((4, 6), 65535, np.uint16), np.full((4, 6), 7.5, np.float32)])
def test_a_frame_of_one_value_or_of_none_has_a_range_one_unit_wide(normalization, x):
    with warnings.catch_warnings():
        warnings.simplefilter('error')
        low, high = x_range(x, spec(normalization, invalid=0.0))
    assert high - low == 1.0
    assert low == (float(x[0, 0]) if np.isfinite(x[0, 0]) else 0.0)


def test_percentiles_of_a_large_frame_are_close_to_the_exact_ones():
    x = np.random.default_rng(0).normal(1000, 100, (1024, 1280)).astype(np.uint16)
    exact = np.percentile(x, (1, 99))
    np.testing.assert_allclose(x_range(x, spec('percentile')), exact, atol=10)


def views(frame):
    """Return the same pixels in other memory: read-only, padded rows, mirrored, transposed."""
    read_only = frame.copy()
    read_only.flags.writeable = False
    padded = np.zeros((frame.shape[0], frame.shape[1] + 5, *frame.shape[2:]), frame.dtype)
    padded[:, :frame.shape[1]] = frame
    rows = [row.tobytes() + b'x' for row in frame]  # rows that end within a 16-bit value
    odd = np.ndarray(frame.shape, frame.dtype, bytearray(b''.join(rows)),
                     strides=(len(rows[0]), *frame.strides[1:]))
    turned = np.ascontiguousarray(frame.swapaxes(0, 1)).swapaxes(0, 1)
    return [read_only, padded[:, :frame.shape[1]], odd, frame[::-1].copy()[::-1],
            frame[:, ::-1].copy()[:, ::-1], turned, np.frombuffer(
                frame.tobytes(), frame.dtype).reshape(frame.shape)]


@pytest.mark.parametrize('x_type', X_TYPES)
@pytest.mark.parametrize('shape', [(4, 6), (4, 6, 1), (4, 6, 3)])
def test_the_memory_of_a_frame_does_not_matter_and_gives_no_warning(x_type, shape):
    frame = np.arange(np.prod(shape)).reshape(shape).astype(x_type)
    for view in views(frame):
        with warnings.catch_warnings():
            warnings.simplefilter('error')
            batch = to_batch(view)
        assert tuple(batch.shape) == (1, 4, 6, *(shape[2:] or (1,)))
        assert np.array_equal(batch.numpy().reshape(shape), frame)


def test_a_frame_that_torch_can_use_is_not_copied():
    frame = np.zeros((4, 6, 3), np.uint8)
    to_batch(frame)[0, 1, 2, 0] = 7
    assert frame[1, 2, 0] == 7
