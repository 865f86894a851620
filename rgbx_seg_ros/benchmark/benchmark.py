# Copyright 2026 rgbx_seg_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""
`rgbx-seg benchmark`: models and engines side by side, on whole frames, in one run.

They take turns frame by frame, so that a machine that is busy for a while is so for all of them.
"""

import contextlib
from dataclasses import dataclass, field, replace
import functools
import itertools
import os
from pathlib import Path
import platform
import shlex
import statistics
import sys
from tempfile import TemporaryDirectory
import time
import warnings

import cv2
import numpy as np
from rgbx_seg_ros import __version__
from rgbx_seg_ros.allocator import keep_freed_memory
from rgbx_seg_ros.benchmark import projection
from rgbx_seg_ros.benchmark.page import page
from rgbx_seg_ros.benchmark.rates import Settings
from rgbx_seg_ros.benchmark.roofline import count_macs, Peaks
from rgbx_seg_ros.benchmark.stages import (
    Footprint,
    longest_wait_ms,
    measure_footprint,
    Stages,
    time_stages,
)
from rgbx_seg_ros.cards.card import Card, load_card, RgbInput, Weights, XInput
from rgbx_seg_ros.cards.labels import LabelClass
from rgbx_seg_ros.cpu import find_cpu
from rgbx_seg_ros.datasets import FolderDataset
from rgbx_seg_ros.engines import ENGINES, open_engine
from rgbx_seg_ros.engines.background import BackgroundEngine
from rgbx_seg_ros.engines.model_files import FrameKind
from rgbx_seg_ros.engines.torch_engine import find_device, TorchEngine
from rgbx_seg_ros.errors import EngineError, ParameterError
from rgbx_seg_ros.fields import unknown_name
from rgbx_seg_ros.files import check_outputs, write_json
from rgbx_seg_ros.health.telemetry import SHARES
from rgbx_seg_ros.inference.segmenter import Segmenter
from rgbx_seg_ros.networks import build, NETWORKS
from rgbx_seg_ros.resources import share_dir
from rgbx_seg_ros.weights.checkpoint import save_weights
import torch
from tqdm import tqdm

PLAIN = 'plain'
"""The first row of each model, which the others are compared with."""
MOST_STAGED = 5
"""Frames that are timed in their parts, and that another thread looks on at."""

_NUM_CLASSES = 9
"""Of MFNet and MSRS; the class count hardly matters to the cost."""
_NOT_TIMED = {'cpu': 1, 'cuda': 3}
"""First frames, which pay for what is done once; the second one captures a CUDA graph."""
_RANDOM = '.random.safetensors'
_PAIRS_IN_MEMORY = 2
"""What a process segments for its memory to be measured."""


class PlainEngine(TorchEngine):
    """PyTorch as it comes: in float32, nothing folded."""

    def _optimized(self, network):
        return network

    def _find_type(self):
        return torch.float32

    def _captured(self, inputs):
        return self._run  # operation by operation on a GPU as well


@dataclass(eq=False)
class Row:
    """A model in an engine, and what it costs."""

    card: Card
    engine: str
    segmenter: Segmenter
    note: str = ''
    """What a reader must know of it."""
    macs: int = 0
    """Multiply-adds of the network as this engine has it, for one frame."""
    parameters: int = 0
    """Numbers in that network; folding adds some and takes others away."""
    latency_ms: list[float] = field(default_factory=list)
    """Of each frame."""
    stages: list[Stages] = field(default_factory=list)
    """Of further frames; none of an engine that cannot be looked into."""
    waits_ms: list[float] = field(default_factory=list)
    """For how long at most another thread got no turn, in each of further frames."""
    footprint: Footprint | None = None
    roof_ms: float | None = None
    """Least time of the network on this device; None for an engine that hides its precision."""
    ready_s: float = 0.0
    """From nothing until the engine ran as it is meant to, its file being made on the way."""

    def facts(self) -> dict:
        """Return all that was measured, and what follows from it."""
        stages = {name: statistics.median(values) for name, values in zip(
            Stages._fields, zip(*self.stages, strict=True), strict=False)}
        return {
            'model': self.card.name, 'network': self.card.network, 'engine': self.engine,
            'network_args': self.card.network_args, 'input_size': [*self.card.input_size],
            'random_weights': not self.card.weights or self.card.weights.file.endswith(_RANDOM),
            'runs_on': self.segmenter.engine.device, 'note': self.note,
            'parameters': self.parameters, 'macs': self.macs,
            **{f'p{share}_ms': value for share, value in percentiles(self.latency_ms).items()},
            'frames_per_s': 1e3 * len(self.latency_ms) / sum(self.latency_ms),
            'stages_ms': stages or None,
            'longest_wait_ms': max(self.waits_ms),
            'memory_mb': self.footprint and self.footprint._asdict(),
            'roof_ms': self.roof_ms,
            'roof_share': (self.roof_ms / stages['network'] if self.roof_ms and stages
                           else None),
            'ready_s': self.ready_s,
            'latency_ms': self.latency_ms,
            'all_waits_ms': self.waits_ms,
            'all_stages_ms': [one._asdict() for one in self.stages],
        }


def percentiles(values) -> dict[int, float]:
    """Return the percentiles that are told of times, by their share."""
    return dict(zip(SHARES, np.percentile(values, SHARES).tolist(), strict=True))


def load_pairs(folder: Path, count: int, size=None) -> list[tuple[np.ndarray, np.ndarray]]:
    """Return the first pairs of a folder, all scaled to `size` (H, W) or to that of the first."""
    dataset = FolderDataset(folder)
    samples = [dataset[index] for index in range(min(count, len(dataset)))]
    sizes = [tuple(size or frame.shape[:2]) for frame in (samples[0].rgb, samples[0].x)]
    return [tuple(map(_resized, (sample.rgb, sample.x), sizes)) for sample in samples]


def _resized(frame, size):
    if frame.shape[:2] == size:
        return frame
    # Values are kept: one of them may stand for no measurement.
    return cv2.resize(frame, size[::-1], interpolation=cv2.INTER_NEAREST)


def network_card(name: str, size: tuple[int, int]) -> Card:
    """Return a card for a network with its published arguments, at `size` (H, W)."""
    with torch.device('meta'):
        channels = build(name, _NUM_CLASSES).X_CHANNELS
    classes = tuple(LabelClass(i, f'class {i}', (i, i, i)) for i in range(_NUM_CLASSES))
    return Card(name, 'A network with random weights.', name, classes, size,
                RgbInput((0.5,) * 3, (0.25,) * 3),
                XInput('thermal', (0.5,) * channels, (0.25,) * channels))


def runnable_cards(names) -> list[Card]:
    """Return cards; those without weights on disk get random ones, with a single warning."""
    cards = [load_card(name) for name in names]
    without = [card.name for card in cards
               if card.weights is None or not card.weights_path.is_file()]
    if without:
        warnings.warn(f'no weights on disk for {", ".join(without)}: random ones give the speed, '
                      'and masks that mean nothing', stacklevel=2)
    return [replace(card, weights=None) if card.name in without else card for card in cards]


@contextlib.contextmanager
def with_weights(cards, engines):
    """
    Give the cards for as long as this lasts, those without weights with random ones in a file.

    That is for engines which make files of a model. What they make of random weights is of no use
    later on: the folder where it is kept is another one for that long.
    """
    without = [card for card in cards if card.weights is None]
    if not without or not any(issubclass(ENGINES[name], BackgroundEngine) for name in engines):
        yield cards
        return
    before = os.environ.get('XDG_CACHE_HOME')
    with TemporaryDirectory() as folder:
        os.environ['XDG_CACHE_HOME'] = folder
        try:
            yield [_with_random_weights(card, Path(folder)) if card in without else card
                   for card in cards]
        finally:
            del os.environ['XDG_CACHE_HOME']
            if before is not None:
                os.environ['XDG_CACHE_HOME'] = before


def _with_random_weights(card, folder):
    torch.manual_seed(0)
    network = build(card.network, len(card.classes), **card.network_args)
    save_weights(network, folder / f'{card.name}{_RANDOM}', dtype=torch.float32)
    return replace(card, folder=folder, weights=Weights(f'{card.name}{_RANDOM}'), golden=None)


def open_segmenter(card: Card, engine: str, device: torch.device) -> Segmenter:
    """Return a card's model in an engine, one of ENGINES or PLAIN."""
    if engine == PLAIN:
        return Segmenter(card, PlainEngine(card, str(device)))
    return Segmenter(card, open_engine(engine, card, str(device)))


