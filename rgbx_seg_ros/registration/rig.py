# Copyright 2026 rgbx_seg_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""A pair of cameras as it is mounted: brings X onto RGB, and tells when it no longer fits."""

from dataclasses import replace

import numpy as np
from rgbx_seg_ros.cards.card import XInput
from rgbx_seg_ros.errors import FrameError, ParameterError
from rgbx_seg_ros.parameters import Parameters
from rgbx_seg_ros.registration.alignment import DriftMonitor
from rgbx_seg_ros.registration.warp import Camera, Extrinsics, Homography, Registration


class Rig:
    """
    The cameras that `parameters` describe, for a network that takes X as `spec` says.

    `camera_info(modality)` returns the newest CameraInfo of rgb or x, or None. Raise
    ParameterError for a registration that no pair of cameras has.
    """

    def __init__(self, parameters: Parameters, spec: XInput, camera_info):
        self._spec, self._camera_info = spec, camera_info
        self._infos = None
        self._extrinsics = geometry = None
        if parameters.registration_mode == 'homography':
            geometry = Homography(
                parameters.registration_homography, _size(parameters.registration_x_size),
                _size(parameters.registration_rgb_size))
        elif parameters.registration_mode == 'extrinsics':
            self._extrinsics = Extrinsics(
                None, None, parameters.registration_translation, parameters.registration_rotation,
                parameters.registration_depth_m)
        self._rectified = parameters.registration_rectified
        self._registration = self._register(geometry)
        self._monitor = DriftMonitor()
        self.drift = ''
        """What is wrong with where X lies on RGB by now; empty if nothing is."""

    def place(self, x: np.ndarray, rgb_size: tuple[int, int]) -> np.ndarray:
        """
        Return the raw frame `x` on an RGB frame of the size (W, H), in its type.

        Raise FrameError where that cannot be done.
        """
        if self._extrinsics is not None:
            self._read_camera_infos()
        return self._registration.apply(x, rgb_size)

    def watch(self, rgb: np.ndarray, x: np.ndarray, placed: np.ndarray) -> None:
        """Take a pair into account for `drift`: `x` is `placed` on `rgb`."""
        seen = None
        if placed is not x:
            seen = self._registration.seen(x, rgb.shape[1::-1])
        if not self._monitor.add(rgb, placed, seen):
            return
        state = self._monitor.state()
        self.drift = ''
        if state.drifting:
            right, down = state.shift_px
            self.drift = (f'moving it by {right:+.0f}, {down:+.0f} px (right, down) would fit '
                          'better; look whether a camera has moved, then run rgbx-seg calibrate')

    def _read_camera_infos(self):
        infos = self._camera_info('rgb'), self._camera_info('x')
        if self._infos is not None and all(map(_same_optics, infos, self._infos)):
            return
        missing = [name for name, info in zip(('rgb', 'x'), infos, strict=True) if info is None]
        if missing:
            raise FrameError(
                f"registration.mode is 'extrinsics', but nothing has come on {missing[0]}"
                '/camera_info yet: publish it, or use the mode homography')
        try:
            cameras = [Camera.from_info(name, info, self._rectified)
                       for name, info in zip(('rgb', 'x'), infos, strict=True)]
        except ParameterError as error:
            raise FrameError(str(error)) from error
        self._registration = self._register(
            replace(self._extrinsics, rgb=cameras[0], x=cameras[1]))
        self._infos = infos

    def _register(self, geometry):
        return Registration(geometry, self._spec.kind, self._spec.invalid)


def _size(numbers):
    """Return a width and a height as integers where they are."""
    return tuple(int(number) if number == int(number) else number for number in numbers)


def _same_optics(one, other):
    """Return whether two CameraInfos are of the same camera with the same calibration."""
    return one is other or (one is not None and all(
        np.array_equal(getattr(one, name), getattr(other, name))
        for name in ('width', 'height', 'distortion_model', 'd', 'k', 'r', 'p')))
