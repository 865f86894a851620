# Copyright 2026 rgbx_seg_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""The data sets by name. A new one is a module, a line here and a recipe in `config/train/`."""

from rgbx_seg_ros.datasets.base import Sample
from rgbx_seg_ros.datasets.folder import FolderDataset

__all__ = ['DATASETS', 'FolderDataset', 'Sample']

DATASETS = {
    'folder': FolderDataset,
}
