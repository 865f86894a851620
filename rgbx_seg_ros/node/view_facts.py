# Copyright 2026 rgbx_seg_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""What a browser is told of a node, as values of JSON: what the node tells about itself."""

import json

from rgbx_seg_ros.errors import MessageError
from rgbx_seg_ros.health.report import DROPS
from rgbx_seg_ros.node.ear import Node, TIMES

_CLASSES, _NAME = 256, 80
"""Most classes of a legend, and most letters of a name."""
_FIGURES = {
    'masks/s': ('segmentation', 'masks_hz'),
    'ms latency, median': ('timing', 'latency_ms_p50'),
    'ms latency, 95 %': ('timing', 'latency_ms_p95'),
    'RGB frames/s': ('rgb', 'rate_hz'),
    'X frames/s': ('x', 'rate_hz'),
}
"""What is shown in large figures, by what stands below."""


def facts(node: Node, now_s: float) -> dict:
    """Return what a node has told, and for how long it has told nothing since, s."""
    status, value = node.sections['segmentation'], node.value
    told = status.values.get
    drops_hz = [rate_hz for _, rate_hz in node.drops.values()]
    lost_hz = '-' if None in drops_hz else f'{sum(drops_hz):.1f}'
    return {
        'level': status.level.name, 'mode': value('segmentation', 'mode'),
        'message': status.message,
        'problems': [{'level': one.level.name, 'message': one.message}
                     for one in node.problems()],
        'about': f'{told("model")} on {told("engine")}, {told("device")}; '
                 f'{told("masks")} masks in {node.uptime()}',
        'silent_s': round(now_s - node.heard_s, 1),
        'figures': [*((value(*where), name) for name, where in _FIGURES.items()),
                    (lost_hz, 'dropped/s')],
        'inputs': [{'level': node.sections[name].level.name, 'cells': (
                        name, *(value(name, key) for key in (
                            'state', 'rate_hz', 'age_ms', 'jitter_ms', 'topic')))}
                   for name in ('rgb', 'x') if name in node.sections],
        'times': [(name, *(value('timing', f'{name}_ms_{share}')
                           for share in ('p50', 'p95', 'p99'))) for name in TIMES],
        'drops': [(reason, str(total), '-' if rate_hz is None else f'{rate_hz:.1f}',
                   DROPS.get(reason, '')) for reason, (total, rate_hz) in
                  sorted(node.drops.items())],
        'sync': f'{value("sync", "pairs_hz")} pairs/s, X later than RGB by '
                f'{value("sync", "offset_ms_p50")} ms in the median, 95 % apart by no more than '
                f'{value("sync", "distance_ms_p95")} of {value("sync", "slop_ms")} ms',
    }


def legend(text: str) -> list[dict]:
    """
    Return the classes in a message of segmentation/palette: name and color, three of 0..255.

    Raise MessageError for a text that is something else.
    """
    try:
        classes = [{'name': str(entry['name'])[:_NAME],
                    'color': [min(max(int(part), 0), 255) for part in entry['color']]}
                   for entry in json.loads(text)[:_CLASSES]]
    except (ValueError, TypeError, KeyError, OverflowError, RecursionError) as error:
        raise MessageError(f'the palette is no list of names and colors: {error!r}') from error
    if any(len(entry['color']) != 3 for entry in classes):
        raise MessageError('the palette has a color that is not of three numbers')
    return classes
