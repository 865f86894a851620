# Copyright 2026 rgbx_seg_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""
Masks of known scenes: every pixel's ray is followed to the ground or to a box that stands on it.

Nothing of the package is used for it, so that it can be held against this.
"""

from dataclasses import dataclass

import cv2
import numpy as np

SKY, ROAD, BOX, GRASS = range(4)


def turn(axis, angle):
    """Return the matrix that turns about an axis, by the right hand."""
    return cv2.Rodrigues(np.eye(3)['xyz'.index(axis)] * angle)[0]


@dataclass
class Scene:
    """A road on a meadow with boxes on it, as a camera at `place` sees it, in metres and rad."""

    info: object
    """The fields of a CameraInfo."""
    place: tuple = (0.0, 0.0, 1.5)
    roll: float = 0.0
    pitch: float = 0.0
    yaw: float = 0.0
    boxes: tuple = ()
    """Each x0, x1, y0, y1 and its height."""
    slope: float = 0.0
    """The road leads to the left by it, in metres for each."""
    half_width: float = 3.5
    end: float = 1000.0

    @property
    def rotation(self):
        """The turn of the optical frame, its axes as columns."""
        body = turn('z', self.yaw) @ turn('y', self.pitch) @ turn('x', self.roll)
        return np.column_stack([body @ (0, -1, 0), body @ (0, 0, -1), body @ (1, 0, 0)])

    def rays(self):
        """Return where each pixel looks, (H*W, 3), z forward in the optical frame and not unit."""
        size, k, d = (self.info.width, self.info.height), np.array(self.info.k), self.info.d
        pixels = np.stack(np.meshgrid(np.arange(float(size[0])), np.arange(float(size[1]))),
                          axis=2).reshape(-1, 1, 2)
        if self.info.distortion_model == 'equidistant':
            flat = cv2.fisheye.undistortPoints(pixels, k.reshape(3, 3), np.array(d))
        else:
            stop = cv2.TERM_CRITERIA_EPS | cv2.TERM_CRITERIA_COUNT, 200, 1e-12
            flat = cv2.undistortPointsIter(pixels, k.reshape(3, 3), np.array(d or [0.0] * 4),
                                           np.eye(3), np.eye(3), stop)
        return np.column_stack([flat.reshape(-1, 2), np.ones(len(pixels))])

    def render(self):
        """Return the mask (H, W) uint8, and the depth along the optical axis (H, W), NaN: sky."""
        optical = self.rays()
        rays = optical @ self.rotation.T
        origin = np.array(self.place)
        with np.errstate(divide='ignore', invalid='ignore'):
            length = np.where(rays[:, 2] < 0, -origin[2] / rays[:, 2], np.inf)
            ground = origin + length[:, None] * rays
        mask = np.where(self.is_road(ground[:, :2]), ROAD, GRASS)
        mask[~np.isfinite(length)] = SKY
        for x0, x1, y0, y1, height in self.boxes:
            low, high = np.array([x0, y0, 0.0]), np.array([x1, y1, height])
            with np.errstate(divide='ignore'):
                one, two = (low - origin) / rays, (high - origin) / rays
            enter, leave = np.minimum(one, two).max(axis=1), np.maximum(one, two).min(axis=1)
            hit = (enter < leave) & (enter > 0) & (enter < length)
            mask[hit], length[hit] = BOX, enter[hit]
        size = self.info.height, self.info.width
        length[~np.isfinite(length)] = np.nan
        return mask.astype(np.uint8).reshape(size), length.reshape(size)

    def is_road(self, places):
        """Return which places (N, 2) of the ground are road."""
        with np.errstate(invalid='ignore'):
            return ((np.abs(places[:, 1] - self.slope * places[:, 0]) < self.half_width)
                    & (places[:, 0] < self.end))

    def pixels(self, points):
        """Return where points (N, 3) appear by OpenCV, and which are in front of the lens."""
        optical = (points - np.array(self.place)) @ self.rotation
        # Farther off the axis, OpenCV's polynomials fold the world back into the frame.
        widest = 4.0 if self.info.distortion_model == 'equidistant' else 1.5
        k = np.array(self.info.k).reshape(3, 3)
        if self.info.distortion_model == 'equidistant':
            found = cv2.fisheye.projectPoints(optical[:, None], np.zeros(3), np.zeros(3), k,
                                              np.array(self.info.d))[0]
        else:
            found = cv2.projectPoints(optical, np.zeros(3), np.zeros(3), k,
                                      np.array(self.info.d or [0.0] * 4))[0]
        return found.reshape(-1, 2), np.hypot(*optical[:, :2].T) < widest * optical[:, 2]

    def first_hits(self, angles):
        """Return how far the nearest box is on the ground in each direction, infinite for none."""
        found = np.full(len(angles), np.inf)
        rays = np.column_stack([np.cos(angles), np.sin(angles)])
        for x0, x1, y0, y1, _ in self.boxes:
            with np.errstate(divide='ignore'):
                one = (np.array([x0, y0]) - self.place[:2]) / rays
                two = (np.array([x1, y1]) - self.place[:2]) / rays
            enter, leave = np.minimum(one, two).max(axis=1), np.maximum(one, two).min(axis=1)
            hit = (enter < leave) & (enter > 0)
            found[hit] = np.minimum(found[hit], enter[hit])
        return found
