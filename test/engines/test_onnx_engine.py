# Copyright 2026 rgbx_seg_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""ONNX Runtime takes over from PyTorch when it gives the same masks, and never before."""

import gc
import os
import shutil
import subprocess
import sys
import threading
from types import SimpleNamespace
import warnings

import numpy as np
import pytest
from rgbx_seg_ros.cards.card import load_card
from rgbx_seg_ros.engines import background, onnx_engine
from rgbx_seg_ros.engines import cache as engine_cache
from rgbx_seg_ros.engines.cache import cache_dir, checksum_path, is_intact
from rgbx_seg_ros.engines.model_files import Difference, FrameKind
from rgbx_seg_ros.engines.onnx_engine import OnnxEngine
from rgbx_seg_ros.engines.onnx_files import NamedFile, OnnxModel
from rgbx_seg_ros.engines.torch_engine import TorchEngine
from rgbx_seg_ros.errors import EngineError
import torch
import yaml

onnx = pytest.importorskip('onnx', reason='it needs the extra onnx')
pytest.importorskip('onnxruntime', reason='it needs the extra onnx')
pytest.importorskip('onnxscript', reason='it needs the extra onnx')

pytestmark = pytest.mark.timeout(900)  # an export takes minutes on a machine that is busy

RNG = np.random.default_rng(0)
PAIR = (RNG.integers(0, 256, (70, 90, 3), np.uint8), RNG.integers(0, 5000, (50, 60), np.uint16),
        (100.0, 4000.0))
OTHER = PAIR[0][:60], *PAIR[1:]


@pytest.fixture(scope='module')
def built(tiny_card, tmp_path_factory):
    """Return the cache that an engine has made, and what it said and gave on the way."""
    cache = tmp_path_factory.mktemp('cache')
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv('XDG_CACHE_HOME', str(cache))
        engine = OnnxEngine(load_card(tiny_card), 'cpu')
        steps = [(engine(*PAIR), engine.device) for _ in range(3)]
        ready = engine.settle()
        steps.append((engine(*PAIR), engine.device))
        return SimpleNamespace(cache=cache, steps=steps, ready=ready)


@pytest.fixture
def cache(built, tmp_path, monkeypatch):
    """Return the path of the model in a copy of that cache, which is the one in use."""
    shutil.copytree(built.cache, tmp_path / 'cache')
    monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path / 'cache'))
    path, = cache_dir().glob('*.onnx')
    return path


@pytest.fixture
def builds(cache, built, monkeypatch):
    """Let a build copy the model of the first cache; return the paths that were asked for."""
    paths, source = [], built.cache / cache.relative_to(cache.parents[2])

    def start(card, kind, path):
        paths.append(path)
        for function in (lambda one: one, checksum_path):
            shutil.copy(function(source), function(path))
        return process('pass')
    monkeypatch.setattr(background, 'start_build', start)
    return paths


def process(code):
    return subprocess.Popen([sys.executable, '-S', '-c', code], stdin=subprocess.PIPE,
                            stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
                            start_new_session=True)


def started(card, pair=PAIR):
    """Return an engine that has seen a kind of frames twice."""
    engine = OnnxEngine(load_card(card), 'cpu')
    engine(*pair)
    engine(*pair)
    return engine


def test_pytorch_serves_until_the_model_has_proved_itself(built, tiny_card):
    expected = TorchEngine(load_card(tiny_card), 'cpu')(*PAIR)
    assert len(np.unique(expected[0])) > 1
    for outputs, device in built.steps[:3]:
        assert device.startswith('cpu float32 by PyTorch until ONNX Runtime ')
        for one, other in zip(outputs, expected, strict=True):
            np.testing.assert_array_equal(one, other)
    assert built.ready
    outputs, device = built.steps[3]
    assert device.startswith('cpu by ONNX Runtime ')
    assert Difference.between(expected, outputs).is_small()


def test_the_cache_holds_the_model_with_its_checksum_and_nothing_else(cache):
    assert is_intact(cache)
    assert {one.name for one in cache.parent.iterdir()} == {
        '.lock', cache.name, checksum_path(cache).name}
    subprocess.run(['sha256sum', '--status', '-c', checksum_path(cache).name], cwd=cache.parent,
                   check=True)


def test_a_second_engine_takes_the_model_from_the_cache(builds, tiny_card):
    engine = started(tiny_card)
    assert engine.settle()
    assert not builds
    assert 'by ONNX Runtime' in engine.device


