# Copyright 2026 rgbx_seg_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""A gate: bounds that are read, held and told, and what else a CI gets to see."""

import json
from pathlib import Path
import re
from xml.etree import ElementTree

import cv2
import numpy as np
import pytest
from rgbx_seg_ros.__main__ import EXIT_CODES
from rgbx_seg_ros.datasets import FolderDataset
from rgbx_seg_ros.errors import DataError, ParameterError
from rgbx_seg_ros.evaluation.evaluate import evaluate
from rgbx_seg_ros.evaluation.gate import Gate, Requirement
from rgbx_seg_ros.evaluation.results import METRICS
from support.warm_frames import rename, set_warm


@pytest.fixture
def run(data, tiny_card, tmp_path, command, monkeypatch, segmenter):
    """Return a function that evaluates the folder `data` with a model of known masks."""
    monkeypatch.setattr('rgbx_seg_ros.evaluation.evaluate.Segmenter.from_parameters',
                        lambda parameters: segmenter)

    def with_options(*options):
        return command('evaluate', '--model', tiny_card, '--data', data, '--device', 'cpu',
                       *options)
    return with_options


def failures(err):
    """Return the lines that tell of what failed."""
    return [line for line in err.splitlines() if line.startswith('rgbx-seg: failed: ')]


@pytest.mark.parametrize(('text', 'metric', 'sign', 'bound'), [
    ('miou>=0.60', 'miou', '>=', 0.6),
    (' night/iou.traffic light  < 5e-1 ', 'night/iou.traffic light', '<', 0.5),
    ('latency_p95_ms<=100', 'latency_p95_ms', '<=', 100.0),
    ('drops.x_unused>-1', 'drops.x_unused', '>', -1.0),
])
def test_a_requirement_is_a_metric_a_sign_and_a_number(text, metric, sign, bound):
    assert Requirement.parsed(text) == (metric, sign, bound, '')


@pytest.mark.parametrize('text', ['', 'miou', 'miou=0.6', 'miou>=', '>=0.6', 'miou>=high',
                                  'miou>=nan', 'miou<inf', 'miou>=0.5>=0.6'])
def test_a_requirement_that_cannot_be_read_is_quoted(text):
    with pytest.raises(ParameterError, match='requirement') as caught:
        Requirement.parsed(text)
    assert repr(text) in str(caught.value) and "'miou>=0.60'" in str(caught.value)


@pytest.mark.parametrize(('sign', 'met'), [
    ('>=', (False, True, True)), ('>', (False, False, True)),
    ('<=', (True, True, False)), ('<', (True, False, False))])
def test_bounds_belong_to_the_allowed_where_the_sign_says_so(sign, met):
    one = Requirement('miou', sign, 0.5)
    assert tuple(map(one.is_met, (0.499, 0.5, 0.501))) == met
    assert not one.is_met(None)


def test_the_last_digit_of_a_baseline_less_its_tolerance_is_not_held_against_a_result():
    lowest, highest = 0.8 - 0.1, 0.7 + 0.1
    assert lowest > 0.7 and highest < 0.8
    for origin, met in (('old.json', True), ('', False)):
        assert Requirement('miou', '>=', lowest, origin).is_met(0.7) == met
        assert Requirement('unlabeled_share', '<=', highest, origin).is_met(0.8) == met


def test_what_is_met_is_told_in_a_line_and_ends_with_0(run):
    code, out, err = run('--require', 'miou>=1', '--require', 'latency_p95_ms<=60000')
    assert (code, failures(err)) == (0, [])
    assert out.endswith('all of 2 requirements are met\n')


def test_every_failing_metric_is_told_with_value_and_bound_and_ends_with_3(run, data, tmp_path):
    set_warm(data, 'a1')
    junit = tmp_path / 'gate.xml'
    required = ['iou.person>=0.9', 'miou>=0.5', 'pixel_accuracy>0.95', 'iou.car>=0.1', 'pairs>=3']
    code, out, err = run('--junit', junit, *(
        word for one in required for word in ('--require', one)))
    assert code == 3 and out.startswith('tiny on 3 pairs') and 'are met' not in out
    lines = failures(err)
    assert [line.split()[2] for line in lines] == ['iou.person', 'pixel_accuracy', 'iou.car']
    assert lines[2] == 'rgbx-seg: failed: iou.car has no value, required is >=0.1'
    assert lines[0].endswith(', required is >=0.9') and 'iou.person is 0.' in lines[0]
    suite = ElementTree.parse(junit).getroot().find('testsuite')
    assert (suite.get('tests'), suite.get('failures'), suite.get('errors')) == ('5', '3', '0')
    cases = suite.findall('testcase')
    assert [case.get('name') for case in cases] == [
        'iou.person>=0.9', 'miou>=0.5', 'pixel_accuracy>0.95', 'iou.car>=0.1', 'pairs>=3']
    told = [[f'rgbx-seg: failed: {one.get("message")}' for one in case] for case in cases]
    assert sum(told, []) == lines and [len(one) for one in told] == [1, 0, 1, 1, 0]


