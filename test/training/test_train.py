# Copyright 2026 rgbx_seg_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""Training: it learns, it can be killed, and a wrong recipe or frame ends it in one line."""

import re

import cv2
import numpy as np
import pytest
from rgbx_seg_ros.cards.card import load_card
from rgbx_seg_ros.datasets import FolderDataset
from rgbx_seg_ros.distributed import Processes
from rgbx_seg_ros.engines.graph import SegmentationGraph, to_batch
from rgbx_seg_ros.errors import DataError, EngineError
from rgbx_seg_ros.evaluation.metrics import ConfusionMatrix
from rgbx_seg_ros.frames.raw import find_x_limits
from rgbx_seg_ros.inference.segmenter import Segmenter
from rgbx_seg_ros.networks import build, Network, NETWORKS
from rgbx_seg_ros.training import train as module
from rgbx_seg_ros.training.data import Plan
from rgbx_seg_ros.training.losses import Objective
from rgbx_seg_ros.training.train import load_config, train
from rgbx_seg_ros.weights.checkpoint import load_weights, save_weights
from support import train_stage
from support.train_stage import losses, PLAIN, SIZE
import torch
import yaml


@pytest.mark.parametrize('precision', ['float32', 'bfloat16'])
def test_the_loss_falls_and_the_weights_serve_a_card(data, recipe, tmp_path, write_card, command,
                                                     precision):
    path = recipe(epochs=3, augment=PLAIN, precision=precision, workers=1)
    write_card()  # a network that is used
    code, out, err = command('train', path,
                             '--data', data, '--out', tmp_path / 'out', '--device', 'cpu')
    assert (code, err) == (0, '')
    first, *_, last = losses(out)
    assert last < 0.8 * first
    weights = tmp_path / 'out' / 'tiny.safetensors'
    assert f'wrote {weights}' in out
    segmenter = Segmenter.from_card(tmp_path / 'out' / 'tiny.yaml', device='cpu')
    sample = FolderDataset(data)[0]
    assert segmenter(sample.rgb, sample.x).mask.shape == SIZE


def test_bfloat16_is_refused_where_its_gradients_are_wrong_on_a_cpu(data, recipe, tmp_path,
                                                                    write_card):
    card = write_card(network='ms2mnet', network_args={'base_width': 16},
                      x={'kind': 'depth', 'mean': [0.5], 'std': [0.2]})
    path = recipe(card=str(card), precision='bfloat16')
    with pytest.raises(DataError, match='groups and dilation.*set precision to float32'):
        train(load_config(path), data, tmp_path / 'out')


def test_one_recipe_serves_other_cards_modalities_and_seeds(data, recipe, tmp_path, write_card,
                                                            command):
    path = recipe(epochs=1, card='another')
    card = write_card(network='mini', network_args={})
    code, _, err = command('train', path, '--card', card, '--use', 'x', '--seed', '7',
                           '--data', data, '--out', tmp_path / 'out', '--device', 'cpu')
    assert (code, err) == (0, '')
    used = yaml.safe_load((tmp_path / 'out' / 'config.yaml').read_text())
    assert (used['card'], used['use'], used['seed']) == (str(card), 'x', 7)


class Recorder(Network):
    """Keeps every input that it is trained on; one layer, so that it can be."""

    seen = []

    def __init__(self, num_classes=3):
        super().__init__()
        self.layer = torch.nn.Conv2d(3, num_classes, 1)

    def forward(self, rgb, x):
        if self.training and not rgb.is_meta:
            Recorder.seen.append((rgb.detach().clone(), x.detach().clone()))
        return self.layer(rgb + x)


@pytest.fixture
def seen(monkeypatch):
    monkeypatch.setattr(Recorder, 'seen', [])
    monkeypatch.setitem(NETWORKS, 'mini', Recorder)
    return Recorder.seen


