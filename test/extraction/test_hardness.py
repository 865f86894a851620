# Copyright 2026 rgbx_seg_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""Hardness: unsure, contradicted by one sensor, restless; and the frames that it chooses."""

import json

import numpy as np
import pytest
from rgbx_seg_ros.bags.storage import BagWriter, image_message
from rgbx_seg_ros.cards.card import load_card
from rgbx_seg_ros.errors import ParameterError
from rgbx_seg_ros.extraction.extract import Choice, extract
from rgbx_seg_ros.extraction.hardness import hardness, Judge, Score
from rgbx_seg_ros.inference.pipeline import Frame
from rgbx_seg_ros.inference.segmenter import Segmenter
from rgbx_seg_ros.messages.images import decode_x
from rgbx_seg_ros.replay.replay import replay
from rgbx_seg_ros.sensors import Sensors
from rgbx_seg_ros.sync.pairing import Pair
from support.replay_bags import Engine, frame, H, PERIOD_NS, read, START_NS, W, write_pairs
from support.stand_ins import engine_of

RGB, X, _ = frame(0)


def pair_of(i, rgb=RGB, x=X):
    time_ns = START_NS + i * PERIOD_NS
    return Pair(time_ns, time_ns, Frame(image_message(rgb, 'rgb8', time_ns, 'f'), 0, 0, rgb),
                Frame(image_message(x, 'mono8', time_ns, 'f'), 0, 0, x))


class Model:
    """A segmenter that gives each call the mask and the confidence that a test has set."""

    def __init__(self, card):
        self.masks = {sensors: np.zeros((H, W), np.uint8) for sensors in Sensors}
        self.confidence, self.calls = 255, []
        self.segmenter = Segmenter(load_card(card), engine_of(self._segment))
        self.judge = Judge(self.segmenter, 5.0)

    def _segment(self, rgb, x, limits, sensors):
        self.calls.append(sensors)
        return self.masks[sensors].copy(), np.full((H, W), self.confidence, np.uint8)

    def score(self, pair):
        self.judge.see(pair, pair.x.pixels)
        return self.judge.score()


@pytest.fixture
def model(tiny_card):
    return Model(tiny_card)


def test_confidence_and_disagreement_are_shares_of_the_pixels(model):
    model.confidence = 51
    model.masks[Sensors.RGB][:3] = 1
    model.masks[Sensors.X][:, :4] = 1
    score = model.score(pair_of(0))
    assert score.confidence == pytest.approx(0.2)
    assert score.disagreement == (3 * W + 4 * H - 2 * 3 * 4) / (H * W)
    assert score.flicker is None


