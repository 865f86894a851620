# Copyright 2026 rgbx_seg_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""
Parts that several networks share.

Shapes: N batch, C channels, H W height and width, L = H·W tokens in row-major order, h heads,
d channels per head.
"""

import contextlib

from rgbx_seg_ros.errors import FrameError
from rgbx_seg_ros.networks.base import Foldable
import torch
from torch import nn
from torch.nn import functional as F

MIN_SIDE = 32
"""Shortest side of an input in pixels: the coarsest maps have a stride of 32."""


def check_inputs(rgb: torch.Tensor, x: torch.Tensor, x_channels: int = 3) -> None:
    """Raise FrameError unless `rgb` (N, 3, H, W) and `x` (N, x_channels, H, W) are float maps."""
    if torch.jit.is_tracing():  # sizes are tensors there, and a branch on one cannot be traced
        return
    for name, image, channels in (('rgb', rgb, 3), ('x', x, x_channels)):
        if image.dim() != 4 or image.shape[1] != channels:
            raise FrameError(
                f'{name} has the shape {tuple(image.shape)!r}, needed is (N, {channels}, H, W)')
        if min(image.shape[2:]) < MIN_SIDE:
            raise FrameError(
                f'{name} has the shape {tuple(image.shape)!r}: a side is shorter than '
                f'{MIN_SIDE} pixels, resize or pad it')
        if not image.is_floating_point():
            raise FrameError(
                f'{name} is {image.dtype}, needed are normalised floating-point values')
    if rgb.shape[:1] + rgb.shape[2:] != x.shape[:1] + x.shape[2:]:
        raise FrameError(
            f'rgb has the shape {tuple(rgb.shape)!r}, but x {tuple(x.shape)!r}: both need the '
            'same number and size, resize one of them')


def to_tokens(x: torch.Tensor) -> torch.Tensor:
    """Turn a map (N, C, H, W) into tokens (N, L, C)."""
    return x.flatten(2).transpose(1, 2)


def to_map(tokens: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
    """Turn tokens (N, L, C) into a map (N, C, H, W) of `size` (H, W)."""
    return tokens.transpose(1, 2).unflatten(2, size)


def resize(x: torch.Tensor, size: tuple[int, int], align_corners: bool = False) -> torch.Tensor:
    """Resize a map (N, C, H, W) bilinearly to `size` (H, W)."""
    return F.interpolate(x, size=size, mode='bilinear', align_corners=align_corners)


def at_least_float32(x: torch.Tensor) -> torch.Tensor:
    """Return `x` in float32 or wider: for sums over all pixels, which leave the range of fp16."""
    return x if x.dtype == torch.float64 else x.float()


def without_autocast(x: torch.Tensor):
    """Return a context in which autocast leaves the precision on the device of `x` alone."""
    if x.is_meta:  # the one device that autocast does not know
        return contextlib.nullcontext()
    return torch.autocast(x.device.type, enabled=False)


def init_linear_conv_(module: nn.Module) -> None:
    """
    Initialise the linear layers, 2-D convolutions and layer norms of `module`, once.

    Linear: truncated normal of 0.02; convolution: normal of sqrt(2 / fan-out); biases zero.
    """
    for part in module.modules():
        if isinstance(part, nn.Linear):
            nn.init.trunc_normal_(part.weight, std=0.02)
        elif isinstance(part, nn.Conv2d):
            fan_out = part.weight[0, 0].numel() * part.out_channels // part.groups
            nn.init.normal_(part.weight, std=(2.0 / fan_out) ** 0.5)
        elif isinstance(part, nn.LayerNorm):
            nn.init.ones_(part.weight)
        else:
            continue
        if part.bias is not None:
            nn.init.zeros_(part.bias)


class Tables(nn.Module):
    """
    Constant tensors that depend on a size, such as position encodings: each computed once.

    `compute(*size)` makes a tensor on the CPU, whose results are the same on every machine; the
    last few are kept by size and device, so a run at a known size computes nothing and copies
    nothing to the device, not even inside a CUDA graph. Run a network once before an export, and
    its tables are constants of the exported graph. They are no buffers: a cast of the network to
    half precision would round them, and a state dict would hold them.
    """

    KEPT = 4

    def __init__(self, compute):
        super().__init__()
        self._compute = compute
        self._kept = {}

    def forward(self, device: torch.device, *size: int) -> torch.Tensor:
        """Return the table of `size` on `device`."""
        key = (device, *map(int, size))  # a size is a tensor in torch.jit.trace
        if key in self._kept:
            return self._kept[key]
        # A tensor made in inference mode could not serve a later training step.
        with torch.inference_mode(False), torch.device('cpu'):
            table = self._compute(*key[1:])
        table = table.to(device)
        if not torch.compiler.is_compiling():  # a traced tensor is good for its trace alone
            while len(self._kept) >= self.KEPT:
                del self._kept[next(iter(self._kept))]
            self._kept[key] = table
        return table


def pointwise(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
    """Multiply each pixel of a map (N, C, H, W) in channels-last order by `weight` (K, C)."""
    if x.device.type == 'cpu':  # oneDNN is a tenth faster than a matrix product and adds the bias
        return F.conv2d(x, weight[:, :, None, None], bias)
    return F.linear(x.permute(0, 2, 3, 1), weight, bias).permute(0, 3, 1, 2)


def norm_affine(norm: nn.BatchNorm2d) -> tuple[torch.Tensor, torch.Tensor]:
    """Return scale and shift, (C,) float64, which are all that a batch norm does in eval mode."""
    scale = (norm.running_var.double() + norm.eps).rsqrt() * norm.weight.double()
    return scale, norm.bias.double() - norm.running_mean.double() * scale


def absorb(conv: nn.Conv2d, norm: nn.BatchNorm2d) -> None:
    """Let `conv` do what `norm`, in eval mode, does to its output."""
    scale, shift = norm_affine(norm)
    if conv.bias is not None:
        shift = shift + conv.bias * scale
    conv.weight.data = (conv.weight * scale[:, None, None, None]).float()
    conv.bias = nn.Parameter(shift.float())


class ResizedSum(nn.Module):
    """
    The ReLU of a 1x1 convolution of maps that were resized to the first one and concatenated.

    A 1x1 convolution and a resize change places, as the weights of a resize add up to 1. So each
    map is convolved at its own size: `weights` has a matrix (K, C_i) for each, `bias` is (K,).
    `forward` takes maps (N, C_i, H_i, W_i) and returns (N, K, H_0, W_0).
    """

    def __init__(self, weights, bias: torch.Tensor):
        super().__init__()
        self.convs = nn.ModuleList()
        for i, weight in enumerate(weights):
            width, channels = weight.shape
            conv = nn.Conv2d(channels, width, 1, bias=i == 0, device='meta')
            conv.weight = nn.Parameter(weight[:, :, None, None].float())
            self.convs.append(conv)
        self.convs[0].bias = nn.Parameter(bias.float())

    def forward(self, *maps):
        out, *coarser = (conv(x) for conv, x in zip(self.convs, maps, strict=True))
        for x in coarser:
            out += resize(x, out.shape[2:])
        return out.relu_()


class DropPath(nn.Module):
    """
    Stochastic depth: drop the branch of a residual in training, for each sample by itself.

    `share` is the probability. The branches that stay are scaled up for those that do not.
    """

    def __init__(self, share: float):
        super().__init__()
        self.share = share

    def forward(self, x):  # N ...
        if not self.training or self.share == 0.0:
            return x
        kept = 1.0 - self.share
        mask = x.new_empty(x.shape[:1] + (1,) * (x.dim() - 1))
        return x * (mask.bernoulli_(kept) / kept)


class LayerNorm2d(nn.LayerNorm):
    """Layer norm over the channels of each pixel of a map (N, C, H, W)."""

    def forward(self, x):
        return super().forward(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


class TokenLinear(nn.Module):
    """A linear layer on the channels of every pixel: (N, C, H, W) to (N, K, H, W)."""

    def __init__(self, in_channels: int, out_channels: int):
        super().__init__()
        self.proj = nn.Linear(in_channels, out_channels)

    def forward(self, x):
        return to_map(self.proj(to_tokens(x)), x.shape[2:])


class CrossModalAttention(Foldable):
    """
    Linear-cost attention in which each modality is read through the other's context.

    A context (N, h, d, d) is the softmax over the key channels of kᵀq/√d, summed over all tokens;
    the tokens of one modality are multiplied with the context of the other. The operand is the
    input itself: there is no value projection. Used by MS-IRTNet's FIIM and RXSSNet's LAM.
    """

    def __init__(self, channels: int, heads: int):
        super().__init__()
        self.heads = heads
        self.scale = (channels // heads) ** -0.5
        # Named kv in the published weights, although the halves act as key and query.
        self.kv1 = nn.Linear(channels, 2 * channels, bias=False)
        self.kv2 = nn.Linear(channels, 2 * channels, bias=False)

    def _context(self, tokens, projection):
        key, query = projection(tokens).unflatten(-1, (2, self.heads, -1)).unbind(2)  # N L h d
        # The sum over all pixels exceeds fp16's 65504, so it never runs in half precision.
        with without_autocast(tokens):
            key, query = at_least_float32(key), at_least_float32(query)
            score = key.permute(0, 2, 3, 1) @ query.transpose(1, 2) * self.scale  # N h d d
            return score.softmax(dim=-2)

    def forward(self, u1, u2):
        """Return v1, v2: each of `u1`, `u2` (N, L, C) read through the other's context."""
        context1, context2 = self._context(u1, self.kv1), self._context(u2, self.kv2)
        return self._read(u1, context2), self._read(u2, context1)

    def _read(self, tokens, context):
        split = tokens.unflatten(-1, (self.heads, -1)).transpose(1, 2)  # N h L d
        return (split @ context.to(split.dtype)).transpose(1, 2).flatten(2)  # N L C

    def folded(self) -> nn.Module:
        """Return the same attention with the sum over the tokens before the projections."""
        with torch.device('meta'):
            folded = GramAttention(self.kv1.in_features, self.heads)
        folded.kv1, folded.kv2 = self.kv1, self.kv2
        return folded


