# Copyright 2026 rgbx_seg_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""Data sets `folder` whose labels hold every id, and archives as labelling tools leave them."""

from pathlib import Path
import zipfile

import numpy as np
from rgbx_seg_ros.datasets import FolderDataset
from rgbx_seg_ros.datasets.base import classes
from rgbx_seg_ros.frames.images import read_image, write_image
import yaml

SIZE = 6, 8
PLAIN = classes(('road', (150, 80, 200)), ('person', (255, 50, 40)), ('car', (30, 90, 255)))
"""Nothing is background: what nothing covers is unlabeled."""
WITH_BACKGROUND = classes(('background', (0, 0, 0)), ('car', (30, 120, 255)),
                          ('person', (255, 60, 40)))
ODD = classes(('road', (0, 0, 0)), ('background', (9, 9, 9)), ('car', (9, 9, 9)),
              ('unlabeled', (30, 90, 255)), ('van', (30, 90, 255)), ('sky', (224, 224, 192)))
"""Colours that come twice, black that is not background, a class with the name for 255."""
MANY = classes(*((f'class {i}', (i, 255 - i, 7)) for i in range(255)))


def write_folder(root, labels, names=('a', 'b'), ids=None, size=SIZE):
    """Write random frames whose labels have every id of `labels` and 255; return the data set."""
    rng = np.random.default_rng(0)
    for folder in ('rgb', 'thermal', 'label'):
        (root / folder).mkdir(parents=True)
    stored = np.arange(256, dtype=np.uint8)
    for key, own in (ids or {}).items():
        stored[own] = key
    known = np.array([*range(len(labels)), 255], np.uint8)
    for name in names:
        label = rng.choice(known, size)
        label.flat[:len(known)] = known
        write_image(root / 'rgb' / f'{name}.png', rng.integers(0, 256, (*size, 3), np.uint8))
        write_image(root / 'thermal' / f'{name}.png', rng.integers(0, 256, size, np.uint8))
        write_image(root / 'label' / f'{name}.png', stored[label])
    (root / 'dataset.yaml').write_text(yaml.safe_dump({
        'classes': [{'id': one.id, 'name': one.name, 'color': [*one.color]} for one in labels],
        **({'ids': ids} if ids else {})}))
    return FolderDataset(root)


def label_files(folder):
    """Return the pixels of all labels in a folder by file name."""
    return {path.name: read_image(path) for path in sorted(Path(folder).iterdir())}


def same_labels(one, other):
    """Return whether two folders hold the same labels, pixel by pixel."""
    first, second = label_files(one), label_files(other)
    return first.keys() == second.keys() and all(
        np.array_equal(first[name], second[name]) for name in first)


def rezip(path, out, changes=(), drop=(), prefix=''):
    """Write a zip again with other content of some files, without others; return its path."""
    changes = dict(changes)
    with zipfile.ZipFile(path) as old, zipfile.ZipFile(out, 'w') as new:
        for name in (*old.namelist(), *(set(changes) - set(old.namelist()))):
            if name not in drop:
                new.writestr(prefix + name, changes[name] if name in changes else old.read(name))
    return out
