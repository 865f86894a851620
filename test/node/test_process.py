# Copyright 2026 rgbx_seg_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""The node as a process: how it starts, how it ends, what it says."""

import os
import signal
import subprocess
import sys
import threading
import time

import numpy as np
import pytest

pytest.importorskip('rclpy', reason='needs rclpy, from a ROS distribution or the ros extra')

from lifecycle_msgs.msg import Transition  # noqa: E402,I100
from lifecycle_msgs.srv import ChangeState  # noqa: E402
from sensor_msgs.msg import Image  # noqa: E402
from support.ros_stage import next_domain, Stage  # noqa: E402


class Process:
    """The node in a process of its own; `log` grows while it runs."""

    def __init__(self, domain, *arguments):
        environment = {**os.environ, 'ROS_DOMAIN_ID': str(domain), 'OMP_NUM_THREADS': '1'}
        self.process = subprocess.Popen(
            [sys.executable, '-m', 'rgbx_seg_ros.node.node', '--ros-args', *arguments],
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment,
            # A shell that started the tests in the background has switched Ctrl-C off for them.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL))
        self.log = ''
        self._changed = threading.Condition()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self):
        for line in self.process.stdout:
            with self._changed:
                self.log += line
                self._changed.notify_all()

    def wait_for(self, text, seconds=60.0):
        """Wait until `text` is in the log."""
        with self._changed:
            found = self._changed.wait_for(lambda: text in self.log, seconds)
        assert found, f'no {text!r} in {self.log!r}'

    def end(self, with_signal=None, seconds=30.0):
        """Send the signal, if any, and return the exit code."""
        if with_signal is not None:
            self.process.send_signal(with_signal)
        code = self.process.wait(seconds)
        self._reader.join(seconds)
        return code


@pytest.fixture
def start(tiny_card):
    """Give a function that starts the node with the tiny card."""
    processes = []

    def start(*arguments, domain=None):
        # The frames of these tests are all the same and of one colour.
        processes.append(Process(
            domain or next_domain(), '-p', f'model:={tiny_card}', '-p', 'health.frozen_ms:=0.0',
            '-p', 'health.saturated_share:=1.0', *arguments))
        return processes[-1]

    yield start
    for process in processes:
        process.process.kill()


@pytest.mark.parametrize('arguments', [
    ('-p', 'model:=nonesuch'), ('-p', 'device:=tpu'), ('-p', 'sync.slop_ms:=-1.0')])
def test_what_cannot_start_says_why_in_one_line_and_exits_with_2(start, arguments):
    process = start(*arguments)
    assert process.end(seconds=60) == 2
    assert len(process.log.splitlines()) == 1
    assert arguments[1].partition(':=')[2] in process.log
    assert 'Traceback' not in process.log


def test_a_warning_of_the_library_stands_in_the_log_as_one_of_the_node(start, write_card):
    process = start('-p', f'model:={write_card()}', '-p', 'autostart:=true')
    process.wait_for('runs on')
    line, = (line for line in process.log.splitlines() if 'has no weights' in line)
    assert '[WARN]' in line and '[rgbx_seg]' in line
    assert 'UserWarning' not in process.log


def change_state(stage, transition):
    """Ask the node for a lifecycle transition as a lifecycle manager does."""
    client = stage.node.create_client(ChangeState, '/rgbx_seg/change_state')
    assert client.wait_for_service(30.0)
    future = client.call_async(ChangeState.Request(transition=Transition(id=transition)))
    stage.wait(future.done)
    assert future.result().success


CONFIGURE, ACTIVATE, DEACTIVATE, CLEANUP = (
    Transition.TRANSITION_CONFIGURE, Transition.TRANSITION_ACTIVATE,
    Transition.TRANSITION_DEACTIVATE, Transition.TRANSITION_CLEANUP)
WALKS = {
    'unconfigured': [],
    'inactive': [CONFIGURE],
    'active': [CONFIGURE, ACTIVATE],
    'deactivated': [CONFIGURE, ACTIVATE, DEACTIVATE],
    'cleaned up': [CONFIGURE, ACTIVATE, DEACTIVATE, CLEANUP],
}


@pytest.mark.parametrize(('state', 'with_signal'), [
    pytest.param(state, with_signal, marks=[] if state == 'active' else [pytest.mark.long])
    for state in WALKS for with_signal in (signal.SIGTERM, signal.SIGINT)])
def test_a_signal_in_every_state_ends_the_node_cleanly(start, state, with_signal):
    domain = next_domain()
    process = start('-p', 'autostart:=false', domain=domain)
    stage = Stage(domain)
    try:
        client = stage.node.create_client(ChangeState, '/rgbx_seg/change_state')
        assert client.wait_for_service(60.0)
        for transition in WALKS[state]:
            change_state(stage, transition)
        assert process.end(with_signal) == 0
    finally:
        stage.close()
    assert 'Traceback' not in process.log
    assert 'rror' not in process.log


@pytest.mark.parametrize('with_signal', [
    signal.SIGINT, pytest.param(signal.SIGTERM, marks=pytest.mark.long)])
def test_a_signal_while_frames_are_in_work_ends_the_node_cleanly(start, with_signal):
    domain = next_domain()
    process = start(domain=domain)
    stage = Stage(domain)
    try:
        stage.listen(Image, 'segmentation/mask')
        rgb, x = np.zeros((480, 640, 3), np.uint8), np.zeros((480, 640), np.uint8)
        stage.publisher(Image, 'rgb/image')
        for _ in range(20):
            stage.send(rgb, x, stage.stamp())
            time.sleep(0.02)
        stage.wait(lambda: stage.received['segmentation/mask'])
        stage.send(rgb, x, stage.stamp())
        assert process.end(with_signal) == 0
    finally:
        stage.close()
    assert 'Traceback' not in process.log
    assert 'rror' not in process.log


@pytest.mark.parametrize('delay_s', [
    0.8, 2.0, *(pytest.param(delay_s, marks=pytest.mark.long) for delay_s in (0.3, 1.4, 3.0))])
def test_a_signal_during_start_up_leaves_nothing_behind(start, delay_s):
    process = start()
    # Any moment will do: what matters is that it does not hang, whatever it is doing.
    time.sleep(delay_s)
    try:
        process.end(signal.SIGINT, seconds=5.0)
    except subprocess.TimeoutExpired:
        # As launch goes on: while Python imports, Ctrl-C may fall into a callback that ignores it.
        process.end(signal.SIGTERM)
    assert 'Segmentation fault' not in process.log
