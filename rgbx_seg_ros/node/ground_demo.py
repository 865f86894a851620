# Copyright 2026 rgbx_seg_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""
`rgbx-seg demo --ground`: the second node beside the first, and the ground from above.

Nobody has calibrated the camera of the demo's frames. Its optics and its pose are assumed: the
height from how people stand about the horizon, the horizon from where roads vanish.
"""

import subprocess

import cv2
from diagnostic_msgs.msg import DiagnosticArray
from nav_msgs.msg import OccupancyGrid
import numpy as np
from rclpy.serialization import serialize_message
from rgbx_seg_ros.bags import storage
from rgbx_seg_ros.cards.card import load_card
from rgbx_seg_ros.frames.images import write_image
from rgbx_seg_ros.messages.images import decode_rgb, stamp_ns
from rgbx_seg_ros.projection.ground import FREE, OCCUPIED
from rgbx_seg_ros.projection.parameters import ProjectionParameters
from rgbx_seg_ros.projection.pose import Pose, quaternion
from rgbx_seg_ros.subprocesses import python_command
from sensor_msgs.msg import CameraInfo, PointCloud2
from std_msgs.msg import Header

FOCAL_PX, HEIGHT_M = 700.0, 1.0
"""Of 640x480 pixels with the axis in their middle, 49 degrees wide, that look straight ahead."""
_FRAME, _OPTICAL = 'base_link', 'rgb_optical_frame'
_TOPICS = {'/segmentation/ground_grid': OccupancyGrid,
           '/segmentation/obstacle_points': PointCloud2}
_TILE = (320, 240)
_COLORS = {FREE: (90, 170, 90), OCCUPIED: (255, 60, 40)}
_UNKNOWN = (40, 40, 48)


class Ground:
    """What the demo does for the ground, with a model that is a card or the name of one."""

    def __init__(self, model: str):
        self._labels = load_card(model).labels
        # A model whose card has no groups gets one: all but the background moves.
        self._given = '' if self._labels.groups else (
            f'dynamic={", ".join(self._labels.names[1:])}')
        self._received = {topic: {} for topic in _TOPICS}
        self._told = 0

    @property
    def node_arguments(self) -> list[str]:
        """What the segmentation node is told besides."""
        return ['-p', f"classes.groups:='{self._given}'"] if self._given else []

    def start(self, log) -> subprocess.Popen:
        """Start the projection node, whose output goes to the file `log`."""
        free = 'drivable' if 'drivable' in self._labels.groups else ''
        parameters = {
            'camera.pose': 'parameters', 'camera.height': HEIGHT_M, 'frame': _FRAME,
            'classes.ground': f"'{free}'", 'classes.obstacle': 'dynamic', 'grid.resolution': 0.1,
            'grid.x_range': '[0.0, 20.0]', 'grid.y_range': '[-7.5, 7.5]', 'grid.max_range': 20.0,
            # A large model on a slow machine is late, and shall be seen nevertheless.
            'max_age_ms': 600_000.0}
        words = [word for name, value in parameters.items()
                 for word in ('-p', f'{name}:={value}')]
        return subprocess.Popen(
            python_command('rgbx_seg_ros.node.projection_node:main', '--ros-args', *words),
            stdout=log, stderr=subprocess.STDOUT)

    def listen(self, node) -> None:
        """Publish by `node` what the camera is assumed to be, and record what comes back."""
        self._node = node
        self._infos = node.create_publisher(CameraInfo, '/rgb/camera_info', 5)
        for topic, kind in _TOPICS.items():
            node.create_subscription(
                kind, topic, lambda message, topic=topic: self._received[topic].update(
                    {stamp_ns(message.header): message}), 10)
        node.create_subscription(DiagnosticArray, '/diagnostics', self._take_diagnostics, 5)

    def _take_diagnostics(self, message):
        self._told += message.status[0].name.startswith(f'{ProjectionParameters.NODE_NAME}: ')

    def connected(self) -> bool:
        """Tell whether the nodes listen to the calibration, and one to the other."""
        # A first mask that comes before any calibration has no ground.
        self.show(Header(frame_id=_OPTICAL))
        # The demo listens to the confidence as well. As it does of the first node, it waits until
        # the second has told of itself twice: by then all have found each other.
        return (self._told > 1 and self._infos.get_subscription_count() > 0
                and self._node.count_subscribers('/segmentation/confidence') > 1
                and self._node.count_publishers('/segmentation/ground_grid') > 0)

    def has_all_of(self, stamps) -> bool:
        """Tell whether the ground of each of the `stamps` of masks has come."""
        return set(stamps) <= self._received['/segmentation/ground_grid'].keys()

    def show(self, header) -> None:
        """Publish the assumed calibration with a colour frame."""
        info = CameraInfo(header=header, width=640, height=480, distortion_model='plumb_bob')
        info.d = [0.0] * 5
        info.k[:] = [FOCAL_PX, 0.0, 319.5, 0.0, FOCAL_PX, 239.5, 0.0, 0.0, 1.0]
        info.r[:] = np.eye(3).ravel()
        info.p[:] = [FOCAL_PX, 0, 319.5, 0, 0, FOCAL_PX, 239.5, 0, 0, 0, 1, 0]
        self._infos.publish(info)

    def write(self, bag, start_ns: int) -> None:
        """Write what was received into a bag, and where the camera is assumed to be."""
        pose = Pose.from_angles(0.0, 0.0, 0.0, (0.0, 0.0, HEIGHT_M), optical=True)
        bag.write('/tf_static', storage.static_transform(
            _FRAME, _OPTICAL, pose.place, quaternion(pose.rotation), start_ns), start_ns, True)
        for topic, messages in self._received.items():
            for stamp, message in sorted(messages.items()):
                kind = f'{_TOPICS[topic].__module__.split(".")[0]}/msg/{_TOPICS[topic].__name__}'
                bag.write(topic, storage.from_cdr(serialize_message(message), kind),
                          max(stamp, start_ns))

    def draw(self, path, frames, overlays) -> int:
        """
        Write a sheet with colour, mask and ground, a row for each frame; return how many it has.

        `frames` are (H, W, 3) uint8 by stamp, `overlays` messages.
        """
        grids = {stamp: np.array(grid.data, np.int8).reshape(grid.info.height, grid.info.width)
                 for stamp, grid in self._received['/segmentation/ground_grid'].items()}
        rows = [np.hstack([_tile(rgb), _tile(decode_rgb(overlays[stamp])),
                           from_above(grids[stamp])])
                for stamp, rgb in sorted(frames.items()) if stamp in overlays and stamp in grids]
        if not rows:
            return 0
        title = np.zeros((26, rows[0].shape[1], 3), np.uint8)
        for column, text in enumerate(('RGB', 'mask over RGB', 'from above, pose assumed')):
            cv2.putText(title, text, (column * _TILE[0] + 6, 18), cv2.FONT_HERSHEY_SIMPLEX, 0.5,
                        (255, 255, 255), 1, cv2.LINE_AA)
        write_image(path, np.vstack([title, *rows]))
        return len(rows)


def _tile(picture):
    return cv2.resize(picture, _TILE, interpolation=cv2.INTER_AREA)


def from_above(cells: np.ndarray) -> np.ndarray:
    """Return a grid (rows, columns) int8 as a picture: ahead is up, a metre is a metre."""
    # Rows run to the left and columns ahead; a foot of one cell is to be seen when it is small.
    marked = cv2.dilate((cells == OCCUPIED).astype(np.uint8), np.ones((3, 3), np.uint8)) > 0
    picture = np.full((*cells.shape, 3), _UNKNOWN, np.uint8)
    picture[cells == FREE] = _COLORS[FREE]
    picture[marked] = _COLORS[OCCUPIED]
    picture = picture.transpose(1, 0, 2)[::-1, ::-1]
    height, width = picture.shape[:2]
    scale = min(_TILE[0] / width, _TILE[1] / height)
    picture = cv2.resize(picture, None, fx=scale, fy=scale, interpolation=cv2.INTER_NEAREST)
    tile = np.zeros((*_TILE[::-1], 3), np.uint8)
    left = (_TILE[0] - picture.shape[1]) // 2
    tile[_TILE[1] - picture.shape[0]:, left:left + picture.shape[1]] = picture
    return tile
