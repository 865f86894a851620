# Copyright 2026 rgbx_seg_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""`rgbx-seg predict`: segment image files."""

from pathlib import Path
import time
import warnings

import numpy as np
from rgbx_seg_ros.errors import DataError
from rgbx_seg_ros.files import check_outputs
from rgbx_seg_ros.frames.images import read_image, read_rgb, write_image
from rgbx_seg_ros.frames.raw import is_painted
from rgbx_seg_ros.inference.segmenter import Segmenter
from rgbx_seg_ros.inference.tiles import segment_tiles
from rgbx_seg_ros.tables import wrapped

_LOSSLESS = ('.png', '.tif', '.tiff', '.bmp')


def add_arguments(parser):
    """Declare the command's arguments."""
    parser.add_argument('rgb', type=Path, help='colour image')
    parser.add_argument('x', type=Path, help='image of the second modality, 8 or 16 bit')
    parser.add_argument('-m', '--model', metavar='CARD', default='msrs_scene',
                        help='a card, or the name of one (default: %(default)s); one with a '
                             'window takes TIFF or PNG of any size')
    parser.add_argument('-o', '--out', metavar='FILE', type=Path, default=Path('overlay.png'),
                        help='overlay to write (default: %(default)s)')
    parser.add_argument('--mask', metavar='FILE', type=Path,
                        help='mask to write: class ids, one byte a pixel')
    parser.add_argument('--fused', metavar='FILE', type=Path,
                        help='fused image to write, from a network that makes one')
    parser.add_argument('--device', default='auto', help='auto, cpu or cuda (default: auto)')


def main(args):
    """Run the command."""
    check_outputs((args.out, args.mask, args.fused), (args.rgb, args.x))
    if args.mask and args.mask.suffix.lower() not in _LOSSLESS:
        raise DataError(f'mask {str(args.mask)!r}: allowed endings are {", ".join(_LOSSLESS)}, '
                        'other formats may change class ids')
    segmenter = Segmenter.from_card(args.model, device=args.device)
    if args.fused and not segmenter.fuses:
        raise DataError(f'the network {segmenter.card.network!r} makes no fused image: leave out '
                        '--fused or take another model')
    started = time.perf_counter()
    predict = _predict_large if segmenter.card.window else _predict
    counts = predict(args, segmenter)
    seconds = time.perf_counter() - started
    found = ', '.join(f'{label.name} {100 * counts[label.id] / counts.sum():.1f} %'
                      for label in segmenter.labels if counts[label.id])
    print(wrapped(f'{args.out}: {found} ({seconds:.2f} s on {segmenter.engine.device})',
                  indent='    '))


def _predict(args, segmenter):
    """Segment the files at once; return the number of pixels of each class."""
    rgb, x = read_rgb(args.rgb), read_image(args.x)
    if segmenter.card.x.kind == 'thermal' and is_painted(x):
        warnings.warn(f'{str(args.x)!r} is in false colours: a model for thermal takes what the '
                      'sensor measures, or grey', stacklevel=2)
    result = segmenter(rgb, x)
    write_image(args.out, segmenter.labels.overlay(rgb, result.mask))
    if args.mask:
        write_image(args.mask, result.mask)
    if args.fused:
        write_image(args.fused, result.fused)
    return np.bincount(result.mask.ravel(), minlength=len(segmenter.labels))


def _predict_large(args, segmenter):
    """Slide the card's window over the files; return the number of pixels of each class."""
    return segment_tiles(segmenter.engine.network, segmenter.card, args.rgb, args.x,
                         mask_path=args.mask, overlay_path=args.out)
