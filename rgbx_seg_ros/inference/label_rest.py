# Copyright 2026 rgbx_seg_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""
`rgbx-seg label-rest`: let a model label what humans have left open, to train on.

Self-training (Lee, ICML workshops 2013; Xie et al., CVPR 2020): where a label is 255, it becomes
the class that the model is sure of, by both sensors or else by one alone. What a human says stays,
boxes included: in them nothing is filled in, as a model that has learned from them makes its
objects too large, and outside of them there is no object of their classes.
"""

from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
from rgbx_seg_ros.cards.labels import UNLABELED
from rgbx_seg_ros.datasets import FolderDataset
from rgbx_seg_ros.datasets.base import box_corners
from rgbx_seg_ros.errors import DataError
from rgbx_seg_ros.fields import check_number
from rgbx_seg_ros.frames.images import write_image
from rgbx_seg_ros.inference.segmenter import Segmenter
from rgbx_seg_ros.sensors import Sensors
from tqdm import tqdm

MIN_CONFIDENCE = 0.9


def label_rest(label: np.ndarray, guesses: Iterable[tuple[np.ndarray, np.ndarray]],
               boxes: Sequence[tuple], boxed: Iterable[int],
               min_confidence: float = MIN_CONFIDENCE) -> np.ndarray:
    """
    Return a label (H, W) uint8 with classes where it was 255 and a guess is sure.

    A guess is a mask and its confidence, (H, W) uint8 each; the first one that is sure counts.
    `boxes` are those of the frame, as `FolderDataset.boxes` has them, and `boxed` the ids of the
    classes of which every object has one.
    """
    height, width = label.shape
    still_open = label == UNLABELED
    for _, *box in boxes:
        left, top, right, bottom = box_corners(box, width, height)
        still_open[top:bottom, left:right] = False
    filled = label.copy()
    for mask, confidence in guesses:
        sure = still_open & (confidence >= 255 * min_confidence) & ~np.isin(mask, [*boxed])
        filled[sure] = mask[sure]
        still_open &= ~sure
    return filled


def add_arguments(parser):
    """Declare the command's arguments."""
    parser.add_argument('folder', type=Path,
                        help='folder with rgb/, one of thermal/ depth/ disparity/ x/, label/ and '
                             'maybe boxes/')
    parser.add_argument('--model', required=True, help='a card, or the name of one')
    parser.add_argument('--out', type=Path, required=True, metavar='FOLDER',
                        help='new folder for the labels, PNG files of the names of the frames')
    parser.add_argument('--min-confidence', type=float, default=MIN_CONFIDENCE, metavar='SHARE',
                        help='probability from which on a class is taken (default: %(default)g)')
    parser.add_argument('--device', default='auto', help='auto, cpu or cuda (default: auto)')


def main(args):
    """Run the command."""
    check_number('--min-confidence', args.min_confidence, DataError, low=0, high=1)
    if args.out.exists():
        raise DataError(f'{str(args.out)!r} exists already: remove it or choose another --out')
    data = FolderDataset(args.folder)
    segmenter = Segmenter.from_card(args.model, device=args.device)
    boxes = {name: data.boxes(name) for name in data.names}
    boxed = {box[0] for each in boxes.values() for box in each}
    too_high = [i for i in boxed if i >= len(segmenter.labels)]
    if too_high:
        raise DataError(f'{str(args.folder)!r} has boxes of the class {max(too_high)}, the model '
                        f'{segmenter.card.name!r} has 0..{len(segmenter.labels) - 1}')
    args.out.mkdir(parents=True)
    before = after = pixels = 0
    for sample in tqdm(data, unit='pair', disable=None):
        label = sample.label
        if label is None:
            label = np.full(sample.rgb.shape[:2], UNLABELED, np.uint8)
        results = (segmenter(sample.rgb, sample.x, sensors)
                   for sensors in (Sensors.BOTH, Sensors.X, Sensors.RGB))
        filled = label_rest(label, ((result.mask, result.confidence) for result in results),
                            boxes[sample.name], boxed, args.min_confidence)
        write_image(args.out / f'{sample.name}.png', filled)
        before, after = (count + (one == UNLABELED).sum() for count, one in (
            (before, label), (after, filled)))
        pixels += label.size
    print(f'wrote {len(data)} labels to {args.out}; unlabeled were {100 * before / pixels:.1f} % '
          f'of the pixels, now {100 * after / pixels:.1f} %')
