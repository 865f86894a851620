# Copyright 2026 rgbx_seg_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""The way of a pair of messages to its mask: what the engine gets, and where the mask lies."""

from collections import Counter
import time
import warnings

import numpy as np
import pytest
from rgbx_seg_ros.bags.storage import compressed_message, image_message
from rgbx_seg_ros.cards.card import load_card
from rgbx_seg_ros.errors import FrameError
from rgbx_seg_ros.inference.pipeline import Frame, Grid, Job, Pipeline
from rgbx_seg_ros.inference.segmenter import Segmentation, Segmenter
from rgbx_seg_ros.parameters import Parameters
from rgbx_seg_ros.registration.rig import Rig
from rgbx_seg_ros.sensors import Sensors
from support.stand_ins import engine_of

RGB = np.full((48, 64, 3), 100, np.uint8)
X = np.zeros((30, 40), np.uint8)
X[:, 20:] = 200
SHIFTED = {
    'registration_mode': 'homography',
    'registration_homography': (1.6, 0.0, 16.0, 0.0, 1.6, 0.0, 0.0, 0.0, 1.0),
    'registration_x_size': (40, 30), 'registration_rgb_size': (64, 48)}
"""X is drawn to RGB's scale, and a quarter of its width to the right."""


class Bench:
    """A pipeline whose engine tells classes by how bright X is; what it is asked is kept."""

    def __init__(self, card, confidence=250, **parameters):
        self.parameters = Parameters(**parameters)
        self.asked, self.refused, self.times = [], [], Counter()
        self.confidence = confidence
        segmenter = Segmenter(load_card(card), engine_of(
            lambda *arguments: self._segment(*arguments)))
        rig = Rig(self.parameters, segmenter.card.x, lambda modality: None)
        self.pipeline = Pipeline(segmenter, rig, 0.0, self._refuse, self._timed)

    def _segment(self, rgb, x, x_limits, sensors):
        self.asked.append((rgb, x, x_limits, sensors))
        rows, columns = (np.arange(new) * old // new
                         for new, old in zip(rgb.shape[:2], x.shape[:2], strict=True))
        mask = (x[rows][:, columns] > 128).astype(np.uint8)
        return mask, np.full_like(mask, self.confidence)

    def _refuse(self, modality, error, reason):
        self.refused.append((modality, str(error), reason))

    def _timed(self, **values):
        self.times.update(values.keys())

    def __call__(self, mode, rgb=None, x=None):
        """Return what comes of these frames, arrays or messages."""
        job = Job(mode, *(None if frame is None else Frame(
            frame if not isinstance(frame, np.ndarray) else message(frame), 0, 0)
            for frame in (rgb, x)))
        return self.pipeline(job, self.parameters)


def message(pixels):
    """Return an image of RGB or of X, by its number of channels."""
    encoding, frame_id = ('rgb8', 'left') if pixels.ndim == 3 else ('mono8', 'thermal')
    return image_message(pixels, encoding, 5_000_000_007, frame_id)


@pytest.fixture
def bench(tiny_card):
    """Return a function that makes a bench with these parameters."""
    return lambda **parameters: Bench(tiny_card, **parameters)


def test_a_pair_goes_to_the_engine_as_it_is_and_its_mask_lies_on_rgb(bench):
    bench = bench()
    rgb, result, grid = bench('fusion', RGB, X)
    assert grid == Grid('rgb', 'left', (48, 64))
    np.testing.assert_array_equal(rgb, RGB)
    np.testing.assert_array_equal(result.mask[:, 31:33], [[0, 1]] * 48)
    assert (result.confidence == 250).all()
    [(given_rgb, given_x, limits, sensors)] = bench.asked
    np.testing.assert_array_equal(given_rgb, RGB)
    np.testing.assert_array_equal(given_x, X)
    assert (limits, sensors) == ((0.0, 255.0), Sensors.BOTH)
    assert bench.times == {'prepare_ms': 1, 'inference_ms': 1, 'post_ms': 1}