def segment_some(card: Card, engine: str, device: torch.device, pairs) -> None:
    """Open a model and segment a few pairs: what the memory is measured of."""
    segmenter = open_segmenter(card, engine, device)
    segmenter.settle(*pairs[0])
    for pair in itertools.islice(itertools.cycle(pairs), _PAIRS_IN_MEMORY):
        segmenter(*pair)


def turns(rows, pairs, frames: int, task: str):
    """Yield each row with each pair: all rows with the first pair, then all with the next."""
    with tqdm(total=frames * len(rows), desc=task, unit='frame', leave=False,
              disable=None) as progress:
        for pair in itertools.islice(itertools.cycle(pairs), frames):
            for row in rows:
                yield row, pair
                progress.update()


@dataclass(frozen=True)
class Comparison:
    """What was measured, on what."""

    rows: list[Row]
    peaks: Peaks
    device: torch.device
    frames: int
    """How many each row segmented for its latency."""
    kind: FrameKind
    load: tuple[float, float]
    """Processes that wanted to run in the last minute, before and after."""

    def facts(self) -> dict:
        """Return all of it as plain data."""
        versions = {'rgbx_seg_ros': __version__, 'python': platform.python_version(),
                    'torch': torch.__version__, 'numpy': np.__version__,
                    'opencv': cv2.__version__}
        if 'onnxruntime' in sys.modules:
            versions['onnxruntime'] = sys.modules['onnxruntime'].__version__
        return {
            'command': shlex.join(['rgbx-seg', *sys.argv[1:]]), 'versions': versions,
            'platform': platform.platform(), 'cpu': str(find_cpu()), 'cores': os.cpu_count(),
            'threads': torch.get_num_threads(), 'device': str(self.device),
            'load_1_minute': self.load, 'frames': self.frames, 'frame_kind': str(self.kind),
            'peak_flops': {name_of(kind): rate for kind, rate in self.peaks.flops.items()},
            'peak_bytes_per_s': self.peaks.bytes_per_s,
            'rows': [row.facts() for row in self.rows],
        }


