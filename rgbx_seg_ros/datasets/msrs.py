# Copyright 2026 rgbx_seg_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""
MSRS: 1444 pairs of MFNet's frames that fit, thermal enhanced, nine classes, 480x640.

Tang, Yuan, Zhang, Jiang, Ma, "PIAFusion: A progressive infrared and visible image fusion network
based on illumination aware", Information Fusion 2022; github.com/Linfeng-Tang/MSRS, which states
no licence that we know of. Names end with D by day and N at night.

As downloaded: `{train,test}/{vi,ir,Segmentation_labels}`. Some copies name the labels' folder
`label` or `labels`, which we know by hearsay alone. The ids are those of MFNet.
"""

from rgbx_seg_ros.datasets.base import PairedDataset
from rgbx_seg_ros.datasets.files import first_folder
from rgbx_seg_ros.datasets.mfnet import MFNET_CLASSES


class Msrs(PairedDataset):
    """MSRS as downloaded."""

    CLASSES = MFNET_CLASSES
    X_KIND = 'thermal'
    X_TYPE = 'uint8'
    SIZE = (480, 640)
    SPLITS = {'train': 1083, 'test': 361}

    def _find(self):
        folder = self.root / self.split
        return self._pair(first_folder(folder, 'vi', 'Vis', 'Visible'),
                          first_folder(folder, 'ir', 'Ir', 'Infrared'),
                          first_folder(folder, 'Segmentation_labels', 'label', 'labels'))
