# Copyright 2026 rgbx_seg_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""
Time what the node adds to its engine, stage by stage, from the capture of a pair to its mask.

Run as `python test/benchmark_node.py`. Three processes talk over the real middleware: this
one is both cameras and sends the frames of `demo/` at their rate, one is the node with an engine
that answers at once or sleeps, one listens to mask, confidence and overlay. The ends of each stage
are noted around what the node calls and is called by: the callbacks of its subscriptions, its
worker, the engine and `Publisher.publish`. All clocks are that of the stamps, and every figure but
those of the node's diagnostics is taken pair by pair. Each case is repeated, the cases taking
turns, and the pairs of all repetitions are pooled. Linux only.
"""

import argparse
from collections import defaultdict
import itertools
import json
import os
from pathlib import Path
import statistics
import sys
import tempfile
import time
from typing import NamedTuple

from diagnostic_msgs.msg import DiagnosticArray
import numpy as np
import rclpy
from rclpy.executors import ExternalShutdownException
from rclpy.publisher import Publisher
from rgbx_seg_ros import engines
from rgbx_seg_ros.messages.images import stamp_ns
from rgbx_seg_ros.node import node
from rgbx_seg_ros.node import run as node_run
from rgbx_seg_ros.node.diagnostics import from_array
from rgbx_seg_ros.node.worker import NewestWorker
from sensor_msgs.msg import Image
from soak import camera_frames, MASK, process_of, QuickEngine, SHOWN
from std_srvs.srv import Trigger
from support.ros_stage import header, next_domain, Stage

RATE_HZ = 30.0
WARM_UP = 60
"""So many pairs at the start of a run are not counted."""


class Case(NamedTuple):
    """What is sent and what the engine does."""

    encoding: str = 'mono8'
    """Of X."""
    engine_ms: float = 0.0
    """Time for which the engine sleeps."""
    behind_ms: float = 0.0
    """Time from the capture of RGB to that of X."""
    dense: bool = False
    """Whether every pixel gets a colour in the overlay, or as much of it as is bright."""
    records: str = ''
    """What the black box does: waiting keeps messages, writing records all the while."""


CASES = {
    'mono8': Case(),
    'mono16': Case(encoding='mono16'),
    'mono8, every pixel coloured': Case(dense=True),
    'mono8, engine of 15 ms': Case(engine_ms=15.0),
    'mono8, X 5 ms later': Case(behind_ms=5.0),
    'mono8, black box waiting': Case(records='waiting'),
    'mono8, black box writing': Case(records='writing'),
}
_TOPICS = {'rgb/image': 'rgb', 'x/image': 'x'}
_DIAGNOSED = ('prepare_ms', 'inference_ms', 'post_ms', 'publish_ms', 'latency_ms')


class Trace:
    """The times of each pair's events, in ns, by the stamp of its RGB frame."""

    def __init__(self):
        self.times = defaultdict(dict)
        self._at_work = None

    def note(self, event, stamp):
        """Note that an event happens now."""
        self.times[stamp][event] = time.time_ns()

    def around(self, name, function):
        """Return a callback for messages, noted before and after."""
        def noted(message):
            stamp = stamp_ns(message.header)
            self.note(f'{name} in', stamp)
            function(message)
            self.note(f'{name} out', stamp)
        return noted

    def node_class(self):
        """Return the node with its image subscriptions noted."""
        trace = self

        class TracedNode(node.SegNode):

            def create_subscription(self, kind, topic, callback, *rest, **named):
                if topic in _TOPICS:
                    callback = trace.around(_TOPICS[topic], callback)
                return super().create_subscription(kind, topic, callback, *rest, **named)
        return TracedNode

    def worker_class(self):
        """Return the worker with what goes in and comes out noted."""
        trace = self

        class TracedWorker(NewestWorker):

            def __init__(self, work, superseded):
                def noted(job):
                    trace._at_work = stamp_ns(job.frame.message.header)
                    trace.note('taken', trace._at_work)
                    work(job)
                super().__init__(noted, superseded)

            def submit(self, job):
                trace.note('submitted', stamp_ns(job.frame.message.header))
                super().submit(job)
        return TracedWorker

    def engine_class(self, engine_ms, dense):
        """Return the engine of a case."""
        trace = self

        class TracedEngine(QuickEngine):

            def __call__(self, *arguments):
                trace.note('engine in', trace._at_work)
                time.sleep(engine_ms / 1e3)
                mask, confidence = super().__call__(*arguments)
                if dense:
                    mask = mask + np.uint8(1)
                trace.note('engine out', trace._at_work)
                return mask, confidence
        return TracedEngine

    def publish(self):
        """Return `Publisher.publish`, noted for images."""
        trace, publish = self, Publisher.publish

        def noted(publisher, message):
            if not isinstance(message, Image):
                return publish(publisher, message)
            name, stamp = publisher.topic_name.rpartition('/')[2], stamp_ns(message.header)
            trace.note(f'{name} in', stamp)
            publish(publisher, message)
            trace.note(f'{name} out', stamp)
        return noted


