# Copyright 2026 rgbx_seg_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""Random changes of training samples: one geometry for RGB, X and label; colours of RGB only."""

from dataclasses import dataclass

import cv2
import numpy as np
from rgbx_seg_ros.datasets import Sample
from rgbx_seg_ros.errors import DataError
from rgbx_seg_ros.labels import UNLABELED


@dataclass(frozen=True)
class Augment:
    """
    Make a training crop of a sample.

    `augment(sample, rng)` returns rgb (h, w, 3) uint8, x (h, w, C) of the type it has, and label
    (h, w) uint8, where (h, w) is `crop`. What lies outside of the frame is 0 and unlabeled.
    """

    crop: tuple[int, int]
    """Height and width of the crop in pixels."""
    scale: tuple[float, float] = (0.75, 1.75)
    """The frame is resized by a factor from this range, evenly in its logarithm."""
    flip: float = 0.5
    """Probability of mirroring left and right."""
    jitter: float = 0.4
    """Largest relative change of the brightness, contrast and saturation of RGB."""
    blank: float = 0.1
    """Probability of a black RGB frame, and again of an X frame of one value."""

    def __post_init__(self):
        if min(self.crop) < 32:
            raise DataError(f'augment.crop is {self.crop!r}, both sides must be at least 32')
        if not 0 < self.scale[0] <= self.scale[1] < np.inf:
            raise DataError(f'augment.scale is {self.scale!r}, needed is 0 < low <= high')
        for name, high in (('flip', 1.0), ('jitter', 1.0), ('blank', 0.5)):
            value = getattr(self, name)
            if not 0 <= value <= high:
                raise DataError(f'augment.{name} is {value!r}, allowed is 0 to {high:g}')

    def __call__(self, sample: Sample, rng: np.random.Generator):
        rgb, x, label = sample.rgb, np.atleast_3d(sample.x), sample.label
        factor = np.exp(rng.uniform(*np.log(self.scale)))
        size = (max(1, round(rgb.shape[1] * factor)), max(1, round(rgb.shape[0] * factor)))
        rgb = cv2.resize(rgb, size, interpolation=cv2.INTER_LINEAR)
        x = np.atleast_3d(cv2.resize(x, size, interpolation=cv2.INTER_LINEAR))
        label = cv2.resize(label, size, interpolation=cv2.INTER_NEAREST)

        top, left = (self._offset(label.shape[i], self.crop[i], rng) for i in (0, 1))
        rgb, x = self._cut(rgb, top, left, 0), self._cut(x, top, left, 0)
        label = self._cut(label, top, left, UNLABELED)
        if rng.random() < self.flip:
            rgb, x, label = rgb[:, ::-1], x[:, ::-1], label[:, ::-1]
        rgb = self._recolor(rgb, rng)
        # A network that has never missed a sensor breaks when one fails on the vehicle.
        blanked = rng.random()
        if blanked < self.blank:
            rgb = np.zeros_like(rgb)
        elif blanked < 2 * self.blank:
            x = np.full_like(x, x[x.shape[0] // 2, x.shape[1] // 2])
        return tuple(np.ascontiguousarray(part) for part in (rgb, x, label))

    @staticmethod
    def _offset(have, need, rng):
        """Return where the crop begins; negative where the frame is smaller than the crop."""
        return int(rng.integers(min(0, have - need), max(0, have - need) + 1))

    def _cut(self, image, top, left, fill):
        out = np.full((*self.crop, *image.shape[2:]), fill, image.dtype)
        y, x = max(0, top), max(0, left)
        part = image[y:max(0, top + self.crop[0]), x:max(0, left + self.crop[1])]
        y, x = y - top, x - left
        out[y:y + part.shape[0], x:x + part.shape[1]] = part
        return out

    def _recolor(self, rgb, rng):
        # As plain floats they leave the image float32 in NumPy 2 as well.
        brightness, contrast, saturation = rng.uniform(
            1 - self.jitter, 1 + self.jitter, 3).tolist()
        image = rgb.astype(np.float32) * brightness
        image = (image - image.mean()) * contrast + image.mean()
        grey = image.mean(axis=2, keepdims=True)
        return ((image - grey) * saturation + grey).round().clip(0, 255).astype(np.uint8)
