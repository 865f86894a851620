# Copyright 2026 rgbx_seg_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""
The newest messages of a node in memory, and around an event in a bag.

They are kept as they are. A thread of its own serializes, compresses and writes them, so whoever
adds one never waits for a disk.
"""

from collections import deque
from contextlib import suppress
import os
from pathlib import Path
import tempfile
import threading
import time
from typing import Any, NamedTuple

from rgbx_seg_ros.bags.storage import BagWriter
from rgbx_seg_ros.errors import DataError, ParameterError
from rgbx_seg_ros.parameters import Parameters
from rosbags.rosbag2 import CompressionFormat, CompressionMode

_MB = 1_000_000
_STOP_S = 3.0
"""For so long a stop goes on to write what is waiting."""
_STAMP = '%Y_%m_%d-%H_%M_%S'
_STAMP_PATTERN = '????_??_??-??_??_??'


class _Held(NamedTuple):
    """A message in memory."""

    added_s: float
    """On the steady clock."""
    receive_ns: int
    topic: str
    kind: str
    message: Any
    size: int


class Event:
    """What is recorded, and what has become of it."""

    def __init__(self, name: str, detail: str, time_ns: int, after_s: float, number: int):
        self.name, self.detail, self.time_ns = name, detail, time_ns
        self.end_s = time.monotonic() + after_s
        self.next = number
        """The message to be written next."""
        self.path: Path | None = None
        """Of its recording, once that has begun."""
        self.failure = ''
        """Why it is not recorded, or not to its end."""
        self.decided = threading.Event()
        """Set once there is a path or a failure."""


class BlackBox:
    """
    Keeps the messages of the last `record.duration_s`, `record.max_ring_mb` at most.

    An event is written with them, and with those of `record.duration_after_s` behind it, as a bag
    in `record.folder` whose name begins with `name`. `serialize(message)` returns the bytes of one
    in CDR. `parameters` may be assigned at any time. Raise ParameterError for a folder in which
    nothing can be written.
    """

    def __init__(self, name: str, serialize, parameters: Parameters):
        self.parameters = parameters
        self.folder = checked_folder(parameters.record_folder)
        self._name, self._serialize = name, serialize
        self._changed = threading.Condition()
        self._held: deque[_Held] = deque()
        self._first = 0
        """The number of the oldest message that is held."""
        self._bytes = 0
        self._event: Event | None = None
        self._free_s = 0.0
        """Until then the cooldown lasts."""
        self._stop_s: float | None = None
        self._counts = dict.fromkeys(('events', 'files', 'suppressed', 'dropped'), 0)
        self._used_bytes, self._newest, self._failure = 0, '', ''
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Begin to keep messages; raise DataError where a disk hangs since the last stop."""
        if self._thread is not None and self._thread.is_alive():
            raise DataError(f'a recording in {str(self.folder)!r} has not ended yet, its disk '
                            'does not answer: wait for it, or leave record.folder empty')
        self._stop_s = None
        self._thread = threading.Thread(target=self._run, name='recorder', daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """End the recording that is being written, within seconds, and forget all messages."""
        if self._thread is None:
            return
        with self._changed:
            self._stop_s = time.monotonic() + _STOP_S
            self._changed.notify()
        self._thread.join(2 * _STOP_S)
        with self._changed:
            self._drop_waiting()
            self._first += len(self._held)
            self._held.clear()
            self._bytes = 0

    def add(self, topic: str, kind: str, message, size: int, receive_ns: int) -> None:
        """
        Keep a message of the type `kind`, as 'sensor_msgs/msg/Image', of about `size` bytes.

        From now on nobody may change it.
        """
        with self._changed:
            self._held.append(_Held(time.monotonic(), receive_ns, topic, kind, message, size))
            self._bytes += size
            self._let_go()
            if self._event is not None:
                self._changed.notify()

    def trigger(self, name: str, detail: str, time_ns: int, at_once: bool = False) -> Event | None:
        """
        Begin to record an event of the time `time_ns`; return it, or that which is being recorded.

        Within the cooldown it is only counted and None returned, unless it is wanted `at_once`.
        """
        with self._changed:
            self._counts['events'] += 1
            if self._event is None and (at_once or time.monotonic() >= self._free_s):
                self._let_go()
                self._event = Event(name, detail, time_ns,
                                    self.parameters.record_duration_after_s, self._first)
                self._changed.notify()
            else:
                self._counts['suppressed'] += 1
            return self._event

    def summary(self) -> dict[str, Any]:
        """Return what diagnostics tell, by the names there."""
        with self._changed:
            event, cooldown_s = self._event, self._free_s - time.monotonic()
            held_s = time.monotonic() - self._held[0].added_s if self._held else 0.0
            state = 'recording' if event else 'cooldown' if cooldown_s > 0 else 'waiting'
            return {'state': state, **self._counts, 'ring_s': held_s,
                    'ring_mb': self._bytes / _MB, 'used_mb': self._used_bytes / _MB,
                    'newest': self._newest or 'none', 'failure': self._failure or 'none',
                    'folder': str(self.folder)}

    def _let_go(self):
        """Forget what is too old, and what is too much whether it is written or not."""
        settings, held = self.parameters, self._held
        most = settings.record_max_ring_mb * _MB
        oldest_s = time.monotonic() - settings.record_duration_s
        while held:
            waits = self._event is not None and self._first >= self._event.next
            if self._bytes <= most and (waits or held[0].added_s >= oldest_s):
                break
            if waits:
                self._counts['dropped'] += 1
                self._event.next += 1
            self._bytes -= held.popleft().size
            self._first += 1

    # The thread

    def _run(self):
        self._count_used()
        while True:
            with self._changed:
                self._changed.wait_for(
                    lambda: self._event is not None or self._stop_s is not None)
                event = self._event
            if event is None:
                return
            try:
                self._record(event)
            except Exception as error:  # noqa: BLE001 the node must not lose its recorder
                what = str(error) if isinstance(error, DataError) else repr(error)
                kept = f'; what was written before stays in {str(event.path)!r}'
                event.failure = f'{event.name} is not recorded: {what}{kept if event.path else ""}'
            self._count_used()
            with self._changed:
                self._event = None
                self._failure = event.failure
                self._free_s = time.monotonic() + self.parameters.record_cooldown_s
            event.decided.set()

    def _record(self, event):
        """Write the bag of an event."""
        most = self.parameters.record_max_total_mb * _MB
        self._count_used()
        if self._used_bytes >= most:
            raise DataError(self._full(self._used_bytes))
        if not self.folder.is_dir():  # nobody wants it made anew where a disk has gone
            raise DataError(f'the folder {str(self.folder)!r} is gone')
        held = self._next(event)
        if held is None:
            raise DataError('no message has come')
        with _EventBag(self._free_path(event), event) as bag:
            self._newest, event.path = str(bag.path), bag.path
            event.decided.set()
            while held is not None:
                bag.write_cdr(held.topic, held.kind, self._serialize(held.message),
                              held.receive_ns)
                if self._used_bytes + bag.written >= most:
                    event.failure = self._full(self._used_bytes + bag.written)
                    break
                held = self._next(event)
        self._counts['files'] += 1

    def _next(self, event) -> _Held | None:
        """Wait for the next message of an event; return None once there is none any more."""
        with self._changed:
            while True:
                now_s, stop_s = time.monotonic(), self._stop_s
                if stop_s is not None and now_s >= stop_s:
                    self._drop_waiting()
                    return None
                if event.next - self._first < len(self._held):
                    held = self._held[event.next - self._first]
                    event.next += 1
                    return held if held.added_s <= event.end_s else None
                if stop_s is not None or now_s >= event.end_s:
                    return None
                self._changed.wait(event.end_s - now_s)

    def _drop_waiting(self):
        """Give up the messages that are still to be written."""
        if self._event is not None:
            end = self._first + len(self._held)
            self._counts['dropped'] += end - self._event.next
            self._event.next = end

    def _free_path(self, event):
        """Return a path for the bag of an event that nothing has."""
        path = self.folder / f'{self._name}_{time.strftime(_STAMP)}_{event.name}'
        number, free = 1, path
        while os.path.lexists(free):
            number += 1
            free = path.with_name(f'{path.name}_{number}')
        return free

    def _count_used(self):
        """Count what the recordings of this name hold; whatever else lies there is no matter."""
        total = 0
        with suppress(OSError):  # the folder itself may go meanwhile, and is then said to be gone
            for folder in self.folder.glob(f'{self._name}_{_STAMP_PATTERN}_*'):
                with suppress(OSError):  # somebody tidies up
                    total += sum(file.stat().st_size for file in folder.iterdir())
        self._used_bytes = total

    def _full(self, used):
        return (f'{str(self.folder)!r} holds {used / _MB:.0f} MB of recordings, '
                f'record.max_total_mb is {self.parameters.record_max_total_mb}: move some away, '
                'remove them or raise it; the next event looks again')


class _EventBag(BagWriter):
    """A bag of messages in CDR; whatever happens, what was written stays."""

    def __init__(self, path, event):
        super().__init__(path)
        self._writer.set_compression(CompressionMode.STORAGE, CompressionFormat.ZSTD)
        for key, value in (('event', event.name), ('detail', event.detail),
                           ('time_ns', str(event.time_ns))):
            self._writer.set_custom_data(key, value)
        self.written = 0
        """Bytes in the file."""

    def write_cdr(self, topic, kind, data, receive_ns):
        """Write a message, and let nothing wait in this process that fills a chunk."""
        super().write_cdr(topic, kind, data, receive_ns)
        with self._failures():
            file = self._writer.storage.bio
            file.flush()
            self.written = file.tell()

    def _remove(self):
        with suppress(Exception):
            self._writer.abort()


def checked_folder(text: str) -> Path:
    """Return the folder for recordings; raise ParameterError where nothing can be written."""
    folder = Path(text).expanduser().absolute()
    try:
        with tempfile.TemporaryFile(dir=folder):
            return folder
    except OSError as error:
        raise ParameterError(
            f"parameter 'record.folder' is {text!r}, needed is a folder that can be written: "
            f'{str(folder)!r}: {error.strerror}; make it, or leave the parameter empty') from error
