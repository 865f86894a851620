# Copyright 2026 rgbx_seg_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""What is told before the first step: steps that cannot be made, labels that teach nothing."""

from dataclasses import replace
from pathlib import Path
import re

import cv2
import numpy as np
import pytest
from rgbx_seg_ros.cards.card import load_card
from rgbx_seg_ros.datasets import FolderDataset
from rgbx_seg_ros.distributed import Processes
from rgbx_seg_ros.errors import CardError, DataError
from rgbx_seg_ros.networks import build, NETWORKS
from rgbx_seg_ros.training import train as module
from rgbx_seg_ros.training.augment import Augment
from rgbx_seg_ros.training.checks import check_step, look_at
from rgbx_seg_ros.training.config import load_config, TrainConfig
from rgbx_seg_ros.training.data import Plan
from support import train_stage
import torch
import yaml

CPU = torch.device('cpu')
ALONE = Processes(0, 1, CPU)
COMPARED = sorted((Path(__file__).parents[2] / 'config' / 'train' / 'cards').glob('*.yaml'))


def config(**changes):
    return replace(TrainConfig('tiny', Augment((32, 32)), batch_size=2), **changes)


def check(card, spec, processes=ALONE):
    check_step(spec, card, Plan(spec, 8, processes))


@pytest.mark.parametrize('path', COMPARED, ids=lambda path: path.stem)
def test_the_step_of_every_network_can_be_checked(path):
    crop = load_config(path.parents[1] / 'potholes_comparison.yaml').augment.crop
    check(load_card(path), config(augment=Augment(crop)))


@pytest.mark.parametrize(('changes', 'count'), [
    ({'batch_size': 1}, 1), ({'accumulate': 2}, 1), ({}, 2),
    ({'accumulate': 2, 'batch_size': 4}, 2)])
def test_a_part_of_which_batch_normalisation_sees_one_value_is_told(write_card, changes, count):
    card, spec = load_card(write_card()), config(**changes)
    network = build(card.network, 3, **card.network_args).train()
    with pytest.raises(ValueError, match='Expected more than 1'):
        network(torch.zeros(1, 3, 32, 32), torch.zeros(1, 3, 32, 32))
    processes = Processes(0, count, CPU)
    with pytest.raises(DataError, match=r'crop \[32, 32\]: of the 1 sample in a part of a step '
                                        rf'\(processes: {count}\) .*; raise batch_size') as told:
        check(card, spec, processes)
    assert f'batch_size is {spec.batch_size}, accumulate {spec.accumulate}' in str(told.value)
    check(card, replace(spec, augment=Augment((32, 64))), processes)
    check(card, replace(spec, batch_size=2 * spec.batch_size), processes)
    if count > 1:
        check(card, replace(spec, sync_batch_norm=True), processes)


def test_a_crop_that_the_network_does_not_take_is_told(write_card):
    path = next(path for path in COMPARED if path.stem == 'potholes_mddg')
    with pytest.raises(DataError, match=r'augment.crop is \[64, 96\]: .*this network takes a hei'):
        check(load_card(path), config(augment=Augment((64, 96))))


def test_a_card_that_disagrees_with_its_network_on_the_channels_of_x_is_told(write_card):
    path = write_card(x={'kind': 'thermal', 'mean': [0.5], 'std': [0.2]})
    with pytest.raises(CardError, match='x.mean has 1 values, the network .* takes 3 channels'):
        check(load_card(path), config(augment=Augment((64, 96))))


def test_it_is_told_before_anything_is_written(tmp_path, write_frames, write_card, command):
    path = tmp_path / 'recipe.yaml'
    path.write_text(yaml.safe_dump({'card': str(write_card()), 'augment': {'crop': [32, 32]},
                                    'batch_size': 1}))
    code, _, err = command('train', path, '--data', write_frames(tmp_path / 'data'),
                           '--out', tmp_path / 'out', '--device', 'cpu')
    assert code == 2 and err.startswith('rgbx-seg: error: batch_size is 1')
    assert err.count('\n') == 1
    assert not (tmp_path / 'out').exists()


@pytest.fixture
def data(tmp_path, write_frames):
    return write_frames(tmp_path / 'data', 5)


def paint(data, name, label):
    cv2.imwrite(str(data / 'label' / f'{name}.png'), label)


def test_frames_of_several_classes_are_found(data, write_card):
    paint(data, 'a1', np.full((64, 96), 2, np.uint8))
    half = np.full((64, 96), 255, np.uint8)
    half[:32] = 0
    paint(data, 'a3', half)
    _, mixed = look_at(FolderDataset(data), load_card(write_card()), ALONE, Augment((64, 96)))
    assert mixed == [0, 2, 4]


def test_processes_share_out_the_frames(data, write_card, monkeypatch):
    paint(data, 'a1', np.ones((64, 96), np.uint8))
    (data / 'thermal' / 'a3.png').write_bytes((data / 'rgb' / 'a3.png').read_bytes())
    samples, card, parts = FolderDataset(data), load_card(write_card()), []
    whole = look_at(samples, card, ALONE)
    monkeypatch.setattr(Processes, 'all', lambda _, found: parts.append(found) or [found])
    alone = [look_at(samples, card, Processes(rank, 2, CPU)) for rank in range(2)]
    assert [mixed for _, mixed in alone] == [[0, 2, 4], [3]]
    monkeypatch.setattr(Processes, 'all', lambda *_: parts)
    assert look_at(samples, card, Processes(1, 2, CPU)) == whole
    (told, mixed) = whole
    assert mixed == [0, 2, 3, 4]
    assert len(told) == 2 and "a3.png' of uint8 x3" in told[0] and 'has colours' in told[1]


