# Copyright 2026 rgbx_seg_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""The one object that everything uses: raw pairs in, masks out, wrong input told."""

from dataclasses import replace

import numpy as np
import pytest
from rgbx_seg_ros.cards.card import list_cards, load_card
from rgbx_seg_ros.errors import CardError, FrameError, ParameterError
from rgbx_seg_ros.inference.segmenter import Segmentation, Segmenter
from rgbx_seg_ros.networks import NETWORKS
from rgbx_seg_ros.parameters import Parameters
from rgbx_seg_ros.sensors import Sensors
from support.stand_ins import engine_of, StandIn
from support.trials import TRIALS


@pytest.fixture(scope='module')
def segmenter(tiny_card):
    return Segmenter.from_card(tiny_card, device='cpu')


@pytest.fixture(scope='module')
def frames():
    rng = np.random.default_rng(0)
    return rng.integers(0, 256, (70, 90, 3), np.uint8), rng.integers(0, 65536, (50, 60), np.uint16)


def test_a_pair_becomes_mask_and_confidence_of_the_size_of_the_colour_frame(segmenter, frames):
    result = segmenter(*frames)
    assert result.mask.shape == result.confidence.shape == (70, 90)
    assert result.mask.dtype == result.confidence.dtype == np.uint8
    assert set(np.unique(result.mask)) <= {label.id for label in segmenter.labels}
    assert 255 // 3 <= result.confidence.min()
    assert 0 < result.prepare_ms < result.inference_ms < 60_000


def test_a_rig_may_say_what_becomes_0_and_1_of_its_frames(tiny_card, frames, monkeypatch):
    opened, asked = [], []

    def open_engine(name, card, device):
        opened.append(card)
        return engine_of(lambda rgb, x, limits, sensors: asked.append(limits) or (x, x))

    monkeypatch.setattr('rgbx_seg_ros.engines.open_engine', open_engine)
    span = (7000.0, 9000.0)
    segmenter = Segmenter.from_card(tiny_card, normalization='fixed', range=span)
    segmenter(*frames)
    segmenter(*frames, x_limits=(1.0, 2.0))
    assert asked == [span, (1.0, 2.0)]
    # The model is none the wiser: its files and its golden frame are those of the card.
    assert opened == [segmenter.card] == [load_card(tiny_card)]
    with pytest.raises(CardError, match='x.range is None'):
        Segmenter.from_card(tiny_card, normalization='fixed')


def test_the_parameters_of_a_node_open_its_model(tiny_card, frames, monkeypatch):
    opened, asked = [], []

    def open_engine(name, card, device):
        opened.append((name, card.name, device))
        return engine_of(lambda rgb, x, limits, sensors: asked.append(limits) or (x, x))

    monkeypatch.setattr('rgbx_seg_ros.engines.open_engine', open_engine)
    parameters = Parameters(model=str(tiny_card), engine='onnx', device='cuda:1',
                            x_normalization='fixed', x_range=(7.0, 9.0), x_kind='thermal')
    Segmenter.from_parameters(parameters)(*frames)
    assert (opened, asked) == ([('onnx', 'tiny', 'cuda:1')], [(7.0, 9.0)])
    with pytest.raises(ParameterError, match="'x.kind' is 'depth', but the model 'tiny' takes "
                                             "'thermal': choose another model"):
        Segmenter.from_parameters(replace(parameters, x_kind='depth'))


def test_where_the_network_is_not_sure_the_mask_may_be_left_open():
    mask, confidence = np.zeros((1, 4), np.uint8), np.uint8([[0, 152, 153, 255]])
    result = Segmentation(mask, confidence, None, 1.0, 2.0)
    assert result.where_sure(0.0) is result
    open_ = result.where_sure(0.6)
    assert open_.mask.tolist() == [[255, 255, 0, 0]] and not mask.any()
    assert open_.mask.dtype == np.uint8 and open_.confidence is confidence


def test_the_same_pair_gives_the_same_mask_also_from_another_segmenter(
        segmenter, tiny_card, frames):
    first = segmenter(*frames)
    for other in (segmenter, Segmenter.from_card(str(tiny_card), 'torch', 'cpu')):
        again = other(*frames)
        assert np.array_equal(again.mask, first.mask)
        assert np.array_equal(again.confidence, first.confidence)
    assert len(np.unique(first.mask)) > 1, 'a constant mask proves nothing'


