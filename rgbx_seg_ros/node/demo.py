# Copyright 2026 rgbx_seg_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""
`rgbx-seg demo`: the live node on real frames of day and night, over real DDS.

A bag is made of the frames in `demo/`, the node is started as a process of its own, the bag is
played to it at its rate, and what the node publishes is recorded.
"""

from collections import Counter, defaultdict
from dataclasses import dataclass, field
import json
import os
from pathlib import Path
import signal
import subprocess
from tempfile import TemporaryDirectory
import time

import cv2
from diagnostic_msgs.msg import DiagnosticArray
import numpy as np
import rclpy
from rclpy.executors import SingleThreadedExecutor
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy
from rgbx_seg_ros.bags import storage
from rgbx_seg_ros.bags.make_bag import make_bag
from rgbx_seg_ros.bags.storage import BagReader, BagWriter, image_message
from rgbx_seg_ros.datasets import FolderDataset
from rgbx_seg_ros.errors import RgbxSegError
from rgbx_seg_ros.frames.images import write_image
from rgbx_seg_ros.messages.images import decode_rgb, decode_x, stamp_ns, to_image
from rgbx_seg_ros.node.diagnostics import from_array
from rgbx_seg_ros.resources import keep_local, share_dir
from rgbx_seg_ros.subprocesses import python_command
from rgbx_seg_ros.tables import aligned
from sensor_msgs.msg import Image
from std_msgs.msg import Header, String

RATE_HZ = 2.0
MARKER = '.rgbx-seg-demo.json'
"""Lists what a demo has written into its folder; nothing else there is ever removed."""
_INPUTS = ('/rgb/image', '/x/image')
_OUTPUTS = ('mask', 'confidence', 'overlay')
_START_S, _DRAIN_S, _GROUND_S, _STOP_S = 90.0, 30.0, 5.0, 20.0
_TILE = (240, 180)


@dataclass
class Recording:
    """What came out of the node."""

    images: dict = field(default_factory=lambda: defaultdict(dict))
    """Messages by topic name and by the stamp in ns of the colour frame they belong to."""
    received_ns: dict = field(default_factory=dict)
    """When each mask was received, by the same stamp."""
    palette: str | None = None
    diagnostics: list = field(default_factory=lambda: [{}])
    """The facts the node told about itself, once a second; none at first."""


class _Stage:
    """A ROS node that plays cameras to the node under test and records what it publishes."""

    def __init__(self, ground=None):
        self._node = rclpy.create_node('rgbx_seg_demo')
        self._ground = ground
        if ground is not None:
            ground.listen(self._node)
        self._executor = SingleThreadedExecutor()
        self._executor.add_node(self._node)
        best_effort = QoSProfile(depth=5, reliability=ReliabilityPolicy.BEST_EFFORT)
        self._cameras = {topic: self._node.create_publisher(Image, topic, best_effort)
                         for topic in _INPUTS}
        self.recording = Recording()
        for name in _OUTPUTS:
            self._node.create_subscription(
                Image, f'/segmentation/{name}',
                lambda message, name=name: self._take(name, message), 10)
        self._node.create_subscription(
            String, '/segmentation/palette', self._take_palette,
            QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL))
        self._node.create_subscription(
            DiagnosticArray, '/diagnostics', self._take_diagnostics, 5)

    def _take(self, name, message):
        stamp = stamp_ns(message.header)
        self.recording.images[name][stamp] = message
        if name == 'mask':
            self.recording.received_ns[stamp] = self.now_ns()

    def _take_palette(self, message):
        self.recording.palette = message.data

    def _take_diagnostics(self, message):
        for sections in from_array(message).values():
            self.recording.diagnostics.append({
                **sections['segmentation'].values, **sections['timing'].values,
                **{f'{name}_received': sections[name].values['received']
                   for name in ('rgb', 'x')}})

    def now_ns(self) -> int:
        """Return the time as the node under test sees it."""
        return self._node.get_clock().now().nanoseconds

    def wait(self, condition, seconds: float) -> bool:
        """Let messages come in until `condition()` holds; return whether it came true in time."""
        end = time.monotonic() + seconds
        while not condition():
            if time.monotonic() > end:
                return False
            self._executor.spin_once(timeout_sec=0.05)
        return True

    def connected(self) -> bool:
        """Tell whether the node under test listens to both cameras and has been heard."""
        # A camera that sees the node is not yet seen by it, and what it sends is lost. A second
        # later, when the node first tells about itself, both have found each other.
        return (all(p.get_subscription_count() for p in self._cameras.values())
                and (self._ground is None or self._ground.connected())
                and len(self.recording.diagnostics) > 1)

    def play(self, bag: Path) -> dict[int, int]:
        """
        Publish the frames of `bag` at their times, stamped as if they were captured now.

        Return the stamp in the bag of each colour frame by the stamp it was published with.
        """
        stamps = {}
        with BagReader(bag) as reader:
            first_ns, start_ns, start = None, None, None
            for topic, receive_ns, message in reader.messages(_INPUTS):
                if first_ns is None:
                    first_ns, start_ns, start = receive_ns, self.now_ns(), time.monotonic()
                self.wait(lambda: False, start + (receive_ns - first_ns) / 1e9 - time.monotonic())
                stamp = stamp_ns(message.header) - first_ns + start_ns
                header = Header(frame_id=message.header.frame_id)
                header.stamp.sec, header.stamp.nanosec = divmod(stamp, 1_000_000_000)
                if topic == _INPUTS[0]:
                    stamps[stamp] = stamp_ns(message.header)
                    if self._ground is not None:
                        self._ground.show(header)
                self._cameras[topic].publish(
                    to_image(decode_x(message), message.encoding, header))
        return stamps

    def close(self):
        """Leave the graph."""
        self._executor.shutdown()
        self._node.destroy_node()


def run(out: Path, model: str, device: str, rate_hz: float, ground=None) -> dict:
    """
    Run the demo into the folder `out` and return its metrics.

    `ground` is the Ground of `ground_demo`, where that is to be shown as well.
    """
    frames = FolderDataset(share_dir() / 'demo')
    bag = out / 'input'
    make_bag(frames.root, bag, rate_hz)
    # Out of the way of a robot on the same network.
    os.environ.setdefault('ROS_DOMAIN_ID', str(1 + os.getpid() % 100))
    keep_local(os.environ)
    rclpy.init(signal_handler_options=rclpy.SignalHandlerOptions.NO)
    stage = _Stage(ground)
    log, beside = out / 'node.log', []
    if ground is not None:
        with (out / 'projection.log').open('w', encoding='utf-8') as file:
            beside.append(ground.start(file))
    with log.open('w', encoding='utf-8') as file:
        node = subprocess.Popen(
            python_command(
                'rgbx_seg_ros.node.node:main', '--ros-args',
                '-p', f'model:={model}', '-p', f'device:={device}',
                # A large model on a slow machine is late, and shall be seen nevertheless.
                '-p', 'max_age_ms:=600000.0', '-p', 'health.dead_ms:=600000.0',
                *(ground.node_arguments if ground else ())),
            stdout=file, stderr=subprocess.STDOUT)
    try:
        ready = stage.wait(lambda: stage.connected() or node.poll() is not None, _START_S)
        if not ready or node.poll() is not None:
            raise RgbxSegError(f'the node did not start, its log ends with: {_last_line(log)}')
        stamps = stage.play(bag)
        done = stage.recording
        stage.wait(lambda: node.poll() is not None or _finished(done), _DRAIN_S)
        if ground is not None:
            stage.wait(lambda: ground.has_all_of(done.images['mask']), _GROUND_S)
    finally:
        for process in (node, *beside):
            _stop(process)
        stage.close()
        rclpy.try_shutdown()
    if node.returncode:
        raise RgbxSegError(f'the node ended with {node.returncode}, its log ends with: '
                           f'{_last_line(log)}')
    _write_bag(out / 'recording', done, ground)
    _write_pictures(out, bag, stamps, done, ground)
    return _metrics(stamps, done)


def _counts(facts: dict) -> Counter:
    return Counter({name: int(value) for name, value in facts.items() if value.isdigit()})


def _finished(done: Recording) -> bool:
    """Tell whether the node has served every pair and nothing has changed for a second."""
    before, now = (_counts(facts) for facts in done.diagnostics[-2:])
    return (before == now and 0 < now['pairs'] == now['masks'] + now['drops.superseded']
            and len(done.images['mask']) >= now['masks'])


def _stop(node):
    """End the node as Ctrl-C does, and by force if it does not listen."""
    if node.poll() is None:
        node.send_signal(signal.SIGINT)
    try:
        node.wait(_STOP_S)
    except subprocess.TimeoutExpired:
        node.kill()
        node.wait()


def _last_line(log: Path) -> str:
    lines = log.read_text(encoding='utf-8', errors='replace').strip().splitlines()
    return lines[-1] if lines else 'nothing'


def _write_bag(path, done, ground):
    encodings = {'overlay': 'rgb8'}
    with BagWriter(path) as bag:
        start_ns = min(done.received_ns.values(), default=0)
        if done.palette:
            bag.write('/segmentation/palette', storage.String(data=done.palette), start_ns, True)
        if ground is not None:
            ground.write(bag, start_ns)
        for stamp, receive_ns in sorted(done.received_ns.items()):
            for name in _OUTPUTS:
                message = done.images[name].get(stamp)
                if message is not None:
                    bag.write(f'/segmentation/{name}', image_message(
                        decode_x(message), encodings.get(name, 'mono8'), stamp,
                        message.header.frame_id), receive_ns)


def _write_pictures(out, bag, stamps, done, ground):
    """Write the overlays, and one sheet of colour, thermal and overlay side by side."""
    inputs = defaultdict(dict)
    with BagReader(bag) as reader:
        for topic, _, message in reader.messages(_INPUTS):
            decode = decode_rgb if topic == _INPUTS[0] else decode_x
            inputs[stamp_ns(message.header)][topic] = decode(message)
    rows = []
    for number, (stamp, bag_stamp) in enumerate(sorted(stamps.items())):
        rgb, thermal = (inputs[bag_stamp][topic] for topic in _INPUTS)
        overlay = np.zeros_like(rgb)
        if stamp in done.images['overlay']:
            overlay = decode_rgb(done.images['overlay'][stamp])
            write_image(out / f'overlay_{number:02}.png', overlay)
        thermal = np.repeat(thermal[..., None], 3, axis=2)
        rows.append(np.hstack([cv2.resize(tile, _TILE, interpolation=cv2.INTER_AREA)
                               for tile in (rgb, thermal, overlay)]))
    if ground is not None and not ground.draw(
            out / 'ground_sheet.png',
            {stamp: inputs[bag_stamp][_INPUTS[0]] for stamp, bag_stamp in stamps.items()},
            done.images['overlay']):
        raise RgbxSegError('no grid has come from the projection node, its log ends with: '
                           f'{_last_line(out / "projection.log")}')
    rows += [np.zeros_like(rows[0])] * (len(rows) % 2)
    half = len(rows) // 2
    sheet = np.hstack([np.vstack(rows[:half]), np.vstack(rows[half:])])
    title = np.zeros((24, sheet.shape[1], 3), np.uint8)
    for column, text in enumerate(('RGB', 'thermal', 'mask over RGB') * 2):
        cv2.putText(title, text, (column * _TILE[0] + 6, 17), cv2.FONT_HERSHEY_SIMPLEX, 0.5,
                    (255, 255, 255), 1, cv2.LINE_AA)
    write_image(out / 'contact_sheet.png', np.vstack([title, sheet]))


def _metrics(stamps, done):
    facts = done.diagnostics[-1]
    counts = _counts(facts)
    drops = {name.partition('.')[2]: count for name, count in counts.items()
             if name.startswith('drops.')}
    for modality in ('rgb', 'x'):
        lost = len(stamps) - counts[f'{modality}_received']
        if lost:
            drops[f'{modality}_lost_on_the_way'] = lost
    seen = [(done.received_ns[stamp] - stamp) / 1e6 for stamp in stamps
            if stamp in done.received_ns]
    return {
        'pairs_in': len(stamps),
        'masks_out': len(done.images['mask']),
        'drops': drops,
        'device': facts.get('device', 'n/a'),
        'capture_to_publish_ms': {p: _number(facts.get(f'latency_ms_{p}'))
                                  for p in ('p50', 'p95')},
        'inference_ms': {p: _number(facts.get(f'inference_ms_{p}')) for p in ('p50', 'p95')},
        'capture_to_receive_ms': {f'p{p}': round(float(np.percentile(seen, p)), 2)
                                  if seen else None for p in (50, 95)},
    }


def _number(text):
    return float(text) if text not in (None, 'n/a') else None


def _files_of_demo(out):
    """
    Return what an earlier demo has left in the folder `out`, files before the folders they are in.

    Raise RgbxSegError where there is anything else: a folder of the user is left as it is.
    """
    if not out.exists():
        return []
    try:
        marked = {out / MARKER, *(out / name for name in json.loads((out / MARKER).read_text()))}
    except (OSError, ValueError):
        marked = set()
    found = sorted(out.rglob('*'), reverse=True)
    strange = [path for path in found if path not in marked]
    if strange or not out.is_dir():
        raise RgbxSegError(f'{str(out)!r} holds what no demo has written, such as '
                           f'{(strange or [out])[-1].name!r}: choose another folder with --out')
    return found


def _replace(out, new):
    """Let what is in `new` take the place of the earlier demo in `out`, and mark it."""
    made = sorted(str(path.relative_to(new)) for path in new.rglob('*'))
    (new / MARKER).write_text(json.dumps(made), encoding='utf-8')
    for path in _files_of_demo(out):
        path.rmdir() if path.is_dir() else path.unlink()
    out.mkdir(exist_ok=True)
    for path in new.iterdir():
        path.rename(out / path.name)


def add_arguments(parser):
    """Declare the command's arguments."""
    parser.add_argument('--out', type=Path, default=Path('out/demo'),
                        help='folder for pictures, bags and metrics of the newest demo '
                             '(default: %(default)s)')
    parser.add_argument('--model', default='msrs_scene',
                        help='a card, or the name of one (default: %(default)s)')
    parser.add_argument('--device', default='auto', help='auto, cpu or cuda (default: auto)')
    parser.add_argument('--rate', type=float, default=RATE_HZ, metavar='HZ',
                        help='pairs per second (default: %(default)g)')
    parser.add_argument('--ground', action='store_true',
                        help='also show the ground from above, by an assumed pose of the camera')


