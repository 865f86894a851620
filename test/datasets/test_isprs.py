# Copyright 2026 rgbx_seg_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""Aerial tiles: windows that cover them once, colours to classes, the range of a whole tile."""

import os

import cv2
import numpy as np
import pytest
from rgbx_seg_ros.cards.labels import UNLABELED
from rgbx_seg_ros.datasets import isprs, open_dataset
from rgbx_seg_ros.datasets.isprs import Potsdam, Vaihingen
from rgbx_seg_ros.errors import DataError
from support.dataset_trees import potsdam, vaihingen, write
from support.picture_files import turned

pytest.importorskip('rasterio', reason='aerial tiles need rasterio')


def test_windows_cover_each_tile_once_and_keep_its_range(tmp_path, monkeypatch):
    expected = vaihingen(tmp_path)['test']
    monkeypatch.setattr(isprs, '_LONGEST', 20)
    data = Vaihingen(tmp_path, 'test')
    assert len(data) == 4 * 2 * 3
    parts = {name: data[i] for i, name in enumerate(data.names)}
    for name, whole in expected.items():
        tile = name.split('_')[0]
        canvas = np.full(whole.x.shape, -1.0, np.float32)
        label = np.full(whole.label.shape, 200, np.uint8)
        for part_name, part in parts.items():
            if part_name.split('_')[0] == tile:
                top, left = (int(text[1:]) for text in part_name.split('_')[1:])
                h, w = part.x.shape
                assert max(h, w) <= 20 and part.rgb.shape == (h, w, 3)
                assert (canvas[top:top + h, left:left + w] == -1).all(), 'windows overlap'
                canvas[top:top + h, left:left + w] = part.x
                label[top:top + h, left:left + w] = part.label
                assert part.x_limits == (whole.x.min(), whole.x.max())
        assert np.array_equal(canvas, whole.x) and np.array_equal(label, whole.label)


def test_tiles_come_whole_where_that_is_asked_for(tmp_path, monkeypatch):
    expected = vaihingen(tmp_path)['test']
    monkeypatch.setattr(isprs, '_LONGEST', 20)
    data = open_dataset('vaihingen', tmp_path, 'test', whole=True)
    assert data.names == list(expected)
    for sample in data:
        assert np.array_equal(sample.x, expected[sample.name].x)
        assert np.array_equal(sample.label, expected[sample.name].label)


@pytest.mark.parametrize('folder', ['top', 'dsm', 'gts_for_participants'])
def test_a_tile_that_viewers_turn_is_refused(tmp_path, folder):
    vaihingen(tmp_path)
    path = sorted((tmp_path / folder).iterdir())[0]
    path.write_bytes(turned('.tif', cv2.imread(str(path), cv2.IMREAD_UNCHANGED), 3))
    with pytest.raises(DataError, match=f"{path.name}' is stored turned or mirrored"):
        for split in ('train', 'test'):
            open_dataset('vaihingen', tmp_path, split)


def test_a_folder_whose_name_gdal_cannot_take_is_told(tmp_path):
    root = tmp_path / os.fsdecode(b'Stra\xdfe')
    vaihingen(tmp_path / 'copy')
    (tmp_path / 'copy').rename(root)
    with pytest.raises(DataError, match='is no UTF-8, which large images need: rename the file'):
        open_dataset('vaihingen', root, 'test')


def test_blurred_colours_are_taken_for_the_nearest_and_magenta_for_none(tmp_path):
    potsdam(tmp_path)
    path = tmp_path / '5_Labels_all' / 'top_potsdam_4_12_label.tif'
    colors = np.zeros((32, 48, 3), np.uint8)
    colors[0, :4] = [(252, 255, 0), (9, 222, 221), (225, 227, 227), (20, 3, 250)]
    write(path, colors)
    data = open_dataset('potsdam', tmp_path, 'train')
    label = data[data.names.index('4_12_y0_x0')].label
    assert label[0, :5].tolist() == [4, 2, 0, 1, UNLABELED]
    colors[5, 5] = 255, 0, 255
    write(path, colors)
    with pytest.raises(DataError, match="4_12_label.tif' holds magenta"):
        data[data.names.index('4_12_y0_x0')]


@pytest.mark.parametrize('rows', [5, 512])
def test_height_without_data_is_nan_and_not_in_the_range(tmp_path, monkeypatch, rows):
    import rasterio

    monkeypatch.setattr(isprs, '_BLOCK_ROWS', rows)
    expected = vaihingen(tmp_path)['test']['5_y0_x0']
    heights = expected.x.copy()
    heights[3, 4] = -9999
    heights[7, 8], heights[9, 4] = 200, -200  # in neither the first nor the last five rows
    with rasterio.open(tmp_path / 'dsm' / 'dsm_09cm_matching_area5.tif', 'w', driver='GTiff',
                       width=48, height=32, count=1, dtype='float32', nodata=-9999,
                       transform=rasterio.Affine.translation(3, 4)) as file:
        file.write(heights, 1)
    sample = Vaihingen(tmp_path, 'test')[0]
    assert np.isnan(sample.x[3, 4]) and np.isfinite(sample.x).sum() == 32 * 48 - 1
    valid = heights[heights != -9999]
    assert sample.x_limits == (valid.min(), valid.max())


def test_potsdam_is_read_from_its_other_folders_too(tmp_path):
    expected = potsdam(tmp_path)['train']
    for old, new in (('2_Ortho_RGB', '4_Ortho_RGBIR'),
                     ('5_Labels_all', '5_Labels_for_participants')):
        (tmp_path / old).rename(tmp_path / new)
    for name, one in expected.items():
        path = tmp_path / '4_Ortho_RGBIR' / f'top_potsdam_{name.removesuffix("_y0_x0")}_RGB.tif'
        path.unlink()
        write(path.with_stem(f'{path.stem}IR'), np.dstack([one.rgb, one.rgb[..., 0]]))
    for sample in Potsdam(tmp_path, 'train'):
        assert np.array_equal(sample.rgb, expected[sample.name].rgb)
        assert np.array_equal(sample.label, expected[sample.name].label)


def test_a_tile_of_one_band_and_one_of_16_bits_are_refused(tmp_path):
    expected = vaihingen(tmp_path)['test']['5_y0_x0']
    path = tmp_path / 'top' / 'top_mosaic_09cm_area5.tif'
    cv2.imwrite(str(path), expected.rgb[..., 0])
    with pytest.raises(DataError, match="area5.tif' has 1 bands, needed are red, green and blue"):
        Vaihingen(tmp_path, 'test')
    cv2.imwrite(str(path), expected.rgb.astype(np.uint16))
    with pytest.raises(DataError, match="area5.tif' is uint16, needed is uint8"):
        Vaihingen(tmp_path, 'test')[0]
