# Copyright 2026 rgbx_seg_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""
What runs a model, by name.

`base.Engine` says what each of them does. It uses `frames`, `networks`, `weights` and `cards`.
"""

from collections.abc import Callable

from rgbx_seg_ros.cards.card import Card
from rgbx_seg_ros.engines.base import Engine
from rgbx_seg_ros.engines.compiled_engine import CompiledBFloat16Engine, CompiledEngine
from rgbx_seg_ros.engines.onnx_engine import OnnxEngine
from rgbx_seg_ros.engines.torch_engine import TorchBFloat16Engine, TorchEngine
from rgbx_seg_ros.errors import EngineError
from rgbx_seg_ros.fields import unknown_name

__all__ = ['Engine', 'ENGINES', 'open_engine']

ENGINES: dict[str, Callable[[Card, str], Engine]] = {
    'torch': TorchEngine,
    'torch_bf16': TorchBFloat16Engine,
    'compiled': CompiledEngine,
    'compiled_bf16': CompiledBFloat16Engine,
    'onnx': OnnxEngine,
}


def open_engine(name: str, card: Card, device: str = 'auto') -> Engine:
    """
    Return the engine `name`, ready to run the model of `card`.

    `device` is auto (a GPU where there is one), cpu, cuda or cuda:N. Raise EngineError for an
    engine or a device that this machine does not have, WeightsError for unusable weights.
    """
    if name not in ENGINES:
        raise EngineError(f'engine {unknown_name(name, ENGINES)}')
    return ENGINES[name](card, device)
