# Copyright 2026 rgbx_seg_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""`rgbx-seg models`: what models there are and what their cards say."""

import textwrap

from rgbx_seg_ros.card import list_cards, load_card


def add_arguments(parser):
    """Declare the command's arguments."""
    parser.add_argument('model', nargs='?', help='name of a model or path of a card; none: list')


def main(args):
    """Run the command."""
    if args.model:
        print(_describe(load_card(args.model)))
        return
    for name in list_cards():
        card = load_card(name)
        state = 'ready' if card.weights and card.weights_path.is_file() else 'no weights on disk'
        print(f'{name}  ({card.network}, RGB + {card.x.kind}, {len(card.classes)} classes, '
              f'{state})')
        print(textwrap.fill(card.description, 79, initial_indent='    ',
                            subsequent_indent='    ', break_on_hyphens=False))


def _describe(card):
    height, width = card.input_size
    sections = [
        f'{card.name}: {card.network} {card.network_args or ""}'.rstrip(),
        f'input {width}x{height} pixels, RGB + {card.x.kind}',
        'classes: ' + ', '.join(f'{label.id} {label.name}' for label in card.classes),
        card.description.strip(), card.training.strip()]
    lines = [textwrap.fill(text, 79, break_on_hyphens=False) for text in sections if text]
    for title, facts in (('licenses', card.licenses), ('scores', card.scores)):
        lines += [f'{title}:'] * bool(facts)
        lines += [textwrap.fill(f'{name}: {fact}', 79, initial_indent='    ',
                                subsequent_indent='        ', break_on_hyphens=False)
                  for name, fact in facts.items()]
    return '\n'.join(lines)
