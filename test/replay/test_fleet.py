# Copyright 2026 rgbx_seg_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""Fleets: figures that hang on no order and no process, faults that cost one bag, and resuming."""

import itertools
import json
import os
from pathlib import Path
import re
import shutil
import sys

from filelock import FileLock
import numpy as np
import pytest
from rgbx_seg_ros.errors import DataError, EngineError
from rgbx_seg_ros.evaluation.metrics import ConfusionMatrix
from rgbx_seg_ros.replay import workers
from rgbx_seg_ros.replay.folder import bag_names
from rgbx_seg_ros.replay.merged import DARK, Merged
from rgbx_seg_ros.subprocesses import python_command
from support.bag_files import data_file
from support.fleets import run_inline, truncate, write_fleet
from support.replay_bags import (
    matrix_of,
    read,
    rgb_message,
    START_NS,
    write_bag,
    write_pairs,
    x_message,
)

NAMES = ['background', 'car', 'person']
MEASURED = ('inference_ms', 'latency_ms', 'parts', 'hours')


@pytest.fixture
def fleet(tmp_path, tiny_card, command, monkeypatch, segmenter):
    """Return a function that replays bags in this process: exit code, stdout, stderr, facts."""
    monkeypatch.setattr('rgbx_seg_ros.replay.command.run_here', run_inline)
    monkeypatch.setattr('rgbx_seg_ros.replay.worker.Segmenter.from_parameters',
                        lambda parameters: segmenter)

    def run(bags, *options, out=tmp_path / 'out'):
        code, said, err = command('replay', *bags, '--model', tiny_card, '-o', out, *options)
        file = out / 'results.json'
        return code, said, err, json.loads(file.read_text()) if file.is_file() else None
    return run


def results(out, names='abcd'):
    """Return what is kept of each bag."""
    return [json.loads((out / name / 'result.json').read_text()) for name in names]


def without_times(facts):
    """Return figures without those that were measured."""
    return {name: value for name, value in facts.items() if name not in MEASURED}


# Processes


@pytest.mark.long
def test_two_jobs_and_a_killed_one_come_to_what_one_process_tells(
        tmp_path, tiny_card, command, monkeypatch):
    bags = write_fleet(tmp_path / 'bags')
    options = ['--model', tiny_card, '--device', 'cpu']
    started = itertools.count()

    def start(function):
        if next(started) == 1:
            return [sys.executable, '-c', 'import os; print(\'{"done": 0.5}\', flush=True); '
                                          'os.kill(os.getpid(), 9)']
        return python_command(function)
    with monkeypatch.context() as patch:
        patch.setattr(workers, 'python_command', start)
        code, out, err = command('replay', *bags[:3], *options, '-o', tmp_path / 'two',
                                 '--jobs', '2')
    assert code == 1
    assert err.splitlines() == [
        'rgbx-seg: failed: b: its worker was killed by SIGKILL, as the system does where memory '
        'is short: try fewer --jobs',
        'rgbx-seg: 1 of 3 bags could not be replayed; the same command with --resume tries them '
        'again']
    facts = json.loads((tmp_path / 'two' / 'results.json').read_text())
    assert [bag['name'] for bag in facts['bags']] == ['a', 'c']
    assert facts['failed'] == [{'name': 'b', 'bag': str(bags[1]), 'reason': err.splitlines()[0][
        len('rgbx-seg: failed: b: '):]}]
    assert facts['totals']['pairs'] == 8 and facts['made_by']['model'] == 'tiny'

    monkeypatch.setattr('rgbx_seg_ros.replay.command.run_here', run_inline)
    code, out, _ = command('replay', *bags, *options, '-o', tmp_path / 'two', '--resume')
    assert code == 0 and '2 of 4 bags are done and have not changed' in out
    assert command('replay', *bags[::-1], *options, '-o', tmp_path / 'one')[0] == 0
    two, one = (json.loads((tmp_path / name / 'results.json').read_text())
                for name in ('two', 'one'))
    assert without_times(two['totals']) == without_times(one['totals'])
    assert two['totals']['pairs'] == 16 and two['totals']['scores']['mean_iou'] > 0
    for name in 'abcd':
        for mask, other in zip(*(read(tmp_path / run / name / 'masks', '/segmentation/mask')
                                 for run in ('two', 'one')), strict=True):
            np.testing.assert_array_equal(mask.data, other.data)


