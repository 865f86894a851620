# Copyright 2026 rgbx_seg_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""Model cards: those that come with the package are right, wrong ones are told why."""

import hashlib

import pytest
from rgbx_seg_ros.card import list_cards, load_card, models_dir, X_NORMALIZATIONS
from rgbx_seg_ros.errors import CardError
from rgbx_seg_ros.networks import build
import torch


@pytest.mark.parametrize('name', list_cards())
def test_a_shipped_card_loads_and_its_network_can_be_built(name):
    card = load_card(name)
    assert card.name == name
    assert card.description
    with torch.device('meta'):
        build(card.network, len(card.classes), **card.network_args)


@pytest.mark.parametrize('name', list_cards())
def test_shipped_weights_are_those_that_the_card_was_made_for(name):
    card = load_card(name)
    if card.weights is None or not card.weights_path.is_file():
        pytest.skip('no weights on disk')
    assert card.weights.sha256 == hashlib.sha256(card.weights_path.read_bytes()).hexdigest()


def test_at_least_one_card_is_shipped_and_every_file_is_listed():
    assert list_cards()
    assert {path.stem for path in models_dir().iterdir() if path.suffix == '.yaml'} == set(
        list_cards())


def test_a_card_is_read_from_a_path_with_the_weights_beside_it(write_card):
    path = write_card(weights={'file': 'w.safetensors'})
    card = load_card(str(path))
    assert card.labels.names == ['background', 'car', 'person']
    assert card.input_size == (64, 96)
    assert card.weights_path == path.parent / 'w.safetensors'
    assert load_card(write_card()).weights_path is None


def test_an_unknown_model_gets_the_nearest_name():
    name = list_cards()[0]
    with pytest.raises(CardError, match=f"'{name}x' is unknown; did you mean '{name}'"):
        load_card(f'{name}x')
    with pytest.raises(CardError, match=r'cannot read .*No such file'):
        load_card('no_such_card.yaml')


@pytest.mark.parametrize('name', X_NORMALIZATIONS)
def test_every_normalization_can_be_chosen_and_only_fixed_takes_a_range(write_card, name,
                                                                        card_content):
    limits = {'range': [0, 100]} if name == 'fixed' else {}
    assert load_card(write_card(x={**card_content['x'], 'normalization': name, **limits}))
    wrong = {} if limits else {'range': [0, 100]}
    with pytest.raises(CardError, match=f'x.range is .*{name}'):
        load_card(write_card(x={**card_content['x'], 'normalization': name, **wrong}))


@pytest.mark.parametrize(('part', 'changes', 'message'), [
    (None, {'netwrok': 'a'}, "'netwrok' is unknown; did you mean 'network'"),
    (None, {'folder': '/tmp'}, "'folder' is unknown"),
    (None, {'name': '../tiny'}, "name is '../tiny': it must serve as the name of a file"),
    (None, {'name': ''}, "name is ''"),
    (None, {'name': 7}, "'name' is 7, needed is a value of type str"),
    (None, {'classes': []}, 'class ids are \\[\\]'),
    (None, {'classes': [{'id': 0, 'name': 'a', 'colour': [0, 0, 0]}]}, "did you mean 'color'"),
    (None, {'classes': [{'id': 1, 'name': 'a', 'color': [0, 0, 0]}]}, 'must run 0, 1, 2'),
    (None, {'input_size': [64, 16]}, 'input_size is \\[64, 16\\]'),
    (None, {'input_size': [64, 100]}, 'multiples of 32'),
    (None, {'input_size': [64]}, 'needed are 2 values'),
    (None, {'input_size': ['64', 96]}, "'input_size'\\[0\\] is '64'"),
    (None, {'weights': {'file': '../x.safetensors'}}, "stay in the card's folder"),
    (None, {'weights': {'file': '/x.safetensors'}}, "stay in the card's folder"),
    (None, {'weights': {'file': ''}}, "stay in the card's folder"),
    (None, {'weights': {'file': 'x', 'sha256': 'abc'}}, "sha256 is 'abc': needed are 64"),
    ('rgb', {'channel_order': 'rbg'}, "channel_order is 'rbg', allowed are: rgb, bgr"),
    ('rgb', {'std': [1, 1, 0]}, 'rgb: mean .* std above 0'),
    ('rgb', {'mean': [0, 0, float('nan')]}, 'rgb: mean .* must be finite'),
    ('rgb', {'mean': [0, 0]}, 'needed are 3 values'),
    ('x', {'std': [1, 1, -1]}, 'x: mean'),
    ('x', {'kind': 'termal'}, "x.kind: 'termal' is unknown; did you mean 'thermal'"),
    ('x', {'normalization': 'minmaxx'}, "x.normalization: .*did you mean 'minmax'"),
    ('x', {'normalization': 'fixed', 'range': [5, 5]}, 'low must be below high'),
    ('x', {'normalization': 'fixed', 'range': [0, float('inf')]}, 'both finite'),
    ('x', {'percentiles': [99, 1]}, 'x.percentiles is'),
    ('x', {'percentiles': [0, 101]}, 'x.percentiles is'),
])
def test_a_wrong_card_is_told_in_one_line_with_its_path(write_card, card_content, part, changes,
                                                        message):
    path = write_card(**({part: {**card_content[part], **changes}} if part else changes))
    with pytest.raises(CardError, match=message) as error:
        load_card(path)
    assert repr(str(path)) in str(error.value)
    assert '\n' not in str(error.value)


@pytest.mark.parametrize('field', ['name', 'network', 'classes', 'input_size', 'rgb', 'x'])
def test_a_missing_field_is_named(write_card, card_content, field):
    del card_content[field]
    with pytest.raises(CardError, match=f"'{field}' is missing"):
        load_card(write_card())
