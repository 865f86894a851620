# Copyright 2026 rgbx_seg_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""
`rgbx-seg evaluate`: score a model on a data set with labels or boxes.

Under torchrun each process takes every n-th frame and the counts are added up, so the figures are
those of one process.
"""

from dataclasses import dataclass, replace
import math
import os
from pathlib import Path
import re
import time
import warnings

import numpy as np
from rgbx_seg_ros.allocator import keep_freed_memory
from rgbx_seg_ros.cards.labels import UNLABELED
from rgbx_seg_ros.datasets import DATASETS, open_dataset, PairedDataset, Sample
from rgbx_seg_ros.datasets.base import box_corners
from rgbx_seg_ros.datasets.survey import Survey
from rgbx_seg_ros.distributed import joined, Processes
from rgbx_seg_ros.engines.torch_engine import find_device
from rgbx_seg_ros.errors import DataError, FrameError, ParameterError, RgbxSegError
from rgbx_seg_ros.evaluation import rerun_file
from rgbx_seg_ros.evaluation.common import ScoredClasses
from rgbx_seg_ros.evaluation.disturbances import DISTURBANCES
from rgbx_seg_ros.evaluation.frame_scores import (
    class_pixels,
    FrameScore,
    mean_confidence,
    unlabeled_share,
    without_labels,
    without_nan,
)
from rgbx_seg_ros.evaluation.gate import Gate
from rgbx_seg_ros.evaluation.metrics import mean, percent, table, Tally
from rgbx_seg_ros.evaluation.presentation import Presentation
from rgbx_seg_ros.evaluation.protocols import Protocol, PROTOCOLS
from rgbx_seg_ros.evaluation.report import Gallery, provenance, write_report
from rgbx_seg_ros.evaluation.rerun_file import FRAME, RerunFile
from rgbx_seg_ros.evaluation.results import SWEEP
from rgbx_seg_ros.evaluation.sweep import chosen, metric_names, Sweep
from rgbx_seg_ros.files import check_outputs, write_json
from rgbx_seg_ros.inference import offline
from rgbx_seg_ros.inference.segmenter import Segmenter
from rgbx_seg_ros.parameters import DEFAULTS, Parameters
from rgbx_seg_ros.sensors import Sensors
from rgbx_seg_ros.tables import wrapped
import torch
from torch import distributed
from tqdm import tqdm

ALONE = Processes(0, 1, torch.device('cpu'))

USED = (*offline.MODEL, *offline.REGISTRATION, 'confidence.threshold')
"""Parameters that count; frames of a data set are no stream, over which X could be smoothed."""

_SETTLING_PAIRS = 10
"""On which an engine that gets ready in the background may try its model, at most."""
BOX_FOUND = 0.2
"""A box counts as found when this share of its pixels has its class; a person fills about half."""


@dataclass(frozen=True)
class BoxScore:
    """How well a mask covers the human-made boxes of one class."""

    boxes: int
    """Number of boxes."""
    found: float
    """Share of the boxes in which at least `BOX_FOUND` of the pixels have the class."""
    inside: float
    """Share of all pixels of the class in the masks that lie in a box of the class."""


class Part:
    """The frames that are scored together: all of them, or those by day or at night."""

    def __init__(self, num_classes: int):
        self.tally = Tally(num_classes)
        self.counts = np.zeros(3, np.int64)
        """Pairs, those with a label, those with boxes."""
        self.boxes = np.zeros((num_classes, 4), np.int64)
        """Of each class: boxes, those found, pixels in the masks, those of them in boxes."""

    def arrays(self) -> list[np.ndarray]:
        """Return all that is counted, to be added to in place."""
        return [*self.tally.arrays(), self.counts, self.boxes]

    def add(self, other: 'Part') -> None:
        """Count the frames of another part as well."""
        for mine, theirs in zip(self.arrays(), other.arrays(), strict=True):
            mine += theirs

    def update(self, sample: Sample, mask, confidence, boxes) -> None:
        """
        Count one frame: `mask` and `confidence` (H, W) uint8, `boxes` as PairedDataset has them.

        Without a confidence there is no calibration; raise DataError for a label that is no class.
        """
        self.counts += 1, sample.label is not None, bool(boxes)
        if sample.label is not None:
            try:
                self.tally.update(sample.label, mask, confidence)
            except FrameError as error:
                raise DataError(f'frame {sample.name!r}: {error}') from error
        height, width = mask.shape
        for i, counts in enumerate(self.boxes):
            hits = mask == i
            covered = np.zeros_like(hits)
            for box in (box[1:] for box in boxes if box[0] == i):
                left, top, right, bottom = box_corners(box, width, height)
                area = hits[top:bottom, left:right]
                if area.size:
                    counts[:2] += 1, area.mean() >= BOX_FOUND
                    covered[top:bottom, left:right] = True
            counts[2:] += hits.sum(), (hits & covered).sum()

    def box_scores(self, names) -> dict[str, BoxScore]:
        """Return the score of each class that has boxes, NaN where there was nothing to count."""
        return {name: BoxScore(boxes, found / boxes, inside / pixels if pixels else math.nan)
                for name, (boxes, found, pixels, inside) in zip(
                    names, self.boxes.tolist(), strict=True) if boxes}


@dataclass(frozen=True)
class Evaluation:
    """The scores of a model on a data set."""

    labels: tuple
    protocol: Protocol
    parts: dict[str, Part]
    """'all', then 'day' and 'night' where the names of the frames tell."""
    frames: list[FrameScore]
    remarks: tuple[str, ...] = ()
    """What the labels and frames make of the scores, as `Survey` tells it."""
    sweep: Sweep | None = None
    """What became of the frames that were disturbed, if that was asked for."""

    @property
    def is_scored(self) -> bool:
        """Whether any frame has a label or boxes."""
        return bool(self.parts['all'].counts[1:].any())

    def means(self, part: str = 'all') -> dict[str, float]:
        """Return the protocol's mean of each score of the classes."""
        return {name: self.protocol.mean(column, self.labels)
                for name, column in self.parts[part].tally.columns().items()}

    def boxes(self, part: str = 'all') -> dict[str, BoxScore]:
        """Return the scores against boxes by class name, those of the classes with boxes."""
        return self.parts[part].box_scores(self.labels.names)

    def facts(self) -> dict:
        """Return all scores, 0..1 and NaN as None, as they go into a JSON file."""
        whole = self._part_facts('all')
        calibration = self.parts['all'].tally.calibration
        return without_nan({
            'mean_iou': whole['mean']['iou'], **whole, **without_labels(self.frames),
            'iou': {name: scores['iou'] for name, scores in whole['classes'].items()},
            'parts': {name: self._part_facts(name) for name in self.parts if name != 'all'},
            'reliability': [
                {'pixels': pixels, 'confidence': confidence, 'right': right}
                for pixels, confidence, right in zip(
                    *(values.tolist() for values in calibration.bins()), strict=True)],
            'confusion': self.parts['all'].tally.matrix.counts.tolist(),
            'frames': [frame._asdict() for frame in self.frames],
            **({SWEEP: self.sweep.facts()} if self.sweep else {}),
        })

    def _part_facts(self, name):
        part = self.parts[name]
        columns = part.tally.columns()
        return {
            'pairs': int(part.counts[0]), 'labelled': int(part.counts[1]),
            'pixel_accuracy': part.tally.matrix.pixel_accuracy(), 'mean': self.means(name),
            'calibration_error': part.tally.calibration.error(),
            'classes': {label.name: {score: float(column[label.id])
                                     for score, column in columns.items()}
                        for label in self.labels},
            'boxes': {name: vars(score) for name, score in self.boxes(name).items()}}

    def __str__(self):
        tally = self.parts['all'].tally
        lines = []
        if self.is_scored:
            lines.append(table(self.labels.names, tally.columns(), self.means(),
                               tally.matrix.pixel_accuracy())
                         + f', calibration error {percent(tally.calibration.error())}')
        blind = without_labels(self.frames)
        lines.append(f'unlabeled {percent(blind["unlabeled_share"])}, mean confidence '
                     f'{percent(blind["mean_confidence"])}')
        if not math.isnan(blind['disagreement']):
            lines.append(f'disagreement of RGB alone and X alone {percent(blind["disagreement"])}')
        lines += [f'{name}: {part.counts[0]} pairs, mean IoU {percent(self.means(name)["iou"])}, '
                  f'pixel accuracy {percent(part.tally.matrix.pixel_accuracy())}'
                  for name, part in self.parts.items() if name != 'all']
        lines += [f'{name}: {percent(score.found)} of {score.boxes} boxes found (at least '
                  f'{100 * BOX_FOUND:.0f} % covered), {percent(score.inside)} of its pixels in '
                  'boxes' for name, score in self.boxes().items()]
        lines += [str(self.sweep)] if self.sweep else []
        return '\n'.join(lines)


