# Copyright 2026 rgbx_seg_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""How fast the engines are, whether they make the right masks, and what they leave behind."""

from dataclasses import asdict, replace
import itertools
import os
import statistics
import time
import warnings

from rgbx_seg_ros.allocator import keep_freed_memory
from rgbx_seg_ros.benchmark.benchmark import compare, load_pairs, open_segmenter, PLAIN, roof_ms
from rgbx_seg_ros.benchmark.rates import ALLOWED_LOSS, Settings
from rgbx_seg_ros.benchmark.roofline import Peaks
from rgbx_seg_ros.cards.card import load_card, Onnx
from rgbx_seg_ros.engines.cache import cache_dir, COMPILED, ONNX
from rgbx_seg_ros.engines.cuda_graph import CudaGraph
from rgbx_seg_ros.engines.model_files import BOUNDS, Difference
from rgbx_seg_ros.engines.onnx_files import import_onnx
from rgbx_seg_ros.errors import EngineError
from rgbx_seg_ros.inference.segmenter import Segmenter
from rgbx_seg_ros.inference.self_test import self_test
from rgbx_seg_ros.resources import share_dir
from rgbx_seg_ros.sensors import Sensors
from support.gpu import dry
from support.gpu.machine import tensorrt_version
from support.gpu.runner import Found, SkipError
from support.held import held, MOST_GROWTH
import torch

MODELS = ('msrs_scene', 'potholes')
"""The models whose weights are in the repository."""
FRAMES, DRY_FRAMES = 100, 3
SOAKED, DRY_SOAKED = 2000, 40
READINGS = 4
WARM_UP = 20
"""Frames at least until all is there that is allocated once: two rounds of the lost sensors."""
RATE_HZ, LIVE_S, DRY_LIVE_S = 30.0, 10.0, 1.0
MOST_CUDA_GROWTH = {'cuda_allocated': 1 << 20, 'cuda_reserved': 20 << 20}
"""
In bytes. Frames of kinds that have come before need no more than before; what is reserved grows
by the 20 MB that PyTorch asks the driver for at a time, where they lie in pieces.
"""

_PAIRS = 10
_DRY_SIZE = (240, 320)
_REPLAYS = 20


def _pairs(setting):
    return load_pairs(share_dir() / 'demo', 2 if setting.dry else _PAIRS,
                      _DRY_SIZE if setting.dry else None)


def _card(setting, model):
    return dry.mini_card() if setting.dry else load_card(model)


def build(setting, engine: str, model: str) -> Found:
    """Let an engine make its file on the CPU, until it agrees with PyTorch there."""
    pair, started = _pairs(setting)[0], time.perf_counter()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter('always')
        segmenter = open_segmenter(_card(setting, model), engine, torch.device('cpu'))
        agrees = segmenter.settle(*pair)
    seconds = time.perf_counter() - started
    sizes = [path.stat().st_size for path in cache_dir().iterdir()
             if path.suffix in (ONNX, COMPILED)] if cache_dir().is_dir() else []
    figures = {'model': segmenter.card.name, 'engine': engine, 'seconds': seconds,
               'file_bytes': sum(sizes), 'runs_on': segmenter.engine.device}
    return Found(f'{sum(sizes) / 1e6:.0f} MB in {seconds:.0f} s, agrees with torch', figures,
                 [] if agrees else [f'it did not take over: {_texts(caught)}'])


def _texts(caught):
    return '; '.join(dict.fromkeys(str(one.message) for one in caught)) or 'it gave no reason'


def torch_engines(setting) -> Found:
    """Time PyTorch as it comes, in float16 and in bfloat16, with the shipped models."""
    models = MODELS[:1] if setting.dry else MODELS
    return _timed(setting, [load_card(model) for model in models], ['torch', 'torch_bf16'],
                  torch.device(setting.device))


