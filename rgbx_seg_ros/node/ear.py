# Copyright 2026 rgbx_seg_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""What the segmentation nodes tell about themselves, as heard by the verbs that show it."""

from contextlib import contextmanager
import math
import os
import signal
import threading
import time

from diagnostic_msgs.msg import DiagnosticArray
import rclpy
from rclpy.executors import SingleThreadedExecutor
from rgbx_seg_ros.health.report import Level, Status
from rgbx_seg_ros.node.diagnostics import from_array
from rgbx_seg_ros.resources import use_fastdds_profile

TOPIC = '/diagnostics'
OLD_S = 3.0
"""A node tells about itself once a second: after this time without a report something is wrong."""
TIMES = ('prepare', 'inference', 'post', 'publish', 'latency')
"""The times in a report, without their unit, in the order in which they are shown."""
_WAIT_S = 0.1
"""Ctrl-C is noticed only between two waits for messages."""


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
        elapsed_s = number(facts, 'uptime_s') - number(before, 'uptime_s')
        self.drops = {}
        for key in facts:
            if key.startswith('drops.'):
                total = number(facts, key)
                rate_hz = (total - number(before, key)) / elapsed_s if elapsed_s > 0 else None
                self.drops[key.partition('.')[2]] = int(total), rate_hz
        self.sections, self.heard_s = sections, now_s

    def value(self, section: str, key: str) -> str:
        """Return a value, numbers with one decimal; '-' where it is not known."""
        status = self.sections.get(section)
        text = status.values.get(key, 'n/a') if status else 'n/a'
        if text == 'n/a':
            return '-'
        try:
            return f'{float(text):.1f}'
        except ValueError:
            return text

    def problems(self) -> list[Status]:
        """Return what is wrong, the headline and what it has told already left out."""
        told = self.sections['segmentation'].message
        return [status for status in self.sections.values()
                if status.level in (Level.WARN, Level.ERROR) and status.message not in told]

    def uptime(self) -> str:
        """Return the time since the node was configured, as hours, minutes and seconds."""
        uptime_s = number(self.sections['segmentation'].values, 'uptime_s')
        minutes, seconds = divmod(int(uptime_s), 60)
        return f'{minutes // 60}:{minutes % 60:02}:{seconds:02}'


def number(values, key) -> float:
    """Return a value as a number; 0 where it is none, not a finite one, or is not told."""
    try:
        told = float(values[key])
    except (KeyError, ValueError):
        return 0.0
    return told if math.isfinite(told) else 0.0


class Ear:
    """
    Listens to the topic for a verb until `asked` to end; `nodes` are those heard so far, by name.

    `name` is that of the only node to listen to, and None for all.
    """

    def __init__(self, verb: str, name: str | None, asked: threading.Event, context=None):
        self._asked = asked
        self._wanted = name and name.lstrip('/')
        self.nodes: dict[str, Node] = {}
        self.others: set[str] = set()
        """Segmentation nodes that were heard and not asked for."""
        self.node = rclpy.create_node(f'rgbx_seg_{verb}', context=context, enable_rosout=False,
                                      start_parameter_services=False)
        """What listens; others may subscribe with it to more."""
        self.node.create_subscription(DiagnosticArray, TOPIC, self._take, 50)
        self._executor = SingleThreadedExecutor(context=context)
        self._executor.add_node(self.node)
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
            for info in self.node.get_publishers_info_by_topic(TOPIC)})
        heard = f', heard are: {", ".join(sorted(self.others))}' if self.others else (
            f'; {TOPIC} is published by: {", ".join(publishers) or "nobody"}')
        return (
            f'no report of a {what} for {time.monotonic() - self._start_s:.1f} s on {TOPIC} in '
            f'domain {self.node.context.get_domain_id()} with '
            f'{rclpy.get_rmw_implementation_identifier()}{heard}. Check that the node runs and '
            'is active (ros2 lifecycle get NODE), and that it has the same ROS_DOMAIN_ID, '
            'RMW_IMPLEMENTATION and ROS_AUTOMATIC_DISCOVERY_RANGE or ROS_LOCALHOST_ONLY')

    def close(self):
        """Leave the graph."""
        self._executor.shutdown()
        self.node.destroy_node()


@contextmanager
def ros():
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