def evaluate(segmenter: Segmenter, data: PairedDataset, sensors: Sensors = Sensors.BOTH,
             protocol: Protocol = PROTOCOLS['plain'], gallery: Gallery | None = None,
             processes: Processes = ALONE, parameters: Parameters = DEFAULTS,
             classes: ScoredClasses | None = None, disagreement: bool = False,
             sweep: Sweep | None = None, recording: RerunFile | None = None) -> Evaluation:
    """
    Segment every pair of `data` and return the scores.

    The frames of `sensors` count, one alone as after the failure of the other.
    Frames without a label count for the boxes only. A `gallery` gets the labelled frames, with
    their mean IoU. Each of several `processes` takes its share of the frames, and all of them
    return the same. Of `parameters` those of the registration and the confidence count. The
    classes of the score are those of the model, unless `classes` says otherwise. With
    `disagreement` the single sensors are compared, too, by two more masks of each pair, and a
    `sweep`, which counts the classes of this score, disturbs the frames. A `recording` gets all
    frames that this process takes. Raise DataError where there is nothing to score against, unless
    one of these is asked for, and ParameterError for a protocol, a loss or parameters that the
    model cannot have.
    """
    card = segmenter.card
    presentation = Presentation(segmenter, protocol, parameters, sensors)
    if classes is None:
        _check_classes(data, card)
        classes = ScoredClasses(card.labels)
    labels, light = classes.labels, lights(data.names)
    parts = {name: Part(len(labels)) for name in sorted(set(light.values())) or ['all']}
    frames, survey, error = [], Survey(), None
    indices = tqdm(range(processes.rank, len(data), processes.count), unit='pair',
                   disable=None if processes.is_first else True)
    try:
        for index in indices:
            sample = data[index]
            survey.add(sample)
            if sample.label is not None:
                sample = replace(sample, label=classes.of_data(sample.label))
            sample = presentation.prepare(sample)
            started = time.perf_counter()
            mask, confidence = presentation.segment(sample)
            ms = 1e3 * (time.perf_counter() - started)
            mask = classes.of_model(mask)
            of_frame = Part(len(labels))
            of_frame.update(sample, mask, confidence, _known_boxes(data, sample.name, classes))
            parts[light.get(sample.name, 'all')].add(of_frame)
            if sweep is not None:
                sweep.add(sample, mask)
            ious = of_frame.tally.matrix.iou()
            score = mean(ious[protocol.ids(labels)])
            frames.append(FrameScore(
                index, sample.name, score, ms, light.get(sample.name), unlabeled_share(mask),
                mean_confidence(confidence), class_pixels(of_frame.tally.matrix, labels.names),
                presentation.disagreement(sample) if disagreement else math.nan))
            if recording is not None:
                recording.add(index, sample, mask, confidence, frames[-1])
            # Nothing but background, and found to be so, is no frame to look at.
            if gallery is not None and np.isfinite(ious).sum() > 1:
                gallery.add(sample, score, mask)
    except RgbxSegError as cause:
        error = cause
    counted = [array for part in (*parts.values(), *filter(None, [sweep]))
               for array in part.arrays()]
    frames = _gathered(processes, counted, frames, gallery, survey, error)
    whole = Part(len(labels))
    for part in parts.values():
        whole.add(part)
    remarks = *survey.faults(data), *survey.remarks(data, data.CLASSES or card.labels)
    if not whole.counts[1:].any() and not (disagreement or sweep):
        raise DataError('; '.join((f'{str(data.root)!r} has neither label/ nor boxes/ for its '
                                   'frames: nothing to score against', *remarks)))
    return Evaluation(labels, protocol, {'all': whole, **parts} if light else parts, frames,
                      remarks, sweep)


