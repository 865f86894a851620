# Copyright 2026 rgbx_seg_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""Scores of a model on a folder, with an engine whose masks are known."""

import json
import math
import os
from pathlib import Path
import re
import subprocess
import sys

import cv2
import numpy as np
import pytest
from rgbx_seg_ros.datasets import FolderDataset, open_dataset
from rgbx_seg_ros.errors import DataError
from rgbx_seg_ros.evaluation.evaluate import BOX_FOUND, BoxScore, evaluate
from rgbx_seg_ros.evaluation.protocols import Protocol
from rgbx_seg_ros.evaluation.report import Gallery
from rgbx_seg_ros.inference.segmenter import Segmenter
from rgbx_seg_ros.resources import share_dir
from rgbx_seg_ros.sensors import Sensors
from support.warm_frames import matrix_of, rename, set_warm, SIZE


def write_boxes(data, name, *boxes):
    (data / 'boxes').mkdir(exist_ok=True)
    (data / 'boxes' / f'{name}.txt').write_text('\n'.join(' '.join(map(str, b)) for b in boxes))


def test_masks_are_scored_against_labels_and_frames_without_one_are_left_out(data, segmenter):
    scores = evaluate(segmenter, FolderDataset(data))
    assert scores.boxes() == {}
    matrix = matrix_of(scores)
    np.testing.assert_array_equal(matrix.iou(), [1.0, math.nan, 1.0])
    assert matrix.counts.sum() == 3 * SIZE[0] * SIZE[1]
    label = cv2.imread(str(data / 'label' / 'a0.png'), -1)
    cv2.imwrite(str(data / 'label' / 'a0.png'), np.where(label == 2, 1, label))
    (data / 'label' / 'a1.png').unlink()
    matrix = matrix_of(evaluate(segmenter, FolderDataset(data)))
    assert matrix.counts.sum() == 2 * SIZE[0] * SIZE[1]
    assert matrix.counts[1, 2] == (label == 2).sum()


def test_a_box_is_found_when_enough_of_it_has_its_class(data, segmenter):
    # The left half of the frame: 20 x 20 pixels; a fifth of them are 4 rows.
    enough = math.ceil(BOX_FOUND * 20)
    left = (2, 0.25, 0.5, 0.5, 1.0)
    for name, rows in (('a0', enough), ('a1', enough - 1)):
        set_warm(data, name, (0, rows, 0, 20), (0, rows, 20, 25))
        write_boxes(data, name, left, (1, 0.75, 0.5, 0.5, 1.0))
    set_warm(data, 'a2')
    boxes = evaluate(segmenter, FolderDataset(data)).boxes()
    assert boxes.keys() == {'car', 'person'}
    person, car = boxes['person'], boxes['car']
    assert (person.boxes, person.found) == (2, 0.5)
    assert person.inside == pytest.approx(20 / 25)
    assert (car.boxes, car.found) == (2, 0.0) and math.isnan(car.inside)


def test_boxes_over_the_border_count_their_visible_part_and_overlaps_once(data, segmenter):
    set_warm(data, 'a0', (0, 20, 0, 10))
    write_boxes(data, 'a0', (2, 0.0, 0.5, 0.5, 2.0), (2, 0.125, 0.5, 0.25, 1.0),
                (2, 3.0, 3.0, 0.5, 0.5))
    for name in ('a1', 'a2'):
        set_warm(data, name)
    boxes = evaluate(segmenter, FolderDataset(data)).boxes()
    assert boxes['person'] == BoxScore(boxes=2, found=1.0, inside=1.0)


def test_nothing_to_score_against_is_told(data, segmenter):
    for path in (data / 'label').iterdir():
        path.unlink()
    with pytest.raises(DataError, match='neither label/ nor boxes/'):
        evaluate(segmenter, FolderDataset(data))


def test_boxes_of_other_names_are_told_where_there_is_nothing_to_score(data, segmenter):
    write_boxes(data, 'a0_boxes', (2, 0.5, 0.5, 0.5, 1.0))
    for path in (data / 'label').iterdir():
        path.unlink()
    with pytest.raises(DataError, match="against; 1 files of boxes/ belong to no frame: 'a0_"):
        evaluate(segmenter, FolderDataset(data))


