# Copyright 2026 rgbx_seg_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""What the classes of a mask mean to a vehicle: by the palette that comes with the masks."""

from dataclasses import dataclass, field
import json

import numpy as np
from rgbx_seg_ros.cards.labels import LabelClass, LabelSet, parse_groups, UNLABELED
from rgbx_seg_ros.errors import CardError, ParameterError
from rgbx_seg_ros.fields import unknown_name
from rgbx_seg_ros.projection.ground import FREE, OCCUPIED, UNKNOWN
from rgbx_seg_ros.projection.points import pack_colors


def parse_names(text: str) -> list[str]:
    """Return the names between commas, none in an empty text; raise ParameterError for a gap."""
    names = [name.strip() for name in text.split(',')] if text.strip() else []
    if not all(names):
        raise ParameterError('needed are names with one comma between them')
    return names


def parse_costs(text: str) -> dict[str, int]:
    """Return the costs in a text such as `drivable=0; sidewalk=60`; raise ParameterError."""
    costs = {}
    for name, words in parse_groups(text).items():
        if len(words) != 1 or not words[0].isdecimal() or int(words[0]) > OCCUPIED:
            raise ParameterError(f'the cost of {name!r} is {", ".join(words)!r}, needed is a '
                                 f'whole number 0 to {OCCUPIED}')
        costs[name] = int(words[0])
    return costs


def read_palette(text: str) -> LabelSet:
    """Return classes and groups of a segmentation/palette; raise ParameterError for another."""
    try:
        entries = [entry for entry in json.loads(text) if entry['id'] != UNLABELED]
        groups = {}
        for entry in entries:
            for group in entry.get('groups', ()):
                groups.setdefault(group, []).append(entry['name'])
        return LabelSet([LabelClass(entry['id'], entry['name'], tuple(entry['color']))
                         for entry in entries], groups)
    except (ValueError, KeyError, TypeError, AttributeError, CardError) as error:
        raise ParameterError(f'the palette is not that of a segmentation node: {error}') from error


@dataclass(frozen=True)
class Classes:
    """What parameters say of the classes of `labels`, by id; raise ParameterError for others."""

    labels: LabelSet
    ground: str = ''
    """Names of groups or classes, with commas between them."""
    obstacle: str = ''
    drop: str = ''
    costs: str = ''
    obstacles: np.ndarray = field(init=False)
    """Which ids stand up, (256,) bool."""
    dropped: np.ndarray = field(init=False)
    """Those whose points are left out, (256,) bool."""
    values: np.ndarray = field(init=False)
    """What a cell is where a class is seen, (256,) int8."""
    cost_values: np.ndarray = field(init=False)
    """The same for the grid of costs."""
    cost_marks: np.ndarray = field(init=False)
    """The cost where an obstacle meets the ground, (256,) int8."""
    colors: np.ndarray = field(init=False)
    """Of the palette, packed, (256,) uint32."""

    def __post_init__(self) -> None:
        ground = self._ids('classes.ground', self.ground)
        obstacles = self._ids('classes.obstacle', self.obstacle)
        both = [label.name for label in self.labels if (ground & obstacles)[label.id]]
        if both:
            raise ParameterError(f'{", ".join(map(repr, both))} counts as ground (classes.ground '
                                 f'is {self.ground!r}) and as an obstacle (classes.obstacle is '
                                 f'{self.obstacle!r}): a class can be one of the two')
        values = np.where(ground, FREE, UNKNOWN).astype(np.int8)
        costs = np.full(256, UNKNOWN, np.int8)
        marks = np.full(256, OCCUPIED, np.int8)
        for name, cost in parse_costs(self.costs).items():
            ids = self._ids('classes.costs', name)
            costs[ids], marks[ids] = cost, cost
        costs[obstacles] = UNKNOWN  # but for their contacts
        marks[~obstacles] = UNKNOWN
        for name, value in (('obstacles', obstacles), ('values', values), ('cost_values', costs),
                            ('cost_marks', marks),
                            ('dropped', self._ids('points.drop', self.drop)),
                            ('colors', pack_colors(self.labels.palette()))):
            object.__setattr__(self, name, value)

    def _ids(self, parameter: str, names: str) -> np.ndarray:
        """Return which ids are meant by names of groups or classes, (256,) bool."""
        found = np.zeros(256, bool)
        known = {**{label.name: (label.name,) for label in self.labels}, **self.labels.groups}
        for name in parse_names(names):
            if name not in known:
                raise ParameterError(f'parameter {parameter!r} is {names!r}: {name!r} is neither '
                                     f'a group nor a class of the model; '
                                     f'{unknown_name(name, known).partition("; ")[2]}')
            found |= np.isin(np.arange(256),
                             [self.labels.names.index(member) for member in known[name]])
        return found
