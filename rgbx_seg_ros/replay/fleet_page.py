# Copyright 2026 rgbx_seg_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""One page for the bags of a fleet: by bag, by day and night, by hour of the day and by class."""

from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import numpy as np
from rgbx_seg_ros.cards.labels import LabelSet
from rgbx_seg_ros.evaluation.pages import write_page
from rgbx_seg_ros.evaluation.report import confusion_rows, histogram, percent, with_numbers

_HOURS = 24


def write_fleet_page(path: Path, facts: dict[str, Any], labels: LabelSet,
                     times_ms: list[float]) -> None:
    """
    Write the page to `path`; raise DataError where that cannot be.

    `facts` are those of a fleet with all its bags, `times_ms` the times of all frames.
    """
    totals = facts['totals']
    count = len(facts['bags']) + len(facts['failed'])
    write_page(
        path, 'fleet.html.j2', {'percent': percent, 'time': _time, 'number': _number},
        title=f'{totals["model"]} on {count} {"bags" if count > 1 else "bag"}', facts=facts,
        totals=totals, count=count, labels=labels, hours=_hours(totals['hours']),
        confusion=confusion_rows(np.array(totals['confusion']), labels.names),
        with_numbers=with_numbers(labels), latency=histogram(times_ms))


def _hours(parts):
    """Return the hours of the day that have pairs, and the most pairs of one."""
    return {'bars': [(int(hour), part) for hour, part in parts.items()],
            'top': max((part['pairs'] for part in parts.values()), default=0), 'count': _HOURS}


def _time(stamp_s):
    """Return a stamp in seconds as date and time in UTC."""
    return datetime.fromtimestamp(stamp_s, timezone.utc).strftime('%Y-%m-%d %H:%M')


def _number(value):
    """Return a number with two digits behind the point, a dash for None."""
    return '–' if value is None else f'{value:.2f}'
