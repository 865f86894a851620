# Copyright 2026 rgbx_seg_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""Bags as recorders and converters leave them: split, compressed, with metadata of another."""

import shutil
import struct

import numpy as np
from rgbx_seg_ros.bags.storage import BagReader, BagWriter, CameraInfo, Image, image_message
from rosbags import rosbag1
from rosbags.rosbag2 import CompressionFormat, Reader, StoragePlugin, Writer
from rosbags.typesys import get_typestore, Stores
import yaml

START_NS = 1_699_999_999_999_999_997
RNG = np.random.default_rng(0)
RGB = RNG.integers(0, 256, (6, 10, 3), np.uint8)
X = RNG.integers(0, 2 ** 16, (5, 7), np.uint16)
TYPES = get_typestore(Stores.ROS2_HUMBLE)
_CHUNK_INDEX, _SUMMARY_END = 0x08, (0x02, 0x0E)


def write_bag(path, storage='mcap', count=3, first=0, latched=False):
    """Write `count` RGB frames from number `first` on and, a nanosecond after each, an X frame."""
    with BagWriter(path, storage) as bag:
        for i in range(first, first + count):
            time_ns = START_NS + i * 10_000_000
            bag.write('/rgb', image_message(RGB + i, 'rgb8', time_ns, 'camera'), time_ns, latched)
            bag.write('/x', image_message(X, 'mono16', time_ns, 'infrared'), time_ns + 1, latched)
    return path


def read_all(path, topics=('/rgb', '/x')):
    """Return the messages of a bag, each with its topic and time of receipt."""
    with BagReader(path) as bag:
        return list(bag.messages(topics))


def data_file(bag):
    """Return the file of a bag that holds its messages."""
    return next(path for path in bag.iterdir() if path.suffix != '.yaml')


def metadata(bag):
    """Return what the metadata.yaml of a bag holds."""
    return yaml.safe_load((bag / 'metadata.yaml').read_text())['rosbag2_bagfile_information']


def change_metadata(bag, **changes):
    """Write fields of metadata.yaml anew, None: without the field."""
    facts = {name: value for name, value in {**metadata(bag), **changes}.items()
             if value is not None}
    (bag / 'metadata.yaml').write_text(yaml.safe_dump({'rosbag2_bagfile_information': facts}))
    return bag


def camera_info_message(width, height, fx, time_ns=START_NS):
    """Return the sensor_msgs/CameraInfo of a camera without distortion, for a bag."""
    k = np.array([fx, 0, (width - 1) / 2, 0, fx, (height - 1) / 2, 0, 0, 1.0])
    header = image_message(X, 'mono16', time_ns, 'camera').header
    roi = TYPES.types['sensor_msgs/msg/RegionOfInterest'](
        x_offset=0, y_offset=0, height=0, width=0, do_rectify=False)
    return CameraInfo(
        header=header, height=height, width=width, distortion_model='plumb_bob', d=np.zeros(5),
        k=k, r=np.eye(3).ravel(), p=np.insert(k, [3, 6, 9], 0.0), binning_x=0, binning_y=0,
        roi=roi)


def split_bag(path, storage='mcap', latched=(False, False)):
    """Write a bag of two files with three pairs each; `latched` is the QoS of each of them."""
    parts = [write_bag(path.with_name(f'{path.name}_{i}'), storage, 3, 3 * i, latched[i])
             for i in range(2)]
    shutil.copytree(parts[0], path)
    shutil.copy(data_file(parts[1]), path)
    topics = metadata(path)['topics_with_message_count']
    for topic in topics:
        topic['message_count'] = 6
    return change_metadata(path, topics_with_message_count=topics, message_count=12,
                           relative_file_paths=[data_file(part).name for part in parts], files=[])


def compressed_bag(path, mode, storage=StoragePlugin.MCAP):
    """Write three pairs compressed by zstd, in the CompressionMode `mode` of rosbag2."""
    writer = Writer(path, version=8, storage_plugin=storage)
    writer.set_compression(mode, CompressionFormat.ZSTD)
    with writer, Reader(write_bag(path.with_name(f'{path.name}_plain'))) as reader:
        connections = {c.topic: writer.add_connection(c.topic, Image.__msgtype__, typestore=TYPES)
                       for c in reader.connections}
        for connection, time_ns, data in reader.messages():
            writer.write(connections[connection.topic], time_ns, data)
    return path


def ros_1_bag(path, source):
    """Write the messages of a rosbag2 as ROS 1 records them."""
    types = get_typestore(Stores.ROS1_NOETIC)
    with rosbag1.Writer(path) as writer, Reader(source) as reader:
        connections = {c.topic: writer.add_connection(c.topic, c.msgtype, typestore=types)
                       for c in reader.connections}
        for connection, time_ns, data in reader.messages():
            writer.write(connections[connection.topic], time_ns,
                         TYPES.cdr_to_ros1(data, connection.msgtype))
    return path


def spoil_index(path, start_of_field, kind, value):
    """Overwrite a field of each index of a chunk of an .mcap file, `start_of_field` bytes in."""
    content = bytearray(path.read_bytes())
    position, = struct.unpack_from('<Q', content, len(content) - 28)
    while content[position] not in _SUMMARY_END:
        size, = struct.unpack_from('<Q', content, position + 1)
        if content[position] == _CHUNK_INDEX:
            struct.pack_into(kind, content, position + 9 + start_of_field, value)
        position += 9 + size
    path.write_bytes(content)