def test_labels_that_mean_little_are_told_with_the_scores(data, tiny_card, command, monkeypatch):
    told = []
    monkeypatch.setattr('warnings.warn', lambda text, **_: told.append(text))
    arguments = 'evaluate', '--model', tiny_card, '--data', data, '--device', 'cpu'
    assert command(*arguments)[0] == 0
    assert told == ["no label has a pixel of 'car'"]
    for path in (data / 'label').iterdir():
        cv2.imwrite(str(path), 255 * np.uint8(cv2.imread(str(path), -1) > 0))
    cv2.imwrite(str(data / 'thermal' / 'a1.png'), np.zeros(SIZE, np.uint16))
    del told[:]
    code, out, _ = command(*arguments)
    assert code == 0 and out.startswith('tiny on 3 pairs')
    one_class, odd, absent, flat = told
    assert 'the labels hold nothing but class 0 and 255' in one_class
    assert 'that of 1 is not: ' in odd and "a1.png' of uint16" in odd
    assert absent == "no label has a pixel of 'car', 'person'"
    assert 'X of 1 frames shows nothing' in flat and "a1.png'" in flat
    for path in (data / 'label').iterdir():
        path.rename(path.with_stem(f'{path.stem}_mask'))
    code, _, err = command(*arguments)
    assert code == 2 and "named as 'a0_mask', the frames as 'a0'" in err


def test_what_a_protocol_leaves_out_is_in_the_labels_all_the_same(data, segmenter):
    """At the borders of a protocol stands 255, which the files do not hold."""
    for path in (data / 'label').iterdir():
        cv2.imwrite(str(path), np.zeros(SIZE, np.uint8))
    protocol = Protocol('', border_px=2)
    remarks = evaluate(segmenter, FolderDataset(data), protocol=protocol).remarks
    assert remarks == ("no label has a pixel of 'car', 'person'",)


def test_frames_may_have_names_that_are_no_text(data, tiny_card, tmp_path, command):
    name = os.fsdecode(b'Stra\xdfe')
    rename(data, a0=name)
    page, scores = tmp_path / 'r.html', tmp_path / 'r.json'
    code, _, _ = command('evaluate', '--model', tiny_card, '--data', data, '--device', 'cpu',
                         '--report', page, '--json', scores)
    assert code == 0
    assert 'Stra\\udcdfe' in page.read_text(encoding='utf-8')
    assert name in [frame['name'] for frame in json.loads(scores.read_text())['frames']]


def test_a_box_or_a_label_of_a_class_that_the_model_lacks_names_the_frame(data, segmenter):
    write_boxes(data, 'a1', (3, 0.5, 0.5, 0.1, 0.1))
    with pytest.raises(DataError, match=r"frame 'a1' has a box of class 3, allowed are 0\.\.2"):
        evaluate(segmenter, FolderDataset(data))
    (data / 'boxes' / 'a1.txt').unlink()
    cv2.imwrite(str(data / 'label' / 'a1.png'), np.full(SIZE, 9, np.uint8))
    with pytest.raises(DataError, match="frame 'a1': label holds the id 9"):
        evaluate(segmenter, FolderDataset(data))


def test_the_command_prints_a_table_and_writes_json_without_nan(data, tiny_card, tmp_path,
                                                                command):
    write_boxes(data, 'a0', (1, 0.5, 0.5, 0.5, 0.5), (2, 0.5, 0.5, 0.5, 0.5))
    path = tmp_path / 'scores.json'
    code, out, _ = command('evaluate', '--model', tiny_card, '--data', data, '--json', path,
                           '--device', 'cpu')
    assert code == 0
    assert out.startswith('tiny on 3 pairs, percent\nclass') and 'of 1 boxes found' in out
    assert max(map(len, out.splitlines())) <= 100
    found = json.loads(path.read_text(), parse_constant=pytest.fail)
    assert next(iter(found)) == 'format' and found['format'] == 1
    assert found['protocol']['name'] == 'plain'
    assert found['protocol']['classes'] == ['background', 'car', 'person']
    assert found['iou'].keys() == {'background', 'car', 'person'}
    assert 0 <= found['pixel_accuracy'] <= 1 and found['pairs'] == 3
    assert found['boxes']['person']['boxes'] == 1
    for label in (data / 'label').iterdir():
        label.unlink()
    assert command('evaluate', '--model', tiny_card, '--data', data, '--json', path)[0] == 0
    found = json.loads(path.read_text(), parse_constant=pytest.fail)
    assert found['mean_iou'] is None and found['iou']['car'] is None


