# Copyright 2026 rgbx_seg_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""GatedLite and its encoder: padding, strides, and what a lost modality counts for."""

import pytest
from rgbx_seg_ros.networks import build
from rgbx_seg_ros.networks.efficientnet_lite import EfficientNetLite, SameConv2d
import torch
from torch.nn import functional as F

CLASSES = 5
SIZE = (64, 96)


def random(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


@pytest.fixture(scope='module', params=[True, False], ids=['shared', 'apart'])
def net(request):
    """Return a small network with norms that do something."""
    generator = torch.Generator().manual_seed(1)
    with torch.random.fork_rng(), torch.no_grad():
        torch.manual_seed(1)
        net = build('gated_lite', CLASSES, width=32, shared=request.param)
        for module in net.modules():
            if isinstance(module, torch.nn.BatchNorm2d):
                module.running_mean.normal_(0, 0.1, generator=generator)
                module.running_var.uniform_(0.05, 0.2, generator=generator)
                module.bias.normal_(0, 0.3, generator=generator)
    return net.eval()


@pytest.mark.parametrize('kernel', [3, 5])
@pytest.mark.parametrize('stride', [1, 2])
@pytest.mark.parametrize('side', [1, 2, 7, 8, 9])
def test_padding_is_that_of_tensorflow(kernel, stride, side):
    """Output i begins at i·stride - p, where p is the smaller half of all the zeros needed."""
    conv = SameConv2d(1, 1, kernel, stride)
    image = random(1, 1, side, side + 1)
    out = conv(image).detach()
    assert out.shape[2:] == (-(-side // stride), -(-(side + 1) // stride))
    starts = [max(0, (-(-length // stride) - 1) * stride + kernel - length) // 2
              for length in image.shape[2:]]
    wide = F.pad(image, (kernel,) * 4)
    for i in range(out.shape[2]):
        for j in range(out.shape[3]):
            top, left = (kernel - start + stride * k
                         for start, k in zip(starts, (i, j), strict=True))
            window = wide[0, 0, top:top + kernel, left:left + kernel]
            torch.testing.assert_close(out[0, 0, i, j], (window * conv.weight[0, 0]).sum())


def test_the_encoder_is_that_of_the_published_file():
    """EfficientNet-Lite0 has 4.65 million parameters, of which the classifier has 1.69 million."""
    encoder = EfficientNetLite()
    assert sum(p.numel() for p in encoder.parameters()) == 4_652_008 - 1_693_160
    maps = encoder.eval()(random(1, 3, 65, 96))
    assert [part.shape[1:] for part in maps] == [
        (24, 17, 24), (40, 9, 12), (112, 5, 6), (320, 3, 3)]


def test_all_of_it_is_bounded_as_relu6_is(net):
    maps = []
    hooks = [module.register_forward_hook(lambda module, args, out: maps.append(out))
             for module in net.modules() if isinstance(module, torch.nn.ReLU6)]
    with torch.inference_mode():
        net(100 * random(1, 3, *SIZE), 100 * random(1, 3, *SIZE, seed=1))
    for hook in hooks:
        hook.remove()
    assert len(maps) == 2 * 32 + 4
    assert all(0 <= out.min() and out.max() <= 6 for out in maps)


@pytest.mark.parametrize('lost', ['rgb', 'x'])
def test_a_lost_modality_counts_for_nothing(net, lost, monkeypatch):
    """Neither its encoder's constant answer nor the gate leaves a trace."""
    rgb, x = random(1, 3, *SIZE), random(1, 3, *SIZE, seed=1)
    alone = (torch.zeros_like(rgb), x) if lost == 'rgb' else (rgb, torch.zeros_like(x))
    with torch.inference_mode():
        both, left = net(rgb, x), net(*alone)
        encode = net.encode

        def spoilt(*images):
            maps = list(encode(*images))
            which = ('rgb', 'x').index(lost)
            maps[which] = [torch.full_like(part, 7.0) for part in maps[which]]
            return maps
        monkeypatch.setattr(net, 'encode', spoilt)
        torch.testing.assert_close(net(*alone), left, rtol=0, atol=0)
        assert not torch.allclose(net(rgb, x), both), 'the encoder has no effect at all'
    assert not torch.allclose(both, left)


def test_what_is_lost_is_told_for_each_frame_of_a_batch(net):
    rgb, x = random(3, 3, *SIZE), random(3, 3, *SIZE, seed=1)
    rgb[1], x[2] = 0.0, 0.0
    with torch.inference_mode():
        each = torch.cat([net(rgb[i:i + 1], x[i:i + 1]) for i in range(3)])
        torch.testing.assert_close(net(rgb, x), each, rtol=0, atol=5e-4 * each.std().item())


def test_training_sees_both_sensors_and_each_alone(net):
    rgb, x = random(2, 3, *SIZE), random(2, 3, *SIZE, seed=1)
    label = torch.zeros(2, *SIZE, dtype=torch.int64)
    parts = net.training_parts(CLASSES, auxiliary=True)
    assert net.training_parts(CLASSES, auxiliary=False) is None
    with torch.inference_mode():
        logits, alone, terms = parts(net, rgb, x, label)
        wanted = [net(rgb, x), net(rgb, torch.zeros_like(x)), net(torch.zeros_like(rgb), x)]
    assert terms == {}
    for found, expected in zip((logits, *alone), wanted, strict=True):
        torch.testing.assert_close(found, expected, rtol=0, atol=2e-5 * expected.std().item())


@pytest.mark.parametrize('net', [True], indirect=True)
def test_shared_convolutions_are_stored_once_and_have_norms_of_their_own(net):
    norms = [part for part in net.encoder.modules() if isinstance(part, torch.nn.ModuleList)
             and isinstance(part[0], torch.nn.BatchNorm2d)]
    assert len(norms) == 48 and {len(part) for part in norms} == {2}
    rgb = random(1, 3, *SIZE)
    with torch.inference_mode():
        first, second = net.encode(rgb, rgb)
    assert not torch.allclose(first[0], second[0])


def test_each_pixel_has_a_share_of_its_own_by_what_is_seen_there_and_above(net):
    rgb, x, above = (random(1, 32, 4, 4, seed=seed) for seed in range(3))
    with torch.inference_mode():
        for fusion in net.fusion:
            seen = (rgb, x) if fusion is net.fusion[-1] else (rgb, x, above)
            share = fusion.share_of_x(*seen)
            assert share.shape == (1, 1, 4, 4) and share.std() > 0
            for i in range(len(seen)):
                changed = [part.clone() for part in seen]
                changed[i][..., 2, 1] += 1
                same = fusion.share_of_x(*changed) == share
                assert not same[..., 2, 1].any() and same.sum() == 15
        mixed = fusion.weighed(rgb, x, 1 - share)
        torch.testing.assert_close(mixed, (1 - share) * rgb + share * x)
