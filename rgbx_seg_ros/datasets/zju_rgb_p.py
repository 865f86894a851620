# Copyright 2026 rgbx_seg_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""
ZJU-RGB-P: 394 scenes of a campus in RGB and polarization, eight classes.

Xiang, Yang, Wang, "Polarization-driven semantic segmentation via efficient attention-bridged
fusion", Optics Express 29 (4), 2021; huggingface.co/datasets/Zhonghua/ZJU_RGB_P. Its terms are not
known to us.

We could not see the download. By the reader of another project it is
`{train,val}/0/NAME_image0_0.png`, the colour frame behind a polarizer at 0 degrees,
`{train,val}/aolp/NAME_aolp.png`, the angle of linear polarization, which is X here, and
`{train,val}/label/NAME_image0.png`, indexed or in the colours below, black for unlabeled. The
numbers of pairs, 344 and 50, are those that papers state. Check the order of the classes on the
contact sheet.
"""

from rgbx_seg_ros.cards.labels import UNLABELED
from rgbx_seg_ros.datasets.base import classes, PairedDataset
from rgbx_seg_ros.datasets.files import first_folder


class ZjuRgbP(PairedDataset):
    """ZJU-RGB-P; X is the angle of linear polarization."""

    CLASSES = classes(
        ('building', (128, 0, 0)), ('glass', (0, 128, 0)), ('car', (128, 128, 0)),
        ('road', (0, 0, 128)), ('vegetation', (128, 0, 128)), ('sky', (0, 128, 128)),
        ('pedestrian', (128, 128, 128)), ('bicycle', (64, 0, 0)))
    IDS = {0: UNLABELED, **{i + 1: i for i in range(8)}}
    COLORS = ((0, 0, 0), *(label.color for label in CLASSES))
    X_KIND = 'polarization'
    X_TYPE = 'uint8'
    SPLITS = {'train': 344, 'val': 50}

    def _find(self):
        folder = self.root / self.split
        return self._pair((folder / '0', '_image0_0'),
                          (first_folder(folder, 'aolp', 'aolp2'), '_aolp'),
                          (folder / 'label', '_image0'))
