# Copyright 2026 rgbx_seg_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""Which engines run a model here, whether they pass its self-test, and how fast they are."""

import contextlib
from dataclasses import dataclass
import statistics
import time
from typing import NamedTuple
import warnings

import numpy as np
from rgbx_seg_ros.cards.card import Card
from rgbx_seg_ros.engines import ENGINES, open_engine
from rgbx_seg_ros.engines.background import BackgroundEngine
from rgbx_seg_ros.engines.model_files import FrameKind
from rgbx_seg_ros.errors import EngineError, RgbxSegError, UnavailableError
from rgbx_seg_ros.frames.golden import load_golden
from rgbx_seg_ros.inference.segmenter import Segmenter
from rgbx_seg_ros.inference.self_test import self_test

ROUNDS = 7
"""Frames of each engine that are timed, if they are done within SECONDS."""
SECONDS = 10.0

_SETTLE_S = 30.0


@dataclass
class Trial:
    """What became of an engine."""

    name: str
    result: str = ''
    """Of the self-test, in a few words; or why there was none."""
    error: Exception | None = None
    """Why it does not work; None where it does, or is only not there or not ready."""
    device: str = ''
    ms: float | None = None
    """Median time of a whole frame; None where it did not run."""


class Trials(NamedTuple):
    """What became of all engines."""

    engines: list[Trial]
    frames: str
    """What they were timed with, in words."""
    warnings: list[str]


def examine(card: Card, device: str) -> Trials:
    """
    Open, test and time all engines on a device with the model of `card`.

    The time is that of the golden frame, made as large as the frames that some engine has made a
    file for, if one has; without a golden frame, that of noise.
    """
    golden = None
    with contextlib.suppress(RgbxSegError):  # the self-test will tell
        golden = load_golden(card.folder / card.golden) if card.golden else None
    trials, opened = [Trial(name) for name in ENGINES], []
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter('always')
        for trial in trials:
            with _noted(trial):
                opened.append((trial, _open(trial, card, device)))
        pair = _pair(golden, _ready_kind(opened, golden))
        ready = []
        for trial, segmenter in opened:
            with _noted(trial):
                if _is_ready(trial, segmenter, pair):
                    ready.append((trial, segmenter))
        _time(ready, pair)
    told = dict.fromkeys(str(one.message) for one in caught
                         if issubclass(one.category, UserWarning))
    return Trials(trials, str(FrameKind.of(*pair)), list(told))


@contextlib.contextmanager
def _noted(trial):
    """Note an error, of whatever kind, instead of raising it."""
    try:
        yield
    except UnavailableError as error:
        trial.result = str(error)
    except Exception as error:  # noqa: BLE001 whatever a broken engine raises
        trial.error, trial.ms = error, None


def _open(trial, card, device):
    """Return the segmenter of an engine that has passed the self-test."""
    segmenter = Segmenter(card, open_engine(trial.name, card, device))
    iou = self_test(segmenter)
    trial.result = 'runs, untested' if iou is None else f'passes (IoU {iou:.2f})'
    return segmenter


def _ready_kind(opened, golden):
    """Return a kind of golden frames for which an engine has a file, None for none."""
    if golden is None:
        return None
    wanted = FrameKind.of(golden.rgb, golden.x)
    kinds = [kind for _, segmenter in opened if isinstance(segmenter.engine, BackgroundEngine)
             for kind in segmenter.engine.ready_kinds()]
    return next((kind for kind in kinds if (kind.x_type, kind.x_channels)
                 == (wanted.x_type, wanted.x_channels)), None)


def _is_ready(trial, segmenter, pair):
    """Let an engine get ready for frames like `pair`; return whether it is to be timed."""
    engine, kind = segmenter.engine, FrameKind.of(*pair)
    if not isinstance(engine, BackgroundEngine):
        segmenter(*pair)
        return True
    # Up to here PyTorch has done its work, as it does for frames that have no file yet.
    if kind not in engine.ready_kinds():
        trial.result = ('no file for such frames yet: the node makes one in the background, '
                        'PyTorch does the work until then')
        return False
    for _ in range(2):
        segmenter(*pair)
    if not engine.settle(_SETTLE_S):
        raise EngineError(f'its file for {kind} does not work or took over {_SETTLE_S:g} s')
    trial.result = 'agrees with torch'
    return True


def _pair(golden, kind):
    """Return the frames to time with."""
    if golden is None:
        rng = np.random.default_rng(0)
        return (rng.integers(0, 256, (480, 640, 3), np.uint8),
                rng.integers(0, 256, (480, 640), np.uint8))
    kind = kind or FrameKind.of(golden.rgb, golden.x)
    return _resized(golden.rgb, kind.rgb_size), _resized(golden.x, kind.x_size)


def _resized(frame, size):
    """Return a frame at the size (H, W), of its nearest pixels."""
    rows, columns = (np.arange(new) * old // new
                     for new, old in zip(size, frame.shape[:2], strict=True))
    return frame[rows[:, None], columns]


def _time(opened, pair):
    """Note the time of a frame for each engine; they take turns, as the machine may be busy."""
    end, times = time.monotonic() + SECONDS, {trial.name: [] for trial, _ in opened}
    for number in range(ROUNDS):
        for trial, segmenter in opened:
            if trial.error or (number and time.monotonic() > end):
                continue
            with _noted(trial):
                started = time.perf_counter()
                segmenter(*pair)
                times[trial.name].append(1e3 * (time.perf_counter() - started))
                trial.ms = statistics.median(times[trial.name])
                trial.device = segmenter.engine.device
