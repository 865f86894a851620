# Copyright 2026 rgbx_seg_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""
Small copies of every data set, in the layout and the encoding of the download.

Each function writes one below `root` and returns what a reader should find there: by split, by
name, the Sample.
"""

import cv2
import numpy as np
from rgbx_seg_ros.cards.labels import UNLABELED
from rgbx_seg_ros.datasets import DATASETS, Sample
from rgbx_seg_ros.datasets.cityscapes import Cityscapes

SIZE = (32, 48)


def sample(name, dataset, x_type=np.uint8, size=SIZE, x_channels=1):
    """Return a Sample of noise with blocks of all classes of a data set, and of no class."""
    rng = np.random.default_rng([ord(c) for c in name])
    count = len(DATASETS[dataset].CLASSES)
    y, x = np.indices(size)
    label = ((x // 4 + 7 * (y // 4) + int(rng.integers(count))) % (count + 1)).astype(np.uint8)
    label[label == count] = UNLABELED
    shape = size if x_channels == 1 else (*size, x_channels)
    high = {'uint8': 256, 'uint16': 65536, 'float32': 90}[np.dtype(x_type).name]
    return Sample(name, rng.integers(0, 256, (*size, 3), np.uint8),
                  (rng.random(shape) * high).astype(x_type), label)


def write(path, image):
    """Write an image, colours given in RGB or RGBA order."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if image.ndim == 3:
        order = cv2.COLOR_RGBA2BGRA if image.shape[2] == 4 else cv2.COLOR_RGB2BGR
        image = cv2.cvtColor(image, order)
    assert cv2.imwrite(str(path), image)


def shifted(label):
    """Return ids as many data sets store them: 0 for none, the classes from 1 on."""
    return np.where(label == UNLABELED, 0, label + 1).astype(np.uint8)


def write_pair(found, rgb, x, label, stored=None):
    """Write the three images of a Sample to these paths."""
    write(rgb, found.rgb)
    write(x, found.x)
    write(label, found.label if stored is None else stored)


def write_list(path, names):
    path.write_text(''.join(f'{name}\n' for name in names))


MFNET = {'train': ('00001D', '00002N'), 'val': ('00003D',), 'test': ('00004D', '00005N', '00006N')}


def mfnet(root):
    expected = {split: {name: sample(name, 'mfnet') for name in names}
                for split, names in MFNET.items()}
    for split, found in expected.items():
        for name, one in found.items():
            write(root / 'images' / f'{name}.png', np.dstack([one.rgb, one.x]))
            write(root / 'labels' / f'{name}.png', one.label)
        write_list(root / f'{split}.txt', found)
    for part, end in (('test_day', 'D'), ('test_night', 'N')):
        expected[part] = {name: one for name, one in expected['test'].items() if name[-1] == end}
    return expected


def msrs(root):
    return _by_split(root, 'msrs', {'train': ('00001D', '00002N'), 'test': ('00003D',)},
                     ('vi', 'ir', 'Segmentation_labels'))


def pst900(root):
    return _by_split(root, 'pst900', {'train': ('1_bag1_frame01', '1_bag1_frame02'),
                                      'test': ('31_bag1a_frame07',)},
                     ('rgb', 'thermal', 'labels'))


def fmb(root):
    return _by_split(root, 'fmb', {'train': ('00001', '00002'), 'test': ('00003',)},
                     ('Visible', 'Infrared', 'Label'))


def potholes(root):
    return _by_split(root, 'potholes', {'train': ('d1_01', 'd2_06'), 'test': ('d2_01',)},
                     ('rgb', 'disparity', 'label'), np.uint16)


def gmrpd(root):
    return _by_split(root, 'gmrpd', {'demo': ('gmrpd_1', 'sslg_1')}, ('rgb', 'depth', 'label'),
                     np.uint16)


def _by_split(root, dataset, splits, folders, x_type=np.uint8):
    expected = {}
    for split, names in splits.items():
        expected[split] = {name: sample(name, dataset, x_type) for name in names}
        for name, one in expected[split].items():
            write_pair(one, *(root / split / folder / f'{name}.png' for folder in folders))
    return expected


def cityscapes(root):
    stored = np.zeros(256, np.uint8)
    for i, own in Cityscapes.IDS.items():
        stored[own] = i  # the last of the ids without a class serves for all
    expected = {}
    for split, cities in {'train': ('aachen', 'ulm'), 'val': ('lindau',),
                          'test': ('bonn',)}.items():
        expected[split] = {}
        for city in cities:
            name = f'{city}_000000_000019'
            one = sample(name, 'cityscapes', np.uint16)
            write(root / 'leftImg8bit' / split / city / f'{name}_leftImg8bit.png', one.rgb)
            write(root / 'disparity' / split / city / f'{name}_disparity.png', one.x)
            label = root / 'gtFine' / split / city / f'{name}_gtFine_labelIds.png'
            write(label, stored[one.label])
            write(label.with_name(f'{name}_gtFine_color.png'), one.rgb)
            if split == 'test':
                one = Sample(name, one.rgb, one.x, None)
            expected[split][name] = one
    return expected


