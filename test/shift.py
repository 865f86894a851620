# Copyright 2026 rgbx_seg_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""
How far masks change while X moves against RGB, as a camera does that is knocked.

Run as `python test/shift.py --model CARD --data FOLDER`, a folder with rgb/ and one of X. The
content of X moves to the right, and what comes in at the left repeats its edge. Each class is
compared with its mask of no shift, by the pixels of all frames together.
"""

import argparse
from pathlib import Path

import numpy as np
from rgbx_seg_ros.datasets import FolderDataset
from rgbx_seg_ros.evaluation.metrics import ConfusionMatrix
from rgbx_seg_ros.inference.segmenter import Segmenter
from rgbx_seg_ros.tables import aligned

SHIFTS = (0, 2, 4, 8, 12, 16)


def moved(x, pixels):
    """Return X with its content `pixels` further to the right."""
    columns = np.arange(x.shape[1]) - pixels
    return np.ascontiguousarray(x[:, columns.clip(0)])


def main():
    """Print a table: for each shift the IoU of each class with its mask of no shift."""
    parser = argparse.ArgumentParser(description=__doc__.strip().splitlines()[0])
    parser.add_argument('--model', required=True, help='name or path of a card')
    parser.add_argument('--data', required=True, type=Path, help='folder with rgb/ and one of X')
    parser.add_argument('--split', help='a folder in it')
    args = parser.parse_args()
    segmenter = Segmenter.from_card(args.model, device='cpu')
    names = [each.name for each in segmenter.labels]
    matrices = {shift: ConfusionMatrix(len(names)) for shift in SHIFTS}
    for sample in FolderDataset(args.data, args.split):
        still = segmenter(sample.rgb, sample.x).mask
        for shift, matrix in matrices.items():
            matrix.update(still, segmenter(sample.rgb, moved(sample.x, shift)).mask)
    rows = [['shift', *names]]
    rows += [[f'{shift} px', *(f'{100 * score:.1f}' for score in matrix.iou())]
             for shift, matrix in matrices.items()]
    print('\n'.join(aligned(rows, '<' + '>' * len(names))))


if __name__ == '__main__':
    main()
