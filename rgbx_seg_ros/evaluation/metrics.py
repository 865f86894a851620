# Copyright 2026 rgbx_seg_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""
Scores of masks against labels.

What is kept are counts, so the scores of two sets of frames together come from sums, whichever
process has counted. Which classes a mean takes in is the business of `protocols`.
"""

import math

import cv2
import numpy as np
from rgbx_seg_ros.cards.labels import UNLABELED
from rgbx_seg_ros.errors import FrameError
from rgbx_seg_ros.tables import figures

BOUNDARY_TOLERANCE = 0.0075
"""How far a boundary may be off, in diagonals of the frame: 6 pixels at 640x480."""

CALIBRATION_BINS = 15

_TITLES = {'iou': 'IoU', 'recall': 'recall', 'precision': 'precision', 'f1': 'F1',
           'boundary': 'boundary F'}


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

    @property
    def labelled(self) -> np.ndarray:
        """Pixels of each class in the labels, (K,)."""
        return self.counts.sum(1)

    @property
    def predicted(self) -> np.ndarray:
        """Pixels of each class in the masks, as far as they are labelled, (K,)."""
        return self.counts[:, :-1].sum(0)

    def iou(self) -> np.ndarray:
        """Return the intersection over union of each class; NaN for one that never occurs."""
        return self.columns()['iou']

    def recall(self) -> np.ndarray:
        """Return the share of each class's pixels that the mask has right; NaN for none."""
        return self.columns()['recall']

    def precision(self) -> np.ndarray:
        """Return the share of each class's predictions that are right; NaN for none."""
        return self.columns()['precision']

    def f1(self) -> np.ndarray:
        """Return the harmonic mean of precision and recall; NaN for a class that never occurs."""
        return self.columns()['f1']

    def mean_iou(self) -> float:
        """Return the mean of the classes' IoU, those that never occur left out."""
        return mean(self.iou())

    def pixel_accuracy(self) -> float:
        """
        Return the share of all labelled pixels that the mask has right; NaN for none.

        It is also called overall accuracy.
        """
        return float(_ratio(self.counts.diagonal().sum(), self.counts.sum()))

    def columns(self) -> dict[str, np.ndarray]:
        """Return the scores of each class by name, (K,) each."""
        return class_scores(self.counts.diagonal(), self.labelled, self.predicted)

    def table(self, names) -> str:
        """Return a table of the scores in percent, a row for each of the class names `names`."""
        columns = self.columns()
        return table(names, columns, {name: mean(column) for name, column in columns.items()},
                     self.pixel_accuracy())


class BoundaryScore:
    """
    How well the boundaries of the classes are met: the BF score.

    Csurka, Larlus, Perronnin, "What is a good evaluation measure for semantic segmentation?",
    BMVC 2013. In each frame and for each class, precision is the share of the boundary in the mask
    that lies within `BOUNDARY_TOLERANCE` of the boundary in the label, recall the share of that in
    the label with one in the mask as near, and the score their harmonic mean, 0 where only one of
    the two has a boundary. A frame in which neither has one does not count. The score of a class
    is the mean over frames.

    A pixel is on the boundary of its class when one of its four neighbours has another class. What
    the label leaves open has none and makes none, in label and mask, nor does the frame's edge.
    Labels that leave open wherever classes meet say nothing of boundaries: then there is no score.
    """

    def __init__(self, num_classes: int):
        self.sums = np.zeros(num_classes, np.float64)
        self.frames = np.zeros(num_classes, np.int64)
        self.labelled = np.zeros((), np.int64)  # frames whose label has a boundary of any class

    def update(self, label: np.ndarray, mask: np.ndarray) -> None:
        """Count one frame: `label` and `mask` are (H, W) uint8 class ids."""
        tolerance = BOUNDARY_TOLERANCE * math.hypot(*label.shape)
        counted = label != UNLABELED
        in_label, in_mask = _boundary(label, counted), _boundary(mask, counted)
        self.labelled += in_label.any()
        for i in np.union1d(label[in_label], mask[in_mask]):
            if i == UNLABELED:
                continue
            labelled, predicted = in_label & (label == i), in_mask & (mask == i)
            precision = _share_near(predicted, labelled, tolerance)
            recall = _share_near(labelled, predicted, tolerance)
            self.sums[i] += 2 * precision * recall / ((precision + recall) or 1)
            self.frames[i] += 1

    def scores(self) -> np.ndarray:
        """Return the score of each class, (K,); NaN for one without a boundary."""
        return _ratio(self.sums, self.frames if self.labelled else 0)


