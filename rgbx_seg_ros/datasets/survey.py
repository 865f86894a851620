# Copyright 2026 rgbx_seg_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""What shows only when all samples are looked at together: labels that mean little, odd frames."""

from collections import Counter
from concurrent.futures import ThreadPoolExecutor
import os

import numpy as np
from rgbx_seg_ros.cards.labels import UNLABELED
from rgbx_seg_ros.datasets.base import PairedDataset, Sample
from rgbx_seg_ros.datasets.files import ENDINGS
from rgbx_seg_ros.frames.raw import is_painted

_MOST_NAMES = 3
_PAINTED = ' in false colours'
_FLAT = ' of one value'


class Survey:
    """The samples of a split, counted one by one; `faults` and `remarks` tell what comes of it."""

    def __init__(self):
        self.counts = np.zeros(256, np.int64)
        """Pixels of each class id in all labels."""
        self.labelled = 0
        """Samples with a label."""
        self.forms: dict[str, list[str]] = {}
        """The names of the samples by the type and channels of their X, in words."""

    def add(self, sample: Sample) -> None:
        """Count a sample as the data set gives it."""
        self.add_counted(*_counted(sample))

    def add_counted(self, name: str, form: str, counts: np.ndarray | None) -> None:
        """Count a sample of which `x_form` and `label_counts` are known."""
        self.forms.setdefault(form, []).append(name)
        if counts is not None:
            self.counts += counts
            self.labelled += 1

    def merge(self, other: 'Survey') -> None:
        """Count what another survey has counted, of other samples of the same split."""
        self.counts += other.counts
        self.labelled += other.labelled
        for form, names in other.forms.items():
            self.forms.setdefault(form, []).extend(names)

    def faults(self, data: PairedDataset) -> list[str]:
        """Return what must be mended before the samples of `data` serve for anything."""
        return [*self._one_class(), *self._odd_x(data), *_unused(data, images=True)]

    def remarks(self, data: PairedDataset, classes=None) -> list[str]:
        """
        Return what may be as it should, or not.

        `classes` are those that labels should show, as a LabelSet; None: those of the data set.
        """
        return [*self._absent(data.CLASSES if classes is None else classes),
                *self._painted(data), *self._flat(data), *_unused(data, images=False),
                *self._no_label(data)]

    def _one_class(self):
        ids = np.flatnonzero(self.counts[:UNLABELED]).tolist()
        if self.counts[UNLABELED] and len(ids) < 2:
            beside = f'nothing but class {ids[0]} and' if ids else 'nothing but'
            yield (f'the labels hold {beside} {UNLABELED}, which means unlabeled: where it stands '
                   'for an object, store the id of a class instead, or name that in dataset.yaml, '
                   'as in ids: {0: 0, 255: 1}')

    def _odd_x(self, data):
        forms: dict[str, list[str]] = {}
        for form, names in self.forms.items():
            forms.setdefault(form.removesuffix(_PAINTED).removesuffix(_FLAT), []).extend(names)
        if len(forms) < 2:
            return
        (usual, most), *others = Counter(
            {form: len(names) for form, names in forms.items()}).most_common()
        odd = [(name, form) for form, _ in others for name in sorted(forms[form])]
        some = ', '.join(f'{str(data.files(name).x)!r} of {form}'
                         for name, form in odd[:_MOST_NAMES])
        yield (f'X of {most} frames is of {usual}, that of {len(odd)} is not: {some}'
               f'{", ..." if len(odd) > _MOST_NAMES else ""}; convert them, or leave them out')

    def _in(self, state):
        return sorted(name for form, names in self.forms.items() if form.endswith(state)
                      for name in names)

    def _painted(self, data):
        names = self._in(_PAINTED)
        if names and data.X_KIND in (None, 'thermal'):
            yield (f'X of {len(names)} frames has colours, such as '
                   f'{str(data.files(names[0]).x)!r}: if a palette has painted what a thermal '
                   'camera measures, store that, or grey, instead')

    def _flat(self, data):
        names = self._in(_FLAT)
        if names:
            yield (f'X of {len(names)} frames shows nothing, all of it has one value or none, '
                   f'such as {str(data.files(names[0]).x)!r}: if the sensor was dead, leave '
                   'them out')

    def _absent(self, classes):
        if not self.labelled:
            return
        if classes:
            absent = [one.name for one in classes if not self.counts[one.id]]
            if absent:
                yield f'no label has a pixel of {", ".join(map(repr, absent))}'
        elif not self.counts[UNLABELED] and np.count_nonzero(self.counts) == 1:
            yield f'the labels hold nothing but class {self.counts.argmax()}'

    def _no_label(self, data):
        if data.other_folders and not self.labelled:
            yield ('no frame has a label: they are read from label/, and there are '
                   f'{", ".join(f"{name}/" for name in data.other_folders)}')


def survey(data: PairedDataset) -> Survey:
    """Read all samples and return their survey; raise DataError for one that cannot be read."""
    found = Survey()
    with ThreadPoolExecutor(min(16, os.cpu_count() or 1)) as pool:
        for counted in pool.map(lambda i: _counted(data[i]), range(len(data))):
            found.add_counted(*counted)
    return found


def _counted(sample):
    return sample.name, x_form(sample.x), label_counts(sample.label)


def x_form(x: np.ndarray) -> str:
    """
    Return type and channels of X in words, and what is odd: 'uint16', 'uint8 x3 in false colours'.

    Of one value is what shows nothing: all that was measured is alike, or nothing was.
    """
    channels = f' x{x.shape[2]}' if x.ndim == 3 else ''
    measured = x[np.isfinite(x)]
    is_flat = not measured.size or measured.min() == measured.max()
    return f'{x.dtype}{channels}{_FLAT if is_flat else _PAINTED if is_painted(x) else ""}'


def label_counts(label: np.ndarray | None) -> np.ndarray | None:
    """Return the pixels of each id in a label, (256,); None without one."""
    return None if label is None else np.bincount(label.ravel(), minlength=256)


def _unused(data, images):
    """Say which files of label/ and boxes/ belong to no frame, of images or of other files."""
    for folder, names in data.unused.items():
        names = [name for name in names if name.lower().endswith(ENDINGS) is images]
        if names:
            some = ', '.join(map(repr, names[:_MOST_NAMES]))
            yield (f'{len(names)} {"images" if images else "files"} of {folder}/ belong to no '
                   f'frame: {some}{", ..." if len(names) > _MOST_NAMES else ""}')