def _ground(args):
    """Return what shows the ground, or None where it is not asked for."""
    if not args.ground:
        return None
    from rgbx_seg_ros.node.ground_demo import Ground  # the rest does without nav_msgs
    return Ground(args.model)


def main(args):
    """Run the command."""
    _files_of_demo(args.out)  # which raises an error before the work
    args.out.parent.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(prefix='.rgbx-seg-demo-', dir=args.out.parent) as folder:
        new = Path(folder)
        metrics = run(new, args.model, args.device, args.rate, _ground(args))
        (new / 'metrics.json').write_text(json.dumps(metrics, indent=2), encoding='utf-8')
        _replace(args.out, new)

    drops = ', '.join(f'{name} {count}' for name, count in metrics['drops'].items()) or 'none'
    rows = [
        ('pairs played', metrics['pairs_in']), ('masks received', metrics['masks_out']),
        ('drops', drops), ('runs on', metrics['device']),
        *((title, f'{metrics[key]["p50"]} / {metrics[key]["p95"]} ms') for title, key in (
            ('inference p50/p95', 'inference_ms'),
            ('capture to publish p50/p95', 'capture_to_publish_ms'),
            ('capture to receive p50/p95', 'capture_to_receive_ms')))]
    print(*aligned([(title, str(value)) for title, value in rows], '<<'), sep='\n')
    if args.ground:
        print(f'the ground, by an assumed pose of the camera: {args.out / "ground_sheet.png"}')
    print(f'pictures: {args.out / "contact_sheet.png"}, overlay_*.png; bag: '
          f'{args.out / "recording"}')
    if not metrics['masks_out']:
        raise RgbxSegError('no mask came out: see node.log in the same folder')
