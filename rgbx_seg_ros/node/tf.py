# Copyright 2026 rgbx_seg_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""Where the sensors are, by tf; its package tf2_ros comes with every ROS distribution."""

from dataclasses import replace

import numpy as np
from rclpy.time import Time
from rgbx_seg_ros.errors import ParameterError, PoseError
from rgbx_seg_ros.projection.parameters import ProjectionParameters
from rgbx_seg_ros.projection.pose import Pose
from rgbx_seg_ros.projection.poses import GivenPoses, Poses


def open_poses(node, parameters: ProjectionParameters) -> Poses:
    """
    Return who knows where the sensors are, as `camera.pose` asks for it.

    Raise ParameterError where that is not installed or was told nothing.
    """
    if parameters.camera_pose == 'parameters':
        return GivenPoses(parameters)
    try:
        import tf2_ros
    except ImportError as error:
        missing = f'tf2_ros is not installed ({error}; apt install ros-$ROS_DISTRO-tf2-ros-py)'
        if parameters.camera_pose == 'tf':
            raise ParameterError(f"parameter 'camera.pose' is 'tf', but {missing}; or set it to "
                                 "'parameters'") from error
        try:
            poses = GivenPoses(parameters)
        except ParameterError as unknown:
            raise ParameterError(f'{unknown}; {missing}') from unknown
        node.get_logger().info(f'{missing}: the pose of the camera is that of camera.*')
        return poses
    return TfPoses(node, tf2_ros, parameters)


class TfPoses(Poses):
    """What tf says; `tf2_ros` is that package."""

    def __init__(self, node, tf2_ros, parameters: ProjectionParameters):
        self._frame, self._fixed = parameters.frame, parameters.points_fixed_frame
        self._ground_z = parameters.ground_z
        self._errors = tf2_ros.TransformException
        self._buffer = tf2_ros.Buffer()
        self._listener = tf2_ros.TransformListener(self._buffer, node)

    def camera(self, frame_id: str, stamp_ns: int) -> Pose:
        """Return the transform from `frame_id` to the frame of the grid at that time."""
        pose = self._ask(frame_id, 'lookup_transform', self._frame, frame_id,
                         Time(nanoseconds=stamp_ns))
        return replace(pose, place=pose.place - (0.0, 0.0, self._ground_z))

    def between(self, camera_id: str, camera_ns: int, sensor_id: str, sensor_ns: int) -> Pose:
        """Return the transform through the frame that stands still, each end at its time."""
        return self._ask(
            sensor_id, 'lookup_transform_full', camera_id, Time(nanoseconds=camera_ns),
            sensor_id, Time(nanoseconds=sensor_ns), self._fixed)

    def forget(self) -> None:
        """Forget transforms that change; static ones stay."""
        self._buffer.clear()

    def close(self) -> None:
        """Unsubscribe."""
        self._listener.unregister()

    def _ask(self, frame_id, question, *arguments):
        if not frame_id:
            raise PoseError('header.frame_id is empty: let the driver set it, or set camera.pose '
                            'to parameters')
        try:
            found = getattr(self._buffer, question)(*arguments).transform
        except self._errors as error:
            raise PoseError(f'tf does not tell where {frame_id!r} is: '
                            f'{" ".join(str(error).split())}') from error
        turn, place = found.rotation, found.translation
        quaternion = np.array([turn.x, turn.y, turn.z, turn.w])
        numbers = np.array([*quaternion, place.x, place.y, place.z])
        if not np.isfinite(numbers).all() or abs(np.linalg.norm(quaternion) - 1) > 0.1:
            raise PoseError(f'tf gives {frame_id!r} the rotation {quaternion.tolist()!r} and the '
                            f'translation {numbers[4:].tolist()!r}, which is no pose')
        return Pose.from_quaternion(quaternion, numbers[4:])
