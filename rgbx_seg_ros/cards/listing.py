# Copyright 2026 rgbx_seg_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""`rgbx-seg models`: what models there are, and what the card of one says."""

from argparse import ArgumentParser, Namespace
from collections.abc import Iterable, Iterator
import os
from pathlib import Path
import shlex
import sys
from typing import Any

from rgbx_seg_ros.cards.card import Card, list_cards, load_card
from rgbx_seg_ros.cards.labels import LabelSet
from rgbx_seg_ros.tables import aligned, wrapped

_X_RANGE = {
    'auto': '0..255 of 8-bit frames, percentiles {percentiles} of wider ones, become 0..1',
    'percentile': 'percentiles {percentiles} of each frame become 0..1',
    'minmax': 'lowest to highest value of each frame become 0..1',
    'fixed': 'raw values {range} become 0..1',
    'celsius': '{range} degrees Celsius become 0..1',
}


def add_arguments(parser: ArgumentParser) -> None:
    """Declare the command's arguments."""
    actions = parser.add_subparsers(dest='action', title='actions', metavar='ACTION')
    actions.add_parser('list', help='what models there are (what happens without an action)',
                       description='List the models.')
    show = actions.add_parser('show', help='show the card of one',
                              description='Show the card of a model.')
    show.add_argument('model', help='name of a model, or path of a card')


def main(args: Namespace) -> None:
    """Run the command."""
    if args.action == 'show':
        print(_describe(load_card(args.model)))
    else:
        print(_table([load_card(name) for name in list_cards()]))


def _table(cards: list[Card]) -> str:
    """Return a line for each card, those that can run first."""
    rows = [(card.name, card.network, f'RGB + {card.x.kind}', str(len(card.classes)),
             _state(card)) for card in cards]
    rows.sort(key=lambda row: not row[-1].startswith('ready'))
    rows.insert(0, ('model', 'network', 'sees', 'classes', 'weights'))
    return '\n'.join([*aligned(rows, '<<<><'), '', *_terms(cards), wrapped(
        'rgbx-seg models show NAME tells all of one: inputs, classes, licences, scores, where its '
        'authors offer weights and how to import them.')])


def _terms(cards: list[Card]) -> Iterator[str]:
    """Return a paragraph on the terms of the weights that are there, with an empty line below."""
    names: dict[str, list[str]] = {}
    for card in cards:
        path = card.weights_path
        if card.weights and path and path.is_file():
            names.setdefault(card.weights.license or 'not stated', []).append(card.name)
    if names:
        terms = '; '.join(f'{", ".join(names[text])}: {text}' for text in sorted(names))
        yield wrapped(f'Licences of the weights: {terms}.')
        yield ''


def _state(card: Card) -> str:
    """Return in two or three words whether the model can run."""
    path = card.weights_path
    if path is None:
        return 'none: random'
    if path.is_file():
        return f'ready, {path.stat().st_size / 1e6:.0f} MB'
    if card.published is None:
        return 'missing'
    return 'not imported yet' if card.published.source else 'none published'


def _describe(card: Card) -> str:
    """Return everything that the card says, section by section."""
    sections = [
        f'{card.name}\n{_fill(card.description, hang="")}',
        _section('network', [f'{card.network}{_arguments(card.network_args)}']),
        _section('inputs', _inputs(card)),
        f'classes:\n{_classes(card.labels)}',
        _section('groups', [f'{name}: {", ".join(members)}'
                            for name, members in card.labels.groups.items()]),
        '\n    '.join(['weights:', *_weights(card)]),
        _section('training', [card.training], hang=''),
        _section('licenses', _facts(card.licenses)),
        _section('scores, measured with this package', _facts(card.scores)),
        *_published(card),
    ]
    return '\n\n'.join(section for section in sections if section)


def _section(title: str, paragraphs: Iterable[str], **layout: Any) -> str:
    lines = [_fill(text, **layout) for text in paragraphs if text]
    return '\n'.join([f'{title}:', *lines]) if lines else ''


