# Copyright 2026 rgbx_seg_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""`rgbx-seg import-weights`: turn what the authors of a network publish into safetensors."""

from collections import Counter
import json
import os
from pathlib import Path
import re

from rgbx_seg_ros.cards.card import Card, load_card
from rgbx_seg_ros.errors import WeightsError
from rgbx_seg_ros.files import check_outputs
from rgbx_seg_ros.networks import NETWORKS
from rgbx_seg_ros.tables import wrapped
from rgbx_seg_ros.weights.checkpoint import BACKBONE, save_weights, sha256
from rgbx_seg_ros.weights.published import BACKBONES, described, Found, read_weights
import torch

_GROUPS_SHOWN = 4


def import_weights(file: str | Path, out: str | Path, network: str | None = None,
                   card: Card | None = None, place: str | None = None) -> Found:
    """
    Read a file of torch.save or safetensors and write what it has for a network to `out`.

    See `read_weights` for what the file may be. Values are kept in float32: in float16, logits
    would change by some 0.001. `out` gets metadata: kind, network, network_args, num_classes and
    source_sha256; the same checkpoint makes the same file, so that a card can state its checksum.
    Raise CardError or WeightsError, and write nothing, where something is wrong.
    """
    file, out = Path(file), Path(out)
    if out.suffix != '.safetensors':
        raise WeightsError(f'output {str(out)!r} must end in .safetensors')
    source_sha256 = sha256(file)
    if out.exists():
        check_outputs([out], [file])
    found = read_weights(file, network, card, place)
    metadata = {'kind': found.kind, 'network': found.network, 'source_sha256': source_sha256,
                'network_args': json.dumps(found.network_args)}
    if found.kind != BACKBONE:
        metadata['num_classes'] = str(found.arguments['num_classes'])
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise WeightsError(
            f'folder {str(out.parent)!r} cannot be made: {error.strerror}') from error
    save_weights(found.state, out, metadata, dtype=torch.float32)
    return found


def add_arguments(parser):
    """Declare the command's arguments."""
    parser.add_argument('file', type=Path,
                        help='checkpoint, a file of torch.save or safetensors; it is not run')
    parser.add_argument('--network', metavar='NAME',
                        help=f'of which network it is: {", ".join(NETWORKS)}')
    parser.add_argument('--card', metavar='CARD',
                        help='card, or name of one, with which the checkpoint must agree')
    parser.add_argument('--state', metavar='PLACE',
                        help='which of several states in the file, such as model_ema '
                             '(default: the largest, in the most usual place)')
    parser.add_argument('-o', '--out', metavar='OUT.safetensors', type=Path, required=True,
                        help='file to write')


def main(args):
    """Run the command."""
    card = load_card(args.card) if args.card else None
    found = import_weights(args.file, args.out, args.network, card, args.state)
    for line in _report(found, args.file, args.out, card):
        print(line)


def _report(found, file, out, card):
    """Yield what was found, what was written and what to do with it."""
    where = f' in {found.place!r}' if found.place else ''
    behind = f', names behind {found.prefix!r}' if found.prefix else ''
    numbers = sum(tensor.numel() for tensor in found.state.values())
    if found.kind == BACKBONE:
        encoders = sorted({name.partition('.')[0] for name in found.state})
        yield f'{file}: a backbone for {" and ".join(encoders)} of {found.network}{where}{behind}'
        yield wrapped(BACKBONES[found.network].title, '    ')
    else:
        yield f'{file}: {found.network}{where}{behind}'
        yield wrapped(described(found.arguments), '    ')
    if found.others:
        yield wrapped(f'the same names are also in {", ".join(map(repr, found.others))}: --state '
                      'takes one of them', '    ')
    yield f'    {len(found.state)} entries, {numbers / 1e6:.2f} million numbers'
    if found.unused:
        yield wrapped(f'{len(found.unused)} dropped, which no prediction reads: '
                      f'{_grouped(found.unused)}', '    ')
    yield f'wrote {out} ({os.path.getsize(out) / 1e6:.1f} MB, float32)'
    if found.kind == BACKBONE:
        yield f'start from it: rgbx-seg train ... --weights {out}'
        return
    if card is not None and card.weights_path and card.weights_path.is_file() and (
            out.samefile(card.weights_path)):
        yield f'sha256 {sha256(out)}\nnow card {card.name!r} has its weights'
        return
    yield f'in a card:\n  network: {found.network}'
    if found.network_args:
        yield f'  network_args: {json.dumps(found.network_args)}'
    yield f'  weights:\n    file: {out.name}\n    sha256: {sha256(out)}'


def _grouped(names):
    """Return the modules of `names` and how many each has, the largest first."""
    modules = Counter(re.sub(r'\.\d+', '.*', name.rpartition('.')[0] or name) for name in names)
    shown = [f'{module} ({count})' for module, count in modules.most_common(_GROUPS_SHOWN)]
    rest = len(modules) - len(shown)
    return ', '.join(shown) + (f' and {rest} more' if rest else '')
