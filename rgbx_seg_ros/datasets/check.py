# Copyright 2026 rgbx_seg_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""`rgbx-seg data check`: whether a download is whole, and what is in it."""

from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
import os
from pathlib import Path

import cv2
import numpy as np
from rgbx_seg_ros.cards.labels import LabelClass, LabelSet, UNLABELED
from rgbx_seg_ros.datasets import DATASETS, open_dataset, PairedDataset, Sample
from rgbx_seg_ros.datasets.survey import label_counts, Survey, x_form
from rgbx_seg_ros.errors import DataError
from rgbx_seg_ros.files import check_outputs
from rgbx_seg_ros.frames.images import write_image
from rgbx_seg_ros.frames.raw import visible_x
from rgbx_seg_ros.tables import figures
from tqdm import tqdm

_MOST_PROBLEMS = 20
_SHEET_ROWS = 8
_PANEL_WIDTH = 320
_LINE = 18  # height of a line of text on the sheet, in pixels
_UNLABELED_COLOR = (90, 90, 90)


@dataclass
class SplitReport:
    """What a split holds."""

    name: str | None
    expected: int | None
    """Pairs as published; None where that is not known."""
    problems: list[str] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)
    """What may be as it should, or not."""
    data: PairedDataset | None = None
    """None where the files of the split are not complete."""
    pairs: int = 0
    labelled: int = 0
    """Pairs with a label."""
    frames: Counter = field(default_factory=Counter)
    """How many pairs have which sizes and types, in words."""
    counts: dict[str, np.ndarray] = field(default_factory=dict)
    """Pixels of each class id by name of the frame, (256,) int64."""

    @property
    def total(self) -> np.ndarray:
        """The pixels of each id, (256,)."""
        return sum(self.counts.values(), np.zeros(256, np.int64))

    @property
    def shares(self) -> np.ndarray:
        """The share of each id in the pixels that have a class, (256,); NaN for none."""
        total = self.total
        total[UNLABELED] = 0
        return total / total.sum() if total.any() else np.full(256, np.nan)

    @property
    def unlabeled(self) -> float:
        """The share of the pixels without a class."""
        return float(self.total[UNLABELED] / self.total.sum())


def check(name: str, root: Path, split: str | None = None) -> list[SplitReport]:
    """
    Read every pair of the data set `name` below `root`, or those of one split.

    What is wrong stands in the reports: a missing or unreadable file, a number or size that is
    not the published one, a class id that must not occur, and what `Survey` finds.
    """
    published = DATASETS[name].splits_in(root)
    known = {}  # the splits of one data set may overlap
    with ThreadPoolExecutor(min(16, os.cpu_count() or 1)) as pool:
        return [_check_split(name, root, one, published.get(one), known, pool)
                for one in ([split] if split else published or [None])]


def _check_split(name, root, split, expected, known, pool):
    report = SplitReport(split, expected)
    try:
        report.data = data = open_dataset(name, root, split)
    except DataError as error:
        report.problems.append(str(error))
        return report
    report.pairs = len(data)
    if expected not in (None, len(data)):
        report.problems.append(f'{len(data)} pairs, published are {expected}')
    missing = [i for i in range(len(data)) if _key(data, i) not in known]
    found = tqdm(pool.map(lambda i: _look(data, i), missing), total=len(missing), unit='pair',
                 desc=split, leave=False, disable=None)
    known.update(zip([_key(data, i) for i in missing], found, strict=True))
    odd, survey = [], Survey()
    for i in range(len(data)):
        found = known[_key(data, i)]
        if isinstance(found, DataError):
            report.problems.append(str(found))
            continue
        size, form, x, counts = found
        report.frames[form] += 1
        survey.add_counted(data.names[i], x, counts)
        if counts is not None:
            report.labelled += 1
            report.counts[data.names[i]] = counts
        if data.SIZE and size != data.SIZE:
            odd.append((data.names[i], size))
    if odd:
        report.problems.append(
            f'{len(odd)} of {len(data)} frames are not {data.SIZE[1]}x{data.SIZE[0]} as '
            f'published, such as {odd[0][0]!r} with {odd[0][1][1]}x{odd[0][1][0]}')
    report.problems += survey.faults(data)
    report.remarks += survey.remarks(data)
    return report


