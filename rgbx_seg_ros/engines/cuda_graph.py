# Copyright 2026 rgbx_seg_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""
Frames of one shape and type on a CUDA device, as one CUDA graph.

Eager PyTorch starts hundreds of kernels for a frame, each of which costs the host more time than
the device takes to run it. A graph is started once, as a whole.
"""

import torch

_WARM_UPS = 3
"""Runs before the capture: cuDNN and cuBLAS choose and allocate at the first ones."""


class CudaGraph:
    """
    `run(*tensors)` captured for tensors like `examples`, which lie on the host.

    `run` takes and returns tuples of tensors on `device` and must be the same work each time.
    Raise RuntimeError where it cannot be captured, such as for a question to the device.
    """

    def __init__(self, run, examples, device: torch.device):
        self._stream = torch.cuda.Stream(device)
        self._sent = [_pinned(one) for one in examples]
        with torch.cuda.device(device):
            self._inputs = [torch.empty(one.shape, dtype=one.dtype, device=device)
                            for one in examples]
            self._stream.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(self._stream):
                self._upload(examples)
                for _ in range(_WARM_UPS):
                    run(*self._inputs)
            self._graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(self._graph, stream=self._stream):
                self._outputs = run(*self._inputs)
        self._received = [_pinned(one) for one in self._outputs]

    def __call__(self, *tensors) -> tuple[torch.Tensor, ...]:
        """Return the outputs for `tensors`, on the host and in memory of their own."""
        with torch.cuda.stream(self._stream):
            self._upload(tensors)
            self._graph.replay()
            for host, output in zip(self._received, self._outputs, strict=True):
                host.copy_(output, non_blocking=True)
        self._stream.synchronize()
        return tuple(host.clone() for host in self._received)

    def _upload(self, tensors):
        """Bring the tensors to the device, through pages that it can read without the host."""
        for host, one, on_device in zip(self._sent, tensors, self._inputs, strict=True):
            host.copy_(one)
            on_device.copy_(host, non_blocking=True)


def _pinned(tensor):
    return torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=True)
