# Copyright 2026 rgbx_seg_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""A model of a stand-in runtime takes over when it has proved itself, and not before."""

from dataclasses import replace
import errno
import gc
import os
import subprocess
import threading

import numpy as np
import pytest
from rgbx_seg_ros.cards.card import load_card
from rgbx_seg_ros.engines import background, cache
from rgbx_seg_ros.engines.background import BackgroundEngine
from rgbx_seg_ros.engines.model_files import FrameKind
from rgbx_seg_ros.engines.torch_engine import TorchEngine
from rgbx_seg_ros.engines.trials import check_agreement, CONTRAST, golden_pair, has_contrast
from rgbx_seg_ros.errors import EngineError
from rgbx_seg_ros.frames.golden import Golden, save_golden
from rgbx_seg_ros.sensors import Sensors

RNG = np.random.default_rng(0)
LIMITS = (100.0, 4000.0)
PAIR = (RNG.integers(0, 256, (70, 90, 3), np.uint8), RNG.integers(0, 5000, (50, 60), np.uint16),
        LIMITS)
BLACK = np.zeros_like(PAIR[0]), np.zeros_like(PAIR[1]), LIMITS


class Runtime:
    """A runtime that runs `model`, whatever is in a file."""

    name, key, suffix, options = 'a stand-in', 'key', '.onnx', {}

    def __init__(self, model):
        self.model, self.opened, self.trials = model, [], []

    def open(self, path, kind, trials, note):  # noqa: A003
        self.opened.append(path)
        self.trials = trials
        check_agreement('it', self.model, trials, 'float32')
        note('what the user should know')
        return self.model

    def words(self, model):
        return 'by a stand-in'


@pytest.fixture(scope='module')
def torch_engine(tiny_card):
    return TorchEngine(load_card(tiny_card), 'cpu')


@pytest.fixture
def builds(tmp_path, monkeypatch):
    """Let a build write a text; return the paths that were asked for."""
    paths = []

    def start(card, kind, path, **_):
        paths.append(path)
        cache.make_folder(path.parent)
        path.write_text('a model')
        cache.checksum_path(path).write_text(cache._checksum_line(path, path))
        return subprocess.Popen(['true'], stderr=subprocess.PIPE, text=True)
    monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path / 'cache'))
    monkeypatch.setattr(background, 'start_build', start)
    return paths


@pytest.fixture
def engine_of(tiny_card, torch_engine, builds):
    """Return a function that makes an engine with a model, by default one as good as PyTorch."""
    def make(model=None, **changes):
        card = replace(load_card(tiny_card), **changes)
        return BackgroundEngine(card, torch_engine, Runtime(model or torch_engine))
    return make


def nothing(rgb, *_):
    """Be a model that sees nothing but background."""
    return np.zeros(rgb.shape[:2], np.uint8), np.zeros(rgb.shape[:2], np.uint8)


def seen(engine, *pairs):
    """Let an engine see pairs, each twice; return whether its model serves."""
    for pair in pairs:
        engine(*pair)
        engine(*pair)
    return engine.settle()


def test_a_model_that_gives_the_same_takes_over_and_what_it_notes_is_told(engine_of):
    engine = engine_of()
    with pytest.warns(UserWarning, match='what the user should know') as said:
        assert seen(engine, PAIR)
        assert seen(engine, PAIR)
    assert len(said) == 1
    assert engine.device == 'by a stand-in'


def nearly(frame, contrast, high=255):
    """Return a frame of one value, but for noise that fills so much of the range up to `high`."""
    noise = RNG.random(frame.shape) * contrast * high
    return (0.3 * high + noise).astype(frame.dtype)


@pytest.mark.parametrize('pair', [
    BLACK,
    (BLACK[0], *PAIR[1:]),
    (PAIR[0], BLACK[1], LIMITS),
    (PAIR[0], PAIR[1], (6000.0, 7000.0)),  # all of it is 0
    (PAIR[0], np.full((50, 60), np.nan, np.float32), LIMITS),
    (nearly(PAIR[0], CONTRAST / 2), *PAIR[1:]),
    (PAIR[0], nearly(PAIR[1], CONTRAST / 2, 4000), (0.0, 4000.0)),
], ids=['black', 'rgb', 'x', 'out of range', 'no measurement', 'noise in rgb', 'noise in x'])
def test_frames_without_contrast_prove_nothing(pair, engine_of, builds):
    engine = engine_of(nothing)
    assert not seen(engine, pair)
    assert not builds and engine._job is None
    assert not has_contrast(*pair)


