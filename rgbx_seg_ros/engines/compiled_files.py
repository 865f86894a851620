# Copyright 2026 rgbx_seg_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""
Models compiled for a CPU by PyTorch's ahead-of-time compiler, AOTInductor: written and read.

A file is a package of a shared library: code for this machine, with the weights inside. It serves
the processor, the number of threads and the release of PyTorch that it was made with.
"""

import os
from pathlib import Path
import shutil

from rgbx_seg_ros.cards.card import Card
from rgbx_seg_ros.engines.graph import SegmentationGraph, to_batch
from rgbx_seg_ros.engines.model_files import cannot_export, EXPORT_ERRORS, FrameKind, quiet, trace
from rgbx_seg_ros.errors import EngineError, UnavailableError
from rgbx_seg_ros.sensors import Sensors
import torch
from torch import nn

_NEEDED = (2, 8)
"""The first release of PyTorch whose packages are opened by what `CompiledModel` calls."""


class _InBFloat16(nn.Module):
    """A graph with its large products in bfloat16."""

    def __init__(self, graph):
        super().__init__()
        self.whole = graph  # a traced module has a `graph` of its own

    def forward(self, *inputs):
        with torch.autocast('cpu', torch.bfloat16, cache_enabled=False):
            return self.whole(*inputs)


def check_compiler() -> None:
    """Raise UnavailableError where PyTorch is too old, or a compiler for it is missing."""
    if torch.__version__ < _NEEDED:
        raise UnavailableError(f'PyTorch {torch.__version__} cannot compile a model into a file, '
                               f'needed is {".".join(map(str, _NEEDED))} or newer')
    compiler = os.environ.get('CXX', 'g++')
    if shutil.which(compiler) is None:
        raise UnavailableError(f'there is no C++ compiler {compiler!r}: apt install g++')


def write_compiled(graph: SegmentationGraph, card: Card, path: Path, kind: FrameKind,
                   precision: str = 'float32', threads: int = 1) -> None:
    """
    Compile `graph`, made of `card`, for frames of a kind and a number of threads.

    `graph` is in float32 on the CPU; `precision` is that of the large products, float32 or
    bfloat16. `path` ends in .pt2. Raise EngineError where the compiler is missing or fails.
    """
    check_compiler()
    from torch import _inductor
    try:
        with quiet(), torch.no_grad():  # else the compiler does not freeze the weights
            program = trace(graph if precision == 'float32' else _InBFloat16(graph), kind)
            _inductor.aoti_compile_and_package(
                program, package_path=str(path),
                inductor_configs={
                    # Weights in the order that the products want them in, once and for all.
                    'freezing': True, 'cpp.threads': threads,
                    # They are for later models, and take longer than this one.
                    'aot_inductor.precompile_headers': False})
    except EXPORT_ERRORS as error:
        raise cannot_export(card, kind, error) from error


class CompiledModel:
    """
    A file of `write_compiled`, ready to run: takes and returns arrays as an engine does.

    Its code runs in this process: open what this user has made, and nothing else. Raise
    EngineError where it cannot be loaded, or is given other frames than those of `kind`.
    """

    def __init__(self, path: Path, kind: FrameKind):
        self._path, self._kind = Path(path), kind
        try:
            # Not by torch._inductor.aoti_load_package, which lets a compiler find out what the
            # processor can do first: for half a minute, with Python in the working folder. Here
            # the name of the file tells.
            self._code = torch._C._aoti.AOTIModelPackageLoader(str(path), 'model', False, 1, -1)
        except EXPORT_ERRORS as error:
            raise EngineError(f'PyTorch {torch.__version__} cannot load {str(path)!r}: '
                              f'{_first_line(error)}') from error

    @torch.inference_mode()
    def __call__(self, rgb, x, x_limits, sensors=Sensors.BOTH):
        """Return mask, confidence and, from some networks, the fused image of one raw pair."""
        if (found := FrameKind.of(rgb, x)) != self._kind:  # the code itself does not look
            raise EngineError(f'the frames are {found}, {str(self._path)!r} is for {self._kind}')
        inputs = (to_batch(rgb).contiguous(), to_batch(x).contiguous(),
                  torch.tensor([x_limits], dtype=torch.float32),
                  torch.tensor([sensors.present], dtype=torch.float32))
        try:
            return tuple(output[0].numpy() for output in self._code.run([*inputs]))
        except EXPORT_ERRORS as error:
            raise EngineError(f'PyTorch fails to run {str(self._path)!r}: '
                              f'{_first_line(error)}') from error


def _first_line(error):
    return str(error).strip().split('\n')[0][:300]
