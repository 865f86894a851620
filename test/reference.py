# Copyright 2026 rgbx_seg_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""
The parts of docs/ that are made of the code.

    python test/reference.py

writes them anew, between the comments that name them; test_reference.py holds that they are so.
"""

import argparse
import ast
from dataclasses import fields, MISSING
from functools import partial
from importlib import import_module
import inspect
from pathlib import Path
import re

from rgbx_seg_ros.__main__ import COMMANDS, EXIT_CODES
from rgbx_seg_ros.cards import card, labels
from rgbx_seg_ros.health.report import DIAGNOSTICS
from rgbx_seg_ros.parameters import markdown_table
from rgbx_seg_ros.projection.parameters import ProjectionParameters
from rgbx_seg_ros.projection.report import DIAGNOSTICS as PROJECTION

DOCS = Path(__file__).resolve().parents[1] / 'docs'
PART = re.compile(r'(<!-- made by test/reference\.py: (.+?) -->\n).*?(\n<!-- end of it -->)',
                  re.DOTALL)
CARD = {'card': card.Card, 'classes': labels.LabelClass, 'rgb': card.RgbInput, 'x': card.XInput,
        'window': card.Window, 'weights': card.Weights, 'onnx': card.Onnx,
        'published': card.Published, 'scores': card.PublishedScore}
TYPES = {'str': 'text', 'int': 'whole number', 'float': 'number', 'dict': 'mapping',
         **{kind.__name__: f'[{name}](#{name})' for name, kind in CARD.items()}}


def table(head, rows):
    """Return rows of cells as a table of Markdown."""
    return '\n'.join(f'| {" | ".join(row)} |' for row in (head, ['---'] * len(head), *rows))


# rgbx-seg


def verbs():
    """Return a heading for each verb, with what it does and a table of its options."""
    text = []
    for verb, (module, does) in COMMANDS.items():
        parser = argparse.ArgumentParser(prog=f'rgbx-seg {verb}',
                                         description=f'{does[0].upper()}{does[1:]}.')
        import_module(f'rgbx_seg_ros.{module}').add_arguments(parser)
        text += [f'## {verb}', *_described(parser)]
    return '\n\n'.join(text)


def _described(parser):
    """Yield the paragraphs about a parser and those below it; help as a whole varies by Python."""
    options = [action for action in parser._actions if action.dest != 'help']
    below = [action for action in options if isinstance(action, argparse._SubParsersAction)]
    if parser.description:
        yield parser.description
    if not below:
        words = [_named(action) for action in options if action.required or (
            not action.option_strings and action.nargs == '*')]
        rest = any(action.option_strings and not action.required for action in options)
        yield '```text\n' + ' '.join([parser.prog, *words, *['[OPTION ...]'] * rest]) + '\n```'
        if options:
            yield table(('argument', 'default', 'meaning'), map(_row, options))
    for action in below:
        for name, child in action.choices.items():
            yield f'### {parser.prog.partition(" ")[2]} {name}'
            yield from _described(child)


def _named(action):
    """Return the longest name of an option, and what follows it."""
    value = action.metavar or (
        f'{{{",".join(map(str, action.choices))}}}' if action.choices else action.dest.upper())
    value = ' '.join(value) if isinstance(value, tuple) else value
    value = {'+': f'{value} ...', '*': f'[{value} ...]', 0: ''}.get(action.nargs, value)
    return ' '.join([*action.option_strings[-1:], *[value] * bool(value)])


def _row(action):
    meaning = (action.help or '') % {**vars(action), 'prog': ''}
    default = re.search(r' ?\(?default: ([^()]*)\)?', meaning)
    names = [f'`{name}`' for name in action.option_strings[:-1]] + [f'`{_named(action)}`']
    return (', '.join(names), default[1] if default else '',
            meaning.replace(default[0], '') if default else meaning)


def exit_codes():
    """Return the table of what the exit codes of every verb mean."""
    return table(('exit code', 'means'), [(str(code), text) for code, text in EXIT_CODES.items()])


# Cards


def cards():
    """Return a heading and a table for the card and for each mapping in it."""
    text = []
    for heading, kind in CARD.items():
        described = {spec.name: spec for spec in fields(kind)
                     if spec.metadata.get('in_file', True)}
        text += [f'## {heading}', ' '.join(inspect.getdoc(kind).split()), table(
            ('field', 'type', 'default', 'meaning'),
            [(f'`{name}`', _type(annotation), _default(described[name]), meaning)
             for name, annotation, meaning in _fields(kind) if name in described])]
    return '\n\n'.join(text)


def _fields(kind):
    """Yield name, type and the string below of each field of a dataclass."""
    body = ast.parse(inspect.getsource(kind)).body[0].body
    for field, doc in zip(body, body[1:], strict=False):
        if isinstance(field, ast.AnnAssign):
            yield (field.target.id, ast.unparse(field.annotation).replace(' | None', ''),
                   ' '.join(doc.value.value.split()))


def _type(annotation):
    """Return an annotation in the words of YAML."""
    if not annotation.startswith('tuple['):
        return TYPES[annotation]
    kind, *others = annotation[6:-1].split(', ')
    return f'list ({TYPES[kind]})' if others == ['...'] else f'{1 + len(others)} numbers'


def _default(spec):
    if spec.default_factory is not MISSING:
        return 'empty'
    if spec.default is MISSING:
        return 'needed'
    return {None: 'none', (): 'empty', '': 'empty'}.get(spec.default, f'`{spec.default}`')


# Diagnostics


def keys(meanings):
    """Return the table of names and what they mean."""
    return table(('key', 'meaning'), [(f'`{name}`', text) for name, text in meanings.items()])


PARTS = {
    'parameters of seg_node': markdown_table,
    'parameters of seg_projection': partial(markdown_table, ProjectionParameters),
    'verbs': verbs,
    'exit codes': exit_codes,
    'cards': cards,
    **{f'diagnostics of {section}': partial(keys, meanings)
       for section, meanings in (*DIAGNOSTICS.items(), ('projection', PROJECTION))},
}


def renewed(text):
    """Return a page with the parts of it that are made of the code as they are now."""
    return PART.sub(lambda found: f'{found[1]}\n{PARTS[found[2]]()}\n{found[3]}', text)


if __name__ == '__main__':
    for path in sorted(DOCS.glob('*.md')):
        old = path.read_text(encoding='utf-8')
        new = renewed(old)
        if new != old:
            path.write_text(new, encoding='utf-8')
            print(f'{path.name}: made anew')
