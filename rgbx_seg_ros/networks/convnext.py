# Copyright 2026 rgbx_seg_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""
ConvNeXt as a backbone: four feature maps at strides 4, 8, 16 and 32.

Paper: Liu et al., "A ConvNet for the 2020s", CVPR 2022. Parameter names follow the published
ImageNet checkpoints, which are under MIT; those have no norms behind the stages.
"""

from rgbx_seg_ros.errors import CardError
from rgbx_seg_ros.networks.convnextv2 import CONVNEXTV2
from rgbx_seg_ros.networks.layers import DropPath, LayerNorm2d
import torch
from torch import nn
from torch.nn import functional as F

CONVNEXT = {
    # name: (blocks per stage, channels per stage); below tiny they are sizes of ConvNeXt V2 alone
    **CONVNEXTV2,
    'small': ((3, 3, 27, 3), (96, 192, 384, 768)),
}


class Block(nn.Module):
    """
    Depthwise 7x7, layer norm, pointwise expansion by four, layer scale, and a residual.

    `drop_path` is the probability of stochastic depth in training.
    """

    def __init__(self, channels: int, drop_path: float):
        super().__init__()
        self.dwconv = nn.Conv2d(channels, channels, 7, padding=3, groups=channels)
        self.norm = nn.LayerNorm(channels, eps=1e-6)
        self.pwconv1 = nn.Linear(channels, 4 * channels)
        self.pwconv2 = nn.Linear(4 * channels, channels)
        self.gamma = nn.Parameter(torch.ones(channels))
        self.drop_path = DropPath(drop_path)

    def forward(self, x):
        t = self.dwconv(x).permute(0, 2, 3, 1)  # N H W C
        t = self.gamma * self.pwconv2(F.gelu(self.pwconv1(self.norm(t))))
        return x + self.drop_path(t).permute(0, 3, 1, 2)


class ConvNeXt(nn.Module):
    """
    The backbone of size `name`, one of `CONVNEXT`.

    Takes (N, in_channels, H, W), both sides at least 32, and returns the outputs of the four
    stages, each through a norm of its own, (N, channels[i], H / 2**(i+2), W / 2**(i+2)), rounded
    down. `channels` lists their widths. `drop_path` is the rate of stochastic depth in the last
    block; it rises linearly from zero in the first.
    """

    def __init__(self, name: str = 'tiny', in_channels: int = 3, drop_path: float = 0.0):
        super().__init__()
        if name not in CONVNEXT:
            raise CardError(f'backbone is {name!r}, allowed are: {", ".join(CONVNEXT)}')
        depths, self.channels = CONVNEXT[name]
        rates = iter([drop_path * i / (sum(depths) - 1) for i in range(sum(depths))])
        self.downsample_layers = nn.ModuleList()
        self.stages = nn.ModuleList()
        for i, (depth, width) in enumerate(zip(depths, self.channels, strict=True)):
            if i == 0:
                down = [nn.Conv2d(in_channels, width, 4, stride=4), LayerNorm2d(width, eps=1e-6)]
            else:
                below = self.channels[i - 1]
                down = [LayerNorm2d(below, eps=1e-5), nn.Conv2d(below, width, 2, stride=2)]
            self.downsample_layers.append(nn.Sequential(*down))
            self.stages.append(nn.Sequential(*(Block(width, next(rates)) for _ in range(depth))))
        self.norms = nn.ModuleList(LayerNorm2d(width, eps=1e-6) for width in self.channels)

    def forward(self, x) -> list[torch.Tensor]:
        maps = []
        for down, stage, norm in zip(self.downsample_layers, self.stages, self.norms, strict=True):
            x = stage(down(x))
            maps.append(norm(x))
        return maps