def run_node(path, name, *arguments):
    """Be the node in the case `name`; write the trace to `path` at the end."""
    trace, case = Trace(), CASES[name]
    engines.ENGINES['torch'] = trace.engine_class(case.engine_ms, case.dense)
    node_run.self_test = lambda segmenter: None  # which that engine would not pass
    node.SegNode, node_run.NewestWorker = trace.node_class(), trace.worker_class()
    Publisher.publish = trace.publish()
    code = node.main([__file__, *arguments])
    Path(path).write_text(json.dumps(trace.times), encoding='ascii')
    return code


def run_listener(path):
    """Be the listener; write when each image came to `path` at the end."""
    trace = Trace()
    rclpy.init()
    listener = rclpy.create_node('listener')
    for topic in SHOWN:
        event = f'{topic.rpartition("/")[2]} received'
        listener.create_subscription(
            Image, topic, lambda message, event=event: trace.note(
                event, stamp_ns(message.header)), 10)
    try:
        rclpy.spin(listener)
    except (KeyboardInterrupt, ExternalShutdownException):
        pass
    Path(path).write_text(json.dumps(trace.times), encoding='ascii')
    return 0


def run(pairs, name):
    """Return the times of each pair by event, and the last diagnostics, in the case `name`."""
    case, domain = CASES[name], next_domain()
    frames = camera_frames(case.encoding)
    stage, sent = Stage(domain), defaultdict(dict)
    with tempfile.TemporaryDirectory() as folder:
        files = [Path(folder) / name for name in ('node.json', 'listener.json')]
        # In so long the memory is full before pairs count.
        records = ['-p', f'record.folder:={folder}', '-p', 'record.duration_s:=1.5',
                   '-p', 'record.duration_after_s:=600.0']
        try:
            with process_of(domain, __file__, 'listener', files[1]), process_of(
                    domain, __file__, 'node', files[0], name, '--ros-args', '--log-level',
                    'warn', *(records if case.records else ())):
                stage.listen(DiagnosticArray, '/diagnostics')
                cameras = [stage.publisher(Image, topic) for topic in _TOPICS]
                stage.wait(lambda: stage.node.count_subscribers(MASK))
                # What the node sees of this side is told by its first report.
                stage.wait(lambda: stage.received['/diagnostics'])
                start = time.monotonic()
                for number in range(WARM_UP + pairs):
                    if number == WARM_UP // 2 and case.records == 'writing':
                        snapshot = stage.node.create_client(Trigger, '/rgbx_seg/snapshot')
                        assert snapshot.wait_for_service(10)
                        snapshot.call_async(Trigger.Request())
                    _sleep_until(start + number / RATE_HZ)
                    rgb, x = frames[number % len(frames)]
                    stamp = time.time_ns()
                    _send(cameras[0], rgb, stamp)
                    sent[stamp]['rgb sent'] = time.time_ns()
                    _sleep_until(start + number / RATE_HZ + case.behind_ms / 1e3)
                    sent[stamp]['x captured'] = time.time_ns() if case.behind_ms else stamp
                    _send(cameras[1], x, sent[stamp]['x captured'])
                    sent[stamp]['x sent'] = time.time_ns()
                reports = len(stage.received['/diagnostics'])
                stage.wait(lambda: len(stage.received['/diagnostics']) > reports + 1)
        finally:
            stage.close()
        node_times, listened = (_read(file) for file in files)
    timing = next(iter(from_array(stage.received['/diagnostics'][-1][0]).values()))['timing']
    pairs = []
    for stamp in list(sent)[WARM_UP:]:
        # The frame of X has a stamp of its own where it comes later.
        x_times = {k: v for k, v in node_times.get(sent[stamp]['x captured'], {}).items()
                   if k.startswith('x ')}
        pairs.append({'captured': stamp, **sent[stamp], **node_times.get(stamp, {}), **x_times,
                      **listened.get(stamp, {})})
    return pairs, timing.values


