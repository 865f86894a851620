# Copyright 2026 rgbx_seg_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""`rgbx-seg replay`: segment a rosbag2, or a fleet of them, offline and without ROS."""

from functools import partial
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
from rgbx_seg_ros.cards.card import load_card
from rgbx_seg_ros.engines.torch_engine import find_device
from rgbx_seg_ros.errors import DataError, ParameterError
from rgbx_seg_ros.evaluation import rerun_file
from rgbx_seg_ros.evaluation.gate import FleetGate, Gate
from rgbx_seg_ros.fields import check_number
from rgbx_seg_ros.files import check_outputs, write_json
from rgbx_seg_ros.inference import offline
from rgbx_seg_ros.inference.segmenter import Segmenter
from rgbx_seg_ros.replay.cluster import run_on_ray
from rgbx_seg_ros.replay.fleet import Fleet, replay_fleet
from rgbx_seg_ros.replay.merged import LIGHTS
from rgbx_seg_ros.replay.pairs import pairing_settings
from rgbx_seg_ros.replay.replay import masks_path, replay, USED
from rgbx_seg_ros.replay.report import made_by
from rgbx_seg_ros.replay.workers import cores, run_here


def add_arguments(parser):
    """Declare the command's arguments."""
    parser.add_argument('bags', type=Path, nargs='+', metavar='BAG',
                        help='folder of a bag, or an .mcap, .db3 or .bag file')
    offline.add_arguments(parser)
    parser.add_argument('-o', '--out', type=Path, metavar='PATH',
                        help='new bag for the masks (default: name of the bag with _masks); of '
                             'several bags a folder, which is needed')
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
    offline.add_disagreement(parser)
    rerun_file.add_argument(parser)
    parser.add_argument('--json', type=Path, metavar='FILE', help='file for the report')
    parser.add_argument('--report', type=Path, metavar='FILE.html',
                        help='page with scores, times, and the worst and best frames')
    fleet = parser.add_argument_group('several bags')
    fleet.add_argument('--jobs', type=int, metavar='N',
                       help='bags that are replayed at a time, each in a process of its own '
                            '(default: one for each core, on a GPU 1)')
    fleet.add_argument('--resume', action='store_true',
                       help='go on in the folder --out: only what is missing, has failed or has '
                            'changed is replayed')
    fleet.add_argument('--ray', metavar='ADDRESS',
                       help='do so on a Ray cluster whose machines see the same files: auto, or '
                            "ray://HOST:10001; needs pip install 'rgbx_seg_ros[fleet]'")
    Gate.add_arguments(parser)


def main(args):
    """Run the command; return 3 where the result is not as required, 1 where bags have failed."""
    if len(args.bags) > 1 or args.resume or args.jobs is not None or args.ray is not None:
        return _replay_fleet(args)
    bag = bag_path(args.bags[0])
    check_outputs((args.json, args.report, args.junit, args.rerun),
                  [*(bag.iterdir() if bag.is_dir() else [bag]),
                   *filter(None, [args.baseline])])
    gate = Gate.given(args, 'replay')
    if args.rerun:
        rerun_file.import_rerun()
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
                        args.slop_ms, args.x_offset_ms, args.storage, args.report, parameters,
                        disagreement=args.disagreement, rerun=args.rerun)
    except DataError as error:
        if not gate:
            raise
        return gate.crashed(error)
    print(report)
    facts = report.facts()
    if args.json:
        write_json(args.json, {**facts, 'made_by': made_by(report, segmenter)})
    return gate.judge(facts)


def _replay_fleet(args):
    bags = [bag_path(bag) for bag in args.bags]
    if args.rerun is not None:
        raise ParameterError(f'--rerun is {str(args.rerun)!r}, and a recording is of one bag: '
                             'replay the one to be looked at by itself')
    if args.out is None:
        raise ParameterError(f'{len(bags)} bags need a folder for their masks and results: give '
                             '--out FOLDER')
    if args.jobs is not None:
        check_number('--jobs', args.jobs, ParameterError, low=1, integer=True)
    read = [file for bag in bags for file in _files(bag)]
    check_outputs((args.json, args.report, args.junit), [*read, *filter(None, [args.baseline])])
    gate = FleetGate.given(args, 'replay')
    parameters, remark, _ = offline.given(args, USED)
    if remark:
        warnings.warn(remark, stacklevel=2)
    pairing_settings(*(one if given is None else given for one, given in (
        (parameters.slop_ms, args.slop_ms), (parameters.x_offset_ms, args.x_offset_ms))))
    options = {name: getattr(args, name) for name in (
        'rgb_topic', 'x_topic', 'label_topic', 'slop_ms', 'x_offset_ms', 'storage')}
    if args.disagreement:  # what was made before there was that option stays done without it
        options['disagreement'] = True
    on_cpu = find_device(parameters.device).type == 'cpu'
    jobs = args.jobs or (cores() if on_cpu else 1)
    fleet = Fleet.of(bags, args.out, args.resume, parameters=parameters, options=options,
                     has_pages=args.report is not None, jobs=jobs)
    gate.check(load_card(parameters.model).labels.names, LIGHTS)
    runner = run_here if args.ray is None else partial(run_on_ray, args.ray)
    return replay_fleet(fleet, gate, args.json, args.report, runner=runner)


def _files(bag):
    """Return the files of a bag as far as that can be: one that cannot be read costs no other."""
    try:
        return [*bag.iterdir()] if bag.is_dir() else [bag]
    except OSError:
        return []
