# Copyright 2026 rgbx_seg_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""The log of a training: a CSV file without gaps or repeats, and TensorBoard where it is."""

import sys

import pytest
from rgbx_seg_ros.training.log import TrainLog


def write(out, start, steps):
    with TrainLog(out, start, 10) as log:
        for step in steps:
            log.step(step, 0.1, {'cross_entropy': step / 10, 'dice': 0.5})
        log.score(10, 0.75)


def rows(out):
    return (out / 'losses.csv').read_text().splitlines()


def test_a_row_holds_the_losses_and_their_sum(tmp_path):
    write(tmp_path, 0, [0, 1])
    assert rows(tmp_path) == ['step,loss,cross_entropy,dice,step_size', '0,0.5,0.0,0.5,0.1',
                              '1,0.6,0.1,0.5,0.1']


def test_a_resumed_run_writes_its_steps_once(tmp_path):
    write(tmp_path, 0, range(4))
    with (tmp_path / 'losses.csv').open('a') as file:
        file.write('4,0.9,0.')  # killed
    write(tmp_path, 3, range(3, 6))
    assert [row.split(',')[0] for row in rows(tmp_path)] == ['step', *'012345']
    write(tmp_path, 0, [0])
    assert len(rows(tmp_path)) == 2


def test_tensorboard_gets_the_curves(tmp_path):
    pytest.importorskip('tensorboard', reason='the extra train is not installed')
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
    write(tmp_path, 0, range(3))
    events = EventAccumulator(str(tmp_path / 'tensorboard'))
    events.Reload()
    assert [event.value for event in events.Scalars('train/loss')] == pytest.approx(
        [0.5, 0.6, 0.7])
    assert set(events.Tags()['scalars']) == {
        'train/loss', 'train/cross_entropy', 'train/dice', 'train/step_size', 'val/mean_iou'}


def test_without_tensorboard_one_line_tells_how_to_get_it(tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, 'torch.utils.tensorboard', None)
    write(tmp_path, 0, range(3))
    out, err = capsys.readouterr()
    assert out == "no TensorBoard here: for its curves pip install 'rgbx_seg_ros[train]'\n"
    assert err == ''
    assert not (tmp_path / 'tensorboard').exists()
    assert len(rows(tmp_path)) == 4
