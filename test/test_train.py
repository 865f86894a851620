# Copyright 2026 rgbx_seg_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""Training: it learns, it can be killed, and a wrong recipe or frame ends it in one line."""

from pathlib import Path
import re

import cv2
import numpy as np
import pytest
from rgbx_seg_ros import train as module
from rgbx_seg_ros.card import load_card
from rgbx_seg_ros.checkpoint import load_weights, save_weights
from rgbx_seg_ros.datasets import FolderDataset
from rgbx_seg_ros.errors import DataError, EngineError
from rgbx_seg_ros.frames import to_batch, x_range
from rgbx_seg_ros.graph import SegmentationGraph
from rgbx_seg_ros.networks import build
from rgbx_seg_ros.segmenter import Segmenter
from rgbx_seg_ros.train import load_config, train
import torch
import yaml

RECIPES = sorted((Path(__file__).parents[1] / 'config' / 'train').glob('*.yaml'))
SIZE = (64, 96)
PLAIN = {'crop': list(SIZE), 'scale': [1.0, 1.0], 'flip': 0.0, 'jitter': 0.0, 'blank': 0.0}


@pytest.fixture
def data(tmp_path, write_frames):
    return write_frames(tmp_path / 'data', size=SIZE)


@pytest.fixture
def recipe(tmp_path, write_card):
    """Return a function that writes a recipe for the tiny card, with changes."""
    card = write_card()

    def write(**changes):
        path = tmp_path / 'recipe.yaml'
        path.write_text(yaml.safe_dump({
            'card': str(card), 'augment': {'crop': list(SIZE)}, 'epochs': 2, 'batch_size': 2,
            'warmup_epochs': 0, 'learning_rate': 0.002, **changes}))
        return path
    return write


def losses(text):
    return [float(value) for value in re.findall(r'loss (\S+)', text)]


@pytest.mark.parametrize('path', RECIPES, ids=lambda path: path.stem)
def test_a_shipped_recipe_loads_and_fits_its_card(path):
    config = load_config(path)
    card = load_card(config.card)
    assert config.class_weights is None or len(config.class_weights) == len(card.classes)


def test_there_is_a_recipe():
    assert RECIPES


@pytest.mark.parametrize('precision', ['float32', 'bfloat16'])
def test_the_loss_falls_and_the_weights_serve_a_card(data, recipe, tmp_path, write_card, command,
                                                     precision):
    code, out, err = command('train', recipe(epochs=3, augment=PLAIN, precision=precision),
                             '--data', data, '--out', tmp_path / 'out', '--device', 'cpu')
    assert (code, err) == (0, '')
    first, *_, last = losses(out)
    assert last < 0.8 * first
    weights = tmp_path / 'out' / 'tiny.safetensors'
    assert f'wrote {weights}' in out
    (tmp_path / 'tiny.safetensors').write_bytes(weights.read_bytes())
    segmenter = Segmenter.from_card(write_card(weights={'file': 'tiny.safetensors'}), device='cpu')
    sample = FolderDataset(data)[0]
    assert segmenter(sample.rgb, sample.x).mask.shape == SIZE


def test_a_run_killed_twice_ends_with_the_weights_of_an_unbroken_one(
        data, recipe, tmp_path, monkeypatch, capsys):
    config = load_config(recipe(epochs=3, batch_size=1))
    whole = train(config, data, tmp_path / 'whole').read_bytes()
    run_epoch = module._Run.train_epoch

    def die_in(epoch):
        def die(run, loader):
            if run.epoch == epoch:
                raise KeyboardInterrupt
            return run_epoch(run, loader)
        return die

    for epoch in (1, 2):
        monkeypatch.setattr(module._Run, 'train_epoch', die_in(epoch))
        torch.rand(7)  # another process has another random state
        with pytest.raises(KeyboardInterrupt):
            train(config, data, tmp_path / 'killed')
    monkeypatch.undo()
    capsys.readouterr()
    resumed = train(config, data, tmp_path / 'killed')
    out = capsys.readouterr().out
    assert 'after epoch 2' in out and len(losses(out)) == 1
    assert resumed.read_bytes() == whole


