# Copyright 2026 rgbx_seg_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""What DiFusionSeg does beyond any network: steps, noise, fused image, variants, norms."""

from pathlib import Path

import numpy as np
import pytest
from rgbx_seg_ros.errors import CardError, FrameError
from rgbx_seg_ros.networks.convnext import Block
from rgbx_seg_ros.networks.difusionseg import DiFusionSeg
from support.fill import fill, image
import torch

CLASSES = 5
NORMS = Path(__file__).parents[1] / 'data' / 'parity' / 'difusionseg' / 'units' / 'norms.npz'


def build(**arguments):
    torch.manual_seed(0)
    return DiFusionSeg(CLASSES, backbone='atto', **arguments).eval()


@pytest.fixture(scope='module')
def built():
    return build()


@pytest.fixture
def net(built):
    """Return a small network with random weights, which every test gets with three steps."""
    built.steps = 3
    return built


@pytest.fixture(autouse=True)
def no_grad():
    with torch.no_grad():
        yield


def drawn(*shape, seed=1):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def pair(count, height, width):
    return drawn(count, 3, height, width), drawn(count, 1, height, width, seed=2)


def test_the_first_of_three_steps_is_all_that_one_step_does(net):
    inputs, seen = pair(1, 32, 48), []
    hook = net.decode_head.register_forward_hook(lambda module, args, out: seen.append(out))
    three, fused = net.forward_with_fusion(*inputs)
    net.steps = 1
    one, same_fused = net.forward_with_fusion(*inputs)
    hook.remove()
    assert len(seen) == 4
    torch.testing.assert_close(seen[3], seen[0])
    assert (three - one).abs().max() > 1e-2
    assert torch.equal(fused, same_fused)


@pytest.mark.parametrize('steps', [0, -1, 2.5, '3'])
def test_steps_that_cannot_be_taken_are_named_and_change_nothing(net, steps):
    with pytest.raises(CardError, match=f'steps is {steps!r}, allowed are whole numbers from 1'):
        net.steps = steps
    assert net.steps == 3
    with pytest.raises(CardError, match='steps is'):
        build(steps=steps)


def test_the_same_frame_gives_the_same_logits_in_any_process_and_at_any_place_in_a_batch(net):
    rgb, x = pair(1, 32, 48)
    logits = net(rgb, x)
    torch.manual_seed(7)
    torch.testing.assert_close(net(rgb, x), logits, rtol=0, atol=0)
    again, other = build(), build(seed=3)
    torch.manual_seed(8)
    torch.testing.assert_close(again(rgb, x), logits, rtol=0, atol=0)
    assert (other(rgb, x) - logits).abs().max() > 1e-2
    for item in net(rgb.expand(3, -1, -1, -1), x.expand(3, -1, -1, -1)):
        torch.testing.assert_close(item[None], logits, rtol=0, atol=1e-5)


def test_the_noise_of_a_batch_belongs_to_its_items(net):
    (rgb, x), noise = pair(2, 32, 48), drawn(2, 256, 8, 12)
    logits, fused = net.forward_with_fusion(rgb, x, noise)
    for i in range(2):
        alone, fused_alone = net.forward_with_fusion(rgb[i:i + 1], x[i:i + 1], noise[i:i + 1])
        torch.testing.assert_close(logits[i:i + 1], alone, rtol=0, atol=2e-5)
        torch.testing.assert_close(fused[i:i + 1], fused_alone, rtol=0, atol=1e-6)
    assert (net(rgb, x, noise.flip(0)) - logits).abs().max() > 1e-2


@pytest.mark.parametrize(('shape', 'needed'), [
    ((1, 256, 8, 12), r'\(1, 256, 9, 12\)'),
    ((256, 9, 12), r'\(1, 256, 9, 12\)'),
    ((2, 256, 9, 12), r'\(1, 256, 9, 12\)'),
])
def test_noise_of_a_wrong_shape_is_told_the_shape_needed(net, shape, needed):
    with pytest.raises(FrameError, match=f'^noise has the shape .*, needed is {needed}$'):
        net(*pair(1, 33, 47), torch.zeros(shape))


def test_sides_that_are_no_multiples_of_four_are_filled_with_zeros(net):
    rgb, x = pair(1, 33, 47)
    padded = [torch.zeros(1, len(part[0]), 36, 48) for part in (rgb, x)]
    for whole, part in zip(padded, (rgb, x), strict=True):
        whole[:, :, :33, :47] = part
    for ours, wanted in zip(net.forward_with_fusion(rgb, x), net.forward_with_fusion(*padded),
                            strict=True):
        assert ours.shape[2:] == (33, 47)
        torch.testing.assert_close(ours, wanted[:, :, :33, :47])


