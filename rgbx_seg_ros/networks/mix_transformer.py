# Copyright 2026 rgbx_seg_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""
Mix Transformer (MiT) as a backbone: four feature maps at strides 4, 8, 16 and 32.

Paper: Xie et al., "SegFormer: Simple and Efficient Design for Semantic Segmentation with
Transformers", NeurIPS 2021. Parameter names follow the published mit_b*.pth files, whose ImageNet
weights are under NVIDIA's non-commercial licence.
"""

from rgbx_seg_ros.errors import CardError
from rgbx_seg_ros.networks.layers import DropPath, to_map, to_tokens
import torch
from torch import nn
from torch.nn import functional as F

MIT = {
    # name: (blocks per stage, channels per stage)
    'b0': ((2, 2, 2, 2), (32, 64, 160, 256)),
    'b1': ((2, 2, 2, 2), (64, 128, 320, 512)),
    'b2': ((3, 4, 6, 3), (64, 128, 320, 512)),
    'b3': ((3, 4, 18, 3), (64, 128, 320, 512)),
    'b4': ((3, 8, 27, 3), (64, 128, 320, 512)),
    'b5': ((3, 6, 40, 3), (64, 128, 320, 512)),
}
HEADS = (1, 2, 5, 8)
REDUCTIONS = (8, 4, 2, 1)
DROP_PATH = 0.1


class PatchEmbed(nn.Module):
    """An overlapping strided convolution and a layer norm: a map to tokens (N, L, C)."""

    def __init__(self, in_channels: int, channels: int, patch: int, stride: int):
        super().__init__()
        self.proj = nn.Conv2d(in_channels, channels, patch, stride, patch // 2)
        self.norm = nn.LayerNorm(channels)

    def forward(self, x):
        x = self.proj(x)
        return self.norm(to_tokens(x)), x.shape[2:]


class Attention(nn.Module):
    """Attention of every token to the tokens of a grid `reduction` times as coarse."""

    def __init__(self, channels: int, heads: int, reduction: int):
        super().__init__()
        self.heads = heads
        self.q = nn.Linear(channels, channels)
        self.kv = nn.Linear(channels, 2 * channels)
        self.proj = nn.Linear(channels, channels)
        self.sr = None
        if reduction > 1:
            self.sr = nn.Conv2d(channels, channels, reduction, stride=reduction)
            self.norm = nn.LayerNorm(channels)

    def forward(self, tokens, size):  # N L C, (H, W)
        query = self.q(tokens).unflatten(-1, (self.heads, -1)).transpose(1, 2)  # N h L d
        if self.sr is not None:
            tokens = self.norm(to_tokens(self.sr(to_map(tokens, size))))
        key, value = self.kv(tokens).unflatten(-1, (2, self.heads, -1)).unbind(2)
        out = F.scaled_dot_product_attention(query, key.transpose(1, 2), value.transpose(1, 2))
        return self.proj(out.transpose(1, 2).flatten(2))


class DepthwiseConv(nn.Module):
    """A depthwise 3x3 convolution of a map."""

    def __init__(self, channels: int):
        super().__init__()
        # Tokens as a map have their channels last; a weight of another layout would make
        # PyTorch turn the map round.
        self.dwconv = nn.Conv2d(channels, channels, 3, padding=1, groups=channels).to(
            memory_format=torch.channels_last)

    def forward(self, x):
        return self.dwconv(x)


class MixFFN(nn.Module):
    """Two linear layers with a depthwise convolution, which tells positions, and a GELU."""

    def __init__(self, channels: int):
        super().__init__()
        self.fc1 = nn.Linear(channels, 4 * channels)
        self.dwconv = DepthwiseConv(4 * channels)
        self.fc2 = nn.Linear(4 * channels, channels)

    def forward(self, tokens, size):
        mixed = to_tokens(self.dwconv(to_map(self.fc1(tokens), size)))
        return self.fc2(F.gelu(mixed))


class Block(nn.Module):
    """Attention and a feed-forward net, each with a norm before it and a residual."""

    def __init__(self, channels: int, heads: int, reduction: int, drop_path: float):
        super().__init__()
        self.norm1 = nn.LayerNorm(channels)
        self.attn = Attention(channels, heads, reduction)
        self.norm2 = nn.LayerNorm(channels)
        self.mlp = MixFFN(channels)
        self.drop_path = DropPath(drop_path)

    def forward(self, tokens, size):
        tokens = tokens + self.drop_path(self.attn(self.norm1(tokens), size))
        return tokens + self.drop_path(self.mlp(self.norm2(tokens), size))


class StageNorm(nn.LayerNorm):
    """The layer norm after the last block of a stage, back to a map."""

    def forward(self, tokens, size):
        return to_map(super().forward(tokens), size)


class MixTransformer(nn.Module):
    """
    The backbone of size `variant`, one of `MIT`.

    It runs stage by stage, so that a network can put its own layers between them: `forward(x,
    index)` takes the image (N, 3, H, W) or the map of the stage before, and returns that of the
    stage `index` 0..3, (N, channels[index], H / 2**(index+2), W / 2**(index+2)), rounded up.
    `channels` lists their widths.
    """

    def __init__(self, variant: str):
        super().__init__()
        if variant not in MIT:
            raise CardError(f'variant is {variant!r}, allowed are: {", ".join(MIT)}')
        depths, self.channels = MIT[variant]
        drops = torch.linspace(0, DROP_PATH, sum(depths), device='cpu').tolist()
        below = 3
        for i, (depth, channels) in enumerate(zip(depths, self.channels, strict=True)):
            patch, stride = (7, 4) if i == 0 else (3, 2)
            blocks = [Block(channels, HEADS[i], REDUCTIONS[i], drops.pop(0)) for _ in range(depth)]
            setattr(self, f'patch_embed{i + 1}', PatchEmbed(below, channels, patch, stride))
            setattr(self, f'block{i + 1}', nn.ModuleList(blocks))
            setattr(self, f'norm{i + 1}', StageNorm(channels))
            below = channels

    def forward(self, x, index: int):
        tokens, size = getattr(self, f'patch_embed{index + 1}')(x)
        for block in getattr(self, f'block{index + 1}'):
            tokens = block(tokens, size)
        return getattr(self, f'norm{index + 1}')(tokens, size)
