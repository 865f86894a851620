# Copyright 2026 rgbx_seg_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""Batches for training: which samples in which order, cropped and changed, the same every time."""

from dataclasses import replace
from enum import IntEnum

import numpy as np
from rgbx_seg_ros.cards.card import Card
from rgbx_seg_ros.cards.labels import UNLABELED
from rgbx_seg_ros.datasets import Sample
from rgbx_seg_ros.distributed import Processes
from rgbx_seg_ros.engines.graph import Normalize, to_batch
from rgbx_seg_ros.errors import DataError, FrameError, RgbxSegError
from rgbx_seg_ros.frames.raw import check_x, find_x_limits
from rgbx_seg_ros.sensors import Sensors
from rgbx_seg_ros.training.config import TrainConfig
import torch
from torch.utils.data import DataLoader, Dataset, default_collate

_SIGNS = ('shared memory', 'No space left', 'DataLoader worker (pid')
"""What PyTorch says where a batch does not fit into /dev/shm, or a worker was killed."""


class Stream(IntEnum):
    """What a training draws at random, each from numbers of its own."""

    ORDER = 0
    """Of the samples of an epoch."""
    CHANGES = 1
    """Of a sample, by epoch and place in it."""
    DROPOUT = 2
    """In a step, by the place of a part in it."""

    def of(self, seed: int, *where: int) -> np.random.SeedSequence:
        """Return what seeds the numbers drawn at one point of a training with this `seed`."""
        return np.random.SeedSequence(seed, spawn_key=(self, *where))


class Crops(Dataset):
    """
    Random crops of the labelled samples of a data set.

    A crop is asked for by epoch, place in the epoch and index of the sample. The first two seed
    its changes, so that they depend neither on the process nor on the worker that makes them. It
    is a tuple of rgb, x and label, and of rgb before its colours were changed where the losses of
    the recipe need that. X is made ready before it is resized, as on the vehicle: (h, w, 1 or 3)
    float32 without holes, its limits being 0 and 1.
    """

    def __init__(self, samples, config: TrainConfig, card: Card):
        self.samples, self.seed, self.card = samples, config.seed, card
        self.normalize = Normalize(card)
        self.needs_frame = config.loss.needs_frame
        self.augment = config.augment
        if config.sensors is not Sensors.BOTH:
            self.augment = replace(config.augment, blank=0.0)

    def __getitem__(self, which):
        # DataLoader would bury an error in the traceback of its worker: it goes on as a value.
        try:
            return self._crop(*which)
        except RgbxSegError as error:
            return error

    def _crop(self, epoch, place, index):
        sample = self.samples[index]
        check_label(sample, self.card)
        limits = torch.tensor([limits_of(sample, self.card)], dtype=torch.float32)

        def prepare(x):
            return self.normalize.within_limits(to_batch(x), limits)[0].permute(1, 2, 0).numpy()

        rng = np.random.default_rng(Stream.CHANGES.of(self.seed, epoch, place))
        augment = self.augment.with_frame if self.needs_frame else self.augment
        return augment(sample, rng, prepare)


def check_label(sample: Sample, card: Card) -> None:
    """Raise DataError for a sample that has no label, or one with ids that the card does not."""
    if sample.label is None:
        raise DataError(f'frame {sample.name!r} has no label: training needs one')
    known = (sample.label < len(card.classes)) | (sample.label == UNLABELED)
    if not known.all():
        raise DataError(f'the label of frame {sample.name!r} has the id '
                        f'{int(sample.label[~known][0])}; the card {card.name!r} has '
                        f'0..{len(card.classes) - 1}, and 255 is unlabeled')


def limits_of(sample: Sample, card: Card) -> tuple[float, float]:
    """
    Return the raw values of X that become 0 and 1, those of the whole frame of `sample`.

    Raise DataError for an X that cannot be used.
    """
    try:
        check_x(sample.x)
        if card.x.normalization == 'minmax' and sample.x_limits is not None:
            return sample.x_limits
        return find_x_limits(sample.x, card.x)
    except FrameError as error:
        raise DataError(f'frame {sample.name!r}: {error}') from error


