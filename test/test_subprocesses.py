# Copyright 2026 rgbx_seg_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""A new Python imports what this one does, and nothing from the working folder."""

import ast
import json
import os
from pathlib import Path
import subprocess

import pytest
import rgbx_seg_ros
from rgbx_seg_ros.subprocesses import python_command

PACKAGE = Path(rgbx_seg_ros.__file__).parent
PLANTED = ('tempfile', 'json', 'pkgutil', 'ctypes', 'torch', 'numpy', 'runpy')


@pytest.fixture
def trap(tmp_path, monkeypatch):
    """Let the working folder hold modules that leave a trace where they are imported."""
    for name in (*PLANTED, 'rgbx_seg_ros'):
        (tmp_path / f'{name}.py').write_text(
            f"open({str(tmp_path / 'trace')!r}, 'a').write({name!r})\n")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize('variables', [{}, {'PYTHONSAFEPATH': '1'}])
def test_nothing_is_imported_from_the_working_folder(variables, trap):
    done = subprocess.run(python_command('tempfile:gettempdir'), env={**os.environ, **variables},
                          stderr=subprocess.PIPE, text=True)
    assert done.stderr.startswith('/')  # what is not a number, sys.exit prints
    assert not (trap / 'trace').exists()


def test_the_package_is_the_one_that_runs_here_and_arguments_arrive(trap, monkeypatch):
    (trap / 'copy' / 'rgbx_seg_ros').mkdir(parents=True)
    (trap / 'copy' / 'rgbx_seg_ros' / '__init__.py').write_text(
        'import json, sys\n'
        'def tell():\n'
        '    print(json.dumps([__file__, sys.argv]))\n'
        '    return 7\n')
    monkeypatch.setattr('rgbx_seg_ros.subprocesses.__file__',
                        str(trap / 'copy' / 'rgbx_seg_ros' / 'subprocesses.py'))
    done = subprocess.run(python_command('rgbx_seg_ros:tell', 1, '--a b'), stdout=subprocess.PIPE)
    assert done.returncode == 7
    file, argv = json.loads(done.stdout)
    assert file == str(trap / 'copy' / 'rgbx_seg_ros' / '__init__.py')
    assert argv[1:] == ['1', '--a b']
    assert not (trap / 'trace').exists()


def test_nothing_else_in_the_package_starts_python():
    for path in PACKAGE.rglob('*.py'):
        names = {node.attr if isinstance(node, ast.Attribute) else getattr(node, 'id', '')
                 for node in ast.walk(ast.parse(path.read_text(encoding='utf-8')))}
        starts = names & {'multiprocessing', 'ProcessPoolExecutor', 'posix_spawn', 'system'}
        if path.name not in ('subprocesses.py', 'doctor.py', 'errors.py'):  # these two print it
            starts |= names & {'executable'}
        assert not starts, f'{path} has {starts}: take subprocesses.python_command'
