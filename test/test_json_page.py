# Copyright 2026 rgbx_seg_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""The page on JSON has every name in the files of the verbs, and none that is no longer there."""

from dataclasses import asdict
import json
import re

import pytest
from rgbx_seg_ros.benchmark import benchmark, roofline
from rgbx_seg_ros.benchmark.rates import Result, Run
from rgbx_seg_ros.benchmark.stages import Footprint
from rgbx_seg_ros.cards.card import load_card
from rgbx_seg_ros.evaluation.sweep import DISTURBANCES
from rgbx_seg_ros.health.report import DROPS
from rgbx_seg_ros.inference.segmenter import Segmenter
from support.checkout import ROOT
from support.fleets import run_inline
from support.replay_bags import label_message, rgb_message, write_bag, x_message
from support.warm_frames import SIZE, WarmIsPerson

PAGE = (ROOT / 'docs' / 'json.md').read_text(encoding='utf-8')
CAPITALS = {'CLASS': '(?:background|car|person)', 'PART': '(?:day|night)', 'HOUR': r'\d\d',
            'KIND': f'(?:{"|".join(DISTURBANCES)})', 'REASON': f'(?:{"|".join(DROPS)})'}


def names_of(text):
    """Return the names in the first cells of the tables of a text."""
    return {name for cell in re.findall(r'^\| (`.*?`) \|', text, re.MULTILINE)
            for name in re.findall('`(.+?)`', cell)}


def paths(value, at=''):
    """Yield the name of every value, and of what holds none."""
    if isinstance(value, dict) and value:
        for key, inner in value.items():
            yield from paths(inner, f'{at}.{key}' if at else key)
    elif isinstance(value, list) and value and isinstance(value[0], dict):
        for inner in value:
            yield from paths(inner, f'{at}[]')
    else:
        yield at


def pattern(name):
    """Return what fits to a name of the page, and to whatever is below it."""
    meant = re.escape(name)
    for word, names in CAPITALS.items():
        meant = meant.replace(word, names)
    return re.compile(meant + r'(?:[.\[].*)?')


def check(heading, *objects):
    """Check that the tables below a heading have every name in the objects, and no other."""
    section = PAGE.partition(f'\n## {heading}\n')[2].partition('\n## ')[0]
    known = {name: pattern(name) for name in names_of(section) | COMMON}
    found = {path for one in objects for path in paths(one)}
    # A name with others below it stands for what it is, not for all that may be in it.
    last = [known[name] for name in known
            if not any(other.startswith((f'{name}.', f'{name}[')) for other in known)]
    empty = [path for path in found if any(name.startswith(f'{path}.') for name in known)]
    unknown = {path for path in found if not any(one.fullmatch(path) for one in last)}
    assert unknown <= {*empty}, 'not told'
    gone = {name for name, meant in known.items() if not any(map(meant.fullmatch, found))}
    assert gone == set(), 'told, and no longer there'


COMMON = names_of(PAGE.partition('## In every file')[2].partition('## evaluate')[0])


@pytest.fixture
def run(command, tmp_path, tiny_card, monkeypatch):
    """Return a function that runs a verb with a model that takes no time: its JSON file."""
    monkeypatch.setattr(Segmenter, 'from_parameters', lambda *_, **__: Segmenter(
        load_card(tiny_card), WarmIsPerson()))

    def run(*words):
        code, _, err = command(*words, '--model', tiny_card, '--json', tmp_path / 'all.json')
        assert code in (0, 1), err
        return json.loads((tmp_path / 'all.json').read_text(encoding='utf-8'))
    return run


@pytest.fixture
def frames(tmp_path, write_frames):
    """Return a folder of labelled pairs, one by day and one at night, with boxes."""
    folder = write_frames(tmp_path / 'frames', 2, SIZE)
    (folder / 'boxes').mkdir()
    for old, new in (('a0', '00D'), ('a1', '01N')):
        for path in folder.rglob(f'{old}.png'):
            path.rename(path.with_stem(new))
        (folder / 'boxes' / f'{new}.txt').write_text('2 0.5 0.5 1 1')
    return folder


def test_evaluate(run, frames, write_frames, tmp_path):
    # A manifest tells that frames follow each other.
    film = write_frames(tmp_path / 'film', 5, SIZE)
    (film / 'manifest.jsonl').write_text('\n'.join(json.dumps({
        'name': f'a{i}', 'bag': 'a', 'x': {'stamp': {'sec': 7, 'nanosec': i * 10 ** 8}}})
        for i in range(5)) + '\n')
    check('evaluate', run('evaluate', '--data', film, '--sweep', 'lag'),
          run('evaluate', '--data', frames, '--disagreement', '--sweep', 'shift', 'lost'))


def test_replay_and_a_fleet(run, frames, command, tmp_path, monkeypatch):
    dark, bright = tmp_path / 'dark', write_bag(tmp_path / 'bright', [
        message for i in range(3) for message in (
            ('/rgb/image', rgb_message(i)), ('/ground_truth/mask', label_message(i)),
            *[('/x/image', x_message(i))] * (i < 2))])
    assert command('make-bag', frames, dark)[0] == 0
    check('replay', run('replay', bright, '--disagreement'))
    monkeypatch.setattr('rgbx_seg_ros.replay.command.run_here', run_inline)
    fleet = run('replay', dark, bright, tmp_path / 'none', '-o', tmp_path / 'fleet')
    shared = fleet['totals'].keys()
    assert all(shared <= bag.keys() for bag in fleet['bags'])
    check('A fleet', {**fleet, 'bags': [
        {name: bag[name] for name in bag.keys() - shared} for bag in fleet['bags']]})


def test_extract(run, frames, command, tmp_path, tiny_card):
    bag, out = tmp_path / 'bag', tmp_path / 'out'
    assert command('make-bag', frames, bag)[0] == 0
    assert command('extract', bag, '--out', out, '--min-change', '0.1', '--hardest', '2',
                   '--model', tiny_card)[0] == 0
    lines = (out / 'manifest.jsonl').read_text(encoding='utf-8').splitlines()
    check('extract', dict.fromkeys(COMMON), *map(json.loads, lines))
    scores = json.loads((out / 'scores.jsonl').read_text(encoding='utf-8').splitlines()[0])
    assert scores.keys() == {'name', 'confidence', 'disagreement', 'flicker'}


def test_benchmark(command, frames, tmp_path, tiny_card, monkeypatch):
    monkeypatch.setitem(roofline._SIDE, 'cpu', 128)
    monkeypatch.setitem(roofline._COPIED, 'cpu', 1 << 20)
    monkeypatch.setattr(benchmark, 'measure_footprint', lambda *_: Footprint(100.0, 345.6))
    found = []
    for words in (['--model', tiny_card, '--data', frames], ['--projection']):
        file = tmp_path / f'{len(found)}.json'
        assert command('benchmark', *words, '--frames', '1', '--device', 'cpu',
                       '--json', file)[0] == 0
        found.append(json.loads(file.read_text(encoding='utf-8')))
    one = Run.of(10.0, [1, 2, 3], {1: 2, 2: 3})
    live = Result('m', 'torch', 'cpu', 'dds', '8x8', 2, 1.0, one, (one,), (one,))
    check('benchmark', *found, json.loads(json.dumps(asdict(live))))
