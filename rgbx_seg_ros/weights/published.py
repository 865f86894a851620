# Copyright 2026 rgbx_seg_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""
What the authors of networks and backbones publish, brought to our names.

Whose file it is and how large its network is are read from names and shapes.
"""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
import inspect
from itertools import islice
from pathlib import Path
import re

from rgbx_seg_ros.cards.card import Card
from rgbx_seg_ros.errors import CardError, WeightsError
from rgbx_seg_ros.networks import build, NETWORKS
from rgbx_seg_ros.networks.convnext import CONVNEXT
from rgbx_seg_ros.networks.convnextv2 import CONVNEXTV2
from rgbx_seg_ros.networks.mix_transformer import MIT
from rgbx_seg_ros.weights.checkpoint import (
    BACKBONE,
    convert_state_dict,
    is_safetensors,
    our_names,
    read_safetensors,
    require_fit,
)
from rgbx_seg_ros.weights.torch_files import parameters_of, read_checkpoint, without_wrappers
import torch

# What stands in a training beside its network: counters of thop and of an averaged model, losses.
_EXTRAS = re.compile(r'(^|\.)(total_ops|total_params|n_averaged)$|'
                     r'^(criterion|criterions|loss|losses|loss_fn|loss_func|metric|metrics)\.')
_PREFIXES_TRIED = 4


# What a network is built with, from the shapes of its parameters by our names. A parameter that
# is missing is a KeyError, a size that no backbone has a ValueError.

def _size(sizes, depths, widths):
    """Return the name of the backbone that has these blocks and channels per stage."""
    for name, layout in sizes.items():
        if layout == (depths, widths):
            return name
    raise ValueError(f'no backbone has {depths!r} blocks and {widths!r} channels in its stages')


def _blocks(shapes, pattern):
    """Return how many blocks the four stages have; `pattern` finds the stage in a name."""
    counts = Counter(found[1] for name in shapes if (found := re.match(pattern, name)))
    return tuple(count for _, count in sorted(counts.items()))


def _convnext(shapes, sizes, encoder=''):
    """Return the size of a ConvNeXt of either version."""
    widths = tuple(shapes[f'{encoder}stages.{i}.0.dwconv.weight'][0] for i in range(4))
    pattern = rf'{encoder}stages\.(\d)\.\d+\.dwconv\.weight$'
    return {'backbone': _size(sizes, _blocks(shapes, pattern), widths)}


def _mix_transformer(shapes, encoder=''):
    widths = tuple(shapes[f'{encoder}norm{i + 1}.weight'][0] for i in range(4))
    pattern = rf'{encoder}block(\d)\.\d+\.norm1\.weight$'
    return {'variant': _size(MIT, _blocks(shapes, pattern), widths)}


def _ms_irtnet(shapes):
    (classes, width), inner = shapes['decoder.linear_pred.weight'][:2], 'gwim.3.conv1.0.weight'
    return {'num_classes': classes, **_convnext(shapes, CONVNEXTV2, 'encoder_rgb.'),
            'decoder_width': width, 'gwim_ratio': 2 * shapes[inner][0] / shapes[inner][1]}


def _rxssnet(shapes):
    classes, width = shapes['decoder.linear_pred.weight'][:2]
    return {'num_classes': classes, **_convnext(shapes, CONVNEXTV2, 'encoder_rgb.'),
            'decoder_width': width}


def _mddg(shapes):
    classes, width = shapes['decoder.linear_pred.weight'][:2]
    rows, columns = shapes['decoder.sdd1.gate.filters.complex_weights'][:2]
    inner = (shapes[f'fusion.{i}.mamba.scan.rgb.conv.weight'][0] for i in range(4))
    outer = (shapes[f'fusion.{i}.mamba.rgb.norm.weight'][0] for i in range(4))
    return {'num_classes': classes, **_mix_transformer(shapes, 'encoder_rgb.'),
            'freq_size': (rows, 2 * (columns - 1)), 'decoder_width': width,
            'scan_states': shapes['fusion.0.mamba.scan.A_logs'][1],
            'scan_ratios': tuple(a // b for a, b in zip(inner, outer, strict=True))}


def _ms2mnet(shapes):
    classes, width = shapes['decoder.seg_head.head.2.weight'][:2]
    return {'num_classes': classes, 'base_width': width}


def _difusionseg(shapes):
    pointwise = shapes.get('decode_head.conv_seg.pointwise.weight')
    last = pointwise or shapes['decode_head.conv_seg.weight']
    layers = sum(name.endswith('.modulation.bias') for name in shapes)
    return {'num_classes': last[0], **_convnext(shapes, CONVNEXT, 'backbone.'),
            'variant': 'mfd' if pointwise else 'msrs', 'width': last[1],
            'fusion_width': shapes['fusion.cross_fusion.0.weight'][0], 'layers': layers}


def _gated_lite(shapes):
    classes, width = shapes['classify.weight'][:2]
    return {'num_classes': classes, 'width': width,
            'shared': 'encoder.stem.conv.weight' in shapes}


ARGUMENTS = {
    'ms_irtnet': _ms_irtnet,
    'rxssnet': _rxssnet,
    'mddg': _mddg,
    'ms2mnet': _ms2mnet,
    'difusionseg': _difusionseg,
    'gated_lite': _gated_lite,
}


@dataclass(frozen=True)
class Backbone:
    """The official ImageNet weights of a network's encoders."""

    title: str
    """What they are and under which terms."""
    encoders: tuple[str, ...]
    """Modules that such weights can fill, in any form of the network."""
    arguments: Callable[[dict], dict]
    """Arguments of the network, from the shapes in the file."""
    unused: str
    """Names in the file that no encoder has, as a regular expression."""
    renames: tuple[tuple[str, str], ...] = ()
    """Names in the file to ours inside of the encoder."""
    fresh: str = '(?!)'
    """Names of norms that the file lacks, since a classifier does without."""
    repeated: tuple[str, str] = ('(?!)', '')
    """Names of ours that take the values of another one: pattern, and what that has instead."""


