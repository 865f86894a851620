# Copyright 2026 rgbx_seg_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""
Time the start of the node, stage by stage, from the start of its process to its first mask.

Run as `python test/benchmark_start.py`. This process is both cameras, which send the frames
of `demo/` all the while, and listens to the mask; the node is a process of its own, started anew
for every run, the models taking turns. The first time that each function of the node returns is
noted on the steady clock, which both processes share. Files are in the page cache from an earlier
run, which is not counted. Linux only.
"""

import time

STARTED_NS = time.monotonic_ns()

import argparse  # noqa: E402,I100 the time above is that before anything else is imported
from collections import defaultdict  # noqa: E402
import functools  # noqa: E402
from importlib import import_module  # noqa: E402
import itertools  # noqa: E402
import json  # noqa: E402
import os  # noqa: E402
from pathlib import Path  # noqa: E402
import statistics  # noqa: E402
import sys  # noqa: E402
import tempfile  # noqa: E402
import threading  # noqa: E402

MODELS = ('msrs_scene', 'potholes')
RATE_HZ = 30.0
_LOST_S = 90.0


def run_node(path, *arguments):
    """Be the node; write the ends of its stages to `path` at the end."""
    ends = {'interpreter': STARTED_NS}

    def note(stage):
        ends.setdefault(stage, time.monotonic_ns())

    def noted(owner, name, after=None, before=None):
        """Let the first call of a function note when it ends, and when it begins."""
        function = getattr(owner, name)

        @functools.wraps(function)
        def call(*arguments, **named):
            if before:
                note(before)
            result = function(*arguments, **named)
            if after:
                note(after)
            return result
        setattr(owner, name, call)

    # These imports are timed, so they must be the first ones of the process.
    import_module('torch')
    note('import torch')
    for name in ('rclpy.executors', 'rclpy.lifecycle', 'sensor_msgs.msg', 'diagnostic_msgs.msg'):
        import_module(name)
    note('import rclpy and messages')
    from rgbx_seg_ros import engines
    from rgbx_seg_ros.node import lifecycle, node
    from rgbx_seg_ros.node import run as node_run
    note('import the package, OpenCV')
    noted(lifecycle.rclpy, 'init', 'rclpy.init')
    noted(node.SegNode, '__init__', 'node and parameters')
    noted(engines.ENGINES['torch'], '_warm_up', 'engine: first frame',
          'model: build, read and fold')
    noted(node_run, 'self_test', 'self-test')
    noted(node.SegNode, 'on_configure', 'rest of configure')
    noted(node.SegNode, 'on_activate', 'activate')
    noted(node_run.Run, '_receive', before='discovery: first frame')
    noted(node_run.Pipeline, '__call__', 'first pair: decode and segment', 'pairing')
    noted(node_run.Outputs, 'publish_mask', 'publish the mask')
    code = node.main([__file__, *arguments])
    Path(path).write_text(json.dumps(ends), encoding='ascii')
    return code


class Cameras:
    """Sends pairs at their rate from a thread of its own until it is closed."""

    def __init__(self, stage, frames):
        self._stage, self._frames, self._closed = stage, frames, threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self):
        from sensor_msgs.msg import Image
        from support.ros_stage import CAMERA, header
        publishers = [self._stage.node.create_publisher(Image, topic, CAMERA)
                      for topic in ('rgb/image', 'x/image')]
        for pair in itertools.cycle(self._frames):
            if self._closed.wait(1.0 / RATE_HZ):
                return
            stamp = self._stage.stamp()
            for publisher, message in zip(publishers, pair, strict=True):
                message.header = header(stamp, 'camera')
                publisher.publish(message)

    def close(self):
        """Send no more."""
        self._closed.set()
        self._thread.join()


def run(model) -> dict[str, float]:
    """Return the seconds of each stage of one start, in their order, and their sum."""
    from sensor_msgs.msg import Image
    from soak import camera_frames, MASK, process_of
    from support.ros_stage import next_domain, Stage
    domain, received = next_domain(), []
    stage = Stage(domain)
    cameras = Cameras(stage, camera_frames())
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / 'ends.json'
        try:
            stage.node.create_subscription(
                Image, MASK, lambda message: received.append(time.monotonic_ns()), 10)
            start = time.monotonic_ns()
            with process_of(domain, __file__, 'node', path, '--ros-args', '--log-level', 'warn',
                            '-p', f'model:={model}'):
                stage.wait(lambda: received, _LOST_S)
        finally:
            cameras.close()
            stage.close()
        ends = json.loads(path.read_text(encoding='ascii'))
    ends['the mask is received'] = received[0]
    ends = dict(sorted(ends.items(), key=lambda end: end[1]))
    spans = {name: (end - before) / 1e9 for (name, end), before in zip(
        ends.items(), [start, *ends.values()], strict=False)}
    return {**spans, '**process start to first mask**': (received[0] - start) / 1e9}


def report(model, runs):
    """Print the table of a model."""
    print(f'\n### {model}\n')
    print('| stage, s | median | max |')
    print('| --- | ---: | ---: |')
    for stage in runs[0]:
        values = [spans[stage] for spans in runs]
        print(f'| {stage} | {statistics.median(values):.2f} | {max(values):.2f} |')


def main(arguments):
    """Measure, or be the node."""
    if arguments[:1] == ['node']:
        return run_node(*arguments[1:])
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--runs', type=int, default=5, help='starts of each model that count')
    parser.add_argument('--model', action='append', help='a card, or the name of one')
    options = parser.parse_args(arguments)
    models, done = options.model or MODELS, defaultdict(list)
    for model in models:
        run(model)
    for _ in range(options.runs):
        for model in models:
            done[model].append(run(model))
    print(f'{os.cpu_count()} cores, load now {os.getloadavg()[0]:.1f}, {options.runs} starts')
    for model, runs in done.items():
        report(model, runs)
    return 0


if __name__ == '__main__':
    sys.exit(main(sys.argv[1:]))
