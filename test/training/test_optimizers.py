# Copyright 2026 rgbx_seg_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""Optimizers: the step size over time as published, who decays, and the average of weights."""

from dataclasses import replace
import math

import pytest
from rgbx_seg_ros.training.augment import Augment
from rgbx_seg_ros.training.config import TrainConfig
from rgbx_seg_ros.training.optimizers import build_optimizer, step_size, update_average
import torch
from torch import nn

CONFIG = TrainConfig('tiny', Augment((64, 96)), epochs=10, learning_rate=1.0, warmup_epochs=2.0)
PER_EPOCH = 20


def curve(**changes):
    config = replace(CONFIG, **changes)
    return [step_size(config, step, PER_EPOCH) for step in range(config.epochs * PER_EPOCH)]


def test_cosine_rises_in_the_warm_up_and_falls_as_half_a_cosine():
    sizes = curve()
    assert sizes[:40] == pytest.approx([(i + 1) / 40 for i in range(40)])
    assert sizes[40:] == pytest.approx([
        0.5 * (1 + math.cos(math.pi * i / 160)) for i in range(160)])


def test_poly_after_the_warm_up_is_that_of_mddg():
    sizes = curve(schedule='poly', warmup_start=0.1)
    assert sizes[0] == pytest.approx(0.1 + 0.9 / 40)
    assert sizes[40:] == pytest.approx([(1 - i / 160) ** 0.9 for i in range(160)])


def test_poly_from_the_start_is_that_of_difusionseg():
    sizes = curve(schedule='poly', power=1.0, decay_from='start', warmup_start=1e-6)
    for step in range(200):
        regular = 1 - step / 200
        warm = 1 - (1 - (step + 1) / 40) * (1 - 1e-6) if step < 40 else 1.0
        assert sizes[step] == pytest.approx(regular * warm)


def test_steps_fall_after_the_epochs_named():
    sizes = curve(schedule='steps', milestones=(3.0, 6.0), warmup_epochs=0.0)
    assert sizes == pytest.approx([1.0] * 60 + [0.1] * 60 + [0.01] * 80)


def test_a_warm_up_of_the_whole_training_never_falls_and_never_fails():
    sizes = curve(warmup_epochs=10.0)
    assert sizes == sorted(sizes) and sizes[-1] == 1.0


class Net(nn.Module):

    def __init__(self):
        super().__init__()
        self.linear, self.norm = nn.Linear(2, 2), nn.LayerNorm(2)
        self.head = nn.ModuleDict({'norm': nn.LayerNorm(2)})
        self.scale = nn.Parameter(torch.ones(1, 1, 1, 2))


@pytest.mark.parametrize(('spared', 'names'), [
    ('nothing', set()),
    ('vectors', {'scale', 'linear.bias', 'norm.weight', 'norm.bias', 'head.norm.weight',
                 'head.norm.bias'}),
    ('norms', {'norm.weight', 'norm.bias'}),
])
@pytest.mark.parametrize('name', ['adamw', 'sgd'])
def test_weight_decay_spares_what_the_recipe_says(spared, names, name):
    net = Net()
    optimizer = build_optimizer(replace(
        CONFIG, optimizer=name, no_decay=spared, weight_decay=0.1, learning_rate=0.5), net)
    before = {name: p.detach().clone() for name, p in net.named_parameters()}
    for parameter in net.parameters():
        parameter.grad = torch.zeros_like(parameter)
    optimizer.step()
    moved = {name for name, p in net.named_parameters()
             if not torch.equal(p, before[name])}
    assert moved == {name for name, p in before.items() if p.any()} - names


def test_sgd_has_the_momentum_of_the_recipe_and_adamw_its_epsilon():
    sgd = build_optimizer(replace(CONFIG, optimizer='sgd', momentum=0.7), Net())
    assert type(sgd) is torch.optim.SGD and sgd.defaults['momentum'] == 0.7
    adamw = build_optimizer(replace(CONFIG, epsilon=1e-7), Net())
    assert type(adamw) is torch.optim.AdamW and adamw.defaults['eps'] == 1e-7


def test_the_average_follows_slowly_and_takes_over_whole_numbers():
    network, average = nn.BatchNorm1d(2), nn.BatchNorm1d(2)
    with torch.no_grad():
        network.weight.fill_(3.0)
    network.num_batches_tracked.fill_(5)
    update_average(average, network, 10_000, 0.9)
    torch.testing.assert_close(average.weight, torch.full((2,), 1.2))
    assert average.num_batches_tracked == 5
    update_average(average, network, 0, 0.9)  # the first step counts for more
    torch.testing.assert_close(average.weight, torch.full((2,), 3.0 - 0.1 * 1.8))
    update_average(average, network, 10_000, 0.0)
    torch.testing.assert_close(average.weight, network.weight)
