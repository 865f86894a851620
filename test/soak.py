# Copyright 2026 rgbx_seg_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""
Watch what the node's process holds over many pairs, and over many walks through its states.

Run as `python test/soak.py pairs` or `python test/soak.py cycles`. The node is a process
of its own, the frames are those of `demo/` over the real middleware, and mask, confidence, overlay
and diagnostics are subscribed. With `pairs` the engine answers at once, and the next pair goes
out when the mask of the last one has come, at `--rate` pairs per second at most; `cycles` opens
and frees the real engine. Linux only: figures are read from /proc.
"""

import argparse
from contextlib import contextmanager
import os
import queue
import signal
import subprocess
import sys
import time

from diagnostic_msgs.msg import DiagnosticArray
from lifecycle_msgs.msg import Transition
from lifecycle_msgs.srv import ChangeState
import numpy as np
from rgbx_seg_ros import engines
from rgbx_seg_ros.datasets import FolderDataset
from rgbx_seg_ros.messages.images import stamp_ns, to_image
from rgbx_seg_ros.node import node, run
from rgbx_seg_ros.node.diagnostics import from_array
from rgbx_seg_ros.resources import share_dir
from rgbx_seg_ros.waiting import wait_without_spinning
from sensor_msgs.msg import Image
from std_msgs.msg import Header
from support.held import held
from support.ros_stage import next_domain, Stage
from support.stand_ins import StandIn

MASK = 'segmentation/mask'
SHOWN = (MASK, 'segmentation/confidence', 'segmentation/overlay')
CYCLE = (Transition.TRANSITION_CONFIGURE, Transition.TRANSITION_ACTIVATE,
         Transition.TRANSITION_DEACTIVATE, Transition.TRANSITION_CLEANUP)
_LOST_S = 10.0
"""A mask that has not come by then does not come."""
_START_S, _STOP_S = 90.0, 30.0


class QuickEngine(StandIn):
    """Answers at once, with new arrays of the right sizes, as a network does."""

    device = 'none: a mask is made of the red channel'

    def __init__(self, card, device):
        pass

    def __call__(self, rgb, x, x_limits, sensors):
        mask = rgb[..., 0] >> 7
        return mask, np.full_like(mask, 250)


class LeakyEngine(QuickEngine):
    """Keeps a copy of every frame of X."""

    kept = []

    def __call__(self, rgb, x, x_limits, sensors):
        self.kept.append(x.copy())
        return super().__call__(rgb, x, x_limits, sensors)


ENGINES = {'real': None, 'quick': QuickEngine, 'leaky': LeakyEngine}


@contextmanager
def process_of(domain, *command):
    """Run a command of Python in `domain` as if from a terminal; end it as Ctrl-C does."""
    environment = {**os.environ, 'ROS_DOMAIN_ID': str(domain)}
    wait_without_spinning(environment)
    process = subprocess.Popen(
        [sys.executable, *map(str, command)], env=environment,
        # A shell that started this in the background has switched Ctrl-C off.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL))
    try:
        yield process
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGINT)
        try:
            process.wait(_STOP_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
    assert process.returncode == 0, f'{command} ended with {process.returncode}'


def node_process(domain, engine, *arguments):
    """Run the node with one of ENGINES; whatever the rate, no camera fails for it."""
    return process_of(domain, __file__, 'node', engine, '--ros-args', '--log-level', 'warn',
                      '-p', 'overlay.max_rate_hz:=1000.0', '-p', 'max_age_ms:=600000.0',
                      '-p', 'health.dead_ms:=600000.0', *arguments)


def camera_frames(x_encoding='mono8') -> list[tuple[Image, Image]]:
    """Return the pairs of `demo/` as messages; mono16 has 14 bits, the lower ones are noise."""
    rng = np.random.default_rng(0)
    messages = []
    for sample in FolderDataset(share_dir() / 'demo'):
        x = np.asarray(sample.x)
        if x_encoding == 'mono16':
            x = x.astype(np.uint16) * 64 + rng.integers(0, 64, x.shape, np.uint16)
        messages.append((to_image(sample.rgb, 'rgb8', Header()),
                         to_image(x, x_encoding, Header())))
    return messages


class Feeder:
    """Sends pairs to the node, one when the mask of the last one has come."""

    def __init__(self, stage):
        self.stage, self._frames = stage, camera_frames()
        self._masks = queue.SimpleQueue()
        self.sent = self.lost = 0
        self.seen = dict.fromkeys(SHOWN, 0)
        self.diagnostics = {}
        for topic in SHOWN:
            stage.node.create_subscription(
                Image, topic, lambda message, topic=topic: self._take(topic, message), 10)
        stage.node.create_subscription(DiagnosticArray, '/diagnostics', self._take_diagnostics, 5)

    def _take(self, topic, message):
        self.seen[topic] += 1
        if topic == MASK:
            self._masks.put(stamp_ns(message.header))

    def _take_diagnostics(self, message):
        for sections in from_array(message).values():
            self.diagnostics = sections['segmentation'].values

    def _send(self):
        stamp = self.stage.stamp()
        self.stage.send(*self._frames[self.sent % len(self._frames)], stamp)
        return stamp

    def _comes(self, stamp, seconds):
        """Return whether the mask with that stamp, or any for None, comes in time."""
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            try:
                if self._masks.get(timeout=left) == stamp or stamp is None:
                    return True
            except queue.Empty:
                break
        return False

    def connect(self):
        """Send pairs until one is served; none of these counts."""
        end = time.monotonic() + _START_S
        self._send()
        while not self._comes(None, 0.5):
            assert time.monotonic() < end, f'no mask within {_START_S} s'
            self._send()

    def serve(self, pairs: int, rate_hz: float):
        """Send `pairs` pairs, each when the mask of the last one has come or is lost."""
        start = time.monotonic()
        for number in range(pairs):
            time.sleep(max(0.0, start + number / rate_hz - time.monotonic()))
            stamp = self._send()
            self.sent += 1
            self.lost += not self._comes(stamp, _LOST_S)


def soak(feeder, pid, pairs, every, rate_hz):
    """Yield the number of pairs served and what the process holds then, first after none."""
    yield 0, held(pid)
    for served in range(every, pairs + 1, every):
        feeder.serve(every, rate_hz)
        yield served, held(pid)


def _change_state(stage, client, transition):
    """Ask the node for a transition as a lifecycle manager does."""
    future = client.call_async(ChangeState.Request(transition=Transition(id=transition)))
    stage.wait(future.done, _START_S)
    assert future.result().success, f'transition {transition} failed'


def walk(feeder, pid, cycles, pairs=3):
    """Yield what the node holds after each cycle, in which it serves some pairs."""
    client = feeder.stage.node.create_client(ChangeState, '/rgbx_seg/change_state')
    assert client.wait_for_service(_START_S)
    for cycle in range(1, cycles + 1):
        for transition in CYCLE:
            _change_state(feeder.stage, client, transition)
            if transition == Transition.TRANSITION_ACTIVATE:
                feeder.connect()
                feeder.serve(pairs, 100.0)
        yield cycle, held(pid)


def _print(name, readings):
    """Print readings as they come, in MB."""
    print(f'{name:>8} {"RSS":>8} {"private":>8} {"shared":>8} {"threads":>8} {"descr.":>7}')
    for number, facts in readings:
        memory = ' '.join(f'{facts[key] / 1e6:8.2f}' for key in ('rss', 'private', 'shared'))
        print(f'{number:8} {memory} {facts["threads"]:8} {facts["descriptors"]:7}', flush=True)


def _print_summary(feeder, seconds):
    drops = {name: count for name, count in feeder.diagnostics.items() if 'drops.' in name}
    print(f'{feeder.sent} pairs, {seconds:.0f} s in all, {feeder.lost} without a mask; drops told '
          f'by the node: {drops or "none"}; received: {feeder.seen}')


def main(arguments):
    """Run one of the two soaks, or the node for them."""
    if arguments[:1] == ['node']:
        name, *ros_arguments = arguments[1:]
        if ENGINES[name] is not None:
            engines.ENGINES['torch'] = ENGINES[name]
            # Such an engine sees nothing in a golden frame.
            run.self_test = lambda segmenter: None
        return node.main([__file__, *ros_arguments])
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('what', choices=('pairs', 'cycles'))
    parser.add_argument('--pairs', type=int, default=20_000)
    parser.add_argument('--every', type=int, default=1000, help='pairs between two readings')
    parser.add_argument('--rate', type=float, default=100.0, help='most pairs in a second')
    parser.add_argument('--cycles', type=int, default=50)
    parser.add_argument('--engine', choices=tuple(ENGINES),
                        help='quick for pairs and real for cycles, if not given')
    parser.add_argument('--model', default='msrs_scene',
                        help='a card, or the name of one')
    options = parser.parse_args(arguments)
    domain = next_domain()
    stage = Stage(domain)
    model = '-p', f'model:={options.model}'
    start = time.monotonic()
    try:
        feeder = Feeder(stage)
        if options.what == 'cycles':
            with node_process(domain, options.engine or 'real', *model, '-p',
                              'autostart:=false') as process:
                _print('cycle', walk(feeder, process.pid, options.cycles))
        else:
            with node_process(domain, options.engine or 'quick', *model) as process:
                feeder.connect()
                _print('pairs', soak(feeder, process.pid, options.pairs, options.every,
                                     options.rate))
        _print_summary(feeder, time.monotonic() - start)
    finally:
        stage.close()
    return 0


if __name__ == '__main__':
    sys.exit(main(sys.argv[1:]))
