# Copyright 2026 rgbx_seg_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""`rgbx-seg calibrate`: find the homography that lays X onto RGB, from pairs of frames."""

from dataclasses import dataclass
from pathlib import Path
import textwrap

import cv2
import numpy as np
from rgbx_seg_ros.bags.storage import BagReader, RGB_TOPIC, X_TOPIC
from rgbx_seg_ros.datasets import FolderDataset
from rgbx_seg_ros.errors import DataError, FrameError, MessageError, ParameterError
from rgbx_seg_ros.files import check_outputs, write_text
from rgbx_seg_ros.frames.images import write_image
from rgbx_seg_ros.frames.raw import check_x
from rgbx_seg_ros.messages.images import decode_rgb, decode_x, stamp_ns
from rgbx_seg_ros.registration.alignment import agreement, align, Alignment, edges, MIN_PAIRS
from rgbx_seg_ros.registration.warp import Homography, Registration
from rgbx_seg_ros.sync.pairing import Pairer, PairingSettings
from rgbx_seg_ros.tables import aligned
import yaml

_LATENESS_NS = 500_000_000
_PANEL_WIDTH = 640
_SQUARE = 64
_EDGE_COLOR = (255, 60, 40)


@dataclass(frozen=True)
class Calibration:
    """A homography found, for the node and for its user."""

    alignment: Alignment
    geometry: Homography
    pairs: int
    """Pairs that it was found from."""
    before: float
    """Share of the tiles that agreed while X was merely stretched over RGB."""

    def parameters(self) -> dict:
        """Return the node's parameters."""
        return {'registration.mode': 'homography',
                'registration.homography': [float(f'{number:.9g}')
                                            for number in self.geometry.numbers],
                'registration.x_size': list(self.geometry.x_size),
                'registration.rgb_size': list(self.geometry.rgb_size)}

    def yaml(self) -> str:
        """Return the parameters as a file for the node."""
        lines = yaml.safe_dump(self.parameters(), sort_keys=False, default_flow_style=None,
                               width=64)
        return f'/**:\n  ros__parameters:\n{textwrap.indent(lines, "    ")}'

    def __str__(self):
        names = 'top left', 'top right', 'bottom right', 'bottom left'
        corners = ', '.join(f'{name} {sd:.1f}' for name, sd in
                            zip(names, self.alignment.corner_sd_px, strict=True))
        rows = [
            ('pairs', f'{self.pairs}', 'X {}x{}, RGB {}x{}'.format(*self.geometry.x_size,
                                                                   *self.geometry.rgb_size)),
            ('agreement', f'{self.alignment.agreement:.0%}',
             f'of the frame, {self.before:.0%} before'),
            ('residual', f'{self.alignment.residual_px:.1f}',
             'px RMS there: depth and lens distortion, which no homography holds'),
            ('uncertainty', f'{self.alignment.corner_sd_px.max():.1f}',
             f'px at worst, standard deviation over the pairs: {corners}'),
        ]
        if self.before >= self.alignment.agreement:
            rows.append(('note', '', 'X lay on RGB as well before: registration.mode none may do'))
        return '\n'.join(aligned(rows, '<><'))


def calibrate(pairs) -> Calibration:
    """
    Return what `pairs` tell, a list of RGB (H, W, 3) uint8 and X with NaN for no measurement.

    Raise DataError where they do not suffice.
    """
    alignment = align(pairs)
    rgb, x = pairs[0]
    x_size, rgb_size = x.shape[1::-1], rgb.shape[1::-1]
    try:
        geometry = Homography(tuple(alignment.homography.ravel().tolist()), x_size, rgb_size)
    except ParameterError as error:
        raise DataError(f'the alignment did not converge: {error}') from error
    return Calibration(alignment, geometry, len(pairs),
                       agreement(pairs, _stretched(x_size, rgb_size))[0])


def _stretched(x_size, rgb_size):
    """Return the matrix of X stretched over RGB, as frames without registration are taken."""
    zoom = np.array(rgb_size) / x_size
    return np.array([[zoom[0], 0, 0.5 * zoom[0] - 0.5], [0, zoom[1], 0.5 * zoom[1] - 0.5],
                     [0, 0, 1.0]])