def masks_of_255(data):
    for path in (data / 'label').iterdir():
        label = cv2.imread(str(path), cv2.IMREAD_GRAYSCALE)
        cv2.imwrite(str(path), np.where(label > 0, 255, 0).astype(np.uint8))


@pytest.mark.parametrize(('change', 'lines'), [
    (masks_of_255, ['the labels hold nothing but class 0 and 255, which means unlabeled: .*yaml',
                    "no label has a pixel of 'car', 'person'$"]),
    (lambda data: None, ["no label has a pixel of 'car'$"]),
    (lambda data: paint(data, 'a0', np.ones((64, 96), np.uint8)), []),
])
def test_classes_without_a_pixel_are_told(data, write_card, change, lines):
    change(data)
    told, _ = look_at(FolderDataset(data), load_card(write_card()), ALONE)
    assert len(told) == len(lines)
    for line, pattern in zip(told, lines, strict=True):
        assert re.search(f'^warning: {str(data)!r}: {pattern}', line)


def test_they_are_told_by_the_command_and_masks_of_255_can_be_given_a_class(
        data, tmp_path, write_card, card_content, command, monkeypatch):
    monkeypatch.setitem(NETWORKS, 'mini', train_stage.Mini)
    masks_of_255(data)
    recipe = tmp_path / 'recipe.yaml'
    recipe.write_text(yaml.safe_dump({
        'card': str(write_card(network='mini', network_args={})), 'epochs': 1, 'batch_size': 2,
        'augment': {'crop': [64, 96]}, 'workers': 0}))
    for out, absent in (('a', "'car', 'person'"), ('b', "'car'")):
        code, text, _ = command('train', recipe, '--data', data, '--out', tmp_path / out,
                                '--device', 'cpu')
        assert code == 0 and f'no label has a pixel of {absent}\n' in text
        assert ('255, which means unlabeled' in text) == (out == 'a')
        (data / 'dataset.yaml').write_text(yaml.safe_dump({
            'ids': {0: 0, 255: 2}, 'classes': card_content['classes']}))


def test_labels_without_a_class_are_refused_before_anything_is_written(
        tmp_path, write_frames, write_card, command):
    for split, count in (('train', 4), ('val', 3)):
        write_frames(tmp_path / 'data' / split, count)
    (tmp_path / 'data' / 'dataset.yaml').write_text('splits: {train: 4, val: 3}')
    recipe = tmp_path / 'recipe.yaml'
    recipe.write_text(yaml.safe_dump({
        'card': str(write_card()), 'augment': {'crop': [64, 96]}, 'workers': 0,
        'split': 'train', 'val_split': 'val'}))
    for split, count in (('val', 3), ('train', 4)):
        for path in (tmp_path / 'data' / split / 'label').iterdir():
            cv2.imwrite(str(path), np.full((64, 96), 255, np.uint8))
        code, _, err = command('train', recipe, '--data', tmp_path / 'data',
                               '--out', tmp_path / 'out', '--device', 'cpu')
        assert code == 2 and err.count('\n') == 1
        assert f"split '{split}' has no pixel with a class in {count} frames" in err
        assert not (tmp_path / 'out').exists()


def no_label(data):
    (data / 'label' / 'a4.png').unlink()


def wrong_id(data):
    paint(data, 'a4', np.full((64, 96), 3, np.uint8))


def narrow_x(data):
    (data / 'thermal' / 'a4.png').unlink()
    cv2.imwrite(str(data / 'thermal' / 'a4.tif'), np.zeros((64, 96), np.float64))


def wide_x(data):
    path = str(data / 'thermal' / 'a4.png')
    for other in (data / 'thermal').iterdir():
        cv2.imwrite(str(other), np.full((64, 96), 300, np.uint16))
    cv2.imwrite(path, np.zeros((64, 96), np.uint8))


@pytest.mark.parametrize(('damage', 'message'), [
    (no_label, "frame 'a4' has no label"), (wrong_id, "the label of frame 'a4' has the id 3"),
    (narrow_x, "a4.tif' is float64, a network takes uint8, uint16, float32"),
    (wide_x, "augment.fill_x is 300.0, more than the uint8 of frame 'a4' can hold"),
])
def test_a_frame_that_would_end_the_training_late_ends_it_before_the_first_step(
        data, tmp_path, write_card, monkeypatch, damage, message):
    damage(data)
    monkeypatch.setitem(NETWORKS, 'mini', train_stage.Mini)
    monkeypatch.setattr(module, '_steps', lambda *_: pytest.fail('a step was made'))
    spec = config(card=str(write_card(network='mini', network_args={})),
                  augment=Augment((64, 96), fill_x=300.0 if damage is wide_x else 0.0))
    with pytest.raises(DataError) as error:
        module.train(spec, data, tmp_path / 'out')
    assert message in str(error.value)


def test_a_validation_may_have_frames_without_a_label(data, write_card):
    no_label(data)
    samples, card = FolderDataset(data), load_card(write_card())
    assert look_at(samples, card, ALONE)[1] == [0, 1, 2, 3]
    wrong_id(data)
    with pytest.raises(DataError, match="the label of frame 'a4' has the id 3"):
        look_at(FolderDataset(data), card, ALONE)
