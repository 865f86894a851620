# Copyright 2026 rgbx_seg_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""What the projection node publishes; each topic is made only while somebody listens."""

from array import array
from contextlib import ExitStack

from diagnostic_msgs.msg import DiagnosticArray
from nav_msgs.msg import OccupancyGrid
import numpy as np
from rgbx_seg_ros.node.diagnostics import to_array
from rgbx_seg_ros.projection.ground import GridShape
from rgbx_seg_ros.projection.parameters import ProjectionParameters
from rgbx_seg_ros.projection.points import FIELDS, to_cloud
from sensor_msgs.msg import PointCloud2, PointField
from std_msgs.msg import Header

GRIDS = ('ground_grid', 'cost_grid')


class ProjectionOutputs:
    """The publishers of `node` for what `parameters` ask; none, where one cannot be made."""

    def __init__(self, node, parameters: ProjectionParameters):
        self._node, self._parameters = node, parameters
        self._publishers = {}
        kinds = {'ground_grid': OccupancyGrid, 'obstacle_points': PointCloud2}
        if parameters.classes_costs:
            kinds['cost_grid'] = OccupancyGrid
        if parameters.points_source != 'none':
            kinds['points'] = PointCloud2
        with ExitStack() as failed:
            failed.callback(self.destroy)
            for name, kind in kinds.items():
                self._publishers[name] = node.create_publisher(kind, f'segmentation/{name}', 5)
            self._publishers['diagnostics'] = node.create_publisher(
                DiagnosticArray, '/diagnostics', 5)
            failed.pop_all()

    def destroy(self):
        """Take the topics back."""
        for publisher in self._publishers.values():
            self._node.destroy_publisher(publisher)
        self._publishers.clear()

    def wanted(self, *names: str) -> bool:
        """Return whether somebody listens to one of these topics."""
        return any(self._publishers[name].get_subscription_count() > 0
                   for name in names if name in self._publishers)

    def publish_grid(self, name: str, cells: np.ndarray, stamp):
        """Publish a grid (rows, columns) int8 for the time `stamp`."""
        parameters = self._parameters
        self._publishers[name].publish(to_grid(
            cells, Header(stamp=stamp, frame_id=parameters.frame), parameters.shape,
            parameters.ground_z))

    def publish_points(self, name: str, points: np.ndarray, header: Header, fields=FIELDS):
        """Publish points with their fields under `header`."""
        self._publishers[name].publish(to_cloud(points, header, PointCloud2, PointField, fields))

    def publish_diagnostics(self, sections: dict):
        """Publish what the node tells about itself, by section."""
        now = self._node.get_clock().now().to_msg()
        self._publishers['diagnostics'].publish(
            to_array(self._node.get_fully_qualified_name(), sections, now))


def to_grid(cells: np.ndarray, header: Header, shape: GridShape, z: float) -> OccupancyGrid:
    """Return a nav_msgs/OccupancyGrid of cells (rows, columns) int8 that lie at the height `z`."""
    grid = OccupancyGrid(header=header)
    grid.info.map_load_time = header.stamp
    grid.info.resolution = float(shape.resolution)
    grid.info.width, grid.info.height = shape.columns, shape.rows
    origin = grid.info.origin.position
    origin.x, origin.y, origin.z = float(shape.x_range[0]), float(shape.y_range[0]), float(z)
    data = array('b')
    data.frombytes(np.ascontiguousarray(cells, np.int8).reshape(-1).data)
    grid.data = data
    return grid
