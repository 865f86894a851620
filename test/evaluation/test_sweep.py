# Copyright 2026 rgbx_seg_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""A sweep: what is disturbed and how much, what comes of it, and what follows from that."""

import json
import math
from pathlib import Path
import re
import shutil

import cv2
import numpy as np
import pytest
from rgbx_seg_ros.cards.card import load_card
from rgbx_seg_ros.datasets import FolderDataset
from rgbx_seg_ros.errors import ParameterError
from rgbx_seg_ros.evaluation.common import ScoredClasses
from rgbx_seg_ros.evaluation.disturbances import DISTURBANCES
from rgbx_seg_ros.evaluation.evaluate import evaluate
from rgbx_seg_ros.evaluation.presentation import Presentation
from rgbx_seg_ros.evaluation.protocols import PROTOCOLS
from rgbx_seg_ros.evaluation.results import SWEPT
from rgbx_seg_ros.evaluation.sweep import chosen, expected, lowest, Sweep
from rgbx_seg_ros.inference.segmenter import Segmenter
from rgbx_seg_ros.parameters import DEFAULTS
from rgbx_seg_ros.sensors import Sensors
from support.pages import check_look, LOOKS, Page
from support.warm_frames import SIZE, WarmIsPerson

ROOT = Path(__file__).parents[2]


class Watched(WarmIsPerson):
    """What is warm is a person, without X what is red; keeps what it was shown."""

    def __init__(self):
        self.shown = []

    def __call__(self, rgb, x, x_limits, sensors):
        self.shown.append((rgb, x, x_limits, sensors))
        if sensors is Sensors.RGB:
            mask = np.uint8(2 * (rgb[..., 0] > 100))
            return mask, mask
        return super().__call__(rgb, x, x_limits, sensors)


@pytest.fixture
def watched(write_card):
    return Segmenter(load_card(write_card(groups={'dynamic': ['person', 'car']})), Watched())


@pytest.fixture
def run(data, watched, tiny_card, command, monkeypatch):
    """Return a function that evaluates the folder `data` with that model."""
    monkeypatch.setattr('rgbx_seg_ros.evaluation.evaluate.Segmenter.from_parameters',
                        lambda parameters: watched)

    def with_options(*options):
        return command('evaluate', '--model', tiny_card, '--data', data, '--device', 'cpu',
                       *options)
    return with_options


def swept(segmenter, root, *kinds):
    """Return the facts of a sweep of the folder `root`."""
    data = FolderDataset(root)
    protocol = PROTOCOLS['plain']
    sweep = Sweep(kinds, data, Presentation(segmenter, protocol, DEFAULTS), segmenter.x,
                  ScoredClasses(segmenter.labels), protocol)
    return evaluate(segmenter, data, sweep=sweep).facts()['sweep']


def level_of(facts, level):
    return next(one for one in facts['levels'] if one['level'] == level)


def without_labels(data):
    shutil.rmtree(data / 'label')


def test_x_is_shown_in_every_direction_and_scored_for_all_of_them_together(watched, data):
    facts = swept(watched, data, 'shift')['shift']
    frames = [x for _, x, *_ in watched.engine.shown]
    assert len(frames) == 3 * (1 + 5 * 4)
    still, by_8 = frames[0], frames[9:13]  # after 2 px and 4 px, four masks each
    for one, (right, down) in zip(by_8, ((8, 0), (-8, 0), (0, 8), (0, -8)), strict=True):
        rows = slice(max(0, down), SIZE[0] + min(0, down))
        columns = slice(max(0, right), SIZE[1] + min(0, right))
        np.testing.assert_array_equal(
            one[rows, columns],
            still[max(0, -down):SIZE[0] + min(0, -down), max(0, -right):SIZE[1] + min(0, -right)])
    masks = [[np.uint8(2 * (x > 100)) for x in frames[i:i + 21]] for i in (0, 21, 42)]
    both = sum((one[0] > 0) & (other > 0) for one in masks for other in one[9:13]).sum()
    either = sum((one[0] > 0) | (other > 0) for one in masks for other in one[9:13]).sum()
    assert level_of(facts, 8)['agreement']['person'] == pytest.approx(both / either)
    # These frames are labelled where they are warm: scores and agreement are one.
    assert level_of(facts, 8)['iou']['person'] == pytest.approx(both / either)
    assert level_of(facts, 8)['masks'] == 12
    assert [one['agreement']['person'] for one in facts['levels']] == sorted(
        (one['agreement']['person'] for one in facts['levels']), reverse=True)
    assert (level_of(facts, 0)['pixel_agreement'], level_of(facts, 0)['masks']) == (1, 3)
    assert facts['levels'][0]['agreement']['car'] is None


