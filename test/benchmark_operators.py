# Copyright 2026 rgbx_seg_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""
Time the operators against their naive forms, at the sizes of the networks at 480x640.

Run as `python test/benchmark_operators.py [cpu|cuda] [threads]`. Both forms take turns,
so that a busy machine slows both; a time is the median of the rounds, in milliseconds.
"""

import functools
import statistics
import sys
import time

from rgbx_seg_ros.networks.operators import (
    deformable_sampling,
    NeighborhoodAttention,
    RealDFT,
    selective_scan,
    smallest_share,
)
import torch
from torch.nn import functional as F

ROUNDS = 7


def shifted_attention(query, key, value, kernel_size, heads):
    """Gather the keys and values of one window position after the other, for all queries."""
    height, width = query.shape[2:]
    reach = kernel_size // 2
    top, left = ((torch.arange(side, device=query.device) - reach).clamp(0, side - kernel_size)
                 for side in (height, width))
    query, key, value = (x.unflatten(1, (heads, -1)) for x in (query, key, value))  # N h d H W
    places = [(i, j) for i in range(kernel_size) for j in range(kernel_size)]
    scores = torch.stack(
        [(query * key[..., top + i, :][..., left + j]).sum(2) for i, j in places])
    shares = (scores * query.shape[2] ** -0.5).softmax(0).unsqueeze(3)
    out = 0
    for share, (i, j) in zip(shares, places, strict=True):
        out = out + share * value[..., top + i, :][..., left + j]
    return out.flatten(1, 2)


def stepwise_scan(u, delta, a, b, c, d):
    """Run all pixels at once, one step after the other."""
    state, out = 0, []
    for step in range(u.shape[3]):
        gain, now = delta[:, :, :, step].unsqueeze(3), u[:, :, :, step].unsqueeze(3)
        state = torch.exp(gain * a[..., None]) * state + gain * b[:, :, None, :, step] * now
        out.append((c[:, :, None, :, step] * state).sum(3) + d[..., None] * u[:, :, :, step])
    return torch.stack(out, dim=3)


def complex_dft(x):
    """Transform forth and back with complex tensors, which a graph cannot have."""
    spectrum = torch.fft.rfft2(x, norm='ortho')
    return torch.fft.irfft2(spectrum, s=x.shape[2:], norm='ortho')


def sorted_share(values, share):
    """Sort all entries to find a threshold."""
    flat = values.flatten(1)
    ordered = flat.sort(1).values
    return (flat <= ordered[:, round(share * flat.shape[1]) - 1, None]).float().view_as(values)


def grid_sampling(value, locations, weights):
    """Sample all points with one grid_sample."""
    heads = value.shape[1]
    grid = (2 * locations - 1).transpose(1, 2).flatten(0, 1)
    samples = F.grid_sample(value.flatten(0, 1), grid, align_corners=False)
    out = (samples * weights.transpose(1, 2).flatten(0, 1).unsqueeze(1)).sum(-1)
    return out.unflatten(0, (-1, heads)).flatten(1, 2).transpose(1, 2)


def cases(device):
    """Yield a name, ours, the naive form and the inputs."""
    random = functools.partial(torch.randn, device=device)
    for height, width, kernel_size, heads in (
            (120, 160, 13, 2), (60, 80, 7, 4), (30, 40, 5, 10), (15, 20, 5, 16)):
        attention = NeighborhoodAttention(kernel_size)
        maps = [random(1, 32 * heads, height, width) for _ in range(3)]
        yield (f'neighbourhood {kernel_size}x{kernel_size}, {height}x{width}, {heads} heads',
               functools.partial(attention, heads=heads),
               functools.partial(shifted_attention, kernel_size=kernel_size, heads=heads), maps)
    for length, pixels in ((16, 19200), (32, 4800), (40, 1200), (64, 300)):
        u, delta = random(1, 2, 32, length, pixels), random(1, 2, 32, length, pixels)
        b, c = random(1, 2, 12, length, pixels), random(1, 2, 12, length, pixels)
        inputs = u, F.softplus(delta), -random(2, 32, 12).exp(), b, c, random(2, 32)
        yield f'scan L = {length}, {pixels} pixels', selective_scan, stepwise_scan, inputs
    dft = RealDFT()
    yield ('Fourier there and back, 128x120x160', lambda x: dft.inverse(*dft(x), x.shape[3]),
           complex_dft, [random(1, 128, 120, 160)])
    yield ('smallest half of 120x160', functools.partial(smallest_share, share=0.5),
           functools.partial(sorted_share, share=0.5), [random(1, 1, 120, 160)])
    rows, columns = torch.meshgrid(torch.arange(120), torch.arange(160), indexing='ij')
    size = torch.tensor([160.0, 120.0])
    points = (torch.stack((columns, rows), dim=-1) + 0.5).view(1, -1, 1, 1, 2) / size
    locations = points.to(device) + 3 * random(1, 19200, 8, 4, 2) / size.to(device)
    yield ('deformable 120x160, 8 heads, 4 points', deformable_sampling, grid_sampling,
           [random(1, 8, 32, 120, 160), locations, random(1, 19200, 8, 4).softmax(-1)])


def measure(function, inputs):
    """Return the seconds that a call takes, and its result."""
    start = time.perf_counter()
    out = function(*inputs)
    if out.is_cuda:
        torch.cuda.synchronize()
    return time.perf_counter() - start, out


def main(device='cpu', threads='1'):
    """Print the table."""
    torch.set_num_threads(int(threads))
    torch.manual_seed(0)
    print(f'torch {torch.__version__}, {device}, {threads} threads, median of {ROUNDS} rounds')
    print(f'{"operator":44}{"ours ms":>10}{"naive ms":>10}{"naive/ours":>12}')
    for name, ours, naive, inputs in cases(torch.device(device)):
        with torch.inference_mode():
            (_, mine), (_, wanted) = (measure(form, inputs) for form in (ours, naive))
            torch.testing.assert_close(mine, wanted, rtol=1e-3, atol=1e-3)
            rounds = [[measure(form, inputs)[0] for form in (ours, naive)] for _ in range(ROUNDS)]
        fast, slow = (1e3 * statistics.median(times) for times in zip(*rounds, strict=True))
        print(f'{name:44}{fast:10.2f}{slow:10.2f}{slow / fast:12.1f}')


if __name__ == '__main__':
    main(*sys.argv[1:])
