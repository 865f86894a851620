# Copyright 2026 rgbx_seg_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""
Weights: from the authors' parameter names to ours, from a file into a network, and back.

Weights are kept as safetensors, which hold tensors and nothing that could run. What the authors
of a network have published becomes such a file by `rgbx-seg import-weights`.
"""

import hashlib
import json
import os
from pathlib import Path
import re

from rgbx_seg_ros.errors import WeightsError
from rgbx_seg_ros.files import appearing
from rgbx_seg_ros.networks import build, NETWORKS
from safetensors import safe_open, SafetensorError
from safetensors.torch import save
import torch
from torch import nn

BACKBONE = 'backbone'
"""The metadata `kind` of a file that holds no whole network."""

_STATISTICS = ('.running_mean', '.running_var')
_NAMES_SHOWN = 3


class ConvertedState(dict):
    """
    A state dict under our names, and what became of the others.

    `missing` lists the names the network has and the checkpoint lacks (ours), `unused` the known
    ones that no forward pass reads, among them tables that are computed instead (the authors'),
    and `unexpected` those that are not known at all (the authors').
    """

    def __init__(self, state, missing: list[str], unexpected: list[str], unused: list[str]):
        super().__init__(state)
        self.missing = missing
        self.unexpected = unexpected
        self.unused = unused


def convert_state_dict(name: str, authors_state_dict, **network_args) -> ConvertedState:
    """
    Return the authors' state dict of the network `name` under our names.

    `network_args` are those of the network's constructor, where they differ from the published
    model's; they and the class count decide shapes, which `load_into` checks. Raise CardError for
    an unknown network or argument.
    """
    with torch.device('meta'):
        wanted = build(name, **{'num_classes': 1, **network_args}).state_dict()
    ours = our_names(name, authors_state_dict)
    state = {ours[theirs]: tensor for theirs, tensor in authors_state_dict.items()
             if ours.get(theirs) in wanted}
    return ConvertedState(
        state,
        missing=[name for name in wanted if name not in state],
        unexpected=[theirs for theirs in ours if ours[theirs] not in wanted],
        unused=[theirs for theirs in authors_state_dict if theirs not in ours])


def our_names(name: str, authors_names) -> dict[str, str]:
    """Return our name for each of the authors', but for those that no forward pass reads."""
    network, ours = NETWORKS[name], {}
    for theirs in authors_names:
        if not any(re.search(pattern, theirs) for pattern in network.UNUSED):
            ours[theirs] = theirs
            for pattern, replacement in network.RENAMES:
                ours[theirs] = re.sub(pattern, replacement, ours[theirs])
    return ours


def load_weights(path: str | Path) -> dict[str, torch.Tensor]:
    """Return the tensors of a safetensors file by name, on the CPU, or raise WeightsError."""
    state, metadata = read_safetensors(path)
    if metadata.get('kind') == BACKBONE:
        raise WeightsError(
            f'weights file {str(path)!r} holds only a backbone to start training from: give it to '
            'rgbx-seg train as --weights')
    return state


def start_from(net: nn.Module, path: str | Path) -> None:
    """
    Copy a safetensors file into `net` to train from it: a whole network, or a backbone.

    A backbone fills the encoders that it holds, to the last parameter; all else stays as it is.
    Raise WeightsError like `load_into`.
    """
    state, metadata = read_safetensors(path)
    if metadata.get('kind') == BACKBONE:
        held = {name.partition('.')[0] for name in state}
        state |= {name: tensor for name, tensor in net.state_dict().items()
                  if name.partition('.')[0] not in held}
    load_into(net, state, path)


def is_safetensors(path: str | Path) -> bool:
    """Tell by its first bytes whether a file, if it is there, is a safetensors file."""
    try:
        with Path(path).open('rb') as file:
            return file.read(10)[8:] == b'{"'
    except OSError:
        return False


def read_safetensors(path: str | Path) -> tuple[dict[str, torch.Tensor], dict[str, str]]:
    """Return the tensors of a safetensors file, on the CPU, and its metadata."""
    path = _existing(path)
    try:
        with safe_open(path, 'pt') as file:
            return {name: file.get_tensor(name) for name in file.keys()}, file.metadata() or {}
    except SafetensorError as error:
        with path.open('rb') as file:
            start = file.read(2)
        if start == b'PK' or start[:1] == b'\x80':  # a zip of pickles, or a bare pickle
            raise WeightsError(
                f'weights file {str(path)!r} is a pickled PyTorch checkpoint, which can run code '
                'when opened: turn it into a .safetensors file with rgbx-seg import-weights'
            ) from error
        raise WeightsError(
            f'weights file {str(path)!r} is no complete safetensors file ({error}): '
            'get it again') from error


def load_into(net: nn.Module, state: dict[str, torch.Tensor], source: str | Path) -> None:
    """
    Copy `state` into `net`, whose names and shapes must be exactly the same.

    Values are cast to the types of the network. Raise WeightsError, which names `source`, and
    leave the network as it was if something is missing, unexpected or of another shape.
    """
    require_fit(net.state_dict(), state, source, type(net).__name__)
    net.load_state_dict(state)


def require_fit(wanted: dict[str, torch.Tensor], state: dict[str, torch.Tensor],
                source: str | Path, net: str, advice: str | None = None) -> None:
    """
    Raise WeightsError unless `state` has the names and shapes of `wanted`, the state of `net`.

    It names the `source` of the state, and ends in `advice` on what to do.
    """
    missing = [name for name in wanted if name not in state]
    unexpected = [name for name in state if name not in wanted]
    misshaped = [name for name in wanted
                 if name in state and state[name].shape != wanted[name].shape]
    faults = [
        _listed('missing', missing),
        _listed('unexpected', unexpected),
        _listed('of another shape', [
            f'{name} {tuple(state[name].shape)!r} instead of {tuple(wanted[name].shape)!r}'
            for name in misshaped]),
    ]
    faults = [fault for fault in faults if fault]
    if not faults:
        return
    advice = advice or ('check the network and its arguments in the card; a file under the names '
                        'of its authors becomes ours with rgbx-seg import-weights')
    if not missing and not unexpected and _differ_in_classes_only(state, wanted, misshaped):
        given, needed = state[misshaped[0]].shape[0], wanted[misshaped[0]].shape[0]
        advice = f'the weights are for {given} classes, the network has {needed}'
    raise WeightsError(
        f'weights {str(source)!r} do not fit {net}: {"; ".join(faults)}; {advice}')


def save_weights(
        net_or_state: nn.Module | dict[str, torch.Tensor], path: str | Path,
        metadata: dict[str, str] | None = None, dtype: torch.dtype = torch.float16) -> None:
    """
    Write the weights of a network, or a state dict, as safetensors of the type `dtype`.

    Batch-norm statistics stay in fp32, since a variance has no bound, and integers as they are.
    The same values make the same bytes. The file appears at `path` complete or not at all. Raise
    WeightsError for a value that `dtype` cannot hold and for a path that cannot be written.
    """
    path = Path(path)
    state = net_or_state.state_dict() if isinstance(net_or_state, nn.Module) else net_or_state
    tensors = {name: _stored(name, tensor, dtype) for name, tensor in state.items()}
    try:
        with appearing(path) as part, part.open('wb') as file:
            file.writelines(_in_order(save(tensors, metadata)))
    except OSError as error:
        raise WeightsError(
            f'weights file {str(path)!r} cannot be written: {error.strerror}') from error


def sha256(path: str | Path) -> str:
    """Return the SHA-256 of a weights file as 64 hexadecimal digits."""
    digest = hashlib.sha256()
    with _existing(path).open('rb') as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def _existing(path):
    path = Path(path)
    if path.is_dir():
        raise WeightsError(f'weights {str(path)!r} is a folder, needed is a file')
    if not path.exists():
        raise WeightsError(f'weights file {str(path)!r} does not exist: check the path')
    if not os.access(path, os.R_OK):
        raise WeightsError(f'weights file {str(path)!r} may not be read: check its permissions')
    return path


def _listed(kind, names):
    """Return a count and the first few of `names`, or '' for none."""
    if not names:
        return ''
    rest = len(names) - _NAMES_SHOWN
    more = f' and {rest} more' if rest > 0 else ''
    return f'{len(names)} {kind} ({", ".join(names[:_NAMES_SHOWN])}{more})'


def _differ_in_classes_only(state, wanted, names):
    """Say whether `names` differ in their outputs alone, which only a last layer can."""
    return all(state[name].shape[1:] == wanted[name].shape[1:] for name in names)


def _in_order(content):
    """Yield the bytes of a safetensors file, its metadata sorted: safetensors shuffles them."""
    end = 8 + int.from_bytes(content[:8], 'little')
    header = json.loads(content[8:end])
    if '__metadata__' in header:
        header['__metadata__'] = dict(sorted(header['__metadata__'].items()))
    header = json.dumps(header, separators=(',', ':')).encode()
    header += b' ' * (-len(header) % 8)
    yield from (len(header).to_bytes(8, 'little'), header, memoryview(content)[end:])


def _stored(name, tensor, dtype):
    """Return a contiguous copy on the CPU in the type that the file holds."""
    tensor = tensor.detach()
    if not tensor.is_floating_point():
        dtype = tensor.dtype
    elif name.endswith(_STATISTICS):
        dtype = torch.float32
    stored = tensor.to('cpu', dtype, copy=True).contiguous()
    if tensor.is_floating_point() and not stored.isfinite().all():
        largest = tensor.abs().max().item()
        raise WeightsError(
            f'{name!r} reaches {largest!r}, {dtype} holds finite values up to '
            f'{torch.finfo(dtype).max:g}: check the training, weights stay far below that')
    return stored
