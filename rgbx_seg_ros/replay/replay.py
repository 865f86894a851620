# Copyright 2026 rgbx_seg_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""
`rgbx-seg replay`: segment a rosbag2 offline, without ROS.

Decoding, pairing and segmentation are those of the node, but nothing is superseded: every pair
gets its mask. Frames are not collected, so memory does not grow with the bag.
"""

from collections import Counter
from dataclasses import asdict, dataclass, replace
import math
from pathlib import Path
import textwrap
from typing import NamedTuple

import numpy as np
from rgbx_seg_ros.allocator import keep_freed_memory
from rgbx_seg_ros.bags.storage import (
    bag_path,
    BagReader,
    BagWriter,
    Image,
    LABEL_TOPIC,
    RGB_TOPIC,
    STORAGES,
    String,
    X_TOPIC,
)
from rgbx_seg_ros.datasets import Sample
from rgbx_seg_ros.engines import ENGINES
from rgbx_seg_ros.errors import DataError, FrameError, MessageError, ParameterError
from rgbx_seg_ros.evaluation.evaluate import Evaluation, Part
from rgbx_seg_ros.evaluation.metrics import Tally
from rgbx_seg_ros.evaluation.protocols import PROTOCOLS
from rgbx_seg_ros.evaluation.report import Gallery, provenance, shrunk, write_report
from rgbx_seg_ros.files import check_output, write_json
from rgbx_seg_ros.frames.raw import check_x
from rgbx_seg_ros.frames.smoothing import LimitsTracker
from rgbx_seg_ros.health.telemetry import Window
from rgbx_seg_ros.inference.segmenter import Segmenter
from rgbx_seg_ros.messages.images import decode_rgb, decode_x, stamp_ns, to_image
from rgbx_seg_ros.sync.pairing import Pairer, PairingSettings
from tqdm import tqdm

MASK_TOPIC = '/segmentation/mask'
CONFIDENCE_TOPIC = '/segmentation/confidence'
FUSED_TOPIC = '/segmentation/fused'
PALETTE_TOPIC = '/segmentation/palette'

# A bag is in no hurry: an X stream that arrives half a second late still finds its RGB frames.
_LATENESS_NS = 500_000_000
_MOST_WAITING = 100
_PERCENTILES = {'median': 50, 'p95': 95}


@dataclass(frozen=True)
class Report:
    """What a replay has read, made and measured."""

    bag: str
    """Path of the bag that was read."""
    out: str
    """Path of the bag with the masks."""
    model: str
    """Name of the model."""
    device: str
    """What ran it."""
    topics: dict[str, str]
    """The topics that were read: rgb, x and, where there is ground truth, label."""
    messages: dict[str, int]
    """Messages read, by the keys of `topics`."""
    pairs: int
    """Pairs, and so masks."""
    drops: dict[str, int]
    """Messages left out by reason: those of `pairing.DROP_REASONS`, and *_malformed."""
    malformed: dict[str, str]
    """What was wrong with the first malformed message, by the keys of `topics`."""
    offset_ms: dict[str, float]
    """Median and p95 of the stamp of X minus that of RGB, over the pairs."""
    inference_ms: dict[str, float]
    """Median and p95 of the time from frames to mask."""
    scored: int
    """Masks compared with a label."""
    scores: dict | None
    """IoU, recall and precision by class, mean IoU and pixel accuracy, 0..1, NaN as None."""
    table: str
    """The scores as a table, in percent."""

    def __str__(self):
        drops = ', '.join(f'{reason} {count}' for reason, count in sorted(self.drops.items()))
        rows = [
            ('RGB frames', f'{self.messages["rgb"]:6}', self.topics['rgb']),
            ('X frames', f'{self.messages["x"]:6}', self.topics['x']),
            ('dropped', f'{sum(self.drops.values()):6}', drops),
            *(('', '', f'first bad {kind} message: {text}')
              for kind, text in self.malformed.items()),
            ('pairs', f'{self.pairs:6}', f'X minus RGB: median {self.offset_ms["median"]:.1f} ms, '
                                         f'p95 {self.offset_ms["p95"]:.1f} ms'),
            ('inference', f'{self.inference_ms["median"]:6.1f}',
             f'ms median, p95 {self.inference_ms["p95"]:.1f} ms; {self.model} on {self.device}'),
        ]
        lines = [textwrap.fill(f'{name:10} {figure:6}  {text}', 80, subsequent_indent=' ' * 19,
                               break_on_hyphens=False) for name, figure, text in rows]
        if 'label' in self.topics:
            lines += ['', f'{self.scored} masks scored against {self.topics["label"]}, percent']
            lines += [self.table] * bool(self.scored)
        return '\n'.join([*lines, '', f'wrote {_printable(self.out)}'])


def _printable(path):
    """Return a path with what is no UTF-8 in it escaped."""
    return path.encode(errors='backslashreplace').decode()


class _Masked(NamedTuple):
    """A mask that waits for its label."""

    mask: np.ndarray
    confidence: np.ndarray
    sample: Sample | None
    """The frames, small, where the report shows them."""


class _Scorer:
    """Brings masks and labels of one stamp together, whichever comes first."""

    def __init__(self, num_classes, gallery):
        self.part = Part(num_classes)
        self._gallery = gallery
        self._waiting = {'label': {}, 'mask': {}}

    @property
    def matrix(self):
        """The counts of all masks with a label."""
        return self.part.tally.matrix

    @property
    def scored(self):
        """Masks compared with a label."""
        return int(self.part.counts[1])

    def add(self, kind, time_ns, item):
        """Take a 'label' (H, W) uint8 or a 'mask', _Masked; raise FrameError if they differ."""
        other = self._waiting['mask' if kind == 'label' else 'label'].pop(time_ns, None)
        if other is None:
            waiting = self._waiting[kind]
            waiting[time_ns] = item
            if len(waiting) > _MOST_WAITING:
                del waiting[next(iter(waiting))]
            return
        label, masked = (item, other) if kind == 'label' else (other, item)
        if self._gallery is None:
            self.matrix.update(label, masked.mask)
        else:
            of_frame = Tally(self.matrix.num_classes)
            of_frame.update(label, masked.mask, masked.confidence)
            self.part.tally.add(of_frame)
            self._gallery.add(replace(masked.sample, label=label), of_frame.matrix.mean_iou(),
                              masked.mask)
        self.part.counts[:2] += 1

    def scores(self, names):
        """Return the scores as Report has them."""
        if not self.scored:
            return None
        columns = {'iou': self.matrix.iou(), 'recall': self.matrix.recall(),
                   'precision': self.matrix.precision()}
        return {
            'classes': {name: {score: _or_none(values[i]) for score, values in columns.items()}
                        for i, name in enumerate(names)},
            'mean_iou': _or_none(self.matrix.mean_iou()),
            'pixel_accuracy': _or_none(self.matrix.pixel_accuracy())}


def _or_none(score):
    return float(score) if math.isfinite(score) else None


class _Replay:
    """The way of the messages from one bag to the other."""

    def __init__(self, segmenter, settings, writer, gallery, has_labels):
        self._segmenter, self._writer, self._gallery = segmenter, writer, gallery
        self._has_labels = has_labels
        self._range = LimitsTracker(segmenter.x)
        self._pairer = Pairer(settings)
        self._now_ns = 0
        self._malformed = Counter()
        self.scorer = _Scorer(len(segmenter.labels), gallery)
        self.pairs = 0
        self.messages = Counter(rgb=0, x=0)
        self.first_errors = {}
        self.offset_ms, self.inference_ms = Window(100_000), Window(100_000)

    @property
    def drops(self):
        """Messages left out, by reason."""
        return dict(self._pairer.drops + self._malformed)

    def take(self, kind, message, now_ns):
        """Take a message of the kind 'rgb', 'x' or 'label', received at `now_ns`."""
        self.messages[kind] += 1
        self._now_ns = now_ns
        try:
            time_ns, pixels = stamp_ns(message.header), self._decode(kind, message)
            if kind == 'label':
                self.scorer.add(kind, time_ns, pixels)
        except (MessageError, FrameError) as error:
            self._refuse(kind, error)
            return
        if kind == 'rgb':
            self._segment(self._pairer.add_rgb(time_ns, (message.header, pixels), now_ns))
        elif kind == 'x':
            self._segment(self._pairer.add_x(time_ns, pixels, now_ns))

    def finish(self):
        """Segment the pairs that were still open at the end of the bag."""
        self._segment(self._pairer.flush())

    def _decode(self, kind, message):
        if kind == 'rgb':
            return decode_rgb(message)
        pixels = decode_x(message)
        check_x(pixels)
        if kind == 'label' and (pixels.ndim, pixels.dtype) != (2, np.uint8):
            raise FrameError(f'label is {pixels.dtype} of shape {pixels.shape!r}, needed are '
                             'class ids as mono8')
        return pixels

    def _refuse(self, kind, error):
        self._malformed[f'{kind}_malformed'] += 1
        self.first_errors.setdefault(kind, str(error))

    def _segment(self, pairs):
        for pair in pairs:
            header, rgb = pair.rgb
            x_limits = self._range(pair.x, pair.x_stamp_ns)
            result = self._segmenter(rgb, pair.x, x_limits=x_limits)
            if not self.pairs:
                palette = String(data=self._segmenter.labels.to_json())
                self._writer.write(PALETTE_TOPIC, palette, self._now_ns, latched=True)
            images = [(MASK_TOPIC, result.mask, 'mono8'),
                      (CONFIDENCE_TOPIC, result.confidence, 'mono8')]
            if result.fused is not None:
                images.append((FUSED_TOPIC, result.fused, 'rgb8'))
            for topic, pixels, encoding in images:
                self._writer.write(topic, to_image(pixels, encoding, header, Image), self._now_ns)
            self.pairs += 1
            self.offset_ms.add(pair.offset_ns / 1e6)
            self.inference_ms.add(result.inference_ms)
            self._score(pair, rgb, result)

    def _score(self, pair, rgb, result):
        sample = None
        if self._gallery is not None:
            name = f'{pair.rgb_stamp_ns // 10 ** 9}.{pair.rgb_stamp_ns % 10 ** 9:09d}'
            sample = shrunk(Sample(name, rgb, pair.x, None))
            if not self._has_labels:
                self._gallery.add(sample, result.confidence.mean() / 255, result.mask)
        try:
            self.scorer.add('mask', pair.rgb_stamp_ns,
                            _Masked(result.mask, result.confidence, sample))
        except FrameError as error:
            self._refuse('label', error)


def replay(bag, segmenter: Segmenter, out=None, rgb_topic: str = RGB_TOPIC,
           x_topic: str = X_TOPIC, label_topic: str | None = None, slop_ms: float = 50.0,
           x_offset_ms: float = 0.0, storage: str = 'mcap', page: Path | None = None) -> Report:
    """
    Segment every pair of frames in `bag` and write the masks to the new bag `out`.

    `out` holds mask, confidence, palette and, from a network that makes one, the fused image as
    the node publishes them, with the header of the RGB frame, received when the pair was known. It
    is by default `bag` with '_masks' behind its name.
    Where only TOPIC/compressed or TOPIC/compressedDepth has messages, that is read. `label_topic`
    holds class ids (mono8) under the stamp of the RGB frame; None takes '/ground_truth/mask' where
    it is there. Malformed messages are counted and left out. `page` is an HTML file for scores,
    times and the worst and best frames, without labels those of the lowest and highest mean
    confidence. Raise DataError for bags that cannot be read or written, or that hold no pair.
    """
    bag = bag_path(bag)
    out = _masks_path(bag) if out is None else Path(out)
    settings = _settings(slop_ms, x_offset_ms)
    with BagReader(bag) as reader:
        topics = {'rgb': reader.image_topic(rgb_topic), 'x': reader.image_topic(x_topic)}
        if label_topic is not None or reader.counts.get(LABEL_TOPIC):
            topics['label'] = reader.image_topic(label_topic or LABEL_TOPIC)
        kinds = {topic: kind for kind, topic in topics.items()}
        if len(kinds) < len(topics):
            raise DataError(f'the topics {topics!r} must differ from each other')
        with BagWriter(out, storage) as writer:
            labelled = 'label' in topics
            gallery = page and Gallery(segmenter.labels,
                                       'mean IoU' if labelled else 'mean confidence')
            run = _Replay(segmenter, settings, writer, gallery, labelled)
            total = sum(reader.counts[topic] for topic in kinds)
            for topic, now_ns, message in tqdm(reader.messages(kinds), total=total,
                                               unit='message', leave=False, disable=None):
                run.take(kinds[topic], message, now_ns)
            run.finish()
            if not run.pairs:
                raise DataError(_why_no_pairs(reader, topics, run, slop_ms))
    report = Report(
        bag=str(bag), out=str(out), model=segmenter.card.name, device=segmenter.engine.device,
        topics=topics, messages=dict(run.messages), pairs=run.pairs, drops=run.drops,
        malformed=run.first_errors, offset_ms=_summary(run.offset_ms),
        inference_ms=_summary(run.inference_ms), scored=run.scorer.scored,
        scores=run.scorer.scores(segmenter.labels.names),
        table=run.scorer.matrix.table(segmenter.labels.names))
    if page:
        _write_page(page, report, run, segmenter, gallery)
    return report


def _write_page(page, report, run, segmenter, gallery):
    bag = Path(report.bag)
    scores = Evaluation(segmenter.labels, PROTOCOLS['plain'], {'all': run.scorer.part}, [])
    files = sorted(bag.iterdir()) if bag.is_dir() else [bag]
    drops = ', '.join(f'{reason} {count}' for reason, count in sorted(report.drops.items()))
    notes = {
        **{name: f'{report.messages[name]} in {topic}' for name, topic in report.topics.items()},
        'pairs': f'{report.pairs}, X minus RGB: median {report.offset_ms["median"]:.1f} ms, p95 '
                 f'{report.offset_ms["p95"]:.1f} ms',
        'dropped': drops or 'none',
        **{f'first bad {kind}': text for kind, text in report.malformed.items()},
        'masks': report.out}
    facts = {**(scores.facts() if report.scored else {}), 'made_by': provenance(
        segmenter, bag, (f'{file.name} {file.stat().st_size}' for file in files))}
    write_report(page, f'{report.model} on {bag.resolve().name}', facts, segmenter.labels,
                 gallery, run.inference_ms.values(), notes)


def _masks_path(bag):
    bag = bag.resolve()
    return bag.with_name(f'{bag.stem if bag.is_file() else bag.name}_masks')


def _settings(slop_ms, x_offset_ms):
    if not 0 <= slop_ms <= 10_000:
        raise ParameterError(f'slop is {slop_ms!r} ms, allowed is 0 to 10000')
    if not abs(x_offset_ms) <= 60_000:
        raise ParameterError(f'offset of X is {x_offset_ms!r} ms, allowed is -60000 to 60000')
    slop_ns = round(slop_ms * 1e6)
    return PairingSettings(slop_ns=slop_ns, max_wait_ns=slop_ns + _LATENESS_NS,
                           x_offset_ns=round(x_offset_ms * 1e6))


def _summary(window):
    return {name: window.percentile(share) for name, share in _PERCENTILES.items()}


def _why_no_pairs(reader, topics, run, slop_ms):
    drops = ', '.join(f'{reason} {count}' for reason, count in sorted(run.drops.items()))
    errors = [f'first bad {kind} message: {text}' for kind, text in run.first_errors.items()]
    if not any(run.drops.get(f'{kind}_malformed') == run.messages[kind] for kind in ('rgb', 'x')):
        errors.append(reader.why_no_pairs([topics['rgb'], topics['x']]))
    return (f'{str(reader.path)!r} holds no pair: {run.messages["rgb"]} frames in '
            f'{topics["rgb"]}, {run.messages["x"]} in {topics["x"]}, slop {slop_ms:g} ms, '
            f'dropped: {drops or "none"}; {"; ".join(errors)}')


def add_arguments(parser):
    """Declare the command's arguments."""
    parser.add_argument('bag', type=Path, help='folder of the bag, or an .mcap or .db3 file')
    parser.add_argument('--model', required=True, metavar='CARD',
                        help='a card, or the name of one')
    parser.add_argument('-o', '--out', type=Path, metavar='BAG',
                        help='new bag for the masks (default: name of the bag with _masks)')
    parser.add_argument('--rgb-topic', default=RGB_TOPIC, metavar='TOPIC',
                        help=f'colour frames, raw or /compressed (default: {RGB_TOPIC})')
    parser.add_argument('--x-topic', default=X_TOPIC, metavar='TOPIC',
                        help=f'second modality, raw or /compressed (default: {X_TOPIC})')
    parser.add_argument('--label-topic', metavar='TOPIC',
                        help='class ids under the stamp of the colour frame, to score the masks '
                             f'(default: {LABEL_TOPIC} where the bag has it)')
    parser.add_argument('--slop-ms', type=float, default=50.0, metavar='MS',
                        help='longest time between the frames of a pair (default: 50)')
    parser.add_argument('--x-offset-ms', type=float, default=0.0, metavar='MS',
                        help='added to the stamps of X before they are compared (default: 0)')
    parser.add_argument('--engine', choices=ENGINES, metavar='NAME', default='torch',
                        help=f'what runs the network: {", ".join(ENGINES)} (default: torch)')
    parser.add_argument('--device', default='auto', help='auto, cpu or cuda (default: auto)')
    parser.add_argument('--storage', choices=STORAGES, default='mcap',
                        help='kind of file of the new bag (default: mcap)')
    parser.add_argument('--json', type=Path, metavar='FILE', help='file for the report')
    parser.add_argument('--report', type=Path, metavar='FILE.html',
                        help='page with scores, times, and the worst and best frames')


def main(args):
    """Run the command."""
    bag = bag_path(args.bag)
    for path in filter(None, (args.json, args.report)):
        check_output(path, bag.iterdir() if bag.is_dir() else [bag])
    keep_freed_memory()
    segmenter = Segmenter.from_card(args.model, args.engine, args.device)
    report = replay(bag, segmenter, args.out, args.rgb_topic, args.x_topic, args.label_topic,
                    args.slop_ms, args.x_offset_ms, args.storage, args.report)
    print(report)
    if args.json:
        facts = asdict(report)
        del facts['table']
        write_json(args.json, facts)
