# Copyright 2026 rgbx_seg_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""
Models compiled for a CPU by PyTorch's ahead-of-time compiler, AOTInductor: written and read.

A file is a shared library: code for this machine, with the weights inside. It serves the
processor, the number of threads and the release of PyTorch that it was made with.
"""

import ctypes
import json
import math
import os
from pathlib import Path
import shutil
import tempfile
import weakref
import zipfile

from rgbx_seg_ros.cards.card import Card
from rgbx_seg_ros.engines.graph import SegmentationGraph, to_batch
from rgbx_seg_ros.engines.model_files import cannot_export, EXPORT_ERRORS, FrameKind, quiet, trace
from rgbx_seg_ros.errors import EngineError, UnavailableError
from rgbx_seg_ros.sensors import Sensors
import torch
from torch import nn

_NEEDED = (2, 8)
"""The first release of PyTorch whose code has the interface that `_Code` calls."""
_UNROLLED = 32
"""
Reductions over fewer values are written out: those over the classes of a pixel then become one
loop over the frame, which takes half the time.
"""
_KEPT_READS = 3
"""
What is made of more values than these, and read again and again, is kept instead of made anew.

Logits are scaled to the input and then to the frame: else each of four values that the latter
reads is made of four again, in twice the time for all that follows the network.
"""
_ANTIALIASED = (torch.ops.aten._upsample_bilinear2d_aa.vec,
                torch.ops.aten._upsample_bilinear2d_aa.default)


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
    bfloat16. Raise EngineError where the compiler is missing or fails.
    """
    check_compiler()
    from torch import _inductor
    with tempfile.TemporaryDirectory() as folder:
        package = Path(folder, 'model.pt2')
        try:
            with quiet(), torch.no_grad():  # else the compiler does not freeze the weights
                program = trace(graph if precision == 'float32' else _InBFloat16(graph), kind)
                _inductor.aoti_compile_and_package(
                    program.run_decompositions(dict.fromkeys(_ANTIALIASED, antialiased)),
                    package_path=str(package),
                    inductor_configs={
                        # Weights in the order that the products want them in, once and for all.
                        'freezing': True, 'cpp.threads': threads,
                        'unroll_reductions_threshold': _UNROLLED,
                        'realize_reads_threshold': _KEPT_READS,
                        # They are for later models, and take longer than this one.
                        'aot_inductor.precompile_headers': False})
            path.write_bytes(_library(package))
        except EXPORT_ERRORS as error:
            raise cannot_export(card, kind, error) from error


def _library(package):
    """Return the shared library in a package; raise ValueError where it calls back for more."""
    with zipfile.ZipFile(package) as archive:
        names = archive.namelist()
        calls = {node['node']['target'] for name in names if name.endswith('.json')
                 for node in json.loads(archive.read(name)).get('nodes', ())}
        if calls:
            raise ValueError(f'compiled code cannot call {", ".join(sorted(calls))}')
        library, = (name for name in names if name.endswith('.so'))
        return archive.read(library)


def antialiased(image: torch.Tensor, size, align_corners=False, *_) -> torch.Tensor:
    """
    Return a map (N, C, H, W) at `size` (H, W), what shrinks averaged, as F.interpolate does it.

    It is made of operations that can be compiled, which PyTorch's own cannot.
    """
    for axis, count in ((2, size[0]), (3, size[1])):
        image = _scaled(image, axis, count)
    return image


def _scaled(image, axis, count):
    """Return a map with `count` rows or columns: each the mean of its surroundings in a tent."""
    there = image.shape[axis]
    step = there / count
    reach = max(step, 1.0)
    centre = (torch.arange(count) + 0.5) * step - 0.5
    first = (centre - reach).floor().int() + 1
    terms, total = [], 0.0
    for offset in range(math.floor(2 * reach) + 1):
        place = first + offset
        weight = (1.0 - (place - centre).abs() / reach).clamp(min=0.0)
        weight = weight * ((place >= 0) & (place < there))
        terms.append((place.clamp(0, there - 1), weight))
        total = total + weight
    shape = [count if one == axis else 1 for one in range(image.ndim)]
    return sum(image.index_select(axis, place) * (weight / total).view(shape)
               for place, weight in terms)


