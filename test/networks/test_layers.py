# Copyright 2026 rgbx_seg_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""Parts of the networks, where a whole network would not show a fault."""

import copy

import pytest
from rgbx_seg_ros.networks.layers import CrossModalAttention, Tables
from rgbx_seg_ros.networks.rxssnet import (
    CosineReweighting,
    GlobalPrior,
    LinearAttention,
    rotary_table,
    rotate,
)
import torch

TOKENS = 19200  # of the finest stage at 480x640


def test_attention_over_many_tokens_stays_within_half_precision():
    torch.manual_seed(0)
    attention = CrossModalAttention(96, 1)
    tokens = 16.0 * torch.randn(1, TOKENS, 96)
    key, query = attention.kv1(tokens).chunk(2, dim=-1)
    assert (key.transpose(1, 2) @ query).abs().max() > 65504  # beyond fp16: the case is real
    for out in attention.half()(tokens.half(), tokens.half()):
        assert out.dtype == torch.float16
        assert out.isfinite().all()


def test_linear_attention_over_many_tokens_stays_within_half_precision():
    torch.manual_seed(0)
    attention = LinearAttention(96)
    tokens = 4.0 * torch.randn(1, TOKENS, 96)
    exact = attention(tokens)
    half = attention.half()(tokens.half())
    assert half.dtype == torch.float16
    assert (half - exact).abs().max() < 0.01 * exact.abs().max()


def test_reweighting_of_strong_maps_stays_within_half_precision():
    torch.manual_seed(0)
    rgb = 20.0 * torch.randn(1, 8, 120, 160)
    x = rgb + 10.0 * torch.randn(rgb.shape)
    exact = CosineReweighting()(rgb, x)
    half = CosineReweighting()(rgb.half(), x.half())
    for ours, wanted in zip(half, exact, strict=True):
        assert (ours - wanted).abs().max() < 0.01 * wanted.abs().max()


def test_rotation_is_a_complex_multiplication_of_neighbouring_channels():
    table = rotary_table(7, 5)
    tokens = torch.randn(2, 7, 10)
    turned = torch.view_as_complex(tokens.unflatten(-1, (5, 2))) * torch.view_as_complex(table)
    torch.testing.assert_close(rotate(tokens, table), torch.view_as_real(turned).flatten(-2))


def test_a_longer_rotary_table_begins_with_the_shorter_one():
    torch.testing.assert_close(rotary_table(400, 4)[:300], rotary_table(300, 4), rtol=0, atol=0)


def test_tables_are_computed_once_and_do_not_pile_up():
    tables = Tables(rotary_table)
    cpu = torch.device('cpu')
    assert tables(cpu, 300, 4) is tables(cpu, 300, 4)
    for length in range(50):
        tables(cpu, length, 4)
    assert len(tables._kept) == Tables.KEPT


def test_tables_keep_their_precision_in_a_half_network():
    attention = LinearAttention(8)
    assert not any('rope' in name for name in attention.state_dict())
    exact = attention.rope(torch.device('cpu'), 500, 4).clone()
    table = attention.half().rope(torch.device('cpu'), 500, 4)
    assert table.dtype == torch.float32
    assert torch.equal(table, exact)


@pytest.mark.filterwarnings('error:.*assigned during export')
def test_an_export_at_a_new_size_leaves_the_network_as_it_was():
    attention = LinearAttention(8).eval()
    tokens = torch.randn(1, 24, 8)
    with torch.no_grad():
        wanted = copy.deepcopy(attention)(tokens)
        torch.export.export(attention, (tokens,))
        torch.testing.assert_close(attention(tokens), wanted)


@pytest.mark.parametrize(('stride', 'size'), [(4, (50, 67)), (16, (600, 800)), (32, (95, 65))])
def test_the_prior_ignores_what_the_encoder_ignores(stride, size):
    torch.manual_seed(0)
    prior = GlobalPrior(8, stride)
    images = torch.randn(1, 6, *size)
    rows, columns = (side // stride for side in size)
    seen = images[:, :, :rows * stride, :columns * stride]
    tokens = prior(images, (rows, columns))
    assert tokens.shape == (1, rows * columns, 8)
    torch.testing.assert_close(tokens, prior(seen, (rows, columns)))
