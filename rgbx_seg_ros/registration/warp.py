# Copyright 2026 rgbx_seg_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""
Bring frames of X onto the RGB frame: by a homography, or by what is known of both cameras.

Where each pixel comes from is worked out once for a pair of frame sizes and kept, so a frame costs
one cv2.remap. Pixels are counted as OpenCV and ROS do: (0, 0) is the middle of the first one.
"""

from dataclasses import dataclass
import math

import cv2
import numpy as np
from rgbx_seg_ros.errors import FrameError, ParameterError
from rgbx_seg_ros.frames.raw import check_x
from rgbx_seg_ros.projection.camera import (
    Camera,
    check_size,
    find_zoom,
    finite_numbers,
    LARGEST_SIDE,
    scale_pixels,
)
from rgbx_seg_ros.projection.pose import rotation_matrix

_OUTSIDE = -1000.0


def _grid(size):
    """Return every pixel of a frame of `size` (W, H) as (H*W, 2) float64."""
    return np.stack(np.meshgrid(np.arange(float(size[0])), np.arange(float(size[1]))),
                    axis=2).reshape(-1, 2)


@dataclass(frozen=True)
class Homography:
    """
    A plane's view in X to its view in RGB: exact for a scene far off or flat.

    `numbers` are the 9 of the matrix M, row by row: a pixel (x, y) of X of the size `x_size` lies
    on RGB of the size `rgb_size` at (a / c, b / c), (a, b, c) = M (x, y, 1). Sizes are (W, H).
    Frames of other sizes are taken to be the same view scaled.
    """

    numbers: tuple[float, ...]
    x_size: tuple[int, int]
    rgb_size: tuple[int, int]

    def __post_init__(self):
        check_size('registration.x_size', self.x_size)
        check_size('registration.rgb_size', self.rgb_size)
        name = 'registration.homography'
        matrix = finite_numbers(
            name, self.numbers, 9, 'a matrix from pixels of X to pixels of RGB, row by row, as '
            'rgbx-seg calibrate prints it').reshape(3, 3)
        wrong = f'{name} is {[float(number) for number in matrix.ravel()]!r}'
        width, height = (side - 1.0 for side in self.x_size)
        corners = np.array([[0, 0, 1], [width, 0, 1], [width, height, 1], [0, height, 1]])
        mapped = corners @ matrix.T
        depth = mapped[:, 2]
        if not (depth > 0).all() and not (depth < 0).all():
            raise ParameterError(f'{wrong}: it sends a part of X to infinity; calibrate anew')
        mapped = (mapped[:, :2] / depth[:, None]).astype(np.float32)
        frame = np.float32([[0, 0], [1, 0], [1, 1], [0, 1]]) * np.float32(self.rgb_size)
        share = abs(cv2.contourArea(mapped)) / cv2.contourArea(frame)
        if not 1e-3 < share < 1e3 or np.linalg.cond(matrix / np.abs(matrix).max()) > 1e12:
            raise ParameterError(f'{wrong}: X would cover {share:.2g} times the area of RGB; is '
                                 'it the matrix from X to RGB, for these sizes?')
        if cv2.intersectConvexConvex(cv2.convexHull(mapped), frame)[0] < 1e-2 * min(
                cv2.contourArea(frame), abs(cv2.contourArea(mapped))):
            raise ParameterError(f'{wrong}: X would lie beside RGB; is it the matrix from X to '
                                 'RGB, for these sizes?')
        object.__setattr__(self, '_back', np.linalg.inv(matrix))

    def locate(self, rgb_size, x_size) -> np.ndarray:
        """
        Return where in X each pixel of RGB lies, (H*W, 2) with NaN where it is not seen.

        Raise FrameError where a frame of such a size, (W, H), cannot be what was calibrated.
        """
        rgb_zoom = find_zoom('RGB', rgb_size, self.rgb_size)
        x_zoom = find_zoom('X', x_size, self.x_size)
        points = scale_pixels(_grid(rgb_size), 1 / np.array(rgb_zoom))
        points = np.column_stack([points, np.ones(len(points))]) @ self._back.T
        with np.errstate(divide='ignore', invalid='ignore'):
            return scale_pixels(points[:, :2] / points[:, 2:], x_zoom)


@dataclass(frozen=True)
class Extrinsics:
    """
    Where both cameras look, for a scene that is a plane facing the RGB camera.

    A point of X's camera frame lies at R(`rotation`) p + `translation` (metres) in the camera
    frame of RGB, both optical frames: z forward, x right. `rotation` is the quaternion x, y, z, w.
    The plane is at `depth_m`; a point at z metres is shifted by fx·|translation|·|1/z - 1/depth_m|
    pixels against what is right, so exact for far scenes or cameras close together.
    """

    rgb: Camera
    x: Camera
    translation: tuple[float, float, float]
    rotation: tuple[float, float, float, float]
    depth_m: float

    def __post_init__(self):
        name = 'registration.translation'
        shift = finite_numbers(name, self.translation, 3, 'x, y, z of the X camera in metres')
        if np.abs(shift).max() > 10:
            raise ParameterError(f'{name} is {shift.tolist()!r}, allowed are -10 to 10 metres')
        name = 'registration.rotation'
        quaternion = finite_numbers(name, self.rotation, 4, 'a quaternion x, y, z, w')
        if abs(np.linalg.norm(quaternion) - 1) > 0.01:
            raise ParameterError(f'{name} is {quaternion.tolist()!r}, needed is a quaternion x, '
                                 'y, z, w of length 1; [0, 0, 0, 1] is no turn')
        if not 0.05 <= self.depth_m <= 10_000:
            raise ParameterError(f'registration.depth_m is {self.depth_m!r}, allowed is 0.05 to '
                                 '10000 metres')

    def locate(self, rgb_size, x_size) -> np.ndarray:
        """Return where in X each pixel of RGB lies, as Homography.locate does."""
        rgb_zoom = find_zoom('RGB', rgb_size, self.rgb.size)
        x_zoom = find_zoom('X', x_size, self.x.size)
        rays = self.rgb.rays(scale_pixels(_grid(rgb_size), 1 / np.array(rgb_zoom)))
        points = rays * (self.depth_m / rays[:, 2:])
        points = (points - self.translation) @ rotation_matrix(self.rotation)
        return scale_pixels(self.x.pixels(points), x_zoom)


class Registration:
    """
    Draws frames of X as the RGB camera would see them.

    `geometry` is a Homography, an Extrinsics, or None, which leaves frames as they are. `kind` and
    `invalid` are those of the card's X: heights and distances, and frames in which a value means
    no measurement, are never blended, each pixel takes the nearest; others are interpolated.
    """

    def __init__(self, geometry: Homography | Extrinsics | None = None, kind: str = 'thermal',
                 invalid: float | None = None):
        self.geometry = geometry
        self._invalid = invalid
        self._nearest = kind in ('depth', 'dsm') or invalid is not None
        self._kept = None

    def apply(self, x: np.ndarray, rgb_size: tuple[int, int]) -> np.ndarray:
        """
        Return the raw frame `x` on the RGB frame of the size (W, H), in its type.

        `x` is (h, w) or (h, w, 3) of uint8, uint16 or float32. What X does not see becomes NaN in
        a float frame, else the invalid value; without one, the smallest value of the frame: it is
        a value the sensor measures, the network's input for it is as low as for a pixel without
        measurement, and neither end of a min-max range moves. Raise FrameError for another `x`
        and where a size does not fit the calibration.
        """
        check_x(x)
        if self.geometry is None:
            return x
        maps, _, unseen = self._maps(x, rgb_size)
        method = cv2.INTER_NEAREST if self._nearest else cv2.INTER_LINEAR
        # Not BORDER_CONSTANT: it would blend what is filled in into the outermost pixels.
        moved = cv2.remap(np.ascontiguousarray(x), *maps, method, borderMode=cv2.BORDER_REPLICATE)
        moved[unseen] = self._fill(x)
        return moved

    def seen(self, x: np.ndarray, rgb_size: tuple[int, int]) -> np.ndarray:
        """Return where on the RGB frame `x` reaches, (H, W) bool, for a frame of its size."""
        if self.geometry is None:
            return np.ones(rgb_size[::-1], bool)
        return self._maps(x, rgb_size)[1]

    def _fill(self, x):
        if x.dtype == np.float32:
            return math.nan
        limits = np.iinfo(x.dtype)
        if self._invalid is not None and limits.min <= self._invalid <= limits.max:
            return self._invalid
        return float(x.min())

    def _maps(self, x, rgb_size):
        """Return the maps of cv2.remap, what is seen and what not; made when a size changes."""
        sizes = x.shape[1::-1], tuple(rgb_size)
        kept = self._kept
        if kept is None or kept[0] != sizes:
            if max(*sizes[0], *sizes[1]) > LARGEST_SIDE:
                raise FrameError(f'frames are {sizes!r}, registration takes up to {LARGEST_SIDE} '
                                 'pixels a side')
            where = self.geometry.locate(sizes[1], sizes[0])
            with np.errstate(invalid='ignore'):
                seen = ((where >= -0.5) & (where <= np.array(sizes[0]) - 0.5)).all(axis=1)
            # Far off is far off: as 16-bit numbers the coordinates would come around again.
            near = ((where > _OUTSIDE) & (where < np.array(sizes[0]) - _OUTSIDE)).all(axis=1)
            where = np.where(near[:, None], where, _OUTSIDE).astype(np.float32)
            where = where.reshape(*sizes[1][::-1], 2)
            maps = cv2.convertMaps(where[..., 0], where[..., 1], cv2.CV_16SC2,
                                   nninterpolation=self._nearest)
            seen = seen.reshape(sizes[1][::-1])
            kept = self._kept = sizes, maps, seen, np.nonzero(~seen)
        return kept[1:]
