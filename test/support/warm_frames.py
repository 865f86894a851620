# Copyright 2026 rgbx_seg_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""An engine that takes what is warm for a person, and how tests of scores change frames."""

import cv2
import numpy as np
from support.stand_ins import StandIn

SIZE = (20, 40)


class WarmIsPerson(StandIn):
    """Class 2 wherever X is warm."""

    def __call__(self, rgb, x, x_limits, sensors):
        mask = np.where(x * sensors.present[1] > 100, 2, 0).astype(np.uint8)
        return mask, mask


def matrix_of(scores, part='all'):
    """Return the confusion matrix of a part."""
    return scores.parts[part].tally.matrix


def rename(data, **names):
    """Give the frames of a folder other names."""
    for old, new in names.items():
        for path in data.rglob(f'{old}.png'):
            path.rename(path.with_stem(new))


def set_warm(data, name, *areas):
    """Let X of a frame be warm in areas: top, bottom, left, right."""
    x = np.zeros(SIZE, np.uint8)
    for top, bottom, left, right in areas:
        x[top:bottom, left:right] = 200
    cv2.imwrite(str(data / 'thermal' / f'{name}.png'), x)