def lights(names) -> dict[str, str]:
    """
    Return 'day' or 'night' by frame, told by D or N behind a number, as MFNet and MSRS have it.

    Empty unless every name tells, and both occur.
    """
    found = {name: re.search(r'\d([DN])$', name) for name in names}
    if not all(found.values()) or len({match[1] for match in found.values()}) < 2:
        return {}
    return {name: {'D': 'day', 'N': 'night'}[match[1]] for name, match in found.items()}


def _known_boxes(data, name, classes):
    """Return the boxes of a frame with the ids of the score."""
    boxes = []
    for number, *place in data.boxes(name):
        known = 0 <= number < UNLABELED
        scored = int(classes.of_data(np.array([number if known else UNLABELED], np.uint8))[0])
        if scored >= len(classes.labels):
            raise DataError(f'frame {name!r} has a box of class {number}, allowed are '
                            f'0..{len(classes.labels) - 1}')
        boxes.append((scored, *place))
    return boxes


def _check_classes(data, card):
    """Raise DataError where the labels cannot mean what the masks do; warn where they may not."""
    if data.CLASSES is None:
        return
    theirs, ours = data.CLASSES.names, card.labels.names
    if len(theirs) != len(ours):
        raise DataError(f'{str(data.root)!r} has {len(theirs)} classes ({", ".join(theirs)}), the '
                        f'model {card.name!r} {len(ours)} ({", ".join(ours)}): it cannot be '
                        'scored against them, but --common scores the classes that both have')
    for i, (their, our) in enumerate(zip(theirs, ours, strict=True)):
        if their != our:
            warnings.warn(f'class {i} is {their!r} in the data set and {our!r} in the model',
                          stacklevel=3)


