# Copyright 2026 rgbx_seg_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""Freezing a golden frame."""

import numpy as np
import pytest
from rgbx_seg_ros.cards.card import load_card
from rgbx_seg_ros.errors import DataError
from rgbx_seg_ros.frames.images import read_image, read_rgb, write_image
from rgbx_seg_ros.inference.golden import freeze
from rgbx_seg_ros.inference.segmenter import Segmenter
from rgbx_seg_ros.inference.self_test import load_golden
from support.stand_ins import StandIn


class WarmIsPerson(StandIn):
    """Class 2 wherever X is warm."""

    def __call__(self, rgb, x, x_limits, sensors):
        mask = np.where(x > 100, 2, 0).astype(np.uint8)
        return mask, mask


@pytest.fixture
def segmenter(write_card):
    return Segmenter(load_card(write_card()), WarmIsPerson())


def pair(height, width):
    x = np.zeros((height, width), np.uint8)
    x[:, width // 2:] = 200
    return np.zeros((height, width, 3), np.uint8), x


def test_a_large_pair_is_made_smaller_and_a_small_one_stays(segmenter):
    for size, smaller in (((480, 640), (240, 320)), ((100, 160), (100, 160))):
        golden = freeze(segmenter, *pair(*size))
        assert golden.rgb.shape[:2] == golden.x.shape == golden.mask.shape == smaller
        assert (golden.mask[:, smaller[1] // 2:] == 2).all()


def test_a_pair_in_which_one_class_alone_is_seen_is_refused(segmenter):
    rgb, x = pair(100, 160)
    with pytest.raises(DataError, match="'tiny' sees one class alone in this pair, or specks"):
        freeze(segmenter, rgb, np.zeros_like(x))


def test_the_command_freezes_what_the_model_makes_of_two_files(tmp_path, command):
    from rgbx_seg_ros.resources import share_dir

    name = 'msrs_scene'
    scene = sorted((share_dir() / 'demo' / 'rgb').iterdir())[0].stem
    rgb, x = (share_dir() / 'demo' / file
              for file in (f'rgb/{scene}.jpg', f'thermal/{scene}.png'))
    out = tmp_path / 'g.npz'
    for _ in range(2):
        code, printed, _ = command('golden', name, rgb, x, '-o', out)
        assert code == 0 and f'wrote {out}' in printed
    golden = load_golden(out)
    zoom = max(golden.mask.shape) / max(read_rgb(rgb).shape)
    assert zoom < 1 and golden.x.dtype == read_image(x).dtype
    write_image(tmp_path / 'rgb.jpg', np.zeros((40, 40, 3), np.uint8))
    write_image(tmp_path / 'x.png', np.zeros((40, 40), np.uint8))
    code, _, err = command(
        'golden', 'potholes', tmp_path / 'rgb.jpg', tmp_path / 'x.png', '-o', out)
    assert code == 2 and 'sees one class alone' in err
