# Copyright 2026 rgbx_seg_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""Every command in README works, or names only things that exist."""

import ast
from pathlib import Path
import re
import shlex
import subprocess
import sys

import cv2
import numpy as np
import pytest
from rgbx_seg_ros.__main__ import main
from rgbx_seg_ros.benchmark import benchmark, roofline
from rgbx_seg_ros.benchmark.stages import Footprint
from rgbx_seg_ros.cards.card import load_card
from rgbx_seg_ros.datasets import FolderDataset
from rgbx_seg_ros.inference.segmenter import Segmenter
from rgbx_seg_ros.inference.self_test import self_test
from rgbx_seg_ros.networks import build
from rgbx_seg_ros.parameters import markdown_table
from rgbx_seg_ros.training.config import load_config
from rgbx_seg_ros.weights.checkpoint import save_weights
import torch

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / 'README.md').read_text(encoding='utf-8')


def blocks(language):
    """Return the code blocks of README in that language."""
    return re.findall(rf'^```{language}\n(.*?)^```', README, re.MULTILINE | re.DOTALL)


COMMANDS = [line.partition('  #')[0].strip() for block in blocks('bash')
            for line in block.splitlines() if line.strip()]


@pytest.fixture(scope='module')
def workplace(tmp_path_factory):
    """Make the files that README's examples name, from the demo's frames."""
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
    """Check the launch file and that it declares the arguments given."""
    assert words[:2] == ['launch', 'rgbx_seg_ros']
    declared = set()
    for name in {words[2], 'seg.launch.py'}:
        tree = ast.parse((ROOT / 'launch' / name).read_text(encoding='utf-8'))
        declared |= {node.value for node in ast.walk(tree) if isinstance(node, ast.Constant)}
    for word in words[3:]:
        assert word.partition(':=')[0] in declared or word == '--show-args'


def check_export(words, workplace, monkeypatch):
    assert (ROOT / words[0].rpartition('rgbx_seg_ros)/')[2]).is_file()


HOW = {'make': check_make, 'rosdep': check_rosdep, 'pip': check_pip, 'python3': check_python,
       '.': check_source, 'ros2': check_ros2, 'export': check_export, 'rgbx-seg': run_rgbx_seg}


@pytest.mark.parametrize('command', COMMANDS)
def test_every_command_works(command, workplace, monkeypatch):
    if command.startswith('export'):
        return check_export([command], workplace, monkeypatch)
    program, *words = shlex.split(command)
    HOW[program](words, workplace, monkeypatch)


def test_the_python_example_works(workplace):
    rgb = FolderDataset(ROOT / 'demo')[0].rgb
    names = {'rgb': rgb, 'thermal': rgb[..., 0].copy()}
    exec('\n'.join(blocks('python')), names)  # the example itself
    assert names['result'].mask.shape == rgb.shape[:2]


def test_the_parameter_table_is_that_of_the_node():
    table = README.partition('held by a test -->\n')[2].partition('\n<!--')[0]
    assert table == markdown_table()


def test_every_link_leads_to_a_file():
    for target in re.findall(r'\]\((?!http)([^)#]+)', README):
        assert (ROOT / target).exists(), target
