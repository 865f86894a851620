# Copyright 2026 rgbx_seg_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""Bags: what is written comes back, also to other readers, and damage ends in one clear error."""

import shutil
import sqlite3

import numpy as np
import pytest
from rgbx_seg_ros.bags.storage import (
    BagReader,
    BagWriter,
    CameraInfo,
    compressed_message,
    CompressedImage,
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
from support.bag_files import (
    camera_info_message,
    change_metadata,
    data_file,
    metadata,
    read_all,
    RGB,
    ros_1_bag,
    split_bag,
    spoil_index,
    START_NS,
    TYPES,
    write_bag,
    X,
)
import yaml

try:
    from rclpy.serialization import deserialize_message
    import sensor_msgs.msg as ros
except ImportError:
    ros = None

PIXELS = {
    'rgb8': RGB,
    'mono8': RGB[..., 0],
    'mono16': X,
    '32FC1': np.random.default_rng(0).normal(size=(4, 3)).astype(np.float32),
}
OTHER_QOS = yaml.safe_dump([{
    'history': 1, 'depth': 7, 'reliability': 2, 'durability': 2, 'liveliness': 1,
    **{name: {'sec': 1, 'nsec': 0}
       for name in ('deadline', 'lifespan', 'liveliness_lease_duration')},
    'avoid_ros_namespace_conventions': False}])
ROW_BYTES = {'rgb8': 30, 'mono8': 10, 'mono16': 14, '32FC1': 12}


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


@pytest.mark.parametrize('storage', STORAGES)
def test_the_files_of_a_folder_without_metadata_are_one_recording(tmp_path, storage):
    bag = split_bag(tmp_path / 'bag', storage)
    whole = [(topic, time_ns, stamp_ns(message.header))
             for topic, time_ns, message in read_all(bag)]
    (bag / 'metadata.yaml').unlink()
    first, second = sorted(path for path in bag.iterdir())
    second.rename(bag / f'a_10{second.suffix}')  # as 10 stands before 9 by name
    first.rename(bag / f'a_9{first.suffix}')
    with BagReader(bag) as reader:
        assert reader.counts == {'/rgb': 6, '/x': 6}
        found = [(topic, time_ns, stamp_ns(message.header))
                 for topic, time_ns, message in reader.messages(['/rgb', '/x'])]
    assert found == whole and len(found) == 12
    (bag / f'a_9{first.suffix}').write_bytes(b'')
    with pytest.raises(DataError, match=r"a_9\.\w+': it is empty"):
        read_all(bag)


def test_a_bag_of_ros_1_is_read(tmp_path):
    source = tmp_path / 'bag'
    with BagWriter(source) as bag:
        for i in range(3):
            time_ns = START_NS + i * 10_000_000
            bag.write('/cam/info', camera_info_message(10, 6, 7.0, time_ns), time_ns)
            bag.write('/cam/image', image_message(RGB + i, 'rgb8', time_ns, 'camera'), time_ns)
    old = ros_1_bag(tmp_path / 'old.bag', source)
    topics = ['/cam/image', '/cam/info']
    for place in (old, tmp_path / 'folder'):
        if not place.exists():
            place.mkdir()
            shutil.copy(old, place)
        with BagReader(place) as reader:
            assert reader.topics == {'/cam/image': Image.__msgtype__,
                                     '/cam/info': CameraInfo.__msgtype__}
        for new, expected in zip(read_all(place, topics), read_all(source, topics), strict=True):
            assert new[:2] == expected[:2] and new[2].header == expected[2].header
            for field in ('data', 'k', 'd', 'p', 'width'):
                np.testing.assert_array_equal(getattr(new[2], field, None),
                                              getattr(expected[2], field, None))


def test_an_existing_path_is_refused_and_left_alone(tmp_path):
    (tmp_path / 'bag').mkdir()
    (tmp_path / 'bag' / 'mine.txt').write_text('keep')
    with pytest.raises(DataError, match='exists already: remove it or choose'):
        BagWriter(tmp_path / 'bag')
    assert (tmp_path / 'bag' / 'mine.txt').read_text() == 'keep'


def test_a_link_to_nothing_is_refused_as_well(tmp_path):
    (tmp_path / 'bag').symlink_to(tmp_path / 'none')
    with pytest.raises(DataError, match='exists already: remove it or choose'):
        BagWriter(tmp_path / 'bag')
    assert not (tmp_path / 'none').exists()


@pytest.mark.parametrize('storage', STORAGES)
def test_the_size_of_a_bag_is_that_of_all_its_files(tmp_path, storage):
    with BagWriter(tmp_path / 'bag', storage) as bag:
        bag.write('/a', String(data='a'), 1)
    sizes = [path.stat().st_size for path in (tmp_path / 'bag').iterdir()]
    assert len(sizes) == 2 and bag.size_bytes() == sum(sizes)


@pytest.mark.parametrize('storage', STORAGES)
def test_an_error_while_writing_leaves_no_half_bag(tmp_path, storage):
    with pytest.raises(KeyboardInterrupt), BagWriter(tmp_path / 'bag', storage) as bag:
        bag.write('/a', String(data='a'), 1)
        assert (tmp_path / 'bag').is_dir()
        raise KeyboardInterrupt
    assert not (tmp_path / 'bag').exists()


@pytest.mark.parametrize('moment', ['write', 'close'])
@pytest.mark.parametrize('error', [OSError(28, 'No space left on device'),
                                   sqlite3.OperationalError('database or disk is full')])
def test_a_full_disk_is_one_line_and_leaves_no_half_bag(tmp_path, monkeypatch, moment, error):
    def fail(*_):
        raise error
    monkeypatch.setattr(f'rgbx_seg_ros.bags.storage.Writer.{moment}', fail)
    with pytest.raises(DataError, match='cannot write .*(No space left|disk is full)'), \
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


def test_a_missing_topic_is_named_with_those_that_exist(tmp_path):
    with BagReader(write_bag(tmp_path / 'bag')) as bag:
        for ask in (lambda: bag.image_topic('/thermal'), lambda: bag.messages(['/thermal'])):
            with pytest.raises(DataError, match="'/thermal'.*/rgb.*sensor_msgs/msg/Image.*/x"):
                next(iter(ask()))


def write_topics(path, topics):
    """Write a bag with so many messages in each topic, images or text; a topic may be empty."""
    with Writer(path, version=8, storage_plugin=StoragePlugin.MCAP) as writer:
        for topic, (kind, count) in topics.items():
            connection = writer.add_connection(topic, kind.__msgtype__, typestore=TYPES)
            message = {Image: image_message(RGB, 'rgb8', 1, ''), String: String(data=''),
                       CompressedImage: compressed_message(b'', 'png', 1, ''),
                       CameraInfo: None}[kind]
            for _ in range(count):
                writer.write(connection, 1, TYPES.serialize_cdr(message, kind.__msgtype__))
    return path


def test_the_transport_that_has_messages_stands_in_for_a_raw_topic_that_has_none(tmp_path):
    """`ros2 bag record -a` lists all topics, and hears only those that somebody publishes."""
    bag = write_topics(tmp_path / 'bag', {
        '/a/compressed': (CompressedImage, 1),
        '/b': (Image, 1), '/b/compressed': (CompressedImage, 3),
        '/c': (String, 1),
        '/d': (Image, 0), '/d/compressed': (CompressedImage, 2),
        '/e': (Image, 0), '/e/compressed': (CompressedImage, 0),
        '/e/compressedDepth': (CompressedImage, 2),
        '/f': (Image, 0), '/f/compressed': (CompressedImage, 0),
        '/g': (String, 1), '/g/compressed': (CompressedImage, 1)})
    with BagReader(bag) as bag:
        assert [bag.image_topic(name) for name in (
            '/a', '/a/compressed', '/b', '/d', '/e', '/f', '/g')] == [
            '/a/compressed', '/a/compressed', '/b', '/d/compressed', '/e/compressedDepth', '/f',
            '/g/compressed']
        with pytest.raises(DataError, match="'/c' holds std_msgs/msg/String"):
            bag.image_topic('/c')


def test_a_transport_that_is_asked_for_comes_first(tmp_path):
    """Its pixels are those that a live node would have got, JPEG and all."""
    bag = write_topics(tmp_path / 'bag', {
        '/a': (Image, 1), '/a/compressed': (CompressedImage, 1),
        '/b': (Image, 1), '/b/compressed': (CompressedImage, 0),
        '/c': (Image, 1), '/c/compressed': (CompressedImage, 1),
        '/c/compressedDepth': (CompressedImage, 1)})
    with BagReader(bag) as bag:
        assert [bag.image_topic(name, 'compressed') for name in ('/a', '/a/compressed', '/b')] == [
            '/a/compressed', '/a/compressed', '/b']
        assert bag.image_topic('/c', 'compressedDepth') == '/c/compressedDepth'
        assert bag.image_topic('/a') == bag.image_topic('/a', 'compressedDepth') == '/a'


def test_the_camera_info_of_a_topic_stands_in_its_namespace(tmp_path):
    info = camera_info_message(64, 48, 60.0)
    with BagWriter(tmp_path / 'bag') as bag:
        bag.write('/front/left/camera_info', info, 3)
        bag.write('/text/camera_info', String(data=''), 4)
    with BagReader(tmp_path / 'bag') as bag:
        for topic in ('image', 'image_raw', 'image/compressed', 'image/compressedDepth'):
            assert bag.info_topic(f'/front/left/{topic}') == '/front/left/camera_info'
        [(_, _, found)] = bag.messages(['/front/left/camera_info'])
        assert (found.width, found.height, *found.k[:3]) == (64, 48, 60, 0, 31.5)
        for topic in ('/x/image', '/text/image', '/image'):
            with pytest.raises(DataError, match=f"which belongs to '{topic}'; there are some in "
                                                '/front/left/camera_info'):
                bag.info_topic(topic)
    with BagReader(write_topics(tmp_path / 'none', {
            '/x/camera_info': (CameraInfo, 0)})) as bag, pytest.raises(
                DataError, match="CameraInfo in '/x/camera_info', .* some in no topic"):
        bag.info_topic('/x/image')


def test_why_there_are_no_pairs_is_told_by_what_was_recorded(tmp_path):
    bag = write_topics(tmp_path / 'bag', {
        '/rgb': (Image, 0), '/x': (Image, 2), '/cam': (Image, 4), '/text': (String, 3),
        '/left/compressed': (CompressedImage, 1), '/lost': (Image, 0)})
    with BagReader(bag) as bag:
        assert bag.why_no_pairs(['/rgb', '/x']) == (
            'nothing was recorded in /rgb: name another topic, images are in /cam 4, '
            '/left/compressed 1')
        assert 'nothing was recorded in /rgb and /lost' in bag.why_no_pairs(['/rgb', '/lost'])
        assert bag.why_no_pairs(['/cam', '/x']) == 'check the slop and the offset of X'


def test_a_topic_of_another_type_is_not_read(tmp_path):
    header = TYPES.types['std_msgs/msg/Header']
    with Writer(tmp_path / 'bag', version=8, storage_plugin=StoragePlugin.MCAP) as writer:
        writer.add_connection('/a', header.__msgtype__, typestore=TYPES)
    with pytest.raises(DataError, match="has no topic '/a' that can be read; it has .*Header"):
        read_all(tmp_path / 'bag', ['/a'])


# Bags that tell of more messages than they give


@pytest.mark.parametrize('storage', STORAGES)
@pytest.mark.parametrize('latched', [(True, False), (False, True), (True, True), (False, False)])
@pytest.mark.parametrize('told', ['first', 'nothing', 'another'])
def test_messages_are_read_whatever_qos_the_files_and_the_metadata_tell(
        tmp_path, storage, latched, told):
    bag = split_bag(tmp_path / 'bag', storage, latched)
    topics = metadata(bag)['topics_with_message_count']
    for topic in topics:
        qos = topic['topic_metadata']['offered_qos_profiles']
        topic['topic_metadata']['offered_qos_profiles'] = {
            'first': qos, 'nothing': '', 'another': OTHER_QOS}[told]
    change_metadata(bag, topics_with_message_count=topics)
    found = read_all(bag)
    assert [topic for topic, _, _ in found] == ['/rgb', '/x'] * 6
    for i, (_, receive_ns, message) in enumerate(found[::2]):
        assert receive_ns == START_NS + i * 10_000_000
        np.testing.assert_array_equal(decode_rgb(message), RGB + i)
    with BagReader(bag) as reader:
        assert reader.counts == {'/rgb': 6, '/x': 6}


@pytest.mark.parametrize('storage', STORAGES)
def test_the_type_of_a_topic_is_that_in_the_files(tmp_path, storage):
    """As a converter leaves it that rewrites the files and not metadata.yaml."""
    bag = write_bag(tmp_path / 'bag', storage)
    topics = metadata(bag)['topics_with_message_count']
    topics[0]['topic_metadata']['type'] = String.__msgtype__
    change_metadata(bag, topics_with_message_count=topics)
    assert len(read_all(bag)) == 6
    with BagReader(bag) as reader:
        assert reader.image_topic('/rgb') == '/rgb'


def test_a_topic_that_only_the_metadata_names_has_no_messages(tmp_path):
    """Rosbags gives the messages of all topics to one who asks for those of none."""
    bag = write_bag(tmp_path / 'bag')
    topics = metadata(bag)['topics_with_message_count']
    lost = {'topic_metadata': {**topics[0]['topic_metadata'], 'name': '/lost'}, 'message_count': 0}
    change_metadata(bag, topics_with_message_count=[*topics, lost])
    assert read_all(bag, ['/lost']) == []
    with BagReader(bag) as reader:
        assert reader.counts == {'/rgb': 3, '/x': 3, '/lost': 0}


@pytest.mark.parametrize('storage', STORAGES)
def test_a_file_that_the_metadata_does_not_name_is_told(tmp_path, storage):
    bag = split_bag(tmp_path / 'bag', storage)
    names = metadata(bag)['relative_file_paths']
    change_metadata(bag, relative_file_paths=names[:1])
    with pytest.warns(UserWarning, match=f'fewer messages than its metadata.yaml tells, /rgb 3 of '
                                         f'6, /x 3 of 6: it does not name {names[1]!r} beside it: '
                                         '`ros2 bag reindex` takes them in'):
        assert len(read_all(bag)) == 6


def test_metadata_of_a_longer_recording_is_told_for_the_topics_that_are_read(tmp_path, recwarn):
    """As it is after `mcap recover`."""
    bag = write_bag(tmp_path / 'bag')
    topics = metadata(bag)['topics_with_message_count']
    topics[0]['message_count'] = 5
    change_metadata(bag, topics_with_message_count=topics)
    assert len(read_all(bag, ['/x'])) == 3 and not recwarn
    with pytest.warns(UserWarning, match='/rgb 3 of 5: it was written before .* counts anew'):
        assert len(read_all(bag)) == 6


@pytest.mark.parametrize('fields', [
    pytest.param([(36, '<H', 60_000), (46, '<H', 60_001)], id='without the messages of channels'),
    pytest.param([(8, '<Q', START_NS + 5)], id='that ends too early'),
    pytest.param([(0, '<Q', START_NS + 5)], id='that begins too late')])
def test_an_index_that_does_not_lead_to_all_messages_is_refused(tmp_path, fields):
    bag = write_bag(tmp_path / 'bag')
    for field in fields:
        spoil_index(data_file(bag), *field)
    for path in (bag, data_file(bag)):
        with pytest.raises(DataError, match=r'index does not lead to, .*/rgb [012] of 3.*: '
                                            '`mcap recover OLD -o NEW`.* writes a whole one'):
            read_all(path)


def test_a_reader_that_has_seen_enough_is_not_told_of_the_rest(tmp_path):
    with BagReader(write_bag(tmp_path / 'bag')) as bag:
        messages = bag.messages(['/rgb'])
        next(messages)
        messages.close()


@pytest.mark.parametrize('single', [False, True])
def test_messages_that_a_killed_recorder_left_in_the_log_are_not_passed_over(tmp_path, single):
    bag = write_bag(tmp_path / 'bag', 'sqlite3')
    database = sqlite3.connect(data_file(bag))
    database.execute('PRAGMA journal_mode=WAL')
    database.execute('INSERT INTO messages SELECT 99, topic_id, timestamp, data FROM messages '
                     'WHERE id = 1')
    database.commit()
    killed = shutil.copytree(bag, tmp_path / 'killed')  # with the log, while it is open
    database.close()
    path = killed / 'bag.db3' if single else killed
    with pytest.raises(DataError, match="not whole: 'bag.db3-wal' holds .*wal_checkpoint"):
        read_all(path)
    database = sqlite3.connect(killed / 'bag.db3')
    database.execute('PRAGMA wal_checkpoint(TRUNCATE)')
    assert len(read_all(path)) == 7