def _key(data, index):
    return data.names[index], data.files(data.names[index])


def _look(data, index):
    """Return size, form, form of X and counts of a pair, or what is wrong with it."""
    try:
        sample = data[index]
    except DataError as error:
        return error
    size, x = sample.rgb.shape[:2], x_form(sample.x)
    form = f'RGB {size[1]}x{size[0]}, X {sample.x.shape[1]}x{sample.x.shape[0]} {x}'
    return size, form, x, label_counts(sample.label)


def text(reports: list[SplitReport]) -> str:
    """Return the reports as the command prints them; the last line says whether all is whole."""
    lines = []
    for report in reports:
        published = '' if report.expected is None else f' of {report.expected}'
        lines.append(f'{_title(report)}: {report.pairs}{published} pairs, {report.labelled} with '
                     'a label')
        forms = report.frames.most_common(4)
        lines += [f'    {count} x {form}' for form, count in forms]
        rest = sum(report.frames.values()) - sum(count for _, count in forms)
        lines += [f'    {rest} of other sizes'] if rest else []
    lines += _histogram([report for report in reports if report.counts])
    lines += [f'  {_title(report)}, to look at: {remark}' for report in reports
              for remark in report.remarks]
    problems = [f'{_title(report)}: {problem}' for report in reports
                for problem in report.problems]
    lines += [f'  {problem}' for problem in problems[:_MOST_PROBLEMS]]
    if len(problems) > _MOST_PROBLEMS:
        lines.append(f'  and {len(problems) - _MOST_PROBLEMS} more')
    lines.append(f'not whole: {len(problems)} problem{"s"[:len(problems) != 1]}' if problems
                 else 'whole')
    return '\n'.join(lines)


def _title(report):
    return report.name or 'all'


def _histogram(reports):
    """Return the texts of a table, the share of each class in each split in percent."""
    if not reports:
        return []
    shares = [report.shares for report in reports]
    return [figures([
        ('class, percent', *map(_title, reports)),
        *((f'{label.id} {label.name}', *(f'{100 * share[label.id]:.2f}' for share in shares))
          for label in _labels(reports)),
        ('unlabeled, of all', *(f'{100 * report.unlabeled:.2f}' for report in reports))])]


def _labels(reports):
    """Return the classes, made of the ids where the data set does not name them."""
    data = reports[0].data
    if data.CLASSES:
        return data.CLASSES
    used = sum(report.total for report in reports)
    used[UNLABELED] = 0
    hues = np.uint8([[(67 * i % 180, 200, 230) for i in range(256)]])
    colors = cv2.cvtColor(hues, cv2.COLOR_HSV2RGB)[0].tolist()
    colors[0] = (0, 0, 0)
    return LabelSet(LabelClass(i, f'id_{i}', tuple(colors[i]))
                    for i in range(np.flatnonzero(used).max(initial=0) + 1))


def sheet(reports: list[SplitReport]) -> np.ndarray:
    """
    Return a contact sheet, (H, W, 3) uint8: RGB, X and label of frames that show many classes.

    X is stretched to its range. Below are the colours of the classes; grey is unlabeled. Raise
    DataError where no frame can be shown.
    """
    reports = [report for report in reports if report.frames]
    if not reports:
        raise DataError('there is no frame to show on a contact sheet')
    labelled = [report for report in reports if report.counts]
    labels = _labels(labelled) if labelled else ()
    rows = [_row(report.data[report.data.names.index(name)], _title(report), labels)
            for report, name in _chosen(reports)]
    return np.vstack([*rows, *_legend(labels, rows[0].shape[1])])


