# Copyright 2026 rgbx_seg_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""
The classes of a data set as labels of a tool: names, and colours that tell them apart.

A mask of ours knows 255, unlabeled; a tool knows pixels that nothing covers. CVAT gives these to
the label `background`, black unless a task has a label of that name. So they are a class where one
is called background, and 255 goes under a label of its own; without such a class they are 255.
"""

from typing import NamedTuple

import numpy as np
from rgbx_seg_ros.cards.card import load_card
from rgbx_seg_ros.cards.labels import LabelSet, UNLABELED
from rgbx_seg_ros.datasets.base import PairedDataset
from rgbx_seg_ros.datasets.folder import DESCRIPTION
from rgbx_seg_ros.errors import DataError
from rgbx_seg_ros.fields import unknown_name

BACKGROUND = 'background'
_BLACK = 0, 0, 0
_UNLABELED_NAMES = 'unlabeled', 'unlabeled_255'
"""What 255 is called where pixels that nothing covers have a class; the first that is none."""
_VOID = 224, 224, 192
"""That of what is to be ignored in PASCAL VOC."""


class ToolLabel(NamedTuple):
    """A label of a tool."""

    name: str
    color: tuple[int, int, int]
    """RGB."""
    id: int  # noqa: A003
    """The class id of its pixels, 255 for unlabeled."""


def classes_of(data: PairedDataset, model: str | None) -> LabelSet:
    """
    Return the classes of a data set: those that it names, or else those of the card `model`.

    Raise DataError where neither names any, or where they differ.
    """
    card = load_card(model).labels if model else None
    if data.CLASSES and card and data.CLASSES.names != card.names:
        raise DataError(f'{str(data.root)!r} has the classes {", ".join(data.CLASSES.names)}, '
                        f'the model {model!r} has {", ".join(card.names)}: they must be alike')
    classes = data.CLASSES or card
    if not classes:
        raise DataError(f'{str(data.root)!r} does not say what its classes are: name them in its '
                        f'{DESCRIPTION}, see docs/datasets.md, or give a --model that has them')
    return classes


def tool_labels(classes: LabelSet) -> list[ToolLabel]:
    """
    Return the labels for a tool, that of pixels which nothing covers first.

    Colours are those of the classes; where that of another label comes again, or black, which a
    tool gives to what nothing covers, one that is free takes its place.
    """
    labels = [ToolLabel(one.name, tuple(one.color), one.id) for one in classes]
    covered = [one for one in labels if one.name != BACKGROUND]
    first = [one for one in labels if one.name == BACKGROUND]
    if first:
        name = next(name for name in _UNLABELED_NAMES if name not in classes.names)
        covered.append(ToolLabel(name, _VOID, UNLABELED))
    else:
        first = [ToolLabel(BACKGROUND, _BLACK, UNLABELED)]
    taken = {_BLACK, first[0].color}
    free = (color for color in map(tuple, voc_colors().tolist())
            if color not in taken | {one.color for one in covered})
    for i, one in enumerate(covered):
        if one.color in taken:
            covered[i] = one._replace(color=next(free))
        taken.add(covered[i].color)
    return first + covered


class ToolNames:
    """Tells which class a label of a tool is, by its name."""

    def __init__(self, classes: LabelSet):
        others = {BACKGROUND, *_UNLABELED_NAMES} - {*classes.names}
        self._ids = {**{one.name: one.id for one in classes},
                     **dict.fromkeys(sorted(others), UNLABELED)}
        self.uncovered = self._ids[BACKGROUND]
        """The class id of pixels that nothing covers."""

    def get(self, name: str) -> int | None:
        """Return the id of a label, 255 for unlabeled; None for a label that is no class."""
        return self._ids.get(name)

    def unknown(self, name: str) -> str:
        """Say that a label is no class."""
        return f'the label {unknown_name(name, self._ids)}'


def voc_colors() -> np.ndarray:
    """
    Return the colours of PASCAL VOC by number, (256, 3) uint8 RGB.

    By these CVAT knows objects: the bits of the number are dealt to red, green and blue in turn,
    the lowest ones to the highest bits.
    """
    number = np.arange(256)
    colors = np.zeros((256, 3), np.uint8)
    for bit in range(8):
        colors[:, bit % 3] |= ((number >> bit & 1) << (7 - bit // 3)).astype(np.uint8)
    return colors
