# Copyright 2026 rgbx_seg_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""Bags: what is written comes back, also to other readers, and damage ends in one clear error."""

from pathlib import Path
import random
import shutil
import sqlite3

import numpy as np
import pytest
from rgbx_seg_ros.bags.storage import (
    BagReader,
    BagWriter,
    compressed_message,
    Image,
    image_message,
    STORAGES,
    String,
)
from rgbx_seg_ros.errors import DataError
from rgbx_seg_ros.messages.images import decode_rgb, decode_x, stamp_ns
from rosbags.highlevel import AnyReader
from rosbags.rosbag2 import Reader, StoragePlugin, Writer
from rosbags.typesys import get_typestore, Stores
import yaml

try:
    from rclpy.serialization import deserialize_message
    import sensor_msgs.msg as ros
except ImportError:
    ros = None

START_NS = 1_699_999_999_999_999_997
RNG = np.random.default_rng(0)
RGB = RNG.integers(0, 256, (6, 10, 3), np.uint8)
PIXELS = {
    'rgb8': RGB,
    'mono8': RGB[..., 0],
    'mono16': RNG.integers(0, 2 ** 16, (5, 7), np.uint16),
    '32FC1': RNG.normal(size=(4, 3)).astype(np.float32),
}
ROW_BYTES = {'rgb8': 30, 'mono8': 10, 'mono16': 14, '32FC1': 12}


def write_bag(path, storage='mcap', count=3):
    """Write `count` RGB frames and, one nanosecond after each, an X frame."""
    with BagWriter(path, storage) as bag:
        for i in range(count):
            time_ns = START_NS + i * 10_000_000
            bag.write('/rgb', image_message(RGB + i, 'rgb8', time_ns, 'camera'), time_ns)
            bag.write('/x', image_message(PIXELS['mono16'], 'mono16', time_ns, 'infrared'),
                      time_ns + 1)
    return path


def read_all(path, topics=('/rgb', '/x')):
    with BagReader(path) as bag:
        return list(bag.messages(topics))


def data_file(bag):
    return next(path for path in bag.iterdir() if path.suffix in ('.mcap', '.db3'))


@pytest.mark.parametrize('storage', STORAGES)
@pytest.mark.parametrize('encoding', PIXELS)
def test_an_image_comes_back_bit_for_bit(tmp_path, storage, encoding):
    with BagWriter(tmp_path / 'bag', storage) as bag:
        bag.write('/a', image_message(PIXELS[encoding], encoding, START_NS, 'camera'), 123)
    [(topic, receive_ns, message)] = read_all(tmp_path / 'bag', ['/a'])
    assert (topic, receive_ns, message.encoding) == ('/a', 123, encoding)
    assert (stamp_ns(message.header), message.header.frame_id) == (START_NS, 'camera')
    assert (message.step, message.is_bigendian) == (ROW_BYTES[encoding], 0)
    decode = decode_rgb if encoding == 'rgb8' else decode_x
    np.testing.assert_array_equal(decode(message), PIXELS[encoding])


@pytest.mark.parametrize('storage', STORAGES)
def test_the_bytes_of_a_picture_file_come_back_as_they_are(tmp_path, storage):
    with BagWriter(tmp_path / 'bag', storage) as bag:
        bag.write('/a', compressed_message(b'\x89PNG', 'rgb8; png', START_NS, 'camera'), 5)
        bag.write('/b', String(data='Straße'), 6)
    [(_, _, picture), (_, _, text)] = read_all(tmp_path / 'bag', ['/a', '/b'])
    assert (picture.data.tobytes(), picture.format) == (b'\x89PNG', 'rgb8; png')
    assert text.data == 'Straße'


@pytest.mark.parametrize('storage', STORAGES)
def test_messages_come_by_time_of_receipt_and_only_those_asked_for(tmp_path, storage):
    times = [7, 3, 9, 1]
    with BagWriter(tmp_path / 'bag', storage) as bag:
        for time_ns in times:
            for topic in ('/a', '/b'):
                bag.write(topic, String(data=topic), time_ns)
    with BagReader(tmp_path / 'bag') as bag:
        assert bag.topics == {'/a': 'std_msgs/msg/String', '/b': 'std_msgs/msg/String'}
        assert bag.counts == {'/a': 4, '/b': 4}
        assert [(topic, time) for topic, time, _ in bag.messages(['/b'])] == [
            ('/b', time) for time in sorted(times)]