class Calibration:
    """
    How far the confidence of the masks is right.

    `counts[v, r]` are the labelled pixels of confidence v / 255 that are wrong (0) or right (1).
    """

    def __init__(self):
        self.counts = np.zeros((256, 2), np.int64)

    def update(self, label: np.ndarray, mask: np.ndarray, confidence: np.ndarray) -> None:
        """Count one frame: class ids twice and the confidence, all (H, W) uint8."""
        counted = label != UNLABELED
        right = label[counted] == mask[counted]
        index = 2 * confidence[counted].astype(np.int64) + right
        self.counts += np.bincount(index, minlength=512).reshape(256, 2)

    def bins(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """
        Return pixels, mean confidence and share of right ones of `CALIBRATION_BINS` bins.

        They are equally wide; one that ends at c takes in c, as in the paper named in `error`.
        """
        level = np.arange(256)
        # 15 bins of 17 levels each: the edges are levels, in integers without rounding.
        bin_of = np.maximum(-(-level * CALIBRATION_BINS // 255) - 1, 0)
        of_level = self.counts.sum(1)
        pixels, confidence, right = (
            np.bincount(bin_of, weights, CALIBRATION_BINS)
            for weights in (of_level, of_level * level / 255, self.counts[:, 1]))
        return pixels.astype(np.int64), _ratio(confidence, pixels), _ratio(right, pixels)

    def error(self) -> float:
        """
        Return the expected calibration error, 0..1; NaN without a labelled pixel.

        Guo, Pleiss, Sun, Weinberger, "On calibration of modern neural networks", ICML 2017: the
        mean over pixels of the distance between confidence and share of right ones in their bin.
        """
        pixels, confidence, right = self.bins()
        gaps = pixels * np.abs(confidence - right)
        return float(_ratio(np.nansum(gaps), pixels.sum()))


class Tally:
    """All scores of a set of frames."""

    def __init__(self, num_classes: int):
        self.matrix = ConfusionMatrix(num_classes)
        self.boundary = BoundaryScore(num_classes)
        self.calibration = Calibration()

    def update(self, label: np.ndarray, mask: np.ndarray, confidence: np.ndarray | None) -> None:
        """Count one frame, (H, W) uint8 each; None: there is no confidence to be judged."""
        self.matrix.update(label, mask)
        self.boundary.update(label, mask)
        if confidence is not None:
            self.calibration.update(label, mask, confidence)

    def arrays(self) -> list[np.ndarray]:
        """Return all that is counted, to be added to that of another tally in place."""
        return [self.matrix.counts, self.boundary.sums, self.boundary.frames,
                self.boundary.labelled, self.calibration.counts]

    def add(self, other: 'Tally') -> None:
        """Count the frames of another tally as well."""
        for mine, theirs in zip(self.arrays(), other.arrays(), strict=True):
            mine += theirs

    def columns(self) -> dict[str, np.ndarray]:
        """Return the scores of each class by name, (K,) each."""
        return {**self.matrix.columns(), 'boundary': self.boundary.scores()}


def class_scores(hits: np.ndarray, labelled: np.ndarray,
                 predicted: np.ndarray) -> dict[str, np.ndarray]:
    """
    Return the scores of each class by name, (K,) each.

    Given are its pixels that are right, those with it in the label and in the mask, (K,) each.
    """
    return {'iou': _ratio(hits, labelled + predicted - hits), 'recall': _ratio(hits, labelled),
            'precision': _ratio(hits, predicted), 'f1': _ratio(2 * hits, labelled + predicted)}


def mean(scores: np.ndarray, absent: float = math.nan) -> float:
    """Return the mean of `scores` with `absent` in the place of NaN; NaN itself is left out."""
    known = np.where(np.isnan(scores), absent, scores)
    known = known[~np.isnan(known)]
    return float(known.mean()) if known.size else math.nan


def table(names, columns: dict[str, np.ndarray], means: dict[str, float],
          accuracy: float) -> str:
    """Return scores in percent: a row for each of `names`, `means`, and the pixel accuracy."""
    rows = [('class', *(_TITLES[name] for name in columns)),
            *((name, *map(percent, row))
              for name, *row in zip(names, *columns.values(), strict=True)),
            ('mean', *(percent(means[name]) for name in columns))]
    return f'{figures(rows)}\npixel accuracy {percent(accuracy)}'


def percent(share: float) -> str:
    """Return a share as text in percent, 'n/a' for NaN."""
    return 'n/a' if math.isnan(share) else f'{100 * share:.1f}'


def _ratio(part, whole):
    with np.errstate(invalid='ignore', divide='ignore'):
        return np.where(np.equal(whole, 0), np.nan, np.divide(part, whole))


def _boundary(ids, counted):
    """Return where `ids` (H, W) differ from one of the four neighbours, both `counted`."""
    found = np.zeros(ids.shape, bool)
    for one, other in ((np.s_[1:], np.s_[:-1]), (np.s_[:, 1:], np.s_[:, :-1])):
        differ = (ids[one] != ids[other]) & counted[one] & counted[other]
        found[one] |= differ
        found[other] |= differ
    return found


def _share_near(pixels, others, tolerance):
    """Return the share of `pixels` (H, W) bool within `tolerance` of one of `others`."""
    if not pixels.any() or not others.any():
        return 0.0
    # What lies outside of the rectangle around both is nearest to nothing.
    both = pixels | others
    rows, columns = (np.flatnonzero(both.any(axis)) for axis in (1, 0))
    box = np.s_[rows[0]:rows[-1] + 1, columns[0]:columns[-1] + 1]
    away = cv2.distanceTransform(np.uint8(~others[box]), cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
    return float((away[pixels[box]] <= tolerance).mean())