@pytest.fixture
def act(monkeypatch, tmp_path):
    """Return a function that lets processes of these lines of Python take the place of workers."""
    class Task:
        threads = 1

        def __init__(self, code):
            self.code = f'import json, os, signal, sys, time\n{code}'

        def __reduce__(self):
            return str, ()

    def run(codes, jobs=1, tell=lambda task, facts: None):
        tasks = [Task(code) for code in codes]
        commands = iter([sys.executable, '-c', task.code] for task in tasks)
        monkeypatch.setattr(workers, 'python_command', lambda function: next(commands))
        return workers.run_here(iter(tasks), jobs, tell)
    return run


@pytest.mark.parametrize(('code', 'said'), [
    ('sys.exit("no room")', 'its worker has ended with exit status 1: no room'),
    ('print(); os._exit(3)', 'its worker has ended with exit status 3: no word'),
    ('os._exit(0)', 'its worker has ended with exit status 0: no word'),
    ('os.kill(os.getpid(), signal.SIGSEGV)', 'its worker was killed by SIGSEGV'),
    ('raise MemoryError', 'its worker has ended with exit status 1: MemoryError'),
])
def test_a_worker_that_dies_costs_its_bag_and_the_reason_is_told(act, code, said):
    well = 'print(json.dumps({"end": {}}))'
    code = code.replace('print()', 'sys.stdin.close()')
    ended = list(act([well, code, 'print(json.dumps({"end": {"error": "bad"}}))', well], 2))
    assert sorted(fault for _, fault in ended) == sorted(['', '', 'bad', said])


def test_a_result_counts_though_its_process_dies_at_the_very_end(act):
    [(_, fault)] = act(['print(json.dumps({"end": {}}), flush=True); os._exit(1)'])
    assert fault == ''


def test_what_workers_tell_arrives_whole(act):
    told = []
    list(act(['sys.stdout.write(\'{"done": \'); sys.stdout.flush(); time.sleep(0.05); '
              'print("0.5}\\n" + json.dumps({"warning": "x" * 70000}))\n'
              'print(json.dumps({"end": {}}))'], tell=lambda task, facts: told.append(facts)))
    assert told == [{'done': 0.5}, {'warning': 'x' * 70000}]


def test_no_worker_outlives_the_others_that_are_stopped(act, monkeypatch):
    monkeypatch.setattr(workers, '_GRACE_S', 0.2)
    pids = []

    def tell(task, facts):
        pids.append(facts['pid'])
        if len(pids) == 2:
            raise KeyboardInterrupt
    deaf = 'signal.signal(signal.SIGTERM, signal.SIG_IGN)\n'
    wait = 'print(json.dumps({"pid": os.getpid()}), flush=True); time.sleep(1000)'
    with pytest.raises(KeyboardInterrupt):
        list(act([wait, deaf + wait, wait], 2, tell))
    assert len(pids) == 2
    for pid in pids:
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)


def test_a_model_that_cannot_be_opened_is_no_fault_of_a_bag(act):
    told = {'end': {'model': 'no such device', 'kind': 'EngineError'}}
    with pytest.raises(EngineError, match='no such device'):
        list(act([f'print(json.dumps({told!r}))', 'time.sleep(1000)'], 2))


# Figures


