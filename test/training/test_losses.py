# Copyright 2026 rgbx_seg_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""Losses equal plain NumPy, stay finite on degenerate labels, and are weighed as a recipe says."""

import math
import sys

import cv2
import numpy as np
import pytest
from rgbx_seg_ros.errors import DataError
from rgbx_seg_ros.fields import from_mapping
from rgbx_seg_ros.networks.training import TrainingOutputs
from rgbx_seg_ros.training import losses
from rgbx_seg_ros.training.losses import Loss, Objective, Terms
from support.losses_stage import batch, Bias, K, share_of, SPLIT, WEIGHTS
import torch
from torch import multiprocessing, nn
import yaml

ALPHA = (0.75, 0.25, 0.25, 0.25)


def random_label(rng):
    label = rng.integers(0, K, (2, 6, 7))
    label[rng.random(label.shape) < 0.2] = 255
    return label


def blocks(rng):
    label = np.kron(rng.integers(0, K, (2, 2, 2)), np.ones((1, 3, 4), int))
    label[:, 0, :3] = 255
    return label


# What labels may look like: whole images without any, one class alone, nothing at all.
LABELS = {
    'random': random_label,
    'blocks': blocks,
    'all ignored': lambda rng: np.full((2, 6, 7), 255),
    'one image ignored': lambda rng: np.stack((np.full((6, 7), 255), rng.integers(0, K, (6, 7)))),
    'one class': lambda rng: np.full((2, 6, 7), 2),
    'one pixel': lambda rng: np.where(np.arange(84).reshape(2, 6, 7) == 17, 3, 255),
    'no image': lambda rng: np.zeros((0, 6, 7), int),
}


def probabilities(logits):
    shifted = np.exp(logits - logits.max(axis=1, keepdims=True, initial=-math.inf))
    return shifted / shifted.sum(axis=1, keepdims=True)


def pixels(logits, label):
    """Return the probabilities (P, K) and the classes (P,) of the labelled pixels."""
    known = label != 255
    return probabilities(logits).transpose(0, 2, 3, 1)[known], label[known]


def mean(values, count=None):
    count = len(values) if count is None else count
    return values.sum() / count if count else 0.0


def plain_cross_entropy(logits, label):
    p, classes = pixels(logits, label)
    return mean(-np.log(p[np.arange(len(p)), classes]))


def weighted_cross_entropy(logits, label):
    p, classes = pixels(logits, label)
    weights = np.array(WEIGHTS)[classes]
    return mean(-weights * np.log(p[np.arange(len(p)), classes]), weights.sum())


def smoothed_cross_entropy_over_all(logits, label):
    p, classes = pixels(logits, label)
    target = np.full(p.shape, 0.1 / K)
    target[np.arange(len(p)), classes] += 0.9
    return mean(-(target * np.log(p)).sum(axis=1), label.size)


def plain_dice(logits, label):
    p, classes = pixels(logits, label)
    return sum(1 - 2 * p[classes == k, k].sum() / (p[:, k].sum() + (classes == k).sum())
               for k in range(K) if (classes == k).any()) / K


def plain_focal(logits, label):
    p, classes = pixels(logits, label)
    p = p[np.arange(len(p)), classes]
    return mean(-np.array(ALPHA)[classes] * (1 - p) ** 3 * np.log(p))


def plain_boundary(logits, label):
    edges = np.zeros(label.shape)
    for i, k in np.ndindex(len(label), K):
        plane = np.pad((label[i] == k).astype(np.float64), 1)  # cv2 has borders of its own
        dx, dy = (cv2.Sobel(plane, cv2.CV_64F, *order, ksize=3)[1:-1, 1:-1]
                  for order in ((1, 0), (0, 1)))
        edges[i] += np.hypot(dx, dy) > 0.1
    p, classes = pixels(logits, label)
    return mean((1 + 1.5 * edges[label != 255]) * -np.log(p[np.arange(len(p)), classes]))


def plain_lovasz(logits, label):
    """Sum, by falling error, each error times what its pixel adds to the Jaccard loss."""
    p, classes = pixels(logits, label)
    found = []
    for k in np.unique(classes):
        truth = classes == k
        errors = np.abs(truth - p[:, k])
        loss, before, wrong = 0.0, 0.0, np.zeros(len(truth), bool)
        for index in np.argsort(-errors, kind='stable'):
            wrong[index] = True
            # The set of predictions that is wrong at these pixels and right elsewhere.
            predicted = truth ^ wrong
            jaccard = 1 - (truth & predicted).sum() / (truth | predicted).sum()
            loss += errors[index] * (jaccard - before)
            before = jaccard
        found.append(loss)
    return np.mean(found) if found else 0.0