def compare(cards, engines, pairs, frames: int, device: torch.device,
            weighs: bool = True) -> Comparison:
    """
    Let every engine run the model of every card, and PyTorch as it comes before them.

    `pairs` are (rgb, x), used again where `frames` are more. Memory is measured if `weighs`, which
    takes a process for each row. Raise CardError, WeightsError, EngineError or FrameError for what
    cannot run here.
    """
    load = os.getloadavg()[0]
    names = [(card, engine) for card in cards for engine in dict.fromkeys([PLAIN, *engines])]
    rows = [_open_row(card, engine, device, pairs[0]) for card, engine in tqdm(
        names, 'opening', unit='engine', leave=False, disable=None)]
    visible = [row for row in rows if isinstance(row.segmenter.engine, TorchEngine)]
    peaks = Peaks([row.segmenter.engine.precision for row in visible], device)
    peaks.measure()
    for row, pair in turns(rows, pairs, _NOT_TIMED[device.type], 'first frames'):
        row.segmenter(*pair)
    for row, pair in turns(rows, pairs, frames, 'frames'):
        started = time.perf_counter()
        row.segmenter(*pair)
        row.latency_ms.append(1e3 * (time.perf_counter() - started))
    for row, pair in turns(visible, pairs, min(frames, MOST_STAGED), 'stages'):
        stages = time_stages(row.segmenter, *pair)
        if stages:
            row.stages.append(stages)
    for row, pair in turns(rows, pairs, min(frames, MOST_STAGED), 'waits'):
        row.waits_ms.append(longest_wait_ms(functools.partial(row.segmenter, *pair)))
    peaks.measure()
    load = load, os.getloadavg()[0]
    for row in visible:
        row.roof_ms = roof_ms(row, peaks, pairs[0], row.segmenter.engine.precision)
    for row in tqdm(rows if weighs else (), 'memory', unit='engine', leave=False, disable=None):
        if not row.note and (device.type == 'cpu' or row in visible):
            row.footprint = measure_footprint(
                segment_some, device, row.card, row.engine, device, pairs)
    return Comparison(rows, peaks, device, frames, FrameKind.of(*pairs[0]), load)


def _open_row(card, engine, device, pair):
    started = time.perf_counter()
    segmenter = open_segmenter(card, engine, device)
    note = '' if segmenter.settle(*pair) else 'PyTorch ran it, as the engine did not take over'
    ready_s = time.perf_counter() - started
    network = segmenter.engine.network
    return Row(card, engine, segmenter, note, count_macs(network, card.input_size),
               sum(values.numel() for values in network.parameters()), ready_s=ready_s)


