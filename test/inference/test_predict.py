# Copyright 2026 rgbx_seg_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""Segmenting image files."""

import os

import numpy as np
import pytest
from rgbx_seg_ros.cards.card import load_card
from rgbx_seg_ros.frames.images import read_image, read_rgb, write_image
from rgbx_seg_ros.inference.segmenter import Segmenter
from support.picture_files import tiff, turned
from support.stand_ins import StandIn
import torch


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


def test_only_classes_that_the_mask_shows_are_told(pair, tiny_card, tmp_path, command,
                                                   monkeypatch):
    class Persons(StandIn):

        def __call__(self, rgb, *_):
            return np.full(rgb.shape[:2], 2, np.uint8), np.zeros(rgb.shape[:2], np.uint8)
    monkeypatch.setattr(Segmenter, 'from_card', lambda card, **_: Segmenter(
        load_card(card), Persons()))
    code, out, _ = command('predict', *pair, '-m', tiny_card, '-o', tmp_path / 'o.png')
    assert code == 0 and 'o.png: person 100.0 % (' in ' '.join(out.split())


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
    torch.manual_seed(0)  # of the weights that the card does not name
    code, out, _ = command('predict', rgb, x, '-m', card, '-o', tmp_path / 'o.png',
                           '--mask', mask, '--device', 'cpu')
    assert code == 0
    ids = read_image(mask)
    assert ids.shape == (100, 150)
    for i, name in enumerate(('background', 'car', 'person')):
        told = f'{name} {100 * (ids == i).mean():.1f} %' in ' '.join(out.split())
        assert told == (ids == i).any()
    assert read_rgb(tmp_path / 'o.png').shape == (100, 150, 3)


def test_a_mask_is_not_written_in_a_format_that_changes_ids(pair, tiny_card, tmp_path, command):
    for name in ('m.jpg', 'm.jp2', 'm'):
        code, _, err = command('predict', *pair, '-m', tiny_card, '--mask', tmp_path / name)
        assert code == 2 and 'allowed endings are .png, .tif, .tiff, .bmp, other' in err
        assert not (tmp_path / name).exists()


def test_the_outputs_are_written_over_the_next_time(pair, tiny_card, tmp_path, command):
    for _ in range(2):
        assert command('predict', *pair, '-m', tiny_card, '-o', tmp_path / 'o.jpg',
                       '--mask', tmp_path / 'm.png', '--device', 'cpu')[::2] == (0, '')


def test_x_in_false_colours_is_told(pair, tiny_card, tmp_path, command):
    x = tmp_path / 'iron.png'
    ramp = np.tile(np.arange(96, dtype=np.uint8), (64, 1))
    write_image(x, np.dstack([2 * ramp, ramp, 255 - ramp]))
    with pytest.warns(UserWarning, match="iron.png' is in false colours: a model for thermal"):
        command('predict', pair[0], x, '-m', tiny_card, '-o', tmp_path / 'o.png',
                '--device', 'cpu')


def test_nothing_is_written_over_what_is_read(pair, tiny_card, command):
    before = [path.read_bytes() for path in pair]
    for option, path in (('-o', pair[0]), ('--mask', pair[1]), ('--fused', pair[0])):
        code, _, err = command('predict', *pair, '-m', tiny_card, option, path)
        assert code == 2 and 'it is what is read, choose another name' in err
    assert [path.read_bytes() for path in pair] == before


@pytest.mark.parametrize('which', [0, 1])
def test_a_picture_that_cannot_be_read_is_told_in_one_line(pair, tiny_card, tmp_path, command,
                                                           which):
    for content, said in (
            (tiff(np.zeros((4, 4), np.uint8), _256=60_000, _257=60_000), '60000x60000 pixels'),
            (tiff(np.zeros((64, 96, 3), np.float64)), ''),
            (turned('.jpg', np.zeros((64, 96, 3), np.uint8)), 'EXIF orientation 6')):
        pair[which].write_bytes(content)
        code, out, err = command('predict', *pair, '-m', tiny_card, '-o', tmp_path / 'o.png')
        assert (code, out) == (2, '') and err.count('\n') == 1
        assert str(pair[which]) in err and said in err
        assert not (tmp_path / 'o.png').exists()


def test_files_may_have_names_that_are_no_text(pair, tiny_card, tmp_path, command):
    rgb, x, out = (tmp_path / os.fsdecode(name)
                   for name in (b'\xdf.png', b'x\xdf.png', b'o\xdf.png'))
    for old, new in zip(pair, (rgb, x), strict=True):
        old.rename(new)
    code, printed, err = command('predict', rgb, x, '-m', tiny_card, '-o', out)
    assert (code, err) == (0, '') and read_rgb(out).shape == read_rgb(rgb).shape
    assert 'o\\udcdf.png' in printed
