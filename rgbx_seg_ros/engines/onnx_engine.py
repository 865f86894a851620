# Copyright 2026 rgbx_seg_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""
ONNX Runtime: float32 on a CPU and by CUDA, float16 where TensorRT prefers it.

PyTorch runs the model from the first frame on. Behind it the model is exported for the sizes and
types of the frames that come, and takes over once it agrees with PyTorch on one of them.
"""

import threading
import warnings
import weakref

import numpy as np
from rgbx_seg_ros.card import Card
from rgbx_seg_ros.engines.onnx_cache import (
    cached_path,
    discard,
    is_intact,
    start_build,
    tensorrt_path,
    wait_for,
)
from rgbx_seg_ros.engines.torch_engine import find_device, TorchEngine
from rgbx_seg_ros.errors import EngineError, RgbxSegError
from rgbx_seg_ros.onnx_files import CPU, Difference, FrameKind, import_onnx, OnnxModel
from torch import nn

KEPT = 4
"""Kinds of frames whose models stay in memory."""

_CUDA, _TENSORRT = 'CUDAExecutionProvider', 'TensorrtExecutionProvider'
_STOP_S = 5.0


class OnnxEngine:
    """
    Runs a card's model in ONNX Runtime, in PyTorch until that is ready and where it cannot.

    A kind of frames, their sizes and types, gets its model when it comes twice in a row: an export
    takes a minute or more, and a single frame is not worth it. It is kept in a folder of the user
    for the next time. Where it cannot be had, one warning says why, and PyTorch goes on.
    """

    def __init__(self, card: Card, device: str = 'auto'):
        runtime = import_onnx('onnxruntime')
        device = find_device(device)
        self._runtime = f'ONNX Runtime {runtime.__version__}'
        self._precision = 'float16' if device.type == 'cuda' else 'float32'
        self._providers = _providers(runtime, device)
        self._torch, self._place = TorchEngine(card, str(device)), str(device)
        self._card, self._version = card, runtime.__version__
        self._models = {}  # by kind of frames; None where PyTorch has to do
        self._job = self._latest = None

    @property
    def device(self) -> str:
        """The device, the precision and what runs the frames now, in words."""
        model = self._models.get(self._latest)
        if model:
            return f'{self._place} by {self._runtime} ({model.provider})'
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
        if repeated and kind not in self._models and self._job is None:
            self._job = _Job(self._card, kind, self._precision, self._providers, self._version,
                             pair, outputs)
            self._stopper = weakref.finalize(self, self._job.stop)
        return outputs

    def settle(self, timeout_s: float | None = None) -> bool:
        """
        Wait until nothing is being made, at most `timeout_s`.

        Return whether ONNX Runtime runs frames of the latest kind.
        """
        if self._job:
            self._job.wait(timeout_s)
            self._take_over()
        return bool(self._models.get(self._latest))

    def _take_over(self):
        """Put to use what the background has done."""
        job = self._job
        if job is None or not job.is_done:
            return
        self._job = None
        self._stopper.detach()
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


def _providers(runtime, device):
    """Return the lists of providers to try on a device, the fastest first."""
    if device.type == 'cpu':
        return [CPU]
    offered, number = runtime.get_available_providers(), {'device_id': device.index or 0}
    cuda = [(_CUDA, number)] if _CUDA in offered else []
    lists = [[(_TENSORRT, number), *cuda]] if _TENSORRT in offered else []
    if cuda:
        lists.append(cuda)
    if not lists:
        raise EngineError(
            f'ONNX Runtime {runtime.__version__} offers {", ".join(offered)}, none of which uses '
            'a CUDA device: pip uninstall onnxruntime, pip install onnxruntime-gpu, or take '
            "engine 'torch' or device 'cpu'")
    return lists


class _Job:
    """Gets the model for a kind of frames in the background, and tries it on one of them."""

    def __init__(self, card, kind, precision, providers, runtime, pair, expected):
        self.kind, self.model = kind, None
        self.problem = 'it ended in an error of its own'
        self._card, self._precision, self._providers = card, precision, providers
        self._runtime = runtime
        rgb, x, *rest = pair
        # Copies: the frames may lie in a message, whose memory comes and goes.
        self._pair, self._expected = (np.array(rgb), np.array(x), *rest), expected
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
        """Return a model that agrees with PyTorch; one from the cache must do so as well."""
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
                difference = Difference.between(self._expected, model(*self._pair))
            except EngineError as error:
                problems.append(str(error))
                continue
            if difference.is_small(self._precision):
                return model
            problems.append(f'{model.provider} gives another mask than PyTorch: {difference}')
        raise EngineError('; '.join(problems))

    @staticmethod
    def _options(provider, path):
        if provider != _TENSORRT:
            return {}
        return {'trt_engine_cache_enable': True, 'trt_engine_cache_path': str(tensorrt_path(path)),
                'trt_fp16_enable': True}
