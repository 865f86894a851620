# Copyright 2026 rgbx_seg_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""`rgbx-seg golden`: freeze what a model makes of a pair, so that engines can be tested on it."""

from pathlib import Path

import cv2
import numpy as np
from rgbx_seg_ros.cards.card import load_card
from rgbx_seg_ros.errors import DataError
from rgbx_seg_ros.files import check_outputs
from rgbx_seg_ros.frames.golden import Golden, save_golden
from rgbx_seg_ros.frames.images import read_image, read_rgb
from rgbx_seg_ros.inference.segmenter import Segmenter
from rgbx_seg_ros.inference.self_test import golden_mask, MIN_PIXELS

_SIDE = 320
"""The longer side of a golden frame: it goes with the model, and need not be large."""


def freeze(segmenter: Segmenter, rgb: np.ndarray, x: np.ndarray) -> Golden:
    """
    Return a golden frame of a pair, made smaller where it is large.

    Raise DataError where the model sees nothing but one class: that would prove little.
    """
    rgb, x = _small(rgb), _small(x)
    golden = Golden(rgb, x, golden_mask(segmenter, rgb, x))
    _, counts = np.unique(golden.mask, return_counts=True)
    if (counts >= MIN_PIXELS).sum() < 2:
        raise DataError(f'{segmenter.card.name!r} sees one class alone in this pair, or specks of '
                        'others: take one with objects')
    return golden


def _small(frame):
    zoom = _SIDE / max(frame.shape[:2])
    if zoom >= 1:
        return frame
    size = [round(side * zoom) for side in frame.shape[1::-1]]
    return cv2.resize(frame, size, interpolation=cv2.INTER_NEAREST)


def add_arguments(parser):
    """Declare the command's arguments."""
    parser.add_argument('model', metavar='CARD', help='a card, or the name of one')
    parser.add_argument('rgb', type=Path, help='colour image with objects of the classes')
    parser.add_argument('x', type=Path, help='its partner: thermal, depth or polarization')
    parser.add_argument('-o', '--out', type=Path, metavar='FILE',
                        help='default: CARD.golden.npz in the folder of the card')


def main(args):
    """Run the command."""
    card = load_card(args.model)
    path = args.out or card.folder / f'{card.name}.golden.npz'
    check_outputs([path], (args.rgb, args.x))
    segmenter = Segmenter.from_card(args.model, device='cpu')
    save_golden(path, freeze(segmenter, read_rgb(args.rgb), read_image(args.x)))
    print(f'wrote {path}; name it in the card: golden: {path.name}')
