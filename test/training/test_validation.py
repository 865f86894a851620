# Copyright 2026 rgbx_seg_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""Validation in training: the figures of an evaluation."""

import numpy as np
import pytest
from rgbx_seg_ros.cards.card import load_card
from rgbx_seg_ros.datasets import FolderDataset
from rgbx_seg_ros.distributed import Processes
from rgbx_seg_ros.evaluation.evaluate import evaluate
from rgbx_seg_ros.inference.segmenter import Segmenter
from rgbx_seg_ros.networks import Network
from rgbx_seg_ros.sensors import Sensors
from rgbx_seg_ros.training.validation import validate
import torch

ALONE = Processes(0, 1, torch.device('cpu'))


@pytest.mark.parametrize('sensors', Sensors)
def test_it_counts_what_an_evaluation_without_that_sensor_counts(tiny_card, tmp_path,
                                                                 write_frames, sensors):
    data = FolderDataset(write_frames(tmp_path / 'data', 3, (60, 80)))
    segmenter = Segmenter.from_card(tiny_card, device='cpu')
    expected = evaluate(segmenter, data, sensors).parts['all'].tally.matrix.counts
    matrix = validate(segmenter.engine.network, segmenter.card, data, sensors, ALONE)
    assert np.array_equal(matrix.counts, expected)
    assert matrix.counts.sum() == 3 * 60 * 80


class Bright(Network):
    """Says class 2 where the colour frame is bright, and is told no more than a window."""

    def forward(self, rgb, x):
        assert rgb.shape[2:] == x.shape[2:] == (64, 64)
        return torch.cat((torch.zeros_like(rgb[:, :2]), rgb[:, :1]), dim=1)


def test_windows_cover_a_large_frame(tmp_path, write_frames, write_card):
    data = FolderDataset(write_frames(tmp_path / 'data', 1, (100, 170)))
    card = load_card(write_card(input_size=[64, 64], window={'size': 64, 'stride': 32}))
    matrix = validate(Bright().eval(), card, data, Sensors.BOTH, ALONE)
    sample = data[0]
    bright = sample.rgb[..., 0] / 255 > card.rgb.mean[0]
    assert matrix.counts[:, 2].tolist() == [
        int((bright & (sample.label == i)).sum()) for i in range(3)]