@pytest.mark.parametrize('pair', [
    PAIR, (nearly(PAIR[0], 2 * CONTRAST), *PAIR[1:]),
    (PAIR[0], nearly(PAIR[1], 2 * CONTRAST, 4000), (0.0, 4000.0)),
    (PAIR[0], np.where(RNG.random((50, 60)) < 0.5, np.nan, PAIR[1]).astype(np.float32), LIMITS),
    (PAIR[0], np.stack([PAIR[1]] * 3, axis=-1), LIMITS)])
def test_frames_that_show_something_count(pair):
    assert has_contrast(*pair)


def test_the_model_waits_for_a_frame_with_contrast_and_is_judged_by_it(engine_of, builds):
    wrong = engine_of(nothing)
    with pytest.warns(UserWarning, match='it gives another mask than PyTorch'):
        assert not seen(wrong, BLACK, PAIR)
    assert len(builds) == 1 and not builds[0].exists()
    engine = engine_of()
    with pytest.warns(UserWarning, match='should know'):
        assert seen(engine, BLACK, PAIR)
    assert engine(*BLACK)[0].shape == (70, 90) and engine.device == 'by a stand-in'


def test_the_trial_keeps_the_frames_as_they_were(engine_of, monkeypatch):
    engine, rgb, x = engine_of(), PAIR[0].copy(), PAIR[1].copy()
    jobs = []
    monkeypatch.setattr(background, '_Job', lambda *arguments: jobs.append(arguments))
    engine(rgb, x, LIMITS)
    with pytest.raises(AttributeError):  # of the job that is none
        engine(rgb, x, LIMITS)
    trial, = jobs[0][3]
    rgb[:], x[:] = 0, 0
    np.testing.assert_array_equal(trial.pair[0], PAIR[0])
    np.testing.assert_array_equal(trial.pair[1], PAIR[1])


# The golden frame


@pytest.fixture
def golden(torch_engine, tmp_path):
    """Return the folder and the name of a golden frame that is not like the frames of the test."""
    rgb = RNG.integers(0, 256, (48, 64, 3), np.uint8)
    x = RNG.integers(0, 256, (48, 64), np.uint8)
    save_golden(tmp_path / 'g.npz', Golden(rgb, x, torch_engine(rgb, x, (0.0, 255.0))[0]))
    return {'folder': tmp_path, 'golden': 'g.npz'}


@pytest.fixture
def with_golden(engine_of, golden, tiny_card):
    weights = load_card(tiny_card).weights
    (golden['folder'] / weights.file).write_bytes((tiny_card.parent / weights.file).read_bytes())
    return lambda model=None: engine_of(model, **golden)


def test_a_model_that_errs_on_the_golden_frame_never_serves(with_golden, torch_engine):
    def knows_one(rgb, x, *rest):
        return torch_engine(rgb, x, *rest) if (rgb == PAIR[0]).all() else nothing(rgb)
    engine = with_golden(knows_one)
    with pytest.warns(UserWarning, match='PyTorch goes on .* it gives another mask than PyTorch'):
        assert not seen(engine, PAIR)
    assert len(engine._runtime.trials) == 2
    assert 'by PyTorch' in engine.device


@pytest.mark.parametrize('channels', [1, 3])
@pytest.mark.parametrize('x_type', ['uint8', 'uint16', 'float32'])
def test_the_golden_frame_comes_as_frames_of_the_kind(
        x_type, channels, golden, tiny_card, torch_engine):
    kind = FrameKind((70, 90), (50, 60), channels, x_type)
    rgb, x, limits, sensors = golden_pair(replace(load_card(tiny_card), **golden), kind)
    assert FrameKind.of(rgb, x) == kind
    assert has_contrast(rgb, x, limits)
    assert sensors is Sensors.BOTH
    assert len(np.unique(torch_engine(rgb, x, limits)[0])) > 1


def test_a_model_that_gives_the_same_on_both_takes_over(with_golden):
    with pytest.warns(UserWarning, match='should know'):
        assert seen(with_golden(), PAIR)


def test_a_golden_frame_that_cannot_be_read_is_told_and_pytorch_goes_on(with_golden, golden):
    (golden['folder'] / 'g.npz').write_bytes(b'nonsense')
    engine = with_golden()
    with pytest.warns(UserWarning, match='PyTorch goes on .* not a golden frame') as said:
        assert not seen(engine, PAIR)
        assert engine(*PAIR)[0].any()
    assert len(said) == 1


# The cache


def test_a_model_that_is_there_is_taken_though_it_cannot_be_touched(
        engine_of, builds, monkeypatch):
    with pytest.warns(UserWarning, match='should know'):
        assert seen(engine_of(), PAIR)
    assert len(builds) == 1

    def refuse(path):
        raise OSError(errno.EROFS, 'Read-only file system')
    monkeypatch.setattr(os, 'utime', refuse)
    engine = engine_of()
    assert engine.ready_kinds() == [FrameKind.of(*PAIR[:2])]
    with pytest.warns(UserWarning, match='should know'):
        assert seen(engine, PAIR)
    assert len(builds) == 1


