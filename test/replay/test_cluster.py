# Copyright 2026 rgbx_seg_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""Fleets on a Ray cluster, here one of this machine alone."""

import json
import os
import sys

import pytest
from rgbx_seg_ros.replay import cluster
from rgbx_seg_ros.replay.worker import work_silently
from support.fleets import run_inline, truncate, write_fleet
from support.replay_bags import write_pairs


def test_without_ray_the_command_says_how_to_get_it(tmp_path, tiny_card, command, monkeypatch):
    monkeypatch.setitem(sys.modules, 'ray', None)
    bags = write_fleet(tmp_path / 'bags', 'ab')
    code, _, err = command('replay', *bags, '--model', tiny_card, '-o', tmp_path / 'out', '--ray',
                           'auto')
    assert code == 2 and err.count('\n') == 1
    assert '--ray needs the library ray' in err and "pip install 'rgbx_seg_ros[fleet]'" in err


@pytest.mark.long
@pytest.mark.alone
def test_a_cluster_tells_what_one_process_tells(tmp_path, tiny_card, command, monkeypatch):
    """Of the bags one is cut off, and one kills its worker."""
    pytest.importorskip('ray', reason="needs pip install 'rgbx_seg_ros[fleet]'")
    monkeypatch.chdir(tmp_path)
    write_fleet(tmp_path / 'bags', 'abc')
    bags = ['bags/a', 'bags/b', 'bags/c', truncate(write_pairs(tmp_path / 'cut'))]
    options = ['--model', tiny_card, '--device', 'cpu']
    assert "--ray is 'auto', and no cluster answers there" in command(
        'replay', *bags, *options, '-o', 'none', '--ray', 'auto')[2]

    def deadly(task):
        if task.name == 'b':
            os.kill(os.getpid(), 9)
        return work_silently(task)
    on_ray = ['replay', *bags, *options, '-o', 'ray', '--ray', 'local', '--jobs', 2]
    with monkeypatch.context() as patch:
        patch.setattr(cluster, 'work_silently', deadly)
        code, _, err = command(*on_ray)
    assert code == 1 and 'rgbx-seg: failed: cut: ' in err
    assert 'rgbx-seg: failed: b: its worker has died: ' in err
    assert 'rgbx-seg: 2 of 4 bags could not be replayed' in err
    code, out, err = command(*on_ray, '--resume')
    assert code == 1 and 'rgbx-seg: 1 of 4 bags could not be replayed' in err
    assert '2 of 4 bags are done and have not changed' in out
    monkeypatch.setattr('rgbx_seg_ros.replay.command.run_here', run_inline)
    assert command('replay', *bags, *options, '-o', 'here')[0] == 1
    one, other = (json.loads((tmp_path / name / 'results.json').read_text())['totals']
                  for name in ('ray', 'here'))
    for name in ('pairs', 'scores', 'confusion', 'drops', 'mean_confidence', 'offset_ms'):
        assert one[name] == other[name], name
    assert one['pairs'] == 12
