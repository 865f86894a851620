# Copyright 2026 rgbx_seg_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""
DiFusionSeg: RGB-thermal segmentation by diffusion, guided by a fused image.

Paper: Wang, He, Zhao, Liu, Zheng, Zhang, "DiFusionSeg", Knowledge-Based Systems 2025, doi
10.1016/j.knosys.2025.114481. Original: warren-wzw/DiFusionSeg, commit 6a4417a. This is an
independent implementation whose parameters map one to one onto the authors' (`RENAMES`); code
under Apache-2.0, the authors' weights under their own terms.

One backbone sees colour and thermal as one image of four channels. Its features make the fused
image; features and fused image are the condition under which a map of noise is turned, in a few
steps, into a map of encoded labels. The original takes one image at a time and draws new noise
for each; here a batch is as many images on their own, and the same frame gives the same mask.
"""

from collections import OrderedDict
import functools
import math

import numpy as np
from rgbx_seg_ros.errors import CardError, FrameError
from rgbx_seg_ros.networks.base import Network
from rgbx_seg_ros.networks.convnext import ConvNeXt
from rgbx_seg_ros.networks.difusionseg_training import ConvNormHead, DenoisingTraining
from rgbx_seg_ros.networks.layers import (
    at_least_float32,
    check_inputs,
    resize,
    Tables,
    to_map,
    to_tokens,
)
from rgbx_seg_ros.networks.operators import deformable_sampling
import torch
from torch import nn
from torch.nn import functional as F

STRIDE = 4
NORM_GROUPS = 32
HEADS = 8
POINTS = 4
BIT_SCALE = 0.01
"""Encoded labels lie between this and its negative."""
VARIANTS = ('msrs', 'mfd', 'fmb')


class ConvNorm(nn.Sequential):
    """A convolution without bias and a group norm."""

    def __init__(self, in_channels: int, channels: int, kernel: int):
        super().__init__(OrderedDict(
            conv=nn.Conv2d(in_channels, channels, kernel, padding=kernel // 2, bias=False),
            gn=nn.GroupNorm(NORM_GROUPS, channels)))


class Neck(nn.Module):
    """A feature pyramid whose four levels are merged at the finest size, (N, width, h, w)."""

    def __init__(self, channels, width: int):
        super().__init__()
        self.lateral_convs = nn.ModuleList(ConvNorm(c, width, 1) for c in channels)
        self.fpn_convs = nn.ModuleList(ConvNorm(width, width, 3) for _ in channels)
        self.merge = ConvNorm(width * len(channels), width, 1)

    def forward(self, maps):
        maps = [conv(x) for conv, x in zip(self.lateral_convs, maps, strict=True)]
        for i in range(len(maps) - 1, 0, -1):
            finer = maps[i - 1]
            maps[i - 1] = finer + F.interpolate(maps[i], size=finer.shape[2:])  # nearest
        levels = [conv(x) for conv, x in zip(self.fpn_convs, maps, strict=True)]
        size = levels[0].shape[2:]
        return self.merge(torch.cat([resize(level, size) for level in levels], dim=1))


def conv_bn_relu(in_channels: int, channels: int, kernel: int, **arguments) -> list[nn.Module]:
    """Return a convolution with bias that keeps the size, a batch norm and a ReLU."""
    padding = kernel // 2 * arguments.get('dilation', 1)
    return [
        nn.Conv2d(in_channels, channels, kernel, padding=padding, **arguments),
        nn.BatchNorm2d(channels),
        nn.ReLU(inplace=True),
    ]


class TextureFusion(nn.Module):
    """
    The fused image (N, 3, H, W), 0..1 and in BGR order, of a feature and the two images.

    The feature (N, feature_width, H/4, W/4) says what is where; the texture comes from the images
    (N, 4, H, W) at full size, where the widest map has `width` channels.
    """

    def __init__(self, feature_width: int, width: int):
        super().__init__()
        half, quarter = width // 2, width // 4
        self.low_conv1 = nn.Sequential(
            nn.Conv2d(feature_width, half, 3, padding=1, groups=half),
            *conv_bn_relu(half, half, 1))
        self.dilated_conv = nn.Sequential(*conv_bn_relu(half, half, 3, dilation=2))
        self.low_conv2 = nn.Sequential(*conv_bn_relu(half, quarter, 3))
        self.grouped_conv = nn.Sequential(*conv_bn_relu(quarter, quarter, 3, groups=2))
        self.fusion_conv = nn.Sequential(*conv_bn_relu(half + quarter, half, 1))
        self.high_conv = nn.Sequential(
            *conv_bn_relu(4, quarter, 3), *conv_bn_relu(quarter, half, 3))
        self.cross_fusion = nn.Sequential(
            *conv_bn_relu(width, width, 3), *conv_bn_relu(width, half, 1))
        self.output_conv = nn.Sequential(
            *conv_bn_relu(half, quarter, 3), nn.Conv2d(quarter, 3, 3, padding=1), nn.Sigmoid())
        self.se_block = nn.Sequential(
            nn.AdaptiveAvgPool2d(1), nn.Conv2d(3, 16, 1), nn.ReLU(inplace=True),
            nn.Conv2d(16, 3, 1), nn.Sigmoid())

    def forward(self, feature, images):
        low = self.low_conv1(feature)
        low = torch.cat((self.dilated_conv(low), self.grouped_conv(self.low_conv2(low))), dim=1)
        low = resize(self.fusion_conv(low), images.shape[2:])
        both = torch.cat((low, self.high_conv(images)), dim=1)
        out = self.output_conv(self.cross_fusion(both))
        return out * self.se_block(out)


class PairConv(nn.Module):
    """
    A 1x1 convolution of two maps laid upon each other, of which the first may be kept.

    `forward(self.first(a), b)` is the convolution of `a` and `b`, each (N, width, h, w).
    """

    def __init__(self, width: int):
        super().__init__()
        self.conv = nn.Conv2d(2 * width, width, 1)

    def first(self, a):
        return F.conv2d(a, self.conv.weight[:, :len(self.conv.weight)], self.conv.bias)

    def forward(self, first, b):
        return first + F.conv2d(b, self.conv.weight[:, len(self.conv.weight):])


class Fourier(nn.Module):
    """A log-SNR (N,) and its sines and cosines at eight learnt frequencies: (N, 17)."""

    def __init__(self):
        super().__init__()
        self.weights = nn.Parameter(torch.randn(8))

    def forward(self, log_snr):
        log_snr = log_snr[:, None]  # float32, as angles in half precision are no angles
        angle = log_snr * at_least_float32(self.weights) * 2 * math.pi
        return torch.cat((log_snr, angle.sin(), angle.cos()), dim=1).to(self.weights.dtype)


def sine_positions(channels: int, height: int, width: int) -> torch.Tensor:
    """Return the position encoding of each pixel, (L, C) float32: half its row, half column."""
    quarter = channels // 4
    divisor = 10000.0 ** (torch.arange(quarter, dtype=torch.float32) / quarter)
    axes = [(torch.arange(side, dtype=torch.float32) + 0.5) / (side + 1e-6) * (2 * math.pi)
            for side in (height, width)]
    angles = torch.stack(torch.meshgrid(*axes, indexing='ij'), dim=-1)[..., None] / divisor
    return torch.stack((angles.sin(), angles.cos()), dim=-1).reshape(-1, channels)


def pixel_centres(height: int, width: int) -> torch.Tensor:
    """Return the centre of each pixel, (L, 2) float32: x and y in pixels."""
    y, x = torch.meshgrid(torch.arange(height) + 0.5, torch.arange(width) + 0.5, indexing='ij')
    return torch.stack((x, y), dim=-1).flatten(0, 1)


def extent(height: int, width: int) -> torch.Tensor:
    """Return the size of a map in the order of coordinates, (2,) float32."""
    return torch.tensor((width, height), dtype=torch.float32)


class DeformableAttention(nn.Module):
    """
    Self-attention to four points around each pixel, whose places depend on it, and a residual.

    Zhu et al., "Deformable DETR", ICLR 2021, on one scale. The position encoding helps to choose
    the points and their weights, and is no part of what is read there.
    """

    def __init__(self, width: int):
        super().__init__()
        self.sampling_offsets = nn.Linear(width, HEADS * POINTS * 2)
        self.attention_weights = nn.Linear(width, HEADS * POINTS)
        self.value_proj = nn.Linear(width, width)
        self.output_proj = nn.Linear(width, width)
        self.centres = Tables(pixel_centres)
        self.extent = Tables(extent)

    def forward(self, tokens, positions, size):  # N L C, L C
        query = tokens + positions
        offsets = self.sampling_offsets(query).unflatten(-1, (HEADS, POINTS, 2))
        weights = self.attention_weights(query).unflatten(-1, (HEADS, POINTS)).softmax(dim=-1)
        value = to_map(self.value_proj(tokens), size).unflatten(1, (HEADS, -1))  # N h d H W
        # Half precision would place a point no better than a tenth of a pixel.
        centres = self.centres(tokens.device, *size)[:, None, None]  # L 1 1 2
        places = (centres + at_least_float32(offsets)) / self.extent(tokens.device, *size)
        return tokens + self.output_proj(deformable_sampling(value, places, weights))

    def init_(self):
        """Let head k look in the direction k / 8 of a full turn, point p by p pixels."""
        turn = torch.arange(HEADS, dtype=torch.float32) * (2 * math.pi / HEADS)
        compass = torch.stack((turn.cos(), turn.sin()), dim=-1)  # h 2
        compass = compass / compass.abs().amax(dim=-1, keepdim=True)
        points = compass[:, None] * torch.arange(1, POINTS + 1)[:, None]  # h points 2
        for linear in (self.sampling_offsets, self.attention_weights):
            nn.init.zeros_(linear.weight)
            nn.init.zeros_(linear.bias)
        with torch.no_grad():
            self.sampling_offsets.bias.copy_(points.flatten())
        for linear in (self.value_proj, self.output_proj):
            nn.init.zeros_(linear.bias)


class FeedForward(nn.Module):
    """Two linear layers with a GELU between them, and a residual."""

    def __init__(self, width: int):
        super().__init__()
        self.fc1 = nn.Linear(width, 4 * width)
        self.fc2 = nn.Linear(4 * width, width)

    def forward(self, tokens):
        return tokens + self.fc2(F.gelu(self.fc1(tokens)))


class EncoderLayer(nn.Module):
    """Attention and feed-forward, each with its norm, then scale and shift by the time."""

    def __init__(self, width: int):
        super().__init__()
        self.attention = DeformableAttention(width)
        self.norm1 = nn.LayerNorm(width)
        self.ffn = FeedForward(width)
        self.norm2 = nn.LayerNorm(width)
        self.modulation = nn.Linear(4 * width, 2 * width)

    def forward(self, tokens, positions, size, time):  # N L C, L C, (h, w), N 4C
        tokens = self.norm1(self.attention(tokens, positions, size))
        tokens = self.norm2(self.ffn(tokens))
        scale, shift = self.modulation(F.silu(time))[:, None].chunk(2, dim=-1)  # N 1 C
        return tokens * (scale + 1) + shift


class Head(nn.Module):
    """Encoder layers and a classifier: (N, width, h, w) and the time (N, 4·width) to logits."""

    def __init__(self, num_classes: int, width: int, layers: int, depthwise: bool):
        super().__init__()
        self.positions = Tables(functools.partial(sine_positions, width))
        self.layers = nn.ModuleList(EncoderLayer(width) for _ in range(layers))
        self.conv_seg = nn.Conv2d(width, num_classes, 1)
        if depthwise:
            self.conv_seg = nn.Sequential(OrderedDict(
                depthwise=nn.Conv2d(width, width, 1, groups=width), pointwise=self.conv_seg))
        for parameter in self.parameters():
            if parameter.dim() > 1:
                nn.init.xavier_uniform_(parameter)
        for layer in self.layers:
            layer.attention.init_()

    def forward(self, x, time):
        size = x.shape[2:]
        positions = self.positions(x.device, *size).to(x.dtype)
        tokens = to_tokens(x)
        for layer in self.layers:
            tokens = layer(tokens, positions, size, time)
        return self.conv_seg(to_map(tokens, size))


def cosine_log_snr(t: torch.Tensor) -> torch.Tensor:
    """Return the log of the signal-to-noise ratio at the times `t`, 0 (clean) to 1 (noise)."""
    ratio = torch.cos((t + 0.0002) / (1 + 0.00025) * math.pi * 0.5) ** -2 - 1
    return -torch.log(ratio.clamp(min=1e-5))


def amplitudes(log_snr: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the factors of the encoded labels and of the noise in a map at `log_snr`."""
    return log_snr.sigmoid().sqrt(), (-log_snr).sigmoid().sqrt()


