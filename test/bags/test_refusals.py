# Copyright 2026 rgbx_seg_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""Bags that cannot be read: each kind is told what is wrong with it and what mends it."""

import errno
import math
from pathlib import Path
import random
import re
import shutil
import sqlite3
import struct
import subprocess

import numpy as np
import pytest
from rgbx_seg_ros.bags.storage import BagReader, BagWriter, image_message, STORAGES
from rgbx_seg_ros.errors import DataError
from rosbags import rosbag1
from rosbags.rosbag2 import CompressionMode, StoragePlugin
from rosbags.typesys import get_typestore, Stores
from support.bag_files import (
    change_metadata,
    compressed_bag,
    data_file,
    read_all,
    split_bag,
    START_NS,
    write_bag,
)

CHUNK = 0x06
"""The kind of a record of an .mcap."""


def refusal(path):
    """Return what is said about a bag that cannot be read, in one line that names it."""
    with pytest.raises(DataError) as error:
        read_all(path)
    text = str(error.value)
    assert repr(str(path)) in text and '\n' not in text
    return text


def cut(path, size=-40):
    path.write_bytes(path.read_bytes()[:size])
    return path


def ros_1_bag(path):
    types = get_typestore(Stores.ROS1_NOETIC)
    with rosbag1.Writer(path) as writer:
        connection = writer.add_connection('/a', 'std_msgs/msg/String', typestore=types)
        message = types.types['std_msgs/msg/String'](data='a')
        writer.write(connection, 1, types.serialize_ros1(message, 'std_msgs/msg/String'))
    return path


def with_profile(path, profile):
    """Give an .mcap file a profile of four letters or none, and keep the length of its header."""
    content = path.read_bytes()
    assert content[17:25] == b'\x04\0\0\0ros2'  # length and profile; those of the library follow
    end = 29 + int.from_bytes(content[25:29], 'little')
    library = content[29:end] + b' ' * (4 - len(profile))
    texts = [profile.encode(), library]
    header = b''.join(len(text).to_bytes(4, 'little') + text for text in texts)
    path.write_bytes(content[:17] + header + content[end:])
    return path


def test_missing_bags_say_what_is_missing(tmp_path):
    with pytest.raises(DataError, match='does not exist'):
        read_all(tmp_path / 'none')
    (tmp_path / 'empty').mkdir()
    with pytest.raises(DataError, match=r'no metadata.yaml.*files in it are \[\]'):
        read_all(tmp_path / 'empty')
    bag = write_bag(tmp_path / 'bag')
    (bag / 'metadata.yaml').unlink()
    (bag / 'other.db3').write_bytes(b'SQLite format 3\0')
    for name in ('._bag.mcap', '._ros1.bag', '.DS_Store'):  # what macOS leaves
        (bag / name).write_text('')
    with pytest.raises(DataError, match=r"no metadata.yaml.*\['bag.mcap', 'other.db3'\]. Run "
                                        '`ros2 bag reindex` or give the path of an .mcap'):
        read_all(bag)


def test_other_files_are_no_bag(tmp_path):
    for name in ('a.txt', 'a.mcap', 'a.db3'):
        (tmp_path / name).write_text('hello, I am a text and no bag. ' * 50)
        with pytest.raises(DataError, match='it is no rosbag2: give the folder of one'):
            read_all(tmp_path / name)
        (tmp_path / name).write_text('')
        with pytest.raises(DataError, match='it is empty: nothing was recorded'):
            read_all(tmp_path / name)


# What is not cut off


def test_a_bag_of_ros_1_under_another_name_or_cut_off_is_told(tmp_path):
    bag = ros_1_bag(tmp_path / 'old.bag')
    cut = tmp_path / 'cut.bag'
    cut.write_bytes(bag.read_bytes()[:-40])
    assert refusal(cut).endswith('`rosbag reindex OLD` of ROS 1 may mend a recording that was cut '
                                 'off')
    assert refusal(bag.rename(tmp_path / 'old.mcap')).endswith(
        'by its content it is of the kind .bag: give it that ending')


@pytest.mark.parametrize('storage', StoragePlugin)
def test_files_compressed_as_a_whole_need_their_folder_or_are_unpacked(tmp_path, storage):
    bag = compressed_bag(tmp_path / 'bag', CompressionMode.FILE, storage)
    assert len(read_all(bag)) == 6
    file = data_file(bag)
    assert refusal(file).endswith('it is compressed as a whole: give the folder with its '
                                  'metadata.yaml, or run `zstd -d` on it')
    (bag / 'metadata.yaml').unlink()
    assert 'reindex` reads no compressed files: run `zstd -d` on them' in refusal(bag)


