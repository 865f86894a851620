# Copyright 2026 rgbx_seg_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""What a mask costs on its way to a planner: the command, and what it may cost."""

import json

import pytest
from rgbx_seg_ros.benchmark import projection


def test_the_command_measures_every_task_and_fits_the_terminal(command, tmp_path):
    file = tmp_path / 'facts.json'
    code, out, _ = command('benchmark', '--projection', '--frames', '3', '--json', file)
    assert code == 0 and max(map(len, out.splitlines())) <= 80
    facts = json.loads(file.read_text())
    assert [row['name'] for row in facts['rows']] == ['grid', 'points', 'cloud']
    for row in facts['rows']:
        assert len(row['all_ms']) == 3 and row['best_ms'] <= row['p50_ms'] <= row['p99_ms']
        assert f'{row["p50_ms"]:.2f}' in out
    assert facts['points'] == 307_200


@pytest.mark.alone
@pytest.mark.parametrize(('task', 'most_ms'), [('grid', 3.0), ('points', 15.0), ('cloud', 30.0)])
def test_a_mask_is_projected_in_time(task, most_ms):
    """At its best of many, since other processes only add to it."""
    row = projection._row(task, projection._TASKS[task], 60)
    assert row['best_ms'] < most_ms
