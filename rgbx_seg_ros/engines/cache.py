# Copyright 2026 rgbx_seg_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""
The files that engines have made for themselves, each with its checksum beside it.

They are made in a process of their own: an export is minutes of Python, which in the node would
hold back every callback, and leaves hundreds of megabytes behind. Any number of processes may use
the folder: one builds at a time, and a file appears whole or not at all. What lies there runs as
code, so that nobody else may be able to write there.
"""

import contextlib
from dataclasses import replace
import glob
import hashlib
import json
import math
import os
from pathlib import Path
import shlex
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
import time
import warnings

from filelock import FileLock
import rgbx_seg_ros
from rgbx_seg_ros.cards.card import Card, user_models_dir
from rgbx_seg_ros.engines.compiled_files import write_compiled
from rgbx_seg_ros.engines.model_files import card_text, FrameKind, weights_checksum
from rgbx_seg_ros.engines.onnx_files import write_onnx
from rgbx_seg_ros.engines.torch_engine import TorchBFloat16Engine, TorchEngine
from rgbx_seg_ros.errors import CardError, EngineError, RgbxSegError
from rgbx_seg_ros.fields import from_mapping
from rgbx_seg_ros.files import appearing
from rgbx_seg_ros.subprocesses import python_command
from rgbx_seg_ros.weights.checkpoint import sha256
import torch
import yaml

ONNX, COMPILED = '.onnx', '.so'
"""How the names of files end."""
UNUSED_DAYS = 30
"""After which a file is removed, when another one is made."""

_BUILD = 'rgbx_seg_ros.engines.cache:main'
_LOCK = '.lock'
_NICENESS = 10


def cache_dir() -> Path:
    """Return rgbx_seg_ros/engines in $XDG_CACHE_HOME or ~/.cache; it may not exist."""
    cache = os.environ.get('XDG_CACHE_HOME', '')
    if not os.path.isabs(cache):  # The XDG specification wants others ignored.
        cache = os.path.expanduser('~/.cache')
    return Path(cache, 'rgbx_seg_ros', 'engines')


def cached_path(card: Card, kind: FrameKind, runtime: str, suffix: str) -> Path:
    """Return where the file of a model is, named by everything that it depends on."""
    parts = [card_text(card), weights_checksum(card), rgbx_seg_ros.__version__, runtime,
             torch.__version__, kind]
    key = hashlib.sha256(json.dumps(parts).encode()).hexdigest()
    return cache_dir() / f'{card.name}-{kind.tag}-{key[:24]}{suffix}'


def cached_kinds(card: Card, runtime: str, suffix: str) -> list[FrameKind]:
    """Return the kinds of frames for which a model has a file."""
    names = [path.stem for path in cache_dir().glob(f'{glob.escape(card.name)}-*{suffix}')]
    kinds = [FrameKind.from_tag(name.removeprefix(f'{card.name}-').rpartition('-')[0])
             for name in names]
    return [kind for kind in kinds if kind and is_intact(cached_path(card, kind, runtime, suffix))]


def checksum_path(path: Path) -> Path:
    """Return the file beside `path` with its checksum, as sha256sum writes it."""
    return path.with_suffix('.sha256')


def tensorrt_path(path: Path) -> Path:
    """Return the folder beside `path` for what TensorRT makes of it."""
    return path.with_suffix('.tensorrt')


def is_intact(path: Path) -> bool:
    """Return whether a file is there, has its checksum, and so was used now."""
    try:
        intact = checksum_path(path).read_text(encoding='utf-8') == _checksum_line(path, path)
    except (OSError, UnicodeDecodeError, RgbxSegError):
        return False
    if intact:
        with contextlib.suppress(OSError):  # an image or a folder of root, where nothing is pruned
            os.utime(path)
    return intact


def make_folder(path: Path) -> None:
    """Make a folder for engines, and those above it, for nobody but this user."""
    for folder in reversed((path, *path.parents)):
        if not folder.is_dir():  # the umask may let others write
            folder.mkdir(mode=0o700, exist_ok=True)


def check_trusted(path: Path) -> None:
    """
    Raise EngineError where others than this user and root could have put code in the place `path`.

    It is judged as ssh does with its keys: a file or folder and all above it, up to the home
    folder, by owner and mode. What does not exist does not matter, and in folders such as /tmp
    nobody can replace what others have.
    """
    path, home, open_to_others = path.resolve(), Path.home().resolve(), []
    for one in (path, *path.parents):
        try:
            status = one.stat()
        except (FileNotFoundError, NotADirectoryError):
            continue
        if status.st_uid not in (0, os.geteuid()):
            raise EngineError(
                f'{str(one)!r} belongs to another user, who could put code there: let '
                'XDG_CACHE_HOME name a folder of your own')
        shared = one != path and status.st_mode & stat.S_ISVTX
        if status.st_mode & (stat.S_IWGRP | stat.S_IWOTH) and not shared:
            open_to_others.append(one)
        if one == home:
            break
    if open_to_others:
        raise EngineError(
            f'{str(path)!r} is code that others could have put there: delete it unless you trust '
            f'them, then chmod go-w {shlex.join(map(str, open_to_others))}')


def discard(path: Path) -> None:
    """Remove a file and all that belongs to it."""
    checksum_path(path).unlink(missing_ok=True)
    path.unlink(missing_ok=True)
    shutil.rmtree(tensorrt_path(path), ignore_errors=True)


def _checksum_line(path, named):
    return f'{sha256(path)}  {named.name}\n'


def start_build(card: Card, kind: FrameKind, path: Path, **options) -> subprocess.Popen:
    """Start the process that makes the file `path`, see `build`; see `wait_for` and `end`."""
    process = subprocess.Popen(
        python_command(_BUILD), stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, start_new_session=True,
        # PyTorch's compiler starts Python as well, in the folder that it is in.
        cwd='/', env={
            **os.environ,
            'RGBX_SEG_MODELS': str(user_models_dir().absolute()),
            'OMP_NUM_THREADS': '1',
            'TORCHINDUCTOR_COMPILE_THREADS': '1',
            'CUDA_VISIBLE_DEVICES': '',
        })
    with contextlib.suppress(BrokenPipeError):  # it has died, and wait_for will say of what
        process.stdin.write(json.dumps({
            'card': card_text(card), 'folder': str(card.folder.absolute()), 'kind': kind,
            'path': str(path.absolute()), 'options': options}))
        process.stdin.flush()
    return process


def wait_for(process: subprocess.Popen) -> None:
    """Wait until a build has ended; raise EngineError, with its last words, if it failed."""
    _, words = process.communicate()
    if process.returncode:
        last = (words.strip().splitlines() or [f'exit status {process.returncode}'])[-1]
        raise EngineError(f'the export failed: {last}')


def end(process: subprocess.Popen) -> None:
    """End a build and the compiler that it has started."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGTERM)


