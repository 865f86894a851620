# Copyright 2026 rgbx_seg_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""Style: ruff, and flake8 with the settings and the plugins of ament_flake8 and ament_pep257."""

from importlib.metadata import entry_points
from pathlib import Path
import subprocess
import sys

import pytest

ROOT = Path(__file__).parents[1]
# By the prefix of their codes. ament's sixth, flake8-quotes, is what ruff's Q does.
AMENT_PLUGINS = {'A00', 'C4', 'D', 'I'}


def run(*command):
    """Run a module of this Python in the checkout; return its exit code and what it said."""
    done = subprocess.run(
        [sys.executable, '-m', *command], cwd=ROOT, stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT, text=True)
    return done.returncode, done.stdout


@pytest.mark.parametrize('command', [('ruff', 'check', '.'), ('flake8', '.')], ids=' '.join)
def test_the_whole_tree_is_clean(command):
    pytest.importorskip(command[0], reason=f'{command[0]} comes with requirements/lock.txt')
    code, said = run(*command)
    assert code == 0, said


def test_flake8_runs_the_plugins_of_ament():
    pytest.importorskip('flake8')
    plugins = {point.name for point in entry_points(group='flake8.extension')}
    assert plugins >= AMENT_PLUGINS


@pytest.mark.parametrize('command', ['ruff', 'flake8'])
@pytest.mark.parametrize('line', [
    'import sys',  # not used
    f"text = '{91 * 'x'}'",  # 100 columns
    'text=1',  # no space around the operator
    'def list():\n    """Hide a builtin."""',
    'def add():\n    """adds."""',  # neither a capital letter nor imperative
    'import torch\nimport rgbx_seg_ros\n\nprint(torch, rgbx_seg_ros)',  # not by the alphabet
], ids=['unused import', 'long line', 'white space', 'builtin', 'docstring', 'import order'])
def test_both_linters_see_what_ament_would_reject(command, line, tmp_path):
    pytest.importorskip(command)
    path = tmp_path / 'wrong.py'
    path.write_text(f'"""A module."""\n\n{line}\n')
    options = (['check', '--no-cache', '--config', 'pyproject.toml'] if command == 'ruff'
               else ['--config', 'setup.cfg'])
    code, said = run(command, *options, str(path))
    assert code == 1, said
