# Copyright 2026 rgbx_seg_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""
The fusion block of MDDG: what its two streams do to each other after every encoder stage.

Shapes: N batch, C channels, H W height and width, P = L = H·W pixels, h heads, d channels per
head, K directions, S states. See mddg.py for the origin.
"""

from rgbx_seg_ros.networks.layers import (
    at_least_float32,
    DropPath,
    LayerNorm2d,
    to_map,
    to_tokens,
    without_autocast,
)
from rgbx_seg_ros.networks.operators.neighborhood import NeighborhoodAttention
from rgbx_seg_ros.networks.operators.scan import selective_scan
from rgbx_seg_ros.networks.operators.topk import smallest_share
import torch
from torch import nn
from torch.nn import functional as F

HEAD_CHANNELS = 32
SCAN_HEADS = 32
DT_RANK = 2
DROP = 0.1
PIECE = 256
"""Pixels that a CPU scans at once: all that a scan of these many makes stays in its cache."""


class Similarity(nn.Module):
    """The cosine of the two channel vectors of each pixel, (N, 1, H, W) in float32 at least."""

    def forward(self, rgb, x):
        with without_autocast(rgb):
            rgb = F.normalize(at_least_float32(rgb), dim=1)
            x = F.normalize(at_least_float32(x), dim=1)
            return (rgb * x).sum(dim=1, keepdim=True)


class DivergenceMask(nn.Module):
    """
    1 at the half of the pixels where the modalities are least alike, 0 elsewhere.

    In training the gradient goes straight through to the similarity.
    """

    def forward(self, similarity):
        mask = smallest_share(similarity, 0.5)
        if self.training:
            mask = mask + (similarity - similarity.detach())
        return mask


class CrossStream(nn.Module):
    """The projections of one modality in the local cross-attention."""

    def __init__(self, channels: int):
        super().__init__()
        self.norm1 = nn.LayerNorm(channels)
        self.q = nn.Linear(2 * channels, channels)
        self.kv = nn.Linear(channels, 2 * channels)
        self.proj = nn.Linear(channels, channels)
        self.norm2 = nn.LayerNorm(channels)
        self.mlp = nn.Sequential(
            nn.Linear(channels, 2 * channels, bias=False),
            nn.GELU(),
            nn.Linear(2 * channels, channels, bias=False),
        )
        self.drop_path = DropPath(DROP)

    def close(self, tokens, attended, gate):
        """Add what was `attended` to `tokens` (N, L, C), as far as `gate` (N, L, 1) lets it."""
        mixed = torch.lerp(tokens, attended, gate)
        tokens = tokens + self.drop_path(self.proj(mixed))
        return tokens + self.drop_path(self.mlp(self.norm2(tokens)))


class LocalCrossAttention(nn.Module):
    """
    Each modality's queries, made from both, look for the pixels where the other one is unlike.

    That is why keys count negatively. The window is `kernel` pixels wide.
    """

    def __init__(self, channels: int, kernel: int):
        super().__init__()
        self.heads = channels // HEAD_CHANNELS
        self.rgb = CrossStream(channels)
        self.x = CrossStream(channels)
        self.gate = nn.Sequential(
            nn.Linear(2 * channels, channels),
            nn.ReLU(inplace=True),
            nn.Linear(channels, 2),
            nn.Sigmoid(),
        )
        self.attention = NeighborhoodAttention(kernel)

    def _attend(self, query, key_value, size):
        key, value = key_value.chunk(2, dim=-1)
        maps = (to_map(tokens, size) for tokens in (-query, key, value))
        return to_tokens(self.attention(*maps, self.heads))

    def forward(self, rgb, x):
        size = rgb.shape[2:]
        rgb, x = to_tokens(rgb), to_tokens(x)
        normed_rgb, normed_x = self.rgb.norm1(rgb), self.x.norm1(x)
        both = torch.cat((normed_rgb, normed_x), dim=-1)  # N L 2C
        gate_rgb, gate_x = self.gate(both).chunk(2, dim=-1)  # N L 1
        read_rgb = self._attend(self.rgb.q(both), self.x.kv(normed_x), size)
        read_x = self._attend(self.x.q(both), self.rgb.kv(normed_rgb), size)
        rgb = self.rgb.close(rgb, read_rgb, gate_rgb)
        x = self.x.close(x, read_x, gate_x)
        return to_map(rgb, size), to_map(x, size)


class GroupedLinear(nn.Conv2d):
    """A linear layer on groups of channels: (N, C, P) to (N, K, P)."""

    def __init__(self, in_channels: int, out_channels: int, groups: int):
        super().__init__(in_channels, out_channels, 1, groups=groups, bias=False)

    def forward(self, x):
        weight = self.weight.flatten(1).unflatten(0, (self.groups, -1)).to(x.dtype)
        return (weight @ x.unflatten(1, (self.groups, -1))).flatten(1, 2)


class HeadNorm(nn.LayerNorm):
    """Layer norm over d of (N, h, d, P)."""

    def forward(self, x):
        x = x - x.mean(dim=2, keepdim=True)
        scale = (x.square().mean(dim=2, keepdim=True) + self.eps).rsqrt()
        weight, bias = (part.to(x.dtype).unsqueeze(-1) for part in (self.weight, self.bias))
        return torch.addcmul(bias, x * scale, weight)


class ScanStream(nn.Module):
    """One modality's way into the scan over channels and out of it."""

    def __init__(self, channels: int, ratio: int):
        super().__init__()
        width, groups = ratio * channels, channels // 4
        self.in_proj = GroupedLinear(channels, width, groups)
        self.conv = nn.Conv2d(width, width, 3, padding=1, groups=width)
        self.out_norm = HeadNorm(width // SCAN_HEADS)
        self.out_proj = GroupedLinear(width, channels, groups)
        self.dropout = nn.Dropout(DROP)

    def enter(self, x):
        """Return the sequences of a map (N, C, H, W): (N, h, d, P)."""
        x = self.in_proj(x.flatten(2)).unflatten(2, x.shape[2:])
        return F.silu(self.conv(x)).flatten(2).unflatten(1, (SCAN_HEADS, -1))

    def leave(self, y):
        """
        Return the channels (N, C, P) of what was scanned, (N, h, d, P).

        The original writes the values of a pixel in the order (d, h) and reads them as (h, d), so
        that the norm goes over d neighbours in that order instead of the channels of a head.
        """
        y = y.transpose(1, 2).flatten(1, 2).unflatten(1, (SCAN_HEADS, -1))
        return self.out_proj(self.out_norm(y).flatten(1, 2))


class ChannelScan(nn.Module):
    """
    A selective scan over channels: at each pixel through those of RGB and X, and back.

    The sequence has L = 2d positions, first d of RGB, then d of X; each holds one channel of
    every head. Gu and Dao, "Mamba: Linear-Time Sequence Modeling with Selective State Spaces".
    """

    def __init__(self, channels: int, ratio: int, states: int):
        super().__init__()
        self.rgb = ScanStream(channels, ratio)
        self.x = ScanStream(channels, ratio)
        self.x_proj_weight = nn.Parameter(torch.empty(2, DT_RANK + 2 * states, SCAN_HEADS))
        self.dt_projs_weight = nn.Parameter(torch.empty(2, SCAN_HEADS, DT_RANK))
        self.dt_projs_bias = nn.Parameter(torch.empty(2, SCAN_HEADS))
        rates = torch.arange(1.0, states + 1).log()
        self.A_logs = nn.Parameter(rates.repeat(2 * SCAN_HEADS, 1))
        self.Ds = nn.Parameter(torch.ones(2 * SCAN_HEADS))
        nn.init.uniform_(self.x_proj_weight, -(SCAN_HEADS ** -0.5), SCAN_HEADS ** -0.5)
        nn.init.uniform_(self.dt_projs_weight, -(DT_RANK ** -0.5), DT_RANK ** -0.5)
        with torch.no_grad():  # steps of 0.001 to 0.1, as softplus gives them
            step = torch.exp(torch.empty(2, SCAN_HEADS).uniform_(-6.9, -2.3))
            self.dt_projs_bias.copy_(step.expm1().log())

    def _scan(self, rgb, x):
        """Scan the sequences (N, h, d, P) of both, and return their channels (N, C, P)."""
        u = at_least_float32(torch.cat((rgb, x), dim=2))  # N h L P
        x_proj = self.x_proj_weight.to(u.dtype)
        # The two projections to delta in a row are one.
        to_delta = self.dt_projs_weight.to(u.dtype) @ x_proj[:, :DT_RANK]
        weight = torch.cat((to_delta, x_proj[:, DT_RANK:]), dim=1)  # K h+2S h
        rows = weight.flatten(0, 1) @ u.flatten(2)
        rows = rows.unflatten(1, (2, -1)).unflatten(3, u.shape[2:])  # N K h+2S L P
        # The second direction is the first one on the sequence from its end.
        rows = torch.stack((rows[:, 0], rows[:, 1].flip(2)), dim=1)
        states = self.A_logs.shape[1]
        delta, b, c = rows.split((SCAN_HEADS, states, states), dim=2)
        delta = F.softplus(delta + self.dt_projs_bias.to(u.dtype)[:, :, None, None])
        u = torch.stack((u, u.flip(2)), dim=1)  # N K h L P
        a = -self.A_logs.to(u.dtype).exp().unflatten(0, (2, -1))
        y = selective_scan(u, delta, a, b, c, self.Ds.to(u.dtype).unflatten(0, (2, -1)))
        y = y[:, 0] + y[:, 1].flip(2)  # N h L P
        y_rgb, y_x = y.chunk(2, dim=2)
        return self.rgb.leave(y_rgb), self.x.leave(y_x)

    def forward(self, rgb, x):
        size = rgb.shape[2:]
        u = self.rgb.enter(rgb), self.x.enter(x)
        whole = (rgb.device.type != 'cpu' or torch.compiler.is_compiling()
                 or torch.jit.is_tracing())
        pixels = size[0] * size[1] if whole else PIECE
        with without_autocast(rgb):
            pieces = map(self._scan, *(part.split(pixels, dim=3) for part in u))
            y_rgb, y_x = (
                torch.cat(parts, dim=2).to(rgb.dtype).unflatten(2, size)
                for parts in zip(*pieces, strict=True))
        return rgb + self.rgb.dropout(y_rgb), x + self.x.dropout(y_x)


class ConvMLP(nn.Sequential):
    """Two 1x1 convolutions with a GELU between them."""

    def __init__(self, channels: int):
        super().__init__(
            nn.Conv2d(channels, 2 * channels, 1),
            nn.GELU(),
            nn.Dropout(DROP),
            nn.Conv2d(2 * channels, channels, 1),
            nn.Dropout(DROP),
        )


class MambaStream(nn.Module):
    """The norms and the feed-forward net of one modality around the scan."""

    def __init__(self, channels: int):
        super().__init__()
        self.in_norm = LayerNorm2d(channels, eps=1e-6)
        self.norm = LayerNorm2d(channels, eps=1e-6)
        self.mlp = ConvMLP(channels)

    def close(self, x):
        """Return a scanned map after the feed-forward net and its residual."""
        return x + self.mlp(self.norm(x))


class ChannelMamba(nn.Module):
    """The scan over channels as a block; it adds to the norm of the input, not to the input."""

    def __init__(self, channels: int, ratio: int, states: int):
        super().__init__()
        self.rgb = MambaStream(channels)
        self.x = MambaStream(channels)
        self.scan = ChannelScan(channels, ratio, states)

    def forward(self, rgb, x):
        rgb, x = self.scan(self.rgb.in_norm(rgb), self.x.in_norm(x))
        return self.rgb.close(rgb), self.x.close(x)


class MultiScaleFFN(nn.Module):
    """Two linear layers around depthwise convolutions of three sizes, at one width."""

    def __init__(self, channels: int):
        super().__init__()
        self.fc1 = nn.Linear(channels, channels)
        self.pwconv1 = self._pointwise(channels)
        self.dwconv3, self.dwconv5, self.dwconv7 = (
            nn.Conv2d(channels, channels, k, padding=k // 2, groups=channels) for k in (3, 5, 7))
        self.pwconv2 = self._pointwise(channels)
        self.fc2 = nn.Linear(channels, channels)

    @staticmethod
    def _pointwise(channels):
        return nn.Sequential(nn.Conv2d(channels, channels, 1), nn.BatchNorm2d(channels))

    def forward(self, tokens, size):
        x = self.pwconv1(to_map(self.fc1(tokens), size))
        x = x + self.dwconv3(x) + self.dwconv5(x) + self.dwconv7(x)
        return self.fc2(F.gelu(to_tokens(self.pwconv2(x))))


class ChannelAttention(nn.Module):
    """Scale each channel of tokens (N, L, C) by what their means over all pixels ask for."""

    def __init__(self, channels: int):
        super().__init__()
        hidden = max(channels // 16, 4)  # of fewer all are soon at 0 for every image
        self.fc = nn.Sequential(
            nn.Linear(channels, hidden, bias=False),
            nn.ReLU(inplace=True),
            nn.Linear(hidden, channels, bias=False),
            nn.Sigmoid(),
        )

    def forward(self, tokens):
        return tokens * self.fc(tokens.mean(dim=1, keepdim=True))


class FusionBlock(nn.Module):
    """
    Exchange two maps (N, C, H, W) where they differ, and fuse them.

    Return the fused map, which only the decoder reads, and the maps of RGB and X with which the
    next stage begins. Attention runs in windows of `kernel` pixels, the scan on `ratio` x C
    channels with `states` states.
    """

    def __init__(self, channels: int, kernel: int, ratio: int, states: int):
        super().__init__()
        self.similarity = Similarity()
        self.mask = DivergenceMask()
        self.cross = LocalCrossAttention(channels, kernel)
        self.mamba = ChannelMamba(channels, ratio, states)
        self.norm = nn.LayerNorm(2 * channels)
        self.linear = nn.Linear(2 * channels, channels)
        self.mix_ffn = MultiScaleFFN(channels)
        self.channel_attn = ChannelAttention(channels)

    def forward(self, rgb, x):
        mask = self.mask(self.similarity(rgb, x)).to(rgb.dtype)
        new_rgb, new_x = self.mamba(*self.cross(rgb, x))
        rgb = torch.addcmul(rgb, mask, new_rgb)
        x = torch.addcmul(x, mask, new_x)
        tokens = self.linear(self.norm(to_tokens(torch.cat((rgb, x), dim=1))))
        size = rgb.shape[2:]
        fused = self.mix_ffn(tokens, size) + self.channel_attn(tokens)
        return to_map(fused, size), rgb, x
