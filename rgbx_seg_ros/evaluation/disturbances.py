# Copyright 2026 rgbx_seg_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""What a sweep does to frames, by name: in which steps, and what comes of them."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
import math

import numpy as np
from rgbx_seg_ros.cards.card import XInput
from rgbx_seg_ros.datasets import Sample
from rgbx_seg_ros.frames.faults import (
    changed,
    compressed,
    DARK_NOISE,
    dimmed,
    lost_patches,
    shifted,
)
from rgbx_seg_ros.frames.raw import find_x_limits

Level = int | str
"""How much of a disturbance; a word where there is no number."""

_DIRECTIONS = ((1, 0), (-1, 0), (0, 1), (0, -1))


@dataclass(frozen=True)
class Disturbance:
    """
    One way in which frames get worse.

    `views(sample, level, spec, rng)` yields the sample of a level, several times where that has
    several ways; the `spec` of X has its invalid value. `rng` begins anew for each level, so that
    a worse one has the noise of a better one and more. None where no frame is made.
    """

    text: str
    """What happens, for a title."""
    sensors: tuple[str, ...]
    """Of rgb and x those whose frames change."""
    base: Level
    """The level of frames as they are."""
    levels: tuple[Level, ...]
    """The others, as they are told."""
    unit: str = ''
    """Of the levels; empty for words and plain numbers."""
    ways: int = 1
    """Masks of each level."""
    views: Callable[[Sample, int, XInput, np.random.Generator], Iterator[Sample]] | None = None
    is_log: bool = False
    """Whether a plot has the logarithm of the level."""

    def places(self) -> dict[Level, float] | None:
        """Return where on an axis from 0 to 1 each level lies; None where they are words."""
        if isinstance(self.levels[0], str):
            return None
        numbers = {level: float(level) for level in self.levels if not isinstance(level, str)}
        numbers[self.base] = 100.0 if isinstance(self.base, str) else float(self.base)
        if self.is_log:
            numbers = {level: math.log(number) for level, number in numbers.items()}
        low, high = min(numbers.values()), max(numbers.values())
        return {level: (number - low) / (high - low) for level, number in sorted(
            numbers.items(), key=lambda one: one[1])}


def fixed(sample: Sample, x: XInput) -> Sample:
    """Return a prepared sample whose range of X stays what it is, whatever becomes of X."""
    return replace(sample, x_limits=sample.x_limits or find_x_limits(sample.x, x))


def _shift(sample, level, spec, rng):
    scales = [ours / theirs for ours, theirs in zip(
        sample.x.shape[1::-1], sample.rgb.shape[1::-1], strict=True)]
    for direction in _DIRECTIONS:
        yield replace(sample, x=shifted(sample.x, *(
            level * one * scale for one, scale in zip(direction, scales, strict=True))))


def _of_x(change):
    """Return what changes X, as 0..1, by `change(x, level, rng)`."""
    def views(sample, level, spec, rng):
        x = changed(sample.x, sample.x_limits, spec, lambda x: change(x, level, rng))
        yield replace(sample, x=x)
    return views


def _noisy(x, level, rng):
    noise = rng.standard_normal((*x.shape[:2], *[1] * (x.ndim - 2)), np.float32)
    return x + np.float32(level / 100) * noise


def _patchy(sample, level, spec, rng):
    rgb, x = (lost_patches(size, level / 100, rng)
              for size in (sample.rgb.shape[:2], sample.x.shape[:2]))
    x = x.reshape(*x.shape, *[1] * (sample.x.ndim - 2))
    yield replace(sample, rgb=np.where(rgb[..., None], np.uint8(0), sample.rgb), x=changed(
        sample.x, sample.x_limits, spec, lambda values: np.where(x, np.float32(0), values)))


def _dark(sample, level, spec, rng):
    noise = rng.standard_normal(sample.rgb.shape, np.float32)
    yield replace(sample, rgb=dimmed(sample.rgb, level / 100, DARK_NOISE, noise))


def _jpeg(sample, level, spec, rng):
    yield replace(sample, rgb=compressed(sample.rgb, level))


DISTURBANCES = {
    'shift': Disturbance('X moved against RGB', ('x',), 0, (2, 4, 8, 12, 16), 'px',
                         len(_DIRECTIONS), _shift),
    'noise': Disturbance('Noise of X, of its range', ('x',), 0, (2, 5, 10, 20), '%',
                         views=_of_x(_noisy)),
    'gain': Disturbance('Contrast of X', ('x',), 100, (50, 75, 150, 200), '%', is_log=True,
                        views=_of_x(lambda x, level, rng: x * np.float32(level / 100))),
    'offset': Disturbance('Added to all of X, of its range', ('x',), 0, (-20, -10, 10, 20), '%',
                          views=_of_x(lambda x, level, rng: x + np.float32(level / 100))),
    'lag': Disturbance('X of frames before', ('x',), 0, (1, 2, 4), 'frames'),
    'patches': Disturbance('Patches lost of RGB and of X', ('rgb', 'x'), 0, (25, 50, 75), '%',
                           views=_patchy),
    'lost': Disturbance('A sensor lost', ('rgb', 'x'), 'none', ('rgb', 'x')),
    'dark': Disturbance('Light of RGB', ('rgb',), 100, (40, 20, 10, 5, 2), '%', views=_dark,
                        is_log=True),
    'jpeg': Disturbance('JPEG quality of RGB', ('rgb',), 'none', (90, 70, 50, 30, 10),
                        views=_jpeg),
}
"""The disturbances by name."""
