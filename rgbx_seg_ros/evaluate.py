# Copyright 2026 rgbx_seg_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""`rgbx-seg evaluate`: score a model on a folder of pairs with labels or boxes."""

from dataclasses import dataclass
import json
import math
from pathlib import Path

import numpy as np
from rgbx_seg_ros.datasets import FolderDataset
from rgbx_seg_ros.errors import DataError, FrameError
from rgbx_seg_ros.metrics import ConfusionMatrix
from rgbx_seg_ros.segmenter import Segmenter
from tqdm import tqdm

BOX_FOUND = 0.2
"""A box counts as found when this share of its pixels has its class; a person fills about half."""


@dataclass(frozen=True)
class BoxScore:
    """How well a mask covers the human-made boxes of one class."""

    boxes: int
    """Number of boxes."""
    found: float
    """Share of the boxes in which at least `BOX_FOUND` of the pixels have the class."""
    inside: float
    """Share of all pixels of the class in the masks that lie in a box of the class."""


class _Boxes:
    """Boxes and mask pixels of one class, counted over frames."""

    def __init__(self):
        self.boxes = self.found = self.pixels = self.inside = 0

    def update(self, mask, boxes):
        """Count one frame: `mask` (H, W) bool, `boxes` as (x, y, width, height), 0..1."""
        height, width = mask.shape
        covered = np.zeros_like(mask)
        for x, y, w, h in boxes:
            left, right = (int(round(np.clip(v, 0, 1) * width)) for v in (x - w / 2, x + w / 2))
            top, bottom = (int(round(np.clip(v, 0, 1) * height)) for v in (y - h / 2, y + h / 2))
            area = mask[top:bottom, left:right]
            if area.size:
                self.boxes += 1
                self.found += bool(area.mean() >= BOX_FOUND)
                covered[top:bottom, left:right] = True
        self.pixels += int(mask.sum())
        self.inside += int((mask & covered).sum())

    def score(self):
        """Return the BoxScore, with NaN where there was nothing to count."""
        found = self.found / self.boxes if self.boxes else float('nan')
        inside = self.inside / self.pixels if self.pixels else float('nan')
        return BoxScore(self.boxes, found, inside)


def evaluate(segmenter: Segmenter, data: FolderDataset, lost: str | None = None):
    """
    Segment every pair of `data` and return (ConfusionMatrix, {class name: BoxScore}).

    With `lost`, 'rgb' or 'x', that modality does not count, as after the failure of a sensor.
    Frames without a label count for the boxes only. Raise DataError where there is neither.
    """
    matrix = ConfusionMatrix(len(segmenter.labels))
    boxes = {label.id: _Boxes() for label in segmenter.labels}
    with_label = with_boxes = 0
    for index in tqdm(range(len(data)), unit='pair', disable=None):
        sample = data[index]
        try:
            mask = segmenter(sample.rgb, sample.x, lost).mask
            if sample.label is not None:
                with_label += 1
                matrix.update(sample.label, mask)
        except FrameError as error:
            raise DataError(f'frame {sample.name!r}: {error}') from error
        by_class = data.boxes(sample.name)
        with_boxes += bool(by_class)
        for i in {box[0] for box in by_class} - boxes.keys():
            raise DataError(f'frame {sample.name!r} has a box of class {i}, allowed are '
                            f'0..{len(boxes) - 1}')
        for i, count in boxes.items():
            count.update(mask == i, [box[1:] for box in by_class if box[0] == i])
    if not with_label and not with_boxes:
        raise DataError(f'{str(data.root)!r} has neither label/ nor boxes/: nothing to score '
                        'against')
    names = segmenter.labels.names
    return matrix, {names[i]: count.score() for i, count in boxes.items() if count.boxes}


def add_arguments(parser):
    """Declare the command's arguments."""
    parser.add_argument('--model', metavar='CARD', required=True,
                        help='a card, or the name of one')
    parser.add_argument('--data', metavar='FOLDER', required=True, type=Path,
                        help='folder with rgb/, one of thermal/ depth/ disparity/ x/, and label/ '
                             'or boxes/')
    parser.add_argument('--lost', choices=('rgb', 'x'),
                        help='score the model without one modality, as after the failure of its '
                             'sensor')
    parser.add_argument('--device', default='auto', help='auto, cpu or cuda (default: auto)')
    parser.add_argument('--json', metavar='FILE', type=Path, help='file for the scores')


def main(args):
    """Run the command."""
    if args.json and not args.json.parent.is_dir():
        raise DataError(f'cannot write {str(args.json)!r}: its folder does not exist')
    data = FolderDataset(args.data)
    segmenter = Segmenter.from_card(args.model, device=args.device)
    matrix, boxes = evaluate(segmenter, data, args.lost)
    without = f' without {args.lost}' if args.lost else ''
    print(f'{segmenter.card.name}{without} on {len(data)} pairs, percent')
    print(matrix.table(segmenter.labels.names))
    for name, score in boxes.items():
        print(f'{name}: {100 * score.found:.1f} of {score.boxes} boxes found (at least '
              f'{100 * BOX_FOUND:.0f} % covered), {100 * score.inside:.1f} of its pixels in boxes')
    if args.json:
        args.json.write_text(json.dumps({
            'model': segmenter.card.name, 'lost': args.lost, 'pairs': len(data),
            'mean_iou': _known(matrix.mean_iou()),
            'pixel_accuracy': _known(matrix.pixel_accuracy()),
            'iou': dict(zip(segmenter.labels.names, map(_known, matrix.iou().tolist()),
                            strict=True)),
            'boxes': {name: {key: _known(value) for key, value in vars(score).items()}
                      for name, score in boxes.items()},
        }, indent=2), encoding='utf-8')


def _known(score):
    """Return None for NaN, which JSON does not have."""
    return None if math.isnan(score) else score
