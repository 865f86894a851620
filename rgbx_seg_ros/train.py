# Copyright 2026 rgbx_seg_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""`rgbx-seg train`: train the network of a card on labelled pairs, in one process."""

from copy import deepcopy
from dataclasses import dataclass, field
import math
import os
from pathlib import Path
import pickle
import time

import numpy as np
from rgbx_seg_ros.augment import Augment
from rgbx_seg_ros.card import Card, load_card
from rgbx_seg_ros.checkpoint import save_weights, start_from
from rgbx_seg_ros.datasets import FolderDataset
from rgbx_seg_ros.engines.torch_engine import find_device
from rgbx_seg_ros.errors import DataError, FrameError, RgbxSegError
from rgbx_seg_ros.fields import from_mapping, read_yaml
from rgbx_seg_ros.frames import check_x, x_range
from rgbx_seg_ros.graph import Normalize
from rgbx_seg_ros.labels import UNLABELED
from rgbx_seg_ros.networks import build
import torch
from torch.nn import functional as F
from torch.utils.data import DataLoader, Dataset, default_collate

PRECISIONS = ('float32', 'bfloat16')


@dataclass(frozen=True)
class TrainConfig:
    """A recipe, as read from `config/train/*.yaml`."""

    card: str
    """The model: the name of a card that comes with the package, or the path of one."""
    augment: Augment
    """The random changes of a sample."""
    epochs: int = 100
    """Passes over the data."""
    batch_size: int = 4
    """Samples per step."""
    learning_rate: float = 5e-4
    """Highest step size of AdamW."""
    weight_decay: float = 0.05
    """Of AdamW, on matrices and kernels; none on vectors."""
    warmup_epochs: float = 2.0
    """Epochs in which the step size rises linearly; after them it falls as a half cosine."""
    class_weights: tuple[float, ...] | None = None
    """Weight of each class in the cross-entropy; None: all alike."""
    ema_decay: float = 0.998
    """The weights kept are an average over steps with this decay, not the last ones."""
    precision: str = 'float32'
    """Of the forward pass: float32, or bfloat16 where the device is faster with it."""
    seed: int = 0
    """Of the weights, of the order of samples and of their changes."""
    exclude: tuple[str, ...] = field(default_factory=tuple)
    """Names of frames that are not used, because a demo or a test shows them."""

    def __post_init__(self):
        if self.precision not in PRECISIONS:
            raise DataError(f'precision is {self.precision!r}, allowed are: '
                            f'{", ".join(PRECISIONS)}')
        infinity = math.inf
        for name, low, high in (
                ('epochs', 1, infinity), ('batch_size', 1, infinity), ('seed', 0, infinity),
                ('learning_rate', 0, 1), ('weight_decay', 0, 1), ('warmup_epochs', 0, infinity),
                ('ema_decay', 0, 1)):
            value = getattr(self, name)
            if not low <= value <= high:
                allowed = f'{low} to {high}' if high < infinity else f'{low} or more'
                raise DataError(f'{name} is {value!r}, allowed is {allowed}')
        if not all(0 < weight < infinity for weight in self.class_weights or ()):
            raise DataError(f'class_weights is {self.class_weights!r}, all must be above 0')


class _Crops(Dataset):
    """Random crops of labelled samples, the same for the same seed, epoch and index."""

    def __init__(self, samples: FolderDataset, config: TrainConfig, card: Card):
        self.samples, self.config, self.card = samples, config, card
        self.epoch = 0

    def __len__(self):
        return len(self.samples)

    def __getitem__(self, index):
        # DataLoader would bury an error in the traceback of its worker: it goes on as a value.
        try:
            return self._crop(index)
        except RgbxSegError as error:
            return error

    def _crop(self, index):
        rng = np.random.default_rng((self.config.seed, self.epoch, index))
        sample = self.samples[index]
        if sample.label is None:
            raise DataError(f'frame {sample.name!r} has no label: training needs one')
        known = (sample.label < len(self.card.classes)) | (sample.label == UNLABELED)
        if not known.all():
            raise DataError(f'the label of frame {sample.name!r} has the id '
                            f'{int(sample.label[~known][0])}; the card {self.card.name!r} has '
                            f'0..{len(self.card.classes) - 1}, and 255 is unlabeled')
        try:
            check_x(sample.x)
        except FrameError as error:
            raise DataError(f'frame {sample.name!r}: {error}') from error
        # The range belongs to the whole frame, as it does on the vehicle.
        limits = np.float32(x_range(sample.x, self.card.x))
        rgb, x, label = self.config.augment(sample, rng)
        return rgb, x, limits, label.astype(np.int64)