def test_x_in_false_colours_is_told_once(bench):
    bench = bench()
    ramp = np.tile(np.arange(64, dtype=np.uint8), (48, 1))
    painted = image_message(np.dstack([2 * ramp, ramp, 255 - ramp]), 'bgr8', 7, 'thermal')
    grey = image_message(np.dstack([ramp] * 3), 'bgr8', 7, 'thermal')
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter('always')
        bench('fusion', RGB, grey)
        assert not said
        for _ in range(2):
            bench('fusion', RGB, painted)
    assert [str(one.message)[:47] for one in said] == [
        'the frames of X are in false colours, a thermal']
    assert len(bench.asked) == 3


def test_without_x_the_engine_is_told_so(bench):
    bench = bench()
    _, result, grid = bench('rgb_only', RGB)
    assert grid == Grid('rgb', 'left', (48, 64)) and not result.mask.any()
    assert bench.asked[0][3] is Sensors.RGB


@pytest.mark.parametrize(('normalization', 'limits'), [
    ('fixed', [7000.0, 9000.0]), ('celsius', [0.0, 40.0]), ('minmax', None), ('percentile', None)])
def test_without_x_it_is_no_matter_how_x_is_scaled(
        bench, write_card, card_content, normalization, limits):
    bench = Bench(write_card(x={**card_content['x'], 'normalization': normalization,
                                'range': limits}))
    assert bench('rgb_only', RGB) and not bench.refused