def test_a_finished_run_is_not_trained_again(data, recipe, tmp_path, capsys):
    config = load_config(recipe(epochs=1))
    first = train(config, data, tmp_path / 'out').read_bytes()
    capsys.readouterr()
    assert train(config, data, tmp_path / 'out').read_bytes() == first
    assert losses(capsys.readouterr().out) == []


class Recorder(torch.nn.Module):
    """Keeps every input; one weight, so that it can be trained."""

    seen = []

    def __init__(self):
        super().__init__()
        self.layer = torch.nn.Conv2d(3, 3, 1)

    def forward(self, rgb, x):
        Recorder.seen.append((rgb.detach().clone(), x.detach().clone()))
        return self.layer(rgb + x)


@pytest.fixture
def seen(monkeypatch):
    monkeypatch.setattr(Recorder, 'seen', [])
    monkeypatch.setattr(module, 'build', lambda *args, **kwargs: Recorder())
    return Recorder.seen


@pytest.mark.parametrize('x_type', [np.uint8, np.uint16])
def test_the_network_gets_in_training_what_it_gets_on_the_vehicle(tmp_path, write_frames, recipe,
                                                                  seen, x_type):
    data = write_frames(tmp_path / 'data', 1, SIZE, x_type=x_type)
    config = load_config(recipe(epochs=1, batch_size=1, augment=PLAIN))
    train(config, data, tmp_path / 'out')
    card, sample = load_card(config.card), FolderDataset(data)[0]
    limits = torch.tensor([x_range(sample.x, card.x)], dtype=torch.float32)
    SegmentationGraph(Recorder(), card)(
        to_batch(sample.rgb), to_batch(sample.x), limits, torch.ones(1, 2))
    trained, used = seen
    for image, expected in zip(trained, used, strict=True):
        torch.testing.assert_close(image, expected)


def test_every_epoch_sees_other_crops_and_the_same_seed_the_same(data, recipe, tmp_path, seen):
    for out in ('a', 'b'):
        train(load_config(recipe(epochs=3, batch_size=4)), data, tmp_path / out)
    crops = [rgb for rgb, _ in seen]
    images = {image.numpy().tobytes() for crop in crops[:3] for image in crop}
    assert len(images) == 12, 'a crop came twice'
    for first, second in zip(crops[:3], crops[3:], strict=True):
        assert torch.equal(first, second)
    train(load_config(recipe(epochs=1, batch_size=4, seed=1)), data, tmp_path / 'c')
    assert not torch.equal(seen[-1][0], crops[0])


def test_training_starts_from_a_backbone_and_leaves_the_rest_random(data, recipe, tmp_path):
    path, config = tmp_path / 'backbone.safetensors', load_config(recipe(epochs=1))
    card = load_card(config.card)
    network = build(card.network, len(card.classes), **card.network_args)
    part = {name: torch.full_like(value, 0.5) for name, value in network.state_dict().items()
            if name.startswith('encoder_x.')}
    save_weights(part, path, {'kind': 'backbone'})
    run = module._Run(config, card, 1, torch.device('cpu'), path)
    fresh = module._Run(config, card, 1, torch.device('cpu'), None)
    for name, value in run.network.state_dict().items():
        assert torch.equal(value, part.get(name, fresh.network.state_dict()[name])), name
    train(config, data, tmp_path / 'out', weights=path)


def test_a_batch_without_a_labelled_pixel_does_no_harm(data, recipe, tmp_path):
    for path in (data / 'label').glob('*.png'):
        cv2.imwrite(str(path), np.full(SIZE, 255, np.uint8))
    state = load_weights(train(load_config(recipe(epochs=1)), data, tmp_path / 'out'))
    assert all(tensor.isfinite().all() for tensor in state.values())