CASES = {
    'cross-entropy': (losses.cross_entropy, plain_cross_entropy),
    'cross-entropy of weighted classes': (
        lambda logits, label: losses.cross_entropy(
            logits, label, torch.tensor(WEIGHTS, dtype=logits.dtype)), weighted_cross_entropy),
    'cross-entropy, smoothed, over all pixels': (
        lambda logits, label: losses.cross_entropy(
            logits, label, label_smoothing=0.1, over_all_pixels=True),
        smoothed_cross_entropy_over_all),
    'dice': (losses.dice, plain_dice),
    'focal': (
        lambda logits, label: losses.focal(
            logits, label, 3.0, torch.tensor(ALPHA, dtype=logits.dtype)), plain_focal),
    'boundary': (losses.boundary, plain_boundary),
    'lovasz': (losses.lovasz, plain_lovasz),
}


def drawn(kind, seed=0):
    """Return logits that are double and want gradients, and a label of some kind."""
    rng = np.random.default_rng(seed)
    label = LABELS[kind](rng)
    logits = rng.normal(scale=2.0, size=(len(label), K, *label.shape[1:]))
    return torch.from_numpy(logits).requires_grad_(), torch.from_numpy(label)


@pytest.mark.parametrize('kind', LABELS)
@pytest.mark.parametrize('name', CASES)
def test_a_loss_equals_plain_numpy_and_has_finite_gradients(name, kind):
    ours, plain = CASES[name]
    for seed in range(3):
        logits, label = drawn(kind, seed)
        loss = ours(logits, label)
        assert loss.item() == pytest.approx(plain(logits.detach().numpy(), label.numpy()),
                                            rel=1e-9, abs=1e-12)
        loss.backward()
        assert logits.grad.isfinite().all()
        assert logits.grad.any() == (label != 255).any()


@pytest.mark.parametrize('name', CASES)
def test_the_gradient_is_that_of_the_loss(name):
    logits, label = drawn('blocks')
    assert torch.autograd.gradcheck(lambda values: CASES[name][0](values, label), logits)


@pytest.mark.parametrize('name', CASES)
def test_sure_logits_give_finite_losses_right_or_wrong(name):
    _, label = drawn('random')
    right = (label[:, None] == torch.arange(K)[:, None, None]).double() * 1e4
    for logits, low in ((right, False), (-right, True)):
        logits = logits.clone().requires_grad_()
        loss = CASES[name][0](logits, label)
        loss.backward()
        assert loss.isfinite() and logits.grad.isfinite().all()
        if 'smoothed' not in name:
            assert (loss.item() > 0.1) == low


class Parts(nn.Module):
    """What training adds to `Trained`: two heads of which one gives the negative."""

    def __init__(self, auxiliary):
        super().__init__()
        self.scale = nn.Parameter(torch.ones(2)) if auxiliary else None

    def forward(self, network, rgb, x, label, frame=None):
        logits = network(rgb, x)
        aside = () if self.scale is None else (self.scale[0] * logits, -self.scale[1] * logits)
        terms = {} if frame is None else {'fusion': frame.float().mean(), 'synergy': logits.sum()}
        return TrainingOutputs(logits, aside, terms)


class Trained(Bias):
    AUXILIARY_HEADS = 2
    TRAINING_TERMS = ('fusion', 'synergy')

    @staticmethod
    def training_parts(num_classes, auxiliary):
        return Parts(auxiliary)


def test_the_default_is_the_cross_entropy_alone():
    logits, label = drawn('random')
    terms = Objective(Bias(logits), Loss(), K)(*batch(label))
    assert terms.keys() == {'cross_entropy'}
    assert terms['cross_entropy'].dtype == torch.float32
    assert terms['cross_entropy'].item() == pytest.approx(
        plain_cross_entropy(logits.detach().numpy(), label.numpy()), rel=1e-5)


def test_each_loss_has_its_weight_and_its_settings():
    logits, label = drawn('blocks')
    spec = Loss(cross_entropy=0.5, class_weights=WEIGHTS, dice=2.0, focal=3.0, focal_gamma=3.0,
                focal_alpha=ALPHA, boundary=0.25, boundary_gain=1.5, lovasz=5.0)
    terms = Objective(Bias(logits), spec, K)(*batch(label))
    wanted = {'cross_entropy': (0.5, weighted_cross_entropy), 'dice': (2.0, plain_dice),
              'focal': (3.0, plain_focal), 'boundary': (0.25, plain_boundary),
              'lovasz': (5.0, plain_lovasz)}
    assert list(terms) == list(wanted)
    for name, (weight, plain) in wanted.items():
        assert terms[name].item() == pytest.approx(
            weight * plain(logits.detach().numpy(), label.numpy()), rel=1e-5), name


