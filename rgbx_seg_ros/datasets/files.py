# Copyright 2026 rgbx_seg_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""The files of a data set: what lies in a folder, what a list names, ids and bands as stored."""

from pathlib import Path
import struct
import zlib

import cv2
import numpy as np
from rgbx_seg_ros.errors import DataError
from rgbx_seg_ros.frames.images import read_image

ENDINGS = ('.png', '.jpg', '.jpeg', '.tif', '.tiff', '.bmp')
_PNG = b'\x89PNG\r\n\x1a\n'
_INDEXED, _GREY = 3, 0  # colour types of PNG


def images_in(folder: Path, ending: str = '') -> dict[str, Path]:
    """
    Return the images of a folder by name: that of the file without `ending` and what follows.

    `ending` is the end of the file's name before the dot, as '_leftImg8bit'; files without it are
    left out. Raise DataError where the folder is missing or two images have the same name.
    """
    if not folder.is_dir():
        raise DataError(f'the folder {str(folder)!r} is missing{_beside(folder)}')
    files = {}
    for path in sorted(folder.iterdir()):
        if path.suffix.lower() in ENDINGS and path.stem.endswith(ending):
            other = files.setdefault(path.stem[:len(path.stem) - len(ending)], path)
            if other is not path:
                raise DataError(f'{str(folder)!r} holds {other.name!r} and {path.name!r}: remove '
                                'one')
    return files


def _beside(folder):
    """Say what is there instead of a folder."""
    parent = folder.parent
    if not parent.is_dir():
        return ''
    names = sorted(path.name for path in parent.iterdir() if path.is_dir())
    return f'; the folders of {str(parent)!r} are {names!r}'


def first_folder(root: Path, *names: str) -> Path:
    """Return the first of the folders `names` that `root` has, or else the first of them all."""
    return next((root / name for name in names if (root / name).is_dir()), root / names[0])


def listed_names(path: Path) -> list[str]:
    """
    Return the names of a list: of each line the first word, without its folder and file ending.

    Raise DataError where the list is missing, empty or names a frame twice.
    """
    try:
        lines = path.read_text(encoding='utf-8').splitlines()
    except FileNotFoundError:
        raise DataError(f'the list {str(path)!r} is missing: it names the frames of the '
                        'split') from None
    except (OSError, ValueError) as error:
        raise DataError(f'cannot read the list {str(path)!r}: {error}') from error
    words = [line.split()[0] for line in lines if line.strip()]
    names = [_without_ending(word.replace('\\', '/').rsplit('/', 1)[-1]) for word in words]
    if not names:
        raise DataError(f'the list {str(path)!r} is empty')
    if len(set(names)) < len(names):
        twice = next(name for i, name in enumerate(names) if name in names[:i])
        raise DataError(f'the list {str(path)!r} names {twice!r} twice')
    return names


def _without_ending(name):
    # Path.stem would also cut what only looks like an ending: frame.0001 without .png.
    return Path(name).stem if Path(name).suffix.lower() in ENDINGS else name


def read_channels(path: Path) -> np.ndarray:
    """Read an image as stored, the fourth channel included, colours in RGB or RGBA order."""
    try:
        content = path.read_bytes()
    except OSError as error:
        raise DataError(f'cannot read {str(path)!r}: {error.strerror}') from error
    image = _decode(path, content)
    if image.ndim == 2:
        return image
    order = cv2.COLOR_BGRA2RGBA if image.shape[2] == 4 else cv2.COLOR_BGR2RGB
    return cv2.cvtColor(image, order)


def read_ids(path: Path) -> np.ndarray:
    """
    Read the ids of a label as they are stored, (H, W), or colours, (H, W, 3).

    Where ids are painted through a palette, as in an indexed PNG, the ids count, not the paint.
    """
    try:
        with path.open('rb') as file:
            header = file.read(26)
            if header[:8] != _PNG or header[25:] != bytes([_INDEXED]):
                return read_image(path)
            content = header + file.read()
    except OSError as error:
        raise DataError(f'cannot read {str(path)!r}: {error.strerror}') from error
    # OpenCV can only paint. As a grey image, without its palette, the same file holds the ids,
    # which grey levels of less than 8 bits spread over 0..255.
    return _decode(path, _as_grey(content)) // (255 // (2 ** content[24] - 1))


def _as_grey(png):
    """Return an indexed PNG as a grey one of the same bits."""
    kept, at = [_PNG], len(_PNG)
    while at + 8 <= len(png):
        length, kind = struct.unpack('>I4s', png[at:at + 8])
        chunk = png[at:at + 12 + length]
        if kind == b'IHDR':
            body = kind + chunk[8:17] + bytes([_GREY]) + chunk[18:21]
            chunk = chunk[:4] + body + struct.pack('>I', zlib.crc32(body))
        if kind in (b'IHDR', b'IDAT', b'IEND'):
            kept.append(chunk)
        at += 12 + length
    return b''.join(kept)


def _decode(path, content):
    content = np.frombuffer(content, np.uint8)
    image = cv2.imdecode(content, cv2.IMREAD_UNCHANGED) if content.size else None
    if image is None:
        raise DataError(f'cannot read {str(path)!r}: it is not an image')
    return image
