# Copyright 2026 rgbx_seg_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""
Cityscapes: 5000 street scenes of 50 cities, RGB and disparity, 19 classes, 1024x2048.

Cordts, Omran, Ramos, Rehfeld, Enzweiler, Benenson, Franke, Roth, Schiele, "The Cityscapes Dataset
for Semantic Urban Scene Understanding", CVPR 2016; www.cityscapes-dataset.com, free for research
after registration, under terms of its own. Ids as in github.com/mcordts/cityscapesScripts.

As downloaded, from leftImg8bit_trainvaltest, gtFine_trainvaltest and disparity_trainvaltest:
`TYPE/SPLIT/CITY/CITY_SEQUENCE_FRAME_TYPE.png`. X has 16 bits: (x - 1) / 256 is the disparity in
pixels, 0 no measurement. The labels of the test split are not public: its frames have none.
"""

from rgbx_seg_ros.cards.labels import UNLABELED
from rgbx_seg_ros.datasets.base import classes, PairedDataset
from rgbx_seg_ros.datasets.files import folders_in
from rgbx_seg_ros.errors import DataError

_STORED = (7, 8, 11, 12, 13, 17, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 31, 32, 33)
"""Stored id of each class; the other ids, 0 to 33, are left out of training and scores."""


class Cityscapes(PairedDataset):
    """Cityscapes as downloaded."""

    CLASSES = classes(
        ('road', (128, 64, 128)), ('sidewalk', (244, 35, 232)), ('building', (70, 70, 70)),
        ('wall', (102, 102, 156)), ('fence', (190, 153, 153)), ('pole', (153, 153, 153)),
        ('traffic_light', (250, 170, 30)), ('traffic_sign', (220, 220, 0)),
        ('vegetation', (107, 142, 35)), ('terrain', (152, 251, 152)), ('sky', (70, 130, 180)),
        ('person', (220, 20, 60)), ('rider', (255, 0, 0)), ('car', (0, 0, 142)),
        ('truck', (0, 0, 70)), ('bus', (0, 60, 100)), ('train', (0, 80, 100)),
        ('motorcycle', (0, 0, 230)), ('bicycle', (119, 11, 32)))
    IDS = {**dict.fromkeys(range(34), UNLABELED), **{i: own for own, i in enumerate(_STORED)}}
    X_KIND = 'depth'
    X_TYPE = 'uint16'
    SIZE = (1024, 2048)
    SPLITS = {'train': 2975, 'val': 500, 'test': 1525}

    def _find(self):
        rgb, x, label = (self.root / kind / self.split
                         for kind in ('leftImg8bit', 'disparity', 'gtFine'))
        if not rgb.is_dir():
            raise DataError(f'the folder {str(rgb)!r} is missing: unpack '
                            'leftImg8bit_trainvaltest.zip here')
        files = {}
        for city in folders_in(rgb):
            files.update(self._pair(
                (rgb / city, '_leftImg8bit'), (x / city, '_disparity'),
                (label / city, '_gtFine_labelIds') if self.split != 'test' else None))
        return files
