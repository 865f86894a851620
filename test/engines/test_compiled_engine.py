# Copyright 2026 rgbx_seg_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""Compiled code takes over from PyTorch when it gives the same masks, and is for this CPU."""

import gc
from pathlib import Path
import shutil
from types import SimpleNamespace
import zipfile

import numpy as np
import pytest
from rgbx_seg_ros.cards.card import load_card
from rgbx_seg_ros.cpu import Cpu
from rgbx_seg_ros.engines import background, compiled_engine
from rgbx_seg_ros.engines import cache as engine_cache
from rgbx_seg_ros.engines.cache import cache_dir, checksum_path
from rgbx_seg_ros.engines.compiled_engine import CompiledBFloat16Engine, CompiledEngine
from rgbx_seg_ros.engines.compiled_files import CompiledModel
from rgbx_seg_ros.engines.graph import to_batch
from rgbx_seg_ros.engines.model_files import Difference, FrameKind
from rgbx_seg_ros.engines.torch_engine import TorchBFloat16Engine, TorchEngine
from rgbx_seg_ros.errors import EngineError, UnavailableError
from rgbx_seg_ros.networks import NETWORKS
from rgbx_seg_ros.sensors import Sensors
from rgbx_seg_ros.weights.checkpoint import save_weights
from support.train_stage import Mini
import torch
import yaml

needs_compiler = pytest.mark.skipif(shutil.which('g++') is None, reason='it needs g++')
pytestmark = pytest.mark.timeout(900)  # compiling takes minutes on a machine that is busy

RNG = np.random.default_rng(0)
PAIR = (RNG.integers(0, 256, (70, 90, 3), np.uint8), RNG.integers(0, 5000, (50, 60), np.uint16),
        (100.0, 4000.0))
FITTING = (RNG.integers(0, 256, (64, 96, 3), np.uint8),
           RNG.integers(0, 5000, (64, 96), np.uint16), (100.0, 4000.0))
"""Of the size at which the tiny models run."""
BFLOAT16_CPU = Cpu('x86_64', 'A CPU', (), frozenset({'avx512_bf16'}))


@pytest.fixture(scope='module', params=[
    pytest.param(name, marks=pytest.mark.long) for name in ('mini', 'tiny')])
def card_path(request, tiny_card, tmp_path_factory):
    """Return the path of a card: of two layers, which compile sooner, or of a real network."""
    if request.param == 'tiny':
        yield tiny_card
        return
    path = tmp_path_factory.mktemp('mini') / 'mini.yaml'
    with torch.random.fork_rng():
        torch.manual_seed(0)
        save_weights(Mini(3), path.with_suffix('.safetensors'))
    path.write_text(yaml.safe_dump({
        **yaml.safe_load(tiny_card.read_text()), 'name': 'mini', 'network': 'mini',
        'network_args': {}, 'weights': {'file': 'mini.safetensors'}}))
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(NETWORKS, 'mini', Mini)
        patch.setattr(engine_cache, '_BUILD', 'support.train_stage:build_file')
        patch.setenv('PYTHONPATH', str(Path(__file__).parents[1]))
        yield path


def started(card, kind=CompiledEngine):
    """Return an engine that has seen a kind of frames twice."""
    engine = kind(load_card(card), 'cpu')
    engine(*PAIR)
    engine(*PAIR)
    return engine


@pytest.fixture(scope='module')
def built(card_path, tmp_path_factory):
    """Return the cache that an engine has made, what it said on the way, and what it has left."""
    cache, scratch = tmp_path_factory.mktemp('cache'), tmp_path_factory.mktemp('scratch')
    trap = tmp_path_factory.mktemp('trap')
    for name in ('ctypes', 'tempfile'):  # neither a build nor the node may import them
        (trap / f'{name}.py').write_text(f"open({str(trap / 'trace')!r}, 'w')")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv('XDG_CACHE_HOME', str(cache))
        patch.setenv('TMPDIR', str(scratch))
        patch.chdir(trap)
        engine = started(card_path)
        before = engine.device
        ready = engine.settle()
        outputs, device = engine(*PAIR), engine.device
        del engine
        gc.collect()
        return SimpleNamespace(cache=cache, before=before, ready=ready, outputs=outputs,
                               device=device, left=[*scratch.iterdir()],
                               trapped=(trap / 'trace').exists())


