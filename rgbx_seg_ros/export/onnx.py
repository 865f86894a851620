# Copyright 2026 rgbx_seg_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""`rgbx-seg export`: write a model as an ONNX file, for a runtime of one's own."""

import os
from pathlib import Path
from tempfile import TemporaryDirectory
import warnings

from rgbx_seg_ros.datasets import FolderDataset
from rgbx_seg_ros.engines.model_files import Difference, FrameKind
from rgbx_seg_ros.engines.onnx_files import OnnxModel, OPSET, write_onnx
from rgbx_seg_ros.engines.trials import converted, range_of, resized
from rgbx_seg_ros.errors import DataError, EngineError
from rgbx_seg_ros.export.quantization import CALIBRATION_FRAMES, Cost, cost, quantize
from rgbx_seg_ros.files import appearing, check_outputs
from rgbx_seg_ros.frames.raw import find_x_limits, X_TYPES
from rgbx_seg_ros.inference.segmenter import Segmenter
from rgbx_seg_ros.resources import share_dir
from rgbx_seg_ros.tables import wrapped

_PAIRS_TRIED = 10


def export(segmenter: Segmenter, path: Path, kind: FrameKind, pairs) -> Difference:
    """
    Write the model of a segmenter, which runs on the CPU in PyTorch, for one kind of frames.

    Each of `pairs`, (rgb, x) of that kind, must come out of the file as out of PyTorch in float32:
    up to what rounding explains, or nothing appears at `path` and EngineError is raised; DataError
    without a pair. Return the largest difference.
    """
    engine = segmenter.engine
    with appearing(path) as part:
        write_onnx(engine.network, segmenter.card, part, kind)
        model = OnnxModel(part)
        differences = [Difference.between(engine(*inputs), model(*inputs))
                       for inputs in ((rgb, x, range_of(x)) for rgb, x, *_ in pairs)]
        if not differences:
            raise DataError(f'{str(path)!r} is not written: there is no pair to try it on')
        difference = Difference.worst(differences)
        if not difference.is_small():
            raise EngineError(f'{str(path)!r} is not written, as it differs too much from '
                              f'PyTorch: {difference}')
    return difference


def export_int8(segmenter: Segmenter, path: Path, kind: FrameKind, pairs) -> Cost:
    """
    Write the same model in 8 bits, calibrated on `pairs`: (rgb, x, label or None) of that kind.

    Return what the 8 bits cost on them; nothing appears at `path` and EngineError is raised where
    that is too much.
    """
    engine, spec = segmenter.engine, segmenter.card.x
    frames = [((rgb, x, find_x_limits(x, spec)), label) for rgb, x, label in pairs]
    with appearing(path) as part, TemporaryDirectory() as folder:
        whole = Path(folder) / 'float32.onnx'
        write_onnx(engine.network, segmenter.card, whole, kind)
        quantize(whole, part, (inputs for inputs, _ in frames))
        return cost(engine, OnnxModel(part), frames, segmenter.labels)


def pairs_of_kind(dataset, kind: FrameKind, count: int = _PAIRS_TRIED):
    """
    Yield `count` pairs from all over a data set, each with its label or None.

    They are scaled and cast to the kind where they are not of it.
    """
    count = min(count, len(dataset))
    for i in range(count):
        sample = dataset[i * len(dataset) // count]
        label = None if sample.label is None else resized(sample.label, kind.rgb_size)
        yield resized(sample.rgb, kind.rgb_size), converted(sample.x, kind), label


def add_arguments(parser):
    """Declare the command's arguments."""
    types = [kind.__name__ for kind in X_TYPES]
    parser.add_argument('model', metavar='CARD', help='a card, or the name of one')
    parser.add_argument('-o', '--out', metavar='FILE', type=Path, required=True,
                        help='file to write, .onnx')
    parser.add_argument('--size', nargs=2, type=int, metavar=('H', 'W'),
                        help='of RGB, in pixels; a file is for frames of one size, which makes it '
                             'fast (default: that of --data, or the input size of the card)')
    parser.add_argument('--x-size', nargs=2, type=int, metavar=('H', 'W'),
                        help='of X, in pixels (default: that of --data, or that of RGB)')
    parser.add_argument('--x-type', choices=types, metavar='TYPE',
                        help=f'of the values of X: {", ".join(types)} (default: that of --data, '
                             'or uint8)')
    parser.add_argument('--x-channels', type=int, choices=(1, 3), metavar='N',
                        help='of X, 1 or 3 (default: as in --data, or 1)')
    parser.add_argument('--data', metavar='FOLDER', type=Path,
                        help=f'rgb/ and thermal/, depth/ or x/: {_PAIRS_TRIED} pairs must come '
                             'out as in PyTorch, or nothing is written (default: the frames of '
                             'the demo)')
    parser.add_argument('--int8', action='store_true',
                        help='convolutions in 8 bits, for which --data is the measure: up to '
                             f'{CALIBRATION_FRAMES} pairs like those of the vehicle')


def main(args):
    """Run the command."""
    check_outputs([args.out])
    warnings.filterwarnings('ignore', module='copyreg|torch')  # the exporter's remarks on itself
    segmenter = Segmenter.from_card(args.model, device='cpu')
    dataset = FolderDataset(args.data or share_dir() / 'demo')
    if args.data:
        default = FrameKind.of(dataset[0].rgb, dataset[0].x)
    else:
        size = tuple(args.size or segmenter.card.input_size)
        default = FrameKind(size, size)
    kind = FrameKind(
        tuple(args.size or default.rgb_size), tuple(args.x_size or default.x_size),
        args.x_channels or default.x_channels, args.x_type or default.x_type)
    kind.check()
    write = export_int8 if args.int8 else export
    pairs = [*pairs_of_kind(dataset, kind, CALIBRATION_FRAMES if args.int8 else _PAIRS_TRIED)]
    difference, count = write(segmenter, args.out, kind, pairs), len(pairs)
    precision = 'int8' if args.int8 else 'float32'
    print(f'wrote {args.out} ({os.path.getsize(args.out) / 1e6:.1f} MB, {precision}, opset '
          f'{OPSET}) for {kind}')
    print(wrapped(f'on {count} pairs of {dataset.root} {difference}, against PyTorch',
                  indent='    '))
