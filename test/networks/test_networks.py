# Copyright 2026 rgbx_seg_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""What every network of the registry does, whatever is inside it."""

import contextlib
import copy
import re

import pytest
from rgbx_seg_ros.errors import CardError, FrameError
from rgbx_seg_ros.networks import build, NETWORKS
from rgbx_seg_ros.networks.layers import DropPath
from rgbx_seg_ros.networks.mddg_fusion import DivergenceMask
from support.trials import COMPACT, TRIALS
import torch

CLASSES = 5


@pytest.fixture(scope='module', params=NETWORKS)
def name(request):
    """Return the name of a network."""
    return request.param


@pytest.fixture(scope='module')
def net(name):
    """Return the first variant of a network, in eval mode, with random weights."""
    torch.manual_seed(0)
    return build(name, CLASSES, **TRIALS[name].variants[0]).eval()


@pytest.fixture(scope='module')
def size(name):
    """Return the size at which the network is tried."""
    return TRIALS[name].sizes[0]


def pair(net, count, size, seed=1):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(count, 3 + net.X_CHANNELS, *size, generator=generator).split(
        (3, net.X_CHANNELS), dim=1)


@contextlib.contextmanager
def decisions_kept(net):
    """
    Let MDDG mix the same half of the pixels in every pass that it mixes in the first one.

    Which pixels belong to it hangs on the last bits, and one of them moves the logits more than
    all rounding does.
    """
    first = {}

    def keep(module, args, out):
        return first.setdefault(module, out).to(out.dtype)

    hooks = [module.register_forward_hook(keep) for module in net.modules()
             if isinstance(module, DivergenceMask)]
    yield
    for hook in hooks:
        hook.remove()


@pytest.mark.parametrize(
    ('name', 'variant'), [(name, v) for name in NETWORKS for v in TRIALS[name].variants], ids=str)
def test_every_variant_gives_logits_at_input_size(name, variant):
    size = TRIALS[name].sizes[0]
    with torch.device('meta'):
        net = build(name, CLASSES, **variant)
        assert net(*pair(net, 2, size)).shape == (2, CLASSES, *size)


@pytest.mark.parametrize(
    ('name', 'size'), [
        pytest.param(name, size, marks=[pytest.mark.long] if size[0] > 500 else [])
        for name in NETWORKS for size in TRIALS[name].sizes], indirect=['name'], ids=str)
def test_sizes_of_all_kinds_give_finite_logits_at_input_size(net, size):
    with torch.inference_mode():
        logits = net(*pair(net, 1, size))
    assert logits.shape == (1, CLASSES, *size)
    assert logits.isfinite().all()


def test_a_batch_of_two_equals_two_batches_of_one(net, size):
    rgb, x = pair(net, 2, size)
    with torch.inference_mode():
        both = net(rgb, x)
        each = torch.cat([net(rgb[i:i + 1], x[i:i + 1]) for i in range(2)])
    torch.testing.assert_close(both, each, rtol=0, atol=float(2e-5 * each.std()))


def settled(net, images):
    """Return a copy in eval mode whose batch norms have seen `images`, as after a training."""
    net = copy.deepcopy(net).train()
    for part in net.modules():
        if isinstance(part, torch.nn.BatchNorm2d):
            part.momentum = 1.0
    with torch.no_grad():
        net(*images)
    return net.eval()


def test_both_images_reach_the_logits(net, size):
    rgb, x = pair(net, 1, size)
    other_rgb, other_x = pair(net, 1, size, seed=2)
    net = settled(net, (rgb, x))
    with torch.inference_mode():
        logits = net(rgb, x)
        spread = logits.std()
        assert (net(other_rgb, x) - logits).abs().max() > 0.1 * spread
        assert (net(rgb, other_x) - logits).abs().max() > 0.1 * spread


def assert_every_parameter_learns(net, size):
    net = copy.deepcopy(net).train()
    for part in net.modules():
        if isinstance(part, DropPath):  # which now and then drops a branch of both images
            part.share = 0.0
    torch.manual_seed(0)
    net(*pair(net, 2, size)).square().mean().backward()
    wrong = [name for name, p in net.named_parameters()
             if p.grad is None or not p.grad.isfinite().all() or not p.grad.any()]
    assert wrong == []


def test_a_training_step_gives_every_parameter_a_finite_gradient(net, size):
    # The forward passes in inference mode above must not spoil what is kept for later ones.
    with torch.inference_mode():
        net(*pair(net, 2, size))
    assert_every_parameter_learns(net, size)


@pytest.mark.parametrize('name', COMPACT)
def test_a_training_step_gives_every_parameter_of_a_compact_network_a_finite_gradient(name):
    torch.manual_seed(0)
    net = build(name, CLASSES, **COMPACT[name])
    published = {'num_classes': CLASSES, **TRIALS[name].variants[0]}
    with torch.device('meta'):
        parameters = sum(p.numel() for p in build(name, **published).parameters())
    assert 0 < sum(p.numel() for p in net.parameters()) < parameters
    assert_every_parameter_learns(net, TRIALS[name].sizes[0])


