# Copyright 2026 rgbx_seg_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""
A whole model as an ONNX file, in float32 or in INT8.

It uses `inference` and those above it.
"""

from rgbx_seg_ros.export.onnx import export, export_int8

__all__ = ['export', 'export_int8']
