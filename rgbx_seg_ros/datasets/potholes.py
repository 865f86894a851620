# Copyright 2026 rgbx_seg_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""
Potholes: road surfaces seen by a stereo camera, RGB and transformed disparity, two classes.

Fan, Ozgunalp, Hosking, Liu, Pitas, "Pothole Detection Based on Disparity Transformation and Road
Surface Modeling", IEEE Transactions on Image Processing 29, 2019. The frames are from
github.com/ruirangerfan/stereo_pothole_datasets, under MIT; this is a copy of 56 frames at 384x640
in the layout `{train,test}/{rgb,disparity,label}`, divided by holes.

X has 16 bits: the flat road is about constant and holes are darker; 0 is no measurement. It is
not metric, and its range differs from frame to frame.
"""

from rgbx_seg_ros.datasets.base import classes
from rgbx_seg_ros.datasets.folder import FolderDataset


class Potholes(FolderDataset):
    """Potholes in RGB and transformed disparity."""

    CLASSES = classes(('background', (0, 0, 0)), ('pothole', (128, 0, 0)))
    X_KIND = 'depth'
    X_TYPE = 'uint16'
    SIZE = (384, 640)
    SAME_SIZE = True
    SPLITS = {'train': 43, 'test': 13}
