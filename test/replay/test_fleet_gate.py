# Copyright 2026 rgbx_seg_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""Results of fleets held by a gate, compared, and shown on a page."""

import json
from xml.etree import ElementTree

import pytest
from rgbx_seg_ros.cards.labels import LabelClass, LabelSet
from rgbx_seg_ros.replay.fleet_page import write_fleet_page
from rgbx_seg_ros.replay.merged import bag_facts, Merged
from support.fleets import run_inline, truncate, write_fleet
from support.pages import check_look, LOOKS, Page
from support.replay_bags import write_pairs

NAMES = ['background', 'car', 'person']


@pytest.fixture
def fleet(tmp_path, tiny_card, command, monkeypatch, segmenter):
    """Return a function that replays bags in this process: exit code, stdout, stderr, results."""
    monkeypatch.setattr('rgbx_seg_ros.replay.command.run_here', run_inline)
    monkeypatch.setattr('rgbx_seg_ros.replay.worker.Segmenter.from_parameters',
                        lambda parameters: segmenter)

    def run(bags, *options, out='out'):
        return (*command('replay', *bags, '--model', tiny_card, '-o', tmp_path / out, *options),
                tmp_path / out / 'results.json')
    return run


def test_all_bags_and_each_must_reach_what_is_required(tmp_path, fleet):
    bags = [*write_fleet(tmp_path / 'bags', 'ab', labelled='a'),
            truncate(write_pairs(tmp_path / 'cut'))]
    junit = tmp_path / 'gate.xml'
    code, _, err, _ = fleet(bags, '--require', 'pairs>=5', '--require', 'miou>=0.01', '--junit',
                            junit)
    assert code == 3
    assert [line for line in err.splitlines() if 'pairs' in line] == [
        'rgbx-seg: failed: a: pairs is 4, required is >=5',
        'rgbx-seg: failed: b: pairs is 4, required is >=5']
    suite = ElementTree.parse(junit).getroot().find('testsuite')
    assert [suite.get(name) for name in ('tests', 'failures', 'errors', 'skipped')] == [
        '8', '2', '2', '1']
    cases = [(case.get('classname'), case.get('name'), [one.tag for one in case])
             for case in suite]
    assert cases == [
        ('rgbx-seg.replay', 'pairs>=5', []), ('rgbx-seg.replay', 'miou>=0.01', []),
        ('rgbx-seg.replay.a', 'pairs>=5', ['failure']), ('rgbx-seg.replay.a', 'miou>=0.01', []),
        ('rgbx-seg.replay.b', 'pairs>=5', ['failure']),
        ('rgbx-seg.replay.b', 'miou>=0.01', ['skipped']),
        ('rgbx-seg.replay.cut', 'pairs>=5', ['error']),
        ('rgbx-seg.replay.cut', 'miou>=0.01', ['error'])]
    code, out, err, _ = fleet(bags[:2], '--resume', '--require', 'pairs>=4', '--require',
                              'miou>=0.01')
    assert code == 0 and err == '' and out.endswith('all of 5 requirements are met\n')
    code, _, err, _ = fleet(bags[1:2], '--resume', '--require', 'miou>=0')
    assert code == 3 and 'miou has no value' in err  # of all there must be one


def test_a_bag_that_fails_has_failed_the_gate_though_all_others_pass(tmp_path, fleet):
    bags = [*write_fleet(tmp_path / 'bags', 'a'), tmp_path / 'gone']
    assert fleet(bags, '--require', 'pairs>=1')[0] == 3
    assert fleet(bags, '--resume')[0] == 1


