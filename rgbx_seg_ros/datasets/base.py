# Copyright 2026 rgbx_seg_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""What every data set gives: paired frames by index, with a label where there is one."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, TypeAlias

import numpy as np
from rgbx_seg_ros.cards.labels import LabelClass, LabelSet, UNLABELED
from rgbx_seg_ros.datasets.files import images_in, listed_names, read_ids
from rgbx_seg_ros.errors import DataError
from rgbx_seg_ros.fields import unknown_name
from rgbx_seg_ros.frames.images import read_image, read_rgb

_NO_CLASS = 256  # in a table of ids: this id must not occur
_PACK = np.array([1 << 16, 1 << 8, 1], np.int32)  # a colour in one number


@dataclass(frozen=True)
class Sample:
    """One pair of frames as stored."""

    name: str
    """File name without its ending."""
    rgb: np.ndarray
    """(H, W, 3) uint8, RGB order."""
    x: np.ndarray
    """(H, W) or (H, W, 3), uint8, uint16 or float32."""
    label: np.ndarray | None
    """(H, W) uint8 class ids, 255 where unlabeled; None for a frame without a label."""
    x_limits: tuple[float, float] | None = None
    """
    Lowest and highest raw value of the image that X was cut from; None: X is a whole frame.

    A card whose x.normalization is minmax means these, not those of the piece.
    """


class Files(NamedTuple):
    """Where a pair is stored."""

    rgb: Path
    x: Path
    label: Path | None


Place: TypeAlias = Path | tuple[Path, str]
"""A folder of images, alone or with what their names end in."""