def test_a_score_waits_for_an_engine_that_gets_ready_behind_the_first_frames(segmenter, frames):
    class Late(StandIn):
        seen, is_ready = 0, False

        def __call__(self, *pair):
            self.seen += 1
            return segmenter.engine(*pair)

        def ready_kinds(self):
            return []

        def settle(self, timeout_s=None):
            self.is_ready = self.seen > 1
            return self.is_ready

    late = Segmenter(segmenter.card, Late())
    assert late.settle(*frames)
    assert late.engine.is_ready
    assert segmenter.settle(*frames)  # one that is always ready takes it as well


@pytest.mark.parametrize('lost', ['rgb', 'x'])
def test_of_a_lost_modality_the_frame_does_not_count(segmenter, frames, lost):
    other = [255 - frames[0], 65535 - frames[1]]
    kept = 0 if lost == 'x' else 1
    other[kept] = frames[kept]
    sensors = Sensors.without(lost)
    alone = segmenter(*frames, sensors)
    assert np.array_equal(alone.mask, segmenter(*other, sensors).mask)
    assert not np.array_equal(alone.confidence, segmenter(*frames).confidence)


def test_a_result_is_not_overwritten_by_the_next_one(segmenter, frames):
    rgb, x = frames
    first = segmenter(rgb, x)
    kept = first.mask.copy()
    segmenter(255 - rgb, x)
    assert np.array_equal(first.mask, kept)


def test_frames_are_not_changed(segmenter, frames):
    kept = [frame.copy() for frame in frames]
    segmenter(*frames)
    assert all(map(np.array_equal, frames, kept))


@pytest.mark.filterwarnings("ignore:card 'tiny' has no weights")
@pytest.mark.parametrize('name', NETWORKS)
def test_every_network_runs_from_its_card_and_repeats_itself(name, write_card, frames):
    trial = TRIALS[name]
    channels = NETWORKS[name].X_CHANNELS
    segmenter = Segmenter.from_card(write_card(
        network=name, network_args=trial.variants[0], input_size=list(trial.sizes[0]),
        x={'kind': 'thermal', 'mean': [0.5] * channels, 'std': [0.2] * channels}), device='cpu')
    first, again = segmenter(*frames), segmenter(*frames)
    assert first.mask.shape == (70, 90)
    assert np.array_equal(first.mask, again.mask)
    assert (first.fused is not None) == segmenter.fuses == (name == 'difusionseg')
    if segmenter.fuses:
        assert (first.fused.shape, first.fused.dtype) == ((70, 90, 3), np.uint8)
        assert np.array_equal(first.fused, again.fused)


@pytest.mark.parametrize('name', [n for n in list_cards() if load_card(n).published is None])
def test_every_model_of_ours_runs_by_name(name):
    card = load_card(name)
    segmenter = Segmenter.from_card(name, device='cpu')
    rgb, x = np.zeros((*card.input_size, 3), np.uint8), np.zeros(card.input_size, np.uint8)
    result = segmenter(rgb, x)
    assert result.mask.max() < len(card.classes)


RGB, X = np.zeros((8, 8, 3), np.uint8), np.zeros((8, 8), np.uint8)


@pytest.mark.parametrize(('rgb', 'x', 'given'), [
    (RGB.astype(np.float32), X, 'rgb is an array .* of float32'),
    (RGB[..., 0], X, 'rgb is an array \\(8, 8\\) of uint8'),
    (RGB[:0], X, 'rgb is an array \\(0, 8, 3\\)'),
    (None, X, 'rgb is NoneType'),
    (RGB.tolist(), X, 'rgb is list'),
    (RGB, X.astype(np.int32), 'x is an array .* of int32'),
    (RGB, np.dstack([X] * 4), 'x is an array \\(8, 8, 4\\)'),
    (RGB, X[:, :0], 'x is an array \\(8, 0\\)'),
    (RGB, None, 'x is NoneType'),
])
def test_a_wrong_frame_is_refused_and_the_next_one_served(segmenter, frames, rgb, x, given):
    with pytest.raises(FrameError, match=given) as error:
        segmenter(rgb, x)
    assert '\n' not in str(error.value)
    assert segmenter(*frames).mask.shape == (70, 90)
