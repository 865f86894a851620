# Copyright 2026 rgbx_seg_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""Scores against a loop over pixels, and against scikit-learn."""

import math

from hypothesis import given, settings
from hypothesis import strategies as st
import numpy as np
import pytest
from rgbx_seg_ros.cards.labels import UNLABELED
from rgbx_seg_ros.errors import FrameError
from rgbx_seg_ros.evaluation.metrics import (
    BOUNDARY_TOLERANCE,
    BoundaryScore,
    Calibration,
    CALIBRATION_BINS,
    ConfusionMatrix,
    mean,
    Tally,
)

pytestmark = pytest.mark.filterwarnings('error')


def ids(classes):
    return st.sampled_from([*range(classes), 255])


@st.composite
def frames(draw):
    classes = draw(st.sampled_from([1, 2, 3, 40, 254]))
    count = draw(st.integers(1, 3))
    pixels = st.lists(st.tuples(ids(classes), ids(classes)), min_size=1, max_size=12)
    return classes, [draw(pixels) for _ in range(count)]


@settings(deadline=None, max_examples=60)
@given(frames())
def test_every_score_equals_that_of_a_loop_over_pixels(drawn):
    classes, pairs = drawn
    matrix = ConfusionMatrix(classes)
    for frame in pairs:
        label, mask = np.array(frame, np.uint8).T
        matrix.update(label[None], mask[None])

    pixels = [(label, mask) for frame in pairs for label, mask in frame if label != 255]
    ious = []
    for i in range(classes):
        hits = sum(label == mask == i for label, mask in pixels)
        labelled = sum(label == i for label, _ in pixels)
        predicted = sum(mask == i for _, mask in pixels)
        either = sum(i in pixel for pixel in pixels)
        for found, whole in ((matrix.iou()[i], either), (matrix.recall()[i], labelled),
                             (matrix.precision()[i], predicted)):
            assert found == pytest.approx(hits / whole if whole else math.nan, nan_ok=True)
        if either:
            ious.append(hits / either)
    mean = sum(ious) / len(ious) if ious else math.nan
    assert matrix.mean_iou() == pytest.approx(mean, nan_ok=True)
    right = sum(label == mask for label, mask in pixels)
    share = right / len(pixels) if pixels else math.nan
    assert matrix.pixel_accuracy() == pytest.approx(share, nan_ok=True)


@pytest.mark.parametrize(('label', 'mask', 'message'), [
    ([[0, 3]], [[0, 1]], 'label holds the id 3, allowed are 0..2 and 255'),
    ([[0, 1]], [[0, 254]], 'mask holds the id 254, allowed are 0..2 and 255'),
    ([[0, 1]], [[0, 1, 2]], r'label is \(1, 2\) and mask \(1, 3\): the sizes differ'),
    ([[0, 1]], [[0], [1]], 'the sizes differ'),
])
def test_what_cannot_be_counted_is_refused_and_counts_nothing(label, mask, message):
    matrix = ConfusionMatrix(3)
    with pytest.raises(FrameError, match=message):
        matrix.update(np.array(label, np.uint8), np.array(mask, np.uint8))
    assert not matrix.counts.any()


def test_the_table_shows_percent_and_says_where_there_is_nothing():
    matrix = ConfusionMatrix(3)
    matrix.update(np.array([[0, 0, 1, 1, 255]], np.uint8), np.array([[0, 1, 1, 255, 2]], np.uint8))
    assert matrix.table(['background', 'car', 'a_rather_long_name']) == '\n'.join([
        'class                IoU  recall  precision    F1',
        'background          50.0    50.0      100.0  66.7',
        'car                 33.3    50.0       50.0  50.0',
        'a_rather_long_name   n/a     n/a        n/a   n/a',
        'mean                41.7    50.0       75.0  58.3',
        'pixel accuracy 50.0'])


def test_a_mean_leaves_out_what_has_no_score_or_counts_it_as_it_is_told():
    scores = np.array([0.5, math.nan, 1.0])
    assert mean(scores) == 0.75
    assert mean(scores, 0.0) == 0.5
    assert mean(scores, 1.0) == pytest.approx(2.5 / 3)
    assert math.isnan(mean(np.array([math.nan])))


# Against scikit-learn

CASES = {
    'random': (5, 0), 'few pixels': (5, 1), 'all labels of one class': (4, 2),
    'all masks of one class': (4, 3), 'a class that never occurs': (6, 4),
    'a class that is never found': (4, 5), 'nothing labelled': (3, 6), 'one class': (1, 7)}


