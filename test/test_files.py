# Copyright 2026 rgbx_seg_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""Files appear whole or not at all, and what a user has is not written over."""

import json
import os
from pathlib import Path

import pytest
from rgbx_seg_ros.errors import DataError
from rgbx_seg_ros.files import (
    appearing,
    check_outputs,
    JSON_FORMAT,
    MARK,
    move_in,
    remove_parts,
    staging,
    write_json,
    write_text,
)


def test_a_file_takes_its_name_when_it_is_whole(tmp_path):
    path = tmp_path / 'scores.json'
    path.write_text('old')
    with appearing(path) as part:
        part.write_text('new')
        assert (path.read_text(), part.suffix, part.parent) == ('old', '.json', tmp_path)
    assert path.read_text() == 'new'
    assert os.listdir(tmp_path) == ['scores.json']


@pytest.mark.parametrize('moment', ['while it is written', 'while it takes its name'])
def test_what_fails_leaves_the_old_file_and_nothing_else(moment, tmp_path, monkeypatch):
    path = tmp_path / 'scores.json'
    path.write_text('old')

    def full_disk(source, target):
        raise OSError(28, 'No space left on device')

    monkeypatch.setattr('rgbx_seg_ros.files.os.replace', full_disk)
    with pytest.raises(OSError, match=f'No space left.*{path}'), appearing(path) as part:
        part.write_text('half')
        if moment == 'while it is written':
            full_disk(part, path)
    assert path.read_text() == 'old'
    assert os.listdir(tmp_path) == ['scores.json']


def test_it_is_on_the_disk_before_it_takes_its_name(tmp_path, monkeypatch):
    done = []
    for name in ('fsync', 'replace'):
        real = getattr(os, name)
        monkeypatch.setattr(f'rgbx_seg_ros.files.os.{name}', lambda *args, name=name, real=real: (
            done.append(name), real(*args)))
    with appearing(tmp_path / 'a') as part:
        part.write_text('new')
    assert done == ['fsync', 'replace', 'fsync']


def test_a_link_stays_one_and_its_file_is_replaced(tmp_path):
    (tmp_path / 'folder').mkdir()
    path, link = tmp_path / 'folder' / 'scores.json', tmp_path / 'link.json'
    link.symlink_to(path)
    for text in ('old', 'new'):
        with appearing(link) as part:
            part.write_text(text)
        assert link.is_symlink() and path.read_text() == text
    assert os.listdir(tmp_path / 'folder') == ['scores.json']


def test_a_pipe_is_written_and_stays_one(tmp_path):
    """As are devices: /dev/stdout and /dev/null must not become files."""
    pipe = tmp_path / 'pipe'
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    with appearing(pipe) as part:
        part.write_text('new')
    assert os.read(reader, 9) == b'new' and pipe.is_fifo()
    os.close(reader)


def test_a_text_is_whole_also_where_a_name_in_it_is_no_utf_8(tmp_path):
    path = tmp_path / 'page.html'
    write_text(path, os.fsdecode(b'Stra\xdfe ') + 'Straße')
    assert path.read_text(encoding='utf-8') == 'Stra\\udcdfe Straße'
    with pytest.raises(DataError, match="cannot write '.*none/page.html': No such file"):
        write_text(tmp_path / 'none' / 'page.html', '')


def test_json_begins_with_its_format_and_carries_names_that_are_no_utf_8(tmp_path):
    path, name = tmp_path / 'scores.json', os.fsdecode(b'Stra\xdfe')
    write_json(path, {'bag': name})
    assert json.loads(path.read_text(encoding='utf-8')) == {
        'format': 1, 'comment': MARK, 'bag': name}
    assert JSON_FORMAT == 1 and path.read_text().startswith('{\n  "format": 1,\n')


def test_what_killed_processes_have_left_is_removed_and_nothing_else(tmp_path):
    with pytest.raises(KeyError), appearing(tmp_path / 'last.pt') as part:
        raise KeyError
    kept = ['.last.7.part.txt', '.lasting.7.part.pt', 'last.pt']
    for name in (part.name, '.last.7.part.pt', *kept):
        (tmp_path / name).write_text('')
    remove_parts(tmp_path / 'last.pt')
    assert sorted(os.listdir(tmp_path)) == kept


def test_the_file_before_is_kept_where_that_is_wanted(tmp_path):
    path, previous = tmp_path / 'last', tmp_path / 'previous'
    for text in '123':
        with appearing(path, previous) as part:
            part.write_text(text)
    assert (path.read_text(), previous.read_text()) == ('3', '2')
    assert sorted(os.listdir(tmp_path)) == ['last', 'previous']


def test_an_output_that_cannot_be_is_told_before_the_work(tmp_path):
    read, link = tmp_path / 'rgb.png', tmp_path / 'link.png'
    read.write_text(MARK)
    link.symlink_to(read)
    check_outputs([tmp_path / 'new.png', None], [read, tmp_path / 'none'])
    for path, said in ((tmp_path / 'nowhere' / 'a.png', 'its folder does not exist'),
                       (tmp_path, 'it is a folder'), (read, 'it is what is read'),
                       (link, 'it is what is read')):
        with pytest.raises(DataError, match=said):
            check_outputs([tmp_path / 'new.png', path], [read])


@pytest.mark.parametrize('content', [
    'mine', 'x' * (3 << 20), 'x' * (2 << 20) + MARK + 'x' * (2 << 20)])
def test_a_file_of_a_user_is_not_written_over(content, tmp_path):
    path = tmp_path / 'mine.json'
    path.write_text(content)
    with pytest.raises(DataError, match="'.*mine.json': it exists already and is of no rgbx-seg"):
        check_outputs([path])


@pytest.mark.parametrize('content', [
    '', MARK, MARK + 'x' * (3 << 20), 'x' * (3 << 20) + MARK, '{"source_sha256":"abc"'])
def test_an_earlier_output_is_written_over_and_so_is_an_empty_file(content, tmp_path):
    (tmp_path / 'old.json').write_text(content)
    check_outputs([tmp_path / 'old.json'])


def test_two_outputs_have_two_names_unless_they_go_to_a_device(tmp_path):
    check_outputs([tmp_path / 'a', tmp_path / 'b', *[Path(os.devnull)] * 2])
    with pytest.raises(DataError, match="/a': it is named for two outputs"):
        check_outputs([tmp_path / 'a', tmp_path / '..' / tmp_path.name / 'a'])


@pytest.mark.parametrize('is_there', [False, True])
def test_staged_files_come_to_their_folder_together(is_there, tmp_path):
    folder = tmp_path / 'label'
    if is_there:
        folder.mkdir()
        (folder / 'a').write_text('old')
        (folder / 'mine').write_text('kept')
    with staging(folder) as part:
        for name in 'ab':
            (part / name).write_text('new')
        assert (folder / 'a').exists() == is_there and part.name.startswith('.')
        move_in(part, folder)
    found = {path.name: path.read_text() for path in folder.iterdir()}
    assert found == {'a': 'new', 'b': 'new', **({'mine': 'kept'} if is_there else {})}
    assert os.listdir(tmp_path) == ['label']


def test_what_was_staged_and_not_moved_vanishes(tmp_path):
    with pytest.raises(KeyboardInterrupt), staging(tmp_path / 'label') as part:
        (part / 'a').write_text('new')
        raise KeyboardInterrupt
    assert os.listdir(tmp_path) == []
