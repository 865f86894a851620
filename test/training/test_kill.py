# Copyright 2026 rgbx_seg_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""Training that is killed at random moments: it always goes on, and ends as if never killed."""

from dataclasses import replace
from pathlib import Path
import subprocess
import sys

import pytest
from rgbx_seg_ros.networks import NETWORKS
from rgbx_seg_ros.training.train import load_config, train
from support import train_stage
import yaml

KILLS = 20


@pytest.fixture(autouse=True)
def mini(monkeypatch):
    monkeypatch.setitem(NETWORKS, 'mini', train_stage.Mini)


@pytest.mark.long
def test_twenty_kills_at_random_moments_change_nothing(tmp_path, write_frames, write_card):
    data = write_frames(tmp_path / 'data', 4, train_stage.SIZE)
    recipe = tmp_path / 'recipe.yaml'
    recipe.write_text(yaml.safe_dump({
        'card': str(write_card(network='mini', network_args={})), 'epochs': 60, 'batch_size': 1,
        'augment': {'crop': list(train_stage.SIZE)}, 'save_steps': 1, 'workers': 0}))
    out = tmp_path / 'killed'
    run = subprocess.run(
        [sys.executable, Path(train_stage.__file__), 'forks', '1', recipe, data, out, str(KILLS)],
        capture_output=True, text=True, timeout=280)
    assert f'killed {KILLS}, the last one ended with 0\n' in run.stdout, run.stderr
    assert run.stderr.count('error') == 0
    config = replace(load_config(recipe), save_steps=None)
    unbroken = train(config, data, tmp_path / 'whole')
    assert train_stage.read_losses(out) == train_stage.read_losses(tmp_path / 'whole')
    assert (out / unbroken.name).read_bytes() == unbroken.read_bytes()
