# Copyright 2026 rgbx_seg_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""
The states of both sensors, the times and drops of a node, and what is told of them.

Pure, on whatever clock it is given; it uses `sync`.
"""

from rgbx_seg_ros.health.assessor import Assessor
from rgbx_seg_ros.health.monitor import Health, HealthSettings
from rgbx_seg_ros.health.report import InputReport, NodeReport
from rgbx_seg_ros.health.telemetry import Telemetry

__all__ = ['Assessor', 'Health', 'HealthSettings', 'InputReport', 'NodeReport', 'Telemetry']