def flip_a_bit(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def cut(path):
    path.write_bytes(path.read_bytes()[:-1000])


def without_checksum(path):
    checksum_path(path).unlink()


def with_a_checksum_of_noise(path):
    checksum_path(path).write_bytes(b'\xff\x00')


def no_model(path):
    path.write_bytes(b'nothing')
    checksum_path(path).write_text(engine_cache._checksum_line(path, path))


def of_other_weights(path):
    model = onnx.load(path)
    for one in model.graph.initializer:
        values = onnx.numpy_helper.to_array(one)
        if values.dtype == np.float32 and values.ndim > 1:
            one.CopyFrom(onnx.numpy_helper.from_array(values[::-1].copy(), one.name))
    onnx.save(model, path)
    checksum_path(path).write_text(engine_cache._checksum_line(path, path))


@pytest.mark.parametrize('damage', [flip_a_bit, cut, without_checksum, with_a_checksum_of_noise,
                                    no_model, of_other_weights])
def test_a_file_that_is_not_the_model_is_made_again(damage, cache, builds, tiny_card):
    damage(cache)
    engine = started(tiny_card)
    with warnings.catch_warnings():
        warnings.simplefilter('error')
        assert engine.settle()
    assert builds == [cache]
    assert is_intact(cache)


@pytest.fixture
def named(built, tiny_card, tmp_path):
    """Return a function that writes a card that names a file, which it can change before."""
    folder = tmp_path / 'named'
    shutil.copytree(tiny_card.parent, folder)
    source, = built.cache.rglob('*.onnx')
    shutil.copy(source, folder / 'mine.onnx')

    def write(change=lambda path: None, **changes):
        change(folder / 'mine.onnx')
        path = folder / 'tiny.yaml'
        path.write_text(yaml.safe_dump({**yaml.safe_load(tiny_card.read_text()),
                                        'onnx': {'file': 'mine.onnx'}, **changes}))
        return path
    return write


def with_metadata(**values):
    def change(path):
        model = onnx.load(path)
        metadata = {one.key: one.value for one in model.metadata_props}
        metadata |= {f'rgbx_seg_ros.{name}': value for name, value in values.items()}
        onnx.helper.set_model_props(model, {k: v for k, v in metadata.items() if v is not None})
        onnx.save(model, path)
    return change


def off_by_8(path):
    """Let a file be off by a few steps of confidence, as one in int8 is."""
    model = onnx.load(path)
    model.graph.initializer.append(onnx.numpy_helper.from_array(np.array(8, np.uint8), 'bits'))
    for node in model.graph.node:
        node.output[:] = ['before' if one == 'confidence' else one for one in node.output]
    model.graph.node.append(
        onnx.helper.make_node('BitwiseXor', ['before', 'bits'], ['confidence']))
    onnx.save(model, path)


def no_builds(monkeypatch):
    monkeypatch.setattr(background, 'start_build', lambda *_: pytest.fail('it builds'))


def test_a_file_that_the_card_names_serves_after_the_first_frame(named, monkeypatch):
    no_builds(monkeypatch)
    card = load_card(named())
    engine = OnnxEngine(card, 'cpu')
    expected = engine(*PAIR)
    assert engine.settle()
    assert engine.device.endswith('(CPU, mine.onnx)')
    monkeypatch.setattr(TorchEngine, '__call__', lambda *_: pytest.fail('PyTorch serves'))
    assert Difference.between(expected, engine(*PAIR)).is_small()


def test_a_file_in_int8_may_differ_more_than_one_in_float32(named, monkeypatch):
    no_builds(monkeypatch)
    named(off_by_8)  # too much for float32, as another test tells
    engine = OnnxEngine(load_card(named(with_metadata(precision='int8'))), 'cpu')
    expected = engine(*PAIR)
    assert engine.settle()
    assert np.percentile(np.abs(expected[1].astype(int) - engine(*PAIR)[1]), 99) == 8


def change_x(path):
    card = yaml.safe_load(OnnxModel(path).metadata['card'])
    card['x']['invalid'] = 7.0
    with_metadata(card=yaml.safe_dump(card))(path)


@pytest.mark.parametrize(('change', 'reason'), [
    (os.remove, 'there is no file .*mine.onnx'),
    (cut, 'ONNX Runtime .* cannot load .*mine.onnx'),
    (with_metadata(weights_sha256='0' * 64), 'it was made of other weights than'),
])
def test_a_file_that_is_not_of_the_card_is_told_once_and_does_not_count(
        change, reason, named, cache, builds):
    with pytest.warns(UserWarning, match=f"'mine.onnx' that the card 'tiny' .*: {reason}") as said:
        engine = OnnxEngine(load_card(named(change)), 'cpu')
        engine(*PAIR)
        assert engine._job is None  # as without the file: a single frame is not worth it
        engine(*PAIR)
        assert engine.settle()
    assert len(said) == 1
    assert not builds and 'mine' not in engine.device  # it is the one from the cache


@pytest.mark.parametrize(('change', 'reason'), [
    (with_metadata(kind=None), 'its metadata lack kind: '),
    (with_metadata(kind='[1]'), r"the kind of frames is '\[1\]'"),
    (with_metadata(precision='int4'), "its precision 'int4' is unknown"),
    (with_metadata(card='a: ['), 'the card in its metadata cannot be read'),
    (change_x, 'it was made of a card with other x.invalid$'),
])
def test_a_file_that_may_be_of_another_model_is_refused(change, reason, named):
    with pytest.raises(EngineError, match=reason):
        NamedFile.of(load_card(named(change)))


def test_a_file_that_gives_other_masks_is_told_once_and_one_is_built(named, cache, builds):
    cache.unlink()
    engine = OnnxEngine(load_card(named(off_by_8)), 'cpu')
    engine(*PAIR)
    with pytest.warns(UserWarning, match="'mine.onnx' .* gives another mask than Py") as said:
        assert engine.settle()
    assert len(said) == 1
    assert builds == [cache] and 'mine' not in engine.device


def test_frames_of_another_kind_than_that_of_the_file_get_a_model_as_ever(
        named, builds, monkeypatch):
    asked = []

    def start(card, kind, path):
        asked.append(kind)
        return process('pass')
    monkeypatch.setattr(background, 'start_build', start)
    engine = OnnxEngine(load_card(named()), 'cpu')
    engine(*OTHER)
    assert engine._job is None
    engine(*OTHER)
    with pytest.warns(UserWarning, match='PyTorch goes on with frames of 90x60 RGB'):
        assert not engine.settle()
    assert asked == [FrameKind.of(*OTHER[:2])]
    engine(*PAIR)
    assert engine.settle()
    assert 'mine.onnx' in engine.device


def test_a_card_without_weights_cannot_have_a_file(named):
    with pytest.raises(EngineError, match='other weights than those of the card'):
        NamedFile.of(load_card(named(with_metadata(weights_sha256=''), weights=None)))


def test_a_model_that_gives_other_masks_never_serves(cache, builds, tiny_card, monkeypatch):
    monkeypatch.setattr(OnnxModel, '__call__', lambda *_: (
        np.zeros((70, 90), np.uint8), np.zeros((70, 90), np.uint8)))
    engine = started(tiny_card)
    with pytest.warns(UserWarning, match='CPU gives another mask than PyTorch: .* % of the mask'):
        assert not engine.settle()
    assert not cache.exists()
    assert engine(*PAIR)[0].any()


def test_frames_of_two_kinds_get_a_model_each(cache, builds, tiny_card, monkeypatch):
    engine = started(tiny_card)
    assert engine.settle()
    monkeypatch.setattr(background, 'start_build', lambda *_: process('pass'))
    engine(*OTHER)
    assert engine(*OTHER)[0].shape == (60, 90)
    with pytest.warns(UserWarning, match='PyTorch goes on with frames of 90x60 RGB with 60x50 X'):
        assert not engine.settle()
    engine(*PAIR)
    assert 'by ONNX Runtime' in engine.device


def test_a_single_frame_is_not_worth_an_export(tiny_card, monkeypatch):
    jobs = []
    monkeypatch.setattr(background, '_Job', lambda *arguments: jobs.append(arguments))
    engine = OnnxEngine(load_card(tiny_card), 'cpu')
    for pair in (PAIR, OTHER, PAIR, OTHER):
        engine(*pair)
    assert not engine.settle()
    assert not jobs


def test_pytorch_goes_on_and_says_once_why_an_export_failed(tiny_card, tmp_path, monkeypatch):
    (tmp_path / 'rgbx_seg_ros').write_text('in the way of the folder')
    (tmp_path / 'tempfile.py').write_text('0 / 0')  # a build must not import it
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path))
    engine = started(tiny_card)
    with pytest.warns(UserWarning, match='PyTorch goes on .*: the export failed: .*Errno') as said:
        assert not engine.settle()
    assert len(said) == 1 and '\n' not in str(said[0].message)
    with warnings.catch_warnings():
        warnings.simplefilter('error')
        engine(*PAIR)
        engine(*PAIR)
        assert not engine.settle()
    assert engine.device == 'cpu float32 by PyTorch'


