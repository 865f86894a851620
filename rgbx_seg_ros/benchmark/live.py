# Copyright 2026 rgbx_seg_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""
What the live node delivers over real DDS, as somebody who subscribes to its masks sees it.

Three processes: the node as a user starts it, the cameras, and this one, the subscriber. First
the highest rate at which at most 5 % of the pairs get no mask is searched for, then latency and
jitter are measured at that rate and at fixed ones. Every pair counts, but the first few of each
run, which meet caches that have gone cold, are left out of latency and jitter.
"""

from collections import defaultdict
from contextlib import ExitStack, suppress
from dataclasses import asdict, replace
import itertools
import json
import os
from pathlib import Path
import select
import signal
import statistics
import subprocess
import sys
import tempfile
import time

from diagnostic_msgs.msg import DiagnosticArray
import rclpy
from rclpy.executors import SingleThreadedExecutor
from rclpy.qos import QoSProfile, ReliabilityPolicy
from rgbx_seg_ros.allocator import keep_freed_memory
from rgbx_seg_ros.bags.make_bag import make_bag
from rgbx_seg_ros.bags.storage import BagReader, RGB_TOPIC, X_TOPIC
from rgbx_seg_ros.benchmark.rates import (
    ALLOWED_LOSS,
    drops_of,
    Result,
    Run,
    search,
    Settings,
    table,
    WARM_UP,
)
from rgbx_seg_ros.datasets import FolderDataset
from rgbx_seg_ros.errors import RgbxSegError
from rgbx_seg_ros.files import write_json
from rgbx_seg_ros.messages.images import decode_x, stamp_ns, to_image
from rgbx_seg_ros.node.diagnostics import from_array
from rgbx_seg_ros.resources import keep_local, share_dir
from rgbx_seg_ros.subprocesses import python_command
from sensor_msgs.msg import Image
from std_msgs.msg import Header

_FRAMES = 30
_LEAST_PAIRS = 20 + WARM_UP
_SEARCH_SHARE = 0.25
_SLOWER, _TRIES = 0.96, 8
_START_S, _MASK_S, _SETTLE_S, _REPORT_S, _STOP_S = 120.0, 60.0, 900.0, 30.0, 20.0
_AGAIN_S = 0.1
_WAIT_S = 0.05
"""Ctrl-C and a process that has ended are noticed only between two waits for messages."""


def measure(settings: Settings, tell=lambda text: None) -> Result:
    """
    Measure the live node; `tell` gets a line of text now and then.

    Raise RgbxSegError, with what the node said last, where it does not start, ends, or sends no
    mask in time; DataError for frames that cannot be sent.
    """
    with _Bench(settings) as bench:
        tell('waiting for the first mask')
        first_mask_s = bench.connect()
        start_hz, tried = bench.warm_up(tell), []

        def lost_at(rate_hz):
            run = bench.run(rate_hz, _SEARCH_SHARE * settings.seconds)
            tried.append(run)
            slow = run.sent_hz < (1 - ALLOWED_LOSS) * rate_hz
            tell(f'{rate_hz:.1f} Hz: {100 * run.lost:.1f} % of {run.sent} pairs lost'
                 + slow * f', the cameras reach only {run.sent_hz:.1f} Hz')
            return 1.0 if slow else run.lost

        best_hz = search(lost_at, start_hz)
        for _ in range(_TRIES):
            tell(f'{best_hz:.1f} Hz for {settings.seconds:g} s')
            throughput = bench.run(best_hz, settings.seconds, with_drops=True)
            if throughput.lost <= ALLOWED_LOSS:
                break
            best_hz *= _SLOWER
        else:
            raise RgbxSegError(
                f'{100 * throughput.lost:.1f} % of the pairs are still lost at '
                f'{throughput.rate_hz:.2f} Hz, though less were in a short run at more: this '
                'machine is not steady enough, end what else runs on it')
        return Result(
            bench.facts['model'], settings.engine, bench.facts['device'],
            rclpy.get_rmw_implementation_identifier(), bench.frames, os.cpu_count(),
            first_mask_s, throughput, bench.runs(tell), tuple(tried))


def measure_at_rates(settings: Settings) -> tuple[str, tuple[Run, ...]]:
    """Return where the node runs, in words, and the runs at the fixed rates; no other is tried."""
    with _Bench(settings) as bench:
        bench.connect()
        bench.warm_up(lambda text: None)
        return bench.facts['device'], bench.runs(lambda text: None)


class _Process:
    """A function in a process of its own; what it says is kept for an error."""

    def __init__(self, name, log, command, environment, **pipes):
        self.name, self._log = name, log
        with log.open('wb') as file:
            self.popen = subprocess.Popen(
                python_command(*command), env=environment, stderr=file,
                **{'stdin': subprocess.DEVNULL, 'stdout': file, **pipes})

    def check(self):
        """Raise RgbxSegError if the process has ended."""
        code = self.popen.poll()
        if code is not None:
            raise RgbxSegError(f'the {self.name} ended with {code}; {self.last_words()}')

    def last_words(self):
        """Quote the last lines of what it said."""
        lines = self._log.read_text(encoding='utf-8', errors='replace').strip().splitlines()
        return f'it said last: {" | ".join(lines[-3:])}' if lines else 'it said nothing'

    def stop(self):
        """End it, by force if it does not listen."""
        for pipe in filter(None, (self.popen.stdin, self.popen.stdout)):
            with suppress(BrokenPipeError):
                pipe.close()
        self.popen.terminate()
        try:
            self.popen.wait(_STOP_S)
        except subprocess.TimeoutExpired:
            self.popen.kill()
            self.popen.wait()


class _Bench:
    """The three processes, while inside of it."""

    def __init__(self, settings):
        self._settings = settings
        self._received = {}  # time in ns by the stamp of the pair
        self._slowest_s = 0.0
        self.facts, self._told_ns = {}, 0

    def __enter__(self):
        # A process that is asked to end does so as after Ctrl-C, its children included.
        self._terminate = signal.signal(signal.SIGTERM, signal.default_int_handler)
        self._stack = ExitStack()
        try:
            self._open(self._stack)
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_):
        # Many a signal comes twice, to the process and to its group: the second must not break
        # the clean-up.
        interrupt = signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        try:
            self._stack.close()
        finally:
            signal.signal(signal.SIGINT, interrupt)
            signal.signal(signal.SIGTERM, self._terminate)

    def _open(self, stack):
        """Start everything but the node, which would take the cores from the others."""
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        data = self._settings.data or share_dir() / 'demo'
        make_bag(data, folder / 'bag', frames=FolderDataset(data).names[:_FRAMES])
        keep_local(os.environ)
        keep_freed_memory()
        # Names of its own keep it apart from whatever else there is in the domain.
        self._space, domain = f'rgbx_seg_benchmark_{os.getpid()}', 1 + os.getpid() % 100
        self._folder, self._environment = folder, {**os.environ, 'ROS_DOMAIN_ID': str(domain)}
        self._cameras = self._start(
            stack, 'cameras', 'rgbx_seg_ros.benchmark.live:be_cameras', folder / 'bag',
            self._space, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        context = rclpy.Context()
        rclpy.init(args=[], context=context, domain_id=domain,
                   signal_handler_options=rclpy.SignalHandlerOptions.NO)
        stack.callback(context.try_shutdown)
        node = rclpy.create_node('subscriber', context=context, namespace=self._space,
                                 enable_rosout=False, start_parameter_services=False)
        stack.callback(node.destroy_node)
        node.create_subscription(Image, 'segmentation/mask', self._take_mask, 10)
        node.create_subscription(DiagnosticArray, '/diagnostics', self._take_report, 10)
        self._executor = SingleThreadedExecutor(context=context)
        stack.callback(self._executor.shutdown)
        self._executor.add_node(node)
        self._processes = [self._cameras]
        self.frames = self._answer(_START_S)

    def _start(self, stack, name, *command, **pipes):
        process = _Process(name, self._folder / f'{name}.log', command, self._environment,
                           **pipes)
        stack.callback(process.stop)
        return process

    def _take_mask(self, message):
        self._received[stamp_ns(message.header)] = time.time_ns()

    def _take_report(self, message):
        sections = from_array(message).get(f'{self._space}/rgbx_seg')
        if sections:
            self._told_ns = stamp_ns(message.header)
            self.facts = {**sections['segmentation'].values, **{
                f'{name}_received': sections[name].values['received'] for name in ('rgb', 'x')}}

    def _comes(self, condition, seconds):
        """Take messages until the condition holds; return whether it did in time."""
        end = time.monotonic() + seconds
        while not condition():
            if time.monotonic() > end:
                return False
            self._executor.spin_once(timeout_sec=_WAIT_S)
            for process in self._processes:
                process.check()
        return True

    def _answer(self, seconds):
        """Return the next answer of the cameras."""
        pipe = self._cameras.popen.stdout
        if not self._comes(lambda: select.select([pipe], [], [], 0.0)[0], seconds):
            raise RgbxSegError(f'no answer of the cameras within {seconds:.0f} s; '
                               f'{self._cameras.last_words()}')
        line = pipe.readline()
        if not line.endswith(b'\n'):
            self._cameras.popen.wait()
            self._cameras.check()
        return json.loads(line)

    def _send(self, rate_hz, pairs):
        """Let the cameras send so many pairs; return the stamps."""
        with suppress(BrokenPipeError):  # whoever waits for the answer says that they have ended
            self._cameras.popen.stdin.write(json.dumps([rate_hz, pairs]).encode() + b'\n')
            self._cameras.popen.stdin.flush()
        return self._answer(pairs / rate_hz + _START_S)

    def _serve(self, again_s, limit_s=_MASK_S):
        """Send a pair, and again when no mask comes; return the stamp of the first that does."""
        end = time.monotonic() + limit_s
        self._received.clear()
        while time.monotonic() < end:
            self._send(1.0, 1)
            if self._comes(lambda: self._received, again_s):
                return min(self._received)
        raise self._silence(f'{limit_s:g} s')

    def _silence(self, time_text):
        drops = {name: count for name, count in self.facts.items() if name.startswith('drops.')}
        return RgbxSegError(f'the node sent no mask within {time_text}, its counts are '
                            f'{drops or "none"}; {self._node.last_words()}')

    def connect(self) -> float:
        """Start the node; return after how many seconds its first mask came."""
        settings, start = self._settings, time.monotonic()
        limits = ('max_age_ms', 'health.dead_ms')
        self._node = self._start(
            self._stack, 'node', 'rgbx_seg_ros.node.node:main', '--ros-args',
            '--log-level', 'warn', '-r', f'__ns:=/{self._space}', '-p', f'model:={settings.model}',
            '-p', f'engine:={settings.engine}', '-p', f'device:={settings.device}',
            # A slow model shall be measured as well, pauses between two runs are no failure of a
            # camera, and neither are the same few frames over and over.
            *itertools.chain(*(('-p', f'{name}:=600000.0') for name in limits)),
            '-p', 'health.frozen_ms:=0.0')
        self._processes.append(self._node)
        # As cameras do, these do not wait for somebody who listens.
        self._serve(_AGAIN_S, _START_S)
        first_mask_s = time.monotonic() - start
        self._report()
        return first_mask_s

    def warm_up(self, tell) -> float:
        """Serve pairs one by one until the times are steady; return how many go in a second."""
        end = time.monotonic() + _SETTLE_S
        if ' until ' in self.facts['device']:
            tell(f'it runs on {self.facts["device"]}')
        while ' until ' in self.facts['device']:
            if time.monotonic() > end:
                raise RgbxSegError(f'after {_SETTLE_S:g} s the node still runs on '
                                   f'{self.facts["device"]}; {self._node.last_words()}')
            self._serve(again_s=_MASK_S)
            self._report()
        seconds = []
        for _ in range(2 * WARM_UP):
            # A lost pair must not hold it up, and a slow one must not be taken for lost.
            stamp = self._serve(again_s=max(1.0, 3 * max(seconds, default=_MASK_S)))
            seconds.append((self._received[stamp] - stamp) / 1e9)
        self._slowest_s = max(seconds)
        return 1 / statistics.median(seconds[WARM_UP:])

    def runs(self, tell) -> tuple[Run, ...]:
        """Return the runs at the fixed rates."""
        runs = []
        for rate_hz in self._settings.rates_hz:
            tell(f'{rate_hz:g} Hz for {self._settings.seconds:g} s')
            runs.append(self.run(rate_hz, self._settings.seconds, with_drops=True))
        return tuple(runs)

    def run(self, rate_hz: float, seconds: float, with_drops: bool = False) -> Run:
        """Return what comes of pairs at a rate, with the drops that the node tells of."""
        before = self._report() if with_drops else None
        self._received.clear()
        stamps = self._send(rate_hz, max(_LEAST_PAIRS, round(rate_hz * seconds)))
        # The newest pair is never superseded: behind its mask comes nothing more.
        self._comes(lambda: stamps[-1] in self._received, 2.0 + 3 * self._slowest_s)
        run = Run.of(rate_hz, stamps, self._received)
        if not run.masks:
            raise self._silence(f'{2.0 + 3 * self._slowest_s:.0f} s of {run.sent} pairs')
        if before is None:
            return run
        return replace(run, drops=drops_of(run, before, self._report()))

    def _report(self):
        """Return the counts in a report that the node makes from now on."""
        now_ns = time.time_ns()
        if not self._comes(lambda: self._told_ns > now_ns, _REPORT_S):
            raise RgbxSegError(f'the node has told nothing about itself for {_REPORT_S:g} s; '
                               f'{self._node.last_words()}')
        return {name: int(value) for name, value in self.facts.items() if value.isdigit()}


def run(settings: Settings, json_path: Path | None = None) -> None:
    """Measure, tell of it on stderr, print the table and write all figures to `json_path`."""
    result = measure(settings, lambda text: print(f'rgbx-seg: {text}', file=sys.stderr))
    print(table(result))
    if json_path is not None:
        write_json(json_path, asdict(result))


def _pairs(bag):
    """Return the pairs of messages in a bag, without stamps."""
    found = defaultdict(list)
    with BagReader(bag) as reader:
        for topic, _, message in reader.messages((RGB_TOPIC, X_TOPIC)):
            found[topic].append(to_image(decode_x(message), message.encoding, Header()))
    return list(zip(found[RGB_TOPIC], found[X_TOPIC], strict=True))


def be_cameras() -> None:
    """
    Be both cameras: for each `[rate_hz, pairs]` on stdin send so many pairs of a bag.

    The stamps go to stdout; before the first, what the frames are. It ends when stdin does. The
    command line names the bag and the namespace.
    """
    _, bag, namespace = sys.argv
    # The terminal's Ctrl-C reaches this process as well, but its parent ends it.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    keep_freed_memory()
    rclpy.init(args=[], signal_handler_options=rclpy.SignalHandlerOptions.NO)
    node = rclpy.create_node('cameras', namespace=namespace, enable_rosout=False,
                             start_parameter_services=False)
    qos = QoSProfile(depth=5, reliability=ReliabilityPolicy.BEST_EFFORT)
    publishers = [node.create_publisher(Image, f'{name}/image', qos) for name in ('rgb', 'x')]
    pairs = _pairs(bag)
    _say(', '.join(f'{name} {m.width}x{m.height} {m.encoding}'
                   for name, m in zip(('RGB', 'X'), pairs[0], strict=True))
         + f', {len(pairs)} pairs over and over')
    endless = itertools.cycle(pairs)
    for line in sys.stdin:
        rate_hz, count = json.loads(line)
        start, stamps = time.monotonic(), []
        for number in range(count):
            _wait(start + number / rate_hz - time.monotonic())
            stamps.append(time.time_ns())
            header = Header()
            header.stamp.sec, header.stamp.nanosec = divmod(stamps[-1], 1_000_000_000)
            for publisher, message in zip(publishers, next(endless), strict=True):
                message.header = header
                publisher.publish(message)
        _say(stamps)
    rclpy.try_shutdown()


def _wait(seconds):
    """Wait, and end the process if its parent has gone meanwhile."""
    if select.select([sys.stdin], [], [], max(0.0, seconds))[0]:
        sys.exit()


def _say(answer):
    print(json.dumps(answer), flush=True)
