# Copyright 2026 rgbx_seg_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""
EfficientNet-Lite0 as a backbone: four feature maps at strides 4, 8, 16 and 32.

Paper: Tan and Le, "EfficientNet: Rethinking Model Scaling for Convolutional Neural Networks", ICML
2019; Lite is its authors' variant for small processors (TensorFlow blog, 2020): no squeeze and
excitation, and ReLU6, so that all of it is convolutions. Its ImageNet weights are under
Apache-2.0. This is an independent implementation, which pads as TensorFlow does.
"""

import copy
from typing import NamedTuple

from rgbx_seg_ros.networks.base import Foldable
from rgbx_seg_ros.networks.layers import absorb
from torch import nn
from torch.nn import functional as F

_EPS, _MOMENTUM = 1e-3, 0.01


class _Stage(NamedTuple):
    """Blocks of one size; the first one has the stride."""

    expansion: int
    kernel: int
    stride: int
    channels: int
    blocks: int


_STEM = 32
_STAGES = (
    _Stage(1, 3, 1, 16, 1), _Stage(6, 3, 2, 24, 2), _Stage(6, 5, 2, 40, 2), _Stage(6, 3, 2, 80, 3),
    _Stage(6, 5, 1, 112, 3), _Stage(6, 5, 2, 192, 4), _Stage(6, 3, 1, 320, 1))
_ENDS = (2, 4, 10, 15)
"""The last block of each stride."""


class SameConv2d(nn.Conv2d):
    """
    A convolution without bias that pads as TensorFlow's 'same' does.

    The output has ceil(side / stride) pixels. Of an odd number of zeros, one more lies at the
    right and bottom, so that with a stride it sees other pixels than with PyTorch's padding.
    """

    def __init__(self, in_channels, out_channels, kernel: int, stride: int = 1, groups: int = 1):
        # Without a stride the number is even, and the convolution pads by itself.
        super().__init__(in_channels, out_channels, kernel, stride, groups=groups, bias=False,
                         padding=kernel // 2 if stride == 1 else 0)

    def forward(self, x):
        if self.stride[0] > 1:
            (top, bottom), (left, right) = (self._padding(side) for side in x.shape[2:])
            x = F.pad(x, (left, right, top, bottom))
        return super().forward(x)

    def _padding(self, side):
        stride = self.stride[0]
        total = max(0, (-(-side // stride) - 1) * stride + self.kernel_size[0] - side)
        return total // 2, total - total // 2


class ConvNorm(Foldable):
    """
    A convolution, a batch norm for each of `norms` kinds of image, and maybe ReLU6.

    `forward(x, kind)` takes a map (N, C, H, W) and the number of its kind.
    """

    def __init__(self, in_channels: int, out_channels: int, kernel: int, stride: int = 1,
                 groups: int = 1, activation: bool = True, norms: int = 1):
        super().__init__()
        self.conv = SameConv2d(in_channels, out_channels, kernel, stride, groups)
        self.norms = nn.ModuleList(
            nn.BatchNorm2d(out_channels, _EPS, _MOMENTUM) for _ in range(norms))
        self.activation = nn.ReLU6(inplace=True) if activation else nn.Identity()

    def forward(self, x, kind: int = 0):
        return self.activation(self.norms[kind](self.conv(x)))

    def folded(self):
        """Return this with its norm, if it has but one, in the convolution."""
        if len(self.norms) == 1:
            absorb(self.conv, self.norms[0])
            self.norms[0] = nn.Identity()
        return self


class InvertedResidual(nn.Module):
    """A 1x1 that widens, a depthwise convolution, a 1x1 that narrows, and the input if it fits."""

    def __init__(self, in_channels: int, out_channels: int, kernel: int, stride: int,
                 expansion: int, norms: int):
        super().__init__()
        width = expansion * in_channels
        self.expand = ConvNorm(in_channels, width, 1, norms=norms) if expansion > 1 else None
        self.depthwise = ConvNorm(width, width, kernel, stride, groups=width, norms=norms)
        self.project = ConvNorm(width, out_channels, 1, activation=False, norms=norms)
        self.adds = stride == 1 and in_channels == out_channels

    def forward(self, x, kind):
        out = x if self.expand is None else self.expand(x, kind)
        out = self.project(self.depthwise(out, kind), kind)
        return x + out if self.adds else out


class EfficientNetLite(nn.Module):
    """
    EfficientNet-Lite0 with batch norms of their own for each of `norms` kinds of image.

    `forward(x, kind)` takes (N, 3, H, W) and the number of its kind. It returns a map for each of
    the strides 4, 8, 16 and 32, with `CHANNELS` and sides that are rounded up.
    """

    CHANNELS = (24, 40, 112, 320)

    def __init__(self, norms: int = 1):
        super().__init__()
        self.stem = ConvNorm(3, _STEM, 3, 2, norms=norms)
        self.blocks = nn.ModuleList()
        before = _STEM
        for stage in _STAGES:
            for i in range(stage.blocks):
                self.blocks.append(InvertedResidual(
                    before, stage.channels, stage.kernel, stage.stride if i == 0 else 1,
                    stage.expansion, norms))
                before = stage.channels

    def forward(self, x, kind: int = 0):
        x, maps = self.stem(x, kind), []
        for i, block in enumerate(self.blocks):
            x = block(x, kind)
            if i in _ENDS:
                maps.append(x)
        return maps

    def of(self, kind: int) -> 'EfficientNetLite':
        """Return a copy for one kind of image alone, with the norms of that."""
        one = copy.deepcopy(self)
        for part in one.modules():
            if isinstance(part, ConvNorm):
                part.norms = nn.ModuleList([part.norms[kind]])
        return one
