# Copyright 2026 rgbx_seg_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""
Models as ONNX files: written, read and compared with PyTorch.

A file holds the whole way of a frame, `SegmentationGraph`, for one kind of frames: their sizes are
fixed, so that a runtime can plan all of its memory and TensorRT need not guess. Its inputs are
those of the graph, a batch of one:

    rgb      (1, H, W, 3) uint8, RGB order
    x        (1, h, w, C) as the sensor gives it
    x_range  (1, 2) float32, raw values of x that become 0 and 1
    present  (1, 2) float32, 1 for a modality that is there, 0 for one that is lost

and its outputs mask, confidence (1, H, W) uint8 and, of a network that makes one, fused
(1, H, W, 3) uint8 in RGB. The card lies in the metadata, with what the file was made with, the
kind of frames and the precision, so that an engine can tell whether it may serve.
"""

import contextlib
import dataclasses
import importlib
import json
import logging
from pathlib import Path
from typing import NamedTuple
import warnings

import numpy as np
from rgbx_seg_ros import __version__
from rgbx_seg_ros.card import Card
from rgbx_seg_ros.checkpoint import sha256
from rgbx_seg_ros.errors import EngineError
from rgbx_seg_ros.fields import unknown_name
from rgbx_seg_ros.frames import X_TYPES
from rgbx_seg_ros.graph import SegmentationGraph
import torch
from torch import nn
import yaml

OPSET = 20
"""The first one with GELU as an operator."""
INPUTS = ('rgb', 'x', 'x_range', 'present')
OUTPUTS = ('mask', 'confidence', 'fused')
CPU = (('CPUExecutionProvider', {}),)
INSTALL = "pip install 'rgbx_seg_ros[onnx]'"

_METADATA = 'rgbx_seg_ros.'
_BOUNDS = {'float32': (0.001, 2), 'float16': (0.02, 13), 'int8': (0.05, 26)}
"""
By the lower precision of two models: the share of mask pixels, and the steps of confidence at
nearly all pixels, that may differ. Where int8 was measured, a tenth of that share was needed in
the worst frame; what it costs a class is judged at the export, with more frames.
"""
_QUANTILE = 99.0


class FrameKind(NamedTuple):
    """What all frames have in common that one file can take."""

    rgb_size: tuple[int, int]
    """Height and width of RGB."""
    x_size: tuple[int, int]
    """Height and width of X."""
    x_channels: int = 1
    """1 or 3."""
    x_type: str = 'uint8'
    """uint8, uint16 or float32."""

    @classmethod
    def of(cls, rgb: np.ndarray, x: np.ndarray) -> 'FrameKind':
        """Return the kind of a pair of frames, (H, W, 3) and (h, w) or (h, w, C)."""
        return cls(rgb.shape[:2], x.shape[:2], x.shape[2] if x.ndim == 3 else 1, x.dtype.name)

    @classmethod
    def from_json(cls, text: str) -> 'FrameKind':
        """Return the kind of which `json` made a text; raise EngineError for another one."""
        try:
            (height, width), (x_height, x_width), *rest = json.loads(text)
            kind = cls((height, width), (x_height, x_width), *rest)
            kind.check()
        except (TypeError, ValueError) as error:
            raise EngineError(f'the kind of frames is {text!r}, needed is such as '
                              f'{json.dumps(cls((480, 640), (480, 640)))!r}') from error
        return kind

    def __str__(self):
        (height, width), (x_height, x_width) = self.rgb_size, self.x_size
        channels = f', {self.x_channels} channels' if self.x_channels > 1 else ''
        return f'{width}x{height} RGB with {x_width}x{x_height} X of {self.x_type}{channels}'

    def check(self) -> None:
        """Raise EngineError for what no pair of frames is."""
        types = [kind.__name__ for kind in X_TYPES]
        if self.x_type not in types:
            raise EngineError(f'type of X {unknown_name(self.x_type, types)}')
        if self.x_channels not in (1, 3):
            raise EngineError(f'X has {self.x_channels!r} channels, allowed are 1 and 3')
        if min(*self.rgb_size, *self.x_size) < 1:
            raise EngineError(f'sizes are {self.rgb_size!r} and {self.x_size!r}, needed are '
                              'heights and widths in pixels')

    def empty(self) -> tuple[torch.Tensor, ...]:
        """Return the graph's four inputs, without content."""
        return (torch.zeros(1, *self.rgb_size, 3, dtype=torch.uint8),
                torch.zeros(1, *self.x_size, self.x_channels, dtype=getattr(torch, self.x_type)),
                torch.tensor([[0.0, 1.0]]), torch.ones(1, 2))