def test_a_card_without_weights_stays_with_pytorch(write_card, tmp_path, monkeypatch):
    monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path / 'cache'))
    engine = started(write_card())
    with pytest.warns(UserWarning, match="card 'tiny' has no weights"):
        assert not engine.settle()


def test_pytorch_takes_over_where_a_model_fails_later(cache, builds, tiny_card, monkeypatch):
    engine = started(tiny_card)
    assert engine.settle()

    def fail(*_):
        raise EngineError('out of memory')
    monkeypatch.setattr(OnnxModel, '__call__', fail)
    with pytest.warns(UserWarning, match='out of memory'):
        mask, _ = engine(*PAIR)
    assert mask.shape == (70, 90)
    assert engine.device == 'cpu float32 by PyTorch'


def test_a_build_ends_with_its_engine(tiny_card, tmp_path, monkeypatch):
    running, reached = [], threading.Event()

    def start(*_):
        running.append(process('import time; time.sleep(60)'))
        reached.set()
        return running[0]
    monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path))
    monkeypatch.setattr(background, 'start_build', start)
    engine = started(tiny_card)
    assert reached.wait(60)
    assert running[0].poll() is None
    del engine
    gc.collect()
    assert running[0].wait(10) < 0


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


def test_without_the_library_it_is_told_how_to_get_it(tiny_card, monkeypatch):
    monkeypatch.setitem(sys.modules, 'onnxruntime', None)
    with pytest.raises(EngineError, match=r"pip install 'rgbx_seg_ros\[onnx\]'"):
        OnnxEngine(load_card(tiny_card), 'cpu')
