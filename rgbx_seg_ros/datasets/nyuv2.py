# Copyright 2026 rgbx_seg_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""
NYUv2: 1449 indoor scenes in RGB and depth, 40 classes, 480x640.

Silberman, Hoiem, Kohli, Fergus, "Indoor Segmentation and Support Inference from RGBD Images",
ECCV 2012; the 40 classes are of Gupta, Arbelaez, Malik, "Perceptual Organization and Recognition
of Indoor Scenes from RGB-D Images", CVPR 2013. Its terms are not known to us.

Two forms are read. The folders that RGB-D papers share: `RGB/`, `Depth/` or `HHA/`, `Label/`,
train.txt and test.txt, in each line a name or a path, labels 0 for none and 1 to 40. And the
original file nyu_depth_v2_labeled.mat, beside it splits.mat of the same page and
classMapping40.mat of the 40 classes; X is then the depth filled in by the authors, in metres.
"""

from functools import cached_property
import zlib

import numpy as np
from rgbx_seg_ros.cards.labels import UNLABELED
from rgbx_seg_ros.datasets.base import classes, Files, PairedDataset
from rgbx_seg_ros.errors import DataError

_NAMES = (
    'wall', 'floor', 'cabinet', 'bed', 'chair', 'sofa', 'table', 'door', 'window', 'bookshelf',
    'picture', 'counter', 'blinds', 'desk', 'shelves', 'curtain', 'dresser', 'pillow', 'mirror',
    'floor_mat', 'clothes', 'ceiling', 'books', 'refrigerator', 'television', 'paper', 'towel',
    'shower_curtain', 'box', 'whiteboard', 'person', 'night_stand', 'toilet', 'sink', 'lamp',
    'bathtub', 'bag', 'other_structure', 'other_furniture', 'other_prop')


def _color(i):
    """Return a colour for class i: the bits of i + 1 dealt to red, green and blue, as in VOC."""
    bits = [(i + 1) >> bit & 1 for bit in range(6)]
    return tuple((bits[c] << 7) + (bits[c + 3] << 6) for c in range(3))


class NyuV2(PairedDataset):
    """NYUv2 in folders, X is depth."""

    CLASSES = classes(*((name, _color(i)) for i, name in enumerate(_NAMES)))
    IDS = {0: UNLABELED, **{i + 1: i for i in range(40)}}
    X_KIND = 'depth'
    SIZE = (480, 640)
    SPLITS = {'train': 795, 'test': 654}
    X_FOLDER = 'Depth'

    def _find(self):
        return self._pair(self.root / 'RGB', self.root / self.X_FOLDER, self.root / 'Label',
                          self.root / f'{self.split}.txt')


class NyuV2Hha(NyuV2):
    """NYUv2 in folders, X is depth in the three channels HHA."""

    X_FOLDER = 'HHA'
    X_TYPE = 'uint8'


class NyuV2Mat(NyuV2):
    """NYUv2 in its original file; X is depth in metres, float32."""

    X_TYPE = 'float32'

    def _find(self):
        self._path = self._existing('nyu_depth_v2_labeled.mat')
        chosen = self._read_table('splits.mat', f'{self.split}Ndxs')
        count = self._read('labels', None)
        if not 1 <= chosen.min() <= chosen.max() <= count:
            raise DataError(f'splits.mat names the frames {chosen.min()} to {chosen.max()}, '
                            f'{str(self._path)!r} has {count}')
        return {f'{i:04}': Files(*[self._path] * 3) for i in sorted(chosen.tolist())}

    @cached_property
    def _class_of_label(self):
        """The class of each of the 895 labels of the file."""
        mapped = self._read_table('classMapping40.mat', 'mapClass')
        if mapped.min() < 1 or mapped.max() > 40:
            raise DataError("'mapClass' of classMapping40.mat holds numbers outside of 1..40")
        return np.concatenate(([UNLABELED], mapped - 1)).astype(np.uint8)

    def _existing(self, name):
        path = self.root / name
        if not path.is_file():
            raise DataError(f'{str(path)!r} is missing: nyu_depth_v2_labeled.mat, splits.mat and '
                            'classMapping40.mat are needed')
        return path

    def _read_table(self, file, variable):
        """Return the numbers of a small MATLAB file, (N,) int64."""
        try:
            from scipy.io import loadmat
            from scipy.io.matlab import MatReadError
        except ImportError as error:
            raise _missing_library('scipy') from error
        path = self._existing(file)
        try:
            return loadmat(path)[variable].ravel().astype(np.int64)
        except (KeyError, IndexError, MatReadError, NotImplementedError, OSError, TypeError,
                ValueError, zlib.error) as error:  # what scipy makes of a broken file
            raise DataError(f'cannot read {variable!r} of {str(path)!r}: {error}') from error

    def _read(self, variable, index):
        """Return one frame of the large file, or with None how many there are."""
        try:
            import h5py
        except ImportError as error:
            raise _missing_library('h5py') from error
        try:
            # Opened anew each time, as an open file would not survive the way to a worker.
            with h5py.File(self._path) as file:
                return len(file[variable]) if index is None else file[variable][index]
        except (KeyError, OSError) as error:
            raise DataError(f'cannot read {variable!r} of {str(self._path)!r}: {error}') from error

    def _read_frames(self, name):
        index = int(name) - 1
        # MATLAB stores columns first: (3, W, H) and (W, H).
        rgb, x = self._read('images', index).transpose(2, 1, 0), self._read('depths', index).T
        return np.ascontiguousarray(rgb), np.ascontiguousarray(x)

    def _read_label(self, name, size):
        ids = self._read('labels', int(name) - 1).T
        if ids.shape != size or ids.max() >= len(self._class_of_label):
            raise DataError(f'label {name} of {str(self._path)!r} is {ids.shape!r} with ids up to '
                            f'{ids.max()}, needed is {size!r} with ids up to '
                            f'{len(self._class_of_label) - 1}')
        return self._class_of_label[ids]


def _missing_library(name):
    return DataError(f'{name!r} is missing, which reads the files of MATLAB: '
                     "pip install 'rgbx_seg_ros[nyuv2]'")
