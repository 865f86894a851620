# Copyright 2026 rgbx_seg_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""The files of this checkout, and what its code imports."""

import ast
import os
from pathlib import Path
import sys

ROOT = Path(__file__).parents[2]
NAME = 'rgbx_seg_ros'

# What is made in a checkout and belongs to nobody.
MADE = {'.git', '.venv', '.venv-docs', '__pycache__', '.pytest_cache', '.hypothesis',
        '.ruff_cache', 'build', 'install', 'log', 'out'}


def checkout_files(pattern):
    """Return the files of the checkout that match, without those that were made in it."""
    found = []
    for folder, subfolders, files in os.walk(ROOT):
        subfolders[:] = [name for name in subfolders
                         if name not in MADE and not name.endswith('.egg-info')]
        found += [Path(folder, name) for name in files if Path(name).match(pattern)]
    return found


def imported_libraries(folder):
    """Return the top-level names that the code of a folder imports."""
    names = set()
    for path in folder.rglob('*.py'):
        for node in ast.walk(ast.parse(path.read_text(encoding='utf-8'))):
            if isinstance(node, ast.Import):
                names.update(alias.name.split('.')[0] for alias in node.names)
            elif isinstance(node, ast.ImportFrom):
                names.add(node.module.split('.')[0])
    return names - sys.stdlib_module_names - {NAME}