@pytest.mark.parametrize('store', [Stores.ROS2_HUMBLE, Stores.ROS2_JAZZY, Stores.ROS2_KILTED])
@pytest.mark.parametrize('storage', STORAGES)
def test_every_distribution_reads_the_bag(tmp_path, storage, store):
    bag = write_bag(tmp_path / 'bag', storage)
    types = get_typestore(store)
    with AnyReader([bag], default_typestore=types) as reader:
        assert {c.digest for c in reader.connections} == {types.hash_rihs01(Image.__msgtype__)}
        connection, time_ns, data = next(iter(reader.messages()))
        for message in (reader.deserialize(data, connection.msgtype),
                        types.deserialize_cdr(data, connection.msgtype)):
            assert time_ns == stamp_ns(message.header) == START_NS
            np.testing.assert_array_equal(decode_rgb(message), RGB)


@pytest.mark.skipif(ros is None, reason='sensor_msgs and rclpy are not installed')
def test_real_ros_reads_the_messages(tmp_path):
    with Reader(write_bag(tmp_path / 'bag')) as reader:
        _, _, data = next(iter(reader.messages()))
    message = deserialize_message(bytes(data), ros.Image)
    assert (message.encoding, message.step, message.header.frame_id) == ('rgb8', 30, 'camera')
    assert stamp_ns(message.header) == START_NS
    np.testing.assert_array_equal(decode_rgb(message), RGB)


@pytest.mark.parametrize('storage', STORAGES)
def test_humble_can_parse_the_metadata_and_a_latched_topic_says_so(tmp_path, storage):
    with BagWriter(tmp_path / 'bag', storage) as bag:
        bag.write('/latched', String(data='a'), 1, latched=True)
        bag.write('/plain', String(data='b'), 2)
    text = (tmp_path / 'bag' / 'metadata.yaml').read_text()
    facts = yaml.safe_load(text)['rosbag2_bagfile_information']
    latched, plain = (topic['topic_metadata']['offered_qos_profiles']
                      for topic in facts['topics_with_message_count'])
    assert facts['version'] == 8
    # Since version 9 this is a list, at which Humble stops with "bad conversion".
    assert plain == ''
    [profile] = yaml.safe_load(latched)
    transient_local, reliable, keep_last = 1, 1, 1
    assert (profile['durability'], profile['reliability']) == (transient_local, reliable)
    assert (profile['history'], profile['depth']) == (keep_last, 1)


@pytest.mark.parametrize('plugin', StoragePlugin)
def test_a_bag_of_jazzy_or_kilted_is_read(tmp_path, plugin):
    types = get_typestore(Stores.ROS2_KILTED)
    with Writer(tmp_path / 'bag', version=9, storage_plugin=plugin) as writer:
        connection = writer.add_connection('/rgb', Image.__msgtype__, typestore=types)
        message = image_message(RGB, 'rgb8', START_NS, 'camera')
        writer.write(connection, 4, types.serialize_cdr(message, Image.__msgtype__))
    [(_, receive_ns, message)] = read_all(tmp_path / 'bag', ['/rgb'])
    assert (receive_ns, stamp_ns(message.header)) == (4, START_NS)
    np.testing.assert_array_equal(decode_rgb(message), RGB)


