# Copyright 2026 rgbx_seg_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""Scores of masks against labels, all from one confusion matrix."""

import numpy as np
from rgbx_seg_ros.errors import FrameError
from rgbx_seg_ros.labels import UNLABELED


class ConfusionMatrix:
    """
    Counts of pixels by label and prediction.

    `counts[i, j]` are the pixels with label i and prediction j; the last column counts those that
    the mask leaves unlabeled. Pixels labelled 255 are not counted.
    """

    def __init__(self, num_classes: int):
        self.num_classes = num_classes
        self.counts = np.zeros((num_classes, num_classes + 1), np.int64)

    def update(self, label: np.ndarray, mask: np.ndarray) -> None:
        """Count one frame: `label` and `mask` are (H, W) uint8 class ids."""
        if label.shape != mask.shape:
            raise FrameError(f'label is {label.shape!r} and mask {mask.shape!r}: the sizes differ')
        for name, ids in (('label', label), ('mask', mask)):
            top = int(ids[ids != UNLABELED].max(initial=0))
            if top >= self.num_classes:
                raise FrameError(f'{name} holds the id {top}, allowed are 0..'
                                 f'{self.num_classes - 1} and {UNLABELED}')
        counted = label != UNLABELED
        labelled = label[counted].astype(np.int64)
        predicted = np.minimum(mask[counted], self.num_classes)
        index = labelled * (self.num_classes + 1) + predicted
        self.counts += np.bincount(index, minlength=self.counts.size).reshape(self.counts.shape)

    def iou(self) -> np.ndarray:
        """Return the intersection over union of each class; NaN for one that never occurs."""
        hits = self.counts.diagonal()
        union = self.counts.sum(1) + self.counts[:, :-1].sum(0) - hits
        return _ratio(hits, union)

    def recall(self) -> np.ndarray:
        """Return the share of each class's pixels that the mask has right; NaN for none."""
        return _ratio(self.counts.diagonal(), self.counts.sum(1))

    def precision(self) -> np.ndarray:
        """Return the share of each class's predictions that are right; NaN for none."""
        return _ratio(self.counts.diagonal(), self.counts[:, :-1].sum(0))

    def mean_iou(self) -> float:
        """Return the mean of the classes' IoU, those that never occur left out."""
        iou = self.iou()
        return float(np.nanmean(iou)) if np.isfinite(iou).any() else float('nan')

    def pixel_accuracy(self) -> float:
        """Return the share of all labelled pixels that the mask has right; NaN for none."""
        return float(_ratio(self.counts.diagonal().sum(), self.counts.sum()))

    def table(self, names) -> str:
        """Return a table of the scores in percent, a row for each of the class names `names`."""
        width = max(10, *(len(name) for name in names))
        rows = [f'{"class":{width}}    IoU  recall  precision']
        for name, *scores in zip(names, self.iou(), self.recall(), self.precision(), strict=True):
            iou, recall, precision = map(_percent, scores)
            rows.append(f'{name:{width}} {iou:>6}  {recall:>6}     {precision:>6}')
        rows.append(f'{"mean":{width}} {_percent(self.mean_iou()):>6}      pixel accuracy '
                    f'{_percent(self.pixel_accuracy())}')
        return '\n'.join(rows)


def _percent(share):
    return 'n/a' if np.isnan(share) else f'{100 * share:.1f}'


def _ratio(part, whole):
    with np.errstate(invalid='ignore', divide='ignore'):
        return np.where(np.equal(whole, 0), np.nan, np.divide(part, whole))
