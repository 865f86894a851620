# Copyright 2026 rgbx_seg_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""
Bring frames of X onto the RGB frame: by a homography, or by what is known of both cameras.

Where each pixel comes from is worked out once for a pair of frame sizes and kept, so a frame costs
one cv2.remap. Pixels are counted as OpenCV and ROS do: (0, 0) is the middle of the first one.
"""

from collections.abc import Sequence
from dataclasses import dataclass
import math

import cv2
import numpy as np
from rgbx_seg_ros.errors import FrameError, ParameterError
from rgbx_seg_ros.frames.raw import check_x

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
_OUTSIDE = -1000.0
_LARGEST = 32_000
"""cv2.remap counts pixels with 16 bits."""


def _check_size(name, size):
    if (len(size) != 2 or not all(isinstance(side, int) for side in size)
            or not all(1 <= side <= _LARGEST for side in size)):
        raise ParameterError(f'{name} is {list(size)!r}, needed are the width and height in '
                             f'pixels for which the calibration holds, each 1 to {_LARGEST}')


def _numbers(name, values, count, what):
    """Return `values` as floats; raise ParameterError unless they are `count` finite numbers."""
    try:
        numbers = np.array([float(value) for value in values])
    except (TypeError, ValueError):
        numbers = np.array([math.nan])
    if numbers.shape != (count,) or not np.isfinite(numbers).all():
        shown = list(values) if isinstance(values, Sequence | np.ndarray) else values
        raise ParameterError(f'{name} is {shown!r}, needed are {count} finite numbers: {what}')
    return numbers


def _zoom(name, size, calibrated):
    """Return how many times larger a frame of `size` (W, H) is than the one calibrated."""
    zoom = size[0] / calibrated[0], size[1] / calibrated[1]
    if abs(zoom[0] / zoom[1] - 1) > _SAME_ASPECT:
        raise FrameError(
            f'{name} frames are {size[0]}x{size[1]}, but registration is calibrated for '
            f'{calibrated[0]}x{calibrated[1]}: a frame may be scaled, not cropped or stretched; '
            'calibrate for this size')
    return zoom


def _grid(size):
    """Return every pixel of a frame of `size` (W, H) as (H*W, 2) float64."""
    return np.stack(np.meshgrid(np.arange(float(size[0])), np.arange(float(size[1]))),
                    axis=2).reshape(-1, 2)


def _scaled(points, zoom):
    """Return pixels of a frame as those of one `zoom` (x, y) times its size."""
    return (points + 0.5) * np.array(zoom) - 0.5


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
        _check_size('registration.x_size', self.x_size)
        _check_size('registration.rgb_size', self.rgb_size)
        name = 'registration.homography'
        matrix = _numbers(name, self.numbers, 9, 'a matrix from pixels of X to pixels of RGB, row '
                          'by row, as rgbx-seg calibrate prints it').reshape(3, 3)
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
        rgb_zoom = _zoom('RGB', rgb_size, self.rgb_size)
        x_zoom = _zoom('X', x_size, self.x_size)
        points = _scaled(_grid(rgb_size), 1 / np.array(rgb_zoom))
        points = np.column_stack([points, np.ones(len(points))]) @ self._back.T
        with np.errstate(divide='ignore', invalid='ignore'):
            return _scaled(points[:, :2] / points[:, 2:], x_zoom)


@dataclass(frozen=True)
class Camera:
    """The optics of a camera as its CameraInfo tells them; `from_info` reads one."""

    name: str
    """rgb or x, for messages."""
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
                                 f'{info.roi.width}x{info.roi.height}, which registration does '
                                 'not know: publish whole frames')
        return cls(name, (int(info.width), int(info.height)),
                   tuple(float(info.p[i]) for i in (0, 1, 2, 4, 5, 6, 8, 9, 10)) if rectified
                   else tuple(map(float, info.k)),
                   () if rectified else tuple(map(float, info.d)),
                   '' if rectified else info.distortion_model,
                   tuple(map(float, info.r)) if rectified else tuple(np.eye(3).ravel().tolist()))

    def __post_init__(self):
        where = f'{self.name}/camera_info'
        _check_size(f'{where}: the size', self.size)
        k = _numbers(f'{where}: the matrix K (or P)', self.matrix, 9, 'the camera matrix')
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
        _numbers(f'{where}: the distortion D', self.distortion, len(self.distortion), '')
        r = _numbers(f'{where}: the rotation R', self.rotation, 9, 'a rotation').reshape(3, 3)
        if not np.allclose(r @ r.T, np.eye(3), atol=1e-3) or np.linalg.det(r) < 0:
            raise ParameterError(f'{where}: R is {r.ravel().tolist()!r}, which is no rotation')
        object.__setattr__(self, '_turn', r)
        # The radial part as a table, up to where it stops to grow with the angle.
        radii = np.linspace(0.0, _FAR, 4001)
        images = self._distorted(np.column_stack([radii, 0 * radii]), tangential=False)[:, 0]
        grows = np.diff(images) > 0
        count = len(radii) if grows.all() else max(2, int(grows.argmin()) + 1)
        object.__setattr__(self, '_radii', radii[:count])
        object.__setattr__(self, '_images', images[:count])

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
        """Return where in the frame (N, 2) the points (N, 3) appear; NaN where they do not."""
        points = points @ self._turn.T
        with np.errstate(divide='ignore', invalid='ignore'):
            flat = points[:, :2] / points[:, 2:]
            # Beyond its widest angle a polynomial folds the world back into the frame.
            seen = (points[:, 2] > 0) & (np.linalg.norm(flat, axis=1) <= self._radii[-1])
        flat[~seen] = np.nan
        fx, cx, fy, cy = np.array(self.matrix)[[0, 2, 4, 5]]
        return self._distorted(flat) * (fx, fy) + (cx, cy)

    def _distorted(self, flat, tangential=True):
        """Return where the lens puts points of the plane z = 1, by the models of OpenCV."""
        x, y = flat.T
        q = x * x + y * y
        if self.model in ('equidistant', 'fisheye'):
            radius = np.sqrt(q)
            angle = np.arctan(radius)
            powers = np.polynomial.polynomial.polyval(angle * angle, [1.0, *self.distortion])
            return flat * (angle * powers / np.maximum(radius, 1e-12))[:, None]
        k1, k2, p1, p2, k3, k4, k5, k6, s1, s2, s3, s4 = np.pad(
            self.distortion, (0, 12 - len(self.distortion)))
        radial = (1 + q * (k1 + q * (k2 + q * k3))) / (1 + q * (k4 + q * (k5 + q * k6)))
        if not tangential:
            return flat * radial[:, None]
        return np.column_stack([
            x * radial + 2 * p1 * x * y + p2 * (q + 2 * x * x) + q * (s1 + q * s2),
            y * radial + p1 * (q + 2 * y * y) + 2 * p2 * x * y + q * (s3 + q * s4)])


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
        shift = _numbers(name, self.translation, 3, 'x, y, z of the X camera in metres')
        if np.abs(shift).max() > 10:
            raise ParameterError(f'{name} is {shift.tolist()!r}, allowed are -10 to 10 metres')
        name = 'registration.rotation'
        quaternion = _numbers(name, self.rotation, 4, 'a quaternion x, y, z, w')
        if abs(np.linalg.norm(quaternion) - 1) > 0.01:
            raise ParameterError(f'{name} is {quaternion.tolist()!r}, needed is a quaternion x, '
                                 'y, z, w of length 1; [0, 0, 0, 1] is no turn')
        if not 0.05 <= self.depth_m <= 10_000:
            raise ParameterError(f'registration.depth_m is {self.depth_m!r}, allowed is 0.05 to '
                                 '10000 metres')

    def locate(self, rgb_size, x_size) -> np.ndarray:
        """Return where in X each pixel of RGB lies, as Homography.locate does."""
        rgb_zoom = _zoom('RGB', rgb_size, self.rgb.size)
        x_zoom = _zoom('X', x_size, self.x.size)
        rays = self.rgb.rays(_scaled(_grid(rgb_size), 1 / np.array(rgb_zoom)))
        points = rays * (self.depth_m / rays[:, 2:])
        points = (points - self.translation) @ _rotation_matrix(self.rotation)
        return _scaled(self.x.pixels(points), x_zoom)


def _rotation_matrix(quaternion):
    x, y, z, w = np.array(quaternion) / np.linalg.norm(quaternion)
    return np.array([[1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)],
                     [2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)],
                     [2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)]])


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
            if max(*sizes[0], *sizes[1]) > _LARGEST:
                raise FrameError(f'frames are {sizes!r}, registration takes up to {_LARGEST} '
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
