# Copyright 2026 rgbx_seg_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""Files appear whole or not at all, and what is read is not written over."""

import json
import os

import pytest
from rgbx_seg_ros.errors import DataError
from rgbx_seg_ros.files import appearing, check_output, JSON_FORMAT, write_json, write_text


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
    with pytest.raises(OSError, match='No space left'), appearing(path) as part:
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
    assert json.loads(path.read_text(encoding='utf-8')) == {'format': 1, 'bag': name}
    assert JSON_FORMAT == 1 and path.read_text().startswith('{\n  "format": 1,\n')


def test_an_output_that_cannot_be_is_told_before_the_work(tmp_path):
    read, link = tmp_path / 'rgb.png', tmp_path / 'link.png'
    read.write_text('')
    link.symlink_to(read)
    check_output(tmp_path / 'new.png', [read, tmp_path / 'none'])
    for path, said in ((tmp_path / 'nowhere' / 'a.png', 'its folder does not exist'),
                       (tmp_path, 'it is a folder'), (read, 'it is what is read'),
                       (link, 'it is what is read')):
        with pytest.raises(DataError, match=said):
            check_output(path, [read])
