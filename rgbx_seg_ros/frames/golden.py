# Copyright 2026 rgbx_seg_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""Golden frames: a pair and the mask that a model makes of it, kept beside its card."""

from pathlib import Path
from typing import NamedTuple
import zipfile
import zlib

import numpy as np
from rgbx_seg_ros.errors import CardError, FrameError
from rgbx_seg_ros.files import appearing, MARK
from rgbx_seg_ros.frames.raw import check_rgb, check_x


class Golden(NamedTuple):
    """A pair and its mask."""

    rgb: np.ndarray
    """(H, W, 3) uint8."""
    x: np.ndarray
    """(h, w) or (h, w, 3), raw."""
    mask: np.ndarray
    """(H, W) uint8."""


def load_golden(path: Path) -> Golden:
    """Read a golden frame; raise CardError where it is none."""
    try:
        # Not np.load on a path, which takes a file of one array as well.
        with path.open('rb') as file, np.lib.npyio.NpzFile(file, allow_pickle=False) as content:
            golden = Golden(content['rgb'], content['x'], content['mask'])
        check_rgb(golden.rgb)
        check_x(golden.x)
    except (OSError, ValueError, KeyError, EOFError, RuntimeError, FrameError,
            zipfile.BadZipFile, zlib.error) as error:
        raise CardError(f'{str(path)!r} is not a golden frame: {error}') from error
    if golden.mask.shape != golden.rgb.shape[:2] or golden.mask.dtype != np.uint8:
        raise CardError(f'{str(path)!r} is not a golden frame: its mask is {golden.mask.shape!r} '
                        f'{golden.mask.dtype} with an RGB frame of {golden.rgb.shape!r}')
    return golden


def save_golden(path: Path, golden: Golden) -> None:
    """Write a golden frame, whole or not at all."""
    with appearing(path) as part:
        with part.open('wb') as file:
            np.savez_compressed(file, **golden._asdict())
        with zipfile.ZipFile(part, 'a') as archive:
            archive.comment = MARK.encode()
