# Copyright 2026 rgbx_seg_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""The JSON files of `evaluate` and `replay`, read again: their figures by name."""

from collections.abc import Iterable
import difflib
import json
from pathlib import Path
import re
from typing import NamedTuple

import numpy as np
from rgbx_seg_ros.errors import DataError, ParameterError
from rgbx_seg_ros.evaluation.frame_scores import BLIND
from rgbx_seg_ros.files import JSON_FORMAT
from rgbx_seg_ros.sync.pairing import DROP_REASONS

MALFORMED = ('rgb_malformed', 'x_malformed', 'label_malformed', 'x_unregistered')
"""Reasons of `replay` to leave a message out, beside `pairing.DROP_REASONS`."""


class Metric(NamedTuple):
    """A figure of a result that can be required."""

    text: str
    of_class: bool = False
    """Whether there is one for each class, as iou.person."""
    of_part: bool = True
    """Whether there is one for each part too, as night/miou; else of all frames alone."""
    share: bool = True
    """Whether it is from 0 to 1."""
    held: str = ''
    """The sign by which a baseline holds it: >= where more is better; empty where it does not."""
    verb: str = ''
    """The only verb that has it; empty for both."""


METRICS = {
    'miou': Metric('mean IoU, as the protocol has it', held='>='),
    'iou': Metric('IoU of a class', of_class=True, held='>='),
    'mrecall': Metric('mean recall, also called mean accuracy'),
    'recall': Metric('recall of a class', of_class=True),
    'mprecision': Metric('mean precision'),
    'precision': Metric('precision of a class', of_class=True),
    'mf1': Metric('mean F1'),
    'f1': Metric('F1 of a class', of_class=True),
    'mboundary': Metric('mean boundary F', verb='evaluate'),
    'boundary': Metric('boundary F of a class', of_class=True, verb='evaluate'),
    'pixel_accuracy': Metric('share of right pixels', held='>='),
    'calibration_error': Metric('expected calibration error', verb='evaluate'),
    'found': Metric('share of the boxes of a class that are found', of_class=True, held='>=',
                    verb='evaluate'),
    'inside': Metric("share of a class's pixels that lie in its boxes", of_class=True,
                     verb='evaluate'),
    'pairs': Metric('pairs that were segmented', share=False),
    'labelled': Metric('those of them with a label', share=False),
    'unlabeled_share': Metric('share of the pixels that masks leave at 255, mean over frames',
                              of_part=False, held='<='),
    'mean_confidence': Metric('mean confidence, mean over frames', of_part=False),
    'disagreement': Metric('share of the pixels to which RGB alone and X alone give other '
                           'classes, mean over frames; with --disagreement', of_part=False),
    'latency_p50_ms': Metric('median of the time from frames to mask in memory', of_part=False,
                             share=False),
    'latency_p95_ms': Metric('its 95th percentile', of_part=False, share=False),
    'latency_p99_ms': Metric('its 99th percentile', of_part=False, share=False),
    'pair_rate': Metric('share of the RGB frames that got a mask', of_part=False, held='>=',
                        verb='replay'),
    'flicker_per_s': Metric('share of the still pixels whose class flips, per second',
                            of_part=False, share=False, held='<=', verb='replay'),
    'drops': Metric('messages left out', of_part=False, share=False, verb='replay'),
    **{f'drops.{reason}': Metric(f'those left out as {reason}', of_part=False, share=False,
                                 verb='replay') for reason in (*DROP_REASONS, *MALFORMED)},
}
"""The figures by name, without class and part."""

SWEEP = 'sweep'
"""The start of the names of figures of frames that are disturbed, as sweep.shift.8.miou."""
SWEPT = {
    'miou': Metric('mean IoU at a level', of_part=False, verb='evaluate'),
    'iou': Metric('IoU of a class', of_class=True, of_part=False, verb='evaluate'),
    'pixel_agreement': Metric('share of the pixels with the class that they have in the mask of '
                              'the frame as it is', of_part=False, verb='evaluate'),
    'agreement': Metric('IoU of a class between both masks', of_class=True, of_part=False,
                        verb='evaluate'),
}
"""The figures of a level of a sweep, by their names behind sweep.KIND.LEVEL."""

