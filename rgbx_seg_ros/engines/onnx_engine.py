# Copyright 2026 rgbx_seg_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""
ONNX Runtime: float32 on a CPU and by CUDA, float16 where TensorRT prefers it.

Where the card names a file for the frames that come, it takes the place of one of the engine's.
"""

import contextlib
import importlib
import warnings

from rgbx_seg_ros.cards.card import Card
from rgbx_seg_ros.engines.background import BackgroundEngine
from rgbx_seg_ros.engines.cache import (
    cache_dir,
    check_trusted,
    make_folder,
    ONNX,
    tensorrt_path,
)
from rgbx_seg_ros.engines.onnx_files import CPU, import_onnx, NamedFile, OnnxModel, OPSET
from rgbx_seg_ros.engines.torch_engine import find_device, TorchEngine
from rgbx_seg_ros.engines.trials import check_agreement
from rgbx_seg_ros.errors import EngineError, RgbxSegError
from rgbx_seg_ros.weights.checkpoint import sha256

_CUDA, _TENSORRT = 'CUDAExecutionProvider', 'TensorrtExecutionProvider'
_GPU = {'TensorRT': _TENSORRT, 'CUDA': _CUDA}
"""The names of a card, the fastest first."""


class OnnxEngine(BackgroundEngine):
    """
    Runs a card's model in ONNX Runtime, see BackgroundEngine.

    A file that the card names is tried at the first frame of its kind. Where it cannot serve, one
    warning says why, and all is as without it.
    """

    def __init__(self, card: Card, device: str = 'auto'):
        library, device = import_onnx('onnxruntime'), find_device(device)
        runtime = _Runtime(library, device, card.onnx and card.onnx.providers)
        super().__init__(card, TorchEngine(card, str(device)), runtime)
        if card.onnx and card.onnx.file:
            try:
                runtime.file = NamedFile.of(card)
            except RgbxSegError as error:
                self._go_without_file(error)

    def ready_kinds(self):
        file = self._runtime.file
        return [*([file.kind] if file else []), *super().ready_kinds()]

    def _file_for(self, kind):
        file = self._runtime.file
        return file.path if file and file.kind == kind else None

    def _failed(self, job):
        if not job.file:
            super()._failed(job)
            return
        self._go_without_file(job.problem)
        self._start(job.kind, job.trials)

    def _go_without_file(self, problem):
        self._runtime.file = None
        warnings.warn(f'the file {self._card.onnx.file!r} that the card {self._card.name!r} names '
                      f'under onnx does not serve, the engine makes its own: {problem}',
                      stacklevel=3)


class _Runtime:
    """ONNX Runtime on a device, with what takes parts of the work there."""

    suffix, options = ONNX, {}

    def __init__(self, library, device, order):
        self.name = f'ONNX Runtime {library.__version__}'
        self.key = f'{self.name} opset {OPSET}'
        self.file = None
        """The NamedFile of the card."""
        self._place = str(device)
        self._precision = 'float16' if device.type == 'cuda' else 'float32'
        self._providers = _providers(library, device, order)

    def words(self, model):
        named = f', {self.file.path.name}' if self._is_named(model.path) else ''
        return f'{self._place} by {self.name} ({model.provider}{named})'

    def open(self, path, kind, trials, note):  # noqa: A003
        """Return the model of the first providers that pass the trials; note if others failed."""
        is_int8 = self._is_named(path) and self.file.precision == 'int8'
        problems = []
        for providers in self._providers:
            try:
                model = OnnxModel(path, [(name, options | self._options(name, path, is_int8))
                                         for name, options in providers])
                check_agreement(model.provider, model, trials,
                                'int8' if is_int8 else self._precision)
            except EngineError as error:
                problems.append(str(error))
                continue
            if problems:
                wanted, = (name for name, one in _GPU.items() if one == self._providers[0][0][0])
                note(f'{model.provider} runs frames of {kind}, as {wanted} cannot, which may be '
                     f'faster: {"; ".join(problems)}')
            return model
        raise EngineError('; '.join(problems))

    def _is_named(self, path):
        """Return whether a file is that of the card."""
        return bool(self.file) and self.file.path == path

    def _options(self, provider, path, is_int8):
        if provider != _TENSORRT:
            return {}
        if self._is_named(path):  # beside a card there may be no place to write
            path = cache_dir() / f'{path.stem}-{sha256(path)[:24]}{ONNX}'
            make_folder(path.parent)
        check_trusted(tensorrt_path(path))
        _load_tensorrt()
        return {'trt_engine_cache_enable': True, 'trt_engine_cache_path': str(tensorrt_path(path)),
                'trt_fp16_enable': True, 'trt_int8_enable': is_int8}


def _load_tensorrt():
    """Load the libraries of TensorRT where pip has put them, in which no linker looks."""
    with contextlib.suppress(ImportError, OSError):  # those of apt are found; or there are none
        importlib.import_module('tensorrt')


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
