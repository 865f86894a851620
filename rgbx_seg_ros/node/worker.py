# Copyright 2026 rgbx_seg_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""A thread that works on the newest item only."""

import threading

_NOTHING = object()


class NewestWorker:
    """
    Calls `work(item)` in a thread of its own for the newest item submitted.

    An item that arrives while another is in work waits; a newer one takes its place and the older
    goes to `superseded(item)`. So an item waits for one call of `work` at most, whatever the rate
    of submission. `work` must not raise.
    """

    def __init__(self, work, superseded):
        self._work, self._superseded = work, superseded
        self._changed = threading.Condition()
        self._waiting = _NOTHING
        self._running = True
        self._thread = threading.Thread(target=self._run, name='segmenter', daemon=True)
        self._thread.start()

    def submit(self, item) -> None:
        """Give an item to the thread; return at once."""
        with self._changed:
            older, self._waiting = self._waiting, item
            self._changed.notify()
        if older is not _NOTHING:
            self._superseded(older)

    def stop(self) -> None:
        """Drop the waiting item and return once the one in work is done."""
        with self._changed:
            self._running = False
            self._changed.notify()
        self._thread.join()

    def _run(self):
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._waiting is not _NOTHING or not self._running)
                if not self._running:
                    return
                item, self._waiting = self._waiting, _NOTHING
            self._work(item)
