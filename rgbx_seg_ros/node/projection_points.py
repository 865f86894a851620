# Copyright 2026 rgbx_seg_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""segmentation/points: depth images and clouds of a lidar, each with the mask of its time."""

from collections import deque
import time
from typing import Any, NamedTuple

import numpy as np
from rclpy.qos import QoSProfile, ReliabilityPolicy
from rgbx_seg_ros.cards.labels import UNLABELED
from rgbx_seg_ros.errors import FrameError, MessageError, PoseError
from rgbx_seg_ros.messages.images import decode_x, stamp_ns
from rgbx_seg_ros.projection.parameters import ProjectionParameters
from rgbx_seg_ros.projection.points import Cloud, DepthPoints, Painter
from sensor_msgs.msg import Image, PointCloud2

_DEPTHS = 30
"""Depth images that are kept: a second of them, which masks may be late."""
_CLOUDS = 10
_MASKS = 10
_SENSOR = QoSProfile(depth=5, reliability=ReliabilityPolicy.BEST_EFFORT)


class _Seen(NamedTuple):
    """A mask, and what is needed to look up points in it."""

    mask: Any
    camera: Any
    classes: Any


class _Waiting(NamedTuple):
    """A cloud that waits for the mask that is nearest to it in time."""

    message: PointCloud2
    stamp_ns: int
    received_s: float


class PointMaker:
    """
    Makes points of what `points.source` names, and publishes them by `outputs`.

    `poses` knows where the sensors are. `note(reason, text)` counts and tells of a failure.
    """

    def __init__(self, parameters: ProjectionParameters, poses, outputs, note):
        self._poses = poses
        self.parameters = parameters
        """Those that count; others may be assigned at any time."""
        self._outputs, self._note = outputs, note
        self._depths, self._clouds = deque(maxlen=_DEPTHS), deque()
        self._seen = deque(maxlen=_MASKS)
        self._lifting = self._painter = None

    def start(self, subscribe) -> None:
        """Subscribe by `subscribe(kind, topic, callback, qos)` to what points are made of."""
        source = self.parameters.points_source
        if source == 'depth':
            subscribe(Image, 'depth/image', self._take_depth, _SENSOR)
        elif source == 'cloud':
            subscribe(PointCloud2, 'lidar/points', self._take_cloud, _SENSOR)

    def take(self, mask, camera, classes) -> bool:
        """Take a mask, and publish what can be made now; return whether something was."""
        if not self._outputs.wanted('points'):
            self._clouds.clear()
            return False
        if self.parameters.points_source == 'depth':
            return self._lift(mask, camera, classes)
        self._seen.append(_Seen(mask, camera, classes))
        return self._paint_those_due()

    def poll(self) -> None:
        """Publish clouds that have waited long enough."""
        self._paint_those_due()

    # Depth

    def _take_depth(self, message):
        self._depths.append((stamp_ns(message.header), message))

    def _lift(self, mask, camera, classes):
        slop_ns = 1e6 * self.parameters.points_slop_ms
        apart_ns, message = min(((abs(stamp - mask.stamp_ns), message)
                                 for stamp, message in self._depths),
                                key=lambda pair: pair[0], default=(None, None))
        if message is None or apart_ns > slop_ns:
            found = 'none has come yet' if message is None else (
                f'the nearest is {apart_ns / 1e6:.0f} ms off')
            self._note('no_depth', f'no depth image for a mask: {found}; allowed is '
                       f'points.slop_ms, {self.parameters.points_slop_ms:g} ms')
            return False
        try:
            if self._lifting is None or self._lifting.camera is not camera:
                self._lifting = DepthPoints(camera)
            points = self._lifting(decode_x(message), mask.labels, mask.confidence,
                                   classes.colors, classes.dropped)
        except (MessageError, FrameError) as error:
            self._note('depth_malformed', f'depth/image: {error}')
            return False
        self._outputs.publish_points('points', points, mask.header)
        return True

    # Lidar

    def _take_cloud(self, message):
        if not self._outputs.wanted('points'):
            return
        self._clouds.append(_Waiting(message, stamp_ns(message.header), time.monotonic()))
        if len(self._clouds) > _CLOUDS:
            self._paint(self._clouds.popleft())
        self._paint_those_due()

    def _paint_those_due(self):
        """Paint clouds for which no nearer mask can come, or that have waited too long."""
        newest_ns = self._seen[-1].mask.stamp_ns if self._seen else -1
        latest_s = time.monotonic() - 1e-3 * self.parameters.points_max_wait_ms
        due = [cloud for cloud in self._clouds
               if cloud.stamp_ns <= newest_ns or cloud.received_s < latest_s]
        for cloud in due:
            self._clouds.remove(cloud)
            self._paint(cloud)
        return bool(due)

    def _paint(self, waiting):
        """Publish a cloud with the labels of the mask nearest in time; without one, with none."""
        message = waiting.message
        try:
            cloud = Cloud(message)
        except MessageError as error:
            self._note('cloud_malformed', f'lidar/points: {error}')
            return
        labels, sure = np.full(len(cloud.bytes), UNLABELED, np.uint8), np.zeros(
            len(cloud.bytes), np.uint8)
        colors, dropped = np.zeros(256, np.uint32), None
        nearest = min(self._seen, key=lambda one: abs(one.mask.stamp_ns - waiting.stamp_ns),
                      default=None)
        apart_ms = nearest and abs(nearest.mask.stamp_ns - waiting.stamp_ns) / 1e6
        if nearest is None or apart_ms > self.parameters.points_slop_ms:
            self._note('no_mask', 'a cloud goes out without labels: '
                       + ('no mask has come yet' if nearest is None else
                          f'the nearest mask is {apart_ms:.0f} ms off, allowed is points.slop_ms, '
                          f'{self.parameters.points_slop_ms:g}'))
        else:
            colors, dropped = nearest.classes.colors, nearest.classes.dropped
            try:
                labels, sure = self._look_up(nearest, message, waiting.stamp_ns, cloud.places())
            except PoseError as error:
                self._note('no_pose', f'a cloud goes out without labels: {error}')
        points, fields = cloud.painted(labels, sure, colors, dropped)
        if len(points) == message.width * message.height:
            points = points.reshape(message.height, message.width)
        self._outputs.publish_points('points', points, message.header, fields)

    def _look_up(self, seen, message, cloud_ns, places):
        mask = seen.mask
        pose = self._poses.between(mask.header.frame_id, mask.stamp_ns,
                                   message.header.frame_id, cloud_ns)
        if self._painter is None or self._painter.camera is not seen.camera:
            self._painter = Painter(seen.camera)
        return self._painter(pose.of(places), mask.labels, mask.confidence)
