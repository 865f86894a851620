# Copyright 2026 rgbx_seg_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""Folding changes the work, never the answer."""

import copy

import pytest
from rgbx_seg_ros.networks import build, NETWORKS
from rgbx_seg_ros.networks.convnextv2 import Block
from rgbx_seg_ros.networks.folding import fold
from rgbx_seg_ros.networks.layers import CrossModalAttention, ResizedSum
from rgbx_seg_ros.networks.ms_irtnet import GlobalWeightedInteraction, MLPDecoder
from rgbx_seg_ros.networks.rxssnet import ProgressiveDecoder
from support.trials import TRIALS
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

CHANNELS = (96, 192, 384, 768)
CLASSES = 9


def awaken(network, seed=0):
    """Give every norm, bias and gain of `network` values that are seen when they get lost."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for module in network.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.running_mean.normal_(0, 0.3, generator=generator)
                module.running_var.uniform_(0.5, 2, generator=generator)
                module.weight.normal_(1, 0.3, generator=generator)
        for name, parameter in network.named_parameters():
            if name.endswith(('bias', 'gamma', 'beta')):
                parameter.normal_(0, 0.3, generator=generator)
    return network.eval()


@pytest.fixture(scope='module', params=NETWORKS)
def name(request):
    """Return the name of a network."""
    return request.param


@pytest.fixture(scope='module')
def both(name):
    """Return a network with random weights and norms, and the same one folded."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        plain = awaken(build(name, CLASSES, **TRIALS[name].variants[0]))
    return plain, fold(copy.deepcopy(plain))


def pair(network, count, size):
    generator = torch.Generator().manual_seed(1)
    return torch.randn(count, 3 + network.X_CHANNELS, *size, generator=generator).split(
        (3, network.X_CHANNELS), dim=1)


@pytest.mark.parametrize(
    ('name', 'size', 'count'), [
        pytest.param(name, size, count, marks=[pytest.mark.long] if count == 2 and nth else [])
        for name in NETWORKS for nth, size in enumerate(TRIALS[name].sizes) if size[0] < 200
        for count in (1, 2)], indirect=['name'], ids=str)
def test_a_folded_network_gives_the_same_logits_and_mask(both, size, count):
    plain, folded = both
    images = pair(plain, count, size)
    with torch.inference_mode():
        wanted, found = plain(*images), folded(*images)
    assert (found - wanted).abs().max() < 2e-5 * wanted.std()
    level = wanted.mean(dim=(2, 3), keepdim=True)  # random weights prefer one class everywhere
    mask, wanted_mask = ((logits - level).argmax(1) for logits in (found, wanted))
    assert len(wanted_mask.unique()) > 4
    assert (mask != wanted_mask).float().mean() < 1e-3


def test_only_norms_that_follow_no_convolution_are_left(both, name):
    left = [part for part, module in both[1].named_modules()
            if isinstance(module, nn.BatchNorm2d)]
    assert left == {
        'mddg': ['decoder.linear_fuse.bn'],
        'ms2mnet': ['decoder.b4.norm1', 'decoder.b3.norm1', 'decoder.b2.norm1'],
    }.get(name, [])


@pytest.mark.long  # test/export/test_onnx.py exports all of them, smaller
@pytest.mark.parametrize('name', ['ms_irtnet', 'rxssnet'], indirect=True)
def test_a_folded_network_can_be_exported(both, name):
    folded = both[1]
    images = pair(folded, 1, TRIALS[name].sizes[0])
    with torch.no_grad():
        wanted = folded(*images)
        found = torch.export.export(folded, images).module()(*images)
    torch.testing.assert_close(found, wanted, rtol=0, atol=float(2e-5 * wanted.std()))


def test_half_precision_follows_float32_after_folding(both, name):
    plain, folded = both
    images = pair(plain, 1, min(TRIALS[name].sizes))
    with torch.no_grad():
        exact = plain(*images)
        with torch.autocast('cpu', torch.bfloat16):
            mixed, unfolded = folded(*images).float(), plain(*images).float()
    assert (mixed - exact).square().mean() < 2 * (unfolded - exact).square().mean()


