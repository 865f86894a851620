# Copyright 2026 rgbx_seg_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""
MS-IRTNet: multistage information interaction for RGB-thermal segmentation.

Paper: Zhang, Liu, Xue, Information Sciences 647 (2023) 119442, doi 10.1016/j.ins.2023.119442.
Original: poisonzzw/MS-IRTNet, commit 7fb70c1. This is an independent implementation whose
parameters map one to one onto the authors' (`RENAMES`); code under Apache-2.0, the authors'
weights under their own terms.
"""

import functools

from rgbx_seg_ros.networks.base import Foldable, Network
from rgbx_seg_ros.networks.convnextv2 import ConvNeXtV2
from rgbx_seg_ros.networks.layers import (
    ChannelEmbed,
    check_inputs,
    CrossExchange,
    init_linear_conv_,
    norm_affine,
    resize,
    ResizedSum,
    Tables,
    to_map,
    to_tokens,
    TokenLinear,
)
import torch
from torch import nn
from torch.nn import functional as F

HEADS = (1, 2, 4, 8)


class GlobalWeightedInteraction(Foldable):
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

    def folded(self) -> nn.Module:
        """Return the same with the convolutions of both branches as one, where that is cheaper."""
        pointwise, conv = self.conv1
        channels = conv.out_channels
        apart = (pointwise.in_channels + 9 * channels) * conv.in_channels
        together = 9 * channels * pointwise.in_channels
        return FoldedInteraction(self) if together < apart else self


class FoldedInteraction(nn.Module):
    """
    What `GlobalWeightedInteraction` computes, with one 3x3 convolution for both branches.

    Nothing lies between the two convolutions of a branch, so that they are one. Its bias depends
    on the place: the second convolution pads with zeros what the first one gave its bias.
    """

    def __init__(self, gwim: GlobalWeightedInteraction):
        super().__init__()
        weights, borders, biases = [], [], []
        for first, second in (gwim.conv1, gwim.conv2):
            kernel = second.weight.double()  # C width 3 3
            weights.append(torch.einsum('cwij,wd->cdij', kernel, first.weight.flatten(1).double()))
            borders.append(torch.einsum('cwij,w->cij', kernel, first.bias.double())[:, None])
            biases.append(second.bias)
        weight = torch.cat(weights).float()
        self.conv = nn.Conv2d(weight.shape[1], weight.shape[0], 3, padding=1, bias=False,
                              device='meta')
        self.conv.weight = nn.Parameter(weight)
        self.bias_map = Tables(functools.partial(
            _bias_map, torch.cat(borders).cpu(), torch.cat(biases).double().cpu()))

    def forward(self, rgb, x):
        both = self.conv(torch.cat((rgb, x), dim=1))  # N 2C H W
        both = both + self.bias_map(both.device, *both.shape[2:]).to(both.dtype)
        logistic, hyperbolic = both.chunk(2, dim=1)
        weight = logistic.sigmoid() * hyperbolic.tanh()
        weight = weight.mean(dim=(2, 3), keepdim=True)
        return weight * rgb, (1.0 - weight) * x


def _bias_map(kernel, bias, height, width):
    """Return what a 3x3 convolution and its bias make of ones in a border of zeros."""
    ones = torch.ones(1, 1, height, width, dtype=torch.float64)
    return F.conv2d(ones, kernel, bias, padding=1).float().contiguous(
        memory_format=torch.channels_last)


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


class MLPDecoder(Foldable):
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

    def folded(self) -> nn.Module:
        """
        Return the same decoder with one matrix from each map to the fused width.

        Projection, its part of the fusion and the batch norm are linear, so that they are one. At
        480x640 this takes 22.0 GMAC to 1.9.
        """
        fuse, norm = self.linear_fuse[:2]
        scale, bias = norm_affine(norm)
        bias = bias + scale * fuse.bias
        # The coarsest map is the first one in the concatenation.
        parts = reversed((scale[:, None] * fuse.weight.flatten(1)).chunk(4, dim=1))
        linears = (self.linear_c1, self.linear_c2, self.linear_c3, self.linear_c4)
        weights = []
        for part, linear in zip(parts, linears, strict=True):
            weights.append(part @ linear.proj.weight.double())
            bias = bias + part @ linear.proj.bias.double()
        return FoldedDecoder(ResizedSum(weights, bias), self.linear_pred)


class FoldedDecoder(nn.Module):
    """What `MLPDecoder` computes, after folding."""

    def __init__(self, fuse: ResizedSum, linear_pred: nn.Conv2d):
        super().__init__()
        self.fuse = fuse
        self.linear_pred = linear_pred

    def forward(self, f1, f2, f3, f4):
        return self.linear_pred(self.fuse(f1, f2, f3, f4))


class MSIRTNet(Network):
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
