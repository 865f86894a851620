# Copyright 2026 rgbx_seg_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""RGB-X semantic segmentation for ROS 2: a camera paired with thermal, depth or polarization."""

from importlib import import_module
from typing import Any

__version__ = '0.1.0'

_HOMES = {'load_card': 'cards', 'NETWORKS': 'networks', 'open_dataset': 'datasets',
          'Segmenter': 'inference'}
__all__ = [*_HOMES]


def __getattr__(name: str) -> Any:
    """Import what is public when it is asked for: `rgbx-seg --version` must not wait for torch."""
    if name not in _HOMES:
        raise AttributeError(f'module {__name__!r} has no attribute {name!r}')
    return getattr(import_module(f'{__name__}.{_HOMES[name]}'), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