def test_an_unknown_metric_names_the_nearest_and_all_before_the_work(run, data, monkeypatch):
    monkeypatch.setattr('rgbx_seg_ros.evaluation.evaluate.evaluate', pytest.fail)
    code, _, err = run('--require', 'iou.perzon>=0.5')
    assert code == 2 and err.count('\n') == 1
    assert "metric 'iou.perzon' is unknown; did you mean 'iou.person'? allowed are: miou" in err
    assert 'CLASS is one of background, car, person' in err and 'of a part' not in err
    assert "'pair_rate' is unknown" in run('--require', 'pair_rate>=0.5')[2]
    assert "'night/miou' is unknown" in run('--require', 'night/miou>=0.5')[2]
    rename(data, a0='001D', a1='002N', a2='003N')
    code, _, err = run('--require', 'nigt/iou.person>=0.5')
    assert code == 2 and "mean 'night/iou.person'?" in err and 'of day, night' in err


def test_a_part_is_held_by_itself(run, data):
    rename(data, a0='001D', a1='002N', a2='003N')
    set_warm(data, '002N')
    set_warm(data, '003N')
    code, _, err = run('--require', 'day/iou.person>=1', '--require', 'night/iou.person>=0.1')
    assert (code, failures(err)) == (3, [
        'rgbx-seg: failed: night/iou.person is 0, required is >=0.1'])


@pytest.mark.parametrize(('options', 'said'), [
    (('--require', 'miou>=60'), "'miou>=60' has the bound 60, but miou is a share: allowed is 0"),
    (('--junit', 'gate.xml'), '--junit counts for nothing without --require or --baseline'),
    (('--tolerance', '0.1', '--require', 'miou>=0'), 'counts for nothing without --baseline'),
    (('--baseline', 'old.json', '--tolerance', '-0.1'), 'tolerance is -0.1, allowed is 0 or more'),
    (('--baseline', 'old.json', '--tolerance', 'nan'), 'tolerance is nan, needed is a finite'),
])
def test_what_cannot_be_required_ends_in_one_line_before_the_work(
        run, tmp_path, monkeypatch, options, said):
    monkeypatch.chdir(tmp_path)
    assert run('--json', 'old.json')[0] == 0
    monkeypatch.setattr('rgbx_seg_ros.evaluation.evaluate.offline.given', pytest.fail)
    code, _, err = run(*options)
    assert code == 2 and said in err and err.count('\n') == 1


def test_no_figure_may_be_worse_than_in_a_baseline_but_for_the_tolerance(run, data, tmp_path):
    old = tmp_path / 'old.json'
    assert run('--json', old)[0] == 0
    before = json.loads(old.read_text())
    code, out, _ = run('--baseline', old)
    # mIoU, two IoUs that have a value, pixel accuracy, share unlabeled.
    assert code == 0 and 'all of 5 requirements are met' in out
    label = cv2.imread(str(data / 'label' / 'a1.png'), -1)
    rows, columns = np.nonzero(label == 2)
    top = int(rows.min())
    set_warm(data, 'a1', (top + 1, int(rows.max()) + 1, int(columns.min()),
                          int(columns.max()) + 1))
    new = tmp_path / 'new.json'
    assert run('--json', new)[0] == 0
    lost = before['iou']['person'] - json.loads(new.read_text())['iou']['person']
    assert 0 < lost < 0.5
    code, _, err = run('--baseline', old, '--tolerance', lost * 0.99)
    assert code == 3
    [line] = [line for line in failures(err) if 'iou.person' in line]
    assert f'(1 in {str(old)!r}, tolerance' in line
    assert run('--baseline', old, '--tolerance', lost)[0] == 0
    assert run('--baseline', new, '--tolerance', 0)[0] == 0