_SCORES = ('iou', 'recall', 'precision', 'f1', 'boundary')
LATENCIES = {'latency_p50_ms': 50, 'latency_p95_ms': 95, 'latency_p99_ms': 99}
"""Percentiles of the times of frames, by metric."""

_DIFFERENT = {'dataset': 'data set', 'split': 'split', 'protocol': 'protocol'}


def read_result(path: Path) -> dict:
    """
    Return the facts in a JSON file of `evaluate` or `replay`.

    Raise DataError for any other file, and for one that does not tell each of its frames.
    """
    try:
        facts = json.loads(path.read_text(encoding='utf-8'))
    except ValueError as error:
        raise DataError(f'{str(path)!r} is no JSON file: {error}') from error
    kinds = {'bag', 'bags', 'dataset'} & facts.keys() if isinstance(facts, dict) else ()
    if not kinds or 'format' not in facts:
        raise DataError(f'{str(path)!r} is no result: needed is what rgbx-seg evaluate or replay '
                        'writes with --json')
    if facts['format'] != JSON_FORMAT:
        raise DataError(f'{str(path)!r} is of format {facts["format"]!r}, and read is format '
                        f'{JSON_FORMAT}: make it again with this version')
    try:
        metrics(facts)
        if 'bags' in facts and not facts['bags']:
            raise DataError(f'{str(path)!r} holds no bag: none of its fleet is done')
        complete = bool(units(facts)) and all('pixels' in unit for unit in units(facts))
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise DataError(f'{str(path)!r} lacks figures of {verb_of(facts)}, or has others in their '
                        f'place, at {error}: make it again with this version') from error
    if not complete:
        raise DataError(f'{str(path)!r} does not tell the pixels of each frame, as an older '
                        'rgbx-seg wrote it: make it again with this version')
    return facts


def verb_of(facts: dict) -> str:
    """Return the verb that a result is of."""
    return 'replay' if {'bag', 'bags'} & facts.keys() else 'evaluate'


def units(facts: dict) -> list[dict]:
    """
    Return what of a result is told one by one, its frames, and of a fleet its bags.

    A bag looks like a frame, but counts as many as its `pairs`.
    """
    if 'bags' not in facts:
        return facts['frames']
    return [{'name': bag['name'], 'pixels': bag['pixels'], 'pairs': bag['pairs'],
             'unlabeled': bag['unlabeled_share'], 'confidence': bag['mean_confidence'],
             'disagreement': bag.get('disagreement')}
            for bag in facts['bags']]


def classes_of(facts: dict) -> list[str]:
    """Return the names of the classes of a result; none of a bag without labels."""
    facts = facts.get('totals', facts)
    scores = facts['scores'] if 'scores' in facts else facts
    return list(scores['classes']) if scores else []


def metrics(facts: dict) -> dict[str, float | None]:
    """
    Return the figures of a result by their full names, None where there is no value.

    Those of a fleet are of all its bags together.
    """
    facts = facts.get('totals', facts)
    if 'messages' in facts:
        drops = facts['drops']
        messages = facts['messages']['rgb']
        found = {
            **_of_part(facts['scores'] or {'mean': {}, 'classes': {}}),
            'pairs': facts['pairs'], 'labelled': facts['scored'],
            'pair_rate': facts['pairs'] / messages if messages else None,
            'flicker_per_s': facts.get('flicker_per_s'),
            'drops': sum(drops.values()),
            **{name: drops.get(name.partition('.')[2], 0)
               for name in METRICS if name.startswith('drops.')}}
    else:
        found = {**_of_part(facts), 'pairs': facts['pairs'], 'labelled': facts['labelled']}
    for part, its_facts in facts.get('parts', {}).items():
        found.update({f'{part}/{name}': value for name, value in {
            **_of_part(its_facts), 'pairs': its_facts['pairs'],
            'labelled': its_facts['labelled']}.items()})
    times = [frame['ms'] for frame in facts.get('frames', ())]
    known = facts.get('latency_ms', {})  # where the frames are not told
    found.update({name: float(np.percentile(times, share)) if times else known.get(f'p{share}')
                  for name, share in LATENCIES.items()})
    found.update({name: facts.get(name) for name in BLIND})
    found.update(_of_sweep(facts.get(SWEEP, {})))
    return found


