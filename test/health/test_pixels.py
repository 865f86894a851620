# Copyright 2026 rgbx_seg_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""What fingerprint and saturation tell of real frames, of noise and of frames without content."""

from pathlib import Path

import numpy as np
import pytest
from rgbx_seg_ros.errors import FrameError
from rgbx_seg_ros.frames.images import read_image
from rgbx_seg_ros.health.monitor import fingerprint, HealthSettings, saturation

DEMO = Path(__file__).parents[2] / 'demo'
FRAMES = {f'{path.parent.name}/{path.stem}': path
          for kind in ('rgb', 'thermal') for path in sorted((DEMO / kind).iterdir())}
NIGHT = sorted(name for name in FRAMES if name.startswith('rgb/') and name.endswith('N'))


@pytest.fixture(scope='module')
def frames():
    return {name: read_image(path) for name, path in FRAMES.items()}


def padded(frame, rng):
    """Return a view with the same pixels in rows that end in random bytes."""
    row_bytes = frame.itemsize * frame[0].size
    rows = rng.integers(0, 256, (frame.shape[0], row_bytes + 64), np.uint8)
    rows[:, :row_bytes] = np.ascontiguousarray(frame).reshape(frame.shape[0], -1).view(np.uint8)
    return np.ndarray(frame.shape, frame.dtype, rows, 0,
                      (rows.strides[0], *frame.strides[1:]))


@pytest.mark.parametrize('name', FRAMES)
def test_the_fingerprint_is_that_of_the_pixels_whatever_the_padding(frames, name):
    rng = np.random.default_rng(1)
    frame = frames[name]
    assert fingerprint(frame) == fingerprint(frame.copy())
    assert fingerprint(frame) == fingerprint(padded(frame, rng)) == fingerprint(
        padded(frame, rng))


@pytest.mark.parametrize('name', FRAMES)
def test_the_least_noise_changes_the_fingerprint_of_a_real_frame(frames, name):
    rng = np.random.default_rng(1)
    frame = frames[name]
    for _ in range(20):
        noise = rng.random(frame.shape[:2]) < 1e-3  # one pixel in a thousand, one level
        noisy = frame.copy()
        noisy[noise] ^= 1
        assert fingerprint(noisy) != fingerprint(frame)


def test_noise_that_a_dark_camera_cuts_off_still_changes_the_fingerprint(frames):
    rng = np.random.default_rng(1)
    for name in NIGHT:
        frame = frames[name].astype(int)
        prints = {fingerprint(np.clip(frame - 40 + rng.normal(0, 1, frame.shape).round(),
                                      0, 255).astype(np.uint8)) for _ in range(10)}
        assert len(prints) == 10


def test_a_lamp_that_moves_in_the_dark_changes_the_fingerprint():
    dark = np.zeros((480, 640, 3), np.uint8)
    prints = {fingerprint(dark)}
    for row in range(0, 472, 9):
        lamp = dark.copy()
        lamp[row:row + 8, 300:308] = 200
        prints.add(fingerprint(lamp))
    assert len(prints) == 1 + len(range(0, 472, 9))


def test_every_real_frame_has_a_fingerprint_of_its_own(frames):
    assert len({fingerprint(frame) for frame in frames.values()}) == len(FRAMES) == 20