def main() -> None:
    """Make the file that the request on stdin describes: what a build process runs."""
    os.nice(_NICENESS)
    os.umask(0o077)
    warnings.simplefilter('ignore')  # PyTorch's remarks on itself
    signal.signal(signal.SIGTERM, lambda *_: sys.exit('it was stopped'))
    request = json.load(sys.stdin)
    card = from_mapping(Card, yaml.safe_load(request['card']), 'card', CardError)
    rgb_size, x_size, *rest = request['kind']
    with tempfile.TemporaryDirectory() as scratch:  # for hundreds of megabytes of the compiler
        # Else it takes some from a folder in /tmp that anybody could have made.
        os.environ['TORCHINDUCTOR_CACHE_DIR'] = os.environ['TMPDIR'] = tempfile.tempdir = scratch
        try:
            build(replace(card, folder=Path(request['folder'])),
                  FrameKind(tuple(rgb_size), tuple(x_size), *rest), Path(request['path']),
                  **request['options'])
        except (RgbxSegError, OSError) as error:
            sys.exit(str(error))


def build(card: Card, kind: FrameKind, path: Path, **options) -> None:
    """
    Make the file `path`, unless another process has just done so.

    An ONNX file is in float32; a compiled one has the options `precision`, float32 or bfloat16,
    and `threads`.
    """
    make_folder(path.parent)
    check_trusted(path)
    with FileLock(path.with_name(_LOCK)):
        if is_intact(path):
            return
        discard(path)
        _prune(path.parent)
        with appearing(path) as part:
            write = _write_onnx if path.suffix == ONNX else _write_compiled
            write(card, kind, part, **options)
            line = _checksum_line(part, path)
        # Until the checksum is there, the file counts for nothing.
        with appearing(checksum_path(path)) as part:
            part.write_text(line, encoding='utf-8')


def _write_onnx(card, kind, path):
    write_onnx(TorchEngine(card, 'cpu').network, card, path, kind)


def _write_compiled(card, kind, path, precision, threads):
    engine = TorchEngine if precision == 'float32' else TorchBFloat16Engine
    # The order of the weights in memory depends on it: with a wrong one the code gains nothing.
    torch.set_num_threads(threads)
    write_compiled(engine(card, 'cpu').graph, card, path, kind, precision, threads)


def _prune(folder):
    """Remove what was not used for long, and what a killed build has left."""
    oldest = time.time() - 24 * 3600 * UNUSED_DAYS
    for path in (*folder.glob(f'*{ONNX}'), *folder.glob(f'*{COMPILED}')):
        if _used_s(path) < oldest:
            discard(path)
    for made in folder.glob('*.tensorrt'):  # a file that a card names lies elsewhere
        if not made.with_suffix(ONNX).exists() and _used_s(made) < oldest:
            shutil.rmtree(made, ignore_errors=True)
    for part in folder.glob('.*.part.*'):  # nobody else is writing: the lock is ours
        part.unlink(missing_ok=True)


def _used_s(path):
    """Return when a file was used last, by st_mtime; inf for one that has just been discarded."""
    try:
        return path.stat().st_mtime
    except FileNotFoundError:
        return math.inf
