# Copyright 2026 rgbx_seg_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""
ISPRS 2D semantic labelling: aerial tiles of Vaihingen and Potsdam, colour and surface model.

Rottensteiner, Sohn, Jung, Gerke, Baillard, Benitez, Breitkopf, "The ISPRS benchmark on urban
object classification and 3D building reconstruction", ISPRS Annals I-3, 2012. To be had from ISPRS
on request, under its own terms, which are not repeated here. The division into training and test
tiles is the one that MS2MNet and the papers before it use: those with published labels.

Tiles are large. A sample is a window of one, at most 1024 pixels wide and high; together the
windows cover each tile once. X is the height in metres, float32, NaN where there is none; its
`x_limits` are those of the whole tile. The split test_eroded has the labels without the three
pixels along the boundaries, which the published scores count.
"""

import contextlib
import warnings

import numpy as np
from rgbx_seg_ros.cards.labels import UNLABELED
from rgbx_seg_ros.datasets.base import classes, Files, PairedDataset
from rgbx_seg_ros.datasets.files import first_folder
from rgbx_seg_ros.datasets.rasters import import_rasterio, open_raster, reading
from rgbx_seg_ros.errors import DataError

_LONGEST = 1024
"""Longest side of a window in pixels."""
_BLOCK_ROWS = 512
_NOTHING = 254  # in the table below: magenta, which stands for nothing
# Classes at the corners of the colour cube: 4 for red, 2 for green, 1 for blue.
_CLASS_OF_CORNER = np.array([UNLABELED, 1, 3, 2, 5, _NOTHING, 4, 0], np.uint8)


class _Tiles(PairedDataset):
    """The windows of the tiles of a split."""

    CLASSES = classes(
        ('impervious_surface', (255, 255, 255)), ('building', (0, 0, 255)),
        ('low_vegetation', (0, 255, 255)), ('tree', (0, 255, 0)), ('car', (255, 255, 0)),
        ('clutter', (255, 0, 0)))
    X_KIND = 'dsm'
    SPLITS = {'train': None, 'test': None, 'test_eroded': None}
    TILES: dict[str, tuple[str, ...]]
    """The tiles of the splits."""

    def _tile_files(self, tile: str, eroded: bool) -> Files:
        """Return where a tile is stored."""
        raise NotImplementedError

    def _find(self):
        part, _, eroded = self.split.partition('_')
        self.tiles = {tile: self._tile_files(tile, bool(eroded)) for tile in self.TILES[part]}
        missing = [path for files in self.tiles.values() for path in files if not path.is_file()]
        if missing:
            raise DataError(f'{len(missing)} files of the {len(self.tiles)} tiles are missing, '
                            f'the first is {str(missing[0])!r}')
        self._windows, self._limits, files = {}, {}, {}
        for tile, paths in self.tiles.items():
            height, width = self._tile_size(paths)
            longest = max(height, width) if self.whole else _LONGEST
            for rows in _parts(height, longest):
                for columns in _parts(width, longest):
                    name = f'{tile}_y{rows[0]}_x{columns[0]}'
                    self._windows[name] = tile, (rows, columns)
                    files[name] = paths
        return files

    @staticmethod
    def _tile_size(paths):
        """Return height and width of a tile, which its three files must share."""
        sizes = []
        for path in paths:
            with _opened(path) as file:
                sizes.append(file.shape)
                if path != paths.x and file.count < 3:
                    raise DataError(f'{str(path)!r} has {file.count} bands, needed are red, green '
                                    'and blue')
        for path, size in zip(paths[1:], sizes[1:], strict=True):
            if size != sizes[0]:
                raise DataError(f'{str(path)!r} has {size[1]}x{size[0]} pixels, but '
                                f'{str(paths.rgb)!r} {sizes[0][1]}x{sizes[0][0]}: they must be '
                                'alike')
        return sizes[0]

    def _read_frames(self, name):
        paths, window = self._files[name], self._windows[name][1]
        rgb = _read_colors(paths.rgb, window)
        with _opened(paths.x) as file:
            return rgb, _heights(file, window)

    def _read_label(self, name, size):
        path = self._files[name].label
        # One tile has colours that compression has blurred, another has 252 for 255.
        corner = (_read_colors(path, self._windows[name][1]) >> 7) @ np.array([4, 2, 1], np.uint8)
        label = _CLASS_OF_CORNER[corner]
        if (label == _NOTHING).any():
            raise DataError(f'{str(path)!r} holds magenta, allowed are the colours of the classes '
                            'and black for unlabeled')
        return label

    def _x_limits(self, name):
        tile = self._windows[name][0]
        if tile not in self._limits:
            low, high = np.inf, -np.inf
            with _opened(self._files[name].x) as file:
                for top in range(0, file.height, _BLOCK_ROWS):
                    rows = top, min(top + _BLOCK_ROWS, file.height)
                    values = _heights(file, (rows, (0, file.width)))
                    values = values[np.isfinite(values)]
                    if values.size:
                        low, high = min(low, values.min()), max(high, values.max())
            if low > high:
                raise DataError(f'{str(self._files[name].x)!r} holds no height')
            self._limits[tile] = float(low), float(high)
        return self._limits[tile]


class Vaihingen(_Tiles):
    """
    Vaihingen: near infrared, red and green as colours, 9 cm to the pixel.

    `top/`, `dsm/`, `gts_for_participants/` and `gts_eroded_for_participants/`, with the names of
    the files as downloaded.
    """

    TILES = {'train': ('1', '3', '7', '11', '13', '17', '23', '26', '28', '32', '34', '37'),
             'test': ('5', '15', '21', '30')}

    def _tile_files(self, tile, eroded):
        if eroded:
            labels = first_folder(self.root, 'gts_eroded_for_participants', 'gts_eroded')
        else:
            labels = first_folder(self.root, 'gts_for_participants', 'gts_complete', 'gts')
        name = f'top_mosaic_09cm_area{tile}'
        return Files(self.root / 'top' / f'{name}.tif',
                     self.root / 'dsm' / f'dsm_09cm_matching_area{tile}.tif',
                     labels / (f'{name}_noBoundary.tif' if eroded else f'{name}.tif'))


class Potsdam(_Tiles):
    """
    Potsdam: red, green and blue, 5 cm to the pixel, tiles of 6000x6000.

    `2_Ortho_RGB/` or else `4_Ortho_RGBIR/`, `1_DSM/`, `5_Labels_all/` or else
    `5_Labels_for_participants/`, and the same without boundaries, with the names of the files as
    downloaded.
    """

    TILES = {'train': ('2_10', '2_12', '3_11', '3_12', '4_11', '4_12', '5_10', '5_12', '6_7',
                       '6_8', '6_9', '6_10', '6_12', '7_7', '7_8', '7_9', '7_10', '7_11'),
             'test': ('2_11', '3_10', '4_10', '5_11', '6_11', '7_12')}

    def _tile_files(self, tile, eroded):
        rgb = first_folder(self.root, '2_Ortho_RGB', '4_Ortho_RGBIR')
        if eroded:
            labels = first_folder(self.root, '5_Labels_all_noBoundary',
                                  '5_Labels_for_participants_no_Boundary')
        else:
            labels = first_folder(self.root, '5_Labels_all', '5_Labels_for_participants')
        row, column = map(int, tile.split('_'))
        end = '_noBoundary' if eroded else ''
        return Files(rgb / f'top_potsdam_{tile}_{rgb.name.rsplit("_", 1)[1]}.tif',
                     self.root / '1_DSM' / f'dsm_potsdam_{row:02}_{column:02}.tif',
                     labels / f'top_potsdam_{tile}_label{end}.tif')


def _parts(length, longest):
    """Return a side in the fewest parts of about the same length: (start, stop) of each."""
    cuts = np.linspace(0, length, -(-length // longest) + 1).round().astype(int).tolist()
    return list(zip(cuts, cuts[1:], strict=False))


def _read_colors(path, window):
    """Return a window of the first three bands, (h, w, 3) uint8."""
    with _opened(path) as file:
        if file.dtypes[0] != 'uint8':
            raise DataError(f'{str(path)!r} is {file.dtypes[0]}, needed is uint8')
        return np.ascontiguousarray(file.read([1, 2, 3], window=window).transpose(1, 2, 0))


def _heights(file, window):
    """Return a window of a surface model, (h, w) float32, NaN where the file has no data."""
    return file.read(1, window=window, masked=True).astype(np.float32).filled(np.nan)


@contextlib.contextmanager
def _opened(path):
    """Open a file with rasterio; what it finds wrong is told as DataError."""
    # A TIFF without a place is as good.
    warnings.filterwarnings('ignore', category=import_rasterio().errors.NotGeoreferencedWarning)
    with open_raster(path) as file, reading(path):
        yield file
