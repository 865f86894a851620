# Copyright 2026 rgbx_seg_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""Masks and labels of a bag, brought together and scored."""

from dataclasses import replace
import math
from typing import NamedTuple

import numpy as np
from rgbx_seg_ros.datasets import Sample
from rgbx_seg_ros.evaluation.evaluate import Part
from rgbx_seg_ros.evaluation.metrics import Tally

_MOST_WAITING = 100


class Masked(NamedTuple):
    """A mask that waits for its label."""

    mask: np.ndarray
    confidence: np.ndarray
    sample: Sample | None
    """The frames, small, where the report shows them."""


class Scorer:
    """Brings masks and labels of one stamp together, whichever comes first."""

    def __init__(self, num_classes, gallery):
        self.part = Part(num_classes)
        self._gallery = gallery
        self._waiting = {'label': {}, 'mask': {}}

    @property
    def matrix(self):
        """The counts of all masks with a label."""
        return self.part.tally.matrix

    @property
    def scored(self):
        """Masks compared with a label."""
        return int(self.part.counts[1])

    def add(self, kind, time_ns, item):
        """Take a 'label' (H, W) uint8 or a 'mask', Masked; raise FrameError if they differ."""
        other = self._waiting['mask' if kind == 'label' else 'label'].pop(time_ns, None)
        if other is None:
            waiting = self._waiting[kind]
            waiting[time_ns] = item
            if len(waiting) > _MOST_WAITING:
                del waiting[next(iter(waiting))]
            return
        label, masked = (item, other) if kind == 'label' else (other, item)
        if self._gallery is None:
            self.matrix.update(label, masked.mask)
        else:
            of_frame = Tally(self.matrix.num_classes)
            of_frame.update(label, masked.mask, masked.confidence)
            self.part.tally.add(of_frame)
            self._gallery.add(replace(masked.sample, label=label), of_frame.matrix.mean_iou(),
                              masked.mask)
        self.part.counts[:2] += 1

    def scores(self, names):
        """Return the scores as Report has them."""
        if not self.scored:
            return None
        columns = {'iou': self.matrix.iou(), 'recall': self.matrix.recall(),
                   'precision': self.matrix.precision()}
        return {
            'classes': {name: {score: _or_none(values[i]) for score, values in columns.items()}
                        for i, name in enumerate(names)},
            'mean_iou': _or_none(self.matrix.mean_iou()),
            'pixel_accuracy': _or_none(self.matrix.pixel_accuracy())}


def _or_none(score):
    return float(score) if math.isfinite(score) else None
