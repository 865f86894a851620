# Copyright 2026 rgbx_seg_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""A network, pairs and recipes for the tests of whole trainings."""

import pytest
from rgbx_seg_ros.networks import NETWORKS
from support import train_stage
from support.train_stage import SIZE
import yaml


@pytest.fixture
def mini(monkeypatch):
    """Let the smallest network be one of those that cards may name."""
    monkeypatch.setitem(NETWORKS, 'mini', train_stage.Mini)


@pytest.fixture
def data(tmp_path, write_frames):
    """Return a folder of pairs to train on."""
    return write_frames(tmp_path / 'data', size=SIZE)


@pytest.fixture
def recipe(tmp_path, write_card, mini):
    """Return a function that writes a recipe for a card of the smallest network, with changes."""
    card = write_card(network='mini', network_args={})

    def write(**changes):
        path = tmp_path / 'recipe.yaml'
        path.write_text(yaml.safe_dump({
            'card': str(card), 'augment': {'crop': list(SIZE)}, 'epochs': 2, 'batch_size': 2,
            'warmup_epochs': 0, 'learning_rate': 0.002, 'workers': 0, **changes}))
        return path
    return write
