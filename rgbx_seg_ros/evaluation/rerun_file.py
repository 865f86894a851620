# Copyright 2026 rgbx_seg_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""
The frames of a run with masks and scores, as a file of the viewer Rerun (.rrd).

Rerun is an extra, and imported where a file is asked for.
"""

from collections.abc import Generator
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from functools import partial
import importlib
import math
import os
from pathlib import Path
import threading
from types import TracebackType
from typing import Any

import cv2
import numpy as np
from rgbx_seg_ros.cards.card import XInput
from rgbx_seg_ros.cards.labels import LabelSet, UNLABELED
from rgbx_seg_ros.datasets import Sample
from rgbx_seg_ros.errors import DataError, ParameterError, UnavailableError
from rgbx_seg_ros.evaluation.frame_scores import BLIND, FrameScore
from rgbx_seg_ros.files import RERUN_NAME
from rgbx_seg_ros.frames.raw import find_x_limits

STAMP, FRAME = 'stamp', 'frame'
"""The timelines: stamps in ns, and the numbers of frames."""
_OPEN = (150, 150, 150)
"""Colour of what has no class."""
_QUALITY = 85
_FLUSHED = 10
"""Frames that may wait in memory to be written."""
_CHUNK = 1 << 16
"""Bytes that are written at once."""


def add_argument(parser) -> None:
    """Declare the argument that names the file."""
    parser.add_argument('--rerun', type=Path, metavar='FILE.rrd',
                        help='recording of all frames with masks and scores, for the viewer '
                             "Rerun; needs pip install 'rgbx_seg_ros[rerun]'")


def import_rerun() -> Any:
    """Return the optional library; raise UnavailableError without it, or where it is off."""
    try:
        rerun = importlib.import_module('rerun')
        importlib.import_module('rerun.blueprint')
    except ImportError as error:
        raise UnavailableError(f'--rerun needs the library rerun-sdk ({error}): pip install '
                               "'rgbx_seg_ros[rerun]'") from error
    if not rerun.RecordingStream(RERUN_NAME).is_enabled():
        raise ParameterError('--rerun is given, and the environment variable RERUN turns Rerun '
                             'off: unset it')
    return rerun


def recording(path: Path | None, *described) -> AbstractContextManager['RerunFile | None']:
    """Return `RerunFile(path, *described)`; without a path, what gives None in a `with` block."""
    return nullcontext() if path is None else RerunFile(path, *described)


class _Copier:
    """
    Writes what Rerun puts into a pipe to the file `path`, on a thread of its own.

    Rerun itself waits for ever for a file on a full disk.
    """

    def __init__(self, path: Path):
        self._path = path
        self._failure: OSError | None = None
        self._thread = threading.Thread(target=self._run, name='rerun file', daemon=True)

    @contextmanager
    def opened(self) -> Generator[str, None, None]:
        """Start, and give the path of the pipe; raise DataError where there can be no file."""
        try:
            self._file = self._path.open('wb')
        except OSError as error:
            self._failure = error
            self.check()
        self._pipe, end = os.pipe()
        self._thread.start()
        try:
            yield f'/dev/fd/{end}'
        finally:
            os.close(end)

    def check(self) -> None:
        """Raise DataError where a part of the file could not be written."""
        if self._failure is not None:
            raise DataError(f'cannot write {str(self._path)!r}: {self._failure.strerror}'
                            ) from self._failure

    def join(self) -> None:
        """Wait until all of it is written."""
        self._thread.join()

    def _run(self):
        with open(self._pipe, 'rb', buffering=0) as pipe, suppress(OSError), self._file:
            for data in iter(partial(pipe.read, _CHUNK), b''):
                if self._failure is not None:
                    continue  # whoever writes into the pipe must not wait
                try:
                    self._file.write(data)
                    self._file.flush()
                except OSError as error:
                    self._failure = error


class RerunFile:
    """
    Writes `path` in a `with` block, frame by frame.

    The frames lie on `timeline`, one of those above, their classes are `labels`, and X is what `x`
    says; `has_truth` is whether any of them has a label. The file is made at the first frame, and
    it is readable from then on, also behind a run that was interrupted. Frames do not stay in
    memory. Raise UnavailableError without Rerun, and DataError where the file cannot be written.
    """

    def __init__(self, path: Path, title: str, labels: LabelSet, x: XInput, timeline: str,
                 has_truth: bool):
        self._rerun = import_rerun()
        self._path, self._title, self._labels, self._x = path, title, labels, x
        self._timeline, self._has_truth = timeline, has_truth
        self._stream: Any = None
        self._copier = _Copier(path)
        self._frames = 0

    def __enter__(self) -> 'RerunFile':
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 trace: TracebackType | None) -> None:
        if self._stream is None:
            return
        self._stream.disconnect()
        self._copier.join()
        if kind is None:
            self._copier.check()

    def add(self, when: int, sample: Sample, mask: np.ndarray, confidence: np.ndarray | None,
            score: FrameScore, offset_ms: float | None = None) -> None:
        """
        Take a frame at `when`, in ns or a number, with its mask and confidence (H, W) uint8.

        `score` is what is told of it, and `offset_ms` the stamp of X minus that of RGB.
        """
        rerun = self._rerun
        told = zip(BLIND, (score.unlabeled, score.confidence, score.disagreement), strict=True)
        scores = {name: share for name, share in told if not math.isnan(share)}
        times_ms = {'inference': score.ms}
        if offset_ms is not None:
            times_ms['X minus RGB'] = offset_ms
        if self._stream is None:
            self._open(confidence is not None, scores, times_ms)
        self._go_to(when)
        self._log('name', rerun.TextDocument(sample.name))
        self._log('rgb', self._picture(sample.rgb[..., ::-1]))
        self._log('x', self._picture(self._grey(sample)))
        self._log('mask', rerun.SegmentationImage(mask))
        if confidence is not None:
            self._log('confidence', self._picture(confidence))
        self._log('scores', rerun.Scalars([*scores.values()]))
        self._log('ms', rerun.Scalars([*times_ms.values()]))
        if sample.label is not None:
            self.add_truth(when, sample.label, score)
        self._frames += 1
        if self._frames % _FLUSHED == 0:
            self._stream.flush()  # so that a slow disk fills no memory
            self._copier.check()

    def add_truth(self, when: int, label: np.ndarray, score: FrameScore) -> None:
        """Take the label (H, W) uint8 of a frame that came without, and what is told of it."""
        self._go_to(when)
        self._log('truth', self._rerun.SegmentationImage(label))
        ious = [score.mean_iou]
        for name in self._labels.names:
            pixels = score.pixels.get(name)
            ious.append(np.nan if pixels is None else pixels['hits'] / (
                pixels['labelled'] + pixels['predicted'] - pixels['hits']))
        self._log('iou', self._rerun.Scalars(ious))

    def _open(self, has_confidence, scores, times_ms):
        rerun = self._rerun
        stream = rerun.RecordingStream(RERUN_NAME)
        with self._copier.opened() as pipe:
            stream.save(pipe)
        self._stream = stream
        stream.send_recording_name(self._title)
        stream.send_blueprint(self._blueprint(has_confidence))
        colors = [label.color for label in self._labels]
        self._log('/', rerun.AnnotationContext([
            *((label.id, label.name, label.color) for label in self._labels),
            (UNLABELED, 'unlabeled', _OPEN)]), static=True)
        self._log('scores', rerun.SeriesLines(names=[*scores]), static=True)
        self._log('ms', rerun.SeriesLines(names=[*times_ms]), static=True)
        if self._has_truth:
            self._log('iou', rerun.SeriesLines(names=['mean', *self._labels.names],
                                               colors=[_OPEN, *colors]), static=True)

    def _blueprint(self, has_confidence):
        """Return what is where at first."""
        views = importlib.import_module('rerun.blueprint')

        def picture(name, *paths):
            return views.Spatial2DView(name=name, origin='/', contents=[*paths])

        def plot(name, path):
            return views.TimeSeriesView(name=name, origin='/', contents=[path])
        truth = [picture('truth', '/truth')] * self._has_truth
        confidence = [picture('confidence', '/confidence')] * has_confidence
        return views.Blueprint(
            views.Vertical(
                views.Horizontal(picture('RGB and mask', '/rgb', '/mask'),
                                 picture('mask', '/mask'), *truth),
                views.Horizontal(
                    picture('X', '/x'), *confidence,
                    views.TextDocumentView(name='frame', origin='/', contents=['/name'])),
                views.Horizontal(plot('scores', '/scores'),
                                 *[plot('IoU', '/iou')] * self._has_truth, plot('ms', '/ms')),
                row_shares=[3, 3, 2]),
            views.TimePanel(timeline=self._timeline), collapse_panels=True)

    def _go_to(self, when):
        place = ({'timestamp': np.datetime64(when, 'ns')} if self._timeline == STAMP
                 else {'sequence': when})
        self._stream.set_time(self._timeline, **place)

    def _log(self, entity, what, static=False):
        self._stream.log(entity, what, static=static, strict=True)

    def _picture(self, pixels):
        """Return (h, w) or (h, w, 3) uint8 in BGR as JPEG."""
        data = cv2.imencode('.jpg', pixels, [cv2.IMWRITE_JPEG_QUALITY, _QUALITY])[1]
        return self._rerun.EncodedImage(contents=data.tobytes(), media_type='image/jpeg')

    def _grey(self, sample):
        """Return X as uint8, (h, w) or (h, w, 3) in BGR, as the network sees its range."""
        low, high = sample.x_limits or find_x_limits(sample.x, self._x)
        share = (sample.x.astype(np.float32) - low) / (high - low)
        grey = np.uint8(255 * np.nan_to_num(share.clip(0, 1)))
        return grey if grey.ndim == 2 else grey[..., ::-1]
