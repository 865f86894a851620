# Copyright 2026 rgbx_seg_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""More frames than the engine can take."""

import time

import numpy as np
import pytest

pytest.importorskip('rclpy', reason='needs rclpy, from a ROS distribution or the ros extra')

from diagnostic_msgs.msg import DiagnosticArray  # noqa: E402,I100
from rgbx_seg_ros.messages.images import stamp_ns  # noqa: E402
from sensor_msgs.msg import Image  # noqa: E402
from support.node_stage import diagnostics  # noqa: E402

pytestmark = pytest.mark.alone  # a mask that comes later than it should is a failure


def _overload(stage, make_node, engine, seconds):
    """Send 30 pairs/s to an engine that takes 200 ms, and look at every mask."""
    engine.seconds = 0.2
    make_node()
    stage.listen(Image, 'segmentation/mask')
    stage.listen(DiagnosticArray, '/diagnostics')
    rgb, x = np.zeros((480, 640, 3), np.uint8), np.zeros((480, 640), np.uint8)
    sent, paused_ms, settled, start = 0, 0.0, None, time.monotonic()
    while (passed := time.monotonic() - start) < seconds:
        paused_ms = max(paused_ms, 1e3 * (passed - sent / 30))
        stage.send(rgb, x, stage.stamp())
        sent += 1
        if settled is None and passed > seconds / 4:
            settled = _resident_bytes()
        time.sleep(max(0.0, start + sent / 30 - time.monotonic()))
    grown = _resident_bytes() - settled

    masks = [(stamp_ns(mask.header), received)
             for mask, received in stage.received['segmentation/mask']]
    assert len(masks) > 2 * seconds
    latency_ms = [(received - stamp) / 1e6 for stamp, received in masks]
    most_ms = 2 * 200 + 1000 / 30
    # A machine that pauses now and then makes a mask late, and the next pair as well.
    assert np.median(latency_ms) < most_ms and max(latency_ms) < most_ms + paused_ms
    # Whatever the clock does, only the mask in work comes before that of a pair, and one more if
    # that ends while the pair is on its way.
    before = [sum(stamp < other < received for _, other in masks) for stamp, received in masks]
    assert max(before) <= 2 and np.median(before) <= 1

    def counted():
        facts = {name: int(value) for name, value in diagnostics(stage).items()
                 if value.isdigit()}
        served = facts.get('masks', 0) + facts.get('drops.superseded', 0)
        return facts.get('pairs', 0) == served > 0
    stage.wait(counted)
    facts = diagnostics(stage)
    assert int(facts['drops.superseded']) > int(facts['masks'])
    # The masks that this test keeps are part of the process.
    kept = sum(len(mask.data) for mask, _ in stage.received['segmentation/mask'])
    assert grown < kept + 20e6


def _resident_bytes():
    with open('/proc/self/statm', encoding='ascii') as file:
        return int(file.read().split()[1]) * 4096


def test_overload_for_a_moment_drops_the_older_pairs(stage, make_node, engine):
    _overload(stage, make_node, engine, seconds=4)


@pytest.mark.long
def test_overload_for_a_minute_keeps_latency_and_memory_bounded(stage, make_node, engine):
    _overload(stage, make_node, engine, seconds=60)
