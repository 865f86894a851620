# Copyright 2026 rgbx_seg_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""
MDDG: masked dense fusion and a dynamic decoder guided by the deepest map, for RGB-thermal.

Original: mlvccn/MDDG_RGBTSeg, commit 26b8dcf, which runs only after a few completions; no
checkpoint is published. This is an independent implementation whose parameters map one to one
onto the authors' (`RENAMES`); code under Apache-2.0, the authors' weights under their own terms.

The original works at one size of image, because its frequency gate has a weight for every
frequency. Here that size is the argument `freq_size`.
"""

import math

from rgbx_seg_ros.errors import CardError, FrameError
from rgbx_seg_ros.networks.base import Network
from rgbx_seg_ros.networks.layers import (
    at_least_float32,
    check_inputs,
    init_linear_conv_,
    LayerNorm2d,
    resize,
    Tables,
    to_map,
    to_tokens,
    TokenLinear,
    without_autocast,
)
from rgbx_seg_ros.networks.mddg_fusion import FusionBlock
from rgbx_seg_ros.networks.mix_transformer import MIT, MixTransformer
from rgbx_seg_ros.networks.operators.frequency import complex_logistic, RealDFT
from rgbx_seg_ros.networks.training import AuxiliaryHeads, MapHead
import torch
from torch import nn
from torch.nn import functional as F

KERNELS = (13, 7, 5, 5)
FILTERS = 8
LOW_RADIUS = 35
STRIDE = 4
"""Of the map whose size is `freq_size`."""
COARSER = 8
"""Pixels of that map along a side of one of the coarsest."""
MIN_FREQ_SIDE = COARSER * KERNELS[-1]
GROUPS = (8, 8, 16)
"""Of the layers that make the matrices for the three finer maps."""


class StarReLU(nn.Module):
    """`scale` · relu(x)² + `bias`."""

    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.ones(1))
        self.bias = nn.Parameter(torch.zeros(1))

    def forward(self, x):
        x = x.relu()
        return torch.addcmul(self.bias, self.scale * x, x)


def dynamic_linear(weight: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    """
    Multiply each pixel of `x` (N, C, H, W) by the matrix of the cell in which it lies.

    `weight` (N, K·C, p, q) has a matrix (K, C) for each of p x q equal cells, so p and q divide H
    and W; returns (N, K, H, W).
    """
    weight = weight.permute(0, 2, 3, 1).unflatten(-1, (-1, x.shape[1]))  # N p q K C
    p, q = weight.shape[1:3]
    cells = x.permute(0, 2, 3, 1).unflatten(2, (q, -1)).unflatten(1, (p, -1)).transpose(2, 3)
    inside = cells.shape[3:5]  # H/p W/q
    out = cells.flatten(3, 4) @ weight.mT  # N p q (H/p W/q) K
    out = out.unflatten(3, inside).transpose(2, 3).flatten(3, 4).flatten(1, 2)  # N H W K
    return out.permute(0, 3, 1, 2)


class DynamicLinear(nn.Module):
    """
    A linear layer whose matrices are made of a coarse map, one for each of its pixels.

    `forward(coarse, fine)` takes maps (N, `coarse`, p, q) and (N, `fine`, H, W), with H and W
    multiples of p and q, and returns (N, `width`, H, W). `groups` are those of the last layer that
    makes the matrices, `norm` is that of the guide.
    """

    def __init__(self, coarse: int, fine: int, width: int, groups: int, norm: type[nn.Module]):
        super().__init__()
        self.guide = nn.Sequential(
            nn.Conv2d(coarse, width, 1),
            nn.Conv2d(width, width, 3, padding=1, groups=width),
            norm(width),
            StarReLU(),
        )
        self.expand = nn.Conv2d(width, fine * width, 1, groups=groups)

    def multiply(self, guide, fine):
        """Multiply each pixel of `fine` by the matrix made of the pixel of `guide` over it."""
        # With the channels last, a matrix lies in one piece.
        weight = self.expand(guide.contiguous(memory_format=torch.channels_last))
        return dynamic_linear(weight, fine)

    def forward(self, coarse, fine):
        return self.multiply(self.guide(coarse), fine)


class FrequencyFilters(nn.Module):
    """
    A filter (N, C, H, W // 2 + 1) as re, im for each channel: a logistic mix of learned ones.

    The mix is without a softmax, and the logistic function is that of a complex number.
    """

    def __init__(self, size: tuple[int, int]):
        super().__init__()
        height, width = size
        self.complex_weights = nn.Parameter(
            0.02 * torch.randn(height, width // 2 + 1, FILTERS, 2))

    def forward(self, routing):  # N FILTERS C
        routing = at_least_float32(routing).transpose(1, 2)
        weights = self.complex_weights.to(routing.dtype).permute(3, 2, 0, 1)  # 2 FILTERS H F
        a, b = ((routing @ part.flatten(1)).unflatten(-1, part.shape[1:]) for part in weights)
        return complex_logistic(a, b)


def kept_bins(height: int, width: int) -> torch.Tensor:
    """
    Return 1 where a bin of the half spectrum of (height, width) is kept, and 0 elsewhere.

    The disc that is removed was meant for the low frequencies of a shifted spectrum; as the
    original does not shift its own, it lies around the highest frequency of the rows.
    """
    row = torch.arange(height)[:, None] - (height - 1) // 2
    column = torch.arange(width // 2 + 1)
    return (row ** 2 + column ** 2 > LOW_RADIUS ** 2).float()


class FrequencyGate(nn.Module):
    """
    A gate (N, width, H, W) from the spectrum of a map (N, C, H, W), filtered as a guide asks for.

    The disc of bins that is removed does not scale with the map: at sizes below about 50x50
    nothing is left, and the gate is constant.
    """

    def __init__(self, channels: int, width: int, size: tuple[int, int]):
        super().__init__()
        inner = width // 2
        self.routing = nn.Sequential(
            nn.Linear(width, 2 * width),
            nn.GELU(),
            nn.Linear(2 * width, FILTERS * inner),
        )
        self.pwconv1 = nn.Linear(channels, inner)
        self.dft = RealDFT()
        self.filters = FrequencyFilters(size)
        self.kept = Tables(kept_bins)
        self.pwconv2 = nn.Linear(inner, width)

    def forward(self, guide, fine):
        size = fine.shape[2:]
        routing = self.routing(guide.mean(dim=(2, 3))).unflatten(-1, (FILTERS, -1))
        x = to_map(F.gelu(self.pwconv1(to_tokens(fine))), size)
        with without_autocast(x):  # a spectrum sums all pixels
            re, im = self.dft(x)  # N C H F
            gain_re, gain_im = (
                gain * self.kept(x.device, *size) for gain in self.filters(routing))
            x = self.dft.inverse(
                re * gain_re - im * gain_im, re * gain_im + im * gain_re, size[1]).to(x.dtype)
        return to_map(self.pwconv2(to_tokens(x)), size)


class FrequencyGatedLinear(DynamicLinear):
    """A dynamic linear layer, gated by what a filter leaves of the fine map's spectrum."""

    def __init__(self, coarse: int, fine: int, width: int, groups: int, size: tuple[int, int]):
        super().__init__(coarse, fine, width, groups, LayerNorm2d)
        self.gate = FrequencyGate(fine, width, size)

    def forward(self, coarse, fine):
        guide = self.guide(coarse)
        value = self.multiply(guide, fine)
        return torch.addcmul(value, value, self.gate(guide, fine))


class MapFusion(nn.Module):
    """
    Bring maps to the size of the first one, concatenate them and convolve them to one width.

    A 1x1 convolution and a resize change places, so each map is convolved at its own size.
    """

    def __init__(self, maps: int, width: int):
        super().__init__()
        self.conv = nn.Conv2d(maps * width, width, 1, bias=False)
        self.bn = nn.BatchNorm2d(width)

    def forward(self, *maps):
        size = maps[0].shape[2:]
        weights = self.conv.weight.flatten(1).split(len(self.conv.weight), dim=1)
        out = None
        for x, weight in zip(maps, weights, strict=True):
            x = resize(to_map(F.linear(to_tokens(x), weight), x.shape[2:]), size)
            out = x if out is None else out + x
        return self.bn(out).relu()


class DynamicDecoder(nn.Module):
    """Bring four maps to one width, all but the coarsest under its guidance, and fuse them."""

    def __init__(self, channels, width: int, freq_size: tuple[int, int], num_classes: int):
        super().__init__()
        (c1, c2, c3, c4), (g1, g2, g3) = channels, GROUPS
        self.sdd1 = FrequencyGatedLinear(c4, c1, width, g1, freq_size)
        self.sdd2 = DynamicLinear(c4, c2, width, g2, nn.BatchNorm2d)
        self.sdd3 = DynamicLinear(c4, c3, width, g3, nn.BatchNorm2d)
        self.linear_c4 = TokenLinear(c4, width)
        self.linear_fuse = MapFusion(4, width)
        self.dropout = nn.Dropout2d(0.1)
        self.linear_pred = nn.Conv2d(width, num_classes, 1)

    def forward(self, f1, f2, f3, f4):
        fused = self.linear_fuse(
            self.sdd1(f4, f1), self.sdd2(f4, f2), self.sdd3(f4, f3), self.linear_c4(f4))
        return self.linear_pred(self.dropout(fused))


class MDDG(Network):
    """
    MDDG for `num_classes` classes.

    `forward(rgb, x)` takes two normalised float maps (N, 3, H, W) and returns logits (N,
    num_classes, H, W). `variant` is the size of the RGB encoder, b0 to b5; that of X is b0 with b0
    and b1 with all others. `freq_size` (rows, columns) is a quarter of the size of the images,
    rounded up, both multiples of 8 and at least 40. The published model has variant b2 or b4 and
    takes 480x640.

    `decoder_width`, a multiple of 16, is the number of channels in the decoder. The scans over
    channels have `scan_states` states, and `scan_ratios` times as many channels as the stage. Less
    of these, and b0, make a compact model.
    """

    X_CHANNELS = 3
    AUXILIARY_HEADS = 2
    RENAMES = (
        (r'^backbone\.extra_mit\.0\.', 'encoder_x.'),
        (r'^backbone\.fusion_block\.CML_block\.(\d)\.', r'fusion.\1.cross.'),
        (r'^backbone\.fusion_block\.Mamba_block\.(\d)\.', r'fusion.\1.mamba.'),
        (r'^backbone\.fusion_block\.mix_ffn\.(\d)\.', r'fusion.\1.mix_ffn.'),
        (r'^backbone\.fusion_block\.channel_attns\.(\d)\.', r'fusion.\1.channel_attn.'),
        (r'^backbone\.fusion_block\.norm_block\.(\d)\.', r'fusion.\1.norm.'),
        (r'^backbone\.fusion_block\.liner_fusion_layers\.(\d)\.', r'fusion.\1.linear.'),
        (r'^backbone\.', 'encoder_rgb.'),
        (r'^(fusion\.\d\.cross)\.rgb_', r'\1.rgb.'),
        (r'^(fusion\.\d\.cross)\.th_', r'\1.x.'),
        (r'(cross\.\w+\.mlp)\.fc1\.', r'\1.0.'),
        (r'(cross\.\w+\.mlp)\.fc2\.', r'\1.2.'),
        (r'\.gate_mlp\.', '.gate.'),
        (r'(mamba)\.op\.(in_proj|out_proj|conv2d)_modalx\.', r'\1.scan.x.\2.'),
        (r'(mamba)\.op\.(in_proj|conv2d)\.', r'\1.scan.rgb.\2.'),
        (r'(mamba)\.op\.out_proj_rgb\.', r'\1.scan.rgb.out_proj.'),
        (r'(mamba)\.op\.out_norm1\.', r'\1.scan.rgb.out_norm.'),
        (r'(mamba)\.op\.out_norm2\.', r'\1.scan.x.out_norm.'),
        (r'(mamba)\.op\.', r'\1.scan.'),
        (r'\.conv2d\.', '.conv.'),
        (r'(mamba)\.(in_norm|norm)1\.', r'\1.rgb.\2.'),
        (r'(mamba)\.(in_norm|norm)2\.', r'\1.x.\2.'),
        (r'(mamba)\.mlp_rgb\.', r'\1.rgb.mlp.'),
        (r'(mamba)\.mlp_e\.', r'\1.x.mlp.'),
        (r'(mamba\.\w+\.mlp)\.fc1\.', r'\1.0.'),
        (r'(mamba\.\w+\.mlp)\.fc2\.', r'\1.3.'),
        (r'(mix_ffn\.dwconv\d)\.dwconv\.', r'\1.'),
        (r'(mix_ffn\.pwconv\d)\.pwconv\.', r'\1.0.'),
        (r'(mix_ffn\.pwconv\d)\.bn\.', r'\1.1.'),
        (r'^decode_head\.WeightGenerator_0\.', 'decoder.sdd1.'),
        (r'^decode_head\.WeightGenerator_1\.', 'decoder.sdd2.'),
        (r'^decode_head\.WeightGenerator_2\.', 'decoder.sdd3.'),
        (r'^decode_head\.', 'decoder.'),
        (r'\.feature_fuse\.', '.guide.'),
        (r'\.channle_expand\.', '.expand.'),
        (r'(sdd1)\.complex_weights$', r'\1.gate.filters.complex_weights'),
        (r'(sdd1)\.(pwconv\d)\.', r'\1.gate.\2.'),
        (r'(sdd1)\.reweight\.fc1\.', r'\1.gate.routing.0.'),
        (r'(sdd1)\.reweight\.fc2\.', r'\1.gate.routing.2.'),
    )
    UNUSED = (r'^Aux_head\d\.',)

    def __init__(self, num_classes: int, variant: str = 'b2',
                 freq_size: tuple[int, int] = (120, 160), decoder_width: int = 256,
                 scan_states: int = 12, scan_ratios: tuple[int, ...] = (4, 4, 2, 2)):
        super().__init__()
        self.freq_size, self.decoder_width = _checked(freq_size), decoder_width
        multiple = math.lcm(*GROUPS)
        if not _counts(decoder_width) or decoder_width % multiple:
            raise CardError(
                f'decoder_width is {decoder_width!r}, needed is a multiple of {multiple}')
        if not _counts(scan_states):
            raise CardError(f'scan_states is {scan_states!r}, allowed are whole numbers from 1 on')
        if not (isinstance(scan_ratios, (list, tuple)) and len(scan_ratios) == len(KERNELS)
                and all(map(_counts, scan_ratios))):
            raise CardError(f'scan_ratios is {scan_ratios!r}, needed are {len(KERNELS)} whole '
                            'numbers from 1 on, one for each stage')
        self.encoder_rgb = MixTransformer(variant)
        channels = self.encoder_rgb.channels
        self.encoder_x = MixTransformer(
            next(name for name, (_, widths) in MIT.items() if widths == channels))
        self.fusion = nn.ModuleList(
            FusionBlock(c, kernel, ratio, scan_states)
            for c, kernel, ratio in zip(channels, KERNELS, scan_ratios, strict=True))
        self.decoder = DynamicDecoder(channels, decoder_width, self.freq_size, num_classes)
        init_linear_conv_(self)
        for encoder in (self.encoder_rgb, self.encoder_x):
            # Of an image that is zero throughout, as that of a lost sensor, nothing but zeros
            # would reach the layer norms, whose gradients there multiply to infinity.
            nn.init.normal_(encoder.patch_embed1.proj.bias, std=0.1)

    def forward(self, rgb, x):
        return self.forward_with_features(rgb, x)[0]

    def forward_with_features(self, rgb, x):
        """
        Return logits, and the maps that auxiliary heads look at.

        Those are the four of RGB after each fusion and, as in the original, the four of X before.
        """
        check_inputs(rgb, x)
        size = rgb.shape[2:]
        self._check_size(rgb)
        fused, features_rgb, features_x = [], [], []
        for i, fusion in enumerate(self.fusion):
            features_x.append(self.encoder_x(x, i))
            out, rgb, x = fusion(self.encoder_rgb(rgb, i), features_x[-1])
            fused.append(out)
            features_rgb.append(rgb)
        return resize(self.decoder(*fused), size), (features_rgb, features_x)

    def training_parts(self, num_classes: int, auxiliary: bool) -> nn.Module | None:
        """Return the auxiliary heads under the authors' names, None where none are trained."""
        if not auxiliary:
            return None
        width = 2 * self.decoder_width  # the authors' 512 beside their decoder of 256
        return AuxiliaryHeads({name: MapHead(self.encoder_rgb.channels, num_classes, width)
                               for name in ('Aux_head1', 'Aux_head2')})

    def _check_size(self, rgb):
        if torch.jit.is_tracing():
            return
        allowed = [(STRIDE * (side - 1) + 1, STRIDE * side) for side in self.freq_size]
        if not all(low <= side <= high
                   for side, (low, high) in zip(rgb.shape[2:], allowed, strict=True)):
            (h_low, h_high), (w_low, w_high) = allowed
            raise FrameError(
                f'rgb has the shape {tuple(rgb.shape)!r}: this network takes a height of '
                f'{h_low} to {h_high} and a width of {w_low} to {w_high} only, a quarter of '
                f'which is freq_size={self.freq_size!r} in the network_args of its card; resize '
                'the images')


def _counts(number) -> bool:
    return type(number) is int and number > 0


def _checked(freq_size) -> tuple[int, int]:
    """Return `freq_size`, a pair that may come from YAML, as a tuple or raise CardError."""
    if not (isinstance(freq_size, (list, tuple)) and len(freq_size) == 2
            and all(type(side) is int and side >= MIN_FREQ_SIDE and side % COARSER == 0
                    for side in freq_size)):
        raise CardError(
            f'freq_size is {freq_size!r}, needed are two multiples of {COARSER}, each at least '
            f'{MIN_FREQ_SIDE}: a quarter of the height and of the width of the images')
    return tuple(freq_size)
