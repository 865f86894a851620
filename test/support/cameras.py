# Copyright 2026 rgbx_seg_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""Calibrated cameras with the lenses that a CameraInfo tells, and OpenCV's view through them."""

from types import SimpleNamespace

import cv2
import numpy as np

LENSES = {
    'none': ('', []),
    'plumb_bob': ('plumb_bob', [-0.35, 0.12, 0.001, -0.002, 0.01]),
    'rational': ('rational_polynomial', [0.5, -0.2, 0.001, -0.001, 0.02, 0.8, 0.1, 0.01]),
    'thin prism': ('rational_polynomial', [0.1, -0.05, 0.001, 0.002, 0.01, 0.05, 0.01, 0.0,
                                           0.001, -0.001, 0.002, 0.001]),
    'equidistant': ('equidistant', [-0.02, 0.01, -0.005, 0.001]),
}


def camera_info(size, focal, lens='none', **changes):
    """Return the fields of a CameraInfo with its centre a little off the middle."""
    model, distortion = LENSES[lens]
    matrix = [focal, 0.0, size[0] / 2 - 3.0, 0.0, 1.01 * focal, size[1] / 2 + 4.0, 0.0, 0.0, 1.0]
    fields = {'width': size[0], 'height': size[1], 'distortion_model': model, 'd': distortion,
              'k': matrix, 'r': np.eye(3).ravel().tolist(), 'p': [0.0] * 12,
              'roi': SimpleNamespace(width=0, height=0)}
    return SimpleNamespace(**{**fields, **changes})


def projected(points, info, turn=None, shift=None):
    """Return the pixels of points (N, 3) as OpenCV's own functions have them."""
    vector = np.zeros(3) if turn is None else cv2.Rodrigues(turn)[0]
    shift = np.zeros(3) if shift is None else np.asarray(shift, float)
    matrix = np.array(info.k).reshape(3, 3)
    points = np.asarray(points, float).reshape(-1, 1, 3)
    project = cv2.fisheye.projectPoints if info.distortion_model == 'equidistant' else None
    if project:
        return project(points, vector, shift, matrix, np.array(info.d))[0].reshape(-1, 2)
    return cv2.projectPoints(points, vector, shift, matrix, np.array(info.d))[0].reshape(-1, 2)
