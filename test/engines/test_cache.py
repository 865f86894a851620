# Copyright 2026 rgbx_seg_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""The files of engines: named by all they depend on, written by one, whole or not at all."""

import contextlib
from dataclasses import replace
import errno
import fcntl
import io
import json
import os
from pathlib import Path
import select
import signal
import subprocess
import tempfile
import threading
import warnings

import pytest
import rgbx_seg_ros
from rgbx_seg_ros.cards.card import load_card
from rgbx_seg_ros.engines import cache
from rgbx_seg_ros.engines.model_files import card_text, FrameKind
from rgbx_seg_ros.errors import EngineError
import torch


def test_of_two_processes_that_want_a_model_one_makes_it(tiny_card, tmp_path, monkeypatch):
    written, both = [], threading.Barrier(2)

    def write(network, card, path, kind):
        written.append(path)
        path.write_text('a model')

    def build():
        both.wait()
        cache.build(card, None, tmp_path / 'a' / 'm.onnx')
    monkeypatch.setattr(cache, 'write_onnx', write)
    card = load_card(tiny_card)
    threads = [threading.Thread(target=build) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(written) == 1
    assert {one.name for one in (tmp_path / 'a').iterdir()} == {'.lock', 'm.onnx', 'm.sha256'}


def test_a_build_that_fails_leaves_nothing_and_the_next_one_tidies_up(
        tiny_card, tmp_path, monkeypatch):
    def fail(network, card, path, *_):
        path.write_text('half')
        raise EngineError('no')
    monkeypatch.setattr(cache, 'write_onnx', fail)
    (tmp_path / '.n.1.part.onnx').write_text('of one that was killed')
    for name, days in (('old', cache.UNUSED_DAYS + 1), ('new', cache.UNUSED_DAYS - 1)):
        (tmp_path / f'{name}.tensorrt').mkdir()
        for path in (tmp_path / f'{name}.onnx', tmp_path / f'{name}.sha256'):
            path.write_text(name)
        (tmp_path / f'{name}_named.tensorrt').mkdir()
        seen = path.stat().st_mtime - days * 24 * 3600
        for path in (tmp_path / f'{name}.onnx', tmp_path / f'{name}_named.tensorrt'):
            os.utime(path, (seen, seen))
    with pytest.raises(EngineError, match='no'):
        cache.build(load_card(tiny_card), None, tmp_path / 'm.onnx')
    assert {one.name for one in tmp_path.iterdir()} == {
        '.lock', 'new.onnx', 'new.sha256', 'new.tensorrt', 'new_named.tensorrt'}


def test_a_model_has_another_name_for_other_weights_versions_and_frames(
        tiny_card, write_card, monkeypatch):
    kind = FrameKind((70, 90), (50, 60))
    card = load_card(tiny_card)
    paths = {cache.cached_path(card, kind, '1', '.onnx')}
    paths.add(cache.cached_path(card, kind, '1', '.onnx'))
    assert len(paths) == 1
    paths.add(cache.cached_path(card, kind, '2', '.onnx'))
    paths.add(cache.cached_path(card, kind._replace(x_type='uint16'), '1', '.onnx'))
    paths.add(cache.cached_path(load_card(write_card()), kind, '1', '.onnx'))
    by_a_rig = replace(card, x=replace(card.x, invalid=7.0))
    paths.add(cache.cached_path(by_a_rig, kind, '1', '.onnx'))
    for module in (torch, rgbx_seg_ros):
        monkeypatch.setattr(module, '__version__', '9')
        paths.add(cache.cached_path(card, kind, '1', '.onnx'))
    other = write_card(weights={'file': 'w.safetensors'})
    content = tiny_card.with_suffix('.safetensors').read_bytes()
    other.with_name('w.safetensors').write_bytes(content)
    paths.add(cache.cached_path(load_card(other), kind, '1', '.onnx'))
    other.with_name('w.safetensors').write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    paths.add(cache.cached_path(load_card(other), kind, '1', '.onnx'))
    assert len(paths) == 9


@pytest.fixture
def write(monkeypatch):
    """Let a build write a text instead of a model."""
    monkeypatch.setattr(cache, 'write_onnx',
                        lambda network, card, path, kind: path.write_text('a model'))


def test_what_another_process_discards_does_not_stop_a_build(write, tiny_card, tmp_path):
    # A link into nothing: it is listed, and no longer there when one looks.
    for name in ('gone.onnx', 'gone.so', 'named.tensorrt'):
        (tmp_path / name).symlink_to(tmp_path / 'nothing')
    cache.build(load_card(tiny_card), None, tmp_path / 'm.onnx')
    assert cache.is_intact(tmp_path / 'm.onnx')


def test_the_lock_works_where_one_must_be_able_to_write_what_one_locks(
        write, tiny_card, tmp_path, monkeypatch):
    flock = fcntl.flock

    def as_on_nfs(handle, operation):
        if fcntl.fcntl(handle, fcntl.F_GETFL) & os.O_ACCMODE == os.O_RDONLY:
            raise OSError(errno.EBADF, 'Bad file descriptor')
        flock(handle, operation)
    monkeypatch.setattr(fcntl, 'flock', as_on_nfs)
    cache.build(load_card(tiny_card), None, tmp_path / 'm.onnx')
    assert cache.is_intact(tmp_path / 'm.onnx')


def test_a_file_that_cannot_be_touched_is_as_good(write, tiny_card, tmp_path, monkeypatch):
    cache.build(load_card(tiny_card), None, tmp_path / 'm.onnx')

    def refuse(path):
        raise OSError(errno.EROFS, 'Read-only file system')
    monkeypatch.setattr(os, 'utime', refuse)
    assert cache.is_intact(tmp_path / 'm.onnx')
    (tmp_path / 'm.onnx').write_text('another one')
    assert not cache.is_intact(tmp_path / 'm.onnx')


def test_a_build_is_in_no_folder_of_others_and_finds_the_card_all_the_same(
        tiny_card, tmp_path, monkeypatch):
    started = {}

    def start(command, **options):
        started.update(options)
        raise OSError('no build in this test')
    monkeypatch.setattr(subprocess, 'Popen', start)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv('RGBX_SEG_MODELS', 'mine')
    with pytest.raises(OSError, match='no build'):
        cache.start_build(load_card(tiny_card), None, Path('m.onnx'))
    assert started['cwd'] == '/'
    assert started['env'].items() >= {
        'RGBX_SEG_MODELS': str(tmp_path / 'mine'), 'OMP_NUM_THREADS': '1',
        'TORCHINDUCTOR_COMPILE_THREADS': '1', 'CUDA_VISIBLE_DEVICES': ''}.items()


def test_a_build_leaves_the_cores_to_others_and_its_files_to_nobody(
        tiny_card, tmp_path, monkeypatch):
    asked, seen = {}, []
    for module, name in ((os, 'nice'), (os, 'umask'), (signal, 'signal')):
        monkeypatch.setattr(module, name, lambda *values, name=name: asked.update({name: values}))

    def build(card, kind, path, **options):
        seen.append((card, kind, path, options))
        assert tempfile.gettempdir() == os.environ['TMPDIR'] == os.environ[
            'TORCHINDUCTOR_CACHE_DIR']
        Path(tempfile.mkdtemp(), 'of the compiler').touch()
        raise EngineError('it fails')
    for name in ('TMPDIR', 'TORCHINDUCTOR_CACHE_DIR'):
        monkeypatch.setenv(name, str(tmp_path))
    monkeypatch.setattr(tempfile, 'tempdir', None)
    monkeypatch.setattr(cache, 'build', build)
    card, kind = load_card(tiny_card), FrameKind((70, 90), (50, 60), 3, 'uint16')
    monkeypatch.setattr('sys.stdin', io.StringIO(json.dumps({
        'card': card_text(card), 'folder': str(card.folder), 'kind': kind, 'path': '/a/m.so',
        'options': {'threads': 3}})))
    with warnings.catch_warnings(), pytest.raises(SystemExit, match='^it fails$'):
        cache.main()
    assert seen == [(card, kind, Path('/a/m.so'), {'threads': 3})]
    assert asked['nice'] == (10,) and asked['umask'] == (0o077,)
    assert not list(tmp_path.iterdir())


def test_a_build_ends_with_what_it_has_started():
    process = subprocess.Popen(['sh', '-c', 'sleep 600 & echo ready; wait'], text=True,
                               stdout=subprocess.PIPE, start_new_session=True)
    try:
        assert process.stdout.readline() == 'ready\n'
        cache.end(process)
        assert select.select([process.stdout], [], [], 60)[0], 'its child still has the pipe'
        assert process.stdout.read() == ''
        assert process.wait() < 0
        cache.end(process)  # it does no harm
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)


