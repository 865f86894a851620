# Copyright 2026 rgbx_seg_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""Random changes of the second modality alone: it moves against the camera, drifts and fails."""

from dataclasses import dataclass

import cv2
import numpy as np
from rgbx_seg_ros.errors import DataError
from rgbx_seg_ros.fields import check_number

_BLUR_SIGMA = (0.5, 1.5)
_PATCHES = 3
_PATCH = (0.1, 0.4)
"""Shortest and longest side of a lost patch, in shares of that of the frame."""


@dataclass(frozen=True)
class AugmentX:
    """
    Change an X (h, w, C) float32 whose limits are 0 and 1.

    `moved` comes before the crop and `changed` after it. The fields stand in the order in which
    they act, and each default leaves X as it is.
    """

    move: float = 0.0
    """
    Largest shift against RGB along each axis, in pixels of the RGB frame as stored. A rotation and
    a scale around the middle move the edges by up to as much again.
    """
    gain: float = 0.0
    """Largest change of contrast: X is multiplied by a factor from 1 / (1 + gain) to 1 + gain."""
    offset: float = 0.0
    """Largest value that is added to all of X, or taken from it."""
    blur: float = 0.0
    """Probability of a Gaussian blur of 0.5 to 1.5 pixels."""
    noise: float = 0.0
    """Largest standard deviation of noise in each pixel."""
    stripes: float = 0.0
    """Largest standard deviation of an offset of each column, as arrays have that drift."""
    patches: float = 0.0
    """Probability of one to three patches without a measurement."""

    def __post_init__(self):
        highest = {'move': 100.0, 'gain': 9.0}
        for name in self.__dataclass_fields__:
            check_number(f'augment.x.{name}', getattr(self, name), DataError, low=0,
                         high=highest.get(name, 1.0))

    def moved(self, image: np.ndarray, rng: np.random.Generator, factor: float) -> np.ndarray:
        """Return an image shifted, rotated and scaled; a pixel is `factor` of one as stored."""
        if not self.move:
            return image
        height, width = image.shape[:2]
        *shift, turn, growth = factor * rng.uniform(-self.move, self.move, 4)
        half = max(height, width) / 2
        matrix = cv2.getRotationMatrix2D(
            ((width - 1) / 2, (height - 1) / 2), np.degrees(turn / half), 1.0 + growth / half)
        matrix[:, 2] += shift
        return np.atleast_3d(cv2.warpAffine(
            image, matrix, (width, height), flags=cv2.INTER_LINEAR,
            borderMode=cv2.BORDER_REPLICATE))

    def changed(self, x: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Return X as a sensor gives it that drifts and fails in part, within 0 and 1."""
        out = x
        if self.gain:
            out = out * np.float32((1.0 + self.gain) ** rng.uniform(-1.0, 1.0))
        if self.offset:
            out = out + np.float32(rng.uniform(-self.offset, self.offset))
        if self.blur and rng.random() < self.blur:
            out = np.atleast_3d(cv2.GaussianBlur(out, (0, 0), rng.uniform(*_BLUR_SIGMA)))
        for largest, shape in ((self.noise, x.shape[:2]), (self.stripes, (1, x.shape[1]))):
            if largest:
                added = rng.standard_normal((*shape, 1), np.float32)
                out = out + np.float32(rng.uniform(0.0, largest)) * added
        if out is not x:
            out = out.clip(0.0, 1.0)
        if self.patches and rng.random() < self.patches:
            out = _with_holes(out, rng)
        return out


def _with_holes(x, rng):
    """Return X with patches of 0, as where nothing was measured."""
    x = x.copy()
    for _ in range(rng.integers(1, _PATCHES + 1)):
        sides = [int(side * rng.uniform(*_PATCH)) for side in x.shape[:2]]
        top, left = (int(rng.integers(0, have - need + 1))
                     for have, need in zip(x.shape[:2], sides, strict=True))
        x[top:top + sides[0], left:left + sides[1]] = 0.0
    return x
