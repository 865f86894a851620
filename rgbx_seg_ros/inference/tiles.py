# Copyright 2026 rgbx_seg_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""
Large images, such as aerial ones: a network's window slides over them, band by band.

Both files are read from top to bottom, and so are the results written. What is in memory at a
time depends on the width of the image, the side of the window and the number of classes (four
bytes for each, at every pixel of a band as high as the window; twice that while it moves on), on
the batch, and on the blocks that the files are made of. It does not depend on the height, unless
a file is compressed as one block.
"""

from collections import Counter
import contextlib
import math
from pathlib import Path
import warnings

import numpy as np
from rgbx_seg_ros.cards.card import Card
from rgbx_seg_ros.datasets.rasters import check_name, import_rasterio, open_raster, reading
from rgbx_seg_ros.engines.graph import Normalize
from rgbx_seg_ros.errors import DataError
from rgbx_seg_ros.files import appearing, MARK
from rgbx_seg_ros.frames.raw import given_limits
import torch
from torch import nn
from torch.nn import functional as F
from tqdm import tqdm

OUTPUT_ENDINGS = ('.tif', '.tiff', '.png')
_FORMATS = ('GTiff', 'PNG', 'JPEG')
_BLOCK = 256  # side of the blocks of a written TIFF, in pixels
_SPARE_CACHE = 16 << 20  # bytes


def window_starts(length: int, size: int, stride: int) -> list[tuple[int, int]]:
    """
    Return where windows of `size` begin along a side of `length` pixels, and how often each does.

    They begin at every multiple of `stride`. Those that would leave the image are shifted back
    inside, so several begin at the same last pixel: that window counts as often.
    """
    return sorted(Counter(
        min(start, length - size) for start in range(0, length, stride)).items())


@torch.inference_mode()
def segment_tiles(
        network: nn.Module, card: Card, rgb_path: Path, x_path: Path,
        mask_path: Path | None = None, overlay_path: Path | None = None,
        batch: int = 4, progress: bool = True) -> np.ndarray:
    """
    Segment a pair of large image files with the window of `card`, as its authors do.

    The logits of all windows over a pixel are added up, and the class with the largest sum is
    taken. `network` is the one of the card, in eval mode, on the device that it shall run on,
    `batch` the number of windows in one run. The colour file has 8 bits and three bands or more,
    the first three count; X has one or three and any real type, and its pixels without data are
    those that the file says, NaN and the card's `x.invalid`. Write the mask (class ids) and the
    overlay, each a TIFF, with the georeference of the input, or a PNG, by its ending. Return the
    number of pixels of each class, (K,) int64. Raise DataError for a file that does not fit.
    """
    for path in filter(None, (mask_path, overlay_path)):
        check_name(path)
        if Path(path).suffix.lower() not in OUTPUT_ENDINGS:
            raise DataError(f'cannot write {str(path)!r}: allowed endings are '
                            f'{", ".join(OUTPUT_ENDINGS)}')
    rasterio = import_rasterio()
    size = card.window.size
    # For good: catch_warnings would change what other threads may say in the meantime.
    warnings.filterwarnings('ignore', category=rasterio.errors.NotGeoreferencedWarning)
    with contextlib.ExitStack() as stack:
        rgb, x = (stack.enter_context(_Source(path)) for path in (rgb_path, x_path))
        _check(rgb, x, size)
        stack.enter_context(rasterio.Env(GDAL_CACHEMAX=_cache_bytes(rgb, x)))
        placed = rgb if rgb.is_placed else x
        mask_file, overlay_file = (
            stack.enter_context(_created(Path(path), placed, bands)) if path else None
            for path, bands in ((mask_path, 1), (overlay_path, 3)))
        windows = _Windows(network, card, x.x_limits(card.x), batch)
        counts = np.zeros(len(card.labels), np.int64)
        rows = window_starts(rgb.height, size, card.window.stride)
        columns = window_starts(rgb.width, size, card.window.stride)
        sums = torch.zeros(len(card.labels), size, rgb.width, device=windows.device)
        bar = stack.enter_context(tqdm(
            total=len(rows) * len(columns), unit='window', disable=None if progress else True))
        ends = [*(top for top, _ in rows[1:]), rgb.height]
        for (top, weight), end in zip(rows, ends, strict=True):
            colours, values = rgb.colours(top, size), x.values(top, size)
            for left, column_weight, logits in windows(colours, values, columns):
                sums[:, :, left:left + size] += weight * column_weight * logits
                bar.update()
            done = end - top  # no further window reaches these rows
            mask = sums[:, :done].argmax(dim=0).to(torch.uint8).cpu().numpy()
            sums = F.pad(sums[:, done:], (0, 0, 0, done))
            counts += np.bincount(mask.ravel(), minlength=len(counts))
            place = ((top, end), (0, rgb.width))
            if mask_file:
                mask_file.write(mask[None], window=place)
            if overlay_file:
                overlay = card.labels.overlay(colours[:done], mask)
                overlay_file.write(overlay.transpose(2, 0, 1), window=place)
    return counts


class _Windows:
    """Runs the network on the windows of one band."""

    def __init__(self, network, card, x_limits, batch):
        self.device = next(network.parameters()).device
        self._network, self._size, self._batch = network, card.window.size, batch
        self._normalize = Normalize(card).to(self.device)
        self._limits = torch.tensor([x_limits], dtype=torch.float32, device=self.device)

    def __call__(self, rgb, x, columns):
        """Yield left side, count and logits (K, size, size) of each window of a band."""
        for i in range(0, len(columns), self._batch):
            group = columns[i:i + self._batch]
            images = (self._cut(frame, group) for frame in (rgb, x))
            images = self._normalize(*images, self._limits.expand(len(group), 2))
            half = self.device.type == 'cuda'
            with torch.autocast(self.device.type, torch.float16, enabled=half):
                logits = self._network(*images).float()
            for (left, count), one in zip(group, logits, strict=True):
                yield left, count, one

    def _cut(self, frame, group):
        stack = np.stack([frame[:, left:left + self._size] for left, _ in group])
        return torch.from_numpy(stack).to(self.device)


class _Source:
    """An image file that is read from top to bottom."""

    def __init__(self, path):
        self.path = Path(path)
        self._top, self._band = 0, None

    def __enter__(self):
        self._file = open_raster(self.path)
        if self._file.driver not in _FORMATS:
            self._file.close()
            raise DataError(f'cannot read {str(self.path)!r}: it is {self._file.driver}, allowed '
                            'are TIFF, PNG and JPEG')
        self.height, self.width = self._file.shape
        self.bands, self.dtype = self._file.count, np.dtype(self._file.dtypes[0])
        self.crs, self.transform = self._file.crs, self._file.transform
        self.is_placed = self.crs is not None or not self.transform.is_identity
        self.block_height = self._file.block_shapes[0][0]
        return self

    def __exit__(self, *_):
        self._file.close()

    def colours(self, top, count):
        """Return the rows `top` to `top + count` of the first three bands, (count, W, 3) uint8."""
        return self._moved(top, count, self._read_colours)

    def values(self, top, count):
        """Return these rows, (count, W, 1 or 3) float32, NaN where the file has no data."""
        return self._moved(top, count, self._read_values)

    def _moved(self, top, count, read):
        """Return a band of rows, of which only those are read that the last one did not have."""
        if self._band is None:
            self._band = read(top, top + count)
        else:
            known = self._band[top - self._top:]
            self._band = np.concatenate((known, read(top + len(known), top + count)))
        self._top = top
        return self._band

    def _read_colours(self, start, stop):
        with reading(self.path):
            pixels = self._file.read([1, 2, 3], window=((start, stop), (0, self.width)))
        return pixels.transpose(1, 2, 0)

    def _read_values(self, start, stop):
        bands = [1, 2, 3] if self.bands >= 3 else [1]
        with reading(self.path):
            pixels = self._file.read(bands, window=((start, stop), (0, self.width)), masked=True)
        return pixels.astype(np.float32).filled(np.nan).transpose(1, 2, 0)

    def x_limits(self, spec):
        """Return the raw values that become 0 and 1, those of the whole image for minmax."""
        given = given_limits(self.dtype, spec)
        if given is not None:
            return given
        if spec.normalization != 'minmax':
            raise DataError(
                f'x.normalization is {spec.normalization!r}: the percentiles of a whole image are '
                'not known while it passes in bands, use minmax or fixed in the card')
        low, high = math.inf, -math.inf
        step = max(_BLOCK, self.block_height)
        for start in range(0, self.height, step):
            values = self._read_values(start, min(start + step, self.height))
            values = values[np.isfinite(values)]
            if spec.invalid is not None:
                values = values[values != spec.invalid]
            if values.size:
                low, high = min(low, float(values.min())), max(high, float(values.max()))
        if not math.isfinite(low):
            return 0.0, 1.0
        return (low, high) if low < high else (low, low + 1.0)


def _check(rgb, x, size):
    """Raise DataError unless both files can be segmented together."""
    if rgb.bands < 3 or rgb.dtype != np.uint8:
        raise DataError(f'{str(rgb.path)!r} has {rgb.bands} bands of {rgb.dtype}, needed is a '
                        'colour image: three bands or more of 8 bits, uint8')
    if x.dtype.kind not in 'uif':
        raise DataError(f'{str(x.path)!r} is {x.dtype}, allowed are integers and floats')
    if (rgb.height, rgb.width) != (x.height, x.width):
        raise DataError(
            f'{str(rgb.path)!r} has {rgb.width}x{rgb.height} pixels, but {str(x.path)!r} '
            f'{x.width}x{x.height}: both must show the same area at the same resolution')
    if min(rgb.height, rgb.width) < size:
        raise DataError(f'{str(rgb.path)!r} has {rgb.width}x{rgb.height} pixels, the window of '
                        f'the model {size}x{size}: no side may be shorter')


@contextlib.contextmanager
def _created(path, like, bands):
    """Yield a file of the size and place of `like` to write to; complete, it appears at `path`."""
    rasterio = import_rasterio()
    from rasterio.shutil import copy

    png = path.suffix.lower() == '.png'
    # A PNG holds no place, and GDAL would put one into a second file beside it.
    place = {'crs': like.crs, 'transform': like.transform} if like.is_placed and not png else {}
    with appearing(path) as part:
        temporary = part.with_suffix('.tif') if png else part
        try:
            with rasterio.open(
                    temporary, 'w', driver='GTiff', width=like.width, height=like.height,
                    count=bands, dtype='uint8', compress='deflate', interleave='pixel', tiled=True,
                    blockxsize=_BLOCK, blockysize=_BLOCK, bigtiff='if_safer', **place) as file:
                if not png:
                    file.update_tags(TIFFTAG_SOFTWARE=MARK)
                yield file
            if png:
                copy(temporary, part, driver='PNG', comment=MARK)
        except rasterio.errors.RasterioError as error:
            raise DataError(f'cannot write {str(path)!r}: {error}') from error
        finally:
            if png:
                temporary.unlink(missing_ok=True)


def _cache_bytes(rgb, x):
    """Return how much GDAL shall keep: the blocks in use. Left alone it would keep gigabytes."""
    in_use = 4 * _BLOCK * rgb.width  # mask and overlay
    for source in (rgb, x):
        in_use += source.block_height * source.width * source.bands * source.dtype.itemsize
    return 2 * in_use + _SPARE_CACHE  # twice, as a band may lie across two rows of blocks
