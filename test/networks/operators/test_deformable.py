# Copyright 2026 rgbx_seg_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""Samples between the pixels of a map."""

import pytest
from rgbx_seg_ros.networks.operators import deformable, deformable_sampling
from support.operator_inputs import by_definition, close, noise, sampling_inputs
import torch

PATHS = {'bags': deformable._bags, 'grid_sample': deformable._grid_sample}
"""What runs on the CPU, and what runs on a GPU and in an exported graph."""


@pytest.mark.parametrize('sample', PATHS.values(), ids=PATHS)
@pytest.mark.parametrize('sizes', [
    {}, {'n': 2, 'size': (3, 8), 'queries': 1}, {'heads': 1, 'points': 1, 'size': (1, 1)},
    {'depth': 1, 'points': 4, 'size': (7, 2), 'queries': 20},
])
def test_samples_are_bilinear_with_zeros_outside(sample, sizes):
    inputs = sampling_inputs(**sizes)
    close(sample(*inputs), by_definition('deformable_sampling', *inputs))


@pytest.mark.parametrize('sample', PATHS.values(), ids=PATHS)
def test_a_point_at_the_centre_of_a_pixel_reads_that_pixel(sample):
    value = noise(1, 1, 2, 4, 5)
    rows, columns = torch.meshgrid(torch.arange(4), torch.arange(5), indexing='ij')
    centres = (torch.stack((columns, rows), dim=-1).double() + 0.5) / torch.tensor([5.0, 4.0])
    ours = sample(value, centres.view(1, 20, 1, 1, 2), torch.ones(1, 20, 1, 1).double())
    close(ours, value.flatten(3).squeeze(1).transpose(1, 2))


@pytest.mark.parametrize('sample', PATHS.values(), ids=PATHS)
def test_points_far_outside_read_zero(sample):
    value, locations, weights = sampling_inputs()
    for shift in (-3.0, 3.0, -1e4, 1e4):
        assert not sample(value, locations + shift, weights).any()


def test_half_maps_are_sampled_at_exact_places():
    """In fp16 a place on a map 160 wide would be off by up to a twelfth of a pixel."""
    value, _, weights = sampling_inputs(size=(120, 160), queries=50)
    locations = 0.9 + 0.02 * noise(1, 50, 2, 2, 2).clamp(-3, 3)
    ours = deformable_sampling(value.half(), locations.float(), weights.half())
    wanted = deformable_sampling(value.half().double(), locations, weights.half().double())
    assert ours.dtype == torch.float16
    assert (ours - wanted).abs().max() < 2e-3


@pytest.mark.parametrize('wild', [float('nan'), float('inf'), -float('inf'), 1e30, -1e30])
def test_sampling_far_outside_or_nowhere_reads_no_other_memory(wild):
    value, locations, weights = sampling_inputs()
    locations = locations.clone()
    locations[0, 0, 0, 0] = wild
    out = deformable_sampling(value, locations, weights)
    assert out.shape == deformable_sampling(value, torch.zeros_like(locations), weights).shape
    assert out[:, 1:].isfinite().all()
