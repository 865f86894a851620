# Copyright 2026 rgbx_seg_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""The node's process holds what it held before: short forms of `soak.py`."""

import sys

import pytest

pytest.importorskip('rclpy', reason='needs rclpy, from a ROS distribution or the ros extra')
if not sys.platform.startswith('linux'):
    pytest.skip('memory and descriptors are read from /proc', allow_module_level=True)

from soak import Feeder, node_process, soak, walk  # noqa: E402
from support.held import MOST_GROWTH  # noqa: E402,I100
from support.ros_stage import next_domain, Stage  # noqa: E402

MB = 1_000_000


@pytest.fixture
def domain():
    """Give a domain of its own."""
    return next_domain()


@pytest.fixture
def feeder(domain):
    """Give a feeder with a stage."""
    stage = Stage(domain)
    yield Feeder(stage)
    stage.close()


def _growth(readings, name):
    return readings[-1][1][name] - readings[0][1][name]


def _fed(feeder, domain, engine, warm_up, pairs):
    """Return what the node holds after the warm-up and then after each quarter of the pairs."""
    with node_process(domain, engine) as process:
        feeder.connect()
        feeder.serve(warm_up, 100.0)
        return list(soak(feeder, process.pid, pairs, pairs // 4, 100.0))


@pytest.mark.long
@pytest.mark.alone  # hardly a pair may get lost
def test_many_pairs_leave_nothing_behind(feeder, domain):
    readings = _fed(feeder, domain, 'quick', warm_up=300, pairs=800)
    assert feeder.lost < feeder.sent / 100
    # 10 MB are 12 kB a pair.
    for name, most in MOST_GROWTH.items():
        assert _growth(readings, name) <= most, readings


@pytest.mark.long
def test_a_frame_kept_of_each_pair_is_noticed(feeder, domain):
    readings = _fed(feeder, domain, 'leaky', warm_up=40, pairs=60)
    assert _growth(readings, 'rss') > 50 * 640 * 480, readings


@pytest.mark.long
def test_walks_through_the_states_leave_nothing_behind(feeder, domain, tiny_card):
    with node_process(domain, 'real', '-p', 'autostart:=false', '-p',
                      f'model:={tiny_card}') as process:
        readings = list(walk(feeder, process.pid, 15))[4:]
    assert _growth(readings, 'threads') == _growth(readings, 'descriptors') == 0, readings
    # The weights alone have 20 MB, and these are ten walks.
    assert _growth(readings, 'rss') < 40 * MB, readings
