# Copyright 2026 rgbx_seg_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""Scores by a protocol: of windows, of frames as they are, without borders, by day and night."""

from dataclasses import replace
import json
import math

import cv2
import numpy as np
import pytest
from rgbx_seg_ros.cards.card import load_card, Window
from rgbx_seg_ros.datasets import DATASETS, FolderDataset
from rgbx_seg_ros.errors import DataError, ParameterError
from rgbx_seg_ros.evaluation.evaluate import evaluate, lights
from rgbx_seg_ros.evaluation.presentation import without_borders
from rgbx_seg_ros.evaluation.protocols import Protocol, PROTOCOLS
from rgbx_seg_ros.evaluation.report import Gallery
from rgbx_seg_ros.inference.segmenter import Segmenter
from rgbx_seg_ros.networks import Network
from rgbx_seg_ros.sensors import Sensors
from support.stand_ins import engine_of
from support.warm_frames import matrix_of, rename, set_warm, SIZE
import torch
from torch import nn


def test_the_mean_is_that_of_the_protocol(segmenter, data):
    plain, foreground = (evaluate(segmenter, FolderDataset(data), protocol=PROTOCOLS[name])
                         for name in ('plain', 'foreground'))
    label = cv2.imread(str(data / 'label' / 'a0.png'), -1)
    cv2.imwrite(str(data / 'label' / 'a0.png'), np.where(label == 2, 0, label))
    assert plain.means()['iou'] == foreground.means()['iou'] == 1
    plain, foreground, zero = (
        evaluate(segmenter, FolderDataset(data), protocol=protocol)
        for protocol in (PROTOCOLS['plain'], PROTOCOLS['foreground'], Protocol('', absent=0.0)))
    background, _, person = matrix_of(plain).iou()
    assert plain.means()['iou'] == pytest.approx((background + person) / 2)
    assert foreground.means()['iou'] == pytest.approx(person) != background
    assert zero.means()['iou'] == pytest.approx((background + person) / 3)


def test_a_frame_without_any_class_of_the_protocol_is_not_shown(segmenter, data):
    """Its mean is NaN, although it holds two classes."""
    for i in range(3):
        label = np.uint8(np.indices(SIZE).sum(0) % 2 + (i == 2))
        cv2.imwrite(str(data / 'label' / f'a{i}.png'), label)
        set_warm(data, f'a{i}', *[(0, 20, 0, 4 * i)] * (i == 2))
    gallery = Gallery(segmenter.labels)
    scores = evaluate(segmenter, FolderDataset(data), gallery=gallery,
                      protocol=Protocol('', classes=('person',)))
    assert [frame.name for frame in gallery.worst()] == ['a2']
    assert [math.isnan(frame.mean_iou) for frame in scores.frames] == [True, True, False]


def test_a_protocol_that_the_model_cannot_have_is_refused_before_the_work(
        segmenter, data, monkeypatch):
    monkeypatch.setattr(FolderDataset, '__getitem__', pytest.fail)
    with pytest.raises(ParameterError, match="no 'unlabeled'"):
        evaluate(segmenter, FolderDataset(data), protocol=PROTOCOLS['mddg_mfnet'])
    with pytest.raises(ParameterError, match="the network of 'tiny' sees the whole frame"):
        evaluate(segmenter, FolderDataset(data), protocol=Protocol('', window=Window(64, 32)))


def test_frames_that_the_card_would_scale_do_not_follow_a_protocol_of_whole_frames(
        segmenter, data, tmp_path, write_frames):
    own_size = Protocol('', own_size=True)
    with pytest.raises(DataError, match="frame 'a0' has 40x20 pixels.* scales them to 96x64"):
        evaluate(segmenter, FolderDataset(data), protocol=own_size)
    for i, size in enumerate(((64, 96), (60, 96), (64, 80))):  # the last two are filled up
        whole = FolderDataset(write_frames(tmp_path / str(i), 1, size))
        assert evaluate(segmenter, whole, protocol=own_size).means()['iou'] == 1


def test_a_protocol_may_scale_frames_and_labels(segmenter, data):
    """20x40 becomes 30x60, and this 32x64."""
    protocol = Protocol('', short_side=30)
    shown = []
    engine = segmenter.engine

    def watching(rgb, x, *rest):
        shown.append((rgb.shape, x.shape))
        return engine(rgb, x, *rest)
    watching.device = 'nowhere'
    segmenter.engine = watching
    scores = evaluate(segmenter, FolderDataset(data), protocol=protocol)
    assert set(shown) == {((32, 64, 3), (32, 64))}
    assert matrix_of(scores).counts.sum() == 3 * 32 * 64
    assert scores.means()['iou'] > 0.9


def test_eroded_borders_are_those_of_a_disc():
    rng = np.random.default_rng(0)
    label = rng.integers(0, 3, (6, 8), np.uint8).repeat(9, 0).repeat(9, 1)
    label[:20, :20] = 255
    eroded = without_borders(label, 3)
    near = np.zeros(label.shape, bool)
    for y, x in np.ndindex(label.shape):
        for v, u in np.ndindex(7, 7):
            v, u = y + v - 3, x + u - 3
            if (0 <= v < label.shape[0] and 0 <= u < label.shape[1]
                    and math.hypot(v - y, u - x) <= 3 and label[v, u] not in (255, label[y, x])):
                near[y, x] = True
    assert 0.2 < near.mean() < 0.8
    np.testing.assert_array_equal(eroded, np.where(near, 255, label))
    np.testing.assert_array_equal(without_borders(eroded, 3), eroded)


def test_borders_do_not_count_where_the_protocol_says_so(segmenter, data):
    scores = evaluate(segmenter, FolderDataset(data), protocol=Protocol('', border_px=2))
    assert 0 < matrix_of(scores).counts.sum() < 3 * SIZE[0] * SIZE[1]