def test_compressed_bytes_have_a_fingerprint_too():
    one, other = (FRAMES[name].read_bytes() for name in NIGHT[:2])
    changed = bytearray(one)
    changed[len(one) // 2] ^= 1
    prints = [fingerprint(np.frombuffer(data, np.uint8)) for data in (one, other, changed, one)]
    assert len(set(prints)) == 3
    assert prints[0] == prints[3]


@pytest.mark.parametrize('name', FRAMES)
def test_no_real_frame_is_near_saturation(frames, name):
    assert saturation(frames[name]) < 0.3


@pytest.mark.parametrize('name', NIGHT)
def test_a_night_is_not_taken_for_a_covered_lens(frames, name):
    black_level = np.clip(frames[name].astype(int) - 40, 0, 255).astype(np.uint8)
    assert np.mean((black_level == 0).all(axis=2)) > 0.5, 'most of it is black'
    assert saturation(black_level) < HealthSettings().saturated_share


@pytest.mark.parametrize('frame', [
    np.zeros((480, 640, 3), np.uint8), np.full((480, 640, 3), 255, np.uint8),
    np.full((480, 640), 65535, np.uint16), np.full((480, 640), 16383, np.uint16),
    np.full((480, 640), 16383, '>u2'), np.full((480, 640), np.nan, np.float32),
    np.full((480, 640), -np.inf, np.float32), np.full((480, 640), 21.5, np.float32),
    np.zeros((480, 640), np.float32), np.full((480, 640, 3), (0, 0, 200), np.uint8),
    np.full((480, 640, 4), (0, 0, 0, 255), np.uint8), np.full((480, 640, 2), (128, 16), np.uint8),
    np.zeros((1, 1), np.uint8)],
    ids=['black', 'white', 'full scale', '14 bits', 'big endian', 'nan', 'inf', 'one temperature',
         'no depth', 'blue screen', 'black with alpha', 'black yuv', 'one pixel'])
def test_a_frame_that_shows_nothing_is_saturated(frame):
    assert saturation(frame) == 1.0


def test_limits_of_both_ends_and_gaps_of_every_kind_add_up():
    depth = np.arange(480 * 640, dtype=np.uint16).reshape(480, 640) % 5000 + 500
    depth[:192] = 0
    depth[192:288] = 65535
    assert saturation(depth) == pytest.approx(0.6, abs=0.02)
    metres = depth.astype(np.float32)
    metres[:192] = np.nan
    metres[192:288] = np.inf
    assert saturation(metres) == pytest.approx(0.6, abs=0.02)


def test_a_pixel_counts_when_all_its_channels_are_at_a_limit():
    frame = np.full((480, 640, 3), 255, np.uint8)
    frame[..., 0] = np.arange(640) % 250 + 3  # white but for the red
    assert saturation(frame) < 0.1


@pytest.mark.parametrize('share', [0.6, 0.9, 0.97])
def test_the_share_of_one_value_is_measured(share):
    rng = np.random.default_rng(1)
    frame = rng.integers(2000, 9000, (480, 640)).astype(np.uint16)
    frame[rng.random(frame.shape) < share] = 16383
    assert saturation(frame) == pytest.approx(share, abs=0.02)


def test_colours_of_a_mosaic_are_all_looked_at():
    bayer = np.zeros((480, 640), np.uint8)
    bayer[1::2, 1::2] = np.random.default_rng(1).integers(20, 200, (240, 320))
    assert saturation(bayer) == pytest.approx(0.75, abs=0.02)


def test_a_padded_frame_is_measured_without_its_padding():
    assert saturation(padded(np.zeros((480, 640, 3), np.uint8), np.random.default_rng(1))) == 1


@pytest.mark.parametrize('frame', [
    np.zeros(9, np.uint8), np.zeros((0, 4), np.uint8), np.zeros((4, 4), complex),
    np.zeros((1, 4, 4, 3), np.uint8)])
def test_what_is_not_a_frame_cannot_be_measured(frame):
    with pytest.raises(FrameError, match=r'frame is an array .*needed is'):
        saturation(frame)


def test_fingerprint_and_saturation_read_a_small_part_of_a_large_frame(monkeypatch):
    read = []
    copy = np.ascontiguousarray
    monkeypatch.setattr(np, 'ascontiguousarray',
                        lambda *a, **k: read.append(copy(*a, **k)) or read[-1])
    frame = np.zeros((2160, 3840, 3), np.uint8)
    fingerprint(frame)
    saturation(frame)
    assert read[0].size < frame.size / 30
    assert read[1].size < 3 * 5000
