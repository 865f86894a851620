# Copyright 2026 rgbx_seg_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""
`rgbx-seg label-rest`: let a model label what humans have left open, to train on.

Self-training (Lee, ICML workshops 2013; Xie et al., CVPR 2020): where a label is 255, it becomes
the class that the model is sure of, by both sensors or else by one alone. What a human says stays,
boxes included: outside of them there is no object of their classes, and in them only an object of
their class is filled in. A model that has learned from boxes makes what has no firm outline, such
as people at night, as large as they are. There the outline may come from the frames instead.
"""

from collections.abc import Iterable, Sequence, Set
from pathlib import Path

import cv2
import numpy as np
from rgbx_seg_ros.cards.labels import UNLABELED
from rgbx_seg_ros.datasets import FolderDataset
from rgbx_seg_ros.datasets.base import box_corners
from rgbx_seg_ros.datasets.label_boxes import label_boxes
from rgbx_seg_ros.errors import DataError
from rgbx_seg_ros.fields import check_number
from rgbx_seg_ros.frames.images import write_image
from rgbx_seg_ros.inference.segmenter import Segmenter
from rgbx_seg_ros.sensors import Sensors
from tqdm import tqdm

MIN_CONFIDENCE = 0.9
_FAR = 40
"""Pixels from which on nothing is told of what lies around an object."""


def label_rest(label: np.ndarray, guesses: Iterable[tuple[np.ndarray, np.ndarray]],
               boxes: Sequence[tuple], boxed: Set[int], min_confidence: float = MIN_CONFIDENCE,
               outlined: Set[int] = frozenset()) -> np.ndarray:
    """
    Return a label (H, W) uint8 with classes where it was 255 and a guess is sure.

    A guess is a mask and its confidence, (H, W) uint8 each; the first one that is sure counts, in
    boxes none but the first. `boxes` are those of the frame, as `FolderDataset.boxes` has them,
    `boxed` the ids of the classes of which every object has one, and `outlined` those of them
    whose boxes are left to `draw_outlines`.
    """
    outside = ~_covered(label.shape, boxes, boxed)
    filled = label.copy()
    for nth, (mask, confidence) in enumerate(guesses):
        counts = outside & ~np.isin(mask, [*boxed])
        if nth == 0:
            for i in boxed - outlined:
                counts |= _covered(label.shape, boxes, {i}) & (mask == i)
        counts &= (filled == UNLABELED) & (confidence >= 255 * min_confidence)
        filled[counts] = mask[counts]
    return filled


def draw_outlines(label: np.ndarray, outlines: np.ndarray, boxes: Sequence[tuple],
                  boxed: Set[int], outlined: Set[int]) -> np.ndarray:
    """
    Return a label (H, W) uint8 with classes where it was 255 in boxes of the classes `outlined`.

    `outlines` is what `label_boxes` makes of these boxes. Within an outline a pixel is of the
    class of the object, and around it of that which lies nearest and has no boxes. At the outline
    itself, and where a box of another class covers it, it stays open.
    """
    still_open = (label == UNLABELED) & _covered(label.shape, boxes, outlined) & ~_covered(
        label.shape, boxes, boxed - outlined)
    result = label.copy()
    shown = np.isin(outlines, [*outlined]).astype(np.uint8)
    within = still_open & (cv2.erode(shown, np.ones((3, 3))) > 0)
    result[within] = outlines[within]
    known = ~np.isin(label, [*boxed, UNLABELED])
    if known.any():
        distance, nearest = cv2.distanceTransformWithLabels(
            (~known).astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_5,
            labelType=cv2.DIST_LABEL_PIXEL)
        classes = np.zeros(nearest.max() + 1, np.uint8)
        classes[nearest[known]] = label[known]
        around = still_open & (cv2.dilate(shown, np.ones((5, 5))) == 0) & (distance < _FAR)
        result[around] = classes[nearest[around]]
    return result


def _covered(shape, boxes, ids):
    """Return what the boxes of some classes cover, (H, W) bool."""
    height, width = shape
    covered = np.zeros(shape, bool)
    for i, *box in boxes:
        if i in ids:
            left, top, right, bottom = box_corners(box, width, height)
            covered[top:bottom, left:right] = True
    return covered


def add_arguments(parser):
    """Declare the command's arguments."""
    parser.add_argument('folder', type=Path,
                        help='folder with rgb/, one of thermal/ depth/ disparity/ x/, label/ and '
                             'maybe boxes/')
    parser.add_argument('--model', help='a card, or the name of one; without it outlines alone '
                                        'are drawn')
    parser.add_argument('--out', type=Path, required=True, metavar='FOLDER',
                        help='new folder for the labels, PNG files of the names of the frames')
    parser.add_argument('--min-confidence', type=float, default=MIN_CONFIDENCE, metavar='SHARE',
                        help='probability from which on a class is taken (default: %(default)g)')
    parser.add_argument('--outline', nargs='+', default=(), metavar='CLASS',
                        help='classes of boxes in which the frames show the outline, as X shows '
                             'that of people at night: there it counts, and no guess')
    parser.add_argument('--device', default='auto', help='auto, cpu or cuda (default: auto)')