_CONVNEXTV2_WEIGHTS = Backbone(
    'ConvNeXt V2, whose ImageNet weights are under CC BY-NC 4.0: not for commercial use',
    ('encoder_rgb', 'encoder_x'), lambda shapes: _convnext(shapes, CONVNEXTV2),
    unused=r'^(norm|head)\.')

BACKBONES = {
    'ms_irtnet': _CONVNEXTV2_WEIGHTS,
    'rxssnet': _CONVNEXTV2_WEIGHTS,
    'mddg': Backbone(
        'MiT of SegFormer, whose ImageNet weights are under the NVIDIA Source Code License for '
        'SegFormer: not for commercial use',
        ('encoder_rgb', 'encoder_x'), _mix_transformer, unused=r'^head\.'),
    'ms2mnet': Backbone(
        'ResNet-50 of torchvision, under BSD-3-Clause, trained on ImageNet',
        ('encoder_rgb', 'encoder_x'), lambda shapes: {}, unused=r'^(layer4|fc)\.'),
    'difusionseg': Backbone(
        'ConvNeXt, whose code and ImageNet weights are under MIT',
        ('backbone',), lambda shapes: _convnext(shapes, CONVNEXT), unused=r'^head\.',
        renames=(
            # The official file, and that of MMClassification.
            (r'^norm3?\.', 'norms.3.'),
            (r'\.depthwise_conv\.', '.dwconv.'),
            (r'\.pointwise_conv(\d)\.', r'.pwconv\1.')),
        fresh=r'^norms\.[012]\.'),
    'gated_lite': Backbone(
        'EfficientNet-Lite0, whose ImageNet weights are under Apache-2.0',
        ('encoder', 'encoder_rgb', 'encoder_x'), lambda shapes: {},
        unused=r'^_(conv_head|bn1|fc)\.',
        renames=(
            (r'^_conv_stem\.', 'stem.conv.'), (r'^_bn0\.', 'stem.norms.0.'),
            (r'^_blocks\.', 'blocks.'),
            (r'\._(expand|depthwise|project)_conv\.', r'.\1.conv.'),
            (r'\._bn0\.', '.expand.norms.0.'), (r'\._bn1\.', '.depthwise.norms.0.'),
            (r'\._bn2\.', '.project.norms.0.')),
        repeated=(r'\.norms\.1\.', '.norms.0.')),
}


@dataclass
class Found:
    """What a file holds for the network `network`, under our names."""

    network: str
    kind: str
    """network or backbone."""
    prefix: str
    """What stood before the names."""
    state: dict[str, torch.Tensor]
    """By our names; as long as a backbone is not yet in its encoders, without theirs."""
    unused: list[str]
    unexpected: list[str]
    arguments: dict
    """What the network is built with, and `num_classes`; empty where the file does not tell."""
    fit: float
    """Share of the names that both the file and the network have, among those of either."""
    place: str = ''
    """Where in the file they stood."""
    others: tuple[str, ...] = ()
    """Where in the file other states with the same names stand."""

    @property
    def network_args(self):
        """What stands in a card: the arguments that differ from the published model's."""
        parameters = inspect.signature(NETWORKS[self.network]).parameters
        return {name: value for name, value in self.arguments.items()
                if name != 'num_classes' and value != parameters[name].default}


