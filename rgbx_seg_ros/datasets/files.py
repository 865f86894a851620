# Copyright 2026 rgbx_seg_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""The files of a data set: what lies in a folder, what a list names, ids and bands as stored."""

from collections.abc import Collection
from pathlib import Path
import re

import cv2
import numpy as np
from rgbx_seg_ros.errors import DataError
from rgbx_seg_ros.files import visible
from rgbx_seg_ros.frames.images import read_stored
from rgbx_seg_ros.pictures import decode_ids

ENDINGS = ('.png', '.jpg', '.jpeg', '.tif', '.tiff', '.bmp')
_UTF_16 = (b'\xff\xfe', b'\xfe\xff')


def folders_in(folder: Path) -> list[str]:
    """Return the names of the folders in a folder."""
    return [path.name for path in visible(folder) if path.is_dir()]


def images_in(folder: Path, ending: str = '') -> dict[str, Path]:
    """
    Return the images of a folder by name: that of the file without `ending` and what follows.

    `ending` is the end of the file's name before the dot, as '_leftImg8bit'; files without it are
    left out. Raise DataError where the folder is missing or two images have the same name.
    """
    if not folder.is_dir():
        raise DataError(f'the folder {str(folder)!r} is missing{_beside(folder)}')
    files = {}
    for path in visible(folder):
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
    return f'; the folders of {str(parent)!r} are {folders_in(parent)!r}'


def first_folder(root: Path, *names: str) -> Path:
    """Return the first of the folders `names` that `root` has, or else the first of them all."""
    return next((root / name for name in names if (root / name).is_dir()), root / names[0])


def read_lines(path: Path) -> list[str]:
    """
    Return the lines of a text file that are not blank, without the spaces around them.

    A byte order mark is left out, which Windows puts first. Bytes that are no UTF-8 come as they
    do in the names of files. Raise OSError where there is no such file.
    """
    content = path.read_bytes()
    if content.startswith(_UTF_16):
        text = content.decode('utf-16', errors='replace')
    else:
        text = content.decode('utf-8-sig', errors='surrogateescape')
    return list(filter(None, map(str.strip, text.splitlines())))


def listed_names(path: Path, known: Collection[str] = ()) -> list[str]:
    """
    Return the names of a list: of each line the first word, without its folder and file ending.

    The first words serve where a name in `known` has spaces in it. Raise DataError where the list
    is missing, empty or names a frame twice.
    """
    try:
        lines = read_lines(path)
    except FileNotFoundError:
        raise DataError(f'the list {str(path)!r} is missing: it names the frames of the '
                        'split') from None
    except OSError as error:
        raise DataError(f'cannot read the list {str(path)!r}: {error.strerror}') from error
    names = [_listed_name(line, known) for line in lines]
    if not names:
        raise DataError(f'the list {str(path)!r} is empty')
    if len(set(names)) < len(names):
        twice = next(name for i, name in enumerate(names) if name in names[:i])
        raise DataError(f'the list {str(path)!r} names {twice!r} twice')
    return names


def _listed_name(line, known):
    """Return the name in a line: as many of its first words as make a known one, or else one."""
    starts = [line[:space.start()] for space in re.finditer(r'\s|$', line)]
    files = [start for start in starts if start.lower().endswith(ENDINGS)]
    names = map(_name, (*files, *reversed(starts)))
    return next((name for name in names if name in known), _name(starts[0]))


def _name(path):
    """Return the name of a frame: that of a path, without folder and file ending."""
    name = path.replace('\\', '/').rsplit('/', 1)[-1]
    # Path.stem would also cut what only looks like an ending: frame.0001 without .png.
    return Path(name).stem if Path(name).suffix.lower() in ENDINGS else name


def read_channels(path: Path) -> np.ndarray:
    """Read an image as stored, the fourth channel included, colours in RGB or RGBA order."""
    image = read_stored(path)
    if image.ndim == 2:
        return image
    order = cv2.COLOR_BGRA2RGBA if image.shape[2] == 4 else cv2.COLOR_BGR2RGB
    return cv2.cvtColor(image, order)


def read_ids(path: Path) -> np.ndarray:
    """
    Read the ids of a label as they are stored, (H, W), or colours, (H, W, 3) in RGB order.

    Where ids are painted through a palette, as in an indexed PNG, the ids count, not the paint.
    Raise DataError for a file whose compression changes ids.
    """
    ids = read_stored(path, decode_ids)
    return ids if ids.ndim == 2 else np.ascontiguousarray(ids[..., 2::-1])
