# Copyright 2026 rgbx_seg_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""
Models as ONNX files: written, read and compared with PyTorch.

The inputs of a file are those of `SegmentationGraph`, a batch of one:

    rgb      (1, H, W, 3) uint8, RGB order
    x        (1, h, w, C) as the sensor gives it
    x_limits  (1, 2) float32, raw values of x that become 0 and 1
    present  (1, 2) float32, 1 for a modality that is there, 0 for one that is lost

and its outputs mask, confidence (1, H, W) uint8 and, of a network that makes one, fused
(1, H, W, 3) uint8 in RGB. The card lies in the metadata, with what the file was made with, the
kind of frames and the precision, so that an engine can tell whether it may serve.
"""

import importlib
import json
from pathlib import Path
from typing import NamedTuple

import numpy as np
from rgbx_seg_ros import __version__
from rgbx_seg_ros.cards.card import Card
from rgbx_seg_ros.engines.graph import SegmentationGraph
from rgbx_seg_ros.engines.model_files import (
    BOUNDS,
    cannot_export,
    card_text,
    EXPORT_ERRORS,
    FrameKind,
    quiet,
    trace,
    weights_checksum,
)
from rgbx_seg_ros.errors import EngineError, UnavailableError
from rgbx_seg_ros.fields import unknown_name
from rgbx_seg_ros.sensors import Sensors
import torch
from torch import nn
import yaml

OPSET = 20
"""The first one with GELU as an operator."""
INPUTS = ('rgb', 'x', 'x_limits', 'present')
OUTPUTS = ('mask', 'confidence', 'fused')
CPU = (('CPUExecutionProvider', {}),)
INSTALL = "pip install 'rgbx_seg_ros[onnx]'"

_METADATA = 'rgbx_seg_ros.'


def import_onnx(name: str):
    """Return the optional library `name`; UnavailableError says how to get it."""
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise UnavailableError(f'{name} is not installed or cannot be loaded ({error}): '
                               f'{INSTALL}') from error


def write_onnx(network: nn.Module, card: Card, path: Path, kind: FrameKind) -> None:
    """
    Write the graph of `network`, which `card` describes, as an ONNX file for frames of a kind.

    `network` is in float32 on the CPU, and so is the file. Raise EngineError where the exporter
    fails.
    """
    import_onnx('onnxscript')
    graph = SegmentationGraph(network, card).eval()
    names = OUTPUTS if graph.network.FUSES else OUTPUTS[:2]
    try:
        with quiet(), torch.no_grad():
            program = torch.onnx.export(
                trace(graph, kind), dynamo=True, opset_version=OPSET, verbose=False,
                optimize=False, input_names=INPUTS, output_names=names)
            _simplify(program.model)
            program.model.metadata_props.update(_metadata(card, kind))
            program.save(path)
    except EXPORT_ERRORS as error:
        raise cannot_export(card, kind, error) from error


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
        self.path = Path(path)
        self.provider = placed[0].removesuffix('ExecutionProvider')

    @property
    def metadata(self) -> dict[str, str]:
        """What the file was made of and with, by name: card, weights_sha256, version, ..."""
        found = self._session.get_modelmeta().custom_metadata_map
        return {name.removeprefix(_METADATA): value for name, value in found.items()
                if name.startswith(_METADATA)}

    def __call__(self, rgb, x, x_limits, sensors=Sensors.BOTH):
        """Return mask, confidence and, from some networks, the fused image of one raw pair."""
        values = (rgb, x if x.ndim == 3 else x[..., None], np.asarray(x_limits, np.float32),
                  np.asarray(sensors.present, np.float32))
        feed = {name: np.ascontiguousarray(value)[None]
                for name, value in zip(INPUTS, values, strict=True)}
        try:
            return tuple(output[0] for output in self._session.run(None, feed))
        except self._errors as error:
            raise EngineError(f'ONNX Runtime fails to run {str(self.path)!r}: '
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
        if found['precision'] not in BOUNDS:
            raise EngineError(f'its precision {unknown_name(found["precision"], BOUNDS)}')
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
