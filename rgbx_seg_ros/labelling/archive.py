# Copyright 2026 rgbx_seg_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""What a labelling tool exports, a zip or the folder that it was unpacked to, file by file."""

from functools import cached_property
import os
from pathlib import Path, PurePosixPath
import zipfile
import zlib

from rgbx_seg_ros.errors import DataError

_DAMAGED = (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError)
"""What zipfile raises for a file that is no zip, damaged, packed in an odd way or encrypted."""
_MODE = 0o644 << 16


class Archive:
    """
    The files of a zip or a folder by their paths in it, which have / between their parts.

    Nothing is unpacked to the disk. Raise DataError for what is neither.
    """

    def __init__(self, path: Path):
        self.path = path
        self._zip: zipfile.ZipFile | None = None
        if path.is_dir():
            return
        try:
            self._zip = zipfile.ZipFile(path)
        except OSError as error:
            raise DataError(f'cannot read {str(path)!r}: {error.strerror}') from error
        except _DAMAGED as error:
            raise DataError(f'{str(path)!r} is neither a folder nor a zip that can be read: '
                            f'{error}') from error

    def __enter__(self):
        return self

    def __exit__(self, kind, error, trace):
        if self._zip is not None:
            self._zip.close()

    @cached_property
    def names(self) -> list[str]:
        """The paths of all files but hidden ones; raise DataError for one that leads out."""
        if self._zip is None:
            found = [(Path(folder) / name).relative_to(self.path).as_posix()
                     for folder, _, names in os.walk(self.path) for name in names]
        else:
            found = [self.checked(info.filename) for info in self._zip.infolist()
                     if not info.is_dir()]
        twice = next((a for a, b in zip(sorted(found), sorted(found)[1:], strict=False)
                      if a == b), None)
        if twice is not None:
            raise DataError(f'{str(self.path)!r} holds the file {twice!r} twice')
        # macOS leaves ._NAME.png beside each file, and __MACOSX/ in each zip.
        return sorted(name for name in found
                      if not any(part.startswith(('.', '__MACOSX')) for part in name.split('/')))

    def checked(self, name: str) -> str:
        """Return the path of a file; raise DataError for one that leads out of the archive."""
        parts = name.replace('\\', '/').split('/')  # some programs on Windows write these
        if not parts[0] or '..' in parts or ':' in parts[0] or '\0' in name:
            raise DataError(f'{str(self.path)!r} names the file {name!r}, which lies outside of '
                            'it: make the archive anew')
        return '/'.join(part for part in parts if part != '.')

    def has(self, name: str) -> bool:
        """Return whether there is such a file."""
        if self._zip is None:
            return (self.path / name).is_file()
        return name in self._by_name

    def read(self, name: str, most: int) -> bytes:
        """Return a file; raise DataError for none, a damaged one, or one of over `most` bytes."""
        where = f'{name!r} in {str(self.path)!r}'
        try:
            with self._open(name) as file:
                content = file.read(most + 1)
        except (KeyError, FileNotFoundError):
            raise DataError(f'there is no {where}') from None
        except OSError as error:
            raise DataError(f'cannot read {where}: {error.strerror}') from error
        except _DAMAGED as error:
            raise DataError(f'cannot read {where}: {error}; make the archive anew') from error
        if len(content) > most:
            raise DataError(f'{where} has more than the {most} bytes that such a file can need')
        return content

    def _open(self, name):
        if self._zip is None:
            return (self.path / name).open('rb')
        return self._zip.open(self._by_name[name])

    @cached_property
    def _by_name(self):
        return {self.checked(info.filename): info for info in self._zip.infolist()}


class ZipWriter:
    """Writes a zip in a `with` block: the same bytes for the same files, whenever it is."""

    def __init__(self, path: Path):
        self._zip = zipfile.ZipFile(path, 'w')

    def __enter__(self):
        return self

    def __exit__(self, kind, error, trace):
        self._zip.close()

    def add(self, name: str, content: bytes) -> None:
        """Write a file; pictures, which are packed already, are stored as they are."""
        info = zipfile.ZipInfo(name)
        info.external_attr = _MODE
        is_text = PurePosixPath(name).suffix in ('.txt', '.json')
        info.compress_type = zipfile.ZIP_DEFLATED if is_text else zipfile.ZIP_STORED
        self._zip.writestr(info, content)
