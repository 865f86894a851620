# Copyright 2026 rgbx_seg_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""
What only training needs of a network: auxiliary heads, and what a network gives beside its logits.

`Network.training_parts` makes such parts. They are called as `parts(network, rgb, x, label,
frame)`, with what `losses.Objective` takes, and return `TrainingOutputs`.
"""

from collections import OrderedDict
from typing import NamedTuple

from rgbx_seg_ros.networks.layers import init_linear_conv_, resize, TokenLinear
import torch
from torch import nn


class TrainingOutputs(NamedTuple):
    """What a network gives in training."""

    logits: torch.Tensor
    """(N, num_classes, H, W)."""
    auxiliary: tuple[torch.Tensor, ...] = ()
    """The logits of each auxiliary head, of the same shape."""
    terms: dict[str, torch.Tensor] = {}
    """Losses of the network's own by name, not yet weighted."""


class ConvHead(nn.Sequential):
    """MS2MNet's auxiliary head: from a map (N, C, h, w) to logits (N, num_classes, h, w)."""

    def __init__(self, channels: int, num_classes: int):
        super().__init__(
            nn.Sequential(
                nn.Conv2d(channels, channels, 3, padding=1, bias=False),
                nn.BatchNorm2d(channels),
                nn.ReLU6(inplace=True)),
            nn.Dropout2d(0.1),
            nn.Conv2d(channels, num_classes, 1))


class MapHead(nn.Module):
    """
    MDDG's auxiliary head: from maps of four scales to logits at the size of the finest.

    SegFormer's head (Xie et al., NeurIPS 2021): each map is brought to one width and one size.
    """

    def __init__(self, channels: tuple[int, ...], num_classes: int, width: int):
        super().__init__()
        for i, c in enumerate(channels):
            self.add_module(f'linear_c{i + 1}', TokenLinear(c, width))
        self.linear_fuse = nn.Sequential(OrderedDict(
            conv=nn.Conv2d(len(channels) * width, width, 1, bias=False),
            bn=nn.BatchNorm2d(width), activation=nn.ReLU(inplace=True)))
        self.dropout = nn.Dropout2d(0.1)
        self.linear_pred = nn.Conv2d(width, num_classes, 1)
        init_linear_conv_(self)

    def forward(self, maps):
        size = maps[0].shape[2:]
        maps = [resize(self.get_submodule(f'linear_c{i + 1}')(x), size)
                for i, x in enumerate(maps)]
        return self.linear_pred(self.dropout(self.linear_fuse(torch.cat(maps[::-1], dim=1))))


class AuxiliaryHeads(nn.ModuleDict):
    """Heads by name, one for each of the features of `network.forward_with_features(rgb, x)`."""

    def forward(self, network, rgb, x, label, frame=None):
        logits, features = network.forward_with_features(rgb, x)
        auxiliary = (head(feature) for head, feature in zip(self.values(), features, strict=True))
        size = rgb.shape[2:]
        return TrainingOutputs(logits, tuple(resize(part, size) for part in auxiliary))
