# Copyright 2026 rgbx_seg_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""
RXSSNet: cross-modal reweighting and local-global aggregation for RGB-X segmentation.

Paper: "A Novel RGB-X Semantic Segmentation Network With Cross-Modal Feature Reweighting and
Local-Global Feature Aggregation". Original: poisonzzw/RXSSNet, commit 35a3491. This is an
independent implementation whose parameters map one to one onto the authors' (`RENAMES`); code
under Apache-2.0, the authors' weights under their own terms.

The original takes images of 307 200 pixels only, because the length of its rotary tables is
fixed. Here a table is computed for the tokens that there are, equal bit for bit at that size.
"""

from rgbx_seg_ros.networks.base import Foldable, Network
from rgbx_seg_ros.networks.convnextv2 import ConvNeXtV2
from rgbx_seg_ros.networks.layers import (
    at_least_float32,
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
    without_autocast,
)
import torch
from torch import nn
from torch.nn import functional as F

STRIDES = (4, 8, 16, 32)
LAM_HEADS = (1, 2, 4, 8)
LAM_PATCHES = (7, 3, 3, 3)
CGPI_HEADS = 4


class TokenConv(nn.Conv1d):
    """
    A depthwise convolution over three neighbours in the row-major order of tokens (N, L, C).

    The last pixel of a row and the first of the next one are neighbours, as in the original.
    """

    def __init__(self, channels: int):
        super().__init__(channels, channels, 3, padding=1, groups=channels)

    def forward(self, tokens):
        return super().forward(tokens.transpose(1, 2)).transpose(1, 2)


def rotary_table(length: int, pairs: int) -> torch.Tensor:
    """Return the rotations of the tokens 0..length-1, (length, pairs, 2) float32: cos and sin."""
    exponent = torch.arange(pairs, dtype=torch.float32) / pairs
    theta = 1.0 / torch.pow(10000.0, exponent)
    angle = torch.arange(length, dtype=torch.float32)[:, None] * theta
    return torch.stack((angle.cos(), angle.sin()), dim=-1)


def rotate(tokens: torch.Tensor, table: torch.Tensor) -> torch.Tensor:
    """Rotate each pair of neighbouring channels of `tokens` (N, L, C) by `table` (L, C/2, 2)."""
    even, odd = tokens.unflatten(-1, (-1, 2)).unbind(-1)  # N L C/2
    cos, sin = table.unbind(-1)
    return torch.stack((even * cos - odd * sin, even * sin + odd * cos), dim=-1).flatten(-2)


class LinearAttention(nn.Module):
    """
    Attention whose cost is linear in the tokens, with rotary and local position encoding.

    Han et al., "Demystify Mamba in Vision: A Linear Attention Perspective", NeurIPS 2024. The
    value is the input itself, and the normaliser uses the unrotated queries and keys.
    """

    def __init__(self, channels: int, heads: int = CGPI_HEADS):
        super().__init__()
        self.heads = heads
        self.qk = nn.Linear(channels, 2 * channels)
        self.lepe = TokenConv(channels)
        self.rope = Tables(rotary_table)

    def _split(self, tokens):
        return tokens.unflatten(-1, (self.heads, -1)).transpose(1, 2)  # N h L d

    def forward(self, tokens):  # N L C
        length = tokens.shape[1]
        table = self.rope(tokens.device, length, tokens.shape[-1] // 2)
        query_key = self.qk(tokens)
        # Angles up to L and means over L tokens are beyond half precision.
        with without_autocast(tokens):
            query, key = (F.elu(at_least_float32(query_key)) + 1.0).chunk(2, dim=-1)
            value = self._split(at_least_float32(tokens))
            rotated_query = self._split(rotate(query, table))
            rotated_key = self._split(rotate(key, table))
            query, key = self._split(query), self._split(key)
            weight = query @ key.mean(dim=2, keepdim=True).transpose(2, 3) + 1e-6  # N h L 1
            scale = length ** -0.5
            context = (rotated_key * scale).transpose(2, 3) @ (value * scale)  # N h d d
            out = (rotated_query @ context / weight).transpose(1, 2).flatten(2)  # N L C
        return out.to(tokens.dtype) + self.lepe(tokens)


class MLP(nn.Module):
    """Two linear layers with a GELU between them."""

    def __init__(self, channels: int):
        super().__init__()
        self.fc1 = nn.Linear(channels, 4 * channels)
        self.fc2 = nn.Linear(4 * channels, channels)

    def forward(self, tokens):
        return self.fc2(F.gelu(self.fc1(tokens)))


class GatedAttentionBlock(nn.Module):
    """Mamba-like linear attention (MLLA): gated attention and an MLP on tokens (N, L, C)."""

    def __init__(self, channels: int):
        super().__init__()
        self.cpe1 = TokenConv(channels)
        self.norm1 = nn.LayerNorm(channels)
        self.in_proj = nn.Linear(channels, channels)
        self.act_proj = nn.Linear(channels, channels)
        self.dwc = TokenConv(channels)
        self.attn = LinearAttention(channels)
        self.out_proj = nn.Linear(channels, channels)
        self.cpe2 = TokenConv(channels)
        self.norm2 = nn.LayerNorm(channels)
        self.mlp = MLP(channels)

    def forward(self, tokens):
        tokens = tokens + self.cpe1(tokens)
        normed = self.norm1(tokens)
        gate = F.silu(self.act_proj(normed))
        attended = self.attn(F.silu(self.dwc(self.in_proj(normed))))
        tokens = tokens + self.out_proj(attended * gate)
        tokens = tokens + self.cpe2(tokens)
        return tokens + self.mlp(self.norm2(tokens))


class GlobalPrior(nn.Module):
    """
    CGPI: a global prior of both images, as tokens (N, L, C) on the grid of one encoder stage.

    The strided convolution rounds the grid up and the encoder rounds it down. Where they differ,
    the last row or column of the former, which lies on pixels that no encoder map covers, is
    left out; sides divisible by `stride` have none.
    """

    def __init__(self, channels: int, stride: int):
        super().__init__()
        self.proj = nn.Conv2d(6, channels, 7, stride=stride, padding=3)
        self.mlla = GatedAttentionBlock(channels)
        self.norm = nn.LayerNorm(channels)
        init_linear_conv_(self)

    def forward(self, images, size):  # N 6 H W, (rows, columns) of the encoder's map
        rows, columns = size
        tokens = to_tokens(self.proj(images)[:, :, :rows, :columns])
        return self.norm(self.mlla(tokens))


class CosineReweighting(nn.Module):
    """CRM: strengthen RGB where the modalities agree in a channel, and X where they do not."""

    def forward(self, rgb, x):
        with without_autocast(rgb):  # these are sums over all pixels
            weight = F.cosine_similarity(
                at_least_float32(rgb).flatten(2), at_least_float32(x).flatten(2), dim=2)
        weight = weight.relu().to(rgb.dtype)[:, :, None, None]  # N C 1 1, in [0, 1]
        return weight * rgb + rgb, (1.0 - weight) * x + x


class PatchEmbed(nn.Module):
    """A convolution at stride 1 and a layer norm: a map (N, C, H, W) to tokens (N, L, C)."""

    def __init__(self, channels: int, patch: int):
        super().__init__()
        self.proj = nn.Conv2d(channels, channels, patch, padding=patch // 2)
        self.norm = nn.LayerNorm(channels)

    def forward(self, x):
        return self.norm(to_tokens(self.proj(x)))


class CrossPath(CrossExchange):
    """The token part of LAM: attention across the modalities, each with its own residual."""

    def __init__(self, channels: int, heads: int):
        super().__init__(channels, heads)
        self.end_proj1 = nn.Linear(2 * channels, channels)
        self.end_proj2 = nn.Linear(2 * channels, channels)
        self.end_proj3 = nn.Linear(2 * channels, channels)
        self.norm1 = nn.LayerNorm(channels)
        self.norm2 = nn.LayerNorm(channels)
        self.norm3 = nn.LayerNorm(channels)

    def forward(self, x1, x2):  # N L C
        y1, v1, y2, v2 = self.exchange(x1, x2)
        out1 = self.norm1(x1 + self.end_proj1(torch.cat((y1, v1), dim=-1)))
        out2 = self.norm2(x2 + self.end_proj2(torch.cat((y2, v2), dim=-1)))
        return self.norm3(self.end_proj3(torch.cat((out1, out2), dim=-1)))


class LocalGlobalAggregation(nn.Module):
    """LAM: fuse two maps (N, C, H, W) and the prior's tokens (N, L, C) into one map."""

    def __init__(self, channels: int, heads: int, patch: int):
        super().__init__()
        self.embed_rgb = PatchEmbed(channels, patch)
        self.embed_x = PatchEmbed(channels, patch)
        self.cross = CrossPath(channels, heads)
        self.channel_emb = ChannelEmbed(channels)
        self.norm = nn.LayerNorm(channels)
        init_linear_conv_(self)

    def forward(self, rgb, x, prior):
        size = rgb.shape[2:]
        mixed = self.norm(self.cross(self.embed_rgb(rgb), self.embed_x(x)) + prior)
        refined = to_tokens(self.channel_emb(to_map(mixed, size)))
        return to_map(self.norm(refined + mixed), size)  # the same norm a second time


