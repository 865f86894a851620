# Copyright 2026 rgbx_seg_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""Scores of a network in training, on the labelled frames of another split."""

from collections.abc import Callable

import numpy as np
from rgbx_seg_ros.cards.card import Card
from rgbx_seg_ros.distributed import Processes
from rgbx_seg_ros.engines.graph import SegmentationGraph, to_batch
from rgbx_seg_ros.errors import DataError, FrameError
from rgbx_seg_ros.evaluation.metrics import ConfusionMatrix
from rgbx_seg_ros.inference.tiles import window_starts
from rgbx_seg_ros.sensors import Sensors
from rgbx_seg_ros.training.data import limits_of
import torch
from torch import nn


@torch.inference_mode()
def validate(network: nn.Module, card: Card, samples, sensors: Sensors,
             processes: Processes) -> ConfusionMatrix:
    """
    Return the ConfusionMatrix of `network`, in eval mode, over the labelled `samples`.

    The frames of `sensors` go the way that they go on the vehicle, each through one of the
    processes. A card's window is laid side by side, where an evaluation lets its windows overlap.
    """
    graph = SegmentationGraph(network, card).to(processes.device)
    matrix = ConfusionMatrix(len(card.classes))
    for index in range(processes.rank, len(samples), processes.count):
        sample = samples[index]
        if sample.label is None:
            continue
        try:
            mask = _mask(graph, card, sample, sensors, processes.device)
            matrix.update(sample.label, mask)
        except FrameError as error:
            raise DataError(f'frame {sample.name!r}: {error}') from error
    counts = processes.sum(torch.from_numpy(matrix.counts))
    matrix.counts = counts.cpu().numpy()
    return matrix


def _mask(graph, card, sample, sensors, device):
    x_limits, present = (torch.tensor([pair], dtype=torch.float32, device=device)
                         for pair in (limits_of(sample, card), sensors.present))

    def run(rgb, x):
        frames = (to_batch(frame).to(device) for frame in (rgb, x))
        with torch.autocast(device.type, torch.float16, enabled=device.type == 'cuda'):
            return graph(*frames, x_limits, present)[0][0].cpu().numpy()

    return _side_by_side(run, sample, card.window.size) if card.window else run(
        sample.rgb, sample.x)


def _side_by_side(run: Callable, sample, size):
    mask = np.empty(sample.rgb.shape[:2], np.uint8)
    rows, columns = ([start for start, _ in window_starts(side, size, size)]
                     for side in mask.shape)
    for top in rows:
        for left in columns:
            place = np.s_[top:top + size, left:left + size]
            mask[place] = run(sample.rgb[place], sample.x[place])
    return mask