def _collate(crops):
    """Return a batch, or the first error among `crops`."""
    errors = [crop for crop in crops if isinstance(crop, Exception)]
    return errors[0] if errors else default_collate(crops)


def train(config: TrainConfig, data: Path, out: Path, device: str = 'cpu',
          weights: Path | None = None) -> Path:
    """
    Train on the pairs below `data` and return the path of the weights, written below `out`.

    `weights` is a safetensors file of the same network, or of a backbone of it, to start from;
    None: random weights. The state is written after each epoch to `out/last.pt`; a run that finds
    one goes on from it.
    """
    card = load_card(config.card)
    crops = _Crops(FolderDataset(data, config.exclude), config, card)
    if len(crops) < config.batch_size:
        raise DataError(f'{str(data)!r} holds {len(crops)} samples, fewer than a batch of '
                        f'{config.batch_size}')
    if config.class_weights and len(config.class_weights) != len(card.classes):
        raise DataError(f'class_weights is {config.class_weights!r}, the card {card.name!r} has '
                        f'{len(card.classes)} classes')
    out.mkdir(parents=True, exist_ok=True)
    run = _Run(config, card, len(crops) // config.batch_size, find_device(device), weights)
    state_path = out / 'last.pt'
    if state_path.exists():
        run.load(state_path)
        print(f'going on from {state_path} after epoch {run.epoch}')
    while run.epoch < config.epochs:
        crops.epoch = run.epoch
        # With the order of samples and the dropout of each epoch seeded by its number, a resumed
        # run ends with the weights of an unbroken one.
        torch.manual_seed(config.seed * 100_003 + run.epoch)
        loader = DataLoader(crops, config.batch_size, shuffle=True, drop_last=True,
                            num_workers=1, collate_fn=_collate)
        started = time.monotonic()
        loss = run.train_epoch(loader)
        if not math.isfinite(loss):
            raise DataError(f'the loss of epoch {run.epoch} is {loss!r}: lower learning_rate and '
                            'run again, it goes on from the epoch before')
        run.save(state_path)
        print(f'epoch {run.epoch}/{config.epochs}  loss {loss:.4f}  '
              f'{time.monotonic() - started:.0f} s', flush=True)
    trained = out / f'{card.name}.safetensors'
    save_weights(run.average, trained, {'card': card.name})
    return trained


class _Run:
    """The state of a training: network, average, optimizer and the number of epochs done."""

    def __init__(self, config, card, steps_per_epoch, device, weights):
        torch.manual_seed(config.seed)
        self.config, self.device = config, device
        self.steps = steps_per_epoch
        self.epoch = 0
        network = build(card.network, len(card.classes), **card.network_args)
        if weights is not None:
            start_from(network, weights)
        self.network = network.to(self.device, memory_format=torch.channels_last)
        self.average = deepcopy(self.network).eval().requires_grad_(False)
        self.normalize = Normalize(card).to(self.device)
        self.weights = (torch.tensor(config.class_weights, device=self.device)
                        if config.class_weights else None)
        matrices = [p for p in self.network.parameters() if p.squeeze().ndim > 1]
        vectors = [p for p in self.network.parameters() if p.squeeze().ndim <= 1]
        self.optimizer = torch.optim.AdamW(
            [{'params': matrices}, {'params': vectors, 'weight_decay': 0.0}],
            lr=config.learning_rate, weight_decay=config.weight_decay)

    def train_epoch(self, loader) -> float:
        """Run one epoch and return its mean loss."""
        self.network.train()
        total = 0.0
        for i, batch in enumerate(loader):
            if isinstance(batch, Exception):
                raise batch
            self._set_learning_rate(self.epoch * self.steps + i)
            loss = self._loss(*(part.to(self.device) for part in batch))
            self.optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(self.network.parameters(), 5.0)
            self.optimizer.step()
            self._update_average(self.epoch * self.steps + i)
            total += loss.item()
        self.epoch += 1
        return total / self.steps

    def _loss(self, rgb, x, limits, label):
        rgb, x = (part.contiguous(memory_format=torch.channels_last)
                  for part in self.normalize(rgb, x, limits))
        half = self.config.precision == 'bfloat16'
        with torch.autocast(self.device.type, torch.bfloat16, enabled=half):
            logits = self.network(rgb, x)
        if (label == UNLABELED).all():
            return 0.0 * logits.sum()  # where the mean over labelled pixels is 0 / 0
        return F.cross_entropy(logits.float(), label, self.weights, ignore_index=UNLABELED)

    def _set_learning_rate(self, step):
        warmup = self.config.warmup_epochs * self.steps
        share = (step + 1) / warmup if step < warmup else 0.5 * (1 + math.cos(
            math.pi * (step - warmup) / max(1, self.config.epochs * self.steps - warmup)))
        for group in self.optimizer.param_groups:
            group['lr'] = self.config.learning_rate * share

    @torch.no_grad()
    def _update_average(self, step):
        # Early steps count for less than the decay says, else random weights would linger.
        decay = min(self.config.ema_decay, (step + 1) / (step + 10))
        for mean, new in zip(self.average.state_dict().values(),
                             self.network.state_dict().values(), strict=True):
            if mean.is_floating_point():
                mean.lerp_(new, 1 - decay)
            else:
                mean.copy_(new)

    def save(self, path):
        """Write the state; a kill in between leaves the former one whole."""
        state = {'epoch': self.epoch, 'network': self.network.state_dict(),
                 'average': self.average.state_dict(), 'optimizer': self.optimizer.state_dict()}
        part = path.with_suffix('.part')
        torch.save(state, part)
        os.replace(part, path)

    def load(self, path):
        """Read the state that `save` has written."""
        try:
            state = torch.load(path, map_location=self.device, weights_only=True)
            self.network.load_state_dict(state['network'])
            self.average.load_state_dict(state['average'])
            self.optimizer.load_state_dict(state['optimizer'])
            self.epoch = state['epoch']
        except (RuntimeError, LookupError, TypeError, ValueError, EOFError,
                pickle.UnpicklingError) as error:
            raise DataError(f'{str(path)!r} is not the state of this training: remove it to '
                            'start anew') from error


def load_config(path) -> TrainConfig:
    """Read a recipe from a YAML file; raise DataError where it is not a valid one."""
    return from_mapping(TrainConfig, read_yaml(Path(path), DataError), str(path), DataError)


def add_arguments(parser):
    """Declare the command's arguments."""
    parser.add_argument('config', help='recipe, a yaml file such as those in config/train/')
    parser.add_argument('--data', metavar='FOLDER', required=True, type=Path,
                        help='folder with rgb/, label/ and one of thermal/ depth/ disparity/ x/')
    parser.add_argument('--out', metavar='FOLDER', required=True, type=Path,
                        help='folder for the weights and the state; a run found there goes on')
    parser.add_argument('--weights', metavar='FILE', type=Path,
                        help='safetensors to start from, of the network or of a backbone of it '
                             '(default: random weights)')
    parser.add_argument('--device', default='auto', help='auto, cpu or cuda (default: auto)')


def main(args):
    """Run the command."""
    trained = train(load_config(args.config), args.data, args.out, args.device, args.weights)
    print(f'wrote {trained}')
