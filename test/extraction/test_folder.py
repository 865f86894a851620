# Copyright 2026 rgbx_seg_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""The folder of extract: it goes on where it was left, and nothing of a user's is touched."""

import json
from pathlib import Path

import pytest
from rgbx_seg_ros.datasets import FolderDataset
from rgbx_seg_ros.errors import DataError
from rgbx_seg_ros.extraction import folder as folder_module
from rgbx_seg_ros.extraction.extract import Choice, extract
from rgbx_seg_ros.extraction.folder import Folder, JsonLines
from support.replay_bags import write_pairs

COUNT = 5


def content(path):
    """Return the bytes of each file below a folder but the lock's."""
    return {str(file.relative_to(path)): file.read_bytes()
            for file in path.rglob('*') if file.is_file() and file.name != '.lock'}


@pytest.fixture
def bag(tmp_path):
    return write_pairs(tmp_path / 'bag', COUNT)


@pytest.fixture
def whole(tmp_path, bag):
    """Return what an extraction leaves that nothing has stopped."""
    extract([bag], tmp_path / 'whole')
    return content(tmp_path / 'whole')


@pytest.mark.parametrize('step', range(2 * COUNT))
def test_an_interrupt_leaves_a_whole_folder_and_the_same_command_goes_on(
        tmp_path, bag, whole, monkeypatch, step):
    written = []
    real = folder_module.write_image

    def interrupted(path, image):
        if len(written) == step:
            raise KeyboardInterrupt
        written.append(path)
        real(path, image)

    out = tmp_path / 'out'
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(folder_module, 'write_image', interrupted)
        extract([bag], out)
    names = [json.loads(line)['name']
             for line in (out / 'manifest.jsonl').read_text().splitlines()]
    assert len(names) == step // 2
    assert {path.stem for side in ('rgb', 'x') for path in (out / side).iterdir()} == {*names}
    if names:
        assert FolderDataset(out).names == names
    report = extract([bag], out)
    assert (report.written, report.total) == (COUNT - step // 2, COUNT)
    assert content(out) == whole


def test_an_interrupt_behind_the_line_keeps_the_pair(tmp_path, bag, whole, monkeypatch):
    real = JsonLines.add

    def interrupted(self, facts):
        real(self, facts)
        raise KeyboardInterrupt

    out = tmp_path / 'out'
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(JsonLines, 'add', interrupted)
        extract([bag], out)
    assert len(FolderDataset(out)) == len((out / 'manifest.jsonl').read_text().splitlines()) == 1
    extract([bag], out)
    assert content(out) == whole


def test_a_process_that_was_killed_goes_on_whatever_it_left(tmp_path, bag, whole):
    out = tmp_path / 'out'
    extract([bag], out)
    lines = (out / 'manifest.jsonl').read_bytes()
    second = lines.index(b'\n') + 1
    for size in (0, 7, second - 1, second, second + 30, len(lines) - 1, len(lines)):
        (out / 'manifest.jsonl').write_bytes(lines[:size])
        for file in sorted((out / 'x').iterdir())[3:]:
            if size < second:
                file.unlink()
        report = extract([bag], out)
        assert report.written == COUNT - lines[:size].count(b'\n')
        assert content(out) == whole


def test_frames_that_the_user_has_thrown_away_do_not_come_back(tmp_path, bag):
    out = tmp_path / 'out'
    extract([bag], out)
    for side in ('rgb', 'x'):
        min((out / side).iterdir()).unlink()
    (out / 'dataset.yaml').write_text('x_kind: thermal\n')
    assert extract([bag], out).written == 0
    assert len(FolderDataset(out)) == COUNT - 1 and FolderDataset(out).X_KIND == 'thermal'


def test_a_folder_of_another_is_named_and_left_alone(tmp_path, bag):
    mine = tmp_path / 'mine'
    mine.mkdir()
    (mine / 'notes.txt').write_text('precious')
    with pytest.raises(DataError, match=r"mine' is not empty and has no extraction.json"):
        extract([bag], mine)
    with pytest.raises(DataError, match=r"notes.txt' exists already and is no folder"):
        extract([bag], mine / 'notes.txt')
    assert content(mine) == {'notes.txt': b'precious'}


def test_a_file_of_a_user_among_the_frames_is_named_and_kept(tmp_path, bag):
    out = tmp_path / 'out'
    extract([bag], out)
    [*_, last] = sorted((out / 'rgb').iterdir())
    last.write_bytes(b'precious')
    lines = (out / 'manifest.jsonl').read_bytes().splitlines(keepends=True)
    (out / 'manifest.jsonl').write_bytes(b''.join(lines[:-1]))
    with pytest.raises(DataError, match=f'{last.name}.*is of no rgbx-seg command'):
        extract([bag], out)
    assert last.read_bytes() == b'precious'


@pytest.mark.parametrize(('options', 'name'), [
    ({'choice': Choice(1.0)}, 'every_s'), ({'choice': Choice(0.0, 2.0)}, 'min_change'),
    ({'rgb_format': 'jpg'}, 'rgb_format')])
def test_other_options_do_not_go_on_in_the_folder(tmp_path, bag, options, name):
    out = tmp_path / 'out'
    extract([bag], out)
    before = content(out)
    with pytest.raises(DataError, match=rf"out' was extracted with {name} .*, now it is "):
        extract([bag], out, **options)
    with pytest.raises(DataError, match='was extracted with bags'):
        extract([write_pairs(tmp_path / 'other', 3)], out)
    assert content(out) == before


@pytest.mark.parametrize('text', ['', '[]', '{"extraction"', '{}'])
def test_a_damaged_folder_is_told_in_one_line(tmp_path, bag, text):
    extract([bag], tmp_path / 'out')
    (tmp_path / 'out' / 'extraction.json').write_text(text)
    with pytest.raises(DataError, match=r"extraction.json' is damaged: .*choose another --out"):
        extract([bag], tmp_path / 'out')


def test_a_damaged_line_is_told(tmp_path, bag):
    extract([bag], tmp_path / 'out')
    path = tmp_path / 'out' / 'manifest.jsonl'
    path.write_bytes(path.read_bytes().replace(b'"name"', b'"name', 1))
    with pytest.raises(DataError, match=r"manifest.jsonl' is damaged"):
        extract([bag], tmp_path / 'out')


def test_two_processes_do_not_write_one_folder(tmp_path, bag):
    with Folder(tmp_path / 'out', {}, 'x', None, 'png'):
        with pytest.raises(DataError, match="out' is being written by another process"):
            extract([bag], tmp_path / 'out')


def test_a_full_disk_is_one_line_and_the_manifest_stays_whole(tmp_path, bag, whole, monkeypatch):
    out = tmp_path / 'out'

    def full(self, content):
        if self.parent.name == 'rgb' and len([*self.parent.iterdir()]) == 2:
            raise OSError(28, 'No space left on device')
        return self.open('wb').write(content)

    with monkeypatch.context() as patch:
        patch.setattr(Path, 'write_bytes', full)
        with pytest.raises(DataError, match='No space left on device'):
            extract([bag], out)
    assert len(FolderDataset(out)) == len((out / 'manifest.jsonl').read_text().splitlines()) == 2
    extract([bag], out)
    assert content(out) == whole


def test_the_command_tells_that_it_goes_on(tmp_path, bag, command, monkeypatch):
    def interrupted(path, image):
        raise KeyboardInterrupt

    monkeypatch.setattr(folder_module, 'write_image', interrupted)
    code, _, err = command('extract', bag, '--out', tmp_path / 'out')
    assert code == 130
    assert err.endswith('manifest.jsonl tells what is there, and the same command goes on\n')