@pytest.mark.parametrize('scale', [1.0, 0.4])
@pytest.mark.parametrize('x_type', [np.uint8, np.uint16])
def test_the_network_gets_in_training_what_it_gets_on_the_vehicle(tmp_path, write_frames, recipe,
                                                                  seen, x_type, scale):
    size = tuple(round(side / scale) for side in SIZE)
    data = write_frames(tmp_path / 'data', 1, size, x_type=x_type)
    config = load_config(recipe(epochs=1, batch_size=1, augment={**PLAIN, 'scale': [scale] * 2}))
    train(config, data, tmp_path / 'out')
    card, sample = load_card(config.card), FolderDataset(data)[0]
    limits = torch.tensor([find_x_limits(sample.x, card.x)], dtype=torch.float32)
    SegmentationGraph(Recorder(), card)(
        to_batch(sample.rgb), to_batch(sample.x), limits, torch.ones(1, 2))
    trained, used = seen
    level = 1.01 / 255 / min(card.rgb.std) if scale < 1 else 1e-5
    for image, expected, off in zip(trained, used, (level, 1e-5), strict=True):
        torch.testing.assert_close(image, expected, rtol=0, atol=off)


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


def test_training_starts_from_a_backbone_and_leaves_the_rest_random(data, recipe, tmp_path,
                                                                    write_card):
    path, config = tmp_path / 'backbone.safetensors', load_config(recipe(epochs=1))
    write_card()  # a network that has one
    card = load_card(config.card)
    network = build(card.network, len(card.classes), **card.network_args)
    part = {name: torch.full_like(value, 0.5) for name, value in network.state_dict().items()
            if name.startswith('encoder_x.')}
    assert part
    save_weights(part, path, {'kind': 'backbone'})
    plan = Plan(config, 4, Processes(0, 1, torch.device('cpu')))
    states = [module._Run(config, card, plan, tmp_path, start).average.state_dict()
              for start in (path, None)]
    for name, value in states[0].items():
        assert torch.equal(value, part.get(name, states[1][name])), name
    train(config, data, tmp_path / 'out', weights=path)


def test_a_batch_without_a_labelled_pixel_does_no_harm(data, recipe, tmp_path):
    for path in sorted((data / 'label').glob('*.png'))[1:]:
        cv2.imwrite(str(path), np.full(SIZE, 255, np.uint8))
    config = load_config(recipe(epochs=1, batch_size=1))
    state = load_weights(train(config, data, tmp_path / 'out'))
    assert sum(loss == 0 for loss in train_stage.read_losses(tmp_path / 'out')[1]) == 3
    assert all(tensor.isfinite().all() for tensor in state.values())


def test_a_loss_that_is_not_finite_ends_the_run_and_keeps_the_state_before(
        data, recipe, tmp_path, monkeypatch):
    config = load_config(recipe())
    train(load_config(recipe(epochs=1)), data, tmp_path / 'out')
    state = (tmp_path / 'out' / 'last.pt').read_bytes()
    forward = Objective.forward
    monkeypatch.setattr(Objective, 'forward', lambda *inputs: {
        name: loss * float('nan') for name, loss in forward(*inputs).items()})
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
    (wrong_x, "a2.tif' is float64, a network takes uint8, uint16, float32: convert it"),
])
def test_a_bad_frame_ends_the_command_in_one_line_that_names_it(data, recipe, tmp_path, command,
                                                                damage, message):
    damage(data)
    code, _, err = command('train', recipe(), '--data', data, '--out', tmp_path / 'out')
    assert code == 2
    assert err.startswith('rgbx-seg: error: ') and message in err
    assert err.count('\n') == 1


