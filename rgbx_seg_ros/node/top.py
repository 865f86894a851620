# Copyright 2026 rgbx_seg_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""`rgbx-seg top`: what the segmentation nodes tell about themselves, live in a terminal."""

import sys
import time

from rgbx_seg_ros.errors import ParameterError, RgbxSegError
from rgbx_seg_ros.health.report import Level
from rgbx_seg_ros.node.ear import Ear, Node, OLD_S, ros, TIMES
from rich.console import Console, Group
from rich.live import Live
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

_REFRESH_S, _PRINT_S = 0.5, 1.0
_GATHER_S = 1.5
"""In this time after the first report every node tells something, and most of them twice."""
_STYLES = {Level.OK: 'green', Level.WARN: 'yellow', Level.ERROR: 'bold red',
           Level.STALE: 'magenta'}


# Text objects only: what nodes tell may hold the brackets of rich's markup.

def report(node: Node, now_s: float, full: bool = True) -> Group:
    """Return what a node has told; without `full` only what fits in a few lines."""
    parts = [_head(node, now_s), _inputs(node)]
    if full:
        side_by_side = Table.grid(padding=(0, 4))
        side_by_side.add_row(_times(node), _drop_table(node))
        parts += [Text(), _sync_line(node), Text(), side_by_side]
    else:
        parts.append(_text_line(('latency ms', ' '.join(
            f'{share} {node.value("timing", f"latency_ms_{share}")}'
            for share in ('p50', 'p95', 'p99')))))
    if wrong := node.problems():
        parts += [Text(), *(_levelled(status) for status in wrong)]
    return Group(*parts)


def _head(node, now_s):
    status = node.sections['segmentation']
    value = status.values.get
    lines = Text()
    age_s = now_s - node.heard_s
    if age_s > OLD_S:
        lines.append(f'no report for {age_s:.0f} s: what follows is old; has the node ended, or '
                     'been deactivated?\n', _STYLES[Level.ERROR])
    lines.append_text(_levelled(status, value('mode', '')))
    lines.append(f'\n{value("model")} on {value("engine")}, {value("device")}; '
                 f'{value("masks")} masks in {node.uptime()}\n', 'dim')
    return lines


def _levelled(status, word=''):
    """Return the level of a status, and a word in the same style, and its message."""
    text = Text(f'{status.level.name} {word}'.strip(), _STYLES[status.level])
    return text.append(f'  {status.message}', 'default not bold')


def _inputs(node):
    table = _table('input', 'state', 'frames/s', 'age ms', 'jitter ms', left=('state', 'topic'))
    table.add_column('topic', overflow='fold')
    for name in ('rgb', 'x'):
        status = node.sections.get(name)
        if status is not None:
            table.add_row(name, Text(node.value(name, 'state'), _STYLES[status.level]),
                          *(node.value(name, key) for key in ('rate_hz', 'age_ms', 'jitter_ms')),
                          Text(node.value(name, 'topic')))
    return table


def _sync_line(node):
    def value(key):
        return node.value('sync', key)
    return _text_line(
        ('pairs/s', value('pairs_hz')), ('x - rgb ms p50', value('offset_ms_p50')),
        ('apart ms p95', f'{value("distance_ms_p95")} of {value("slop_ms")}'))


def _times(node):
    table = _table('ms', 'p50', 'p95', 'p99')
    for name in TIMES:
        table.add_row(name, *(node.value('timing', f'{name}_ms_{share}')
                              for share in ('p50', 'p95', 'p99')))
    return table


def _drop_table(node):
    table = _table('dropped', 'in all', 'per s')
    for reason, (total, rate_hz) in sorted(node.drops.items()):
        table.add_row(reason, str(total), '-' if rate_hz is None else f'{rate_hz:.1f}',
                      style='yellow' if rate_hz else None)
    if not node.drops:
        table.add_row('nothing', '', '')
    return table


def _table(first, *columns, left=()):
    table = Table(box=None, pad_edge=False, header_style='dim')
    table.add_column(first)
    for name in columns:
        table.add_column(name, justify='left' if name in left else 'right')
    return table


def _text_line(*facts):
    line = Text()
    for name, value in facts:
        line.append(f'{"   " if line else ""}{name} ', 'dim').append(value)
    return line


def screen(ear: Ear, now_s: float, size: tuple[int, int]) -> Group:
    """Return a panel for each node, short ones where the full ones exceed `size` (W, H)."""
    panels = []
    for full in (True, False):
        panels = [Panel(report(node, now_s, full), title=Text(name), title_align='left',
                        border_style='red' if now_s - node.heard_s > OLD_S else 'none')
                  for name, node in sorted(ear.nodes.items())]
        if sum(_height(panel, size[0]) for panel in panels) < size[1]:
            break
    return Group(*panels) if panels else Group(Text(ear.silence()))


def _height(renderable, width):
    console = Console(width=width)
    return len(console.render_lines(renderable, pad=False))


def block(ear: Ear, now_s: float) -> str:
    """Return the reports as text, for a file or a pipe."""
    console = Console(highlight=False)
    with console.capture() as captured:
        for name, node in sorted(ear.nodes.items()):
            console.print(Text(name, 'bold'), report(node, now_s), sep='\n')
            console.print()
        if not ear.nodes:
            console.print(Text(ear.silence()))
    return '\n'.join(line.rstrip() for line in captured.get().splitlines())


def add_arguments(parser):
    """Declare the command's arguments."""
    parser.add_argument('--node', metavar='NAME',
                        help='full name of the only node to show, as /front/rgbx_seg '
                             '(default: all that are heard)')
    parser.add_argument('--once', action='store_true', help='print one report and end')
    parser.add_argument('--timeout', type=float, default=10.0, metavar='S',
                        help='with --once: longest wait for the report in s; without one it ends '
                             'with exit code 2 (default: %(default)g)')


def main(args):
    """Run the command."""
    if not args.timeout > 0:
        raise ParameterError(f'timeout is {args.timeout!r}, needed is a number above 0')
    with ros() as asked:
        ear = Ear('top', args.node, asked)
        try:
            if args.once:
                _once(ear, args.timeout)
            elif sys.stdout.isatty() and not Console().is_dumb_terminal:
                _live(ear)
            else:
                while True:
                    ear.listen(_PRINT_S)
                    print(block(ear, time.monotonic()), flush=True)
        finally:
            ear.close()


def _once(ear, timeout_s):
    ear.listen(timeout_s, until=lambda: ear.nodes)
    if not ear.nodes:
        raise RgbxSegError(ear.silence())
    ear.listen(_GATHER_S)
    print(block(ear, time.monotonic()).rstrip())


def _live(ear):
    with Live(auto_refresh=False, vertical_overflow='ellipsis') as live:
        while True:
            console = live.console
            live.update(screen(ear, time.monotonic(), (console.width, console.height)),
                        refresh=True)
            ear.listen(_REFRESH_S)