def test_figures_of_all_bags_are_those_of_their_frames(tmp_path, fleet, segmenter):
    bags = write_fleet(tmp_path / 'bags', labelled='abd')
    code, out, err, facts = fleet(bags)
    assert (code, err) == (0, '') and facts['missing'] == facts['failed'] == []
    matrix = ConfusionMatrix(3)
    for k in (0, 1, 3):
        matrix.counts += matrix_of(range(10 * k, 10 * k + 4), segmenter).counts
    totals, kept = facts['totals'], results(tmp_path / 'out')
    assert totals['confusion'] == matrix.counts.tolist()
    assert (totals['pairs'], totals['scored']) == (16, 12)
    assert totals['messages'] == {'rgb': 16, 'x': 16, 'label': 12}
    assert totals['scores']['mean_iou'] == matrix.mean_iou()
    assert totals['scores']['classes']['car']['f1'] == matrix.f1()[1]
    assert totals['scores']['pixel_accuracy'] == matrix.pixel_accuracy()
    frames = [frame for one in kept for frame in one['frames']]
    assert totals['latency_ms']['p95'] == np.percentile([one['ms'] for one in frames], 95)
    assert totals['mean_confidence'] == pytest.approx(
        np.mean([one['confidence'] for one in frames]), abs=1e-15)
    assert matrix.table(NAMES) in out
    *lines, wrote = out.splitlines()
    assert max(map(len, lines)) <= 80 and wrote == f'wrote {tmp_path / "out" / "results.json"}'
    for bag, one in zip(facts['bags'], kept, strict=True):
        assert bag['scores'] == one['scores'] and bag['offset_ms'] == one['offset_ms']
        assert bag['flicker_per_s'] == one['flicker_per_s']
        assert bag['inference_ms'] == one['inference_ms'] and 'frames' not in bag


def test_the_order_of_bags_changes_no_digit(tmp_path, fleet):
    fleet(write_fleet(tmp_path / 'bags', 'abc'))
    kept = results(tmp_path / 'out', 'abc')
    first, *others = [Merged(NAMES, order).facts() for order in itertools.permutations(kept)]
    assert all(one == first for one in others) and len(others) == 5
    assert list(first['hours']) == ['22']


def test_day_and_night_are_told_by_the_light_of_rgb(tmp_path, fleet):
    dark, light = (write_bag(tmp_path / f'{name}', [message for i in range(start, start + 3)
                                                    for message in (
        ('/rgb/image', with_level(rgb_message(i), level)), ('/x/image', x_message(i)))])
        for name, start, level in (('dark', 0, 255 * DARK - 2), ('light', 10, 255 * DARK + 2)))
    facts = fleet([dark, light])[3]
    assert [bag['lights'] for bag in facts['bags']] == [{'day': 0, 'night': 3},
                                                        {'day': 3, 'night': 0}]
    assert facts['bags'][0]['parts'] == {}
    assert {name: part['pairs'] for name, part in facts['totals']['parts'].items()} == {
        'day': 3, 'night': 3}


def with_level(message, level):
    """Return an image all of whose pixels have a level."""
    message.data = np.full_like(message.data, level)
    return message


# Faults


@pytest.fixture
def faulty(tmp_path):
    """Return a good bag, one cut off, one without X, and one that is not there."""
    return [*write_fleet(tmp_path / 'bags', 'a'), truncate(write_pairs(tmp_path / 'cut', 6)),
            write_bag(tmp_path / 'blind', [('/rgb/image', rgb_message(0))]), tmp_path / 'gone']


def test_each_bag_that_cannot_be_replayed_is_named_and_the_rest_is_done(
        tmp_path, faulty, fleet):
    code, out, err, facts = fleet(faulty)
    assert code == 1 and [bag['name'] for bag in facts['bags']] == ['a']
    reasons = {one['name']: one['reason'] for one in facts['failed']}
    assert list(reasons) == ['blind', 'cut', 'gone']
    assert "topic '/x/image' is not in" in reasons['blind']
    assert str(tmp_path / 'cut') in reasons['cut'] and 'does not exist' in reasons['gone']
    lines = err.splitlines()
    assert lines == [*(f'rgbx-seg: failed: {name}: {why}' for name, why in reasons.items()),
                     'rgbx-seg: 3 of 4 bags could not be replayed; the same command with '
                     '--resume tries them again']
    assert re.search(r'^\[\d/4\] 0:00:\d\d cut  failed: ', out, re.MULTILINE)
    assert ' a  4 pairs, mean IoU' in out


