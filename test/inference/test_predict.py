# Copyright 2026 rgbx_seg_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""Segmenting image files."""

import cv2
import numpy as np
import pytest
from rgbx_seg_ros.errors import DataError
from rgbx_seg_ros.frames.images import read_image, read_rgb, write_image
from rgbx_seg_ros.inference.segmenter import Segmenter


@pytest.fixture
def pair(tmp_path, write_frames):
    folder = write_frames(tmp_path / 'data', 1, x_type=np.uint16)
    return folder / 'rgb' / 'a0.png', folder / 'thermal' / 'a0.png'


def test_overlay_and_mask_are_those_of_the_segmenter(pair, tiny_card, tmp_path, command):
    overlay, mask = tmp_path / 'o.png', tmp_path / 'm.png'
    code, out, err = command('predict', *pair, '-m', tiny_card, '-o', overlay, '--mask', mask,
                             '--device', 'cpu')
    assert (code, err) == (0, '')
    segmenter = Segmenter.from_card(tiny_card, device='cpu')
    rgb = read_rgb(pair[0])
    expected = segmenter(rgb, read_image(pair[1])).mask
    assert np.array_equal(read_image(mask), expected)
    assert np.array_equal(read_rgb(overlay), segmenter.labels.overlay(rgb, expected))
    share = 100 * (expected == 1).mean()
    said = ' '.join(out.split())
    assert f'{overlay}: background' in said and f'car {share:.1f} %' in said and 'on cpu' in said


@pytest.mark.filterwarnings("ignore:card 'tiny' has no weights")
def test_a_fused_image_is_written_where_the_network_makes_one(
        pair, tiny_card, write_card, tmp_path, command):
    fused = tmp_path / 'f.png'
    code, _, err = command('predict', *pair, '-m', tiny_card, '--fused', fused)
    assert code == 2 and "'ms_irtnet' makes no fused image" in err
    card = write_card(network='difusionseg', network_args={'backbone': 'atto', 'steps': 1},
                      x={'kind': 'thermal', 'mean': [0.5], 'std': [0.2]})
    code, *_ = command('predict', *pair, '-m', card, '-o', tmp_path / 'o.png',
                       '--fused', fused, '--device', 'cpu')
    assert code == 0
    assert read_rgb(fused).shape == read_rgb(pair[0]).shape


@pytest.mark.filterwarnings("ignore:card 'tiny' has no weights")
def test_a_card_with_a_window_takes_an_image_of_any_size(write_card, tmp_path, command):
    pytest.importorskip('rasterio', reason='large images need rasterio')
    card = write_card(input_size=[64, 64], window={'size': 64, 'stride': 48})
    rgb, x, mask = (tmp_path / name for name in ('rgb.png', 'x.tif', 'mask.png'))
    image = np.random.default_rng(0).integers(0, 256, (100, 150, 3), np.uint8)
    write_image(rgb, image)
    write_image(x, image[..., 0])
    code, out, _ = command('predict', rgb, x, '-m', card, '-o', tmp_path / 'o.png',
                           '--mask', mask, '--device', 'cpu')
    assert code == 0
    ids = read_image(mask)
    assert ids.shape == (100, 150)
    assert f'car {100 * (ids == 1).mean():.1f} %' in ' '.join(out.split())
    assert read_rgb(tmp_path / 'o.png').shape == (100, 150, 3)


def test_an_image_is_written_as_it_is_read(tmp_path):
    rgb = np.random.default_rng(0).integers(0, 256, (8, 12, 3), np.uint8)
    for image in (rgb, rgb[..., 0], rgb[..., 0].astype(np.uint16) * 200):
        write_image(tmp_path / 'a.png', image)
        assert np.array_equal(cv2.imread(str(tmp_path / 'a.png'), -1), image[..., ::-1]
                              if image.ndim == 3 else image)


@pytest.mark.parametrize(('path', 'message'), [
    ('a.foo', 'its ending names no image format, use .png'),
    ('a', 'its ending names no image format'),
    ('nowhere/a.png', 'No such file or directory'),
    ('', 'its ending names no image format'),
])
def test_an_image_that_cannot_be_written_is_told_and_opencv_keeps_quiet(tmp_path, path, message,
                                                                        capfd):
    with pytest.raises(DataError, match=message):
        write_image(tmp_path / path, np.zeros((4, 4), np.uint8))
    assert capfd.readouterr().err == ''


def test_a_mask_is_not_written_in_a_format_that_changes_ids(pair, tiny_card, tmp_path, command):
    code, _, err = command('predict', *pair, '-m', tiny_card, '--mask', tmp_path / 'm.jpg')
    assert code == 2 and 'changes class ids, use .png' in err
    assert not (tmp_path / 'm.jpg').exists()
