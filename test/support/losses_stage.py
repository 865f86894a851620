# Copyright 2026 rgbx_seg_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""A network for the tests of losses, and a process that takes its share of a batch."""

from typing import NamedTuple

from rgbx_seg_ros.networks import Network
from rgbx_seg_ros.training.losses import Loss, Objective
import torch
from torch import distributed, nn

K = 4
WEIGHTS = (0.5, 1.0, 2.0, 4.0)
SPLIT = Loss(class_weights=WEIGHTS, label_smoothing=0.1, dice=1.0, focal=1.0, boundary=1.0)


class Bias(Network):
    """A network whose logits are what it is told, plus a bias to learn for each class."""

    def __init__(self, logits=None):
        super().__init__()
        self.logits = torch.zeros(2, K, 6, 7) if logits is None else logits.detach().float()
        self.bias = nn.Parameter(torch.zeros(K))

    def forward(self, rgb, x):
        return self.logits + self.bias[:, None, None]


class Batch(NamedTuple):
    rgb: torch.Tensor
    x: torch.Tensor
    label: torch.Tensor


def batch(label):
    return Batch(torch.zeros(2, 3, 6, 7), torch.zeros(2, 1, 6, 7), label)


def share_of(rank, folder, logits, label):
    """Be one of two processes: take one image of two, and write down terms and mean gradient."""
    distributed.init_process_group('gloo', init_method=f'file://{folder}/meet', rank=rank,
                                   world_size=2)
    net = nn.parallel.DistributedDataParallel(
        Objective(Bias(logits[rank:rank + 1]), SPLIT, K))
    terms = net(*batch(label[rank:rank + 1]))
    sum(terms.values()).backward()
    torch.save(({name: value.detach() for name, value in terms.items()},
                net.module.network.bias.grad), f'{folder}/{rank}.pt')
    distributed.destroy_process_group()
