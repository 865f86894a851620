# Copyright 2026 rgbx_seg_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""Every command in README and on the pages that begin with it works, or names what exists."""

import ast
from functools import partial
from pathlib import Path
import re
import shlex
import subprocess
import sys
from textwrap import dedent

import cv2
import numpy as np
import pytest
from rgbx_seg_ros.__main__ import COMMANDS as VERBS
from rgbx_seg_ros.__main__ import main, parse
from rgbx_seg_ros.bags.make_bag import make_bag
from rgbx_seg_ros.benchmark import benchmark, roofline
from rgbx_seg_ros.benchmark.stages import Footprint
from rgbx_seg_ros.cards.card import load_card
from rgbx_seg_ros.datasets import FolderDataset
from rgbx_seg_ros.inference.segmenter import Segmenter
from rgbx_seg_ros.inference.self_test import self_test
from rgbx_seg_ros.networks import build
from rgbx_seg_ros.parameters import Parameters
from rgbx_seg_ros.training.config import load_config
from rgbx_seg_ros.weights.checkpoint import save_weights
import torch
import yaml

ROOT = Path(__file__).resolve().parents[1]
RUN = ('README.md', 'docs/laptop.md', 'docs/robot.md', 'docs/own_data.md',
       'docs/published_weights.md', 'docs/parameters.md')
"""The pages whose commands are run, all of them, as far as this machine can."""


def blocks(page, language):
    """Return the code blocks of a page in that language."""
    text = (ROOT / page).read_text(encoding='utf-8')
    return [dedent(block) for _, block in re.findall(
        rf'^( *)```{language}\n(.*?)^\1```', text, re.MULTILINE | re.DOTALL)]


def commands(page):
    """Return the lines of the code blocks that are typed into a shell."""
    return [line.partition('  #')[0].strip() for block in blocks(page, 'bash')
            for line in block.splitlines() if line.strip()]


COMMANDS = [*dict.fromkeys(command for page in RUN for command in commands(page))]


@pytest.fixture(scope='module')
def workplace(tmp_path_factory):
    """Make the files that the examples name, from the demo's frames."""
    folder = tmp_path_factory.mktemp('readme')
    demo = FolderDataset(ROOT / 'demo')
    for name in ('rgb', 'thermal', 'label'):
        (folder / 'frames' / name).mkdir(parents=True)
    for index in range(2):
        sample = demo[index]
        cv2.imwrite(str(folder / 'frames' / 'rgb' / f'{index}.png'), sample.rgb[..., ::-1])
        cv2.imwrite(str(folder / 'frames' / 'thermal' / f'{index}.png'), sample.x)
        cv2.imwrite(str(folder / 'frames' / 'label' / f'{index}.png'), np.zeros_like(sample.x))
    (folder / 'frames_2').symlink_to(folder / 'frames')
    (folder / 'demo').symlink_to(ROOT / 'demo')
    cv2.imwrite(str(folder / 'night.jpg'), sample.rgb[..., ::-1])
    cv2.imwrite(str(folder / 'night_thermal.png'), sample.x)
    return folder


def run_rgbx_seg(words, workplace, monkeypatch):
    monkeypatch.chdir(workplace)
    if words[0] == 'demo':
        pytest.skip('test_demo runs it')
    if words[0] in ('replay', 'extract') and not Path('my_bag').exists():
        make_bag(Path('frames'), Path('my_bag'))
    if words[0] == 'benchmark':
        # What of it takes seconds has its own tests: peaks of the device, memory of a process.
        monkeypatch.setitem(roofline._SIDE, 'cpu', 128)
        monkeypatch.setitem(roofline._COPIED, 'cpu', 1 << 20)
        monkeypatch.setattr(benchmark, 'measure_footprint', lambda *_: Footprint(100.0, 345.6))
    if words[0] == 'import-weights':
        card = load_card(words[words.index('--card') + 1])
        torch.save(build(card.network, len(card.classes)).state_dict(), words[1])
    if words[0] == 'train':
        # The recipe takes an hour and frames that are not here: one step of it on these.
        recipe = (ROOT / words[1]).read_text(encoding='utf-8')
        recipe = re.sub(r'exclude: \[.*?\]', '', recipe, flags=re.DOTALL)
        recipe = re.sub(r'epochs: \d+', 'epochs: 1', recipe)
        recipe = re.sub(r'batch_size: \d+', 'batch_size: 2', recipe)
        recipe = re.sub(r'crop: \[.*\]', 'crop: [64, 96]', recipe)
        (workplace / 'recipe.yaml').write_text(recipe, encoding='utf-8')
        weights = Path(words[words.index('--weights') + 1])
        if not weights.exists():  # what an import or a former step makes, which need not be here
            weights.parent.mkdir(parents=True, exist_ok=True)
            card = load_card(load_config('recipe.yaml').card)
            save_weights(build(card.network, len(card.classes)), weights)
        words = ['train', 'recipe.yaml', *words[2:]]
    monkeypatch.setattr(sys, 'argv', ['rgbx-seg', *words])
    assert main() == 0
    if words[0] == 'train':
        (card,) = Path(words[words.index('--out') + 1]).glob('msrs*.yaml')
        self_test(Segmenter.from_card(card, device='cpu'))  # which the node does as well


