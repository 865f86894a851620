# Copyright 2026 rgbx_seg_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""Masks and labels of a bag, brought together and scored."""

from dataclasses import replace
from typing import NamedTuple

import numpy as np
from rgbx_seg_ros.datasets import Sample
from rgbx_seg_ros.evaluation.evaluate import Part
from rgbx_seg_ros.evaluation.frame_scores import class_pixels, FrameScore, without_nan
from rgbx_seg_ros.evaluation.metrics import mean, Tally

_MOST_WAITING = 100


class Masked(NamedTuple):
    """A mask that waits for its label."""

    mask: np.ndarray
    confidence: np.ndarray
    sample: Sample | None
    """The frames, small, where the report shows them."""
    score: FrameScore
    """What is told of it without a label."""


class Scorer:
    """
    Brings masks and labels of one stamp together, whichever comes first.

    `names` are those of the classes.
    """

    def __init__(self, names, gallery):
        self.part = Part(len(names))
        self._names, self._gallery = names, gallery
        self._frames = {}
        self._waiting = {'label': {}, 'mask': {}}

    @property
    def matrix(self):
        """The counts of all masks with a label."""
        return self.part.tally.matrix

    @property
    def scored(self):
        """Masks compared with a label."""
        return int(self.part.counts[1])

    @property
    def frames(self) -> list[FrameScore]:
        """What is told of each mask, in the order in which they came."""
        return list(self._frames.values())

    def add(self, kind, time_ns, item) -> tuple[np.ndarray, FrameScore] | None:
        """
        Take a 'label' (H, W) uint8 or a 'mask', Masked; raise FrameError if they differ.

        Return the label and what is told of its mask once both are there, else None.
        """
        if kind == 'mask':
            self._frames[item.score.index] = item.score
        other = self._waiting['mask' if kind == 'label' else 'label'].pop(time_ns, None)
        if other is None:
            waiting = self._waiting[kind]
            waiting[time_ns] = item
            if len(waiting) > _MOST_WAITING:
                del waiting[next(iter(waiting))]
            return None
        label, masked = (item, other) if kind == 'label' else (other, item)
        of_frame = Tally(len(self._names))
        if self._gallery is None:
            of_frame.matrix.update(label, masked.mask)
        else:
            of_frame.update(label, masked.mask, masked.confidence)
            self._gallery.add(replace(masked.sample, label=label), of_frame.matrix.mean_iou(),
                              masked.mask)
        self.part.tally.add(of_frame)
        score = masked.score._replace(
            mean_iou=of_frame.matrix.mean_iou(), pixels=class_pixels(of_frame.matrix, self._names))
        self._frames[score.index] = score
        self.part.counts[:2] += 1
        return label, score

    def scores(self):
        """Return the scores as Report has them."""
        if not self.scored:
            return None
        columns = self.matrix.columns()
        return without_nan({
            'classes': {name: {score: float(values[i]) for score, values in columns.items()}
                        for i, name in enumerate(self._names)},
            'mean': {score: mean(values) for score, values in columns.items()},
            'mean_iou': self.matrix.mean_iou(), 'pixel_accuracy': self.matrix.pixel_accuracy()})