def read_weights(file: str | Path, network: str | None = None, card: Card | None = None,
                 place: str | None = None) -> Found:
    """
    Return what a file of torch.save or safetensors holds for `network`, or for that of `card`.

    It is a checkpoint of the network or an official ImageNet backbone, whatever stands around it
    in the file and before or inside its names; where the file has several, that at `place`. Raise
    CardError or WeightsError if it is not complete or does not agree with `card`.
    """
    network = _network(network, card)
    place, tensors, others = _parameters_in(file, place)
    found = _recognise(network, tensors)
    found.place, found.others = place, tuple(others)
    found.arguments = _agreed(found, card, file)
    complete = _whole_encoders if found.kind == BACKBONE else _whole_network
    found.state = complete(found, _parameters(network, found.arguments), file, tensors)
    return found


def _parameters_in(file, place):
    if not is_safetensors(file):
        return parameters_of(read_checkpoint(file), file, place)
    if place:
        raise WeightsError(f'{str(file)!r} is a safetensors file, which holds one state: there is '
                           f'none at {place!r}')
    return '', without_wrappers(read_safetensors(file)[0]), []


def _network(network, card):
    """Return the name of the network, which `network` or the card gives."""
    if network is None and card is None:
        raise CardError('of which network is it? Give --network or --card; networks are: '
                        f'{", ".join(NETWORKS)}')
    if card is not None and network not in (None, card.network):
        raise CardError(f'network is {network!r}, but card {card.name!r} is for '
                        f'{card.network!r}: leave one of them out')
    network = network or card.network
    if network not in NETWORKS:
        raise CardError(f'network is {network!r}, allowed are: {", ".join(NETWORKS)}')
    if card is None and network not in ARGUMENTS:
        raise CardError(f'the size of {network!r} cannot be told from a file: give --card, with '
                        'its classes and network_args')
    return network


def _parameters(network, arguments):
    """Return the state dict of a network without its numbers."""
    with torch.device('meta'):
        return build(network, **{'num_classes': 1, **arguments}).state_dict()


def _recognise(network, tensors) -> Found:
    """Return the reading of `tensors` that fits the network, or its backbone, best."""
    found = []
    for prefix in islice(_prefixes(tensors), _PREFIXES_TRIED):
        bare = {name.removeprefix(prefix): tensor for name, tensor in tensors.items()}
        extras = [name for name in bare if _EXTRAS.search(name)]
        for name in extras:
            del bare[name]
        readings = [_as_network(network, prefix, bare)]
        if network in BACKBONES:
            readings.append(_as_backbone(network, prefix, bare))
        for reading in readings:
            reading.unused.extend(extras)
        found += readings
    return max(found, key=lambda reading: reading.fit)


def _prefixes(names):
    """Yield '' and what at least half of the names begin with: that of a wrapper, for one."""
    prefix = ''
    while True:
        yield prefix
        heads = Counter(name[len(prefix):].partition('.')[0] for name in names
                        if name.startswith(prefix) and '.' in name[len(prefix):])
        if not heads:
            return
        head, count = heads.most_common(1)[0]
        if 2 * count < len(names):
            return
        prefix += f'{head}.'


def _arguments(network, shapes, deduce):
    """Return what `deduce` finds, if the network can be built with it; else {}."""
    try:
        arguments = deduce(shapes)
        _parameters(network, arguments)
    except (CardError, LookupError, ValueError, TypeError, ZeroDivisionError):
        return {}
    return arguments


def _as_network(network, prefix, tensors):
    shapes = {ours: tuple(tensors[theirs].shape)
              for theirs, ours in our_names(network, tensors).items()}
    arguments = _arguments(network, shapes, ARGUMENTS.get(network, lambda shapes: {}))
    state = convert_state_dict(network, tensors, **arguments)
    fit = len(state) / (len(state) + len(state.missing) + len(state.unexpected))
    return Found(network, 'network', prefix, state, state.unused, state.unexpected, arguments, fit)


