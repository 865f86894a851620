# Copyright 2026 rgbx_seg_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""One process, or several that torchrun has started: who this is, and sums over all of them."""

import contextlib
from dataclasses import dataclass
import gc
from importlib import import_module
import os

from rgbx_seg_ros.errors import EngineError
import torch
from torch import distributed


@dataclass(frozen=True)
class Processes:
    """The processes that work on one thing, seen from one of them."""

    rank: int
    """Number of this one, from 0 on; 0 alone writes files and speaks."""
    count: int
    """How many there are, on all machines together."""
    device: torch.device
    """What this one computes on."""

    @property
    def is_first(self) -> bool:
        """Whether this process writes and speaks."""
        return self.rank == 0

    def sum(self, values: torch.Tensor) -> torch.Tensor:  # noqa: A003
        """Return the sum of the `values` of all processes, on the device."""
        values = values.to(self.device, copy=True)
        if self.count > 1:
            distributed.all_reduce(values)
        return values

    def all(self, value) -> list:  # noqa: A003
        """Return the `value` of each process, plain data, in their order."""
        values = [value] * self.count
        if self.count > 1:
            distributed.all_gather_object(values, value)
        return values

    def from_first(self, value):
        """Return the `value` of the first process: plain data and tensors, these on the CPU."""
        if self.count == 1:
            return value
        box = [value]
        distributed.broadcast_object_list(box, src=0)
        return box[0]


@contextlib.contextmanager
def joined(device: torch.device):
    """
    Give the Processes that this one belongs to, alone unless torchrun has started it.

    With CUDA each process on a machine takes a device of its own and they speak over nccl, on the
    CPU over gloo.
    """
    count = int(os.environ.get('WORLD_SIZE', '1'))
    if count == 1:
        yield Processes(0, 1, device)
        return
    if device.type == 'cuda':
        local, devices = int(os.environ['LOCAL_RANK']), torch.cuda.device_count()
        if local >= devices:
            raise EngineError(f'process {local + 1} of this machine finds {devices} CUDA devices: '
                              'start one for each, with --nproc-per-node')
        device = torch.device('cuda', local)
        torch.cuda.set_device(device)
    # PyTorch imports this sooner or later: under a group, its default arguments keep it for good.
    import_module('torch.distributed.nn')
    distributed.init_process_group('nccl' if device.type == 'cuda' else 'gloo')
    try:
        yield Processes(distributed.get_rank(), count, device)
    finally:
        # A thread of the group that outlives it may want Python when that has ended, and abort.
        gc.collect()
        distributed.destroy_process_group()