def nyuv2(root, dataset='nyuv2', folder='Depth', x_type=np.uint16, x_channels=1):
    expected = {}
    for split, numbers in {'train': (2, 5), 'test': (0, 1)}.items():
        expected[split] = {str(i): sample(str(i), dataset, x_type, x_channels=x_channels)
                           for i in numbers}
        for name, one in expected[split].items():
            write_pair(one, root / 'RGB' / f'{name}.png', root / folder / f'{name}.png',
                       root / 'Label' / f'{name}.png', shifted(one.label))
        write_list(root / f'{split}.txt', [f'RGB/{name}.png Label/{name}.png' for name in
                                           expected[split]])
    return expected


def nyuv2_hha(root):
    return nyuv2(root, 'nyuv2_hha', 'HHA', np.uint8, x_channels=3)


def nyuv2_mat(root):
    import h5py
    from scipy.io import savemat

    root.mkdir(parents=True, exist_ok=True)
    frames = [sample(f'{i:04}', 'nyuv2_mat', np.float32) for i in range(1, 5)]
    # Of 80 labels two become each class, as 894 become 40 in the original.
    stored = [np.where(one.label == UNLABELED, 0, one.label + 1 + 40 * (i % 2))
              for i, one in enumerate(frames)]
    with h5py.File(root / 'nyu_depth_v2_labeled.mat', 'w') as file:
        file['images'] = np.stack([one.rgb.transpose(2, 1, 0) for one in frames])
        file['depths'] = np.stack([one.x.T for one in frames])
        file['labels'] = np.stack([label.T for label in stored]).astype(np.uint16)
    savemat(root / 'splits.mat', {'trainNdxs': [[3], [1]], 'testNdxs': [[2], [4]]})
    savemat(root / 'classMapping40.mat', {'mapClass': [[*range(1, 41), *range(1, 41)]]})
    return {split: {frames[i].name: frames[i] for i in chosen}
            for split, chosen in {'train': (0, 2), 'test': (1, 3)}.items()}


def zju_rgb_p(root):
    expected = {}
    for split, names in {'train': ('1', '2'), 'val': ('3',)}.items():
        expected[split] = {name: sample(name, 'zju_rgb_p') for name in names}
        for name, one in expected[split].items():
            folder = root / split
            colors = np.array(DATASETS['zju_rgb_p'].COLORS, np.uint8)[shifted(one.label)]
            write_pair(one, folder / '0' / f'{name}_image0_0.png',
                       folder / 'aolp' / f'{name}_aolp.png', folder / 'label' /
                       f'{name}_image0.png', colors)
    return expected


def vaihingen(root):
    def paths(tile):
        name = f'top_mosaic_09cm_area{tile}'
        return (f'top/{name}.tif', f'dsm/dsm_09cm_matching_area{tile}.tif',
                f'gts_for_participants/{name}.tif',
                f'gts_eroded_for_participants/{name}_noBoundary.tif')
    return _tiles(root, 'vaihingen', paths)


def potsdam(root):
    def paths(tile):
        row, column = map(int, tile.split('_'))
        label = f'top_potsdam_{tile}_label'
        return (f'2_Ortho_RGB/top_potsdam_{tile}_RGB.tif',
                f'1_DSM/dsm_potsdam_{row:02}_{column:02}.tif', f'5_Labels_all/{label}.tif',
                f'5_Labels_all_noBoundary/{label}_noBoundary.tif')
    return _tiles(root, 'potsdam', paths)


def _tiles(root, dataset, paths):
    expected = {split: {} for split in ('train', 'test', 'test_eroded')}
    palette = DATASETS[dataset].CLASSES.palette()
    for split, tiles in DATASETS[dataset].TILES.items():
        for tile in tiles:
            one = sample(f'{tile}_y0_x0', dataset, np.float32)
            rgb, x, label, eroded = (root / path for path in paths(tile))
            write_pair(one, rgb, x, label, palette[one.label])
            limits = float(one.x.min()), float(one.x.max())
            expected[split][one.name] = Sample(one.name, one.rgb, one.x, one.label, limits)
            if split == 'test':
                without = one.label.copy()
                without[:, ::5] = UNLABELED
                write(eroded, palette[without])
                expected['test_eroded'][one.name] = Sample(one.name, one.rgb, one.x, without,
                                                           limits)
    return expected


def folder(root):
    """Write a folder without a description: one split, ids as they are."""
    expected = {name: sample(name, 'potholes') for name in ('a0', 'a1', 'a2', 'a3')}
    for name, one in expected.items():
        write_pair(one, *(root / kind / f'{name}.png' for kind in ('rgb', 'thermal', 'label')))
    return {None: expected}


TREES = {
    'cityscapes': cityscapes,
    'fmb': fmb,
    'folder': folder,
    'gmrpd': gmrpd,
    'mfnet': mfnet,
    'msrs': msrs,
    'nyuv2': nyuv2,
    'nyuv2_hha': nyuv2_hha,
    'nyuv2_mat': nyuv2_mat,
    'potholes': potholes,
    'potsdam': potsdam,
    'pst900': pst900,
    'vaihingen': vaihingen,
    'zju_rgb_p': zju_rgb_p,
}
