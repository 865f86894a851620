# Copyright 2026 rgbx_seg_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""
How fast a network could be on a device: its roofline.

No program computes faster than the device multiplies, nor than it reads what it must. Both limits
are measured, by a large matrix product and by a large copy.
"""

import contextlib
import copy
import time

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

_TRIES = 3
_SIDE = {'cpu': 2048, 'cuda': 8192}
_COPIED = {'cpu': 256 << 20, 'cuda': 4 << 30}
"""In bytes, beyond what a cache holds."""
_COPIED_SHARE = 1 / 16
"""Of the free memory of a CUDA device, at most: on a Jetson it is that of the whole machine."""


def count_macs(network: nn.Module, size: tuple[int, int]) -> int:
    """
    Return the multiply-adds of a network in eval mode for one pair of `size` (H, W).

    Those of convolutions and matrix products, attention among them. Raise FrameError for a size
    that the network does not take.
    """
    # Without numbers attention is made of its two products: the fused one is not counted.
    network = copy.deepcopy(network).to('meta')
    with torch.device('meta'), torch.inference_mode(), FlopCounterMode(display=False) as counter:
        network(*(torch.empty(1, channels, *size) for channels in (3, network.X_CHANNELS)))
    return counter.get_total_flops() // 2


class Peaks:
    """
    What a device reaches, the best of all tries.

    `flops` are operations a second by the type of a product's factors, two for a multiply-add;
    `bytes_per_s` counts what a copy reads and what it writes. float32 on a CUDA device is
    TensorFloat-32 where PyTorch lets convolutions have it, as it does by default.
    """

    def __init__(self, types, device: torch.device):
        self._device = device
        self.flops = dict.fromkeys(types, 0.0)
        self.bytes_per_s = 0.0

    @torch.inference_mode()
    def measure(self) -> None:
        """Try again, and keep what is better than before."""
        side, size = _SIDE[self._device.type], self._copied()
        for kind in self.flops:
            factor = torch.rand(side, side, device=self._device).to(kind)
            product = torch.empty_like(factor)
            with _products_as_in_convolutions():
                seconds = self._shortest(lambda a=factor, out=product: torch.mm(a, a, out=out))
            self.flops[kind] = max(self.flops[kind], 2 * side ** 3 / seconds)
        source = torch.zeros(size, dtype=torch.uint8, device=self._device)
        target = torch.zeros_like(source)
        seconds = self._shortest(lambda: target.copy_(source))
        self.bytes_per_s = max(self.bytes_per_s, 2 * size / seconds)

    def _copied(self):
        """Return how many bytes are copied."""
        size = _COPIED[self._device.type]
        if self._device.type == 'cuda':
            free, _ = torch.cuda.mem_get_info(self._device.index)
            size = min(size, int(free * _COPIED_SHARE))
        return size

    def _shortest(self, function):
        seconds = []
        for _ in range(_TRIES + 1):  # the first one warms up
            self._wait()
            started = time.perf_counter()
            function()
            self._wait()
            seconds.append(time.perf_counter() - started)
        return min(seconds[1:])

    def _wait(self):
        if self._device.type == 'cuda':
            torch.cuda.synchronize(self._device)

    def roof_ms(self, macs: int, size: int, kind: torch.dtype) -> float:
        """Return the least time for multiply-adds in a type with `size` bytes read and written."""
        return 1e3 * max(2 * macs / self.flops[kind], size / self.bytes_per_s)


@contextlib.contextmanager
def _products_as_in_convolutions():
    """Let products of matrices have TensorFloat-32 where convolutions, which are most, have it."""
    before = torch.backends.cuda.matmul.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32
    try:
        yield
    finally:
        torch.backends.cuda.matmul.allow_tf32 = before