def check_make(words, workplace, monkeypatch):
    subprocess.run(['make', '-n', *words], cwd=ROOT, check=True, capture_output=True)


def check_pip(words, workplace, monkeypatch):
    """Check that what is installed by name is what the package asks for."""
    assert words.pop(0) == 'install'
    known = {re.split('[<>=]', line)[0]
             for line in (ROOT / 'requirements' / 'lock.txt').read_text().splitlines()}
    assert {re.split('[<>=]', word)[0] for word in words} <= known | {'.'}


def check_python(words, workplace, monkeypatch):
    assert words in (['-m', 'venv', '--system-site-packages', '.venv'],
                     ['-m', 'colcon', 'build', '--packages-select', 'rgbx_seg_ros'])


def check_rosdep(words, workplace, monkeypatch):
    assert words == ['install', '--from-paths', 'src', '--ignore-src', '-y']


def check_source(words, workplace, monkeypatch):
    assert words in (['.venv/bin/activate'], ['install/setup.bash'])


def check_ros2(words, workplace, monkeypatch):
    """Check the launch file and that it declares the arguments given, or the parameters."""
    if words[0] == 'launch':
        assert words[1] == 'rgbx_seg_ros'
        declared = set()
        for name in {words[2], 'seg.launch.py'}:
            tree = ast.parse((ROOT / 'launch' / name).read_text(encoding='utf-8'))
            declared |= {node.value for node in ast.walk(tree) if isinstance(node, ast.Constant)}
        for word in words[3:]:
            assert word.partition(':=')[0] in declared or word == '--show-args'
    elif words[0] == 'run':
        assert words[1:4] == ['rgbx_seg_ros', 'seg_node', '--ros-args']
        assert {*words[4::2]} == {'-p'}
        values = dict(word.split(':=') for word in words[5::2])
        Parameters.check({name: yaml.safe_load(value) for name, value in values.items()})
    else:
        assert words[:3] == ['param', 'set', f'/{Parameters.NODE_NAME}']
        Parameters.check({words[3]: yaml.safe_load(words[4])})
        assert Parameters.specs()[words[3]].metadata['runtime']


def check_export(words, workplace, monkeypatch):
    assert (ROOT / words[0].rpartition('rgbx_seg_ros)/')[2]).is_file()


HOW = {'make': check_make, 'rosdep': check_rosdep, 'pip': check_pip, 'python3': check_python,
       '.': check_source, 'ros2': check_ros2, 'export': check_export, 'rgbx-seg': run_rgbx_seg}


@pytest.mark.parametrize('command', [
    pytest.param(command, marks=[pytest.mark.long] if 'benchmark' in command else [])
    for command in COMMANDS])
def test_every_command_works(command, workplace, monkeypatch):
    if command.startswith('export'):
        return check_export([command], workplace, monkeypatch)
    program, *words = shlex.split(command)
    HOW[program](words, workplace, monkeypatch)


@pytest.mark.parametrize('page', sorted(
    path.relative_to(ROOT).as_posix() for path in (ROOT / 'docs').glob('*.md')))
def test_every_verb_on_a_page_is_called_with_options_that_it_has(page):
    """In code that is indented or without a language, too; what is left out is left out."""
    text = (ROOT / page).read_text(encoding='utf-8')
    lines = re.findall(r'^ *(?:\$ |torchrun .*? -m |.* run (?:--rm )?\S+ )?'
                       r'(?:rgbx-seg|rgbx_seg_ros) ((?:[a-z-]+) .*)$', text, re.MULTILINE)
    for words in map(partial(shlex.split, comments=True), lines):
        if words[0] in VERBS and '...' not in ' '.join(words):
            parse(words)


def test_readme_is_short():
    assert len((ROOT / 'README.md').read_text(encoding='utf-8').splitlines()) < 150


def test_the_python_example_works(workplace):
    rgb = FolderDataset(ROOT / 'demo')[0].rgb
    names = {'rgb': rgb, 'thermal': rgb[..., 0].copy()}
    exec('\n'.join(blocks('docs/laptop.md', 'python')), names)  # the example itself
    assert names['result'].mask.shape == rgb.shape[:2]