@pytest.mark.parametrize('kind', [kind for kind in DISTURBANCES if kind != 'lag'])
def test_a_sweep_changes_the_sensors_that_it_names_and_no_other(watched, write_frames, tmp_path,
                                                                kind):
    data = write_frames(tmp_path / 'one', 1, SIZE)
    one = DISTURBANCES[kind]
    facts = swept(watched, data, kind)[kind]
    assert [level['level'] for level in facts['levels']] == [one.base, *one.levels]
    (rgb, x, *_), *rest = watched.engine.shown
    assert len(rest) == one.ways * len(one.levels)
    for shown_rgb, shown_x, limits, sensors in rest:
        changed = {'rgb': not np.array_equal(shown_rgb, rgb) or sensors is Sensors.X,
                   'x': not np.array_equal(shown_x, x) or sensors is Sensors.RGB}
        if kind == 'lost':
            assert sum(changed.values()) == 1
        else:
            assert {name for name, is_changed in changed.items() if is_changed} == {*one.sensors}
        assert shown_x.dtype == x.dtype and limits == (0.0, 255.0)


def test_the_same_frame_is_disturbed_in_the_same_way_whichever_comes_before(
        watched, write_frames, tmp_path):
    data, alone = write_frames(tmp_path / 'two', 2, SIZE), tmp_path / 'alone'
    swept(watched, data, 'noise', 'patches', 'dark')
    found = watched.engine.shown[len(watched.engine.shown) // 2:]
    shutil.copytree(data, alone)
    for path in alone.rglob('a0.png'):
        path.unlink()
    watched.engine.shown = []
    swept(watched, alone, 'dark', 'noise')
    kept = watched.engine.shown
    assert np.array_equal(kept[1][0], found[8][0]) and np.array_equal(kept[6][1], found[1][1])
    steps = [one[1].astype(float) - found[0][1] for one in found[1:5]]  # 2, 5, 10 and 20 %
    assert steps[1].std() == pytest.approx(0.05 * 255, rel=0.2)
    middle = (found[0][1] > 60) & (found[0][1] < 200)  # where nothing is cut off
    np.testing.assert_allclose(steps[2][middle], 2 * steps[1][middle], atol=1.5)


def test_the_range_of_x_is_that_of_the_frame_as_it_is(write_card, write_frames, tmp_path):
    """Else a range that follows each frame would take gain and offset out again."""
    data = write_frames(tmp_path / 'deep', 1, SIZE, x_type=np.uint16)
    segmenter = Segmenter(load_card(write_card()), Watched())
    swept(segmenter, data, 'gain', 'offset')
    (_, x, limits, _), *rest = segmenter.engine.shown
    assert {one[2] for one in rest} == {limits}
    low, high = limits
    share = ((x - low) / (high - low)).clip(0, 1)
    half, plus = rest[0][1], rest[6][1]
    np.testing.assert_allclose((half - low) / (high - low), share / 2, atol=0.01)
    np.testing.assert_allclose((plus - low) / (high - low), (share + 0.1).clip(0, 1), atol=0.01)


def test_a_lost_sensor_is_that_of_lost_and_what_is_expected_comes_from_both(watched, data, run,
                                                                            tmp_path):
    for name in ('a0', 'a1', 'a2'):  # RGB is a worse sensor than X here
        path = str(data / 'rgb' / f'{name}.png')
        rgb = cv2.imread(path)
        rgb[:6] = 0
        cv2.imwrite(path, rgb)
    facts = swept(watched, data, 'lost')['lost']
    both, without_rgb, without_x = (one['mean_iou'] for one in facts['levels'])
    assert (both, without_rgb) == (1, 1) and without_x < 0.97
    assert without_x == evaluate(watched, FolderDataset(data), Sensors.RGB).facts()['mean_iou']
    assert [one['failure'] for one in facts['expected']] == [0.05, 0.1, 0.2]
    assert facts['expected'][1]['mean_iou'] == pytest.approx((0.9 + 0.1 + 0.1 * without_x) / 1.1)
    code, out, err = run('--sweep', 'lost', '--require', 'sweep.lost.p10.miou>=0.999')
    assert code == 3 and 'sweep.lost.p10.miou is 0.9' in err
    assert 'mean IoU to be expected' in out


def test_the_states_with_a_sensor_are_weighed_by_their_probabilities():
    assert expected(0.6, 0.5, 0.4, 0.0) == pytest.approx(0.6)
    assert expected(0.6, 0.5, 0.4, 0.2) == pytest.approx(
        (0.64 * 0.6 + 0.16 * 0.5 + 0.16 * 0.4) / 0.96)
    assert expected(0.6, 0.6, 0.6, 0.2) == pytest.approx(0.6)


def test_the_first_to_fall_below_a_bound_is_found_between_the_levels():
    steps = [0, 2, 4, 8]
    scores = {'late': [1, 1, 0.95, 0.85], 'early': [1, 0.96, 0.8, 0.7],
              'unknown': [math.nan, 0, 0, 0], 'fine': [1, 1, 1, 0.9]}
    name, step = lowest(steps, scores.items(), 0.9)
    assert name == 'early' and step == pytest.approx(2 + 2 * 0.06 / 0.16)
    assert lowest(steps, [('fine', scores['fine']), ('unknown', scores['unknown'])], 0.9) is None


def test_the_shift_that_is_borne_is_that_of_the_group_beside_the_alarm(watched, data):
    facts = swept(watched, data, 'shift')['shift']
    assert facts['classes'] == ['person', 'car']
    assert facts['drift_alarm'] == {'px': pytest.approx(0.6), 'width_share': 0.015}
    borne = facts['borne']
    for score in ('agreement', 'iou'):
        assert borne[score]['class'] == 'person' and 0 < borne[score]['px'] < 2
        assert borne[score]['width_share'] == pytest.approx(borne[score]['px'] / SIZE[1])
    of_2 = level_of(facts, 2)['agreement']['person']
    assert borne['agreement']['px'] == pytest.approx(2 * 0.1 / (1 - of_2))
    assert borne['iou']['px'] == pytest.approx(2 * 0.05 / (1 - of_2))


# Frames that follow each other


def write_manifest(data, *stamps_ns, bags='aaaaaa'):
    lines = [{'name': f'a{i}', 'bag': bags[i], 'x': {
        'stamp': {'sec': stamp // 10 ** 9, 'nanosec': stamp % 10 ** 9}}}
        for i, stamp in enumerate(stamps_ns)]
    (data / 'manifest.jsonl').write_text('\n'.join(map(json.dumps, lines)) + '\n')


def test_a_late_x_is_that_of_the_frames_before_in_the_same_recording(watched, write_frames,
                                                                     tmp_path):
    data = write_frames(tmp_path / 'six', 6, SIZE)
    tenth = 100_000_000
    write_manifest(data, *(7_950_000_000 + i * tenth for i in range(6)))
    facts = swept(watched, data, 'lag')['lag']
    assert [(one['level'], one['masks']) for one in facts['levels']] == [
        (0, 2), (1, 2), (2, 2), (4, 2)]
    assert [one['lag_ms'] for one in facts['levels']] == pytest.approx([0, 100, 200, 400])
    x = {name: cv2.imread(str(data / 'thermal' / f'{name}.png'), -1)
         for name in FolderDataset(data).names}
    shown = [x_shown for _, x_shown, *_ in watched.engine.shown]
    # Four frames as they are; then the fifth, with X of the fourth, third and first; the sixth.
    for index, name in enumerate(['a0', 'a1', 'a2', 'a3', 'a4', 'a3', 'a2', 'a0',
                                  'a5', 'a4', 'a3', 'a1']):
        np.testing.assert_array_equal(shown[index], x[name])
    assert level_of(facts, 1)['agreement']['person'] < 1


@pytest.mark.parametrize(('gaps', 'bags', 'follow'), [
    ((1, 1, 1, 10), 'aaaaa', True), ((1, 1, 1, 11), 'aaaaa', False),
    ((1, 1, 0, 1), 'aaaaa', False), ((1, 1, 1, 1), 'aaaab', False),
    ((1, -5, 1, 1), 'aaaaa', True)])
def test_frames_follow_each_other_in_a_bag_within_a_second(write_frames, tmp_path, gaps, bags,
                                                           follow):
    data = write_frames(tmp_path / 'five', 5, SIZE)
    stamps = np.cumsum([10 ** 9, *(gap * 10 ** 8 for gap in gaps)]).tolist()
    write_manifest(data, *stamps, bags=bags)
    kinds, faults = chosen([], FolderDataset(data), None, False)
    assert ('lag' in kinds) == follow
    assert follow or 'does not tell which frames follow each other' in faults['lag']


def test_what_cannot_be_disturbed_is_told_and_left_out_where_nobody_named_it(run, data):
    code, _, err = run('--sweep', 'lag')
    assert code == 2 and '--sweep lag cannot be' in err and 'manifest.jsonl' in err
    code, _, err = run('--lost', 'x', '--sweep', 'dark', 'shift')
    assert code == 2 and 'with --lost x there is no x to disturb' in err
    assert chosen([], FolderDataset(data), 'x', False)[0] == ['dark', 'jpeg']
    with pytest.raises(ParameterError, match='with a window no image in pieces'):
        chosen(['lost'], FolderDataset(data), None, True)
    assert 'lost' not in chosen([], FolderDataset(data), None, True)[0]
    code, _, err = run('--sweep', 'shfit')
    assert code == 2 and 'shfit' in err


# Told


def test_the_command_says_what_it_costs_before_the_work_and_fits_80_columns(run, tmp_path, data):
    path = tmp_path / 'scores.json'
    code, out, _ = run('--sweep', 'shift', 'jpeg', '--json', path)
    lines = out.splitlines()
    assert code == 0 and max(map(len, lines)) <= 80
    assert lines[0] == 'the sweep of shift, jpeg makes 25 masks more of each of 3 pairs, 75 in all'
    assert re.search(r'^shift +0 px +100\.0 +100\.0 +100\.0$', out, re.MULTILINE)
    assert re.search(r'^ +8 px +[\d.]+ +[\d.]+ +[\d.]+  person$', out, re.MULTILINE)
    assert 'with X shifted, person is the first that falls below 90 % of agreement' in out
    facts = json.loads(path.read_text(), parse_constant=pytest.fail)
    assert facts['format'] == 1 and list(facts['sweep']) == ['shift', 'jpeg']
    code, out, _ = run('--sweep')
    assert code == 0 and out.startswith('the sweep leaves lag out')


def test_frames_without_labels_have_agreement_alone(run, data, tmp_path):
    without_labels(data)
    assert run()[0] == 2
    page, path = tmp_path / 'r.html', tmp_path / 'r.json'
    code, out, _ = run('--sweep', 'shift', 'lost', '--json', path, '--report', page)
    assert code == 0 and re.search(r'^ +8 px +n/a +[\d.]+ +[\d.]+  person$', out, re.MULTILINE)
    assert 'to be expected' not in out and 'points of IoU' not in out
    facts = json.loads(path.read_text())['sweep']
    assert level_of(facts['shift'], 8)['mean_iou'] is None
    assert 0 < level_of(facts['shift'], 8)['agreement']['person'] < 0.9
    assert facts['lost']['expected'][0]['mean_iou'] is None
    text = page.read_text(encoding='utf-8')
    assert 'Frames disturbed' in text and 'mean IoU' not in text


def test_a_gate_requires_what_a_sweep_finds_by_name(run, tmp_path, monkeypatch):
    old = tmp_path / 'old.json'
    names = ['sweep.shift.8.miou', 'sweep.shift.0.iou.person', 'sweep.offset.-10.pixel_agreement',
             'sweep.shift.16.agreement.person', 'sweep.jpeg.none.miou']
    required = [word for name in names for word in ('--require', f'{name}>=0.99')]
    code, _, err = run('--sweep', 'shift', 'offset', 'jpeg', '--json', old, *required)
    failed = [line.split()[2] for line in err.splitlines() if 'failed' in line]
    assert code == 3 and failed == [names[0], names[3]]
    assert run('--baseline', old)[0] == 0  # a sweep is not held
    assert run('--require', 'sweep.shift.8.miou>=1')[0] == 2
    monkeypatch.setattr('rgbx_seg_ros.evaluation.evaluate.evaluate', pytest.fail)
    code, _, err = run('--sweep', 'shift', '--require', 'sweep.shift.9.miou>=0.5')
    assert code == 2 and "did you mean 'sweep.shift.8.miou'" in err and '--sweep KIND' in err
    code, _, err = run('--sweep', 'shift', '--require', 'sweep.shift.8.miou>=50')
    assert code == 2 and 'allowed is 0 to 1' in err


def test_two_sweeps_are_compared_level_by_level(run, tmp_path, command):
    path = tmp_path / 'r.json'
    assert run('--sweep', 'lost', '--json', path)[0] == 0
    _, out, _ = command('compare', path, path)
    assert re.search(r'^sweep\.lost\.x\.miou +\d', out, re.MULTILINE)
    assert 'sweep.lost.p10.miou' in out and 'sweep.lost.x.iou.person' not in out


def test_the_page_on_evaluation_has_every_kind_with_its_levels_and_every_figure():
    page = ROOT.joinpath('docs', 'evaluation.md').read_text(encoding='utf-8')
    for kind, one in DISTURBANCES.items():
        row = re.search(rf'^\| `{kind}` \|.*\| (.*) \|$', page, re.MULTILINE)
        assert row[1].replace('`', '') == ', '.join(map(str, one.levels)), kind
    masks = sum(one.ways * len(one.levels) for kind, one in DISTURBANCES.items() if kind != 'lag')
    assert f'all but lag {masks}' in page
    told = page.partition('Of a sweep there are')[2].partition('\n\n')[0]
    for name, metric in SWEPT.items():
        assert f'`{name}.CLASS`' * metric.of_class or f'`{name}`' in told


def test_the_page_shows_a_curve_of_each_kind_and_a_table_of_its_levels(run, tmp_path):
    path, scores = tmp_path / 'r.html', tmp_path / 'r.json'
    assert run('--sweep', '--report', path, '--json', scores)[0] == 0
    page, text = Page(path), path.read_text(encoding='utf-8')
    facts = json.loads(scores.read_text())['sweep']
    assert page.open == [] and text.count('scores by level') == len(facts) - 1  # but for lost
    for one in facts.values():
        assert one['text'] in text
    row = [' '.join(cell.split()) for cell in page.cells]
    shift = level_of(facts['shift'], 8)
    start = row.index('8')
    assert row[start + 1:start + 3] == [f'{100 * shift[name]:.1f}' for name in (
        'mean_iou', 'pixel_agreement')]
    assert row[start + 5] == ''.join(
        f'{100 * shift[score]["person"]:.1f}' for score in ('iou', 'agreement'))
    plot = text[text.index('X moved against RGB: scores by level'):].partition('</svg>')[0]
    assert f'mean IoU at 8 px: {100 * shift["mean_iou"]:.1f} %' in ' '.join(plot.split())
    assert 'drift alarm' in plot


@pytest.mark.parametrize('look', LOOKS, ids=str)
def test_the_page_fits_a_screen_and_a_phone_in_light_and_dark(run, browser, tmp_path, look):
    path = tmp_path / 'r.html'
    assert run('--sweep', '--report', path)[0] == 0
    check_look(browser, path, look)
