# Copyright 2026 rgbx_seg_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""The parameters of the projection node."""

from dataclasses import dataclass
import math
from typing import ClassVar

from rgbx_seg_ros.errors import ParameterError
from rgbx_seg_ros.parameters import named, parameter, ParameterSet
from rgbx_seg_ros.projection.classes import parse_costs, parse_names
from rgbx_seg_ros.projection.ground import GridShape
from rgbx_seg_ros.projection.pose import Pose

_FAR = 10_000.0


@dataclass(frozen=True)
class ProjectionParameters(ParameterSet):
    """Every parameter of the projection node."""

    NODE_NAME: ClassVar[str] = 'rgbx_seg_projection'

    autostart: bool = parameter(
        'autostart', True, 'Configure and activate at start, without a lifecycle manager.')
    frame: str = parameter(
        'frame', 'base_link',
        'Frame of the grids and of segmentation/obstacle_points: x forward, y left, z up.')
    ground_z: float = parameter(
        'ground.z', 0.0,
        'Height of the ground in that frame, m: below 0 where its origin is above the ground.',
        low=-100.0, high=100.0)
    camera_pose: str = parameter(
        'camera.pose', 'auto',
        'Where the camera is. tf: by tf. parameters: by camera.height to camera.y. auto: by tf '
        'where tf2_ros is installed, else by these.', allowed=('auto', 'tf', 'parameters'))
    camera_height: float = parameter(
        'camera.height', 0.0, 'Height of the camera above the ground, m; more than 0 where it is '
        'used.', low=0.0, high=1000.0)
    camera_pitch: float = parameter(
        'camera.pitch', 0.0, 'How far it looks down, rad.', low=-math.pi, high=math.pi)
    camera_roll: float = parameter(
        'camera.roll', 0.0, 'How far it leans to the right, rad.', low=-math.pi, high=math.pi)
    camera_yaw: float = parameter(
        'camera.yaw', 0.0, 'How far it is turned to the left, rad.', low=-math.pi, high=math.pi)
    camera_x: float = parameter(
        'camera.x', 0.0, 'How far it is ahead of the origin of the frame, m.',
        low=-100.0, high=100.0)
    camera_y: float = parameter(
        'camera.y', 0.0, 'How far it is to the left of the origin, m.', low=-100.0, high=100.0)
    camera_rectified: bool = parameter(
        'camera.rectified', False,
        'The mask lies on a rectified image (image_rect): R and P of camera_info count, not K and '
        'D.')
    tf_max_wait_ms: float = parameter(
        'tf.max_wait_ms', 200.0, 'Longest wait of a mask for its transform, ms.',
        low=0.0, high=10_000.0, runtime=True)
    classes_ground: str = parameter(
        'classes.ground', 'drivable',
        'Groups or classes, with commas between them, whose cells are free.')
    classes_obstacle: str = parameter(
        'classes.obstacle', 'dynamic',
        'Groups or classes, with commas between them, that stand up: they hide what is behind.')
    classes_costs: str = parameter(
        'classes.costs', '',
        'Costs, 0 to 100, of groups or classes in segmentation/cost_grid, as in '
        'drivable=0; sidewalk=60. A later one replaces earlier ones. Empty: no such topic.')
    min_confidence: float = parameter(
        'min_confidence', 0.5,
        'Cells and obstacles of which the network is less sure are unknown. Above '
        'degraded.confidence of the segmentation node, no mask of one sensor alone frees a cell.',
        low=0.0, high=1.0, runtime=True)
    max_age_ms: float = parameter(
        'max_age_ms', 1000.0,
        'Age of a mask beyond which nothing is made of it, and beyond which an all unknown grid '
        'takes the place of the last one, ms.', low=1.0, high=600_000.0, runtime=True)
    grid_resolution: float = parameter(
        'grid.resolution', 0.2, 'Side of a cell, m.', low=0.0, high=100.0)
    grid_x_range: tuple[float, ...] = parameter(
        'grid.x_range', (0.0, 40.0), 'Where the grids begin and end ahead, m.')
    grid_y_range: tuple[float, ...] = parameter(
        'grid.y_range', (-20.0, 20.0), 'Where the grids begin and end to the left, m.')
    grid_max_range: float = parameter(
        'grid.max_range', 30.0, 'Distance from the camera beyond which a cell is unknown, m.',
        low=0.1, high=_FAR)
    obstacle_z: float = parameter(
        'obstacle.z', 0.2, 'Height of segmentation/obstacle_points above the ground, m.',
        low=-100.0, high=100.0)
    points_source: str = parameter(
        'points.source', 'none',
        'What segmentation/points is made of. depth: depth/image, which lies on the mask. cloud: '
        'lidar/points.', allowed=('none', 'depth', 'cloud'))
    points_drop: str = parameter(
        'points.drop', '',
        'Groups or classes, with commas between them, whose points are left out of '
        'segmentation/points.')
    points_slop_ms: float = parameter(
        'points.slop_ms', 50.0,
        'Longest time between a depth image or a cloud and its mask, ms.',
        low=0.0, high=10_000.0, runtime=True)
    points_max_wait_ms: float = parameter(
        'points.max_wait_ms', 500.0,
        'Longest wait of a cloud for its mask, ms: then it goes out with the label 255.',
        low=0.0, high=10_000.0, runtime=True)
    points_fixed_frame: str = parameter(
        'points.fixed_frame', 'odom',
        'Frame that stands still, through which a cloud comes to the time of its mask.')
    lidar_pose: tuple[float, ...] = parameter(
        'lidar.pose', (0.0, 0.0, 0.0, 0.0, 0.0, 0.0),
        'Where the lidar is where camera.* count: x, y, z above the ground, m, and roll, pitch, '
        'yaw, rad.')
    tune_allocator: bool = parameter(
        'tune_allocator', True,
        'Keep freed message buffers in the process instead of returning them (glibc only).')

    def __post_init__(self):
        super().__post_init__()
        if not self.frame.strip('/'):
            raise ParameterError(f"parameter 'frame' is {self.frame!r}, needed is a name")
        for name in ('classes.ground', 'classes.obstacle', 'points.drop'):
            named(name, parse_names, self.to_ros()[name])
        named('classes.costs', parse_costs, self.classes_costs)
        self.shape  # noqa: B018 whose check must come now

    @property
    def shape(self) -> GridShape:
        """The cells of the grids."""
        return GridShape(self.grid_resolution, self.grid_x_range, self.grid_y_range)

    @property
    def camera(self) -> Pose:
        """The camera over the ground, as these say; raise ParameterError where they do not."""
        if not self.camera_height > 0:
            raise ParameterError(f"parameter 'camera.height' is {self.camera_height!r}, needed is "
                                 'the height of the camera above the ground in metres, or tf')
        return Pose.from_angles(self.camera_roll, self.camera_pitch, self.camera_yaw,
                                (self.camera_x, self.camera_y, self.camera_height), optical=True)

    @property
    def lidar(self) -> Pose:
        """The lidar over the ground, as these say."""
        x, y, z, roll, pitch, yaw = self.lidar_pose
        return Pose.from_angles(roll, pitch, yaw, (x, y, z))

    @property
    def least(self) -> int:
        """The least confidence, as an image of it has it."""
        return math.ceil(255 * self.min_confidence - 1e-6)
