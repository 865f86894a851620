# Copyright 2026 rgbx_seg_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""
A mask seen from above: which cells of the ground are free, and where obstacles touch it.

Cells ask the mask, not pixels the ground, so there are no holes between them. What stands up shows
its height, which would smear away from the camera if it were laid on the ground: of an obstacle
only the line where it meets the ground is marked, and nothing behind that line becomes free.
"""

from dataclasses import dataclass
import math

import cv2
import numpy as np
from rgbx_seg_ros.cards.labels import UNLABELED
from rgbx_seg_ros.errors import FrameError, ParameterError, PoseError
from rgbx_seg_ros.projection.camera import Camera
from rgbx_seg_ros.projection.pose import Pose

UNKNOWN, FREE, OCCUPIED = -1, 0, 100
"""Values of a nav_msgs/OccupancyGrid."""
MOST_CELLS = 4_000_000
_OUTSIDE = -10
"""A pixel outside of every frame."""
_STEP = 0.7
"""Of a levelled view, in pixels of the middle of the frame: those off the axis are narrower."""
_MOST_STEPS = 4096
_BESIDE = 2
"""Lines beside an upright edge whose pixels are on and off by rounding."""
_UPRIGHT = 2
"""Entries by which an edge must rise above the line of a foot to be upright."""
_STEEPEST = 2
"""
Entries that a foot rises from line to line at most: that of a wall which the camera would pass at
half its height aside. What rises more is the side of something that overhangs its foot.
"""
_LATTICE = 60
"""Points along each side of a frame that tell how far it reaches."""


@dataclass(frozen=True)
class GridShape:
    """A field of square cells over the ground; cell (0, 0) is that of the lowest x and y."""

    resolution: float
    """Side of a cell, m."""
    x_range: tuple[float, float]
    """Where it begins and ends along x of its frame, m."""
    y_range: tuple[float, float]

    def __post_init__(self) -> None:
        if self.resolution <= 0:
            raise ParameterError(f'grid.resolution is {self.resolution!r}, needed is the side of '
                                 'a cell in metres, more than 0')
        for name, span in (('x', self.x_range), ('y', self.y_range)):
            if span[1] - span[0] < self.resolution * 0.999:
                raise ParameterError(f'grid.{name}_range is {list(span)!r} with cells of '
                                     f'{self.resolution:g} m, which holds none: needed are a '
                                     'lower and a higher end')
        if self.columns * self.rows > MOST_CELLS:
            raise ParameterError(f'the grid has {self.columns} x {self.rows} cells, allowed are '
                                 f'{MOST_CELLS}: raise grid.resolution, or lower grid.x_range or '
                                 'grid.y_range')

    @property
    def columns(self) -> int:
        """Cells along x, the width of an OccupancyGrid."""
        return int((self.x_range[1] - self.x_range[0]) / self.resolution + 1e-6)

    @property
    def rows(self) -> int:
        """Cells along y, the height of an OccupancyGrid."""
        return int((self.y_range[1] - self.y_range[0]) / self.resolution + 1e-6)

    def centres(self) -> np.ndarray:
        """Return the middles of the cells, (rows, columns, 2) float64, m."""
        x = self.x_range[0] + (np.arange(self.columns) + 0.5) * self.resolution
        y = self.y_range[0] + (np.arange(self.rows) + 0.5) * self.resolution
        return np.stack(np.meshgrid(x, y), axis=2)

    def cells(self, places: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return which places (N, 2) lie on the grid, and row and column of those."""
        index = np.floor((places - (self.x_range[0], self.y_range[0])) / self.resolution)
        inside = ((index >= 0) & (index < (self.columns, self.rows))).all(axis=1)
        column, row = index[inside].astype(np.int64).T
        return inside, row, column


