# Copyright 2026 rgbx_seg_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""Results beside each other: what moved, by how much, and whether that is more than chance."""

import json
import re
import subprocess
import sys

import numpy as np
import pytest
from rgbx_seg_ros.evaluation.compare import compare, DRAWS
from rgbx_seg_ros.evaluation.results import read_result

NAMES = ['road', 'person']


def facts_of(counts, parts=None, names=NAMES, start=0, **more):
    """Return the facts of an evaluation whose frames have these counts, (N, K, 3)."""
    counts = np.asarray(counts)
    parts = parts or [None] * len(counts)
    whole = counts.sum(0)
    ious = whole[:, 0] / np.maximum(whole[:, 1] + whole[:, 2] - whole[:, 0], 1)
    accuracy = whole[:, 0].sum() / whole[:, 1].sum()
    frames = [
        {'index': i, 'name': f'f{i + start}', 'ms': 10.0 + i, 'part': part, 'unlabeled': 0.0,
         'confidence': 0.5, 'mean_iou': None,
         'pixels': {name: dict(zip(('hits', 'labelled', 'predicted'), row, strict=True))
                    for name, row in zip(names, frame, strict=True)}}
        for i, (frame, part) in enumerate(zip(counts.tolist(), parts, strict=True))]
    return {
        'format': 1, 'dataset': 'folder', 'split': None, 'lost': None,
        'protocol': {'name': 'plain', 'classes': names}, 'mean': {'iou': float(ious.mean())},
        'classes': {name: {'iou': float(iou)} for name, iou in zip(names, ious, strict=True)},
        'boxes': {}, 'parts': {}, 'pairs': len(counts), 'labelled': len(counts),
        'pixel_accuracy': float(accuracy), 'unlabeled_share': 0.0, 'mean_confidence': 0.5,
        'frames': frames, **more}


def frames_with(hits, labelled=100):
    """Return counts of frames that have `hits` of the person right, and road in their place."""
    return [[[1000, 1000, 1000 + labelled - one], [one, labelled, one]] for one in hits]


@pytest.fixture
def write(tmp_path):
    """Return a function that writes facts to a file of a name."""
    def to_file(name, facts):
        path = tmp_path / name
        path.write_text(json.dumps(facts))
        return path
    return to_file


def compared(write, old, new):
    """Return the changes between facts by metric."""
    paths = write('old.json', old), write('new.json', new)
    found = compare(paths[0], read_result(paths[0]), paths[1], read_result(paths[1]))
    return {change.metric: change for change in found.changes}


def test_values_are_those_of_the_files_and_what_did_not_move_is_not_sure(write):
    rng = np.random.default_rng(1)
    old = facts_of(frames_with(rng.integers(40, 60, 50)))
    changes = compared(write, old, old)
    assert changes['iou.person'].old == old['classes']['person']['iou']
    assert changes['miou'].new == pytest.approx(old['mean']['iou'], abs=1e-15)
    assert changes['pixel_accuracy'].old == pytest.approx(old['pixel_accuracy'], abs=1e-15)
    for change in changes.values():
        assert change.difference == 0 and not change.is_sure
        assert (change.low, change.high) in ((0, 0), (None, None))
    assert changes['latency_p50_ms'].low is None and changes['latency_p50_ms'].old == 34.5


def test_frames_are_drawn_in_pairs_so_that_what_all_of_them_gain_is_sure(write):
    """The frames differ much more from each other than the two results of each do."""
    rng = np.random.default_rng(2)
    hits = rng.integers(10, 90, 40)
    gain = compared(write, facts_of(frames_with(hits)), facts_of(frames_with(hits + 2)))[
        'iou.person']
    assert gain.difference == pytest.approx(0.02) and gain.is_sure
    assert 0.0199 < gain.low <= gain.high < 0.0201
    noise = compared(write, facts_of(frames_with(hits)),
                     facts_of(frames_with(rng.permutation(hits) + 2)))['iou.person']
    assert noise.difference == pytest.approx(0.02) and not noise.is_sure
    assert noise.high - noise.low > 0.1


def test_the_interval_is_that_of_the_normal_law_for_many_frames(write):
    rng = np.random.default_rng(3)
    hits, moved = rng.integers(30, 70, 400), rng.integers(-8, 12, 400)
    change = compared(write, facts_of(frames_with(hits)), facts_of(frames_with(hits + moved)))[
        'iou.person']
    error = 1.96 * moved.std() / 100 / np.sqrt(400)
    assert change.low == pytest.approx(change.difference - error, abs=error * 0.15)
    assert change.high == pytest.approx(change.difference + error, abs=error * 0.15)
    assert DRAWS >= 1000