def test_resuming_does_what_failed_and_nothing_else(tmp_path, faulty, fleet, monkeypatch):
    before = fleet(faulty)[3]
    shutil.rmtree(faulty[1])
    shutil.rmtree(faulty[2])
    write_pairs(faulty[1], 2)
    write_pairs(faulty[2], 3)
    made = data_file(tmp_path / 'out' / 'a' / 'masks').stat().st_mtime_ns
    code, out, _, facts = fleet(faulty[:3], '--resume')
    assert code == 0 and '1 of 3 bags are done and have not changed' in out
    assert {bag['name']: bag['pairs'] for bag in facts['bags']} == {'a': 4, 'blind': 3, 'cut': 2}
    assert facts['bags'][0] == before['bags'][0]
    assert data_file(tmp_path / 'out' / 'a' / 'masks').stat().st_mtime_ns == made
    monkeypatch.setattr('rgbx_seg_ros.replay.worker.replay', pytest.fail)
    code, _, _, again = fleet(faulty[:3], '--resume', '--json', tmp_path / 'all.json')
    assert code == 0 and again['totals'] == facts['totals']
    assert json.loads((tmp_path / 'all.json').read_text()) == again


def test_a_bag_counts_for_done_or_for_failed(tmp_path, fleet, monkeypatch):
    """Though its worker was killed when the result was there already."""
    monkeypatch.setattr('rgbx_seg_ros.replay.command.run_here', lambda *given: (
        (task, 'killed' * (task.name == 'b')) for task, _ in run_inline(*given)))
    facts = fleet(write_fleet(tmp_path / 'bags', 'ab'))[3]
    assert [bag['name'] for bag in facts['bags']] == ['a'] and facts['totals']['pairs'] == 4
    assert [bag['name'] for bag in facts['failed']] == ['b']


def test_the_threads_of_a_worker_hang_neither_on_jobs_nor_on_cores(
        tmp_path, fleet, monkeypatch):
    """Else the last digits would, as sums of floats that are split come out another way."""
    seen = []

    def noting(tasks, jobs, tell):
        tasks = list(tasks)
        seen.append((jobs, {task.threads for task in tasks}))
        return run_inline(tasks, jobs, tell)
    monkeypatch.setattr('rgbx_seg_ros.replay.command.run_here', noting)
    monkeypatch.setattr('rgbx_seg_ros.replay.command.cores', lambda: 64)
    bags = write_fleet(tmp_path / 'bags', 'abc', count=1)
    monkeypatch.delenv('OMP_NUM_THREADS')
    for i, options in enumerate(([], ['--jobs', '2'])):
        fleet(bags, '--device', 'cpu', *options, out=tmp_path / f'{i}')
    monkeypatch.setenv('OMP_NUM_THREADS', '5')
    out = fleet(bags, '--device', 'cpu', '--resume', out=tmp_path / '1')[1]
    assert seen == [(3, {1}), (2, {1}), (3, {5})] and 'a  again, threads is 5, was 1' in out


def test_where_no_bag_can_be_replayed_there_are_no_figures(tmp_path, fleet):
    code, out, err, facts = fleet([tmp_path / 'x', tmp_path / 'y'], '--report',
                                  tmp_path / 'page.html')
    assert code == 1 and facts['bags'] == [] and len(facts['failed']) == 2
    assert facts['totals']['pairs'] == 0 and facts['totals']['latency_ms']['p95'] is None
    assert 'does not exist' in (tmp_path / 'page.html').read_text()


def test_an_interrupt_keeps_what_is_done(tmp_path, fleet, monkeypatch):
    def interrupted(tasks, jobs, tell):
        yield from itertools.islice(run_inline(tasks, jobs, tell), 2)
        raise KeyboardInterrupt
    bags = write_fleet(tmp_path / 'bags', 'abc')
    with monkeypatch.context() as patch:
        patch.setattr('rgbx_seg_ros.replay.command.run_here', interrupted)
        code, _, err, facts = fleet(bags)
    assert code == 130 and '2 of 3 bags are done in' in err and '--resume goes on' in err
    assert facts['missing'] == ['c'] and facts['totals']['pairs'] == 8
    assert fleet(bags, '--resume')[3]['totals']['pairs'] == 12


# What is done again


