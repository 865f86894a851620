# Copyright 2026 rgbx_seg_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""What a network is shown of a frame that is scored: what the node would show it."""

import cv2
import numpy as np
import pytest
from rgbx_seg_ros.bags.storage import image_message
from rgbx_seg_ros.cards.card import load_card, Window
from rgbx_seg_ros.datasets import FolderDataset, Sample
from rgbx_seg_ros.errors import DataError, ParameterError
from rgbx_seg_ros.evaluation.evaluate import evaluate
from rgbx_seg_ros.evaluation.presentation import Presentation
from rgbx_seg_ros.evaluation.protocols import Protocol, PROTOCOLS
from rgbx_seg_ros.frames.images import write_image
from rgbx_seg_ros.inference.pipeline import Frame, Job, Pipeline
from rgbx_seg_ros.inference.segmenter import Segmenter
from rgbx_seg_ros.parameters import DEFAULTS, Parameters
from rgbx_seg_ros.registration.rig import Rig
from support.stand_ins import engine_of

SHIFTED = {
    'registration_mode': 'homography',
    'registration_homography': (1.6, 0.0, 16.0, 0.0, 1.6, 0.0, 0.0, 0.0, 1.0),
    'registration_x_size': (40, 30), 'registration_rgb_size': (64, 48)}
"""X is drawn to RGB's scale, and a quarter of its width to the right."""


class Bench:
    """A segmenter whose mask and confidence tell how X was placed and scaled, and what of RGB."""

    def __init__(self, card, **parameters):
        self.parameters = Parameters(**parameters)
        self.asked = []
        self.segmenter = Segmenter(load_card(card), engine_of(self._segment))

    def _segment(self, rgb, x, limits, sensors):
        self.asked.append((rgb, x, limits, sensors))
        share = (cv2.resize(x, rgb.shape[1::-1]).astype(float) - limits[0]) / np.ptp(limits)
        return np.uint8(share.clip(0, 1) * 2.999), rgb[..., 0].copy()

    def presentation(self, protocol=PROTOCOLS['plain']):
        return Presentation(self.segmenter, protocol, self.parameters)

    def mask(self, sample):
        presentation = self.presentation()
        return presentation.segment(presentation.prepare(sample))[0]

    def node_mask(self, sample):
        """Return what the node makes of the frame, without another before it."""
        rig = Rig(self.parameters, self.segmenter.card.x, lambda modality: None)
        frames = (Frame(image_message(pixels, encoding, 1, ''), 0, 0)
                  for pixels, encoding in ((sample.rgb, 'rgb8'), (sample.x, 'mono16')))
        pipeline = Pipeline(self.segmenter, rig, 5.0, pytest.fail, lambda **_: None)
        return pipeline(Job('fusion', *frames), self.parameters)[1].mask


@pytest.fixture
def bench(tiny_card):
    """Return a function that makes a bench with these parameters."""
    return lambda **parameters: Bench(tiny_card, **parameters)


def sample(seed=0, x_limits=None):
    rng = np.random.default_rng(seed)
    return Sample('a', rng.integers(0, 256, (48, 64, 3), np.uint8),
                  rng.integers(7000, 9000, (30, 40), np.uint16), np.zeros((48, 64), np.uint8),
                  x_limits)


@pytest.mark.parametrize('threshold', [0.0, 0.4])
@pytest.mark.parametrize('registration', [{}, SHIFTED], ids=['none', 'homography'])
def test_a_frame_gets_the_mask_that_the_node_gives_it(bench, registration, threshold):
    bench = bench(confidence_threshold=threshold, **registration)
    one = sample()
    mask = bench.mask(one)
    np.testing.assert_array_equal(mask, bench.node_mask(one))
    assert {*np.unique(mask)} == {0, 1, 2, *[255] * bool(threshold)}
    plain = Bench(bench.segmenter.card.folder / 'tiny.yaml')
    assert np.array_equal(mask, plain.mask(one)) == (not registration and not threshold)


def test_the_range_of_x_is_that_of_the_whole_frame_and_not_of_what_lies_on_rgb(bench):
    """A quarter of X lies beside RGB here, and what X does not see has no value."""
    bench = bench(**SHIFTED)
    one = sample()
    one.x[:, 30:] = 20_000
    bench.mask(one)
    [(_, x, limits, _)] = bench.asked
    assert x.shape == (48, 64) and limits[1] == 20_000 > x.max()


