# Copyright 2026 rgbx_seg_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""The way of a pair of messages to its mask, also where a sensor has failed."""

from dataclasses import replace
from functools import partial
import time
from typing import Any, NamedTuple
import warnings

import numpy as np
from rgbx_seg_ros.cards.labels import UNLABELED
from rgbx_seg_ros.errors import FrameError, MessageError
from rgbx_seg_ros.frames.raw import check_x, is_painted
from rgbx_seg_ros.frames.smoothing import LimitsTracker
from rgbx_seg_ros.health.monitor import SENSORS
from rgbx_seg_ros.inference.bits import BitWatch
from rgbx_seg_ros.inference.segmenter import Segmentation, Segmenter
from rgbx_seg_ros.messages.images import decode_rgb, decode_x, stamp_ns
from rgbx_seg_ros.parameters import Parameters
from rgbx_seg_ros.registration.rig import Rig
from rgbx_seg_ros.sensors import Sensors

_NOTHING = np.zeros((1, 1), np.uint8), (0.0, 1.0)
"""Stands for the frame of X, and its range, where X is lost."""


class Frame(NamedTuple):
    """A message of a camera, and how old it is."""

    message: Any
    received_ns: int
    """On the steady clock."""
    received_age_ns: int
    """Age at that time."""
    pixels: np.ndarray | None = None
    """What the message shows, where somebody has decoded it before."""

    def age_ns(self) -> int:
        """Return the age now."""
        return self.received_age_ns + time.monotonic_ns() - self.received_ns


class Job(NamedTuple):
    """The frames of which a mask is made; None stands for that of a sensor that has failed."""

    mode: str
    """That of `health.MODES` in which it was given."""
    rgb: Frame | None
    x: Frame | None
    submitted_ns: int = 0
    """When it was given, on the steady clock."""

    @property
    def frame(self) -> Frame:
        """The frame whose stamp and age are those of the mask."""
        return self.rgb or self.x


class Grid(NamedTuple):
    """The pixels in which a mask lies: those of one of the cameras."""

    modality: str
    """rgb or x."""
    frame_id: str
    """In which that camera looks: the one to project the mask with."""
    size: tuple[int, int]
    """Height and width."""


class Pipeline:
    """
    Makes masks with `segmenter`, job by job, in one thread.

    They lie on the pixels of RGB, also those of X alone: on the ones of the last colour frame that
    a mask was made of. Before the first one nobody can tell what RGB sees and in which frame_id,
    so a mask of X alone then lies on the pixels of X, as they are.

    X is brought onto RGB by `rig`, and its range smoothed over `x_smoothing_s`, see
    `frames.LimitsTracker`. A frame that cannot be used goes to `refuse(modality, error, reason)`,
    and its job makes no mask. `timed(prepare_ms=..., inference_ms=..., post_ms=...)` gets the
    times of each job that does. `placed` is the X (h, w) or (h, w, C) of the newest mask, on the
    pixels of that, and the raw values of it that became 0 and 1.
    """

    def __init__(self, segmenter: Segmenter, rig: Rig, x_smoothing_s: float, refuse, timed):
        self._segmenter, self._rig = segmenter, rig
        self._refuse, self._timed = refuse, timed
        self._range = LimitsTracker(segmenter.x, x_smoothing_s)
        self._rgb_grid: Grid | None = None
        self._bits = BitWatch()
        self._may_be_painted = segmenter.x.kind == 'thermal'
        self.placed = _NOTHING

    def __call__(self, job: Job,
                 parameters: Parameters) -> tuple[np.ndarray, Segmentation, Grid] | None:
        """
        Return the colour frame (H, W, 3), what was made of the job, and where that lies.

        Without RGB the colour frame is black. After a refusal return None.
        """
        started = time.perf_counter()
        rgb = self._decoded('rgb', partial(decode_rgb, bits=parameters.rgb_bits), job.rgb)
        x = self._decoded('x', decode_x, job.x)
        if (job.rgb and rgb is None) or (job.x and x is None):
            return None
        if rgb is not None:
            self._bits.look(job.rgb.message, parameters.rgb_bits)
            self._rgb_grid = Grid('rgb', job.rgb.message.header.frame_id, rgb.shape[:2])
        grid = self._rgb_grid or Grid('x', job.x.message.header.frame_id, x.shape[:2])
        if rgb is None:
            rgb = np.zeros((*grid.size, 3), np.uint8)
        if job.mode == 'unlabeled':
            mask = np.full(grid.size, UNLABELED, np.uint8)
            return rgb, Segmentation(mask, np.zeros_like(mask), None, 0.0, 0.0), grid
        sensors = SENSORS[job.mode]
        placed = _NOTHING if x is None else self._placed(job, grid, rgb, x)
        if placed is None:
            return None
        self.placed = x, limits = placed
        prepared = time.perf_counter()
        try:
            result = self._segmenter(rgb, x, sensors, limits)
        except FrameError as error:
            self._refuse('x', error, 'malformed')
            return None
        segmented = time.perf_counter()
        result = result.where_sure(parameters.confidence_threshold)
        if sensors is not Sensors.BOTH:  # after the threshold, which is for what the network says
            scaled = (result.confidence * parameters.degraded_confidence).astype(np.uint8)
            result = replace(result, confidence=scaled)
        self._timed(prepare_ms=1e3 * (prepared - started) + result.prepare_ms,
                    inference_ms=result.inference_ms,
                    post_ms=1e3 * (time.perf_counter() - segmented))
        return rgb, result, grid

    @property
    def dark(self) -> str:
        """What is wrong with the bits of the colour frames; empty if nothing is."""
        return self._bits.trouble

    def _placed(self, job, grid, rgb, x):
        """Return X on the grid and its range, or None where it cannot be brought there."""
        try:
            check_x(x)
            self._warn_of_paint(x)
            limits = self._range(x, stamp_ns(job.x.message.header))
        except FrameError as error:
            self._refuse('x', error, 'malformed')
            return None
        if grid.modality == 'x':
            return x, limits
        try:
            placed = self._rig.place(x, grid.size[::-1])
        except FrameError as error:
            self._refuse('x', error, 'unregistered')
            return None
        if job.mode == 'fusion':
            self._rig.watch(rgb, x, placed)
        return placed, limits

    def _warn_of_paint(self, x):
        """Warn once of an X that a palette has painted."""
        if self._may_be_painted and is_painted(x):
            self._may_be_painted = False
            warnings.warn(
                'the frames of X are in false colours, a thermal camera measures none: let its '
                'driver send raw values (mono16, 16UC1, 32FC1) or grey (mono8)', stacklevel=2)

    def _decoded(self, modality, decode, frame):
        """Return the pixels of a frame, or None for one that is not there or cannot be read."""
        if frame is None:
            return None
        if frame.pixels is not None:
            return frame.pixels
        try:
            return decode(frame.message)
        except MessageError as error:
            self._refuse(modality, error, 'malformed')
            return None
