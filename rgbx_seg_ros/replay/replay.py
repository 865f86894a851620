# Copyright 2026 rgbx_seg_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""
A rosbag2 segmented offline, without ROS.

Decoding, registration and segmentation are those of the node with the same parameters, but nothing
is superseded: every pair gets its mask. Frames are not collected, so memory does not grow with the
bag.
"""

from collections.abc import Callable, Iterable
import math
from pathlib import Path

import cv2
import numpy as np
from rgbx_seg_ros.bags.storage import (
    bag_path,
    BagReader,
    BagWriter,
    Image,
    LABEL_TOPIC,
    RGB_TOPIC,
    String,
    X_TOPIC,
)
from rgbx_seg_ros.datasets import Sample
from rgbx_seg_ros.errors import DataError, FrameError, MessageError
from rgbx_seg_ros.evaluation.frame_scores import FrameScore, mean_confidence, unlabeled_share
from rgbx_seg_ros.evaluation.report import Gallery, shrunk
from rgbx_seg_ros.evaluation.rerun_file import recording, STAMP
from rgbx_seg_ros.health.telemetry import Window
from rgbx_seg_ros.inference import offline
from rgbx_seg_ros.inference.pipeline import Job, Pipeline
from rgbx_seg_ros.inference.segmenter import Segmenter
from rgbx_seg_ros.messages.images import decode_x, stamp_ns, to_image
from rgbx_seg_ros.parameters import DEFAULTS, Parameters
from rgbx_seg_ros.registration.rig import Rig
from rgbx_seg_ros.replay.flicker import Flicker, View
from rgbx_seg_ros.replay.pairs import (
    first_infos,
    needed_info_topics,
    PairFinder,
    pairing_settings,
)
from rgbx_seg_ros.replay.report import Report, Sums, write_page
from rgbx_seg_ros.replay.scorer import Masked, Scorer
from tqdm import tqdm

MASK_TOPIC = '/segmentation/mask'
CONFIDENCE_TOPIC = '/segmentation/confidence'
FUSED_TOPIC = '/segmentation/fused'
PALETTE_TOPIC = '/segmentation/palette'

USED = (*offline.MODEL, *offline.REGISTRATION, 'rgb.transport', 'x.transport', 'rgb.bits',
        'x.smoothing_s', 'sync.slop_ms', 'sync.x_offset_ms', 'confidence.threshold',
        'label_encoding')
"""Parameters that count; sensors that fail and frames that are late are those of a live node."""

_PERCENTILES = {'median': 50, 'p95': 95}


class _Replay:
    """
    The way of the messages from one bag to the other.

    `infos` are the first CameraInfo of rgb and x, as far as the registration needs them.
    """

    def __init__(self, segmenter, parameters, settings, infos, writer, gallery, has_labels,
                 disagreement, recording):
        self._segmenter, self._parameters = segmenter, parameters
        self._writer, self._gallery, self._has_labels = writer, gallery, has_labels
        self._recording = recording
        self._infos, self._disagreement = infos, disagreement
        self.rig = Rig(parameters, segmenter.card.x, infos.get)
        self.finder = PairFinder(settings, parameters.rgb_bits)
        self._pipeline = Pipeline(segmenter, self.rig, parameters.x_smoothing_s,
                                  self.finder.refuse_pair, self._note_times)
        self._now_ns = 0
        self.scorer = Scorer(segmenter.labels.names, gallery)
        self.flicker = Flicker()
        self.pairs = 0
        self.brightness: list[float] = []
        self.offset_ms, self.inference_ms = Window(100_000), Window(100_000)

    def take(self, kind, message, now_ns):
        """Take a message of the kind 'rgb', 'x' or 'label', received at `now_ns`."""
        self._now_ns = now_ns
        if kind == 'label':
            self._take_label(message)
        else:
            self._segment(self.finder.take(kind, message, now_ns))

    def take_info(self, modality, message):
        """Take the newest CameraInfo of 'rgb' or 'x'."""
        self._infos[modality] = message

    def finish(self):
        """Segment the pairs that were still open at the end of the bag."""
        self._segment(self.finder.finish())

    def _take_label(self, message):
        self.finder.messages['label'] += 1
        try:
            label = decode_x(message)
            if (label.ndim, label.dtype) != (2, np.uint8):
                raise FrameError(f'label is {label.dtype} of shape {label.shape!r}, needed are '
                                 'class ids as mono8')
            self._add('label', stamp_ns(message.header), label)
        except (MessageError, FrameError) as error:
            self.finder.refuse('label', error, 'malformed')

    def _add(self, kind, time_ns, item):
        """Take a label or a mask to be scored, as `Scorer.add` does."""
        scored = self.scorer.add(kind, time_ns, item)
        if scored and self._recording is not None:
            self._recording.add_truth(time_ns, *scored)

    def _note_times(self, inference_ms, **_):
        self.inference_ms.add(inference_ms)

    def _segment(self, pairs):
        for pair in pairs:
            done = self._pipeline(Job('fusion', pair.rgb, pair.x), self._parameters)
            if done is None:
                continue
            rgb, result, _ = done
            self.pairs += 1
            self.brightness.append(sum(cv2.mean(rgb)) / 3 / 255)
            self.offset_ms.add(pair.offset_ns / 1e6)
            self._write(pair.rgb.message.header, result)
            self._score(pair, rgb, result)

    def _write(self, header, result):
        if self.pairs == 1:
            palette = String(data=self._segmenter.labels.to_json())
            self._writer.write(PALETTE_TOPIC, palette, self._now_ns, latched=True)
        images = [(MASK_TOPIC, result.mask, self._parameters.label_encoding),
                  (CONFIDENCE_TOPIC, result.confidence, 'mono8')]
        if result.fused is not None:
            images.append((FUSED_TOPIC, result.fused, 'rgb8'))
        for topic, pixels, encoding in images:
            self._writer.write(topic, to_image(pixels, encoding, header, Image), self._now_ns)

    def _score(self, pair, rgb, result):
        sample = None
        name = f'{pair.rgb_stamp_ns // 10 ** 9}.{pair.rgb_stamp_ns % 10 ** 9:09d}'
        confidence = mean_confidence(result.confidence)
        x, limits = self._pipeline.placed
        disagreement = (self._segmenter.disagreement(rgb, x, limits) if self._disagreement
                        else math.nan)
        score = FrameScore(self.pairs - 1, name, math.nan, result.inference_ms, None,
                           unlabeled_share(result.mask), confidence, {}, disagreement)
        self.flicker.add(View(pair.rgb_stamp_ns, rgb, x, limits), result.mask)
        if self._gallery is not None:
            sample = shrunk(Sample(name, rgb, x, None))
            if not self._has_labels:
                self._gallery.add(sample, confidence, result.mask)
        if self._recording is not None:
            self._recording.add(pair.rgb_stamp_ns, Sample(name, rgb, x, None, limits), result.mask,
                                result.confidence, score, pair.offset_ns / 1e6)
        try:
            self._add('mask', pair.rgb_stamp_ns,
                      Masked(result.mask, result.confidence, sample, score))
        except FrameError as error:
            self.finder.refuse('label', error, 'malformed')


def progress_bar(messages: Iterable, total: int) -> Iterable:
    """Return the messages, of which a bar on a terminal tells how many have come."""
    return tqdm(messages, total=total, unit='message', leave=False, disable=None)


def replay(bag, segmenter: Segmenter, out=None, rgb_topic: str = RGB_TOPIC,
           x_topic: str = X_TOPIC, label_topic: str | None = None, slop_ms: float | None = None,
           x_offset_ms: float | None = None, storage: str = 'mcap', page: Path | None = None,
           parameters: Parameters = DEFAULTS,
           progress: Callable[[Iterable, int], Iterable] = progress_bar,
           disagreement: bool = False, rerun: Path | None = None) -> Report:
    """
    Segment every pair of frames in `bag` and write the masks to the new bag `out`.

    `out` holds mask, confidence, palette and, from a network that makes one, the fused image as
    the node publishes them, with the header of the RGB frame, received when the pair was known. It
    is by default `bag` with '_masks' behind its name.
    Where only TOPIC/compressed or TOPIC/compressedDepth has messages, that is read. `label_topic`
    holds class ids (mono8) under the stamp of the RGB frame; None takes '/ground_truth/mask' where
    it is there. Malformed messages are counted and left out. `page` is an HTML file for scores,
    times and the worst and best frames, without labels those of the lowest and highest mean
    confidence. Of `parameters` those of `USED` count, but for what the segmenter has been made of;
    `slop_ms` and `x_offset_ms` take the place of theirs. With `disagreement` the single sensors
    are compared, too, by two more masks of each pair. `rerun` is a file of all frames for the
    viewer of that name. Raise DataError for bags that cannot be read or written, or that hold no
    pair.
    """
    bag = bag_path(bag)
    out = masks_path(bag) if out is None else Path(out)
    settings = pairing_settings(parameters.slop_ms if slop_ms is None else slop_ms,
                                parameters.x_offset_ms if x_offset_ms is None else x_offset_ms)
    with BagReader(bag) as reader:
        topics = {'rgb': reader.image_topic(rgb_topic, parameters.rgb_transport),
                  'x': reader.image_topic(x_topic, parameters.x_transport)}
        if label_topic is not None or reader.counts.get(LABEL_TOPIC):
            topics['label'] = reader.image_topic(label_topic or LABEL_TOPIC)
        kinds = {topic: kind for kind, topic in topics.items()}
        if len(kinds) < len(topics):
            raise DataError(f'the topics {topics!r} must differ from each other')
        info_topics = needed_info_topics(reader, topics, parameters)
        infos = first_infos(reader, info_topics)
        labelled = 'label' in topics
        title = f'{segmenter.card.name} on {bag.resolve().name}'
        with BagWriter(out, storage) as writer, recording(
                rerun, title, segmenter.labels, segmenter.x, STAMP, labelled) as shown:
            gallery = page and Gallery(segmenter.labels,
                                       'mean IoU' if labelled else 'mean confidence')
            run = _Replay(segmenter, parameters, settings, infos, writer, gallery, labelled,
                          disagreement, shown)
            wanted = {*kinds, *info_topics.values()}
            for topic, now_ns, message in progress(
                    reader.messages(wanted), sum(map(reader.counts.get, wanted))):
                if topic in kinds:
                    run.take(kinds[topic], message, now_ns)
                for modality in (name for name, one in info_topics.items() if one == topic):
                    run.take_info(modality, message)
            run.finish()
            if not run.pairs:
                raise DataError(run.finder.why_none(reader, topics))
    report = Report(
        bag=str(bag), out=str(out), model=segmenter.card.name, device=segmenter.engine.device,
        topics=topics, messages=dict(run.finder.messages), pairs=run.pairs, drops=run.finder.drops,
        malformed=run.finder.first_errors, offset_ms=_summary(run.offset_ms),
        inference_ms=_summary(run.inference_ms), drift=run.rig.drift, scored=run.scorer.scored,
        scores=run.scorer.scores(), frames=run.scorer.frames,
        flicker_per_s=run.flicker.per_s, still_share=run.flicker.still_share,
        table=run.scorer.matrix.table(segmenter.labels.names),
        sums=Sums(run.scorer.matrix.counts.tolist(), run.offset_ms.values(), run.brightness,
                  *run.flicker.counts))
    if page:
        write_page(page, report, run.scorer.part, run.inference_ms.values(), segmenter, gallery)
    return report


def masks_path(bag: Path) -> Path:
    """Return where the masks of a bag go by themselves: beside it."""
    bag = bag.resolve()
    return bag.with_name(f'{bag.stem if bag.is_file() else bag.name}_masks')


def _summary(window):
    return {name: window.percentile(share) for name, share in _PERCENTILES.items()}