@pytest.mark.parametrize('storage', StoragePlugin)
def test_messages_compressed_one_by_one_need_their_metadata(tmp_path, storage):
    bag = compressed_bag(tmp_path / 'bag', CompressionMode.MESSAGE, storage)
    assert len(read_all(bag)) == 6
    file = data_file(bag)
    text = 'its messages are compressed one by one, which only the metadata.yaml of its recorder'
    assert text in refusal(file)
    assert text in refusal(change_metadata(bag, compression_mode=''))


@pytest.mark.parametrize(('mode', 'what'), [('FILE', 'files'), ('MESSAGE', 'messages')])
def test_what_is_not_compressed_although_the_metadata_tells_so_is_named(tmp_path, mode, what):
    bag = change_metadata(write_bag(tmp_path / 'bag'), compression_mode=mode,
                          compression_format='zstd')
    assert refusal(bag).endswith(f'its metadata.yaml tells of compressed {what}, and they are '
                                 "not: write compression_mode: '' there")


def test_another_compression_is_named(tmp_path):
    bag = change_metadata(write_bag(tmp_path / 'bag'), compression_mode='MESSAGE',
                          compression_format='cloudini')
    assert refusal(bag).endswith("it is compressed with 'cloudini', read is zstd: `ros2 bag "
                                 'convert -i OLD -o OPTIONS.yaml` writes it without')


@pytest.mark.parametrize(('profile', 'advice'), [
    ('', 'if its messages are of ROS 2, `ros2 bag convert -i OLD -o OPTIONS.yaml` writes it'),
    ('ros1', '`rosbags-convert` the .bag of ROS 1 that it was made of')])
def test_an_mcap_that_was_not_written_for_ros_2_is_told_by_its_profile(tmp_path, profile, advice):
    bag = write_bag(tmp_path / 'bag')
    file = with_profile(data_file(bag), profile)
    text = f"the profile in its header is {profile!r}, needed is 'ros2': {advice}"
    assert text in refusal(file)
    assert f"'bag.mcap': {text}" in refusal(bag)


@pytest.mark.parametrize('storage', STORAGES)
def test_an_empty_storage_identifier_is_told_by_the_files(tmp_path, storage):
    """As `ros2 bag reindex` of Humble leaves it."""
    bag = change_metadata(split_bag(tmp_path / 'bag', storage), storage_identifier='')
    for ending in ('mcap', 'db3'):
        (bag / f'._bag.{ending}').write_text('')
    assert len(read_all(bag)) == 12
    bag = change_metadata(compressed_bag(tmp_path / 'packed', CompressionMode.FILE),
                          storage_identifier='')
    assert len(read_all(bag)) == 6


def test_another_storage_is_named(tmp_path):
    bag = change_metadata(write_bag(tmp_path / 'bag'), storage_identifier='rosbag_v2')
    assert "its storage is 'rosbag_v2', read are mcap and sqlite3: `ros2 bag conv" in refusal(bag)


def test_the_path_of_the_metadata_stands_for_its_folder(tmp_path):
    bag = write_bag(tmp_path / 'bag')
    assert len(read_all(bag / 'metadata.yaml')) == 6
    with BagReader(str(bag / 'metadata.yaml')) as reader:
        assert reader.path == bag


@pytest.mark.parametrize(('storage', 'ending'), [('mcap', '.bag'), ('sqlite3', '.mcap')])
def test_a_file_with_the_ending_of_another_kind_is_told_its_own(tmp_path, storage, ending):
    file = data_file(write_bag(tmp_path / 'bag', storage))
    assert refusal(file.rename(file.with_suffix(ending))).endswith(
        f'by its content it is of the kind {file.suffix}: give it that ending')


def test_a_bag_of_a_later_version_is_read_by_its_file(tmp_path):
    bag = change_metadata(write_bag(tmp_path / 'bag'), version=10)
    assert refusal(bag).endswith(
        'its version is 10, read are those up to 9: give the path of its .mcap or .db3 file')
    assert len(read_all(data_file(bag))) == 6