class _Code:
    """
    A file of `write_compiled`, called through the C interface that the compiler gives it.

    PyTorch's own bindings keep Python's lock until it is done, and other threads wait for that.
    Raise OSError or AttributeError for what is no such file, RuntimeError where it fails.
    """

    def __init__(self, path):
        self._library = library = ctypes.CDLL(str(path))
        self._handle = ctypes.c_void_p()
        self._call('CreateWithDevice', ctypes.byref(self._handle), ctypes.c_size_t(1), b'cpu',
                   None)
        weakref.finalize(self, library.AOTInductorModelContainerDelete, self._handle)
        count = ctypes.c_size_t()
        self._call('GetNumOutputs', self._handle, ctypes.byref(count))
        self._outputs = count.value

    def __call__(self, inputs):
        """Return the outputs for tensors, which are contiguous and on the CPU."""
        handles = torch._C._aoti.unsafe_alloc_void_ptrs_from_tensors(inputs)
        given = (ctypes.c_void_p * len(handles))(*map(_address, handles))
        taken = (ctypes.c_void_p * self._outputs)()
        self._call('Run', self._handle, given, ctypes.c_size_t(len(given)),
                   taken, ctypes.c_size_t(len(taken)), None, None)
        return torch._C._aoti.alloc_tensors_by_stealing_from_void_ptrs(
            [_capsule(address, None, None) for address in taken])

    def _call(self, name, *arguments):
        if getattr(self._library, f'AOTInductorModelContainer{name}')(*arguments):
            raise RuntimeError(f'{name} failed, see its own message above')


_capsule = ctypes.pythonapi.PyCapsule_New
_capsule.restype, _capsule.argtypes = ctypes.py_object, [ctypes.c_void_p] * 3
_pointer = ctypes.pythonapi.PyCapsule_GetPointer
_pointer.restype, _pointer.argtypes = ctypes.c_void_p, [ctypes.py_object, ctypes.c_char_p]


def _address(capsule):
    """Return the address that torch hands over as a capsule without a name."""
    return _pointer(capsule, None)


class CompiledModel:
    """
    A file of `write_compiled`, ready to run: takes and returns arrays as an engine does.

    Its code runs in this process: open what this user has made, and nothing else. Raise
    EngineError where it cannot be loaded, or is given other frames than those of `kind`.
    """

    def __init__(self, path: Path, kind: FrameKind):
        self._path, self._kind = Path(path), kind
        try:
            self._code = _Code(self._path.absolute())
        except (OSError, *EXPORT_ERRORS) as error:
            raise EngineError(f'PyTorch {torch.__version__} cannot load {str(path)!r}: '
                              f'{_first_line(error)}') from error

    @torch.inference_mode()
    def __call__(self, rgb, x, x_limits, sensors=Sensors.BOTH):
        """Return mask, confidence and, from some networks, the fused image of one raw pair."""
        if (found := FrameKind.of(rgb, x)) != self._kind:  # the code itself does not look
            raise EngineError(f'the frames are {found}, {str(self._path)!r} is for {self._kind}')
        inputs = [to_batch(rgb).contiguous(), to_batch(x).contiguous(),
                  torch.tensor([x_limits], dtype=torch.float32),
                  torch.tensor([sensors.present], dtype=torch.float32)]
        try:
            return tuple(output[0].numpy() for output in self._code(inputs))
        except EXPORT_ERRORS as error:
            raise EngineError(f'PyTorch fails to run {str(self._path)!r}: '
                              f'{_first_line(error)}') from error


def _first_line(error):
    return str(error).strip().split('\n')[0][:300]
