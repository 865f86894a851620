# Copyright 2026 rgbx_seg_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""No verb writes over a file that a user has, whatever its option is called."""

import pytest
from rgbx_seg_ros.__main__ import COMMANDS
from rgbx_seg_ros.resources import share_dir

DEMO = share_dir() / 'demo'
PAIR = (DEMO / 'rgb' / '00537D.jpg', DEMO / 'thermal' / '00537D.png')
MODEL = 'msrs_scene'
FILES = [
    ('import-weights', share_dir() / 'models' / f'{MODEL}.safetensors', '--network', 'ms_irtnet',
     '-o'),
    ('predict', *PAIR, '-o'), ('predict', *PAIR, '--mask'), ('predict', *PAIR, '--fused'),
    ('export', MODEL, '-o'),
    ('evaluate', '--data', DEMO, '--json'), ('evaluate', '--data', DEMO, '--report'),
    ('compare', 'a.json', 'b.json', '--plot'),
    ('data', 'check', DEMO, '--dataset', 'folder', '--sheet'),
    ('evaluate', '--data', DEMO, '--junit'), ('evaluate', '--data', DEMO, '--rerun'),
    ('replay', 'bag', '--json'), ('replay', 'bag', '--report'), ('replay', 'bag', '--junit'),
    ('replay', 'bag', '--rerun'),
    ('golden', MODEL, *PAIR, '-o'),
    ('calibrate', DEMO, '-o'), ('calibrate', DEMO, '--picture'),
    ('benchmark', '--json'),
]
FOLDERS = [
    ('train', share_dir() / 'config' / 'train' / f'{MODEL}.yaml', '--data', DEMO, '--out'),
    ('label-boxes', DEMO, '--out'), ('label-rest', DEMO, '--model', MODEL, '--out'),
    ('make-bag', DEMO), ('extract', 'bag', '--out'), ('demo', '--out'),
    ('labels', 'export', DEMO, '--model', MODEL, '--out'),
]
READERS = {'models', 'doctor', 'top', 'view'}


def test_every_verb_is_held():
    assert {verb for verb, *_ in FILES + FOLDERS} | READERS == set(COMMANDS)


@pytest.mark.parametrize('words', FILES, ids=lambda words: f'{words[0]} {words[-1]}')
def test_a_file_of_a_user_is_named_and_kept(words, tmp_path, monkeypatch, command):
    monkeypatch.chdir(tmp_path)
    out = tmp_path / 'mine.safetensors'
    out.write_text('precious')
    code, _, err = command(*words, out)
    assert code == 2 and f'{str(out)!r}' in err and 'exists already' in err
    assert out.read_text() == 'precious' and list(tmp_path.iterdir()) == [out]


@pytest.mark.parametrize('words', FOLDERS, ids=lambda words: words[0])
def test_a_folder_of_a_user_is_named_and_kept(words, tmp_path, command):
    if words[0] == 'demo':
        pytest.importorskip('rclpy', reason='it needs rclpy')
    out = tmp_path / 'mine'
    out.mkdir()
    for name in ('config.yaml', 'metrics.json', 'metadata.yaml', '00537D.png'):
        (out / name).write_text('precious')
    code, _, err = command(*words, out)
    assert code == 2 and str(out) in err
    assert {path.read_text() for path in out.iterdir()} == {'precious'}
    assert len(list(out.iterdir())) == 4 and list(tmp_path.iterdir()) == [out]
