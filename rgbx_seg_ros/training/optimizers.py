# Copyright 2026 rgbx_seg_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""The optimizer of a recipe, its step size over time, and the average of weights."""

import math

from rgbx_seg_ros.training.config import TrainConfig
import torch
from torch import nn

NO_DECAY = {
    'nothing': lambda name, parameter: False,
    'vectors': lambda name, parameter: parameter.squeeze().ndim <= 1,
    'norms': lambda name, parameter: 'norm' in name and 'head' not in name,
}


def build_optimizer(config: TrainConfig, module: nn.Module) -> torch.optim.Optimizer:
    """Return the recipe's optimizer of the parameters of `module`."""
    named = [(name, p) for name, p in module.named_parameters() if p.requires_grad]
    spared = {name for name, p in named if NO_DECAY[config.no_decay](name, p)}
    groups = [{'params': [p for name, p in named if name not in spared]}]
    if spared:
        groups.append({'params': [p for name, p in named if name in spared], 'weight_decay': 0.0})
    common = {'lr': config.learning_rate, 'weight_decay': config.weight_decay}
    if config.optimizer == 'sgd':
        return torch.optim.SGD(groups, momentum=config.momentum, **common)
    return torch.optim.AdamW(groups, eps=config.epsilon, **common)


def step_size(config: TrainConfig, step: int, steps_per_epoch: int) -> float:
    """
    Return the step size of `step`, counted from 0 over the whole training.

    During the warm-up it rises from `warmup_start` to the whole; what schedule falls from the
    start falls during the warm-up as well, so that the curve has no jump.
    """
    epoch = step / steps_per_epoch
    warmup = config.warmup_epochs * steps_per_epoch
    share = 1.0
    if step < warmup:
        share = config.warmup_start + (1 - config.warmup_start) * (step + 1) / warmup
        share = min(1.0, share)
    begin = 0.0 if config.decay_from == 'start' else config.warmup_epochs
    progress = max(0.0, epoch - begin) / max(1 / steps_per_epoch, config.epochs - begin)
    if config.schedule == 'cosine':
        share *= 0.5 * (1 + math.cos(math.pi * progress))
    elif config.schedule == 'poly':
        share *= (1 - progress) ** config.power
    else:
        share *= config.milestone_factor ** sum(epoch >= end for end in config.milestones)
    return config.learning_rate * share


@torch.no_grad()
def update_average(average: nn.Module, network: nn.Module, step: int, decay: float) -> None:
    """Move `average` towards `network` after `step`, counted from 0."""
    # Early steps count for less than the decay says, else random weights would linger.
    decay = min(decay, (step + 1) / (step + 10))
    for mean, new in zip(average.state_dict().values(), network.state_dict().values(),
                         strict=True):
        if mean.is_floating_point():
            mean.lerp_(new, 1 - decay)
        else:
            mean.copy_(new)
