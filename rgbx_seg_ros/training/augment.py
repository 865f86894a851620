# Copyright 2026 rgbx_seg_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""Random changes of training samples: one geometry for RGB, X and label; colours of RGB only."""

from collections.abc import Callable
from dataclasses import dataclass, field
import math

import cv2
import numpy as np
from rgbx_seg_ros.cards.labels import UNLABELED
from rgbx_seg_ros.datasets import Sample
from rgbx_seg_ros.engines.graph import resized, to_batch
from rgbx_seg_ros.errors import DataError
from rgbx_seg_ros.fields import check_number
from rgbx_seg_ros.frames.faults import DARK_NOISE, dimmed
from rgbx_seg_ros.training.augment_x import AugmentX
from torch.nn import functional as F

_RETRIES = 10
_BLUR_SIGMA = 0.8
_SHARPNESS = 0.1
# Of Liu et al., "SSD", ECCV 2016, in 8-bit levels, factors, and steps of 2 degrees.
_SHIFT = 32.0
_FACTORS = (0.5, 1.5)
_HUE = 18
_LIGHT = (0.02, 0.4)


@dataclass(frozen=True)
class Augment:
    """
    Make a training crop of a sample.

    `augment(sample, rng, prepare)` returns rgb (h, w, 3) uint8, x (h, w, C) float32 and label
    (h, w) uint8, where (h, w) is `crop`. What lies outside of the frame is filled and unlabeled.
    `prepare` makes of a raw X, as the sample has it, what can be resized: (h, w, C) float32
    without holes. The fields stand in the order in which they act.
    """

    crop: tuple[int, int]
    """Height and width of the crop in pixels."""
    base: tuple[int, int] | None = None
    """Shorter and longer side that the frame is fitted into at a scale of 1; None: its own."""
    scale: tuple[float, float] = (0.75, 1.75)
    """The frame is resized by a factor from this range."""
    scale_step: float = 0.0
    """Distance of the factors, of which each is as likely; 0: any factor within the range."""
    log_scale: bool = True
    """Whether a factor is drawn evenly in its logarithm, else evenly in itself."""
    rotate: float = 0.0
    """Largest angle by which the frame is rotated around its centre, in degrees."""
    rotate_chance: float = 1.0
    """Probability of a rotation."""
    max_share: float = 1.0
    """Share of one class in the labelled pixels above which a crop is drawn anew, ten times."""
    anchor: float | None = None
    """Where a frame smaller than the crop lies: 0 top left, 0.5 in the middle; None: anywhere."""
    fill_rgb: tuple[int, int, int] = (0, 0, 0)
    """Colour of what lies outside of the frame."""
    fill_x: float = 0.0
    """Value of X outside of the frame, as stored."""
    flip: float = 0.5
    """Probability of mirroring left and right."""
    flip_vertical: float = 0.0
    """Probability of mirroring top and bottom."""
    blur: float = 0.0
    """Probability of a 3x3 Gaussian blur of RGB."""
    jitter: float = 0.4
    """Largest relative change of the brightness, contrast and saturation of RGB."""
    jitter_chance: float = 1.0
    """Probability of that change."""
    distort: float = 0.0
    """
    Probability of each of: a brightness 32 levels lower to higher, contrast, saturation (0.5 to
    1.5 times), and a hue up to 36 degrees off.
    """
    soften: float = 0.0
    """Probability of taking nine tenths of the sharpness from RGB."""
    autocontrast: float = 0.0
    """Probability of stretching each channel of RGB to 0..255."""
    darken: float = 0.0
    """Probability of a night: RGB at 2 to 40 percent of its light, with the noise of that."""
    night_level: float = 0.0
    """
    Mean level of RGB as stored, 0 to 255, below which the labels lie on what X shows, so that RGB
    moves by `x.move` in place of X. 0: X moves in each frame.
    """
    x: AugmentX = field(default_factory=AugmentX)
    """What befalls X alone."""
    blank: float = 0.1
    """Probability of a black RGB frame, and again of an X frame of one value."""

    def __post_init__(self):
        if min(self.crop) < 32:
            raise DataError(f'augment.crop is {self.crop!r}, both sides must be at least 32')
        if self.base is not None and not 0 < self.base[0] <= self.base[1]:
            raise DataError(f'augment.base is {self.base!r}, needed is 0 < shorter <= longer')
        if not 0 < self.scale[0] <= self.scale[1] < math.inf:
            raise DataError(f'augment.scale is {self.scale!r}, needed is 0 < low <= high')
        for i, value in enumerate(self.fill_rgb):
            check_number(f'augment.fill_rgb[{i}]', value, DataError, low=0, high=255, integer=True)
        check_number('augment.max_share', self.max_share, DataError, above=0, high=1)
        highest = {'scale_step': math.inf, 'rotate': 180.0, 'blank': 0.5, 'fill_x': 65535.0,
                   'night_level': 255.0}
        for name in ('scale_step', 'rotate', 'rotate_chance', 'anchor', 'fill_x', 'flip',
                     'flip_vertical', 'blur', 'jitter', 'jitter_chance', 'distort', 'soften',
                     'autocontrast', 'darken', 'night_level', 'blank'):
            if getattr(self, name) is not None:
                check_number(f'augment.{name}', getattr(self, name), DataError, low=0,
                             high=highest.get(name, 1.0))

    def check(self, sample: Sample) -> None:
        """Raise DataError for a sample whose X cannot hold the value that it is filled with."""
        if sample.x.dtype.kind == 'u' and self.fill_x > np.iinfo(sample.x.dtype).max:
            raise DataError(f'augment.fill_x is {self.fill_x!r}, more than the {sample.x.dtype} '
                            f'of frame {sample.name!r} can hold')

    def __call__(self, sample: Sample, rng: np.random.Generator, prepare: Callable):
        return self.with_frame(sample, rng, prepare)[:3]

    def with_frame(self, sample: Sample, rng: np.random.Generator, prepare: Callable):
        """Return rgb, x and label, and rgb as it was before its colours were changed."""
        self.check(sample)
        fill_x = prepare(np.full((1, 1), self.fill_x, sample.x.dtype)).item()
        scaled = self._scaled(sample.rgb, prepare(sample.x), sample.label, rng)
        frame, x, label = self._rotated(*scaled, fill_x, rng)
        zoom = label.shape[1] / sample.label.shape[1]
        if sample.rgb.mean() < self.night_level:
            frame = self.x.moved(frame, rng, zoom)
        else:
            x = self.x.moved(x, rng, zoom)
        place = self._place(label, rng)
        mirror = [slice(None, None, -1 if rng.random() < self.flip else 1)]
        mirror.insert(0, slice(None, None, -1 if _happens(self.flip_vertical, rng) else 1))
        # Colours are changed before the crop is filled up, which counts for no mean or extreme.
        frame, top, left = _part(frame, *place, self.crop)
        rgb = self._recolored(frame, rng)
        x, label = (_part(image, *place, self.crop)[0] for image in (x, label))
        x = self.x.changed(x, rng)
        parts = [_filled(image, top, left, self.crop, fill)[tuple(mirror)] for image, fill in (
            (rgb, self.fill_rgb), (x, fill_x), (label, UNLABELED), (frame, self.fill_rgb))]
        parts[:2] = self._blanked(*parts[:2], rng)
        return tuple(np.ascontiguousarray(part) for part in parts)

    def _scaled(self, rgb, x, label, rng):
        """Return the three images at the size of the RGB frame times a factor."""
        size = label.shape
        factor = self._factor(rng)
        if self.base is not None:
            factor *= min(self.base[0] / min(size), self.base[1] / max(size))
        size = [max(1, round(side * factor)) for side in size]
        return (_resized(rgb, size, resized), _resized(x, size, resized),
                _resized(label[..., None], size, _nearest)[..., 0])

    def _factor(self, rng):
        low, high = self.scale
        if self.scale_step:
            return low + self.scale_step * rng.integers(1 + int((high - low) / self.scale_step
                                                                + 1e-9))
        if self.log_scale:
            return np.exp(rng.uniform(*np.log(self.scale)))
        return rng.uniform(low, high)

    def _rotated(self, rgb, x, label, fill_x, rng):
        if not self.rotate or not _happens(self.rotate_chance, rng):
            return rgb, x, label
        angle = rng.uniform(-self.rotate, self.rotate)
        height, width = label.shape
        matrix = cv2.getRotationMatrix2D(((width - 1) / 2, (height - 1) / 2), angle, 1.0)

        def turn(image, interpolation, fill):
            return cv2.warpAffine(image, matrix, (width, height), flags=interpolation,
                                  borderMode=cv2.BORDER_CONSTANT, borderValue=fill)

        x = turn(x, cv2.INTER_LINEAR, (fill_x,) * 4)
        return (turn(rgb, cv2.INTER_LINEAR, self.fill_rgb), np.atleast_3d(x),
                turn(label, cv2.INTER_NEAREST, UNLABELED))

    def _place(self, label, rng):
        """Return the row and column of the frame at which the crop begins."""
        for _ in range(1 + _RETRIES):
            place = [self._offset(label.shape[i], self.crop[i], rng) for i in (0, 1)]
            if self.max_share == 1 or self._is_mixed(_part(label, *place, self.crop)[0]):
                break
        return place

    def _offset(self, have, need, rng):
        """Return where the crop begins; negative where the frame is smaller than the crop."""
        if have < need and self.anchor is not None:
            return -int((need - have) * self.anchor)
        return int(rng.integers(min(0, have - need), max(0, have - need) + 1))

    def _is_mixed(self, label):
        counts = np.bincount(label.ravel(), minlength=UNLABELED + 1)[:UNLABELED]
        return 0 < counts.max() <= self.max_share * counts.sum()

    def _recolored(self, rgb, rng):
        """Return changed colours; the image given stays as it is."""
        if _happens(self.blur, rng):
            rgb = blurred(rgb)
        if self.jitter and _happens(self.jitter_chance, rng):
            # As plain floats they leave the image float32 in NumPy 2 as well.
            rgb = jittered(rgb, *rng.uniform(1 - self.jitter, 1 + self.jitter, 3).tolist())
        if self.distort:
            rgb = self._distorted(rgb, rng)
        if _happens(self.soften, rng):
            rgb = softened(rgb)
        if _happens(self.autocontrast, rng):
            rgb = stretched(rgb)
        return darkened(rgb, rng) if _happens(self.darken, rng) else rgb

    def _distorted(self, rgb, rng):
        if _happens(self.distort, rng):
            rgb = _levels(rgb + np.float32(rng.uniform(-_SHIFT, _SHIFT)))
        late = rng.random() < 0.5  # contrast comes before the others or after them
        contrast = rng.uniform(*_FACTORS) if _happens(self.distort, rng) else 1.0
        saturation = rng.uniform(*_FACTORS) if _happens(self.distort, rng) else 1.0
        turn = int(rng.integers(-_HUE, _HUE + 1)) if _happens(self.distort, rng) else 0
        if not late:
            rgb = _levels(rgb * np.float32(contrast))
        if saturation != 1.0 or turn:
            rgb = recolored(rgb, saturation, turn)
        return _levels(rgb * np.float32(contrast)) if late else rgb

    def _blanked(self, rgb, x, rng):
        # A network that has never missed a sensor breaks when one fails on the vehicle.
        drawn = rng.random()
        if drawn < self.blank:
            rgb = np.zeros_like(rgb)
        elif drawn < 2 * self.blank:
            x = np.full_like(x, x[x.shape[0] // 2, x.shape[1] // 2])
        return rgb, x


def _resized(image, size, how):
    """Return an image (H, W, C) of another size, as the vehicle's graph would resize it."""
    maps = how(to_batch(image).permute(0, 3, 1, 2), size)
    return np.ascontiguousarray(maps[0].permute(1, 2, 0).numpy())


def _nearest(maps, size):
    return F.interpolate(maps, size=size, mode='nearest-exact')


def _happens(chance, rng):
    return chance >= 1.0 or (chance > 0.0 and rng.random() < chance)


def _levels(image):
    return image.round().clip(0, 255).astype(np.uint8)


def blurred(rgb: np.ndarray) -> np.ndarray:
    """Return an image (H, W, 3) uint8 after a 3x3 Gaussian of 0.8 pixels."""
    return cv2.GaussianBlur(rgb, (3, 3), _BLUR_SIGMA)


def jittered(rgb: np.ndarray, brightness: float, contrast: float,
             saturation: float) -> np.ndarray:
    """Scale an image (H, W, 3) uint8, then its differences to its mean, then those to grey."""
    image = rgb.astype(np.float32) * brightness
    image = (image - image.mean()) * contrast + image.mean()
    grey = image.mean(axis=2, keepdims=True)
    return _levels((image - grey) * saturation + grey)


def recolored(rgb: np.ndarray, saturation: float, turn: int) -> np.ndarray:
    """Scale the saturation of an image (H, W, 3) uint8, and turn its hue by `turn` of 180."""
    hsv = cv2.cvtColor(rgb, cv2.COLOR_RGB2HSV)
    hsv[..., 0] = (hsv[..., 0].astype(np.int16) + turn) % 180
    hsv[..., 1] = _levels(hsv[..., 1] * np.float32(saturation))
    return cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB)


def softened(rgb: np.ndarray) -> np.ndarray:
    """Mix a tenth of an image (H, W, 3) uint8 with its 3x3 mean, the centre weighing five."""
    kernel = np.ones((3, 3), np.float32)
    kernel[1, 1] = 5.0
    mean = cv2.filter2D(rgb.astype(np.float32), -1, kernel / kernel.sum())
    out = rgb.copy()  # the outermost pixels stay as they are
    out[1:-1, 1:-1] = _levels(_SHARPNESS * rgb + (1 - _SHARPNESS) * mean)[1:-1, 1:-1]
    return out


def stretched(rgb: np.ndarray) -> np.ndarray:
    """Stretch each channel of an image (H, W, 3) uint8 to 0..255, but for constant ones."""
    low, high = (edge(rgb, axis=(0, 1)).astype(np.float32) for edge in (np.min, np.max))
    scale = np.where(high > low, 255.0 / np.maximum(high - low, 1.0), 1.0).astype(np.float32)
    return _levels((rgb - np.where(high > low, low, 0.0)) * scale)


def darkened(rgb: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Return an image (H, W, 3) uint8 as a camera takes it in little light, with its noise."""
    light = math.exp(rng.uniform(*np.log(_LIGHT)))
    noise = rng.standard_normal(rgb.shape, np.float32)
    return dimmed(rgb, light, rng.uniform(0.0, DARK_NOISE), noise)


def _part(image, top, left, size):
    """Return what a crop at `top`, `left` shows of an image, and where in the crop it begins."""
    y, x = max(0, top), max(0, left)
    part = image[y:max(0, top + size[0]), x:max(0, left + size[1])]
    return part, y - top, x - left


def _filled(part, top, left, size, fill):
    """Return an image of `size` that holds `part` at `top`, `left` and `fill` elsewhere."""
    out = np.empty((*size, *part.shape[2:]), part.dtype)
    out[...] = np.asarray(fill).astype(part.dtype)
    out[top:top + part.shape[0], left:left + part.shape[1]] = part
    return out
