# Copyright 2026 rgbx_seg_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""`rgbx-seg make-bag`: turn a folder of frames into a rosbag2, as two cameras would record it."""

import difflib
from functools import lru_cache
from pathlib import Path

import numpy as np
from rgbx_seg_ros.bags.storage import (
    BagWriter,
    compressed_message,
    image_message,
    LABEL_TOPIC,
    RGB_TOPIC,
    STORAGES,
    X_TOPIC,
)
from rgbx_seg_ros.datasets import FolderDataset
from rgbx_seg_ros.errors import DataError, ParameterError
from rgbx_seg_ros.frames.images import read_image

START_NS = 1_700_000_000 * 1_000_000_000
"""Stamp of the first RGB frame: fixed, so that the same command writes the same bag."""

_FRAME_IDS = {RGB_TOPIC: 'rgb_optical_frame', X_TOPIC: 'x_optical_frame',
              LABEL_TOPIC: 'rgb_optical_frame'}
_ENCODINGS = {('uint8', 2): 'mono8', ('uint16', 2): 'mono16', ('float32', 2): '32FC1',
              ('uint8', 3): 'rgb8', ('uint16', 3): 'rgb16'}
_FILE_FORMATS = {'.jpg': 'jpeg', '.jpeg': 'jpeg', '.png': 'png'}


def make_bag(folder, out, rate_hz: float = 10.0, jitter_ms: float = 0.0, offset_ms: float = 0.0,
             storage: str = 'mcap', seed: int = 0, frames=None, compressed: bool = False
             ) -> BagWriter:
    """
    Write the pairs below `folder` to the new bag `out` and return its closed writer.

    RGB frame i is stamped START_NS + i / `rate_hz`; its X frame `offset_ms` later plus a jitter
    drawn evenly from -`jitter_ms` to `jitter_ms`. A message is received at its stamp. `frames`
    names the frames to take, in their order; None takes all, by name. With `compressed` the JPEG
    and PNG files themselves become CompressedImages. A label becomes a mono8 image with the stamp
    of its RGB frame. Raise DataError or ParameterError where that cannot be.
    """
    data = FolderDataset(folder)
    order = [_index(data, name) for name in frames] if frames else range(len(data))
    stamps = _stamps(len(order), rate_hz, jitter_ms, offset_ms, seed)
    schedule = sorted((stamp_ns, topic, index) for topic, times in stamps.items()
                      for stamp_ns, index in zip(times, order, strict=True))
    # One sample serves all topics of a pair, whose messages need not follow each other.
    sample_of = lru_cache(maxsize=4)(data.__getitem__)
    with BagWriter(out, storage) as bag:
        for stamp_ns, topic, index in schedule:
            sample = sample_of(index)
            if topic != LABEL_TOPIC and compressed:
                bag.write(f'{topic}/compressed', _file_message(data, sample, topic, stamp_ns),
                          stamp_ns)
            elif topic != LABEL_TOPIC or sample.label is not None:
                bag.write(topic, _image_message(sample, topic, stamp_ns), stamp_ns)
    return bag


def _image_message(sample, topic, stamp_ns):
    """Return the frame or the label that belongs to `topic` as an Image."""
    if topic == LABEL_TOPIC:
        return image_message(sample.label, 'mono8', stamp_ns, _FRAME_IDS[topic])
    pixels = sample.rgb if topic == RGB_TOPIC else sample.x
    return image_message(pixels, _encoding(pixels, sample.name), stamp_ns, _FRAME_IDS[topic])


def _file_message(data, sample, topic, stamp_ns):
    """Return the file that belongs to `topic` as a CompressedImage."""
    path = _file(data.root / ('rgb' if topic == RGB_TOPIC else data.x_folder), sample.name)
    return compressed_message(path.read_bytes(), _file_format(path), stamp_ns, _FRAME_IDS[topic])


def _index(data, name):
    if name not in data.names:
        near = difflib.get_close_matches(name, data.names, 1)
        hint = f'; did you mean {near[0]!r}?' if near else ''
        raise DataError(f'{str(data.root)!r} has no frame {name!r}{hint}')
    return data.names.index(name)


