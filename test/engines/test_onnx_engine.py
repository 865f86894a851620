# Copyright 2026 rgbx_seg_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""ONNX Runtime takes over from PyTorch when it gives the same masks, and never before."""

import gc
import os
import subprocess
import sys
import threading
import warnings

import numpy as np
import pytest
from rgbx_seg_ros.cards.card import load_card
from rgbx_seg_ros.engines import background
from rgbx_seg_ros.engines import cache as engine_cache
from rgbx_seg_ros.engines.cache import checksum_path, is_intact
from rgbx_seg_ros.engines.model_files import Difference, FrameKind
from rgbx_seg_ros.engines.onnx_engine import OnnxEngine
from rgbx_seg_ros.engines.onnx_files import NamedFile, OnnxModel
from rgbx_seg_ros.engines.torch_engine import TorchEngine
from rgbx_seg_ros.errors import EngineError
from support.onnx_engines import PAIR, process
import yaml

onnx = pytest.importorskip('onnx', reason='it needs the extra onnx')
pytest.importorskip('onnxruntime', reason='it needs the extra onnx')
pytest.importorskip('onnxscript', reason='it needs the extra onnx')

pytestmark = pytest.mark.timeout(900)  # an export takes minutes on a machine that is busy

OTHER = PAIR[0][:60], *PAIR[1:]


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


def test_without_the_library_it_is_told_how_to_get_it(tiny_card, monkeypatch):
    monkeypatch.setitem(sys.modules, 'onnxruntime', None)
    with pytest.raises(EngineError, match=r"pip install 'rgbx_seg_ros\[onnx\]'"):
        OnnxEngine(load_card(tiny_card), 'cpu')
