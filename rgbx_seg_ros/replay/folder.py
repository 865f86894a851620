# Copyright 2026 rgbx_seg_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""
The folder of a fleet: what has been made of each bag, kept for the next call.

    results.json      all bags together
    NAME/result.json  what has been made of a bag; without its figures while it is in work
    NAME/masks/       a bag with its masks
    NAME/page.html    its page, if there is one

What has another name in it was not written by this program, and is left alone.
"""

from collections import Counter
from collections.abc import Iterable
import hashlib
import json
import os
from pathlib import Path
import re
import shutil
from typing import Any

from filelock import FileLock, Timeout
from rgbx_seg_ros import __version__
from rgbx_seg_ros.cards.card import Card
from rgbx_seg_ros.errors import DataError
from rgbx_seg_ros.files import check_outputs, remove_parts, visible, write_json
from rgbx_seg_ros.parameters import Parameters
from rgbx_seg_ros.replay.replay import USED
from rgbx_seg_ros.replay.worker import MASKS, PAGE, RESULT
from rgbx_seg_ros.weights.checkpoint import sha256

RESULTS = 'results.json'
_LOCK = '.lock'
_METADATA = 'metadata.yaml'
# The others are what a killed process leaves.
_OF_MASKS = re.compile(rf'{MASKS}\.(mcap|db3(-\w+)?)|{re.escape(_METADATA)}(\.tmp)?')


def bag_names(bags: Iterable[Path]) -> dict[str, Path]:
    """
    Return bags by the names of their folders, in the order of these.

    Bags of one name get a part of the hash of their path behind it, so that a name does not hang
    on the order. Raise DataError for a bag that is named twice.
    """
    paths = {bag.resolve(): bag for bag in bags}
    given = Counter(bag.resolve() for bag in bags)
    if twice := [paths[path] for path, count in given.items() if count > 1]:
        raise DataError(f'the bag {str(twice[0])!r} is named twice: name it once')
    names = {path: re.sub(r'[^\w-]+', '_', path.stem if path.is_file() else path.name,
                          flags=re.ASCII) for path in paths}
    counts = Counter(names.values())
    for path, name in names.items():
        if counts[name] > 1:
            digest = hashlib.sha256(os.fsencode(path)).hexdigest()[:8]
            names[path] = f'{name}-{digest}'
    return {name: paths[path] for path, name in sorted(names.items(), key=lambda one: one[1])}


def identity(bag: Path) -> dict[str, Any]:
    """Return what tells a bag from what it was before: its files, their sizes and times."""
    try:
        files = [path for path in (visible(bag) if bag.is_dir() else [bag]) if path.is_file()]
        metadata = bag / _METADATA
        return {'files': {os.fsencode(path.name).decode(errors='backslashreplace'):
                          [path.stat().st_size, path.stat().st_mtime_ns] for path in files},
                'metadata_sha256': sha256(metadata) if metadata.is_file() else None}
    except OSError:  # whoever reads it says why
        return {'files': {}, 'metadata_sha256': None}


def setting(card: Card, parameters: Parameters, options: dict[str, Any]) -> dict[str, Any]:
    """Return all but the bag that a result hangs on, by names for the user."""
    values = {name: value for name, value in parameters.to_ros().items()
              if name in USED and name not in ('model', 'tune_allocator')}
    return {'version': __version__, 'model': card.name,
            'card': sha256(card.path) if card.path.is_file() else None,
            'weights': sha256(card.weights_path) if card.weights_path else None,
            **values, **options}


class RunFolder:
    """
    The folder of a fleet, held in a `with` block.

    It is a new one, an empty one or, to `resume`, one of a fleet. Raise DataError for any other,
    and while another process works in it.
    """

    def __init__(self, path: Path, resume: bool):
        self.path, self._resume = path, resume

    def __enter__(self):
        self.check()
        self.path.mkdir(exist_ok=True)
        self._lock = FileLock(self.path / _LOCK)
        try:
            self._lock.acquire(timeout=0)
        except Timeout:
            raise DataError(f'in {str(self.path)!r} another process is at work: wait for it or '
                            'choose another --out') from None
        return self

    def __exit__(self, kind, error, trace):
        self._lock.release()

    def check(self) -> None:
        """Raise DataError where the folder is of somebody else, or of a fleet that is done."""
        path, results = self.path, self.path / RESULTS
        if os.path.lexists(path) and not path.is_dir():
            raise DataError(f'{str(path)!r} exists already and is no folder: choose another --out')
        if not path.parent.is_dir():
            raise DataError(f'cannot make {str(path)!r}: its folder does not exist')
        if not path.is_dir() or not visible(path):
            return
        check_outputs([results])
        if not results.is_file():
            raise DataError(f'{str(path)!r} is not empty and has no {RESULTS}: it is of no fleet, '
                            'choose another --out')
        if not self._resume:
            raise DataError(f'{str(path)!r} holds the results of a fleet: go on with --resume, or '
                            'choose another --out')

    def result(self, name: str) -> dict[str, Any] | None:
        """Return what has been made of a bag; None where it is missing or was left half done."""
        try:
            facts = json.loads((self.path / name / RESULT).read_text(encoding='utf-8'))
            return facts if 'sums' in facts else None
        except (FileNotFoundError, NotADirectoryError):
            return None
        except (ValueError, TypeError) as error:
            raise DataError(f'{str(self.path / name / RESULT)!r} is damaged: {error}; remove it, '
                            'or choose another --out') from error

    def why_again(self, name: str, facts: dict[str, Any]) -> str | None:
        """Say why a bag with these facts is to be done again; empty: it is not; None: at first."""
        before = self.result(name)
        if before is None:
            return None
        now = json.loads(json.dumps(facts))
        if before.get('identity') != now['identity']:
            return _changed_files(before.get('identity') or {}, now['identity'])
        old, new = before.get('setting') or {}, now['setting']
        for key in sorted({*old, *new}):
            if old.get(key) != new.get(key):
                if key in ('card', 'weights'):
                    return f'the {key} of the model changed'
                return f'{key} is {new.get(key)!r}, was {old.get(key)!r}'
        if not (self.path / name / MASKS).is_dir():
            return 'its masks are not there'
        return ''

    def prepare(self, name: str) -> Path:
        """Return the folder of a bag, emptied of what was made before, and marked as in work."""
        folder = self.path / name
        self.check_bag(name)
        shutil.rmtree(folder / MASKS, ignore_errors=True)
        (folder / PAGE).unlink(missing_ok=True)
        folder.mkdir(exist_ok=True)
        write_json(folder / RESULT, {'in_work': True})
        return folder

    def check_bag(self, name: str) -> None:
        """Raise DataError unless all in the folder of a bag is what a fleet has written there."""
        folder = self.path / name
        if os.path.lexists(folder) and (folder.is_symlink() or not folder.is_dir()):
            raise DataError(f'{str(folder)!r} is in the way: it is no folder of this fleet, move '
                            'it or choose another --out')
        if not folder.is_dir():
            return
        for name_of_file in (RESULT, PAGE):
            remove_parts(folder / name_of_file)
        here, masks = {path.name for path in folder.iterdir()}, folder / MASKS
        foreign = here - {RESULT, MASKS, PAGE} if RESULT in here else here
        if masks.is_symlink():
            foreign.add(MASKS)
        elif masks.is_dir():
            foreign |= {f'{MASKS}/{path.name}' for path in masks.iterdir()
                        if not _OF_MASKS.fullmatch(path.name)}
        if foreign:
            raise DataError(f'{str(folder / min(foreign))!r} is in the way: no fleet has written '
                            'it, move it or choose another --out')
        check_outputs([folder / RESULT, folder / PAGE])


def _changed_files(old, new):
    """Say which file of a bag is another one."""
    theirs, ours = old.get('files', {}), new['files']
    for name in sorted({*theirs, *ours}):
        if theirs.get(name) != ours.get(name):
            if name not in theirs or name not in ours:
                return f'its file {name!r} {"is new" if name in ours else "is gone"}'
            (was, _), (now, _) = theirs[name], ours[name]
            return (f'its file {name!r} has changed' if was == now else
                    f'its file {name!r} has {now} bytes, had {was}')
    return f'its {_METADATA} has changed'
