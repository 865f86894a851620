# Copyright 2026 rgbx_seg_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""How the threads of PyTorch wait for each other."""

from collections.abc import MutableMapping


def wait_without_spinning(environment: MutableMapping[str, str]) -> None:
    """
    Let OpenMP's threads sleep while they wait, unless `environment` says how they wait.

    By default they do so at full speed, hundreds of times in a frame, and beside one other busy
    process that turns its 0.1 s into seconds. OpenMP reads the environment as torch is imported:
    whatever starts a process calls this before.
    """
    environment.setdefault('OMP_WAIT_POLICY', 'PASSIVE')
