# Copyright 2026 rgbx_seg_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""
`rgbx-seg label-boxes`: turn boxes drawn by humans into weak masks to train on.

GrabCut (Rother et al., SIGGRAPH 2004) separates what fills a box from what surrounds it, by three
channels of both modalities at once: the lightness of RGB with its contrast evened out, X, and the
axis from green to red. In the dark it is X that tells a person, by day it is RGB that tells a car.
"""

from pathlib import Path

import cv2
import numpy as np
from rgbx_seg_ros.cards.labels import UNLABELED
from rgbx_seg_ros.datasets import FolderDataset
from rgbx_seg_ros.datasets.base import box_corners
from rgbx_seg_ros.errors import DataError
from rgbx_seg_ros.frames.images import write_image
from tqdm import tqdm

_MARGIN = 1 / 3
"""What surrounds a box, shown to GrabCut as background, in sides of the box."""
_SIDE = 64
"""The shorter side of what GrabCut sees is this many pixels or more: it needs some to learn by."""
_SURE, _LIKELY = (0.12, 0.25), (0.42, 0.46)
"""Half axes of the ellipses that are and that may be the object, in sides of the box."""
_FILL = (0.15, 0.95)
"""An object that fills less or more of its box is a failure; the likely ellipse is taken."""
_ITERATIONS = 5
_MIN_BOX = 4


def label_boxes(rgb: np.ndarray, x: np.ndarray, boxes) -> np.ndarray:
    """
    Return a weak label (H, W) uint8 of a pair and its boxes, as `FolderDataset.boxes` has them.

    `rgb` is (H, W, 3) uint8, `x` (H, W) or (H, W, 3) of any type and the same view. Outside of
    all boxes it is 0, on an object its class, and in the rest of a box 255, unlabeled. Of objects
    that overlap the smaller one is taken to be in front. Boxes under 4 pixels stay unlabeled.
    """
    height, width = rgb.shape[:2]
    x = cv2.resize(x if x.ndim == 2 else x.mean(axis=2), (width, height)).astype(np.float32)
    label = np.zeros((height, width), np.uint8)
    corners = [(i, *box_corners(box, width, height)) for i, *box in boxes]
    for _, left, top, right, bottom in corners:
        label[top:bottom, left:right] = UNLABELED
    for i, left, top, right, bottom in sorted(
            corners, key=lambda c: (c[1] - c[3]) * (c[4] - c[2])):
        if min(right - left, bottom - top) >= _MIN_BOX:
            label[top:bottom, left:right][_object(rgb, x, left, top, right, bottom)] = i
    return label


def _object(rgb, x, left, top, right, bottom):
    """Return which pixels of a box show the object, (bottom - top, right - left) bool."""
    margin_x, margin_y = (max(4, round(_MARGIN * side)) for side in (right - left, bottom - top))
    view = (slice(max(0, top - margin_y), bottom + margin_y),
            slice(max(0, left - margin_x), right + margin_x))
    seen = _channels(rgb[view], x[view])
    zoom = max(1, round(_SIDE / min(seen.shape[:2])))
    seen = cv2.resize(seen, None, fx=zoom, fy=zoom, interpolation=cv2.INTER_CUBIC)
    box = (slice((top - view[0].start) * zoom, (bottom - view[0].start) * zoom),
           slice((left - view[1].start) * zoom, (right - view[1].start) * zoom))
    parts = np.full(seen.shape[:2], cv2.GC_BGD, np.uint8)
    inside = parts[box]
    inside[:] = cv2.GC_PR_BGD
    likely = _ellipse(inside.shape, _LIKELY)
    inside[likely] = cv2.GC_PR_FGD
    inside[_ellipse(inside.shape, _SURE)] = cv2.GC_FGD
    cv2.setRNGSeed(0)  # its mixtures begin with k-means from random centres
    cv2.grabCut(seen, parts, None, np.zeros((1, 65)), np.zeros((1, 65)), _ITERATIONS,
                cv2.GC_INIT_WITH_MASK)
    found = (inside == cv2.GC_FGD) | (inside == cv2.GC_PR_FGD)
    if not _FILL[0] <= found.mean() <= _FILL[1]:
        found = likely
    return cv2.resize(found.astype(np.float32), (right - left, bottom - top),
                      interpolation=cv2.INTER_AREA) >= 0.5


def _channels(rgb, x):
    """Return lightness, X and the axis from green to red of a view, (h, w, 3) uint8."""
    lab = cv2.cvtColor(np.ascontiguousarray(rgb), cv2.COLOR_RGB2LAB)
    lightness = cv2.createCLAHE(2.0, (4, 4)).apply(np.ascontiguousarray(lab[..., 0]))
    x = cv2.normalize(cv2.GaussianBlur(x, (0, 0), 1.0), None, 0, 255, cv2.NORM_MINMAX)
    return np.dstack([lightness, x.astype(np.uint8), lab[..., 1]])


def _ellipse(shape, half_axes):
    """Return an ellipse in the middle of a box (h, w) as bool; half axes in widths, heights."""
    y, x = np.ogrid[:shape[0], :shape[1]]
    x = ((x + 0.5) / shape[1] - 0.5) / half_axes[0]
    y = ((y + 0.5) / shape[0] - 0.5) / half_axes[1]
    return x * x + y * y <= 1.0


def add_arguments(parser):
    """Declare the command's arguments."""
    parser.add_argument('folder', type=Path,
                        help='folder with rgb/, boxes/ and one of thermal/ depth/ disparity/ x/')
    parser.add_argument('--out', type=Path, required=True, metavar='FOLDER',
                        help='new folder for the masks, PNG files of the names of the frames')


def main(args):
    """Run the command."""
    if args.out.exists():
        raise DataError(f'{str(args.out)!r} exists already: remove it or choose another --out')
    data = FolderDataset(args.folder)
    boxes = {name: data.boxes(name) for name in data.names}
    if not any(boxes.values()):
        raise DataError(f'{str(args.folder)!r} holds no boxes: needed is boxes/NAME.txt with a '
                        'class id, centre x, centre y, width and height in each line, 0..1')
    args.out.mkdir(parents=True)
    for index in tqdm(range(len(data)), unit='pair', disable=None):
        sample = data[index]
        label = label_boxes(sample.rgb, sample.x, boxes[sample.name])
        write_image(args.out / f'{sample.name}.png', label)
    print(f'wrote {len(data)} masks of {sum(map(len, boxes.values()))} boxes to {args.out}')
