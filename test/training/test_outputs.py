# Copyright 2026 rgbx_seg_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""What a training leaves: a model that the node takes, and nothing of a user's overwritten."""

from pathlib import Path

import cv2
import numpy as np
import pytest
from rgbx_seg_ros.cards.card import load_card
from rgbx_seg_ros.datasets import FolderDataset
from rgbx_seg_ros.errors import CardError, DataError
from rgbx_seg_ros.frames.golden import load_golden
from rgbx_seg_ros.inference.segmenter import Segmenter
from rgbx_seg_ros.inference.self_test import self_test
from rgbx_seg_ros.networks import Network, NETWORKS
from rgbx_seg_ros.training import train as module
from rgbx_seg_ros.training.train import load_config, train
from rgbx_seg_ros.weights.checkpoint import load_weights
from support import train_stage
import torch
import yaml

SIZE, PLAIN = train_stage.SIZE, train_stage.PLAIN
PARENT = {
    'weights': {'file': 'parent.safetensors'}, 'golden': 'parent.golden.npz',
    'onnx': {'file': 'parent.onnx', 'providers': ['CPU']}, 'scores': {'test': 90.0},
    'licenses': {'code': 'Apache-2.0', 'weights': 'theirs', 'data': 'theirs'},
    'published': {'dataset': 'd', 'origin': 'o'}}


@pytest.fixture(autouse=True)
def mini(monkeypatch):
    monkeypatch.setitem(NETWORKS, 'mini', train_stage.Mini)


@pytest.fixture
def data(tmp_path, write_frames):
    return write_frames(tmp_path / 'data', size=SIZE)


@pytest.fixture
def recipe(tmp_path, write_card):
    """Return a function that writes a recipe for a card of the smallest network, with changes."""
    card = write_card(network='mini', network_args={})

    def write(**changes):
        path = tmp_path / 'recipe.yaml'
        path.write_text(yaml.safe_dump({
            'card': str(card), 'augment': PLAIN, 'epochs': 1, 'batch_size': 2,
            'warmup_epochs': 0, 'learning_rate': 0.02, 'workers': 0, **changes}))
        return path
    return write


def test_a_trained_model_has_a_golden_frame_of_its_own_and_the_node_starts_with_it(
        data, recipe, tmp_path, write_card, capsys):
    path = recipe(steps_per_epoch=30)
    write_card(network='mini', network_args={}, **PARENT)
    train(load_config(path), data, tmp_path / 'out')
    card = load_card(tmp_path / 'out' / 'tiny.yaml')
    assert self_test(Segmenter.from_card(card.path, device='cpu')) == 1.0
    golden = load_golden(tmp_path / 'out' / card.golden)
    frames = {sample.name: sample for sample in FolderDataset(data)}
    name = next(name for name, one in frames.items() if np.array_equal(one.rgb, golden.rgb))
    assert np.array_equal(frames[name].x, golden.x)
    assert f'golden frame {name!r} of the data set, for self-tests' in capsys.readouterr().out
    assert f'The golden frame is {name!r} of the data set.' in card.training
    check_node(card.path)


def test_after_one_epoch_the_node_starts_as_well(data, recipe, tmp_path, write_card):
    path = recipe(learning_rate=1e-6)
    write_card(network='mini', network_args={}, **PARENT)
    train(load_config(path), data, tmp_path / 'out')
    check_node(tmp_path / 'out' / 'tiny.yaml')


def check_node(card):
    """Start the node with a model, where there is ROS."""
    pytest.importorskip('rclpy')
    from rclpy.parameter import Parameter
    from rgbx_seg_ros.node.node import SegNode
    from support.ros_stage import next_domain, Stage
    stage = Stage(next_domain())
    try:
        node = SegNode(context=stage.context,
                       parameter_overrides=[Parameter('model', value=str(card))])
        assert node.start()
        node.destroy_node()
    finally:
        stage.close()