@pytest.fixture
def cached(built, tmp_path, monkeypatch):
    """Return the path of the file in a copy of that cache, which is the one in use."""
    shutil.copytree(built.cache, tmp_path / 'cache')
    monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path / 'cache'))
    path, = cache_dir().glob('*.so')
    return path


@needs_compiler
def test_pytorch_serves_until_the_code_has_proved_itself(built, card_path):
    assert built.before == 'cpu float32 by PyTorch until compiled code is ready'
    assert built.ready
    assert built.device == 'cpu float32 by PyTorch, compiled'
    expected = TorchEngine(load_card(card_path), 'cpu')(*PAIR)
    assert len(np.unique(expected[0])) > 1
    assert Difference.between(expected, built.outputs).is_small()


@needs_compiler
def test_the_compiler_leaves_nothing_but_the_file_and_its_checksum(built, cached):
    assert {one.name for one in cached.parent.iterdir()} == {
        '.lock', cached.name, checksum_path(cached).name}
    assert '-90x70-60x50x1-uint16-' in cached.name
    assert not built.left


@needs_compiler
def test_neither_the_build_nor_the_engine_runs_what_lies_in_the_working_folder(built):
    assert built.ready and not built.trapped


@needs_compiler
def test_a_second_engine_takes_the_code_from_the_cache(cached, card_path, monkeypatch):
    monkeypatch.setattr(background, 'start_build', lambda *_, **__: pytest.fail('it builds'))
    engine = started(card_path)
    assert engine.ready_kinds() == [FrameKind.of(*PAIR[:2])]
    assert engine.settle()
    assert engine.device.endswith('compiled')


@needs_compiler
@pytest.mark.parametrize('with_checksum', [False, True])
def test_a_file_that_is_not_the_code_is_made_again(with_checksum, cached, card_path, monkeypatch):
    asked = []

    def start(card, kind, path, **options):
        asked.append((path, options))
        raise OSError('no build in this test')
    monkeypatch.setattr(background, 'start_build', start)
    cached.write_bytes(b'nothing')
    if with_checksum:
        checksum_path(cached).write_text(engine_cache._checksum_line(cached, cached))
    engine = started(card_path)
    with pytest.warns(UserWarning, match='as compiled code cannot: no build in this test'):
        assert not engine.settle()
    assert asked == [(cached, {'precision': 'float32', 'threads': torch.get_num_threads()})]


@needs_compiler
def test_rows_that_do_not_follow_each_other_and_a_lost_modality_are_no_matter(cached, card_path):
    model, engine = CompiledModel(cached, FrameKind.of(*PAIR[:2])), TorchEngine(
        load_card(card_path), 'cpu')
    wide = np.zeros((70, 120, 3), np.uint8)
    wide[:, 10:100] = PAIR[0]
    flipped = PAIR[1][::-1]
    for sensors in Sensors:
        frames = wide[:, 10:100], flipped, PAIR[2], sensors
        assert Difference.between(engine(*frames), model(*frames)).is_small()


@needs_compiler
def test_frames_of_another_kind_never_reach_the_code(cached):
    model = CompiledModel(cached, FrameKind.of(*PAIR[:2]))
    with pytest.raises(EngineError, match='the frames are 90x60 RGB .* is for 90x70 RGB'):
        model(PAIR[0][:60], *PAIR[1:])


@needs_compiler
@pytest.mark.long
def test_in_bfloat16_it_agrees_with_pytorch_in_bfloat16(tiny_card, tmp_path, monkeypatch):
    monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path))
    monkeypatch.setattr('rgbx_seg_ros.engines.torch_engine.find_cpu', lambda: BFLOAT16_CPU)
    engine = started(tiny_card, CompiledBFloat16Engine)
    assert engine.settle()
    assert engine.device == 'cpu bfloat16 by PyTorch, compiled'
    expected = TorchBFloat16Engine(load_card(tiny_card), 'cpu')(*PAIR)
    assert Difference.between(expected, engine(*PAIR)).is_small('bfloat16')


