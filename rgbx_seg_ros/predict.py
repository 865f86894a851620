# Copyright 2026 rgbx_seg_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""`rgbx-seg predict`: segment image files."""

from pathlib import Path

from rgbx_seg_ros.errors import DataError
from rgbx_seg_ros.images import read_image, read_rgb, write_image
from rgbx_seg_ros.segmenter import Segmenter


def add_arguments(parser):
    """Declare the command's arguments."""
    parser.add_argument('rgb', type=Path, help='colour image')
    parser.add_argument('x', type=Path, help='image of the second modality, 8 or 16 bit')
    parser.add_argument('-m', '--model', metavar='CARD', default='msrs_person_car_bike',
                        help='a card, or the name of one (default: %(default)s)')
    parser.add_argument('-o', '--out', metavar='FILE', type=Path, default=Path('overlay.png'),
                        help='overlay to write (default: %(default)s)')
    parser.add_argument('--mask', metavar='FILE', type=Path,
                        help='mask to write: class ids, one byte a pixel')
    parser.add_argument('--device', default='auto', help='auto, cpu or cuda (default: auto)')


def main(args):
    """Run the command."""
    if args.mask and args.mask.suffix.lower() in ('.jpg', '.jpeg', '.webp'):
        raise DataError(f'mask {str(args.mask)!r}: that format changes class ids, use .png')
    rgb, x = read_rgb(args.rgb), read_image(args.x)
    segmenter = Segmenter.from_card(args.model, device=args.device)
    result = segmenter(rgb, x)
    write_image(args.out, segmenter.labels.overlay(rgb, result.mask))
    if args.mask:
        write_image(args.mask, result.mask)
    total = result.mask.size
    found = ', '.join(f'{label.name} {100 * (result.mask == label.id).sum() / total:.1f} %'
                      for label in segmenter.labels)
    print(f'{args.out}: {found} ({result.inference_ms:.0f} ms on {segmenter.engine.device})')
