# Copyright 2026 rgbx_seg_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""
Files that are listed, without hidden ones.

Files that are written: whole or not at all, and never over what a user has.
"""

from collections.abc import Generator, Iterable
import contextlib
import glob
import json
import os
from pathlib import Path
import shutil

from rgbx_seg_ros.errors import DataError

JSON_FORMAT = 1
"""
Of the files of `evaluate`, `replay` and `benchmark`, one more when a name in one of them goes or
means something else; not when one is added.
"""
MARK = 'Written by rgbx-seg'
"""Stands in every file that a verb writes over without asking, and so may write over again."""
RERUN_NAME = 'rgbx_seg_ros'
"""The application that has written a recording of Rerun."""
_MARKS = (MARK.lower().encode(), b'"source_sha256":"', b'rgbx_seg_ros.weights_sha256',
          bytes([10, len(RERUN_NAME)]) + RERUN_NAME.encode())
"""
In lower case, as rasterio writes comments in capitals. The others stand in the metadata of
imported weights, and of an exported model, and as a field of Protobuf before each message of a
recording of Rerun.
"""
_PART = '.{}.{}.part{}'
_SEARCHED = 1 << 20
"""A mark stands in so many bytes from the start or the end of a file."""


@contextlib.contextmanager
def appearing(path: str | Path, previous: Path | None = None) -> Generator[Path, None, None]:
    """
    Give a path beside `path`, whose file takes its name if all goes well, and else vanishes.

    It is forced onto the disk before, so that after a loss of power there is the old file or the
    new one; the old one is then found at `previous`, if that is given. The ending is that of
    `path`, for libraries that go by it. A link stays one; a pipe or a device, such as /dev/stdout,
    is written as it is.
    """
    path = Path(os.path.realpath(path))
    if path.exists() and not path.is_file():
        yield path
        return
    part = path.with_name(_PART.format(path.stem, os.getpid(), path.suffix))
    try:
        yield part
        _sync(part)
        if previous is not None and path.exists():
            os.replace(path, previous)
        os.replace(part, path)
        _sync(path.parent)
    except OSError as error:
        error.filename = str(path)  # a full disk names none, and nobody knows of the part
        raise
    finally:
        part.unlink(missing_ok=True)


@contextlib.contextmanager
def staging(folder: Path) -> Generator[Path, None, None]:
    """
    Give a new, hidden folder beside `folder`, for files that shall be in that, all or none.

    `move_in` brings them there; what is left vanishes.
    """
    folder = Path(os.path.realpath(folder))
    part = folder.with_name(_PART.format(folder.name, os.getpid(), ''))
    part.mkdir()
    try:
        yield part
    finally:
        shutil.rmtree(part, ignore_errors=True)


def move_in(part: Path, folder: Path) -> None:
    """Give the staged `part` the name of `folder`, or, where that is there, move its files in."""
    folder = Path(os.path.realpath(folder))
    if not folder.exists():
        os.rename(part, folder)
    else:
        for path in sorted(part.iterdir()):
            os.replace(path, folder / path.name)
        _sync(folder)
    _sync(folder.parent)


def remove_parts(path: Path) -> None:
    """Remove what processes that were killed have left of `path`, which only this one writes."""
    for part in path.parent.glob(_PART.format(glob.escape(path.stem), '*', path.suffix)):
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


def visible(folder: Path) -> list[Path]:
    """
    Return what lies in a folder by name, without what is hidden.

    Among the hidden are the ._NAME.png that macOS leaves beside each file on other disks.
    """
    return [path for path in sorted(folder.iterdir()) if not path.name.startswith('.')]


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
    facts = {'format': JSON_FORMAT, 'comment': MARK, **facts}
    write_text(path, json.dumps(facts, indent=2) + '\n')


def check_outputs(paths: Iterable[Path | None], inputs: Iterable[Path] = ()) -> None:
    """
    Raise DataError unless all of `paths` but None can be written over without a loss.

    None may be one of the `inputs`, or another one of them, or be a file that no verb has written.
    """
    inputs, seen = list(inputs), set()
    for path in filter(None, paths):
        check_place(path)
        name = os.path.realpath(path)
        if name in seen and not _is_special(path):
            raise DataError(f'cannot write {str(path)!r}: it is named for two outputs')
        seen.add(name)
        if any(one.exists() and path.exists() and path.samefile(one) for one in inputs):
            raise DataError(f'cannot write {str(path)!r}: it is what is read, choose another name')
        if path.is_file() and not _is_marked(path):
            raise DataError(f'cannot write {str(path)!r}: it exists already and is of no rgbx-seg '
                            'command, remove it or choose another name')


def _is_special(path: Path) -> bool:
    """Return whether `path` is a pipe or a device, which takes several outputs."""
    return path.exists() and not path.is_file()


def _is_marked(path: Path) -> bool:
    """Return whether a verb has written the file, or nobody anything yet."""
    with path.open('rb') as file:
        start = file.read(_SEARCHED).lower()
        file.seek(max(0, path.stat().st_size - _SEARCHED))
        end = file.read(_SEARCHED).lower()
    return not start or any(mark in part for mark in _MARKS for part in (start, end))


def check_place(path: Path) -> None:
    """Raise DataError where there can be no file `path`."""
    if not path.parent.is_dir():
        raise DataError(f'cannot write {str(path)!r}: its folder does not exist')
    if path.is_dir():
        raise DataError(f'cannot write {str(path)!r}: it is a folder, name a file in it')
