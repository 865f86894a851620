# Copyright 2026 rgbx_seg_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""What takes the place of a model and of a device in a dry run, so that it takes minutes."""

from dataclasses import replace
import os
from pathlib import Path

from rgbx_seg_ros.benchmark import roofline
from rgbx_seg_ros.benchmark.benchmark import network_card
from rgbx_seg_ros.cards.card import Weights
from rgbx_seg_ros.engines import cache, torch_engine
from rgbx_seg_ros.networks import NETWORKS
from rgbx_seg_ros.weights.checkpoint import save_weights
from support.train_stage import Mini
import torch

SIZE = (64, 96)


class HostGraph:
    """Stands where a CUDA graph would, and runs operation by operation."""

    def __init__(self, run, examples, device):
        self._run = run

    def __call__(self, *tensors):
        return self._run(*tensors)


def mini_card():
    """Return a model of two layers, whose files are made in seconds."""
    NETWORKS['mini'] = Mini
    cache._BUILD = 'support.train_stage:build_file'
    folder = Path(os.environ['XDG_CACHE_HOME'])
    folder.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(0)
    save_weights(Mini(len(network_card('mini', SIZE).classes)), folder / 'mini.safetensors')
    return replace(network_card('mini', SIZE), folder=folder, weights=Weights('mini.safetensors'))


def measure_little() -> None:
    """Let the peaks be those of small products and copies, which are no peaks."""
    roofline._SIDE['cpu'], roofline._COPIED['cpu'] = 256, 1 << 20


def stand_in_for_graphs() -> None:
    """Let the engine capture what it would capture on a GPU."""
    torch_engine.CudaGraph = HostGraph
