# Copyright 2026 rgbx_seg_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""What every engine of the registry does, and how it says that it cannot."""

import warnings

import numpy as np
import pytest
from rgbx_seg_ros.cards.card import load_card
from rgbx_seg_ros.cpu import Cpu
from rgbx_seg_ros.engines import ENGINES, open_engine, torch_engine
from rgbx_seg_ros.engines.graph import SegmentationGraph, to_batch
from rgbx_seg_ros.errors import CardError, EngineError, WeightsError
from rgbx_seg_ros.networks import build
from rgbx_seg_ros.weights.checkpoint import load_weights, save_weights, sha256
import torch

RNG = np.random.default_rng(0)
PAIR = RNG.integers(0, 256, (70, 90, 3), np.uint8), RNG.integers(0, 5000, (50, 60), np.uint16)
LIMITS = (100.0, 4000.0)


def cpu_with(*flags):
    return lambda: Cpu('x86_64', 'A CPU', (), frozenset(flags))


@pytest.fixture(scope='module')
def graph(tiny_card):
    card = load_card(tiny_card)
    network = build(card.network, 3, **card.network_args)
    network.load_state_dict(load_weights(card.weights_path))
    return SegmentationGraph(network, card).eval()


def run(graph):
    with torch.inference_mode():
        outputs = graph(*map(to_batch, PAIR), torch.tensor([LIMITS]), torch.ones(1, 2))
    return [output[0].numpy() for output in outputs]


@pytest.mark.parametrize('name', ENGINES)
def test_every_engine_gives_what_the_graph_gives(name, tiny_card, graph):
    engine = open_engine(name, load_card(tiny_card), 'cpu')
    assert engine.device.startswith('cpu')
    mask, confidence = engine(*PAIR, LIMITS)
    expected_mask, expected_confidence = run(graph)
    assert {mask.shape, confidence.shape} == {(70, 90)}
    assert {mask.dtype, confidence.dtype} == {np.dtype(np.uint8)}
    share, steps = (0.97, 12) if 'bfloat16' in engine.device else (1.0, 1)
    assert (mask == expected_mask).mean() >= share
    assert np.abs(confidence.astype(int) - expected_confidence).max() <= steps


def test_half_precision_gives_nearly_the_same_mask(graph):
    mask, confidence = run(graph)
    with torch.autocast('cpu', torch.bfloat16):
        half_mask, half_confidence = run(graph)
    assert len(np.unique(mask)) > 1
    assert (mask == half_mask).mean() > 0.97
    assert np.abs(confidence.astype(int) - half_confidence).max() < 12


def test_the_torch_engine_folds_the_network(tiny_card):
    network = torch_engine.TorchEngine(load_card(tiny_card), 'cpu').network
    assert not any(isinstance(part, torch.nn.BatchNorm2d) for part in network.modules())


@pytest.mark.parametrize('flag', ['amx_bf16', 'avx512_bf16', 'bf16'])
def test_bfloat16_gives_nearly_the_same_mask_on_a_cpu_that_can(
        flag, tiny_card, graph, monkeypatch):
    monkeypatch.setattr(torch_engine, 'find_cpu', cpu_with('avx2', flag))
    engine = torch_engine.TorchBFloat16Engine(load_card(tiny_card), 'cpu')
    assert engine.device == 'cpu bfloat16'
    mask, confidence = engine(*PAIR, LIMITS)
    exact_mask, exact_confidence = run(graph)
    assert (mask == exact_mask).mean() > 0.97
    difference = np.abs(confidence.astype(int) - exact_confidence)
    assert 0 < difference.max() < 12, 'the same confidence everywhere is float32'


def test_bfloat16_falls_back_with_one_line_on_a_cpu_that_cannot(tiny_card, graph, monkeypatch):
    monkeypatch.setattr(torch_engine, 'find_cpu', cpu_with('avx2', 'avx512f'))
    with pytest.warns(UserWarning, match='CPU has no .* bfloat16 .*: .* runs in float32') as said:
        engine = torch_engine.TorchBFloat16Engine(load_card(tiny_card), 'cpu')
    assert len(said) == 1
    assert said[0].filename == __file__
    assert engine.device == 'cpu float32'
    assert np.array_equal(engine(*PAIR, LIMITS)[0], run(graph)[0])


