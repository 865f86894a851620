# Copyright 2026 rgbx_seg_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""Training in several processes of torchrun: the same as in one."""

import os
from pathlib import Path
import subprocess
import sys

import cv2
import numpy as np
import pytest
from rgbx_seg_ros.distributed import Processes
from rgbx_seg_ros.errors import DataError
from rgbx_seg_ros.networks import NETWORKS
from rgbx_seg_ros.training.data import Plan
from rgbx_seg_ros.training.train import load_config, train
from rgbx_seg_ros.weights.checkpoint import load_weights
from support import train_stage
import torch
import yaml

SIZE = train_stage.SIZE


@pytest.fixture(autouse=True)
def mini(monkeypatch):
    monkeypatch.setitem(NETWORKS, 'mini', train_stage.Mini)


@pytest.fixture
def data(tmp_path, write_frames):
    """Return a data set whose frames have very different numbers of labelled pixels."""
    root = write_frames(tmp_path / 'data', 8, SIZE)
    for i in (1, 4, 6):
        path = str(root / 'label' / f'a{i}.png')
        label = cv2.imread(path, cv2.IMREAD_GRAYSCALE)
        label[8 * i:] = 255
        cv2.imwrite(path, label)
    return root


@pytest.fixture
def recipe(tmp_path, write_card):
    card = write_card(network='mini', network_args={'exact': True})

    def write(**changes):
        path = tmp_path / 'recipe.yaml'
        path.write_text(yaml.safe_dump({
            'card': str(card), 'augment': {'crop': list(SIZE)}, 'epochs': 10, 'batch_size': 4,
            'learning_rate': 0.01, 'loss': {'class_weights': [1.0, 2.0, 5.0], 'dice': 0.5},
            'workers': 0, **changes}))
        return path
    return write


def torchrun(processes, *words):
    return subprocess.run(
        [sys.executable, '-m', 'torch.distributed.run', '--standalone',
         f'--nproc-per-node={processes}', Path(train_stage.__file__), *map(str, words)],
        capture_output=True, text=True, timeout=240, env={**os.environ, 'OMP_NUM_THREADS': '1'})


def test_two_processes_train_as_one_with_the_doubled_batch_does(data, recipe, tmp_path):
    path = recipe()
    whole = load_weights(train(load_config(path), data, tmp_path / 'one'))
    run = torchrun(2, 'train', path, '--data', data, '--out', tmp_path / 'two', '--device', 'cpu')
    assert run.returncode == 0, run.stderr
    assert run.stdout.count('wrote') == 1, 'one process alone speaks'
    steps, one = train_stage.read_losses(tmp_path / 'one')
    assert steps == [*range(20)]
    assert np.ptp(one) > 0.1
    _, two = train_stage.read_losses(tmp_path / 'two')
    np.testing.assert_allclose(two, one, rtol=0, atol=1e-5)
    for name, tensor in load_weights(tmp_path / 'two' / 'tiny.safetensors').items():
        torch.testing.assert_close(tensor, whole[name], atol=1e-3, rtol=1e-3)


@pytest.mark.long
def test_what_one_process_began_two_go_on_with(data, recipe, tmp_path):
    train(load_config(recipe()), data, tmp_path / 'one')
    train(load_config(recipe(epochs=5, schedule='steps', milestones=[99])), data, tmp_path / 'two')
    run = torchrun(2, 'train', recipe(), '--data', data, '--out', tmp_path / 'two',
                   '--device', 'cpu')
    assert run.returncode == 0, run.stderr
    assert 'after epoch 5' in run.stdout
    steps, _ = train_stage.read_losses(tmp_path / 'two')
    assert steps == [*range(20)]


@pytest.mark.long
def test_a_bad_frame_ends_all_processes_with_its_name(data, recipe, tmp_path):
    (data / 'label' / 'a3.png').unlink()
    run = torchrun(2, 'train', recipe(), '--data', data, '--out', tmp_path / 'out',
                   '--device', 'cpu')
    assert run.returncode != 0
    assert "frame 'a3' has no label" in run.stderr or 'a3.png' in run.stderr


def test_a_batch_that_processes_cannot_share_is_told(recipe):
    with pytest.raises(DataError, match='batch_size is 3: 2 processes with accumulate 1 need a '
                                        'multiple of 2'):
        Plan(load_config(recipe(batch_size=3)), 8, Processes(0, 2, torch.device('cpu')))
