# Copyright 2026 rgbx_seg_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""What is kept of each frame that was segmented, so that two runs can be compared by frame."""

from collections.abc import Iterable
import math
from typing import NamedTuple

import numpy as np
from rgbx_seg_ros.cards.labels import UNLABELED
from rgbx_seg_ros.evaluation.metrics import ConfusionMatrix

BLIND = ('unlabeled_share', 'mean_confidence', 'disagreement')
"""Means over frames that need no label."""


class FrameScore(NamedTuple):
    """What is kept of a frame."""

    index: int
    name: str
    mean_iou: float
    """Mean over the classes that its label or mask holds; NaN without a label."""
    ms: float
    """From frames in memory to the mask in memory."""
    part: str | None
    """The part that it is scored in beside all, as 'night'; None for none."""
    unlabeled: float
    """Share of its pixels that the mask leaves at 255."""
    confidence: float
    """Mean confidence of its pixels, 0..1; NaN where there is none."""
    pixels: dict[str, dict[str, int]]
    """Counts of `class_pixels`; empty without a label."""
    disagreement: float = math.nan
    """Share of its pixels to which RGB alone and X alone give other classes; NaN if not asked."""


def class_pixels(matrix: ConfusionMatrix, names: Iterable[str]) -> dict[str, dict[str, int]]:
    """
    Return the labelled pixels of each class that label or mask holds, by its name.

    Those that the mask has right are `hits`, those with the class in the label `labelled`, and
    those with it in the mask `predicted`.
    """
    columns = matrix.counts.diagonal(), matrix.labelled, matrix.predicted
    return {name: {'hits': hits, 'labelled': labelled, 'predicted': predicted}
            for name, hits, labelled, predicted in zip(
                names, *(column.tolist() for column in columns), strict=True)
            if labelled or predicted}


def unlabeled_share(mask: np.ndarray) -> float:
    """Return the share of the pixels of a mask (H, W) uint8 that are 255."""
    return float((mask == UNLABELED).mean())


def mean_confidence(confidence: np.ndarray | None) -> float:
    """Return the mean of a confidence (H, W) uint8 as 0..1; NaN for None."""
    return math.nan if confidence is None else float(confidence.mean()) / 255


def without_labels(frames: Iterable[FrameScore]) -> dict[str, float]:
    """Return what frames tell without a label: means in which each frame counts the same."""
    shares = [(frame.unlabeled, frame.confidence, frame.disagreement) for frame in frames]
    means = np.mean(shares, axis=0).tolist() if shares else [math.nan] * len(BLIND)
    return dict(zip(BLIND, means, strict=True))


def without_nan(facts):
    """Return `facts` with None for NaN, which JSON does not have."""
    if isinstance(facts, dict):
        return {name: without_nan(fact) for name, fact in facts.items()}
    if isinstance(facts, list):
        return [without_nan(fact) for fact in facts]
    return None if isinstance(facts, float) and math.isnan(facts) else facts
