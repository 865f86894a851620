# Copyright 2026 rgbx_seg_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""
ConvNeXt V2 as a backbone: four feature maps at strides 4, 8, 16 and 32.

Paper: Woo et al., "ConvNeXt V2: Co-designing and Scaling ConvNets with Masked Autoencoders",
CVPR 2023. Parameter names follow the published checkpoints, whose ImageNet weights are under
CC BY-NC 4.0.
"""

from rgbx_seg_ros.errors import CardError
from rgbx_seg_ros.networks.base import Foldable
from rgbx_seg_ros.networks.layers import LayerNorm2d, pointwise
import torch
from torch import nn
from torch.nn import functional as F

CONVNEXTV2 = {
    # name: (blocks per stage, channels per stage)
    'atto': ((2, 2, 6, 2), (40, 80, 160, 320)),
    'femto': ((2, 2, 6, 2), (48, 96, 192, 384)),
    'pico': ((2, 2, 6, 2), (64, 128, 256, 512)),
    'nano': ((2, 2, 8, 2), (80, 160, 320, 640)),
    'tiny': ((3, 3, 9, 3), (96, 192, 384, 768)),
    'base': ((3, 3, 27, 3), (128, 256, 512, 1024)),
    'large': ((3, 3, 27, 3), (192, 384, 768, 1536)),
}


class GlobalResponseNorm(nn.Module):
    """Divide each channel's norm over the map by the mean norm (paper, section 3.2)."""

    def __init__(self, channels: int):
        super().__init__()
        self.gamma = nn.Parameter(torch.zeros(1, 1, 1, channels))
        self.beta = nn.Parameter(torch.zeros(1, 1, 1, channels))

    def forward(self, x):  # N H W C
        norm = torch.linalg.vector_norm(x, dim=(1, 2), keepdim=True)
        share = norm / (norm.mean(dim=-1, keepdim=True) + 1e-6)
        return torch.addcmul(self.beta, self.gamma * share + 1.0, x)


class Block(Foldable):
    """Depthwise 7x7, layer norm, pointwise expansion by four with GRN, and a residual."""

    def __init__(self, channels: int):
        super().__init__()
        self.dwconv = nn.Conv2d(channels, channels, 7, padding=3, groups=channels)
        self.norm = nn.LayerNorm(channels, eps=1e-6)
        self.pwconv1 = nn.Linear(channels, 4 * channels)
        self.grn = GlobalResponseNorm(4 * channels)
        self.pwconv2 = nn.Linear(4 * channels, channels)

    def forward(self, x):
        t = self.dwconv(x).permute(0, 2, 3, 1)  # N H W C
        t = self.grn(F.gelu(self.pwconv1(self.norm(t))))
        return x + self.pwconv2(t).permute(0, 3, 1, 2)

    def folded(self) -> nn.Module:
        """Return the same block with GRN's factors in the matrix that follows it."""
        return FoldedBlock(self)


class FoldedBlock(nn.Module):
    """
    What `Block` computes, with fewer passes over its widest map.

    GRN has one factor for each channel, so it can scale the columns of `pwconv2` as well, and its
    shift adds to the bias.
    """

    def __init__(self, block: Block):
        super().__init__()
        self.dwconv, self.norm, self.pwconv1 = block.dwconv, block.norm, block.pwconv1
        self.gamma = nn.Parameter(block.grn.gamma.flatten())
        self.pwconv2 = block.pwconv2
        shift = self.pwconv2.weight.double() @ block.grn.beta.flatten().double()
        self.pwconv2.bias = nn.Parameter((self.pwconv2.bias + shift).float())

    def forward(self, x):
        t = self.norm(self.dwconv(x).permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
        t = F.gelu(pointwise(t, self.pwconv1.weight, self.pwconv1.bias))  # N 4C H W
        norm = channel_norms(t)
        factor = self.gamma * (norm / (norm.mean(dim=1, keepdim=True) + 1e-6)) + 1.0  # N 4C
        weight = self.pwconv2.weight
        if len(t) == 1:
            weight = (weight * factor).to(weight.dtype)
        else:  # a matrix for each image is no convolution
            t = t * factor[:, :, None, None].to(t.dtype)
        return x + pointwise(t, weight, self.pwconv2.bias)


def channel_norms(x: torch.Tensor) -> torch.Tensor:
    """Return the norm of each channel of a map (N, C, H, W), (N, C)."""
    if x.dtype == torch.float16:  # which has no room for squares
        return torch.linalg.vector_norm(x, dim=(2, 3))
    # On a CPU this takes a quarter of the time of `vector_norm`.
    return x.square().sum(dim=(2, 3), dtype=torch.float32).sqrt()


class ConvNeXtV2(nn.Module):
    """
    The backbone of size `name`, one of `CONVNEXTV2`.

    Takes (N, 3, H, W), both sides at least 32, and returns the outputs of the four stages,
    (N, channels[i], H / 2**(i+2), W / 2**(i+2)), rounded down. `channels` lists their widths.
    """

    def __init__(self, name: str = 'tiny'):
        super().__init__()
        if name not in CONVNEXTV2:
            raise CardError(
                f'backbone is {name!r}, allowed are: {", ".join(CONVNEXTV2)}')
        depths, self.channels = CONVNEXTV2[name]
        self.downsample_layers = nn.ModuleList()
        self.stages = nn.ModuleList()
        for i, (depth, width) in enumerate(zip(depths, self.channels, strict=True)):
            if i == 0:
                down = [nn.Conv2d(3, width, 4, stride=4), LayerNorm2d(width, eps=1e-6)]
            else:
                below = self.channels[i - 1]
                down = [LayerNorm2d(below, eps=1e-6), nn.Conv2d(below, width, 2, stride=2)]
            self.downsample_layers.append(nn.Sequential(*down))
            self.stages.append(nn.Sequential(*(Block(width) for _ in range(depth))))

    def forward(self, x) -> list[torch.Tensor]:
        maps = []
        for downsample, stage in zip(self.downsample_layers, self.stages, strict=True):
            x = stage(downsample(x))
            maps.append(x)
        return maps