class Difference(NamedTuple):
    """How far the masks and confidences of two models are from each other."""

    mask: float
    """Share of the pixels with another class."""
    confidence: int
    """Largest difference of the confidence, in its steps of 1/255."""
    confidence_quantile: float
    """Difference that 99 % of the pixels stay below or reach."""

    @classmethod
    def between(cls, expected, found) -> 'Difference':
        """Compare two tuples that begin with mask and confidence."""
        steps = np.abs(expected[1].astype(int) - found[1])
        return cls(float((expected[0] != found[0]).mean()), int(steps.max()),
                   float(np.percentile(steps, _QUANTILE)))

    @classmethod
    def worst(cls, differences) -> 'Difference':
        """Return the largest of each figure."""
        return cls(*map(max, zip(*differences, strict=True)))

    def is_small(self, precision: str = 'float32') -> bool:
        """Return whether it is no more than rounding explains, for one of the precisions."""
        mask, steps = _BOUNDS[precision]
        return self.mask <= mask and self.confidence_quantile <= steps

    def __str__(self):
        return (f'{100 * self.mask:.3g} % of the mask differ, the confidence by up to '
                f'{self.confidence}/255 ({_QUANTILE:g} % of it by up to '
                f'{self.confidence_quantile:g}/255)')


def import_onnx(name: str):
    """Return the optional library `name`, or raise EngineError, which says how to get it."""
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise EngineError(f'{name} is not installed or cannot be loaded ({error}): '
                          f'{INSTALL}') from error


def card_text(card: Card) -> str:
    """
    Return a card as the text of a YAML file, as it is in memory: with what a rig changed.

    Without its section `onnx`: a file does not depend on who names it.
    """
    content = dataclasses.asdict(card)
    del content['folder'], content['onnx']
    return yaml.safe_dump(json.loads(json.dumps(content)), sort_keys=False, allow_unicode=True)


def weights_checksum(card: Card) -> str:
    """Return the SHA-256 of a card's weights file, '' for a card without weights."""
    path = card.find_weights()
    return sha256(path) if path else ''


def write_onnx(network: nn.Module, card: Card, path: Path, kind: FrameKind) -> None:
    """
    Write the graph of `network`, which `card` describes, as an ONNX file for frames of a kind.

    `network` is in float32 on the CPU, and so is the file. Raise EngineError where the exporter
    fails.
    """
    kind.check()
    import_onnx('onnxscript')
    graph = SegmentationGraph(network, card).eval()
    inputs, names = kind.empty(), OUTPUTS if graph.fuses else OUTPUTS[:2]
    try:
        with _quiet(), torch.no_grad():
            graph(*inputs)  # so that its tables are there, and become constants of the file
            program = torch.export.export(graph, inputs, strict=False)
            program = torch.onnx.export(program, dynamo=True, opset_version=OPSET, verbose=False,
                                        optimize=False, input_names=INPUTS, output_names=names)
            _simplify(program.model)
            program.model.metadata_props.update(_metadata(card, kind))
            program.save(path)
    except (RuntimeError, TypeError, ValueError, AttributeError, LookupError) as error:
        reason = ' '.join(str(error).split())[:400]
        raise EngineError(
            f'the network {card.network!r} cannot be exported for {kind} with '
            f'PyTorch {torch.__version__}: {reason}') from error


def _simplify(model):
    """
    Compute what is constant, and keep one of what is there twice.

    The exporter's own optimization looks for patterns that every runtime finds for itself, in a
    time that grows with the square of the model: minutes for MDDG.
    """
    passes = import_onnx('onnx_ir.passes.common')
    limit = 2 ** 30
    import_onnx('onnxscript.optimizer').fold_constants(
        model, input_size_limit=limit, output_size_limit=limit)
    for one in (passes.RemoveUnusedNodesPass(),
                passes.LiftConstantsToInitializersPass(lift_all_constants=True, size_limit=0),
                passes.DeduplicateInitializersPass(), passes.CommonSubexpressionEliminationPass()):
        one(model)


def _metadata(card, kind):
    return {_METADATA + name: value for name, value in {
        'card': card_text(card), 'weights_sha256': weights_checksum(card),
        'version': __version__, 'torch': torch.__version__, 'frames': str(kind),
        'kind': json.dumps(kind), 'precision': 'float32',
    }.items()}


def mark_precision(path: Path, precision: str) -> None:
    """Let a file say that it is in another precision than it was written in."""
    onnx = import_onnx('onnx')
    model = onnx.load(path)
    before = {one.key: one.value for one in model.metadata_props}
    onnx.helper.set_model_props(model, before | {_METADATA + 'precision': precision})
    onnx.save(model, path)


@contextlib.contextmanager
def _quiet():
    """Keep the exporter's remarks on itself away from the user."""
    logger = logging.getLogger('torch.onnx')
    before = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter('ignore')
            yield
    finally:
        logger.setLevel(before)


