# Copyright 2026 rgbx_seg_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""Image messages as the two libraries make them, for tests that hold for both."""

from array import array

import cv2
import numpy as np
import pytest
from rosbags.typesys import get_typestore, Stores

try:
    from rclpy.serialization import deserialize_message, serialize_message
    import sensor_msgs.msg as ros
except ImportError:
    ros = None

needs_ros = pytest.mark.skipif(ros is None, reason='sensor_msgs and rclpy are not installed')
STORE = get_typestore(Stores.ROS2_JAZZY)
TYPES = STORE.types


def bags_header():
    """Return a header of the rosbags library."""
    time = TYPES['builtin_interfaces/msg/Time'](sec=12, nanosec=345)
    return TYPES['std_msgs/msg/Header'](stamp=time, frame_id='camera')


class Rosbags:
    """Messages as the rosbags library reads them: the data are a read-only array."""

    def image(self, **fields):
        data = np.frombuffer(fields.pop('data'), np.uint8)
        return TYPES['sensor_msgs/msg/Image'](header=bags_header(), data=data, **fields)

    def compressed(self, text, data):
        return TYPES['sensor_msgs/msg/CompressedImage'](
            header=bags_header(), format=text, data=np.frombuffer(data, np.uint8))


class Ros:
    """Messages of rclpy, as they come out of the wire."""

    def image(self, **fields):
        msg = ros.Image(**{**fields, 'data': array('B', fields['data'])})
        return deserialize_message(serialize_message(msg), ros.Image)

    def compressed(self, text, data):
        msg = ros.CompressedImage(format=text, data=array('B', data))
        return deserialize_message(serialize_message(msg), ros.CompressedImage)


FLAVOURS = [Rosbags, pytest.param(Ros, marks=needs_ros)]


def image(flavour, pixels, encoding, padding=0, big=False, /, **wrong):
    """Write (H, W[, C]) the slow and obvious way, independent of to_image."""
    ordered = pixels.astype(pixels.dtype.newbyteorder('>' if big else '<'))
    rows = [row.tobytes() + b'\xee' * padding for row in ordered]
    fields = {'height': pixels.shape[0], 'width': pixels.shape[1], 'encoding': encoding,
              'is_bigendian': int(big), 'step': len(rows[0]), 'data': b''.join(rows)}
    return flavour.image(**{**fields, **wrong})


def encode(suffix, pixels, *options):
    """Return the file that cv2 makes of `pixels`, BGR where they are coloured."""
    return cv2.imencode(suffix, pixels, options)[1].tobytes()