def roof_ms(row: Row, peaks: Peaks, pair, kind: torch.dtype) -> float:
    """Return the least time in a type: weights are read, frames come in, bytes go out."""
    rgb, x = pair
    size = row.parameters * kind.itemsize + rgb.nbytes + x.nbytes + 2 * rgb[..., 0].nbytes
    return peaks.roof_ms(row.macs, size, kind)


def name_of(kind: torch.dtype) -> str:
    """Return the name of a type, such as float32."""
    return str(kind).removeprefix('torch.')


def add_arguments(parser):
    """Declare the command's arguments."""
    parser.add_argument('networks', nargs='*', metavar='NETWORK',
                        help='networks with their published arguments and random weights, at the '
                             f'size of the frames: {", ".join(NETWORKS)} (default: all of them, '
                             'without --model)')
    parser.add_argument('--model', nargs='+', metavar='CARD', default=[],
                        help='cards, or names of some, at their own input size')
    parser.add_argument('--engine', nargs='+', metavar='NAME', default=['torch'],
                        help=f'what is compared with PyTorch as it comes: {", ".join(ENGINES)} '
                             '(default: torch)')
    parser.add_argument('--data', metavar='FOLDER', type=Path,
                        help='rgb/ and thermal/, depth/ or x/ (default: the frames of the demo)')
    parser.add_argument('--size', nargs=2, type=int, metavar=('H', 'W'),
                        help='size in pixels that the frames are brought to (default: as they '
                             'are, 480 640 in the demo)')
    parser.add_argument('--frames', type=int, default=10, metavar='N',
                        help='frames that each model in each engine is timed on (default: 10)')
    parser.add_argument('--device', default='auto', help='auto, cpu or cuda (default: auto)')
    parser.add_argument('--json', type=Path, metavar='FILE', help='file for all that is measured')
    parser.add_argument('--projection', action='store_true',
                        help='measure instead what a mask costs on its way to a planner: grid, '
                             'points of a depth image, painted cloud')
    parser.add_argument('--ros', action='store_true',
                        help='measure the live node instead, with one model and one engine: its '
                             'highest rate, and latency and jitter at --rates')
    parser.add_argument('--rates', nargs='+', type=float, default=[10.0, 30.0], metavar='HZ',
                        help='pairs a second, with --ros (default: 10 30)')
    parser.add_argument('--seconds', type=float, default=20.0, metavar='S',
                        help='length of each run, with --ros (default: 20)')


def main(args):
    """Run the command."""
    if args.frames < 1:
        raise ParameterError(f'frames is {args.frames!r}, needed is at least 1')
    if args.size and min(args.size) < 1:
        raise ParameterError(f'size is {args.size!r}, needed are height and width in pixels')
    for name in args.engine:
        if name not in ENGINES:
            raise EngineError(f'engine {unknown_name(name, ENGINES)}')
    check_outputs([args.json])
    if args.ros:
        _measure_node(args)
        return
    if args.projection:
        _measure_projection(args)
        return
    device = find_device(args.device)
    keep_freed_memory()
    pairs = load_pairs(args.data or share_dir() / 'demo', args.frames, args.size)
    networks = args.networks or (() if args.model else NETWORKS)
    cards = [network_card(name, pairs[0][0].shape[:2]) for name in networks]
    with with_weights(cards + runnable_cards(args.model), args.engine) as cards:
        facts = compare(cards, args.engine, pairs, args.frames, device).facts()
    print(page(facts))
    if args.json:
        write_json(args.json, facts)


def _measure_projection(args):
    keep_freed_memory()
    facts = projection.measure(args.frames)
    print(projection.page(facts))
    if args.json:
        write_json(args.json, facts)


def _measure_node(args):
    if len(args.model) != 1 or len(args.engine) != 1 or args.networks:
        raise ParameterError(f'--ros takes one --model and one --engine, given are {args.model!r} '
                             f'and {args.engine!r}, with the networks {args.networks!r}')
    from rgbx_seg_ros.benchmark import live  # the rest runs without ROS
    live.run(Settings(args.model[0], args.engine[0], args.device, tuple(args.rates),
                      args.seconds, args.data), args.json)
