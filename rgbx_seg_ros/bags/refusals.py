# Copyright 2026 rgbx_seg_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""What is wrong with a bag that cannot be read, or not whole, and what mends it."""

import errno
from pathlib import Path, PurePath

from rgbx_seg_ros.files import visible
import yaml

ZSTD = b'\x28\xb5\x2f\xfd'
"""With it begins what zstd has compressed; no message does."""

ROS_1_ENDING = '.bag'

_MCAP = b'\x89MCAP0\r\n'
_ENDINGS = {_MCAP: '.mcap', b'SQLite format 3\0': '.db3', b'#ROSBAG V': ROS_1_ENDING}
_STORAGES = {'.mcap': 'mcap', '.db3': 'sqlite3'}
_RECOVER = {
    '.mcap': '`mcap recover OLD -o NEW`',
    # Not .recover, for which the sqlite3 of Debian 12 is not built.
    '.db3': "`sqlite3 OLD .dump | sed 's/^ROLLBACK.*/COMMIT;/' | sqlite3 NEW`",
    ROS_1_ENDING: '`rosbag reindex OLD` of ROS 1'}
_NEWEST_VERSION = 9
_CONVERT = '`ros2 bag convert -i OLD -o OPTIONS.yaml` writes'
_NOT_COMPRESSED = ('its metadata.yaml tells of compressed {}, and they are not: write '
                   "compression_mode: '' there")


def refusal(path: Path, error: Exception, opening: bool) -> str:
    """
    Return what is wrong with the bag `path` that has raised `error`, and what to do.

    It was raised while `opening` the bag, or else further on.
    """
    try:
        cause = _cause_in_folder(path, error, opening) if path.is_dir() else _cause_in_file(path)
    except (OSError, TypeError, ValueError, AttributeError, LookupError):
        cause = None  # damage can be of any kind
    system_error = _system_error(error)
    if cause is None and system_error is not None:
        return system_error.strerror
    return cause or (f'it is damaged: {_reason(error)}; {recover(path)} may mend a recording that '
                     'was cut off')


def data_files(folder: Path) -> list[Path]:
    """Return the files of a recording without metadata.yaml; none where they are of two kinds."""
    files = [path for path in visible(folder) if path.suffix in _RECOVER and path.is_file()]
    is_clear = len({path.suffix for path in files}) == 1 and not _packed(folder)
    return files if is_clear else []


def _packed(folder):
    return [path for path in visible(folder) if path.suffix == '.zstd']


def without_metadata(folder: Path) -> str:
    """Return what to do about a folder that has no metadata.yaml and no `data_files`."""
    names = [path.name for path in visible(folder)]
    if _packed(folder):
        advice = ('`ros2 bag reindex` reads no compressed files: run `zstd -d` on them, then give '
                  'the path of the .mcap or .db3 file')
    else:
        advice = 'Run `ros2 bag reindex` or give the path of an .mcap, .db3 or .bag file'
    return (f'has no metadata.yaml, which every rosbag2 has; files in it are {names[:5]!r}. '
            f'{advice}')


def outdated_metadata(folder: Path) -> str:
    """Return why metadata.yaml may tell of more messages than its files hold, and what to do."""
    listed = {path.name for path in _listed(folder, _metadata(folder))}
    others = [path.name for path in visible(folder)
              if _ending(path) in _STORAGES and path.name not in listed]
    if others:
        return (f'it does not name {", ".join(map(repr, others))} beside it: `ros2 bag reindex` '
                'takes them in')
    return ('it was written before a file was cut off, mended or exchanged: `ros2 bag reindex` '
            'counts anew')


def unmerged_log(path: Path) -> str | None:
    """Return what to do about messages that a recorder which was killed has left beside a .db3."""
    files = visible(path) if path.is_dir() else [path]
    for file in (file for file in files if _ending(file) == '.db3'):
        log = file.with_name(f'{file.name}-wal')
        if log.is_file() and log.stat().st_size:
            return (f'{log.name!r} holds messages that are not in {file.name!r} yet: `sqlite3 '
                    "FILE.db3 'PRAGMA wal_checkpoint(TRUNCATE)'` takes them in")
    return None


def recover(path: Path) -> str:
    """Return the command that writes a whole file of a damaged one, or of those of a folder."""
    if not path.is_dir():
        return _RECOVER.get(_ending(path), _RECOVER['.mcap'])
    endings = sorted({_ending(file) for file in visible(path)} & set(_RECOVER)) or ['.mcap']
    return f'{_RECOVER[endings[0]]}, then `ros2 bag reindex`,'


