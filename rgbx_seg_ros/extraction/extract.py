# Copyright 2026 rgbx_seg_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""
`rgbx-seg extract`: pairs of frames out of bags, as a data set to label, without ROS.

Pairs are those of `replay` with the same parameters, and so those of the node. Frames are not
collected, so memory does not grow with the bags.
"""

from collections import Counter
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
import re
import sys
from typing import Any, NamedTuple
import warnings

import numpy as np
from rgbx_seg_ros.allocator import keep_freed_memory
from rgbx_seg_ros.bags.storage import bag_path, BagReader
from rgbx_seg_ros.cards.card import load_card, X_KINDS, XInput
from rgbx_seg_ros.datasets.folder import MANIFEST
from rgbx_seg_ros.errors import DataError, FrameError, ParameterError
from rgbx_seg_ros.extraction.folder import (
    check_folder,
    Folder,
    JsonLines,
    RGB_FORMATS,
    SCORES,
)
from rgbx_seg_ros.extraction.hardness import hardness, Judge, Score
from rgbx_seg_ros.extraction.selection import Selection
from rgbx_seg_ros.extraction.topics import find_topics, Topics
from rgbx_seg_ros.fields import check_number
from rgbx_seg_ros.files import visible
from rgbx_seg_ros.inference import offline
from rgbx_seg_ros.inference.segmenter import Segmenter
from rgbx_seg_ros.parameters import DEFAULTS, Parameters
from rgbx_seg_ros.registration.rig import Rig
from rgbx_seg_ros.replay.pairs import (
    first_infos,
    needed_info_topics,
    PairFinder,
    pairing_settings,
)
from rgbx_seg_ros.sync.pairing import Pair
from rgbx_seg_ros.tables import aligned
from tqdm import tqdm

USED = ('model', 'x.kind', 'tune_allocator', *offline.REGISTRATION, 'rgb.transport',
        'x.transport', 'rgb.bits', 'sync.slop_ms', 'sync.x_offset_ms')
"""Parameters that count."""
USED_BY_MODEL = ('engine', 'device', 'x.normalization', 'x.range', 'x.smoothing_s')
"""Those that count besides where a model chooses."""

_FOLDERS = {'thermal': 'thermal', 'depth': 'depth'}
_NS_PER_S = 1_000_000_000


@dataclass(frozen=True)
class Report:
    """What an extraction has found and written."""

    out: str
    pairs: int
    """Pairs in the bags."""
    left_out: dict[str, int]
    """Pairs that were not wanted, by the option that says so."""
    written: int
    """Pairs written now."""
    total: int
    """Pairs in the folder."""
    drops: dict[str, int]
    """Messages left out by reason, as in a replay."""
    first_errors: dict[str, str] = field(default_factory=dict)
    """What was wrong with the first malformed message, by bag and 'rgb' or 'x'."""

    def __str__(self):
        def counts(of):
            return ', '.join(f'{name} {count}' for name, count in sorted(of.items()))
        rows = [('pairs', f'{self.pairs}', 'in the bags'),
                ('left out', f'{sum(self.left_out.values())}', counts(self.left_out)),
                ('written', f'{self.written}', f'{self.total} in the folder'),
                ('dropped', f'{sum(self.drops.values())}', f'messages: {counts(self.drops)}'
                 if self.drops else 'messages'),
                *(('', '', f'first bad message of {name}: {text}')
                  for name, text in self.first_errors.items())]
        return '\n'.join([*aligned(rows, '<><'), '', f'wrote {self.out}'])


class _Placed(NamedTuple):
    """A pair as it is written."""

    name: str
    pair: Pair
    x: np.ndarray
    """X on the pixels of RGB, where a registration says so."""
    infos: dict[str, Any]
    """The newest CameraInfo of rgb and x when the pair was known."""


class _Bag:
    """A bag of which the pairs are taken, as often as they are needed."""

    def __init__(self, reader: BagReader, name: str, topics: Topics, parameters: Parameters,
                 spec: XInput):
        self.reader, self.name, self.topics = reader, name, topics
        self._parameters, self._spec = parameters, spec
        self._settings = pairing_settings(parameters.slop_ms, parameters.x_offset_ms)
        self._needed = needed_info_topics(reader, topics.by_modality, parameters)
        self._info_topics = {**self._other_info_topics(), **self._needed}
        self.finder = PairFinder(self._settings, parameters.rgb_bits)

    def pairs(self):
        """Yield the pairs with their names, in the order in which they become certain."""
        self.finder = PairFinder(self._settings, self._parameters.rgb_bits)
        self._infos = first_infos(self.reader, self._needed)
        self._rig = Rig(self._parameters, self._spec, self._infos.get)
        self._names: Counter[str] = Counter()
        modalities = {topic: name for name, topic in self.topics.by_modality.items()}
        wanted = {*modalities, *self._info_topics.values()}
        for topic, now_ns, message in tqdm(
                self.reader.messages(wanted), total=sum(map(self.reader.counts.get, wanted)),
                unit='message', desc=self.name, leave=False, disable=None):
            if topic in modalities:
                yield from self._named(self.finder.take(modalities[topic], message, now_ns))
            for name in (name for name, one in self._info_topics.items() if one == topic):
                self._infos[name] = message
        yield from self._named(self.finder.finish())

    def placed(self, name: str, pair: Pair) -> _Placed | None:
        """Return a pair with X where it belongs, or None where it cannot be brought there."""
        try:
            x = self._rig.place(pair.x.pixels, pair.rgb.pixels.shape[1::-1])
        except FrameError as error:
            self.finder.refuse_pair('x', error, 'unregistered')
            return None
        return _Placed(name, pair, x, dict(self._infos))

    def facts(self, placed: _Placed) -> dict:
        """Return the line of the manifest for a pair."""
        sides = {'rgb': placed.pair.rgb, 'x': placed.pair.x}
        return {
            'bag': str(self.reader.path),
            **{name: {'topic': self.topics.by_modality[name], **_header(side.message.header),
                      'camera_info': _optics(placed.infos.get(name))}
               for name, side in sides.items()},
            'offset_ns': placed.pair.offset_ns,
            'registration': self._parameters.registration_mode}

    def _named(self, pairs):
        for pair in pairs:
            name = '{}_{}_{:09d}'.format(self.name, *divmod(pair.rgb_stamp_ns, _NS_PER_S))
            self._names[name] += 1  # a clock that was set back gives a stamp again
            again = self._names[name]
            yield (name if again == 1 else f'{name}_{again}'), pair

    def _other_info_topics(self):
        found = {}
        for name, topic in self.topics.by_modality.items():
            try:
                found[name] = self.reader.info_topic(topic)
            except DataError:
                pass
        return found


@dataclass(frozen=True)
class Choice:
    """Which of the pairs to take."""

    every_s: float = 0.0
    """Least time between the colour frames of two pairs."""
    min_change: float = 0.0
    """Least change between two pairs in percent, see `selection.change`."""
    hardest: int | None = None
    """Take so many of these, the hardest for a model; None: all."""

    def __post_init__(self):
        Selection(self.every_s, self.min_change)
        if self.hardest is not None:
            check_number('--hardest', self.hardest, ParameterError, low=1, integer=True)

    def selection(self) -> Selection:
        """Return what chooses in the next bag."""
        return Selection(self.every_s, self.min_change)


EVERYTHING = Choice()


def extract(bags, out, rgb_topic: str | None = None, x_topic: str | None = None,
            choice: Choice = EVERYTHING, rgb_format: str = 'png',
            parameters: Parameters = DEFAULTS, spec: XInput | None = None,
            segmenter: Segmenter | None = None, tell=print) -> Report:
    """
    Write pairs of frames out of `bags` to the folder `out`, or go on where it was left.

    The folder becomes the data set `folder` with a manifest, see `extraction.folder`. Topics that
    are None are found by name and type, and `tell` is told which. Of `parameters` those of `USED`
    count; `spec` is the X of a model, where there is one. A choice of the hardest needs a
    `segmenter`, and those of `USED_BY_MODEL` count too. The colour frames are PNG, or JPEG with
    `rgb_format` 'jpg'. Raise DataError for bags that cannot be read or that hold no pair, and for
    a folder that is not that of this extraction.
    """
    out = Path(out)
    check_folder(out)
    with ExitStack() as stack:
        readers = [stack.enter_context(BagReader(bag)) for bag in bags]
        topics = [find_topics(reader, rgb_topic, x_topic, parameters) for reader in readers]
        for reader, found in zip(readers, topics, strict=True):
            tell('\n'.join([f'{reader.path}', *(f'  {line}' for line in found.lines)]))
        kind = _x_kind(topics, parameters, spec)
        spec = spec or XInput(kind=kind or 'thermal', mean=(0.0,), std=(1.0,),
                              invalid=0.0 if kind == 'depth' else None)
        opened = [_Bag(*one, parameters, spec)
                  for one in zip(readers, _names(readers), topics, strict=True)]
        x_folder = topics[0].x_folder or _FOLDERS.get(kind, 'x')
        facts = {'bags': [_identity(bag) for bag in opened], **asdict(choice),
                 'rgb_format': rgb_format, 'x_kind': kind, **_facts(parameters, segmenter)}
        folder = stack.enter_context(Folder(out, facts, x_folder, kind, rgb_format))
        scores = None
        if choice.hardest:
            scores = _hardest(opened, folder, choice, segmenter, parameters.x_smoothing_s)
        return _extract(opened, folder, choice, scores)


def _facts(parameters, segmenter):
    """Return what of the parameters makes another extraction."""
    names = {*USED} - {'model', 'tune_allocator', 'x.kind'}
    facts = {}
    if segmenter is not None:
        names |= {*USED_BY_MODEL} - {'engine', 'device'}
        facts['model'] = segmenter.card.name
    return {**facts, **{name: value for name, value in parameters.to_ros().items()
                        if name in names}}


def _wanted(bag, choice, left_out, judge=None):
    """Yield the pairs of a bag that are wanted, and their change; a judge sees the others too."""
    selection = choice.selection()
    for name, pair in bag.pairs():
        is_wanted = selection.wants(pair)
        placed = bag.placed(name, pair) if is_wanted or judge else None
        if placed is not None and judge is not None:
            judge.see(pair, placed.x)
        if not is_wanted:
            left_out['--every' if selection.change is None else '--min-change'] += 1
        elif placed is not None:
            selection.keep(pair)
            yield placed, selection.change


def _hardest(bags, folder, choice, segmenter, x_smoothing_s):
    """Return the scores of the hardest of the wanted pairs, by name."""
    file = JsonLines(folder.path / SCORES)
    scores = {line.pop('name'): Score(**line) for line in file.lines}
    try:
        for bag in bags:
            judge = Judge(segmenter, x_smoothing_s)
            for placed, _ in _wanted(bag, choice, Counter(), judge):
                if placed.name not in scores:
                    scores[placed.name] = judge.score()
                    file.add({'name': placed.name, **scores[placed.name]._asdict()})
    finally:
        file.close()
    ranked = sorted(zip(hardness([*scores.values()]), scores, strict=True),
                    key=lambda one: -one[0])
    return {name: {**scores[name]._asdict(), 'hardness': hard}
            for hard, name in ranked[:choice.hardest]}


def _extract(bags, folder, choice, scores):
    """Write the wanted pairs of the bags, of those with `scores` if given; return the report."""
    left_out, drops, errors, found, written = Counter(), Counter(), {}, 0, 0
    for bag in bags:
        usable = 0
        for placed, change in _wanted(bag, choice, left_out):
            usable += 1
            if scores is not None and placed.name not in scores:
                left_out['--hardest'] += 1
            elif placed.name not in folder.names:
                pair, score = placed.pair, scores and scores[placed.name]
                folder.add(placed.name, pair.rgb.message, pair.rgb.pixels, placed.x,
                           {**bag.facts(placed), 'change': change, 'score': score})
                written += 1
        found += bag.finder.found
        drops.update(bag.finder.drops)
        errors.update({f'{bag.name}, {name}': text
                       for name, text in bag.finder.first_errors.items()})
        if not usable:
            why = bag.finder.why_none(bag.reader, bag.topics.by_modality)
            if len(bags) == 1:
                raise DataError(why)
            warnings.warn(why, stacklevel=2)
    if not folder.names:
        raise DataError(f'none of the {len(bags)} bags holds a pair')
    return Report(str(folder.path), found, dict(left_out), written, len(folder.names),
                  dict(drops), errors)


def _x_kind(topics, parameters, spec):
    """Return what X measures in all bags; None where nobody tells."""
    if parameters.x_kind != 'card':
        return parameters.x_kind
    if spec is not None:
        return spec.kind
    kinds = {found.x_kind for found in topics}
    if len(kinds) > 1:
        raise DataError(f'X is of several kinds: {", ".join(sorted(map(str, kinds)))} by the '
                        f'topics {", ".join(sorted({found.x for found in topics}))}; extract them '
                        'into folders of their own, or name the kind with --x-kind')
    return kinds.pop()


def _names(readers):
    """Return a name for each bag, with which those of its frames begin."""
    seen: Counter[str] = Counter()
    for reader in readers:
        path = reader.path.resolve()
        name = re.sub(r'[^\w-]+', '_', path.stem if path.is_file() else path.name, flags=re.ASCII)
        seen[name] += 1
        yield name if seen[name] == 1 else f'{name}-{seen[name]}'


def _identity(bag):
    """Return what tells a bag from others, wherever it lies."""
    path = bag.reader.path
    files = visible(path) if path.is_dir() else [path]
    return {'name': path.resolve().name, 'topics': bag.topics.by_modality,
            'files': {file.name: file.stat().st_size for file in files
                      if file.suffix != '.yaml'}}


def _header(header):
    return {'stamp': {'sec': int(header.stamp.sec), 'nanosec': int(header.stamp.nanosec)},
            'frame_id': header.frame_id}


def _optics(info):
    """Return a CameraInfo as the fields that describe the camera."""
    if info is None:
        return None
    arrays = {name: np.asarray(getattr(info, name)).tolist() for name in ('d', 'k', 'r', 'p')}
    return {'frame_id': info.header.frame_id, 'width': int(info.width),
            'height': int(info.height), 'distortion_model': info.distortion_model, **arrays}


def add_arguments(parser):
    """Declare the command's arguments."""
    parser.add_argument('bags', type=Path, nargs='+', metavar='BAG',
                        help='folder of a bag, or an .mcap, .db3 or .bag file')
    parser.add_argument('-o', '--out', type=Path, metavar='FOLDER', required=True,
                        help='folder for the frames, new or one that the same command has left '
                             'half done')
    offline.add_arguments(parser, 'tells what X measures, and --hardest needs one')
    parser.add_argument('--rgb-topic', metavar='TOPIC',
                        help='colour frames, raw or /compressed (default: found by name and type)')
    parser.add_argument('--x-topic', metavar='TOPIC',
                        help='second modality, raw or /compressed (default: likewise)')
    parser.add_argument('--x-kind', choices=X_KINDS, metavar='KIND',
                        help=f'what X measures: {", ".join(X_KINDS)} (default: by the model or '
                             'the name of the topic)')
    parser.add_argument('--slop-ms', type=float, metavar='MS',
                        help='longest time between the frames of a pair (default: 50)')
    parser.add_argument('--x-offset-ms', type=float, metavar='MS',
                        help='added to the stamps of X before they are compared (default: 0)')
    parser.add_argument('--every', type=float, default=0.0, metavar='S',
                        help='keep pairs that are so many seconds apart, or more')
    parser.add_argument('--min-change', type=float, default=0.0, metavar='PERCENT',
                        help='leave out a pair whose frames both differ less from those kept '
                             'before, on average in percent of their contrast')
    parser.add_argument('--hardest', type=int, metavar='N',
                        help='of these, keep the N that are hardest for the model: low '
                             'confidence, sensors that disagree, flicker')
    parser.add_argument('--rgb-format', choices=RGB_FORMATS, default='png',
                        help='of the colour frames; jpg keeps the files of a camera that sends '
                             'JPEG as they are (default: png)')


def main(args):
    """Run the command."""
    check_folder(args.out)
    choice = Choice(args.every, args.min_change, args.hardest)
    used = (*USED, *USED_BY_MODEL) if choice.hardest else USED
    parameters, remark, has_model = offline.given(args, used, needs_model=bool(choice.hardest))
    if remark:
        warnings.warn(remark, stacklevel=2)
    options = {'x_kind': args.x_kind, 'slop_ms': args.slop_ms, 'x_offset_ms': args.x_offset_ms}
    parameters = replace(parameters, **{
        name: value for name, value in options.items() if value is not None})
    if parameters.tune_allocator:
        keep_freed_memory()
    segmenter = Segmenter.from_parameters(parameters) if choice.hardest else None
    spec = load_card(parameters.model).x if has_model else None
    try:
        print(extract([bag_path(bag) for bag in args.bags], args.out, args.rgb_topic,
                      args.x_topic, choice, args.rgb_format, parameters, spec, segmenter))
    except KeyboardInterrupt:
        print(f'rgbx-seg: stopped; {args.out / MANIFEST} tells what is there, and the same '
              'command goes on', file=sys.stderr)
        raise
