# Copyright 2026 rgbx_seg_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""`rgbx-seg benchmark --projection`: what a mask costs on its way to a planner, on one core."""

import os
import platform
import shlex
import sys
import time

import cv2
import numpy as np
from rgbx_seg_ros import __version__
from rgbx_seg_ros.cpu import find_cpu
from rgbx_seg_ros.projection.camera import Camera
from rgbx_seg_ros.projection.ground import GridShape, GroundView
from rgbx_seg_ros.projection.points import DepthPoints, pack_colors, Painter
from rgbx_seg_ros.projection.pose import Pose
from rgbx_seg_ros.tables import aligned, wrapped

WIDTH, HEIGHT = 640, 480
_GROUND, _OBSTACLE = 1, 2
_COLUMNS = ('what', 'best', 'p50', 'p95', 'p99', 'once')
_LEGEND = (
    'ms for a mask of 640x480 through a camera with the distortion plumb_bob, from arrays to '
    'arrays, on one core. grid: contacts of obstacles and 200x200 cells. points: {count} of a '
    'depth image. cloud: as many of a lidar, all of them in view. once: for a new camera or pose. '
    'best is told beside the percentiles because whatever else runs here only adds to it.')


def measure(frames: int) -> dict:
    """Return the facts, each task measured on `frames` masks that differ."""
    load = os.getloadavg()[0]
    threads = cv2.getNumThreads()
    cv2.setNumThreads(1)
    try:
        rows = [_row(name, make, frames) for name, make in _TASKS.items()]
    finally:
        cv2.setNumThreads(threads)
    return {
        'command': shlex.join(['rgbx-seg', *sys.argv[1:]]),
        'versions': {'rgbx_seg_ros': __version__, 'python': platform.python_version(),
                     'numpy': np.__version__, 'opencv': cv2.__version__},
        'platform': platform.platform(), 'cpu': str(find_cpu()), 'frames': frames,
        'load_1_minute': (load, os.getloadavg()[0]), 'points': WIDTH * HEIGHT, 'rows': rows,
    }


def page(facts: dict) -> str:
    """Return the facts as a text: the machine, a table, what it means."""
    before, after = facts['load_1_minute']
    versions = ', '.join(f'{name} {version}' for name, version in facts['versions'].items())
    cells = [_COLUMNS, *((row['name'], *(f'{row[f"{name}_ms"]:.2f}' for name in _COLUMNS[1:]))
                         for row in facts['rows'])]
    return '\n'.join([
        wrapped(f'one core of {facts["cpu"]}, load {before:.1f} before and {after:.1f} after'),
        wrapped(versions), wrapped(f'{facts["frames"]} masks'), '',
        *aligned(cells, '<' + '>' * (len(_COLUMNS) - 1)), '',
        wrapped(_LEGEND.format(count=facts['points']))])


def _camera():
    return Camera('segmentation', (WIDTH, HEIGHT), (550.0, 0, 320.0, 0, 550.0, 240.0, 0, 0, 1),
                  (-0.3, 0.1, 0.001, -0.002, 0.0), 'plumb_bob', tuple(np.eye(3).ravel()))


def _frame(rng):
    """Return a mask with a road and some obstacles, and its confidence."""
    mask = np.zeros((HEIGHT, WIDTH), np.uint8)
    mask[200:] = _GROUND
    for _ in range(8):
        row, column = rng.integers(150, 350), rng.integers(0, WIDTH - 80)
        mask[row:row + rng.integers(20, 100), column:column + rng.integers(5, 80)] = _OBSTACLE
    return mask, rng.integers(100, 256, mask.shape).astype(np.uint8)


def _grid():
    view = GroundView(_camera(), Pose.from_angles(0.02, 0.15, 0.0, (0.0, 0.0, 1.5), optical=True),
                      GridShape(0.2, (0.0, 40.0), (-20.0, 20.0)), 40.0)
    ids = np.arange(256)
    values = np.where(ids == _GROUND, 0, -1).astype(np.int8)
    marks = np.full(256, 100, np.int8)

    def run(mask, confidence):
        contacts = view.contacts(mask, ids == _OBSTACLE, confidence, 128)
        view.grid(mask, values, contacts, marks, confidence, 128)
    return run


def _colors():
    return pack_colors(np.random.default_rng(0).integers(0, 256, (256, 3)).astype(np.uint8))


def _points():
    lift, colors = DepthPoints(_camera()), _colors()
    depth = np.random.default_rng(0).integers(0, 20_000, (HEIGHT, WIDTH)).astype(np.uint16)
    return lambda mask, confidence: lift(depth, mask, confidence, colors)


def _cloud():
    camera = _camera()
    painter, rng = Painter(camera), np.random.default_rng(0)
    pixels = rng.uniform((0, 0), (WIDTH - 1, HEIGHT - 1), (WIDTH * HEIGHT, 2))
    points = camera.rays(pixels) * rng.uniform(1, 50, (len(pixels), 1))
    pose = Pose.from_angles(0.01, 0.02, 0.03, (0.1, 0.2, 0.3))
    away = pose.back(points)
    return lambda mask, confidence: painter(pose.of(away), mask, confidence)


_TASKS = {'grid': _grid, 'points': _points, 'cloud': _cloud}


def _row(name, make, frames):
    started = time.perf_counter()
    run = make()
    once_ms = 1e3 * (time.perf_counter() - started)
    rng = np.random.default_rng(0)
    shown = [_frame(rng) for _ in range(min(frames, 10))]
    times_ms = []
    for frame in range(frames + 3):
        started = time.perf_counter()
        run(*shown[frame % len(shown)])
        times_ms.append(1e3 * (time.perf_counter() - started))
    times_ms = times_ms[3:]  # the first ones find the memory
    return {'name': name, 'once_ms': once_ms, 'best_ms': min(times_ms),
            **{f'p{share}_ms': float(np.percentile(times_ms, share)) for share in (50, 95, 99)},
            'all_ms': times_ms}
