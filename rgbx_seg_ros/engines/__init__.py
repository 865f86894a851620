# Copyright 2026 rgbx_seg_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""
What runs a model, by name.

An engine is a class with `__init__(card, device)` and `__call__(rgb, x, x_range, present)`. The
call takes one raw pair as arrays, (H, W, 3) uint8 and (H, W[, C]), the raw values of x that become
0 and 1, and for each modality 1, or 0 if it is lost. It returns mask and confidence, both (H, W)
uint8, and behind them the fused image, (H, W, 3) uint8 in RGB, of a network that makes one.
`device` says in words where it runs.
"""

from rgbx_seg_ros.cards.card import Card
from rgbx_seg_ros.engines.compiled_engine import CompiledBFloat16Engine, CompiledEngine
from rgbx_seg_ros.engines.onnx_engine import OnnxEngine
from rgbx_seg_ros.engines.torch_engine import TorchBFloat16Engine, TorchEngine
from rgbx_seg_ros.errors import EngineError
from rgbx_seg_ros.fields import unknown_name

__all__ = ['ENGINES', 'open_engine']

ENGINES = {
    'torch': TorchEngine,
    'torch_bf16': TorchBFloat16Engine,
    'compiled': CompiledEngine,
    'compiled_bf16': CompiledBFloat16Engine,
    'onnx': OnnxEngine,
}


def open_engine(name: str, card: Card, device: str = 'auto'):
    """
    Return the engine `name`, ready to run the model of `card`.

    `device` is auto (a GPU where there is one), cpu, cuda or cuda:N. Raise EngineError for an
    engine or a device that this machine does not have, WeightsError for unusable weights.
    """
    if name not in ENGINES:
        raise EngineError(f'engine {unknown_name(name, ENGINES)}')
    return ENGINES[name](card, device)
