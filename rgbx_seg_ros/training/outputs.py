# Copyright 2026 rgbx_seg_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""What a training leaves: its recipe, weights, a card that makes them a model, a golden frame."""

from pathlib import Path

from rgbx_seg_ros.cards.card import Card
from rgbx_seg_ros.engines.graph import to_batch
from rgbx_seg_ros.errors import CardError, DataError
from rgbx_seg_ros.fields import read_yaml
from rgbx_seg_ros.files import appearing, check_place
from rgbx_seg_ros.frames.golden import save_golden
from rgbx_seg_ros.frames.raw import find_x_limits
from rgbx_seg_ros.inference.golden import freeze
from rgbx_seg_ros.inference.segmenter import Segmenter
from rgbx_seg_ros.inference.self_test import lowest_iou, MIN_IOU
from rgbx_seg_ros.training.config import config_text, TrainConfig
from rgbx_seg_ros.training.log import LOSSES
from rgbx_seg_ros.training.state import LAST, PREVIOUS
from rgbx_seg_ros.weights.checkpoint import save_weights, sha256
import torch
from torch import nn
import yaml

RECIPE, BEST = 'config.yaml', 'best.safetensors'
_MARK = '# Written by rgbx-seg train: all values of the recipe. It trains the same again.\n'
_TRIED = 20
"""Frames that are tried at most for a golden one."""


class Outputs:
    """
    The folder that a training writes to.

    Raise CardError for a card whose name a training needs itself, and DataError for a folder with
    files that no training has written.
    """

    def __init__(self, folder: Path, card: Card):
        self.folder, self.name = folder, card.name
        self.recipe, self.best = folder / RECIPE, folder / BEST
        self.card, self.weights, self.golden = (
            folder / f'{card.name}{ending}' for ending in ('.yaml', '.safetensors', '.golden.npz'))
        self._content = _without_what_others_did(card)
        if {self.card, self.weights} & {self.recipe, self.best}:
            raise CardError(f'card {card.name!r}: a training writes files of this name itself, '
                            'give the card another one')
        foreign = [path for path in self._written if path.exists()]
        if foreign and not self._is_a_training():
            raise DataError(f'{str(foreign[0])!r} is of no training and would be overwritten: '
                            'choose another folder for --out')

    @property
    def _written(self):
        return (self.recipe, self.best, self.card, self.weights, self.golden,
                self.folder / LOSSES)

    def _is_a_training(self):
        if any((self.folder / name).exists() for name in (LAST, PREVIOUS)):
            return True
        return self.recipe.is_file() and self.recipe.read_bytes().startswith(_MARK.encode())

    def begin(self, config: TrainConfig) -> None:
        """Make the folder, and write the recipe; raise DataError where the rest cannot be."""
        self.folder.mkdir(parents=True, exist_ok=True)
        for path in self._written:
            check_place(path)
        _write(self.recipe, _MARK + config_text(config))

    def finish(self, network: nn.Module | None, sets) -> list[str]:
        """
        Make a model of `network`, None: of the best weights; return what to tell.

        Its golden frame is one of `sets`, each a data set and the indices that may serve.
        """
        if network is None:
            with appearing(self.weights) as part:
                part.write_bytes(self.best.read_bytes())
        else:
            save_weights(network, self.weights, {'card': self.name})
        self._content['weights'] = {'file': self.weights.name, 'sha256': sha256(self.weights)}
        self._write_card()
        found = _golden(Segmenter.from_card(self.card, device='cpu'), sets)
        if found is None:
            self.golden.unlink(missing_ok=True)
            return ['no golden frame: the model is not sure of two classes in any frame that was '
                    'tried, the node starts without a self-test; rgbx-seg golden freezes one']
        golden, frame = found
        save_golden(self.golden, golden)
        self._content['golden'] = self.golden.name
        self._content['training'] += f' The golden frame is {frame}.'
        self._write_card()
        return [f'golden frame {frame}, for self-tests']

    def _write_card(self):
        _write(self.card, yaml.safe_dump(self._content, sort_keys=False, allow_unicode=True))


def _write(path, text):
    with appearing(path) as part:
        part.write_text(text, encoding='utf-8')


def _without_what_others_did(card):
    """Return the content of a card to train, without what is true of its own weights alone."""
    content = read_yaml(card.path, CardError)
    for name in ('scores', 'published', 'golden'):
        content.pop(name, None)
    if card.weights is not None:
        content['description'] = (
            f'Network, classes and inputs of the card {card.name!r}, trained anew: score it on '
            'frames of yours before you rely on it.')
    content['licenses'] = {name: text for name, text in card.licenses.items() if name == 'code'}
    if content.get('onnx', {}).pop('file', None) and not content['onnx']:
        del content['onnx']
    content['training'] = f'By rgbx-seg train; {RECIPE} beside this card is the recipe.'
    return content


def _golden(segmenter, sets):
    """Return a golden frame and what it is, or None where no frame that is tried serves."""
    for samples, indices in sets:
        for index in indices[::max(1, len(indices) // _TRIED)][:_TRIED]:
            sample = samples[index]
            try:
                golden = freeze(segmenter, sample.rgb, sample.x)
            except DataError:
                continue
            # A model that wavers would fail on a vehicle that computes in fewer digits.
            if lowest_iou(golden.mask, _coarse(segmenter, golden), segmenter.labels)[0] >= MIN_IOU:
                split = f', split {samples.split!r}' if samples.split else ''
                return golden, f'{sample.name!r} of the data set{split}'
    return None


def _coarse(segmenter, golden):
    """Return the mask that bfloat16 makes of a golden frame."""
    limits = torch.tensor([find_x_limits(golden.x, segmenter.card.x)], dtype=torch.float32)
    with torch.inference_mode(), torch.autocast('cpu', torch.bfloat16):
        mask, *_ = segmenter.engine.graph(
            to_batch(golden.rgb), to_batch(golden.x), limits, torch.ones(1, 2))
    return mask[0].numpy()