def test_no_bag_may_be_worse_than_in_a_baseline(tmp_path, fleet):
    bags = write_fleet(tmp_path / 'bags', 'ab')
    old = fleet(bags)[3]
    code, out, _, _ = fleet(bags, '--baseline', old, out='new')
    assert code == 0 and 'requirements are met' in out
    facts = json.loads(old.read_text())
    facts['bags'][1]['scores']['mean']['iou'] += 0.2
    better = tmp_path / 'better.json'
    better.write_text(json.dumps(facts))
    code, _, err, _ = fleet(bags, '--resume', '--baseline', better, out='new')
    assert code == 3 and err.count('\n') == 1
    assert err.startswith('rgbx-seg: failed: b: miou is 0.') and str(better) in err
    code, _, err, _ = fleet([*bags, tmp_path / 'gone'], '--resume', '--baseline', old, out='new')
    assert code == 2 and 'is of other data: gone is in one of both alone' in err
    facts['bags'][1]['messages']['rgb'] = 9
    better.write_text(json.dumps(facts))
    code, _, err, _ = fleet(bags, '--resume', '--baseline', better, out='new')
    assert code == 2 and "has the messages {'rgb': 9, " in err and 'of b, here are' in err
    one = tmp_path / 'one.json'
    fleet(bags[:1], '--json', one, out='one')
    code, _, err, _ = fleet(bags, '--resume', '--baseline', one, out='new')
    assert code == 2 and 'is of one bag' in err


def test_fleets_are_compared_by_bag(tmp_path, fleet, command):
    old = fleet(write_fleet(tmp_path / 'bags', 'abc', labelled='ab'))[3]
    facts = json.loads(old.read_text())
    for bag in facts['bags']:
        bag['pairs'] += bag['name'] == 'a'
        bag['unlabeled_share'] += 0.1 * bag['pairs']
    new, page = tmp_path / 'new.json', tmp_path / 'page.html'
    new.write_text(json.dumps(facts))
    code, out, _ = command('compare', old, new, '--plot', page)
    assert code == 0 and '3 bags, the same in both' in out
    rows = {line.split()[0]: line.split()[1:] for line in out.splitlines() if '/' in line
            or line.startswith(('miou', 'unlabeled'))}
    assert rows['unlabeled_share'] == ['0.00', '43.85', '+43.85*', '+40.00', 'to', '+50.00']
    assert rows['a/pair_rate'][2] == '+25.00' and rows['b/pair_rate'][2] == '+0.00'
    assert rows['b/unlabeled_share'] == ['0.00', '40.00', '+40.00']
    assert rows['miou'][3:] == ['+0.00', 'to', '+0.00'] and 'c/miou' not in rows
    assert 'draws of the bags' in out and 'draws of the\nbags' in page.read_text()
    one = tmp_path / 'one.json'
    fleet([tmp_path / 'bags' / 'a'], '--json', one, out='one')
    kept = tmp_path / 'out' / 'a' / 'result.json'
    assert '4 frames, the same in both' in command('compare', one, kept)[1]
    code, _, err = command('compare', one, new)
    assert code == 2 and 'is of one, the other of many bags' in err
    code, _, err, empty = fleet([tmp_path / 'x', tmp_path / 'y'], out='none')
    assert command('compare', old, empty)[2].endswith('none of its fleet is done\n')


# The page


@pytest.fixture
def write(tmp_path):
    """Return a function that writes the page of a fleet and returns its path and the facts."""
    def write(names=NAMES, bags=('morning', 'night'), failed=(), labelled=True):
        labels = LabelSet(LabelClass(i, name, (40 * i % 256, 90, 200))
                          for i, name in enumerate(names))
        results = {bag: result_of(names, hour, labelled) for hour, bag in enumerate(bags, 7)}
        merged = Merged(names, results.values())
        facts = json.loads(json.dumps({
            'bags': [bag_facts(bag, result, names) for bag, result in results.items()],
            'totals': {'model': 'tiny', **merged.facts()},
            'failed': [{'name': name, 'bag': name, 'reason': f'{name} is cut off'}
                       for name in failed],
            'made_by': {'command': 'rgbx-seg replay'}}))
        path = tmp_path / 'fleet.html'
        write_fleet_page(path, facts, labels, merged.times_ms())
        return path, facts
    return write


