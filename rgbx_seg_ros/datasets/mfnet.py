# Copyright 2026 rgbx_seg_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""
MFNet: 1569 pairs of RGB and thermal frames of roads by day and night, nine classes, 480x640.

Ha, Watanabe, Karasawa, Ushiku, Harada, "MFNet: Towards Real-Time Semantic Segmentation for
Autonomous Vehicles with Multi-Spectral Scenes", IROS 2017. Its terms are not known to us.

As downloaded, `images/NAME.png` has four channels, the fourth is thermal; `labels/NAME.png` has
the class ids; train.txt, val.txt and test.txt name the frames. Later papers use copies whose
colour and thermal frames are in folders of their own, or beside each other in `seperated_images/`
as NAME_rgb.png and NAME_th.png. Names end with D by day and N at night.
"""

from rgbx_seg_ros.datasets.base import classes, PairedDataset
from rgbx_seg_ros.datasets.files import first_folder, images_in, read_channels
from rgbx_seg_ros.errors import DataError

MFNET_CLASSES = classes(
    ('unlabeled', (0, 0, 0)), ('car', (64, 0, 128)), ('person', (64, 64, 0)),
    ('bike', (0, 128, 192)), ('curve', (0, 0, 192)), ('car_stop', (128, 128, 0)),
    ('guardrail', (64, 64, 128)), ('color_cone', (192, 128, 128)), ('bump', (192, 64, 0)))
"""The classes of MFNet, which MSRS shares."""

_BOTH = ('seperated_images', 'separated_images')
"""Folders of colour and thermal frames beside each other, the first name as published."""


class MFNet(PairedDataset):
    """
    MFNet as downloaded, or with frames split into `rgb/` and `thermal/` or `seperated_images/`.

    The splits test_day and test_night are those of test.txt, told apart by their names.
    """

    CLASSES = MFNET_CLASSES
    X_KIND = 'thermal'
    X_TYPE = 'uint8'
    SIZE = (480, 640)
    SPLITS = {'train': 784, 'val': 392, 'test': 393, 'test_day': 205, 'test_night': 188}

    def _find(self):
        name, _, part = self.split.partition('_')
        split_list = self.root / f'{name}.txt'
        label = first_folder(self.root, 'labels', 'label', 'Label')
        rgb = first_folder(self.root, 'images', 'rgb', 'RGB', *_BOTH)
        x = rgb
        self._in_one = rgb.name == 'images'
        if not self._in_one:
            x = rgb if rgb.name in _BOTH else first_folder(self.root, 'thermal', 'th', 'Thermal')
            rgb, x = ((folder, self._ending(folder, ending))
                      for folder, ending in ((rgb, '_rgb'), (x, '_th')))
        files = self._pair(rgb, x, label, split_list)
        wanted = {'day': 'D', 'night': 'N'}.get(part, '')
        return {name: file for name, file in files.items() if name.endswith(wanted)}

    @staticmethod
    def _ending(folder, ending):
        """Return `ending` where the images of a folder bear it, as in some of the copies."""
        return ending if any(images_in(folder, ending)) else ''

    def _read_frames(self, name):
        if not self._in_one:
            return super()._read_frames(name)
        path = self._files[name].rgb
        image = read_channels(path)
        if image.ndim != 3 or image.shape[2] != 4:
            raise DataError(f'{str(path)!r} is {image.shape!r}, needed are four channels, '
                            'red, green, blue and thermal')
        return image[..., :3].copy(), image[..., 3].copy()
