# Copyright 2026 rgbx_seg_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""Every query attends to the window that NATTEN would give it."""

import hypothesis
from hypothesis import strategies as st
import pytest
from rgbx_seg_ros.errors import FrameError
from rgbx_seg_ros.networks.operators import NeighborhoodAttention
from support.operator_inputs import by_definition, close, noise, RECORDED
import torch


@hypothesis.settings(max_examples=40, deadline=None, derandomize=True)
@hypothesis.given(
    st.sampled_from([1, 3, 5, 7]), st.integers(0, 14), st.integers(0, 14), st.integers(1, 3))
def test_every_query_attends_to_its_window(kernel_size, more_rows, more_columns, heads):
    size = kernel_size + more_rows, kernel_size + more_columns
    query, key, value = 2 * noise(3, 1, 2 * heads, *size)
    ours = NeighborhoodAttention(kernel_size)(query, key, value, heads)
    close(ours, by_definition('neighborhood_attention', query, key, value, kernel_size, heads))


@pytest.mark.parametrize(
    ('kernel_size', 'size'),
    [(13, (13, 13)), (13, (17, 30)), (13, (41, 24)), (7, (33, 8)), (5, (15, 20)), (17, (40, 25))])
def test_wide_windows_are_covered_by_the_keys_of_a_block(kernel_size, size):
    query, key, value = 2 * noise(3, 1, 2, *size)
    ours = NeighborhoodAttention(kernel_size)(query, key, value, 1)
    close(ours, by_definition('neighborhood_attention', query, key, value, kernel_size, 1))


@pytest.mark.parametrize('kernel_size', [5, 7, 13])
def test_attention_equals_recorded_values(kernel_size):
    def to_map(x):  # N H W h d
        return x.permute(0, 3, 4, 1, 2).flatten(1, 2)

    maps = (to_map(RECORDED[f'na/{name}']) for name in 'qkv')
    ours = NeighborhoodAttention(kernel_size)(*maps, 2)
    close(ours, to_map(RECORDED[f'na/out_k{kernel_size}']), 2e-6)


def test_a_map_smaller_than_its_window_is_an_error():
    with pytest.raises(FrameError, match=r'12x20.*13x13'):
        NeighborhoodAttention(13)(*noise(3, 1, 4, 12, 20), 2)
    with pytest.raises(FrameError, match=r'20x12.*13x13'):
        NeighborhoodAttention(13)(*noise(3, 1, 4, 20, 12), 2)


def test_an_even_window_is_an_error():
    with pytest.raises(ValueError, match=r'4.*odd'):
        NeighborhoodAttention(4)


def test_attention_of_a_large_map_stays_small():
    """The keys of a block are few: a mask of all pixels with all would have 369 million."""
    attention = NeighborhoodAttention(13)
    cpu = torch.device('cpu')
    assert attention.mask(cpu, 120, 160).nbytes < 32e6
    assert attention.index(cpu, 120, 160).numel() < 6.5 * 120 * 160


@pytest.mark.parametrize('scale', [1.0, 100.0])
def test_strong_scores_stay_finite(scale):
    maps = [(scale * x).half() for x in noise(3, 1, 64, 16, 16)]
    ours = NeighborhoodAttention(5)(*maps, 2)
    assert ours.isfinite().all()
    assert ours.abs().max() <= maps[2].abs().max()
