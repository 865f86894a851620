# Copyright 2026 rgbx_seg_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""
The optics of a calibrated camera: where points appear, and where pixels look.

Pixels are counted as OpenCV and ROS do: (0, 0) is the middle of the first one.
"""

from collections.abc import Sequence
from copy import deepcopy
from dataclasses import dataclass, replace
import math

import numpy as np
from rgbx_seg_ros.errors import FrameError, ParameterError

DISTORTION_MODELS = {
    # name in a CameraInfo: numbers of coefficients that OpenCV's model of it takes
    'plumb_bob': (0, 4, 5),
    'rational_polynomial': (0, 8, 12),
    'equidistant': (4,),
    'fisheye': (4,),
    '': (0,),
}
_SAME_ASPECT = 0.01
_FAR = 4.0
"""Tangent of the widest angle off the axis that is looked at, 76 degrees."""
LARGEST_SIDE = 32_000
"""cv2.remap counts pixels with 16 bits."""


def check_size(name, size):
    """Raise ParameterError unless `size` is a width and a height that frames have."""
    if (len(size) != 2 or not all(isinstance(side, int) for side in size)
            or not all(1 <= side <= LARGEST_SIDE for side in size)):
        raise ParameterError(f'{name} is {list(size)!r}, needed are the width and height in '
                             f'pixels for which the calibration holds, each 1 to {LARGEST_SIDE}')


def finite_numbers(name, values, count, what):
    """Return `values` as floats; raise ParameterError unless they are `count` finite numbers."""
    try:
        numbers = np.array([float(value) for value in values])
    except (TypeError, ValueError):
        numbers = np.array([math.nan])
    if numbers.shape != (count,) or not np.isfinite(numbers).all():
        shown = list(values) if isinstance(values, Sequence | np.ndarray) else values
        raise ParameterError(f'{name} is {shown!r}, needed are {count} finite numbers: {what}')
    return numbers


def find_zoom(name, size, calibrated, whose='registration'):
    """
    Return how many times larger a frame of `size` (W, H) is than the one `calibrated`.

    Raise FrameError, which says `whose` calibration it is, where a side is stretched.
    """
    zoom = size[0] / calibrated[0], size[1] / calibrated[1]
    if abs(zoom[0] / zoom[1] - 1) > _SAME_ASPECT:
        raise FrameError(
            f'{name} frames are {size[0]}x{size[1]}, but {whose} is calibrated for '
            f'{calibrated[0]}x{calibrated[1]}: a frame may be scaled, not cropped or stretched; '
            'calibrate for this size')
    return zoom


def scale_pixels(points, zoom):
    """Return pixels of a frame as those of one `zoom` (x, y) times its size."""
    return (points + 0.5) * np.array(zoom) - 0.5


def scale_info(info, zoom):
    """
    Return a sensor_msgs/CameraInfo for frames `zoom` (x, y) times as large, such as a mask's.

    K, P, the size and the region of interest go with the frames; the lens stays what it is.
    """
    info, (x, y) = deepcopy(info), zoom
    info.width, info.height = round(info.width * x), round(info.height * y)
    for numbers, row in ((info.k, 3), (info.p, 4)):
        for i in range(row):  # of P also -fx times the baseline
            numbers[i], numbers[row + i] = numbers[i] * x, numbers[row + i] * y
        if numbers[0] and numbers[row + 1]:  # not those of a camera without calibration
            numbers[2] += (x - 1) / 2  # the middle of the first pixel is 0, and moves
            numbers[row + 2] += (y - 1) / 2
    region = info.roi
    region.x_offset, region.width = round(region.x_offset * x), round(region.width * x)
    region.y_offset, region.height = round(region.y_offset * y), round(region.height * y)
    return info


@dataclass(frozen=True)
class Camera:
    """The optics of a camera as its CameraInfo tells them; `from_info` reads one."""

    name: str
    """Of its topics, such as rgb or segmentation, for messages."""
    size: tuple[int, int]
    """Width and height in pixels that the matrix is for."""
    matrix: tuple[float, ...]
    """Focal lengths and centre in pixels: the 9 numbers of K, or of the left part of P."""
    distortion: tuple[float, ...]
    """Coefficients of the distortion, D; none for rectified frames."""
    model: str
    """Name of the distortion's model."""
    rotation: tuple[float, ...]
    """The 9 numbers of the turn from the camera to its rectified frames, R; else the identity."""

    @classmethod
    def from_info(cls, name: str, info, rectified: bool = False) -> 'Camera':
        """
        Return the optics in a sensor_msgs/CameraInfo, or anything with its fields.

        `rectified` says that the frames are those of image_proc, which keep the CameraInfo of the
        raw ones: P and R then count, and no distortion is left. Raise ParameterError for numbers
        that no camera has.
        """
        if info.roi.width or info.roi.height:
            raise ParameterError(f'{name}/camera_info has a region of interest of '
                                 f'{info.roi.width}x{info.roi.height}, which is not supported: '
                                 'publish whole frames')
        return cls(name, (int(info.width), int(info.height)),
                   tuple(float(info.p[i]) for i in (0, 1, 2, 4, 5, 6, 8, 9, 10)) if rectified
                   else tuple(map(float, info.k)),
                   () if rectified else tuple(map(float, info.d)),
                   '' if rectified else info.distortion_model,
                   tuple(map(float, info.r)) if rectified else tuple(np.eye(3).ravel().tolist()))

    def __post_init__(self):
        where = f'{self.name}/camera_info'
        check_size(f'{where}: the size', self.size)
        k = finite_numbers(f'{where}: the matrix K (or P)', self.matrix, 9, 'the camera matrix')
        if not (k[0] > 0 and k[4] > 0 and k[8] == 1) or k[[1, 3, 6, 7]].any():
            raise ParameterError(f'{where}: the camera matrix is {k.tolist()!r}, needed is [fx, '
                                 '0, cx, 0, fy, cy, 0, 0, 1] with fx and fy above 0: calibrate '
                                 'the camera (a driver without calibration sends zeros)')
        counts = DISTORTION_MODELS.get(self.model)
        if counts is None:
            raise ParameterError(f'{where}: distortion_model is {self.model!r}, allowed are: '
                                 f'{", ".join(filter(None, DISTORTION_MODELS))}')
        if len(self.distortion) not in counts:
            raise ParameterError(f'{where}: {len(self.distortion)} numbers of distortion with the '
                                 f'model {self.model!r}, it has {" or ".join(map(str, counts))}')
        finite_numbers(f'{where}: the distortion D', self.distortion, len(self.distortion), '')
        r = finite_numbers(f'{where}: the rotation R', self.rotation, 9, 'a rotation')
        r = r.reshape(3, 3)
        if not np.allclose(r @ r.T, np.eye(3), atol=1e-3) or np.linalg.det(r) < 0:
            raise ParameterError(f'{where}: R is {r.ravel().tolist()!r}, which is no rotation')
        object.__setattr__(self, '_turn', r)
        # The radial part as a table, up to where it stops to grow with the angle.
        radii = np.linspace(0.0, _FAR, 4001)
        images = self._bend(radii, 0 * radii, tangential=False)[0]
        grows = np.diff(images) > 0
        count = len(radii) if grows.all() else max(2, int(grows.argmin()) + 1)
        object.__setattr__(self, '_radii', radii[:count])
        object.__setattr__(self, '_images', images[:count])

    def scaled(self, size: tuple[int, int]) -> 'Camera':
        """Return the camera whose frames of `size` (W, H) show the same; raise FrameError."""
        x, y = find_zoom(self.name, size, self.size, 'the camera')
        k = np.array(self.matrix)
        k[[0, 4]] *= x, y
        k[[2, 5]] = scale_pixels(k[[2, 5]], (x, y))
        return replace(self, size=size, matrix=tuple(k.tolist()))

    def rays(self, pixels: np.ndarray) -> np.ndarray:
        """Return the directions (N, 3) that the pixels (N, 2) look in; NaN where there is none."""
        fx, cx, fy, cy = np.array(self.matrix)[[0, 2, 4, 5]]
        target = (pixels - (cx, cy)) / (fx, fy)
        # The radial part is undone by its table; what is left of the others is small, and
        # fades by repetition. cv2.undistortPoints stops early for a wide lens.
        length = np.linalg.norm(target, axis=1, keepdims=True)
        flat = target * np.interp(length, self._images, self._radii) / np.maximum(length, 1e-12)
        with np.errstate(over='ignore', invalid='ignore'):  # off the lens it may not settle
            for _ in range(20):
                flat += target - self._distorted(flat)
            error = np.abs(self._distorted(flat) - target).max(axis=1)
            settled = (error < 1e-4) & (np.linalg.norm(flat, axis=1) <= self._radii[-1])
        flat[~settled] = np.nan
        return np.column_stack([flat, np.ones(len(flat))]) @ self._turn

    def pixels(self, points: np.ndarray) -> np.ndarray:
        """
        Return where in the frame (N, 2) the points (N, 3) appear; NaN where they do not.

        Points of float32 are quicker, and right to a thousandth of a pixel.
        """
        x, y, z = np.ascontiguousarray(points.T)
        if (self._turn != np.eye(3)).any():
            x, y, z = self._turn.astype(points.dtype) @ (x, y, z)
        with np.errstate(divide='ignore', invalid='ignore'):
            x, y = x / z, y / z
            # Beyond its widest angle a polynomial folds the world back into the frame.
            unseen = ~((z > 0) & (x * x + y * y <= self._radii[-1] ** 2))
        x[unseen] = y[unseen] = np.nan
        fx, cx, fy, cy = (self.matrix[i] for i in (0, 2, 4, 5))
        x, y = self._bend(x, y)
        found = np.empty((len(x), 2), x.dtype)
        found[:, 0], found[:, 1] = x * fx + cx, y * fy + cy
        return found

    def _distorted(self, flat, tangential=True):
        """Return where the lens puts points (N, 2) of the plane z = 1."""
        return np.column_stack(self._bend(*flat.T, tangential))

    def _bend(self, x, y, tangential=True):
        """Return where the lens puts points of the plane z = 1, by the models of OpenCV."""
        q = x * x + y * y
        if self.model in ('equidistant', 'fisheye'):
            radius = np.sqrt(q)
            angle = np.arctan(radius)
            powers = np.polynomial.polynomial.polyval(angle * angle, [1.0, *self.distortion])
            scale = (angle * powers / np.maximum(radius, 1e-12)).astype(x.dtype)
            return x * scale, y * scale
        if not any(self.distortion):
            return x, y
        # Of Python's floats, which take the type of what they are multiplied with.
        k1, k2, p1, p2, k3, k4, k5, k6, s1, s2, s3, s4 = (
            *self.distortion, *[0.0] * (12 - len(self.distortion)))
        radial = 1 + q * (k1 + q * (k2 + q * k3))
        if k4 or k5 or k6:
            radial /= 1 + q * (k4 + q * (k5 + q * k6))
        bent = x * radial, y * radial
        if tangential and any((p1, p2, s1, s2, s3, s4)):
            xy = 2 * x * y
            bent = (bent[0] + p1 * xy + p2 * (q + 2 * x * x) + q * (s1 + q * s2),
                    bent[1] + p1 * (q + 2 * y * y) + p2 * xy + q * (s3 + q * s4))
        return bent
