# Copyright 2026 rgbx_seg_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""
Find where frames of X lie on RGB frames, from their edges.

A warm person is bright to one camera and dark to the other, so brightness says nothing; that there
is an edge, and its direction, does. Each pixel becomes the complex number m·exp(2iφ), m the
strength of its gradient against that of its surroundings, φ the gradient's direction: twice the
angle is the same for a step up and a step down. Images of these numbers are correlated.

Most of a frame is dark road or flat sky, and two frames of different cameras share few edges. So
every tile of the frame adds up its correlation over all pairs before its peak is looked for, and
the homography is fitted to the peaks, each with the weight and in the direction that its shape
allows: an edge tells nothing of a shift along itself.
"""

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
import math

import cv2
import numpy as np
from rgbx_seg_ros.errors import DataError

Pair = tuple[np.ndarray, np.ndarray]
"""RGB frame (H, W, 3) uint8 and X frame (h, w) or (h, w, 3), NaN where it has no measurement."""

MIN_PAIRS = 3

_SEARCH_WIDTH = 160
_SEARCH_PAIRS = 12
_SCALES = tuple(1.06 ** step for step in range(-15, 16))
"""Width of X on the RGB frame against that of the RGB frame."""
_ANGLES_DEG = (-6.0, -3.0, 0.0, 3.0, 6.0)
_LEVELS = ((160, 40, 14), (160, 32, 10), (320, 48, 12), (320, 48, 10), (640, 128, 14),
           (640, 128, 12), (640, 128, 12))
"""Width of the RGB frame, side of the tiles and reach of the search, all in pixels."""
_PEAK_SIGMA = 1.5
_MIN_PEAK = 2.5
_MODEL_ERROR = 4.0
"""
What no homography can explain, in pixels: depth and the lenses' distortion. It keeps the sharpest
peaks from outvoting the others, so the error is spread over the frame.
"""
_BEND = 0.02
"""
Expected distance of the corners from where a shift, scale and turn of X would have them, in widths
of the frame. Where a dark road shows no edges it keeps a corner from running away.
"""
_REWEIGHTED = 6
_RESAMPLES = 40
_AGREES = 5.0
"""A tile agrees with a homography that its own peak is not farther from, pixels."""
_MIN_AGREEMENT = 0.25
"""Pairs of unlike frames reach an eighth, three real ones half, ten real ones two thirds."""
_MAX_SPREAD = 0.05
_MAX_MOVE = 4

DRIFT_THRESHOLD = 0.015
"""Shift above which X has drifted, in widths of the RGB frame."""
_DRIFT_WIDTH = 240
_DRIFT_REACH = 24
_DRIFT_MIN_PEAK = 4.5
"""Unlike frames stay below 4 standard deviations, a few real pairs reach 6."""

_ADVICE = ('take pairs with more structure that both cameras see (buildings, people, cars, by '
           'day), all of the same, synchronous camera pair')


@dataclass(frozen=True)
class Alignment:
    """A homography and how far it can be trusted."""

    homography: np.ndarray
    """(3, 3), pixels of X to pixels of RGB, the last number 1."""
    corner_sd_px: np.ndarray
    """(4,) standard deviation of where each corner of the RGB frame comes to lie, RGB pixels."""
    agreement: float
    """Share of the tiles with X in them, 0..1, whose own best match is some pixels off or less."""
    residual_px: float
    """Root mean square of how far these matches lie from it, RGB pixels."""


def edges(image: np.ndarray, valid: np.ndarray | None = None, sigma: float = 1.0) -> np.ndarray:
    """
    Return m·exp(2iφ) of every pixel of (H, W) or (H, W, 3) as real and imaginary part (H, W, 2).

    `sigma` px is the smoothing. Where `valid` (H, W) is 0, and around it, there is no edge.
    """
    grey = image.astype(np.float32)
    if grey.ndim == 3:
        grey = cv2.cvtColor(grey, cv2.COLOR_RGB2GRAY)
    grey = cv2.GaussianBlur(grey, (0, 0), sigma)
    dx, dy = cv2.Sobel(grey, cv2.CV_32F, 1, 0), cv2.Sobel(grey, cv2.CV_32F, 0, 1)
    if valid is not None:
        side = 2 * math.ceil(3 * sigma) + 3
        inside = cv2.erode(valid.astype(np.uint8), np.ones((side, side), np.uint8))
        dx *= inside
        dy *= inside
    energy = dx * dx + dy * dy
    side = 2 * math.ceil(14 * sigma) + 1
    around = cv2.blur(energy, (side, side)) + 0.2 * energy.mean() + 1e-12
    length = np.sqrt(energy)
    # Limited, or the one street lamp of a night would be all there is.
    strength = np.minimum(length / np.sqrt(around), 3.0) / np.maximum(energy, 1e-12)
    return cv2.merge([(dx * dx - dy * dy) * strength, 2 * dx * dy * strength])


def align(pairs: Sequence[Pair]) -> Alignment:
    """
    Estimate the homography from X to RGB that suits all `pairs`, each of the same two sizes.

    X may be 0.4 to 2.5 times as wide as RGB on the RGB frame, off its middle by a quarter of the
    frame and turned by 8 degrees. Raise DataError for fewer than `MIN_PAIRS`, and where the frames
    have too little in common.
    """
    if len(pairs) < MIN_PAIRS:
        raise DataError(f'{len(pairs)} pairs, needed are {MIN_PAIRS} or more, better 20, of '
                        'different views')
    sizes = {(rgb.shape[:2], x.shape[:2]) for rgb, x in pairs}
    if len(sizes) > 1:
        raise DataError(f'the pairs have frames of several sizes, (height, width) of RGB and X: '
                        f'{sorted(sizes)!r}; give those of one camera pair')
    (height, width), _ = sizes.pop()
    homography = _search(pairs)
    for level in _LEVELS:
        view = _View(pairs, homography, level)
        moves = _fit(view, _Peaks(view.surfaces.sum(axis=0)))
        if np.abs(moves).max() > _MAX_MOVE * view.reach:
            raise DataError(f'the alignment did not converge; {_ADVICE}')
        homography = view.moved(moves)
    view = _View(pairs, homography, _LEVELS[-1])
    spread = _spread(view) / view.zoom
    result = Alignment(homography, spread, *_agreement(view))
    return _checked(result, width)


def _checked(result, width):
    if result.agreement < _MIN_AGREEMENT:
        raise DataError('RGB and X have too few edges in common to align them: of the frame '
                        f'{result.agreement:.0%} agree with the best homography, needed are '
                        f'{_MIN_AGREEMENT:.0%}; {_ADVICE}')
    if result.corner_sd_px.max() > _MAX_SPREAD * width:
        raise DataError(f'the alignment did not converge: corners are uncertain by up to '
                        f'{result.corner_sd_px.max():.0f} px, allowed is {_MAX_SPREAD:.0%} of the '
                        f'width, {_MAX_SPREAD * width:.0f} px; {_ADVICE}')
    return result


def shrink(zoom: float) -> np.ndarray:
    """Return the matrix that takes pixels of a frame to those of one `zoom` times its size."""
    move = 0.5 * zoom - 0.5  # the middle of the first pixel is 0
    return np.array([[zoom, 0.0, move], [0.0, zoom, move], [0.0, 0.0, 1.0]])


def _resize(frame, zoom):
    size = round(frame.shape[1] * zoom), round(frame.shape[0] * zoom)
    method = cv2.INTER_AREA if zoom < 1 else cv2.INTER_LINEAR
    return cv2.resize(frame, size, interpolation=method)


def _shrunk(frame, size):
    """Return `frame` at `size` (W, H), by halves: cv2.resize is ten times as fast at these."""
    while frame.shape[1] >= 2 * size[0] and frame.shape[0] >= 2 * size[1]:
        half = frame.shape[1] // 2, frame.shape[0] // 2
        frame = cv2.resize(frame, half, interpolation=cv2.INTER_AREA)
    return cv2.resize(frame, size, interpolation=cv2.INTER_LINEAR)


def _warped_edges(x, matrix, shape):
    """Return the edges of `x` after `matrix`, on a frame of `shape` (H, W)."""
    x = x.astype(np.float32)
    valid = np.isfinite(x if x.ndim == 2 else x.sum(axis=2))
    if not valid.all():
        x = np.where(valid if x.ndim == 2 else valid[..., None], x, 0.0)
    zoom = abs(np.linalg.det(matrix[:2, :2])) ** 0.5
    if zoom < 0.7:
        x = cv2.GaussianBlur(x, (0, 0), 0.4 / zoom)
    size = shape[::-1]
    return edges(cv2.warpPerspective(x, matrix, size),
                 cv2.warpPerspective(valid.astype(np.uint8), matrix, size,
                                     flags=cv2.INTER_NEAREST))


def _search(pairs):
    """Return the best similarity, by correlating whole frames: scale, angle and shift."""
    pairs = pairs[::math.ceil(len(pairs) / _SEARCH_PAIRS)]
    zoom = _SEARCH_WIDTH / pairs[0][0].shape[1]
    small = [edges(_resize(rgb, zoom)) for rgb, _ in pairs]
    height, width = small[0].shape[:2]
    padded = cv2.getOptimalDFTSize(2 * height), cv2.getOptimalDFTSize(2 * width)
    spectra = [_spectrum(image, padded) for image in small]
    x_zoom = min(1.0, 2 * _SEARCH_WIDTH / pairs[0][1].shape[1])
    small_x = [_resize(x, x_zoom) for _, x in pairs]
    x_height, x_width = small_x[0].shape[:2]
    best, found = -1.0, None
    for scale in _SCALES:
        for angle in _ANGLES_DEG:
            # Positive angles of getRotationMatrix2D turn against the clock.
            middle = (x_width - 1) / 2, (x_height - 1) / 2
            matrix = np.eye(3)
            matrix[:2] = cv2.getRotationMatrix2D(middle, -angle, scale * width / x_width)
            matrix[:2, 2] += (width - 1) / 2 - middle[0], (height - 1) / 2 - middle[1]
            total = 0.0
            for x, spectrum in zip(small_x, spectra, strict=True):
                moved = _spectrum(_warped_edges(x, matrix, (height, width)), padded)
                total = total + cv2.mulSpectrums(spectrum, moved, 0, conjB=True)
            surface = cv2.idft(total)[..., 0]
            reach = height // 4, width // 4
            surface = np.roll(surface, reach, (0, 1))[:2 * reach[0] + 1, :2 * reach[1] + 1]
            peak = surface.max() / max(surface.std(), 1e-12)
            if peak > best:
                row, column = np.unravel_index(surface.argmax(), surface.shape)
                best, found = peak, matrix.copy()
                found[:2, 2] += column - reach[1], row - reach[0]
    return np.linalg.inv(shrink(zoom)) @ found @ shrink(x_zoom)


def _spectrum(image, padded):
    below, right = padded[0] - image.shape[0], padded[1] - image.shape[1]
    return cv2.dft(cv2.copyMakeBorder(image, 0, below, 0, right, cv2.BORDER_CONSTANT))


class _View:
    """
    The correlation of all pairs, tile by tile, under one homography and on one level.

    `surfaces` is (pairs, tiles, 2·reach + 1, 2·reach + 1): how well a tile of X fits when it is
    moved. `base` (tiles, 4) is the share of each corner's move in that of a tile's middle. `bend`
    (8, 8) takes x and y of the RGB frame's `corners` to what no shift, scale and turn of X gives.
    """

    def __init__(self, pairs, homography, level):
        width, self._side, self.reach = level
        self.zoom = width / pairs[0][0].shape[1]
        self._homography = homography
        self._matrix = shrink(self.zoom) @ homography
        self.size = width, round(pairs[0][0].shape[0] * self.zoom)
        self._tiles = [(column, row) for row in self._starts(self.size[1])
                       for column in self._starts(width)]
        middles = (np.array(self._tiles) + (self._side - 1) / 2) / (np.array(self.size) - 1)
        u, v = middles.T
        self.base = np.stack([(1 - u) * (1 - v), u * (1 - v), u * v, (1 - u) * v], axis=1)
        self.corners = np.array([[0, 0], [1, 0], [1, 1], [0, 1]]) * (np.array(self.size) - 1.0)
        self.bend = self._bend()
        self.surfaces = np.stack([self._correlate(*pair) for pair in pairs])

    def _bend(self):
        points = cv2.perspectiveTransform(self.corners[None], np.linalg.inv(self._matrix))[0]
        points -= points.mean(axis=0)
        turned = points[:, ::-1] * (-1, 1)
        fields = np.column_stack([np.tile([1, 0], 4), np.tile([0, 1], 4), points.ravel(),
                                  turned.ravel()])
        similar, _ = np.linalg.qr(fields)
        return np.eye(8) - similar @ similar.T

    def _starts(self, length):
        last = max(0, length - self._side)
        return np.linspace(0, last, 1 + math.ceil(2 * last / self._side)).round().astype(int)

    def _correlate(self, rgb, x):
        reach = self.reach
        target = cv2.copyMakeBorder(edges(_resize(rgb, self.zoom)), *[reach] * 4,
                                    cv2.BORDER_CONSTANT)
        moving = _warped_edges(x, self._matrix, self.size[::-1])
        surfaces = np.zeros((len(self._tiles), 2 * reach + 1, 2 * reach + 1), np.float32)
        for surface, (column, row) in zip(surfaces, self._tiles, strict=True):
            tile = moving[row:row + self._side, column:column + self._side]
            # Of an empty tile the normalised correlation would be noise divided by nothing.
            if np.square(tile).mean() > 1e-3:
                window = target[row:row + tile.shape[0] + 2 * reach,
                                column:column + tile.shape[1] + 2 * reach]
                surface[:] = cv2.matchTemplate(window, tile, cv2.TM_CCOEFF_NORMED)
        return np.nan_to_num(surfaces).clip(-1, 1)

    def moved(self, moves):
        """Return the homography after `moves` (4, 2) of the corners of the RGB frame."""
        change = cv2.getPerspectiveTransform(self.corners.astype(np.float32),
                                             (self.corners + moves).astype(np.float32))
        back = np.linalg.inv(shrink(self.zoom))
        homography = back @ change @ shrink(self.zoom) @ self._homography
        return homography / homography[2, 2]


class _Peaks:
    """
    The peak of each surface: `shift` (tiles, 2) in x and y, `height` and `weight` (tiles, 2, 2).

    The weight is the inverse covariance of the shift. What surrounds a peak is noise that went
    through the same filter, so its gradient varies as the peak is curved: covariance = inverse
    curvature / height, in units of the surface's standard deviation.
    """

    def __init__(self, surfaces):
        count, side, _ = surfaces.shape
        self.shift, self.height = np.zeros((count, 2)), np.zeros(count)
        self.weight = np.zeros((count, 2, 2))
        for i, surface in enumerate(surfaces):
            smooth = cv2.GaussianBlur(surface, (0, 0), _PEAK_SIGMA).astype(float)
            deviation = smooth.std()
            row, column = np.unravel_index(smooth.argmax(), smooth.shape)
            if deviation < 1e-6 or not (0 < row < side - 1 and 0 < column < side - 1):
                continue
            smooth = (smooth - np.median(smooth)) / deviation
            (a, b, c), (d, e, f), (g, h, k) = smooth[row - 1:row + 2, column - 1:column + 2]
            slope = np.array([f - d, h - b]) / 2
            mixed = (a + k - c - g) / 4
            curvature, axes = np.linalg.eigh(-np.array([[d + f - 2 * e, mixed],
                                                        [mixed, b + h - 2 * e]]))
            curvature = np.maximum(curvature, 1e-4)
            rest = np.clip(axes @ ((slope @ axes) / curvature), -1, 1)
            self.shift[i] = np.array([column, row]) - side // 2 + rest
            self.height[i] = e
            self.weight[i] = (axes * curvature) @ axes.T * e


def _fit(view, peaks):
    """
    Return the moves of the corners (4, 2), in x and y, that suit the peaks best.

    Least squares, repeated with the weights of Geman and McClure: at night many tiles have no
    edges in common, and their peaks are anywhere.
    """
    known = peaks.height > _MIN_PEAK
    base, shift = view.base[known], peaks.shift[known]
    weight = np.linalg.inv(np.linalg.inv(peaks.weight[known]) + _MODEL_ERROR ** 2 * np.eye(2))
    bend = view.bend / (_BEND * view.size[0]) ** 2
    pull = bend @ view.corners.ravel()
    trusted = weight
    for _ in range(_REWEIGHTED):
        left = np.einsum('kp,kij,kq->piqj', base, trusted, base).reshape(8, 8)
        right = np.einsum('kp,kij,kj->pi', base, trusted, shift).reshape(8)
        moves = np.linalg.solve(left + bend + 1e-6 * np.eye(8), right - pull).reshape(4, 2)
        rest = np.square(shift - base @ moves).sum(axis=1)
        trusted = weight / np.square(1 + rest / view.reach ** 2)[:, None, None]
    return moves


def _spread(view):
    """Return the standard deviation (4,) of the corners over pairs drawn anew (bootstrap)."""
    rng = np.random.default_rng(0)
    count = len(view.surfaces)
    moves = np.stack([
        _fit(view, _Peaks(view.surfaces[rng.integers(count, size=count)].sum(axis=0)))
        for _ in range(_RESAMPLES)])
    return np.sqrt(moves.var(axis=0).sum(axis=1))


def agreement(pairs: Sequence[Pair], homography: np.ndarray) -> tuple[float, float]:
    """
    Return the share of the tiles that agree with a homography from X to RGB, and their residual.

    The residual is the root mean square of the tiles that agree, in RGB pixels.
    """
    return _agreement(_View(pairs, homography, _LEVELS[-1]))


def _agreement(view):
    covered = view.surfaces.any(axis=(0, 2, 3))
    if not covered.any():
        return 0.0, math.nan
    peaks = _Peaks(view.surfaces[:, covered].sum(axis=0))
    rest = np.linalg.norm(peaks.shift, axis=1)
    agrees = (peaks.height > _MIN_PEAK) & (rest < _AGREES)
    residual = math.sqrt(np.square(rest[agrees]).mean()) / view.zoom if agrees.any() else math.nan
    return float(agrees.mean()), residual


@dataclass(frozen=True)
class Drift:
    """Where X lies on RGB now, as far as can be told."""

    shift_px: tuple[float, float] | None
    """How far X must move right and down to fit, RGB pixels; None where too few edges tell."""
    drifting: bool
    """Whether the shift has been too large for the whole window."""


class DriftMonitor:
    """
    Watches whether X, after its registration, still lies on RGB.

    Of every `every`-th pair the edges of both frames are correlated, and the last `window` of
    these correlations added up. X drifts when the older and the newer half of them tell the same
    shift, of more than `threshold` times the width of the frame. Shifts up to a tenth of the width
    are found.
    """

    def __init__(self, threshold: float = DRIFT_THRESHOLD, every: int = 10, window: int = 40):
        self._threshold, self._every = threshold, every
        self._surfaces: deque[np.ndarray] = deque(maxlen=window)
        self._count = 0
        self._rgb_shape = 0, 0

    def add(self, rgb: np.ndarray, x: np.ndarray, seen: np.ndarray | None = None) -> bool:
        """
        Take a pair and return whether it was looked at.

        `x` is on the RGB frame, or shows the same view at another size; `seen` (bool, the shape of
        `x` without its channels) is where it holds pixels of X, by default where it is finite.
        """
        self._count += 1
        if (self._count - 1) % self._every:
            return False
        size = _DRIFT_WIDTH, max(2, round(rgb.shape[0] * _DRIFT_WIDTH / rgb.shape[1]))
        if x.dtype.kind == 'f':
            finite = np.isfinite(x if x.ndim == 2 else x.sum(axis=2))
            seen = finite if seen is None else finite & seen
            x = np.nan_to_num(x, nan=0.0, posinf=0.0, neginf=0.0)
        if seen is not None:
            seen = cv2.resize(seen.astype(np.uint8), size, interpolation=cv2.INTER_NEAREST)
        spectra = [cv2.dft(image) for image in (
            edges(_shrunk(rgb, size)), edges(_shrunk(x, size), seen))]
        energy = math.prod(map(cv2.norm, spectra))
        surface = cv2.idft(cv2.mulSpectrums(*spectra, 0, conjB=True))[..., 0] / max(energy, 1e-12)
        reach = min(_DRIFT_REACH, size[1] // 2 - 1)
        if rgb.shape[:2] != self._rgb_shape:  # a camera has changed its mode
            self._surfaces.clear()
            self._rgb_shape = rgb.shape[:2]
        self._surfaces.append(
            np.roll(surface, (reach, reach), (0, 1))[:2 * reach + 1, :2 * reach + 1])
        return True

    def state(self) -> Drift:
        """Return what the pairs so far tell."""
        shift = self._shift(self._surfaces)
        limit = self._threshold * self._rgb_shape[1]
        full = len(self._surfaces) == self._surfaces.maxlen
        if not full or shift is None or math.hypot(*shift) <= limit:
            return Drift(shift, False)
        half = len(self._surfaces) // 2
        halves = [self._shift(list(self._surfaces)[:half]),
                  self._shift(list(self._surfaces)[half:])]
        drifting = (None not in halves and min(math.hypot(*one) for one in halves) > limit
                    and math.dist(*halves) < limit)
        return Drift(shift, drifting)

    def _shift(self, surfaces):
        if not surfaces:
            return None
        peaks = _Peaks(np.sum(surfaces, axis=0, keepdims=True))
        if peaks.height[0] < _DRIFT_MIN_PEAK:
            return None
        right, down = peaks.shift[0] * self._rgb_shape[1] / _DRIFT_WIDTH
        return float(right), float(down)
