# Copyright 2026 rgbx_seg_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""
A folder with `rgb/`, one of `thermal/`, `depth/`, `disparity/` or `x/`, and maybe `label/`.

A `dataset.yaml` beside them may say what the labels mean, and which splits there are::

    x_kind: depth                 # thermal, depth, polarization or dsm
    classes:
      - {id: 0, name: road, color: [0, 0, 0]}
      - {id: 1, name: pothole, color: [128, 0, 0]}
    ids: {0: 0, 153: 1, 7: 255}   # stored id: class id, 255 is unlabeled; left out: the same
    splits: {train: 43, test: 13}  # folder: pairs in it; null where the number is not known

A `manifest.jsonl`, as `rgbx-seg extract` writes it, tells which frames follow each other.

With splits, `rgb/` and the others lie in a folder for each, as `train/rgb/`.
"""

from dataclasses import dataclass, field
import json
from pathlib import Path

from rgbx_seg_ros.cards.card import X_KINDS
from rgbx_seg_ros.cards.labels import LabelClass, LabelSet, UNLABELED
from rgbx_seg_ros.datasets.base import Files, PairedDataset
from rgbx_seg_ros.datasets.files import folders_in, images_in, read_lines
from rgbx_seg_ros.errors import CardError, DataError
from rgbx_seg_ros.fields import from_mapping, read_yaml, unknown_name
from rgbx_seg_ros.files import visible

X_FOLDERS = ('thermal', 'depth', 'disparity', 'x')
DESCRIPTION = 'dataset.yaml'
MANIFEST = 'manifest.jsonl'
_MOST = 4
"""Boxes may lie over the border and beside a frame; so many frames away they are in pixels."""


@dataclass(frozen=True)
class _Description:
    """What `dataset.yaml` says."""

    classes: tuple[LabelClass, ...] = ()
    x_kind: str | None = None
    ids: dict | None = None
    splits: dict = field(default_factory=dict)

    def __post_init__(self):
        if self.x_kind is not None and self.x_kind not in X_KINDS:
            raise ValueError(f'x_kind: {unknown_name(self.x_kind, X_KINDS)}')
        for name, count in self.splits.items():
            if not isinstance(name, str) or not (count is None or type(count) is int):
                raise ValueError(f'splits has {name!r}: {count!r}, needed is the name of a folder '
                                 'and its number of pairs, or null')
        if self.classes:
            LabelSet(self.classes)  # raises where their ids have a gap
        allowed = {*range(len(self.classes)), UNLABELED}
        for stored, own in (self.ids or {}).items():
            if not (type(stored) is int and 0 <= stored < 256 and type(own) is int
                    and own in allowed):
                raise ValueError(f'ids has {stored!r}: {own!r}, needed is an id 0..255 in the '
                                 f'files and the id of a class, or {UNLABELED}')


def _described(path):
    """Return what the file `path` says of the data set."""
    try:
        return from_mapping(_Description, read_yaml(path, DataError), repr(str(path)), DataError)
    except (CardError, ValueError) as error:
        raise DataError(f'{str(path)!r}: {error}') from error


class FolderDataset(PairedDataset):
    """
    The pairs of frames below `root`, by name.

    A pair is a file in `rgb/` and one of the same name, whatever its ending, in the folder of the
    second modality. Frames named in `exclude` are left out; `split` is a folder of `root`, which
    `dataset.yaml` may name. Raise DataError where a folder is missing or a frame has no partner.
    """

    SAME_SIZE = False

    @classmethod
    def splits_in(cls, root) -> dict[str, int | None]:
        """Return the splits that a copy below `root` should have; none without a description."""
        path = Path(root) / DESCRIPTION
        return _described(path).splits if not cls.SPLITS and path.is_file() else cls.SPLITS

    def _chosen(self, split):
        path = self.root / DESCRIPTION
        if self.CLASSES is None and path.is_file():
            said = _described(path)
            self.CLASSES = LabelSet(said.classes) if said.classes else None
            self.X_KIND, self.SPLITS, self.IDS = said.x_kind, said.splits, said.ids
        if self.SPLITS:
            return super()._chosen(split)
        if split is not None and not (self.root / split).is_dir():
            raise DataError(f'{str(self.root)!r} has no split {split!r}, its folders are '
                            f'{folders_in(self.root)!r}')
        return split

    def _find(self):
        root = self.root / (self.split or '')
        present = [name for name in X_FOLDERS if (root / name).is_dir()]
        if len(present) != 1 or not (root / 'rgb').is_dir():
            folders = folders_in(root) if root.is_dir() else []
            raise DataError(f'{str(root)!r} must hold rgb/ and exactly one of '
                            f'{", ".join(f"{name}/" for name in X_FOLDERS)}; its folders are '
                            f'{folders!r}')
        self.x_folder = present[0]
        rgb, x = images_in(root / 'rgb'), images_in(root / self.x_folder)
        label = images_in(root / 'label') if (root / 'label').is_dir() else {}
        if label and rgb and not label.keys() & rgb.keys():
            raise DataError(f'{str(root / "label")!r} holds {len(label)} images, and none has the '
                            f'name of a frame: they are named as {min(label)!r}, the frames as '
                            f'{min(rgb)!r}; rename them, or remove the folder')
        alone = sorted(rgb.keys() ^ x.keys())
        if alone:
            raise DataError(f'{str(root)!r}: {len(alone)} frames have no partner of the same name '
                            f'in rgb/ and {self.x_folder}/, the first is {alone[0]!r}')
        lacking = rgb.keys() - label.keys()
        if type(self).CLASSES and lacking:
            raise DataError(f'{str(root / "label")!r} lacks {len(lacking)} of {len(rgb)} labels, '
                            f'such as {min(lacking)!r}')
        used = {'label': {path.name for name, path in label.items() if name in rgb},
                'boxes': {f'{name}.txt' for name in rgb}}
        self.unused = {folder: [path.name for path in visible(root / folder)
                                if path.name not in names]
                       for folder, names in used.items() if (root / folder).is_dir()}
        if not self.unused:
            self.other_folders = [name for name in folders_in(root)
                                  if name not in ('rgb', self.x_folder)]
        return {name: Files(rgb[name], x[name], label.get(name)) for name in sorted(rgb)}

    def boxes(self, name: str) -> list[tuple[int, float, float, float, float]]:
        """
        Return the boxes of a frame from `boxes/NAME.txt`, an empty list where there is none.

        Each is a class id, then centre x, centre y, width and height, relative to the frame.
        """
        path = self.root / (self.split or '') / 'boxes' / f'{name}.txt'
        if not path.is_file():
            return []
        return [_box(path, line) for line in read_lines(path)]

    def recordings(self) -> list[list[tuple[str, int]]]:
        """Return the frames of each bag that `manifest.jsonl` tells of; see `PairedDataset`."""
        path = self.root / (self.split or '') / MANIFEST
        if not path.is_file():
            return []
        found: dict[str, list[tuple[str, int]]] = {}
        for line in read_lines(path):
            try:
                facts = json.loads(line)
                stamp = facts['x']['stamp']
                one = facts['name'], stamp['sec'] * 1_000_000_000 + stamp['nanosec']
                found.setdefault(facts['bag'], []).append(one)
            except (ValueError, LookupError, TypeError) as error:
                raise DataError(f'{str(path)!r}: a line is {line!r:.80}, needed is that of a pair '
                                'as rgbx-seg extract writes it') from error
        names = {*self.names}
        return [sorted((one for one in bag if one[0] in names), key=lambda one: one[1])
                for bag in found.values()]


def _box(path, line):
    """Return a line of a file of boxes as numbers."""
    try:
        i, x, y, w, h = line.split()
        box = int(i), float(x), float(y), float(w), float(h)
    except ValueError as error:
        hint = '; a line of more numbers is a polygon' * (len(line.split()) > 6)
        raise DataError(f'{str(path)!r}: each line must hold a class id and four numbers, '
                        f'one is {line!r:.80}{hint}') from error
    if not all(low <= number <= _MOST for low, number in zip(
            (1 - _MOST, 1 - _MOST, 0, 0), box[1:], strict=True)):
        raise DataError(f'{str(path)!r}: a line is {line!r:.80}, needed are centre, width and '
                        'height as shares of the frame, 0 to 1: divide pixels by its width and '
                        'height')
    return box
