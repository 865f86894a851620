# Copyright 2026 rgbx_seg_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""Disagreement of the single sensors: told by evaluate, replay, gates and compare, if asked."""

import json
import re

import numpy as np
import pytest
from rgbx_seg_ros.cards.card import load_card
from rgbx_seg_ros.datasets import FolderDataset
from rgbx_seg_ros.evaluation.evaluate import evaluate
from rgbx_seg_ros.inference.segmenter import Segmenter
from rgbx_seg_ros.parameters import Parameters
from rgbx_seg_ros.sensors import Sensors
from support.fleets import run_inline, write_fleet
from support.replay_bags import write_pairs
from support.stand_ins import StandIn


class Torn(StandIn):
    """Class 1 in the upper quarter of what X alone gives, and never a class beside it."""

    calls = 0

    def __call__(self, rgb, x, x_limits, sensors):
        self.calls += 1
        mask = np.zeros(rgb.shape[:2], np.uint8)
        mask[:mask.shape[0] // 4] = sensors is Sensors.X
        return mask, np.full_like(mask, 100)


@pytest.fixture
def torn(tiny_card, monkeypatch):
    """Return a model whose sensors disagree on a quarter of each frame, also for commands."""
    segmenter = Segmenter(load_card(tiny_card), Torn())
    for module in ('evaluation.evaluate', 'replay.command', 'replay.worker'):
        monkeypatch.setattr(f'rgbx_seg_ros.{module}.Segmenter.from_parameters',
                            lambda parameters: segmenter)
    return segmenter


def test_it_is_told_of_frames_without_labels_and_only_if_asked(torn, data, tiny_card, command,
                                                               tmp_path):
    for path in (data / 'label').iterdir():
        path.unlink()
    page, scores = tmp_path / 'r.html', tmp_path / 'r.json'
    arguments = 'evaluate', '--model', tiny_card, '--data', data, '--device', 'cpu'
    code, _, err = command(*arguments)
    assert code == 2 and 'nothing to score against' in err
    code, out, _ = command(*arguments, '--disagreement', '--json', scores, '--report', page)
    assert code == 0 and 'disagreement of RGB alone and X alone 25.0' in out
    assert 'mean IoU' not in out and 'n/a' not in out
    facts = json.loads(scores.read_text())
    assert facts['disagreement'] == 0.25 and facts['mean_iou'] is None
    assert [frame['disagreement'] for frame in facts['frames']] == [0.25] * 3
    assert '<b>25.0</b>disagreement, %' in page.read_text(encoding='utf-8')


def test_two_more_masks_of_a_pair_are_made_only_if_asked(torn, data):
    assert evaluate(torn, FolderDataset(data)).facts()['disagreement'] is None
    assert torn.engine.calls == 3
    unsure = Parameters(model='tiny', confidence_threshold=0.9)
    found = evaluate(torn, FolderDataset(data), disagreement=True, parameters=unsure).facts()
    assert torn.engine.calls == 3 + 3 * 3
    # What a threshold leaves open is no class that one sensor gives and the other does not.
    assert (found['unlabeled_share'], found['disagreement']) == (1.0, 0.25)


def test_a_replay_and_a_fleet_tell_it_and_are_held_by_it(torn, tiny_card, command, tmp_path,
                                                         monkeypatch):
    bag = write_pairs(tmp_path / 'bag', 2)
    facts, page = tmp_path / 'facts.json', tmp_path / 'r.html'
    more = '--model', tiny_card, '--device', 'cpu', '--json', facts, '--report', page
    required = '--require', 'disagreement<=0.2'
    code, out, _ = command('replay', bag, *more)
    assert code == 0 and 'disagreement' not in out
    assert json.loads(facts.read_text())['disagreement'] is None
    code, out, err = command('replay', bag, '-o', tmp_path / 'out', *more, '--disagreement',
                             *required)
    assert code == 3 and 'disagreement is 0.25, required is <=0.2' in err
    assert re.search(r'^disagreement +25.0 +% of the pixels', out, re.MULTILINE)
    assert '25.0 % of the pixels, between' in page.read_text(encoding='utf-8')
    assert re.search(r'^disagreement +25\.00 +25\.00 +\+0\.00 +\+0\.00 to', command(
        'compare', facts, facts)[1], re.MULTILINE)
    monkeypatch.setattr('rgbx_seg_ros.replay.command.run_here', run_inline)
    bags = write_fleet(tmp_path / 'bags', 'ab', count=2)
    code, out, err = command('replay', *bags, '--out', tmp_path / 'fleet', *more, *required,
                             '--disagreement')
    assert code == 3 and err.count('disagreement is 0.25') == 3
    assert re.search(r'^disagreement +25.0 +% of the pixels', out, re.MULTILINE)
    assert '<b>25.0</b>disagreement, %' in page.read_text(encoding='utf-8')


@pytest.mark.parametrize('verb', ['evaluate', 'replay'])
def test_it_cannot_be_required_without_being_asked_for(verb, command, tmp_path, tiny_card):
    arguments = (('--data', tmp_path) if verb == 'evaluate' else (write_pairs(tmp_path / 'bag'),))
    code, _, err = command(verb, *arguments, '--model', tiny_card, '--require',
                           'disagreement<=0.2')
    assert code == 2 and "'disagreement' has no value without --disagreement" in err