def test_a_card_with_a_window_is_scored_as_it_slides(tmp_path, write_card, write_frames):
    pytest.importorskip('rasterio', reason='large images need rasterio')
    card = load_card(write_card(
        input_size=[32, 32], window={'size': 32, 'stride': 16},
        x={'kind': 'dsm', 'mean': [0.0], 'std': [1.0], 'normalization': 'minmax'}))
    data = write_frames(tmp_path / 'data', 2, (50, 75), 'x', np.uint16)
    network = WarmNetwork()
    engine = engine_of(None, network)
    scores = evaluate(Segmenter(card, engine), FolderDataset(data))
    # The windows of a row begin at 0, 16, 32 and, shifted back, at 43; of a column at 0, 16, 18.
    assert network.windows == 2 * 4 * 3
    assert matrix_of(scores).counts.sum() == 2 * 50 * 75
    assert scores.means()['iou'] == 1
    assert math.isnan(scores.parts['all'].tally.calibration.error())
    wide = evaluate(Segmenter(card, engine), FolderDataset(data),
                    protocol=Protocol('', window=Window(32, 32)))
    assert network.windows == 24 + 2 * 3 * 2 and wide.means()['iou'] == 1
    with pytest.raises(ParameterError, match="'rgb' alone cannot be scored with a window"):
        evaluate(Segmenter(card, engine), FolderDataset(data), Sensors.RGB)


class WarmNetwork(Network):
    """Class 2 wherever X is above the middle of its range."""

    def __init__(self):
        super().__init__()
        self.bias = nn.Parameter(torch.zeros(1))
        self.windows = 0

    def forward(self, rgb, x):
        self.windows += len(x)
        return torch.cat((0.5 - x, -torch.ones_like(x), x - 0.5), dim=1) + self.bias


def test_a_piece_of_an_image_keeps_the_range_of_the_whole(tmp_path, write_card, write_frames):
    card = load_card(write_card(x={'kind': 'depth', 'mean': [0.5], 'std': [0.5],
                                   'normalization': 'minmax'}))
    ranges = []

    def engine(rgb, x, limits, sensors):
        ranges.append(limits)
        return np.zeros(rgb.shape[:2], np.uint8), np.zeros(rgb.shape[:2], np.uint8)

    class Pieces(FolderDataset):

        def __getitem__(self, index):
            return replace(super().__getitem__(index), x_limits=(-5.0, 500.0))
    evaluate(Segmenter(card, engine_of(engine)), Pieces(write_frames(tmp_path / 'data', 1, SIZE)))
    assert ranges == [(-5.0, 500.0)]


def test_windows_slide_over_whole_tiles(tmp_path, monkeypatch, command, tiny_card):
    """A data set that cuts tiles into pieces gives them whole to a protocol with a window."""
    opened = []

    class Tiles(FolderDataset):

        def __init__(self, root, split=None, exclude=(), whole=False):
            opened.append(whole)
            raise DataError('seen')
    monkeypatch.setitem(DATASETS, 'potsdam', Tiles)
    for protocol in ('ms2mnet_potsdam', 'plain'):
        command('evaluate', '--model', tiny_card, '--data', tmp_path, '--dataset', 'potsdam',
                '--protocol', protocol)
    assert opened == [True, False]


def test_labels_of_other_classes_are_refused_and_other_names_told(data, segmenter):
    (data / 'dataset.yaml').write_text(json.dumps({'classes': [
        {'id': i, 'name': name, 'color': [0, 0, 0]}
        for i, name in enumerate(('background', 'truck', 'person'))]}))
    with pytest.warns(UserWarning, match="class 1 is 'truck' in the data set and 'car' in the"):
        evaluate(segmenter, FolderDataset(data))
    content = json.loads((data / 'dataset.yaml').read_text())
    content['classes'].append({'id': 3, 'name': 'bike', 'color': [0, 0, 0]})
    (data / 'dataset.yaml').write_text(json.dumps(content))
    with pytest.raises(DataError, match=r"has 4 classes .* the model 'tiny' 3 "):
        evaluate(segmenter, FolderDataset(data))


def test_day_and_night_are_told_apart_by_the_names_of_the_frames():
    assert lights(['00001D', 'x_12N']) == {'00001D': 'day', 'x_12N': 'night'}
    for names in (['00001D', '00002D'], ['00001D', '00002N', '00003'], ['carD', 'manN'], []):
        assert lights(names) == {}


def test_day_and_night_are_scored_apart_and_together(data, segmenter):
    rename(data, a0='001D', a1='002N', a2='003N')
    label = cv2.imread(str(data / 'label' / '001D.png'), -1)
    cv2.imwrite(str(data / 'label' / '001D.png'), np.where(label == 2, 1, label))
    scores = evaluate(segmenter, FolderDataset(data))
    assert list(scores.parts) == ['all', 'day', 'night']
    assert [part.counts[0] for part in scores.parts.values()] == [3, 1, 2]
    assert scores.means('night')['iou'] == 1
    assert matrix_of(scores, 'day').iou().tolist() == [1, 0, 0]
    whole, day, night = (matrix_of(scores, part).counts for part in scores.parts)
    np.testing.assert_array_equal(whole, day + night)
    assert 'day: 1 pairs, mean IoU 33.3, pixel accuracy ' in str(scores)
    facts = scores.facts()
    assert facts['parts']['night']['classes']['car']['iou'] is None
    assert facts['parts']['day']['mean']['iou'] == pytest.approx(1 / 3)
    assert [frame['name'] for frame in facts['frames']] == ['001D', '002N', '003N']
