# Copyright 2026 rgbx_seg_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""Archives of tools: read in place, never beyond their folder or their size."""

import tracemalloc
import zipfile

import pytest
from rgbx_seg_ros.errors import DataError
from rgbx_seg_ros.labelling.archive import Archive, ZipWriter


@pytest.fixture(params=['zip', 'folder'])
def archive(request, tmp_path):
    """Return an archive with a few files, two of them hidden."""
    files = {'a/b.png': b'bytes', 'top.txt': b'text', 'a/._b.png': b'of macOS', '.hidden': b''}
    path = tmp_path / 'made'
    if request.param == 'zip':
        with zipfile.ZipFile(path, 'w') as made:
            for name, content in files.items():
                made.writestr(name, content)
    else:
        for name, content in files.items():
            (path / name).parent.mkdir(parents=True, exist_ok=True)
            (path / name).write_bytes(content)
    with Archive(path) as opened:
        yield opened


def test_files_are_listed_and_read_without_the_hidden_ones(archive):
    assert archive.names == ['a/b.png', 'top.txt']
    assert archive.read('a/b.png', 5) == b'bytes'
    assert archive.has('a/b.png') and not archive.has('a/c.png')
    with pytest.raises(DataError, match="there is no 'a/c.png' in "):
        archive.read('a/c.png', 5)


def test_a_file_may_not_be_larger_than_it_can_need(archive):
    with pytest.raises(DataError, match="'a/b.png' .*more than the 4 bytes"):
        archive.read('a/b.png', 4)


@pytest.mark.parametrize('name', ['../a.png', 'a/../../b.png', '/etc/a.png', r'..\a.png',
                                  r'C:\a.png', 'a/..'])
def test_a_name_that_leads_out_is_refused(name, tmp_path):
    with zipfile.ZipFile(tmp_path / 'out.zip', 'w') as made:
        made.writestr(name, b'')
    with Archive(tmp_path / 'out.zip') as archive, pytest.raises(DataError, match='outside of it'):
        archive.names  # noqa: B018


def test_backslashes_of_windows_part_folders(tmp_path):
    with zipfile.ZipFile(tmp_path / 'w.zip', 'w') as made:
        info = zipfile.ZipInfo('x')
        info.filename = r'a\b.png'
        made.writestr(info, b'1')
    with Archive(tmp_path / 'w.zip') as archive:
        assert archive.names == ['a/b.png'] and archive.read('a/b.png', 1) == b'1'


def test_a_bomb_is_read_no_further_than_it_may_be(tmp_path):
    with zipfile.ZipFile(tmp_path / 'bomb.zip', 'w', zipfile.ZIP_DEFLATED) as made:
        made.writestr('a.png', bytes(1 << 24))
    tracemalloc.start()
    try:
        with Archive(tmp_path / 'bomb.zip') as archive, pytest.raises(DataError, match='1000 '):
            archive.read('a.png', 1000)
        assert tracemalloc.get_traced_memory()[1] < 1 << 20
    finally:
        tracemalloc.stop()


def test_what_is_no_archive_is_told(tmp_path):
    (tmp_path / 'a.zip').write_bytes(b'PK nothing')
    with pytest.raises(DataError, match='neither a folder nor a zip'):
        Archive(tmp_path / 'a.zip')
    with pytest.raises(DataError, match="cannot read .*none.zip': No such file"):
        Archive(tmp_path / 'none.zip')


def test_a_damaged_file_in_a_zip_is_told(tmp_path):
    with zipfile.ZipFile(tmp_path / 'a.zip', 'w') as made:
        made.writestr('a.png', b'bytes')
    content = (tmp_path / 'a.zip').read_bytes().replace(b'bytes', b'bytez')
    (tmp_path / 'a.zip').write_bytes(content)
    with Archive(tmp_path / 'a.zip') as archive, pytest.raises(DataError, match='Bad CRC'):
        archive.read('a.png', 10)


def test_the_same_file_twice_is_refused(tmp_path):
    with zipfile.ZipFile(tmp_path / 'a.zip', 'w') as made:
        made.writestr('a.png', b'1')
        with pytest.warns(UserWarning, match='Duplicate'):
            made.writestr('a.png', b'2')
    with Archive(tmp_path / 'a.zip') as archive, pytest.raises(DataError, match="'a.png' twice"):
        archive.names  # noqa: B018


def test_a_zip_that_is_written_is_always_the_same(tmp_path):
    for name in ('a.zip', 'b.zip'):
        with ZipWriter(tmp_path / name) as writer:
            writer.add('t\xfc/a.txt', b'text ' * 100)
            writer.add('a.png', b'picture')
    assert (tmp_path / 'a.zip').read_bytes() == (tmp_path / 'b.zip').read_bytes()
    with zipfile.ZipFile(tmp_path / 'a.zip') as made:
        assert made.namelist() == ['t\xfc/a.txt', 'a.png']
        assert made.getinfo('a.png').external_attr >> 16 == 0o644
        assert made.getinfo('t\xfc/a.txt').compress_size < 100