def test_files_that_are_not_there_are_named(tmp_path):
    bag = split_bag(tmp_path / 'bag')
    (bag / 'bag_1.mcap').unlink()
    assert refusal(bag).endswith(
        "metadata.yaml names 'bag_1.mcap', not to be found: bring it back, or `ros2 bag reindex` "
        'goes on without it')


@pytest.mark.parametrize('change', [{'version': None}, {'duration': None}, {'version': 'x'},
                                    {'relative_file_paths': 7}, {'duration': {'nanoseconds': ''}}])
def test_metadata_that_says_nothing_is_written_anew(tmp_path, change):
    bag = change_metadata(write_bag(tmp_path / 'bag'), **change)
    assert 'its metadata.yaml is damaged (' in refusal(bag)
    assert refusal(bag).endswith('): `ros2 bag reindex` writes it anew')


@pytest.mark.parametrize('single', [False, True])
def test_a_disk_that_fails_is_no_damage_of_the_bag(tmp_path, monkeypatch, single):
    bag = write_bag(tmp_path / 'bag')
    path = data_file(bag) if single else bag
    whole = Path.open

    def fail(self, *arguments, **options):
        if self.suffix == '.mcap':
            raise OSError(errno.EIO, 'Input/output error')
        return whole(self, *arguments, **options)
    monkeypatch.setattr(Path, 'open', fail)
    assert refusal(path).endswith(': Input/output error')


# What is


@pytest.mark.parametrize('size', [12, 20, 40])
def test_an_mcap_without_a_whole_header_is_damaged(tmp_path, size):
    bag = write_bag(tmp_path / 'bag')
    file = cut(data_file(bag), size)
    for path, then in ((file, ''), (bag, ', then `ros2 bag reindex`,')):
        assert refusal(path).endswith(
            f'; `mcap recover OLD -o NEW`{then} may mend a recording that was cut off')


def spans(content, wanted):
    """Return where the records of the kind `wanted` in an .mcap start and end."""
    found, position = [], 8
    while position < len(content) - 8:
        kind, size = struct.unpack_from('<BQ', content, position)
        if kind == wanted:
            found.append((position, position + 9 + size))
        position += 9 + size
    return found


@pytest.fixture(scope='module')
def chunked(tmp_path_factory):
    """Return the content of an .mcap with three chunks of three messages, and where these end."""
    bag = tmp_path_factory.mktemp('chunked') / 'bag'
    noise = np.random.default_rng(0).integers(0, 256, (300, 400, 3), np.uint8)
    with BagWriter(bag) as writer:
        for i in range(9):
            message = image_message(noise + np.uint8(i), 'rgb8', START_NS, 'camera')
            writer.write('/rgb', message, START_NS + i * 500_000_000)
    content = data_file(bag).read_bytes()
    return content, [end for _, end in spans(content, CHUNK)]


def check_cut_off(bag, size, count, seconds, recwarn):
    """Check that so many messages are read, and that how far is told."""
    recwarn.clear()
    found = read_all(bag, ['/rgb'])
    assert [(time_ns, message.data[0] - found[0][2].data[0]) for _, time_ns, message in found] == [
        (START_NS + i * 500_000_000, i) for i in range(count)]
    assert len(recwarn) == 1
    assert re.search(rf"bag.mcap' was cut off: read are its {count} whole messages, {seconds} s; "
                     rf'left out are the last \d+ bytes of {size}$', str(recwarn[0].message))


@pytest.mark.parametrize('alone', [True, False])
def test_of_an_mcap_that_was_cut_off_what_is_whole_is_read_and_how_far_is_told(
        tmp_path, chunked, recwarn, alone):
    content, ends = chunked
    file = tmp_path / 'bag.mcap'
    for size, count, seconds in ((len(content) - 1, 9, '4.0'), (ends[2], 9, '4.0'),
                                 (ends[2] - 1, 6, '2.5'), (ends[0] + 80, 3, '1.0')):
        file.write_bytes(content[:size])
        check_cut_off(file if alone else tmp_path, size, count, seconds, recwarn)
    file.write_bytes(content[:ends[0]] + bytes(5000))  # which loss of power may leave
    check_cut_off(file if alone else tmp_path, ends[0] + 5000, 3, '1.0', recwarn)
    assert 'the last 5000 bytes' in str(recwarn[0].message)