class ProgressiveDecoder(Foldable):
    """From the coarsest map on: project, resize to the next finer one and fuse with it."""

    def __init__(self, channels, width: int, num_classes: int):
        super().__init__()
        c1, c2, c3, c4 = channels
        self.linear_c4 = TokenLinear(c4, width)
        self.linear_c3 = TokenLinear(width, width)
        self.linear_c2 = TokenLinear(width, width)
        self.linear_fuse43 = self._fuse(width + c3, width)
        self.linear_fuse32 = self._fuse(width + c2, width)
        self.linear_fuse21 = self._fuse(width + c1, width)
        self.dropout = nn.Dropout2d(0.1)
        self.linear_pred = nn.Conv2d(width, num_classes, 1)

    @staticmethod
    def _fuse(in_channels, width):
        return nn.Sequential(
            nn.Conv2d(in_channels, width, 1), nn.BatchNorm2d(width), nn.ReLU(inplace=True))

    def forward(self, f1, f2, f3, f4):
        steps = (
            (f3, self.linear_c4, self.linear_fuse43),
            (f2, self.linear_c3, self.linear_fuse32),
            (f1, self.linear_c2, self.linear_fuse21),
        )
        out = f4
        for finer, linear, fuse in steps:
            out = fuse(torch.cat((resize(linear(out), finer.shape[2:]), finer), dim=1))
        return self.linear_pred(self.dropout(out))

    def folded(self) -> nn.Module:
        """
        Return the same decoder with one matrix from each of the two maps that a step fuses.

        Projection, its part of the fusion and the batch norm are linear, so that they are one. At
        480x640 this takes 21.2 GMAC to 6.3.
        """
        steps = []
        for linear, fuse in ((self.linear_c4, self.linear_fuse43),
                             (self.linear_c3, self.linear_fuse32),
                             (self.linear_c2, self.linear_fuse21)):
            conv, norm = fuse[:2]
            scale, shift = norm_affine(norm)
            weight = scale[:, None] * conv.weight.flatten(1)
            resized, finer = weight.split(
                (conv.out_channels, conv.in_channels - conv.out_channels), dim=1)
            bias = shift + scale * conv.bias + resized @ linear.proj.bias.double()
            steps.append(ResizedSum((finer, resized @ linear.proj.weight.double()), bias))
        return FoldedDecoder(steps, self.linear_pred)


