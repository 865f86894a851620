# Copyright 2026 rgbx_seg_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""
How DiFusionSeg is trained: its losses and gradients equal the original's.

`training.npz` holds one forward pass of the original's training in eval mode, with `fill` weights,
at one time and with one noise; the names of gradients are the authors'.
"""

import copy
import json
from types import SimpleNamespace

import numpy as np
import pytest
from rgbx_seg_ros.networks import difusionseg_training as training
from rgbx_seg_ros.networks.difusionseg import DiFusionSeg
from rgbx_seg_ros.training.losses import Loss, Objective, Terms
from rgbx_seg_ros.weights.checkpoint import our_names
from support.fill import image
from support.parity_cases import CASES, DATA
import torch
from torch.nn import functional as F

CASE = next(case for case in CASES if str(case) == 'difusionseg-msrs_96x128')
THEIRS = np.load(DATA / 'difusionseg' / 'training.npz')
FACTS = json.loads(str(THEIRS['case']))
PUBLISHED = Loss(over_all_pixels=True, auxiliary=(Terms(0.4, over_all_pixels=True),), fusion=1.0,
                 synergy=1.0)
HEAD = 'auxiliary_head.'


def targets():
    """Return the images that the fused one is compared with, and the label."""
    visible, thermal = (
        torch.from_numpy(np.clip(0.5 + 0.25 * image(name, (1, channels, 96, 128)), 0, 1))
        for name, channels in (('vis_ori', 3), ('ir_ori', 1)))
    rows, columns = np.mgrid[:96, :128]
    label = (rows // 16 * 3 + columns // 16) % 9
    label[:8, :8] = 255
    return visible, thermal, torch.from_numpy(label)[None]


@pytest.fixture(scope='module')
def run(tmp_path_factory):
    """Return what our training makes of the weights and inputs of the original's."""
    net = copy.deepcopy(CASE.build(tmp_path_factory.mktemp('weights')))
    objective = Objective(net, PUBLISHED, 9).eval()
    parts, inputs, seen = objective.parts, CASE.inputs(), {}
    parts.load_state_dict({name: value for name, value in CASE.authors_state().items()
                           if name.startswith(HEAD)})
    visible, thermal, label = targets()
    hook = net.decode_head.register_forward_hook(
        lambda module, args, out: seen.update(logits=out))
    aside = parts.auxiliary_head.register_forward_hook(
        lambda module, args, out: seen.update(auxiliary=out))
    noise = inputs.pop('noise')
    out = parts(net, **inputs, label=label, t=torch.tensor([0.37]), noise=noise)
    _, _, fused = parts.denoise(net, **inputs, label=label, t=torch.tensor([0.37]), noise=noise)
    hook.remove()
    aside.remove()
    losses = {
        **objective.main(out.logits, label, PUBLISHED.at(0)),
        'auxiliary1.cross_entropy': objective.auxiliary[0](
            out.auxiliary[0], label, PUBLISHED.auxiliary[0])['cross_entropy'],
        'fusion': training.fusion_loss(fused, visible, thermal),
        'synergy': training.synergy_loss(fused, out.logits, visible, thermal),
    }
    losses['total'] = sum(losses.values())
    losses['total'].backward()
    return SimpleNamespace(objective=objective, losses=losses, seen=seen, noise=noise, label=label)


def test_losses_equal_the_originals(run):
    assert run.losses.keys() == FACTS['losses'].keys()
    for name, theirs in FACTS['losses'].items():
        assert run.losses[name].item() == pytest.approx(
            theirs, rel=FACTS['tolerances']['loss_rel']), name


@pytest.mark.parametrize('theirs', FACTS['gradients'])
def test_gradients_equal_the_originals(run, theirs):
    if theirs.startswith(HEAD):
        parameter = run.objective.parts.get_parameter(theirs)
    else:
        parameter = run.objective.network.get_parameter(
            our_names('difusionseg', [theirs])[theirs])
    wanted, tolerance = FACTS['gradients'][theirs], FACTS['tolerances']['grad_norm_rel']
    assert parameter.grad.norm().item() == pytest.approx(wanted['l2'], rel=tolerance)
    scale = wanted['l2'] / parameter.numel() ** 0.5  # of a single value
    np.testing.assert_allclose(parameter.grad.flatten()[:4], wanted['first4'], rtol=tolerance,
                               atol=tolerance * scale)


def test_logits_of_both_heads_equal_the_originals(run):
    step = FACTS['stride']
    for name, ours in run.seen.items():
        np.testing.assert_allclose(ours.detach()[:, :, ::step, ::step], THEIRS[name], rtol=0,
                                   atol=FACTS['tolerances']['logits_abs'])


def test_the_noisy_map_equals_the_originals(run):
    label = F.interpolate(run.label[:, None].float(), size=(24, 32))[:, 0].long()
    label[label == 255] = 9
    with torch.no_grad():
        z, log_snr = run.objective.network.add_noise(label, torch.tensor([0.37]), run.noise)
    assert log_snr.shape == (1,)
    np.testing.assert_allclose(z.flatten()[:64], THEIRS['noisy_first64'], rtol=0, atol=1e-5)
    np.testing.assert_allclose((z.mean(), z.std(correction=0)), FACTS['noisy_mean_std'], rtol=0,
                               atol=1e-5)


