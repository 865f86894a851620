# Copyright 2026 rgbx_seg_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""
Engines that get ready in the background.

PyTorch runs the model from the first frame on. Behind it a file is made for the sizes and types of
the frames that come, and takes over once it agrees with PyTorch on one of them that shows
something, and on the card's golden frame.
"""

from collections.abc import Callable
from pathlib import Path
import threading
import time
from typing import Protocol
import warnings
import weakref

import numpy as np
from rgbx_seg_ros.cards.card import Card
from rgbx_seg_ros.engines.base import Engine
from rgbx_seg_ros.engines.cache import (
    cached_kinds,
    cached_path,
    check_trusted,
    discard,
    end,
    is_intact,
    start_build,
    wait_for,
)
from rgbx_seg_ros.engines.model_files import FrameKind
from rgbx_seg_ros.engines.torch_engine import TorchEngine
from rgbx_seg_ros.engines.trials import golden_pair, has_contrast, Trial
from rgbx_seg_ros.errors import EngineError, RgbxSegError
from rgbx_seg_ros.sensors import Sensors

KEPT = 4
"""Kinds of frames whose models stay in memory."""

_STOP_S = 5.0


class Runtime(Protocol):
    """What makes a model of a file."""

    name: str
    """In words, with its version."""
    key: str
    """What of it and of this machine a file depends on."""
    suffix: str
    """How the names of its files end."""
    options: dict
    """How its files are made, see `cache.build`."""

    def open(self, path: Path, kind: FrameKind, trials: list[Trial],  # noqa: A003
             note: Callable[[str], None]):
        """
        Return the model in `path` if it passes the trials, else raise EngineError.

        `note` takes what the user should know of a model that serves.
        """

    def words(self, model) -> str:
        """Say what runs the frames with one of the models."""


class BackgroundEngine(Engine):
    """
    Runs a card's model by a `runtime`, by the engine `torch` until that is ready or if it cannot.

    A kind of frames, their sizes and types, gets its model when it comes twice in a row: a file
    takes a minute or more to make, and a single frame is not worth it. It waits for a pair with
    contrast, on which the model can prove itself. It is kept in a folder of the user for the next
    time. Where it cannot be had, one warning says why, and PyTorch goes on.
    """

    def __init__(self, card: Card, torch: TorchEngine, runtime: Runtime):
        self._card, self._torch, self._runtime = card, torch, runtime
        self._models = {}  # by kind of frames; None where PyTorch has to do
        self._job = self._latest = None

    @property
    def device(self) -> str:
        """The device, the precision and what runs the frames now, in words."""
        if model := self._models.get(self._latest):
            return self._runtime.words(model)
        if self._latest in self._models:
            return f'{self._torch.device} by PyTorch'
        return f'{self._torch.device} by PyTorch until {self._runtime.name} is ready'

    @property
    def network(self):
        return self._torch.network

    def ready_kinds(self):
        return cached_kinds(self._card, self._runtime.key, self._runtime.suffix)

    def __call__(self, rgb, x, x_limits, sensors=Sensors.BOTH):
        pair = rgb, x, x_limits, sensors
        kind = FrameKind.of(rgb, x)
        repeated, self._latest = kind == self._latest, kind
        self._take_over()
        model = self._models.get(kind)
        if model:
            try:
                return model(*pair)
            except EngineError as error:
                self._give_up(kind, error)
        outputs = self._torch(*pair)
        file = self._file_for(kind)
        if (kind not in self._models and self._job is None and (repeated or file)
                and has_contrast(rgb, x, x_limits)):
            self._try(kind, pair, outputs, file)
        return outputs

    def settle(self, timeout_s=None):
        """Wait as `Engine.settle` does; return whether the runtime serves, and not PyTorch."""
        end_s = None if timeout_s is None else time.monotonic() + timeout_s
        while self._job:  # one that has failed may be followed by another
            self._job.wait(None if end_s is None else max(0.0, end_s - time.monotonic()))
            if not self._job.is_done:
                break
            self._take_over()
        return bool(self._models.get(self._latest))

    def _file_for(self, kind):
        """Return a file for a kind of frames that need not be made, None if there is none."""
        return None

    def _try(self, kind, pair, outputs, file):
        """Start a job, judged by `outputs` and by what PyTorch makes of the golden frame."""
        # Copies: the frames may lie in a message, whose memory comes and goes.
        trials = [Trial((np.array(pair[0]), np.array(pair[1]), *pair[2:]), outputs)]
        try:
            golden = golden_pair(self._card, kind)
        except RgbxSegError as error:
            self._give_up(kind, error)
            return
        if golden:
            trials.append(Trial(golden, self._torch(*golden)))
        self._start(kind, trials, file)

    def _start(self, kind, trials, file=None):
        self._job = _Job(self._card, kind, self._runtime, trials, file)
        self._stopper = weakref.finalize(self, self._job.stop)

    def _take_over(self):
        """Put to use what the background has done."""
        job = self._job
        if job is None or not job.is_done:
            return
        self._job = None
        self._stopper.detach()
        if job.model is None:
            self._failed(job)
            return
        for text in job.notes:
            warnings.warn(text, stacklevel=3)
        self._models[job.kind] = job.model
        while len(self._models) > KEPT:
            del self._models[next(iter(self._models))]

    def _failed(self, job):
        """Go on without the model of a job."""
        self._give_up(job.kind, job.problem)

    def _give_up(self, kind, problem):
        self._models[kind] = None
        warnings.warn(f'PyTorch goes on with frames of {kind}, as {self._runtime.name} cannot: '
                      f'{problem}', stacklevel=3)


class _Job:
    """
    Gets the model for a kind of frames in the background, and puts it on trial.

    With `file` it is in there; else it is made, unless it lies in the cache.
    """

    def __init__(self, card, kind, runtime, trials, file):
        self.kind, self.trials, self.file = kind, trials, file
        self.model, self.notes = None, []
        self.problem = 'it ended in an error of its own'
        self._card, self._runtime = card, runtime
        self._lock, self._process, self._stopped = threading.Lock(), None, False
        self._thread = threading.Thread(target=self._run, name='engine', daemon=True)
        self._thread.start()

    @property
    def is_done(self) -> bool:
        return not self._thread.is_alive()

    def wait(self, timeout_s: float | None) -> None:
        self._thread.join(timeout_s)

    def stop(self) -> None:
        """End the build, if one runs, and the thread."""
        with self._lock:
            self._stopped = True
            if self._process:
                end(self._process)
        self._thread.join(_STOP_S)

    def _run(self):
        try:
            self.model = self._get()
        except (RgbxSegError, OSError) as error:
            self.problem = error

    def _get(self):
        """Return a model that agrees with PyTorch; one that was there must do so as well."""
        if self.file:
            return self._open(self.file)
        if self._card.weights is None:
            raise EngineError(f'card {self._card.name!r} has no weights, and random ones would be '
                              'others in the file')
        path = cached_path(self._card, self.kind, self._runtime.key, self._runtime.suffix)
        check_trusted(path)
        if is_intact(path):
            try:
                return self._open(path)
            except EngineError:
                discard(path)
        with self._lock:
            if self._stopped:
                raise EngineError('it was stopped')
            self._process = start_build(self._card, self.kind, path, **self._runtime.options)
        wait_for(self._process)
        check_trusted(path)
        try:
            return self._open(path)
        except EngineError:
            discard(path)
            raise

    def _open(self, path):
        return self._runtime.open(path, self.kind, self.trials, self.notes.append)