def onnx_engine(setting, provider: str, model: str) -> Found:
    """Time ONNX Runtime with one provider, TensorRT or CUDA; in a dry run it is the CPU."""
    card, device = _card(setting, model), torch.device(setting.device)
    if device.type == 'cpu':
        return _timed(setting, [card], ['onnx'], device, torch.float32)
    _require_provider(provider)
    # As the engine does by itself, CUDA takes what TensorRT cannot.
    order = ('TensorRT', 'CUDA') if provider == 'TensorRT' else ('CUDA',)
    found = _timed(setting, [replace(card, onnx=Onnx(providers=order))], ['onnx'], device,
                   torch.float16 if provider == 'TensorRT' else torch.float32)
    place = found.figures['rows'][-1]['runs_on']
    if f'({provider})'.lower() not in place.lower():
        found.faults.append(f'it runs on {place}: {"; ".join(found.figures["warnings"])}')
    return found


def _require_provider(provider):
    """Raise SkipError where a provider is not here."""
    library = import_onnx('onnxruntime')
    offered = library.get_available_providers()
    if not any(one.lower() == f'{provider}ExecutionProvider'.lower() for one in offered):
        raise SkipError(f'ONNX Runtime {library.__version__} offers {", ".join(offered)}: '
                        'pip uninstall onnxruntime, pip install onnxruntime-gpu')
    if provider == 'TensorRT' and tensorrt_version() is None:
        raise SkipError('there is no TensorRT (libnvinfer): pip install tensorrt, or that of '
                        'JetPack: apt install tensorrt')


def compiled_engine(setting, engine: str, model: str) -> Found:
    """Time code compiled for the CPU of this machine, with no GPU in it."""
    return _timed(setting, [_card(setting, model)], [engine], torch.device('cpu'),
                  torch.bfloat16 if engine.endswith('bf16') else torch.float32)


def _timed(setting, cards, engines, device, kind=None):
    """
    Time whole frames in engines and in plain PyTorch, and judge their masks.

    `kind` is the type of the large products in an engine that does not tell it.
    """
    if setting.dry:
        dry.measure_little()
    keep_freed_memory()
    pairs = _pairs(setting)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter('always')
        comparison = compare(cards, engines, pairs, DRY_FRAMES if setting.dry else FRAMES, device,
                             weighs=False)
    plain = {row.card.name: row for row in comparison.rows if row.engine == PLAIN}
    peaks = Peaks([kind] if kind else [], device)
    if kind:
        peaks.measure()
    found, rows = Found(), []
    for row in comparison.rows:
        if row.engine != PLAIN and kind:
            row.roof_ms = roof_ms(row, peaks, pairs[0], kind)
        figures = row.facts() | {'replay_ms': _replay_ms(row.segmenter.engine)}
        figures['frame_roof_share'] = row.roof_ms / figures['p50_ms']
        figures |= _judged(row, plain[row.card.name], pairs, device, found)
        if row.note:
            found.faults.append(f'{row.engine} with {row.card.name} did not take over: '
                                f'{_texts(caught)}')
        rows.append(figures)
    facts = comparison.facts()
    found.figures = {'rows': rows, 'frames': facts['frames'], 'frame_kind': facts['frame_kind'],
                     'peak_flops': facts['peak_flops'] | {
                         str(one).removeprefix('torch.'): rate
                         for one, rate in peaks.flops.items()},
                     'peak_bytes_per_s': facts['peak_bytes_per_s'],
                     'warnings': [str(one.message) for one in caught]}
    timed = [row for row in rows if row['engine'] != PLAIN and row['model'] == cards[0].name]
    found.summary = ', '.join(
        f'{row["engine"]} p50 {row["p50_ms"]:.3g} ms (roof {100 * row["frame_roof_share"]:.2g} %)'
        for row in timed)
    return found


def _judged(row, plain, pairs, device, found):
    """Return what the masks of an engine are worth, by the golden one and by plain PyTorch."""
    try:
        iou = self_test(row.segmenter)
    except EngineError as error:
        found.faults.append(str(error))
        iou = None
    precision = ('bfloat16' if row.engine.endswith('bf16') else
                 'float16' if device.type == 'cuda' else 'float32')
    difference = Difference.worst(
        Difference.between(_outputs(plain.segmenter, pair), _outputs(row.segmenter, pair))
        for pair in pairs)
    if difference.mask > BOUNDS[precision][0]:
        found.faults.append(
            f'{row.engine} with {row.card.name} gives another mask than plain PyTorch in float32, '
            f'allowed is {100 * BOUNDS[precision][0]:g} % in {precision}: {difference}')
    return {'golden_iou': iou, 'difference': difference._asdict()}


