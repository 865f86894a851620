# Copyright 2026 rgbx_seg_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""The state on disk: whatever happens to a file, the newest whole state is found, or told."""

import os

import pytest
from rgbx_seg_ros.errors import DataError
from rgbx_seg_ros.training.state import read_state, write_state
import torch


def state(step):
    return {'step': step, 'tensor': torch.full((100,), float(step))}


@pytest.fixture
def folder(tmp_path):
    for step in (1, 2, 3):
        write_state(state(step), tmp_path)
    return tmp_path


def test_the_last_two_states_are_kept_and_nothing_else(folder):
    assert sorted(path.name for path in folder.iterdir()) == ['last.pt', 'previous.pt']
    found, path = read_state(folder)
    assert (found['step'], path.name) == (3, 'last.pt')
    assert torch.equal(found['tensor'], state(3)['tensor'])


def test_an_empty_folder_has_no_state(tmp_path):
    assert read_state(tmp_path) is None
    assert read_state(tmp_path / 'none') is None


def flip_a_bit(content):
    at = content.index(torch.full((100,), 3.0).numpy().tobytes()) + 42
    return content[:at] + bytes([content[at] ^ 1]) + content[at + 1:]


@pytest.mark.parametrize('damage', [
    flip_a_bit, lambda content: content[:-1], lambda content: content[:100], lambda content: b'',
    lambda content: b'\0' * len(content)])
def test_a_damaged_state_is_noticed_and_the_one_before_serves(folder, damage):
    last = folder / 'last.pt'
    last.write_bytes(damage(last.read_bytes()))
    found, path = read_state(folder)
    assert (found['step'], path.name) == (2, 'previous.pt')
    (folder / 'previous.pt').write_bytes(b'nothing')
    with pytest.raises(DataError, match="last.pt' is not the state of this training: remove it"):
        read_state(folder)


def test_a_state_that_would_run_code_is_refused(tmp_path):
    torch.save({'step': os.system}, tmp_path / 'last.pt')
    with pytest.raises(DataError, match='is not the state of this training'):
        read_state(tmp_path)


@pytest.mark.parametrize('fatal', [1, 2])
def test_a_kill_between_two_names_loses_nothing(folder, monkeypatch, fatal):
    replace, calls = os.replace, []

    def die(*paths):
        calls.append(paths)
        if len(calls) == fatal:
            raise KeyboardInterrupt
        replace(*paths)
    monkeypatch.setattr(os, 'replace', die)
    with pytest.raises(KeyboardInterrupt):
        write_state(state(4), folder)
    monkeypatch.undo()
    assert read_state(folder)[0]['step'] == 3
    write_state(state(5), folder)
    assert read_state(folder)[0]['step'] == 5


def test_a_full_disk_is_told_with_the_file_and_loses_nothing(folder, monkeypatch):
    """The words of PyTorch itself are about a position in its archive."""
    monkeypatch.setattr('pathlib.Path.open', lambda *_: open('/dev/full', 'wb', buffering=0))
    with pytest.raises(DataError, match="write '.*/last.pt': No space left on device; make room"):
        write_state(state(4), folder)
    monkeypatch.undo()
    assert read_state(folder)[0]['step'] == 3
    assert sorted(os.listdir(folder)) == ['last.pt', 'previous.pt']


def test_an_error_that_is_none_of_the_disk_stays_itself(folder, monkeypatch):
    def fail(*_):
        raise RuntimeError('cannot store this')
    monkeypatch.setattr(torch, 'save', fail)
    with pytest.raises(RuntimeError, match='cannot store this'):
        write_state(state(4), folder)


def test_what_a_killed_training_has_left_is_removed(folder):
    (folder / '.last.7.part.pt').write_bytes(b'half')
    write_state(state(4), folder)
    assert sorted(os.listdir(folder)) == ['last.pt', 'previous.pt']


def test_a_kill_while_it_is_written_loses_nothing(folder, monkeypatch):
    def die(content, file):
        file.write(b'PK')
        raise KeyboardInterrupt
    monkeypatch.setattr(torch, 'save', die)
    with pytest.raises(KeyboardInterrupt):
        write_state(state(4), folder)
    assert read_state(folder)[0]['step'] == 3
