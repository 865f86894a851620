# Copyright 2026 rgbx_seg_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""
The state of a training on disk, which survives a kill at any moment.

A state is written beside the last one, forced onto the disk and then takes its name, and the last
one is kept under another. What is damaged all the same is noticed by its checksums.
"""

from pathlib import Path
import pickle
import zipfile

from rgbx_seg_ros.errors import DataError
from rgbx_seg_ros.files import appearing, remove_parts
import torch

LAST, PREVIOUS = 'last.pt', 'previous.pt'


def write_state(state: dict, folder: Path) -> None:
    """Write `state` to `folder`; the one written before stays beside it."""
    remove_parts(folder / LAST)
    try:
        with appearing(folder / LAST, folder / PREVIOUS) as part, part.open('wb') as file:
            torch.save(state, file)
    except (OSError, RuntimeError) as error:
        # PyTorch tells of a write that failed in words of its own, the last one behind it.
        cause = error if isinstance(error, OSError) else error.__context__
        if not isinstance(cause, OSError):
            raise
        raise DataError(
            f'cannot write {str(folder / LAST)!r}: {cause.strerror}; make room, then the same '
            'command goes on from the last state that is whole') from error


def read_state(folder: Path) -> tuple[dict, Path] | None:
    """
    Return the newest whole state in `folder`, on the CPU, and its path; None where there is none.

    Raise DataError where none of those that are there is whole.
    """
    paths = [path for path in (folder / LAST, folder / PREVIOUS) if path.exists()]
    cause = None
    for path in paths:
        try:
            return _read(path), path
        except (RuntimeError, LookupError, TypeError, ValueError, EOFError, OSError,
                pickle.UnpicklingError, zipfile.BadZipFile) as error:
            cause = cause or error
    if paths:
        raise not_this_training(paths[0]) from cause
    return None


def not_this_training(path: Path) -> DataError:
    """Return the error for a file that holds no state, or that of something else."""
    return DataError(f'{str(path)!r} is not the state of this training: remove it to start anew')


def _read(path):
    with zipfile.ZipFile(path) as file:  # torch does not look at the checksums that it writes
        damaged = file.testzip()
    if damaged:
        raise ValueError(f'{damaged!r} is damaged')
    state = torch.load(path, map_location='cpu', weights_only=True)
    if not isinstance(state, dict):
        raise TypeError(type(state).__name__)
    return state
