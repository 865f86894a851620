# Copyright 2026 rgbx_seg_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""
Parts of MS2MNet alone: those that were published equal their originals, ours do what they say.

`parts/published.npz` has what the authors' classes made of `fill` weights, every fifth value. The
runs of the whole network pass through modules that were never published; these do not.
"""

import numpy as np
import pytest
from rgbx_seg_ros.networks.ms2mnet import ChannelNorm, DFE, WASE
from rgbx_seg_ros.networks.ms2mnet_decoder import (
    Block,
    ChannelGate,
    Head,
    MLP,
    MultiScaleConv,
    Pool,
    SeparableConv,
)
from rgbx_seg_ros.networks.resnet import ResNet50
from rgbx_seg_ros.weights.checkpoint import convert_state_dict, load_into
from support.fill import fill, image
from support.parity_cases import DATA, Fingerprint, keys_of
import torch
from torch import nn
from torch.nn import functional as F

PUBLISHED = np.load(DATA / 'ms2mnet' / 'parts' / 'published.npz')
HOT = 8.0  # where ReLU6 clips
# Class of the authors: our module, its place in their network and in ours, shape and scale of the
# inputs.
PARTS = {
    'WASEFusion': (lambda: WASE(64), 'waseFusion1.', 'fusion.0.wase.', (64, 8, 12), 1.0),
    'SqueezeExcite': (lambda: ChannelGate(64, 16, nn.SiLU()), 'vfeBlock1.se.', 'fusion.0.vfe.se.',
                      (64, 6, 8), 1.0),
    'LayerNorm1D': (lambda: ChannelNorm(64), 'vfeBlock1.norm.', 'fusion.0.vfe.norm.',
                    (64, 6, 8), 1.0),
    'SeparableConvBNReLU': (lambda: SeparableConv(32, 5), 'decoder.p1.post_conv.',
                            'decoder.p1.post_conv.', (32, 8, 12), HOT),
    'E_FFN': (lambda: MLP(64), 'decoder.b4.mlp.', 'decoder.b4.mlp.', (64, 12, 10), HOT),
    'MMPADBlock': (lambda: MultiScaleConv(32, (3, 5, 7), pointwise=True), 'decoder.b4.attn.MSC.',
                   'decoder.b4.attn.msc.', (32, 20, 28), HOT),
    'Block_down': (lambda: Block(64, (3, 5, 7)), 'decoder.b4.', 'decoder.b4.', (64, 20, 28), HOT),
    'Block_up': (lambda: Block(64, (1, 3, 5)), 'decoder.b4.', 'decoder.b4.', (64, 6, 8), 1.0),
    'MAF': (lambda: Head(64, 6), 'decoder.seg_head.', 'decoder.seg_head.', (64, 24, 32), HOT),
}


def filled(module, prefix, theirs, ours):
    """Return our module with weights drawn from `prefix` and the names in the authors' class."""
    keys = [entry['key'] for entry in keys_of('ms2mnet') if entry['key'].startswith(theirs)]
    shapes = {name: tuple(value.shape) for name, value in module.state_dict().items()}
    state = {}
    for name, key in convert_state_dict('ms2mnet', {key: key for key in keys}).items():
        shape = shapes[name.removeprefix(ours)]
        drawn = shape[1:2] if len(shape) == 3 else shape  # a layer norm's (1, C, 1)
        values = torch.from_numpy(fill(prefix + key.removeprefix(theirs), drawn))
        state[name.removeprefix(ours)] = values.reshape(shape)
    load_into(module, state, prefix)
    return module.eval()


@pytest.mark.parametrize('name', PARTS)
def test_a_published_part_equals_the_authors_class(name):
    make, theirs, ours, shape, scale = PARTS[name]
    module = filled(make(), f'unit.{name}.', theirs, ours)
    inputs = [scale * torch.from_numpy(image(f'unit.{name}.in{i}', (1, *shape)))
              for i in range(2 if name == 'WASEFusion' else 1)]
    with torch.inference_mode():
        out = module(*inputs)
        if name == 'SqueezeExcite':
            out = out * inputs[0]
        if name == 'MMPADBlock':
            out = Pool()(out)
    np.testing.assert_allclose(out.numpy().ravel()[::5], PUBLISHED[name], rtol=0,
                               atol=1e-4 * scale)


def test_the_encoder_of_the_surface_model_equals_the_published_one():
    net = filled(ResNet50(1), 'dsm_backbone.', 'dsm_backbone.', 'encoder_x.')
    with torch.inference_mode():
        maps = net(torch.from_numpy(image('x', (1, 1, 96, 128))))
    for j, ours in enumerate(map(Fingerprint.of, maps)):
        mean, std, *first64 = PUBLISHED[f'dsmraw_b{j}']
        np.testing.assert_allclose((ours.mean, ours.std), (mean, std), rtol=0, atol=2e-6 * std)
        np.testing.assert_allclose(ours.first64, first64, rtol=0, atol=1e-4)


def test_edges_are_those_of_a_sobel_filter_with_a_reflected_border():
    x = image('x', (1, 1, 7, 9))
    padded = np.pad(x[0, 0], 1, mode='reflect')
    kernel = np.array([[-1, 0, 1], [-2, 0, 2], [-1, 0, 1]])
    wanted = np.empty((7, 9))
    for row, column in np.ndindex(wanted.shape):
        patch = padded[row:row + 3, column:column + 3]
        edge = np.hypot((patch * kernel).sum(), (patch * kernel.T).sum())
        wanted[row, column] = x[0, 0, row, column] + edge
    np.testing.assert_allclose(DFE()(torch.from_numpy(x))[0, 0], wanted, rtol=0, atol=1e-5)


def test_edges_of_high_steps_stay_within_half_precision():
    x = 100.0 * torch.from_numpy(image('x', (1, 1, 32, 32)))
    exact = DFE()(x)
    assert (exact - x).max() > 256.0  # the square is beyond fp16: the case is real
    half = DFE()(x.half())
    assert half.dtype == torch.float16
    assert (half - exact).abs().max() < 0.01 * exact.abs().max()


@pytest.mark.parametrize('dtype', [torch.float16, torch.float32])
def test_a_flat_surface_passes_its_gradient_on(dtype):
    x = torch.ones(1, 1, 8, 8, dtype=dtype, requires_grad=True)
    DFE()(x).sum().backward()
    assert torch.equal(x.grad, torch.ones_like(x))


@pytest.mark.parametrize('size', [(1, 2), (5, 37), (16, 16), (30, 40), (47, 15)])
def test_maps_of_any_size_are_pooled_adaptively(size):
    x = torch.randn(2, 3, *size)
    torch.testing.assert_close(Pool()(x), F.adaptive_avg_pool2d(x, 16))


def test_no_channel_gate_starts_dead():
    torch.manual_seed(0)
    for _ in range(50):
        wase = WASE(64)
        for gate in (wase.gate_rgb, wase.gate_x):
            hidden = gate[0](torch.randn(1, 64, 8, 8).relu().mean(dim=(2, 3), keepdim=True))
            assert (hidden > 0).any()
