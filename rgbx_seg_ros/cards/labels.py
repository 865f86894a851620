# Copyright 2026 rgbx_seg_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""Class ids, their names and colours, and the pictures made of a mask."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
import json
from typing import Any

import numpy as np
from rgbx_seg_ros.errors import CardError, ParameterError
from rgbx_seg_ros.fields import unknown_name

UNLABELED = 255
"""Id of a pixel without a label: ignored in training and scores, unknown to a planner."""


@dataclass(frozen=True)
class LabelClass:
    """One class of a model."""

    id: int  # noqa: A003
    """Value in the mask, 0..254."""
    name: str
    """One of its own."""
    color: tuple[int, int, int]
    """In pictures for people: red, green and blue, 0..255 each."""

    def __post_init__(self) -> None:
        if not 0 <= self.id < UNLABELED:
            raise CardError(f'class {self.name!r}: id is {self.id!r}, allowed are 0..254')
        if len(self.color) != 3 or not all(0 <= c <= 255 for c in self.color):
            raise CardError(
                f'class {self.name!r}: color is {self.color!r}, needed are three numbers 0..255')


class LabelSet(tuple[LabelClass, ...]):
    """
    The classes of a model in the order of their ids, which run from 0 without a gap.

    `groups` has names for some of them together, such as drivable: [road, gravel]; a class may be
    in several, or in none.
    """

    groups: dict[str, tuple[str, ...]]

    def __new__(cls, classes: Iterable[LabelClass],
                groups: Mapping[str, Sequence[str]] | None = None) -> 'LabelSet':
        self = super().__new__(cls, classes)
        ids = [label.id for label in self]
        if not ids or ids != list(range(len(ids))):
            raise CardError(f'class ids are {ids!r}: they must run 0, 1, 2, ... in order')
        names = [label.name for label in self]
        for name in names:
            if names.count(name) > 1:
                raise CardError(f'class name {name!r} is given twice')
        self.groups = {name: self._members(name, members)
                       for name, members in (groups or {}).items()}
        return self

    def _members(self, group: str, members: Any) -> tuple[str, ...]:
        """Return the names in a group, or raise CardError."""
        if not isinstance(group, str) or not group.strip():
            raise CardError(f'a group is named {group!r}: needed is a word')
        if isinstance(members, str) or not isinstance(members, Sequence) or not members:
            raise CardError(f'group {group!r} is {members!r}, needed is a list of class names')
        for name in members:
            if name not in self.names:
                raise CardError(f'group {group!r}: class {unknown_name(name, self.names)}')
            if members.count(name) > 1:
                raise CardError(f'group {group!r} has the class {name!r} twice')
        return tuple(members)

    def grouped(self, groups: Mapping[str, Sequence[str]]) -> 'LabelSet':
        """Return the same classes with `groups` beside their own, or in place of some."""
        return LabelSet(self, {**self.groups, **groups})

    def ids(self, group: str) -> np.ndarray:
        """Return which of all 256 ids are in a group, (256,) bool; raise CardError without it."""
        if group not in self.groups:
            known = unknown_name(group, self.groups) if self.groups else (
                f'{group!r} is unknown, as the model has no groups')
            raise CardError(f'group {known}; give groups in the card (groups) or by the parameter '
                            'classes.groups')
        return np.isin(np.arange(256), [self.names.index(n) for n in self.groups[group]])

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
        """
        Return the palette as JSON: a list of id, name and color, 255 at the end.

        Where there are groups, each entry also has the list of those that the class is in.
        """
        entries: list[dict[str, Any]] = [
            {'id': c.id, 'name': c.name, 'color': list(c.color)} for c in self]
        entries.append({'id': UNLABELED, 'name': 'unlabeled', 'color': [0, 0, 0]})
        if self.groups:
            for entry in entries:
                entry['groups'] = [group for group, members in self.groups.items()
                                   if entry['name'] in members]
        return json.dumps(entries)


def parse_groups(text: str) -> dict[str, list[str]]:
    """
    Return the groups in a text such as `drivable=road; dynamic=person, car`; none in an empty one.

    Raise ParameterError for a text of another form.
    """
    groups: dict[str, list[str]] = {}
    for part in filter(str.strip, text.split(';')):
        name, equals, members = (piece.strip() for piece in part.partition('='))
        words = [word.strip() for word in members.split(',')]
        if not (name and equals and all(words)):
            raise ParameterError(f'{part.strip()!r} is no group: needed is its name, = and class '
                                 "names with commas between them, as in 'dynamic=person, car'")
        if name in groups:
            raise ParameterError(f'group {name!r} is given twice')
        groups[name] = words
    return groups
