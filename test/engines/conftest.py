# Copyright 2026 rgbx_seg_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""A cache that ONNX Runtime has filled once for all tests, and what needs it."""

import shutil
from types import SimpleNamespace

import pytest
from rgbx_seg_ros.cards.card import load_card
from rgbx_seg_ros.engines import background
from rgbx_seg_ros.engines.cache import cache_dir, checksum_path
from rgbx_seg_ros.engines.onnx_engine import OnnxEngine
from support.onnx_engines import PAIR, process
import yaml


@pytest.fixture(scope='session')
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
