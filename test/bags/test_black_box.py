# Copyright 2026 rgbx_seg_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""The newest messages in memory, and around an event in a bag, without ROS."""

from dataclasses import replace
import gc
import os
from pathlib import Path
import random
import resource
import signal
import subprocess
import sys
import threading
import time
import weakref

import numpy as np
import pytest
from rgbx_seg_ros.bags import black_box
from rgbx_seg_ros.bags.black_box import BlackBox
from rgbx_seg_ros.bags.storage import BagReader, image_message
from rgbx_seg_ros.errors import DataError, ParameterError
from rgbx_seg_ros.extraction.extract import extract
from rgbx_seg_ros.parameters import Parameters
from rosbags.typesys import get_typestore, Stores
from support.bag_files import metadata

KIND = 'sensor_msgs/msg/Image'
TYPES = get_typestore(Stores.ROS2_HUMBLE)
PIXELS = np.arange(12, dtype=np.uint8).reshape(3, 4)
MB = 1_000_000


def serialize(message):
    return TYPES.serialize_cdr(message, KIND)


class Clock:
    """Stands for the steady clock; nobody waits for it."""

    def __init__(self, monkeypatch):
        self.now_s = 1000.0
        monkeypatch.setattr(black_box.time, 'monotonic', lambda: self.now_s)


@pytest.fixture
def clock(monkeypatch):
    return Clock(monkeypatch)


@pytest.fixture
def make_box(tmp_path):
    """Return a function that makes a black box and starts it; `changes` are parameters."""
    boxes = []

    def make(serialize=serialize, start=True, **changes):
        parameters = Parameters(record_folder=str(tmp_path), **{
            f'record_{name}': value for name, value in changes.items()})
        box = BlackBox('rgbx_seg', serialize, parameters)
        boxes.append(box)
        if start:
            box.start()
        return box
    yield make
    for box in boxes:
        box.stop()


def add(box, numbers, size=100):
    """Let messages come, whose numbers are their stamps."""
    for number in numbers:
        box.add('/rgb/image', KIND, image_message(PIXELS, 'mono8', number, 'camera'), size, number)


def add_noise(box, numbers):
    """Let messages of 0.6 MB come: two of them fill a chunk, and cannot be compressed."""
    for number in numbers:
        noise = np.random.default_rng(number).integers(0, 256, (600, 1000), np.uint8)
        box.add('/rgb/image', KIND, image_message(noise, 'mono8', number, ''), noise.size, number)


def finished(box, event):
    """Wait until a recording has ended, and return the numbers in it."""
    end = time.time() + 20
    while box.summary()['state'] == 'recording':
        assert time.time() < end, box.summary()
        with box._changed:
            box._changed.notify()
            box._changed.wait(0.01)
    return numbers(event.path)


def numbers(path):
    with BagReader(path) as bag:
        return [time_ns for _, time_ns, _ in bag.messages(['/rgb/image'])] if bag.topics else []


def test_what_came_before_and_after_an_event_is_recorded_and_nothing_else(make_box, clock):
    box = make_box(duration_s=10.0, duration_after_s=5.0)
    for number in range(21):  # a message in a second
        clock.now_s = 1000.0 + number
        add(box, [number])
    event = box.trigger('sensor_failed', 'x is dead', 20)
    for number in range(21, 31):
        clock.now_s = 1000.0 + number
        add(box, [number])
    assert finished(box, event) == list(range(10, 26))
    assert event.path.name.startswith('rgbx_seg_2') and event.path.name.endswith('_sensor_failed')
    facts = metadata(event.path)
    assert facts['custom_data'] == {
        'event': 'sensor_failed', 'detail': 'x is dead', 'time_ns': '20'}
    with BagReader(event.path) as bag:
        message = next(bag.messages(['/rgb/image']))[2]
    np.testing.assert_array_equal(message.data, PIXELS.ravel())
    assert (message.header.frame_id, message.encoding) == ('camera', 'mono8')