def test_what_was_made_of_a_damaged_file_goes_with_it(write, tiny_card, tmp_path):
    path = tmp_path / 'm.onnx'
    cache.build(load_card(tiny_card), None, path)
    cache.tensorrt_path(path).mkdir()
    cache.build(load_card(tiny_card), None, path)
    assert cache.tensorrt_path(path).exists()
    path.write_text('damaged')
    cache.build(load_card(tiny_card), None, path)
    assert cache.is_intact(path)
    assert not cache.tensorrt_path(path).exists()


def test_the_folder_is_where_the_xdg_specification_has_it(tmp_path, monkeypatch):
    monkeypatch.setenv('HOME', str(tmp_path))
    for given in ('', 'relative/cache'):
        monkeypatch.setenv('XDG_CACHE_HOME', given)
        assert cache.cache_dir() == tmp_path / '.cache/rgbx_seg_ros/engines'
    monkeypatch.setenv('XDG_CACHE_HOME', '/elsewhere')
    assert cache.cache_dir() == Path('/elsewhere/rgbx_seg_ros/engines')


# Who may write where code is


@pytest.fixture
def open_umask():
    before = os.umask(0)
    yield
    os.umask(before)


def test_folders_are_made_for_this_user_alone_whatever_the_umask(
        write, tiny_card, tmp_path, open_umask):
    path = tmp_path / 'a' / 'b' / 'm.onnx'
    cache.build(load_card(tiny_card), None, path)
    assert [one.stat().st_mode & 0o777 for one in path.parents[:2]] == [0o700, 0o700]
    cache.check_trusted(path.parent)


