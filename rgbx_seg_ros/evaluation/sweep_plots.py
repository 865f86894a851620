# Copyright 2026 rgbx_seg_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""The curves of a sweep, as a page draws them."""

from typing import Any, NamedTuple

from rgbx_seg_ros.cards.labels import LabelSet
from rgbx_seg_ros.evaluation.disturbances import DISTURBANCES, Level


class Line(NamedTuple):
    """A curve."""

    name: str
    color: tuple[int, int, int] | None
    """Of its class in RGB; None for one of all classes."""
    points: list[tuple[Level, float, float]]
    """Levels, where they lie on the axis, 0..1, and shares."""


class Plot(NamedTuple):
    """The curves of a kind of disturbance, and what its table shows."""

    kind: str
    facts: dict[str, Any]
    """Of the JSON file."""
    ticks: list[tuple[Level, float]]
    """Levels, and where they lie on the axis, 0..1; none where they are words."""
    lines: list[Line]
    alarm: float | None
    """Where the drift alarm lies on the axis, if it does."""


def sweep_plots(facts: dict[str, Any], labels: LabelSet) -> list[Plot]:
    """
    Return the plots of the facts of a sweep, without NaN.

    The lines of the classes are those of their IoU, and without labels of their agreement.
    """
    found = []
    for kind, one in facts.items():
        places = DISTURBANCES[kind].places()
        if places is None:
            found.append(Plot(kind, one, [], [], None))
            continue
        levels = {level['level']: level for level in one['levels']}
        has_labels = levels[one['base']]['mean_iou'] is not None
        score = 'iou' if has_labels else 'agreement'
        lines = [_line(label.name, label.color, places, levels, score) for label in labels
                 if levels[one['base']][score][label.name] is not None]
        lines.append(_line('pixel_agreement', None, places, levels))
        if has_labels:
            lines.append(_line('mean_iou', None, places, levels))
        alarm = one['drift_alarm']['px'] / max(levels) if kind == 'shift' else None
        found.append(Plot(kind, one, list(places.items()), lines,
                          alarm if alarm is not None and alarm <= 1 else None))
    return found


def _line(name, color, places, levels, score=None):
    values = {level: one[score][name] if score else one[name] for level, one in levels.items()}
    return Line(name, color, [(level, place, values[level]) for level, place in places.items()
                              if values[level] is not None])
