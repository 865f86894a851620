# Copyright 2026 rgbx_seg_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""What the node publishes. Only the mask is made for nobody; the rest needs a subscriber."""

from array import array
from contextlib import ExitStack
from copy import copy
import math
import time

import cv2
from diagnostic_msgs.msg import DiagnosticArray
import numpy as np
from rclpy.qos import DurabilityPolicy, QoSProfile
from rgbx_seg_ros.cards.labels import LabelSet
from rgbx_seg_ros.inference.segmenter import Segmentation
from rgbx_seg_ros.messages.images import to_image
from rgbx_seg_ros.node.diagnostics import to_array
from rgbx_seg_ros.projection.camera import scale_info
from sensor_msgs.msg import CameraInfo, Image
from std_msgs.msg import Float64MultiArray, MultiArrayDimension, MultiArrayLayout, String

DIAGNOSTICS_TOPIC = '/diagnostics'
TIMING = {
    'stamp_s': 'stamp of the mask, s',
    'latency_ms': 'from that stamp to the mask handed to the middleware, ms',
    'inference_ms': 'from frames in memory to mask and confidence in memory, ms',
    'wait_ms': 'from the receipt of that frame until its partner was certain, ms',
    'distance_ms': 'time between the two frames, with sync.x_offset_ms, ms; NaN for one frame',
    'confidence': 'mean confidence of the pixels, as published, 0..1',
}
"""The numbers of segmentation/timing, in their order, and what they mean."""
_LATCHED = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)


class Outputs:
    """
    The publishers of `node` for masks with `labels`; none, where one cannot be made.

    `fuses` says that fused images come with the masks, and `binary_group` names the group of
    segmentation/binary, if there is to be one. Raise CardError for a group that is not there.
    """

    def __init__(self, node, labels: LabelSet, fuses: bool, binary_group: str = ''):
        self._node, self._labels = node, labels
        self._publishers = []
        self._pictured = -math.inf
        names = ['mask', 'confidence', 'overlay', 'color'] + ['fused'] * fuses
        if binary_group:
            self._binary = 255 * labels.ids(binary_group).astype(np.uint8)
            names.append('binary')
        with ExitStack() as failed:
            failed.callback(self.destroy)
            self._images = {name: self._create(Image, f'segmentation/{name}') for name in names}
            self.mask_topic = self._images['mask'].topic_name
            """Where masks go, after remapping."""
            self._camera_info = self._create(CameraInfo, 'segmentation/camera_info')
            self._timing = self._create(Float64MultiArray, 'segmentation/timing')
            self._palette = self._create(String, 'segmentation/palette', _LATCHED)
            self._diagnostics = self._create(DiagnosticArray, DIAGNOSTICS_TOPIC)
            self._label_info = self._create_label_info()
            failed.pop_all()

    def _create(self, kind, topic, qos=5):
        publisher = self._node.create_publisher(kind, topic, qos)
        self._publishers.append(publisher)
        return publisher

    def _create_label_info(self):
        try:
            from vision_msgs.msg import LabelInfo
        except ImportError:
            self._node.get_logger().info(
                'vision_msgs is not installed: segmentation/label_info is not published '
                '(apt install ros-$ROS_DISTRO-vision-msgs); segmentation/palette has the names')
            return None
        return self._create(LabelInfo, 'segmentation/label_info', _LATCHED)

    def destroy(self):
        """Take the topics back."""
        for publisher in self._publishers:
            self._node.destroy_publisher(publisher)
        self._publishers.clear()

    def publish_labels(self):
        """Publish what the ids mean; late subscribers get it as well."""
        self._palette.publish(String(data=self._labels.to_json()))
        if self._label_info is not None:
            self._label_info.publish(
                label_info(self._labels, self._node.get_clock().now().to_msg()))

    def publish_mask(self, mask, header, label_encoding, size=None):
        """
        Publish `mask` (H, W uint8) under `header`, which names the camera that it lies on.

        It goes out with the width and height of `size`, or with its own. Return the message.
        """
        return self._publish_image('mask', _fitted(mask, size), label_encoding, header)

    def publish_rest(self, result: Segmentation, rgb, header, camera_info, alpha, max_rate_hz,
                     size=None):
        """
        Publish what goes with a mask, as far as somebody listens.

        `rgb` is the colour frame (H, W, 3) uint8, `camera_info` the newest CameraInfo of the
        camera that the mask lies on, or None; it goes out for frames of `size`, as the mask and
        what is read beside it. Of the pictures for people no more than `max_rate_hz` go out in a
        second.
        """
        if camera_info is not None:
            self._camera_info.publish(_info(camera_info, header, result.mask.shape, size))
        if self._wanted('confidence'):
            self._publish_image('confidence', _fitted(result.confidence, size), 'mono8', header)
        if self._wanted('binary'):
            binary = cv2.LUT(_fitted(result.mask, size), self._binary)
            self._publish_image('binary', binary, 'mono8', header)
        # Half a period of slack: at that very rate, no frame that comes a little early is lost.
        now = time.monotonic()
        if now - self._pictured < 0.5 / max_rate_hz:
            return
        self._pictured = max(self._pictured + 1.0 / max_rate_hz, now - 0.5 / max_rate_hz)
        if self._wanted('overlay'):
            picture = self._labels.overlay(rgb, result.mask, alpha)
            self._publish_image('overlay', picture, 'rgb8', header)
        if self._wanted('color'):
            self._publish_image('color', self._labels.colorize(result.mask), 'rgb8', header)
        if result.fused is not None and self._wanted('fused'):
            self._publish_image('fused', result.fused, 'rgb8', header)

    def publish_timing(self, numbers):
        """Publish what `numbers()` returns, those of TIMING, if somebody listens."""
        if self._timing.get_subscription_count():
            label = MultiArrayDimension(label=', '.join(TIMING), size=len(TIMING),
                                        stride=len(TIMING))
            self._timing.publish(Float64MultiArray(
                layout=MultiArrayLayout(dim=[label]), data=array('d', numbers())))

    def publish_diagnostics(self, sections: dict):
        """Publish what the node tells about itself, by section; return the message."""
        now = self._node.get_clock().now().to_msg()
        message = to_array(self._node.get_fully_qualified_name(), sections, now)
        self._diagnostics.publish(message)
        return message

    def _wanted(self, name):
        return name in self._images and self._images[name].get_subscription_count() > 0

    def _publish_image(self, name, pixels, encoding, header):
        message = to_image(pixels, encoding, header)
        self._images[name].publish(message)
        return message


def _fitted(image, size):
    """Return an image with the width and height of `size`, each pixel that of the nearest."""
    if size is None or image.shape[1::-1] == size:
        return image
    return cv2.resize(image, size, interpolation=cv2.INTER_NEAREST_EXACT)


def _info(camera_info, header, shape, size):
    """Return the CameraInfo of a mask that was of `shape` (H, W), and goes out with `size`."""
    if size is not None and size != shape[::-1]:
        camera_info = scale_info(camera_info, (size[0] / shape[1], size[1] / shape[0]))
    # A copy: the message belongs to the subscription, and its stamp to another frame.
    camera_info = copy(camera_info)
    camera_info.header = header
    return camera_info


def label_info(labels: LabelSet, stamp):
    """Return the class ids and names as a vision_msgs/LabelInfo."""
    from vision_msgs.msg import LabelInfo, VisionClass
    message = LabelInfo()
    message.header.stamp = stamp
    message.class_map = [VisionClass(class_id=c.id, class_name=c.name) for c in labels]
    return message