def _of_sweep(kinds):
    found = {}
    for kind, facts in kinds.items():
        for one in facts['levels']:
            start = f'{SWEEP}.{kind}.{one["level"]}'
            found[f'{start}.miou'] = one['mean_iou']
            found[f'{start}.pixel_agreement'] = one['pixel_agreement']
            found.update({f'{start}.{score}.{label}': value for score in ('iou', 'agreement')
                          for label, value in one[score].items()})
        found.update({f'{SWEEP}.{kind}.p{100 * one["failure"]:.0f}.miou': one['mean_iou']
                      for one in facts.get('expected', ())})
    return found


def _of_part(facts):
    found = {f'm{score}': facts['mean'].get(score) for score in _SCORES}
    found.update({name: facts.get(name) for name in ('pixel_accuracy', 'calibration_error')})
    for label, scores in facts['classes'].items():
        found.update({f'{score}.{label}': value for score, value in scores.items()})
    for label, scores in facts.get('boxes', {}).items():
        found.update({f'{score}.{label}': scores[score] for score in ('found', 'inside')})
    return found


def metric_of(name: str) -> Metric:
    """Return what is known of a figure with a full name that `metrics` gives."""
    if match := re.match(rf'{SWEEP}\.\w+\.[-\w]+\.(\w+)', name):
        return SWEPT[match[1]]
    for bare in (name, name.partition('/')[2]):
        for one in sorted(METRICS, key=len, reverse=True):
            if bare == one or bare.startswith(f'{one}.'):
                return METRICS[one]
    raise KeyError(name)


def check_names(given: Iterable[str], verb: str, classes: Iterable[str],
                parts: Iterable[str] = (), swept: Iterable[str] = ()) -> None:
    """
    Raise ParameterError for a name that no figure of `verb` with these classes can have.

    `swept` are the full names of those of a sweep.
    """
    classes, parts = list(classes), sorted(parts)
    whole, known = [], [*swept]
    for name, metric in METRICS.items():
        if metric.verb in ('', verb):
            whole.append(f'{name}.CLASS' if metric.of_class else name)
            full = [f'{name}.{label}' for label in classes] if metric.of_class else [name]
            known += full + [f'{part}/{one}' for part in parts * metric.of_part for one in full]
    for name in given:
        if name not in known:
            near = difflib.get_close_matches(name, known, 1)
            hint = f'did you mean {near[0]!r}? ' if near else ''
            of_parts = (f'; scores also of a part, as {parts[0]}/miou, of {", ".join(parts)}'
                        if parts else '')
            of_sweep = ''.join((
                '; of a level with --sweep KIND, as ', f'{SWEEP}.shift.8.miou, also ',
                ', '.join(f'{one}.CLASS' if metric.of_class else one
                          for one, metric in SWEPT.items()))) if verb == 'evaluate' else ''
            raise ParameterError(
                f'metric {name!r} is unknown; {hint}allowed are: {", ".join(whole)}; CLASS is one '
                f'of {", ".join(classes)}{of_parts}{of_sweep}')


def check_same_setting(path: Path, old: dict, new: dict, same: Iterable[str] = ()) -> None:
    """
    Raise DataError unless the result `old` of the file `path` has the setting of `new`.

    The verbs and classes must be equal, and what the facts tell of data set, split and protocol;
    so must the facts of the names `same`.
    """
    if verb_of(old) != verb_of(new):
        raise DataError(f'{str(path)!r} is of {verb_of(old)}, the other of {verb_of(new)}: take '
                        'two of one verb')
    for name, words in {**_DIFFERENT, **{one: one for one in same}}.items():
        theirs, ours = (facts.get(name) for facts in (old, new))
        if name == 'protocol':
            theirs, ours = (one and one['name'] for one in (theirs, ours))
        if theirs != ours:
            raise DataError(f'{str(path)!r} has the {words} {theirs!r}, the other {ours!r}: take '
                            'results of the same')
    theirs, ours = ('many bags' if 'bags' in facts else 'one' for facts in (old, new))
    if theirs != ours:
        raise DataError(f'{str(path)!r} is of {theirs}, the other of {ours}: take two of a kind')
    theirs, ours = classes_of(old), classes_of(new)
    if theirs != ours:
        raise DataError(f'{str(path)!r} has the classes {", ".join(theirs) or "of no label"}, the '
                        f'other {", ".join(ours) or "of no label"}: take results of the same')
