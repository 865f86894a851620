# Copyright 2026 rgbx_seg_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""
What `torch.save` writes: a zip archive or, before PyTorch 1.6, pickles one behind the other.

Nothing in such a file is run, see `pickles`. Tensors are made from the records of PyTorch's own
rebuilding functions, once a tensor is found to lie inside its storage.
"""

from collections import deque
import io
import math
import mmap
from pathlib import Path
import re
import struct
from typing import NamedTuple
import zipfile

from rgbx_seg_ros.errors import WeightsError
from rgbx_seg_ros.weights.pickles import attributes, entries, follow, Record
import torch

# Whatever the libraries raise about a damaged file.
_DAMAGE = (ArithmeticError, AttributeError, EOFError, LookupError, MemoryError, OSError,
           RuntimeError, TypeError, ValueError, struct.error, zipfile.BadZipFile)
_LEGACY_MAGIC = (0x1950a86a20f9469cfc6c).to_bytes(10, 'little')
_DTYPES = {
    'BFloat16Storage': torch.bfloat16, 'BoolStorage': torch.bool, 'ByteStorage': torch.uint8,
    'CharStorage': torch.int8, 'DoubleStorage': torch.float64, 'FloatStorage': torch.float32,
    'HalfStorage': torch.float16, 'IntStorage': torch.int32, 'LongStorage': torch.int64,
    'ShortStorage': torch.int16, 'UntypedStorage': torch.uint8,
}
_REBUILD_TENSOR = ('torch._utils._rebuild_tensor', 'torch._utils._rebuild_tensor_v2')
_REBUILD_PARAMETER = ('torch._utils._rebuild_parameter',
                      'torch._utils._rebuild_parameter_with_state')
_REBUILD_SUBCLASS = 'torch._tensor._rebuild_from_type_v2'
_NAME = re.compile('[!-~]{1,250}')  # it may come to stand in a message
# Parts of names that stand for a wrapper around a module, wherever it is: of torch.compile, fully
# sharded training, activation checkpointing, data parallelism and Lightning Fabric.
_WRAPPER = re.compile(r'(?<![^.])(?:_orig_mod|_fsdp_wrapped_module|_fpw_module|'
                      r'_checkpoint_wrapped_module|_forward_module|module)\.')
_USUAL_PLACES = ('model_state_dict', 'state_dict', 'model', 'net', 'network', 'module')
_MOST_NAMES, _LONGEST_NAME, _DEEPEST_PLACE = 300_000, 1000, 8
_SAME_NETWORK = 0.9


class Storage:
    """`count` numbers of the type `kind` in a file; tensors are views of them."""

    def __init__(self, data, kind: str, key: str, count: int):
        self._data, self.kind, self.key, self.count = data, kind, key, count

    def view(self, offset, size, stride) -> torch.Tensor:
        """Return a tensor on the CPU, or raise WeightsError if it does not lie inside."""
        if not isinstance(size, tuple) or not isinstance(stride, tuple) or len(size) > 64:
            raise self._data.error('holds a tensor without a size')
        numbers = (offset, *size, *stride)
        if len(size) != len(stride) or not all(
                type(n) is int and 0 <= n < 1 << 62 for n in numbers):
            raise self._data.error('holds a tensor whose sizes and strides are no whole numbers')
        elements, last = math.prod(size), offset
        for length, step in zip(size, stride, strict=True):
            last += (length - 1) * step
        # An expanded tensor would be larger in memory than in the file, by any factor.
        if elements > self.count or (elements and last >= self.count):
            raise self._data.error('holds a tensor that reaches beyond its storage')
        dtype = self._data.dtype(self.kind)
        buffer = self._data.buffer(self.key)
        if len(buffer) != self.count * dtype.itemsize:
            raise self._data.error(
                f'is damaged: {len(buffer)} bytes hold {self.count} numbers of {dtype}')
        try:
            if not elements:
                return torch.empty(size, dtype=dtype)
            return torch.frombuffer(buffer, dtype=dtype).as_strided(size, stride, offset)
        except _DAMAGE as error:
            raise self._data.error('holds a tensor that cannot be made') from error


class _Data:
    """The storages of one file by key; each is read once, so that tensors go on sharing it."""

    def __init__(self, path):
        self._path, self._buffers, self._load = path, {}, None

    def load_with(self, load):
        """Read storages by `load(key)`, which returns bytes."""
        self._load = load

    def dtype(self, kind) -> torch.dtype:
        if kind not in _DTYPES:
            raise self.error(f'holds numbers of the type {kind[:40]!r}, which no network here has')
        return _DTYPES[kind]

    def buffer(self, key) -> bytearray:
        if key not in self._buffers:
            try:
                self._buffers[key] = bytearray(self._load(key))
            except _DAMAGE as error:
                raise self.error(f'is damaged or cut off: storage {key[:20]!r} cannot be read; '
                                 'get it again') from error
        return self._buffers[key]

    def error(self, reason) -> WeightsError:
        return WeightsError(f'checkpoint {str(self._path)!r} {reason}')

    def persistent(self, identity):
        """Return what a persistent id of the pickle stands for."""
        if not isinstance(identity, tuple) or not identity:
            raise ValueError('a persistent id without a kind')
        if identity[0] == 'module':  # a class with its source code, before PyTorch 1.6
            return identity[1]
        tag, kind, key, _, count, *view = identity
        if (tag != 'storage' or not isinstance(kind, Record) or not isinstance(key, str)
                or type(count) is not int or view not in ([], [None])):
            raise ValueError('a persistent id of another kind')
        return Storage(self, kind.name.rpartition('.')[2], key, count)


def read_checkpoint(path: str | Path):
    """
    Return what is pickled in a file of `torch.save`: plain values, lists, dicts and records.

    Sets come as lists. Raise WeightsError for a file that is missing, damaged or no such file.
    """
    path = Path(path)
    try:
        with path.open('rb') as file:
            start = file.read(512)
    except OSError as error:
        raise WeightsError(
            f'checkpoint {str(path)!r} cannot be read: {error.strerror}') from error
    data = _Data(path)
    try:
        if start[:2] == b'PK':
            return _read_zip(path, data)
        if _LEGACY_MAGIC in start[:40]:
            return _read_legacy(path, data)
    except _DAMAGE as error:
        raise data.error('is damaged or cut off: get it again') from error
    if start[257:262] == b'ustar':
        raise data.error('has the format of PyTorch 0.1: load it there and save it again')
    raise data.error(f'is no file of torch.save: it begins with {start[:16]!r}; check what was '
                     'downloaded')


def _read_zip(path, data):
    archive = zipfile.ZipFile(path)
    names = archive.namelist()
    pickles = [name for name in names if re.fullmatch('[^/]+/data[.]pkl', name)]
    if len(pickles) != 1:
        raise data.error('is a zip archive without the one data.pkl of torch.save: check what was '
                         'downloaded')
    root = pickles[0].removesuffix('data.pkl')
    if f'{root}constants.pkl' in names:
        raise data.error('is a TorchScript program, needed are weights saved by torch.save')

    def read(name):
        member = archive.getinfo(f'{root}{name}')
        if member.compress_type != zipfile.ZIP_STORED or member.file_size > path.stat().st_size:
            raise data.error('is compressed, which PyTorch never does: get it from another source')
        return archive.read(member)

    if f'{root}byteorder' in names:
        _check_byte_order(read('byteorder') == b'little', data)
    data.load_with(lambda key: read(f'data/{key}'))
    return follow(io.BytesIO(read('data.pkl')), data.persistent)


def _read_legacy(path, data):
    with path.open('rb') as file:
        content = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    for _ in range(2):  # the magic number, the version of the format
        follow(content)
    _check_byte_order(follow(content).get('little_endian', True), data)
    kinds, slices = {}, {}

    def persistent(identity):
        found = data.persistent(identity)
        if isinstance(found, Storage):
            kinds.setdefault(found.key, found.kind)
        return found

    tree = follow(content, persistent)
    for key in follow(content):
        count, = struct.unpack('<q', content.read(8))
        start = content.tell()
        end = start + count * data.dtype(kinds[key]).itemsize
        slices[key] = slice(start, end)
        content.seek(end)  # a ValueError behind the end
    data.load_with(lambda key: content[slices[key]])
    return tree


def _check_byte_order(little, data):
    if not little:
        raise data.error('was written on a big-endian machine: save it again on another one')


class Parameters(NamedTuple):
    """The parameters and buffers of a network in a checkpoint."""

    place: str
    """Where they stand, as a dotted name; '' for the whole file."""
    tensors: dict[str, torch.Tensor]
    """By their names without those of wrappers."""
    others: list[str]
    """Places of others with nearly all of its names, such as the moving average of a network."""


def parameters_of(content, source: str | Path, place: str | None = None) -> Parameters:
    """
    Return the parameters and buffers in what `read_checkpoint` has read, at `place` if given.

    Else they are those of the dict or pickled module that has most of them; of two alike, those in
    the more usual place. Raise WeightsError, which names `source`, if there are none.
    """
    found = _views_by_place(content, source)
    if place is None:
        place = max(found, key=lambda one: (len(found[one]), _usual(one)), default=None)
    elif place not in found:
        raise WeightsError(f'checkpoint {str(source)!r} has no tensors at {place!r}, but at: '
                           f'{", ".join(map(repr, found)) or "no place"}')
    if place is None:
        raise WeightsError(f'checkpoint {str(source)!r} holds no tensor with a name: needed is a '
                           'state dict or a whole module')
    views = found.pop(place)
    others = [one for one, rest in found.items()
              if len(views.keys() & rest.keys()) >= _SAME_NETWORK * len(views)]
    return Parameters(place, {name: storage.view(*where)
                              for name, (storage, *where) in views.items()}, others)


def without_wrappers(named: dict) -> dict:
    """Return `named` with names that are those of the module inside of all wrappers."""
    return {_WRAPPER.sub('', name): value for name, value in named.items()}


def _views_by_place(content, source) -> dict[str, dict]:
    """Return the tensors of each dict and pickled module that has any, by its place."""
    places, names, found = deque([('', content)]), 0, {}
    while places and names < _MOST_NAMES:
        place, node = places.popleft()
        inside = {**entries(node), **attributes(node), **_members(node)}
        names += len(inside)
        if isinstance(inside.get('_modules'), dict | Record):
            views = _views_in_module(node, source)
        else:
            views = {name: view for name, value in inside.items()
                     if _is_name(name) and (view := _view(value))}
            if place.count('.') < _DEEPEST_PLACE:
                places.extend(
                    (f'{place}.{name}'.lstrip('.'), value) for name, value in inside.items()
                    if _is_name(name) and isinstance(value, dict | list | tuple | Record))
        if views:
            found[place] = without_wrappers(views)
    return found


def _members(node) -> dict:
    """Return the dicts and objects in a list by their numbers; single tensors have no names."""
    if not isinstance(node, list | tuple):
        return {}
    return {str(i): value for i, value in enumerate(node)
            if isinstance(value, dict | list | tuple) or _view(value) is None}


def _views_in_module(module, source) -> dict:
    """Return the tensors of a pickled module by name, as its state_dict() would."""
    views, waiting, names = {}, [('', module)], 0
    while waiting:
        prefix, module = waiting.pop()
        inside = attributes(module)
        hidden = inside.get('_non_persistent_buffers_set')
        if isinstance(hidden, Record) and hidden.args:
            hidden = hidden.args[0]
        tensors = {**entries(inside.get('_buffers')), **entries(inside.get('_parameters'))}
        children = entries(inside.get('_modules'))
        names += 1 + len(tensors) + len(children)
        if names > _MOST_NAMES or len(prefix) > _LONGEST_NAME:
            raise WeightsError(f'checkpoint {str(source)!r} holds a module inside of itself')
        for name in hidden if isinstance(hidden, list) else ():
            if isinstance(name, str):
                tensors.pop(name, None)
        views |= {prefix + name: view for name, value in tensors.items()
                  if _is_name(name) and (view := _view(value))}
        waiting.extend((f'{prefix}{name}.', child) for name, child in children.items()
                       if _is_name(name))
    return views


def _view(node):
    """Return the storage, offset, size and stride of what is a tensor, else None."""
    for _ in range(_DEEPEST_PLACE):
        if not isinstance(node, Record):
            return None
        if node.name in _REBUILD_TENSOR and len(node.args) >= 4:
            return node.args[:4] if isinstance(node.args[0], Storage) else None
        if node.name in _REBUILD_PARAMETER and node.args:
            node = node.args[0]
        elif node.name == _REBUILD_SUBCLASS and len(node.args) == 4 and isinstance(
                node.args[0], Record) and isinstance(node.args[2], tuple):
            node = Record(node.args[0].name, node.args[2])
        else:
            return None
    return None


def _is_name(name) -> bool:
    return bool(_NAME.fullmatch(name))


def _usual(place) -> int:
    """Return a number that is higher the more usual a place is."""
    name = place.rpartition('.')[2]
    return -_USUAL_PLACES.index(name) if name in _USUAL_PLACES else -len(_USUAL_PLACES)