@pytest.mark.parametrize(('change', 'said'), [
    (lambda bag, out: os.utime(data_file(bag), (0, 0)), "its file 'a.mcap' has changed"),
    (lambda bag, out: data_file(bag).open('ab').write(b'x'), r"its file 'a.mcap' has \d+ bytes, "),
    (lambda bag, out: (bag / 'more.txt').touch(), "its file 'more.txt' is new"),
    (lambda bag, out: shutil.rmtree(out / 'a' / 'masks'), 'its masks are not there'),
], ids=['time', 'size', 'file', 'masks'])
def test_a_bag_that_has_changed_is_done_again_and_told_in_words(tmp_path, fleet, change, said):
    bags = write_fleet(tmp_path / 'bags', 'ab')
    fleet(bags)
    change(bags[0], tmp_path / 'out')
    _, out, _, facts = fleet(bags, '--resume')
    assert re.match(f'a again, {said}', ' '.join(out.split()))
    assert '1 of 2 bags are done and have not changed' in out and out.count(' again, ') == 1
    assert len(facts['bags']) + len(facts['failed']) == 2


@pytest.mark.parametrize(('options', 'said'), [
    (('--slop-ms', '20'), 'slop_ms is 20.0, was None'),
    (('--engine', 'torch_bf16'), "engine is 'torch_bf16', was 'torch'")])
def test_with_other_options_all_is_done_again(tmp_path, fleet, options, said):
    bags = write_fleet(tmp_path / 'bags', 'ab')
    fleet(bags)
    _, out, _, facts = fleet(bags, '--resume', *options)
    assert out.startswith(f'a  again, {said}\nb  again, {said}\n[1/2] 0:00:')
    assert facts['totals']['pairs'] == 8


def test_what_an_older_version_has_made_stays_done_until_more_is_asked_for(tmp_path, fleet):
    """It knew no disagreement, neither among its options nor of its frames."""
    bags = write_fleet(tmp_path / 'bags', 'ab')
    fleet(bags)
    for name in 'ab':
        path = tmp_path / 'out' / name / 'result.json'
        facts = json.loads(path.read_text())
        del facts['disagreement']
        for frame in facts['frames']:
            del frame['disagreement']
        assert 'disagreement' not in facts['setting']
        path.write_text(json.dumps(facts))
    code, out, _, facts = fleet(bags, '--resume', '--report', tmp_path / 'page.html')
    assert code == 0 and '2 of 2 bags are done and have not changed' in out
    assert facts['totals']['disagreement'] is None
    code, out, _, facts = fleet(bags, '--resume', '--disagreement')
    assert code == 0 and out.count('again, disagreement is True, was None') == 2
    assert facts['totals']['disagreement'] is not None


def test_other_weights_of_the_model_are_told(tmp_path, fleet, tiny_card):
    card = Path(shutil.copy(tiny_card, tmp_path))
    weights = Path(shutil.copy(tiny_card.with_name('tiny.safetensors'), tmp_path))
    bags = write_fleet(tmp_path / 'bags', 'a')
    fleet(bags, '--jobs', '1', '--model', card)
    weights.write_bytes(weights.read_bytes() + b' ')
    assert 'a  again, the weights of the model changed' in fleet(
        bags, '--resume', '--model', card)[1]


# What is of others


def contents(folder):
    """Return the bytes of all files below a folder, without those of a lock."""
    return {path: path.read_bytes() for path in folder.rglob('*')
            if path.is_file() and path.name != '.lock'}


@pytest.mark.parametrize(('name', 'text', 'said'), [
    ('notes.txt', 'mine', 'is not empty and has no results.json'),
    ('results.json', '{}', 'is of no rgbx-seg command'),
])
def test_a_folder_of_somebody_else_is_left_alone(tmp_path, fleet, name, text, said):
    bags, out = write_fleet(tmp_path / 'bags', 'a'), tmp_path / 'out'
    out.mkdir()
    (out / name).write_text(text)
    for options in ((), ('--resume',)):
        code, _, err, _ = fleet(bags, '--jobs', '1', *options)
        assert code == 2 and said in err
    assert contents(out) == {out / name: text.encode()}


@pytest.mark.parametrize('place', ['a/notes.txt', 'a/masks/notes.txt', 'b/notes.txt', 'b'])
def test_a_file_that_no_fleet_has_written_is_in_the_way_and_stays(tmp_path, fleet, place):
    bags, out = write_fleet(tmp_path / 'bags', 'ab'), tmp_path / 'out'
    assert fleet(bags[:1], '--jobs', '1')[0] == 0
    os.utime(data_file(bags[0]), (0, 0))
    (out / place).parent.mkdir(exist_ok=True)
    (out / place).write_text('mine')
    before = contents(out)
    code, _, err, _ = fleet(bags, '--resume')
    assert code == 2 and f'{str(out / place)!r} is in the way' in err
    assert contents(out) == before
    (out / place).unlink()
    assert fleet(bags, '--resume')[0] == 0