def test_flicker_is_what_changes_in_the_mask_and_not_in_the_frames_in_a_second(model):
    model.score(pair_of(0))
    model.masks[Sensors.BOTH][:3] = 1
    assert model.score(pair_of(1)).flicker == pytest.approx(10 * 3 / H)
    # Where nothing stands still, every pixel may have another class by right.
    for i, frames in enumerate(({'rgb': RGB // 8 + 220}, {'x': X // 8 + 220}), 1):
        model.masks[Sensors.BOTH][:] = i
        assert model.score(pair_of(2 * i, **frames)).flicker is None
        model.score(pair_of(2 * i + 1))


@pytest.mark.parametrize('modality', ['rgb', 'x'])
def test_what_moves_in_one_frame_does_not_flicker_and_does_not_hide_the_rest(model, modality):
    moved = {'rgb': RGB, 'x': X}[modality].copy()
    moved[:, :W // 2] += 128
    model.score(pair_of(0))
    model.masks[Sensors.BOTH][:, :W // 2] = 1
    assert model.score(pair_of(1, **{modality: moved})).flicker == 0
    model.score(pair_of(2))
    model.score(pair_of(3))
    model.masks[Sensors.BOTH][:] = 2
    assert model.score(pair_of(4, **{modality: moved})).flicker == pytest.approx(10)


def test_disagreement_and_flicker_are_those_of_a_replay(tmp_path, tiny_card):
    """Also where X has 16 bits and changes its range: noise in one is a change in the other."""
    segmenter = Segmenter(load_card(tiny_card), Counting())
    bag, out = write_deep(tmp_path / 'bag', 2), tmp_path / 'out'
    extract([bag], out, choice=Choice(hardest=2), segmenter=segmenter)
    [_, line] = lines_of(out / 'scores.jsonl')
    report = replay(bag, segmenter, disagreement=True)
    assert line['flicker'] == report.flicker_per_s > 0
    assert line['disagreement'] == report.frames[1].disagreement > 0


@pytest.mark.parametrize('later', [0, -1, 11])
def test_frames_that_do_not_follow_each_other_do_not_flicker(model, later):
    model.score(pair_of(0))
    model.masks[Sensors.BOTH][:] = 1
    assert model.score(pair_of(later)).flicker is None
    assert model.score(pair_of(later + 1, x=X[::2, ::2])).flicker is None


def test_a_pair_that_is_only_seen_costs_nothing_until_its_neighbour_is_scored(model):
    for i in range(3):
        model.judge.see(pair_of(i), X)
    assert model.calls == []
    model.score(pair_of(3))
    assert model.calls == [Sensors.RGB, Sensors.X, Sensors.BOTH, Sensors.BOTH]
    model.score(pair_of(4))
    assert model.calls[4:] == [Sensors.RGB, Sensors.X, Sensors.BOTH]


def test_hardness_is_the_mean_of_three_ranks():
    scores = [Score(0.9, 0.1, None), Score(0.5, 0.3, 0.2), Score(0.7, 0.2, 0.1)]
    assert hardness(scores) == pytest.approx([0, 1, 0.5])
    assert hardness([Score(0.5, 0.5, 0.5)] * 3) == pytest.approx([0.5] * 3)
    assert hardness([scores[0]]) == [0] and hardness([]) == []
    # The third is as sure and as torn as the first: only flicker tells them apart.
    assert hardness([Score(0.9, 0.1, 0.0), Score(0.5, 0.3, 0.0), Score(0.9, 0.1, 0.3)]) == (
        pytest.approx([(0.25 + 0.25 + 0.25) / 3, (1 + 1 + 0.25) / 3, (0.25 + 0.25 + 1) / 3]))


def lines_of(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_the_hardest_are_written_with_their_scores_and_the_mask_of_a_replay(tmp_path, tiny_card):
    segmenter = Segmenter(load_card(tiny_card), Engine())
    bag = write_pairs(tmp_path / 'bag', 8)
    out = tmp_path / 'out'
    report = extract([bag], out, choice=Choice(hardest=3), segmenter=segmenter)
    assert (report.pairs, report.written, report.left_out) == (8, 3, {'--hardest': 5})
    scores, lines = lines_of(out / 'scores.jsonl'), lines_of(out / 'manifest.jsonl')
    hard = hardness([Score(*list(line.values())[1:]) for line in scores])
    chosen = sorted(sorted(range(8), key=lambda i: -hard[i])[:3])
    assert [line['name'] for line in lines] == [scores[i]['name'] for i in chosen]
    assert [line['score']['hardness'] for line in lines] == [hard[i] for i in chosen]
    replay(bag, segmenter)
    confidences = read(tmp_path / 'bag_masks', '/segmentation/confidence')
    assert [line['confidence'] for line in scores] == [
        pytest.approx(decode_x(message).mean() / 255) for message in confidences]


@pytest.mark.parametrize('calls', [0, 1, 5, 9, 14, 40])
def test_scoring_that_was_stopped_goes_on_and_chooses_the_same(tmp_path, tiny_card, calls):
    bag = write_deep(tmp_path / 'bag')
    whole, out = tmp_path / 'whole', tmp_path / 'out'
    choice, engine = Choice(every_s=0.2, hardest=2), Counting()
    segmenter = Segmenter(load_card(tiny_card), engine)
    extract([bag], whole, choice=choice, segmenter=segmenter)
    engine.left = calls
    if calls < 40:
        with pytest.raises(KeyboardInterrupt):
            extract([bag], out, choice=choice, segmenter=segmenter)
        assert len(lines_of(out / 'scores.jsonl')) == max(0, calls + 1) // 4
    engine.left = 10 ** 6
    extract([bag], out, choice=choice, segmenter=segmenter)
    for name in ('scores.jsonl', 'manifest.jsonl'):
        assert (out / name).read_bytes() == (whole / name).read_bytes()
    before = 10 ** 6 - engine.left
    extract([bag], out, choice=choice, segmenter=segmenter)
    assert 10 ** 6 - engine.left == before  # no pair is scored again


class Counting(Engine):
    """An engine whose masks follow the range of X, which is interrupted after some calls."""

    left = 10 ** 6

    def __call__(self, rgb, x, x_limits, sensors):
        if not self.left:
            raise KeyboardInterrupt
        self.left -= 1
        share = (x - x_limits[0]) / (x_limits[1] - x_limits[0])
        if sensors is Sensors.RGB:
            share = rgb[..., 0] / 255
        return np.uint8((2.999 * share).clip(0, 2)), np.uint8(255 * share.clip(0, 1))


def write_deep(path, count=9):
    """Write pairs whose X has 16 bits, and in which something hot comes into view."""
    with BagWriter(path) as bag:
        for i in range(count):
            time_ns = START_NS + i * PERIOD_NS
            x = X.astype(np.uint16) * 30
            x[:, :i] += 9000
            bag.write('/rgb/image', image_message(RGB, 'rgb8', time_ns, 'f'), time_ns)
            bag.write('/x/image', image_message(x, 'mono16', time_ns, 'f'), time_ns)
    return path


def test_the_command_needs_a_model_to_choose_the_hardest(tmp_path, command, tiny_card):
    bag, out = write_pairs(tmp_path / 'bag', 3), tmp_path / 'out'
    code, _, err = command('extract', bag, '--out', out, '--hardest', '1')
    assert code == 2 and 'no model is named: give --model CARD' in err and not out.exists()
    with pytest.raises(ParameterError, match='--hardest is 0, allowed is 1 or more'):
        Choice(hardest=0)
    code, text, _ = command('extract', bag, '--out', out, '--hardest', '1', '--model', tiny_card,
                            '--device', 'cpu')
    assert code == 0 and '--hardest 2' in text
    [line] = lines_of(out / 'manifest.jsonl')
    assert line['score'].keys() == {'confidence', 'disagreement', 'flicker', 'hardness'}
    code, _, err = command('extract', bag, '--out', out, '--model', tiny_card)
    assert code == 2 and 'was extracted with hardest 1, now it is None' in err