@pytest.mark.parametrize(('mode', 'place'), [
    (0o775, 'engines'), (0o707, 'engines'), (0o770, '.'), (0o664, 'engines/m.so'),
    (0o602, 'engines/m.so')])
def test_what_others_can_write_is_not_trusted(mode, place, tmp_path):
    path = tmp_path / 'cache' / 'engines' / 'm.so'
    cache.make_folder(path.parent)
    path.touch(0o600)
    cache.check_trusted(path)
    place = (tmp_path / 'cache' / place).resolve()
    place.chmod(mode)
    with pytest.raises(EngineError, match=f'could have put there: .* chmod go-w {place}$'):
        cache.check_trusted(path)


def test_a_link_is_judged_by_where_it_leads(tmp_path):
    (tmp_path / 'open').mkdir()
    (tmp_path / 'open').chmod(0o777)
    (tmp_path / 'link').symlink_to(tmp_path / 'open')
    with pytest.raises(EngineError, match=f'chmod go-w {tmp_path}/open$'):
        cache.check_trusted(tmp_path / 'link' / 'm.so')


def test_what_lies_in_a_folder_such_as_tmp_is_safe_from_others(tmp_path):
    (tmp_path / 'tmp' / 'engines').mkdir(parents=True, mode=0o700)
    (tmp_path / 'tmp').chmod(0o1777)
    cache.check_trusted(tmp_path / 'tmp' / 'engines' / 'm.so')
    with pytest.raises(EngineError, match='could have put there'):
        cache.check_trusted(tmp_path / 'tmp')


def test_above_the_home_folder_it_is_for_the_administrator(tmp_path, monkeypatch):
    (tmp_path / 'homes' / 'me').mkdir(parents=True)
    (tmp_path / 'homes' / 'me').chmod(0o755)
    (tmp_path / 'homes').chmod(0o775)
    with pytest.raises(EngineError):
        cache.check_trusted(tmp_path / 'homes' / 'me')
    monkeypatch.setenv('HOME', str(tmp_path / 'homes' / 'me'))
    cache.check_trusted(tmp_path / 'homes' / 'me' / '.cache')


def test_what_belongs_to_others_is_not_trusted(tmp_path, monkeypatch):
    if os.geteuid():
        monkeypatch.setattr(os, 'geteuid', lambda: os.getuid() + 1)
    else:  # what belongs to root is trusted
        os.chown(tmp_path, 12345, -1)
    with pytest.raises(EngineError, match='belongs to another user, .*: let XDG_CACHE_HOME name'):
        cache.check_trusted(tmp_path)


def test_a_build_writes_nothing_where_others_can(write, tiny_card, tmp_path):
    tmp_path.chmod(0o777)
    with pytest.raises(EngineError, match='could have put there'):
        cache.build(load_card(tiny_card), None, tmp_path / 'm.onnx')
    assert not list(tmp_path.iterdir())