def _sleep_until(when):
    time.sleep(max(0.0, when - time.monotonic()))


def _send(camera, message, stamp):
    message.header = header(stamp, camera.topic_name.split('/')[1])
    camera.publish(message)


def _read(path):
    return {int(stamp): times for stamp, times in json.loads(path.read_text()).items()}


def stages(t):
    """Return the ms of each stage of a pair."""
    first, last = ('rgb', 'x') if t['x in'] > t['rgb in'] else ('x', 'rgb')
    captured = t['x captured'] if last == 'x' else t['captured']
    engine = t['engine out'] - t['engine in']
    spans = {
        'pairing: until the later frame is captured': captured - t['captured'],
        'transport in: until the callback of that frame': t[f'{last} in'] - captured,
        '- of it, cameras publish both frames': t[f'{last} sent'] - captured,
        '- of it, callback of the earlier frame': t[f'{first} out'] - t[f'{first} in'],
        'checks and pairing': t['submitted'] - t[f'{last} in'],
        'queue: until the worker has the pair': t['taken'] - t['submitted'],
        'decoding, range of X': t['engine in'] - t['taken'],
        '(engine)': engine,
        'message of the mask': t['mask in'] - t['engine out'],
        'publishing the mask': t['mask out'] - t['mask in'],
        '**capture to mask published, less engine**': t['mask out'] - t['captured'] - engine,
        'confidence and overlay': t['overlay out'] - t['mask out'],
        '**capture to all published, less engine**': t['overlay out'] - t['captured'] - engine,
        'capture to mask received, less engine': t['mask received'] - t['captured'] - engine,
    }
    return {name: ns / 1e6 for name, ns in spans.items()}


_NEEDED = ('rgb in', 'x in', 'engine out', 'overlay out', 'mask received')


def report(name, runs):
    """Print the table of a case."""
    sent = [t for pairs, _ in runs for t in pairs]
    whole = [[stages(t) for t in pairs if all(event in t for event in _NEEDED)]
             for pairs, _ in runs]
    print(f'\n### {name}\n')
    print('| stage, ms | p50 | p95 | p99 | p50 of each run |')
    print('| --- | ---: | ---: | ---: | ---: |')
    for stage in whole[0][0]:
        of_runs = [[times[stage] for times in run] for run in whole]
        shares = np.percentile(list(itertools.chain(*of_runs)), (50, 95, 99))
        medians = [statistics.median(values) for values in of_runs]
        print(f'| {stage} | {" | ".join(f"{share:.2f}" for share in shares)} '
              f'| {min(medians):.2f} to {max(medians):.2f} |')
    counts = {event: sum(event in t for t in sent) for event in (
        'rgb in', 'x in', 'mask out', 'mask received', 'confidence received', 'overlay received')}
    print(f'\n{len(sent)} pairs sent; {counts}')
    told = {name: [float(timing[f'{name}_p50']) for _, timing in runs] for name in _DIAGNOSED}
    print('diagnostics, p50, medians of the runs:',
          {name: round(statistics.median(values), 2) for name, values in told.items()})


def main(arguments):
    """Measure, or be one of the other two processes."""
    if arguments[:1] == ['node']:
        return run_node(*arguments[1:])
    if arguments[:1] == ['listener']:
        return run_listener(*arguments[1:])
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--pairs', type=int, default=600, help='pairs of each run')
    parser.add_argument('--runs', type=int, default=5, help='runs of each case')
    parser.add_argument('--case', choices=tuple(CASES), action='append', help='only this one')
    options = parser.parse_args(arguments)
    done = defaultdict(list)
    for _ in range(options.runs):
        for name in options.case or CASES:
            done[name].append(run(options.pairs, name))
    print(f'{os.cpu_count()} cores, load now {os.getloadavg()[0]:.1f}')
    for name, runs in done.items():
        report(name, runs)
    return 0


if __name__ == '__main__':
    sys.exit(main(sys.argv[1:]))
