# Copyright 2026 rgbx_seg_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""What training adds to a network, and that a prediction knows nothing of it."""

import pytest
from rgbx_seg_ros.errors import DataError
from rgbx_seg_ros.fields import from_mapping
from rgbx_seg_ros.networks import build, NETWORKS
from rgbx_seg_ros.networks.layers import resize
from rgbx_seg_ros.networks.training import ConvHead, MapHead
from rgbx_seg_ros.training.losses import Loss, Objective
from support.parity_cases import keys_of
from support.trials import COMPACT, TRIALS
import torch
from torch.nn import functional as F
import yaml

CLASSES = 5
WITH_HEADS = [name for name, network in NETWORKS.items() if network.AUXILIARY_HEADS]
WITH_FEATURES = [name for name in WITH_HEADS if hasattr(NETWORKS[name], 'forward_with_features')]
# Below which of the authors' names the heads are, and their parameters, as the original has them.
PLACES = {
    'mddg': ('', 3_161_106), 'ms2mnet': ('decoder.', 1_183_756), 'difusionseg': ('', 592_649)}

# What the authors minimise, where it is more than a cross-entropy.
PUBLISHED = {
    'mddg': """
        cross_entropy: 0.5
        label_smoothing: 0.1
        over_all_pixels: true
        dice: 0.5
        auxiliary:
          - {cross_entropy: 0.3, label_smoothing: 0.1}
          - {cross_entropy: 0.3, label_smoothing: 0.1}
        """,
    'ms2mnet': """
        focal: 0.6
        focal_alpha: [0.75, 0.25, 0.25, 0.25, 0.25]
        phases:
          - {epoch: 30, focal: 0.48, boundary: 0.4}
          - {epoch: 60, focal: 0.36, lovasz: 0.2}
        auxiliary:
          - {cross_entropy: 0.15, focal: 0.15, focal_alpha: [0.75, 0.25, 0.25, 0.25, 0.25]}
          - {cross_entropy: 0.1, focal: 0.1, focal_alpha: [0.75, 0.25, 0.25, 0.25, 0.25]}
        """,
    'difusionseg': """
        over_all_pixels: true
        auxiliary: [{cross_entropy: 0.4, over_all_pixels: true}]
        fusion: 1.0
        synergy: 1.0
        """,
}


def small(name):
    torch.manual_seed(0)
    net, size = build(name, CLASSES, **TRIALS[name].variants[0]).eval(), TRIALS[name].sizes[0]
    generator = torch.Generator().manual_seed(1)
    images = torch.randn(1, 3 + net.X_CHANNELS, *size, generator=generator)
    return net, images.split((3, net.X_CHANNELS), dim=1)


@pytest.mark.parametrize('name', PLACES)
def test_auxiliary_heads_have_the_names_and_shapes_of_the_authors(name):
    prefix, count = PLACES[name]
    theirs = {entry['key']: tuple(entry['shape']) for entry in keys_of(name)
              if '.aux_head' in entry['key'] or entry['key'].lower().startswith('aux')}
    classes = 6 if name == 'ms2mnet' else 9
    with torch.device('meta'):
        parts = build(name, classes).training_parts(classes, auxiliary=True)
    assert theirs
    ours = {prefix + key: tuple(value.shape) for key, value in parts.state_dict().items()}
    assert ours == theirs
    assert sum(p.numel() for p in parts.parameters()) == count


@pytest.mark.parametrize('name', WITH_HEADS)
def test_without_auxiliary_losses_there_is_nothing_more_to_learn(name):
    with torch.device('meta'):
        parts = build(name, CLASSES).training_parts(CLASSES, auxiliary=False)
    assert parts is None or not list(parts.parameters())


@pytest.mark.parametrize('name', WITH_FEATURES)
def test_training_gives_the_logits_of_a_prediction_and_one_map_more_for_each_head(name):
    net, (rgb, x) = small(name)
    parts = net.training_parts(CLASSES, auxiliary=True).eval()
    label = torch.zeros(1, *rgb.shape[2:], dtype=torch.int64)
    with torch.inference_mode():
        logits, auxiliary, terms = parts(net, rgb, x, label)
        torch.testing.assert_close(logits, net(rgb, x), rtol=0, atol=0)
    assert len(auxiliary) == net.AUXILIARY_HEADS
    assert all(part.shape == logits.shape for part in auxiliary)
    assert not torch.equal(*auxiliary)
    assert terms == {}


