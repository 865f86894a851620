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


def test_a_run_that_goes_on_with_other_losses_gives_them_columns(tmp_path):
    write(tmp_path, 0, [0, 1])
    with TrainLog(tmp_path, 1, 10) as log:
        log.step(1, 0.1, {'cross_entropy': 0.25, 'focal': 0.5})
        log.step(2, 0.1, {'cross_entropy': 0.125, 'focal': 0.5})
    assert rows(tmp_path) == [
        'step,loss,cross_entropy,dice,focal,step_size', '0,0.5,0.0,0.5,,0.1',
        '1,0.75,0.25,,0.5,0.1', '2,0.625,0.125,,0.5,0.1']
    write(tmp_path, 3, [3])
    assert rows(tmp_path)[0] == 'step,loss,cross_entropy,dice,focal,step_size'
    assert rows(tmp_path)[-1] == '3,0.8,0.3,0.5,,0.1'


def test_a_run_that_makes_no_step_leaves_the_table_as_it_is(tmp_path):
    write(tmp_path, 0, range(3))
    before = (tmp_path / 'losses.csv').read_bytes()
    write(tmp_path, 3, [])
    assert (tmp_path / 'losses.csv').read_bytes() == before


@pytest.mark.parametrize('rest', ['', '\0\0\0\0', 'nan,1,2,3,4\n', '\n'])
def test_a_table_that_lost_its_end_with_the_power_goes_on(tmp_path, rest):
    write(tmp_path, 0, range(3))
    with (tmp_path / 'losses.csv').open('a') as file:
        file.write(rest)
    write(tmp_path, 2, [2, 3])
    assert [row.split(',')[0] for row in rows(tmp_path)] == ['step', *'0123']
    (tmp_path / 'losses.csv').write_text('')
    write(tmp_path, 2, [2, 3])
    assert [row.split(',')[0] for row in rows(tmp_path)] == ['step', '2', '3']
