# Copyright 2026 rgbx_seg_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""A folder of frames as a bag: pixels, stamps, order, and the same bag each time."""

from contextlib import closing
import sqlite3
import sys

import cv2
import numpy as np
import pytest
from rgbx_seg_ros.__main__ import main
from rgbx_seg_ros.bags.make_bag import make_bag, START_NS
from rgbx_seg_ros.bags.storage import BagReader, LABEL_TOPIC, RGB_TOPIC, STORAGES, X_TOPIC
from rgbx_seg_ros.datasets import FolderDataset
from rgbx_seg_ros.errors import DataError, ParameterError
from rgbx_seg_ros.messages.images import decode_rgb, decode_x, stamp_ns
from support.picture_files import turned

H, W = 12, 16
NAMES = ['a', 'b', 'c', 'd', 'e', 'f']
X_TYPES = {'mono8': (np.uint8, 1), 'mono16': (np.uint16, 1), '32FC1': (np.float32, 1),
           'rgb8': (np.uint8, 3), 'rgb16': (np.uint16, 3)}


def make_folder(root, names=NAMES, encoding='mono8', rgb_ending='.png', labels=NAMES[:4]):
    generator = np.random.default_rng(0)
    x_type, channels = X_TYPES[encoding]
    for folder in ('rgb', 'thermal', 'label'):
        (root / folder).mkdir(parents=True)
    for name in names:
        rgb = generator.integers(0, 256, (H, W, 3), np.uint8)
        x = generator.integers(0, 2 ** 8 if x_type == np.uint8 else 2 ** 16, (H, W, channels))
        x_ending = '.tif' if x_type == np.float32 else '.png'
        cv2.imwrite(str(root / 'rgb' / f'{name}{rgb_ending}'), rgb)
        cv2.imwrite(str(root / 'thermal' / f'{name}{x_ending}'), x.astype(x_type).squeeze())
        if name in labels:
            label = generator.integers(0, 4, (H, W), np.uint8)
            cv2.imwrite(str(root / 'label' / f'{name}.png'), label)
    return root


@pytest.fixture
def folder(tmp_path):
    return make_folder(tmp_path / 'frames')


def read(bag, topic):
    """Return (receive time, message) of each message of a topic."""
    with BagReader(bag) as reader:
        return [(time_ns, message) for _, time_ns, message in reader.messages([topic])]


def stamps(bag, topic):
    return np.array([stamp_ns(message.header) for _, message in read(bag, topic)])


@pytest.mark.parametrize('storage', STORAGES)
@pytest.mark.parametrize('encoding', X_TYPES)
def test_the_pixels_of_both_cameras_come_as_they_are_in_the_files(tmp_path, encoding, storage):
    folder = make_folder(tmp_path / 'frames', encoding=encoding)
    make_bag(folder, tmp_path / 'bag', storage=storage)
    rgb, x = (read(tmp_path / 'bag', topic) for topic in (RGB_TOPIC, X_TOPIC))
    assert len(rgb) == len(x) == len(NAMES)
    for sample, (_, rgb_message), (_, x_message) in zip(FolderDataset(folder), rgb, x,
                                                        strict=False):
        assert (rgb_message.encoding, x_message.encoding) == ('rgb8', encoding)
        assert rgb_message.header.frame_id == 'rgb_optical_frame'
        assert x_message.header.frame_id == 'x_optical_frame'
        np.testing.assert_array_equal(decode_rgb(rgb_message), sample.rgb)
        np.testing.assert_array_equal(decode_x(x_message), sample.x)


def test_labels_stand_under_the_stamp_of_their_rgb_frame(tmp_path, folder):
    make_bag(folder, tmp_path / 'bag')
    labels = read(tmp_path / 'bag', LABEL_TOPIC)
    assert [stamp_ns(message.header) for _, message in labels] == list(
        stamps(tmp_path / 'bag', RGB_TOPIC)[:4])
    for sample, (_, message) in zip(FolderDataset(folder), labels, strict=False):
        assert (message.encoding, message.header.frame_id) == ('mono8', 'rgb_optical_frame')
        np.testing.assert_array_equal(decode_x(message), sample.label)


