# Copyright 2026 rgbx_seg_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""`rgbx-seg top`: what the segmentation nodes tell about themselves, live in a terminal."""

from contextlib import contextmanager
import os
import signal
import sys
import threading
import time

from diagnostic_msgs.msg import DiagnosticArray
import rclpy
from rclpy.executors import SingleThreadedExecutor
from rgbx_seg_ros.errors import ParameterError, RgbxSegError
from rgbx_seg_ros.health.report import Level, Status
from rgbx_seg_ros.node.diagnostics import from_array
from rgbx_seg_ros.resources import use_fastdds_profile
from rich.console import Console, Group
from rich.live import Live
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

TOPIC = '/diagnostics'
OLD_S = 3.0
"""A node tells about itself once a second: after this time without a report something is wrong."""
_REFRESH_S, _PRINT_S = 0.5, 1.0
_GATHER_S = 1.5
"""In this time after the first report every node tells something, and most of them twice."""
_WAIT_S = 0.1
"""Ctrl-C is noticed only between two waits for messages."""
_STYLES = {Level.OK: 'green', Level.WARN: 'yellow', Level.ERROR: 'bold red',
           Level.STALE: 'magenta'}
_TIMES = ('prepare', 'inference', 'post', 'publish', 'latency')


class Node:
    """What one node has told."""

    def __init__(self):
        self.sections: dict[str, Status] = {}
        self.heard_s = 0.0
        """When its newest report came."""
        self.drops: dict[str, tuple[int, float | None]] = {}
        """Drops by reason: all of them, and those per second since the report before."""

    def take(self, sections: dict[str, Status], now_s: float) -> None:
        """Take a report."""
        facts = sections['segmentation'].values
        before = self.sections['segmentation'].values if self.sections else facts
        # By the clock of the node: reports may come late or in bursts.
        elapsed_s = _number(facts, 'uptime_s') - _number(before, 'uptime_s')
        self.drops = {}
        for key in facts:
            if key.startswith('drops.'):
                total = _number(facts, key)
                rate_hz = (total - _number(before, key)) / elapsed_s if elapsed_s > 0 else None
                self.drops[key.partition('.')[2]] = int(total), rate_hz
        self.sections, self.heard_s = sections, now_s


def _number(values, key):
    try:
        return float(values[key])
    except (KeyError, ValueError):  # what is not told has not happened
        return 0.0


class Ear:
    """Listens to the topic until `asked` to end; `nodes` are those heard so far, by name."""

    def __init__(self, name: str | None, asked: threading.Event):
        self._asked = asked
        self._wanted = name and name.lstrip('/')
        self.nodes: dict[str, Node] = {}
        self.others: set[str] = set()
        """Segmentation nodes that were heard and not asked for."""
        self._node = rclpy.create_node(
            'rgbx_seg_top', enable_rosout=False, start_parameter_services=False)
        self._node.create_subscription(DiagnosticArray, TOPIC, self._take, 50)
        self._executor = SingleThreadedExecutor()
        self._executor.add_node(self._node)
        self._start_s = time.monotonic()

    def _take(self, message):
        for name, sections in from_array(message).items():
            if self._wanted in (None, name):
                self.nodes.setdefault(name, Node()).take(sections, time.monotonic())
            else:
                self.others.add(name)

    def listen(self, seconds: float, until=lambda: False) -> None:
        """
        Take what comes within `seconds`, or until the condition holds.

        Raise KeyboardInterrupt if asked to end.
        """
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0 and not until():
            self._executor.spin_once(timeout_sec=min(left, _WAIT_S))
            if self._asked.is_set():
                raise KeyboardInterrupt

    def silence(self) -> str:
        """Say for how long nothing has been heard, where, and what to check."""
        what = f'node {self._wanted!r}' if self._wanted else 'segmentation node'
        publishers = sorted({
            f'{info.node_namespace.rstrip("/")}/{info.node_name}'
            for info in self._node.get_publishers_info_by_topic(TOPIC)})
        heard = f', heard are: {", ".join(sorted(self.others))}' if self.others else (
            f'; {TOPIC} is published by: {", ".join(publishers) or "nobody"}')
        return (
            f'no report of a {what} for {time.monotonic() - self._start_s:.1f} s on {TOPIC} in '
            f'domain {rclpy.get_default_context().get_domain_id()} with '
            f'{rclpy.get_rmw_implementation_identifier()}{heard}. Check that the node runs and '
            'is active (ros2 lifecycle get NODE), and that it has the same ROS_DOMAIN_ID, '
            'RMW_IMPLEMENTATION and ROS_AUTOMATIC_DISCOVERY_RANGE or ROS_LOCALHOST_ONLY')

    def close(self):
        """Leave the graph."""
        self._executor.shutdown()
        self._node.destroy_node()


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
            f'{share} {_value(node, "timing", f"latency_ms_{share}")}'
            for share in ('p50', 'p95', 'p99')))))
    # The first line has told what is wrong with the node, and with that some of these.
    told = node.sections['segmentation'].message
    wrong = [status for status in node.sections.values()
             if status.level in (Level.WARN, Level.ERROR) and status.message not in told]
    if wrong:
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
    uptime = _clock(_number(status.values, 'uptime_s'))
    lines.append(f'\n{value("model")} on {value("engine")}, {value("device")}; '
                 f'{value("masks")} masks in {uptime}\n', 'dim')
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
            table.add_row(name, Text(_value(node, name, 'state'), _STYLES[status.level]),
                          *(_value(node, name, key) for key in ('rate_hz', 'age_ms', 'jitter_ms')),
                          Text(_value(node, name, 'topic')))
    return table


def _sync_line(node):
    def value(key):
        return _value(node, 'sync', key)
    return _text_line(
        ('pairs/s', value('pairs_hz')), ('x - rgb ms p50', value('offset_ms_p50')),
        ('apart ms p95', f'{value("distance_ms_p95")} of {value("slop_ms")}'))


def _times(node):
    table = _table('ms', 'p50', 'p95', 'p99')
    for name in _TIMES:
        table.add_row(name, *(_value(node, 'timing', f'{name}_ms_{share}')
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


def _value(node, section, key):
    """Return a value, numbers with one decimal; '-' where it is not known."""
    status = node.sections.get(section)
    text = status.values.get(key, 'n/a') if status else 'n/a'
    if text == 'n/a':
        return '-'
    try:
        return f'{float(text):.1f}'
    except ValueError:
        return text


def _clock(seconds):
    minutes, seconds = divmod(int(seconds), 60)
    return f'{minutes // 60}:{minutes % 60:02}:{seconds:02}'


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


@contextmanager
def _ros():
    """
    Have ROS while inside, and leave it in good order after Ctrl-C and kill as well.

    Give the event that one of them sets: an exception, which they are by default, may come in the
    middle of rclpy, which then complains of what it has half done.
    """
    use_fastdds_profile(os.environ)
    rclpy.init(args=[], signal_handler_options=rclpy.SignalHandlerOptions.NO)
    asked = threading.Event()
    before = {one: signal.signal(one, lambda *_: asked.set())
              for one in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield asked
    finally:
        rclpy.try_shutdown()
        for one, handler in before.items():
            signal.signal(one, handler)


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
    with _ros() as asked:
        ear = Ear(args.node, asked)
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