@pytest.mark.parametrize(('changes', 'message'), [
    ({'batch_size': 5}, 'holds 4 samples, fewer than a batch of 5'),
    ({'exclude': ['a0', 'b']}, "no frame 'b' to exclude"),
    ({'loss': {'class_weights': [1, 2]}}, 'class_weights is .* 3 classes'),
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


def test_the_recipe_lies_beside_the_weights(data, recipe, tmp_path):
    config = load_config(recipe(epochs=1, use='rgb'))
    train(config, data, tmp_path / 'out')
    assert load_config(tmp_path / 'out' / 'config.yaml') == config


def test_parts_of_a_batch_make_the_step_of_the_whole(data, recipe, tmp_path, write_card):
    path = str(data / 'label' / 'a1.png')
    label = cv2.imread(path, cv2.IMREAD_GRAYSCALE)
    label[5:] = 255
    cv2.imwrite(path, label)
    curves = []
    for parts in (1, 2, 4):
        config = load_config(recipe(epochs=10, batch_size=4, accumulate=parts,
                                    loss={'class_weights': [1.0, 2.0, 5.0]}))
        write_card(network='mini', network_args={'exact': True})
        train(config, data, tmp_path / str(parts))
        curves.append(train_stage.read_losses(tmp_path / str(parts))[1])
    assert len(curves[0]) == 10 and curves[0][-1] < curves[0][0]
    np.testing.assert_allclose(curves[1:], [curves[0]] * 2, rtol=0, atol=1e-5)


def test_half_precision_learns_and_goes_on_as_it_was(data, recipe, tmp_path):
    config = load_config(recipe(epochs=4, precision='float16', augment=PLAIN))
    whole = train(config, data, tmp_path / 'whole')
    _, curve = train_stage.read_losses(tmp_path / 'whole')
    assert curve[-1] < 0.9 * curve[0]
    train(load_config(recipe(epochs=2, precision='float16', augment=PLAIN, schedule='steps',
                             milestones=[9])), data, tmp_path / 'broken')
    state = torch.load(tmp_path / 'broken' / 'last.pt', weights_only=True)
    assert state['scaler']['_growth_tracker'] == 4, 'the scale of the loss is part of the state'
    assert whole.exists()


def test_a_gradient_is_clipped_at_the_length_that_it_has_whatever_the_precision(
        data, recipe, tmp_path, write_card):
    curves = []
    for precision in ('float32', 'float16'):
        config = load_config(recipe(epochs=10, batch_size=4, precision=precision, augment=PLAIN,
                                    optimizer='sgd', learning_rate=0.5, clip_norm=0.5))
        write_card(network='mini', network_args={'exact': True})
        train(config, data, tmp_path / precision)
        curves.append(train_stage.read_losses(tmp_path / precision)[1])
    assert curves[0][-1] < 0.7 * curves[0][0]
    np.testing.assert_allclose(curves[1], curves[0], rtol=0.02)


class Dice(Recorder):
    """Keeps what it draws at random in each part of a step."""

    def forward(self, rgb, x):
        if self.training and not rgb.is_meta:
            Recorder.seen.append(torch.rand(3).tolist())
        return self.layer(rgb + x)


def test_dropout_is_another_one_in_every_part_of_every_step(
        data, recipe, tmp_path, monkeypatch, seen):
    monkeypatch.setitem(NETWORKS, 'mini', Dice)
    train(load_config(recipe(epochs=3, accumulate=2)), data, tmp_path / 'out')
    assert len(seen) == 12 and len({*map(tuple, seen)}) == 12


def test_dropout_is_another_one_in_every_process(recipe, tmp_path, monkeypatch):
    config, drawn = load_config(recipe(batch_size=4, accumulate=2)), []
    monkeypatch.setattr(module, 'DistributedDataParallel', lambda objective, device_ids: objective)
    for rank in range(2):
        plan = Plan(config, 4, Processes(rank, 2, torch.device('cpu')))
        run = module._Run(config, load_card(config.card), plan, tmp_path, None)
        for run.step in range(3):
            for part in range(2):
                run._seed(part)
                drawn.append(torch.rand(1).item())
    assert len({*drawn}) == 12


@pytest.mark.parametrize(('use', 'blank'), [('rgb', 1), ('x', 0)])
def test_training_on_one_modality_shows_the_network_what_a_lost_sensor_does(
        data, recipe, tmp_path, seen, use, blank):
    config = load_config(recipe(epochs=1, use=use, batch_size=4, augment={
        **PLAIN, 'blank': 0.5}))
    train(config, data, tmp_path / 'out')
    sample = FolderDataset(data)[0]
    SegmentationGraph(Recorder(), load_card(config.card))(
        to_batch(sample.rgb), to_batch(sample.x), torch.tensor([[0.0, 255.0]]),
        torch.tensor([[1.0 - (use == 'x'), 1.0 - (use == 'rgb')]]))
    trained, used = seen
    assert torch.equal(trained[blank], torch.zeros_like(trained[blank]))
    assert torch.equal(used[blank], torch.zeros_like(used[blank]))
    assert all(frame.std() > 0.1 for frame in trained[1 - blank]), 'a frame was blanked as well'


@pytest.fixture
def splits(tmp_path, write_frames):
    write_frames(tmp_path / 'splits' / 'train', size=SIZE)
    write_frames(tmp_path / 'splits' / 'val', 2, SIZE)
    (tmp_path / 'splits' / 'dataset.yaml').write_text('splits: {train: 4, val: 2}')
    return tmp_path / 'splits'


def test_the_weights_that_are_scored_are_the_averaged_ones(splits, recipe, tmp_path, monkeypatch):
    scored = []

    def score(network, *_):
        assert not network.training
        scored.append({name: tensor.clone() for name, tensor in network.state_dict().items()})
        matrix = ConfusionMatrix(3)
        matrix.counts[0, 0] = 1
        return matrix
    monkeypatch.setattr(module, 'validate', score)
    train(load_config(recipe(epochs=1, learning_rate=0.1, split='train', val_split='val')), splits,
          tmp_path / 'out')
    state = torch.load(tmp_path / 'out' / 'last.pt', weights_only=True)
    name = 'head.0.weight'
    assert torch.equal(scored[0][name], state['average'][name])
    assert not torch.allclose(scored[0][name], state['objective'][f'network.{name}'], atol=1e-3)
    kept = load_weights(tmp_path / 'out' / 'tiny.safetensors')[name]
    torch.testing.assert_close(kept.float(), scored[0][name], atol=1e-3, rtol=1e-3)


def test_the_best_weights_by_the_validation_are_kept(splits, recipe, tmp_path, monkeypatch,
                                                     capsys):
    scores = iter((0.2, 0.6, 0.4))
    average = []

    def score(network, *_):
        average.append([p.clone() for p in network.parameters()])
        matrix = ConfusionMatrix(3)
        monkeypatch.setattr(matrix, 'mean_iou', lambda: next(scores))
        return matrix
    monkeypatch.setattr(module, 'validate', score)
    config = load_config(recipe(epochs=5, split='train', val_split='val', val_epochs=2))
    kept = load_weights(train(config, splits, tmp_path / 'out'))
    assert len(average) == 3, 'after epochs 2, 4 and the last one'
    for tensor, best in zip((kept[name] for name in ('head.0.weight', 'head.0.bias')),
                            average[1][:2], strict=True):
        torch.testing.assert_close(tensor.float(), best, atol=1e-3, rtol=1e-3)
    out = capsys.readouterr().out
    assert re.findall(r'epoch (\d)/5 .*mean IoU (\S+)', out) == [
        ('2', '20.0'), ('4', '60.0'), ('5', '40.0')]
    state = torch.load(tmp_path / 'out' / 'last.pt', weights_only=True)
    assert state['best'] == 0.6, 'a resumed run must know'
    train(config, splits, tmp_path / 'out')
    assert load_weights(tmp_path / 'out' / 'tiny.safetensors').keys() == kept.keys()