def test_a_part_that_moved_is_told_from_one_that_did_not(write):
    hits = np.full(20, 50)
    worse = hits - 10 * (np.arange(20) % 2)
    parts = ['day', 'night'] * 10
    changes = compared(write, facts_of(frames_with(hits), parts),
                       facts_of(frames_with(worse), parts))
    assert changes['night/iou.person'].difference == pytest.approx(-0.1)
    assert changes['night/iou.person'].is_sure
    assert changes['day/iou.person'].difference == 0
    assert changes['iou.person'].difference == pytest.approx(-0.05)


def test_only_frames_that_both_have_count(write):
    old, new = facts_of(frames_with([50, 50, 50])), facts_of(frames_with([60, 60, 0]), start=1)
    paths = write('old.json', old), write('new.json', new)
    found = compare(paths[0], old, paths[1], new)
    assert (found.frames, found.counts) == (2, (3, 3))
    assert 'of 3 and 3' in found.basis()
    [change] = [one for one in found.changes if one.metric == 'iou.person']
    assert change.difference == pytest.approx(0.1)


@pytest.mark.parametrize(('protocol', 'mean'), [
    ({'name': 'plain', 'classes': NAMES}, 1.0), ({'name': 'mddg_mfnet', 'classes': NAMES}, 0.5),
    ({'name': 'foreground', 'classes': NAMES[1:]}, None)])
def test_means_are_those_of_the_protocol(write, protocol, mean):
    facts = facts_of([[[10, 10, 10], [0, 0, 0]]] * 3, protocol=protocol)
    assert compared(write, facts, facts)['miou'].old == mean


def test_the_command_tells_all_in_80_columns_and_makes_a_page(write, tmp_path, command):
    rng = np.random.default_rng(4)
    hits = rng.integers(30, 70, 30)
    names = ['road', 'impervious <b>surface']
    parts = ['day', 'night'] * 15
    files = [write(f'{i}.json', facts_of(frames_with(hits + i), parts, names)) for i in range(3)]
    page = tmp_path / 'page.html'
    code, out, err = command('compare', *files, '--plot', page)
    assert (code, err) == (0, '')
    assert all(len(line) <= 80 or str(tmp_path) in line for line in out.splitlines())
    assert out.count('against') == 2 and out.count('30 frames, the same in both') == 2
    [one, two] = re.findall(r'^night/iou.impervious <b>surface +\S+ +\S+ +(\S+)\* ', out, re.M)
    assert (one, two) == ('+1.00', '+2.00')
    text = page.read_text(encoding='utf-8')
    assert 'Written by rgbx-seg' in text and 'impervious &lt;b&gt;surface' in text
    assert '<b>surface' not in text and text.count('<svg ') == text.count('<circle ') > 10
    assert command('compare', *files, '--plot', page)[0] == 0
    again = command('compare', *files)[1]
    assert again == out  # the draws are the same


@pytest.mark.parametrize(('change', 'said'), [
    ({'dataset': 'mfnet'}, "has the data set 'folder', the other 'mfnet'"),
    ({'protocol': {'name': 'foreground', 'classes': NAMES}}, "the protocol 'plain', the other"),
    ({'classes': {'road': {'iou': 1.0}}}, 'has the classes road, person, the other road'),
    ({'bag': 'b', 'drops': {}, 'messages': {'rgb': 3}, 'scores': None, 'scored': 0},
     'is of evaluate, the other of replay'),
    ({'format': 2}, 'is of format 2, and read is format 1'),
])
def test_results_of_other_data_end_in_one_line(write, command, change, said):
    facts = facts_of(frames_with([50, 60]))
    paths = write('old.json', facts), write('new.json', {**facts, **change})
    code, out, err = command('compare', *paths)
    assert (code, out) == (2, '') and said in err and err.count('\n') == 1


def test_results_without_a_frame_in_common_and_one_alone_end_in_one_line(write, command):
    path = write('old.json', facts_of(frames_with([50, 60])))
    other = write('new.json', facts_of(frames_with([50, 60]), start=2))
    code, _, err = command('compare', path, other)
    assert code == 2 and 'no frame in common' in err and err.count('\n') == 1
    code, _, err = command('compare', path)
    assert code == 2 and 'alone cannot be compared' in err and err.count('\n') == 1


def test_it_does_not_wait_for_torch(write):
    path = write('old.json', facts_of(frames_with([50, 60])))
    code = ('import sys\nfrom rgbx_seg_ros.__main__ import main\nmain()\n'
            "print('torch' in sys.modules)")
    done = subprocess.run([sys.executable, '-c', code, 'compare', path, path],
                          capture_output=True, text=True, timeout=100, check=True)
    assert done.stdout.endswith('\nFalse\n')