def result_of(names, hour, labelled):
    """Return what is kept of a bag of 12 pairs that begins at this hour."""
    frames, counts = [], [[0] * (len(names) + 1) for _ in names]
    for i in range(12):
        pixels = {}
        for k, name in enumerate(names[:1 + i % len(names)] if labelled else ()):
            hits = 10 * (i + 1)
            counts[k][k] += hits
            counts[k][0] += 200 - hits
            pixels[name] = {'hits': hits + (200 - hits) * (k == 0), 'labelled': 200,
                            'predicted': 200 if k == 0 else hits}
        frames.append({
            'name': f'{hour * 3600 + 300 * i}.000000000', 'ms': 20.0 + i, 'unlabeled': 0.1,
            'confidence': 0.8, 'mean_iou': 0.5 if labelled else None, 'pixels': pixels})
    return {
        'bag': 'bag', 'out': 'masks', 'model': 'tiny', 'device': 'cpu', 'topics': {}, 'drift': '',
        'malformed': {'rgb': '<b>yuv'}, 'messages': {'rgb': 20, 'x': 18}, 'drops': {'x_unused': 6},
        'scored': 12 * labelled, 'frames': frames, 'sums': {
            'confusion': counts, 'offset_ms': [1.0] * 12, 'flips': 30, 'still': 600,
            'pixels': 1200, 'still_pixel_ns': 60 * 10 ** 9,
            'brightness': [0.1 if hour == 8 else 0.5] * 12}}


def test_the_page_has_the_figures_of_all_bags_and_of_each(write):
    path, facts = write(failed=['cut'])
    page, text = Page(path), path.read_text(encoding='utf-8')
    assert page.open == [] and page.links == [] and '://' not in text and 'url(' not in text
    cells = [' '.join(cell.split()) for cell in page.cells]
    score = f'{100 * facts["totals"]["scores"]["mean_iou"]:.1f}'
    assert f'<b>{score}</b>mean IoU, %' in text and '<b>1 of 3</b> could not be' in text
    row = cells[cells.index('morning') + 1:][:12]
    assert row == [score, f'{100 * facts["bags"][0]["scores"]["pixel_accuracy"]:.1f}',
                   '1970-01-01 07:00', '55.0', '12', '60.0', '0.0', '10.0', '80.0', '0.50', '6',
                   '30.4']
    assert cells[cells.index('night', cells.index('morning')) + 7] == '100.0'
    assert cells[cells.index('number') + 1:][:2] == ['12', '12']
    assert 'cut is cut off' in cells and 'first bad rgb' in text and '<b>yuv' not in text
    assert '07:00 to 07:59: 12 pairs' in text and text.count('class="point"') == 2


def test_names_from_files_are_text_and_never_markup(write):
    evil = '<script>alert(1)</script>'
    path, _ = write(names=['background', evil, '" onload="x'], bags=[evil, 'b'], failed=[evil])
    page = Page(path)
    assert 'script' not in page.tags and page.open == [] and evil in page.cells


def test_a_fleet_without_labels_has_no_scores(write):
    path, _ = write(labelled=False, bags=['a'])
    text = path.read_text(encoding='utf-8')
    assert 'IoU' not in text and 'Confusion' not in text and '<b>12</b>pairs, 0 with' in text
    assert 'Day and night' not in text


@pytest.mark.parametrize('count', [2, 30])
@pytest.mark.parametrize('look', LOOKS, ids=str)
def test_the_page_fits_a_screen_and_a_phone_in_light_and_dark(write, browser, count, look):
    path, _ = write([f'class_{i}' for i in range(count)],
                    [f'2024-03-0{i % 9}_vehicle_{i}' for i in range(min(count, 16))],
                    failed=['a_bag_with_a_long_name_that_was_cut_off_by_a_full_disk'])
    check_look(browser, path, look)