class OnnxModel:
    """
    An ONNX file, ready to run: takes and returns arrays as an engine does, for its one kind.

    `providers` are execution providers of ONNX Runtime, each with its options, in the order in
    which they may take a part of the graph. Without `optimizes` it is there sooner, and slower.
    Raise EngineError where the file or the first provider cannot be loaded.
    """

    def __init__(self, path: Path, providers=CPU, optimizes: bool = True):
        runtime = import_onnx('onnxruntime')
        settings = runtime.SessionOptions()
        # As many threads as PyTorch has, so that OMP_NUM_THREADS and torch.set_num_threads hold
        # for both.
        settings.intra_op_num_threads = torch.get_num_threads()
        # Its threads would wait for the next frame at full speed, and take the cores from those
        # of PyTorch and ROS, which come in between.
        settings.add_session_config_entry('session.intra_op.allow_spinning', '0')
        settings.log_severity_level = 3  # errors; warnings tell where a node was placed
        if not optimizes:
            settings.graph_optimization_level = runtime.GraphOptimizationLevel.ORT_DISABLE_ALL
        self._errors = session_errors(runtime)
        try:
            self._session = runtime.InferenceSession(
                str(path), settings, providers=[*providers])
        except self._errors as error:
            raise EngineError(f'ONNX Runtime {runtime.__version__} cannot load {str(path)!r} with '
                              f'{providers[0][0]}: {_first_line(error)}') from error
        placed = self._session.get_providers()
        if placed[0] != providers[0][0]:
            raise EngineError(f'ONNX Runtime {runtime.__version__} cannot use {providers[0][0]} '
                              f'here, it fell back to {placed[0]}: see its own message above')
        self._path = Path(path)
        self.provider = placed[0].removesuffix('ExecutionProvider')

    @property
    def metadata(self) -> dict[str, str]:
        """What the file was made of and with, by name: card, weights_sha256, version, ..."""
        found = self._session.get_modelmeta().custom_metadata_map
        return {name.removeprefix(_METADATA): value for name, value in found.items()
                if name.startswith(_METADATA)}

    def __call__(self, rgb, x, x_range, present=(1.0, 1.0)):
        """Return mask, confidence and, from some networks, the fused image of one raw pair."""
        values = (rgb, x if x.ndim == 3 else x[..., None], np.asarray(x_range, np.float32),
                  np.asarray(present, np.float32))
        feed = {name: np.ascontiguousarray(value)[None]
                for name, value in zip(INPUTS, values, strict=True)}
        try:
            return tuple(output[0] for output in self._session.run(None, feed))
        except self._errors as error:
            raise EngineError(f'ONNX Runtime fails to run {str(self._path)!r}: '
                              f'{_first_line(error)}') from error


class NamedFile(NamedTuple):
    """An ONNX file that a card names."""

    path: Path
    kind: FrameKind
    precision: str
    """float32 or int8."""

    @classmethod
    def of(cls, card: Card) -> 'NamedFile':
        """Return that of a card; raise EngineError where it is not a file of the card's model."""
        path = card.folder / card.onnx.file
        if not path.is_file():
            raise EngineError(f'there is no file {str(path)!r}')
        found = OnnxModel(path, optimizes=False).metadata
        if missing := {'card', 'weights_sha256', 'kind', 'precision'} - found.keys():
            raise EngineError(f'its metadata lack {", ".join(sorted(missing))}: rgbx-seg export '
                              'has not written it, or did so in an older version')
        if found['precision'] not in _BOUNDS:
            raise EngineError(f'its precision {unknown_name(found["precision"], _BOUNDS)}')
        if not found['weights_sha256'] or found['weights_sha256'] != weights_checksum(card):
            raise EngineError('it was made of other weights than those of the card')
        inside, wanted = _constants(found['card']), _constants(card_text(card))
        if changed := [name for name, value in wanted.items() if value != inside[name]]:
            raise EngineError(f'it was made of a card with other {", ".join(changed)}')
        return cls(path, FrameKind.from_json(found['kind']), found['precision'])


def _constants(text):
    """Return what of a card, given as a text, lies in a graph beside the weights."""
    try:
        content = yaml.safe_load(text)
        names = 'network', 'network_args', 'input_size', 'rgb'
        return {name: content[name] for name in names} | {
            f'x.{name}': content['x'][name] for name in ('mean', 'std', 'invalid')}
    except (yaml.YAMLError, LookupError, TypeError) as error:
        raise EngineError(f'the card in its metadata cannot be read ({error!r:.200})') from error


def session_errors(runtime) -> tuple[type[Exception], ...]:
    """Return what ONNX Runtime raises: it has no base class of its own for it."""
    own = vars(runtime.capi.onnxruntime_pybind11_state).values()
    return (RuntimeError, ValueError,
            *(one for one in own if isinstance(one, type) and issubclass(one, Exception)))


def _first_line(error):
    return str(error).strip().split('\n')[0][:300]
