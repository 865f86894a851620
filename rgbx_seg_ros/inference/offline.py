# Copyright 2026 rgbx_seg_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""The node's parameters where there is no node: from its files and from the command line."""

from pathlib import Path
from typing import NamedTuple

from rgbx_seg_ros.engines import ENGINES
from rgbx_seg_ros.errors import ParameterError
from rgbx_seg_ros.parameters import Parameters, read_parameters

MODEL = ('model', 'engine', 'device', 'x.kind', 'x.normalization', 'x.range', 'tune_allocator')
REGISTRATION = tuple(f'registration.{name}' for name in (
    'mode', 'homography', 'x_size', 'rgb_size', 'translation', 'rotation', 'depth_m', 'rectified'))


class Given(NamedTuple):
    """What a user has given."""

    parameters: Parameters
    remark: str
    """Which values of the files count for nothing here; empty for none."""
    has_model: bool
    """Whether the user has named a model; else it is the node's."""


def add_arguments(parser, model: str = 'needed unless a file names one') -> None:
    """Declare the arguments that `given` reads; `model` says when one is needed."""
    parser.add_argument('--params-file', type=Path, metavar='FILE', action='append', default=[],
                        help='parameter file of the node, so that X is scaled and laid on RGB as '
                             'there; may be given again, and the last one counts, but options '
                             'count more')
    parser.add_argument('--model', metavar='CARD',
                        help=f'a card, or the name of one; {model}')
    parser.add_argument('--engine', choices=ENGINES, metavar='NAME',
                        help=f'what runs the network: {", ".join(ENGINES)} (default: torch)')
    parser.add_argument('--device', help='auto, cpu, cuda or cuda:N (default: auto)')


def add_disagreement(parser) -> None:
    """Declare the argument that asks for the disagreement of the single sensors."""
    parser.add_argument('--disagreement', action='store_true',
                        help='tell on what share of the pixels the masks of RGB alone and of X '
                             'alone differ, which needs no label: the network runs three times '
                             'a pair')


def given(args, used: tuple[str, ...], needs_model: bool = True) -> Given:
    """
    Return the parameters that the command line and its files give, of which `used` count.

    Raise ParameterError for a file as `read_parameters` does, and where no model is named but
    one is needed.
    """
    values = {}
    for path in args.params_file:
        values.update(read_parameters(path))
    unused = sorted(values.keys() - set(used))
    values.update({name: getattr(args, name) for name in ('model', 'engine', 'device')
                   if getattr(args, name) is not None})
    if needs_model and 'model' not in values:
        raise ParameterError('no model is named: give --model CARD, or a --params-file with '
                             "'model'")
    remark = f'of the parameter files these count for nothing here: {", ".join(unused)}'
    return Given(Parameters.from_ros(values), remark if unused else '', 'model' in values)