class PairedDataset:
    """
    The pairs of frames of one split, by name: the base of every data set.

    `root` is the folder as downloaded and `split` one of `SPLITS`; None serves where there is only
    one. Frames named in `exclude` are left out. Where a data set cuts large images to pieces,
    `whole` gives each as one sample. Raise DataError where a file is missing, which is named with
    what was expected of it.
    """

    CLASSES: LabelSet | None = None
    """The classes of the labels; None where the data set does not say."""
    X_KIND: str | None = None
    """What X measures, one of the kinds of a card."""
    SPLITS: dict[str, int | None] = {}
    """The splits, and how many pairs each has as published; None where that is not known."""
    SIZE: tuple[int, int] | None = None
    """Height and width of the frames as published; None where they vary."""
    X_TYPE: str | None = None
    """The type of X; None where it varies."""
    IDS: dict[int, int] | None = None
    """Class id of each id in the files, 255 for unlabeled; None: ids of `CLASSES` and 255."""
    COLORS: tuple[tuple[int, int, int], ...] | None = None
    """RGB colours of the stored ids, where labels may be painted; None: they hold ids."""
    SAME_SIZE = True
    """Whether X has the size of RGB."""

    def __init__(self, root: str | Path, split: str | None = None, exclude: Iterable[str] = (),
                 whole: bool = False):
        self.root, self.whole = Path(root), whole
        if not self.root.is_dir():
            raise DataError(f'{str(root)!r} is not a folder')
        self.split = self._chosen(split)
        self.unused: dict[str, list[str]] = {}
        """By the name of a folder, the files in it that belong to no frame, where that matters."""
        self.other_folders: list[str] = []
        """Folders that are not read, where none of labels is."""
        self._files = self._find()
        exclude = set(exclude)
        unknown = sorted(exclude - self._files.keys())
        if unknown:
            raise DataError(f'{str(root)!r} has no frame {unknown[0]!r} to exclude')
        self.names = [name for name in self._files if name not in exclude]
        if not self.names:
            raise DataError(f'{str(root)!r} holds no frames')
        self._class_of_id = self._id_table()

    @classmethod
    def splits_in(cls, root: str | Path) -> dict[str, int | None]:
        """Return the splits that a copy below `root` should have, as in `SPLITS`."""
        return cls.SPLITS

    def _chosen(self, split: str | None) -> str | None:
        if split is None and len(self.SPLITS) == 1:
            return next(iter(self.SPLITS))
        if split is None and self.SPLITS:
            raise DataError(f'{str(self.root)!r} has several splits, name one of: '
                            f'{", ".join(self.SPLITS)}')
        if split is not None and split not in self.SPLITS:
            raise DataError(f'split {unknown_name(split, self.SPLITS)}')
        return split

    def _find(self) -> dict[str, Files]:
        """Return the files of each pair of the split, by name and in order."""
        raise NotImplementedError

    @staticmethod
    def _pair(rgb: Place, x: Place, label: Place | None = None,
              split_list: Path | None = None) -> dict[str, Files]:
        """
        Return the Files of three folders' images; each folder is a Path, or (Path, ending).

        The names are those of the list `split_list`, or else of all images. Raise DataError for a
        name that one of the folders lacks.
        """
        places = [place if isinstance(place, tuple) else (place, '')
                  for place in (rgb, x, label) if place]
        found = [images_in(*place) for place in places]
        known = set().union(*found)
        names = listed_names(split_list, known) if split_list else sorted(known)
        for (folder, ending), files in zip(places, found, strict=True):
            missing = [name for name in names if name not in files]
            if missing:
                source = f'{str(split_list)!r} names' if split_list else 'the other folders have'
                raise DataError(
                    f'{str(folder)!r} lacks {len(missing)} of {len(names)} images that {source}, '
                    f'such as {missing[0] + ending!r}')
        return {name: Files(*(files[name] for files in found), *(() if label else (None,)))
                for name in names}

    def _id_table(self) -> np.ndarray:
        """Return the class id of each possible id, (256,) uint16; _NO_CLASS for what is none."""
        if self.CLASSES is None:
            return np.arange(256, dtype=np.uint16)
        table = np.full(256, _NO_CLASS, np.uint16)
        ids = self.IDS or {**{label.id: label.id for label in self.CLASSES}, UNLABELED: UNLABELED}
        for stored, own in ids.items():
            table[stored] = own
        return table

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, index: int) -> Sample:
        name = self.names[index]
        rgb, x = self._read_frames(name)
        files = self._files[name]
        if self.X_TYPE and x.dtype != self.X_TYPE:
            raise DataError(f'{str(files.x)!r} is {x.dtype}, needed is {self.X_TYPE}')
        if self.SAME_SIZE and x.shape[:2] != rgb.shape[:2]:
            raise DataError(f'{str(files.x)!r} has {_size(x)} pixels, but {str(files.rgb)!r} has '
                            f'{_size(rgb)}: they must be alike')
        label = self._read_label(name, rgb.shape[:2]) if files.label else None
        return Sample(name, rgb, x, label, self._x_limits(name))

    def _read_frames(self, name: str) -> tuple[np.ndarray, np.ndarray]:
        """Return RGB (H, W, 3) uint8 and X of a pair."""
        return read_rgb(self._files[name].rgb), read_image(self._files[name].x)

    def _x_limits(self, name: str) -> tuple[float, float] | None:
        """Return the lowest and highest value of the image that X is a part of, if it is one."""
        return None

    def _read_label(self, name: str, size: tuple[int, ...]) -> np.ndarray:
        """Return the class ids of a frame that has a label, of `size`, (H, W) uint8."""
        path = self._files[name].label
        assert path is not None
        ids = read_ids(path)
        if ids.ndim == 3 and self.COLORS:
            ids = self._ids_of_colors(ids, path, self.COLORS)
        if ids.shape != size or ids.dtype != np.uint8:
            raise DataError(f'{str(path)!r} is {ids.shape!r} {ids.dtype}, needed are the class '
                            f'ids of the colour frame, {size!r} uint8')
        return self._classes_of_ids(ids, path)

    def _classes_of_ids(self, ids: np.ndarray, path: Path) -> np.ndarray:
        """Return the class ids of the ids in a file; raise DataError for one that has none."""
        label = self._class_of_id[ids]
        if label.max() == _NO_CLASS:
            wrong = np.unique(ids[label == _NO_CLASS]).tolist()
            allowed = np.flatnonzero(self._class_of_id != _NO_CLASS).tolist()
            raise DataError(f'{str(path)!r} holds the ids {_few(wrong)}, allowed are '
                            f'{_few(allowed)}')
        return label.astype(np.uint8)

    @staticmethod
    def _ids_of_colors(image: np.ndarray, path: Path,
                       colors: tuple[tuple[int, int, int], ...]) -> np.ndarray:
        """Return the ids that the colours of an image stand for, (H, W) uint8."""
        known = np.array(colors, np.int32) @ _PACK
        order = np.argsort(known)
        packed = image.astype(np.int32) @ _PACK
        place = np.searchsorted(known[order], packed).clip(max=len(known) - 1)
        ids = order[place]
        wrong = image[known[ids] != packed]
        if len(wrong):
            raise DataError(f'{str(path)!r} holds the colour {tuple(wrong[0].tolist())!r}, '
                            f'allowed are {", ".join(map(repr, colors))}')
        return ids.astype(np.uint8)

    def files(self, name: str) -> Files:
        """Return where a pair is stored."""
        return self._files[name]

    def boxes(self, name: str) -> list[tuple[int, float, float, float, float]]:
        """Return the boxes of a frame: class id, centre x and y, width and height, relative."""
        return []

    def recordings(self) -> list[list[tuple[str, int]]]:
        """
        Return the frames of each recording in the order of time: names, and stamps of X in ns.

        Without any the data set does not tell which of its frames follow each other.
        """
        return []


def classes(*names_and_colors: tuple[str, tuple[int, int, int]]) -> LabelSet:
    """Return the classes with these names and RGB colours, ids from 0 on."""
    return LabelSet(LabelClass(i, *one) for i, one in enumerate(names_and_colors))


def box_corners(box: Sequence[float], width: int, height: int) -> tuple[int, int, int, int]:
    """
    Return left, top, right and bottom, in pixels of a frame and inside of it, of a box.

    `box` has centre x and y, width and height, relative, as `PairedDataset.boxes` behind the id.
    """
    x, y, w, h = box
    left, right = np.clip(np.round(np.array([x - w / 2, x + w / 2]) * width), 0, width)
    top, bottom = np.clip(np.round(np.array([y - h / 2, y + h / 2]) * height), 0, height)
    return int(left), int(top), int(right), int(bottom)


def _size(image: np.ndarray) -> str:
    return f'{image.shape[1]}x{image.shape[0]}'


def _few(ids: list[int]) -> str:
    """Return ids as text, runs of them as 'first..last'."""
    cuts = [i for i in range(1, len(ids)) if ids[i] != ids[i - 1] + 1]
    runs = [ids[a:b] for a, b in zip([0, *cuts], [*cuts, len(ids)], strict=True)]
    return ', '.join(f'{run[0]}..{run[-1]}' if len(run) > 1 else f'{run[0]}' for run in runs)
