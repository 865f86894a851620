# Copyright 2026 rgbx_seg_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""A model in 8 bits is told what it costs, and refused where that is too much."""

from dataclasses import replace
import shutil

import numpy as np
import pytest
from rgbx_seg_ros.cards.card import load_card, Onnx
from rgbx_seg_ros.engines.onnx_engine import OnnxEngine
from rgbx_seg_ros.engines.onnx_files import OnnxModel
from rgbx_seg_ros.errors import DataError, EngineError
from rgbx_seg_ros.export.quantization import cost, MIN_IOU, quantize

onnx = pytest.importorskip('onnx', reason='it needs the extra onnx')
onnxruntime = pytest.importorskip('onnxruntime', reason='it needs the extra onnx')
pytest.importorskip('onnxscript', reason='it needs the extra onnx')

pytestmark = pytest.mark.timeout(900)  # an export takes minutes on a machine that is busy

RNG = np.random.default_rng(0)
LIMITS = (0.0, 5000.0)


def pair():
    return RNG.integers(0, 256, (70, 90, 3), np.uint8), RNG.integers(0, 5000, (50, 60), np.uint16)


def test_convolutions_are_in_8_bits_and_the_file_keeps_its_card(tiny_card, written, tmp_path):
    card, (inputs, small, whole) = load_card(tiny_card), written
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
    shutil.copy(card.weights_path, tmp_path)
    shutil.copy(small, tmp_path)
    engine = OnnxEngine(replace(card, folder=tmp_path, onnx=Onnx(small.name)), 'cpu')
    engine(*inputs[0])
    assert engine.settle()
    assert 'b.onnx' in engine.device
    np.testing.assert_array_equal(engine(*inputs[0])[0], found[0])


def test_a_filter_without_weights_keeps_the_zero_of_the_others(exported, written, tmp_path):
    model, inputs = onnx.load(exported[0]), written[0]
    filters = {node.input[1] for node in model.graph.node if node.op_type == 'Conv'}
    dead = 0
    for one in model.graph.initializer:
        if one.name in filters:
            weights = onnx.numpy_helper.to_array(one).copy()
            weights[0] = 0  # as many of a depthwise layer end that is trained with weight decay
            one.CopyFrom(onnx.numpy_helper.from_array(weights, one.name))
            dead += 1
    assert dead > 5
    onnx.save(model, tmp_path / 'a.onnx')
    quantize(tmp_path / 'a.onnx', tmp_path / 'b.onnx', inputs)
    mask, _ = OnnxModel(tmp_path / 'b.onnx')(*inputs[0])
    assert np.mean(mask != OnnxModel(tmp_path / 'a.onnx')(*inputs[0])[0]) < 0.05


def test_what_an_activation_cuts_off_takes_no_levels(tmp_path):
    kinds, make = onnx.TensorProto, onnx.helper
    nodes = [
        make.make_node('Cast', ['rgb'], ['image'], to=kinds.FLOAT),
        make.make_node('Transpose', ['image'], ['map'], perm=[0, 3, 1, 2]),
        make.make_node('Conv', ['map', 'weights'], ['sums']),
        make.make_node('Clip', ['sums', 'zero', 'six'], ['cut']),
        make.make_node('Conv', ['cut', 'one'], ['out'])]
    shapes = {'rgb': (kinds.UINT8, [1, 40, 40, 3]), 'x': (kinds.UINT8, [1, 40, 40, 1]),
              'x_limits': (kinds.FLOAT, [1, 2]), 'present': (kinds.FLOAT, [1, 2])}
    constants = {'weights': np.float32([0.31, 0.17, 0]).reshape(1, 3, 1, 1),
                 'one': np.ones((1, 1, 1, 1), np.float32),
                 'zero': np.float32(0), 'six': np.float32(6)}
    onnx.save(make.make_model(make.make_graph(
        nodes, 'a', [make.make_tensor_value_info(name, *shape) for name, shape in shapes.items()],
        [make.make_tensor_value_info('out', kinds.FLOAT, [1, 1, 40, 40])],
        [onnx.numpy_helper.from_array(value, name) for name, value in constants.items()]),
        opset_imports=[make.make_opsetid('', 20)], ir_version=9), tmp_path / 'a.onnx')
    rgb = np.zeros((40, 40, 3), np.uint8)
    rgb[..., 0], rgb[..., 1] = np.indices((40, 40)) % 13  # 0 to 6 of a convolution
    rgb[:4, :4] = 255  # 122 of it, of which 6 are left
    frame = rgb, np.zeros((40, 40), np.uint8), LIMITS
    quantize(tmp_path / 'a.onnx', tmp_path / 'b.onnx', [frame])
    before, after = (
        onnxruntime.InferenceSession(tmp_path / name).run(None, {
            'rgb': frame[0][None], 'x': frame[1][None, ..., None],
            'x_limits': np.float32([LIMITS]), 'present': np.float32([[1, 1]])})[0]
        for name in ('a.onnx', 'b.onnx'))
    assert np.abs(before - after).max() < 0.03