def _as_backbone(network, prefix, tensors):
    spec = BACKBONES[network]
    renamed, unused = {}, []
    for name, tensor in tensors.items():
        if re.search(spec.unused, name):
            unused.append(name)
            continue
        for pattern, replacement in spec.renames:
            name = re.sub(pattern, replacement, name)
        renamed[name] = tensor
    shapes = {name: tuple(tensor.shape) for name, tensor in renamed.items()}
    arguments = _arguments(network, shapes, spec.arguments)
    inside = {name.partition('.')[2] for name in _parameters(network, arguments)
              if name.partition('.')[0] in spec.encoders}
    state = {name: tensor for name, tensor in renamed.items() if name in inside}
    unexpected = [name for name in renamed if name not in inside]
    fit = len(state) / (len(inside) + len(unexpected))
    return Found(network, BACKBONE, prefix, state, unused, unexpected, arguments, fit)


def _agreed(found, card, file):
    """Return the arguments to build with: those of the file, which must agree with the card."""
    if card is None:
        return found.arguments
    arguments = {'num_classes': len(card.classes), **card.network_args}
    if found.kind == BACKBONE or not found.arguments:
        return arguments
    theirs, cards = ({name: value.shape for name, value in _parameters(
        found.network, given).items()} for given in (found.arguments, arguments))
    if theirs != cards:
        raise CardError(
            f'card {card.name!r} is for {described(arguments)}, checkpoint {str(file)!r} holds '
            f'{described(found.arguments)}: take another card, or leave out --card and write one')
    return found.arguments


def described(arguments) -> str:
    """Return in words what a network is built with."""
    classes = arguments.get('num_classes')
    rest = ', '.join(f'{name} {value}' for name, value in arguments.items()
                     if name != 'num_classes')
    return f'{classes} classes{", " if rest else ""}{rest}'


def _whole_network(found, wanted, file, tensors):
    """Return the state of the whole network, or raise WeightsError."""
    state = _with_counters(found.state, wanted)
    strangers = {name: torch.empty(0) for name in found.unexpected}
    advice = None if state.keys() == wanted.keys() else _advice(found, tensors)
    require_fit(wanted, {**strangers, **state}, file, found.network, advice)
    return {name: state[name].to(wanted[name].dtype) for name in wanted}


def _whole_encoders(found, wanted, file, tensors):
    """Return the state of those encoders that the backbone fits, or raise WeightsError."""
    spec, filled = BACKBONES[found.network], {}
    strangers = {name: torch.empty(0) for name in found.unexpected}
    first = None
    for encoder in spec.encoders:
        inside = {name.removeprefix(f'{encoder}.'): tensor for name, tensor in wanted.items()
                  if name.startswith(f'{encoder}.')}
        again = {name: found.state[other] for name in inside
                 if (other := re.sub(*spec.repeated, name)) in found.state}
        state = _with_counters(
            _with_stem({**strangers, **found.state, **again}, inside), inside)
        for name in inside.keys() - state.keys():
            if re.search(spec.fresh, name):
                state[name] = torch.full(inside[name].shape, float(name.endswith('.weight')))
        first = first or (inside and (inside, state, f'{encoder} of {found.network}'))
        if {name: tensor.shape for name, tensor in state.items()} == {
                name: tensor.shape for name, tensor in inside.items()}:
            filled |= {f'{encoder}.{name}': tensor.to(inside[name].dtype)
                       for name, tensor in state.items()}
    if not filled:
        inside, state, encoder = first
        require_fit(inside, state, file, encoder, _advice(found, tensors))
    return filled


def _with_stem(state, wanted):
    """Return `state` with its first convolution made for another number of image channels."""
    state = dict(state)
    for name, kernel in state.items():
        if name in wanted and kernel.ndim == 4 and kernel.shape[1] == 3:
            channels = wanted[name].shape[1]
            mean = kernel.float().mean(dim=1, keepdim=True)
            if channels == 1:
                state[name] = mean
            elif channels == 4:  # our choice: the authors do not say how theirs was made
                state[name] = torch.cat((kernel.float(), mean), dim=1)
    return state


def _with_counters(state, wanted):
    """Return `state` with the counters of batch norm, which old files lack and nothing reads."""
    missing = [name for name in wanted if name.endswith('.num_batches_tracked')]
    return {**dict.fromkeys(missing, torch.zeros((), dtype=torch.int64)), **state}


def _advice(found, tensors):
    """Return what to do with a file that the network does not know."""
    fits = {name: _recognise(name, tensors).fit for name in NETWORKS}
    likely = max(fits, key=fits.get)
    if fits[likely] > found.fit:
        return f'its names are those of {likely!r}: give that to --network'
    return f'is it a whole checkpoint or backbone of {found.network!r}?'