def test_the_command_sees_that_it_cannot_write_before_the_work(data, tiny_card, tmp_path, command,
                                                               monkeypatch):
    monkeypatch.setattr('rgbx_seg_ros.evaluation.evaluate.evaluate', pytest.fail)
    for option in ('--json', '--report'):
        code, _, err = command('evaluate', '--model', tiny_card, '--data', data, option,
                               tmp_path / 'nowhere' / 'scores')
        assert code == 2
        assert 'its folder does not exist' in err and err.count('\n') == 1


def test_json_tells_what_was_lost_and_on_which_boxes(data, tiny_card, tmp_path, command):
    def facts(*options):
        path = tmp_path / 'scores.json'
        assert command('evaluate', '--model', tiny_card, '--data', data, '--json', path,
                       '--device', 'cpu', *options)[0] == 0
        return json.loads(path.read_text())
    both, without = facts(), facts('--lost', 'x')
    assert (both['lost'], without['lost']) == (None, 'x')
    write_boxes(data, 'a0', (1, 0.5, 0.5, 0.5, 0.5))
    listings = [one['made_by']['data listing sha256'] for one in (both, without, facts())]
    assert listings[0] == listings[1] != listings[2]


def test_the_engine_is_ready_before_the_first_score(data, tiny_card, command, monkeypatch):
    """One that gets ready in the background would make some masks as it does not later on."""
    done = []
    real = Segmenter.__call__
    monkeypatch.setattr(Segmenter, 'settle', lambda self, rgb, x: not done.append(
        ('settle', rgb.shape, x.shape)))
    monkeypatch.setattr(Segmenter, '__call__', lambda self, *arguments: (
        done.append('frame'), real(self, *arguments))[1])
    assert command('evaluate', '--model', tiny_card, '--data', data, '--device', 'cpu')[0] == 0
    assert done == [('settle', (*SIZE, 3), SIZE), *['frame'] * 3]


def test_the_time_of_a_frame_is_that_of_its_mask_in_milliseconds(segmenter, data, monkeypatch):
    times = iter(range(99))
    monkeypatch.setattr('rgbx_seg_ros.evaluation.evaluate.time.perf_counter',
                        lambda: next(times) / 4)
    frames = evaluate(segmenter, FolderDataset(data)).frames
    # The segmenter looks at the clock three times in between.
    assert [frame.ms for frame in frames] == [1000.0] * 3


def test_a_frame_of_background_alone_that_was_found_is_not_shown(segmenter, data):
    cv2.imwrite(str(data / 'label' / 'a1.png'), np.zeros(SIZE, np.uint8))
    set_warm(data, 'a1')
    gallery = Gallery(segmenter.labels)
    evaluate(segmenter, FolderDataset(data), gallery=gallery)
    assert [frame.name for frame in gallery.worst()] == ['a0', 'a2']


def test_a_model_is_scored_without_a_modality(segmenter, data):
    both, without_x, without_rgb = (
        matrix_of(evaluate(segmenter, FolderDataset(data), sensors))
        for sensors in (Sensors.BOTH, Sensors.RGB, Sensors.X))
    assert without_x.iou()[2] == 0 < both.iou()[2]
    assert np.array_equal(without_rgb.iou(), both.iou(), equal_nan=True)


# Many processes