def on_avx2(values, weights):
    """
    Return the products of (M, K) uint8 and (K, N) as ONNX Runtime has them of AVX2, without VNNI.

    With int8 weights two neighbours are added up in 16 bits, which saturate (vpmaddubsw); uint8
    weights are widened first (vpmaddwd).
    """
    values, wide = values.astype(np.int32), weights.astype(np.int32)
    if weights.dtype == np.uint8:
        return values @ wide
    if values.shape[1] % 2:
        values, wide = np.pad(values, ((0, 0), (0, 1))), np.pad(wide, ((0, 1), (0, 0)))
    total = 0
    for k in range(0, values.shape[1], 2):
        pair = values[:, k:k + 2] @ wide[k:k + 2]
        total = total + pair.clip(-2 ** 15, 2 ** 15 - 1)
    return total


def layers(path, inputs):
    """Yield the factors of each dense convolution of a file, (M, K) and (K, N), in 8 bits."""
    model = onnx.load(path)
    made = {output: node for node in model.graph.node for output in node.output}
    constants = {one.name: onnx.numpy_helper.to_array(one) for one in model.graph.initializer}
    found = []
    for node in model.graph.node:
        attributes = {one.name: onnx.helper.get_attribute_value(one) for one in node.attribute}
        if node.op_type == 'Conv' and attributes.get('group', 1) == 1:
            x, w = (made[name].input for name in node.input[:2])
            if w[0] in constants:  # others are made of what comes in, and uint8 as that is
                found.append((x[0], constants[x[2]], constants[w[0]], attributes))
    for name in {name for name, *_ in found}:
        model.graph.output.append(onnx.helper.make_tensor_value_info(
            name, onnx.TensorProto.UINT8, None))
    rgb, x, limits = inputs
    session = onnxruntime.InferenceSession(model.SerializeToString())
    seen = dict(zip((one.name for one in model.graph.output), session.run(None, {
        'rgb': rgb[None], 'x': x[None, ..., None], 'x_limits': np.float32([limits]),
        'present': np.float32([[1, 1]])}), strict=True))
    for name, zero, weights, attributes in found:
        top, left, bottom, right = attributes.get('pads', [0] * 4)
        padded = np.pad(seen[name], ((0, 0), (0, 0), (top, bottom), (left, right)),
                        constant_values=int(zero))
        windows = np.lib.stride_tricks.sliding_window_view(padded, weights.shape[2:], (2, 3))
        rows, columns = attributes.get('strides', [1, 1])
        windows = windows[0, :, ::rows, ::columns].transpose(1, 2, 3, 4, 0)  # channels are last
        yield (windows.reshape(-1, weights[0].size),
               weights.transpose(2, 3, 1, 0).reshape(weights[0].size, -1))


@pytest.fixture(scope='module')
def written(exported, tmp_path_factory):
    """Return the inputs of a calibration, its file and the one in float32."""
    whole, small = exported[0], tmp_path_factory.mktemp('int8') / 'b.onnx'
    inputs = [(*pair(), LIMITS) for _ in range(3)]
    quantize(whole, small, inputs)
    return inputs, small, whole


def test_every_layer_is_exact_on_cpus_without_vnni(written):
    inputs, small, _ = written
    count = 0
    for values, weights in layers(small, inputs[0]):
        np.testing.assert_array_equal(
            on_avx2(values, weights), values.astype(np.int32) @ weights.astype(np.int32))
        count += 1
    assert count > 5


def test_what_it_is_tried_with_saturates_where_weights_are_int8():
    values, weights = np.full((1, 3), 255, np.uint8), np.full((3, 1), 127, np.int8)
    assert on_avx2(values, weights)[0, 0] == 2 ** 15 - 1 + 255 * 127
    assert on_avx2(values, weights.astype(np.uint8))[0, 0] == 3 * 255 * 127


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


@pytest.mark.parametrize('count', [0, 1])
def test_pairs_in_which_no_class_fills_enough_are_told(count, write_card):
    labels, specks = load_card(write_card()).labels, np.zeros((9, 9), np.uint8)
    with pytest.raises(DataError, match=f'no class fills 100 pixels .* {count} pairs, .*--data'):
        cost(model(specks), model(specks), [((), None)] * count, labels)
