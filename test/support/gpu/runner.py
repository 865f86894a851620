# Copyright 2026 rgbx_seg_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""
Checks, each in a process of its own: what crashes, hangs or takes all memory costs only itself.

Neither this module nor the process that runs the checks imports PyTorch: it holds no memory of the
device, and a driver that ends processes does not end this one.
"""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
import contextlib
from dataclasses import asdict, dataclass, field
import itertools
import json
import os
from pathlib import Path
import pkgutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
import traceback

from rgbx_seg_ros.errors import UnavailableError
from rgbx_seg_ros.waiting import wait_without_spinning

OK, FAILED, SKIPPED = 'ok', 'failed', 'skipped'
NOT_REACHED = 'the run ended before it'
ROOT = Path(__file__).parents[3]
SCRIPT = ROOT / 'test' / 'gpu_check.py'

_GRACE_S = 5.0
"""For a process that was asked to end, so that it ends those that it has started."""
_DRY_PATIENCE = 4.0
"""How many times as long a check may take in a dry run, whose CPU has other things to do."""
_LAST_LINES = 12
_MEMORY_EACH = 6 << 30
"""Bytes of memory that must be there for each process beside the first."""


@dataclass(frozen=True)
class Setting:
    """What the checks run on."""

    device: str = 'cuda'
    dry: bool = False
    """Whether it is a rehearsal on a CPU, with little of everything."""


class SkipError(Exception):
    """What a check raises for what is not here, with the reason and how to get it."""


@dataclass
class Found:
    """What a check returns."""

    summary: str = ''
    """Half a line."""
    figures: dict = field(default_factory=dict)
    """All that was measured, as plain data."""
    faults: list[str] = field(default_factory=list)
    """What is not as it must be; none if all is well."""


@dataclass(frozen=True)
class Check:
    """One of the checks; `function(setting)` returns what it has Found or raises SkipError."""

    name: str
    what: str
    """In half a line."""
    function: Callable[[Setting], Found]
    needs_s: float
    """With less time left it is not even begun."""
    limit_s: float
    """After which it is ended."""
    beside: bool = False
    """Whether it measures no time, and runs beside its neighbours."""
    after: str | None = None
    """The check without whose success there is nothing to see."""
    cache: str = 'cache'
    """Folder of files of engines, which checks that use the same files have in common."""


class Runner:
    """Runs checks within `limit_s`; `registry` names a function that makes them of a Setting."""

    def __init__(self, registry: str, setting: Setting, limit_s: float,
                 note: Callable[[dict, list[dict]], None], only=()):
        self._registry, self._setting, self._note = registry, setting, note
        checks = pkgutil.resolve_name(registry)(setting)
        names = [check.name for check in checks]
        if unknown := [name for name in only if name not in names]:
            raise SystemExit(f'check is {unknown[0]!r}, allowed are: {", ".join(names)}')
        self._checks = [check for check in checks if not only or check.name in only]
        self._end, self._limit_s = time.monotonic() + limit_s, limit_s
        self.rows = [{'name': check.name, 'what': check.what, 'status': SKIPPED,
                      'reason': NOT_REACHED, 'seconds': 0.0, 'limit_s': self._limit_of(check),
                      'summary': '', 'figures': {}} for check in self._checks]
        self._by_name = {row['name']: row for row in self.rows}
        self._lock, self._processes, self._stopped = threading.Lock(), set(), False

    def run(self) -> None:
        """Run all of them; `note` gets each row as it is known, and all rows."""
        with tempfile.TemporaryDirectory(prefix='gpu-check-') as folder:
            try:
                for beside, group in itertools.groupby(self._checks, lambda one: one.beside):
                    with ThreadPoolExecutor(_workers() if beside else 1) as pool:
                        try:
                            for _ in pool.map(lambda one: self._run(one, Path(folder)),
                                              [*group]):
                                pass
                        except BaseException:
                            self.stop()  # before the pool waits for what runs
                            raise
            finally:
                self.stop()

    def stop(self) -> None:
        """End what runs; nothing is begun any more."""
        with self._lock:
            self._stopped = True
            running = [*self._processes]
        for process in running:
            _end(process)

    def _limit_of(self, check):
        return check.limit_s * (_DRY_PATIENCE if self._setting.dry else 1)

    def _run(self, check, folder):
        row, started = self._by_name[check.name], time.monotonic()
        left = self._end - started
        before = self._by_name.get(check.after)
        if before and before['status'] != OK:
            row['reason'] = f'it needs {check.after!r}, which is {before["status"]}'
        elif left < check.needs_s:
            row['reason'] = (f'{max(0.0, left):.0f} s were left of {self._limit_s:.0f}, it needs '
                             f'{check.needs_s:g}: see --minutes')
        elif not self._stopped:
            row.update(self._in_process(check, folder, left))
            row['seconds'] = time.monotonic() - started
        with self._lock:
            self._note(row, self.rows)

    def _in_process(self, check, folder, left):
        limit = self._limit_of(check)
        stem = f'{self._checks.index(check):02}'
        answer, log = folder / f'{stem}.json', folder / f'{stem}.log'
        # Under the lock, so that none is begun while all are ended.
        with log.open('wb') as said, self._lock:
            if self._stopped:
                return {}
            process = subprocess.Popen(
                [sys.executable, SCRIPT, '--one', self._registry, check.name, answer,
                 json.dumps(asdict(self._setting))],
                stdin=subprocess.DEVNULL, stdout=said, stderr=said, start_new_session=True,
                env=_environment(folder / check.cache), cwd=folder)
            self._processes.add(process)
        try:
            process.wait(min(limit, left))
        except subprocess.TimeoutExpired:
            _end(process)
            return _overdue(limit, left) | {'log': _last_lines(log)}
        finally:
            with self._lock:
                self._processes.discard(process)
            _kill_group(process)  # whatever it has left
        if self._stopped:
            return {}
        found = _read(answer)
        if process.returncode or found is None:
            return {'status': FAILED, 'reason': _death(process.returncode),
                    'log': _last_lines(log)}
        return found | ({} if found['status'] == OK else {'log': _last_lines(log)})


def _workers():
    """Return how many checks may run beside each other: they are small, but import PyTorch."""
    try:
        memory = os.sysconf('SC_PHYS_PAGES') * os.sysconf('SC_PAGE_SIZE')
    except (OSError, ValueError):
        memory = 0
    return max(1, min(4, (os.cpu_count() or 1) // 3, memory // _MEMORY_EACH))


def _environment(cache):
    paths = [ROOT, ROOT / 'test', *filter(None, [os.environ.get('PYTHONPATH')])]
    environment = {**os.environ, 'XDG_CACHE_HOME': str(cache), 'PYTHONFAULTHANDLER': '1',
                   'PYTHONPATH': os.pathsep.join(map(str, paths))}
    wait_without_spinning(environment)
    return environment


def _overdue(limit, left):
    if left < limit:
        return {'status': SKIPPED, 'reason': f'the time of the run was up after {left:.0f} of its '
                                             f'{limit:.0f} s: see --minutes'}
    return {'status': FAILED, 'reason': f'it was not done after {limit:.0f} s'}


def _death(code):
    if code < 0:
        name = signal.Signals(-code).name
        memory = ', as when memory runs out' if -code == signal.SIGKILL else ''
        return f'its process was killed by {name}{memory}'
    return f'its process ended with {code} and no answer'


def _end(process):
    """End a process and those of its group, by force if they do not listen."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGTERM)
    try:
        process.wait(_GRACE_S)
    except subprocess.TimeoutExpired:
        _kill_group(process)
        process.wait()