def test_frames_come_at_the_rate_and_x_with_the_offset(tmp_path, folder):
    make_bag(folder, tmp_path / 'bag', rate_hz=30, offset_ms=-7.25)
    expected = START_NS + np.array([round(i * 1e9 / 30) for i in range(len(NAMES))])
    np.testing.assert_array_equal(stamps(tmp_path / 'bag', RGB_TOPIC), expected)
    np.testing.assert_array_equal(stamps(tmp_path / 'bag', X_TOPIC), expected - 7_250_000)


def test_jitter_stays_in_its_bounds_around_the_offset_and_fills_them(tmp_path):
    names = [f'{i:03}' for i in range(60)]
    folder = make_folder(tmp_path / 'frames', names)
    make_bag(folder, tmp_path / 'bag', offset_ms=12, jitter_ms=5)
    bag = tmp_path / 'bag'
    off_ms = (stamps(bag, X_TOPIC) - stamps(bag, RGB_TOPIC)) / 1e6 - 12
    assert -5 <= off_ms.min() < -4 and 4 < off_ms.max() <= 5
    assert abs(off_ms.mean()) < 1.5
    make_bag(folder, tmp_path / 'other', offset_ms=12, jitter_ms=5, seed=1)
    assert (stamps(tmp_path / 'other', X_TOPIC) != stamps(bag, X_TOPIC)).all()


@pytest.mark.parametrize('offset_ms', [0, 12, -12, 1250, -1250])
def test_messages_are_received_at_their_stamps_in_order(tmp_path, folder, offset_ms):
    make_bag(folder, tmp_path / 'bag', jitter_ms=40, offset_ms=offset_ms, storage='sqlite3')
    with closing(sqlite3.connect(tmp_path / 'bag' / 'bag.db3')) as database:
        rows = database.execute('SELECT timestamp FROM messages ORDER BY id')
        written = [time_ns for time_ns, in rows]
    with BagReader(tmp_path / 'bag') as bag:
        messages = list(bag.messages([RGB_TOPIC, X_TOPIC, LABEL_TOPIC]))
    received = [time_ns for _, time_ns, _ in messages]
    assert written == received == sorted(received)
    assert received == [stamp_ns(message.header) for _, _, message in messages]


@pytest.mark.parametrize('storage', STORAGES)
def test_the_same_command_writes_the_same_bag(tmp_path, folder, storage):
    files = []
    for parent in ('first', 'second'):
        bag = tmp_path / parent / 'bag'
        make_bag(folder, bag, jitter_ms=5, storage=storage)
        files.append({path.name: path.read_bytes() for path in bag.iterdir()})
    assert len(files[0]) == 2
    assert files[0] == files[1]


def test_frames_are_chosen_and_ordered_by_name(tmp_path, folder):
    make_bag(folder, tmp_path / 'bag', frames=['e', 'b', 'e'])
    data = FolderDataset(folder)
    messages = read(tmp_path / 'bag', RGB_TOPIC)
    assert len(messages) == 3
    for index, (_, message) in zip((4, 1, 4), messages, strict=True):
        np.testing.assert_array_equal(decode_rgb(message), data[index].rgb)
    assert len(read(tmp_path / 'bag', LABEL_TOPIC)) == 1


def test_an_unknown_frame_is_named_with_the_nearest(tmp_path):
    folder = make_folder(tmp_path / 'frames', ['night_1', 'day_7'])
    with pytest.raises(DataError, match="no frame 'nigth_1'; did you mean 'night_1'"):
        make_bag(folder, tmp_path / 'bag', frames=['nigth_1'])
    assert not (tmp_path / 'bag').exists()


@pytest.mark.parametrize('encoding, x_format', [
    ('mono8', 'mono8; png compressed '), ('mono16', 'mono16; png compressed '),
    ('rgb8', 'rgb8; png compressed bgr8'), ('rgb16', 'rgb16; png compressed bgr16')])
