# Copyright 2026 rgbx_seg_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""Tables as plain text for a terminal, a log and a mail: 80 columns wide."""

from collections.abc import Iterable, Sequence
import textwrap

WIDTH = 80
_GAP = '  '


def wrapped(text: str, start: str = '', indent: str | None = None) -> str:
    """
    Return `text` behind `start`, and what does not fit into 80 columns below, behind `indent`.

    By itself `indent` is as wide as `start`. Words stay whole: paths are there to be copied.
    """
    indent = ' ' * len(start) if indent is None else indent
    return textwrap.fill(text, WIDTH, initial_indent=start, subsequent_indent=indent,
                         break_on_hyphens=False, break_long_words=False) or start.rstrip()


def aligned(cells: Iterable[Sequence[str]], sides: str, gap: str = _GAP) -> list[str]:
    """
    Return a text for each row, whose columns lie below each other.

    `sides` has a sign for each column, < or >, the side at which its cells are flush; a last one
    at the left is prose, which is wrapped. A column without a text in any row takes no room but
    its gap.
    """
    cells = [*map(list, cells)]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    if sides[-1] == '<':
        widths.pop()
    lines = []
    for row in cells:
        fixed = gap.join(f'{cell:{side}{width}}' for cell, side, width in zip(
            row, sides, widths, strict=False))
        lines.append(wrapped(row[-1], fixed + gap) if sides[-1] == '<' else fixed)
    return lines


def figures(cells: Iterable[Sequence[str]]) -> str:
    """
    Return a table of figures, flush right behind the names in the first column.

    The first row has the titles. Columns that do not fit into 80 stand in a further table below,
    behind the names again.
    """
    names, *columns = map(list, zip(*cells, strict=True))
    free = WIDTH - max(map(len, names))
    tables = [[names]]
    for column in columns:
        room = free - sum(max(map(len, one)) + len(_GAP) for one in tables[-1][1:])
        if len(tables[-1]) > 1 and max(map(len, column)) + len(_GAP) > room:
            tables.append([names])
        tables[-1].append(column)
    return '\n\n'.join('\n'.join(aligned(zip(*table, strict=True), '<' + '>' * (len(table) - 1)))
                       for table in tables)
