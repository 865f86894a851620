# Copyright 2026 rgbx_seg_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""A training that was killed, and what it finds in its folder: it goes on, or says why not."""


import pytest
from rgbx_seg_ros.errors import DataError
from rgbx_seg_ros.training import train as module
from rgbx_seg_ros.training.train import load_config, train
from support import train_stage
from support.train_stage import losses
import torch


def test_a_run_killed_twice_ends_with_the_weights_of_an_unbroken_one(
        data, recipe, tmp_path, monkeypatch, capsys):
    config = load_config(recipe(epochs=3, batch_size=1))
    whole = train(config, data, tmp_path / 'whole').read_bytes()
    train_step = module._Run.train_step

    def die_in(step):
        def die(run, parts):
            if run.step == step:
                raise KeyboardInterrupt
            return train_step(run, parts)
        return die

    for step in (6, 9):
        monkeypatch.setattr(module._Run, 'train_step', die_in(step))
        torch.rand(7)  # another process has another random state
        with pytest.raises(KeyboardInterrupt):
            train(config, data, tmp_path / 'killed')
    monkeypatch.setattr(module._Run, 'train_step', train_step)
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


def test_the_curve_of_a_run_killed_within_an_epoch_is_that_of_an_unbroken_one(
        data, recipe, tmp_path, monkeypatch, capsys):
    config = load_config(recipe(epochs=3, batch_size=1, save_steps=2))
    whole = train(config, data, tmp_path / 'whole').read_bytes()
    means = losses(capsys.readouterr().out)
    save, saves = module._Run.save, []

    def die_after_the_fifth(run):
        save(run)
        saves.append(run.step)
        if len(saves) == 5:
            raise KeyboardInterrupt
    monkeypatch.setattr(module._Run, 'save', die_after_the_fifth)
    with pytest.raises(KeyboardInterrupt):
        train(config, data, tmp_path / 'killed')
    with (tmp_path / 'killed' / 'losses.csv').open('a') as file:
        file.write('10,0.5')  # a step that was done after the save, written in part
    capsys.readouterr()
    resumed = train(config, data, tmp_path / 'killed')
    out = capsys.readouterr().out
    assert saves[:5] == [2, 4, 6, 8, 10]
    assert 'after epoch 2 and 2 steps' in out and losses(out) == means[2:]
    assert resumed.read_bytes() == whole
    curve = train_stage.read_losses(tmp_path / 'whole')
    assert curve[0] == [*range(12)]
    assert train_stage.read_losses(tmp_path / 'killed') == curve


def test_a_damaged_state_makes_way_for_the_one_before(data, recipe, tmp_path, capsys,
                                                      monkeypatch):
    config = load_config(recipe(epochs=3))
    whole = train(config, data, tmp_path / 'out').read_bytes()
    last = tmp_path / 'out' / 'last.pt'
    last.write_bytes(last.read_bytes()[:-1000])
    write = module.write_state
    monkeypatch.setattr(module, 'write_state', lambda *_: next(iter(())))
    with pytest.raises(StopIteration):
        train(config, data, tmp_path / 'out')
    assert not last.exists(), 'it would take the place of the whole one'
    last.write_bytes(b'damaged anew')
    monkeypatch.setattr(module, 'write_state', write)
    capsys.readouterr()
    assert train(config, data, tmp_path / 'out').read_bytes() == whole
    out = capsys.readouterr().out
    assert 'last.pt is damaged' in out and 'previous.pt after epoch 2' in out


def test_a_changed_recipe_is_told_at_the_start(data, recipe, tmp_path, capsys):
    train(load_config(recipe(epochs=1)), data, tmp_path / 'out')
    train(load_config(recipe(learning_rate=0.001)), data, tmp_path / 'out')
    assert 'the recipe has changed: epochs, learning_rate\n' in capsys.readouterr().out


def test_a_state_for_other_data_is_refused(data, recipe, tmp_path):
    train(load_config(recipe(epochs=1)), data, tmp_path / 'out')
    with pytest.raises(DataError, match='is not the state of this training'):
        train(load_config(recipe(batch_size=1)), data, tmp_path / 'out')
