# Copyright 2026 rgbx_seg_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""The selective scan follows its recurrence."""

import pytest
from rgbx_seg_ros.networks.operators import scan, selective_scan
from support.operator_inputs import by_definition, close, noise, RECORDED, scan_inputs
import torch
from torch.nn import functional as F


@pytest.mark.parametrize('sizes', [
    {}, {'length': 1}, {'pixels': 1}, {'states': 1}, {'scans': 1, 'channels': 1},
    {'n': 3, 'length': 17, 'pixels': 7, 'states': 5},
])
def test_a_scan_follows_its_recurrence(sizes):
    inputs = scan_inputs(**sizes)
    wanted = by_definition('selective_scan', *inputs)
    close(selective_scan(*inputs), wanted)
    with torch.no_grad():
        close(selective_scan(*inputs), wanted)


def test_a_scan_equals_recorded_values():
    def split(x):  # P K·h L to 1 K h L P
        return x.unflatten(1, (2, -1)).permute(1, 2, 3, 0).unsqueeze(0)

    steps = F.softplus(RECORDED['scan/delta'] + RECORDED['scan/delta_bias'][:, None])
    b, c = (RECORDED[f'scan/{name}'].permute(1, 2, 3, 0).unsqueeze(0) for name in 'BC')
    a, d = (RECORDED[f'scan/{name}'].unflatten(0, (2, -1)) for name in 'AD')
    ours = selective_scan(split(RECORDED['scan/u']), split(steps), a, b, c, d)
    close(ours, split(RECORDED['scan/out']), 5e-6)


@pytest.mark.parametrize('entries', [1, 40, 100, 10 ** 9])
def test_the_size_of_the_pieces_does_not_matter(entries, monkeypatch):
    monkeypatch.setitem(scan.PIECE, 'cpu', entries)
    inputs = [x.requires_grad_() for x in scan_inputs(pixels=11)]
    ours = selective_scan(*inputs)
    plain = scan._scan(torch.exp, *inputs)
    close(ours, plain)
    weight = noise(*plain.shape)
    mine, wanted = (torch.autograd.grad((y * weight).sum(), inputs) for y in (ours, plain))
    for x, y in zip(mine, wanted, strict=True):
        close(x, y)


def test_a_backward_pass_keeps_no_states():
    inputs = [x.requires_grad_() for x in scan_inputs(length=16, pixels=3000, states=12)]
    known = {x.untyped_storage().data_ptr() for x in inputs}
    kept = {}

    def pack(x):
        kept[x.untyped_storage().data_ptr()] = x.untyped_storage().nbytes()
        return x

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda x: x):
        selective_scan(*inputs)
    states = 16 * 12 * inputs[0][..., 0, :].nbytes
    assert sum(size for place, size in kept.items() if place not in known) < states / 100


@pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16])
def test_the_states_of_a_long_scan_are_not_rounded(dtype):
    u, delta, a, b, c, d = scan_inputs(length=64)
    inputs = [x.to(dtype) for x in (u, 0.1 * delta, 0.01 * a, b, c, d)]
    wanted = selective_scan(*(x.double() for x in inputs))
    ours = selective_scan(*inputs)
    assert ours.dtype == dtype
    assert ((ours - wanted).abs() <= torch.finfo(dtype).eps * wanted.abs() + 1e-4).all()
