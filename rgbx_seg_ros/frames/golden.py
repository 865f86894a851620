# Copyright 2026 rgbx_seg_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""Golden frames: a pair and the mask that a model makes of it, kept beside its card."""

from pathlib import Path
from typing import NamedTuple
import zipfile

import numpy as np
from rgbx_seg_ros.errors import CardError


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
        with np.load(path, allow_pickle=False) as content:
            golden = Golden(content['rgb'], content['x'], content['mask'])
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise CardError(f'{str(path)!r} is not a golden frame: {error}') from error
    if golden.mask.shape != golden.rgb.shape[:2] or golden.mask.dtype != np.uint8:
        raise CardError(f'{str(path)!r} is not a golden frame: its mask is {golden.mask.shape!r} '
                        f'{golden.mask.dtype} with an RGB frame of {golden.rgb.shape!r}')
    return golden


def save_golden(path: Path, golden: Golden) -> None:
    """Write a golden frame."""
    with path.open('wb') as file:
        np.savez_compressed(file, **golden._asdict())
