# Copyright 2026 rgbx_seg_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""
The operators once more, straight from their definitions: slow, for small maps.

Inputs are float64 arrays.
"""

import cmath
import math

import numpy as np


def neighborhood_attention(query, key, value, kernel_size, heads):
    """Attend on maps (N, h·d, H, W), one query after the other."""
    n, channels, height, width = query.shape
    depth = channels // heads
    reach = (kernel_size - 1) // 2
    out = np.zeros(query.shape)
    for item, head, y, x in np.ndindex(n, heads, height, width):
        part = slice(head * depth, (head + 1) * depth)
        top = min(max(y - reach, 0), height - kernel_size)
        left = min(max(x - reach, 0), width - kernel_size)
        window = (item, part, slice(top, top + kernel_size), slice(left, left + kernel_size))
        keys, values = (z[window].reshape(depth, -1) for z in (key, value))
        scores = query[item, part, y, x] @ keys / math.sqrt(depth)
        shares = np.exp(scores - scores.max())
        out[item, part, y, x] = values @ (shares / shares.sum())
    return out


def selective_scan(u, delta, a, b, c, d):
    """Scan (N, K, h, L, P), one channel of one pixel after the other."""
    out = np.zeros(u.shape)
    n, scans, channels, length, pixels = u.shape
    for item, scan, channel, pixel in np.ndindex(n, scans, channels, pixels):
        state = np.zeros(a.shape[-1])
        for step in range(length):
            now = item, scan, channel, step, pixel
            read = item, scan, slice(None), step, pixel
            state = np.exp(delta[now] * a[scan, channel]) * state
            state = state + delta[now] * b[read] * u[now]
            out[now] = c[read] @ state + d[scan, channel] * u[now]
    return out


def real_dft(x):
    """Transform maps (N, C, H, W) into a complex spectrum (N, C, H, W // 2 + 1)."""
    height, width = x.shape[2:]
    out = np.zeros((*x.shape[:3], width // 2 + 1), complex)
    for ky, kx, row, column in np.ndindex(height, width // 2 + 1, height, width):
        turn = ky * row / height + kx * column / width
        out[..., ky, kx] += x[..., row, column] * cmath.exp(-2j * math.pi * turn)
    return out / math.sqrt(height * width)


def inverse_real_dft(spectrum, width):
    """Transform back: a complex transform along the rows, a real one along the columns."""
    height, half = spectrum.shape[2:]
    lines = np.zeros(spectrum.shape, complex)
    for row, ky in np.ndindex(height, height):
        wave = cmath.exp(2j * math.pi * ky * row / height)
        lines[..., row, :] += spectrum[..., ky, :] * wave
    out = np.zeros((*spectrum.shape[:3], width))
    for column, kx in np.ndindex(width, half):
        wave = cmath.exp(2j * math.pi * kx * column / width)
        if kx == 0 or 2 * kx == width:
            out[..., column] += (lines[..., kx].real * wave).real
        else:
            out[..., column] += 2 * (lines[..., kx] * wave).real
    return out / math.sqrt(height * width)


def complex_logistic(z):
    """Return 1 / (1 + exp(-z)) of a complex number, expanded so that exp cannot overflow."""
    if z.real >= 0:
        return 1 / (1 + cmath.exp(-z))
    return cmath.exp(z) / (1 + cmath.exp(z))


def smallest_share(values, share):
    """Mark the ceil(share·n) smallest of each item by sorting; exact where none are equal."""
    out = np.zeros(values.shape)
    for item in range(len(values)):
        order = np.argsort(values[item], axis=None)
        out[item].flat[order[:math.ceil(share * order.size)]] = 1
    return out


def deformable_sampling(value, locations, weights):
    """Sample maps (N, h, d, H, W), one point after the other, as pixels with zeros around."""
    n, heads, depth, height, width = value.shape
    queries, points = locations.shape[1], locations.shape[3]
    out = np.zeros((n, queries, heads, depth))
    for item, query, head, point in np.ndindex(n, queries, heads, points):
        at = item, query, head, point
        # Centres of pixels lie at whole numbers, edges of the map at -0.5 and the length - 0.5.
        x = locations[at][0] * width - 0.5
        y = locations[at][1] * height - 0.5
        for row in (math.floor(y), math.floor(y) + 1):
            for column in (math.floor(x), math.floor(x) + 1):
                if 0 <= row < height and 0 <= column < width:
                    near = (1 - abs(x - column)) * (1 - abs(y - row))
                    out[at[:3]] += weights[at] * near * value[item, head, :, row, column]
    return out.reshape(n, queries, heads * depth)