def _outputs(segmenter, pair):
    found = segmenter(*pair)
    return found.mask, found.confidence


def _replay_ms(engine):
    """Return the median time of an engine's last CUDA graph on the device alone, None without."""
    graphs = [one for one in getattr(engine, '_kinds', {}).values() if isinstance(one, CudaGraph)]
    if not graphs:
        return None
    graph, times = graphs[-1], []
    with torch.cuda.stream(graph._stream):
        for _ in range(_REPLAYS):
            start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
            start.record()
            graph._graph.replay()
            end.record()
            end.synchronize()
            times.append(start.elapsed_time(end))
    return statistics.median(times)


def soak(setting) -> Found:
    """Segment thousands of frames, some with a sensor lost, and watch what the process holds."""
    keep_freed_memory()
    frames = DRY_SOAKED if setting.dry else SOAKED
    segmenter = Segmenter.from_card(MODELS[0], device=setting.device)
    turns = zip(itertools.cycle(_pairs(setting)),
                itertools.cycle([Sensors.BOTH] * 8 + [Sensors.RGB, Sensors.X]), strict=False)
    started = time.perf_counter()

    def serve(count):
        for pair, sensors in itertools.islice(turns, count):
            segmenter(*pair, sensors)
    serve(max(WARM_UP, frames // 10))
    readings = [_held(setting)]
    for _ in range(READINGS):
        serve(frames // READINGS)
        readings.append(_held(setting))
    bounds = MOST_GROWTH | (MOST_CUDA_GROWTH if setting.device != 'cpu' else {})
    growth = {name: readings[-1][name] - readings[0][name] for name in readings[0]}
    seconds = time.perf_counter() - started
    return Found(
        f'{frames} frames: RSS {growth["rss"] / 1e6:+.1f} MB, threads {growth["threads"]:+}, '
        f'files {growth["descriptors"]:+}'
        + (f', GPU {growth["cuda_allocated"] / 1e6:+.1f} MB' if setting.device != 'cpu' else ''),
        {'frames': frames, 'seconds': seconds, 'readings': readings, 'growth': growth,
         'bounds': bounds, 'runs_on': segmenter.engine.device},
        [f'{name} grew by {growth[name]}, allowed is {most}' for name, most in bounds.items()
         if growth[name] > most])


def _held(setting):
    """Return what this process holds, and of the device what PyTorch and all processes do."""
    facts = held(os.getpid())
    if setting.device == 'cpu':
        return facts
    free, total = torch.cuda.mem_get_info()
    return facts | {'cuda_allocated': torch.cuda.memory_allocated(),
                    'cuda_reserved': torch.cuda.memory_reserved(), 'cuda_used': total - free}


def live(setting) -> Found:
    """Let cameras send pairs to the live node at 30 Hz, over real DDS."""
    try:
        from rgbx_seg_ros.benchmark.live import measure_at_rates
    except ImportError as error:
        raise SkipError(f'ROS 2 is not here ({error}): source a distribution, or pip install '
                        "'rgbx_seg_ros[ros]'") from error
    device, (run,) = measure_at_rates(Settings(
        MODELS[0], 'torch', setting.device, (RATE_HZ,), DRY_LIVE_S if setting.dry else LIVE_S))
    figures = {'model': MODELS[0], 'runs_on': device, **asdict(run)}
    return Found(
        f'{run.masks_hz:.1f} masks/s at {run.sent_hz:.1f} Hz, {100 * run.lost:.1f} % lost, p50 '
        f'{run.latency_ms["p50"]:.0f} ms, p95 {run.latency_ms["p95"]:.0f} ms', figures,
        [f'{100 * run.lost:.1f} % of the pairs got no mask, allowed is {100 * ALLOWED_LOSS:g} %']
        if run.lost > ALLOWED_LOSS and not setting.dry else [])
