# Copyright 2026 rgbx_seg_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""Inputs for the operators, what they give by definition and what the original code gave."""

from pathlib import Path

import numpy as np
from support import operator_references
import torch
from torch import nn
from torch.nn import functional as F

_DATA = Path(__file__).parents[1] / 'data' / 'parity' / 'mddg' / 'operators.npz'
RECORDED = {name: torch.from_numpy(array) for name, array in np.load(_DATA).items()}
"""Inputs and outputs of the original code, in its own layouts."""


def noise(*shape, seed=0, dtype=torch.float64):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed)).to(dtype)


def close(ours, wanted, tolerance=1e-12):
    wanted = torch.as_tensor(wanted)
    torch.testing.assert_close(ours, wanted, rtol=tolerance, atol=tolerance, check_dtype=False)


def by_definition(name, *inputs):
    """Return what the slow definition `name` gives for `inputs`, tensors or plain numbers."""
    inputs = (x.numpy() if isinstance(x, torch.Tensor) else x for x in inputs)
    return getattr(operator_references, name)(*inputs)


class Call(nn.Module):
    """A function as a module, which torch.export asks for."""

    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, *inputs):
        return self.function(*inputs)


def scan_inputs(n=1, scans=2, channels=3, length=4, pixels=5, states=2):
    u, delta = noise(2, n, scans, channels, length, pixels)
    b, c = noise(2, n, scans, states, length, pixels, seed=1)
    a = -noise(scans, channels, states, seed=2).exp()
    return u, F.softplus(delta), a, b, c, noise(scans, channels, seed=3)


def sampling_inputs(n=1, heads=2, depth=3, size=(4, 5), queries=6, points=2):
    value = noise(n, heads, depth, *size)
    locations = 0.5 + 0.4 * noise(n, queries, heads, points, 2, seed=1)  # some lie outside
    return value, locations, noise(n, queries, heads, points, seed=2).softmax(-1)