def test_a_loss_that_is_not_finite_ends_the_run_and_keeps_the_state_before(
        data, recipe, tmp_path, monkeypatch):
    config = load_config(recipe())
    train(load_config(recipe(epochs=1)), data, tmp_path / 'out')
    state = (tmp_path / 'out' / 'last.pt').read_bytes()
    monkeypatch.setattr(module._Run, '_loss', lambda run, rgb, *rest: sum(
        p.sum() for p in run.network.parameters()) * float('nan'))
    with pytest.raises(DataError, match='the loss of epoch 2 is nan: lower learning_rate'):
        train(config, data, tmp_path / 'out')
    assert (tmp_path / 'out' / 'last.pt').read_bytes() == state


def no_label(data):
    (data / 'label' / 'a2.png').unlink()


def wrong_id(data):
    cv2.imwrite(str(data / 'label' / 'a2.png'), np.full(SIZE, 3, np.uint8))


def unreadable(data):
    (data / 'thermal' / 'a2.png').write_bytes(b'text')


def wrong_x(data):
    (data / 'thermal' / 'a2.png').unlink()
    cv2.imwrite(str(data / 'thermal' / 'a2.tif'), np.zeros(SIZE, np.float64))


@pytest.mark.parametrize(('damage', 'message'), [
    (no_label, "frame 'a2' has no label: training needs one"),
    (wrong_id, "label of frame 'a2' has the id 3; the card 'tiny' has 0..2, and 255"),
    (unreadable, "a2.png': it is not an image"),
    (wrong_x, "frame 'a2': x is an array (64, 96) of float64"),
])
def test_a_bad_frame_ends_the_command_in_one_line_that_names_it(data, recipe, tmp_path, command,
                                                                damage, message):
    damage(data)
    code, _, err = command('train', recipe(), '--data', data, '--out', tmp_path / 'out')
    assert code == 2
    assert err.startswith('rgbx-seg: error: ') and message in err
    assert err.count('\n') == 1


@pytest.mark.parametrize('content', [b'', b'not a state', b'PK\x03\x04', 'list', 'other', 'part'])
def test_a_state_that_is_not_of_this_run_is_told_in_one_line(data, recipe, tmp_path, content):
    config = load_config(recipe(epochs=1))
    path = tmp_path / 'out' / 'last.pt'
    train(config, data, path.parent)
    if isinstance(content, bytes):
        path.write_bytes(content)
    elif content == 'list':
        torch.save([1], path)
    elif content == 'other':
        torch.save({'network': {'a': torch.zeros(1)}}, path)
    else:
        path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(DataError, match='last.pt.* is not the state of this training: remove it'
                       ) as error:
        train(config, data, path.parent)
    assert '\n' not in str(error.value)


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
    ({'precision': 'float16'}, "precision is 'float16', allowed are: float32, bfloat16"),
    ({'class_weights': [1, 0, 1]}, 'class_weights is .* above 0'),
    ({'augment': {}}, "'augment': 'crop' is missing"),
    ({'augment': {'crop': [16, 64]}}, 'augment.crop is'),
])
def test_a_wrong_recipe_is_told_which_field_and_why(recipe, changes, message):
    with pytest.raises(DataError, match=message) as error:
        load_config(recipe(**changes))
    assert '\n' not in str(error.value)


@pytest.mark.parametrize(('changes', 'message'), [
    ({'batch_size': 5}, 'holds 4 samples, fewer than a batch of 5'),
    ({'exclude': ['a0', 'b']}, "no frame 'b' to exclude"),
    ({'class_weights': [1, 2]}, "class_weights is .* the card 'tiny' has 3 classes"),
])
def test_a_recipe_that_does_not_fit_the_data_leaves_nothing(data, recipe, tmp_path, changes,
                                                            message):
    with pytest.raises(DataError, match=message):
        train(load_config(recipe(**changes)), data, tmp_path / 'out')
    assert not (tmp_path / 'out').exists()


def test_excluded_frames_are_not_trained_on(data, recipe, tmp_path):
    wrong_id(data)
    train(load_config(recipe(epochs=1, exclude=['a2'])), data, tmp_path / 'out')


def test_a_device_that_is_not_here_is_told(data, recipe, tmp_path):
    with pytest.raises(EngineError, match="device is 'gpu', allowed are"):
        train(load_config(recipe()), data, tmp_path / 'out', 'gpu')
