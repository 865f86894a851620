# Copyright 2026 rgbx_seg_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""
GMRPD: pavements seen by a ground robot, RGB and depth, drivable area and road anomalies.

Wang, Sun, Liu, "Self-Supervised Drivable Area and Road Anomaly Segmentation Using RGB-D Data for
Robotic Wheelchairs", IEEE Robotics and Automation Letters, 2019. The whole set has 3896 frames at
720x1280, which this module has not been tried on; the samples in github.com/hlwang1124/GMRPD
(MIT) and hlwang1124/SSLG (Apache-2.0) are copied at half size to `demo/{rgb,depth,label}`.

X has 16 bits: 0 is no measurement and 65535 too far; the unit, it seems millimetres, is not
stated. The order of the classes is that of the authors' description.
"""

from rgbx_seg_ros.datasets.base import classes
from rgbx_seg_ros.datasets.folder import FolderDataset


class Gmrpd(FolderDataset):
    """Drivable area and road anomalies in RGB and depth."""

    CLASSES = classes(('background', (0, 0, 0)), ('drivable_area', (0, 255, 0)),
                      ('road_anomaly', (255, 0, 0)))
    X_KIND = 'depth'
    X_TYPE = 'uint16'
    SAME_SIZE = True
    SPLITS = {'demo': 5}
