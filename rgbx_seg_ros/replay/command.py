# Copyright 2026 rgbx_seg_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""`rgbx-seg replay`: segment a rosbag2, or a fleet of them, offline and without ROS."""

from pathlib import Path
import warnings

from rgbx_seg_ros.allocator import keep_freed_memory
from rgbx_seg_ros.bags.storage import (
    bag_path,
    BagWriter,
    LABEL_TOPIC,
    RGB_TOPIC,
    STORAGES,
    X_TOPIC,
)
from rgbx_seg_ros.errors import DataError
from rgbx_seg_ros.evaluation.gate import Gate
from rgbx_seg_ros.files import check_outputs, write_json
from rgbx_seg_ros.inference import offline
from rgbx_seg_ros.inference.segmenter import Segmenter
from rgbx_seg_ros.replay.replay import masks_path, replay, USED
from rgbx_seg_ros.replay.report import made_by


def add_arguments(parser):
    """Declare the command's arguments."""
    parser.add_argument('bag', type=Path, help='folder of the bag, or an .mcap or .db3 file')
    offline.add_arguments(parser)
    parser.add_argument('-o', '--out', type=Path, metavar='BAG',
                        help='new bag for the masks (default: name of the bag with _masks)')
    parser.add_argument('--rgb-topic', default=RGB_TOPIC, metavar='TOPIC',
                        help=f'colour frames, raw or /compressed (default: {RGB_TOPIC})')
    parser.add_argument('--x-topic', default=X_TOPIC, metavar='TOPIC',
                        help=f'second modality, raw or /compressed (default: {X_TOPIC})')
    parser.add_argument('--label-topic', metavar='TOPIC',
                        help='class ids under the stamp of the colour frame, to score the masks '
                             f'(default: {LABEL_TOPIC} where the bag has it)')
    parser.add_argument('--slop-ms', type=float, metavar='MS',
                        help='longest time between the frames of a pair (default: 50)')
    parser.add_argument('--x-offset-ms', type=float, metavar='MS',
                        help='added to the stamps of X before they are compared (default: 0)')
    parser.add_argument('--storage', choices=STORAGES, default='mcap',
                        help='kind of file of the new bag (default: mcap)')
    parser.add_argument('--json', type=Path, metavar='FILE', help='file for the report')
    parser.add_argument('--report', type=Path, metavar='FILE.html',
                        help='page with scores, times, and the worst and best frames')
    Gate.add_arguments(parser)


def main(args):
    """Run the command; return 3 where the result is not as required."""
    bag = bag_path(args.bag)
    check_outputs((args.json, args.report, args.junit),
                  [*(bag.iterdir() if bag.is_dir() else [bag]),
                   *filter(None, [args.baseline])])
    gate = Gate.given(args, 'replay')
    out = masks_path(bag) if args.out is None else args.out
    parameters, remark, _ = offline.given(args, USED)
    if remark:
        warnings.warn(remark, stacklevel=2)
    if parameters.tune_allocator:
        keep_freed_memory()
    BagWriter(out, args.storage)  # a path that cannot be one is no fault of the bag
    segmenter = Segmenter.from_parameters(parameters)
    gate.check(segmenter.labels.names)
    try:
        report = replay(bag, segmenter, out, args.rgb_topic, args.x_topic, args.label_topic,
                        args.slop_ms, args.x_offset_ms, args.storage, args.report, parameters)
    except DataError as error:
        if not gate:
            raise
        return gate.crashed(error)
    print(report)
    facts = report.facts()
    if args.json:
        write_json(args.json, {**facts, 'made_by': made_by(report, segmenter)})
    return gate.judge(facts)
