# Copyright 2026 rgbx_seg_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""How each network is tried out: a small variant at small sizes, so that the tests are quick."""

from typing import NamedTuple

from rgbx_seg_ros.networks import NETWORKS
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
# Narrower than the published ones, in every way that a network can be.
COMPACT = {
    'mddg': {'variant': 'b0', 'freq_size': (40, 80), 'decoder_width': 64, 'scan_states': 4,
             'scan_ratios': [2, 2, 1, 1]},
    'ms2mnet': {'base_width': 16},
    'difusionseg': {'variant': 'msrs', 'backbone': 'atto', 'drop_path': 0.0, 'width': 64,
                    'fusion_width': 32, 'layers': 3},
    'gated_lite': {'width': 32},
}
OWN = ('gated_lite',)
"""Networks of this project, which have no original to be equal to."""
PUBLISHED = [name for name in NETWORKS if name not in OWN]
TRIALS = {
    'ms_irtnet': Trial(_BACKBONES, [(64, 96), (32, 32), (33, 47), (250, 333), (600, 800)]),
    'rxssnet': Trial(_BACKBONES, [(64, 96), (32, 32), (33, 47), (250, 333), (600, 800)]),
    'mddg': Trial([*({'variant': name, 'freq_size': (40, 80)} for name in MIT), COMPACT['mddg']],
                  [(160, 320), (157, 318)]),
    'ms2mnet': Trial([{}, COMPACT['ms2mnet']], [(64, 96), (32, 32), (33, 47), (250, 333)]),
    'difusionseg': Trial(
        # Stochastic depth would leave a block of two images without a gradient now and then.
        [*({'variant': name, 'backbone': size, 'drop_path': 0.0}
           for name in ('mfd', 'msrs', 'fmb') for size in CONVNEXT), COMPACT['difusionseg']],
        [(64, 96), (32, 32), (33, 47), (118, 131)]),
    'gated_lite': Trial([{}, {'shared': False}, COMPACT['gated_lite']],
                        [(64, 96), (32, 32), (33, 47), (250, 333)]),
}