class Sampler:
    """Takes for each entry the pixel of a frame that lies nearest; cv2.remap by whole pixels."""

    def __init__(self, pixels: np.ndarray, seen: np.ndarray):
        """`pixels` are (rows, columns, 2), x before y; of entries not `seen` they do not count."""
        whole = np.where(seen[..., None], np.rint(pixels), _OUTSIDE)
        self._pixels = whole.astype(np.int16)

    def __call__(self, frame: np.ndarray, outside: int) -> np.ndarray:
        """Return (rows, columns) of a frame (H, W) uint8, and `outside` where nothing is seen."""
        return cv2.remap(frame, self._pixels, None, cv2.INTER_NEAREST,
                         borderMode=cv2.BORDER_CONSTANT, borderValue=outside)

    def pixels(self, entries: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return row and column in the frame of entries, counted row by row, that are seen."""
        column, row = self._pixels.reshape(-1, 2)[entries].T
        return row, column


@dataclass(frozen=True)
class Contacts:
    """Where obstacles meet the ground: one for each direction and obstacle in it."""

    places: np.ndarray
    """(N, 2) float64: x and y in the frame of the grid, m."""
    pixels: np.ndarray
    """(N, 2) int: row and column of a pixel amid of what is seen of the obstacle there."""
    limits: np.ndarray
    """(directions,) float32: how far one sees along the ground, m; infinite without obstacle."""


class GroundView:
    """
    What a camera sees of the ground, the plane z = 0 of a frame in which the camera has `pose`.

    `shape` is the grid, `max_range` in metres how far from the camera a cell may be. All that
    depends on camera and pose is worked out here, once. Raise PoseError for a camera that is not
    above the ground.
    """

    def __init__(self, camera: Camera, pose: Pose, shape: GridShape, max_range: float):
        self.camera, self.pose, self.shape = camera, pose, shape
        self._height, self._max_range = float(pose.place[2]), max_range
        if not self._height > 0:
            raise PoseError(f'the camera is {self._height:.2f} m above the ground, needed is more '
                            'than 0: look at camera.height, or at the frame and at ground.z')
        # Directions are counted from where the camera looks, or the top of its frames.
        axis, top = pose.rotation[:, 2], -pose.rotation[:, 1]
        ahead = axis if math.hypot(axis[0], axis[1]) > 1e-6 else top
        self._ahead = math.atan2(ahead[1], ahead[0])
        self._level()
        self._look_at_cells()

    def _level(self):
        """
        Lay a levelled view over the frame: a line for each direction, from near to far.

        An edge that stands upright stays within a line of it, whatever roll, pitch and lens are;
        it would cross columns of the frame itself. The first and the last entry see nothing.
        """
        (left, right), (far, near) = self._reach()
        step = _STEP / max(self.camera.matrix[0], self.camera.matrix[4])
        counts = [min(_MOST_STEPS, 2 + math.ceil(width / step))
                  for width in (right - left, near - far)]
        turned, self._turn = np.linspace(left, right, counts[0], retstep=True)
        self._left, self._angles = left, turned + self._ahead
        down = np.linspace(near, far, counts[1])
        rays = np.empty((*counts, 3))
        rays[..., 0] = np.cos(self._angles)[:, None] * np.cos(down)
        rays[..., 1] = np.sin(self._angles)[:, None] * np.cos(down)
        rays[..., 2] = -np.sin(down)
        pixels = np.full((counts[0], counts[1] + 2, 2), np.nan)
        pixels[:, 1:-1] = self.camera.pixels(
            rays.reshape(-1, 3) @ self.pose.rotation).reshape(*counts, 2)
        seen = self._inside(pixels)
        self._levelled = Sampler(pixels, seen)
        # An obstacle begins between two entries.
        edges = np.concatenate([down[:1], down[:1], (down[:-1] + down[1:]) / 2, down[-1:]])
        self._ranges = self._height / np.tan(edges)
        self._from_aside = self._enter_from_aside(pixels, seen)

    def _reach(self):
        """Return in which directions and how far down, (low, high) each, the ground is seen."""
        width, height = self.camera.size
        lattice = np.stack(np.meshgrid(np.linspace(-0.5, width - 0.5, _LATTICE),
                                       np.linspace(-0.5, height - 0.5, _LATTICE)), axis=2)
        rays = self.camera.rays(lattice.reshape(-1, 2)) @ self.pose.rotation.T
        down = np.arctan2(-rays[:, 2], np.hypot(rays[:, 0], rays[:, 1]))
        far = math.atan2(self._height, self._max_range)
        below = down > far  # where there is no ray, it is not
        if not below.any():
            return (0.0, 0.0), (far, far)
        if self._inside(self.camera.pixels(np.array([[0.0, 0.0, -1.0]]) @ self.pose.rotation))[0]:
            return (-math.pi, math.pi), (far, math.pi / 2)
        # What is looked for may lie between two points of the lattice.
        margin = max(width, height) / (_LATTICE - 1) / min(self.camera.matrix[0],
                                                           self.camera.matrix[4])
        turned = _wrapped(np.arctan2(rays[below, 1], rays[below, 0]) - self._ahead)
        return ((max(-math.pi, turned.min() - margin), min(math.pi, turned.max() + margin)),
                (far, min(math.pi / 2, down[below].max() + margin)))

    def _inside(self, pixels):
        """Return which pixels (..., 2) lie in the frame."""
        with np.errstate(invalid='ignore'):
            return ((pixels >= -0.5) & (pixels <= np.array(self.camera.size) - 0.5)).all(axis=-1)

    def _enter_from_aside(self, pixels, seen):
        """
        Return the first entry that each line sees if it comes in by a side of the frame, or -1.

        An obstacle that is cut off by that side has its foot outside of the frame: where it enters
        the line is somewhere up its body. One that goes on below the frame is as near as that.
        """
        lines, first = np.arange(len(seen)), np.argmax(seen, axis=1)
        here, there = pixels[lines, first], pixels[lines, np.minimum(first + 1, seen.shape[1] - 1)]
        along = np.abs(there - here)
        to_border = np.minimum(here, np.array(self.camera.size) - 1 - here)
        with np.errstate(invalid='ignore'):
            across = np.where(to_border[:, 0] < to_border[:, 1], along[:, 0], along[:, 1])
            return np.where(across < 0.5 * np.hypot(*along.T), first, -1)

    def _look_at_cells(self):
        centres = self.shape.centres()
        rows, columns = centres.shape[:2]
        flat = centres.reshape(-1, 2)
        pixels = self.camera.pixels(self.pose.back(np.column_stack([flat, np.zeros(len(flat))])))
        away = flat - self.pose.place[:2]
        distance = np.hypot(*away.T)
        seen = self._inside(pixels) & (distance <= self._max_range)
        self._at_cells = Sampler(pixels.reshape(rows, columns, 2), seen.reshape(rows, columns))
        self._distance = distance.astype(np.float32).reshape(rows, columns)
        turned = _wrapped(np.arctan2(away[:, 1], away[:, 0]) - self._ahead)
        line = np.rint((turned - self._left) / (self._turn or 1.0))
        line = np.clip(line, 0, len(self._angles) - 1)
        self._line = line.astype(np.int32).reshape(rows, columns)

    def contacts(self, mask: np.ndarray, obstacles: np.ndarray,
                 confidence: np.ndarray | None = None, least: int = 0) -> Contacts:
        """
        Return where the classes of `obstacles` (256,) bool in `mask` (H, W) uint8 meet the ground.

        With `confidence` (H, W) uint8 an obstacle is one where it has `least` or more amid of what
        is seen of it; one that has not still hides what is behind it. Raise FrameError for a mask
        of another size than the camera's frames.
        """
        self._check(mask)
        lines = self._levelled(mask, UNLABELED)
        table = obstacles.astype(np.uint8)
        table[UNLABELED] = 0
        hit = cv2.LUT(lines, table).reshape(-1)
        # Nothing is seen between two lines, so no obstacle goes on from one to the next.
        turns = np.flatnonzero(hit[1:] != hit[:-1]) + 1
        starts, ends = turns[::2], turns[1::2]
        line, entry = np.divmod(starts, lines.shape[1])
        limits = np.full(len(lines), np.inf, np.float32)
        limits[line[::-1]] = self._ranges[entry[::-1]]  # of several on a line the nearest, as last
        row, column = self._levelled.pixels((starts + ends - 1) // 2)
        counts = entry != self._from_aside[line]
        if confidence is not None:
            counts &= confidence[row, column] >= least
        foot = _feet(hit, starts, entry, lines.shape[1])
        angle, distance = self._angles[line[counts]], self._ranges[foot[counts]]
        places = self.pose.place[:2] + distance[:, None] * np.column_stack(
            [np.cos(angle), np.sin(angle)])
        return Contacts(places, np.column_stack([row, column])[counts], limits)

    def grid(self, mask: np.ndarray, values: np.ndarray, contacts: Contacts,
             marks: np.ndarray, confidence: np.ndarray | None = None,
             least: int = 0) -> np.ndarray:
        """
        Return the grid, (rows, columns) int8: 0 to 100, or UNKNOWN.

        A cell has the one of `values` (256,) int8 for the class that is seen there, but is UNKNOWN
        behind an obstacle, and where `confidence` is below `least`. Those of `contacts` have the
        one of `marks` (256,) int8, the highest where several meet.
        """
        self._check(mask)
        table = np.array(values, np.int8)
        table[UNLABELED] = UNKNOWN
        grid = cv2.LUT(self._at_cells(mask, UNLABELED), table.view(np.uint8)).view(np.int8)
        # With each line those beside it: an edge may stand between two.
        limits = np.pad(contacts.limits, 1, constant_values=np.inf)
        limits = np.minimum(np.minimum(limits[:-2], limits[2:]), limits[1:-1])
        grid[self._distance >= limits[self._line]] = UNKNOWN
        if confidence is not None and least > 0:
            grid[self._at_cells(confidence, 0) < least] = UNKNOWN
        inside, row, column = self.shape.cells(contacts.places)
        mark = np.asarray(marks)[mask[tuple(contacts.pixels[inside].T)]]
        order = np.argsort(mark, kind='stable')  # the highest is written last
        grid[row[order], column[order]] = mark[order]
        return grid

    def _check(self, mask):
        if mask.shape != self.camera.size[::-1]:
            raise FrameError(f'the mask is {mask.shape[1]}x{mask.shape[0]}, the camera that is '
                             f'looked through {self.camera.size[0]}x{self.camera.size[1]}')


def _feet(hit, starts, entry, length):
    """
    Return the entry of the foot of each obstacle, be it on a line beside its own.

    Along an upright edge, pixels of a line are on and off by rounding: what begins there is not a
    foot, but up the body of what is seen, from its foot on, on one of the next lines; and so it is
    where a body is wider than its foot. It is known by rising above where the feet beside it lead
    to, or too steeply. Their foot is then right for this line too, but for what is to the side.
    """
    def beside(runs, side):
        """Return which run holds the first entry of each of `runs` on a line to the side."""
        there = starts[runs] + side * length
        inside = (there >= 0) & (there < len(hit)) & (runs >= 0)
        inside[inside] = hit[there[inside]] > 0
        return np.where(inside, np.searchsorted(starts, there, side='right') - 1, -1)

    own = np.arange(len(starts))
    foot, rise = own, np.full(len(starts), _UPRIGHT)
    for side in (-_BESIDE, _BESIDE):
        one = beside(own, side)
        two = beside(one, side)
        slope = np.where(two >= 0, entry[one] - entry[two], 0).clip(0, _STEEPEST * _BESIDE)
        above = np.where(one >= 0, entry - entry[one] - slope, 0)
        foot, rise = np.where(above > rise, one, foot), np.maximum(above, rise)
    for _ in range(7):  # where it leads to may be an edge as well: over up to 256 lines
        foot = foot[foot]
    return entry[foot]


def _wrapped(angle):
    """Return angles between -pi and pi."""
    return (angle + math.pi) % (2 * math.pi) - math.pi