def case(name):
    """Return the number of classes, a label and a mask, (H, W) uint8."""
    classes, seed = CASES[name]
    rng = np.random.default_rng(seed)
    label, mask = rng.integers(0, classes, (2, 9, 31), np.uint8)
    mask = np.where(rng.random(mask.shape) < 0.6, label, mask)
    label[rng.random(label.shape) < 0.1] = UNLABELED
    if name == 'few pixels':
        label[1:] = UNLABELED
    elif name == 'all labels of one class':
        label[label != UNLABELED] = 2
    elif name == 'all masks of one class':
        mask[:] = 1
    elif name == 'a class that never occurs':
        label[label == 4], mask[mask == 4] = 3, 2
    elif name == 'a class that is never found':
        mask[mask == 3] = 0
    elif name == 'nothing labelled':
        label[:] = UNLABELED
    return classes, label, mask


# scikit-learn takes neither nothing nor, without a warning, one class.
@pytest.mark.parametrize('name', sorted(CASES.keys() - {'nothing labelled', 'one class'}))
def test_scores_are_those_of_scikit_learn(name):
    sklearn = pytest.importorskip('sklearn.metrics', reason='compares with scikit-learn')
    classes, label, mask = case(name)
    matrix = ConfusionMatrix(classes)
    matrix.update(label, mask)
    counted = label != UNLABELED
    truth, found, ids = label[counted], mask[counted], list(range(classes))
    np.testing.assert_array_equal(
        matrix.counts[:, :-1], sklearn.confusion_matrix(truth, found, labels=ids))
    precision, recall, f1, _ = sklearn.precision_recall_fscore_support(
        truth, found, labels=ids, zero_division=np.nan)
    np.testing.assert_allclose(matrix.precision(), precision)
    np.testing.assert_allclose(matrix.recall(), recall)
    np.testing.assert_allclose(matrix.f1(), f1)
    # Its Jaccard score has no NaN: where a class never occurs F1 tells.
    iou = sklearn.jaccard_score(truth, found, labels=ids, average=None, zero_division=0)
    np.testing.assert_allclose(matrix.iou(), np.where(np.isnan(f1), np.nan, iou))
    assert matrix.mean_iou() == pytest.approx(np.nanmean(np.where(np.isnan(f1), np.nan, iou)))
    assert matrix.pixel_accuracy() == pytest.approx(sklearn.accuracy_score(truth, found))
    if np.isin(found, truth).all():  # else it warns
        assert mean(matrix.recall()) == pytest.approx(
            sklearn.balanced_accuracy_score(truth, found))


def test_without_a_labelled_pixel_there_is_no_score():
    classes, label, mask = case('nothing labelled')
    tally = Tally(classes)
    tally.update(label, mask, mask)
    for column in tally.columns().values():
        assert np.isnan(column).all()
    assert math.isnan(tally.matrix.pixel_accuracy()) and math.isnan(tally.calibration.error())


@pytest.mark.parametrize('name', CASES)
def test_calibration_is_that_of_scikit_learn(name):
    curve = pytest.importorskip(
        'sklearn.calibration', reason='compares with scikit-learn').calibration_curve
    _, label, mask = case(name)
    # scikit-learn's bins take in their lower edge and ours the upper one: no value on an edge.
    levels = np.setdiff1d(np.arange(256), np.arange(0, 256, 17))
    confidence = np.random.default_rng(9).choice(levels, label.shape).astype(np.uint8)
    calibration = Calibration()
    calibration.update(label, mask, confidence)
    pixels, mean_confidence, right = calibration.bins()
    counted = label != UNLABELED
    assert pixels.sum() == counted.sum()
    if not counted.any():
        return
    hits = (label == mask)[counted]
    expected_right, expected_confidence = curve(
        hits, confidence[counted] / 255, n_bins=CALIBRATION_BINS)
    np.testing.assert_allclose(right[pixels > 0], expected_right)
    np.testing.assert_allclose(mean_confidence[pixels > 0], expected_confidence)
    gaps = np.abs(expected_right - expected_confidence)
    assert calibration.error() == pytest.approx((pixels[pixels > 0] * gaps).sum() / pixels.sum())


def test_a_bin_takes_in_its_upper_edge_and_the_first_one_zero():
    confidence = np.array([[0, 17, 18, 34, 238, 239, 255]], np.uint8)
    calibration = Calibration()
    calibration.update(np.zeros_like(confidence), np.zeros_like(confidence), confidence)
    assert calibration.bins()[0].tolist() == [2, 2, *[0] * 11, 1, 2]


