# Copyright 2026 rgbx_seg_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""Bags replayed side by side, each in a process of its own: one that dies costs its bag alone."""

from collections.abc import Callable, Iterator
import contextlib
import itertools
import json
import os
import pickle
import selectors
import signal
import subprocess
import tempfile
import time

from rgbx_seg_ros.replay.worker import raise_model_error, Task
from rgbx_seg_ros.subprocesses import python_command

_MAIN = 'rgbx_seg_ros.replay.worker:main'
_GRACE_S = 1.0


def cores() -> int:
    """Return how many cores this process may use."""
    with contextlib.suppress(AttributeError):  # where it is not Linux
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def threads() -> int:
    """
    Return with how many threads PyTorch computes in a worker: one, or what OMP_NUM_THREADS says.

    It hangs neither on the cores nor on how many bags are replayed at a time, as sums of floats
    come out another way when they are split among more threads.
    """
    given = os.environ.get('OMP_NUM_THREADS', '')
    return max(1, int(given)) if given.isdecimal() else 1


def run_here(tasks: Iterator[Task], jobs: int,
             tell: Callable[[Task, dict], None]) -> Iterator[tuple[Task, str]]:
    """
    Do the tasks, `jobs` at a time; yield each as it ends and what went wrong, empty for nothing.

    `tell` gets what a worker tells in between: `done` or a `warning`. Raise the error of a model
    that cannot be opened. No worker outlives the iterator.
    """
    running = []
    try:
        with selectors.DefaultSelector() as selector:
            while True:
                for task in itertools.islice(tasks, jobs - len(running)):
                    running.append(_Worker(task))
                    selector.register(running[-1].pipe, selectors.EVENT_READ, running[-1])
                if not running:
                    return
                for key, _ in selector.select():
                    worker = key.data
                    if worker.read(tell):
                        continue
                    selector.unregister(worker.pipe)
                    running.remove(worker)
                    yield worker.task, worker.fault()
    finally:
        _end(running)


class _Worker:
    """A process that does a task."""

    def __init__(self, task):
        self.task = task
        self._words = tempfile.TemporaryFile()
        self._answer, self._rest = None, b''
        self._process = subprocess.Popen(
            python_command(_MAIN), stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            stderr=self._words,
            start_new_session=True,  # Ctrl-C is for the first process, which ends the others
            env={'OMP_NUM_THREADS': str(task.threads), **os.environ})
        self.pipe = self._process.stdout
        with contextlib.suppress(BrokenPipeError):  # it has died, and `fault` says of what
            pickle.dump(task, self._process.stdin)
            self._process.stdin.flush()

    def read(self, tell):
        """Take what the process has told; return whether more may come."""
        data = os.read(self.pipe.fileno(), 1 << 16)
        *lines, self._rest = (self._rest + data).split(b'\n')
        for facts in map(json.loads, lines):
            if 'end' in facts:
                self._answer = facts['end']
            else:
                tell(self.task, facts)
        return bool(data)

    def fault(self):
        """Wait for the end of the process; return what went wrong, empty for nothing."""
        status = self._process.wait()
        self._close()
        if self._answer is not None:
            raise_model_error(self._answer)
            return self._answer.get('error', '')
        if status < 0:
            name = signal.Signals(-status).name
            return f'its worker was killed by {name}' + (
                ', as the system does where memory is short: try fewer --jobs'
                if -status == signal.SIGKILL else '')
        return f'its worker has ended with exit status {status}: {self._last_words or "no word"}'

    def stop(self, number):
        """Send the process a signal, if it is still there."""
        self._process.send_signal(number)

    def wait(self, timeout_s):
        """Wait for the end of the process; raise subprocess.TimeoutExpired."""
        self._process.wait(timeout_s)
        self._close()

    def _close(self):
        self._words.seek(0)
        lines = self._words.read().decode(errors='replace').strip().splitlines()
        self._last_words = lines[-1] if lines else ''
        self._words.close()
        self.pipe.close()
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.close()


def _end(workers):
    """End processes: they are asked to, and made to where they do not hear."""
    for worker in workers:
        worker.stop(signal.SIGTERM)
    end_s = time.monotonic() + _GRACE_S
    for worker in workers:
        try:
            worker.wait(max(0.0, end_s - time.monotonic()))
        except subprocess.TimeoutExpired:
            worker.stop(signal.SIGKILL)
            worker.wait(None)
