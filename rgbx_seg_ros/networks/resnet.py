# Copyright 2026 rgbx_seg_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""
ResNet-50 as a backbone: the stem and the first three stages, at strides 2, 4, 8 and 16.

Paper: He et al., "Deep Residual Learning for Image Recognition", CVPR 2016, in the variant called
v1.5, whose bottlenecks have their stride in the 3x3 convolution. Parameter names are those of
torchvision's checkpoints (BSD-3-Clause); their `layer4` and `fc` have no counterpart here.
"""

import torch
from torch import nn
from torch.nn import functional as F

EXPANSION = 4
STAGES = (
    # blocks, channels inside a bottleneck in units of those of the stem, stride
    (3, 1, 1),
    (4, 2, 2),
    (6, 4, 2),
)


class Bottleneck(nn.Module):
    """1x1 to `width` channels, 3x3 with the stride, 1x1 to four times `width`, a shortcut."""

    def __init__(self, in_channels: int, width: int, stride: int):
        super().__init__()
        out_channels = EXPANSION * width
        self.conv1 = nn.Conv2d(in_channels, width, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, stride=stride, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv3 = nn.Conv2d(width, out_channels, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(out_channels)
        self.downsample = None
        if stride > 1 or in_channels != out_channels:
            self.downsample = nn.Sequential(
                nn.Conv2d(in_channels, out_channels, 1, stride=stride, bias=False),
                nn.BatchNorm2d(out_channels))

    def forward(self, x):
        out = F.relu(self.bn1(self.conv1(x)), inplace=True)
        out = F.relu(self.bn2(self.conv2(out)), inplace=True)
        out = self.bn3(self.conv3(out))
        out = out + (x if self.downsample is None else self.downsample(x))
        return F.relu(out, inplace=True)


class ResNet50(nn.Module):
    """
    The backbone for images of `in_channels` channels, whose stem makes `base_width` of them.

    Takes (N, in_channels, H, W) and returns four maps (N, channels[i], H / 2**(i+1), W /
    2**(i+1)), rounded up: the stem before its pooling, and `layer1` to `layer3`. `channels` lists
    their widths. ResNet-50 itself has the `base_width` 64.
    """

    def __init__(self, in_channels: int = 3, base_width: int = 64):
        super().__init__()
        self.channels = (
            base_width, *(EXPANSION * factor * base_width for _, factor, _ in STAGES))
        self.conv1 = nn.Conv2d(in_channels, base_width, 7, stride=2, padding=3, bias=False)
        self.bn1 = nn.BatchNorm2d(base_width)
        below = base_width
        for i, (depth, factor, stride) in enumerate(STAGES):
            width = factor * base_width
            blocks = [Bottleneck(below, width, stride)]
            below = EXPANSION * width
            blocks += [Bottleneck(below, width, 1) for _ in range(depth - 1)]
            self.add_module(f'layer{i + 1}', nn.Sequential(*blocks))
        for part in self.modules():
            if isinstance(part, nn.Conv2d):
                nn.init.kaiming_normal_(part.weight, mode='fan_out', nonlinearity='relu')

    def forward(self, x) -> list[torch.Tensor]:
        stem = F.relu(self.bn1(self.conv1(x)), inplace=True)
        out1 = self.layer1(F.max_pool2d(stem, 3, stride=2, padding=1))
        out2 = self.layer2(out1)
        return [stem, out1, out2, self.layer3(out2)]
