# Copyright 2026 rgbx_seg_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""
FMB: 1500 pairs of RGB and thermal frames of roads by day and night, 15 ids, 600x800.

Liu, Liu, Wu, Ma, Liu, Zhong, Luo, Fan, "Multi-interactive Feature Learning and a Full-time
Multi-modality Benchmark for Image Fusion and Segmentation", ICCV 2023;
github.com/JinyuanLiu-CV/SegMiF. Its terms are not known to us.

As downloaded: `{train,test}/{Visible,Infrared,Label,color}`; `color/` is not read. Names and
colours are those of DiFusionSeg, whose cards use them. What it calls unlabeled, id 13, is bicycle
in other lists, and most papers leave id 0 out of their mean.
"""

from rgbx_seg_ros.datasets.base import classes, PairedDataset


class Fmb(PairedDataset):
    """FMB as downloaded."""

    CLASSES = classes(
        ('background', (0, 0, 0)), ('road', (179, 228, 228)), ('sidewalk', (181, 57, 133)),
        ('building', (67, 162, 177)), ('lamp', (200, 178, 50)), ('sign', (132, 45, 199)),
        ('vegetation', (66, 172, 84)), ('sky', (179, 73, 79)), ('person', (76, 99, 166)),
        ('car', (66, 121, 253)), ('truck', (137, 165, 91)), ('bus', (155, 97, 152)),
        ('motor', (105, 153, 140)), ('unlabeled', (222, 215, 158)), ('pole', (135, 113, 90)))
    X_KIND = 'thermal'
    X_TYPE = 'uint8'
    SIZE = (600, 800)
    SPLITS = {'train': 1220, 'test': 280}

    def _find(self):
        folder = self.root / self.split
        return self._pair(folder / 'Visible', folder / 'Infrared', folder / 'Label')
