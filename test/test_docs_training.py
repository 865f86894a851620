# Copyright 2026 rgbx_seg_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""What docs/training.md and models.md tell to type works, and the files are as they tell."""

from pathlib import Path
import re
import shlex
import shutil
from textwrap import dedent

import pytest
from rgbx_seg_ros.__main__ import parse
from rgbx_seg_ros.cards.card import list_cards, load_card
from rgbx_seg_ros.networks import NETWORKS
from rgbx_seg_ros.training.config import TrainConfig
from rgbx_seg_ros.training.train import load_config, train
from rgbx_seg_ros.weights.checkpoint import load_weights, sha256
from support import train_stage
import torch
import yaml

ROOT = Path(__file__).parents[1]
TEXT = (ROOT / 'docs' / 'training.md').read_text(encoding='utf-8')
COMMANDS = [line for block in re.findall(r'```bash\n(.*?)```', TEXT, re.DOTALL)
            for line in block.splitlines()]


@pytest.mark.parametrize('command', [c for c in COMMANDS if 'rgbx-seg ' in c or '-m rgbx' in c])
def test_a_command_is_understood(command):
    words = re.split(r'rgbx-seg |-m rgbx_seg_ros ', command)[1]
    args = parse(shlex.split(words))
    if hasattr(args, 'config'):
        config = load_config(ROOT / args.config)
        assert config.dataset == 'mfnet'
    if getattr(args, 'model', None):
        assert Path(args.model).stem in list_cards()


def test_it_is_five_commands_from_the_download_to_the_score():
    assert len(COMMANDS) == 7
    assert COMMANDS[0].startswith('pip install') and 'rgbx-seg evaluate' in COMMANDS[4]
    assert all(command.startswith('torchrun ') for command in COMMANDS[5:])


def test_the_files_in_the_table_are_those_that_a_training_leaves(
        tmp_path, write_frames, write_card, monkeypatch):
    monkeypatch.setitem(NETWORKS, 'mini', train_stage.Mini)
    for split in ('train', 'val'):
        write_frames(tmp_path / 'data' / split)
    (tmp_path / 'data' / 'dataset.yaml').write_text('splits: {train: 4, val: 4}')
    (tmp_path / 'recipe.yaml').write_text(yaml.safe_dump({
        'card': str(write_card(network='mini', network_args={})), 'workers': 0, 'epochs': 2,
        'split': 'train', 'val_split': 'val', 'augment': train_stage.PLAIN,
        'steps_per_epoch': 30, 'learning_rate': 0.02, 'warmup_epochs': 0}))
    train(load_config(tmp_path / 'recipe.yaml'), tmp_path / 'data', tmp_path / 'out')
    rows = re.findall(r'^\| (`.*?) \|', TEXT, re.MULTILINE)
    named = {name.replace('CARD', 'tiny').rstrip('/')
             for row in rows for name in re.findall(r'`(.*?)`', row)}
    left = {path.name for path in (tmp_path / 'out').iterdir()}
    assert left | {'tensorboard'} == named


def test_fields_of_a_recipe_that_are_named_exist():
    fields = set(TrainConfig.__dataclass_fields__)
    named = set(re.findall(r'`([a-z_]+): ', TEXT)) | set(re.findall(r'`([a-z]+_[a-z_]+)`', TEXT))
    assert len(named) > 8 and named <= fields | set(list_cards())


def test_class_weights_are_taken_out_of_a_model_again(tmp_path, monkeypatch):
    text = (ROOT / 'docs' / 'models.md').read_text(encoding='utf-8')
    (block,) = re.findall(r'```python\n(.*?)```', text, re.DOTALL)
    shutil.copytree(ROOT / 'models', tmp_path / 'step_1')
    recipe = ROOT / 'config' / 'train' / 'msrs_scene.yaml'
    shutil.copy(recipe, tmp_path / 'step_1' / 'config.yaml')
    monkeypatch.chdir(tmp_path)
    exec(dedent(block), {})

    card = load_card('unweighted/msrs_scene.yaml')
    assert card.golden is None and card.weights.sha256 == sha256(card.find_weights())
    before = load_weights('step_1/msrs_scene.safetensors')
    after = load_weights('unweighted/msrs_scene.safetensors')
    taken = before.pop('classify.bias').float() - after.pop('classify.bias').float()
    weights = torch.tensor(load_config(recipe).loss.class_weights)
    assert torch.allclose(taken.exp(), weights, rtol=0.01)
    assert all(torch.equal(tensor, after[name]) for name, tensor in before.items())