@pytest.mark.parametrize('kind', [TorchEngine, TorchBFloat16Engine])
def test_weights_are_frozen_for_the_precision_and_the_number_of_threads(
        kind, card_path, tmp_path, monkeypatch):
    seen, programs = [], []

    def compile_(program, package_path, inductor_configs):
        seen.append((inductor_configs, torch.is_grad_enabled(), torch.get_num_threads()))
        programs.append(program.module())
        with zipfile.ZipFile(package_path, 'w') as archive:
            archive.writestr('model/a.wrapper.so', b'code')
    monkeypatch.setattr('torch._inductor.aoti_compile_and_package', compile_)
    monkeypatch.setattr('rgbx_seg_ros.engines.compiled_files.check_compiler', lambda: None)
    monkeypatch.setattr('rgbx_seg_ros.engines.torch_engine.find_cpu', lambda: BFLOAT16_CPU)
    engine, before = kind(load_card(card_path), 'cpu'), torch.get_num_threads()
    # What shrinks is averaged by other operations there, whose last bits bfloat16 tells apart.
    pair = PAIR if kind is TorchEngine else FITTING
    precision = str(engine.precision).removeprefix('torch.')
    try:
        engine_cache.build(load_card(card_path), FrameKind.of(*pair[:2]), tmp_path / 'a.so',
                           precision=precision, threads=3)
    finally:
        torch.set_num_threads(before)
    assert (tmp_path / 'a.so').read_bytes() == b'code'
    # With gradients the compiler does not freeze, and says nothing; for another number of
    # threads the order of the weights is another. Either way the code is as slow as PyTorch.
    (configs, *others), = seen
    assert configs.items() >= {'freezing': True, 'cpp.threads': 3}.items()
    assert others == [False, 3]
    assert configs['unroll_reductions_threshold'] > len(load_card(card_path).classes)
    assert configs['realize_reads_threshold'] < 4, 'what is scaled twice is made of 16 values'
    rgb, x, limits = pair
    with torch.inference_mode():
        outputs = programs[0](to_batch(rgb), to_batch(x), torch.tensor([limits]),
                              torch.ones(1, 2))
    found = [output[0].numpy() for output in outputs]
    for one, other in zip(found, engine(*pair), strict=True):
        np.testing.assert_array_equal(one, other)


def test_code_for_another_processor_or_number_of_threads_is_another_file(monkeypatch):
    def key(precision=torch.float32):
        return compiled_engine._Compiler(precision).key

    keys = {key(), key(), key(torch.bfloat16)}
    assert len(keys) == 2
    for cpu in (Cpu('x86_64', '', ('model 17',), frozenset({'sse2'})),
                Cpu('aarch64', '', ('CPU part 0xd0c',), frozenset({'asimd'})),  # Graviton 2
                Cpu('aarch64', '', ('CPU part 0xd4f',), frozenset({'asimd'})),  # Grace
                Cpu('aarch64', '', ('CPU part 0xd4f',), frozenset({'asimd', 'bf16'})),
                Cpu('armv8l', '', ('CPU part 0xd4f',), frozenset({'asimd', 'bf16'}))):
        monkeypatch.setattr(compiled_engine, 'find_cpu', lambda cpu=cpu: cpu)
        keys.add(key())
    assert len(keys) == 7
    monkeypatch.setattr(torch, 'get_num_threads', lambda: 17)
    keys.add(key())
    assert len(keys) == 8


def test_without_a_compiler_it_is_told_how_to_get_it(tiny_card, monkeypatch):
    monkeypatch.setenv('CXX', 'no-such-compiler')
    with pytest.raises(UnavailableError, match="no C.. compiler 'no-such-compiler': apt install"):
        CompiledEngine(load_card(tiny_card), 'cpu')


def test_a_gpu_is_not_what_it_is_for(tiny_card, monkeypatch):
    monkeypatch.setattr(compiled_engine, 'find_device', lambda _: torch.device('cuda'))
    with pytest.raises(UnavailableError, match="device is 'auto', cuda here: .* 'torch' or dev"):
        CompiledEngine(load_card(tiny_card))
