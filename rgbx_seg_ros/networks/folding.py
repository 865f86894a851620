# Copyright 2026 rgbx_seg_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""
A network for inference alone: the same outputs from less work.

What is here holds for every network: a batch norm in eval mode is a scale and a shift, and the
convolution before it takes both. What holds for one module is its method `folded()`, which returns
what takes its place.
"""

import itertools
import re

from rgbx_seg_ros.networks.base import Foldable
from rgbx_seg_ros.networks.layers import absorb
import torch
from torch import nn


@torch.no_grad()
def fold(network: nn.Module) -> nn.Module:
    """
    Return `network`, which has its weights and is in eval mode, with fewer operations.

    `network` itself is used up, and the state dict of what is returned has other names: load
    weights before. Products of weights are rounded once, to float32.
    """
    network = network.folded() if isinstance(network, Foldable) else network
    for name, child in network.named_children():
        setattr(network, name, fold(child))
    for conv, norm in _normalized(network):
        absorb(getattr(network, conv), getattr(network, norm))
        setattr(network, norm, nn.Identity())
    return network


def _normalized(module):
    """Yield the names of a convolution of `module` and of the batch norm that follows it."""
    names = [name for name, _ in module.named_children()]
    if isinstance(module, nn.Sequential):
        pairs = itertools.pairwise(names)
    else:  # elsewhere the numbers say which norm follows
        pairs = ((name, f'bn{name[4:]}') for name in names if re.fullmatch(r'conv\d+', name))
    for first, second in pairs:
        if (isinstance(getattr(module, first), nn.Conv2d)
                and isinstance(getattr(module, second, None), nn.BatchNorm2d)):
            yield first, second