def test_a_bag_of_humble_without_type_definitions_is_read(tmp_path):
    """The tables and the metadata, version 5, as rosbag2 0.15 writes them."""
    types = get_typestore(Stores.ROS2_HUMBLE)
    profile = ('- history: 3\n  depth: 0\n  reliability: 1\n  durability: 2\n  deadline:\n'
               '    sec: 9223372036\n    nsec: 854775807\n  lifespan:\n    sec: 9223372036\n'
               '    nsec: 854775807\n  liveliness: 1\n  liveliness_lease_duration:\n'
               '    sec: 9223372036\n    nsec: 854775807\n'
               '  avoid_ros_namespace_conventions: false')
    bag = tmp_path / 'bag'
    bag.mkdir()
    database = sqlite3.connect(bag / 'bag_0.db3')
    database.executescript("""
        CREATE TABLE schema(schema_version INTEGER PRIMARY KEY, ros_distro TEXT NOT NULL);
        CREATE TABLE metadata(id INTEGER PRIMARY KEY, metadata_version INTEGER NOT NULL,
                              metadata TEXT NOT NULL);
        CREATE TABLE topics(id INTEGER PRIMARY KEY, name TEXT NOT NULL, type TEXT NOT NULL,
                            serialization_format TEXT NOT NULL,
                            offered_qos_profiles TEXT NOT NULL);
        CREATE TABLE messages(id INTEGER PRIMARY KEY, topic_id INTEGER NOT NULL,
                              timestamp INTEGER NOT NULL, data BLOB NOT NULL);
        INSERT INTO schema VALUES (3, 'humble');
    """)
    database.execute('INSERT INTO topics VALUES (1, ?, ?, ?, ?)',
                     ('/rgb', Image.__msgtype__, 'cdr', profile))
    data = types.serialize_cdr(image_message(RGB, 'rgb8', START_NS, 'camera'), Image.__msgtype__)
    database.execute('INSERT INTO messages VALUES (1, 1, 4, ?)', (bytes(data),))
    database.commit()
    database.close()
    span = {'starting_time': {'nanoseconds_since_epoch': 4}, 'duration': {'nanoseconds': 0}}
    topic = {'name': '/rgb', 'type': Image.__msgtype__, 'serialization_format': 'cdr',
             'offered_qos_profiles': profile}
    (bag / 'metadata.yaml').write_text(yaml.safe_dump({'rosbag2_bagfile_information': {
        'version': 5, 'storage_identifier': 'sqlite3', **span, 'message_count': 1,
        'topics_with_message_count': [{'topic_metadata': topic, 'message_count': 1}],
        'compression_format': '', 'compression_mode': '', 'relative_file_paths': ['bag_0.db3'],
        'files': [{'path': 'bag_0.db3', **span, 'message_count': 1}]}}))
    [(_, receive_ns, message)] = read_all(bag, ['/rgb'])
    assert (receive_ns, stamp_ns(message.header)) == (4, START_NS)


@pytest.mark.parametrize('storage', STORAGES)
def test_a_single_file_is_read_without_its_metadata(tmp_path, storage):
    bag = write_bag(tmp_path / 'bag', storage)
    assert len(read_all(data_file(bag))) == 6


def test_an_existing_path_is_refused_and_left_alone(tmp_path):
    (tmp_path / 'bag').mkdir()
    (tmp_path / 'bag' / 'mine.txt').write_text('keep')
    with pytest.raises(DataError, match='exists already: remove it or choose'):
        BagWriter(tmp_path / 'bag')
    assert (tmp_path / 'bag' / 'mine.txt').read_text() == 'keep'


@pytest.mark.parametrize('storage', STORAGES)
def test_an_error_while_writing_leaves_no_half_bag(tmp_path, storage):
    with pytest.raises(KeyboardInterrupt), BagWriter(tmp_path / 'bag', storage) as bag:
        bag.write('/a', String(data='a'), 1)
        assert (tmp_path / 'bag').is_dir()
        raise KeyboardInterrupt
    assert not (tmp_path / 'bag').exists()


def test_a_full_disk_is_one_line_and_leaves_no_half_bag(tmp_path, monkeypatch):
    def fail(*_):
        raise OSError(28, 'No space left on device')
    monkeypatch.setattr('rgbx_seg_ros.bags.storage.Writer.close', fail)
    with pytest.raises(DataError, match='cannot write .*No space left'), \
            BagWriter(tmp_path / 'bag') as bag:
        bag.write('/a', String(data='a'), 1)
    assert not (tmp_path / 'bag').exists()


def test_a_folder_that_cannot_be_made_is_one_line(tmp_path):
    (tmp_path / 'file').write_text('')
    with pytest.raises(DataError, match='cannot write'), BagWriter(tmp_path / 'file' / 'bag'):
        pass


def test_unknown_storage_and_paths_that_sqlite_misreads_are_refused(tmp_path):
    with pytest.raises(DataError, match="'mcab' is unknown; did you mean 'mcap'"):
        BagWriter(tmp_path / 'bag', 'mcab')
    with pytest.raises(DataError, match='choose another path or the storage mcap'):
        BagWriter(tmp_path / 'run#1', 'sqlite3')
    assert len(read_all(write_bag(tmp_path / 'run#1', 'mcap'))) == 6


def test_missing_bags_say_what_is_missing(tmp_path):
    with pytest.raises(DataError, match='does not exist'):
        read_all(tmp_path / 'none')
    (tmp_path / 'empty').mkdir()
    with pytest.raises(DataError, match=r'no metadata.yaml.*files in it are \[\]'):
        read_all(tmp_path / 'empty')
    bag = write_bag(tmp_path / 'bag')
    (bag / 'metadata.yaml').unlink()
    with pytest.raises(DataError, match=r"no metadata.yaml.*'bag.mcap'.*ros2 bag reindex"):
        read_all(bag)


