# Copyright 2026 rgbx_seg_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""A model in 8 bits is told what it costs, and refused where that is too much."""

from dataclasses import replace
import shutil

import numpy as np
import pytest
from rgbx_seg_ros.cards.card import load_card, Onnx
from rgbx_seg_ros.engines.model_files import FrameKind
from rgbx_seg_ros.engines.onnx_engine import OnnxEngine
from rgbx_seg_ros.engines.onnx_files import OnnxModel, write_onnx
from rgbx_seg_ros.errors import EngineError
from rgbx_seg_ros.export.quantization import cost, MIN_IOU, quantize
from rgbx_seg_ros.inference.segmenter import Segmenter

onnx = pytest.importorskip('onnx', reason='it needs the extra onnx')
pytest.importorskip('onnxruntime', reason='it needs the extra onnx')
pytest.importorskip('onnxscript', reason='it needs the extra onnx')

pytestmark = pytest.mark.timeout(900)  # an export takes minutes on a machine that is busy

RNG = np.random.default_rng(0)
LIMITS = (0.0, 255.0)


def pair():
    return RNG.integers(0, 256, (64, 96, 3), np.uint8), RNG.integers(0, 256, (64, 96), np.uint8)


def test_convolutions_are_in_8_bits_and_the_file_keeps_its_card(tiny_card, tmp_path):
    segmenter = Segmenter.from_card(tiny_card, device='cpu')
    whole, small = tmp_path / 'a.onnx', tmp_path / 'b.onnx'
    write_onnx(segmenter.engine.network, segmenter.card, whole, FrameKind((64, 96), (64, 96)))
    inputs = [(*pair(), LIMITS) for _ in range(3)]
    quantize(whole, small, inputs)
    graph = onnx.load(small).graph
    made = {output: node for node in graph.node for output in node.output}
    convolutions = [node for node in graph.node if node.op_type == 'Conv']
    assert convolutions and all(
        made[name].op_type == 'DequantizeLinear'
        for node in convolutions for name in node.input[:2])
    assert small.stat().st_size < 0.8 * whole.stat().st_size
    assert OnnxModel(small).metadata == OnnxModel(whole).metadata | {'precision': 'int8'}
    expected, found = OnnxModel(whole)(*inputs[0]), OnnxModel(small)(*inputs[0])
    assert np.abs(expected[1].astype(int) - found[1]).mean() < 5
    assert (expected[1] != found[1]).any()
    # What a card names has passed one more test: the engine's, for 8 bits.
    shutil.copy(segmenter.card.weights_path, tmp_path)
    card = replace(segmenter.card, folder=tmp_path, onnx=Onnx(small.name))
    engine = OnnxEngine(card, 'cpu')
    engine(*inputs[0])
    assert engine.settle()
    assert 'b.onnx' in engine.device
    np.testing.assert_array_equal(engine(*inputs[0])[0], found[0])


def model(mask):
    return lambda *inputs: (mask, np.full(mask.shape, 200, np.uint8))


def test_the_cost_is_that_of_the_class_which_agrees_least(write_card):
    labels = load_card(write_card()).labels
    whole, small, label = (np.zeros((40, 40), np.uint8) for _ in range(3))
    whole[:, :20], small[:, :18], label[:, :10] = 1, 1, 1
    found = cost(model(whole), model(small), [((), label), ((), None)], labels)
    assert found.iou == pytest.approx(18 / 20)
    assert found.name == 'car'
    assert found.difference.mask == pytest.approx(2 / 40)
    assert found.scores == pytest.approx(((10 / 20 + 20 / 30) / 2, (10 / 18 + 22 / 30) / 2))
    assert "'car' has the lowest IoU with its masks in float32, 90.0 %; mean IoU" in str(found)
    assert cost(model(whole), model(small), [((), None)], labels).scores is None


def test_a_class_that_8_bits_lose_is_named(write_card):
    labels = load_card(write_card()).labels
    whole, small = np.zeros((2, 60, 60), np.uint8)
    whole[:, :20] = 1
    small[:, :round(20 * MIN_IOU) - 1] = 1
    with pytest.raises(EngineError, match="int8 costs too much: .* 'car' .*--data"):
        cost(model(whole), model(small), [((), None)], labels)
    # Of few pixels a single one would decide.
    whole[:], small[:] = 0, 0
    whole[:9, :9] = 1
    assert cost(model(whole), model(small), [((), None)], labels).name == 'background'
