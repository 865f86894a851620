# Copyright 2026 rgbx_seg_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""Functions of this package in a Python process of their own."""

from pathlib import Path
import sys

# `python -c` and `python -m` look in the working folder first, for the standard library as well,
# and anybody's tempfile.py may lie there. Option -P forbids that, but not in Python 3.10. Up to
# here only built-in modules and what starts with Python have been imported.
_CALL = """\
import sys
if sys.path[0] == '':
    del sys.path[0]
folder, function = sys.argv[1:3]
del sys.argv[1:3]
if folder not in sys.path:
    sys.path.insert(0, folder)
import pkgutil
sys.exit(pkgutil.resolve_name(function)())
"""


def python_command(function: str, *arguments: object) -> list[str]:
    """
    Return the command that calls a function, such as 'rgbx_seg_ros.module:name', in a new Python.

    It is this package that is imported there, and nothing comes from the working folder. The
    function finds `arguments` in sys.argv from 1 on; the exit status is what it returns.
    """
    folder = Path(__file__).absolute().parents[1]
    return [sys.executable, '-c', _CALL, *map(str, (folder, function, *arguments))]
