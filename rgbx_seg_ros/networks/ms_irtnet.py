# Copyright 2026 rgbx_seg_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""
MS-IRTNet: multistage information interaction for RGB-thermal segmentation.

Paper: Zhang, Liu, Xue, Information Sciences 647 (2023) 119442, doi 10.1016/j.ins.2023.119442.
Original: poisonzzw/MS-IRTNet, commit 7fb70c1. This is an independent implementation whose
parameters map one to one onto the authors' (`RENAMES`); code under Apache-2.0, the authors'
weights under their own terms.
"""

from rgbx_seg_ros.networks.convnextv2 import ConvNeXtV2
from rgbx_seg_ros.networks.layers import (
    ChannelEmbed,
    check_inputs,
    CrossExchange,
    init_linear_conv_,
    resize,
    to_map,
    to_tokens,
    TokenLinear,
)
import torch
from torch import nn

HEADS = (1, 2, 4, 8)


class GlobalWeightedInteraction(nn.Module):
    """GWIM: one signed weight per channel shares the signal out between the two modalities."""

    def __init__(self, channels: int, width: int):
        super().__init__()
        self.conv1 = self._branch(channels, width)
        self.conv2 = self._branch(channels, width)

    @staticmethod
    def _branch(channels, width):
        return nn.Sequential(
            nn.Conv2d(2 * channels, width, 1),
            nn.Conv2d(width, channels, 3, padding=1),
        )

    def forward(self, rgb, x):
        both = torch.cat((rgb, x), dim=1)  # N 2C H W
        weight = self.conv1(both).sigmoid() * self.conv2(both).tanh()
        weight = weight.mean(dim=(2, 3), keepdim=True)  # N C 1 1, in (-1, 1)
        return weight * rgb, (1.0 - weight) * x


class CrossPath(CrossExchange):
    """The token half of FIIM: attention across the modalities, then a joint projection."""

    def __init__(self, channels: int, heads: int):
        super().__init__(channels, heads)
        self.end_proj2 = nn.Linear(2 * channels, channels)
        self.norm1 = nn.LayerNorm(channels)

    def forward(self, x1, x2):  # N L C
        y1, v1, y2, v2 = self.exchange(x1, x2)
        return self.norm1(self.end_proj2(torch.cat((v1 + y1, v2 + y2), dim=-1)))


class FeatureInteraction(nn.Module):
    """FIIM: fuse two maps (N, C, H, W) into one."""

    def __init__(self, channels: int, heads: int):
        super().__init__()
        self.cross = CrossPath(channels, heads)
        self.channel_emb = ChannelEmbed(channels)
        init_linear_conv_(self)

    def forward(self, rgb, x):
        fused = to_map(self.cross(to_tokens(rgb), to_tokens(x)), rgb.shape[2:])
        return self.channel_emb(fused + rgb + x)


class MLPDecoder(nn.Module):
    """Project four maps to one width, resize them to the finest and fuse them."""

    def __init__(self, channels, width: int, num_classes: int):
        super().__init__()
        self.linear_c1, self.linear_c2, self.linear_c3, self.linear_c4 = (
            TokenLinear(c, width) for c in channels)
        self.linear_fuse = nn.Sequential(
            nn.Conv2d(4 * width, width, 1), nn.BatchNorm2d(width), nn.ReLU(inplace=True))
        self.dropout = nn.Dropout2d(0.1)
        self.linear_pred = nn.Conv2d(width, num_classes, 1)

    def forward(self, f1, f2, f3, f4):
        size = f1.shape[2:]
        stack = (
            resize(self.linear_c4(f4), size),
            resize(self.linear_c3(f3), size),
            resize(self.linear_c2(f2), size),
            self.linear_c1(f1),
        )
        return self.linear_pred(self.dropout(self.linear_fuse(torch.cat(stack, dim=1))))


class MSIRTNet(nn.Module):
    """
    MS-IRTNet for `num_classes` classes.

    `forward(rgb, x)` takes two normalised float maps (N, 3, H, W), each side at least 32 and best
    a multiple of 32, and returns logits (N, num_classes, H, W).

    `decoder_width` is the number of channels in the decoder, `gwim_ratio` that between the two
    convolutions of GWIM, in units of the stage's channels. The defaults are the published model;
    a lower ratio makes a compact one, as GWIM is 26 % of its multiply-adds.
    """

    X_CHANNELS = 3
    RENAMES = (
        (r'^encoder_thermal\.', 'encoder_x.'),
        (r'^react\.', 'gwim.'),
        (r'^transformer\.', 'fiim.'),
    )
    UNUSED = (r'^encoder_\w+\.norm\.', r'\.cross\.(end_proj1|norm2)\.')

    def __init__(self, num_classes: int, backbone: str = 'tiny', decoder_width: int = 512,
                 gwim_ratio: float = 2.0):
        super().__init__()
        self.encoder_rgb = ConvNeXtV2(backbone)
        self.encoder_x = ConvNeXtV2(backbone)
        channels = self.encoder_rgb.channels
        self.gwim = nn.ModuleList(
            GlobalWeightedInteraction(c, round(gwim_ratio * c)) for c in channels)
        self.fiim = nn.ModuleList(
            FeatureInteraction(c, h) for c, h in zip(channels, HEADS, strict=True))
        self.decoder = MLPDecoder(channels, decoder_width, num_classes)

    def forward(self, rgb, x):
        check_inputs(rgb, x)
        stages = zip(self.encoder_rgb(rgb), self.encoder_x(x), self.gwim, self.fiim, strict=True)
        fused = [fiim(*gwim(a, b)) for a, b, gwim, fiim in stages]
        return resize(self.decoder(*fused), rgb.shape[2:], align_corners=True)