def test_a_recording_ends_when_its_time_is_over_although_nothing_comes(make_box):
    box = make_box(duration_after_s=0.05)
    add(box, [1, 2])
    event = box.trigger('snapshot', '', 2)
    assert finished(box, event) == [1, 2]


def test_memory_is_bounded_by_seconds_and_by_bytes(make_box, clock):
    box = make_box(duration_s=3.0, max_ring_mb=1)
    for number in range(10):
        clock.now_s += 1
        add(box, [number], size=1000)
    assert len(box._held) == 4 and box.summary()['ring_mb'] == 0.004
    assert box.summary()['ring_s'] == 3.0
    add(box, range(10, 30), size=MB // 10)
    assert len(box._held) == 10 and box._bytes == MB
    box.parameters = replace(box.parameters, record_duration_s=0.0)
    clock.now_s += 1
    add(box, [30], size=1000)
    assert len(box._held) == 1 and box._bytes == 1000
    assert box.summary()['dropped'] == 0


def test_messages_that_are_let_go_are_freed(make_box):
    box = make_box(max_ring_mb=1)
    one, two = (image_message(PIXELS, 'mono8', 1, 'camera') for _ in range(2))
    alive = [weakref.ref(one.data), weakref.ref(two.data)]
    box.add('/rgb/image', KIND, one, MB, 1)
    box.add('/rgb/image', KIND, two, MB, 2)
    del one, two
    gc.collect()
    assert [ref() is None for ref in alive] == [True, False]
    box.stop()
    assert alive[1]() is None and box.summary()['ring_mb'] == 0


def test_a_disk_that_is_slow_blocks_nobody_and_what_gives_way_is_counted(make_box):
    """Also the messages that wait to be written lie in the same bounded memory."""
    go_on, begun = threading.Event(), threading.Event()

    def slow(message):
        begun.set()
        assert go_on.wait(20)
        return serialize(message)
    box = make_box(slow, max_ring_mb=1, duration_after_s=600.0)
    add(box, range(5), size=MB // 5)
    event = box.trigger('snapshot', '', 5)
    assert begun.wait(20)
    add(box, range(5, 20), size=MB // 5)
    assert len(box._held) == 5 and box.summary()['dropped'] == 14
    go_on.set()
    box.stop()
    assert numbers(event.path) == [0, *range(15, 20)]


def test_events_within_the_cooldown_are_counted_and_a_call_is_not_held_back(make_box, clock):
    box = make_box(cooldown_s=60.0, duration_after_s=0.0)
    add(box, [1])
    first = box.trigger('sensor_failed', 'x is dead', 1)
    assert box.trigger('sensor_failed', 'rgb is dead', 1) is first
    finished(box, first)
    assert box.trigger('sensor_failed', 'x is dead', 1) is None
    assert box.summary()['state'] == 'cooldown'
    add(box, [2])
    called = box.trigger('snapshot', '', 2, at_once=True)
    assert finished(box, called) == [1, 2]
    clock.now_s += 60
    add(box, [3])
    third = box.trigger('sensor_failed', 'x is dead', 3)
    assert finished(box, third) == [3]  # the others are too old by now
    counts = box.summary()
    assert (counts['events'], counts['suppressed'], counts['files']) == (5, 2, 3)
    assert len({first.path, called.path, third.path}) == 3


def test_recordings_of_the_same_second_get_names_of_their_own(make_box, tmp_path, monkeypatch):
    monkeypatch.setattr(black_box.time, 'strftime', lambda _: '2026_01_02-03_04_05')
    box = make_box(cooldown_s=0.0, duration_after_s=0.0)
    (tmp_path / 'rgbx_seg_2026_01_02-03_04_05_snapshot').write_text('of somebody')
    paths = []
    for number in (1, 2):
        add(box, [number])
        event = box.trigger('snapshot', '', number)
        finished(box, event)
        paths.append(event.path.name)
    assert paths == [f'rgbx_seg_2026_01_02-03_04_05_snapshot_{number}' for number in (2, 3)]
    assert (tmp_path / 'rgbx_seg_2026_01_02-03_04_05_snapshot').read_text() == 'of somebody'


def test_when_the_folder_is_full_nothing_is_removed_and_what_to_do_is_told(make_box, tmp_path):
    box = make_box(max_total_mb=1, cooldown_s=0.0, duration_after_s=0.0)
    (tmp_path / 'photos').mkdir()
    (tmp_path / 'photos' / 'large').write_bytes(bytes(2 * MB))  # of no matter
    add(box, [1])
    first = box.trigger('snapshot', '', 1)
    assert finished(box, first) == [1]
    (first.path / 'more').write_bytes(bytes(MB))
    add(box, [2])
    refused = box.trigger('snapshot', '', 2)
    assert refused.decided.wait(20) and refused.path is None
    for words in ('holds 1 MB of recordings, record.max_total_mb is 1', 'move some away',
                  'the next event looks again'):
        assert words in refused.failure
    assert box.summary()['failure'] == refused.failure
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(['photos', first.path.name])
    first.path.rename(tmp_path / 'kept')  # a name of the user's own is the user's business
    event = box.trigger('snapshot', '', 2)
    assert finished(box, event) == [1, 2]
    assert box.summary()['failure'] == 'none'


def test_a_recording_that_fills_the_folder_ends_whole(make_box):
    box = make_box(max_total_mb=1, max_ring_mb=100, duration_after_s=600.0)
    add_noise(box, range(6))
    event = box.trigger('snapshot', '', 6)
    assert finished(box, event) == [0, 1]
    assert 'record.max_total_mb is 1' in box.summary()['failure']


@pytest.mark.filterwarnings('ignore:.*was cut off')
def test_a_disk_that_is_full_is_told_and_what_was_written_stays(make_box):
    """And the next event is recorded when there is room again."""
    box = make_box(max_ring_mb=100, cooldown_s=0.0, duration_after_s=0.0)
    add_noise(box, range(6))
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2 * MB, limits[1]))  # where the second chunk lies
    try:
        event = box.trigger('snapshot', '', 6)
        assert finished(box, event) == [0, 1]
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert 'cannot write the bag' in event.failure and 'File too large' in event.failure
    assert f'what was written before stays in {str(event.path)!r}' in event.failure
    assert box.summary()['failure'] == event.failure and box.summary()['files'] == 0
    event = box.trigger('snapshot', '', 7)
    assert finished(box, event) == list(range(6))
    assert box.summary()['failure'] == 'none'


def test_a_chunk_is_on_its_way_to_the_disk_as_soon_as_it_is_full(tmp_path):
    """Also one that is small, as its frames are all the same: a kill must not take it."""
    event = black_box.Event('snapshot', '', 1, 0.0, 0)
    data = serialize(image_message(np.zeros((600, 1000), np.uint8), 'mono8', 1, ''))
    with black_box._EventBag(tmp_path / 'bag', event) as bag:
        sizes = []
        for number in range(3):
            bag.write_cdr('/rgb/image', KIND, data, number)
            sizes.append((tmp_path / 'bag' / 'bag.mcap').stat().st_size)
            assert sizes[-1] == bag.written
        assert sizes[0] < sizes[1] == sizes[2] < 8192


def test_a_message_that_cannot_be_serialized_ends_a_recording_and_not_the_thread(make_box):
    def fail(message):
        raise ValueError('no')
    box = make_box(fail, duration_after_s=0.0)
    add(box, [1])
    event = box.trigger('snapshot', '', 1)
    with pytest.warns(UserWarning, match='no message in it is whole'):
        finished(box, event)
    assert "snapshot is not recorded: ValueError('no')" in box.summary()['failure']
    assert box._thread.is_alive()


def test_without_a_message_there_is_no_recording(make_box, tmp_path):
    box = make_box(duration_after_s=0.0)
    event = box.trigger('snapshot', '', 1)
    assert event.decided.wait(20)
    assert event.failure == 'snapshot is not recorded: no message has come'
    assert not list(tmp_path.iterdir())


def test_a_folder_that_is_gone_is_not_made_anew(make_box, tmp_path):
    box = make_box(duration_after_s=0.0)
    add(box, [1])
    tmp_path.rename(tmp_path.with_name('elsewhere'))
    event = box.trigger('snapshot', '', 1)
    assert event.decided.wait(20)
    assert event.failure == f'snapshot is not recorded: the folder {str(tmp_path)!r} is gone'
    assert not tmp_path.exists()
    tmp_path.with_name('elsewhere').rename(tmp_path)


def test_a_folder_that_goes_while_it_is_counted_does_not_end_the_recorder(make_box, monkeypatch):
    def gone(folder, _):
        raise FileNotFoundError(2, 'No such file or directory', str(folder))

    monkeypatch.setattr(Path, 'glob', gone)
    box = make_box(duration_after_s=0.0)
    add(box, [1])
    event = box.trigger('snapshot', '', 1)
    assert event.decided.wait(20)
    assert finished(box, event) == [1] and box._thread.is_alive()


def test_a_stop_ends_the_recording_and_writes_what_waits(make_box):
    box = make_box(duration_after_s=600.0)
    before = threading.active_count() - 1
    add(box, range(5))
    event = box.trigger('snapshot', '', 5)
    assert event.decided.wait(20)
    add(box, range(5, 8))
    box.stop()
    assert numbers(event.path) == list(range(8)) and (event.path / 'metadata.yaml').is_file()
    assert threading.active_count() == before
    box.stop()
    box.start()
    add(box, [9])
    assert box.summary()['ring_mb'] == 0.0001 and not box._event


def test_a_stop_lasts_seconds_at_most_and_what_is_left_is_counted(make_box, monkeypatch):
    monkeypatch.setattr(black_box, '_STOP_S', 0.0)
    begun, go_on = threading.Event(), threading.Event()

    def slow(message):
        begun.set()
        assert go_on.wait(20)
        return serialize(message)
    box = make_box(slow, duration_after_s=600.0)
    add(box, range(5))
    event = box.trigger('snapshot', '', 5)
    assert begun.wait(20)
    stopper = threading.Thread(target=box.stop)
    stopper.start()
    while box._stop_s is None:
        assert stopper.is_alive()
    go_on.set()
    stopper.join(20)
    box._thread.join(20)
    assert numbers(event.path) == [0] and box.summary()['dropped'] == 4


def test_a_disk_that_hangs_holds_up_neither_the_end_nor_another_start(make_box, monkeypatch):
    monkeypatch.setattr(black_box, '_STOP_S', 0.01)
    begun, go_on = threading.Event(), threading.Event()

    def hang(message):
        begun.set()
        assert go_on.wait(20)
        return serialize(message)
    box = make_box(hang, duration_after_s=600.0)
    add(box, range(5))
    box.trigger('snapshot', '', 5)
    assert begun.wait(20)
    box.stop()
    assert box._thread.is_alive() and not box._held and box.summary()['dropped'] == 4
    with pytest.raises(DataError, match='has not ended yet, its disk does not answer'):
        box.start()
    go_on.set()
    box._thread.join(20)
    box.start()
    assert box.summary()['failure'] == 'none'


@pytest.mark.parametrize(('folder', 'words'), [
    ('{tmp}/none', 'No such file or directory'), ('{tmp}/file', 'Not a directory')])
def test_a_folder_that_cannot_be_written_is_refused(tmp_path, folder, words):
    (tmp_path / 'file').write_text('')
    folder = folder.format(tmp=tmp_path)
    with pytest.raises(ParameterError, match=(
            f"parameter 'record.folder' is '{folder}', needed is a folder that can be written: "
            f'.*{words}; make it')):
        BlackBox('rgbx_seg', serialize, Parameters(record_folder=folder))


# A process that is killed

_WRITER = """
import os, sys, threading, time
import numpy as np
from rgbx_seg_ros.bags.black_box import BlackBox
from rgbx_seg_ros.bags.storage import image_message
from rgbx_seg_ros.parameters import Parameters
from rosbags.typesys import get_typestore, Stores

KIND = 'sensor_msgs/msg/Image'
types = get_typestore(Stores.ROS2_HUMBLE)
noise = np.random.default_rng(0).integers(0, 256, (240, 320, 3), np.uint8)
for line in sys.stdin:  # a folder for each; what is killed are copies of this process
    child = os.fork()
    if child == 0:
        box = BlackBox('rgbx_seg', lambda m: types.serialize_cdr(m, KIND), Parameters(
            record_folder=line.strip(), record_duration_after_s=600.0))
        box.start()
        number = 0
        while True:
            for topic, pixels, encoding in (('/rgb/image', noise, 'rgb8'),
                                            ('/x/image', noise[..., 0], 'mono8')):
                message = image_message(pixels + np.uint8(number), encoding,
                                        (number + 1) * 10 ** 8, 'camera')
                box.add(topic, KIND, message, pixels.size, number)
            if number == 20:
                print(child or os.getpid(), flush=True)
                box.trigger('snapshot', '', number)
            number += 1
            time.sleep(0.001 if number > 20 else 0)
    os.waitpid(child, 0)
    print('ended', flush=True)
"""


def kill_at_random(tmp_path, times):
    """Kill a process so often while it records; return how many messages could be read each."""
    generator, counts = random.Random(0), []
    with subprocess.Popen([sys.executable, '-c', _WRITER], stdin=subprocess.PIPE,
                          stdout=subprocess.PIPE, text=True) as writer:
        for number in range(times):
            folder = tmp_path / str(number)
            folder.mkdir()
            print(folder, file=writer.stdin, flush=True)
            child = int(writer.stdout.readline())
            time.sleep(generator.uniform(0.0, 0.25))  # the moment itself is what is tried
            os.kill(child, signal.SIGKILL)
            assert writer.stdout.readline() == 'ended\n'
            counts.append(read_after_kill(folder))
        writer.stdin.close()
    most = counts.index(max(counts))
    report = extract(list((tmp_path / str(most)).iterdir()), tmp_path / 'extracted')
    assert report.pairs in (counts[most], counts[most] - 1)  # X comes after RGB
    return counts


def read_after_kill(folder):
    """Return how many messages the recording holds; they must be the first ones, all whole."""
    for path in folder.iterdir():
        assert not (path / 'metadata.yaml').exists()
        try:
            with BagReader(path) as bag:
                found = list(bag.messages(['/rgb/image']))
        except DataError as error:
            assert any(words in str(error) for words in (
                "no topic '/rgb/image'", 'no metadata.yaml', 'it is empty', 'cut off')), error
            return 0
        assert [time_ns for _, time_ns, _ in found] == list(range(len(found)))
        for _, time_ns, message in found:
            assert message.data[0] == (int(found[0][2].data[0]) + time_ns) % 256
        return len(found)
    return 0


@pytest.mark.skipif(not hasattr(os, 'fork'), reason='forks')
@pytest.mark.filterwarnings('ignore:.*was cut off')
@pytest.mark.parametrize('times', [3, pytest.param(20, marks=pytest.mark.long)])
def test_what_a_killed_process_has_recorded_is_read(tmp_path, times):
    counts = kill_at_random(tmp_path, times)
    assert len(counts) == times and max(counts) > 0, counts
