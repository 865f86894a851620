# Copyright 2026 rgbx_seg_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""
Where a sensor is: turns and places in the axes of REP-103.

A frame of a vehicle has x forward, y left and z up; an optical frame of a camera z forward, x
right and y down.
"""

from dataclasses import dataclass
import math

import numpy as np

_OPTICAL = np.array([[0.0, 0.0, 1.0], [-1.0, 0.0, 0.0], [0.0, -1.0, 0.0]])
"""Axes of an optical frame, as columns, in those of the vehicle."""


def rotation_matrix(quaternion):
    """Return the turn (3, 3) of a quaternion x, y, z, w of any length but 0."""
    x, y, z, w = np.array(quaternion) / np.linalg.norm(quaternion)
    return np.array([[1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)],
                     [2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)],
                     [2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)]])


def quaternion(rotation):
    """Return the quaternion x, y, z, w of a turn (3, 3)."""
    # The eigenvector of the largest eigenvalue, which is well defined for every turn.
    (a, b, c), (d, e, f), (g, h, i) = rotation
    four = np.array([[a - e - i, 0, 0, 0], [d + b, e - a - i, 0, 0],
                     [g + c, h + f, i - a - e, 0], [h - f, c - g, d - b, a + e + i]]) / 3
    values, vectors = np.linalg.eigh(four)
    found = vectors[:, values.argmax()]
    return found if found[3] >= 0 else -found


@dataclass(frozen=True)
class Pose:
    """A sensor in another frame: a point p of the sensor lies there at `rotation` p + `place`."""

    rotation: np.ndarray
    """(3, 3) float64."""
    place: np.ndarray
    """(3,) float64, m."""

    @classmethod
    def from_angles(cls, roll: float, pitch: float, yaw: float, place,
                    optical: bool = False) -> 'Pose':
        """
        Return the pose at `place`, turned by angles in rad: yaw after pitch after roll.

        As in REP-103, a pitch above 0 looks down, a roll above 0 leans to the right, and a yaw
        above 0 turns to the left. With `optical` the sensor's axes are those of a camera's optical
        frame.
        """
        a, b, c = (np.array([[1.0, 0, 0], [0, math.cos(roll), -math.sin(roll)],
                             [0, math.sin(roll), math.cos(roll)]]),
                   np.array([[math.cos(pitch), 0, math.sin(pitch)], [0, 1, 0],
                             [-math.sin(pitch), 0, math.cos(pitch)]]),
                   np.array([[math.cos(yaw), -math.sin(yaw), 0],
                             [math.sin(yaw), math.cos(yaw), 0], [0, 0, 1]]))
        turn = c @ b @ a
        return cls(turn @ _OPTICAL if optical else turn, np.array(place, float))

    @classmethod
    def from_quaternion(cls, quaternion, place) -> 'Pose':
        """Return the pose at `place` turned by a quaternion x, y, z, w."""
        return cls(rotation_matrix(quaternion), np.array(place, float))

    def of(self, points: np.ndarray) -> np.ndarray:
        """Return points (N, 3) of the sensor in the other frame."""
        return points @ self.rotation.T + self.place

    def back(self, points: np.ndarray) -> np.ndarray:
        """Return points (N, 3) of the other frame in that of the sensor."""
        return (points - self.place) @ self.rotation

    def seen_from(self, other: 'Pose') -> 'Pose':
        """Return this pose in the frame of `other`, both being given in one frame."""
        return Pose(other.rotation.T @ self.rotation,
                    other.rotation.T @ (self.place - other.place))

    def distance(self, other: 'Pose') -> tuple[float, float]:
        """Return how far `other` is off: metres, and the angle between both in rad."""
        half_sine = np.linalg.norm(self.rotation - other.rotation) / math.sqrt(8)
        return (float(np.linalg.norm(self.place - other.place)),
                2 * math.asin(min(1.0, float(half_sine))))
