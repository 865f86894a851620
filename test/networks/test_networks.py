# Copyright 2026 rgbx_seg_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""What every network of the registry does, whatever is inside it."""

import copy

import pytest
from rgbx_seg_ros.errors import CardError, FrameError
from rgbx_seg_ros.networks import build, NETWORKS
from rgbx_seg_ros.networks.convnextv2 import CONVNEXTV2
import torch

# Name of a network: the sizes it comes in, the smallest first.
BACKBONES = {'ms_irtnet': tuple(CONVNEXTV2), 'rxssnet': tuple(CONVNEXTV2)}
CLASSES = 5


@pytest.fixture(scope='module', params=NETWORKS)
def net(request):
    """Return the smallest variant of a network, in eval mode, with random weights."""
    torch.manual_seed(0)
    return build(request.param, CLASSES, backbone=BACKBONES[request.param][0]).eval()


def pair(count, height, width, seed=1):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(2, count, 3, height, width, generator=generator).unbind(0)


@pytest.mark.parametrize(
    ('name', 'backbone'), [(name, size) for name in NETWORKS for size in BACKBONES[name]])
def test_every_backbone_size_gives_logits_at_input_size(name, backbone):
    with torch.device('meta'):
        net = build(name, CLASSES, backbone=backbone)
        rgb, x = torch.empty(2, 2, 3, 64, 96)
        assert net(rgb, x).shape == (2, CLASSES, 64, 96)


@pytest.mark.parametrize('size', [(32, 32), (33, 47), (100, 130), (250, 333), (600, 800)])
def test_any_size_from_32_pixels_on_gives_finite_logits_at_input_size(net, size):
    with torch.inference_mode():
        logits = net(*pair(1, *size))
    assert logits.shape == (1, CLASSES, *size)
    assert logits.isfinite().all()


def test_a_batch_of_two_equals_two_batches_of_one(net):
    rgb, x = pair(2, 64, 96)
    with torch.inference_mode():
        both = net(rgb, x)
        each = torch.cat([net(rgb[i:i + 1], x[i:i + 1]) for i in range(2)])
    torch.testing.assert_close(both, each, rtol=0, atol=1e-5)


def test_both_images_reach_the_logits(net):
    rgb, x = pair(1, 64, 96)
    other_rgb, other_x = pair(1, 64, 96, seed=2)
    with torch.inference_mode():
        logits = net(rgb, x)
        assert (net(other_rgb, x) - logits).abs().max() > 1e-3
        assert (net(rgb, other_x) - logits).abs().max() > 1e-3


def test_a_training_step_gives_every_parameter_a_finite_gradient(net):
    # The forward passes in inference mode above must not spoil what is kept for later ones.
    with torch.inference_mode():
        net(*pair(2, 64, 96))
    net.train()
    torch.manual_seed(0)
    net(*pair(2, 64, 96)).square().mean().backward()
    wrong = [name for name, p in net.named_parameters()
             if p.grad is None or not p.grad.isfinite().all() or not p.grad.any()]
    net.zero_grad()
    net.eval()
    assert wrong == []


def test_half_precision_follows_float32(net):
    rgb, x = pair(1, 32, 32)  # half precision is slow on a CPU
    with torch.no_grad():
        exact = net(rgb, x)
        half = copy.deepcopy(net).half()(rgb.half(), x.half())
        with torch.autocast('cpu', torch.bfloat16):
            mixed = net(rgb, x)
    spread = exact.std()
    assert half.dtype == torch.float16
    assert (half - exact).abs().max() < 0.05 * spread
    assert (mixed - exact).abs().max() < 0.5 * spread


def test_an_exported_program_gives_the_same_logits(net):
    rgb, x = pair(1, 64, 96)
    with torch.no_grad():
        program = torch.export.export(net, (rgb, x))
        torch.testing.assert_close(program.module()(rgb, x), net(rgb, x), rtol=0, atol=1e-5)
    assert not any(node.meta['val'].is_complex() for node in program.graph.nodes
                   if isinstance(node.meta.get('val'), torch.Tensor))


@pytest.mark.parametrize(('rgb', 'x', 'said'), [
    ((1, 3, 64, 64), (1, 1, 64, 64), r'^x has the shape \(1, 1, 64, 64\), needed is \(N, 3, H'),
    ((1, 4, 64, 64), (1, 3, 64, 64), r'^rgb has the shape \(1, 4, 64, 64\), needed is \(N, 3, H'),
    ((3, 64, 64), (3, 64, 64), r'^rgb has the shape \(3, 64, 64\), needed is \(N, 3, H, W\)'),
    ((1, 3, 31, 64), (1, 3, 31, 64), r'shape \(1, 3, 31, 64\): a side is shorter than 32 pixels'),
    ((1, 3, 64, 64), (1, 3, 64, 96), r'rgb has .*\(1, 3, 64, 64\), but x \(1, 3, 64, 96\)'),
    ((1, 3, 64, 64), (2, 3, 64, 64), r'rgb has .*\(1, 3, 64, 64\), but x \(2, 3, 64, 64\)'),
])
def test_inputs_of_a_wrong_shape_are_named(net, rgb, x, said):
    with pytest.raises(FrameError, match=said):
        net(torch.zeros(rgb), torch.zeros(x))


def test_raw_bytes_are_refused(net):
    image = torch.zeros(1, 3, 64, 64, dtype=torch.uint8)
    with pytest.raises(FrameError, match='rgb is torch.uint8, needed are normalised'):
        net(image, image)


def test_an_unknown_network_is_told_the_nearest_name():
    with pytest.raises(CardError, match="network is 'rxsnet', allowed are: .*mean 'rxssnet'"):
        build('rxsnet', CLASSES)


@pytest.mark.parametrize('name', NETWORKS)
def test_an_unknown_argument_or_backbone_is_named(name):
    with pytest.raises(CardError, match="'huge', allowed are: atto, femto"):
        build(name, CLASSES, backbone='huge')
    with pytest.raises(CardError, match=f'network {name!r} does not take .*depth'):
        build(name, CLASSES, depth=3)
