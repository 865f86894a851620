# Copyright 2026 rgbx_seg_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""
ONNX Runtime: float32 on a CPU and by CUDA, float16 where TensorRT prefers it.

PyTorch runs the model from the first frame on. Behind it the model is exported for the sizes and
types of the frames that come, and takes over once it agrees with PyTorch on one of them. Where the
card names a file for such frames, that takes its place.
"""

import threading
import time
import warnings
import weakref

import numpy as np
from rgbx_seg_ros.card import Card
from rgbx_seg_ros.checkpoint import sha256
from rgbx_seg_ros.engines.onnx_cache import (
    cache_dir,
    cached_path,
    discard,
    is_intact,
    start_build,
    tensorrt_path,
    wait_for,
)
from rgbx_seg_ros.engines.torch_engine import find_device, TorchEngine
from rgbx_seg_ros.errors import EngineError, RgbxSegError
from rgbx_seg_ros.onnx_files import (
    CPU,
    Difference,
    FrameKind,
    import_onnx,
    NamedFile,
    OnnxModel,
)
from torch import nn

KEPT = 4
"""Kinds of frames whose models stay in memory."""

_CUDA, _TENSORRT = 'CUDAExecutionProvider', 'TensorrtExecutionProvider'
_GPU = {'TensorRT': _TENSORRT, 'CUDA': _CUDA}
"""The names of a card, the fastest first."""
_STOP_S = 5.0


class OnnxEngine:
    """
    Runs a card's model in ONNX Runtime, in PyTorch until that is ready and where it cannot.

    A kind of frames, their sizes and types, gets its model when it comes twice in a row: an export
    takes a minute or more, and a single frame is not worth it. It is kept in a folder of the user
    for the next time. Where it cannot be had, one warning says why, and PyTorch goes on.

    A file that the card names is tried at the first frame of its kind. Where it cannot serve, one
    warning says why, and all is as without it.
    """

    def __init__(self, card: Card, device: str = 'auto'):
        runtime = import_onnx('onnxruntime')
        device = find_device(device)
        self._runtime = f'ONNX Runtime {runtime.__version__}'
        self._precision = 'float16' if device.type == 'cuda' else 'float32'
        self._providers = _providers(runtime, device, card.onnx and card.onnx.providers)
        self._torch, self._place = TorchEngine(card, str(device)), str(device)
        self._card, self._version = card, runtime.__version__
        self._models = {}  # by kind of frames; None where PyTorch has to do
        self._job = self._latest = self._file = None
        if card.onnx and card.onnx.file:
            try:
                self._file = NamedFile.of(card)
            except RgbxSegError as error:
                self._go_without_file(error)

    @property
    def device(self) -> str:
        """The device, the precision and what runs the frames now, in words."""
        model = self._models.get(self._latest)
        if model:
            named = f', {self._file.path.name}' if self._file_for(self._latest) else ''
            return f'{self._place} by {self._runtime} ({model.provider}{named})'
        if self._latest in self._models:
            return f'{self._torch.device} by PyTorch'
        return f'{self._torch.device} by PyTorch until {self._runtime} is ready'

    @property
    def network(self) -> nn.Module:
        """The network alone in PyTorch, in eval mode and on its device."""
        return self._torch.network

    def __call__(self, rgb, x, x_range, present=(1.0, 1.0)):
        """Return mask, confidence and, from some networks, the fused image of one raw pair."""
        pair = rgb, x, x_range, present
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
        if kind not in self._models and self._job is None and (repeated or self._file_for(kind)):
            self._start(kind, pair, outputs)
        return outputs

    def settle(self, timeout_s: float | None = None) -> bool:
        """
        Wait until nothing is being made, at most `timeout_s`.

        Return whether ONNX Runtime runs frames of the latest kind.
        """
        end = None if timeout_s is None else time.monotonic() + timeout_s
        while self._job:  # a second one may follow a file that does not serve
            self._job.wait(None if end is None else max(0.0, end - time.monotonic()))
            if not self._job.is_done:
                break
            self._take_over()
        return bool(self._models.get(self._latest))

    def _file_for(self, kind):
        """Return the file that the card names, if it is for frames of a kind."""
        return self._file if self._file and self._file.kind == kind else None

    def _start(self, kind, pair, outputs):
        self._job = _Job(self._card, kind, self._precision, self._providers, self._version,
                         pair, outputs, self._file_for(kind))
        self._stopper = weakref.finalize(self, self._job.stop)

    def _take_over(self):
        """Put to use what the background has done."""
        job = self._job
        if job is None or not job.is_done:
            return
        self._job = None
        self._stopper.detach()
        if job.model is None and job.file:
            self._go_without_file(job.problem)
            self._start(job.kind, job.pair, job.expected)
            return
        if job.model is None:
            self._give_up(job.kind, job.problem)
            return
        self._models[job.kind] = job.model
        while len(self._models) > KEPT:
            del self._models[next(iter(self._models))]

    def _give_up(self, kind, problem):
        self._models[kind] = None
        warnings.warn(f'PyTorch goes on with frames of {kind}, as ONNX Runtime cannot: {problem}',
                      stacklevel=3)

    def _go_without_file(self, problem):
        self._file = None
        warnings.warn(f'the file {self._card.onnx.file!r} that the card {self._card.name!r} names '
                      f'under onnx does not serve, the engine makes its own: {problem}',
                      stacklevel=3)


def _providers(runtime, device, order=None):
    """
    Return the lists of providers to try on a device, the fastest first or in the card's order.

    Each list goes on with those that may take what its first one cannot. A CUDA device has no use
    for the CPU: PyTorch on the device is faster.
    """
    if device.type == 'cpu':
        return [CPU]
    offered, number = runtime.get_available_providers(), {'device_id': device.index or 0}
    usable = [name for name, provider in _GPU.items() if provider in offered]
    if not usable:
        raise EngineError(
            f'ONNX Runtime {runtime.__version__} offers {", ".join(offered)}, none of which uses '
            'a CUDA device: pip uninstall onnxruntime, pip install onnxruntime-gpu, or take '
            "engine 'torch' or device 'cpu'")
    chosen = [(_GPU[name], number) for name in order or usable if name in usable]
    if not chosen:
        raise EngineError(
            f'the card has onnx.providers {list(order)!r}, ONNX Runtime {runtime.__version__} '
            f"offers {', '.join(usable)} for a CUDA device: name what it offers in the card, or "
            "take engine 'torch' or device 'cpu'")
    return [chosen[i:] for i in range(len(chosen))]


class _Job:
    """Gets the model for a kind of frames in the background, and tries it on one of them."""

    def __init__(self, card, kind, precision, providers, runtime, pair, expected, file=None):
        self.kind, self.model, self.file = kind, None, file
        self.problem = 'it ended in an error of its own'
        self._card, self._providers, self._runtime = card, providers, runtime
        self._is_int8 = bool(file) and file.precision == 'int8'
        self._precision = 'int8' if self._is_int8 else precision
        rgb, x, *rest = pair
        # Copies: the frames may lie in a message, whose memory comes and goes.
        self.pair, self.expected = (np.array(rgb), np.array(x), *rest), expected
        self._lock, self._process, self._stopped = threading.Lock(), None, False
        self._thread = threading.Thread(target=self._run, name='onnx', daemon=True)
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
                self._process.terminate()
        self._thread.join(_STOP_S)

    def _run(self):
        try:
            self.model = self._get()
        except (RgbxSegError, OSError) as error:
            self.problem = error

    def _get(self):
        """Return a model that agrees with PyTorch; one that was there must do so as well."""
        if self.file:
            return self._tested(self.file.path)
        if self._card.weights is None:
            raise EngineError(f'card {self._card.name!r} has no weights, and random ones would be '
                              'others in the file')
        path = cached_path(self._card, self.kind, self._runtime)
        if is_intact(path):
            try:
                return self._tested(path)
            except EngineError:
                discard(path)
        with self._lock:
            if self._stopped:
                raise EngineError('it was stopped')
            self._process = start_build(self._card, self.kind, path)
        wait_for(self._process)
        try:
            return self._tested(path)
        except EngineError:
            discard(path)
            raise

    def _tested(self, path):
        """Return a model of the first providers that make of the pair what PyTorch made."""
        problems = []
        for providers in self._providers:
            try:
                model = OnnxModel(path, [(name, options | self._options(name, path))
                                         for name, options in providers])
                difference = Difference.between(self.expected, model(*self.pair))
            except EngineError as error:
                problems.append(str(error))
                continue
            if difference.is_small(self._precision):
                return model
            problems.append(f'{model.provider} gives another mask than PyTorch: {difference}')
        raise EngineError('; '.join(problems))

    def _options(self, provider, path):
        if provider != _TENSORRT:
            return {}
        if self.file:  # beside a card there may be no place to write
            path = cache_dir() / f'{self._card.name}-{sha256(path)[:24]}.onnx'
            path.parent.mkdir(parents=True, exist_ok=True)
        return {'trt_engine_cache_enable': True, 'trt_engine_cache_path': str(tensorrt_path(path)),
                'trt_fp16_enable': True, 'trt_int8_enable': self._is_int8}
