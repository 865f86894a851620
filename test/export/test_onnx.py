# Copyright 2026 rgbx_seg_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""An exported file does what the model does, says what it is, or does not appear."""

import argparse
from dataclasses import replace
import sys

import numpy as np
import pytest
from rgbx_seg_ros import __version__
from rgbx_seg_ros.cards.card import Card, load_card, Onnx, RgbInput, XInput
from rgbx_seg_ros.engines.graph import SegmentationGraph, to_batch
from rgbx_seg_ros.engines.model_files import card_text, Difference, FrameKind
from rgbx_seg_ros.engines.onnx_files import OnnxModel, write_onnx
from rgbx_seg_ros.errors import CardError, DataError, EngineError
from rgbx_seg_ros.export import onnx as verb
from rgbx_seg_ros.fields import from_mapping
from rgbx_seg_ros.files import check_outputs
from rgbx_seg_ros.inference.segmenter import Segmenter
from rgbx_seg_ros.networks import build, NETWORKS, resnet
from rgbx_seg_ros.networks.convnext import CONVNEXT
from rgbx_seg_ros.networks.convnextv2 import CONVNEXTV2
from rgbx_seg_ros.networks.folding import fold
from rgbx_seg_ros.networks.mix_transformer import MIT
from rgbx_seg_ros.sensors import Sensors
from rgbx_seg_ros.weights.checkpoint import sha256
from support.fill import fill
from support.trials import COMPACT, TRIALS
import torch
import yaml

pytest.importorskip('onnxruntime', reason='it needs the extra onnx')
pytest.importorskip('onnxscript', reason='it needs the extra onnx')

pytestmark = pytest.mark.timeout(900)  # an export takes minutes on a machine that is busy

RNG = np.random.default_rng(0)
KIND = FrameKind((70, 90), (50, 60), 1, 'uint16')
PAIR = RNG.integers(0, 256, (70, 90, 3), np.uint8), RNG.integers(0, 5000, (50, 60), np.uint16)
LIMITS = (100.0, 4000.0)
SMALL = {
    'ms_irtnet': {'backbone': 'atto', 'decoder_width': 16, 'gwim_ratio': 0.5},
    'rxssnet': {'backbone': 'atto', 'decoder_width': 16},
    **COMPACT,
    'mddg': {**COMPACT['mddg'], 'scan_states': 2, 'scan_ratios': [1, 1, 1, 1]},
}


def arguments(*words):
    parser = argparse.ArgumentParser()
    verb.add_arguments(parser)
    return parser.parse_args([*map(str, words)])


@pytest.fixture
def segmenter(tiny_card):
    return Segmenter.from_card(tiny_card, device='cpu')


def test_the_file_gives_the_masks_of_pytorch(exported, segmenter):
    model = OnnxModel(exported[0])
    for sensors in Sensors:
        expected = segmenter.engine(*PAIR, LIMITS, sensors)
        found = model(*PAIR, LIMITS, sensors)
        assert len(np.unique(expected[0])) > 1
        assert [(one.shape, one.dtype) for one in found] == [((70, 90), np.uint8)] * 2
        assert Difference.between(expected, found).is_small()
    alone = [model(*PAIR, LIMITS, sensors)[0] for sensors in (Sensors.RGB, Sensors.X)]
    assert (alone[0] != alone[1]).any()


def test_the_command_says_what_it_wrote_and_how_it_was_tried(exported):
    path, out = exported
    assert f'wrote {path} (' in out
    assert 'opset 20) for 90x70 RGB with 60x50 X of uint16\n' in out
    assert 'on 10 pairs of ' in out and '% of the mask differ' in ' '.join(out.split())
    assert [one.name for one in path.parent.iterdir()] == ['tiny.onnx']


def test_the_file_may_be_written_over(exported):
    check_outputs([exported[0]])


