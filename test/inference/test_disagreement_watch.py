# Copyright 2026 rgbx_seg_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""The sensors of a running node are compared, and at a cost that is bounded."""

from types import SimpleNamespace

import numpy as np
import pytest
from rgbx_seg_ros.cards.card import load_card
from rgbx_seg_ros.inference import disagreement
from rgbx_seg_ros.inference.disagreement import DisagreementWatch
from rgbx_seg_ros.inference.segmenter import Segmenter
from rgbx_seg_ros.sensors import Sensors
from support.stand_ins import engine_of

RGB, X = np.zeros((64, 96, 3), np.uint8), np.zeros((64, 96), np.uint8)


class Scene:
    """A network whose masks take `mask_s` each, and a clock that tells so."""

    def __init__(self, card, monkeypatch):
        self.now_s, self.mask_s, self.failure = 100.0, 0.0, None
        self.asked = []
        monkeypatch.setattr(disagreement, 'time', SimpleNamespace(monotonic=lambda: self.now_s))
        self.watch = DisagreementWatch(Segmenter(load_card(card), engine_of(self._segment)))

    def _segment(self, rgb, x, x_limits, sensors):
        self.asked.append(sensors)
        self.now_s += self.mask_s
        if self.failure:
            raise self.failure
        mask = np.zeros(rgb.shape[:2], np.uint8)
        mask[:16] = sensors is Sensors.X
        return mask, mask

    def run(self, seconds, period_s):
        """Let masks be published for a while; return the share of time that comparisons took."""
        start_s, spent_s, due_s = self.now_s, 0.0, self.now_s
        while self.now_s < start_s + seconds:
            self.now_s = due_s = max(self.now_s, due_s + period_s)
            before_s = self.now_s
            self.watch.look(RGB, X, (0.0, 1.0))
            spent_s += self.now_s - before_s
        return spent_s / (self.now_s - start_s)


@pytest.fixture
def scene(tiny_card, monkeypatch):
    return Scene(tiny_card, monkeypatch)


def test_it_tells_what_replay_tells(scene):
    assert scene.watch.look(RGB, X, (0.0, 1.0)) == 0.25
    assert scene.asked == [Sensors.RGB, Sensors.X]


def test_a_fast_network_is_asked_once_a_second_whatever_the_rate(scene):
    scene.mask_s = 0.01
    assert scene.run(seconds=30.0, period_s=1 / 30) == pytest.approx(0.02, abs=0.002)
    assert 2 * 29 <= len(scene.asked) <= 2 * 31


@pytest.mark.parametrize('mask_s', [0.05, 0.2, 3.0])
def test_a_slow_network_spends_a_tenth_of_the_time_on_it_at_most(scene, mask_s):
    scene.mask_s = mask_s
    assert 0.05 < scene.run(seconds=50 * mask_s, period_s=0.1) <= 0.125  # the first is early


def test_one_that_fails_is_not_tried_at_each_mask(scene):
    scene.failure = RuntimeError('out of memory')
    with pytest.raises(RuntimeError):
        scene.watch.look(RGB, X, (0.0, 1.0))
    scene.now_s += 0.9
    assert scene.watch.look(RGB, X, (0.0, 1.0)) is None and len(scene.asked) == 1
    scene.now_s, scene.failure = scene.now_s + 0.2, None
    assert scene.watch.look(RGB, X, (0.0, 1.0)) == 0.25
