# Copyright 2026 rgbx_seg_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""CUDA graphs: when the engine captures one, and what it does where it cannot."""

import numpy as np
import pytest
from rgbx_seg_ros.cards.card import load_card
from rgbx_seg_ros.engines import torch_engine
from rgbx_seg_ros.engines.cuda_graph import CudaGraph
from rgbx_seg_ros.engines.torch_engine import TorchEngine
import torch

CARD_RANGE = (100.0, 4000.0)
RNG = np.random.default_rng(0)


def pairs(count, height=70):
    return [(RNG.integers(0, 256, (height, 90, 3), np.uint8),
             RNG.integers(0, 5000, (50, 60), np.uint16)) for _ in range(count)]


@pytest.fixture
def engine(tiny_card):
    """Return an engine on the CPU that takes what `torch_engine.CudaGraph` is for a CUDA graph."""
    engine = TorchEngine(load_card(tiny_card), 'cpu')
    engine._captures = True
    return engine


def test_the_second_pair_of_a_kind_is_captured_and_the_last_kinds_are_kept(engine, monkeypatch):
    captured = []

    def capture(run, examples, device):
        captured.append(examples[0].shape[1])
        return run

    monkeypatch.setattr(torch_engine, 'CudaGraph', capture)
    for height in (70, 70, 70, 40, 70, 40, 70):
        for pair in pairs(1, height):
            engine(*pair, CARD_RANGE)
    assert captured == [70, 40]
    for height in (41, 42, 43, 44, 70, 70):
        for pair in pairs(1, height):
            engine(*pair, CARD_RANGE)
    assert captured == [70, 40, 70]


def test_what_cannot_be_captured_runs_as_it_is_after_one_warning(engine, monkeypatch):
    def refuse(run, examples, device):
        raise RuntimeError('operation not permitted when stream is capturing\nand more')

    monkeypatch.setattr(torch_engine, 'CudaGraph', refuse)
    pair, = pairs(1)
    expected = engine(*pair, CARD_RANGE)
    with pytest.warns(UserWarning, match='cannot be captured.*is capturing$') as warned:
        found = [engine(*pair, CARD_RANGE) for _ in range(3)]
    assert len(warned) == 1
    assert all(np.array_equal(mask, expected[0]) for mask, _ in found)


needs_cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason='there is no CUDA device')


@needs_cuda
def test_a_captured_graph_gives_what_eager_operations_give():
    device = torch.device('cuda')
    weights = torch.randn(8, 8, device=device)

    def run(x, y):
        return (x.float() @ weights + y,)

    x, y = torch.randint(0, 255, (4, 8), dtype=torch.uint8), torch.randn(4, 8)
    graph = CudaGraph(run, (x, y), device)
    first, = graph(x, y)
    other, = graph(255 - x, y)
    torch.testing.assert_close(first, run(x.to(device), y.to(device))[0].cpu())
    torch.testing.assert_close(other, run((255 - x).to(device), y.to(device))[0].cpu())
    assert not torch.equal(first, other)


@needs_cuda
def test_an_engine_on_cuda_gives_nearly_the_mask_of_the_cpu(tiny_card):
    card = load_card(tiny_card)
    on_cuda, on_cpu = TorchEngine(card, 'cuda'), TorchEngine(card, 'cpu')
    for pair in pairs(4):  # the graph is captured on the way
        found, expected = (engine(*pair, CARD_RANGE)[0] for engine in (on_cuda, on_cpu))
        assert (found == expected).mean() > 0.97
