# Copyright 2026 rgbx_seg_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""
MS2MNet: segmentation of aerial images with a surface model (DSM). A RECONSTRUCTION.

Original: DrWuHonglin/MS2MNet, commit babbbf6. What is published cannot run: three of its modules
(VFE, ASAF and DFE) are used there but defined nowhere, and there are no weights. Here these three
are completed by us from the authors' figures and from the networks that theirs descends from; the
rest follows what is published. The docstrings say which: "as published" or "completed here". No
weights of the authors exist, and no score that they published belongs to this network. Once the
missing modules appear, each replaces one class: `VFE`, `ASAF`, `DFE`.

The parameters map one to one onto names in the authors' style (`RENAMES`); code under Apache-2.0.
"""

from rgbx_seg_ros.networks.layers import (
    at_least_float32,
    check_inputs,
    resize,
    Tables,
    to_map,
    to_tokens,
    without_autocast,
)
from rgbx_seg_ros.networks.resnet import ResNet50
import torch
from torch import nn
from torch.nn import functional as F

STATES = (16, 24, 28, 32)
RESIDUAL_RATE = 0.5
WIDTH = 256  # of the decoder, which adds the second map of the encoder as it is
HEAD_WIDTH = 64
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


class DFE(nn.Module):
    """
    Edge enhancement of the DSM (N, 1, H, W): the magnitude of its Sobel gradient is added to it.

    Completed here. Published are its place and its purpose; operator, border (reflected) and gain
    are our choice.
    """

    def forward(self, x):
        # The square of a step in float16 is soon out of its range, and 1e-12 is 0 there.
        with without_autocast(x):
            padded = F.pad(at_least_float32(x), (1, 1, 1, 1), mode='reflect')
            rows = padded[:, :, :-2] + 2.0 * padded[:, :, 1:-1] + padded[:, :, 2:]
            columns = padded[..., :-2] + 2.0 * padded[..., 1:-1] + padded[..., 2:]
            along_x = rows[..., 2:] - rows[..., :-2]
            along_y = columns[:, :, 2:] - columns[:, :, :-2]
            edges = (along_x.square() + along_y.square() + 1e-12).sqrt()
        return x + edges.to(x.dtype)


class WASE(nn.Module):
    """
    Fuse two maps (N, C, H, W) into one: channel gates, and one weight for each modality.

    As published.
    """

    def __init__(self, channels: int):
        super().__init__()
        self.weight_rgb = nn.Parameter(torch.ones(1))
        self.weight_x = nn.Parameter(torch.ones(1))
        self.gate_rgb = ChannelGate(channels, channels // 16, nn.ReLU(inplace=True))
        self.gate_x = ChannelGate(channels, channels // 16, nn.ReLU(inplace=True))
        for gate in (self.gate_rgb, self.gate_x):
            # The finest scale has four hidden units. With biases around 0 a gate in sixteen would
            # start with all of them at 0 for every image, and never learn.
            nn.init.ones_(gate[0].bias)

    def forward(self, rgb, x):
        weight_rgb, weight_x = (
            at_least_float32(weight).abs() for weight in (self.weight_rgb, self.weight_x))
        total = weight_rgb + weight_x + 1e-8
        scale_rgb = self.gate_rgb(rgb) * (weight_rgb / total)
        scale_x = self.gate_x(x) * (weight_x / total)
        return rgb * scale_rgb.to(rgb.dtype) + x * scale_x.to(x.dtype)


class ChannelNorm(nn.Module):
    """Layer norm over the channels of (N, C, ...); the parameters are (1, C, 1) as published."""

    def __init__(self, channels: int):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(1, channels, 1))
        self.bias = nn.Parameter(torch.zeros(1, channels, 1))

    def forward(self, x):
        weight, bias = self.weight.flatten(), self.bias.flatten()
        return F.layer_norm(x.movedim(1, -1), weight.shape, weight, bias).movedim(-1, 1)


class StateMixer(nn.Module):
    """
    MSSM: mix all pixels of a map (N, C, H, W) through S states of C channels.

    Completed here, after the figure and its ancestor, the hidden state mixer of EfficientViM (Lee
    et al., CVPR 2025). There is no scan: the states are weighted sums over all pixels, which each
    pixel reads with weights of its own. The figure's parameter A, constant over the pixels,
    cancels in the softmax and is left out.
    """

    def __init__(self, channels: int, states: int):
        super().__init__()
        width = 3 * states
        self.gamma = nn.Parameter(torch.ones(1))
        self.bcdt_proj = nn.Conv1d(channels, width, 1, bias=False)
        self.dw3 = nn.Conv2d(width, width, 3, padding=1, groups=width, bias=False)
        self.dw5 = nn.Conv2d(width, width, 5, padding=2, groups=width, bias=False)
        self.gate = nn.Sequential(
            nn.AdaptiveAvgPool2d(1), nn.Conv2d(width, 2, 1), nn.Softmax(dim=1))
        self.channel_attn = ChannelGate(channels, max(channels // 4, 8), nn.SiLU())
        self.hz_proj = nn.Conv1d(channels, 2 * channels, 1, bias=False)
        self.out_proj = nn.Conv1d(channels, channels, 1, bias=False)

    def forward(self, u):
        # A 1-D convolution would first copy a map that is in channels-last order.
        p = F.conv2d(u, self.bcdt_proj.weight[..., None])  # N 3S H W
        near, far = self.gate(p).chunk(2, dim=1)
        p = near * self.dw3(p) + far * self.dw5(p)
        write, read, step = p.flatten(2).chunk(3, dim=1)  # N S L
        with without_autocast(u):  # a share of 1/L is hardly a number in half precision
            share = at_least_float32(step).softmax(dim=2) * at_least_float32(write)
            h = at_least_float32(u).flatten(2) @ share.transpose(1, 2)  # N C S
        h = h.to(u.dtype)
        h = h * self.channel_attn(h[..., None])[..., 0]
        h, z = self.hz_proj(h).chunk(2, dim=1)
        h = self.out_proj(h * (self.gamma * F.silu(z)))
        return to_map(read.transpose(1, 2) @ h.transpose(1, 2), u.shape[2:])


class VFE(nn.Module):
    """
    Visual feature enhancement of a map (N, C, H, W).

    Completed here, after the figure, with plain additions as drawn. Published are its place, its
    arguments and that its output is added at half weight.
    """

    def __init__(self, channels: int, states: int):
        super().__init__()
        self.dwconv1 = ConvBN(channels, channels, 3, groups=channels)
        self.norm = ChannelNorm(channels)
        self.mixer = StateMixer(channels, states)
        self.conv2 = ConvBN(channels, channels, 3)
        self.fc1 = ConvBN(channels, 4 * channels)
        self.fc2 = ConvBN(4 * channels, channels)
        self.se = ChannelGate(channels, max(channels // 4, 8), nn.SiLU())

    def forward(self, x):
        x = x + self.dwconv1(x)
        x = x + self.mixer(self.norm(x))
        x = x + F.relu(self.conv2(x), inplace=True)
        out = self.fc2(F.relu(self.fc1(x), inplace=True))
        return x + out * self.se(out)


class Fusion(nn.Module):
    """One scale of both encoders, two maps (N, C, H, W), to one. As published around `VFE`."""

    def __init__(self, channels: int, states: int):
        super().__init__()
        self.wase = WASE(channels)
        self.vfe = VFE(channels, states)

    def forward(self, rgb, x):
        fused = self.wase(rgb, x)
        return fused + RESIDUAL_RATE * self.vfe(fused)


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
    """From the coarsest map on: attend, resize to the next finer one and add it. As published."""

    def __init__(self, channels, num_classes: int):
        super().__init__()
        _, _, c3, c4 = channels
        self.proj4 = ConvBNReLU6(c4, WIDTH)
        self.proj3 = ConvBNReLU6(c3, WIDTH)
        self.b4 = Block(WIDTH, (1, 3, 5))
        self.p3 = ASAF(WIDTH)
        self.b3 = Block(WIDTH, (3, 5, 7))
        self.p2 = ASAF(WIDTH)
        self.b2 = Block(WIDTH, (5, 7, 9))
        self.proj1 = ConvBN(WIDTH, HEAD_WIDTH)
        self.p1 = ASAF(HEAD_WIDTH)
        self.seg_head = Head(HEAD_WIDTH, num_classes)

    def forward(self, f1, f2, f3, f4):
        x = self.b4(self.proj4(f4))
        x = self.b3(self.p3(x, self.proj3(f3)))
        x = self.b2(self.p2(x, f2))
        return self.seg_head(self.p1(self.proj1(x), f1))


def _renamed(theirs, ours):
    """Return the renames of a convolution and its batch norm into a pair of modules."""
    return ((rf'{theirs.format("conv")}\.', rf'{ours}.0.'),
            (rf'{theirs.format("bn")}\.', rf'{ours}.1.'))


class MS2MNet(nn.Module):
    """
    A reconstruction of MS2MNet for `num_classes` classes.

    Three of the original's modules were never published; `VFE`, `ASAF` and `DFE` are our own
    completions of them. There are no weights of the authors, and the scores that they published
    are not those of this network.

    `forward(rgb, x)` takes a colour image (N, 3, H, W) and a surface model (N, 1, H, W), both
    floating-point on the scale 0..1, each side at least 32, and returns logits (N, num_classes,
    H, W). The auxiliary heads, which only the authors' training used, are left out.
    """

    X_CHANNELS = 1
    RENAMES = (
        (r'^rgb_backbone\.', 'encoder_rgb.'),
        (r'^dsm_backbone\.', 'encoder_x.'),
        *((rf'^waseFusion{i + 1}\.', f'fusion.{i}.wase.') for i in range(4)),
        *((rf'^vfeBlock{i + 1}\.', f'fusion.{i}.vfe.') for i in range(4)),
        (r'\.wase\.weight_x$', '.wase.weight_rgb'),
        (r'\.wase\.weight_y$', '.wase.weight_x'),
        (r'\.wase\.fc_x\.', '.wase.gate_rgb.'),
        (r'\.wase\.fc_y\.', '.wase.gate_x.'),
        (r'\.ffn\.(fc[12])\.', r'.\1.'),
        (r'\.(dwconv1|conv2|fc1|fc2)\.conv\.', r'.\1.0.'),
        (r'\.(dwconv1|conv2|fc1|fc2)\.norm\.', r'.\1.1.'),
        (r'\.BCdt_proj\.', '.bcdt_proj.'),
        (r'\.mixer\.(\w+)\.conv\.', r'.mixer.\1.'),
        (r'\.(channel_attn|se)\.gate\.1\.', r'.\1.0.'),
        (r'\.(channel_attn|se)\.gate\.3\.', r'.\1.2.'),
        (r'^decoder\.Conv1\.', 'decoder.proj4.'),
        (r'^decoder\.Conv2\.', 'decoder.proj3.'),
        (r'^decoder\.Conv3\.', 'decoder.proj1.'),
        (r'\.attn\.kv\.0\.', '.attn.kv.'),
        *_renamed(r'\.attn\.MSC\.{}0_1', '.attn.msc.reduce'),
        *_renamed(r'\.attn\.MSC\.{}(\d)_2', r'.attn.msc.branches.\1.0'),
        *_renamed(r'\.attn\.MSC\.{}(\d)_3', r'.attn.msc.branches.\1.1'),
        *_renamed(r'\.attn\.MSC\.{}4', '.attn.msc.merge'),
        *_renamed(r'\.seg_head\.{}0', '.seg_head.msc.reduce'),
        *(pair for i in range(3) for j in range(2) for pair in _renamed(
            rf'\.seg_head\.{{}}{i + 1}_{j + 1}', f'.seg_head.msc.branches.{i}.{j}')),
        *_renamed(r'\.seg_head\.{}4', '.seg_head.msc.merge'),
        (r'\.seg_head\.head\.2\.0\.', '.seg_head.head.2.'),
    )
    UNUSED = (r'^\w+_backbone\.layer4\.', r'\.mixer\.A$', r'^decoder\.aux_head[23]\.')

    def __init__(self, num_classes: int):
        super().__init__()
        self.dfe = DFE()
        self.encoder_rgb = ResNet50()
        self.encoder_x = ResNet50(in_channels=1)
        channels = self.encoder_rgb.channels
        self.fusion = nn.ModuleList(
            Fusion(c, states) for c, states in zip(channels, STATES, strict=True))
        self.decoder = Decoder(channels, num_classes)

    def forward(self, rgb, x):
        check_inputs(rgb, x, self.X_CHANNELS)
        stages = zip(
            self.encoder_rgb(rgb), self.encoder_x(self.dfe(x)), self.fusion, strict=True)
        fused = [fusion(a, b) for a, b, fusion in stages]
        return resize(self.decoder(*fused), rgb.shape[2:])
