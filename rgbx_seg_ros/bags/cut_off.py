# Copyright 2026 rgbx_seg_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""What is whole in an .mcap file without an end: its recorder was killed, or its disk full."""

import struct

from rosbags import rosbag2
from rosbags.rosbag2.errors import ReaderError
from rosbags.rosbag2.storage_mcap import ChunkInfo, McapReader

_MAGIC = b'\x89MCAP0\r\n'
_CHUNK = 0x06
_RECORD, _CHUNK_HEAD, _LENGTH, _SIZE = map(struct.Struct, ('<BQ', '<QQQII', '<I', '<Q'))
"""Kind and size; times of the first and last message, size, CRC, length of a name; two lengths."""


class CutOffReader(McapReader):
    """rosbags' reader, which reads a file without an end up to its last whole record."""

    cut_off: str = ''
    """How far it is read, and what is left out; empty of a file that has its end."""

    def open(self):  # noqa: A003 which is what rosbags calls
        """Open the file; raise what rosbags does unless no more than the end is missing."""
        try:
            super().open()
        except (ReaderError, OSError):
            # Where it is another file, or its start is not whole, data_start is not known then.
            if not self.data_start or self._has_end():
                raise
            self.bio = self.path.open('rb')
            self._read_what_is_whole()

    def _has_end(self):
        with self.path.open('rb') as file:
            file.seek(-len(_MAGIC), 2)
            return file.read() == _MAGIC

    def _read_what_is_whole(self):
        size = self.bio.seek(0, 2)
        self.chunks[:] = self._find_chunks(size)
        self.meta_scan()
        found = self.statistics
        counts = found.channel_message_counts
        seconds = (found.end_time - found.start_time) / 1e9
        whole = (f'read are its {found.message_count} whole messages, {seconds:.1f} s' if counts
                 else 'no message in it is whole')
        self.cut_off = f'{whole}; left out are the last {size - self.data_end} bytes of {size}'
        self.connections[:] = [one._replace(msgcount=counts.get(one.id, 0))
                               for one in self.connections]
        # Of which channels it has messages only tells what need not be read.
        for chunk in self.chunks:
            chunk.channel_count.update(counts)

    def _find_chunks(self, size):
        """Return the chunks that are whole, and let data_end be the end of the last record."""
        found, position = [], self.data_start
        while position + _RECORD.size <= size:
            self.bio.seek(position)
            kind, length = _RECORD.unpack(self.bio.read(_RECORD.size))
            end = position + _RECORD.size + length
            if not kind or end > size:  # zeros stand where the disk has got no content yet
                break
            if kind == _CHUNK:
                found.append(self._chunk(position, end - position))
            position = end
        self.data_end = position
        return found

    def _chunk(self, position, length):
        """Return what an index would tell of a chunk, behind whose head the file stands."""
        first_ns, last_ns, size, _, name = _CHUNK_HEAD.unpack(self.bio.read(_CHUNK_HEAD.size))
        compression = self.bio.read(name).decode()
        packed_size, = _SIZE.unpack(self.bio.read(_SIZE.size))
        return ChunkInfo(first_ns, last_ns, position, length, {}, 0, compression, packed_size,
                         size, {})


class FolderReader(rosbag2.Reader.STORAGE_PLUGINS['dir']):
    """The same for the files of a folder."""

    STORAGE_PLUGINS = {**rosbag2.Reader.STORAGE_PLUGINS['dir'].STORAGE_PLUGINS,
                       'mcap': CutOffReader}


class Reader(rosbag2.Reader):
    """The same for either."""

    STORAGE_PLUGINS = {**rosbag2.Reader.STORAGE_PLUGINS, 'dir': FolderReader,
                       '.mcap': CutOffReader}
