# Copyright 2026 rgbx_seg_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""What is looked at before the first step: an error must not come after hours of training."""

from concurrent.futures import ThreadPoolExecutor
import os

import numpy as np
from rgbx_seg_ros.cards.card import Card
from rgbx_seg_ros.cards.labels import UNLABELED
from rgbx_seg_ros.datasets import PairedDataset
from rgbx_seg_ros.datasets.survey import label_counts, Survey, x_form
from rgbx_seg_ros.distributed import Processes
from rgbx_seg_ros.engines.torch_engine import network_of
from rgbx_seg_ros.errors import DataError, FrameError
from rgbx_seg_ros.training.augment import Augment
from rgbx_seg_ros.training.config import TrainConfig
from rgbx_seg_ros.training.data import check_label, limits_of, Plan
from rgbx_seg_ros.training.losses import Objective
import torch
from torch import nn
from tqdm import tqdm


def check_step(config: TrainConfig, card: Card, plan: Plan) -> None:
    """
    Raise DataError where the network of the card cannot make the steps of the recipe.

    The step runs on shapes alone, without memory for weights or images.
    """
    crop = config.augment.crop
    count = plan.processes.count
    samples = plan.share * (count if config.sync_batch_norm else 1)
    with torch.device('meta'):
        network = network_of(card)
        objective = Objective(network, config.loss, len(card.classes)).train()
        inputs = (torch.empty(samples, 3, *crop), torch.empty(samples, network.X_CHANNELS, *crop),
                  torch.empty(samples, *crop, dtype=torch.int64),
                  torch.empty(samples, *crop, 3, dtype=torch.uint8))
    _check_precision(config, network, plan.processes.device)
    try:
        objective.outputs(*inputs)
    except FrameError as error:
        raise DataError(f'augment.crop is {list(crop)!r}: {error}') from error
    except ValueError as error:
        if 'Expected more than 1' not in str(error):  # PyTorch's batch and instance norms
            raise
        raise DataError(
            f'batch_size is {config.batch_size!r}, accumulate {config.accumulate!r} and '
            f'augment.crop {list(crop)!r}: of the {samples} sample in a part of a step '
            f'(processes: {count}) a normalisation layer sees one value per channel, too few for '
            'statistics; raise batch_size, lower accumulate or enlarge augment.crop') from error


def _check_precision(config, network, device):
    """Raise DataError where PyTorch is known to compute wrong gradients."""
    # Seen with 2.13: the weights' gradient of these reads memory that nobody has written.
    wrong = [name for name, module in network.named_modules() if isinstance(module, nn.Conv2d)
             and module.groups > 1 and max(module.dilation) > 1]
    if wrong and device.type == 'cpu' and config.precision == 'bfloat16':
        raise DataError(f"precision is 'bfloat16': on a CPU PyTorch computes wrong gradients for "
                        f'convolutions with groups and dilation, such as {wrong[0]!r} of this '
                        'network; set precision to float32, or train it on a GPU')


def look_at(samples: PairedDataset, card: Card, processes: Processes,
            augment: Augment | None = None) -> tuple[list[str], list[int]]:
    """
    Read all `samples`, shared out among the processes; return what to tell of them.

    The numbers that come second are those of the samples with more than one class. With `augment`
    they are to be trained on, and each needs a label. Raise DataError for a sample that cannot be
    used, and where no pixel of any has a class.
    """
    def read(index):
        sample = samples[index]
        limits_of(sample, card)
        if augment is not None:
            augment.check(sample)
        if augment is not None or sample.label is not None:
            check_label(sample, card)
        return index, sample.name, x_form(sample.x), label_counts(sample.label)

    mine = range(processes.rank, len(samples), processes.count)
    found, mixed = Survey(), []
    with ThreadPoolExecutor(min(16, os.cpu_count() or 1)) as pool:
        for index, name, form, counts in tqdm(pool.map(read, mine), total=len(mine), unit='frame',
                                              desc=samples.split, leave=False, disable=None):
            found.add_counted(name, form, counts)
            if counts is not None and np.count_nonzero(counts[:UNLABELED]) > 1:
                mixed.append(index)
    whole = Survey()
    for part, _ in (parts := processes.all((found, mixed))):
        whole.merge(part)
    if not whole.counts[:UNLABELED].any():
        raise DataError(f'{_title(samples)} has no pixel with a class in {len(samples)} frames, '
                        f'of which {whole.labelled} have a label: all is 255, unlabeled; where '
                        'that means a class, say so in dataset.yaml, as in ids: {0: 0, 255: 1}')
    told = [*whole.faults(samples), *whole.remarks(samples, card.labels)]
    return ([f'warning: {_title(samples)}: {line}' for line in told],
            sorted(index for _, indices in parts for index in indices))


def _title(samples):
    return repr(str(samples.root)) + (f', split {samples.split!r}' if samples.split else '')