def test_half_precision_follows_float32(net, name):
    rgb, x = pair(net, 1, min(TRIALS[name].sizes))  # half precision is slow on a CPU
    net = copy.deepcopy(net)
    with torch.no_grad(), decisions_kept(net):
        exact = net(rgb, x)
        with torch.autocast('cpu', torch.bfloat16):
            mixed = net(rgb, x)
        half = net.half()(rgb.half(), x.half())
    spread = exact.std()
    assert half.dtype == torch.float16
    assert (half - exact).abs().max() < 0.05 * spread
    assert (mixed - exact).abs().max() < 0.5 * spread


@pytest.mark.long  # test/export/test_onnx.py exports them smaller, and folded as engines do
def test_an_exported_program_gives_the_same_logits(net, size):
    rgb, x = pair(net, 1, size)
    with torch.no_grad():
        program = torch.export.export(net, (rgb, x))
        wanted = net(rgb, x)
        torch.testing.assert_close(program.module()(rgb, x), wanted, rtol=0,
                                   atol=float(2e-5 * wanted.std()))
    assert not any(node.meta['val'].is_complex() for node in program.graph.nodes
                   if isinstance(node.meta.get('val'), torch.Tensor))


@pytest.mark.parametrize(('rgb', 'x', 'said'), [
    ((1, 3, 64, 64), (1, 2, 64, 64), r'^x has the shape \(1, 2, 64, 64\), needed is \(N, [13], H'),
    ((1, 4, 64, 64), (1, 0, 64, 64), r'^rgb has the shape \(1, 4, 64, 64\), needed is \(N, 3, H'),
    ((3, 64, 64), (0, 64, 64), r'^rgb has the shape \(3, 64, 64\), needed is \(N, 3, H, W\)'),
    ((1, 3, 31, 64), (1, 0, 31, 64), r'shape \(1, 3, 31, 64\): a side is shorter than 32 pixels'),
    ((1, 3, 64, 64), (1, 0, 64, 96), r'rgb has .*\(1, 3, 64, 64\), but x \(1, [13], 64, 96\)'),
    ((1, 3, 64, 64), (2, 0, 64, 64), r'rgb has .*\(1, 3, 64, 64\), but x \(2, [13], 64, 64\)'),
])
def test_inputs_of_a_wrong_shape_are_named(net, rgb, x, said):
    x = [side or net.X_CHANNELS for side in x]
    with pytest.raises(FrameError, match=said):
        net(torch.zeros(rgb), torch.zeros(x))


def test_raw_bytes_are_refused(net):
    rgb, x = (image.to(torch.uint8) for image in pair(net, 1, (64, 64)))
    with pytest.raises(FrameError, match='rgb is torch.uint8, needed are normalised'):
        net(rgb, x)


def test_an_unknown_network_is_told_the_nearest_name():
    with pytest.raises(CardError, match="network is 'rxsnet', allowed are: .*mean 'rxssnet'"):
        build('rxsnet', CLASSES)


def test_an_unknown_argument_is_named(name):
    with pytest.raises(CardError, match=f'network {name!r} does not take .*depth'):
        build(name, CLASSES, depth=3)


@pytest.mark.parametrize(('name', 'argument'), [
    (name, argument) for name in NETWORKS for argument in TRIALS[name].variants[0]
    if argument in ('backbone', 'variant')])
def test_an_unknown_variant_is_told_what_there_is(name, argument):
    known = TRIALS[name].variants[-1][argument]
    with pytest.raises(CardError, match=f"{argument} is 'huge', allowed are: .*{known}"):
        build(name, CLASSES, **{argument: 'huge'})


@pytest.mark.parametrize(('name', 'argument', 'bad', 'needed'), [
    *(('mddg', 'decoder_width', bad, 'needed is a multiple of 16') for bad in (0, -16, 24, 64.0)),
    *(('mddg', 'scan_states', bad, 'allowed are whole numbers from 1') for bad in (0, 2.5, None)),
    *(('mddg', 'scan_ratios', bad, 'needed are 4 whole numbers from 1')
      for bad in (2, (2, 2, 1), (2, 2, 1, 0), (2, 2, 1, 1.0))),
    *(('ms2mnet', 'base_width', bad, 'needed is a multiple of 4') for bad in (0, -4, 18, '16')),
    *(('difusionseg', 'width', bad, 'needed is a multiple of 32') for bad in (0, 48, -32, True)),
    *(('difusionseg', 'fusion_width', bad, 'needed is a multiple of 8 whose half divides')
      for bad in (0, -8, 12, 48, 1024, 32.0)),
    *(('difusionseg', 'layers', bad, 'allowed are whole numbers from 1') for bad in (0, '3', 1.5)),
])
def test_a_size_that_cannot_be_built_is_told_what_can(name, argument, bad, needed):
    with pytest.raises(CardError, match=f'^{argument} is {re.escape(repr(bad))}, {needed}'):
        build(name, CLASSES, **{argument: bad})