@pytest.mark.parametrize(('name', 'text', 'arguments'), [
    *((name, '{}', TRIALS[name].variants[0]) for name in NETWORKS),
    *((name, text, TRIALS[name].variants[0]) for name, text in PUBLISHED.items()),
    *((name, text, COMPACT[name]) for name, text in PUBLISHED.items())],
    ids=lambda part: str(part)[:11].strip())
def test_no_parameter_is_left_out_by_the_losses_of_a_recipe(name, text, arguments):
    # A process of several would wait for its gradient. Shapes tell; values are tested elsewhere.
    spec = from_mapping(Loss, yaml.safe_load(text), name, DataError)
    height, width = TRIALS[name].sizes[0]
    with torch.device('meta'):
        objective = Objective(build(name, CLASSES, **arguments), spec, CLASSES)
        rgb, x = torch.empty(2, 3, height, width), torch.empty(
            2, objective.network.X_CHANNELS, height, width)
        label = torch.zeros(2, height, width, dtype=torch.int64)
        frame = torch.zeros(2, height, width, 3, dtype=torch.uint8)
        sum(objective(rgb, x, label, frame).values()).backward()
    assert [key for key, p in objective.named_parameters() if p.grad is None] == []


def seen_in(net, rgb, x, modules):
    """Return what each call of each of `modules` gave, and the features for auxiliary heads."""
    calls = {name: [] for name in modules}
    hooks = [module.register_forward_hook(
        lambda module, args, out, name=name: calls[name].append(out))
        for name, module in modules.items()]
    with torch.inference_mode():
        _, features = net.forward_with_features(rgb, x)
    for hook in hooks:
        hook.remove()
    return calls, features


def test_the_heads_of_ms2mnet_look_at_what_enters_its_last_two_blocks():
    net, images = small('ms2mnet')
    calls, features = seen_in(net, *images, {'p3': net.decoder.p3, 'p2': net.decoder.p2})
    for feature, wanted in zip(features, (calls['p3'], calls['p2']), strict=True):
        torch.testing.assert_close(feature, wanted[0], rtol=0, atol=0)


def test_the_heads_of_mddg_look_at_colour_after_its_fusion_and_at_thermal_before_it():
    net, images = small('mddg')
    modules = {'x': net.encoder_x, **{f'fusion{i}': block for i, block in enumerate(net.fusion)}}
    calls, (features_rgb, features_x) = seen_in(net, *images, modules)
    assert len(features_rgb) == len(features_x) == 4
    for i in range(4):
        torch.testing.assert_close(features_rgb[i], calls[f'fusion{i}'][0][1], rtol=0, atol=0)
        torch.testing.assert_close(features_x[i], calls['x'][i], rtol=0, atol=0)


def test_the_heads_of_a_compact_mddg_are_compact_as_well():
    parts = build('mddg', CLASSES, **COMPACT['mddg']).training_parts(CLASSES, auxiliary=True)
    assert sum(p.numel() for p in parts.parameters()) < PLACES['mddg'][1] / 10


def test_the_head_for_maps_is_segformers():
    torch.manual_seed(0)
    head = MapHead((4, 6, 8, 10), 3, width=16).eval()
    head.linear_fuse.bn.running_mean.normal_()
    maps = [torch.randn(2, c, 16 >> i, 24 >> i) for i, c in enumerate((4, 6, 8, 10))]
    wide = []
    for i in (4, 3, 2, 1):
        linear = head.get_submodule(f'linear_c{i}').proj
        tokens = F.linear(maps[i - 1].permute(0, 2, 3, 1), linear.weight, linear.bias)
        wide.append(resize(tokens.permute(0, 3, 1, 2), (16, 24)))
    fused = head.linear_fuse.bn(F.conv2d(torch.cat(wide, dim=1), head.linear_fuse.conv.weight))
    wanted = F.conv2d(fused.relu(), head.linear_pred.weight, head.linear_pred.bias)
    torch.testing.assert_close(head(maps), wanted)


def test_the_head_for_one_map_clips_at_six():
    torch.manual_seed(0)
    head, x = ConvHead(8, 3).eval(), 100 * torch.randn(1, 8, 5, 7)
    (conv, norm, _), _, classify = head
    hidden = norm(F.conv2d(x, conv.weight, padding=1)).clamp(0, 6)
    torch.testing.assert_close(head(x), F.conv2d(hidden, classify.weight, classify.bias))
    assert (hidden == 6).any()
