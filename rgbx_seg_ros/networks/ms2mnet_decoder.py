# Copyright 2026 rgbx_seg_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""
The decoder of MS2MNet, and the convolutions and gates that its encoder shares.

All but `ASAF` is as published; `ms2mnet` says what that means.
"""

from rgbx_seg_ros.networks.layers import at_least_float32, resize, Tables, to_map, to_tokens
import torch
from torch import nn
from torch.nn import functional as F

HEADS = 16
POOLED_SIDE = 16


class ConvBN(nn.Sequential):
    """A convolution that keeps the size, and a batch norm."""

    def __init__(self, in_channels: int, out_channels: int, kernel: int = 1, dilation: int = 1,
                 groups: int = 1, bias: bool = False):
        super().__init__(
            nn.Conv2d(in_channels, out_channels, kernel, padding=dilation * (kernel // 2),
                      dilation=dilation, groups=groups, bias=bias),
            nn.BatchNorm2d(out_channels))


class ConvBNReLU6(ConvBN):
    """The same with a ReLU6."""

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.append(nn.ReLU6(inplace=True))


class SeparableConv(nn.Sequential):
    """A depthwise and a pointwise convolution, each with a batch norm, and one ReLU6."""

    def __init__(self, channels: int, kernel: int):
        super().__init__(
            *ConvBN(channels, channels, kernel, groups=channels), *ConvBNReLU6(channels, channels))


class ChannelGate(nn.Sequential):
    """One weight in (0, 1) for each channel of a map (N, C, H, W), as (N, C, 1, 1)."""

    def __init__(self, channels: int, hidden: int, activation: nn.Module):
        super().__init__(
            nn.Conv2d(channels, hidden, 1), activation, nn.Conv2d(hidden, channels, 1),
            nn.Sigmoid())

    def forward(self, x):
        return super().forward(x.mean(dim=(2, 3), keepdim=True))


class SpatialGate(nn.Conv2d):
    """One weight in (0, 1) for each pixel of a map, (N, 1, H, W), from its mean and maximum."""

    def __init__(self):
        super().__init__(2, 1, 5, padding=2)

    def forward(self, x):
        both = (x.mean(dim=1, keepdim=True), x.amax(dim=1, keepdim=True))
        return super().forward(torch.cat(both, dim=1)).sigmoid()


class ASAF(nn.Module):
    """
    Add the decoder's map (N, C, h, w) to the encoder's (N, C, H, W), at the size of the latter.

    Completed here, after the figure, the decoder of CMTFNet and this decoder's own head: the
    encoder's map passes a spatial gate, and two learned shares, together 1, weigh the maps.
    """

    def __init__(self, channels: int):
        super().__init__()
        self.weights = nn.Parameter(torch.ones(2))
        self.s_conv = SpatialGate()
        self.post_conv = SeparableConv(channels, 5)

    def forward(self, x, encoded):
        weights = F.relu6(at_least_float32(self.weights))
        share, rest = (weights / (weights.sum() + 1e-8)).unbind()
        gate = share.to(encoded.dtype) * self.s_conv(encoded)
        return self.post_conv(gate * encoded + rest.to(x.dtype) * resize(x, encoded.shape[2:]))


class MultiScaleConv(nn.Module):
    """
    Weigh each value of a map (N, C, H, W) by what dilated convolutions see around it.

    As published. `pointwise` adds a fourth branch, which sees the pixel alone.
    """

    def __init__(self, channels: int, dilations: tuple[int, ...], pointwise: bool = False):
        super().__init__()
        width = channels // 4
        self.reduce = ConvBNReLU6(channels, width, bias=True)
        first = [ConvBNReLU6(width, width, 3, dilation, groups=width, bias=True)
                 for dilation in dilations]
        if pointwise:
            first.append(ConvBNReLU6(width, width, bias=True))
        self.branches = nn.ModuleList(
            nn.Sequential(conv, ConvBNReLU6(width, channels, bias=True)) for conv in first)
        self.merge = ConvBNReLU6(channels, channels, bias=True)

    def forward(self, x):
        reduced = self.reduce(x)
        return x * self.merge(sum(branch(reduced) for branch in self.branches))


def pooling_matrix(length: int) -> torch.Tensor:
    """
    Return the matrix (16, length) float32 that takes the means of 16 spans of `length` values.

    Span i runs from floor(i·length/16) to ceil((i + 1)·length/16), as in adaptive pooling, which
    the ONNX exporter does not take where 16 does not divide the length.
    """
    matrix = torch.zeros(POOLED_SIDE, length)
    for i in range(POOLED_SIDE):
        start, stop = i * length // POOLED_SIDE, -(-(i + 1) * length // POOLED_SIDE)
        matrix[i, start:stop] = 1.0 / (stop - start)
    return matrix


class Pool(nn.Module):
    """Pool a map (N, C, H, W) of any size to (N, C, 16, 16) by means."""

    def __init__(self):
        super().__init__()
        self.matrix = Tables(pooling_matrix)

    def forward(self, x):
        rows, columns = (self.matrix(x.device, side).to(x.dtype) for side in x.shape[2:])
        out = columns @ x.permute(0, 2, 3, 1)  # N H 16 C
        out = rows @ out.flatten(2)  # N 16 16C
        return out.unflatten(2, (POOLED_SIDE, -1)).permute(0, 3, 1, 2)


class PooledAttention(nn.Module):
    """
    Attention of every pixel of a map (N, C, H, W) to 16x16 pooled ones, and a channel gate.

    As published: the queries are the map itself, and nothing follows the heads.
    """

    def __init__(self, channels: int, dilations: tuple[int, ...]):
        super().__init__()
        self.msc = MultiScaleConv(channels, dilations, pointwise=True)
        self.pool = Pool()
        self.kv = nn.Conv2d(channels, 2 * channels, 1, bias=False)
        self.fc = ChannelGate(channels, channels // 4, nn.ReLU6(inplace=True))

    def forward(self, x):
        key, value = self.kv(self.pool(self.msc(x))).chunk(2, dim=1)
        query, key, value = (
            to_tokens(part).unflatten(2, (HEADS, -1)).transpose(1, 2)  # N h L d
            for part in (x, key, value))
        out = F.scaled_dot_product_attention(query, key, value)  # N h L d
        return to_map(out.transpose(1, 2).flatten(2), x.shape[2:]) + x * self.fc(x)


class MLP(nn.Module):
    """To a quarter of the channels, two depthwise sizes side by side, and back. As published."""

    def __init__(self, channels: int):
        super().__init__()
        width = channels // 4
        self.fc1 = ConvBNReLU6(channels, width)
        self.conv1 = ConvBNReLU6(width, width, 5, groups=width)
        self.conv2 = ConvBNReLU6(width, width, 3, groups=width)
        self.fc2 = ConvBNReLU6(width, channels)

    def forward(self, x):
        x = self.fc1(x)
        return self.fc2(self.conv1(x) + self.conv2(x))


class Block(nn.Module):
    """Attention, normalised after it, and an MLP on a map (N, C, H, W). As published."""

    def __init__(self, channels: int, dilations: tuple[int, ...]):
        super().__init__()
        self.attn = PooledAttention(channels, dilations)
        self.norm1 = nn.BatchNorm2d(channels)
        self.mlp = MLP(channels)

    def forward(self, x):
        x = x + self.norm1(self.attn(x))
        return x + self.mlp(x)


class Head(nn.Module):
    """MAF: dilated convolutions, a channel gate and a spatial gate, then logits. As published."""

    def __init__(self, channels: int, num_classes: int):
        super().__init__()
        self.msc = MultiScaleConv(channels, (7, 9, 11))
        self.fc = ChannelGate(channels, channels // 4, nn.ReLU6(inplace=True))
        self.s_conv = SpatialGate()
        self.head = nn.Sequential(
            SeparableConv(channels, 3), nn.Dropout2d(0.1),
            nn.Conv2d(channels, num_classes, 1, bias=False))

    def forward(self, x):
        return self.head(self.msc(x) + x * self.fc(x) + x * self.s_conv(x))


class Decoder(nn.Module):
    """
    From the coarsest map on: attend, resize to the next finer one and add it. As published.

    It has the width of the encoder's second map, and its head that of the first, as it adds these
    two as they are. `channels` lists the widths of all four, that of the second a multiple of 16.
    """

    def __init__(self, channels, num_classes: int):
        super().__init__()
        head_width, width, c3, c4 = channels
        self.proj4 = ConvBNReLU6(c4, width)
        self.proj3 = ConvBNReLU6(c3, width)
        self.b4 = Block(width, (1, 3, 5))
        self.p3 = ASAF(width)
        self.b3 = Block(width, (3, 5, 7))
        self.p2 = ASAF(width)
        self.b2 = Block(width, (5, 7, 9))
        self.proj1 = ConvBN(width, head_width)
        self.p1 = ASAF(head_width)
        self.seg_head = Head(head_width, num_classes)

    def forward(self, f1, f2, f3, f4):
        """Return logits, and the two maps of its width that auxiliary heads look at."""
        x3 = self.p3(self.b4(self.proj4(f4)), self.proj3(f3))
        x2 = self.p2(self.b3(x3), f2)
        return self.seg_head(self.p1(self.proj1(self.b2(x2)), f1)), (x3, x2)