def test_compressed_frames_are_the_files_themselves(tmp_path, encoding, x_format):
    folder = make_folder(tmp_path / 'frames', encoding=encoding, rgb_ending='.jpg')
    bag = make_bag(folder, tmp_path / 'bag', compressed=True)
    assert bag.counts == {f'{RGB_TOPIC}/compressed': 6, f'{X_TOPIC}/compressed': 6, LABEL_TOPIC: 4}
    rgb, x = (read(tmp_path / 'bag', f'{topic}/compressed') for topic in (RGB_TOPIC, X_TOPIC))
    for name, sample, (_, rgb_message), (_, x_message) in zip(
            NAMES, FolderDataset(folder), rgb, x, strict=False):
        assert (rgb_message.format, x_message.format) == ('rgb8; jpeg compressed bgr8', x_format)
        assert rgb_message.data.tobytes() == (folder / 'rgb' / f'{name}.jpg').read_bytes()
        assert x_message.data.tobytes() == (folder / 'thermal' / f'{name}.png').read_bytes()
        np.testing.assert_array_equal(decode_rgb(rgb_message), sample.rgb)
        np.testing.assert_array_equal(decode_x(x_message), sample.x)


def test_files_that_cannot_go_as_they_are_leave_no_bag(tmp_path):
    folder = make_folder(tmp_path / 'frames', encoding='32FC1')
    with pytest.raises(DataError, match=r"thermal/a' is neither .*leave out --compressed"):
        make_bag(folder, tmp_path / 'bag', compressed=True)
    assert not (tmp_path / 'bag').exists()


def test_pixels_without_an_encoding_are_refused(tmp_path, folder):
    cv2.imwrite(str(folder / 'thermal' / 'c.tif'), np.zeros((H, W, 3), np.float32))
    (folder / 'thermal' / 'c.png').unlink()
    with pytest.raises(DataError, match="'c' holds float32"):
        make_bag(folder, tmp_path / 'bag')
    assert not (tmp_path / 'bag').exists()


@pytest.mark.parametrize('part', ['rgb', 'thermal', 'label'])
@pytest.mark.parametrize('compressed', [False, True])
def test_pictures_that_viewers_turn_leave_no_bag(tmp_path, folder, part, compressed):
    pixels = np.zeros((H, W, 3) if part == 'rgb' else (H, W), np.uint8)
    (folder / part / 'c.png').write_bytes(turned('.png', pixels, 3))
    with pytest.raises(DataError, match=f"{part}/c.png' is stored turned or mirrored"):
        make_bag(folder, tmp_path / 'bag', compressed=compressed)
    assert not (tmp_path / 'bag').exists()


@pytest.mark.parametrize('wrong, message', [
    ({'rate_hz': 0}, 'rate is 0 Hz, allowed is'),
    ({'rate_hz': -5}, 'rate is -5'),
    ({'rate_hz': float('nan')}, 'rate is nan'),
    ({'rate_hz': float('inf')}, 'rate is inf'),
    ({'jitter_ms': -1}, 'jitter is -1 ms'),
    ({'jitter_ms': float('nan')}, 'jitter is nan'),
    ({'jitter_ms': 50}, 'less than half a period, which is 50 ms at 10 Hz'),
    ({'offset_ms': float('inf')}, 'offset is inf'),
    ({'offset_ms': -60_001}, 'offset is -60001'),
    ({'seed': -1}, 'seed is -1'),
])
def test_impossible_times_are_refused(tmp_path, folder, wrong, message):
    with pytest.raises(ParameterError, match=message):
        make_bag(folder, tmp_path / 'bag', **wrong)
    assert not (tmp_path / 'bag').exists()


def test_the_command_ends_with_one_line_of_facts(tmp_path, folder, monkeypatch, capsys):
    command = ['rgbx-seg', 'make-bag', str(folder), str(tmp_path / 'bag'), '--rate', '5',
               '--jitter-ms', '3', '--offset-ms', '4', '--storage', 'sqlite3', '--seed', '2',
               '--frames', 'b', 'c']
    monkeypatch.setattr(sys, 'argv', command)
    assert main() == 0
    out, err = capsys.readouterr()
    assert out.count('\n') == 1 and not err
    assert f'wrote {tmp_path / "bag"} (sqlite3, 0.2 s, ' in out
    assert '/ground_truth/mask 2, /rgb/image 2, /x/image 2' in out
    assert main() == 2
    assert 'exists already' in capsys.readouterr().err
