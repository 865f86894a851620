# Copyright 2026 rgbx_seg_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""
Points with classes: of a depth image, of a lidar's cloud that is painted, and of contacts.

A point has x, y and z in metres, and then rgb, label and confidence: RViz and PCL know the first
two of these by name. What no camera sees has the label 255 and the confidence 0.
"""

from array import array
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from rgbx_seg_ros.cards.labels import UNLABELED
from rgbx_seg_ros.errors import FrameError, MessageError
from rgbx_seg_ros.projection.camera import Camera

POINT = np.dtype([('x', '<f4'), ('y', '<f4'), ('z', '<f4'), ('rgb', '<u4'), ('label', '<u4'),
                  ('confidence', '<f4')])
_PAINT = POINT.names[3:]
_INT8, _FLOAT32, _FLOAT64 = 1, 7, 8
_SIZES = {_INT8: 1, 2: 1, 3: 2, 4: 2, 5: 4, 6: 4, _FLOAT32: 4, _FLOAT64: 8}
"""Bytes of each datatype of a sensor_msgs/PointField, which count from INT8 = 1."""
_DATATYPES = {'x': _FLOAT32, 'y': _FLOAT32, 'z': _FLOAT32, 'rgb': _FLOAT32, 'label': 6,
              'confidence': _FLOAT32}
"""rgb is three bytes in what passes for a float: a custom that PCL began."""
_CONFIDENCE = np.arange(256, dtype=np.float32) / 255


class Field(NamedTuple):
    """A sensor_msgs/PointField."""

    name: str
    offset: int
    datatype: int
    count: int = 1


FIELDS = tuple(Field(name, POINT.fields[name][1], _DATATYPES[name]) for name in POINT.names)
"""Those of POINT."""


def pack_colors(palette: np.ndarray) -> np.ndarray:
    """Return the colours of all ids, (256, 3) uint8, as the field rgb has them, (256,) uint32."""
    red, green, blue = palette.astype(np.uint32).T
    return (red << 16) | (green << 8) | blue


class DepthPoints:
    """Lifts the pixels of `camera` into space; where each looks is worked out here, once."""

    def __init__(self, camera: Camera):
        self.camera = camera
        width, height = camera.size
        pixels = np.stack(np.meshgrid(np.arange(float(width)), np.arange(float(height))), axis=2)
        rays = camera.rays(pixels.reshape(-1, 2))
        # The depth of a pixel counts along the axis of the camera's own optical frame.
        flat = rays[:, :2] / rays[:, 2:]
        self._x, self._y = (np.ascontiguousarray(side, np.float32).reshape(height, width)
                            for side in flat.T)
        self._blind = np.nonzero(np.isnan(self._x))

    def __call__(self, depth: np.ndarray, mask: np.ndarray, confidence: np.ndarray,
                 colors: np.ndarray, dropped: np.ndarray | None = None) -> np.ndarray:
        """
        Return the points (H, W) of POINT in the optical frame; NaN where there is no depth.

        `depth` is (H, W) float32 in metres, or uint16 in millimetres with 0 for none; `mask` and
        `confidence` are (H, W) uint8. Points of the classes `dropped` (256,) bool are NaN as well.
        Raise FrameError for a depth of another type or of another size than the camera's.
        """
        size = self.camera.size[::-1]
        if depth.shape != size or depth.dtype not in (np.uint16, np.float32):
            raise FrameError(f'the depth is {depth.dtype} of shape {depth.shape!r}, needed is '
                             f'uint16 in mm or float32 in m of the size of the mask, {size!r}: '
                             'register it onto the camera of the mask, and see mask.size')
        if depth.dtype == np.uint16:
            far = depth.astype(np.float32)
            far *= np.float32(1e-3)
        else:
            far = depth.copy()
        far[~((far > 0) & (far < np.inf))] = np.nan
        far[self._blind] = np.nan
        if dropped is not None and dropped.any():
            far[dropped[mask]] = np.nan
        points = np.empty(size, POINT)
        np.multiply(self._x, far, out=points['x'])
        np.multiply(self._y, far, out=points['y'])
        points['z'] = far
        points['rgb'] = colors.take(mask)
        points['label'] = mask
        points['confidence'] = _CONFIDENCE.take(confidence)
        return points


class Painter:
    """Finds the label of points that `camera` may see."""

    def __init__(self, camera: Camera):
        self.camera = camera
        width, height = camera.size
        border = np.stack(np.meshgrid(np.linspace(-0.5, width - 0.5, 30),
                                      np.linspace(-0.5, height - 0.5, 30)), axis=2)
        rays = camera.rays(border.reshape(-1, 2))
        with np.errstate(divide='ignore', invalid='ignore'):
            sides = np.abs(rays[:, :2] / rays[:, 2:])
        # How far to the side of the axis the frame reaches; what lies farther is not looked at.
        self._reach = (1.05 * np.nanmax(np.where(rays[:, 2:] > 0, sides, np.inf), axis=0)).astype(
            np.float32)

    def __call__(self, points: np.ndarray, mask: np.ndarray,
                 confidence: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """
        Return label and confidence, (N,) uint8 each, of points (N, 3) in the optical frame.

        They are those of the pixel in which a point appears, 255 and 0 where it does in none.
        Raise FrameError for a mask of another size than the camera's frames.
        """
        if mask.shape != self.camera.size[::-1]:
            raise FrameError(f'the mask is {mask.shape[1]}x{mask.shape[0]}, the camera that is '
                             f'looked through {self.camera.size[0]}x{self.camera.size[1]}')
        labels, sure = np.full(len(points), UNLABELED, np.uint8), np.zeros(len(points), np.uint8)
        with np.errstate(invalid='ignore', over='ignore'):
            sides = np.ascontiguousarray(points.T, np.float32)
            x, y, z = sides
            ahead = np.flatnonzero((np.abs(x) <= self._reach[0] * z)
                                   & (np.abs(y) <= self._reach[1] * z))
            column, row = np.rint(self.camera.pixels(sides.take(ahead, axis=1).T)).T
            width, height = self.camera.size
            seen = np.flatnonzero((column >= 0) & (column < width) & (row >= 0) & (row < height))
        pixel = row[seen].astype(np.int32) * width + column[seen].astype(np.int32)
        labels[ahead[seen]], sure[ahead[seen]] = mask.take(pixel), confidence.take(pixel)
        return labels, sure


class Cloud:
    """The points of a sensor_msgs/PointCloud2; raise MessageError for one that cannot be read."""

    def __init__(self, message: Any):
        count, step = message.width * message.height, message.point_step
        self.fields = [Field(f.name, f.offset, f.datatype, f.count) for f in message.fields]
        places = {field.name: field for field in self.fields}
        if message.is_bigendian:
            raise MessageError('is_bigendian is true: only little-endian clouds are read')
        data = np.frombuffer(message.data, np.uint8)
        row_step = message.row_step or message.width * step
        if row_step < message.width * step or len(data) < row_step * message.height:
            raise MessageError(f'data has {len(data)} bytes and row_step is {row_step}, which '
                               f'does not hold {message.height} rows of {message.width} points '
                               f'of {step} bytes')
        for name in 'xyz':
            if name not in places or places[name].datatype not in (_FLOAT32, _FLOAT64):
                raise MessageError(f'fields are {[f.name for f in self.fields]!r}: needed are x, '
                                   'y and z of FLOAT32 or FLOAT64')
        for field in self.fields:
            if field.offset + _SIZES.get(field.datatype, 0) * max(field.count, 1) > step:
                raise MessageError(f'field {field.name!r} ends beyond point_step, which is {step}')
        rows = data[:row_step * message.height].reshape(message.height, row_step)
        rows = np.ascontiguousarray(rows[:, :message.width * step])
        self.bytes = rows.reshape(-1).view(f'V{step}') if step and count else np.empty(0, 'V1')
        """The points as they are stored, (N,) void."""

    def places(self) -> np.ndarray:
        """Return the points, (N, 3) float64 in the frame of the cloud."""
        if not len(self.bytes):
            return np.empty((0, 3))
        layout = {field.name: field for field in self.fields}
        kinds = {_FLOAT32: '<f4', _FLOAT64: '<f8'}
        view = self.bytes.view(np.dtype({
            'names': list('xyz'), 'formats': [kinds[layout[name].datatype] for name in 'xyz'],
            'offsets': [layout[name].offset for name in 'xyz'],
            'itemsize': self.bytes.itemsize}))
        return np.column_stack([view[name].astype(np.float64) for name in 'xyz'])

    def painted(self, labels: np.ndarray, confidence: np.ndarray, colors: np.ndarray,
                dropped: np.ndarray | None = None) -> tuple[np.ndarray, tuple[Field, ...]]:
        """
        Return the points with label, confidence and colour after what they have, and their fields.

        Their own fields keep name, offset and type, but for those that are now painted anew.
        Points of the classes `dropped` (256,) bool are left out; those not seen never are.
        """
        start = -(-self.bytes.itemsize // 4) * 4
        layout = np.dtype({
            'names': ['own', *_PAINT], 'formats': [self.bytes.dtype, '<u4', '<u4', '<f4'],
            'offsets': [0, start, start + 4, start + 8], 'itemsize': start + 12})
        points = np.zeros(len(self.bytes), layout)
        points['own'] = self.bytes
        points['rgb'], points['label'] = colors[labels], labels
        points['confidence'] = _CONFIDENCE[confidence]
        if dropped is not None and dropped.any():
            points = points[~dropped[labels] | (labels == UNLABELED)]
        fields = [field for field in self.fields if field.name not in (*_PAINT, 'rgba')]
        fields += [Field(name, layout.fields[name][1], _DATATYPES[name]) for name in _PAINT]
        return points, tuple(fields)


def contact_points(contacts, height: float, mask: np.ndarray, confidence: np.ndarray,
                   colors: np.ndarray) -> np.ndarray:
    """Return the points (N,) of POINT at `height` above where obstacles meet the ground."""
    row, column = contacts.pixels.T
    points = np.empty(len(row), POINT)
    points['x'], points['y'] = contacts.places.T
    points['z'] = height
    labels = mask[row, column]
    points['rgb'], points['label'] = colors[labels], labels
    points['confidence'] = _CONFIDENCE[confidence[row, column]]
    return points


def to_cloud(points: np.ndarray, header: Any, message_class: Any, field_class: Any,
             fields: Sequence[Field] = FIELDS) -> Any:
    """
    Return a sensor_msgs/PointCloud2 with `points`, (N,) or organized (H, W).

    `message_class` and `field_class` are those of sensor_msgs.
    """
    rows = points.reshape(1, -1) if points.ndim == 1 else points
    data = array('B')
    data.frombytes(np.ascontiguousarray(rows).reshape(-1).view(np.uint8).data)
    return message_class(
        header=header, height=rows.shape[0], width=rows.shape[1],
        fields=[field_class(name=f.name, offset=f.offset, datatype=f.datatype, count=f.count)
                for f in fields],
        is_bigendian=False, point_step=points.itemsize, row_step=points.itemsize * rows.shape[1],
        data=data, is_dense=points.ndim == 1)
