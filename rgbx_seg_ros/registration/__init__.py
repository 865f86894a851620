# Copyright 2026 rgbx_seg_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""
X onto RGB: by a homography, by both calibrations, or as found from recorded pairs.

It uses `parameters` and `frames`, and to find how X lies `bags` and `datasets`.
"""

from rgbx_seg_ros.registration.rig import Rig
from rgbx_seg_ros.registration.warp import Camera, Extrinsics, Homography, Registration

__all__ = ['Camera', 'Extrinsics', 'Homography', 'Registration', 'Rig']
