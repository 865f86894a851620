# Copyright 2026 rgbx_seg_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""A thread that works on the newest item only."""

import threading

import pytest
from rgbx_seg_ros.node.worker import NewestWorker

PATIENCE_S = 20


class Work:
    """Work that waits for permission, so that a test decides what happens meanwhile."""

    def __init__(self):
        self.done, self.superseded, self.threads = [], [], set()
        self._begun, self._permits = threading.Semaphore(0), threading.Semaphore(0)
        self.worker = NewestWorker(self, self.superseded.append)

    def __call__(self, item):
        self.threads.add(threading.current_thread())
        self._begun.release()
        assert self._permits.acquire(timeout=PATIENCE_S)
        self.done.append(item)

    def wait_until_begun(self):
        assert self._begun.acquire(timeout=PATIENCE_S)

    def allow(self, count=1):
        for _ in range(count):
            self._permits.release()


@pytest.fixture
def work():
    work = Work()
    yield work
    work.allow(100)
    work.worker.stop()


def test_the_newest_item_wins_and_every_older_one_is_handed_back(work):
    work.worker.submit(0)
    work.wait_until_begun()
    for item in (1, 2, 3, None, 4):
        work.worker.submit(item)
    assert work.superseded == [1, 2, 3, None]
    work.allow()
    work.wait_until_begun()
    work.allow()
    work.worker.submit(5)
    work.wait_until_begun()
    assert work.done == [0, 4]
    assert work.superseded == [1, 2, 3, None]


def test_items_are_worked_on_one_at_a_time_in_a_thread_of_its_own(work):
    for item in range(5):
        work.worker.submit(item)
        work.wait_until_begun()
        work.allow()
    work.worker.stop()
    assert work.done == [0, 1, 2, 3, 4] and work.superseded == []
    assert len(work.threads) == 1 and threading.current_thread() not in work.threads


def test_stop_waits_for_the_item_in_work_drops_the_next_and_leaves_no_thread(work):
    work.worker.submit('in work')
    work.wait_until_begun()
    work.worker.submit('waiting')
    stopper = threading.Thread(target=work.worker.stop)
    stopper.start()
    stopper.join(0.05)
    assert stopper.is_alive(), 'stop returned while an item was in work'
    work.allow(2)
    stopper.join(PATIENCE_S)
    assert work.done == ['in work']
    [thread] = work.threads
    assert not stopper.is_alive() and not thread.is_alive()


def test_stop_is_quick_when_idle_and_may_be_called_twice(work):
    before = threading.active_count()
    work.worker.stop()
    work.worker.stop()
    assert threading.active_count() == before - 1
    work.worker.submit('late')
    assert work.done == []
