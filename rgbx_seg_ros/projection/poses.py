# Copyright 2026 rgbx_seg_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""Where the sensors are: the one question, whoever answers it."""

from abc import ABC, abstractmethod

from rgbx_seg_ros.projection.parameters import ProjectionParameters
from rgbx_seg_ros.projection.pose import Pose


class Poses(ABC):
    """Knows where the sensors are; a method raises PoseError where it does not, or not yet."""

    @abstractmethod
    def camera(self, frame_id: str, stamp_ns: int) -> Pose:
        """Return the optical frame `frame_id` over the ground: z = 0 is the ground there."""

    @abstractmethod
    def between(self, camera_id: str, camera_ns: int, sensor_id: str, sensor_ns: int) -> Pose:
        """Return the frame of a sensor at its time in the optical frame at that of the mask."""

    def forget(self) -> None:  # noqa: B027 most have nothing to forget
        """Forget what is known of the time before: the clock has jumped."""

    def close(self) -> None:  # noqa: B027 most hold nothing
        """Take back what was subscribed."""


class GivenPoses(Poses):
    """What parameters say; a vehicle is then taken to stand still between cloud and mask."""

    def __init__(self, parameters: ProjectionParameters):
        self._camera, self._lidar = parameters.camera, parameters.lidar

    def camera(self, frame_id: str, stamp_ns: int) -> Pose:
        """Return what camera.* say, whatever the frame is called."""
        return self._camera

    def between(self, camera_id: str, camera_ns: int, sensor_id: str, sensor_ns: int) -> Pose:
        """Return what camera.* and lidar.pose say."""
        return self._lidar.seen_from(self._camera)
