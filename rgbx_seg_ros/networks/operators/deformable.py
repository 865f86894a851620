# Copyright 2026 rgbx_seg_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""
The sampling of multi-scale deformable attention, on one scale.

Paper: Zhu et al., Deformable DETR, ICLR 2021, equation 2.
"""

from rgbx_seg_ros.networks.layers import at_least_float32
import torch
from torch.nn import functional as F


def deformable_sampling(value: torch.Tensor, locations: torch.Tensor,
                        weights: torch.Tensor) -> torch.Tensor:
    """
    Return (N, L, h·d): for each query the weighted sum of a few bilinear samples per head.

    `value` (N, h, d, H, W) is sampled at `locations` (N, L, h, points, 2), which are (x, y)
    with 0..1 from edge to edge of the map; outside lies zero. `weights` (N, L, h, points) are
    used as they are: the softmax over the points is the caller's.
    """
    out_dtype = value.dtype
    value = at_least_float32(value)
    locations, weights = locations.to(value.dtype), weights.to(value.dtype)
    exported = torch.compiler.is_compiling() or torch.jit.is_tracing()
    # ONNX and TensorRT have grid_sample as one operator, but on the CPU it jumps from channel to
    # channel of a map, while a bag reads all channels of a pixel at once: many times faster.
    sample = _bags if value.device.type == 'cpu' and not exported else _grid_sample
    return sample(value, locations, weights).to(out_dtype)


def _grid_sample(value, locations, weights):
    heads = value.shape[1]
    grid = (2 * locations - 1).transpose(1, 2).flatten(0, 1)  # N·h L points 2
    samples = F.grid_sample(
        value.flatten(0, 1), grid, mode='bilinear', padding_mode='zeros',
        align_corners=False)  # N·h d L points
    out = (samples * weights.transpose(1, 2).flatten(0, 1).unsqueeze(1)).sum(-1)  # N·h d L
    return out.unflatten(0, (-1, heads)).flatten(1, 2).transpose(1, 2)


def _bags(value, locations, weights):
    """Sum up the four pixels around each point, weighted, as one bag of 4·points per query."""
    n, heads, depth, height, width = value.shape
    left, right, to_left, to_right = _neighbors(locations[..., 0], width)  # N L h points
    top, bottom, to_top, to_bottom = _neighbors(locations[..., 1], height)
    maps = torch.arange(n * heads, dtype=torch.int32, device=value.device).view(n, 1, heads, 1)
    top, bottom = (maps * height + top) * width, (maps * height + bottom) * width
    to_top, to_bottom = weights * to_top, weights * to_bottom
    pixels = torch.cat((top + left, top + right, bottom + left, bottom + right), dim=-1)
    shares = torch.cat((to_top * to_left, to_top * to_right,
                        to_bottom * to_left, to_bottom * to_right), dim=-1)
    table = value.flatten(3).transpose(2, 3).reshape(-1, depth)  # N·h·H·W d
    out = F.embedding_bag(
        pixels.flatten(0, 2), table, per_sample_weights=shares.flatten(0, 2), mode='sum')
    return out.view(n, -1, heads * depth)


def _neighbors(position, length):
    """Return the two pixels nearest to `position` (0..1) on a side, and the share of each."""
    position = position * length - 0.5
    first = position.floor()
    second = first + 1
    to_second = (position - first) * ((second >= 0) & (second < length))
    to_first = (second - position) * ((first >= 0) & (first < length))
    # A pixel outside has no share, and stands for any inside. Clamped as integers, so that even
    # NaN is one.
    return (*(x.int().clamp(0, length - 1) for x in (first, second)), to_first, to_second)
