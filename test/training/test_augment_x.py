# Copyright 2026 rgbx_seg_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""What befalls X alone in training: RGB and label stay as they are."""

import numpy as np
import pytest
from rgbx_seg_ros.datasets import Sample
from rgbx_seg_ros.errors import DataError
from rgbx_seg_ros.training.augment import Augment
from rgbx_seg_ros.training.augment_x import AugmentX

H, W = 64, 96
PLAIN = {'scale': (1.0, 1.0), 'flip': 0.0, 'jitter': 0.0, 'blank': 0.0}
GREY = np.full((H, W, 1), 0.5, np.float32)
EACH = {'move': 9.0, 'gain': 0.5, 'offset': 0.2, 'blur': 1.0, 'noise': 0.1, 'stripes': 0.1,
        'patches': 1.0}


def rng(seed=0):
    return np.random.default_rng(seed)


def ramp():
    """Return an X that says where it is: the column over W, in one channel."""
    return np.tile(np.arange(W, dtype=np.float32)[None, :, None] / W, (H, 1, 1))


def edge(column):
    """Return a sample whose left part is bright, up to `column`, in all three images."""
    x = np.full((H, W), 60, np.uint8)
    x[:, :column] = 200
    return Sample('a', np.dstack([x] * 3), x, x // 200)


def unit(x):
    return np.atleast_3d(x).astype(np.float32) / 255


@pytest.mark.parametrize('change', EACH)
@pytest.mark.parametrize('seed', range(3))
def test_x_alone_changes_and_stays_within_its_limits(change, seed):
    sample = edge(40)
    plain = Augment((H, W), **PLAIN)(sample, rng(seed), unit)
    rgb, x, label = Augment((H, W), **PLAIN, x=AugmentX(**{change: EACH[change]}))(
        sample, rng(seed), unit)
    assert np.array_equal(rgb, plain[0]) and np.array_equal(label, plain[2])
    assert x.shape == plain[1].shape and x.dtype == np.float32
    assert not np.array_equal(x, plain[1])
    assert 0.0 <= x.min() and x.max() <= 1.0
    assert sample.x.max() == 200, 'the sample was changed'


@pytest.mark.parametrize('level, darken, rgb_moves', [
    (0.0, 0.0, False), (0.0, 1.0, False),  # never at night, unless it is asked for
    (100.0, 0.0, False), (100.0, 1.0, False), (180.0, 0.0, True)])
def test_in_the_dark_rgb_moves_against_x_and_label(level, darken, rgb_moves):
    """The mean level is 118; as stored it counts, as a frame made dark was labeled by day."""
    sample, moved = edge(40), {'rgb': [], 'x': []}
    augment = Augment((H, W), **PLAIN, darken=darken, night_level=level, x=AugmentX(move=9.0))
    for seed in range(10):
        _, x, label, frame = augment.with_frame(sample, rng(seed), unit)
        assert np.array_equal(label, sample.label)
        moved['rgb'].append(not np.array_equal(frame, sample.rgb))
        moved['x'].append(not np.array_equal(x, unit(sample.x)))
    assert moved == {'rgb': 10 * [rgb_moves], 'x': 10 * [not rgb_moves]}


def test_without_a_change_x_is_the_one_given():
    x = ramp()
    assert AugmentX().moved(x, rng(), 1.0) is x and AugmentX().changed(x, rng()) is x


def test_three_channels_stay_three():
    x = np.dstack([ramp()] * 3)
    augment = AugmentX(**EACH)
    out = augment.changed(augment.moved(x, rng(), 1.0), rng())
    assert out.shape == x.shape and out.dtype == np.float32


@pytest.mark.parametrize('factor', [1.0, 0.5])
def test_a_move_shifts_by_pixels_of_the_frame_as_stored(factor):
    """The middle moves by the shift alone, and along each axis as far as it may."""
    augment, shifts = AugmentX(move=5.0), []
    for seed in range(300):
        out = augment.moved(ramp(), rng(seed), factor)
        middle = out[H // 2 - 1:H // 2 + 1, W // 2 - 1:W // 2 + 1].mean()
        shifts.append((W - 1) / 2 - W * middle)
    assert 4.0 * factor < max(shifts) < 5.7 * factor  # in a frame that is scaled up to a tenth
    assert -5.7 * factor < min(shifts) < -4.0 * factor
    assert abs(np.mean(shifts)) < factor


def test_a_move_turns_and_scales_as_well():
    """At the edge of the middle row, a shift, a scale and a rotation may add up to twice."""
    far = []
    for seed in range(300):
        middle, left = (AugmentX(move=6.0).moved(ramp(), rng(seed), 1.0)[H // 2, i, 0] * W
                        for i in (W // 2, 12))
        far.append((middle - left) - (W // 2 - 12))
    assert 3.0 < max(far) < 6.0 and -6.0 < min(far) < -3.0, 'no scale, or a wrong one'


def test_a_gain_divides_as_far_as_it_multiplies():
    factors = [AugmentX(gain=1.0).changed(GREY[:1, :1] / 4, rng(seed)).item() / 0.125
               for seed in range(400)]
    assert 0.5 <= min(factors) < 0.52 and 1.95 < max(factors) <= 2.0
    assert abs(np.median(np.log(factors))) < 0.1


def test_an_offset_is_one_for_the_frame():
    values = [np.unique(AugmentX(offset=0.2).changed(GREY, rng(seed))) for seed in range(200)]
    assert all(len(each) == 1 for each in values)
    assert min(values) < 0.32 and max(values) > 0.68


def test_noise_is_of_pixels_and_stripes_are_of_columns():
    noise = [AugmentX(noise=0.1).changed(GREY, rng(seed)) for seed in range(50)]
    assert 0.08 < max(each.std() for each in noise) < 0.105
    assert min(each.std() for each in noise) < 0.02
    assert np.abs(np.corrcoef(noise[0][0, :, 0], noise[0][1, :, 0])[0, 1]) < 0.5
    stripes = [AugmentX(stripes=0.1).changed(GREY, rng(seed)) for seed in range(50)]
    assert 0.08 < max(each[0].std() for each in stripes) < 0.13
    assert all(not np.ptp(each, axis=0).any() for each in stripes)


def test_patches_are_lost_as_often_as_they_should_and_nowhere_else():
    shares = []
    for seed in range(400):
        out = AugmentX(patches=0.25).changed(GREY, rng(seed))
        assert set(np.unique(out)) <= {0.0, 0.5}
        shares.append((out == 0).mean())
    lost = [share for share in shares if share]
    assert 0.18 < len(lost) / len(shares) < 0.32
    assert min(lost) > 0.005 and max(lost) < 3 * 0.4 ** 2


@pytest.mark.parametrize(('name', 'bad', 'needed'), [
    ('move', -1.0, 'allowed is 0 to 100'), ('gain', 10.0, 'allowed is 0 to 9'),
    ('noise', 1.5, 'allowed is 0 to 1'),
    ('patches', float('nan'), 'a finite number')])
def test_impossible_settings_are_named(name, bad, needed):
    with pytest.raises(DataError, match=rf'^augment\.x\.{name} is {bad!r}, .*{needed}'):
        AugmentX(**{name: bad})