class Plan:
    """
    Which samples make each step of a training, for all processes together.

    `steps_per_epoch` and `steps` count them. A step's samples are shared out among the processes,
    and those of each process among the parts that it works them off in.
    """

    def __init__(self, config: TrainConfig, samples: int, processes: Processes):
        self.config, self.samples, self.processes = config, samples, processes
        self.steps_per_epoch = config.steps_per_epoch or samples // config.batch_size
        self.steps = config.epochs * self.steps_per_epoch
        self.parts = config.accumulate
        shares = processes.count * self.parts
        if config.batch_size % shares:
            raise DataError(
                f'batch_size is {config.batch_size!r}: {processes.count} processes with '
                f'accumulate {self.parts!r} need a multiple of {shares}')
        self.share = config.batch_size // shares

    def order(self, epoch: int) -> np.ndarray:
        """Return the samples of an epoch in their order, by index."""
        rng = np.random.default_rng(Stream.ORDER.of(self.config.seed, epoch))
        needed = self.steps_per_epoch * self.config.batch_size
        passes = -(-needed // self.samples)
        return np.concatenate([rng.permutation(self.samples) for _ in range(passes)])[:needed]

    def batches(self, start: int):
        """Yield the (epoch, place, index) of each part of this process, from step `start` on."""
        for step in range(start, self.steps):
            epoch, within = divmod(step, self.steps_per_epoch)
            if step == start or within == 0:
                order = self.order(epoch)
            for part in range(self.parts):
                begin = (within * self.config.batch_size
                         + (part * self.processes.count + self.processes.rank) * self.share)
                yield [(epoch, place, order[place]) for place in range(begin, begin + self.share)]


class _From:
    """What DataLoader takes for the order of batches."""

    def __init__(self, plan, start):
        self.plan, self.start = plan, start

    def __iter__(self):
        return self.plan.batches(self.start)

    def __len__(self):
        return (self.plan.steps - self.start) * self.plan.parts


def load_parts(crops: Crops, plan: Plan, start: int):
    """Yield for each step from `start` on its parts, batches of crops."""
    loader = DataLoader(
        crops, batch_sampler=_From(plan, start), num_workers=plan.config.workers,
        collate_fn=_collate, pin_memory=plan.processes.device.type == 'cuda',
        # From Python 3.14 on it starts a Python else, which looks in the working folder first.
        multiprocessing_context='fork' if plan.config.workers else None)
    parts, batches = [], iter(loader)
    while True:
        try:
            batch = next(batches, None)
        except (RuntimeError, OSError) as error:
            _explain(error, plan.config.workers)
            raise
        if batch is None:
            return
        if isinstance(batch, Exception):
            raise batch
        parts.append(batch)
        if len(parts) == plan.parts:
            yield parts
            parts = []


def _explain(error, workers):
    """Raise DataError for an error of a loader that tells of its workers' memory."""
    reason = (str(error).strip().splitlines() or [''])[-1]
    if workers and any(sign in reason for sign in _SIGNS):
        raise DataError(
            f'workers is {workers!r}, and one failed as for want of memory, shared or other '
            f'({reason}): set workers to 0 in the recipe, or give a container more, as docker run '
            '--shm-size=2g does') from error


def _collate(crops):
    """Return a batch, or the first error among `crops`."""
    errors = [crop for crop in crops if isinstance(crop, Exception)]
    if errors:
        return errors[0]
    # One frame of X may have three channels and the next one a single, which then becomes three.
    channels = max(x.shape[2] for _, x, *_ in crops)
    return default_collate([(rgb, np.repeat(x, channels // x.shape[2], axis=2), *rest)
                            for rgb, x, *rest in crops])