def test_the_range_that_a_data_set_gives_counts_for_minmax_alone(bench, write_card, card_content):
    for registration in ({}, SHIFTED):
        bench_ = bench(**registration)
        bench_.mask(sample(x_limits=(1.0, 60_000.0)))
        assert bench_.asked[0][2][0] >= 7000
        minmax = Bench(write_card(x={**card_content['x'], 'normalization': 'minmax'}),
                       **registration)
        minmax.mask(sample(x_limits=(1.0, 60_000.0)))
        assert minmax.asked[0][2] == (1.0, 60_000.0)


def test_x_is_placed_before_a_protocol_scales_the_frames(bench):
    """The homography is for the frames as the cameras give them."""
    bench = bench(**SHIFTED)
    prepared = bench.presentation(Protocol('', short_side=96)).prepare(sample())
    assert prepared.rgb.shape == (96, 128, 3) and prepared.x.shape == (96, 128)
    assert np.ptp(prepared.x[:, :30]) == 0 < np.ptp(prepared.x[:, 40:])


def test_x_of_a_size_that_was_not_calibrated_names_the_frame(bench):
    one = sample()
    with pytest.raises(DataError, match="frame 'a': X frames are 40x20, but registration is cal"):
        bench(**SHIFTED).mask(Sample('a', one.rgb, one.x[:20], one.label))


def test_what_frames_without_cameras_cannot_have_is_refused_before_the_work(bench):
    with pytest.raises(ParameterError, match="'extrinsics', which needs the camera_info"):
        bench(registration_mode='extrinsics').presentation()
    with pytest.raises(ParameterError, match='registration.homography'):
        bench(registration_mode='homography', registration_homography=[0.0] * 9).presentation()


def test_a_window_has_no_confidence_that_a_threshold_could_be_for(bench, write_card):
    windowed = Bench(write_card(input_size=[32, 32], window={'size': 32, 'stride': 16}),
                     confidence_threshold=0.5)
    with pytest.raises(ParameterError, match="'confidence.threshold' is 0.5, but with a window"):
        windowed.presentation()
    windowed.parameters = DEFAULTS
    windowed.presentation(Protocol('', window=Window(32, 32)))


@pytest.mark.parametrize('limits', [None, (3.0, 500.0)])
def test_windows_have_the_range_of_the_whole_image(write_card, card_content, monkeypatch, limits):
    cards = []

    def segment_tiles(network, card, rgb, x, mask, progress):
        cards.append(card)
        write_image(mask, np.ones((48, 64), np.uint8))
    monkeypatch.setattr('rgbx_seg_ros.evaluation.presentation.segment_tiles', segment_tiles)
    bench = Bench(write_card(input_size=[32, 32], window={'size': 32, 'stride': 16},
                             x={**card_content['x'], 'normalization': 'minmax'}))
    presentation = bench.presentation()
    mask, confidence = presentation.segment(presentation.prepare(sample(x_limits=limits)))
    assert mask.all() and confidence is None
    kind = ('fixed', limits) if limits else ('minmax', None)
    assert [(card.x.normalization, card.x.range) for card in cards] == [kind]


def test_scores_are_those_of_the_masks_of_the_node(bench, tmp_path, write_frames):
    data = FolderDataset(write_frames(tmp_path / 'data', 2, (48, 64), x_type=np.uint16))
    bench = bench(**{**SHIFTED, 'registration_x_size': (64, 48)}, confidence_threshold=0.2)
    scores = evaluate(bench.segmenter, data, parameters=bench.parameters)
    counts = np.zeros((3, 4), int)
    for one in data:
        mask = np.minimum(bench.node_mask(one), 3)
        np.add.at(counts, (one.label.ravel(), mask.ravel()), 1)
    np.testing.assert_array_equal(scores.parts['all'].tally.matrix.counts, counts)
    assert counts[:, 3].any()


def test_the_command_takes_the_file_of_the_node(tmp_path, tiny_card, write_frames, command):
    data, file = write_frames(tmp_path / 'data', 2), tmp_path / 'rig.yaml'
    file.write_text(f"""/**:
  ros__parameters:
    model: {tiny_card}
    device: cpu
    confidence.threshold: 1.0
    x.smoothing_s: 1.0
    health: {{dead_ms: 900.0}}
""")
    with pytest.warns(UserWarning, match='files these count for nothing here: health.dead_ms, '
                                         'x.smoothing_s$'):
        code, out, _ = command('evaluate', '--data', data, '--params-file', file)
    assert code == 0 and 'pixel accuracy 0.0' in out  # nobody is that sure
    file.write_text('/**: {ros__parameters: {registration.mode: extrinsics}}')
    code, _, err = command('evaluate', '--data', data, '--params-file', file, '--model', tiny_card)
    assert code == 2 and 'which needs the camera_info' in err
    code, _, err = command('evaluate', '--data', data)
    assert code == 2 and 'no model is named' in err
