# Copyright 2026 rgbx_seg_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""Recipes: the shipped ones load, they come back as written, and a wrong one is told in a line."""

from dataclasses import fields, replace
from pathlib import Path

import pytest
from rgbx_seg_ros.cards.card import list_cards, load_card
from rgbx_seg_ros.datasets import DATASETS
from rgbx_seg_ros.errors import DataError
from rgbx_seg_ros.networks import build, NETWORKS
from rgbx_seg_ros.training.config import config_text, load_config, TrainConfig
from rgbx_seg_ros.training.losses import Objective
from rgbx_seg_ros.training.optimizers import build_optimizer, step_size
import torch
import yaml

CARDS = sorted((Path(__file__).parents[2] / 'config' / 'train' / 'cards').glob(
    'potholes_*.yaml'))
RECIPES = sorted((Path(__file__).parents[2] / 'config' / 'train').glob('*.yaml'))


@pytest.fixture
def recipe(tmp_path):
    """Return a function that writes a recipe, with changes."""
    def write(**changes):
        path = tmp_path / 'recipe.yaml'
        path.write_text(yaml.safe_dump({
            'card': 'tiny.yaml', 'augment': {'crop': [64, 96]}, **changes}))
        return path
    return write


@pytest.mark.parametrize('path', RECIPES, ids=lambda path: path.stem)
def test_a_shipped_recipe_fits_its_card_and_its_data(path):
    config = load_config(path)
    card = load_card(config.card)
    with torch.device('meta'):
        network = build(card.network, len(card.classes), **card.network_args)
        optimizer = build_optimizer(config, Objective(network, config.loss, len(card.classes)))
    assert all(group['params'] for group in optimizer.param_groups)
    data = DATASETS[config.dataset]
    splits = {config.split, config.val_split} - {None}
    assert splits <= set(data.SPLITS)
    if data.CLASSES is not None:
        assert data.CLASSES.names == card.labels.names
        assert data.X_KIND == card.x.kind
    if card.window:
        assert config.augment.crop == (card.window.size,) * 2
    sizes = [step_size(config, step, 100) for step in range(100 * config.epochs)]
    assert max(sizes) == pytest.approx(config.learning_rate, rel=0.05)
    assert 0 < sizes[-1] < 0.02 * config.learning_rate


def test_every_published_card_has_a_recipe():
    published = {name for name in list_cards() if load_card(name).published}
    assert published and published <= {load_config(path).card for path in RECIPES}


@pytest.mark.parametrize('path', RECIPES, ids=lambda path: path.stem)
def test_a_recipe_comes_back_as_it_was_written(path, tmp_path):
    config = load_config(path)
    (tmp_path / 'config.yaml').write_text(config_text(config))
    assert load_config(tmp_path / 'config.yaml') == config
    content = yaml.safe_load(config_text(config))
    assert [*content] == [field.name for field in fields(TrainConfig)]
    changed = replace(config, seed=7)
    assert config_text(changed) != config_text(config)


@pytest.mark.parametrize(('changes', 'message'), [
    ({'epohs': 3}, "'epohs' is unknown; did you mean 'epochs'"),
    ({'card': 3}, "'card' is 3, needed is a value of type str"),
    ({'learning_rate': '6e-4'}, 'write 1.0e-3'),
    ({'learning_rate': -1.0}, 'learning_rate is -1.0, allowed is 0 to 1'),
    ({'learning_rate': float('nan')}, 'learning_rate is nan'),
    ({'weight_decay': -0.1}, 'weight_decay is -0.1'),
    ({'ema_decay': 1.1}, 'ema_decay is 1.1'),
    ({'warmup_epochs': -1}, 'warmup_epochs is -1.0, allowed is 0 or more'),
    ({'epochs': 0}, 'epochs is 0, allowed is 1 or more'),
    ({'epochs': 1.5}, "'epochs' is 1.5"),
    ({'batch_size': 0}, 'batch_size is 0'),
    ({'seed': -1}, 'seed is -1'),
    ({'precision': 'half'}, "precision is 'half', allowed are: float32, bfloat16, float16"),
    ({'dataset': 'mfnett'}, "dataset 'mfnett' is unknown; did you mean 'mfnet'"),
    ({'use': 'thermal'}, "use is 'thermal', allowed are: both, rgb, x"),
    ({'optimizer': 'adam'}, "optimizer is 'adam', allowed are: adamw, sgd"),
    ({'schedule': 'steps'}, "milestones is .* with schedule 'steps'"),
    ({'milestones': [3.0]}, "milestones is .* with schedule 'cosine'"),
    ({'schedule': 'steps', 'milestones': [5, 3]}, 'milestones is .*, needed are rising'),
    ({'accumulate': 0}, 'accumulate is 0, allowed is 1 or more'),
    ({'clip_norm': -1.0}, 'clip_norm is -1.0'),
    ({'warmup_start': 1.5}, 'warmup_start is 1.5, allowed is 0 to 1'),
    ({'loss': {'class_weights': [1, 0, 1]}}, r'class_weights\[1\] is 0.0, .* more than 0'),
    ({'schedule': 'steps', 'milestones': [float('nan')]}, r'milestones\[0\] is nan'),
    ({'clip_norm': float('inf')}, 'clip_norm is inf, needed is a finite number'),
    ({'augment': {}}, "'augment': 'crop' is missing"),
    ({'augment': {'crop': [16, 64]}}, 'augment.crop is'),
])
def test_a_wrong_recipe_is_told_which_field_and_why(recipe, changes, message):
    with pytest.raises(DataError, match=message) as error:
        load_config(recipe(**changes))
    assert '\n' not in str(error.value)


@pytest.mark.parametrize('path', CARDS, ids=lambda path: path.stem)
def test_a_card_for_comparison_describes_a_small_network_and_the_data(path):
    card = load_card(path)
    network = build(card.network, len(card.classes), **card.network_args)
    assert len(card.x.mean) == network.X_CHANNELS
    assert sum(parameter.numel() for parameter in network.parameters()) < 15e6
    assert card.labels.names == DATASETS['potholes'].CLASSES.names


@pytest.mark.parametrize('data', ['mfnet', 'pst900', 'fmb'])
def test_the_own_network_has_a_recipe_for_data_sets_as_downloaded(data):
    config = load_config(CARDS[0].parents[1] / f'gated_lite_{data}.yaml')
    card = load_card(config.card)
    assert card.labels == DATASETS[config.dataset].CLASSES
    assert config.val_split != 'test', 'what has chosen the weights cannot score them'


def test_every_network_is_compared():
    assert {load_card(path).network for path in CARDS} == set(NETWORKS)


def test_the_card_of_a_recipe_may_lie_beside_it(recipe, tiny_card):
    path = recipe()
    assert load_config(path).card == str(Path('tiny.yaml').absolute())
    beside = path.parent / 'tiny.yaml'
    beside.write_bytes(tiny_card.read_bytes())
    assert load_config(path).card == str(beside)


def test_a_path_of_a_card_holds_from_anywhere_and_a_name_stays_one(recipe, tiny_card, monkeypatch):
    path = recipe()
    (path.parent / 'tiny.yaml').write_bytes(tiny_card.read_bytes())
    monkeypatch.chdir(path.parent)
    above = Path('..', path.parent.name, path.name)
    read = [load_config(given).card for given in (path, path.name, above)]
    monkeypatch.chdir('/')
    assert all(Path(card).samefile(path.parent / 'tiny.yaml') for card in read)
    (path.parent / 'potholes').write_text('a file of the name of a card')
    assert load_config(recipe(card='potholes')).card == 'potholes'