class FoldedDecoder(nn.Module):
    """What `ProgressiveDecoder` computes, after folding."""

    def __init__(self, steps, linear_pred: nn.Conv2d):
        super().__init__()
        self.steps = nn.ModuleList(steps)
        self.linear_pred = linear_pred

    def forward(self, f1, f2, f3, f4):
        out = f4
        for step, finer in zip(self.steps, (f3, f2, f1), strict=True):
            out = step(finer, out)
        return self.linear_pred(out)


class RXSSNet(Network):
    """
    RXSSNet for `num_classes` classes.

    `forward(rgb, x)` takes two normalised float maps (N, 3, H, W), each side at least 32 and best
    a multiple of 32, and returns logits (N, num_classes, H, W). The published model has
    `backbone='tiny'` and `decoder_width=768`.
    """

    X_CHANNELS = 3
    RENAMES = (
        (r'^encoder_thermal\.', 'encoder_x.'),
        (r'^Token_corrector\.', 'cgpi.'),
        (r'^crossFormer\.', 'lam.'),
        (r'\.patch_embed_vi\.', '.embed_rgb.'),
        (r'\.patch_embed_ir\.', '.embed_x.'),
    )
    UNUSED = (
        r'^encoder_\w+\.norm\.',
        r'^crossFormer\.\d+\.(mlp|norm2)\.',
        r'^decoder\.linear_c1\.',
        r'\.rope\.rotations$',  # see rotary_table
    )

    def __init__(self, num_classes: int, backbone: str = 'tiny', decoder_width: int = 768):
        super().__init__()
        self.encoder_rgb = ConvNeXtV2(backbone)
        self.encoder_x = ConvNeXtV2(backbone)
        channels = self.encoder_rgb.channels
        self.cgpi = nn.ModuleList(
            GlobalPrior(c, s) for c, s in zip(channels, STRIDES, strict=True))
        self.crm = nn.ModuleList(CosineReweighting() for _ in channels)
        self.lam = nn.ModuleList(
            LocalGlobalAggregation(c, h, p)
            for c, h, p in zip(channels, LAM_HEADS, LAM_PATCHES, strict=True))
        self.decoder = ProgressiveDecoder(channels, decoder_width, num_classes)

    def forward(self, rgb, x):
        check_inputs(rgb, x)
        images = torch.cat((rgb, x), dim=1)  # N 6 H W
        stages = zip(self.encoder_rgb(rgb), self.encoder_x(x), strict=True)
        fused = []
        for (a, b), cgpi, crm, lam in zip(stages, self.cgpi, self.crm, self.lam, strict=True):
            fused.append(lam(*crm(a, b), cgpi(images, a.shape[2:])))
        return resize(self.decoder(*fused), rgb.shape[2:], align_corners=True)
