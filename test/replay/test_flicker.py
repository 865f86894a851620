# Copyright 2026 rgbx_seg_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""Flicker: what flips where neither sensor changed, per second."""

import json
import math
import re

import numpy as np
import pytest
from rgbx_seg_ros.bags.storage import image_message
from rgbx_seg_ros.cards.card import load_card
from rgbx_seg_ros.inference.segmenter import Segmenter
from rgbx_seg_ros.replay.flicker import Flicker, MAX_GAP_NS, View
from rgbx_seg_ros.replay.replay import replay
from support.replay_bags import (
    Engine,
    H,
    PERIOD_NS,
    rgb_message,
    START_NS,
    W,
    write_bag,
    write_pairs,
)

RGB = np.full((4, 8, 3), 100, np.uint8)
X = np.full((4, 8), 1000, np.uint16)
LIMITS = 500.0, 1520.0  # 1020 counts, of which 32 are still
MASK = np.zeros((4, 8), np.uint8)
FLIPPED = MASK.copy()
FLIPPED[0] = 2  # a quarter of the pixels


def flicker_of(*frames, gap_ns=PERIOD_NS):
    """Return what comes of frames (rgb, x, mask), one behind the other."""
    found = Flicker()
    for i, (rgb, x, mask) in enumerate(frames):
        found.add(View(i * gap_ns, rgb, x, LIMITS), mask)
    return found


def test_it_is_the_share_of_still_pixels_that_flip_in_a_second():
    found = flicker_of((RGB, X, MASK), (RGB, X, FLIPPED), (RGB, X, FLIPPED))
    assert found.per_s == pytest.approx(0.25 / 2 / 0.1)
    assert found.still_share == 1
    slower = flicker_of((RGB, X, MASK), (RGB, X, FLIPPED), gap_ns=2 * PERIOD_NS)
    assert slower.per_s == pytest.approx(0.25 / 0.2)


@pytest.mark.parametrize(('levels', 'counts', 'still'), [
    (8, 0, True), (9, 0, False), (-8, -32, True), (-9, 0, False), (0, 32, True), (0, 33, False)])
def test_a_flip_where_a_sensor_changed_is_none(levels, counts, still):
    """The half of the row that flips has changed, the other half has not."""
    rgb, x = RGB.copy(), X.copy()
    rgb[0, :4, 1] = 100 + levels
    x[0, :4] = 1000 + counts
    found = flicker_of((RGB, X, MASK), (rgb, x, FLIPPED))
    assert found.still_share == (32 if still else 28) / 32
    assert found.per_s == pytest.approx((8 / 32 if still else 4 / 28) / 0.1)


def test_what_x_may_move_by_is_a_share_of_its_range_by_then():
    found = Flicker()
    for i, limits in enumerate((LIMITS, (500.0, 755.0))):  # 8 counts in place of 32
        found.add(View(i * PERIOD_NS, RGB, X + 9 * i, limits), MASK)
    assert found.still_share == 0


def test_x_of_several_channels_and_without_a_measurement():
    x = np.repeat(X[..., None], 3, axis=2)
    other = x.copy()
    other[0, 0, 2] += 33
    assert flicker_of((RGB, x, MASK), (RGB, other, MASK)).still_share == 31 / 32
    small = X[:2, :4]
    other = small.copy()
    other[0, 0] += 33
    assert flicker_of((RGB, small, MASK), (RGB, other, MASK)).still_share == 28 / 32
    depth = X.astype(np.float32)
    depth[1] = np.nan
    assert flicker_of((RGB, depth, MASK), (RGB, depth, MASK)).still_share == 24 / 32


@pytest.mark.parametrize('frames', [
    [(RGB, X, MASK)], [(RGB, X, MASK), (RGB[:2], X[:2], MASK[:2])],
    [(RGB, X, MASK), (RGB, X.astype(np.float32), MASK)]])
def test_frames_without_one_before_them_of_their_kind_tell_nothing(frames):
    found = flicker_of(*frames)
    assert math.isnan(found.per_s) and math.isnan(found.still_share)


@pytest.mark.parametrize(('gap_ns', 'counts'), [
    (MAX_GAP_NS, True), (MAX_GAP_NS + 1, False), (0, False), (-PERIOD_NS, False)])
def test_frames_follow_each_other_within_a_second(gap_ns, counts):
    found = flicker_of((RGB, X, MASK), (RGB, X, FLIPPED), gap_ns=gap_ns)
    assert math.isfinite(found.per_s) == counts


def test_a_replay_tells_it_and_can_be_held_by_it(tmp_path, tiny_card, command, monkeypatch):
    class Restless(Engine):
        """Gives another class to the upper third of every second frame."""

        frames = 0

        def __call__(self, rgb, x, x_limits, sensors):
            mask, confidence = super().__call__(rgb, x, x_limits, sensors)
            mask[:H // 3] = self.frames % 2
            self.frames += 1
            return mask, confidence

    still = np.full((H, W), 30, np.uint8)
    bag = write_bag(tmp_path / 'bag', [message for i in range(5) for message in (
        ('/rgb/image', rgb_message(0, START_NS + i * PERIOD_NS)),
        ('/x/image', image_message(still, 'mono8', START_NS + i * PERIOD_NS, 'infrared')))])
    segmenter = Segmenter(load_card(tiny_card), Restless())
    report = replay(bag, segmenter)
    assert report.flicker_per_s == pytest.approx(1 / 3 / 0.1) and report.still_share == 1
    told = ' '.join(str(report).split())
    assert 'flicker 3.33 of the pixels per second' in told and 'unlabeled 0.0 % of' in told
    monkeypatch.setattr('rgbx_seg_ros.replay.command.Segmenter.from_parameters',
                        lambda parameters: segmenter)
    facts = tmp_path / 'facts.json'
    code, _, err = command('replay', bag, '--model', tiny_card, '-o', tmp_path / 'out', '--json',
                           facts, '--require', 'flicker_per_s<=3')
    assert code == 3 and 'flicker_per_s is 3.33333, required is <=3' in err
    assert json.loads(facts.read_text())['flicker_per_s'] == report.flicker_per_s
    assert re.search(r'^flicker_per_s +3\.33333 +3\.33333 +\+0$', command(
        'compare', facts, facts)[1], re.MULTILINE)


def test_a_replay_of_one_pair_has_none(tmp_path, segmenter):
    report = replay(write_pairs(tmp_path / 'bag', 1), segmenter)
    assert report.facts()['flicker_per_s'] is None and 'n/a' in str(report)
