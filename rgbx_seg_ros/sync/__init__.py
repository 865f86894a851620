# Copyright 2026 rgbx_seg_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""
Which frame of X belongs to which frame of RGB: pure, on whatever clock it is given.

It uses nothing but the modules at the root of the package.
"""

from rgbx_seg_ros.sync.pairing import Pair, Pairer, PairingSettings

__all__ = ['Pair', 'Pairer', 'PairingSettings']
