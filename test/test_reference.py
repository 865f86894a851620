# Copyright 2026 rgbx_seg_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""The reference in docs/ is what the code says."""

import re

import pytest
import reference
from rgbx_seg_ros.projection.report import COUNTS, TIMES
from support.checkout import NAME, ROOT

PAGES = {path.name: path.read_text(encoding='utf-8') for path in reference.DOCS.glob('*.md')}
MADE = {name: [found[2] for found in reference.PART.finditer(text)]
        for name, text in PAGES.items() if 'made by' in text}


@pytest.mark.parametrize('name', MADE)
def test_what_is_made_of_the_code_is_up_to_date(name):
    assert reference.renewed(PAGES[name]) == PAGES[name], 'run python test/reference.py'


def test_every_part_stands_on_one_page():
    assert sorted(part for parts in MADE.values() for part in parts) == sorted(reference.PARTS)


def test_a_part_that_is_out_of_date_is_made_anew():
    old = ('# Page\n\n<!-- made by test/reference.py: exit codes -->\nold\n'
           '<!-- end of it -->\nmine\n')
    new = reference.renewed(old)
    assert '\n| 130 | interrupted with Ctrl-C |\n' in new and '\nold\n' not in new
    assert new.startswith('# Page\n\n<!--') and new.endswith('<!-- end of it -->\nmine\n')
    assert reference.renewed(new) == new


def test_what_the_projection_node_counts_and_times_is_what_its_table_has():
    """Names that come of no fault in a test as well: those that stand in the code."""
    told = re.compile(r"_(?:note|drop)\((?:'(\w+)' if \w+ else )?f?'([\w{}]+)'"
                      r"|_(?:counts|times)\[f?'([\w{}]+)'\]")
    found = {name for module in ('projection_run', 'projection_points') for names in told.findall(
        (ROOT / NAME / 'node' / f'{module}.py').read_text(encoding='utf-8')) for name in names}
    names = {name.format(name=kind) for name in found for kind in ('mask', 'confidence')}
    assert names - {''} == {*COUNTS, *TIMES, 'masks'}
