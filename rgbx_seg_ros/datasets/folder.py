# Copyright 2026 rgbx_seg_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""A folder with `rgb/`, one of `thermal/`, `depth/`, `disparity/` or `x/`, and maybe `label/`."""

from pathlib import Path

import numpy as np
from rgbx_seg_ros.datasets.base import Sample
from rgbx_seg_ros.errors import DataError
from rgbx_seg_ros.images import read_image, read_rgb

X_FOLDERS = ('thermal', 'depth', 'disparity', 'x')
_ENDINGS = ('.png', '.jpg', '.jpeg', '.tif', '.tiff', '.bmp')


class FolderDataset:
    """
    The pairs of frames below `root`, by name.

    A pair is a file in `rgb/` and one of the same name, whatever its ending, in the folder of the
    second modality. Frames named in `exclude` are left out. Raise DataError where a folder is
    missing or a frame has no partner.
    """

    def __init__(self, root, exclude=()):
        self.root = Path(root)
        if not self.root.is_dir():
            raise DataError(f'{str(root)!r} is not a folder')
        present = [name for name in X_FOLDERS if (self.root / name).is_dir()]
        if len(present) != 1 or not (self.root / 'rgb').is_dir():
            folders = sorted(path.name for path in self.root.iterdir() if path.is_dir())
            raise DataError(f'{str(root)!r} must hold rgb/ and exactly one of '
                            f'{", ".join(f"{name}/" for name in X_FOLDERS)}; its folders are '
                            f'{folders!r}')
        self.x_folder = present[0]
        self._rgb = self._files('rgb')
        self._x = self._files(self.x_folder)
        self._label = self._files('label')
        alone = sorted(self._rgb.keys() ^ self._x.keys())
        if alone:
            raise DataError(f'{str(root)!r}: {len(alone)} frames have no partner of the same name '
                            f'in rgb/ and {self.x_folder}/, the first is {alone[0]!r}')
        unknown = sorted(set(exclude) - self._rgb.keys())
        if unknown:
            raise DataError(f'{str(root)!r} has no frame {unknown[0]!r} to exclude')
        self.names = sorted(self._rgb.keys() - set(exclude))
        if not self.names:
            raise DataError(f'{str(root)!r} holds no frames')

    def _files(self, folder):
        files = {}
        for path in sorted((self.root / folder).glob('*')):
            if path.suffix.lower() in _ENDINGS:
                other = files.setdefault(path.stem, path)
                if other is not path:
                    raise DataError(f'{str(self.root / folder)!r} holds {other.name!r} and '
                                    f'{path.name!r}: remove one')
        return files

    def __len__(self):
        return len(self.names)

    def __getitem__(self, index) -> Sample:
        name = self.names[index]
        rgb = read_rgb(self._rgb[name])
        label = self._read_label(name, rgb.shape[:2]) if name in self._label else None
        return Sample(name, rgb, read_image(self._x[name]), label)

    def _read_label(self, name, size):
        label = read_image(self._label[name])
        if label.shape != size or label.dtype != np.uint8:
            raise DataError(f'{str(self._label[name])!r} is {label.shape!r} {label.dtype}, needed '
                            f'are the class ids of the colour frame, {size!r} uint8')
        return label

    def boxes(self, name: str) -> list[tuple[int, float, float, float, float]]:
        """
        Return the boxes of a frame from `boxes/NAME.txt`, an empty list where there is none.

        Each is a class id, then centre x, centre y, width and height, relative to the frame.
        """
        path = self.root / 'boxes' / f'{name}.txt'
        if not path.is_file():
            return []
        try:
            rows = [line.split() for line in path.read_text(encoding='utf-8').splitlines()]
            boxes = [(int(i), float(x), float(y), float(w), float(h))
                     for i, x, y, w, h in filter(None, rows)]
        except ValueError as error:
            raise DataError(f'{str(path)!r}: each line must hold a class id and four numbers; '
                            f'{error}') from error
        if not np.isfinite(boxes).all():
            raise DataError(f'{str(path)!r} holds a number that is not finite')
        return boxes
