# Copyright 2026 rgbx_seg_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""What a network is shown of a frame that is scored, and what comes of it."""

from dataclasses import replace
import math
from pathlib import Path
from tempfile import TemporaryDirectory

import cv2
import numpy as np
from rgbx_seg_ros.cards.labels import UNLABELED
from rgbx_seg_ros.datasets import Sample
from rgbx_seg_ros.errors import DataError, FrameError, ParameterError
from rgbx_seg_ros.evaluation.protocols import Protocol
from rgbx_seg_ros.frames.images import read_image, write_image
from rgbx_seg_ros.frames.raw import find_x_limits
from rgbx_seg_ros.inference.segmenter import Segmenter
from rgbx_seg_ros.inference.tiles import segment_tiles
from rgbx_seg_ros.parameters import Parameters
from rgbx_seg_ros.registration.rig import Rig
from rgbx_seg_ros.sensors import Sensors


class Presentation:
    """
    The way of a frame to its mask as `protocol` and the card of `segmenter` say.

    X is brought onto RGB, and pixels of little confidence are 255, as by the node with
    `parameters`; the frames of `sensors` count. Raise ParameterError for what the model cannot
    have.
    """

    def __init__(self, segmenter: Segmenter, protocol: Protocol, parameters: Parameters,
                 sensors: Sensors = Sensors.BOTH):
        protocol.check(segmenter.card)
        self._segmenter, self._protocol, self._sensors = segmenter, protocol, sensors
        self._window = protocol.window or segmenter.card.window
        self._threshold = parameters.confidence_threshold
        if parameters.registration_mode == 'extrinsics':
            raise ParameterError(
                "parameter 'registration.mode' is 'extrinsics', which needs the camera_info of "
                'both cameras, and a folder of frames has none: replay a bag, or score with the '
                'homography that rgbx-seg calibrate finds')
        self._rig = Rig(parameters, segmenter.card.x, lambda modality: None)
        self._check_sensors(sensors)
        if self._window and self._threshold:
            raise ParameterError(
                f"parameter 'confidence.threshold' is {self._threshold!r}, but with a window "
                'there is no confidence: leave it at 0')

    def prepare(self, sample: Sample) -> Sample:
        """
        Return the sample as the network sees it; its `x_limits` are what becomes 0 and 1 of X.

        Without them that is up to the frame. Raise DataError for a frame that cannot be shown so.
        """
        protocol, card = self._protocol, self._segmenter.card
        sample = self._registered(sample)
        if protocol.short_side:
            scale = protocol.short_side / min(sample.rgb.shape[:2])
            height, width = (32 * math.ceil(round(side * scale) / 32)
                             for side in sample.rgb.shape[:2])
            frames = {'rgb': cv2.INTER_LINEAR, 'x': cv2.INTER_LINEAR, 'label': cv2.INTER_NEAREST}
            sample = replace(sample, **{
                name: cv2.resize(getattr(sample, name), (width, height), interpolation=kind)
                for name, kind in frames.items() if getattr(sample, name) is not None})
        if protocol.border_px and sample.label is not None:
            sample = replace(sample, label=without_borders(sample.label, protocol.border_px))
        size = sample.rgb.shape[:2]
        if protocol.own_size and min(
                most / side for most, side in zip(card.input_size, size, strict=True)) != 1:
            raise DataError(
                f'frame {sample.name!r} has {size[1]}x{size[0]} pixels, and the protocol shows '
                f'frames to the network at their own size, where {card.name!r} scales them to '
                f'{card.input_size[1]}x{card.input_size[0]}: take the protocol plain')
        return sample

    def _registered(self, sample):
        """Return the sample with X on RGB; its range is that of all of X, as in the node."""
        x = self._segmenter.x
        limits = sample.x_limits if x.normalization == 'minmax' else None
        try:
            placed = self._rig.place(sample.x, sample.rgb.shape[1::-1])
            if placed is not sample.x:
                limits = limits or find_x_limits(sample.x, x)
        except FrameError as error:
            raise DataError(f'frame {sample.name!r}: {error}') from error
        return replace(sample, x=placed, x_limits=limits)

    def disagreement(self, sample: Sample) -> float:
        """
        Return that of RGB alone and X alone on a prepared sample, see `Segmenter.disagreement`.

        Raise DataError and ParameterError as `segment` does.
        """
        self._check_sensors(Sensors.X)
        try:
            return self._segmenter.disagreement(sample.rgb, sample.x, sample.x_limits)
        except FrameError as error:
            raise DataError(f'frame {sample.name!r}: {error}') from error

    def _check_sensors(self, sensors):
        if self._window and sensors is not Sensors.BOTH:
            raise ParameterError(f'{sensors.value!r} alone cannot be scored with a window: no '
                                 'image in pieces was ever made without one of the two')

    def segment(self, sample: Sample,
                sensors: Sensors | None = None) -> tuple[np.ndarray, np.ndarray | None]:
        """
        Return mask and confidence of a prepared sample, (H, W) uint8 each.

        `sensors` count in the place of those given before.

        Sliding windows know no confidence. Raise DataError for a frame that cannot be segmented.
        """
        sensors = sensors or self._sensors
        self._check_sensors(sensors)
        if self._window is None:
            try:
                result = self._segmenter(sample.rgb, sample.x, sensors, sample.x_limits)
            except FrameError as error:
                raise DataError(f'frame {sample.name!r}: {error}') from error
            return result.where_sure(self._threshold).mask, result.confidence
        x_input = self._segmenter.x
        if sample.x_limits:
            x_input = replace(x_input, normalization='fixed', range=sample.x_limits)
        card = replace(self._segmenter.card, x=x_input, window=self._window)
        with TemporaryDirectory() as folder:
            rgb, x, mask = (Path(folder, name) for name in ('rgb.tif', 'x.tif', 'mask.tif'))
            write_image(rgb, sample.rgb)
            write_image(x, sample.x)
            segment_tiles(self._segmenter.engine.network, card, rgb, x, mask, progress=False)
            return read_image(mask), None


def without_borders(label: np.ndarray, distance_px: int) -> np.ndarray:
    """
    Return `label` with 255 where another class lies within `distance_px`.

    It is the erosion by a disc that ISPRS applies; an eroded label stays as it is.
    """
    rows, columns = np.ogrid[-distance_px:distance_px + 1, -distance_px:distance_px + 1]
    disc = np.uint8(rows ** 2 + columns ** 2 <= distance_px ** 2)
    classes_near = np.zeros(label.shape, np.uint8)
    for i in np.setdiff1d(label, [UNLABELED]):
        classes_near += cv2.dilate(np.uint8(label == i), disc)
    return np.where(classes_near > 1, np.uint8(UNLABELED), label)
