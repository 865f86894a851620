# Copyright 2026 rgbx_seg_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""What the documents say of the networks is so, as far as a test can tell."""

import json
from pathlib import Path
import re

import pytest
from rgbx_seg_ros.__main__ import COMMANDS
from rgbx_seg_ros.benchmark.roofline import count_macs
from rgbx_seg_ros.cards.card import list_cards
from rgbx_seg_ros.networks import build, NETWORKS
from support.trials import OWN
import torch

ROOT = Path(__file__).parents[1]
TEXT = (ROOT / 'docs' / 'networks.md').read_text(encoding='utf-8')
WEIGHTS = (ROOT / 'docs' / 'published_weights.md').read_text(encoding='utf-8')
ROWS = {row[0]: row[1:] for row in (
    [cell.strip(' `') for cell in line.strip('|').split('|')] for line in TEXT.splitlines()
    if re.match(r'\| `\w+` \| [\d.]+ \|', line))}


def test_every_network_has_its_row():
    assert list(ROWS) == list(NETWORKS)


@pytest.mark.parametrize('name', NETWORKS)
def test_parameters_and_multiply_adds_are_those_of_the_network(name):
    published, used, gmac = map(float, ROWS[name][:3])
    with torch.device('meta'):
        network = build(name, 9).eval()
    assert used == round(sum(p.numel() for p in network.parameters()) / 1e6, 2)
    assert gmac == round(count_macs(network, (480, 640)) / 1e9, 1)
    if name in OWN:
        assert published == used
        return
    meta = json.loads((ROOT / 'test' / 'data' / 'parity' / name / 'meta.json').read_text())
    assert published == round(meta['parameters'] / 1e6, 2)


def test_commands_and_cards_that_are_named_exist():
    words = ' '.join(f'{TEXT} {WEIGHTS}'.split())
    verbs = set(re.findall(r'`?rgbx-seg ([a-z-]+)', words))
    assert verbs and verbs <= COMMANDS.keys()
    cards = set(re.findall(r'models show (\w+)', words))
    assert cards and cards <= set(list_cards())
    for path in re.findall(r'`(?:python )?((?:rgbx_seg_ros|test)/[\w/.]+)`', words):
        assert (ROOT / path).exists(), path
