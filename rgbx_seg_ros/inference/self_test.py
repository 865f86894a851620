# Copyright 2026 rgbx_seg_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""
The test of a model on its golden frame.

Whatever runs the model on whatever machine must make the golden mask again. This tells a wrong
build of a library, a broken cache and a driver that computes nonsense before a vehicle relies on
them.
"""

import numpy as np
from rgbx_seg_ros.errors import CardError, EngineError
from rgbx_seg_ros.frames.golden import load_golden
from rgbx_seg_ros.frames.raw import find_x_limits
from rgbx_seg_ros.inference.segmenter import Segmenter

MIN_IOU = 0.9
"""
Least intersection over union of every class with its golden pixels.

float16 and int8 move pixels of a boundary; swapped channels or another range, whole objects.
"""
MIN_PIXELS = 100
"""Of a class with fewer, single pixels would decide."""


def self_test(segmenter: Segmenter) -> float | None:
    """
    Return how well the golden frame comes out, the lowest IoU of a class; None without one.

    Raise EngineError where it is below `MIN_IOU`, CardError for a file that is not a golden frame.
    """
    card = segmenter.card
    if card.golden is None:
        return None
    golden = load_golden(card.folder / card.golden)
    mask = golden_mask(segmenter, golden.rgb, golden.x)
    worst, name = lowest_iou(golden.mask, mask, segmenter.labels)
    if worst < MIN_IOU:
        raise EngineError(
            f'the self-test failed: on {segmenter.engine.device} the model {card.name!r} gives '
            f'{name!r} an IoU of {worst:.2f} with its golden mask, needed is {MIN_IOU:g}: do not '
            "use it; try engine 'torch' with device 'cpu', or install the engine's library again")
    return worst


def golden_mask(segmenter: Segmenter, rgb: np.ndarray, x: np.ndarray) -> np.ndarray:
    """
    Return the mask (H, W) uint8 that the model makes of a golden pair.

    X becomes 0 to 1 as the card says, whatever range the cameras of a rig need.
    """
    return segmenter(rgb, x, x_limits=find_x_limits(x, segmenter.card.x)).mask


def lowest_iou(golden: np.ndarray, mask: np.ndarray, labels) -> tuple[float, str]:
    """
    Return the lowest IoU of a class that fills enough of `golden`, and the name of it.

    Raise CardError where none does.
    """
    scores = [(float(((golden == one.id) & (mask == one.id)).sum()
                     / ((golden == one.id) | (mask == one.id)).sum()), one.name)
              for one in labels if (golden == one.id).sum() >= MIN_PIXELS]
    if not scores:
        raise CardError(
            f'the golden mask has no class of {MIN_PIXELS} pixels, ids in it are '
            f'{np.unique(golden).tolist()!r}: freeze another pair with rgbx-seg golden')
    return min(scores)