def test_the_card_lies_in_the_file(exported, tiny_card):
    metadata = OnnxModel(exported[0]).metadata
    card = load_card(tiny_card)
    content = yaml.safe_load(metadata['card'])
    assert replace(from_mapping(Card, content, 'card', CardError), folder=card.folder) == card
    assert metadata['weights_sha256'] == sha256(card.weights_path)
    assert metadata['version'] == __version__
    assert metadata['torch'] == torch.__version__
    assert metadata['precision'] == 'float32'
    assert FrameKind.from_json(metadata['kind']) == KIND


@pytest.mark.parametrize('text', ['', '7', '[[70, 90], [50, 60], 1, "uint16", 2]', '[[70], "a"]',
                                  '[[70, 90], [50, 60], 2, "uint16"]', '[[70, 90], [0, 60]]',
                                  '[[70, 90, 3], [50, 60]]'])
def test_a_text_that_is_no_kind_of_frames_is_refused(text):
    with pytest.raises(EngineError):
        FrameKind.from_json(text)


def test_the_card_in_a_file_has_what_a_rig_changed(tiny_card):
    card = load_card(tiny_card)
    card = replace(card, x=replace(card.x, invalid=7.0))
    assert yaml.safe_load(card_text(card))['x']['invalid'] == 7.0


def test_the_card_in_a_file_does_not_name_files(tiny_card):
    card = load_card(tiny_card)
    assert card_text(replace(card, onnx=Onnx('a.onnx'))) == card_text(card)


def test_the_threads_of_a_model_do_not_spin_between_frames(exported):
    options = OnnxModel(exported[0])._session.get_session_options()
    assert options.get_session_config_entry('session.intra_op.allow_spinning') == '0'


def test_frames_of_another_kind_are_refused_in_one_line(exported):
    with pytest.raises(EngineError, match='fails to run') as error:
        OnnxModel(exported[0])(PAIR[0][:64], PAIR[1], LIMITS)
    assert '\n' not in str(error.value)


@pytest.mark.parametrize('off', [0.0, 0.002, 1.0])
def test_a_file_that_differs_from_pytorch_does_not_appear(off, segmenter, tmp_path, monkeypatch):
    class Model:

        def __init__(self, path):
            assert path.exists()

        def __call__(self, *inputs):
            mask, confidence = (one.copy() for one in segmenter.engine(*inputs))
            mask[RNG.random(mask.shape) < off] += 1
            return mask, confidence

    monkeypatch.setattr(verb, 'OnnxModel', Model)
    monkeypatch.setattr(verb, 'write_onnx', lambda network, card, path, *_: path.touch())
    path = tmp_path / 'a.onnx'
    if off:
        with pytest.raises(EngineError, match='is not written, as it differs too much'):
            verb.export(segmenter, path, KIND, [PAIR])
        assert not list(tmp_path.iterdir())
    else:
        assert verb.export(segmenter, path, KIND, [PAIR]) == (0.0, 0, 0.0)
        assert list(tmp_path.iterdir()) == [path]


def test_a_file_that_cannot_be_tried_does_not_appear(segmenter, tmp_path, monkeypatch):
    monkeypatch.setattr(verb, 'OnnxModel', lambda path: None)
    monkeypatch.setattr(verb, 'write_onnx', lambda network, card, path, *_: path.touch())
    with pytest.raises(DataError, match='is not written: there is no pair'):
        verb.export(segmenter, tmp_path / 'a.onnx', KIND, [])
    assert not list(tmp_path.iterdir())


def test_an_existing_file_survives_an_export_that_fails(segmenter, tmp_path, monkeypatch):
    def broken(graph, *inputs):
        raise RuntimeError('an operator\nthat nobody knows')

    path = tmp_path / 'a.onnx'
    path.write_text('mine')
    monkeypatch.setattr(SegmentationGraph, 'forward', broken)
    with pytest.raises(EngineError, match="'ms_irtnet' cannot be exported .* an operator that"):
        verb.export(segmenter, path, KIND, [PAIR])
    assert [one.read_text() for one in tmp_path.iterdir()] == ['mine']


