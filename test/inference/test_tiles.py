# Copyright 2026 rgbx_seg_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""Sliding a network's window over large image files."""

import os
import sys

import numpy as np
import pytest
from rgbx_seg_ros.cards.card import load_card
from rgbx_seg_ros.errors import DataError
from rgbx_seg_ros.files import check_outputs
from rgbx_seg_ros.frames.images import read_image, read_rgb, write_image
from rgbx_seg_ros.inference.tiles import segment_tiles, window_starts
from rgbx_seg_ros.networks import Network
from support.picture_files import turned
import torch
from torch import nn
from torch.nn import functional as F

rasterio = pytest.importorskip('rasterio', reason='large images need rasterio')

pytestmark = pytest.mark.filterwarnings('ignore::rasterio.errors.NotGeoreferencedWarning')
SIZE, STRIDE = 32, 12
HEIGHT, WIDTH = 75, 101  # no multiples of anything: the last windows are shifted and repeat


class Tiny(Network):
    """Three classes from a pixel's neighbours and from where in the window it lies."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.conv = nn.Conv2d(4, 3, 5)
        self.bias = nn.Parameter(torch.randn(3, SIZE, SIZE))
        self.seen = []

    def forward(self, rgb, x):
        self.seen.append((rgb, x))
        images = torch.cat((rgb, x), dim=1)
        return self.conv(F.pad(images, (2, 2, 2, 2))) + 0.2 * self.bias


@pytest.fixture
def card(write_card):
    """Return a function that makes the card of `Tiny`."""
    def make(**x):
        path = write_card(
            input_size=[SIZE, SIZE], window={'size': SIZE, 'stride': STRIDE},
            x={'kind': 'dsm', 'mean': [0.25], 'std': [0.5], 'normalization': 'minmax', **x})
        return load_card(path)
    return make


@pytest.fixture
def images():
    rng = np.random.default_rng(0)
    return (rng.integers(0, 256, (HEIGHT, WIDTH, 3), np.uint8),
            rng.uniform(-20, 300, (HEIGHT, WIDTH)).astype(np.float32))


def write_tiff(path, image, **options):
    image = image[None] if image.ndim == 2 else image.transpose(2, 0, 1)
    with rasterio.open(path, 'w', driver='GTiff', count=len(image), height=image.shape[1],
                       width=image.shape[2], dtype=image.dtype, **options) as file:
        file.write(image)
    return path


@pytest.fixture
def pair(tmp_path, images):
    return [write_tiff(tmp_path / name, image)
            for name, image in zip(('rgb.tif', 'x.tif'), images, strict=True)]


def expected(card, rgb, x):
    """Run every window by itself, those that repeat as often as they do, and add up the logits."""
    net = Tiny()
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in (card.rgb.mean, card.rgb.std))
    rgb = (torch.from_numpy(rgb).permute(2, 0, 1) / 255.0 - mean) / std
    scaled = (x - np.nanmin(x)) / (np.nanmax(x) - np.nanmin(x))
    x = (torch.from_numpy(np.nan_to_num(scaled)).float()[None] - 0.25) / 0.5
    sums = torch.zeros(3, HEIGHT, WIDTH)
    for top in range(0, HEIGHT, STRIDE):
        for left in range(0, WIDTH, STRIDE):
            top, left = min(top, HEIGHT - SIZE), min(left, WIDTH - SIZE)
            place = slice(None), slice(top, top + SIZE), slice(left, left + SIZE)
            with torch.inference_mode():
                sums[place] += net(rgb[place][None], x[place][None])[0]
    return sums.argmax(0).numpy()


def test_windows_that_would_leave_the_image_are_shifted_back_and_count_as_often():
    assert window_starts(100, 32, 32) == [(0, 1), (32, 1), (64, 1), (68, 1)]
    assert window_starts(64, 32, 16) == [(0, 1), (16, 1), (32, 2)]
    assert window_starts(50, 32, 8) == [(0, 1), (8, 1), (16, 1), (18, 4)]
    assert window_starts(32, 32, 32) == [(0, 1)]


@pytest.mark.parametrize('batch', [1, 4, 100])
def test_the_mask_is_that_of_all_windows_added_up(card, pair, images, tmp_path, batch):
    mask = tmp_path / 'mask.tif'
    counts = segment_tiles(Tiny(), card(), *pair, mask, batch=batch, progress=False)
    wanted = expected(card(), *images)
    np.testing.assert_array_equal(read_image(mask), wanted)
    assert counts.tolist() == np.bincount(wanted.ravel(), minlength=3).tolist()
    assert min(counts) > 100, 'the case does not tell classes apart'


def test_no_window_runs_twice(card, pair):
    net = Tiny()
    segment_tiles(net, card(), *pair, progress=False)
    rows, columns = (window_starts(side, SIZE, STRIDE) for side in (HEIGHT, WIDTH))
    assert sum(len(rgb) for rgb, _ in net.seen) == len(rows) * len(columns) == 35


@pytest.mark.parametrize(('ending', 'dtype'), [
    ('.tif', np.uint8), ('.tif', np.uint16), ('.tif', np.int16), ('.tif', np.float64),
    ('.png', np.uint8), ('.png', np.uint16)])
def test_integers_and_floats_of_both_formats_are_read(card, images, tmp_path, ending, dtype):
    rgb, x = images
    x = (x - x.min() * (np.dtype(dtype).kind == 'u')).clip(None, 250).astype(dtype)
    paths = tmp_path / f'rgb{ending}', tmp_path / f'x{ending}'
    if ending == '.png':
        for path, image in zip(paths, (rgb, x), strict=True):
            write_image(path, image)
    else:
        write_tiff(paths[0], rgb)
        write_tiff(paths[1], x)
    segment_tiles(Tiny(), card(), *paths, tmp_path / 'mask.png', progress=False)
    wanted = expected(card(), rgb, x)
    assert (read_image(tmp_path / 'mask.png') != wanted).mean() < 1e-3  # rounding


@pytest.mark.parametrize('given', ['nodata', 'integer nodata', 'nan', 'invalid'])
def test_pixels_without_data_neither_stretch_the_range_nor_reach_the_network(
        card, images, tmp_path, given):
    rgb, x = images
    x[10:20, 30:60] = {'nan': np.nan, 'invalid': 5e6}.get(given, -9999.0)
    if given == 'integer nodata':
        x = x.astype(np.int16)
    options = {'nodata': -9999.0} if 'nodata' in given else {}
    paths = write_tiff(tmp_path / 'rgb.tif', rgb), write_tiff(tmp_path / 'x.tif', x, **options)
    x = x.astype(np.float32)
    x[10:20, 30:60] = np.nan
    one = card(**({'invalid': 5e6} if given == 'invalid' else {}))
    net = Tiny()
    segment_tiles(net, one, *paths, tmp_path / 'mask.tif', progress=False)
    np.testing.assert_array_equal(read_image(tmp_path / 'mask.tif'), expected(one, rgb, x))
    assert torch.cat([x for _, x in net.seen]).aminmax() == (-0.5, 1.5)  # 0 and 1, normalised


@pytest.mark.parametrize('value', [np.nan, 7.0, -9999.0])
def test_a_surface_of_one_height_or_of_none_is_segmented_as_its_lowest(card, images, tmp_path,
                                                                       value):
    x = np.full((HEIGHT, WIDTH), value, np.float32)
    paths = (write_tiff(tmp_path / 'rgb.tif', images[0]),
             write_tiff(tmp_path / 'x.tif', x, nodata=-9999.0))
    net = Tiny()
    assert segment_tiles(net, card(), *paths, progress=False).sum() == HEIGHT * WIDTH
    assert (torch.cat([x for _, x in net.seen]) == -0.5).all()  # 0, normalised


def test_the_place_is_that_of_x_where_the_colours_have_none(card, images, tmp_path):
    place = {'transform': rasterio.Affine(0.05, 0, 3000, 0, -0.05, 7000)}
    rgb = write_tiff(tmp_path / 'rgb.tif', images[0])
    x = write_tiff(tmp_path / 'x.tif', images[1], **place)
    segment_tiles(Tiny(), card(), rgb, x, tmp_path / 'mask.tif', progress=False)
    with rasterio.open(tmp_path / 'mask.tif') as mask:
        assert mask.transform == place['transform']


def test_a_fixed_range_holds_for_every_tile(card, pair):
    net = Tiny()
    segment_tiles(net, card(normalization='fixed', range=[-1000, 1000]), *pair, progress=False)
    x = torch.cat([x for _, x in net.seen])
    assert 0.4 < x.min() and x.max() < 0.9  # -20..300 is 0.49..0.65 of the range, normalised


def test_the_mask_keeps_the_place_of_the_image_and_comes_in_tiles(card, images, tmp_path):
    place = {'crs': rasterio.crs.CRS.from_wkt('LOCAL_CS["site",UNIT["metre",1]]'),
             'transform': rasterio.Affine(0.05, 0, 3000, 0, -0.05, 7000)}
    rgb = write_tiff(tmp_path / 'rgb.tif', images[0], **place)
    x = write_tiff(tmp_path / 'x.tif', images[1])
    segment_tiles(Tiny(), card(), rgb, x, tmp_path / 'mask.tif', progress=False)
    with rasterio.open(tmp_path / 'mask.tif') as mask:
        assert (mask.crs, mask.transform) == (place['crs'], place['transform'])
        assert (mask.dtypes, mask.block_shapes) == (('uint8',), [(256, 256)])
        assert mask.compression.name == 'deflate'
    segment_tiles(Tiny(), card(), rgb, x, tmp_path / 'mask.png', progress=False)
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        'mask.png', 'mask.tif', 'rgb.tif', 'tiny.yaml', 'x.tif']


@pytest.mark.parametrize('ending', ['.tif', '.png'])
def test_the_overlay_is_that_of_the_mask(card, pair, images, tmp_path, ending):
    mask, overlay = tmp_path / f'mask{ending}', tmp_path / f'overlay{ending}'
    for _ in range(2):
        check_outputs((mask, overlay))
        segment_tiles(Tiny(), card(), *pair, mask, overlay, progress=False)
    np.testing.assert_array_equal(
        read_rgb(overlay), card().labels.overlay(images[0], read_image(mask)))


def test_of_four_bands_the_first_three_are_colours(card, pair, images, tmp_path):
    four = np.dstack((images[0], 255 - images[0][..., 0]))
    path = write_tiff(tmp_path / 'four.tif', four)
    segment_tiles(Tiny(), card(), path, pair[1], tmp_path / 'mask.tif', progress=False)
    np.testing.assert_array_equal(read_image(tmp_path / 'mask.tif'), expected(card(), *images))


@pytest.mark.parametrize(('rgb', 'x', 'said'), [
    (((80, 90, 3), np.uint16), ((80, 90), np.uint8), r"rgb.tif' has 3 bands of uint16, needed"),
    (((80, 90), np.uint8), ((80, 90), np.uint8), r"rgb.tif' has 1 bands of uint8, needed"),
    (((80, 90, 3), np.uint8), ((80, 90), np.complex64), r"x.tif' is complex64, allowed are int"),
    (((80, 90, 3), np.uint8), ((90, 80), np.uint8),
     r"rgb.tif' has 90x80 pixels, but '.*x.tif' 80x90: both must"),
    (((31, 90, 3), np.uint8), ((31, 90), np.uint8),
     r"rgb.tif' has 90x31 pixels, the window of the model 32x32"),
])
def test_files_that_do_not_fit_are_told_by_name(card, tmp_path, rgb, x, said):
    paths = [write_tiff(tmp_path / name, np.zeros(shape, dtype))
             for name, (shape, dtype) in (('rgb.tif', rgb), ('x.tif', x))]
    with pytest.raises(DataError, match=said):
        segment_tiles(Tiny(), card(), *paths, tmp_path / 'mask.tif', progress=False)
    assert not list(tmp_path.glob('*mask*'))


def test_a_range_of_percentiles_is_refused_with_what_is_allowed(card, pair):
    for normalization in ('percentile', 'auto'):
        with pytest.raises(DataError, match=f"is '{normalization}': .* use minmax or fixed"):
            segment_tiles(Tiny(), card(normalization=normalization), *pair, progress=False)


def test_a_broken_file_leaves_nothing_behind(card, pair, tmp_path, capfd):
    whole = tmp_path / 'rgb.png'
    write_image(whole, np.random.default_rng(0).integers(0, 256, (HEIGHT, WIDTH, 3), np.uint8))
    (tmp_path / 'broken.png').write_bytes(whole.read_bytes()[:12000])
    (tmp_path / 'broken.tif').write_bytes(pair[0].read_bytes()[:12000])
    write_image(tmp_path / 'rgb.bmp', np.zeros((HEIGHT, WIDTH, 3), np.uint8))
    for name, reason in (('broken.png', 'the PNG is truncated'),
                         ('broken.tif', 'TIFFReadEncodedStrip'), ('absent.tif', 'No such file'),
                         ('rgb.bmp', 'it is BMP, allowed are TIFF, PNG and JPEG')):
        path = tmp_path / name
        with pytest.raises(DataError, match=f"cannot read '{path}': {reason}"):
            segment_tiles(Tiny(), card(), path, pair[1], tmp_path / 'mask.png', progress=False)
    assert not [*tmp_path.glob('*mask*'), *tmp_path.glob('.*')]
    assert capfd.readouterr().err == ''


@pytest.mark.parametrize('which', [0, 1])
@pytest.mark.parametrize('ending', ['.tif', '.png', '.jpg'])
def test_an_image_that_viewers_turn_is_refused(card, pair, images, tmp_path, which, ending):
    """GDAL neither turns it nor, of some formats, tells of it."""
    pair[which] = tmp_path / f'turned{ending}'
    pair[which].write_bytes(turned(ending, images[0], 3))
    with pytest.raises(DataError, match=f"turned{ending}' is stored turned or mirrored"):
        segment_tiles(Tiny(), card(), *pair, tmp_path / 'mask.tif', progress=False)
    assert not (tmp_path / 'mask.tif').exists()


@pytest.mark.parametrize('which', range(4))
def test_a_name_that_gdal_cannot_take_is_told(card, pair, tmp_path, which):
    paths = [*pair, tmp_path / 'mask.tif', tmp_path / 'overlay.png']
    paths[which] = paths[which].with_stem(os.fsdecode(b'\xdf'))
    with pytest.raises(DataError, match=r'\\udcdf.* is no UTF-8, which large images need'):
        segment_tiles(Tiny(), card(), *paths, progress=False)


@pytest.mark.parametrize(('path', 'said'), [
    ('mask.jpg', r"mask.jpg': allowed endings are .tif, .tiff, .png"),
    ('nowhere/mask.tif', r"cannot write '.*nowhere/mask.tif'"),
])
def test_a_result_that_cannot_be_written_is_told(card, pair, tmp_path, path, said):
    with pytest.raises(DataError, match=said):
        segment_tiles(Tiny(), card(), *pair, tmp_path / path, progress=False)


def test_a_missing_rasterio_is_told_with_what_to_install(card, pair, monkeypatch):
    monkeypatch.setitem(sys.modules, 'rasterio', None)
    with pytest.raises(DataError, match=r"pip install 'rgbx_seg_ros\[large-images\]'"):
        segment_tiles(Tiny(), card(), *pair, progress=False)