def _stamps(count, rate_hz, jitter_ms, offset_ms, seed) -> dict[str, list[int]]:
    """Return the stamps of all frames, in ns, by topic."""
    if not 0.001 <= rate_hz <= 1000:
        raise ParameterError(f'rate is {rate_hz!r} Hz, allowed is 0.001 to 1000')
    if not 0 <= jitter_ms < 500 / rate_hz:
        raise ParameterError(
            f'jitter is {jitter_ms!r} ms, allowed is 0 to less than half a period, which is '
            f'{500 / rate_hz:g} ms at {rate_hz:g} Hz: else frames would change places')
    if not -60_000 <= offset_ms <= 60_000:
        raise ParameterError(f'offset is {offset_ms!r} ms, allowed is a minute, -60000 to 60000')
    if seed < 0:
        raise ParameterError(f'seed is {seed!r}, allowed is 0 or more')
    rgb = [START_NS + round(i * 1e9 / rate_hz) for i in range(count)]
    jitters_ms = np.random.default_rng(seed).uniform(-jitter_ms, jitter_ms, count)
    x = [stamp + round((offset_ms + jitter) * 1e6)
         for stamp, jitter in zip(rgb, jitters_ms.tolist(), strict=True)]
    return {RGB_TOPIC: rgb, X_TOPIC: x, LABEL_TOPIC: rgb}


def _encoding(pixels, name):
    kind = (str(pixels.dtype), pixels.ndim)
    if kind not in _ENCODINGS:
        raise DataError(f'frame {name!r} holds {pixels.dtype} of shape {pixels.shape!r}: allowed '
                        'are uint8, uint16 and float32 with one channel, or uint8 and uint16 with '
                        'three')
    return _ENCODINGS[kind]


def _file(folder, name):
    for ending in _FILE_FORMATS:
        for path in (folder / f'{name}{ending}', folder / f'{name}{ending.upper()}'):
            if path.is_file():
                return path
    raise DataError(f'{str(folder / name)!r} is neither .jpg, .jpeg nor .png, which can be put '
                    'into a bag as they are: leave out --compressed')


def _file_format(path):
    """Return the `format` that compressed_image_transport writes for such a picture."""
    encoding = _encoding(read_image(path), path.stem)
    # cv::imencode takes colours as bgr; behind other encodings the transport writes nothing.
    stored = encoding.replace('rgb', 'bgr') if encoding.startswith('rgb') else ''
    return f'{encoding}; {_FILE_FORMATS[path.suffix.lower()]} compressed {stored}'


def add_arguments(parser):
    """Declare the command's arguments."""
    parser.add_argument('folder', type=Path,
                        help='holds rgb/, one of thermal/ depth/ disparity/ x/, maybe label/')
    parser.add_argument('out', type=Path, help='the new bag')
    parser.add_argument('--rate', type=float, default=10.0, metavar='HZ',
                        help='frames per second of both cameras (default: 10)')
    parser.add_argument('--jitter-ms', type=float, default=0.0, metavar='MS',
                        help='stamps of X vary evenly by up to so much, either way (default: 0)')
    parser.add_argument('--offset-ms', type=float, default=0.0, metavar='MS',
                        help='stamps of X are so much later than those of RGB (default: 0)')
    parser.add_argument('--storage', choices=STORAGES, default='mcap',
                        help='kind of file (default: mcap)')
    parser.add_argument('--seed', type=int, default=0, help='of the jitter (default: 0)')
    parser.add_argument('--frames', nargs='+', metavar='NAME',
                        help='frames to take, in this order (default: all, by name)')
    parser.add_argument('--compressed', action='store_true',
                        help='store the JPEG and PNG files as they are, as CompressedImage')


def main(args):
    """Run the command."""
    bag = make_bag(args.folder, args.out, args.rate, args.jitter_ms, args.offset_ms, args.storage,
                   args.seed, args.frames, args.compressed)
    topics = ', '.join(f'{topic} {count}' for topic, count in sorted(bag.counts.items()))
    print(f'wrote {args.out} ({args.storage}, {bag.duration_s():.1f} s, '
          f'{bag.size_bytes() / 1e6:.1f} MB): {topics}')