class Blind(Network):
    """Sees class 0 everywhere."""

    def __init__(self, num_classes):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(num_classes))

    def forward(self, rgb, x):
        return (rgb[:, :1] + self.weight.view(1, -1, 1, 1)
                + torch.tensor([9.0, 0.0, 0.0], device=rgb.device).view(1, 3, 1, 1))


class Wavering(Blind):
    """Sees class 1 where RGB is bright, by a hair that fewer digits lose."""

    def forward(self, rgb, x):
        hair = torch.nn.functional.conv2d(rgb, 1e-4 * torch.ones(1, 3, 1, 1), torch.ones(1))
        logits = torch.cat((torch.ones_like(hair), hair, torch.zeros_like(hair)), dim=1)
        return logits + 1e-6 * self.weight.view(1, -1, 1, 1)


@pytest.mark.parametrize('network', [Blind, Wavering])
def test_a_model_that_sees_one_class_or_wavers_has_no_golden_frame_which_is_told(
        data, recipe, tmp_path, monkeypatch, capsys, network):
    monkeypatch.setitem(NETWORKS, 'mini', network)
    train(load_config(recipe(learning_rate=1e-9)), data, tmp_path / 'out')
    card = load_card(tmp_path / 'out' / 'tiny.yaml')
    sample = FolderDataset(data)[0]
    segmenter = Segmenter.from_card(card.path, device='cpu')
    seen = np.unique(segmenter(sample.rgb, sample.x).mask)
    assert len(seen) == (2 if network is Wavering else 1)
    assert card.golden is None and self_test(segmenter) is None
    assert not [*(tmp_path / 'out').glob('*.npz')]
    assert 'no golden frame: ' in capsys.readouterr().out


def test_the_golden_frame_is_one_of_the_validation_with_two_classes(tmp_path, write_frames, recipe,
                                                                    capsys):
    for split, count in (('train', 4), ('val', 3)):
        write_frames(tmp_path / 'splits' / split, count, SIZE)
    (tmp_path / 'splits' / 'dataset.yaml').write_text('splits: {train: 4, val: 3}')
    for name, value in (('a0', 0), ('a1', 255)):
        cv2.imwrite(str(tmp_path / 'splits' / 'val' / 'label' / f'{name}.png'),
                    np.full(SIZE, value, np.uint8))
    config = load_config(recipe(steps_per_epoch=30, split='train', val_split='val'))
    train(config, tmp_path / 'splits', tmp_path / 'out')
    assert "golden frame 'a2' of the data set, split 'val'," in capsys.readouterr().out


def test_the_card_of_trained_weights_tells_nothing_of_others(data, recipe, tmp_path, write_card):
    path = recipe()
    write_card(network='mini', network_args={}, description='Ours: 90 %.', **PARENT)
    weights = train(load_config(path), data, tmp_path / 'out')
    card, parent = load_card(tmp_path / 'out' / 'tiny.yaml'), load_card(load_config(path).card)
    assert card.weights_path == weights and card.find_weights() == weights
    assert (card.scores, card.published, card.licenses) == ({}, None, {'code': 'Apache-2.0'})
    assert card.onnx.file is None and card.onnx.providers == ('CPU',)
    assert '90' not in card.description and 'trained anew' in card.description
    assert 'config.yaml' in card.training
    assert (card.classes, card.rgb, card.x) == (parent.classes, parent.rgb, parent.x)


def test_a_card_without_weights_keeps_what_it_says(data, recipe, tmp_path, write_card):
    path = recipe()
    write_card(network='mini', network_args={}, description='Ours.', onnx={'file': 'a.onnx'})
    train(load_config(path), data, tmp_path / 'out')
    card = load_card(tmp_path / 'out' / 'tiny.yaml')
    assert card.description == 'Ours.' and card.onnx is None


def test_a_card_that_ends_in_yml_can_be_trained(data, recipe, tmp_path):
    card = Path(load_config(recipe()).card)
    path = card.rename(card.with_suffix('.yml'))
    train(load_config(recipe(card=str(path))), data, tmp_path / 'out')
    assert load_card(tmp_path / 'out' / 'tiny.yaml').classes == load_card(path).classes