@pytest.fixture(scope='module')
def small():
    """Return a small network with its objective, and a batch whose sides are no multiples of 4."""
    torch.manual_seed(0)
    net = DiFusionSeg(5, backbone='atto', drop_path=0.0)
    objective = Objective(net, PUBLISHED, 5).train()
    label = torch.randint(0, 5, (2, 33, 46))
    label[:, :9] = 255
    batch = {'rgb': torch.randn(2, 3, 33, 46), 'x': torch.randn(2, 1, 33, 46), 'label': label,
             'frame': torch.randint(0, 256, (2, 33, 46, 3), dtype=torch.uint8)}
    return objective, batch


def test_every_parameter_learns_from_the_published_losses(small):
    objective, batch = small
    losses = objective(**batch)
    assert list(losses) == ['cross_entropy', 'auxiliary1.cross_entropy', 'fusion', 'synergy']
    sum(losses.values()).backward()
    wrong = [name for name, p in objective.named_parameters()
             if p.grad is None or not p.grad.isfinite().all() or not p.grad.any()]
    objective.zero_grad()
    assert wrong == []


def test_outputs_have_the_size_of_the_images_whatever_it_is(small):
    objective, batch = small
    logits, auxiliary, terms = objective.parts(objective.network, **batch)
    assert logits.shape == (2, 5, 33, 46)
    assert [part.shape for part in auxiliary] == [logits.shape]
    assert set(terms) == {'fusion', 'synergy'}


def test_each_sample_is_trained_at_a_time_and_with_noise_of_its_own(small, monkeypatch):
    objective, batch = small
    drawn = []
    real = objective.network.add_noise
    monkeypatch.setattr(objective.network, 'add_noise', lambda label, t, noise: (
        drawn.append((label, t, noise)), real(label, t, noise))[1])
    torch.manual_seed(1)
    with torch.no_grad():
        for _ in range(6):
            objective(**batch)
    times = torch.cat([t for _, t, _ in drawn])
    assert len(times.unique()) == 12
    assert 0 <= times.min() < 0.3 and 0.7 < times.max() <= 0.999
    for label, _, noise in drawn:
        assert noise.shape == (2, 256, 9, 12)
        assert abs(noise.std() - 1) < 0.02
        assert not torch.equal(noise[0], noise[1])
        # At a quarter of the size, rounded up, with 5 for pixels without a label.
        inside = batch['label'][:, ::4, ::4]
        assert torch.equal(label, torch.where(inside == 255, 5, inside))


def test_the_fused_image_is_compared_with_the_frame_in_bgr_and_with_x_each_in_full_range(small):
    _, batch = small
    torch.manual_seed(2)
    fused, logits = torch.rand(2, 3, 33, 46), torch.randn(2, 5, 33, 46)
    terms = training.DenoisingTraining.image_losses(fused, logits, batch['x'], batch['frame'])
    visible = batch['frame'].numpy().astype(np.float32)[..., ::-1]
    visible = np.stack([(v - v.min()) / (v.max() - v.min()) for v in visible])
    thermal = np.stack([(t - t.min()) / (t.max() - t.min()) for t in batch['x'].numpy()])
    images = torch.from_numpy(visible).permute(0, 3, 1, 2), torch.from_numpy(thermal)
    torch.testing.assert_close(terms['fusion'], training.fusion_loss(fused, *images))
    torch.testing.assert_close(terms['synergy'], training.synergy_loss(fused, logits, *images))


def reference_sobel(plane):
    kernel = np.array([[-1, 0, 1], [-2, 0, 2], [-1, 0, 1]])
    padded, out = np.pad(plane, 1), np.empty(plane.shape)
    for row, column in np.ndindex(out.shape):
        patch = padded[row:row + 3, column:column + 3]
        out[row, column] = abs((patch * kernel).sum()) + abs((patch * kernel.T).sum())
    return out


def test_the_losses_of_the_fused_image_are_those_of_plain_numpy():
    rng = np.random.default_rng(0)
    fused, visible, thermal = (rng.random((2, c, 7, 9)) for c in (3, 3, 1))
    logits = rng.normal(size=(2, 4, 7, 9))
    edges = [np.stack([[reference_sobel(plane) for plane in item] for item in part])
             for part in (fused, visible, thermal)]
    wanted = (np.abs(fused - np.maximum(visible, thermal)).mean()
              + np.abs(edges[0] - np.maximum(edges[1], edges[2])).mean())
    probability = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    front = probability[:, 1:].sum(axis=1, keepdims=True)
    synergy = ((fused * front - thermal * front) ** 2).mean() + (
        (fused * (1 - front) - visible * (1 - front)) ** 2).mean()
    fused, visible, thermal, logits = map(torch.from_numpy, (fused, visible, thermal, logits))
    assert training.fusion_loss(fused, visible, thermal).item() == pytest.approx(wanted)
    assert training.synergy_loss(fused, logits, visible, thermal).item() == pytest.approx(synergy)


def test_an_image_of_one_value_becomes_zeros():
    image = torch.stack((torch.full((1, 4, 4), 3.0), torch.arange(16.0).view(1, 4, 4)))
    flat, ramp = training.unit_range(image)
    assert not flat.any()
    assert (ramp.min(), ramp.max()) == (0, 1)
