# Copyright 2026 rgbx_seg_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""The files of engines: named by all they depend on, written by one, whole or not at all."""

import os
import threading

import pytest
from rgbx_seg_ros.cards.card import load_card
from rgbx_seg_ros.engines import cache
from rgbx_seg_ros.engines.model_files import FrameKind
from rgbx_seg_ros.errors import EngineError
import torch


def test_of_two_processes_that_want_a_model_one_makes_it(tiny_card, tmp_path, monkeypatch):
    written, both = [], threading.Barrier(2)

    def write(network, card, path, kind):
        written.append(path)
        path.write_text('a model')

    def build():
        both.wait()
        cache.build(card, None, tmp_path / 'a' / 'm.onnx')
    monkeypatch.setattr(cache, 'write_onnx', write)
    card = load_card(tiny_card)
    threads = [threading.Thread(target=build) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(written) == 1
    assert sorted(one.name for one in (tmp_path / 'a').iterdir()) == ['m.onnx', 'm.sha256']


def test_a_build_that_fails_leaves_nothing_and_the_next_one_tidies_up(
        tiny_card, tmp_path, monkeypatch):
    def fail(network, card, path, *_):
        path.write_text('half')
        raise EngineError('no')
    monkeypatch.setattr(cache, 'write_onnx', fail)
    (tmp_path / '.n.1.part.onnx').write_text('of one that was killed')
    for name, days in (('old', cache.UNUSED_DAYS + 1), ('new', cache.UNUSED_DAYS - 1)):
        for path in (tmp_path / f'{name}.onnx', tmp_path / f'{name}.sha256'):
            path.write_text(name)
        (tmp_path / f'{name}_named.tensorrt').mkdir()
        seen = path.stat().st_mtime - days * 24 * 3600
        for path in (tmp_path / f'{name}.onnx', tmp_path / f'{name}_named.tensorrt'):
            os.utime(path, (seen, seen))
    with pytest.raises(EngineError, match='no'):
        cache.build(load_card(tiny_card), None, tmp_path / 'm.onnx')
    assert {one.name for one in tmp_path.iterdir()} == {
        'new.onnx', 'new.sha256', 'new_named.tensorrt'}


def test_a_model_has_another_name_for_other_weights_versions_and_frames(
        tiny_card, write_card, monkeypatch):
    kind = FrameKind((70, 90), (50, 60))
    card = load_card(tiny_card)
    paths = {cache.cached_path(card, kind, '1', '.onnx')}
    paths.add(cache.cached_path(card, kind, '1', '.onnx'))
    assert len(paths) == 1
    paths.add(cache.cached_path(card, kind, '2', '.onnx'))
    paths.add(cache.cached_path(card, kind._replace(x_type='uint16'), '1', '.onnx'))
    paths.add(cache.cached_path(load_card(write_card()), kind, '1', '.onnx'))
    monkeypatch.setattr(torch, '__version__', '9')
    paths.add(cache.cached_path(card, kind, '1', '.onnx'))
    other = write_card(weights={'file': 'w.safetensors'})
    content = tiny_card.with_suffix('.safetensors').read_bytes()
    other.with_name('w.safetensors').write_bytes(content)
    paths.add(cache.cached_path(load_card(other), kind, '1', '.onnx'))
    other.with_name('w.safetensors').write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    paths.add(cache.cached_path(load_card(other), kind, '1', '.onnx'))
    assert len(paths) == 7
