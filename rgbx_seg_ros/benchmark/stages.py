# Copyright 2026 rgbx_seg_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""
Where the time of a frame goes, whom it holds up, and its memory.

All are measured apart from the latency: the first with marks between the parts of the graph, the
second with a thread that looks on, the last in a process of its own.
"""

import contextlib
import itertools
import os
from pathlib import Path
import pickle
import subprocess
import sys
import threading
import time
from typing import NamedTuple
import warnings

from rgbx_seg_ros.allocator import keep_freed_memory
from rgbx_seg_ros.engines.torch_engine import TorchEngine
from rgbx_seg_ros.inference.segmenter import Segmenter
from rgbx_seg_ros.subprocesses import python_command
import torch

_LOOK_S = 0.0005


class Stages(NamedTuple):
    """The time of one frame in its parts, in ms."""

    pre: float
    """Checks, range of X, normalization and scaling to the network's input."""
    network: float
    """The network alone."""
    post: float
    """Scaling to the size of the frame, softmax, maximum, conversion to bytes."""
    copy: float
    """All else: frames to the device, mask and confidence back."""


def time_stages(segmenter: Segmenter, rgb, x) -> Stages | None:
    """Segment a pair and return its parts; None for an engine that cannot be looked into."""
    engine = segmenter.engine
    if not isinstance(engine, TorchEngine):
        return None
    graph = engine.graph
    clock = _Clock(next(graph.parameters()).is_cuda)
    with clock.around(graph, 'forward'), clock.around(graph.network, 'forward_with_fusion'):
        started = time.perf_counter()
        result = segmenter(rgb, x)
        total = 1e3 * (time.perf_counter() - started)
    if len(clock.marks) != 4:
        return None  # a captured graph runs without these calls
    before, network, after = clock.intervals_ms()
    pre = result.prepare_ms + before
    return Stages(pre, network, after, total - pre - network - after)


class _Clock:
    """Marks the beginning and the end of methods, on a GPU in the stream of its work."""

    def __init__(self, is_cuda):
        self._is_cuda = is_cuda
        self.marks = []

    @contextlib.contextmanager
    def around(self, module, method):
        """Mark the calls of a method of `module`."""
        inner = getattr(module, method)

        def marked(*arguments):
            self._mark()
            outputs = inner(*arguments)
            self._mark()
            return outputs
        setattr(module, method, marked)  # of this module, not of its class
        try:
            yield
        finally:
            delattr(module, method)

    def _mark(self):
        if self._is_cuda:
            event = torch.cuda.Event(enable_timing=True)
            event.record()
            self.marks.append(event)
        else:
            self.marks.append(time.perf_counter())

    def intervals_ms(self):
        """Return the times from mark to mark; the work is done."""
        return [first.elapsed_time(second) if self._is_cuda else 1e3 * (second - first)
                for first, second in itertools.pairwise(self.marks)]


def longest_wait_ms(work) -> float:
    """
    Call `work()`; return the longest time in ms for which another thread of Python got no turn.

    A node's callbacks wait like that thread, which wants to run again and again, two thousand
    times a second. Some milliseconds are the system's.
    """
    longest, done = 0.0, threading.Event()

    def look_on():
        nonlocal longest
        last = time.perf_counter()
        while not done.is_set():
            time.sleep(_LOOK_S)
            now = time.perf_counter()
            longest, last = max(longest, now - last), now
    thread = threading.Thread(target=look_on, daemon=True)
    thread.start()
    try:
        work()
    finally:
        done.set()
        thread.join()
    return 1e3 * longest


class Footprint(NamedTuple):
    """The memory of a process that runs one model, in MB."""

    before: float
    """Resident before the model is opened; 0 on a CUDA device."""
    peak: float
    """Most that was resident at a time; on a CUDA device, that PyTorch had allocated."""


def measure_footprint(segment_all, device: torch.device, *arguments) -> Footprint | None:
    """
    Return the memory of a new process that calls `segment_all(*arguments)`.

    `segment_all` is a function of a module, which opens a model and segments frames. Return None
    where the system does not tell, and with a warning where the process has died.
    """
    # Not by multiprocessing, whose Python looks in the working folder for multiprocessing itself.
    process = subprocess.run(
        python_command('rgbx_seg_ros.benchmark.stages:tell_footprint'), stdout=subprocess.PIPE,
        input=pickle.dumps((segment_all, device, arguments)))
    if process.returncode:
        warnings.warn('a process was killed while its memory was measured: it may be too large '
                      'for this machine', stacklevel=2)
        return None
    footprint, error = pickle.loads(process.stdout)
    if error is not None:
        raise error
    return footprint


def tell_footprint() -> None:
    """Measure what stdin describes and tell it, or an error, on stdout, in a new process."""
    answer = os.fdopen(os.dup(sys.stdout.fileno()), 'wb')
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # for what else has something to say
    try:
        result = _footprint(*pickle.load(sys.stdin.buffer)), None
    except Exception as error:  # noqa: BLE001 the first process raises it
        result = None, error
    with answer:
        pickle.dump(result, answer)


def _footprint(segment_all, device, arguments):
    warnings.simplefilter('ignore')  # the first process has told
    keep_freed_memory()
    before = _resident_mb('VmRSS')
    segment_all(*arguments)
    if device.type == 'cuda':
        return Footprint(0.0, torch.cuda.max_memory_allocated(device) / 1e6)
    # Not getrusage, whose maximum a process inherits from the one that has started it.
    return before and Footprint(before, _resident_mb('VmHWM'))


def _resident_mb(name):
    """Return a line of what Linux tells about this process; None elsewhere."""
    try:
        lines = Path('/proc/self/status').read_text().splitlines()
    except OSError:
        return None
    kib = next(line.split()[1] for line in lines if line.startswith(f'{name}:'))
    return int(kib) * 1024 / 1e6