@pytest.mark.parametrize('name', ENGINES)
@pytest.mark.parametrize('device', ['gpu', 'cuda:x', 'CPU', '', None])
def test_a_device_that_does_not_exist_is_told_what_is_allowed(name, device, tiny_card):
    with pytest.raises(EngineError, match=f'device is {device!r}, allowed are: auto, cpu, cuda'):
        open_engine(name, load_card(tiny_card), device)


@pytest.mark.parametrize('name', ENGINES)
@pytest.mark.parametrize(('count', 'device'), [(0, 'cuda'), (0, 'cuda:0'), (1, 'cuda:1'),
                                               (2, 'cuda:7')])
def test_a_device_that_is_not_here_is_told_so(name, count, device, tiny_card, monkeypatch):
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: count > 0)
    monkeypatch.setattr(torch.cuda, 'device_count', lambda: count)
    with pytest.raises(EngineError, match=f"device is '{device}', but .* finds {count} CUDA"):
        open_engine(name, load_card(tiny_card), device)


def test_only_what_is_said_of_a_driver_is_not_heard(monkeypatch):
    def ask():
        warnings.warn('CUDA initialization: Found no NVIDIA driver on your system.', stacklevel=1)
        warnings.warn("Can't initialize NVML", stacklevel=1)
        warnings.warn('what another thread says meanwhile', stacklevel=1)
    monkeypatch.setattr(torch.cuda, 'is_available', ask)
    with pytest.warns(UserWarning) as heard:
        assert torch_engine.find_device('auto').type == 'cpu'
    assert [str(one.message) for one in heard] == ['what another thread says meanwhile']


def test_an_unknown_engine_gets_the_nearest_name(tiny_card):
    with pytest.raises(EngineError, match="'troch' is unknown; did you mean 'torch'"):
        open_engine('troch', load_card(tiny_card))


@pytest.mark.parametrize('name', ENGINES)
def test_a_card_with_too_few_channels_of_x_is_told_how_many_the_network_takes(name, write_card):
    path = write_card(x={'kind': 'thermal', 'mean': [0.5], 'std': [0.2]})
    with pytest.raises(CardError, match="x.mean has 1 values, the network 'ms_irtnet' takes 3"):
        open_engine(name, load_card(path), 'cpu')


def missing(path):
    path.unlink()


def truncated(path):
    path.write_bytes(path.read_bytes()[:1000])


def not_safetensors(path):
    torch.save({'a': torch.zeros(1)}, path)


def of_two_classes(path):
    save_weights(build('ms_irtnet', 2, backbone='atto', decoder_width=16, gwim_ratio=0.5), path)


@pytest.mark.parametrize('name', ENGINES)
@pytest.mark.parametrize(('damage', 'message'), [
    (missing, 'does not exist'),
    (truncated, 'no complete safetensors file'),
    (not_safetensors, 'pickled PyTorch checkpoint'),
    (of_two_classes, 'weights are for 2 classes, the network has 3'),
])
def test_unusable_weights_are_told_in_one_line(name, damage, message, write_card, tiny_card):
    path = write_card(weights={'file': 'w.safetensors'})
    weights = path.with_name('w.safetensors')
    weights.write_bytes(tiny_card.with_suffix('.safetensors').read_bytes())
    open_engine(name, load_card(path), 'cpu')
    damage(weights)
    with pytest.raises(WeightsError, match=message) as error:
        open_engine(name, load_card(path), 'cpu')
    assert 'w.safetensors' in str(error.value)
    assert '\n' not in str(error.value)


@pytest.mark.parametrize('name', ENGINES)
def test_weights_with_another_checksum_are_refused(name, write_card, tiny_card):
    weights = tiny_card.with_suffix('.safetensors')
    path = write_card(weights={'file': 'w.safetensors', 'sha256': sha256(weights)})
    path.with_name('w.safetensors').write_bytes(weights.read_bytes())
    open_engine(name, load_card(path), 'cpu')
    path = write_card(weights={'file': 'w.safetensors', 'sha256': 'ab' * 32})
    with pytest.raises(WeightsError, match="has the sha256 .*, the card 'tiny' was made for ab"):
        open_engine(name, load_card(path), 'cpu')
