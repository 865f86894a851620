# Copyright 2026 rgbx_seg_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""Tables of text: columns lie below each other, lines are short, words and paths whole."""

import pytest
from rgbx_seg_ros.tables import aligned, figures, WIDTH, wrapped


def test_columns_are_as_wide_as_their_widest_cell_and_flush_at_their_side():
    assert aligned([('a', '1', 'x'), ('long', '22.5', ''), ('', '', 'xy')], '<>>') == [
        'a        1   x', 'long  22.5    ', '            xy']
    assert aligned([('a', '1'), ('bc', '22')], '<>', gap=' | ') == ['a  |  1', 'bc | 22']


def test_prose_in_the_last_column_is_wrapped_below_itself():
    prose = 'word ' * 30
    first, second = aligned([('name', '12', prose), ('n', '1', '')], '<><')
    lines = first.splitlines()
    assert len(lines) == 3 and max(map(len, lines)) <= WIDTH
    assert lines[0].startswith('name  12  word') and lines[1].startswith(' ' * 10 + 'word')
    assert ' '.join(first.split()) == f'name 12 {prose.strip()}'
    assert second == 'n      1'


def test_paths_and_words_stay_whole():
    path = '/a-very-long/' + 'path-' * 20
    text = wrapped(f'wrote some words that fill a line {path} and more', indent='    ')
    assert text.splitlines() == [
        'wrote some words that fill a line', f'    {path}', '    and more']
    assert wrapped('a', '  * ') == '  * a' and wrapped('', '  * ') == '  *'


def test_figures_stand_behind_their_names():
    assert figures([('class', 'IoU', 'recall'), ('car', '100.0', 'n/a'), ('bike', '7.5', '1.0')]
                   ).splitlines() == ['class    IoU  recall', 'car    100.0     n/a',
                                      'bike     7.5     1.0']


@pytest.mark.parametrize('count', [1, 7, 8, 9, 40])
def test_more_columns_than_fit_stand_in_tables_below(count):
    titles = [f'split{i:03}' for i in range(count)]
    cells = [('a class', *titles), ('b', *(f'{i}.25' for i in range(count)))]
    tables = [table.splitlines() for table in figures(cells).split('\n\n')]
    assert max(len(line) for table in tables for line in table) <= WIDTH
    assert [word for head, _ in tables for word in head.split()[2:]] == titles
    assert [word for _, row in tables for word in row.split()[1:]] == list(cells[1][1:])
    # 7 of each 7 + 2 + 8 columns: as many as fit, and no more tables than that takes.
    assert len(tables) == -(-count // 7)
    assert {head[:7] for head, _ in tables} == {'a class'}


def test_a_column_wider_than_the_terminal_stands_by_itself():
    wide = 'x' * 100
    assert figures([('n', 'a', wide, 'b'), ('m', '1', '2', '3')]).count('\n\n') == 2
