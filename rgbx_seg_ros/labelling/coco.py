# Copyright 2026 rgbx_seg_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""
COCO: panoptic masks out and in, and instances in.

A panoptic mask is a PNG whose pixels hold the number of a segment, R + 256 G + 65536 B, with 0 for
what has none; a JSON tells the category of each segment. Instances are polygons or run lengths in
a JSON alone; pycocotools fills polygons. https://cocodataset.org/#format-data

Crowds, that is iscrowd: 1, become unlabeled and lie below the rest; but CVAT marks so what its
brush has painted, which then has its class. Where instances overlap the one further down in the
file lies on top, as in the export of CVAT, which writes the lowest layer first.
"""

from collections import defaultdict
from collections.abc import Sequence
import json
import math
from pathlib import Path, PurePosixPath
import shutil
from typing import Any
import warnings

import numpy as np
from rgbx_seg_ros.cards.labels import UNLABELED
from rgbx_seg_ros.datasets import Sample
from rgbx_seg_ros.errors import DataError
from rgbx_seg_ros.files import MARK
from rgbx_seg_ros.frames.images import write_image
from rgbx_seg_ros.labelling.archive import Archive
from rgbx_seg_ros.labelling.classes import ToolLabel, ToolNames
from rgbx_seg_ros.labelling.masks import check_same_size, read_pixels, ToolMask

NAME = 'panoptic'
CROWDS = 'unlabeled', 'class'
"""What becomes of crowds: 255, or the class of their category."""
_MOST_JSON = 1 << 29
_NUMBERS = np.array([1, 1 << 8, 1 << 16], np.int32)  # a number from a colour
_WRONG = (AttributeError, IndexError, KeyError, TypeError, ValueError, OverflowError)
"""What comes of following a JSON that is of another form."""


class Writer:
    """Writes frames to `images/` and their masks to `panoptic/` and `panoptic.json`."""

    def __init__(self, folder: Path, labels: Sequence[ToolLabel]):
        self._folder = folder
        self._labels = sorted((label for label in labels if label.id != UNLABELED),
                              key=lambda label: label.id)
        self._images: list[dict] = []
        self._annotations: list[dict] = []

    def __enter__(self):
        for name in ('images', NAME):
            (self._folder / name).mkdir()
        return self

    def __exit__(self, kind, error, trace):
        facts = {
            'info': {'description': f'{MARK} labels export'},
            'images': self._images, 'annotations': self._annotations,
            'categories': [{'id': label.id + 1, 'name': label.name, 'supercategory': '',
                            'isthing': 0, 'color': label.color} for label in self._labels]}
        (self._folder / f'{NAME}.json').write_text(json.dumps(facts) + '\n')

    def add(self, sample: Sample, rgb: Path, label: np.ndarray | None) -> None:
        """Write a frame with its colour file, and class ids (H, W) uint8 if there are any."""
        height, width = sample.rgb.shape[:2]
        number = len(self._images) + 1
        shutil.copyfile(rgb, self._folder / 'images' / rgb.name)
        self._images.append({'id': number, 'file_name': rgb.name, 'width': width,
                             'height': height})
        if label is None:
            return
        file = f'{sample.name}.png'
        segments = label + np.uint8(1)  # 255 becomes 0, as uint8 goes round
        rest = np.zeros_like(segments)
        write_image(self._folder / NAME / file, np.dstack([segments, rest, rest]))
        self._annotations.append({
            'image_id': number, 'file_name': file,
            'segments_info': [_segment(label, i) for i in np.unique(label).tolist()
                              if i != UNLABELED]})


def _segment(label, class_id):
    rows, columns = np.nonzero(label == class_id)
    left, top = int(columns.min()), int(rows.min())
    return {'id': class_id + 1, 'category_id': class_id + 1, 'area': len(rows), 'iscrowd': 0,
            'bbox': [left, top, int(columns.max()) - left + 1, int(rows.max()) - top + 1]}


def masks(archive: Archive, path: str, names: ToolNames, crowds: str = CROWDS[0]
          ) -> list[ToolMask]:
    """
    Return the masks that the JSON `path` tells of; raise DataError where it is none of COCO.

    `crowds`, one of `CROWDS`, says what becomes of them; warn where that is a loss.
    """
    try:
        facts = json.loads(archive.read(path, _MOST_JSON))
        categories = {one['id']: str(one['name']) for one in facts['categories']}
        images = {one['id']: str(one['file_name']) for one in facts['images']}
        sizes = {one['id']: (int(one['height']), int(one['width'])) for one in facts['images']}
        of_image: dict[Any, list[dict]] = defaultdict(list)
        for one in facts['annotations']:
            if one['image_id'] not in images:
                raise DataError(f'{path!r} has an annotation of the image {one["image_id"]!r}, '
                                'which it does not list')
            of_image[one['image_id']].append(one)
        classes = _Classes(path, categories, names, crowds)
    except RecursionError as error:
        raise DataError(f'{path!r} is no JSON of COCO: it is nested too deeply') from error
    except _WRONG as error:
        raise DataError(f'{path!r} is no JSON of COCO, with images, categories and annotations: '
                        f'{_words(error)}') from error
    kinds = {'segments_info' in one for ones in of_image.values() for one in ones}
    if len(kinds) > 1:
        raise DataError(f'{path!r} mixes panoptic masks and instances: export one of them')
    if True in kinds:
        return [_panoptic(archive, path, images[i], one, classes)
                for i, ones in of_image.items() for one in ones]
    crowded = sum(bool(one.get('iscrowd')) for ones in of_image.values() for one in ones)
    if crowded and crowds != 'class':
        warnings.warn(f'{path!r} marks {crowded} of {sum(map(len, of_image.values()))} areas as '
                      'crowds (iscrowd), which become unlabeled; CVAT marks so what its brush has '
                      'painted: then give --crowds class', stacklevel=2)
    return [_instances(path, images[i], sizes[i], ones, classes)
            for i, ones in of_image.items()]


def import_pycocotools():
    """Return pycocotools.mask, which only polygons need, or raise DataError."""
    try:
        from pycocotools import mask
    except ImportError as error:
        raise DataError('polygons of COCO are read with pycocotools, which is missing: '
                        "pip install 'rgbx_seg_ros[coco]'") from error
    return mask


def _words(error):
    """Say what was wrong with a JSON."""
    return f'{error} is missing' if isinstance(error, KeyError) else str(error)


class _Classes:
    """Tells the class of an annotation by its category."""

    def __init__(self, path, categories, names, crowds):
        self._path, self._categories, self._names = path, categories, names
        self.uncovered = names.uncovered
        self._has_crowds = crowds != 'class'

    def is_crowd(self, annotation):
        """Return whether what it covers becomes unlabeled."""
        return self._has_crowds and bool(annotation.get('iscrowd'))

    def of(self, annotation, where):
        """Return the class id; raise DataError for a category that is no class."""
        number = annotation['category_id']
        if number not in self._categories:
            raise DataError(f'{where} has the category {number!r}, which {self._path!r} does not '
                            'list')
        class_id = self._names.get(self._categories[number])
        if class_id is None:
            raise DataError(f'{where}: {self._names.unknown(self._categories[number])}')
        return UNLABELED if self.is_crowd(annotation) else class_id


def _panoptic(archive, path, image, annotation, classes):
    def read(size):
        where = repr(annotation.get('file_name', image))
        try:
            file = _beside(archive, path, str(annotation['file_name']))
            segments = {int(one['id']): classes.of(one, where)
                        for one in annotation['segments_info']}
        except _WRONG as error:
            raise DataError(f'the annotation of {where} in {path!r} is none of COCO: '
                            f'{_words(error)}') from error
        pixels = read_pixels(archive, file, size)
        numbers = (pixels.astype(np.int32) @ _NUMBERS if pixels.ndim == 3
                   else pixels.astype(np.int32))
        segments.setdefault(0, UNLABELED)
        found, place, counts = np.unique(numbers, return_inverse=True, return_counts=True)
        for number, count in zip(found.tolist(), counts.tolist(), strict=True):
            if number not in segments:
                raise DataError(f'{file!r} has {count} pixels of the segment {number}, which '
                                f'{path!r} does not tell of')
        table = np.array([segments[number] for number in found.tolist()], np.uint8)
        return table[place.reshape(size)]
    return ToolMask(f'{annotation.get("file_name")}', image, read)


def _beside(archive, path, name):
    """Return where a mask stands: in a folder with the name of the JSON, or beside that."""
    home = PurePosixPath(path)
    places = [archive.checked(str(folder / name)) for folder in (
        home.with_suffix(''), home.parent)]
    return next((place for place in places if archive.has(place)), places[0])


def _instances(path, image, size_told, annotations, classes):
    def read(size):
        check_same_size(repr(image), size_told, size)
        ids = np.full(size, classes.uncovered, np.uint8)
        for one in sorted(annotations, key=lambda one: not classes.is_crowd(one)):
            where = f'the annotation {one.get("id")!r} of {image!r}'
            try:
                ids[_covered(one['segmentation'], size)] = classes.of(one, where)
            except _WRONG as error:
                raise DataError(f'{where} in {path!r} has no area that can be read: '
                                f'{_words(error)}') from error
        return ids
    return ToolMask(image, image, read)


def _covered(segmentation, size):
    """Return the pixels of polygons or run lengths, (H, W) bool; raise ValueError for others."""
    if isinstance(segmentation, list):
        return _filled(segmentation, size)
    if [*segmentation['size']] != [*size]:
        raise ValueError(f'its run lengths are of a frame of {segmentation["size"]!r}')
    counts = segmentation['counts']
    lengths = counts if isinstance(counts, list) else _run_lengths(counts)
    if not all(type(length) is int and length >= 0 for length in lengths) or (
            sum(lengths) != size[0] * size[1]):
        raise ValueError('its run lengths do not add up to the pixels of the frame')
    # They go down the columns, and begin with what is not covered.
    return np.repeat(np.arange(len(lengths)) % 2 == 1, lengths).reshape(size[::-1]).T


def _filled(polygons, size):
    """Return the pixels inside of polygons, each a list of x, y, x, y, ...; (H, W) bool."""
    if not polygons:
        raise ValueError('it has only a box; draw what it shows, or remove it')
    for polygon in polygons:
        # pycocotools takes four numbers for a box, and reserves as much as an edge is long.
        reach = max(size)
        if len(polygon) < 6 or len(polygon) % 2 or not all(
                math.isfinite(value) and -reach <= value <= 2 * reach for value in polygon):
            raise ValueError('a polygon needs three points or more, in the frame or near it')
    tools = import_pycocotools()
    return _covered(tools.merge(tools.frPyObjects(polygons, *size)), size)


def _run_lengths(text):
    """
    Return the run lengths in a text of COCO: five bits in a letter, the sixth says go on.

    From the fourth on each is told as the difference to the one before the last.
    """
    lengths: list[int] = []
    value = shift = 0
    for letter in text.encode('ascii') if isinstance(text, str) else text:
        letter -= 48
        value |= (letter & 31) << shift
        shift += 5
        if not letter & 32:
            if letter & 16:
                value -= 1 << shift
            lengths.append(value + (lengths[-2] if len(lengths) > 2 else 0))
            value = shift = 0
        elif shift > 60:
            raise ValueError('its run lengths are damaged')
    return lengths
