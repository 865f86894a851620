# Copyright 2026 rgbx_seg_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""What the tests of the projection node share: a scene, and how its grid has to look."""

import cv2
import numpy as np
from rgbx_seg_ros.projection.ground import FREE, OCCUPIED, UNKNOWN
from support.cameras import camera_info
from support.ray_scenes import Scene

SCENE = Scene(camera_info((160, 120), 130.0, 'plumb_bob'), (0.5, 0.2, 1.5), 0.03, 0.2, -0.05,
              boxes=((6.0, 7.0, -1.0, 1.0, 1.6),))
MASK, DEPTH = SCENE.render()


def quaternion_of(rotation):
    """Return the quaternion x, y, z, w of a turn (3, 3)."""
    vector = cv2.Rodrigues(rotation)[0].ravel()
    angle = np.linalg.norm(vector)
    return (*(np.sin(angle / 2) * vector / angle), np.cos(angle / 2))


def cells(grid):
    """Return the values of a grid (rows, columns)."""
    return np.array(grid.data, np.int8).reshape(grid.info.height, grid.info.width)


def at(grid, x, y):
    """Return the value of the cell at a place in the frame of the grid."""
    origin = grid.info.origin.position
    return cells(grid)[int((y - origin.y) // grid.info.resolution),
                       int((x - origin.x) // grid.info.resolution)]


def is_right(grid):
    """Return whether a grid shows SCENE."""
    return (at(grid, 5.0, 0.0) == FREE and at(grid, 6.1, 0.1) == OCCUPIED
            and at(grid, 9.0, 0.1) == UNKNOWN and at(grid, 8.0, 3.0) == FREE)