@pytest.mark.parametrize('registration', [{}, SHIFTED], ids=['none', 'homography'])
@pytest.mark.parametrize('size', [(48, 64), (96, 128)])
def test_with_x_alone_the_mask_lies_on_the_last_colour_frame_whatever_its_size(
        bench, registration, size):
    bench = bench(**registration)
    assert bench('fusion', np.resize(RGB, (*size, 3)), X)
    rgb, result, grid = bench('x_only', x=X)
    # So its frame_id must be that of RGB: the extrinsics of X are for pixels of X.
    assert grid == Grid('rgb', 'left', size)
    assert rgb.shape == (*size, 3) and not rgb.any()
    edge = size[1] // 2 + (size[1] // 4 if registration else 0)
    assert result.mask.shape == size
    np.testing.assert_array_equal(result.mask[size[0] // 2, edge - 3:edge + 3], [0, 0, 0, 1, 1, 1])
    assert bench.asked[1][3] is Sensors.X
    assert not bench.asked[1][0].any()


@pytest.mark.parametrize('registration', [{}, SHIFTED, {'registration_mode': 'extrinsics'}],
                         ids=['none', 'homography', 'extrinsics'])
@pytest.mark.parametrize('size', [(30, 40), (60, 80)])
def test_before_any_colour_frame_a_mask_of_x_alone_lies_on_x(bench, registration, size):
    """Whatever brings X onto RGB: of RGB neither the frame_id nor the size is known for sure."""
    bench = bench(**registration)
    x = np.repeat(X, size[0] // 30, axis=0).repeat(size[1] // 40, axis=1)
    rgb, result, grid = bench('x_only', x=x)
    assert not bench.refused
    assert grid == Grid('x', 'thermal', size)
    assert rgb.shape == (*size, 3) and not rgb.any()
    np.testing.assert_array_equal(result.mask, x > 128)


def test_with_empty_masks_all_is_unlabeled_and_the_engine_is_not_asked(bench):
    bench = bench()
    rgb, result, grid = bench('unlabeled', RGB)
    assert grid == Grid('rgb', 'left', (48, 64))
    assert result.mask.shape == result.confidence.shape == (48, 64)
    assert (result.mask == 255).all() and not result.confidence.any()
    np.testing.assert_array_equal(rgb, RGB)
    assert not bench.asked


@pytest.mark.parametrize(('mode', 'frames'), [('rgb_only', {'rgb': RGB}), ('x_only', {'x': X})])
def test_the_threshold_is_for_what_the_network_says_and_the_factor_for_what_is_published(
        bench, mode, frames):
    """Together they would empty every mask of one sensor."""
    bench = bench(confidence=200, confidence_threshold=0.6, degraded_confidence=0.5)
    _, result, _ = bench(mode, **frames)
    assert (result.mask != 255).all() and (result.confidence == 100).all()
    bench.confidence = 150  # below 0.6 of 255, and 0.6 of half of that
    _, result, _ = bench(mode, **frames)
    assert (result.mask == 255).all() and (result.confidence == 75).all()


def test_of_both_sensors_the_confidence_is_as_the_network_says(bench):
    bench = bench(confidence=153, confidence_threshold=0.6, degraded_confidence=0.5)
    _, result, _ = bench('fusion', RGB, X)
    assert (result.confidence == 153).all() and (result.mask != 255).all()
    bench.confidence = 152
    assert (bench('fusion', RGB, X)[1].mask == 255).all()


@pytest.mark.parametrize('modality', ['rgb', 'x'])
def test_a_frame_that_cannot_be_decoded_is_refused_under_its_name(bench, modality):
    bench = bench()
    broken = compressed_message(b'no file', 'png', 7, '')
    assert bench('fusion', **({'rgb': RGB, 'x': X} | {modality: broken})) is None
    [(name, _, reason)] = bench.refused
    assert (name, reason) == (modality, 'malformed')
    assert not bench.asked and not bench.times


def test_what_somebody_has_decoded_before_is_not_decoded_again(bench):
    bench = bench()
    frames = (Frame(message(one), 0, 0, 255 - one) for one in (RGB, X))
    rgb, *_ = bench.pipeline(Job('fusion', *frames), bench.parameters)
    np.testing.assert_array_equal(rgb, 255 - RGB)
    np.testing.assert_array_equal(bench.asked[0][1], 255 - X)


def test_x_that_cannot_be_brought_onto_rgb_is_refused(bench):
    bench = bench(**SHIFTED)
    assert bench('fusion', RGB, X[:20]) is None
    [(name, text, reason)] = bench.refused
    assert (name, reason) == ('x', 'unregistered') and 'X frames are 40x20' in text
    assert bench('fusion', RGB, X)


def test_x_whose_range_cannot_be_what_was_asked_for_is_refused(bench, write_card, card_content):
    card = write_card(x={**card_content['x'], 'normalization': 'celsius', 'range': [0.0, 40.0]})
    bench = Bench(card)
    assert bench('fusion', RGB, X) is None
    [(name, text, reason)] = bench.refused
    assert (name, reason) == ('x', 'malformed') and 'celsius' in text


def test_a_frame_that_the_network_cannot_take_is_refused(bench):
    def refuse(*_):
        raise FrameError('x is 8x8, needed is more')

    bench = bench()
    bench._segment = refuse
    assert bench('fusion', RGB, X) is None
    assert bench.refused == [('x', 'x is 8x8, needed is more', 'malformed')]


def test_drift_is_watched_with_both_sensors_alone(bench, monkeypatch):
    bench = bench(**SHIFTED)
    seen = []
    monkeypatch.setattr(Rig, 'watch', lambda self, rgb, x, placed: seen.append(placed))
    assert bench('fusion', RGB, X) and bench('x_only', x=X) and bench('rgb_only', RGB)
    assert len(seen) == 1
    np.testing.assert_array_equal(seen[0], bench.asked[0][1])


def test_the_age_of_a_frame_grows_from_what_it_was_when_it_came():
    before_ns = time.monotonic_ns()
    age_ns = Frame(None, before_ns, 5_000_000).age_ns()
    assert 5_000_000 <= age_ns <= 5_000_000 + time.monotonic_ns() - before_ns


def test_the_frame_of_a_job_is_that_of_rgb_where_there_is_one():
    rgb, x = Frame('rgb', 0, 0), Frame('x', 0, 0)
    assert Job('fusion', rgb, x).frame is rgb
    assert Job('x_only', None, x).frame is x


def test_times_are_told_of_each_stage(bench, monkeypatch):
    mask = np.zeros((48, 64), np.uint8)
    told = {}
    bench = bench()
    monkeypatch.setattr(bench.pipeline, '_segmenter', lambda *_: Segmentation(
        mask, mask, None, prepare_ms=60_000.0, inference_ms=7.0))
    monkeypatch.setattr(bench.pipeline, '_timed', lambda **values: told.update(values))
    assert bench('fusion', RGB, X)
    assert 60_000.0 < told['prepare_ms'] < 120_000.0, 'decoding, and what the segmenter prepares'
    assert told['inference_ms'] == 7.0
    assert 0 < told['post_ms'] < 60_000.0
