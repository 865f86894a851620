# Copyright 2026 rgbx_seg_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""PyTorch: float32 on a CPU or bfloat16 if asked for, float16 on a CUDA device."""

import re
import warnings

from rgbx_seg_ros.cards.card import Card
from rgbx_seg_ros.cpu import find_cpu
from rgbx_seg_ros.engines.base import Engine
from rgbx_seg_ros.engines.cuda_graph import CudaGraph
from rgbx_seg_ros.engines.graph import SegmentationGraph, to_batch
from rgbx_seg_ros.errors import CardError, EngineError, WeightsError
from rgbx_seg_ros.networks import build, Network
from rgbx_seg_ros.networks.folding import fold
from rgbx_seg_ros.sensors import Sensors
from rgbx_seg_ros.weights.checkpoint import load_into, load_weights, sha256
import torch
from torch import nn

BFLOAT16_FLAGS = {'avx512_bf16', 'amx_bf16', 'bf16'}
"""Of a CPU that multiplies bfloat16 faster than float32, x86 or ARM; others are slower at it."""
KEPT = 4
"""Kinds of frames whose CUDA graphs are kept."""

_ON_A_DRIVER = "(CUDA|HIP) initialization|Can't (initialize|get) (NVML|amdsmi)"
"""How what torch says of a missing or old driver begins."""


class TorchEngine(Engine):
    """Runs the graph of a card's model in PyTorch on one device, on CUDA as a CUDA graph."""

    def __init__(self, card: Card, device: str = 'auto'):
        self._device = find_device(device)
        self._type = self._find_type()
        network = network_of(card)
        if card.weights:
            load_into(network, _card_weights(card), card.weights_path)
        network = self._optimized(network.eval())
        self._graph = SegmentationGraph(network, card).eval().to(self._device)
        self._captures = self._device.type == 'cuda'
        self._kinds = {}  # what runs each kind of frames where graphs are captured
        self._warm_up(card.input_size)

    @property
    def device(self) -> str:
        name = ''
        if self._device.type == 'cuda':
            name = f'({torch.cuda.get_device_name(self._device)}) '
        return f'{self._device} {name}{self._type}'.replace('torch.', '')

    @property
    def precision(self) -> torch.dtype:
        """The type of the large products."""
        return self._type

    @property
    def graph(self) -> SegmentationGraph:
        """What runs each frame, on its device."""
        return self._graph

    @property
    def network(self) -> nn.Module:
        """The network alone, folded for inference."""
        return self._graph.network

    @torch.inference_mode()
    def __call__(self, rgb, x, x_limits, sensors=Sensors.BOTH):
        inputs = (to_batch(rgb), to_batch(x), torch.tensor([x_limits], dtype=torch.float32),
                  torch.tensor([sensors.present], dtype=torch.float32))
        run = self._captured(inputs) if self._captures else self._run
        return tuple(output[0].cpu().numpy() for output in run(*inputs))

    def _run(self, *inputs):
        """Run the graph, operation by operation."""
        inputs = (one.to(self._device) for one in inputs)
        # A cache of converted weights must not outlive the capture of a CUDA graph.
        with torch.autocast(self._device.type, self._type, cache_enabled=not self._captures,
                            enabled=self._type != torch.float32):
            return self._graph(*inputs)

    def _captured(self, inputs):
        """
        Return what runs frames like `inputs`: a CUDA graph from the second one of a kind on.

        The last kinds are kept: cameras have one, or two where a sensor has failed.
        """
        kind = tuple((one.shape, one.dtype) for one in inputs)
        if kind not in self._kinds:
            while len(self._kinds) >= KEPT:
                del self._kinds[next(iter(self._kinds))]
            self._kinds[kind] = None  # seen; a single frame is not worth a capture
            return self._run
        if self._kinds[kind] is None:
            try:
                self._kinds[kind] = CudaGraph(self._run, inputs, self._device)
            except RuntimeError as error:
                self._kinds[kind] = self._run
                warnings.warn('the network cannot be captured as a CUDA graph, it runs operation '
                              f'by operation: {str(error).splitlines()[0]}', stacklevel=4)
        return self._kinds[kind]

    def _warm_up(self, size):
        """Run once, so that the first frame does not pay for lazy initialisation."""
        rgb = torch.zeros((*size, 3), dtype=torch.uint8).numpy()
        for _ in range(3 if self._device.type == 'cuda' else 1):
            self(rgb, rgb[..., 0], (0.0, 255.0))

    def _optimized(self, network):
        """Return what takes the place of the network."""
        return fold(network).to(memory_format=torch.channels_last)

    def _find_type(self):
        """Return the type of the large products."""
        return torch.float16 if self._device.type == 'cuda' else torch.float32


def network_of(card: Card) -> Network:
    """Return the network of a card; raise CardError where they disagree on the channels of X."""
    network = build(card.network, len(card.classes), **card.network_args)
    if len(card.x.mean) != network.X_CHANNELS:
        raise CardError(
            f'card {card.name!r}: x.mean has {len(card.x.mean)} values, the network '
            f'{card.network!r} takes {network.X_CHANNELS} channels of X')
    return network


class TorchBFloat16Engine(TorchEngine):
    """
    The same in bfloat16, which has the range of float32 and 8 bits of precision.

    A CPU that can multiply it takes 0.6 to 0.9 of the time, for masks that differ in a few pixels
    of ten thousand (docs/performance.md). Warn and use float32 on one that cannot.
    """

    def _find_type(self):
        if self._device.type == 'cpu' and not BFLOAT16_FLAGS & find_cpu().flags:
            warnings.warn('this CPU has no instructions for bfloat16 '
                          f'({", ".join(sorted(BFLOAT16_FLAGS))}): the engine runs in float32',
                          stacklevel=3)
            return torch.float32
        return torch.bfloat16


def _card_weights(card):
    """Return the tensors of the weights file, which must be the one the card was made for."""
    path = card.find_weights()
    state = load_weights(path)
    found = sha256(path)
    if card.weights.sha256 not in (None, found):
        raise WeightsError(
            f'weights file {str(path)!r} has the sha256 {found[:12]}..., the card '
            f'{card.name!r} was made for {card.weights.sha256[:12]}...: get the file again')
    return state


def find_device(name: str) -> torch.device:
    """Return the device auto, cpu, cuda or cuda:N; raise EngineError where there is none."""
    if not re.fullmatch(r'auto|cpu|cuda(:\d+)?', str(name)):
        raise EngineError(f'device is {name!r}, allowed are: auto, cpu, cuda, cuda:N')
    # Without a driver torch warns at the question itself; the answer says enough. The filter is
    # for good: catch_warnings would change what other threads may say in the meantime.
    warnings.filterwarnings('ignore', _ON_A_DRIVER)
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if name == 'auto':
        return torch.device('cuda' if count else 'cpu')
    device = torch.device(name)
    if device.type == 'cuda' and (device.index or 0) >= count:
        raise EngineError(f'device is {name!r}, but PyTorch {torch.__version__} finds {count} '
                          'CUDA devices here; use cpu or auto')
    return device