def _chosen(reports):
    """Return (report, name) of frames: each adds the most classes, or else lies far away."""
    frames = [(report, name) for report in reports for name in report.counts or report.data.names]
    classes = [set(np.flatnonzero(report.counts[name])) if report.counts else set()
               for report, name in frames]
    spread = np.linspace(0, len(frames) - 1, _SHEET_ROWS).round().astype(int).tolist()
    chosen, shown = [], {UNLABELED}
    while len(chosen) < min(_SHEET_ROWS, len(frames)):
        best = max(range(len(frames)), key=lambda i: len(classes[i] - shown))
        if not classes[best] - shown:
            best = next(i for i in (*spread, *range(len(frames))) if i not in chosen)
        chosen.append(best)
        shown |= classes[best]
    return [frames[i] for i in sorted(chosen)]


def _row(sample: Sample, title, labels):
    """Return the three pictures of a sample side by side, with its name above."""
    label = sample.label
    if label is None:
        painted = np.full_like(sample.rgb, _UNLABELED_COLOR)
    else:
        painted = _palette(labels)[label]
    height = round(sample.rgb.shape[0] * _PANEL_WIDTH / sample.rgb.shape[1])
    panels = [cv2.resize(picture, (_PANEL_WIDTH, height), interpolation=how) for picture, how in (
        (sample.rgb, cv2.INTER_AREA), (visible_x(sample.x), cv2.INTER_AREA),
        (painted, cv2.INTER_NEAREST))]
    return np.vstack([_line(f'{title}: {sample.name}', 3 * _PANEL_WIDTH), np.hstack(panels)])


def _palette(labels):
    palette = np.zeros((256, 3), np.uint8)
    for label in labels:
        palette[label.id] = label.color
    palette[UNLABELED] = _UNLABELED_COLOR
    return palette


def _line(words, width, color=None):
    """Return a line of text as a picture, a square of `color` before it."""
    line = np.full((_LINE, width, 3), 255, np.uint8)
    left = 4
    if color is not None:
        cv2.rectangle(line, (4, 3), (16, _LINE - 4), color, -1)
        cv2.rectangle(line, (4, 3), (16, _LINE - 4), (128, 128, 128), 1)
        left = 22
    # cv2 has no other letters, and dies of a name that is no text.
    words = words.encode('ascii', 'backslashreplace').decode()
    cv2.putText(line, words, (left, _LINE - 5), cv2.FONT_HERSHEY_SIMPLEX, 0.42, (0, 0, 0), 1,
                cv2.LINE_AA)
    return line


def _legend(labels, width):
    entries = [(f'{label.id} {label.name}', label.color) for label in labels]
    entries.append(('unlabeled', _UNLABELED_COLOR))
    column = width // 5
    for i in range(0, len(entries), 5):
        cells = [_line(words, column, tuple(map(int, color)))
                 for words, color in entries[i:i + 5]]
        row = np.hstack(cells)
        rest = np.full((_LINE, width - row.shape[1], 3), 255, np.uint8)
        yield np.hstack([row, rest])


def add_arguments(parser):
    """Declare the command's arguments."""
    parser.add_argument('action', choices=('check',),
                        help='tell whether a download is whole, and what is in it')
    parser.add_argument('folder', type=Path, metavar='DIR',
                        help='the data set, as downloaded and unpacked')
    parser.add_argument('--dataset', required=True, choices=DATASETS, metavar='NAME',
                        help=f'one of: {", ".join(DATASETS)}')
    parser.add_argument('--split', metavar='NAME', help='look at this split only')
    parser.add_argument('--sheet', type=Path, metavar='FILE',
                        help='picture for a contact sheet: RGB, X and label of a few frames')


def main(args):
    """Run the command; return 1 where the data set is not whole."""
    check_outputs([args.sheet])
    if not args.folder.is_dir():
        raise DataError(f'{str(args.folder)!r} is not a folder')
    reports = check(args.dataset, args.folder, args.split)
    if args.sheet and any(report.frames for report in reports):
        write_image(args.sheet, sheet(reports))
        print(f'wrote {args.sheet}: look at it')
    print(text(reports))
    return int(any(report.problems for report in reports))
