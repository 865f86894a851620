# Copyright 2026 rgbx_seg_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""What the checks of a GPU have found: in 80 columns, and as a page."""

from pathlib import Path

from rgbx_seg_ros.evaluation.pages import write_page
from rgbx_seg_ros.tables import wrapped
from support.gpu.runner import FAILED, OK, SKIPPED

MARKS = {OK: '[ok]', SKIPPED: '[--]', FAILED: '[!!]'}
DRY = ('A dry run, on a CPU and with stand-ins: it shows that the checks themselves run. None of '
       'its figures is that of a GPU.')
"""Stands in each of the three."""

_NAME = 20


def line(row: dict) -> str:
    """Return a check in a line of text, or in more with a reason."""
    start = f'{MARKS[row["status"]]} {row["name"]:{_NAME}} {row["seconds"]:4.0f} s  '
    said = row['summary'] if row['status'] == OK else row['reason']
    return wrapped(said, start, indent=' ' * 7)


def counts(rows: list[dict]) -> dict[str, int]:
    """Return how many checks there are of each status."""
    return {status: sum(row['status'] == status for row in rows) for status in MARKS}


def summary(facts: dict, files) -> str:
    """Return the lines at the end: what was checked, what came of it, where to read on."""
    found = counts(facts['checks'])
    skipped = [row['name'] for row in facts['checks'] if row['status'] == SKIPPED]
    failed = [row['name'] for row in facts['checks'] if row['status'] == FAILED]
    lines = [f'{found[OK]} ok, {found[FAILED]} failed, {found[SKIPPED]} skipped of '
             f'{len(facts["checks"])} in {facts["seconds"]:.0f} s']
    lines += [f'failed: {", ".join(failed)}'] if failed else []
    lines += [f'skipped: {", ".join(skipped)}'] if skipped else []
    lines += [DRY] if facts['dry_run'] else []
    return '\n'.join(wrapped(one, indent='    ') for one in [*lines, *map(str, files)])


def write(path: Path, facts: dict) -> None:
    """Write the page of the facts."""
    rows = {row['name']: row for row in facts['checks']}
    figures = {name: row['figures'] for name, row in rows.items() if row['figures']}
    write_page(
        path, 'gpu_check.html.j2', {'short': short, 'percent': percent, 'mb': megabytes},
        folders=(Path(__file__).parent,), facts=facts, counts=counts(facts['checks']),
        marks=MARKS, dry=DRY, machine=facts['machine'],
        parity=[(name.removeprefix('parity '), one) for name, one in figures.items()
                if name.startswith('parity ')],
        engines=[(name, row) for name, one in figures.items() for row in one.get('rows', ())],
        peaks={name: one['peak_flops'] | {'copy': one['peak_bytes_per_s']}
               for name, one in figures.items() if 'peak_flops' in one},
        builds=[one for name, one in figures.items() if name.startswith('build ')],
        graphs=figures.get('graphs', {}).get('graphs', []), soak=figures.get('soak'),
        live=figures.get('live'))


def short(value) -> str:
    """Return a number with three digits; - for none."""
    return '-' if value is None else f'{value:.3g}'


def percent(share) -> str:
    """Return a share in percent with two digits; - for none."""
    return '-' if share is None else f'{100 * share:.2g} %'


def megabytes(count) -> str:
    """Return bytes as MB."""
    return f'{count / 1e6:.1f}'
