# Copyright 2026 rgbx_seg_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""
The selective scan of state space models.

Paper: Gu, Dao, Mamba: Linear-Time Sequence Modeling with Selective State Spaces, COLM 2024.
"""

import functools
import math

from rgbx_seg_ros.networks.layers import at_least_float32
import torch
from torch.utils.checkpoint import checkpoint

PIECE = {'cpu': 2 ** 18}
"""Entries of the states that are run at a time, by device: on a CPU they stay in its cache."""
DEFAULT_PIECE = 2 ** 24


def selective_scan(u: torch.Tensor, delta: torch.Tensor, a: torch.Tensor, b: torch.Tensor,
                   c: torch.Tensor, d: torch.Tensor) -> torch.Tensor:
    """
    Run K scans of h channels with S states along L steps, for P sequences side by side.

    `u` and `delta` (N, K, h, L, P), `a` (K, h, S) negative, `b` and `c` (N, K, S, L, P), `d`
    (K, h); returns y (N, K, h, L, P) in the type of `u`. From a state of zero,
    state_l = exp(delta_l·a)·state_(l-1) + delta_l·b_l·u_l and y_l = <c_l, state_l> + d·u_l, in
    float32 or wider.

    The states of one step are S times as large as an input, so the sequences run in pieces; for
    a gradient, the backward pass runs a piece again instead of keeping its states.
    """
    dtype = u.dtype
    u, delta, a, b, c, d = (at_least_float32(x) for x in (u, delta, a, b, c, d))
    if torch.compiler.is_compiling() or torch.jit.is_tracing():
        return _scan(torch.exp, u, delta, a, b, c, d).to(dtype)
    # exp2 is exp with another rate, three times as fast on a CPU, but no operator of ONNX.
    scan = functools.partial(_scan, torch.exp2)
    if torch.is_grad_enabled():
        scan = functools.partial(checkpoint, scan, use_reentrant=False, preserve_rng_state=False)
    rate = a / math.log(2)
    entries = u.shape[0] * a.numel()
    piece = max(1, PIECE.get(u.device.type, DEFAULT_PIECE) // entries)
    pieces = zip(*(x.split(piece, dim=-1) for x in (u, delta, b, c)), strict=True)
    return torch.cat([scan(u, delta, rate, b, c, d) for u, delta, b, c in pieces], -1).to(dtype)


def _scan(exp, u, delta, a, b, c, d):
    a = a.unsqueeze(-1)  # K h S 1
    steps = zip(
        delta.unsqueeze(3).unbind(4),  # N K h 1 P
        (delta * u).unsqueeze(3).unbind(4),
        b.unsqueeze(2).unbind(4),  # N K 1 S P
        c.unsqueeze(2).unbind(4),
        strict=True,
    )
    state, out = None, []
    for delta_l, delta_u, b_l, c_l in steps:
        if state is None:
            state = delta_u * b_l  # N K h S P
        elif torch.is_grad_enabled():
            state = torch.addcmul(exp(delta_l * a) * state, delta_u, b_l)
        else:  # a quarter faster, but a gradient would need every state
            state.mul_(exp(delta_l * a)).addcmul_(delta_u, b_l)
        out.append((c_l * state).sum(3))
    return torch.stack(out, dim=3) + d[..., None, None] * u