def sampling_schedule(steps: int) -> torch.Tensor:
    """
    Return (steps, 5) float32: log-SNR, then both amplitudes at it and at the time stepped to.

    A step goes as far as two would (a time difference of 1), although the next one begins only
    one further: the original does so on purpose.
    """
    step = torch.arange(steps, dtype=torch.float64)
    now = cosine_log_snr((1 - step / steps).float())
    after = cosine_log_snr((1 - (step + 2) / steps).clamp(min=0).float())
    return torch.stack((now, *amplitudes(now), *amplitudes(after)), dim=1)


def noise_map(seed: int, channels: int, height: int, width: int) -> torch.Tensor:
    """Return standard normal noise, (1, C, height, width) float32, the same everywhere."""
    # NumPy's generator: an export takes what it gives for a constant, and would record a draw
    # from PyTorch's as an operation, to be done anew in every run.
    noise = np.random.RandomState(seed).standard_normal((1, channels, height, width))
    return torch.from_numpy(noise.astype(np.float32))


class DiFusionSeg(Network):
    """
    DiFusionSeg for `num_classes` classes.

    `forward(rgb, x)` takes two normalised float maps, (N, 3, H, W) in RGB order and (N, 1, H, W),
    each side at least 32, and returns logits (N, num_classes, H, W). `forward_with_fusion` also
    returns the fused image. Where a side is no multiple of 4, zeros are added at the right and
    bottom, and the outputs cropped.

    `variant` is that of the published weights, one of `VARIANTS`; 'mfd' has two layers in its
    classifier. `steps` of sampling may be set at any time and with any weights: each costs 80
    GMAC at 480x640, everything else 295. `seed` is that of the noise which every image starts
    from, if none is given. `drop_path` is the rate of stochastic depth in training.

    `width`, a multiple of 32, is the number of channels of the feature, of the condition, of the
    noise and of an encoded label; `fusion_width`, a multiple of 8 with half of it in `width`, is
    that of the fusion at full size. `layers` is how many encoder layers the head has. Less of the
    three makes a compact network.
    """

    X_CHANNELS = 1
    STRIDE = STRIDE
    FUSES = True
    AUXILIARY_HEADS = 1
    TRAINING_TERMS = ('fusion', 'synergy')
    RENAMES = (
        (r'^backbone\.norm(\d)\.', r'backbone.norms.\1.'),
        (r'^(backbone\..*\.)depthwise_conv\.', r'\1dwconv.'),
        (r'^(backbone\..*\.)pointwise_conv(\d)\.', r'\1pwconv\2.'),
        (r'^neck\.merge\.down\.', 'neck.merge.'),
        (r'^decode_head\.encoder\.', 'decode_head.'),
        (r'\.attentions\.0\.', '.attention.'),
        (r'(\.layers\.\d\.)norms\.0\.', r'\1norm1.'),
        (r'(\.layers\.\d\.)norms\.1\.', r'\1norm2.'),
        (r'\.ffns\.0\.layers\.0\.0\.', '.ffn.fc1.'),
        (r'\.ffns\.0\.layers\.1\.', '.ffn.fc2.'),
        (r'(\.layers\.\d\.)time_mlp\.1\.', r'\1modulation.'),
    )
    UNUSED = (r'^auxiliary_head\.', r'^(fusion|syn)_loss\.')

    def __init__(self, num_classes: int, variant: str = 'msrs', steps: int = 3,
                 backbone: str = 'tiny', seed: int = 2002, drop_path: float = 0.4,
                 width: int = 256, fusion_width: int = 256, layers: int = 6):
        super().__init__()
        if variant not in VARIANTS:
            raise CardError(f'variant is {variant!r}, allowed are: {", ".join(VARIANTS)}')
        if type(width) is not int or width < 1 or width % NORM_GROUPS:
            raise CardError(f'width is {width!r}, needed is a multiple of {NORM_GROUPS}')
        if (type(fusion_width) is not int or fusion_width < 1 or fusion_width % 8
                or width % (fusion_width // 2)):
            raise CardError(f'fusion_width is {fusion_width!r}, needed is a multiple of 8 whose '
                            f'half divides width={width!r}')
        if type(layers) is not int or layers < 1:
            raise CardError(f'layers is {layers!r}, allowed are whole numbers from 1 on')
        self.steps = steps
        self.backbone = ConvNeXt(backbone, 3 + self.X_CHANNELS, drop_path)
        self.neck = Neck(self.backbone.channels, width)
        self.decode_head = Head(num_classes, width, layers, depthwise=variant == 'mfd')
        # The last row stands for pixels without a label, which only training meets.
        self.embedding_table = nn.Embedding(num_classes + 1, width)
        self.transform = PairConv(width)
        self.time_mlp = nn.Sequential(
            Fourier(), nn.Linear(17, 4 * width), nn.GELU(), nn.Linear(4 * width, 4 * width))
        self.fusion = TextureFusion(width, fusion_width)
        self.fusion_down = nn.Sequential(nn.Conv2d(3, width, 3, 4, 1), nn.ReLU(inplace=True))
        self.schedule = Tables(sampling_schedule)
        self.noise = Tables(functools.partial(noise_map, seed, width))

    @property
    def steps(self) -> int:
        """How many steps a forward pass samples in."""
        return self._steps

    @steps.setter
    def steps(self, steps):
        if not isinstance(steps, int) or steps < 1:
            raise CardError(f'steps is {steps!r}, allowed are whole numbers from 1 on')
        self._steps = steps

    def forward(self, rgb, x, noise=None):
        return self.forward_with_fusion(rgb, x, noise)[0]

    def forward_with_fusion(self, rgb, x, noise=None):
        """
        Return logits (N, num_classes, H, W) and the fused image (N, 3, H, W).

        The fused image lies in 0..1 and is in BGR order, as the originals' is. `noise` (N, width,
        H/4, W/4), rounded up, is what the sampling starts from.
        """
        check_inputs(rgb, x, self.X_CHANNELS)
        height, width = rgb.shape[2:]
        images = F.pad(torch.cat((rgb, x), dim=1), (0, -width % STRIDE, 0, -height % STRIDE))
        condition, fused = self.fuse(self.neck(self.backbone(images)), images)
        logits = resize(self.sample(condition, noise), images.shape[2:])
        return logits[:, :, :height, :width], fused[:, :, :height, :width]

    def fuse(self, feature, images):
        """
        Return the condition (N, width, h, w) and the fused image (N, 3, H, W).

        `feature` (N, width, h, w) is what the neck makes of `images` (N, 4, H, W): red, green,
        blue and thermal, with sides that are multiples of 4. The condition is already through its
        half of `transform`, as every step needs it.
        """
        fused = self.fusion(feature, images)
        condition = self.transform(self.transform.first(feature), self.fusion_down(fused))
        return self.transform.first(condition), fused

    def sample(self, condition, noise=None):
        """Return logits (N, num_classes, h, w) under a condition of `fuse`."""
        z = self._noise_for(condition, noise)
        schedule = self.schedule(condition.device, self.steps).unbind(0)
        logits = self.denoise(condition, z, schedule[0][:1])
        # The step to z after the last logits would have no effect.
        for past, now in zip(schedule[:-1], schedule[1:], strict=True):
            signal, noisiness, next_signal, next_noisiness = past[1:].unbind(0)
            encoded = self.encode_labels(logits.argmax(dim=1))
            rest = (z - signal * encoded) / noisiness.clamp(min=1e-8)
            z = next_noisiness * rest + next_signal * encoded
            logits = self.denoise(condition, z, now[:1])
        return logits

    def denoise(self, condition, z, log_snr):
        """Return logits (N, num_classes, h, w) of the noisy map `z` at `log_snr`, (N,) or (1,)."""
        x = self.transform(condition, z.to(condition.dtype))
        return self.decode_head(x, self.time_mlp(log_snr))

    def add_noise(self, labels, t, noise):
        """Return the noisy map of `labels` (N, h, w) at the times `t` (N,), and its log-SNR."""
        log_snr = cosine_log_snr(t)
        signal, noisiness = (part.view(-1, 1, 1, 1) for part in amplitudes(log_snr))
        return signal * self.encode_labels(labels) + noisiness * noise, log_snr

    def encode_labels(self, labels):
        """Return the clean map (N, width, h, w) of `labels` (N, h, w), `num_classes` for none."""
        table = at_least_float32(self.embedding_table.weight)
        table = (table.sigmoid() * 2 - 1) * BIT_SCALE
        return F.embedding(labels, table).permute(0, 3, 1, 2)

    def training_parts(self, num_classes: int, auxiliary: bool) -> nn.Module:
        """Return how this network is trained, with its auxiliary head or without."""
        width = self.embedding_table.embedding_dim
        return DenoisingTraining(ConvNormHead(width, num_classes) if auxiliary else None)

    def _noise_for(self, condition, noise):
        if noise is None:
            return self.noise(condition.device, *condition.shape[2:]).expand(condition.shape)
        if noise.shape != condition.shape:
            raise FrameError(f'noise has the shape {tuple(noise.shape)!r}, needed is '
                             f'{tuple(condition.shape)!r}')
        return at_least_float32(noise)
