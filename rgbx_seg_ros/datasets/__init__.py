# Copyright 2026 rgbx_seg_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""The data sets by name. A new one is a module, a line here and a recipe in `config/train/`."""

from collections.abc import Iterable
from pathlib import Path

from rgbx_seg_ros.datasets.base import PairedDataset, Sample
from rgbx_seg_ros.datasets.cityscapes import Cityscapes
from rgbx_seg_ros.datasets.fmb import Fmb
from rgbx_seg_ros.datasets.folder import FolderDataset
from rgbx_seg_ros.datasets.gmrpd import Gmrpd
from rgbx_seg_ros.datasets.isprs import Potsdam, Vaihingen
from rgbx_seg_ros.datasets.mfnet import MFNet
from rgbx_seg_ros.datasets.msrs import Msrs
from rgbx_seg_ros.datasets.nyuv2 import NyuV2, NyuV2Hha, NyuV2Mat
from rgbx_seg_ros.datasets.potholes import Potholes
from rgbx_seg_ros.datasets.pst900 import Pst900
from rgbx_seg_ros.datasets.zju_rgb_p import ZjuRgbP
from rgbx_seg_ros.errors import DataError
from rgbx_seg_ros.fields import unknown_name

__all__ = ['DATASETS', 'FolderDataset', 'open_dataset', 'PairedDataset', 'Sample']

DATASETS = {
    'cityscapes': Cityscapes,
    'fmb': Fmb,
    'folder': FolderDataset,
    'gmrpd': Gmrpd,
    'mfnet': MFNet,
    'msrs': Msrs,
    'nyuv2': NyuV2,
    'nyuv2_hha': NyuV2Hha,
    'nyuv2_mat': NyuV2Mat,
    'potholes': Potholes,
    'potsdam': Potsdam,
    'pst900': Pst900,
    'vaihingen': Vaihingen,
    'zju_rgb_p': ZjuRgbP,
}


def open_dataset(name: str, root: str | Path, split: str | None = None,
                 exclude: Iterable[str] = (), whole: bool = False) -> PairedDataset:
    """Return the split of the data set `name` that lies below `root`; see PairedDataset."""
    if name not in DATASETS:
        raise DataError(f'data set {unknown_name(name, DATASETS)}')
    return DATASETS[name](root, split, exclude, whole)