@pytest.mark.parametrize('place', ['folder', 'file'])
def test_what_others_could_have_written_is_told_and_not_opened(place, engine_of, builds):
    with pytest.warns(UserWarning, match='should know'):
        assert seen(engine_of(), PAIR)
    path, = builds
    place = path if place == 'file' else path.parent
    place.chmod(0o770)
    engine = engine_of()
    with pytest.warns(UserWarning, match=f'PyTorch goes on .* chmod go-w {place}$') as said:
        assert not seen(engine, PAIR)
        assert not seen(engine, PAIR)
    assert len(said) == 1
    assert not engine._runtime.opened and len(builds) == 1
    assert path.exists()


def test_a_build_that_ends_in_a_folder_of_others_is_not_opened(engine_of, builds, monkeypatch):
    start = background.start_build

    def open_to_others(card, kind, path, **options):
        process = start(card, kind, path, **options)
        path.parent.chmod(0o777)
        return process
    monkeypatch.setattr(background, 'start_build', open_to_others)
    engine = engine_of()
    with pytest.warns(UserWarning, match='chmod go-w'):
        assert not seen(engine, PAIR)
    assert not engine._runtime.opened


def test_a_model_that_fails_to_open_is_made_anew_once(engine_of, builds):
    with pytest.warns(UserWarning, match='should know'):
        assert seen(engine_of(), PAIR)
    engine = engine_of()
    opened = engine._runtime.opened

    def fail(path, *_):
        opened.append(path)
        raise EngineError('no driver')
    engine._runtime.open = fail
    with pytest.warns(UserWarning, match='PyTorch goes on .*: no driver'):
        assert not seen(engine, PAIR)
    assert len(opened) == 2 and len(builds) == 2
    assert not builds[0].exists()


def test_a_model_that_fails_to_open_is_gone_before_it_is_made_anew(
        engine_of, builds, monkeypatch):
    with pytest.warns(UserWarning, match='should know'):
        assert seen(engine_of(), PAIR)
    there = []

    def start(card, kind, path, **_):
        there.append(path.exists())
        raise OSError('no build in this test')
    monkeypatch.setattr(background, 'start_build', start)
    with pytest.warns(UserWarning, match='no build in this test'):
        assert not seen(engine_of(nothing), PAIR)
    assert there == [False]


def test_a_damaged_file_is_no_ready_kind(engine_of, builds):
    with pytest.warns(UserWarning, match='should know'):
        assert seen(engine_of(), PAIR)
    assert engine_of().ready_kinds()
    builds[0].write_text('damaged')
    assert not engine_of().ready_kinds()


# What stays and what ends


def test_the_models_of_the_last_kinds_are_kept(engine_of, monkeypatch):
    monkeypatch.setattr(background, 'KEPT', 2)
    engine = engine_of()
    kinds = [(PAIR[0][:rows], *PAIR[1:]) for rows in (70, 60, 50)]
    with pytest.warns(UserWarning, match='should know'):
        assert seen(engine, kinds[0]) and seen(engine, kinds[1])
        assert len(engine._runtime.opened) == 2
        assert seen(engine, kinds[0]) and len(engine._runtime.opened) == 2
        assert seen(engine, kinds[2]) and len(engine._models) == 2
        assert seen(engine, kinds[1]) and len(engine._runtime.opened) == 3
        assert seen(engine, kinds[0]) and len(engine._runtime.opened) == 4


@pytest.fixture
def held(monkeypatch):
    """Hold a job before it builds, until the event is set that is returned."""
    monkeypatch.setattr(background, '_STOP_S', 0.0)
    release = threading.Event()

    def look(path):
        release.wait(60)
        return cache.is_intact(path)
    monkeypatch.setattr(background, 'is_intact', look)
    yield release
    release.set()


def test_nobody_waits_longer_than_was_asked_for(engine_of, held):
    engine = engine_of()
    engine(*PAIR)
    engine(*PAIR)
    assert not engine.settle(0.01)
    assert not engine._job.is_done
    held.set()
    with pytest.warns(UserWarning, match='should know'):
        assert engine.settle(60)


def test_a_job_that_is_stopped_does_not_begin_a_build(engine_of, builds, held):
    engine = engine_of()
    engine(*PAIR)
    engine(*PAIR)
    job = engine._job
    del engine
    gc.collect()
    held.set()
    job.wait(60)
    assert job.is_done and not builds
