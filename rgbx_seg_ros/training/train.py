# Copyright 2026 rgbx_seg_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""
`rgbx-seg train`: train the network of a card on labelled pairs.

One process serves, and so do several that torchrun starts, on one machine or on many. A recipe
makes the same training whatever their number.
"""

import contextlib
from copy import deepcopy
from dataclasses import replace
import math
from pathlib import Path
import time

import numpy as np
from rgbx_seg_ros.cards.card import load_card
from rgbx_seg_ros.cards.labels import UNLABELED
from rgbx_seg_ros.datasets import open_dataset
from rgbx_seg_ros.distributed import joined
from rgbx_seg_ros.engines.graph import Normalize
from rgbx_seg_ros.engines.torch_engine import find_device, network_of
from rgbx_seg_ros.errors import DataError
from rgbx_seg_ros.training.checks import check_step, look_at
from rgbx_seg_ros.training.config import (
    CHOICES,
    from_anywhere,
    load_config,
    plain,
    TrainConfig,
)
from rgbx_seg_ros.training.data import Crops, load_parts, Plan, Stream
from rgbx_seg_ros.training.log import TrainLog
from rgbx_seg_ros.training.losses import Objective
from rgbx_seg_ros.training.optimizers import build_optimizer, step_size, update_average
from rgbx_seg_ros.training.outputs import BEST, Outputs
from rgbx_seg_ros.training.state import LAST, not_this_training, read_state, write_state
from rgbx_seg_ros.training.validation import validate
from rgbx_seg_ros.weights.checkpoint import save_weights, start_from
import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel

_HALF = {'bfloat16': torch.bfloat16, 'float16': torch.float16}


def train(config: TrainConfig, data: Path, out: Path, device: str = 'cpu',
          weights: Path | None = None) -> Path:
    """
    Train on the data set in `data` and return the path of the weights, written to `out`.

    `weights` is a safetensors file of the same network, or of a backbone of it, to start from;
    None: random weights. The state is written after each epoch to `out/last.pt`; a run that finds
    one goes on from it. The weights are the best ones by `config.val_split`, else the last; a card
    beside them makes them a model.
    """
    with joined(find_device(device)) as processes:
        return _train(from_anywhere(config), data, out, processes, weights)


def _train(config, data, out, processes, weights):
    """Train in one of the `processes`; what it holds of them is gone at its end."""
    with contextlib.ExitStack() as stack:
        card = load_card(config.card)
        outputs = Outputs(out, card) if processes.is_first else None
        samples = open_dataset(config.dataset, data, config.split, config.exclude)
        scored = (open_dataset(config.dataset, data, config.val_split)
                  if config.val_split is not None else None)
        if len(samples) < config.batch_size:
            raise DataError(f'{str(data)!r} holds {len(samples)} samples, fewer than a batch of '
                            f'{config.batch_size}')
        plan = Plan(config, len(samples), processes)
        check_step(config, card, plan)
        run = _Run(config, card, plan, out, weights)
        notes = run.resume()
        told, mixed = look_at(samples, card, processes, config.augment)
        notes += told
        sets = [(samples, mixed)]
        if scored is not None:
            told, mixed = look_at(scored, card, processes)
            notes += told
            sets.insert(0, (scored, mixed))
        log = None
        if outputs:
            outputs.begin(config)
            log = stack.enter_context(TrainLog(out, run.step, run.plan.steps))
            for note in notes:
                log.say(note)
        _steps(run, Crops(samples, config, card), scored, log)
        if outputs:
            for note in outputs.finish(run.average if run.best is None else None, sets):
                log.say(note)
            log.say(f'wrote {outputs.weights}')
        return out / f'{card.name}.safetensors'


def _steps(run, crops, scored, log):
    """Go through the steps that are left."""
    started = time.monotonic()
    for parts in load_parts(crops, run.plan, run.step):
        used, losses = run.train_step(parts)
        if log:
            log.step(run.step - 1, used, losses)
        epoch, within = divmod(run.step, run.plan.steps_per_epoch)
        if within:
            if run.config.save_steps and within % run.config.save_steps == 0:
                run.save()
            continue
        loss = run.epoch_loss / run.plan.steps_per_epoch
        score = run.end_epoch(scored)
        if log:
            known = score is not None
            log.say(f'epoch {epoch}/{run.config.epochs}  loss {loss:.4f}'
                    f'{f"  mean IoU {100 * score:.1f}" if known else ""}  '
                    f'{time.monotonic() - started:.0f} s')
            if known:
                log.score(run.step, score)
        started = time.monotonic()


class _Run:
    """A training: network, average, optimizer, the number of steps done, and the best score."""

    def __init__(self, config, card, plan, out, weights):
        torch.manual_seed(config.seed)
        self.config, self.card, self.plan, self.out = config, card, plan, out
        self.processes = plan.processes
        self.step, self.epoch_loss, self.best = 0, 0.0, None
        device = self.device = self.processes.device
        network = network_of(card)
        if weights is not None:
            start_from(network, weights)
        self.objective = Objective(network, config.loss, len(card.classes)).to(
            device, memory_format=torch.channels_last)
        self.average = deepcopy(network).eval().requires_grad_(False)
        self.normalize = Normalize(card).to(device)
        self.present = torch.tensor(config.sensors.present, device=device)
        self.optimizer = build_optimizer(config, self.objective)
        self.scaler = torch.amp.GradScaler(device.type, enabled=config.precision == 'float16')
        self.model = self.objective
        if self.processes.count > 1:
            self.model = self._shared()

    def _shared(self):
        """Return the objective with its gradients averaged over the processes."""
        if self.config.sync_batch_norm:
            if self.device.type != 'cuda':
                raise DataError('sync_batch_norm is True: PyTorch has it on CUDA devices alone; '
                                'on the CPU use one process or set it to false')
            nn.SyncBatchNorm.convert_sync_batchnorm(self.objective)
        cuda = self.device.type == 'cuda'
        return DistributedDataParallel(
            self.objective, device_ids=[self.device.index] if cuda else None)

    def train_step(self, parts) -> tuple[float, dict[str, float]]:
        """Make a step with the `parts` of this process; return its size and the losses of all."""
        size = step_size(self.config, self.step, self.plan.steps_per_epoch)
        for group in self.optimizer.param_groups:
            group['lr'] = size
        self.objective.epoch = self.step // self.plan.steps_per_epoch
        self.model.train()
        self.optimizer.zero_grad()
        sums = 0.0
        for i, (part, share) in enumerate(zip(parts, self._shares(parts), strict=True)):
            self._seed(i)
            alone = self.processes.count > 1 and i + 1 < len(parts)
            with self.model.no_sync() if alone else contextlib.nullcontext():
                losses = self._losses(*part)
                values = share * torch.stack([*losses.values()])
                self.scaler.scale(values.sum()).backward()
            sums += values.detach()
        means = (self.processes.sum(sums) / self.processes.count).tolist()
        losses = dict(zip(losses, means, strict=True))
        loss = sum(means)
        if not math.isfinite(loss):
            raise DataError(f'the loss of epoch {self.objective.epoch + 1} is {loss!r}: lower '
                            'learning_rate and run again, it goes on from the state saved before')
        if self.config.clip_norm is not None:
            self.scaler.unscale_(self.optimizer)
            nn.utils.clip_grad_norm_(self.objective.parameters(), self.config.clip_norm)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        update_average(self.average, self.objective.network, self.step, self.config.ema_decay)
        self.step += 1
        self.epoch_loss += loss
        return size, losses

    def _seed(self, part):
        """Seed dropout, so that a resumed run draws what an unbroken one does."""
        # NumPy mixes the numbers; those of PyTorch's generators would be alike for seeds in a row.
        place = part * self.processes.count + self.processes.rank
        sequence = Stream.DROPOUT.of(self.config.seed, self.step, place)
        torch.manual_seed(int(sequence.generate_state(1, np.uint64)[0]))

    def _shares(self, parts):
        """
        Return what each part counts for in the loss of the step.

        It is what its pixels would in one large batch: the objective takes means over the pixels
        of a part in all processes.
        """
        loss = self.config.loss
        if len(parts) == 1 or loss.over_all_pixels:
            return [1 / len(parts)] * len(parts)
        weights = torch.ones(256, dtype=torch.float64)
        weights[:len(self.card.classes)] = torch.tensor(loss.class_weights or 1.0)
        weights[UNLABELED] = 0
        counts = self.processes.sum(torch.stack(
            [weights[label.long()].sum() for _, _, label, *_ in parts]))
        return (counts / counts.sum().clamp(min=1e-12)).float()

    def _losses(self, *crops):
        rgb, x, label, *frame = (part.to(self.device, non_blocking=True) for part in crops)
        images = self.normalize.standardize(rgb, x.permute(0, 3, 1, 2))
        rgb, x = ((image * there).contiguous(memory_format=torch.channels_last)
                  for image, there in zip(images, self.present, strict=True))
        half = _HALF.get(self.config.precision)
        with torch.autocast(self.device.type, half or torch.bfloat16, enabled=half is not None):
            return self.model(rgb, x, label.long(), *frame)

    def end_epoch(self, scored) -> float | None:
        """Score the average on the samples `scored`, if it is time to; save. Return the score."""
        epoch = self.step // self.plan.steps_per_epoch
        due = epoch % self.config.val_epochs == 0 or epoch == self.config.epochs
        score = None
        if scored is not None and due:
            score = validate(self.average, self.card, scored, self.config.sensors,
                             self.processes).mean_iou()
            if self.best is None or score > self.best:
                self.best = score
                if self.processes.is_first:
                    save_weights(self.average, self.out / BEST, self._metadata(epoch))
        self.epoch_loss = 0.0
        self.save()
        return score

    def _metadata(self, epoch):
        return {'card': self.card.name, 'epoch': str(epoch), 'mean_iou': f'{self.best:.4f}'}

    def save(self):
        """Write the state; a kill in between leaves the former one whole."""
        if self.processes.is_first:
            write_state({
                'config': plain(self.config), 'steps_per_epoch': self.plan.steps_per_epoch,
                'step': self.step, 'epoch_loss': self.epoch_loss, 'best': self.best,
                'objective': self.objective.state_dict(), 'average': self.average.state_dict(),
                'optimizer': self.optimizer.state_dict(), 'scaler': self.scaler.state_dict(),
            }, self.out)

    def resume(self) -> list[str]:
        """Go on from the state that `save` has written, if there is one; return what to tell."""
        found = read_state(self.out) if self.processes.is_first else None
        found = self.processes.from_first(found)
        if found is None:
            return []
        state, path = found
        try:
            self._load(state)
        except (RuntimeError, LookupError, TypeError, ValueError, AttributeError) as error:
            raise not_this_training(path) from error
        epoch, within = divmod(self.step, self.plan.steps_per_epoch)
        notes = [f'going on from {path} after epoch {epoch}'
                 f'{f" and {within} steps" if within else ""}']
        last = self.out / LAST
        if path != last and self.processes.is_first:
            if last.exists():
                notes.insert(0, f'{last} is damaged, the state before it serves')
            last.unlink(missing_ok=True)
        changed = [name for name, value in plain(self.config).items()
                   if state['config'].get(name) != value]
        if changed:
            notes.append(f'the recipe has changed: {", ".join(changed)}')
        return notes

    def _load(self, state):
        if state['steps_per_epoch'] != self.plan.steps_per_epoch:
            raise ValueError('other steps per epoch')
        self.objective.load_state_dict(state['objective'])
        self.average.load_state_dict(state['average'])
        self.optimizer.load_state_dict(state['optimizer'])
        self.scaler.load_state_dict(state['scaler'])
        self.step, self.epoch_loss = state['step'], state['epoch_loss']
        self.best = state['best']


def add_arguments(parser):
    """Declare the command's arguments."""
    parser.add_argument('config', help='recipe, a yaml file such as those in config/train/')
    parser.add_argument('--data', metavar='FOLDER', required=True, type=Path,
                        help="where the recipe's data set lies; for the data set 'folder' one "
                             'with rgb/, label/ and one of thermal/ depth/ disparity/ x/')
    parser.add_argument('--out', metavar='FOLDER', required=True, type=Path,
                        help='folder for the weights and the state; a run found there goes on')
    parser.add_argument('--weights', metavar='FILE', type=Path,
                        help='safetensors to start from, of the network or of a backbone of it '
                             '(default: random weights)')
    parser.add_argument('--card', help='train this card, a name or a path, instead of '
                                       'that of the recipe')
    parser.add_argument('--use', choices=CHOICES['use'],
                        help='train with one modality alone, whatever the recipe says')
    parser.add_argument('--seed', type=int, help='instead of that of the recipe')
    parser.add_argument('--device', default='auto', help='auto, cpu or cuda (default: auto)')


def main(args):
    """Run the command."""
    changes = {name: getattr(args, name) for name in ('card', 'use', 'seed')}
    config = replace(load_config(args.config), **{
        name: value for name, value in changes.items() if value is not None})
    train(config, args.data, args.out, args.device, args.weights)
