# Copyright 2026 rgbx_seg_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""Frames and processes for the tests of ONNX Runtime."""

import subprocess
import sys

import numpy as np

_RNG = np.random.default_rng(0)
PAIR = (_RNG.integers(0, 256, (70, 90, 3), np.uint8), _RNG.integers(0, 5000, (50, 60), np.uint16),
        (100.0, 4000.0))


def process(code):
    """Return a process that runs `code` and answers as a build does."""
    return subprocess.Popen([sys.executable, '-S', '-c', code], stdin=subprocess.PIPE,
                            stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
                            start_new_session=True)
