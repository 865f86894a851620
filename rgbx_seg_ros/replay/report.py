# Copyright 2026 rgbx_seg_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""What a replay tells: on the terminal, in JSON and on a page."""

from dataclasses import asdict, dataclass
import math
from pathlib import Path

from rgbx_seg_ros.evaluation.evaluate import Evaluation, Part
from rgbx_seg_ros.evaluation.frame_scores import FrameScore, without_labels, without_nan
from rgbx_seg_ros.evaluation.metrics import percent
from rgbx_seg_ros.evaluation.protocols import PROTOCOLS
from rgbx_seg_ros.evaluation.report import Gallery, provenance, write_report
from rgbx_seg_ros.files import visible
from rgbx_seg_ros.inference.segmenter import Segmenter
from rgbx_seg_ros.tables import aligned

BETWEEN = '% of the pixels, between RGB alone and X alone'
"""What a disagreement is, behind its number."""


@dataclass(frozen=True)
class Sums:
    """What else is counted of a bag, so that several can be told of as one."""

    confusion: list[list[int]]
    """Pixels by label and class in the mask, as `metrics.ConfusionMatrix` counts them."""
    offset_ms: list[float]
    """Stamp of X minus that of RGB, of the newest 100000 pairs."""
    brightness: list[float]
    """Mean of the colour frame of each pair, 0..1."""
    flips: int
    """Still pixels whose class flips, as `flicker` has it, out of the `still` ones."""
    still: int
    pixels: int
    """Pixels of all frames that follow another one."""
    still_pixel_ns: int
    """The still pixels, each times the time from its frame to the next one."""


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
    """
    Messages left out by reason: those of `pairing.DROP_REASONS`, *_malformed and x_unregistered.
    """
    malformed: dict[str, str]
    """What was wrong with the first malformed message, by the keys of `topics`."""
    offset_ms: dict[str, float]
    """Median and p95 of the stamp of X minus that of RGB, over the pairs."""
    inference_ms: dict[str, float]
    """Median and p95 of the time from frames to mask."""
    drift: str
    """What is wrong with where X lies on RGB at the end of the bag; empty if nothing is."""
    scored: int
    """Masks compared with a label."""
    scores: dict | None
    """Scores by class and their means, mean IoU and pixel accuracy, 0..1, NaN as None."""
    frames: list[FrameScore]
    """What is told of each mask, under the stamp of its RGB frame in seconds."""
    flicker_per_s: float
    """Share of the still pixels whose class flips, per second, as `flicker` has it; or NaN."""
    still_share: float
    """Share of the pixels that are still."""
    table: str
    """The scores as a table, in percent."""
    sums: Sums

    def facts(self) -> dict:
        """Return what goes into a JSON file."""
        facts = asdict(self)
        del facts['table'], facts['sums']
        return without_nan({**facts, **without_labels(self.frames),
                            'frames': [frame._asdict() for frame in self.frames]})

    def __str__(self):
        drops = ', '.join(f'{reason} {count}' for reason, count in sorted(self.drops.items()))
        blind = without_labels(self.frames)
        rows = [
            ('RGB frames', str(self.messages['rgb']), self.topics['rgb']),
            ('X frames', str(self.messages['x']), self.topics['x']),
            ('dropped', str(sum(self.drops.values())), drops),
            *(('', '', f'first bad {kind} message: {text}')
              for kind, text in self.malformed.items()),
            ('pairs', str(self.pairs), f'X minus RGB: median {self.offset_ms["median"]:.1f} ms, '
                                       f'p95 {self.offset_ms["p95"]:.1f} ms'),
            ('inference', f'{self.inference_ms["median"]:.1f}',
             f'ms median, p95 {self.inference_ms["p95"]:.1f} ms; {self.model} on {self.device}'),
            ('unlabeled', percent(blind['unlabeled_share']),
             f'% of the pixels, mean confidence {percent(blind["mean_confidence"])} %'),
            *([('disagreement', percent(blind['disagreement']), BETWEEN)]
              * (not math.isnan(blind['disagreement']))),
            ('flicker', 'n/a' if math.isnan(self.flicker_per_s) else f'{self.flicker_per_s:.2f}',
             'of the pixels per second change their class where neither sensor changed, on '
             f'{percent(self.still_share)} %'),
            *([('drift', '', self.drift)] * bool(self.drift)),
        ]
        lines = aligned(rows, '<><')
        if 'label' in self.topics:
            lines += ['', f'{self.scored} masks scored against {self.topics["label"]}, percent']
            lines += [self.table] * bool(self.scored)
        return '\n'.join([*lines, '', f'wrote {self.out}'])


def made_by(report: Report, segmenter: Segmenter) -> dict[str, str]:
    """Return what made the report, as `provenance` does."""
    bag = Path(report.bag)
    files = visible(bag) if bag.is_dir() else [bag]
    return provenance(segmenter, bag, (f'{file.name} {file.stat().st_size}' for file in files))


def write_page(page: Path, report: Report, part: Part, inference_ms, segmenter: Segmenter,
               gallery: Gallery) -> None:
    """Write the page of a replay whose scores are `part`, its times `inference_ms`."""
    bag = Path(report.bag)
    scores = Evaluation(segmenter.labels, PROTOCOLS['plain'], {'all': part}, [])
    drops = ', '.join(f'{reason} {count}' for reason, count in sorted(report.drops.items()))
    blind = without_labels(report.frames)
    notes = {
        **{name: f'{report.messages[name]} in {topic}' for name, topic in report.topics.items()},
        'pairs': f'{report.pairs}, X minus RGB: median {report.offset_ms["median"]:.1f} ms, p95 '
                 f'{report.offset_ms["p95"]:.1f} ms',
        'dropped': drops or 'none',
        **{f'first bad {kind}': text for kind, text in report.malformed.items()},
        **({'drift': report.drift} if report.drift else {}),
        **({} if math.isnan(blind['disagreement']) else {
            'disagreement': f'{percent(blind["disagreement"])} {BETWEEN}'}),
        'masks': report.out}
    facts = {**(scores.facts() if report.scored else {}), 'made_by': made_by(report, segmenter)}
    write_report(page, f'{report.model} on {bag.resolve().name}', facts, segmenter.labels,
                 gallery, inference_ms, notes)
