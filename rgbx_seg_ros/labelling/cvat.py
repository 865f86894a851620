# Copyright 2026 rgbx_seg_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""
CVAT's format 'Segmentation mask 1.1', out and in.

    labelmap.txt                          label:color_rgb:parts:actions, a line for each label
    ImageSets/Segmentation/default.txt    names of the frames, without endings
    SegmentationClass/NAME.png            the colours of the labels
    SegmentationObject/NAME.png           the colours of PASCAL VOC, one for each object

https://docs.cvat.ai/docs/dataset_management/formats/format-smask. A class is one object in each
frame, to be corrected with a brush. A mask of one channel holds the numbers of lines in
labelmap.txt, from 0.
"""

from collections.abc import Sequence
import json
from pathlib import Path

import cv2
import numpy as np
from rgbx_seg_ros.cards.labels import UNLABELED
from rgbx_seg_ros.datasets import Sample
from rgbx_seg_ros.datasets.files import ENDINGS
from rgbx_seg_ros.errors import DataError
from rgbx_seg_ros.frames.raw import visible_x
from rgbx_seg_ros.labelling.archive import Archive, ZipWriter
from rgbx_seg_ros.labelling.classes import ToolLabel, ToolNames, voc_colors
from rgbx_seg_ros.labelling.masks import read_pixels, ToolMask

CLASS_FOLDER = 'SegmentationClass'
_OBJECT_FOLDER = 'SegmentationObject'
_LABEL_MAP = 'labelmap.txt'
_LIST = 'ImageSets/Segmentation/default.txt'
_HEAD = '# label:color_rgb:parts:actions'
_MOST_TEXT = 1 << 20
_PACK = np.array([1 << 16, 1 << 8, 1], np.int32)  # a colour in one number


class Writer:
    """
    Writes frames for CVAT to a folder, in a `with` block.

    `images.zip` has the colour frames, X as a contextual image to each; `annotations.zip` the
    masks, if there is one; `labels.json` the labels, for the raw form of CVAT's constructor.
    """

    def __init__(self, folder: Path, labels: Sequence[ToolLabel]):
        self._labels = labels
        for label in labels:
            if label.name.strip().splitlines() != [label.name] or (
                    ':' in label.name or label.name.startswith('#')):
                raise DataError(f'the class {label.name!r} cannot stand in {_LABEL_MAP}: allowed '
                                'is a name without : and line breaks that does not begin with # '
                                'or a space; rename it')
        self._folder = folder
        self._index = np.zeros(256, np.uint8)
        for i, label in enumerate(labels):
            self._index[label.id] = i
        self._colors = np.uint8([label.color for label in labels])
        self._names: list[str] = []

    def __enter__(self):
        self._images = ZipWriter(self._folder / 'images.zip')
        self._masks = ZipWriter(self._folder / 'annotations.zip')
        return self

    def __exit__(self, kind, error, trace):
        if self._names:
            lines = [_HEAD, *(f'{label.name}:{",".join(map(str, label.color))}::'
                              for label in self._labels)]
            self._masks.add(_LABEL_MAP, ''.join(f'{line}\n' for line in lines).encode())
            self._masks.add(_LIST, ''.join(f'{name}\n' for name in self._names).encode())
        for archive in (self._images, self._masks):
            archive.__exit__(kind, error, trace)
        if not self._names:
            (self._folder / 'annotations.zip').unlink()
        # What nothing covers needs no label, unless it is a class.
        first = [] if self._labels[0].id == UNLABELED else self._labels[:1]
        (self._folder / 'labels.json').write_text(json.dumps([
            {'name': label.name, 'color': '#{:02x}{:02x}{:02x}'.format(*label.color),
             'attributes': []} for label in (*first, *self._labels[1:])], indent=1) + '\n')

    def add(self, sample: Sample, rgb: Path, label: np.ndarray | None) -> None:
        """Write a frame with its colour file, and class ids (H, W) uint8 if there are any."""
        self._images.add(rgb.name, rgb.read_bytes())
        self._images.add(f'related_images/{rgb.stem}_{rgb.suffix[1:]}/x.png',
                         _png(visible_x(sample.x)))
        if label is None:
            return
        self._names.append(sample.name)
        index = self._index[label]
        for folder, colors in ((CLASS_FOLDER, self._colors), (_OBJECT_FOLDER, voc_colors())):
            self._masks.add(f'{folder}/{sample.name}.png', _png(colors[index]))


def _png(rgb):
    return cv2.imencode('.png', np.ascontiguousarray(rgb[..., ::-1]))[1].tobytes()


class _LabelMap:
    """The labels of a labelmap.txt, and the class ids of their colours and of their numbers."""

    def __init__(self, text: str, where: str, names: ToolNames):
        self._where, self._names = where, names
        self.labels: list[tuple[str, tuple[int, ...]]] = []
        for line in text.splitlines():
            if line.strip() and not line.lstrip().startswith('#'):
                self.labels.append(self._parsed(line))
        if not self.labels:
            raise DataError(f'{where} names no label, needed are lines as {_HEAD[2:]!r}')
        by_color: dict[tuple[int, ...], str] = {}
        for name, color in self.labels:
            other = by_color.setdefault(color, name)
            if names.get(other) != names.get(name):
                raise DataError(f'{where} has the labels {other!r} and {name!r} in one colour, '
                                f'{color!r}: give one of them another colour in the tool, and '
                                'export again')
        packed = np.array([color for _, color in self.labels], np.int32) @ _PACK
        self._order = np.argsort(packed, kind='stable')
        self._packed = packed[self._order]
        self._ids = np.array([-1 if (i := names.get(name)) is None else i
                              for name, _ in self.labels], np.int16)

    def _parsed(self, line):
        parts = [part.strip() for part in line.split(':')]
        try:
            name, color, _, _ = parts
            rgb = tuple(map(int, color.split(',')))
        except ValueError:
            rgb = ()
        if len(rgb) != 3 or not all(0 <= value <= 255 for value in rgb):
            raise DataError(f'{self._where} has the line {line!r:.100}, needed is {_HEAD[2:]!r}, '
                            "as in 'person:255,50,40::'")
        return name, rgb

    def ids(self, pixels: np.ndarray, where: str) -> np.ndarray:
        """Return the class id of each pixel, (H, W) uint8: of a colour, or of a number (H, W)."""
        if pixels.ndim == 2:
            if pixels.max() >= len(self.labels):
                raise DataError(f'{where} is grey and holds the number {pixels.max()}, '
                                f'{_LABEL_MAP} has labels 0..{len(self.labels) - 1}: export it '
                                'in colours')
            index = pixels
        else:
            packed = pixels.astype(np.int32) @ _PACK
            place = np.searchsorted(self._packed, packed).clip(max=len(self._packed) - 1)
            is_unknown = self._packed[place] != packed
            if is_unknown.any():
                raise DataError(self._unknown(pixels[is_unknown], where))
            index = self._order[place]
        ids = self._ids[index]
        if ids.min() < 0:
            wrong = index[ids < 0]
            name = self.labels[wrong[0]][0]
            raise DataError(f'{where} has {(wrong == wrong[0]).sum()} pixels of a label that is '
                            f'no class: {self._names.unknown(name)}')
        return ids.astype(np.uint8)

    def _unknown(self, pixels, where):
        """Say which colours (N, 3) are not declared, the most frequent one first."""
        colors, counts = np.unique(pixels, axis=0, return_counts=True)
        color = colors[counts.argmax()].astype(int)
        distance = [np.abs(color - other).sum() for _, other in self.labels]
        name, near = self.labels[int(np.argmin(distance))]
        others = f' and {len(colors) - 1} more' if len(colors) > 1 else ''
        return (f'{where} has {counts.max()} pixels of the colour {tuple(color.tolist())!r}'
                f'{others}, which {_LABEL_MAP} does not declare; the nearest one is {near!r}, '
                f'{name!r}. If an editor has smoothed edges, paint without that (anti-aliasing); '
                f'if it is a label, add it to {_LABEL_MAP}')


def masks(archive: Archive, names: ToolNames) -> list[ToolMask]:
    """Return the masks in an export of CVAT; raise DataError where it is none."""
    inside = [name for name in archive.names
              if CLASS_FOLDER in name.split('/')[:-1] and name.lower().endswith(ENDINGS)]
    roots = sorted({name.partition(f'{CLASS_FOLDER}/')[0] for name in inside})
    if len(roots) > 1:
        raise DataError(f'{str(archive.path)!r} has several exports, {", ".join(roots)}: give '
                        'them one by one')
    path = f'{roots[0]}{_LABEL_MAP}'
    if path not in archive.names:
        raise DataError(f'{str(archive.path)!r} has no {path}, which says what the colours mean: '
                        'export it from CVAT again')
    text = archive.read(path, _MOST_TEXT).decode('utf-8-sig', errors='replace')
    label_map = _LabelMap(text, f'{path!r} in {str(archive.path)!r}', names)

    def mask(name):
        def read(size):
            return label_map.ids(read_pixels(archive, name, size), repr(name))
        return ToolMask(name, name[len(roots[0]) + len(CLASS_FOLDER) + 1:], read)
    return [mask(name) for name in inside]