def _kill_group(process):
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)


def _last_lines(log):
    lines = log.read_text(encoding='utf-8', errors='replace').splitlines()
    return [line[:300] for line in lines[-_LAST_LINES:]]


def _read(path):
    """Return the answer of a check, None if it gave none."""
    try:
        return json.loads(path.read_text(encoding='utf-8'))
    except (OSError, ValueError):
        return None


def be_check(registry: str, name: str, answer: str, setting: str) -> None:
    """Run one check and write its answer: what each of the processes does."""
    # So that what it has started and what stands in finally is ended as well.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit('it was ended'))
    found = _answer(registry, name, Setting(**json.loads(setting)))
    part = Path(f'{answer}.part')
    part.write_text(json.dumps(found), encoding='utf-8')
    part.rename(answer)


def _answer(registry, name, setting):
    check = next(one for one in pkgutil.resolve_name(registry)(setting) if one.name == name)
    try:
        found = check.function(setting)
    except (SkipError, UnavailableError) as reason:
        return {'status': SKIPPED, 'reason': str(reason)}
    except Exception as error:  # noqa: BLE001 whatever a broken library raises
        traceback.print_exc()
        return {'status': FAILED, 'reason': f'{type(error).__name__}: {error}'[:600]}
    return {'status': FAILED if found.faults else OK, 'reason': '; '.join(found.faults),
            'summary': found.summary, 'figures': found.figures}
