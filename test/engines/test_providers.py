# Copyright 2026 rgbx_seg_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""What ONNX Runtime may run a model with: in which order, where, and what is told of failures."""

import os
import sys
from types import SimpleNamespace

import pytest
from rgbx_seg_ros.cards.card import load_card
from rgbx_seg_ros.engines import onnx_engine
from rgbx_seg_ros.engines.cache import cache_dir
from rgbx_seg_ros.engines.onnx_engine import OnnxEngine
from rgbx_seg_ros.engines.onnx_files import NamedFile
from rgbx_seg_ros.engines.torch_engine import TorchEngine
from rgbx_seg_ros.errors import EngineError
from support.onnx_engines import PAIR
import torch

onnx = pytest.importorskip('onnx', reason='it needs the extra onnx')
pytest.importorskip('onnxruntime', reason='it needs the extra onnx')
pytest.importorskip('onnxscript', reason='it needs the extra onnx')
pytestmark = pytest.mark.timeout(900)  # an export takes minutes on a machine that is busy


@pytest.mark.parametrize(('offered', 'device', 'order', 'wanted'), [
    (['Tensorrt', 'CUDA', 'CPU'], 'cpu', None, [['CPU']]),
    (['Tensorrt', 'CUDA', 'CPU'], 'cuda:1', None, [['Tensorrt', 'CUDA'], ['CUDA']]),
    (['CUDA', 'CPU'], 'cuda', None, [['CUDA']]),
    (['Tensorrt', 'CUDA', 'CPU'], 'cpu', ['CUDA'], [['CPU']]),
    (['Tensorrt', 'CUDA', 'CPU'], 'cuda', ['CUDA', 'TensorRT'],
     [['CUDA', 'Tensorrt'], ['Tensorrt']]),
    (['Tensorrt', 'CUDA', 'CPU'], 'cuda:1', ['CPU', 'CUDA'], [['CUDA']]),
    (['CUDA', 'CPU'], 'cuda', ['TensorRT', 'CUDA', 'CPU'], [['CUDA']]),
])
def test_providers_come_in_the_order_of_the_card_or_the_fastest_first(
        offered, device, order, wanted):
    runtime = SimpleNamespace(get_available_providers=lambda: [
        f'{name}ExecutionProvider' for name in offered])
    found = onnx_engine._providers(runtime, torch.device(device), order)
    assert [[name.removesuffix('ExecutionProvider') for name, _ in one] for one in found] == wanted
    numbers = {options.get('device_id') for one in found for _, options in one}
    assert numbers == {torch.device(device).index or 0 if device != 'cpu' else None}


def on_cuda():
    """Return the runtime of a machine with a GPU."""
    library = SimpleNamespace(__version__='1', get_available_providers=lambda: [
        'TensorrtExecutionProvider', 'CUDAExecutionProvider', 'CPUExecutionProvider'])
    return onnx_engine._Runtime(library, torch.device('cuda:0'), None)


def test_what_tensorrt_makes_lies_in_the_cache_where_nobody_else_writes(
        named, tmp_path, monkeypatch):
    monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path / 'cache'))
    runtime = on_cuda()
    assert runtime._options('CUDAExecutionProvider', tmp_path / 'a.onnx', False) == {}
    own = runtime._options('TensorrtExecutionProvider', tmp_path / 'a.onnx', False)
    assert own == {
        'trt_engine_cache_enable': True, 'trt_engine_cache_path': str(tmp_path / 'a.tensorrt'),
        'trt_fp16_enable': True, 'trt_int8_enable': False}
    runtime.file = NamedFile.of(load_card(named()))
    given = runtime._options('TensorrtExecutionProvider', runtime.file.path, True)
    assert given['trt_int8_enable']
    folder, name = os.path.split(given['trt_engine_cache_path'])
    assert folder == str(cache_dir()) and name.startswith('mine-')
    cache_dir().chmod(0o770)
    with pytest.raises(EngineError, match='chmod go-w'):
        runtime._options('TensorrtExecutionProvider', runtime.file.path, True)


@pytest.mark.parametrize('content', ['', 'raise OSError("libnvinfer.so.10: no such file")'])
def test_the_tensorrt_of_pip_is_loaded_for_tensorrt_alone(content, tmp_path, monkeypatch):
    monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path / 'cache'))
    (tmp_path / 'tensorrt.py').write_text(
        f'open({str(tmp_path / "loaded")!r}, "w").close()\n{content}\n')
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, 'tensorrt', raising=False)
    runtime = on_cuda()
    runtime._options('CUDAExecutionProvider', tmp_path / 'a.onnx', False)
    assert not (tmp_path / 'loaded').exists()
    runtime._options('TensorrtExecutionProvider', tmp_path / 'a.onnx', False)
    assert (tmp_path / 'loaded').exists()


def test_a_faster_provider_that_fails_is_told_where_another_serves(
        cache, builds, tiny_card, monkeypatch):
    serves = TorchEngine(load_card(tiny_card), 'cpu')

    class Model:
        provider = 'CUDA'

        def __init__(self, path, providers):
            self.path = path
            if providers[0][0].startswith('Tensorrt'):
                raise EngineError('cannot load it with TensorrtExecutionProvider: no libnvinfer')

        def __call__(self, *pair):
            mask, confidence = serves(*pair)
            return mask, confidence ^ 8  # as float16 may, and float32 may not
    monkeypatch.setattr(onnx_engine, 'OnnxModel', Model)
    engine = OnnxEngine(load_card(tiny_card), 'cpu')
    engine._runtime, key = on_cuda(), engine._runtime.key
    engine._runtime.key = key  # the file is the one that was made for the CPU
    engine(*PAIR)
    engine(*PAIR)
    with pytest.warns(UserWarning, match='^CUDA runs frames of 90x70 RGB .*, as TensorRT cannot, '
                                         'which may be faster: .*: no libnvinfer$') as said:
        assert engine.settle()
        engine(*PAIR)
    assert len(said) == 1
    assert not builds


def test_a_runtime_without_cuda_is_told_which_one_has_it():
    runtime = SimpleNamespace(__version__='1', get_available_providers=lambda: [
        'CPUExecutionProvider'])
    with pytest.raises(EngineError, match='pip install onnxruntime-gpu'):
        onnx_engine._providers(runtime, torch.device('cuda'))


@pytest.mark.parametrize('order', [['CPU'], ['TensorRT', 'CPU']])
def test_a_card_whose_providers_do_not_fit_the_device_is_told_which_do(order):
    runtime = SimpleNamespace(__version__='1', get_available_providers=lambda: [
        'CUDAExecutionProvider', 'CPUExecutionProvider'])
    with pytest.raises(EngineError, match=r"has onnx.providers \['.* offers CUDA for "
                                          'a CUDA device: name'):
        onnx_engine._providers(runtime, torch.device('cuda'), order)
