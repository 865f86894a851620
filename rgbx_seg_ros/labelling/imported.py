# Copyright 2026 rgbx_seg_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""Masks of a tool become `label/` of a data set: all of them, or none."""

from collections.abc import Sequence
from dataclasses import dataclass, field
import difflib
from pathlib import Path
import unicodedata

import numpy as np
from rgbx_seg_ros.cards.labels import UNLABELED
from rgbx_seg_ros.datasets import FolderDataset
from rgbx_seg_ros.datasets.files import ENDINGS, images_in, read_ids
from rgbx_seg_ros.datasets.folder import DESCRIPTION
from rgbx_seg_ros.errors import DataError
from rgbx_seg_ros.files import check_outputs, move_in, staging
from rgbx_seg_ros.frames.images import read_header, write_image
from rgbx_seg_ros.labelling.masks import ToolMask
from tqdm import tqdm

LABEL = 'label'
_MOST_PROBLEMS = 10
_MOST_NAMES = 3


@dataclass
class Report:
    """What an import has found and written."""

    folder: Path
    problems: list[str] = field(default_factory=list)
    """With one of these nothing is written."""
    written: int = 0
    same: int = 0
    """Labels that were there already, with the same ids."""
    left_out: int = 0
    """Frames without a mask."""
    pixels: int = 0
    unlabeled: int = 0
    """Pixels without a class."""

    def __str__(self):
        if self.problems:
            lines = [f'  {problem}' for problem in self.problems[:_MOST_PROBLEMS]]
            if len(self.problems) > _MOST_PROBLEMS:
                lines.append(f'  and {len(self.problems) - _MOST_PROBLEMS} more')
            plural = 's'[:len(self.problems) != 1]
            return '\n'.join([*lines, f'nothing is written: {len(self.problems)} '
                                      f'problem{plural}'])
        parts = [f'wrote {self.written} labels to {self.folder}']
        parts += [f'{self.same} were there already'] if self.same else []
        parts += [f'{self.left_out} frames have no mask'] if self.left_out else []
        parts.append(f'unlabeled are {100 * self.unlabeled / self.pixels:.1f} % of the pixels')
        return '; '.join(parts)


class _Ids:
    """Turns class ids into those that the labels of a data set hold."""

    def __init__(self, data: FolderDataset):
        self._stored = np.arange(256, dtype=np.int16)
        if data.IDS is not None:
            self._stored[:] = -1
            for stored, own in sorted(data.IDS.items(), key=lambda one: one[0] == one[1]):
                self._stored[own] = stored

    def __call__(self, ids: np.ndarray, where: str) -> np.ndarray:
        """Return stored ids (H, W) uint8; raise DataError for a class that has none."""
        stored = self._stored[ids]
        if stored.min() < 0:
            raise DataError(f'{where} has the class {ids[stored < 0][0]}, for which {DESCRIPTION} '
                            'has no stored id: add it to its ids')
        return stored.astype(np.uint8)


def import_masks(data: FolderDataset, masks: Sequence[ToolMask], out: Path | None = None,
                 replace: bool = False, partial: bool = False) -> Report:
    """
    Write the masks as labels of `data`, or to a new folder `out`, and return the report.

    With `replace` labels that a command of ours has written are written over; with `partial`
    frames may be without a mask. Where something is wrong all of it stands in the report, and
    nothing is written.
    """
    folder = out or data.root / (data.split or '') / LABEL
    report = Report(folder)
    of_frame = _matched(data, masks, partial, report)
    before = images_in(folder) if folder.is_dir() else {}
    to_stored = _Ids(data)
    with staging(folder) as part:
        for name, mask in tqdm(of_frame.items(), unit='mask', leave=False, disable=None):
            header = read_header(data.files(name).rgb)
            try:
                ids = mask.read((header.height, header.width))
                stored = to_stored(ids, repr(mask.file))
                is_same = name in before and _is_same(before[name], name, stored, replace)
            except DataError as error:
                report.problems.append(str(error))
                continue
            report.pixels += ids.size
            report.unlabeled += int((ids == UNLABELED).sum())
            report.same += is_same
            if not is_same and not report.problems:
                write_image(part / f'{name}.png', stored)
        if not report.problems:
            report.written = len(of_frame) - report.same
            move_in(part, folder)
    return report


def _is_same(path, name, stored, replace):
    """Return whether a label has these ids already; raise DataError where it must be kept."""
    try:
        if np.array_equal(read_ids(path), stored):
            return True
    except DataError:
        pass
    if path.name != f'{name}.png':
        raise DataError(f'{str(path)!r} exists already, has other ids, and is not named '
                        f'{name}.png as what is written: remove it, or give a new folder --out')
    try:
        check_outputs([path])
    except DataError as error:
        raise DataError(f'{error}, or give a new folder --out') from None
    if not replace:
        raise DataError(f'{str(path)!r} exists already and has other ids: give --replace to write '
                        'over it, or a new folder --out')
    return False


def _matched(data, masks, partial, report):
    """Return the mask of each frame that has one; what does not fit goes to the report."""
    known = {unicodedata.normalize('NFC', name): name for name in data.names}
    found: dict[str, ToolMask] = {}
    for mask in masks:
        image = _name(mask.image)
        name = image if image in data.names else known.get(unicodedata.normalize('NFC', image))
        if name is None:
            near = difflib.get_close_matches(image, data.names, 1)
            hint = f'; is it {near[0]!r}?' if near else ''
            report.problems.append(f'{mask.file!r} is of no frame: none is named {image!r}{hint}')
        elif name in found:
            report.problems.append(f'{found[name].file!r} and {mask.file!r} are both masks of the '
                                   f'frame {name!r}: remove one')
        else:
            found[name] = mask
    lacking = [name for name in data.names if name not in found]
    if lacking and not partial:
        some = ', '.join(map(repr, lacking[:_MOST_NAMES]))
        report.problems.insert(0, f'{len(lacking)} of {len(data)} frames have no mask: {some}'
                                  f'{", ..." if len(lacking) > _MOST_NAMES else ""}; label them '
                                  'in the tool, or give --partial')
    elif lacking:
        report.left_out = len(lacking)
    return {name: found[name] for name in data.names if name in found}


def _name(image):
    """Return the name of a frame: that of an image in a tool, without folders and ending."""
    name = image.replace('\\', '/').rsplit('/', 1)[-1]
    stem, dot, ending = name.rpartition('.')
    return stem if f'{dot}{ending}'.lower() in ENDINGS else name
