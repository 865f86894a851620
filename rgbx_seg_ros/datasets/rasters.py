# Copyright 2026 rgbx_seg_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""Images too large to be read whole, such as aerial ones: opened and read in windows."""

import contextlib
from pathlib import Path

from rgbx_seg_ros.errors import DataError
from rgbx_seg_ros.frames.images import check_upright, read_header


def import_rasterio():
    """Return rasterio, which only large images need, or raise DataError."""
    try:
        import rasterio
    except ImportError as error:
        raise DataError('large images are read and written with rasterio, which is missing: '
                        "pip install 'rgbx_seg_ros[large-images]'") from error
    return rasterio


@contextlib.contextmanager
def reading(path: Path):
    """Tell what rasterio finds wrong with the file `path` as DataError."""
    try:
        yield
    except import_rasterio().errors.RasterioError as error:
        first = error
        while first.__cause__:  # GDAL's own words come at the end of the chain
            first = first.__cause__
        reason = str(first).removeprefix(f'{path}: ')
        raise DataError(f'cannot read {str(path)!r}: {reason}') from error


def open_raster(path: Path):
    """
    Return an image file opened by rasterio.

    Raise DataError for one that cannot be opened, or that viewers would turn, which GDAL does not
    tell of.
    """
    rasterio = import_rasterio()
    check_name(path)
    check_upright(read_header(path), path)
    with reading(path):
        return rasterio.open(path)


def check_name(path: Path) -> None:
    """Raise DataError for a path that GDAL cannot take."""
    try:
        str(path).encode()
    except UnicodeEncodeError:
        raise DataError(f'{str(path)!r} is no UTF-8, which large images need: rename the file, or '
                        'the folder that is so named') from None