class GramAttention(CrossModalAttention):
    """
    What `CrossModalAttention` computes, from the products of the channels alone.

    kᵀq = Kᵀ(uᵀu)Q, where k = uK and q = uQ: the sum over the tokens needs no projection of each,
    which is less work where there are more tokens than channels.
    """

    def _context(self, tokens, projection):
        if tokens.shape[1] <= tokens.shape[2]:
            return super()._context(tokens, projection)
        with without_autocast(tokens):
            tokens = at_least_float32(tokens)
            gram = (tokens.mT @ tokens)[:, None]  # N 1 C C
            weight = at_least_float32(projection.weight)
            key, query = weight.unflatten(0, (2, self.heads, -1)).unbind(0)  # h d C
            return (key @ gram @ query.mT * self.scale).softmax(dim=-2)  # N h d d


class CrossExchange(nn.Module):
    """
    The projections and the attention with which both networks' cross paths begin.

    Each modality's tokens become two halves: y stays, u is read through the other modality.
    """

    def __init__(self, channels: int, heads: int):
        super().__init__()
        self.channel_proj1 = nn.Linear(channels, 2 * channels)
        self.channel_proj2 = nn.Linear(channels, 2 * channels)
        self.cross_attn = CrossModalAttention(channels, heads)

    def exchange(self, x1, x2):
        """Return y1, v1, y2, v2 of the tokens `x1`, `x2` (N, L, C), each of the same shape."""
        y1, u1 = F.relu(self.channel_proj1(x1)).chunk(2, dim=-1)
        y2, u2 = F.relu(self.channel_proj2(x2)).chunk(2, dim=-1)
        v1, v2 = self.cross_attn(u1, u2)
        return y1, v1, y2, v2


class ChannelEmbed(Foldable):
    """A 1x1 - depthwise 3x3 - 1x1 embedding beside a 1x1 residual, normalised after the sum."""

    def __init__(self, channels: int):
        super().__init__()
        self.residual = nn.Conv2d(channels, channels, 1, bias=False)
        self.channel_embed = nn.Sequential(
            nn.Conv2d(channels, channels, 1),
            nn.Conv2d(channels, channels, 3, padding=1, groups=channels),
            nn.ReLU(inplace=True),
            nn.Conv2d(channels, channels, 1),
            nn.BatchNorm2d(channels),
        )
        self.norm = nn.BatchNorm2d(channels)

    def forward(self, x):
        return self.norm(self.residual(x) + self.channel_embed(x))

    def folded(self):
        """Return this with `norm` moved into the two that it normalises."""
        scale, shift = norm_affine(self.norm)
        inner = self.channel_embed[-1]
        self.residual.weight.data = (self.residual.weight * scale[:, None, None, None]).float()
        inner.weight.data = (inner.weight * scale).float()
        inner.bias.data = (inner.bias * scale + shift).float()
        self.norm = nn.Identity()
        return self
