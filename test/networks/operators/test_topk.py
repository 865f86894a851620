# Copyright 2026 rgbx_seg_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""The smallest entries are chosen."""

import functools

import pytest
from rgbx_seg_ros.networks.operators import smallest_share
from support.operator_inputs import by_definition, Call, close, noise, RECORDED
import torch
from torch.nn import functional as F


@pytest.mark.parametrize('share', [0.01, 1 / 3, 0.5, 0.77, 1.0])
@pytest.mark.parametrize('shape', [(1, 1), (2, 7), (3, 1, 5, 9), (2, 1, 40, 30)])
def test_the_smallest_entries_of_each_item_are_chosen(shape, share):
    values = noise(*shape)
    close(smallest_share(values, share), by_definition('smallest_share', values, share))


def test_the_share_of_one_item_does_not_depend_on_another():
    values = noise(2, 1, 6, 6) + torch.tensor([0.0, 100.0]).view(2, 1, 1, 1)
    assert smallest_share(values, 0.5).flatten(1).sum(1).tolist() == [18, 18]


def test_entries_that_tie_with_the_last_one_are_chosen_too():
    values = torch.tensor([[3.0, 1.0, 2.0, 2.0, 2.0, 5.0]])
    assert smallest_share(values, 0.5).tolist() == [[0, 1, 1, 1, 1, 0]]


def test_a_mask_equals_the_recorded_one():
    rgb, x = (F.normalize(RECORDED[f'mask/{name}'], dim=1) for name in ('rgb', 'x'))
    ours = smallest_share((rgb * x).sum(1, keepdim=True), 0.5)
    assert torch.equal(ours, RECORDED['mask/mask'].float())


def test_a_mask_has_the_type_of_the_values_and_no_gradient():
    values = noise(2, 8, dtype=torch.float16).requires_grad_()
    mask = smallest_share(values, 0.5)
    assert mask.dtype == torch.float16
    assert not mask.requires_grad


def test_an_exported_mask_is_the_same():
    values = noise(2, 1, 9, 11)
    module = Call(functools.partial(smallest_share, share=0.3))
    program = torch.export.export(module, (values,))
    assert torch.equal(program.module()(values), module(values))