def folder_pairs(folder, most: int, invalid: float | None = None):
    """Return up to `most` pairs of a folder, evenly spread, for `calibrate`."""
    data = FolderDataset(folder)
    samples = [data[i] for i in _spread(len(data), most)]
    return [(sample.rgb, _measured(sample.x, invalid)) for sample in samples]


def _spread(count, most):
    return sorted({round(i) for i in np.linspace(0, count - 1, min(count, most))})


def bag_pairs(bag, most: int, rgb_topic: str = RGB_TOPIC, x_topic: str = X_TOPIC,
              slop_ms: float = 50.0, x_offset_ms: float = 0.0, invalid: float | None = None):
    """
    Return up to `most` pairs of a bag, evenly spread, for `calibrate`.

    Where only TOPIC/compressed or TOPIC/compressedDepth has messages, that is read. Raise
    DataError for a bag that cannot be read or that holds no pair.
    """
    if not 0 <= slop_ms <= 10_000 or not abs(x_offset_ms) <= 60_000:
        raise ParameterError(f'slop is {slop_ms!r} ms and offset of X {x_offset_ms!r} ms, allowed '
                             'are 0 to 10000 and -60000 to 60000')
    slop_ns = round(slop_ms * 1e6)
    pairer = Pairer(PairingSettings(slop_ns=slop_ns, max_wait_ns=slop_ns + _LATENESS_NS,
                                    x_offset_ns=round(x_offset_ms * 1e6)))
    with BagReader(bag) as reader:
        add = {reader.image_topic(rgb_topic): pairer.add_rgb,
               reader.image_topic(x_topic): pairer.add_x}
        if len(add) < 2:
            raise DataError(f'both topics are {rgb_topic!r}: they must differ')
        counts = [reader.counts[topic] for topic in add]
        wanted = set(_spread(min(counts), most))
        chosen, errors = [], []
        for number, pair in enumerate(_paired(reader, add, pairer, errors)):
            if number in wanted:
                try:
                    chosen.append((decode_rgb(pair.rgb), _measured(decode_x(pair.x), invalid)))
                except (MessageError, FrameError) as error:
                    errors.append(error)
    if not chosen:
        raise DataError(f'{str(bag)!r} holds no pair in {list(add)!r} with {counts!r} messages: '
                        f'{errors[0] if errors else reader.why_no_pairs(add)}')
    return chosen


def _paired(reader, add, pairer, errors):
    """Yield the pairs of a bag, undecoded; `add` takes the messages of each topic."""
    for topic, now_ns, message in reader.messages(add):
        try:
            yield from add[topic](stamp_ns(message.header), message, now_ns)
        except MessageError as error:
            errors.append(error)
    yield from pairer.flush()


def _measured(x, invalid):
    check_x(x)
    if invalid is None:
        return x
    x = x.astype(np.float32)
    x[x == invalid] = np.nan
    return x


