# Copyright 2026 rgbx_seg_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""PyTorch, compiled for the processor: in float32, or in bfloat16 if asked for."""

from rgbx_seg_ros.cards.card import Card
from rgbx_seg_ros.cpu import find_cpu
from rgbx_seg_ros.engines.background import BackgroundEngine
from rgbx_seg_ros.engines.cache import COMPILED
from rgbx_seg_ros.engines.compiled_files import check_compiler, CompiledModel
from rgbx_seg_ros.engines.torch_engine import find_device, TorchBFloat16Engine, TorchEngine
from rgbx_seg_ros.engines.trials import check_agreement
from rgbx_seg_ros.errors import UnavailableError
import torch


class _Compiler:
    """PyTorch's compiler, as the runtime of an engine."""

    name, suffix = 'compiled code', COMPILED

    def __init__(self, precision):
        self._precision = str(precision).removeprefix('torch.')
        self.options = {'precision': self._precision, 'threads': torch.get_num_threads()}
        cpu = find_cpu()
        self.key = f'{self.options} {cpu.machine} {cpu.models} {sorted(cpu.flags)}'

    def open(self, path, kind, trials, note):  # noqa: A003
        model = CompiledModel(path, kind)
        check_agreement('the compiled model', model, trials, self._precision)
        return model

    def words(self, model):
        return f'cpu {self._precision} by PyTorch, compiled'


class CompiledEngine(BackgroundEngine):
    """
    Runs a card's model as code compiled for this CPU, see BackgroundEngine.

    It takes 0.7 to 0.9 of the time of the engine `torch` (docs/performance.md), for most of a
    minute of a C++ compiler at the first frames of a kind.
    """

    _plain = TorchEngine

    def __init__(self, card: Card, device: str = 'auto'):
        if (found := find_device(device)).type != 'cpu':
            raise UnavailableError(f'device is {device!r}, {found} here: compiled engines are for '
                                   "the CPU; take engine 'torch' or device 'cpu'")
        check_compiler()
        engine = self._plain(card, 'cpu')
        super().__init__(card, engine, _Compiler(engine.precision))


class CompiledBFloat16Engine(CompiledEngine):
    """The same with the large products in bfloat16, see TorchBFloat16Engine."""

    _plain = TorchBFloat16Engine
