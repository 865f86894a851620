# Copyright 2026 rgbx_seg_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""A stage for tests with the real middleware: cameras and listeners in a domain of their own."""

from array import array
from collections import defaultdict
import itertools
import os
from pathlib import Path
import threading
import time

os.environ['ROS_AUTOMATIC_DISCOVERY_RANGE'] = 'LOCALHOST'

import numpy as np  # noqa: E402 the middleware reads its environment when it is loaded
import rclpy  # noqa: E402
from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor  # noqa: E402
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy  # noqa: E402
from rgbx_seg_ros.messages.images import to_image  # noqa: E402
from rgbx_seg_ros.resources import use_fastdds_profile  # noqa: E402
from sensor_msgs.msg import Image  # noqa: E402
from std_msgs.msg import Header  # noqa: E402

use_fastdds_profile(os.environ)

CAMERA = QoSProfile(depth=5, reliability=ReliabilityPolicy.BEST_EFFORT)
LATCHED = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)
# Tests that run side by side, one worker of pytest-xdist each, share no domain out of 1 to 100.
_WORKER = int(os.environ.get('PYTEST_XDIST_WORKER', 'gw0').removeprefix('gw'))
_OWN = range(1 + _WORKER, 101, int(os.environ.get('PYTEST_XDIST_WORKER_COUNT', '1')))
_TURNS = itertools.count(os.getpid())


def next_domain() -> int:
    """Return a domain that no other test uses, and no process of this machine, be it a test's."""
    for turn in itertools.islice(_TURNS, len(_OWN)):
        domain = _OWN[turn % len(_OWN)]
        if not _is_used(domain):
            return domain
    raise RuntimeError('all domains are in use')


def _is_used(domain):
    """Tell by the ports, RTPS 2.5, section 9.6.2.3: each domain has 250 of them."""
    try:
        lines = Path('/proc/net/udp').read_text(encoding='ascii').splitlines()[1:]
    except OSError:
        return False
    ports = (int(line.split()[1].partition(':')[2], 16) for line in lines)
    return any(0 <= port - 7400 - 250 * domain < 250 for port in ports)


class Stage:
    """Publishes camera frames and collects what comes back; messages arrive on its own thread."""

    def __init__(self, domain: int):
        self.context = rclpy.Context()
        rclpy.init(context=self.context, domain_id=domain)
        self.node = rclpy.create_node('stage', context=self.context)
        self.received = defaultdict(list)
        self._changed = threading.Condition()
        self._publishers = {}
        self._executors = []
        self.spin(self.node)

    def spin(self, node):
        """Let `node` do its work on a thread of its own."""
        executor = SingleThreadedExecutor(context=self.context)
        executor.add_node(node)
        thread = threading.Thread(target=_spin, args=(executor,), daemon=True)
        thread.start()
        self._executors.append((executor, thread))

    def listen(self, kind, topic, qos=10):
        """Collect the messages of `topic` in `received[topic]`."""
        def take(message):
            with self._changed:
                self.received[topic].append((message, time.time_ns()))
                self._changed.notify_all()
        return self.node.create_subscription(kind, topic, take, qos)

    def wait(self, condition, seconds=30.0):
        """Wait until `condition()` holds; fail with what was received if it never does."""
        end = time.monotonic() + seconds
        with self._changed:
            while not condition():
                left = end - time.monotonic()
                counts = {topic: len(messages) for topic, messages in self.received.items()}
                assert left > 0, f'waited {seconds} s in vain; received are {counts}'
                # Some conditions change without a message: look again now and then.
                self._changed.wait(min(left, 0.05))

    def publisher(self, kind, topic, qos=CAMERA):
        """Return the publisher of `topic`, connected to at least one subscription."""
        if topic not in self._publishers:
            self._publishers[topic] = self.node.create_publisher(kind, topic, qos)
        self.wait(self._publishers[topic].get_subscription_count)
        return self._publishers[topic]

    def stamp(self) -> int:
        """Return the present time in ns."""
        return self.node.get_clock().now().nanoseconds

    def send(self, rgb, x, stamp_ns, x_stamp_ns=None):
        """Publish a pair, each frame an array or a message without a stamp."""
        for topic, frame, when in (('rgb/image', rgb, stamp_ns),
                                   ('x/image', x, x_stamp_ns or stamp_ns)):
            if isinstance(frame, np.ndarray):
                frame = to_image(frame, 'rgb8' if frame.ndim == 3 else 'mono8', Header())
            frame.header = header(when, topic.partition('/')[0])
            self.publisher(Image, topic).publish(frame)

    def rest(self):
        """End the threads; a node may be destroyed from then on."""
        for executor, _ in self._executors:
            executor.shutdown()
        for _, thread in self._executors:
            thread.join(10)
        self._executors.clear()

    def close(self):
        """End the threads and leave the domain."""
        self.rest()
        self.node.destroy_node()
        self.context.try_shutdown()


def _spin(executor):
    try:
        executor.spin()
    except ExternalShutdownException:
        pass


def header(stamp_ns: int, frame_id: str) -> Header:
    """Return a header with the stamp."""
    message = Header(frame_id=frame_id)
    message.stamp.sec, message.stamp.nanosec = divmod(stamp_ns, 1_000_000_000)
    return message


def image(height, width, encoding, step, data: bytes) -> Image:
    """Return an image with the fields as given, right or wrong."""
    return Image(height=height, width=width, encoding=encoding, step=step, data=array('B', data))
