# Copyright 2026 rgbx_seg_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""
PST900: 885 pairs of RGB and thermal frames from tunnels and caves, five classes, 720x1280.

Shivakumar, Rodrigues, Zhou, Miller, Kumar, Taylor, "PST900: RGB-Thermal Calibration, Dataset and
Segmentation Network", ICRA 2020; github.com/ShreyasSkandanS/pst900_thermal_rgb. Its terms are not
known to us.

As downloaded: `{train,test}/{rgb,thermal,thermal_raw,depth,labels}`. X is `thermal/`, 8 bits with
the camera's gain control, 0 where the projection onto RGB left a hole. The authors' page tells of
606 pairs for training, later papers of 597, which we expect. The order of the classes is that of
the paper's table I; its colours are those of the authors' tools. Other projects swap classes 1 to
3: look at the contact sheet.
"""

from rgbx_seg_ros.datasets.base import classes, PairedDataset


class Pst900(PairedDataset):
    """PST900 as downloaded."""

    CLASSES = classes(
        ('background', (0, 0, 0)), ('fire_extinguisher', (255, 0, 0)), ('backpack', (0, 255, 0)),
        ('hand_drill', (0, 0, 255)), ('survivor', (255, 255, 255)))
    X_KIND = 'thermal'
    X_TYPE = 'uint8'
    SIZE = (720, 1280)
    SPLITS = {'train': 597, 'test': 288}

    def _find(self):
        folder = self.root / self.split
        return self._pair(folder / 'rgb', folder / 'thermal', folder / 'labels')
