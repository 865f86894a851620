# Copyright 2026 rgbx_seg_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""
One HTML page of a run: scores, plots, its worst and best frames, and what made them.

The page needs no other file and no network: pictures are data URIs, plots are inline SVG.
"""

import base64
from collections.abc import Iterable
from dataclasses import replace
from datetime import datetime, timezone
import hashlib
import math
from pathlib import Path
import platform
import shlex
import sys
from typing import NamedTuple

import cv2
import numpy as np
from rgbx_seg_ros import __version__
from rgbx_seg_ros.cards.labels import LabelSet, UNLABELED
from rgbx_seg_ros.datasets import Sample
from rgbx_seg_ros.evaluation.pages import write_page
from rgbx_seg_ros.evaluation.results import SWEEP
from rgbx_seg_ros.evaluation.sweep import remarks
from rgbx_seg_ros.evaluation.sweep_plots import sweep_plots
from rgbx_seg_ros.inference.segmenter import Segmenter
from rgbx_seg_ros.weights.checkpoint import sha256
import torch

_WIDTH = 320  # of a picture, in pixels
_OPEN = (150, 150, 150)  # colour of what has no label
_WRONG, _SKIPPED = (225, 45, 45), (70, 110, 190)
_MOST_NUMBERS = 16  # classes up to which the cells of the confusion matrix hold numbers


class Frame(NamedTuple):
    """A frame that a gallery keeps."""

    score: float
    name: str
    pictures: dict[str, np.ndarray]
    """Pixels by what they show, (h, w, 3) uint8 in RGB."""


class Gallery:
    """
    The worst and the best frames of a run, `size` of each, small enough to be kept.

    `score` says in words what they are ordered by.
    """

    def __init__(self, labels: LabelSet, score: str = 'mean IoU', size: int = 4):
        self.score, self.size = score, size
        self._palette = labels.palette()
        self._palette[UNLABELED] = _OPEN
        self._frames: list[Frame] = []

    def add(self, sample: Sample, score: float, mask: np.ndarray) -> None:
        """Take a frame into account unless its score is NaN; `sample.label` may be None."""
        if math.isnan(score):
            return
        kept, size = self._frames, self.size
        if len(kept) == 2 * size and kept[size - 1].score < score < kept[size].score:
            return
        self._keep([*kept, Frame(score, sample.name, self._pictures(sample, mask))])

    def replace_by(self, galleries: Iterable['Gallery']) -> None:
        """Keep the worst and best of all `galleries`, which may be those of other processes."""
        self._keep([frame for gallery in galleries for frame in gallery._frames])

    def _keep(self, frames):
        frames.sort(key=lambda frame: frame[:2])
        self._frames = frames[:self.size] + frames[max(self.size, len(frames) - self.size):]

    def worst(self) -> list[Frame]:
        """Return the frames of the lowest scores, the lowest one first."""
        return self._frames[:self.size]

    def best(self) -> list[Frame]:
        """Return those of the highest scores that are not among the worst, the highest first."""
        return self._frames[self.size:][::-1]

    def _pictures(self, sample, mask):
        sample = shrunk(sample)
        rgb, small = sample.rgb, sample.rgb.shape[1::-1]
        pictures = {'RGB': rgb, 'X': _visible(sample.x)}
        mask = cv2.resize(mask, small, interpolation=cv2.INTER_NEAREST)
        if sample.label is None:
            return {**pictures, 'prediction': self._palette[mask]}
        label = cv2.resize(sample.label, small, interpolation=cv2.INTER_NEAREST)
        grey = cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY)
        errors = np.repeat((grey // 2 + 40)[..., None], 3, axis=2)
        errors[label != mask] = _WRONG
        errors[label == UNLABELED] = _SKIPPED
        return {**pictures, 'truth': self._palette[label], 'prediction': self._palette[mask],
                'errors': errors}


def shrunk(sample: Sample) -> Sample:
    """Return a sample whose RGB and X have the size of a picture in a gallery."""
    height, width = sample.rgb.shape[:2]
    small = (min(width, _WIDTH), max(1, round(height * min(1, _WIDTH / width))))
    # No means of X: one pixel without a measurement would take its neighbours along.
    return replace(sample, rgb=cv2.resize(sample.rgb, small, interpolation=cv2.INTER_AREA),
                   x=cv2.resize(sample.x, small, interpolation=cv2.INTER_NEAREST))


def _visible(x):
    """Return a raw frame of X as a picture, (h, w, 3) uint8, a single channel stretched."""
    if x.ndim == 2 or x.dtype != np.uint8:
        known = x[np.isfinite(x)]
        low, high = np.percentile(known, (1, 99)) if known.size else (0.0, 1.0)
        x = np.clip((np.nan_to_num(x, nan=low) - low) / max(high - low, 1e-9), 0, 1)
        x = np.uint8(255 * x)
    return x if x.ndim == 3 and x.shape[2] == 3 else np.repeat(x.reshape(*x.shape[:2], 1), 3, 2)


def provenance(segmenter: Segmenter, data: Path, listing: Iterable[str]) -> dict[str, str]:
    """
    Return what made a score, by name: command, hashes, versions and device.

    `listing` has a line for each file of `data`, of which the hash is told: it changes with
    names and sizes, not with every pixel.
    """
    card = segmenter.card
    listed = '\n'.join(listing).encode('utf-8', 'surrogateescape')
    return {
        'command': shlex.join(['rgbx-seg', *sys.argv[1:]]),
        'model': card.name,
        'card sha256': sha256(card.path) if card.path.is_file() else 'read from no file',
        'weights': str(card.weights_path or 'none, they are random'),
        'weights sha256': sha256(card.weights_path) if card.weights_path else 'none',
        'data': str(data.resolve()),
        'data listing sha256': hashlib.sha256(listed).hexdigest(),
        'device': segmenter.engine.device,
        'versions': f'rgbx_seg_ros {__version__}, torch {torch.__version__}, '
                    f'numpy {np.__version__}, opencv {cv2.__version__}, '
                    f'python {platform.python_version()}',
        'time': datetime.now(timezone.utc).strftime('%Y-%m-%d %H:%M UTC'),
    }


def write_report(path: Path, title: str, facts: dict, labels: LabelSet, gallery: Gallery,
                 latencies_ms: list[float], notes: dict[str, str] | None = None) -> None:
    """
    Write the page of a run to `path`; raise DataError where that cannot be.

    `facts` are those of `evaluate.Evaluation.facts()`, with `made_by` as `provenance` gives it
    and maybe `protocol`; without `parts`, or labels and boxes, there are no scores. `notes` are
    told under the title.
    """
    confusion = np.array(facts.get('confusion', np.zeros((len(labels), len(labels) + 1))))
    write_page(
        path, 'report.html.j2', {'percent': percent, 'uri': _data_uri}, title=title, facts=facts,
        labels=labels, gallery=gallery, notes=notes or {},
        parts={'all': facts, **facts['parts']} if _is_scored(facts) else {},
        confusion=confusion_rows(confusion, labels.names), with_numbers=with_numbers(labels),
        swept=sweep_plots(facts.get(SWEEP, {}), labels), sweep_remarks=remarks(facts[SWEEP])
        if SWEEP in facts else [],
        latency=histogram(latencies_ms), reliability=_reliability(facts.get('reliability', ())))


def _is_scored(facts):
    return 'parts' in facts and bool(facts['labelled'] or facts['boxes'])


def with_numbers(labels: LabelSet) -> bool:
    """Return whether there is room for numbers in the cells of a confusion matrix."""
    return len(labels) <= _MOST_NUMBERS


def confusion_rows(counts: np.ndarray, names):
    """Return columns and rows of the matrix: names, and (name, [(share, pixels, right?)])."""
    columns = [*names, 'unlabeled'] if counts[:, -1].any() else names
    totals = np.maximum(counts.sum(1, keepdims=True), 1)
    rows = []
    for i, (name, row, total) in enumerate(zip(names, counts, totals, strict=True)):
        rows.append((name, [(float(count / total[0]), int(count), i == j)
                            for j, count in enumerate(row[:len(columns)])]))
    return columns, rows


def histogram(values: list[float]) -> dict:
    """Return how often values in ms occur, those above the 99th percentile in one bar."""
    if not values:
        return {}
    values = np.array(values)
    median, p95, p99 = np.percentile(values, (50, 95, 99))
    low, high = values.min(), max(p99, values.min() + 1e-3)
    counts, edges = np.histogram(np.minimum(values, high), 24, (low, high))
    return {
        'bars': list(zip(counts.tolist(), edges[:-1].tolist(), edges[1:].tolist(), strict=True)),
        'top': int(counts.max()), 'low': low, 'high': high, 'ticks': _ticks(low, high),
        'lines': [('median', median), ('p95', p95)], 'longest': values.max(),
        'count': len(values)}


def _ticks(low, high):
    """Return some three to six round numbers between `low` and `high`."""
    step = 10 ** math.floor(math.log10((high - low) / 3))
    step *= next((factor for factor in (5, 2) if (high - low) / (step * factor) >= 3), 1)
    first = math.ceil(low / step)
    return [float(f'{i * step:.6g}') for i in range(first, math.floor(high / step) + 1)]


def _reliability(rows):
    """Return the rows that have pixels, each with its place among all and its share of them."""
    total = sum(row['pixels'] for row in rows)
    return [{**row, 'left': i / len(rows), 'width': 1 / len(rows), 'share': row['pixels'] / total}
            for i, row in enumerate(rows) if row['pixels']]


def percent(share: float | None) -> str:
    """Return a share in percent, a dash for None."""
    return '–' if share is None else f'{100 * share:.1f}'


def _data_uri(pixels, kind):
    """Return (h, w, 3) RGB pixels as a data URI; ids stay as they are, photographs are JPEG."""
    photo = kind in ('RGB', 'X', 'errors')
    ending, quality = ('.jpg', [cv2.IMWRITE_JPEG_QUALITY, 82]) if photo else ('.png', [])
    code = base64.b64encode(cv2.imencode(ending, pixels[..., ::-1], quality)[1]).decode()
    return f'data:image/{"jpeg" if photo else "png"};base64,{code}'