def test_settings_of_the_cross_entropy_and_of_the_boundary_arrive():
    logits, label = drawn('blocks')
    values = logits.detach().numpy(), label.numpy()
    spec = Loss(label_smoothing=0.1, over_all_pixels=True, boundary=1.0, boundary_gain=0.0)
    terms = Objective(Bias(logits), spec, K)(*batch(label))
    assert terms['cross_entropy'].item() == pytest.approx(
        smoothed_cross_entropy_over_all(*values), rel=1e-5)
    assert terms['boundary'].item() == pytest.approx(plain_cross_entropy(*values), rel=1e-5)


def test_weights_change_with_the_phases_and_every_loss_is_there_in_each():
    logits, label = drawn('blocks')
    spec = from_mapping(Loss, yaml.safe_load(
        'focal: 0.6\n'
        'phases: [{epoch: 30, focal: 0.48, boundary: 0.4}, {epoch: 60, focal: 0.36, lovasz: 0.2}]'
    ), 'recipe', DataError)
    objective, seen = Objective(Bias(logits), spec, K), {}
    for epoch in (0, 29, 30, 59, 60, 99):
        objective.epoch = epoch
        terms = objective(*batch(label))
        assert list(terms) == ['cross_entropy', 'focal', 'boundary', 'lovasz']
        seen[epoch] = [value.item() for value in terms.values()]
    alone = [loss(logits.float(), label).item() for loss in (
        losses.cross_entropy, losses.focal, losses.boundary, losses.lovasz)]
    for epochs, weights in (((0, 29), (1, 0.6, 0, 0)), ((30, 59), (1, 0.48, 0.4, 0)),
                            ((60, 99), (1, 0.36, 0.4, 0.2))):
        for epoch in epochs:
            assert seen[epoch] == pytest.approx(np.multiply(weights, alone), rel=1e-5)


def test_auxiliary_heads_have_losses_of_their_own_and_a_network_that_does_not_know_them():
    logits, label = drawn('random')
    spec = Loss(auxiliary=(Terms(0.3, label_smoothing=0.1, over_all_pixels=True),
                           Terms(0.1, focal=0.2, focal_gamma=3.0, focal_alpha=ALPHA)))
    objective = Objective(Trained(logits), spec, K)
    terms = objective(*batch(label))
    theirs, label = logits.detach().numpy(), label.numpy()
    assert {name: value.item() for name, value in terms.items()} == pytest.approx({
        'cross_entropy': plain_cross_entropy(theirs, label),
        'auxiliary1.cross_entropy': 0.3 * smoothed_cross_entropy_over_all(theirs, label),
        'auxiliary2.cross_entropy': 0.1 * plain_cross_entropy(-theirs, label),
        'auxiliary2.focal': 0.2 * plain_focal(-theirs, label)}, rel=1e-5)
    sum(terms.values()).backward()
    assert objective.parts.scale.grad.all()
    assert set(objective.state_dict()) == {'network.bias', 'parts.scale'}
    assert set(objective.network.state_dict()) == {'bias'}


def test_heads_that_no_loss_looks_at_are_not_made():
    objective = Objective(Trained(), Loss(class_weights=WEIGHTS), K)
    assert set(objective.state_dict()) == {'network.bias'}
    assert list(objective(*batch(drawn('random')[1]))) == ['cross_entropy']


def test_losses_of_the_networks_own_are_weighted_and_need_the_frame():
    spec = Loss(fusion=2.0, synergy=0.5)
    assert spec.needs_frame and Loss(synergy=1.0).needs_frame and not Loss(dice=1.0).needs_frame
    logits, label = drawn('random')
    objective = Objective(Trained(logits), spec, K)
    terms = objective(*batch(label), torch.full((2, 6, 7, 3), 8, dtype=torch.uint8))
    assert terms['fusion'].item() == 16.0
    assert terms['synergy'].item() == pytest.approx(0.5 * logits.sum().item(), rel=1e-5)
    with pytest.raises(DataError, match='fusion is 2.0, but the objective got no frame: give it'):
        objective(*batch(label))


@pytest.mark.parametrize('kind', ['all ignored', 'one pixel'])
def test_without_a_label_all_losses_are_zero_with_zero_gradients(kind):
    logits, label = drawn(kind)
    terms_of_all = {'dice': 1.0, 'focal': 1.0, 'boundary': 1.0, 'lovasz': 1.0}
    objective = Objective(
        Trained(logits), Loss(**terms_of_all, auxiliary=(Terms(), Terms(**terms_of_all))), K)
    total = sum(objective(*batch(label)).values())
    total.backward()
    for parameter in objective.parameters():
        assert parameter.grad.isfinite().all()
        assert parameter.grad.any() == (kind == 'one pixel')
    assert (total.item() == 0) == (kind == 'all ignored')