def macs(decoder):
    """Return the multiply-adds, in millions, that a decoder needs for a frame of 480x640."""
    maps = (torch.empty(1, c, 120 >> i, 160 >> i, device='meta') for i, c in enumerate(CHANNELS))
    with torch.inference_mode(), FlopCounterMode(display=False) as counter:
        decoder.eval().to('meta')(*maps)
    return counter.get_total_flops() // 2_000_000


@pytest.mark.parametrize(('decoder', 'width', 'before', 'after'), [
    (MLPDecoder, 512, 21_990, 1_857),
    (ProgressiveDecoder, 768, 21_189, 6_325),
], ids=['ms_irtnet', 'rxssnet'])
def test_a_decoder_needs_a_fraction_of_its_multiply_adds(decoder, width, before, after):
    plain = decoder(CHANNELS, width, CLASSES)
    folded = fold(copy.deepcopy(plain).eval())
    assert (macs(plain), macs(folded)) == (before, after)


def test_convolving_before_the_resize_equals_convolving_after_it():
    generator = torch.Generator().manual_seed(0)
    maps = [torch.randn(2, 3 + i, 9 - 2 * i, 11 - 3 * i, generator=generator) for i in range(3)]
    weights = [torch.randn(4, 3 + i, generator=generator) for i in range(3)]
    bias = torch.randn(4, generator=generator)
    found = ResizedSum(weights, bias).requires_grad_(False)(*maps)
    stack = torch.cat([nn.functional.interpolate(m, (9, 11), mode='bilinear') for m in maps], 1)
    wanted = torch.einsum('kc,nchw->nkhw', torch.cat(weights, 1), stack) + bias[:, None, None]
    torch.testing.assert_close(found, wanted.relu(), rtol=0, atol=1e-5)


@pytest.mark.parametrize('size', [(1, 1), (1, 5), (2, 2), (5, 4)])
@pytest.mark.parametrize(('ratio', 'convolutions'), [(2.0, 1), (1.0, 4), (0.5, 4)])
def test_two_convolutions_become_one_only_where_that_is_cheaper(size, ratio, convolutions):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        plain = awaken(GlobalWeightedInteraction(8, round(8 * ratio)))
        maps = torch.randn(2, 2, 8, *size).unbind(0)
    folded = fold(copy.deepcopy(plain))
    assert sum(isinstance(part, nn.Conv2d) for part in folded.modules()) == convolutions
    with torch.inference_mode():
        for found, wanted in zip(folded(*maps), plain(*maps), strict=True):
            torch.testing.assert_close(found, wanted, rtol=0, atol=1e-5)


@pytest.mark.parametrize('length', [5, 16, 17, 300], ids='{} tokens'.format)
def test_attention_from_products_of_channels_is_the_same(length):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        plain = CrossModalAttention(16, 2).eval()
        tokens = torch.randn(2, 3, length, 16).unbind(0)
    folded = fold(copy.deepcopy(plain))
    assert type(folded) is not type(plain)
    with FlopCounterMode(display=False) as before, torch.inference_mode():
        wanted = plain(*tokens)
    with FlopCounterMode(display=False) as after, torch.inference_mode():
        found = folded(*tokens)
    torch.testing.assert_close(found, wanted, rtol=0, atol=2e-5)
    assert (after.get_total_flops() < before.get_total_flops()) == (length > 16)


@pytest.mark.parametrize('dtype', [torch.float32, torch.float16, torch.bfloat16], ids=str)
def test_a_block_of_strong_maps_stays_within_its_precision(dtype):
    """The sum of their squares is beyond float16."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        plain = awaken(Block(8))
        x = torch.randn(1, 8, 20, 30)
    plain.pwconv1.weight.data *= 300
    folded = fold(copy.deepcopy(plain)).to(dtype)
    with torch.inference_mode():
        wanted, found = plain(x), folded(x.to(dtype))
    assert found.dtype == dtype
    assert (found - wanted).abs().max() < 4 * torch.finfo(dtype).eps * wanted.abs().max()
