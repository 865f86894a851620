# Copyright 2026 rgbx_seg_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""The networks by name. A new one is a module, a line here and a card in `models/`."""

import difflib
from typing import Any

from rgbx_seg_ros.errors import CardError
from rgbx_seg_ros.networks.base import Network
from rgbx_seg_ros.networks.difusionseg import DiFusionSeg
from rgbx_seg_ros.networks.gated_lite import GatedLite
from rgbx_seg_ros.networks.mddg import MDDG
from rgbx_seg_ros.networks.ms2mnet import MS2MNet
from rgbx_seg_ros.networks.ms_irtnet import MSIRTNet
from rgbx_seg_ros.networks.rxssnet import RXSSNet

__all__ = ['build', 'Network', 'NETWORKS']

NETWORKS: dict[str, type[Network]] = {
    'ms_irtnet': MSIRTNet,
    'rxssnet': RXSSNet,
    'mddg': MDDG,
    'ms2mnet': MS2MNet,
    'difusionseg': DiFusionSeg,
    'gated_lite': GatedLite,
}


def build(name: str, num_classes: int, **arguments: Any) -> Network:
    """
    Build the network `name` for `num_classes` classes, with random weights.

    `arguments` are those of its constructor (the size of the backbone, for example). Raise
    CardError for a name or an argument that does not exist.
    """
    if name not in NETWORKS:
        near = difflib.get_close_matches(name, NETWORKS, 1)
        hint = f'; did you mean {near[0]!r}?' if near else ''
        raise CardError(f'network is {name!r}, allowed are: {", ".join(NETWORKS)}{hint}')
    try:
        return NETWORKS[name](num_classes, **arguments)
    except (TypeError, ValueError, RuntimeError, ZeroDivisionError) as error:
        raise CardError(f'network {name!r} does not take {arguments!r}: {error}') from error