def test_the_fused_image_is_a_picture_of_the_input_size_made_of_both(net):
    rgb, x = pair(1, 32, 48)
    _, fused = net.forward_with_fusion(rgb, x)
    assert fused.shape == (1, 3, 32, 48)
    assert 0 <= fused.min() < fused.max() <= 1
    for other in ((rgb.flip(0, 1), x), (rgb, -x)):
        assert (net.forward_with_fusion(*other)[1] - fused).abs().max() > 1e-3


def test_variants_differ_in_the_classifier_alone():
    with torch.device('meta'):
        msrs, mfd, fmb = (DiFusionSeg(CLASSES, variant=name).state_dict()
                          for name in ('msrs', 'mfd', 'fmb'))
    assert list(fmb) == list(msrs)
    assert set(mfd) ^ set(msrs) == {f'decode_head.conv_seg.{name}' for name in (
        'weight', 'bias', 'depthwise.weight', 'depthwise.bias', 'pointwise.weight',
        'pointwise.bias')}
    with pytest.raises(CardError, match="variant is 'MFD', allowed are: msrs, mfd, fmb"):
        build(variant='MFD')


def test_every_label_and_none_has_a_code_within_the_bit_scale(net):
    labels = torch.arange(CLASSES + 1).view(1, 2, 3)
    codes = net.encode_labels(labels)
    assert codes.shape == (1, 256, 2, 3)
    assert 0.005 < codes.abs().max() <= 0.01
    assert len(codes.flatten(2).unique(dim=2)[0, 0]) == CLASSES + 1


@pytest.mark.parametrize(('theirs', 'ours', 'drawn_as', 'shape'), [
    ('backbone.downsample_layers.1.0', 'backbone.downsample_layers.1.0', 'unit_ln',
     (1, 96, 6, 8)),
    ('backbone.stages.0.0.norm', 'backbone.stages.0.0.norm', 'unit_ln', (1, 96, 6, 8)),
    ('backbone.norm0', 'backbone.norms.0', 'unit_ln', (1, 96, 6, 8)),
    ('neck.lateral_convs.0.gn', 'neck.lateral_convs.0.gn', 'unit_gn', (1, 256, 6, 8)),
    ('decode_head.encoder.layers.0.norms.0', 'decode_head.layers.0.norm1', 'unit_ln2',
     (1, 1, 5, 256)),
])
def test_norms_of_weak_signals_are_the_originals(theirs, ours, drawn_as, shape):
    with torch.device('meta'):
        norm = DiFusionSeg(9).get_submodule(ours)
    norm = norm.to_empty(device='cpu')
    norm.load_state_dict({name: torch.from_numpy(fill(f'{theirs}.{name}', tuple(value.shape)))
                          for name, value in norm.state_dict().items()})
    x = torch.from_numpy(image(drawn_as, shape)) * 1e-3  # the variance is about epsilon
    if ours.endswith('stages.0.0.norm'):  # channels are last inside a block
        out = norm(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
    else:
        out = norm(x)
    wanted = np.load(NORMS)[theirs.removeprefix('backbone.')]
    np.testing.assert_allclose(out.flatten()[::37], wanted, rtol=0, atol=1e-5)


def test_stochastic_depth_drops_whole_branches_and_scales_up_the_others():
    torch.manual_seed(0)
    block = Block(8, 0.25).eval()
    x = drawn(64, 8, 4, 4)
    branch = block(x) - x
    ratio = ((block.train()(x) - x) / branch).flatten(1)
    torch.testing.assert_close(ratio, ratio[:, :1].expand_as(ratio), rtol=0, atol=1e-2)
    kept = ratio.median(dim=1).values
    torch.testing.assert_close(kept[kept > 0.5], torch.full_like(kept[kept > 0.5], 4 / 3))
    assert 4 <= (kept < 0.5).sum() <= 28  # of 64, where 16 are expected


def test_stochastic_depth_rises_from_zero_to_its_rate_over_all_blocks():
    with torch.device('meta'):
        backbone = DiFusionSeg(CLASSES).backbone
    rates = torch.tensor([block.drop_path.share for stage in backbone.stages for block in stage])
    torch.testing.assert_close(rates, torch.linspace(0, 0.4, 18))