def test_half_precision_of_the_network_stays_out_of_the_losses():
    logits, label = drawn('random')
    net = Bias(logits).bfloat16()
    net.logits = net.logits.bfloat16()
    spec = Loss(dice=1.0, focal=1.0, boundary=1.0, lovasz=1.0, class_weights=WEIGHTS)
    with torch.autocast('cpu', torch.bfloat16):
        mixed = Objective(net, spec, K)(*batch(label))
    exact = Objective(Bias(net.logits), spec, K)(*batch(label))
    for name, value in mixed.items():
        assert value.dtype == torch.float32
        torch.testing.assert_close(value, exact[name], rtol=1e-5, atol=0)


@pytest.mark.parametrize(('text', 'said'), [
    ('cross_entropy: -1', 'loss: cross_entropy is -1.0, allowed is 0 or more'),
    ('dice: .inf', 'loss: dice is inf, needed is a finite number'),
    ('lovasz: .nan', 'loss: lovasz is nan, needed is a finite number'),
    ('cross_entropy: 0', 'all of cross_entropy, dice, .* are 0, there is nothing to learn'),
    ('label_smoothing: 1', 'label_smoothing is 1.0, needed is at least 0 and below 1'),
    ('focal_gamma: 0.5', 'focal_gamma is 0.5, allowed is 1 or more'),
    ('boundary_gain: -1', 'boundary_gain is -1.0'),
    ('class_weights: [1, 0, 1, 1]', r'class_weights\[1\] is 0.0, allowed is more than 0'),
    ('focal_alpha: [1, -1, 1, 1]', r'focal_alpha\[1\] is -1.0, allowed is more than 0'),
    ('fusion: -1', 'fusion is -1.0'),
    ('auxiliary: [{dice: -1}]', 'dice is -1.0'),
    ('phases: [{epoch: 0, dice: 1}]', r'phases begin at the epochs \[0\], needed are rising'),
    ('phases: [{epoch: 9}, {epoch: 9}]', r'phases begin at the epochs \[9, 9\]'),
    ('phases: [{epoch: 9, dice: -1}]', 'dice is -1.0'),
    ('phases: [{epoch: 9, cross_entropy: 0}]', 'there is nothing to learn'),
    ('lovas: 1', "'lovas' is unknown; did you mean 'lovasz'"),
])
def test_impossible_recipes_are_named(text, said):
    with pytest.raises(DataError, match=said):
        from_mapping(Loss, yaml.safe_load(text), 'recipe', DataError)


@pytest.mark.parametrize(('network', 'text', 'said'), [
    (Bias, 'class_weights: [1, 2]', r'class_weights is \(1.0, 2.0\), needed .* each of the 4'),
    (Bias, 'focal_alpha: [1, 2]', r'focal_alpha is \(1.0, 2.0\), needed is one value for each'),
    (Bias, 'auxiliary: [{}]', 'auxiliary has 1 entries, Bias has 0 auxiliary heads'),
    (Trained, 'auxiliary: [{}]', 'auxiliary has 1 entries, Trained has 2 .*: give one for each'),
    (Bias, 'fusion: 1', 'fusion is 1.0, but Bias has no such loss: leave it out'),
])
def test_a_recipe_that_does_not_fit_the_network_is_named(network, text, said):
    spec = from_mapping(Loss, yaml.safe_load(text), 'recipe', DataError)
    with pytest.raises(DataError, match=said):
        Objective(network(), spec, K)


@pytest.mark.skipif(sys.platform == 'win32', reason='gloo meets in a file of POSIX systems')
@pytest.mark.long
def test_two_processes_learn_what_one_with_both_images_does(tmp_path):
    logits, label = drawn('one image ignored')
    label[0, :2] = 3  # an image of few labels and one of many: means of means would differ
    logits = logits.detach()
    whole = Objective(Bias(logits), SPLIT, K)
    terms = whole(*batch(label))
    sum(terms.values()).backward()
    multiprocessing.spawn(share_of, (str(tmp_path), logits, label), nprocs=2)
    for rank in range(2):
        theirs, gradient = torch.load(tmp_path / f'{rank}.pt')
        torch.testing.assert_close(gradient, whole.network.bias.grad)
        for name, value in theirs.items():
            torch.testing.assert_close(value, terms[name].detach(), msg=name)
