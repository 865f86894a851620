# Copyright 2026 rgbx_seg_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""How each network is tried out: a small variant at small sizes, so that the tests are quick."""

from typing import NamedTuple

from rgbx_seg_ros.networks.convnext import CONVNEXT
from rgbx_seg_ros.networks.convnextv2 import CONVNEXTV2
from rgbx_seg_ros.networks.mix_transformer import MIT


class Trial(NamedTuple):
    """What of a network is tried."""

    variants: list[dict]
    """Arguments of all its variants; the first one is the one tried."""
    sizes: list[tuple[int, int]]
    """Heights and widths it must take; the first one is that of most tests."""


_BACKBONES = [{'backbone': name} for name in CONVNEXTV2]
TRIALS = {
    'ms_irtnet': Trial(_BACKBONES, [(64, 96), (32, 32), (33, 47), (250, 333), (600, 800)]),
    'rxssnet': Trial(_BACKBONES, [(64, 96), (32, 32), (33, 47), (250, 333), (600, 800)]),
    'mddg': Trial([{'variant': name, 'freq_size': (40, 80)} for name in MIT],
                  [(160, 320), (157, 318)]),
    'ms2mnet': Trial([{}], [(64, 96), (32, 32), (33, 47), (250, 333)]),
    'difusionseg': Trial(
        # Stochastic depth would leave a block of two images without a gradient now and then.
        [{'variant': name, 'backbone': size, 'drop_path': 0.0}
         for name in ('mfd', 'msrs', 'fmb') for size in CONVNEXT],
        [(64, 96), (32, 32), (33, 47), (118, 131)]),
}
