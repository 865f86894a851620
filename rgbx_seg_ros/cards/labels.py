# Copyright 2026 rgbx_seg_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""Class ids, their names and colours, and the pictures made of a mask."""

from collections.abc import Iterable
from dataclasses import dataclass
import json

import numpy as np
from rgbx_seg_ros.errors import CardError

UNLABELED = 255
"""Id of a pixel without a label: ignored in training and scores, unknown to a planner."""


@dataclass(frozen=True)
class LabelClass:
    """One class: the id in the mask, the name, the RGB colour (0..255 each)."""

    id: int  # noqa: A003
    name: str
    color: tuple[int, int, int]

    def __post_init__(self) -> None:
        if not 0 <= self.id < UNLABELED:
            raise CardError(f'class {self.name!r}: id is {self.id!r}, allowed are 0..254')
        if len(self.color) != 3 or not all(0 <= c <= 255 for c in self.color):
            raise CardError(
                f'class {self.name!r}: color is {self.color!r}, needed are three numbers 0..255')


class LabelSet(tuple[LabelClass, ...]):
    """The classes of a model in the order of their ids, which run from 0 without a gap."""

    def __new__(cls, classes: Iterable[LabelClass]) -> 'LabelSet':
        self = super().__new__(cls, classes)
        ids = [label.id for label in self]
        if not ids or ids != list(range(len(ids))):
            raise CardError(f'class ids are {ids!r}: they must run 0, 1, 2, ... in order')
        names = [label.name for label in self]
        for name in names:
            if names.count(name) > 1:
                raise CardError(f'class name {name!r} is given twice')
        return self

    @property
    def names(self) -> list[str]:
        """The class names by id."""
        return [label.name for label in self]

    def palette(self) -> np.ndarray:
        """Return the colour of every possible id, (256, 3) uint8 RGB; unknown ids are black."""
        table = np.zeros((256, 3), np.uint8)
        for label in self:
            table[label.id] = label.color
        return table

    def colorize(self, mask: np.ndarray) -> np.ndarray:
        """Return the colours of `mask` (H, W uint8) as (H, W, 3) uint8 RGB."""
        return self.palette()[mask]

    def overlay(self, rgb: np.ndarray, mask: np.ndarray, alpha: float = 0.5) -> np.ndarray:
        """
        Blend the colours of `mask` (H, W uint8) over `rgb` (H, W, 3 uint8).

        `alpha` is the share of the colour, 0..1. Pixels of class 0 (background by convention)
        and pixels without a label keep the camera's colours.
        """
        share = np.full(256, alpha, np.float32)
        added = np.round(self.palette() * share[:, None]).astype(np.uint8)
        # Rounded down, since white under a full colour must not reach 256. Only pixels that get a
        # colour are worked on, most often few, and bytes.translate is the quickest table.
        kept = (np.arange(256, dtype=np.uint8) * (1.0 - share)).astype(np.uint8).tobytes()
        picture, ids = np.array(rgb, order='C').reshape(-1, 3), np.ravel(mask)
        colored = np.flatnonzero((ids != 0) & (ids != UNLABELED))
        pixels = picture.take(colored, axis=0)
        darker = np.frombuffer(pixels.tobytes().translate(kept), np.uint8).reshape(pixels.shape)
        picture[colored] = darker + added.take(ids.take(colored), axis=0)
        return picture.reshape(rgb.shape)

    def to_json(self) -> str:
        """Return the palette as JSON: a list of id, name and color, 255 at the end."""
        entries = [{'id': c.id, 'name': c.name, 'color': list(c.color)} for c in self]
        entries.append({'id': UNLABELED, 'name': 'unlabeled', 'color': [0, 0, 0]})
        return json.dumps(entries)