def _gathered(processes, counted, frames, gallery, survey, error):
    """
    Add up arrays and surveys of all processes in place, merge the galleries, return all frames.

    Raise the first error of any of them in all of them, so that none waits for the others.
    """
    collected = [(frames, gallery, survey, error)] * processes.count
    if processes.count > 1:
        distributed.all_gather_object(collected, collected[0])
    for *_, failed in collected:
        if failed is not None:
            raise failed
    for array in counted:
        array[...] = processes.sum(torch.from_numpy(array)).cpu().numpy()
    if gallery is not None:
        gallery.replace_by(theirs for _, theirs, *_ in collected)
    for rank, (_, _, theirs, _) in enumerate(collected):
        if rank != processes.rank:
            survey.merge(theirs)
    return sorted(frame for theirs, *_ in collected for frame in theirs)


def add_arguments(parser):
    """Declare the command's arguments."""
    offline.add_arguments(parser)
    parser.add_argument('--data', metavar='FOLDER', required=True, type=Path,
                        help='the data set; for the kind folder it holds rgb/, one of thermal/ '
                             'depth/ disparity/ x/, and label/ or boxes/')
    parser.add_argument('--dataset', metavar='KIND', default='folder', choices=DATASETS,
                        help=f'kind of data set: {", ".join(DATASETS)} (default: folder)')
    parser.add_argument('--split', metavar='NAME', help='split of the data set')
    parser.add_argument('--protocol', metavar='NAME', default='plain', choices=PROTOCOLS,
                        help=f'how scores come about: {", ".join(PROTOCOLS)} (default: plain)')
    parser.add_argument('--lost', choices=('rgb', 'x'),
                        help='score the model without one modality, as after the failure of its '
                             'sensor')
    offline.add_disagreement(parser)
    parser.add_argument('--sweep', metavar='KIND', nargs='*', choices=DISTURBANCES,
                        help='score disturbed frames too, step by step, and their agreement with '
                             'the masks of frames as they are, which needs no label: '
                             f'{", ".join(DISTURBANCES)} (none named: all that can be)')
    parser.add_argument('--common', action='store_true',
                        help='score the classes that the data set and the model both have, by '
                             'name, and all others as one')
    parser.add_argument('--json', metavar='FILE', type=Path, help='file for the scores')
    parser.add_argument('--report', metavar='FILE.html', type=Path,
                        help='page with scores, plots, and the worst and best frames')
    rerun_file.add_argument(parser)
    Gate.add_arguments(parser)


def main(args):
    """Run the command; return 3 where the result is not as required."""
    check_outputs((args.json, args.report, args.junit, args.rerun),
                  filter(None, [args.baseline]))
    gate = Gate.given(args, 'evaluate')
    if args.rerun:
        rerun_file.import_rerun()
    given = offline.given(args, USED)
    if given.parameters.tune_allocator:
        keep_freed_memory()
    with joined(find_device(given.parameters.device)) as processes:
        return _run(args, given, gate, processes)