def main(args):
    """Run the command."""
    check_number('--min-confidence', args.min_confidence, DataError, low=0, high=1)
    if args.out.exists():
        raise DataError(f'{str(args.out)!r} exists already: remove it or choose another --out')
    if args.model is None and not args.outline:
        raise DataError('what is to fill the labels? Give --model, --outline or both')
    data = FolderDataset(args.folder)
    segmenter = args.model and Segmenter.from_card(args.model, device=args.device)
    labels = segmenter.labels if segmenter else data.CLASSES
    if labels is None:
        raise DataError(f'{str(args.folder)!r} has no dataset.yaml that names its classes: write '
                        'one, or give a --model that has them')
    boxes = {name: data.boxes(name) for name in data.names}
    boxed = {box[0] for each in boxes.values() for box in each}
    too_high = [i for i in boxed if i >= len(labels)]
    if too_high:
        whose = f'the model {segmenter.card.name!r}' if segmenter else 'its dataset.yaml'
        raise DataError(f'{str(args.folder)!r} has boxes of the class {max(too_high)}, {whose} '
                        f'has 0..{len(labels) - 1}')
    outlined = _ids(args.outline, boxed, labels)
    args.out.mkdir(parents=True)
    before = after = pixels = 0
    for sample in tqdm(data, unit='pair', disable=None):
        label = sample.label
        if label is None:
            label = np.full(sample.rgb.shape[:2], UNLABELED, np.uint8)
        filled = label_rest(label, _guesses(segmenter, sample), boxes[sample.name], boxed,
                            args.min_confidence, outlined)
        to_draw = [box for box in boxes[sample.name] if box[0] in outlined]
        if to_draw:
            outlines = label_boxes(sample.rgb, sample.x, to_draw)
            filled = draw_outlines(filled, outlines, boxes[sample.name], boxed, outlined)
        write_image(args.out / f'{sample.name}.png', filled)
        before, after = (count + (one == UNLABELED).sum() for count, one in (
            (before, label), (after, filled)))
        pixels += label.size
    print(f'wrote {len(data)} labels to {args.out}; unlabeled were {100 * before / pixels:.1f} % '
          f'of the pixels, now {100 * after / pixels:.1f} %')


def _guesses(segmenter, sample):
    """Yield mask and confidence by both sensors, by X and by RGB alone; none without a model."""
    for sensors in (Sensors.BOTH, Sensors.X, Sensors.RGB) if segmenter else ():
        result = segmenter(sample.rgb, sample.x, sensors)
        yield result.mask, result.confidence


def _ids(names, boxed, labels):
    """Return the ids of classes that are named, each of which has boxes."""
    ids = {entry.name: entry.id for entry in labels if entry.id in boxed}
    wrong = [name for name in names if name not in ids]
    if wrong:
        raise DataError(f'--outline names {wrong[0]!r}; classes with boxes are: '
                        f'{", ".join(ids) or "none"}')
    return {ids[name] for name in names}
