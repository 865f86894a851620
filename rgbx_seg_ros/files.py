# Copyright 2026 rgbx_seg_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""Files that are written: whole or not at all, and never over what they are made from."""

from collections.abc import Generator, Iterable
import contextlib
import json
import os
from pathlib import Path

from rgbx_seg_ros.errors import DataError

JSON_FORMAT = 1
"""
Of the files of `evaluate`, `replay` and `benchmark`, one more when a name in one of them goes or
means something else; not when one is added.
"""


@contextlib.contextmanager
def appearing(path: str | Path) -> Generator[Path, None, None]:
    """
    Give a path beside `path`, whose file takes its name if all goes well, and else vanishes.

    It is forced onto the disk before, so that after a loss of power there is the old file or the
    new one. The ending is that of `path`, for libraries that go by it. A link stays one; a pipe or
    a device, such as /dev/stdout, is written as it is.
    """
    path = Path(os.path.realpath(path))
    if path.exists() and not path.is_file():
        yield path
        return
    part = path.with_name(f'.{path.stem}.{os.getpid()}.part{path.suffix}')
    try:
        yield part
        _sync(part)
        os.replace(part, path)
        _sync(path.parent)
    finally:
        part.unlink(missing_ok=True)


def _sync(path: Path) -> None:
    """Force a file onto the disk, or the names of the files in a folder."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    except OSError:  # some file systems cannot, for folders
        pass
    finally:
        os.close(handle)


def write_text(path: Path, text: str) -> None:
    """
    Write a whole file in UTF-8; raise DataError where that cannot be.

    What of a file name is no UTF-8 stands escaped in it.
    """
    try:
        with appearing(path) as part:
            part.write_text(text, encoding='utf-8', errors='backslashreplace')
    except OSError as error:
        raise DataError(f'cannot write {str(path)!r}: {error.strerror}') from error


def write_json(path: Path, facts: dict) -> None:
    """Write `facts` and their format as a whole file; raise DataError where that cannot be."""
    write_text(path, json.dumps({'format': JSON_FORMAT, **facts}, indent=2) + '\n')


def check_output(path: Path, inputs: Iterable[Path] = ()) -> None:
    """Raise DataError where `path` cannot be written, or is one of the `inputs`."""
    if not path.parent.is_dir():
        raise DataError(f'cannot write {str(path)!r}: its folder does not exist')
    if path.is_dir():
        raise DataError(f'cannot write {str(path)!r}: it is a folder, name a file in it')
    if path.exists() and any(one.exists() and path.samefile(one) for one in inputs):
        raise DataError(f'cannot write {str(path)!r}: it is what is read, choose another name')
