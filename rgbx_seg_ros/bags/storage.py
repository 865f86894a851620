# Copyright 2026 rgbx_seg_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""
Read and write rosbag2 recordings, mcap and sqlite3, without ROS; read those of ROS 1 too.

Bags are written in version 8 of the format: Humble, Jazzy and Kilted all play it, while Humble
cannot parse the QoS profiles of version 9. Image, CompressedImage, CameraInfo and String have had
the same definition in every distribution of ROS 2, so one type store reads them all, also from
bags that hold no definitions.
"""

from collections import Counter
from contextlib import contextmanager, ExitStack, suppress
import heapq
import operator
import os
from pathlib import Path
import shutil
import sqlite3
import warnings

import numpy as np
from rgbx_seg_ros.bags.refusals import (
    data_files,
    outdated_metadata,
    recover,
    refusal,
    ROS_1_ENDING,
    storage_of,
    unmerged_log,
    without_metadata,
    ZSTD,
)
from rgbx_seg_ros.errors import DataError
from rgbx_seg_ros.fields import unknown_name
from rgbx_seg_ros.messages.images import to_image

try:
    from rgbx_seg_ros.bags.cut_off import CutOffReader, Reader
    from rosbags import interfaces as bag_types
    from rosbags import rosbag1
    from rosbags.rosbag2 import StoragePlugin, Writer
    from rosbags.typesys import get_typestore, Stores
except ImportError as error:
    raise DataError(f"bags need the rosbags library ({error}): pip install 'rosbags==0.11.*'"
                    ) from error

RGB_TOPIC = '/rgb/image'
X_TOPIC = '/x/image'
LABEL_TOPIC = '/ground_truth/mask'
"""Class ids, mono8, under the stamp of the RGB frame that they belong to."""

STORAGES = {'mcap': StoragePlugin.MCAP, 'sqlite3': StoragePlugin.SQLITE3}

_TYPES = get_typestore(Stores.ROS2_HUMBLE)
Image = _TYPES.types['sensor_msgs/msg/Image']
CompressedImage = _TYPES.types['sensor_msgs/msg/CompressedImage']
CameraInfo = _TYPES.types['sensor_msgs/msg/CameraInfo']
String = _TYPES.types['std_msgs/msg/String']
_Header = _TYPES.types['std_msgs/msg/Header']
_Time = _TYPES.types['builtin_interfaces/msg/Time']
IMAGES = (Image.__msgtype__, CompressedImage.__msgtype__)
_READABLE = {*IMAGES, CameraInfo.__msgtype__, String.__msgtype__}
_TRANSPORTS = ('compressed', 'compressedDepth')

_FORMAT_VERSION = 8
_ENDLESS = bag_types.QosTime(9223372036, 854775807)
_LATCHED = bag_types.Qos(
    bag_types.QosHistory.KEEP_LAST, 1, bag_types.QosReliability.RELIABLE,
    bag_types.QosDurability.TRANSIENT_LOCAL, _ENDLESS, _ENDLESS,
    bag_types.QosLiveliness.AUTOMATIC, _ENDLESS, False)


def image_message(pixels: np.ndarray, encoding: str, stamp_ns: int, frame_id: str):
    """Return a sensor_msgs/Image with `pixels`, (H, W) or (H, W, C), as `encoding` stores them."""
    return to_image(pixels, encoding, _header(stamp_ns, frame_id), Image)


def compressed_message(data: bytes, file_format: str, stamp_ns: int, frame_id: str):
    """Return a sensor_msgs/CompressedImage with the bytes of a JPEG or PNG file."""
    return CompressedImage(header=_header(stamp_ns, frame_id), format=file_format,
                           data=np.frombuffer(data, np.uint8))


def from_cdr(data: bytes, kind: str):
    """Return the message that is serialized in `data`; `kind` is as nav_msgs/msg/OccupancyGrid."""
    return _TYPES.deserialize_cdr(data, kind)


def static_transform(parent: str, child: str, place, quaternion, stamp_ns: int):
    """Return a TFMessage with one transform: `child` lies at `place` in `parent`, turned so."""
    def new(name, *fields):
        return _TYPES.types[f'geometry_msgs/msg/{name}'](*fields)
    transform = new('Transform', new('Vector3', *map(float, place)),
                    new('Quaternion', *map(float, quaternion)))
    return _TYPES.types['tf2_msgs/msg/TFMessage']([new(
        'TransformStamped', _header(stamp_ns, parent), child, transform)])


def _header(stamp_ns, frame_id):
    sec, nanosec = divmod(stamp_ns, 1_000_000_000)
    return _Header(stamp=_Time(sec=sec, nanosec=nanosec), frame_id=frame_id)


class BagWriter:
    """
    Writes one new bag in a `with` block; an error in the block removes what was written.

    Raise DataError for a path that exists, and where the file system refuses.
    """

    def __init__(self, path, storage: str = 'mcap'):
        self.path = Path(path)
        self.counts: dict[str, int] = {}
        """Messages written by topic."""
        if storage not in STORAGES:
            raise DataError(f'storage {unknown_name(storage, STORAGES)}')
        if os.path.lexists(self.path):
            raise DataError(f'{str(path)!r} exists already: remove it or choose another path')
        if storage == 'sqlite3' and set('?#%') & set(str(path)):
            # rosbags hands the path to SQLite as a URI, which would name another file.
            raise DataError(f'{str(path)!r} has a ?, # or % in it, which sqlite3 cannot take: '
                            'choose another path or the storage mcap')
        self._connections = {}
        self._writer = Writer(self.path, version=_FORMAT_VERSION, storage_plugin=STORAGES[storage])

    def __enter__(self):
        try:
            with self._failures():
                self._writer.open()
        except DataError:
            self._remove()
            raise
        return self

    def __exit__(self, kind, error, trace):
        complete = False
        try:
            if kind is None:
                with self._failures():
                    self._writer.close()
                complete = True
        finally:
            if not complete:
                self._remove()

    def write(self, topic: str, message, receive_ns: int, latched: bool = False) -> None:
        """
        Write a message made by the functions of this module, received at `receive_ns`.

        A topic begins with its first message; `latched` gives it the QoS that hands the message to
        subscribers which come late.
        """
        kind = message.__msgtype__
        self.write_cdr(topic, kind, _TYPES.serialize_cdr(message, kind), receive_ns, latched)

    def write_cdr(self, topic: str, kind: str, data, receive_ns: int, latched: bool = False
                  ) -> None:
        """Write a message of the type `kind`, of which `data` are the bytes in CDR, likewise."""
        with self._failures():
            if topic not in self._connections:
                self._connections[topic] = self._writer.add_connection(
                    topic, kind, typestore=_TYPES,
                    offered_qos_profiles=[_LATCHED] if latched else [])
                self.counts[topic] = 0
            self._writer.write(self._connections[topic], receive_ns, data)
        self.counts[topic] += 1

    def duration_s(self) -> float:
        """Return the time from the first to the last message."""
        return max(0, self._writer.max_timestamp - self._writer.min_timestamp) / 1e9

    def size_bytes(self) -> int:
        """Return the size of the files of the bag."""
        return sum(path.stat().st_size for path in self.path.iterdir())

    def _remove(self):
        with suppress(Exception):
            self._writer.abort()
        shutil.rmtree(self.path, ignore_errors=True)

    @contextmanager
    def _failures(self):
        try:
            yield
        except (OSError, sqlite3.Error) as error:
            raise DataError(f'cannot write the bag {str(self.path)!r}: {error}') from error


def bag_path(path) -> Path:
    """Return the folder of a bag of which the metadata.yaml is given; other paths as they are."""
    path = Path(path)
    return path.parent if path.name == 'metadata.yaml' else path


class BagReader:
    """
    Reads a bag in a `with` block: the folder of a rosbag2, or an .mcap, .db3 or .bag file.

    Of a folder without a metadata.yaml the files of one kind are one recording. Whatever is wrong
    with them, at the start or further on, ends in a DataError. Of an .mcap that was cut off, what
    is whole is read, with a warning.
    """

    _is_part = False

    def __init__(self, path):
        self.path = bag_path(path)
        self.topics: dict[str, str] = {}
        """Name and message type of each topic, by name."""
        self.counts: dict[str, int] = {}
        """Messages by topic, as the bag's files tell."""
        self._promised: dict[str, int] = {}
        self._connections = []
        self._is_ros_1 = self.path.suffix == ROS_1_ENDING and self.path.is_file()
        self._parts = []  # the files of a folder without metadata.yaml
        self._stack = ExitStack()

    def __enter__(self):
        if not self.path.exists():
            raise DataError(f'bag {str(self.path)!r} does not exist')
        if self.path.is_dir() and not (self.path / 'metadata.yaml').is_file():
            self._open_parts()
            return self
        log = unmerged_log(self.path)
        if log is not None:
            raise DataError(f'{str(self.path)!r} is not whole: {log}')
        with self._failures(opening=True):
            self._reader = (rosbag1.Reader if self._is_ros_1 else Reader)(self.path)
            self._name_storage()
            self._reader.open()
        self._stack.callback(self._reader.close)
        try:
            with self._failures(opening=True):
                self._read_topics()
        except DataError:
            self._stack.close()
            raise
        return self

    def __exit__(self, kind, error, trace):
        self._stack.close()

    def _open_parts(self):
        files = data_files(self.path)
        if not files:
            raise DataError(f'{str(self.path)!r} {without_metadata(self.path)}')
        with ExitStack() as stack:
            self._parts = [stack.enter_context(_Part(file)) for file in files]
            self._stack = stack.pop_all()
        for part in self._parts:
            self.topics.update(part.topics)
            for topic, count in part.counts.items():
                self.counts[topic] = self.counts.get(topic, 0) + count

    def _name_storage(self):
        """Tell rosbags what `ros2 bag reindex` of Humble leaves empty, the kind of the files."""
        plugins = self._reader.storage.STORAGE_PLUGINS if self.path.is_dir() else {}
        found = storage_of(self.path) if plugins else None
        if found is not None:
            self._reader.storage.STORAGE_PLUGINS = {**plugins, '': plugins[found]}

    def _read_topics(self):
        # metadata.yaml tells what a recorder once wrote down, the files what there is to read:
        # tools that convert them lose the QoS or change the type, and leave metadata.yaml alone.
        for connection in sorted(self._reader.connections, key=lambda c: c.topic):
            self.topics[connection.topic] = str(connection.msgtype)
            self.counts[connection.topic] = 0
            count = self._promised.get(connection.topic, 0) + int(connection.msgcount)
            self._promised[connection.topic] = count
        if self.path.is_dir():
            files = self._reader.storage.storages
        else:
            files = [self._reader if self._is_ros_1 else self._reader.storage]
        self._connections = [connection for file in files for connection in file.connections]
        for connection in self._connections:
            self.topics[connection.topic] = str(connection.msgtype)
            count = self.counts.get(connection.topic, 0) + int(connection.msgcount)
            self.counts[connection.topic] = count
        self._tell_what_is_cut_off([
            (file.path, file.cut_off) for file in files
            if isinstance(file, CutOffReader) and file.cut_off])

    def _tell_what_is_cut_off(self, texts):
        """Warn of files and how far they are read; raise DataError where nothing can be."""
        if texts and not self._is_part and not any(self.counts.values()):
            raise DataError(f'nothing can be read of the bag {str(self.path)!r}, it was cut off: '
                            f'{texts[0][1]}')
        for path, text in texts:
            warnings.warn(f'{str(path)!r} was cut off: {text}', stacklevel=5)

    def image_topic(self, name: str, transport: str = 'raw') -> str:
        """
        Return the topic `name` as `transport` has it, or another one where only this has messages.

        Raise DataError where there is neither, or where it does not hold images.
        """
        # `ros2 bag record -a` lists a raw topic also where it has only heard its transports.
        names = {'raw': name, **{kind: f'{name}/{kind}' for kind in _TRANSPORTS}}
        found = [topic for topic in (names[transport], *names.values())
                 if self.topics.get(topic) in IMAGES]
        if found:
            return next(filter(self.counts.get, found), found[0])
        held = (f'holds {self.topics[name]}' if name in self.topics
                else f'is not in {str(self.path)!r}')
        topics = ', '.join(f'{topic} ({kind})' for topic, kind in self.topics.items())
        raise DataError(f'topic {name!r} {held}: needed is one with {" or ".join(IMAGES)}; the '
                        f'bag has {topics or "no topics"}')

    def info_topic(self, image_topic: str) -> str:
        """
        Return the topic of CameraInfo that goes with one of images: that of the same namespace.

        Raise DataError where there is none, or without a message.
        """
        base, _, transport = image_topic.rpartition('/')
        namespace = (base if transport in _TRANSPORTS else image_topic).rpartition('/')[0]
        topic = f'{namespace}/camera_info'
        if self.topics.get(topic) != CameraInfo.__msgtype__ or not self.counts[topic]:
            others = [name for name, kind in self.topics.items()
                      if kind == CameraInfo.__msgtype__ and self.counts[name]]
            raise DataError(f'{str(self.path)!r} has no {CameraInfo.__msgtype__} in {topic!r}, '
                            f'which belongs to {image_topic!r}; there are some in '
                            f'{", ".join(others) or "no topic"}')
        return topic

    def why_no_pairs(self, topics) -> str:
        """Return what to do about `topics` whose messages make no pair."""
        empty = [topic for topic in topics if not self.counts[topic]]
        if not empty:
            return 'check the slop and the offset of X'
        others = [f'{topic} {count}' for topic, count in self.counts.items()
                  if count and topic not in topics and self.topics[topic] in IMAGES]
        return (f'nothing was recorded in {" and ".join(empty)}: name another topic, images are '
                f'in {", ".join(others) or "no other"}')

    def messages(self, topics):
        """
        Yield topic, time of receipt in ns and message of `topics`, by time of receipt.

        Once all have come, raise DataError where they are fewer than the files tell, and warn
        where metadata.yaml tells of more.
        """
        for topic in topics:
            if self.topics.get(topic) not in _READABLE:
                raise DataError(f'{str(self.path)!r} has no topic {topic!r} that can be read; it '
                                f'has {self.topics!r}')
        if self._parts:
            yield from heapq.merge(
                *(part.messages([topic for topic in topics if topic in part.topics])
                  for part in self._parts), key=operator.itemgetter(1))
            return
        read = Counter()
        # As the files have them: rosbags leaves out those whose QoS is not that of metadata.yaml.
        connections = [c for c in self._connections if c.topic in topics]
        with self._failures():
            # And of no connection it yields the messages of all.
            found = self._reader.messages(connections) if connections else ()
            for connection, receive_ns, data in found:
                if not 0 <= operator.index(receive_ns) < 2 ** 63:
                    raise ValueError(f'the time of receipt {receive_ns!r} ns cannot be')
                if data[:4] == ZSTD and not self._is_ros_1:
                    raise DataError(
                        f'cannot read the bag {str(self.path)!r}: its messages are compressed one '
                        'by one, which only the metadata.yaml of its recorder tells: give the '
                        'folder with that')
                read[connection.topic] += 1
                if self._is_ros_1:
                    data = _TYPES.ros1_to_cdr(data, connection.msgtype)
                yield connection.topic, receive_ns, _TYPES.deserialize_cdr(
                    data, connection.msgtype)
        self._compare(topics, read)

    def _compare(self, topics, read):
        """Compare the messages that were read with those that the bag tells of, by topic."""
        lost = [f'{topic} {read[topic]} of {self.counts[topic]}'
                for topic in topics if read[topic] < self.counts[topic]]
        if lost:
            raise DataError(
                f'{str(self.path)!r} holds messages that its index does not lead to, read were '
                f'only {", ".join(lost)}: {recover(self.path)} writes a whole one')
        lost = [f'{topic} {read[topic]} of {self._promised[topic]}'
                for topic in topics if read[topic] < self._promised.get(topic, 0)]
        if lost:
            warnings.warn(
                f'{str(self.path)!r} holds fewer messages than its metadata.yaml tells, '
                f'{", ".join(lost)}: {outdated_metadata(self.path)}', stacklevel=2)

    @contextmanager
    def _failures(self, opening=False):
        try:
            yield
        except DataError:
            raise
        except Exception as error:  # noqa: BLE001 on damaged files rosbags fails in any way
            raise DataError(f'cannot read the bag {str(self.path)!r}: '
                            f'{refusal(self.path, error, opening)}') from error


class _Part(BagReader):
    """One of the files of a folder without metadata.yaml, whose others may hold more."""

    _is_part = True
