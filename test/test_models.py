# Copyright 2026 rgbx_seg_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""What models there are, as the command tells."""

import pytest
from rgbx_seg_ros.card import list_cards, load_card


def test_the_list_names_every_model_and_whether_it_can_run(command):
    code, out, _ = command('models')
    assert code == 0
    for name in list_cards():
        card = load_card(name)
        ready = bool(card.weights) and card.weights_path.is_file()
        [line] = [line for line in out.splitlines() if line.startswith(f'{name} ')]
        assert card.network in line and card.x.kind in line
        assert ('ready' in line) == ready
    assert max(map(len, out.splitlines())) <= 80


@pytest.mark.parametrize('name', list_cards())
def test_a_card_is_told_in_full_and_fits_the_terminal(name, command):
    card = load_card(name)
    code, out, _ = command('models', name)
    assert code == 0
    assert max(map(len, out.splitlines())) <= 80
    words = ' '.join(out.split())
    for fact in (card.name, card.network, *(label.name for label in card.classes),
                 ' '.join(card.description.split()), ' '.join(card.training.split())):
        assert fact in words
    for title, facts in (('licenses:', card.licenses), ('scores:', card.scores)):
        assert (title in out) == bool(facts)
        assert all(f'{key}: ' in words for key in facts)


def test_facts_of_a_card_are_listed_by_name(write_card, command):
    path = write_card(licenses={'code': 'Apache-2.0', 'weights': 'research only ' * 9},
                      scores={'mean IoU': 0.5})
    code, out, _ = command('models', path)
    assert code == 0
    assert '\nlicenses:\n    code: Apache-2.0\n    weights: research only' in out
    assert out.endswith('\nscores:\n    mean IoU: 0.5\n')
    assert max(map(len, out.splitlines())) <= 80