def test_one_who_is_always_sure_and_right_half_the_time_is_wrong_by_half():
    label = np.tile(np.uint8([0, 1]), (4, 8))
    calibration = Calibration()
    calibration.update(label, np.zeros_like(label), np.full_like(label, 255))
    assert calibration.error() == 0.5


# Boundaries

def boundary_of_a_loop(label, mask, classes):
    """Return the score of each class of one frame by its definition, NaN for none."""
    height, width = label.shape
    tolerance = BOUNDARY_TOLERANCE * math.hypot(height, width)

    def edge(ids, i):
        found = []
        for y in range(height):
            for x in range(width):
                for v, u in ((y - 1, x), (y + 1, x), (y, x - 1), (y, x + 1)):
                    if (0 <= v < height and 0 <= u < width and ids[y, x] == i != ids[v, u]
                            and UNLABELED not in (label[y, x], label[v, u])):
                        found.append((y, x))
                        break
        return found

    def near(ones, others):
        return sum(any(math.dist(one, other) <= tolerance for other in others)
                   for one in ones) / len(ones) if ones else 0

    scores = []
    for i in range(classes):
        of_label, of_mask = edge(label, i), edge(mask, i)
        precision, recall = near(of_mask, of_label), near(of_label, of_mask)
        product = 2 * precision * recall / (precision + recall) if precision + recall else 0
        scores.append(product if of_label or of_mask else math.nan)
    return scores


@pytest.mark.parametrize('seed', range(6))
def test_boundaries_are_scored_by_their_definition(seed):
    rng = np.random.default_rng(seed)
    label = rng.integers(0, 4, (6, 10), np.uint8).repeat(14, 0).repeat(14, 1)  # blocks, 84 x 140
    mask = np.roll(label, (seed % 3, -seed % 2), (0, 1))
    mask[30:50, 40:60] = rng.choice([0, 3, 255])
    label[60:, 100:] = label[:20, :30] = UNLABELED
    boundary = BoundaryScore(5)
    boundary.update(label, mask)
    np.testing.assert_allclose(boundary.scores(), boundary_of_a_loop(label, mask, 5))


def test_a_boundary_may_be_off_by_the_tolerance_and_no_more():
    """At 480x640 the diagonal is 800 pixels, the tolerance 6."""
    columns = np.tile(np.arange(640), (480, 1))
    for shift, score in ((0, 1), (6, 1), (7, 0)):
        boundary = BoundaryScore(2)
        boundary.update(np.uint8(columns >= 320), np.uint8(columns >= 320 + shift))
        assert boundary.scores().tolist() == [score, score]


def test_the_score_of_a_class_is_the_mean_over_frames_with_a_boundary_of_it():
    flat = np.zeros((20, 20), np.uint8)
    half, quarter = flat.copy(), flat.copy()
    half[:, 10:] = 1
    quarter[:, 5:] = 2
    boundary = BoundaryScore(3)
    for label, mask in ((half, half), (half, flat), (flat, flat), (half, quarter)):
        boundary.update(label, mask)
    assert boundary.frames.tolist() == [3, 3, 1]
    np.testing.assert_allclose(boundary.scores(), [1 / 3, 1 / 3, 0])


def test_labels_that_are_open_where_classes_meet_score_no_boundary():
    """A hand draws around objects and leaves a ring open; the mask is not wrong for that."""
    ringed, mask = np.zeros((2, 20, 20), np.uint8)
    ringed[:, 10:], mask[:, 10:] = 1, 1
    ringed[:, 8:12] = UNLABELED
    mask[5:15, 2:5] = 1  # a boundary where the label has none
    boundary = BoundaryScore(3)
    boundary.update(ringed, mask)
    assert np.isnan(boundary.scores()).all()
    boundary.update(mask, mask)  # one frame that says where classes meet, and both count
    np.testing.assert_allclose(boundary.scores(), [0.5, 0.5, np.nan])


# Sums

def test_tallies_of_halves_add_up_to_that_of_all():
    rng = np.random.default_rng(0)
    whole, halves = Tally(4), [Tally(4), Tally(4)]
    for i in range(6):
        label, mask, confidence = rng.integers(0, 4, (3, 30, 40), np.uint8)
        for tally in (whole, halves[i % 2]):
            tally.update(label, mask, 60 * confidence)
    assert not np.array_equal(halves[0].matrix.counts, halves[1].matrix.counts)
    halves[0].add(halves[1])
    assert halves[0].calibration.error() == whole.calibration.error() > 0
    np.testing.assert_allclose(halves[0].boundary.scores(), whole.boundary.scores())
    for one, other in zip(whole.arrays(), halves[0].arrays(), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-12)
