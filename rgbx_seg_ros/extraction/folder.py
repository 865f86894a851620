# Copyright 2026 rgbx_seg_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""
The folder that extract writes: a data set, with a manifest that leads back into the bags.

    extraction.json   the bags, and what was asked for: the same command goes on
    manifest.jsonl    a line for each pair
    scores.jsonl      what a model makes of every pair that it may choose
    dataset.yaml      what X measures; yours from then on
    rgb/ thermal/     the frames; depth/, disparity/ or x/ in the place of thermal/

A line is written when both frames are on the disk, so the manifest never tells of a frame that
is not there.
"""

import json
import os
from pathlib import Path

from filelock import FileLock, Timeout
import numpy as np
from rgbx_seg_ros.datasets.folder import DESCRIPTION, MANIFEST
from rgbx_seg_ros.errors import DataError, MessageError, PictureError
from rgbx_seg_ros.files import appearing, check_outputs, MARK, write_json, write_text
from rgbx_seg_ros.frames.images import write_image
from rgbx_seg_ros.messages.compressed import decode_file, is_jpeg
from rgbx_seg_ros.pictures import read_header, with_comment

FACTS = 'extraction.json'
SCORES = 'scores.jsonl'
RGB_FORMATS = ('png', 'jpg')
_LOCK = '.lock'
_DATASET = """\
# {mark} extract; it does not write this file again. Masks go into label/ under
# the names of the frames; their classes are named here, see docs/datasets.md.
x_kind: {kind}
"""


def check_folder(path: Path) -> None:
    """Raise DataError unless `path` is a folder of extract, or can become one."""
    if os.path.lexists(path) and not path.is_dir():
        raise DataError(f'{str(path)!r} exists already and is no folder: choose another --out')
    if path.is_dir() and any(path.iterdir()) and not (path / FACTS).is_file():
        raise DataError(f'{str(path)!r} is not empty and has no {FACTS}: it is of no rgbx-seg '
                        'extract, choose another --out')


class JsonLines:
    """
    A file of JSON, a line each, that grows; a line that a killed process has cut off is dropped.

    Raise DataError where a line is none.
    """

    def __init__(self, path: Path):
        self._path = path
        content = path.read_bytes() if path.exists() else b''
        whole = content.rpartition(b'\n')[0].splitlines()
        try:
            self.lines = [json.loads(line) for line in whole]
        except ValueError as error:
            raise DataError(f'{str(path)!r} is damaged: {error}; choose another --out') from error
        # Without a buffer: what an interrupt stops must not be written later on.
        self._file = path.open('ab', buffering=0)
        self._file.truncate(sum(len(line) + 1 for line in whole))

    def add(self, facts: dict) -> None:
        """Write a line, whole when this returns; raise DataError where that cannot be."""
        line = json.dumps(facts).encode() + b'\n'
        try:
            is_whole = self._file.write(line) == len(line)
        except OSError as error:
            raise DataError(f'cannot write {str(self._path)!r}: {error.strerror}') from error
        if not is_whole:
            raise DataError(f'cannot write {str(self._path)!r}: the disk is full')

    def size(self) -> int:
        """Return the bytes in the file."""
        return self._path.stat().st_size

    def close(self) -> None:
        """Close the file."""
        self._file.close()


class Folder:
    """
    Writes pairs in a `with` block, or goes on where the same extraction was left.

    `facts` are what makes an extraction the same. Raise DataError for a folder of another one, and
    while another process writes it.
    """

    def __init__(self, path: Path, facts: dict, x_folder: str, x_kind: str | None,
                 rgb_format: str):
        self.path, self._facts = path, facts
        self._x_folder, self._x_kind = x_folder, x_kind
        self._rgb_format = rgb_format
        self._unsure: tuple[int, list[Path]] = 0, []

    def __enter__(self):
        check_folder(self.path)
        self.path.mkdir(parents=True, exist_ok=True)
        self._lock = FileLock(self.path / _LOCK)
        try:
            self._lock.acquire(timeout=0)
        except Timeout:
            raise DataError(f'{str(self.path)!r} is being written by another process: wait for it '
                            'or choose another --out') from None
        try:
            self._begin()
            self._manifest = JsonLines(self.path / MANIFEST)
        except BaseException:
            self._lock.release()
            raise
        self.names = {line['name'] for line in self._manifest.lines}
        """The pairs that are in the manifest."""
        return self

    def __exit__(self, kind, error, trace):
        try:
            self._remove_unsure()
            self._manifest.close()
        finally:
            self._lock.release()

    def add(self, name: str, message, rgb: np.ndarray, x: np.ndarray, facts: dict) -> None:
        """
        Write a pair and its line: the colour frame (H, W, 3), whose message it was, and X.

        `facts` gets the name and the files. Raise DataError where one of them cannot be written,
        or is of a user.
        """
        if x.ndim == 3 and x.shape[2] == 1:
            x = x[..., 0]
        files = {'rgb': f'rgb/{name}.{self._rgb_format}',
                 'x': f'{self._x_folder}/{name}.{"tiff" if x.dtype == np.float32 else "png"}'}
        paths = {modality: self.path / file for modality, file in files.items()}
        check_outputs(paths.values())
        self._unsure = self._manifest.size(), [*paths.values()]
        write_image(paths['x'], x)
        self._write_rgb(paths['rgb'], message, rgb)
        for modality, file in files.items():
            facts[modality] = {'file': file, **facts[modality]}
        self._manifest.add({'name': name, **facts})
        self._unsure = 0, []
        self.names.add(name)

    def _begin(self):
        """Write what is not there yet."""
        path = self.path / FACTS
        if path.exists():
            self._check_same(path)
        else:
            write_json(path, {'extraction': self._facts})
        for name in ('rgb', self._x_folder):
            (self.path / name).mkdir(exist_ok=True)
        if not (self.path / DESCRIPTION).exists():
            write_text(self.path / DESCRIPTION,
                       _DATASET.format(mark=MARK, kind=self._x_kind or 'null'))

    def _check_same(self, path):
        """Raise DataError unless the facts in a file are those of this extraction."""
        now = json.loads(json.dumps(self._facts))
        try:
            before = json.loads(path.read_text(encoding='utf-8'))['extraction']
            if before == now:
                return
        except (ValueError, LookupError, TypeError) as error:
            raise DataError(f'{str(path)!r} is damaged: {error}; choose another --out') from error
        name = next(name for name in {**before, **now} if before.get(name) != now.get(name))
        raise DataError(f'{str(self.path)!r} was extracted with {name} {before.get(name)!r}, now '
                        f'it is {now.get(name)!r}: give the same options to go on, or another '
                        '--out')

    def _write_rgb(self, path, message, rgb):
        """Write a colour frame; as JPEG the bytes that the camera has sent, where that can be."""
        if self._rgb_format == 'jpg' and hasattr(message, 'format'):
            data = bytes(message.data)
            if is_jpeg(data) and _shows(data := with_comment(data, MARK), rgb):
                with appearing(path) as part:
                    part.write_bytes(data)
                return
        write_image(path, rgb)

    def _remove_unsure(self):
        """Remove the frames of a pair whose line has not come into the manifest."""
        size, paths = self._unsure
        if paths and self._manifest.size() == size:
            for path in paths:
                path.unlink(missing_ok=True)


def _shows(data, rgb):
    """Return whether every reader sees these pixels in a JPEG, not turned and not in BGR."""
    try:
        pixels = np.atleast_3d(decode_file(data))[..., ::-1]
        return read_header(data).orientation == 1 and bool((pixels == rgb).all())
    except (MessageError, PictureError):
        return False
