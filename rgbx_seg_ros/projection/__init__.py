# Copyright 2026 rgbx_seg_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""Masks into space: the ground in front of a vehicle, what stands on it, and labelled points."""

from rgbx_seg_ros.projection.camera import Camera
from rgbx_seg_ros.projection.pose import Pose

__all__ = ['Camera', 'Pose']
