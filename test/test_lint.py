# Copyright 2026 rgbx_seg_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""Style: ruff, and flake8 with the settings and the plugins of ament_flake8 and ament_pep257."""

from importlib.metadata import entry_points
from pathlib import Path
import subprocess
import sys

import pytest

ROOT = Path(__file__).parents[1]
# By the prefix of their codes. ament's seventh and eighth, flake8-blind-except and
# flake8-deprecated, are what ruff's BLE and UP do.
AMENT_PLUGINS = {'A00', 'C4', 'CNL100', 'D', 'I', 'Q0'}


def run(*command, code=None):
    """Run a module of this Python in the checkout; return its exit code and what it said."""
    done = subprocess.run(
        [sys.executable, '-m', *command], cwd=ROOT, input=code, stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT, text=True)
    return done.returncode, done.stdout


def check_as_module(linter, code):
    """Check code as if it stood in a module of the package."""
    options = {'ruff': ['check', '--no-cache', '--stdin-filename', 'rgbx_seg_ros/new.py', '-'],
               'flake8': ['--stdin-display-name', 'rgbx_seg_ros/new.py', '-']}
    return run(linter, *options[linter], code=f'"""A module."""\n\n\n{code}\n')


def test_flake8_runs_the_plugins_of_ament():
    pytest.importorskip('flake8', reason='flake8 comes with requirements/lock.txt')
    plugins = {point.name for point in entry_points(group='flake8.extension')}
    assert plugins >= AMENT_PLUGINS


@pytest.mark.parametrize('linter', ['ruff', 'flake8'])
@pytest.mark.parametrize('code', [
    'import sys',  # not used
    f"text = '{91 * 'x'}'",  # 100 columns
    'text=1',  # no space around the operator
    'text = "one"',
    'def list():\n    """Hide a builtin."""',
    'def add():\n    """adds."""',  # no capital letter, not imperative
    'import torch\n\nimport rgbx_seg_ros\n\nprint(torch, rgbx_seg_ros)',
], ids=['unused import', 'long line', 'white space', 'quotes', 'builtin', 'docstring',
        'import order'])
def test_both_linters_see_what_ament_would_reject(linter, code):
    pytest.importorskip(linter, reason=f'{linter} comes with requirements/lock.txt')
    status, said = check_as_module(linter, code)
    assert status == 1, said


@pytest.mark.parametrize(('code', 'found'), [
    ('class Frame:\n    def show(self):\n        return self', 'CNL100'),
    # ruff lets these two be of different quotes.
    ('text = ("one "\n        "and \'two\'")', 'Q000'),
], ids=['class', 'quotes'])
def test_flake8_sees_what_ruff_does_not_and_ament_would_reject(code, found):
    for linter in ('flake8', 'ruff'):
        pytest.importorskip(linter, reason=f'{linter} comes with requirements/lock.txt')
    status, said = check_as_module('flake8', code)
    assert status == 1 and f' {found} ' in said
    assert check_as_module('ruff', code)[0] == 0


@pytest.mark.parametrize('linter', ['ruff', 'flake8'])
def test_both_linters_take_our_imports_among_the_others_by_the_alphabet(linter):
    pytest.importorskip(linter, reason=f'{linter} comes with requirements/lock.txt')
    status, said = check_as_module(
        linter, 'import numpy\nfrom rgbx_seg_ros import card\nimport torch\n\n'
                'print(numpy, card, torch)')
    assert status == 0, said