def _run(args, given, gate, processes):
    protocol = PROTOCOLS[args.protocol]
    if args.rerun and processes.count > 1:
        raise ParameterError(f'--rerun is {str(args.rerun)!r}, and of {processes.count} processes '
                             'each sees a part of the frames: run one, without torchrun')
    if given.remark and processes.is_first:
        warnings.warn(given.remark, stacklevel=2)
    # Windows slide over whole tiles, not over the pieces of some.
    data = open_dataset(args.dataset, args.data, args.split, whole=protocol.window is not None)
    parameters = replace(given.parameters, device=str(processes.device))
    segmenter = Segmenter.from_parameters(parameters)
    sensors = Sensors.without(args.lost)
    if not protocol.window:
        presentation = Presentation(segmenter, protocol, parameters, sensors)
        # A frame in the dark may not be enough to an engine.
        samples = (presentation.prepare(data[i]) for i in range(min(len(data), _SETTLING_PAIRS)))
        any(segmenter.settle(sample.rgb, sample.x) for sample in samples)
    classes = ScoredClasses.common(data.CLASSES, segmenter.labels) if args.common else None
    labels = classes.labels if classes else segmenter.labels
    setting = {
        'model': segmenter.card.name, 'dataset': args.dataset, 'split': data.split,
        'lost': args.lost, 'processes': processes.count,
        'protocol': {'name': args.protocol, 'description': protocol.description,
                     'classes': [labels.names[i] for i in protocol.ids(labels)]}}
    sweep = None
    if args.sweep is not None:
        sweep = _sweep(args, data, segmenter, protocol, parameters,
                       classes or ScoredClasses(labels), processes)
    gate.check(labels.names, set(lights(data.names).values()),
               metric_names(sweep.kinds if sweep else (), labels.names))
    gate.check_data({**setting, 'classes': dict.fromkeys(labels.names),
                     'frames': [{'name': name} for name in data.names]})
    gallery = Gallery(labels) if args.report else None
    without = f' without {args.lost}' if args.lost else ''
    title = f'{segmenter.card.name}{without} on {args.data.resolve().name}'
    with rerun_file.recording(args.rerun, title, labels, segmenter.x, FRAME, True) as recording:
        scores = evaluate(segmenter, data, sensors, protocol, gallery, processes, parameters,
                          classes, args.disagreement, sweep, recording)
    if not processes.is_first:
        return 0
    print(f'{segmenter.card.name}{without} on {len(data)} pairs, percent')
    print(scores)
    for remark in scores.remarks:
        warnings.warn(remark, stacklevel=2)
    facts = {**setting, **scores.facts()}
    if args.json or args.report:
        facts['made_by'] = provenance(segmenter, data.root, _listing(data))
    if args.json:
        write_json(args.json, facts)
    if args.report:
        write_report(args.report, title, facts, labels, gallery,
                     [frame.ms for frame in scores.frames])
    return gate.judge(facts)


def _sweep(args, data, segmenter, protocol, parameters, classes, processes):
    """Return the sweep that is asked for, and tell what it costs and what it leaves out."""
    window = protocol.window or segmenter.card.window
    kinds, faults = chosen(args.sweep, data, args.lost, window is not None)
    presentation = Presentation(segmenter, protocol, parameters, Sensors.without(args.lost))
    sweep = Sweep(kinds, data, presentation, segmenter.x, classes, protocol)
    if processes.is_first:
        for kind, fault in ({} if args.sweep else faults).items():
            print(wrapped(f'the sweep leaves {kind} out: {fault}'))
        print(wrapped(f'the sweep of {", ".join(kinds)} makes {sweep.masks} masks more of each of '
                      f'{len(data)} pairs, {sweep.masks * len(data)} in all'), flush=True)
    return sweep


def _listing(data):
    """Yield a line for each frame of what tells its files from others: names, sizes, boxes."""
    for name in data.names:
        paths = [path for path in data.files(name) if path is not None]
        sizes = [f'{os.path.relpath(path, data.root)} {path.stat().st_size}' for path in paths]
        yield f'{name} {sizes!r} {data.boxes(name)!r}'