def storage_of(folder: Path) -> str | None:
    """Return the storage that the files in a folder tell by their endings."""
    found = {_STORAGES[_ending(path)] for path in visible(folder) if _ending(path) in _STORAGES}
    return found.pop() if len(found) == 1 else None


def _ending(path):
    """Return the ending of a name, without that of the compression."""
    path = PurePath(path)
    return PurePath(path.stem).suffix if path.suffix == '.zstd' else path.suffix


def _reason(error):
    """Return what `error` says, on one line."""
    text = ' '.join(str(error).split()).removesuffix('; please report issue.')
    return text or 'it contradicts itself'


def _system_error(error):
    """Return the error of the operating system that is behind `error`, or None."""
    while error is not None and not (isinstance(error, OSError) and error.strerror):
        error = error.__cause__
    # A position before the start of a file: it was cut off there.
    return None if error is not None and error.errno == errno.EINVAL else error


def _cause_in_file(path):
    with path.open('rb') as file:
        head = file.read(1024)
    if head.startswith(ZSTD):
        return ('it is compressed as a whole: give the folder with its metadata.yaml, or run '
                '`zstd -d` on it')
    if not head:
        return 'it is empty: nothing was recorded, or it was not copied'
    kind = next((ending for magic, ending in _ENDINGS.items() if head.startswith(magic)), None)
    if kind is None:
        return ('it is no rosbag2: give the folder of one, which holds a metadata.yaml, or its '
                '.mcap or .db3 file; of ROS 1 its .bag file')
    if kind != path.suffix:
        return f'by its content it is of the kind {kind}: give it that ending'
    if kind == '.mcap':
        return _wrong_profile(head)
    return None


def _wrong_profile(head):
    """Tell of a file for other messages; its header begins with a length and its profile."""
    length = int.from_bytes(head[17:21], 'little')
    profile = head[21:21 + length].decode()
    if len(head) < 21 + length or profile == 'ros2':
        return None
    wrong = f"the profile in its header is {profile!r}, needed is 'ros2'"
    if profile == 'ros1':
        return f'{wrong}: `rosbags-convert` the .bag of ROS 1 that it was made of'
    return f'{wrong}: if its messages are of ROS 2, {_CONVERT} it with one'


def _cause_in_folder(folder, error, opening):
    damaged = f'its metadata.yaml is damaged ({_reason(error)}): `ros2 bag reindex` writes it anew'
    try:
        metadata = _metadata(folder)
        version, files = int(metadata['version']), _listed(folder, metadata)
        storage, packed = (metadata.get(name) or '' for name in (
            'storage_identifier', 'compression_format'))
        mode = (metadata.get('compression_mode') or 'none').lower()
    except (ValueError, TypeError, AttributeError, LookupError, yaml.YAMLError):
        return damaged if opening else None
    missing = [file.name for file in files if not file.exists()]
    if missing:
        return (f'metadata.yaml names {", ".join(map(repr, missing))}, not to be found: bring it '
                'back, or `ros2 bag reindex` goes on without it')
    if version > _NEWEST_VERSION:
        return (f'its version is {version}, read are those up to {_NEWEST_VERSION}: give the path '
                'of its .mcap or .db3 file')
    if storage not in ('', *_STORAGES.values()):
        return f'its storage is {storage!r}, read are mcap and sqlite3: {_CONVERT} such a one'
    if mode != 'none' and packed != 'zstd':
        return f'it is compressed with {packed!r}, read is zstd: {_CONVERT} it without'
    if mode == 'message' and type(error).__name__ == 'ZstdError':
        return _NOT_COMPRESSED.format('messages')
    if mode == 'file':
        return None if all(map(_is_compressed, files)) else _NOT_COMPRESSED.format('files')
    for file in files:
        if cause := _cause_in_file(file):
            return f'{file.name!r}: {cause}'
    return damaged if opening and all(map(_opens, files)) else None


def _opens(path):
    from rosbags.rosbag2 import Reader

    try:
        with Reader(path):
            return True
    except Exception:  # noqa: BLE001 on damaged files rosbags fails in any way
        return False


def _is_compressed(path):
    with path.open('rb') as file:
        return file.read(len(ZSTD)) == ZSTD


def _metadata(folder):
    text = (folder / 'metadata.yaml').read_text(encoding='utf-8')
    return yaml.safe_load(text)['rosbag2_bagfile_information']


def _listed(folder, metadata):
    return [folder / PurePath(name).name for name in metadata['relative_file_paths']]