@pytest.mark.parametrize(('kind', 'message'), [
    (KIND._replace(x_type='int16'), "type of X 'int16' is unknown; did you mean 'uint16'"),
    (KIND._replace(x_channels=2), 'X has 2 channels, allowed are 1 and 3'),
    (KIND._replace(rgb_size=(0, 640)), r'sizes are \(0, 640\)'),
])
def test_a_kind_of_frames_that_no_camera_gives_is_refused(kind, message, segmenter, tmp_path):
    with pytest.raises(EngineError, match=message):
        write_onnx(segmenter.engine.network, segmenter.card, tmp_path / 'a.onnx', kind)


@pytest.mark.parametrize('kind', [
    KIND, FrameKind((48, 64), (48, 64), 3, 'float32'), FrameKind((99, 64), (30, 40), 1, 'uint8')])
@pytest.mark.parametrize('x_type', [np.uint8, np.uint16])
def test_the_frames_of_a_trial_are_made_to_be_of_the_kind(kind, x_type, write_frames, tmp_path):
    data = verb.FolderDataset(write_frames(tmp_path / 'data', 12, x_type=x_type))
    pairs = [*verb.pairs_of_kind(data, kind)]
    assert len(pairs) == 10
    for rgb, x, label in pairs:
        assert label.shape == kind.rgb_size
        assert FrameKind.of(rgb, x) == kind
        assert np.ptp(x) > 0


def test_without_the_library_it_is_told_how_to_get_it(segmenter, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, 'onnxscript', None)
    with pytest.raises(EngineError, match=r"onnxscript is not .* pip install 'rgbx_seg_ros\[onnx"):
        write_onnx(segmenter.engine.network, segmenter.card, tmp_path / 'a.onnx', KIND)


@pytest.fixture
def shallow(monkeypatch):
    """Make the smallest backbones shallow: each operation takes its time in an export."""
    for backbones in (CONVNEXT, CONVNEXTV2):
        monkeypatch.setitem(backbones, 'atto', ((1, 1, 1, 1), (16, 24, 32, 40)))
    monkeypatch.setitem(MIT, 'b0', ((1, 1, 1, 1), MIT['b0'][1]))
    monkeypatch.setattr(resnet, 'STAGES', tuple((1, *rest) for _, *rest in resnet.STAGES))


@pytest.mark.parametrize('name', [
    pytest.param(name, marks=[] if name == 'gated_lite' else [pytest.mark.long])
    for name in NETWORKS])
def test_every_network_can_be_exported(name, shallow, tmp_path):
    network = build(name, 4, **SMALL[name])
    network.load_state_dict({
        key: torch.from_numpy(fill(key, tuple(value.shape)))
        if value.is_floating_point() else value for key, value in network.state_dict().items()})
    size, channels = TRIALS[name].sizes[0], network.X_CHANNELS
    card = replace(
        load_card('msrs_scene'), weights=None, network=name, input_size=size,
        network_args=SMALL[name], rgb=RgbInput((0.5,) * 3, (0.2,) * 3),
        x=XInput('thermal', (0.5,) * channels, (0.2,) * channels))
    network = fold(network.eval())
    write_onnx(network, card, tmp_path / 'a.onnx', FrameKind(size, size))
    rows, columns = np.mgrid[:size[0], :size[1]] / 10.0
    x = (127 + 100 * np.sin(rows) * np.cos(columns)).astype(np.uint8)
    rgb = np.stack([x[::-1], x[:, ::-1], x], axis=-1)
    with torch.inference_mode():
        expected = SegmentationGraph(network, card)(
            to_batch(rgb), to_batch(x), torch.tensor([[0.0, 255.0]]), torch.ones(1, 2))
    found = OnnxModel(tmp_path / 'a.onnx')(rgb, x, (0.0, 255.0))
    assert len(np.unique(found[0])) > 1
    difference = Difference.between([one[0].numpy() for one in expected], found)
    assert difference.is_small(), difference
    if len(expected) > 2:
        fused = expected[2][0].numpy().astype(int)
        assert np.abs(fused - found[2]).max() <= 1
