# Copyright 2026 rgbx_seg_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""
Neighbourhood attention: every pixel attends to the k x k pixels around it.

Paper: Hassani et al., Neighborhood Attention Transformer, CVPR 2023; at the borders it follows
NATTEN 0.17.1: a window is shifted into the map, never padded or cut.
"""

from rgbx_seg_ros.errors import FrameError
from rgbx_seg_ros.networks.layers import Tables
import torch
from torch import nn
from torch.nn import functional as F

BLOCK = 8
"""Side of a block of queries: of 4 to 20, the fastest for windows of 13, and near it for 5."""


def blocks(length: int) -> int:
    """Return the number of blocks along a side of `length` pixels."""
    return -(-length // BLOCK)


def cover(length: int, kernel_size: int) -> tuple[torch.Tensor, torch.Tensor]:
    """
    Cut a side of `length` pixels into blocks of queries, each with the keys of all its windows.

    Return the keys' positions (blocks, keys) and which of them a query sees (blocks, BLOCK, keys).
    """
    keys = min(BLOCK + kernel_size - 1, length)
    radius = kernel_size // 2
    query = torch.arange(blocks(length) * BLOCK).clamp(max=length - 1).view(-1, BLOCK, 1)
    window = (query - radius).clamp(0, length - kernel_size)
    start = (torch.arange(0, length, BLOCK) - radius).clamp(0, length - keys)
    position = start[:, None] + torch.arange(keys)
    offset = position[:, None] - window
    return position, (offset >= 0) & (offset < kernel_size)


class NeighborhoodAttention(nn.Module):
    """
    Attention of every query to the `kernel_size` x `kernel_size` window of keys around it.

    The map is cut into square blocks of queries. The windows of a block lie in one rectangle of
    keys, so each block is a small dense attention with a constant mask.
    """

    def __init__(self, kernel_size: int):
        super().__init__()
        if kernel_size % 2 == 0:
            raise ValueError(f'kernel_size is {kernel_size!r}, allowed are odd numbers')
        self.kernel_size = kernel_size
        self.index = Tables(self._index)
        self.mask = Tables(self._mask)

    def _index(self, height, width):
        rows, columns = cover(height, self.kernel_size)[0], cover(width, self.kernel_size)[0]
        index = rows[:, None, :, None] * width + columns[None, :, None, :]
        return index.flatten(2).flatten(0, 1)  # blocks, keys

    def _mask(self, height, width):
        rows, columns = cover(height, self.kernel_size)[1], cover(width, self.kernel_size)[1]
        seen = rows[:, None, :, None, :, None] & columns[None, :, None, :, None, :]
        seen = seen.flatten(4, 5).flatten(2, 3).flatten(0, 1)  # blocks, queries, keys
        return torch.zeros(seen.shape).masked_fill_(~seen, -torch.inf)

    def forward(self, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor,
                heads: int) -> torch.Tensor:
        """
        Return a map of the shape of the three maps (N, h·d, H, W), `heads` being h.

        Raise FrameError for a map with a side shorter than a window.
        """
        height, width = query.shape[2:]
        # Sizes are tensors in a trace, and a branch on one cannot be traced.
        if not torch.jit.is_tracing() and min(height, width) < self.kernel_size:
            raise FrameError(
                f'a map is {height}x{width}, but no side can be shorter than its attention '
                f'window of {self.kernel_size}x{self.kernel_size}: use larger images')
        index = self.index(query.device, height, width)
        mask = self.mask(query.device, height, width).to(query.dtype)
        # With four dimensions like the others, or the CPU has no fused kernel for it.
        out = F.scaled_dot_product_attention(
            self._blocks(query, heads), self._near(key, heads, index),
            self._near(value, heads, index), mask.unsqueeze(0))  # N·h blocks BLOCK² d
        out = out.unflatten(2, (BLOCK, BLOCK)).unflatten(1, (-1, blocks(width)))
        out = out.permute(0, 5, 1, 3, 2, 4).flatten(4, 5).flatten(2, 3)  # N·h d H' W'
        return out[..., :height, :width].unflatten(0, (-1, heads)).flatten(1, 2)

    @staticmethod
    def _blocks(x, heads):
        """Cut a map into (N·h, blocks, BLOCK², d); zeros fill up the last blocks."""
        height, width = x.shape[2:]
        down, across = blocks(height), blocks(width)
        x = F.pad(x, (0, across * BLOCK - width, 0, down * BLOCK - height))
        x = x.unflatten(3, (across, BLOCK)).unflatten(2, (down, BLOCK)).unflatten(1, (heads, -1))
        x = x.permute(0, 1, 3, 5, 4, 6, 2)  # N h down across BLOCK BLOCK d
        return x.flatten(4, 5).flatten(2, 3).flatten(0, 1)

    @staticmethod
    def _near(x, heads, index):
        """Gather from a map the keys of every block: (N·h, blocks, keys, d)."""
        tokens = x.unflatten(1, (heads, -1)).flatten(0, 1).flatten(2).transpose(1, 2)  # N·h L d
        # Contiguous, so that each pixel is one short copy of d neighbouring values.
        near = tokens.contiguous().index_select(1, index.flatten())
        return near.unflatten(1, index.shape)