def picture(pairs, calibration: Calibration) -> np.ndarray:
    """
    Return X on RGB before and after, (H, W, 3) uint8, for the pair that shows most.

    In the upper row both frames alternate in squares, in the lower one RGB carries X's edges.
    """
    geometry = calibration.geometry
    before = Homography(tuple(_stretched(geometry.x_size, geometry.rgb_size).ravel().tolist()),
                        geometry.x_size, geometry.rgb_size)

    def shared(pair):
        rgb, moved = pair[0], Registration(geometry).apply(pair[1], geometry.rgb_size)
        moved = np.nan_to_num(moved.astype(np.float32), nan=0.0)
        return float((edges(rgb, sigma=2.0) * edges(moved, sigma=2.0)).mean())

    rgb, x = max(pairs, key=shared)
    zoom = min(1.0, _PANEL_WIDTH / rgb.shape[1])
    size = round(rgb.shape[1] * zoom), round(rgb.shape[0] * zoom)
    rgb = cv2.resize(_bright(rgb), size, interpolation=cv2.INTER_AREA)
    columns = []
    for title, matrix in (('before', before), ('after', geometry)):
        registration = Registration(matrix)
        moved = registration.apply(x, geometry.rgb_size)
        moved = cv2.resize(_bright(moved), size, interpolation=cv2.INTER_AREA)
        seen = registration.seen(x, geometry.rgb_size).astype(np.uint8)
        seen = cv2.resize(seen, size, interpolation=cv2.INTER_NEAREST)
        grey = moved if moved.ndim == 2 else cv2.cvtColor(moved, cv2.COLOR_RGB2GRAY)
        squares = sum(np.indices(size[::-1]) // _SQUARE) % 2 == 1
        mixed = np.where(squares[..., None], grey[..., None], rgb)
        lines = rgb.copy()
        lines[_outlines(grey, seen)] = _EDGE_COLOR
        column = np.vstack([mixed, lines])
        for color, width in (((0, 0, 0), 4), ((255, 255, 255), 1)):
            cv2.putText(column, title, (8, 24), cv2.FONT_HERSHEY_SIMPLEX, 0.7, color, width,
                        cv2.LINE_AA)
        columns.append(column)
    return np.hstack(columns)


def _bright(frame):
    """Return a frame as uint8 with its range stretched, so that a night shows something."""
    frame = frame.astype(np.float32)
    finite = frame[np.isfinite(frame)]
    low, high = np.percentile(finite, (1, 99)) if finite.size else (0, 1)
    share = np.nan_to_num((frame - low) / max(high - low, 1e-6), nan=0.0).clip(0, 1)
    return (255 * share ** 0.7).astype(np.uint8)


def _outlines(grey, seen):
    """Return the edges of `grey` as bool, without the border of what is `seen` of it."""
    grey = cv2.GaussianBlur(grey, (0, 0), 1.5)
    steep = np.hypot(cv2.Sobel(grey, cv2.CV_32F, 1, 0), cv2.Sobel(grey, cv2.CV_32F, 0, 1))
    inside = cv2.erode(seen, np.ones((15, 15), np.uint8), borderValue=1) > 0
    high = max(10.0, float(np.percentile(steep[inside], 94))) if inside.any() else 10.0
    return (cv2.Canny(grey, 0.5 * high, high) > 0) & inside


def add_arguments(parser):
    """Declare the command's arguments."""
    parser.add_argument('source', type=Path,
                        help='a folder with rgb/ and one of thermal/ depth/ disparity/ x/, or a '
                             'rosbag2')
    parser.add_argument('-o', '--out', type=Path, default=Path('registration.yaml'),
                        metavar='FILE', help='new parameter file (default: %(default)s)')
    parser.add_argument('--picture', type=Path, default=Path('registration.png'), metavar='FILE',
                        help='X on RGB before and after (default: %(default)s)')
    parser.add_argument('--pairs', type=int, default=30, metavar='N',
                        help=f'use so many pairs, {MIN_PAIRS} or more, evenly spread over the '
                             'source (default: %(default)s)')
    parser.add_argument('--invalid', type=float, metavar='VALUE',
                        help='raw value of X that means no measurement, 0 for 16-bit depth')
    parser.add_argument('--rgb-topic', default=RGB_TOPIC, metavar='TOPIC',
                        help='of a bag: colour frames, raw or /compressed (default: %(default)s)')
    parser.add_argument('--x-topic', default=X_TOPIC, metavar='TOPIC',
                        help='second modality, raw or /compressed (default: %(default)s)')
    parser.add_argument('--slop-ms', type=float, default=50.0, metavar='MS',
                        help='longest time between the frames of a pair (default: 50)')
    parser.add_argument('--x-offset-ms', type=float, default=0.0, metavar='MS',
                        help='added to the stamps of X before they are compared (default: 0)')


def main(args):
    """Run the command."""
    if args.pairs < MIN_PAIRS:
        raise ParameterError(f'--pairs is {args.pairs!r}, allowed is {MIN_PAIRS} or more')
    for path, option in ((args.out, '-o'), (args.picture, '--picture')):
        if path.exists():
            raise DataError(f'{str(path)!r} exists already: remove it or choose another with '
                            f'{option}')
    check_outputs((args.out, args.picture))
    if args.source.is_file() or (args.source / 'metadata.yaml').is_file():
        pairs = bag_pairs(args.source, args.pairs, args.rgb_topic, args.x_topic, args.slop_ms,
                          args.x_offset_ms, args.invalid)
    else:
        pairs = folder_pairs(args.source, args.pairs, args.invalid)
    print(f'aligning {len(pairs)} pairs ...', flush=True)
    found = calibrate(pairs)
    write_image(args.picture, picture(pairs, found))
    write_text(args.out, found.yaml())
    print(f'{found}\n\n{found.yaml()}\nwrote {args.out}, for the node with --params-file, and '
          f'{args.picture}: look at it')