def test_a_figure_that_the_baseline_has_and_the_result_lacks_has_failed(
        run, data, tmp_path, tiny_card):
    old = tmp_path / 'old.json'
    assert run('--json', old)[0] == 0
    facts = json.loads(old.read_text())
    facts['classes']['car']['iou'] = 0.0
    old.write_text(json.dumps(facts))
    code, _, err = run('--baseline', old)
    assert code == 3
    assert 'iou.car has no value, required is >=-0.01 (0 in' in failures(err)[0]


def test_a_baseline_of_other_data_is_refused_before_the_work(run, data, tmp_path, monkeypatch):
    old = tmp_path / 'old.json'
    assert run('--json', old)[0] == 0
    monkeypatch.setattr('rgbx_seg_ros.evaluation.evaluate.evaluate', pytest.fail)
    said = [(('--lost', 'x'), "has the lost None, the other 'x'"),
            (('--protocol', 'foreground'), "the protocol 'plain', the other 'foreground'")]
    for options, text in said:
        code, _, err = run('--baseline', old, *options)
        assert code == 2 and text in err and err.count('\n') == 1
    rename(data, a0='b0')
    code, _, err = run('--baseline', old)
    assert code == 2 and 'of its 3 frames 1 are not among the 3 here' in err


def test_a_baseline_must_be_a_result_and_is_not_written_over(run, tmp_path):
    old = tmp_path / 'old.json'
    assert run('--json', old)[0] == 0
    assert 'is what is read' in run('--baseline', old, '--json', old)[2]
    for change, said in (
            ({'format': 2}, 'is of format 2, and read is format 1'),
            ({'classes': 7}, 'lacks figures of evaluate'),
            ({'frames': [{'name': 'a0', 'ms': 1.0}]}, 'does not tell the pixels of each frame')):
        path = tmp_path / 'changed.json'
        path.write_text(json.dumps({**json.loads(old.read_text()), **change}))
        code, _, err = run('--baseline', path)
        assert code == 2 and said in err and str(path) in err and err.count('\n') == 1
    for text in ('{', '[]', '{"format": 1}', '7'):
        path.write_text(text)
        code, _, err = run('--baseline', path)
        assert code == 2 and str(path) in err and err.count('\n') == 1


def test_the_file_of_a_ci_is_xml_whatever_a_name_holds(tmp_path):
    junit = tmp_path / 'gate.xml'
    gate = Gate('replay', [Requirement('iou.<b>&"\x01\udcdf', '>=', 0.5)], junit=junit)
    assert gate.crashed(DataError("'Stra\udcdfe' is no bag \x00")) == 3
    suite = ElementTree.parse(junit).getroot().find('testsuite')
    assert (suite.get('name'), suite.get('errors')) == ('rgbx-seg replay', '1')
    [case] = suite
    assert case.get('name') == 'iou.<b>&"\\x01\\udcdf>=0.5'
    assert case.find('error').get('message') == "'Stra\\udcdfe' is no bag \\x00"
    # It says whose it is, so that the next run may write it again.
    assert 'Written by rgbx-seg' in junit.read_text(encoding='utf-8')


def test_scores_of_frames_add_up_to_those_of_all(data, segmenter):
    set_warm(data, 'a1', (0, 5, 0, 40))
    facts = evaluate(segmenter, FolderDataset(data)).facts()
    pixels = [frame['pixels'].get('person', {}) for frame in facts['frames']]
    hits, labelled, predicted = (sum(one.get(name, 0) for one in pixels)
                                 for name in ('hits', 'labelled', 'predicted'))
    assert hits / (labelled + predicted - hits) == facts['iou']['person'] < 1
    assert all('car' not in frame['pixels'] for frame in facts['frames'])


def test_the_page_on_evaluation_has_every_metric_and_exit_code():
    page = Path(__file__).parents[2].joinpath('docs', 'evaluation.md').read_text(encoding='utf-8')
    told = set(re.findall(r'`([\w.]+)`', page))
    for name, metric in METRICS.items():
        full = 'drops.REASON' if name.startswith('drops.') else name + '.CLASS' * metric.of_class
        assert full in told, name
        line = next(line for line in page.splitlines() if f'`{full}`' in line and line[0] == '|')
        held = line.split('|')[3].strip()
        assert bool(metric.held) == (full in held or held in ('yes', 'may not rise')), name
    codes = page.partition('| exit code |')[2].partition('\n## ')[0]
    rows = ' '.join(re.findall(r'^\| ([\d, ]+) \|', codes, re.MULTILINE))
    assert set(map(int, re.findall(r'\d+', rows))) == set(EXIT_CODES)