def test_an_mcap_without_chunks_that_was_cut_off_is_read_likewise(tmp_path, chunked, recwarn):
    content, ends = chunked
    (first, _), *_ = spans(content, CHUNK)
    start = content.index(b'\x03', first + 9 + 40)  # the schema, behind the head of the chunk
    file = tmp_path / 'bag.mcap'
    file.write_bytes(content[:first] + content[start:ends[0] - 1000])
    check_cut_off(file, file.stat().st_size, 2, '0.5', recwarn)


def test_an_mcap_that_was_cut_off_beside_its_metadata_tells_of_both(tmp_path, chunked):
    bag = change_metadata(write_bag(tmp_path / 'bag'), files=[])
    content, ends = chunked
    data_file(bag).write_bytes(content[:ends[1]])
    with pytest.warns(UserWarning, match='was cut off: read are its 6 whole messages'):
        assert len(read_all(bag, ['/rgb'])) == 6


def test_of_an_mcap_without_a_whole_message_that_is_told(tmp_path, chunked):
    """Its folder may hold other files, so it is no reason to refuse these."""
    content, ends = chunked
    for name, size in (('a.mcap', ends[1] + 1), ('b.mcap', 300)):
        (tmp_path / name).write_bytes(content[:size])
    text = r'was cut off: no message in it is whole; left out are the last \d+ bytes of 300$'
    with pytest.warns(UserWarning, match=f"b.mcap' {text}"), pytest.warns(match='a.mcap'):
        assert len(read_all(tmp_path, ['/rgb'])) == 6
    assert re.search(f'nothing can be read of the bag .*, it {text}', refusal(tmp_path / 'b.mcap'))
    (tmp_path / 'a.mcap').unlink()
    with pytest.warns(UserWarning, match=text), pytest.raises(DataError, match='it has {}'):
        read_all(tmp_path, ['/rgb'])


def test_a_database_that_was_cut_off_is_recovered_by_sqlite(tmp_path):
    bag = write_bag(tmp_path / 'bag', 'sqlite3')
    file = cut(data_file(bag), 9000)
    for path, then in ((file, ''), (bag, ', then `ros2 bag reindex`,')):
        assert refusal(path).endswith(
            "; `sqlite3 OLD .dump | sed 's/^ROLLBACK.*/COMMIT;/' | sqlite3 NEW`"
            f'{then} may mend a recording that was cut off')


@pytest.mark.skipif(shutil.which('sqlite3') is None, reason='does what is told, with sqlite3')
def test_the_command_for_a_database_mends_it(tmp_path):
    file = data_file(write_bag(tmp_path / 'bag', 'sqlite3', count=40))
    cut(file, -8192)
    command, new = re.search('`(.*)`', refusal(file))[1], tmp_path / 'new.db3'
    subprocess.run(command.replace('OLD', str(file)).replace('NEW', str(new)), shell=True,
                   check=True)
    assert 20 < len(read_all(new)) < 80


def read_or_refuse(bag):
    """Read what can be read; whatever is wrong must be a DataError in one line."""
    try:
        return len(read_all(bag))
    except DataError as error:
        assert str(bag) in str(error)
        assert '\n' not in str(error)
        return None


@pytest.mark.filterwarnings('ignore:.*was cut off', 'ignore:.*fewer messages')
@pytest.mark.parametrize('storage', STORAGES)
def test_a_bag_that_was_cut_off_anywhere_is_refused_or_read_as_far_as_it_is_whole(
        tmp_path, storage):
    bag = write_bag(tmp_path / 'bag', storage)
    path = data_file(bag)
    whole = path.read_bytes()
    # The rows of a database lie anywhere in it; of an .mcap the only chunk is whole or not.
    end = len(whole) - 4096 if storage == 'sqlite3' else len(whole)
    enough = spans(whole, CHUNK)[0][1] if storage == 'mcap' else math.inf
    for size in sorted({0, 1, 7, 8, 9, 40, *range(50, end, len(whole) // 60)}):
        path.write_bytes(whole[:size])
        assert read_or_refuse(path) == (6 if size >= enough else None), size
        assert read_or_refuse(bag) == (6 if size >= enough else None), size
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


def test_a_time_of_receipt_that_no_clock_gives_is_refused(tmp_path):
    bag = write_bag(tmp_path / 'bag', 'sqlite3')
    database = sqlite3.connect(data_file(bag))
    database.execute('UPDATE messages SET timestamp = -7 WHERE id = 3')
    database.commit()
    database.close()
    assert 'it is damaged: the time of receipt -7 ns cannot be; `sqlite3' in refusal(bag)
