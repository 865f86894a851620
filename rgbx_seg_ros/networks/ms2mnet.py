# Copyright 2026 rgbx_seg_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""
MS2MNet: segmentation of aerial images with a surface model (DSM). A RECONSTRUCTION.

Original: DrWuHonglin/MS2MNet, commit babbbf6. What is published cannot run: three of its modules
(VFE, ASAF and DFE) are used there but defined nowhere, and there are no weights. Here these three
are completed by us from the authors' figures and from the networks that theirs descends from; the
rest follows what is published. The docstrings say which: "as published" or "completed here". No
weights of the authors exist, and no score that they published belongs to this network. Once the
missing modules appear, each replaces one class: `VFE`, `DFE`, and `ASAF` of the decoder.

The parameters map one to one onto names in the authors' style (`RENAMES`); code under Apache-2.0.
"""

from rgbx_seg_ros.errors import CardError
from rgbx_seg_ros.networks.base import Network
from rgbx_seg_ros.networks.layers import (
    at_least_float32,
    check_inputs,
    resize,
    to_map,
    without_autocast,
)
from rgbx_seg_ros.networks.ms2mnet_decoder import ChannelGate, ConvBN, Decoder
from rgbx_seg_ros.networks.resnet import ResNet50
from rgbx_seg_ros.networks.training import AuxiliaryHeads, ConvHead
import torch
from torch import nn
from torch.nn import functional as F

STATES = (16, 24, 28, 32)
RESIDUAL_RATE = 0.5
MIN_HIDDEN = 4
"""Of a gate, as at the finest published scale; of fewer, all are soon at 0 for every image."""


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
        hidden = max(channels // 16, MIN_HIDDEN)
        self.gate_rgb = ChannelGate(channels, hidden, nn.ReLU(inplace=True))
        self.gate_x = ChannelGate(channels, hidden, nn.ReLU(inplace=True))
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


def _renamed(theirs, ours):
    """Return the renames of a convolution and its batch norm into a pair of modules."""
    return ((rf'{theirs.format("conv")}\.', rf'{ours}.0.'),
            (rf'{theirs.format("bn")}\.', rf'{ours}.1.'))


class MS2MNet(Network):
    """
    A reconstruction of MS2MNet for `num_classes` classes.

    Three of the original's modules were never published; `VFE`, `ASAF` and `DFE` are our own
    completions of them. There are no weights of the authors, and the scores that they published
    are not those of this network.

    `forward(rgb, x)` takes a colour image (N, 3, H, W) and a surface model (N, 1, H, W), both
    floating-point on the scale 0..1, each side at least 32, and returns logits (N, num_classes,
    H, W). The auxiliary heads, which only training uses, are no part of it (`training_parts`).

    `base_width` is the number of channels of the finest maps, a multiple of 4, from which all
    other widths follow: 4, 8 and 16 times as many at the coarser maps, 4 times as many in the
    decoder. The published network has 64; less makes a compact one.
    """

    X_CHANNELS = 1
    AUXILIARY_HEADS = 2
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

    def __init__(self, num_classes: int, base_width: int = 64):
        super().__init__()
        if type(base_width) is not int or base_width < 1 or base_width % 4:
            raise CardError(f'base_width is {base_width!r}, needed is a multiple of 4')
        self.dfe = DFE()
        self.encoder_rgb = ResNet50(base_width=base_width)
        self.encoder_x = ResNet50(self.X_CHANNELS, base_width)
        channels = self.encoder_rgb.channels
        self.fusion = nn.ModuleList(
            Fusion(c, states) for c, states in zip(channels, STATES, strict=True))
        self.decoder = Decoder(channels, num_classes)

    def forward(self, rgb, x):
        return self.forward_with_features(rgb, x)[0]

    def forward_with_features(self, rgb, x):
        """Return logits, and the two maps that auxiliary heads look at."""
        check_inputs(rgb, x, self.X_CHANNELS)
        stages = zip(
            self.encoder_rgb(rgb), self.encoder_x(self.dfe(x)), self.fusion, strict=True)
        logits, features = self.decoder(*[fusion(a, b) for a, b, fusion in stages])
        return resize(logits, rgb.shape[2:]), features

    def training_parts(self, num_classes: int, auxiliary: bool) -> nn.Module | None:
        """Return the auxiliary heads under the authors' names, None where none are trained."""
        if not auxiliary:
            return None
        width = self.encoder_rgb.channels[1]  # that of the decoder
        return AuxiliaryHeads({name: ConvHead(width, num_classes)
                               for name in ('aux_head3', 'aux_head2')})