def test_results_are_not_gone_over_without_being_asked(tmp_path, fleet):
    bags = write_fleet(tmp_path / 'bags', 'ab')
    fleet(bags)
    before = contents(tmp_path / 'out')
    code, _, err, _ = fleet(bags)
    assert code == 2 and 'holds the results of a fleet: go on with --resume' in err
    with FileLock(tmp_path / 'out' / '.lock'):
        code, _, err, _ = fleet(bags, '--resume')
    assert code == 2 and 'another process is at work' in err
    assert contents(tmp_path / 'out') == before


def test_a_bag_that_was_left_half_done_is_done_again(tmp_path, fleet):
    bags, out = write_fleet(tmp_path / 'bags', 'ab'), tmp_path / 'out'
    fleet(bags)
    result = out / 'a' / 'result.json'
    result.write_text('{"comment": "Written by rgbx-seg", "in_work": true}')
    (out / 'a' / '.result.77.part.json').write_text('{"comm')
    (out / 'a' / 'masks' / 'metadata.yaml').unlink()
    (out / 'a' / 'masks' / 'metadata.yaml.tmp').touch()
    code, said, _, facts = fleet(bags, '--resume')
    assert code == 0 and facts['totals']['pairs'] == 8 and '1 of 2 bags are done' in said
    assert sorted(path.name for path in (out / 'a').iterdir()) == ['masks', 'result.json']


# The command


def test_bags_of_one_name_are_told_apart_whatever_their_order(tmp_path):
    bags = [tmp_path / name for name in ('x/run 1', 'y/run 1', 'other.mcap')]
    for bag in bags:
        bag.mkdir(parents=True)
    names = bag_names(bags)
    assert names == bag_names(bags[::-1]) and {*names.values()} == {*bags}
    first, *others = names
    assert first == 'other_mcap'
    assert all(name.startswith('run_1-') and len(name) == 14 for name in others)
    with pytest.raises(DataError, match="run 1' is named twice"):
        bag_names([bags[0], tmp_path / 'x' / '..' / 'x' / 'run 1'])


def test_what_cannot_be_asked_for_ends_in_one_line_before_the_work(
        tmp_path, tiny_card, command, monkeypatch):
    monkeypatch.setattr('rgbx_seg_ros.replay.command.replay_fleet', pytest.fail)
    bags = write_fleet(tmp_path / 'bags', 'ab')
    out = ['-o', tmp_path / 'out']
    for options, said in (
            ([], '2 bags need a folder for their masks and results: give --out FOLDER'),
            ([*out, '--jobs', '0'], '--jobs is 0, allowed is 1 or more'),
            ([*out, '--slop-ms', '-1'], 'slop is -1.0 ms'),
            ([*out, '--require', 'nite/miou>=0'], "did you mean 'night/miou'?"),
            ([*out, '--json', data_file(bags[1])], 'is what is read'),
            (['-o', tmp_path / 'no' / 'out'], 'its folder does not exist'),
            (['-o', tiny_card], 'exists already and is no folder')):
        code, _, err = command('replay', *bags, '--model', tiny_card, *options)
        assert code == 2 and said in err and err.count('\n') == 1
    assert not (tmp_path / 'out').exists()


def test_one_bag_is_a_fleet_where_the_options_of_one_are_given(tmp_path, fleet):
    [bag] = write_fleet(tmp_path / 'bags', 'a')
    assert fleet([bag], '--resume')[3]['totals']['pairs'] == 4
    assert fleet([bag], out=tmp_path / 'alone')[3] is None
    assert (tmp_path / 'alone' / 'metadata.yaml').is_file()


def test_stamps_of_frames_give_begin_and_end_of_a_bag(tmp_path, fleet):
    facts = fleet(write_fleet(tmp_path / 'bags', 'ab'))[3]
    assert facts['bags'][1]['start_s'] == pytest.approx(START_NS / 1e9 + 1)
    assert facts['bags'][1]['end_s'] == pytest.approx(START_NS / 1e9 + 1.3)
