# Copyright 2026 rgbx_seg_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""Scores against a loop over pixels."""

import math

from hypothesis import given, settings
from hypothesis import strategies as st
import numpy as np
import pytest
from rgbx_seg_ros.errors import FrameError
from rgbx_seg_ros.metrics import ConfusionMatrix

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
        'class                 IoU  recall  precision',
        'background           50.0    50.0      100.0',
        'car                  33.3    50.0       50.0',
        'a_rather_long_name    n/a     n/a        n/a',
        'mean                 41.7      pixel accuracy 50.0'])