@pytest.mark.long
def test_two_processes_give_the_figures_of_one(tmp_path, tiny_card, write_frames):
    data = write_frames(tmp_path / 'data', 5)
    rename(data, a0='001D', a1='002N', a2='003N', a3='004D', a4='005N')
    write_boxes(data, '002N', (1, 0.5, 0.5, 0.5, 0.5), (2, 0.5, 0.5, 0.5, 0.5))
    label = cv2.imread(str(data / 'label' / '002N.png'), -1)
    label[:5] = 1  # a class in the share of the second process alone
    cv2.imwrite(str(data / 'label' / '002N.png'), label)
    found = []
    for processes in (1, 2):
        out = tmp_path / f'{processes}.json'
        result = run_processes(processes, '--model', tiny_card, '--data', data, '--json', out,
                               '--report', tmp_path / f'{processes}.html', '--disagreement',
                               '--sweep', 'noise', 'lost')
        assert result.returncode == 0, result.stderr
        assert result.stdout.count('pixel accuracy') == 3  # one of them speaks
        assert 'no label has' not in result.stderr
        found.append(json.loads(out.read_text()))
    assert [one.pop('processes') for one in found] == [1, 2]
    for one in found:
        del one['made_by']['command'], one['made_by']['time']
        for frame in one['frames']:
            assert frame.pop('ms') > 0
    assert found[0]['confusion'] == found[1]['confusion'] and found[0]['pairs'] == 5
    assert [one['masks'] for one in found[1]['sweep']['noise']['levels']] == [5] * 5
    one, two = map(flat, found)
    assert one.keys() == two.keys()
    for path, fact in one.items():
        assert fact == (pytest.approx(two[path], rel=1e-12) if isinstance(fact, float)
                        else two[path]), path
    pictures = [re.findall(r'data:image[^"]*', (tmp_path / f'{n}.html').read_text())
                for n in (1, 2)]
    assert pictures[0] == pictures[1] and len(pictures[0]) == 5 * 5


@pytest.mark.long
def test_an_error_in_one_process_ends_them_all_with_the_same_word(tmp_path, tiny_card,
                                                                  write_frames):
    data = write_frames(tmp_path / 'data', 4)
    cv2.imwrite(str(data / 'label' / 'a3.png'), np.full((64, 96), 9, np.uint8))
    result = run_processes(2, '--model', tiny_card, '--data', data)
    assert result.returncode != 0
    assert "error: frame 'a3': label holds the id 9" in result.stderr
    assert 'Connection' not in result.stderr and 'evaluate.py", line' not in result.stderr


def run_processes(count, *arguments):
    command = [sys.executable, '-m', 'torch.distributed.run', '--nproc-per-node', str(count),
               '--standalone', '-m'] if count > 1 else [sys.executable, '-m']
    return subprocess.run(
        [*command, 'rgbx_seg_ros', 'evaluate', *map(str, arguments), '--device', 'cpu'],
        cwd=Path(__file__).parents[2], capture_output=True, text=True, timeout=200, check=False)


def flat(facts, path=''):
    """Return the numbers and texts of nested facts by their path."""
    if isinstance(facts, (dict, list)):
        items = facts.items() if isinstance(facts, dict) else enumerate(facts)
        return {key: value for name, one in items
                for key, value in flat(one, f'{path}/{name}').items()}
    return {path: facts}


@pytest.mark.parametrize(('lost', 'name'), [
    (None, 'mean IoU'), ('rgb', 'without RGB'), ('x', 'without X')])
def test_the_published_scores_of_the_pothole_model_come_out_again(lost, name):
    data = open_dataset('potholes', share_dir() / 'demo' / 'potholes', 'test')
    segmenter = Segmenter.from_card('potholes', device='cpu')
    facts = evaluate(segmenter, data, Sensors.without(lost)).facts()
    told = [float(value) for value in re.findall(r'\d+\.\d', segmenter.card.scores[name])]
    assert told[0] == pytest.approx(100 * facts['mean_iou'], abs=0.1)
    assert told[-1] == pytest.approx(100 * facts['iou']['pothole'], abs=0.1)