@pytest.mark.parametrize('name', ['config', 'best'])
def test_a_card_with_the_name_of_a_file_that_a_training_writes_is_refused(
        data, recipe, tmp_path, card_content, name):
    path = tmp_path / f'{name}.yaml'
    path.write_text(yaml.safe_dump({**card_content, 'name': name, 'network': 'mini',
                                    'network_args': {}}))
    with pytest.raises(CardError, match=f"card '{name}': a training writes files of this name"):
        train(load_config(recipe(card=str(path))), data, tmp_path / 'out')
    assert not (tmp_path / 'out').exists()


@pytest.mark.parametrize('name', ['config.yaml', 'tiny.yaml', 'tiny.safetensors', 'losses.csv',
                                  'best.safetensors', 'tiny.golden.npz'])
def test_nothing_is_overwritten_that_no_training_wrote(data, recipe, tmp_path, name, command):
    path = tmp_path / 'out' / name
    path.parent.mkdir()
    path.write_text('precious')
    code, _, err = command('train', recipe(), '--data', data, '--out', path.parent,
                           '--device', 'cpu')
    assert code == 2 and f'{str(path)!r} is of no training and would be overwritten' in err
    assert err.count('\n') == 1
    assert [one.name for one in path.parent.iterdir()] == [name]
    assert path.read_text() == 'precious'


def test_a_training_that_was_killed_before_its_first_save_begins_anew(data, recipe, tmp_path,
                                                                      monkeypatch):
    step = module._Run.train_step

    def die(run, parts):
        if run.step == 1:
            raise KeyboardInterrupt
        return step(run, parts)
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(module._Run, 'train_step', die)
        train(load_config(recipe()), data, tmp_path / 'out')
    assert {path.name for path in (tmp_path / 'out').iterdir() if path.is_file()} == {
        'config.yaml', 'losses.csv'}
    train(load_config(recipe()), data, tmp_path / 'out')


def test_a_model_that_cannot_be_written_is_told_before_the_first_step(data, recipe, tmp_path,
                                                                      monkeypatch):
    (tmp_path / 'out' / 'tiny.yaml').mkdir(parents=True)
    (tmp_path / 'out' / 'last.pt').touch()
    monkeypatch.setattr(module._Run, 'resume', lambda run: [])
    monkeypatch.setattr(module, '_steps', lambda *_: pytest.fail('a step was made'))
    with pytest.raises(DataError, match="cannot write '.*tiny.yaml': it is a folder"):
        train(load_config(recipe()), data, tmp_path / 'out')


@pytest.mark.parametrize('given', ['in the recipe', 'by --card'])
def test_the_recipe_that_is_left_trains_the_same_again_from_anywhere(
        data, recipe, tmp_path, command, monkeypatch, given):
    monkeypatch.chdir(tmp_path)
    path = recipe(card='tiny.yaml' if given == 'in the recipe' else 'other.yaml')
    card = [] if given == 'in the recipe' else ['--card', 'tiny.yaml']
    assert command('train', path.name, *card, '--data', 'data', '--out', 'a/out', '--device',
                   'cpu')[0] == 0
    (tmp_path / 'elsewhere').mkdir()
    monkeypatch.chdir(tmp_path / 'elsewhere')
    code, _, err = command('train', '../a/out/config.yaml', '--data', data, '--out', 'again',
                           '--device', 'cpu')
    assert (code, err) == (0, '')
    first, again = (load_weights(folder / 'tiny.safetensors') for folder in (
        tmp_path / 'a' / 'out', tmp_path / 'elsewhere' / 'again'))
    assert all(torch.equal(tensor, again[name]) for name, tensor in first.items())
    text = (tmp_path / 'a' / 'out' / 'config.yaml').read_text()
    assert (tmp_path / 'elsewhere' / 'again' / 'config.yaml').read_text() == text
