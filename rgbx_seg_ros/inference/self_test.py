# Copyright 2026 rgbx_seg_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""
A golden frame: a pair and the mask that a model makes of it, kept beside its card.

Whatever runs the model on whatever machine must make that mask again. This tells a wrong build of
a library, a broken cache and a driver that computes nonsense before a vehicle relies on them.
"""

from pathlib import Path
from typing import NamedTuple
import zipfile

import numpy as np
from rgbx_seg_ros.errors import CardError, EngineError
from rgbx_seg_ros.inference.segmenter import Segmenter

MIN_IOU = 0.9
"""
Least intersection over union of every class with its golden pixels.

float16 and int8 move pixels of a boundary; swapped channels or another range, whole objects.
"""
MIN_PIXELS = 100
"""Of a class with fewer, single pixels would decide."""


class Golden(NamedTuple):
    """A pair and its mask."""

    rgb: np.ndarray
    """(H, W, 3) uint8."""
    x: np.ndarray
    """(h, w) or (h, w, 3), raw."""
    mask: np.ndarray
    """(H, W) uint8."""


def self_test(segmenter: Segmenter) -> float | None:
    """
    Return how well the golden frame comes out, the lowest IoU of a class; None without one.

    Raise EngineError where it is below `MIN_IOU`, CardError for a file that is not a golden frame.
    """
    card = segmenter.card
    if card.golden is None:
        return None
    golden = load_golden(card.folder / card.golden)
    mask = segmenter(golden.rgb, golden.x).mask
    worst, name = lowest_iou(golden.mask, mask, segmenter.labels)
    if worst < MIN_IOU:
        raise EngineError(
            f'the self-test failed: on {segmenter.engine.device} the model {card.name!r} gives '
            f'{name!r} an IoU of {worst:.2f} with its golden mask, needed is {MIN_IOU:g}: do not '
            "use it; try engine 'torch' with device 'cpu', or install the engine's library again")
    return worst


def lowest_iou(golden: np.ndarray, mask: np.ndarray, labels) -> tuple[float, str]:
    """Return the lowest IoU of a class that fills enough of `golden`, and the name of it."""
    scores = [(float(((golden == one.id) & (mask == one.id)).sum()
                     / ((golden == one.id) | (mask == one.id)).sum()), one.name)
              for one in labels if (golden == one.id).sum() >= MIN_PIXELS]
    return min(scores)


def load_golden(path: Path) -> Golden:
    """Read a golden frame; raise CardError where it is none."""
    try:
        with np.load(path, allow_pickle=False) as content:
            golden = Golden(content['rgb'], content['x'], content['mask'])
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise CardError(f'{str(path)!r} is not a golden frame: {error}') from error
    if golden.mask.shape != golden.rgb.shape[:2] or golden.mask.dtype != np.uint8:
        raise CardError(f'{str(path)!r} is not a golden frame: its mask is {golden.mask.shape!r} '
                        f'{golden.mask.dtype} with an RGB frame of {golden.rgb.shape!r}')
    return golden


def save_golden(path: Path, golden: Golden) -> None:
    """Write a golden frame."""
    with path.open('wb') as file:
        np.savez_compressed(file, **golden._asdict())