def test_other_files_are_no_bag(tmp_path):
    for name in ('a.txt', 'a.mcap', 'a.db3'):
        (tmp_path / name).write_text('hello, I am a text and no bag. ' * 50)
        with pytest.raises(DataError, match='damaged or no rosbag2'):
            read_all(tmp_path / name)
        (tmp_path / name).write_text('')
        with pytest.raises(DataError):
            read_all(tmp_path / name)


def test_a_missing_topic_is_named_with_those_that_exist(tmp_path):
    with BagReader(write_bag(tmp_path / 'bag')) as bag:
        for ask in (lambda: bag.image_topic('/thermal'), lambda: bag.messages(['/thermal'])):
            with pytest.raises(DataError, match="'/thermal'.*/rgb.*sensor_msgs/msg/Image.*/x"):
                next(iter(ask()))


def test_the_compressed_sibling_stands_in_for_a_missing_topic(tmp_path):
    with BagWriter(tmp_path / 'bag') as bag:
        bag.write('/a/compressed', compressed_message(b'', 'png', 1, ''), 1)
        bag.write('/b/compressed', compressed_message(b'', 'png', 1, ''), 1)
        bag.write('/b', image_message(RGB, 'rgb8', 1, ''), 1)
        bag.write('/c', String(data='c'), 1)
    with BagReader(tmp_path / 'bag') as bag:
        assert bag.image_topic('/a') == '/a/compressed'
        assert bag.image_topic('/a/compressed') == '/a/compressed'
        assert bag.image_topic('/b') == '/b'
        with pytest.raises(DataError, match="'/c' holds std_msgs/msg/String"):
            bag.image_topic('/c')


def read_or_refuse(bag):
    """Read what can be read; whatever is wrong must be a DataError in one line."""
    try:
        return len(read_all(bag))
    except DataError as error:
        assert str(bag) in str(error)
        assert '\n' not in str(error)
        return None


@pytest.mark.parametrize('storage', STORAGES)
def test_a_bag_that_was_cut_off_anywhere_is_refused(tmp_path, storage):
    bag = write_bag(tmp_path / 'bag', storage)
    path = data_file(bag)
    whole = path.read_bytes()
    for size in sorted({0, 1, 7, 8, 9, 40, *range(50, len(whole) - 4096, len(whole) // 60)}):
        path.write_bytes(whole[:size])
        assert read_or_refuse(bag) is None, size
        assert read_or_refuse(path) is None, size
    path.unlink()
    assert read_or_refuse(bag) is None


@pytest.mark.parametrize('storage', STORAGES)
@pytest.mark.parametrize('name', ['data', 'metadata.yaml'])
def test_random_damage_is_refused_or_harmless(tmp_path, storage, name):
    bag = write_bag(tmp_path / 'bag', storage)
    path = data_file(bag) if name == 'data' else bag / name
    whole = path.read_bytes()
    generator = random.Random(0)
    refused = 0
    for round_ in range(300):
        damaged = bytearray(whole)
        for _ in range(1 + round_ % 8):
            start = generator.randrange(len(damaged))
            damaged[start:start + 4] = generator.randbytes(generator.randrange(1, 5))
        path.write_bytes(damaged)
        refused += read_or_refuse(bag) is None
    assert refused > 10


def test_metadata_of_the_wrong_kind_is_refused(tmp_path):
    bag = write_bag(tmp_path / 'bag')
    path = bag / 'metadata.yaml'
    whole = path.read_text()
    for text in ('', '[]', 'a: b', '\x00', '{', whole.replace('version: 8', 'version: 99'),
                 whole.replace('mcap', 'rosbag_v2'), whole.replace('/rgb', '7'),
                 whole.replace('name: /x', 'name: 7'), whole.replace('cdr', 'xml')):
        path.write_text(text)
        assert read_or_refuse(bag) is None, text


def test_a_refused_bag_is_closed(tmp_path):
    """On Windows and network drives an open file could not be removed."""
    bag = write_bag(tmp_path / 'bag', 'mcap')
    (bag / 'metadata.yaml').write_text(
        (bag / 'metadata.yaml').read_text().replace('message_count: 3', 'message_count: many'))
    before = open_files()
    for _ in range(3):
        assert read_or_refuse(bag) is None
    assert open_files() == before
    shutil.rmtree(bag)


def open_files():
    folder = Path('/proc/self/fd')
    return len(list(folder.iterdir())) if folder.is_dir() else 0