def _fill(text: str, hang: str = '  ') -> str:
    """Return `text` wrapped as one paragraph, its further lines behind `hang`."""
    return wrapped(' '.join(text.split()), '    ', '    ' + hang)


def _arguments(arguments: dict[str, Any]) -> str:
    return ''.join(f', {name} {value}' for name, value in arguments.items())


def _facts(facts: dict[str, Any]) -> list[str]:
    return [f'{name}: {fact}' for name, fact in facts.items()]


def _numbers(values: Iterable[float]) -> str:
    return ' '.join(f'{value:g}' for value in values)


def _inputs(card: Card) -> Iterator[str]:
    height, width = card.input_size
    size = f'{width}x{height} pixels'
    if card.window:
        yield f'{size}, a window that moves over the frame in steps of {card.window.stride} pixels'
    else:
        yield f'{size}; other frames are scaled to fit, the rest is padded'
    rgb, x = card.rgb, card.x
    yield (f'RGB: channels in the order {rgb.channel_order.upper()}, (value / 255 - mean) / std, '
           f'mean {_numbers(rgb.mean)}, std {_numbers(rgb.std)}')
    channels = 'one channel' if len(x.mean) == 1 else 'three channels'
    percentiles = '{:g} to {:g}'.format(*x.percentiles)
    limits = '{:g} to {:g}'.format(*x.range) if x.range else ''
    raw = _X_RANGE[x.normalization].format(percentiles=percentiles, range=limits)
    missing = '' if x.invalid is None else f', {x.invalid:g} means no measurement'
    yield (f'X: {x.kind}, {channels}; {raw}, then (value - mean) / std, '
           f'mean {_numbers(x.mean)}, std {_numbers(x.std)}{missing}')


def _classes(labels: LabelSet) -> str:
    """Return a line for each class; a terminal also gets a block of its colour."""
    colored = sys.stdout.isatty() and not os.environ.get('NO_COLOR')
    blocks = ['\033[48;2;{};{};{}m  \033[0m '.format(*label.color) if colored else ''
              for label in labels]
    lines = aligned([(str(label.id), label.name, *map(str, label.color)) for label in labels],
                    '><>>>')
    return '\n'.join(f'    {block}{line}' for block, line in zip(blocks, lines, strict=True))


def _weights(card: Card) -> Iterator[str]:
    """Return lines that are not wrapped, since a path is there to be copied."""
    yield _state(card)
    path = card.weights_path
    if card.weights and path:
        found = path.is_file()
        if card.published and not found:
            path = card.import_path or path
        yield f'{"file" if found else "expected at"} {_short(path)}'
        if card.weights.sha256:
            yield f'sha256 {card.weights.sha256}'
        if card.weights.license:
            yield f'license {card.weights.license}'


def _short(path: Path) -> str:
    """Return `path` as a shell takes it, with ~ for the home folder."""
    home = Path(os.path.expanduser('~'))
    if path.is_relative_to(home):
        return f'~/{shlex.quote(str(path.relative_to(home)))}'
    return shlex.quote(str(path))


def _published(card: Card) -> Iterator[str]:
    """Return the sections on what the authors have published."""
    published = card.published
    if published is None:
        return
    yield _section('published by the authors', [
        f'data set: {published.dataset}', f'origin: {published.origin}',
        f'checkpoint: {published.source or "none"}'])
    for score in published.scores:
        figures = ', '.join(f'{name} {value:g}' for name, value in score.figures.items())
        yield _section('scores of the authors, not measured with this package', [
            f'{figures}, percent', f'source: {score.source}', f'protocol: {score.protocol}'])
    title = 'import the checkpoint' if published.source else 'import a checkpoint that you have'
    *words, path = card.import_command
    yield f'{title}:\n    {shlex.join(words[:-1])} \\\n        {words[-1]} {_short(Path(path))}'
