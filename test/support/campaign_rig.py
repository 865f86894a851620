# Copyright 2026 rgbx_seg_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""
Two cameras with known content, the node, and an account of every frame and every mask.

A mask tells of which two frames it was made, see campaign_frames, and is compared with those that
were sent under its stamp.
"""

from bisect import bisect_left, bisect_right
from collections import Counter, defaultdict
from dataclasses import dataclass, field
import heapq
import itertools
import sys
import time

from diagnostic_msgs.msg import DiagnosticArray
import numpy as np
from rclpy.parameter import Parameter
from rclpy.qos import QoSProfile
from rclpy.serialization import deserialize_message
from rgbx_seg_ros import engines
from rgbx_seg_ros.health.report import Level
from rgbx_seg_ros.messages.images import decode_x, to_image
from rgbx_seg_ros.node import node, run
from rgbx_seg_ros.node.diagnostics import from_array
from rgbx_seg_ros.sync.pairing import CLOCK_SETTLE_NS, DROP_REASONS
from sensor_msgs.msg import CameraInfo, Image
from support.campaign_frames import BarEngine, bars, BITS, coloured, read
from support.ros_stage import header, next_domain, Stage

PERIOD_S = 0.03
SKEW_NS = 8_000_000
"""X is stamped up to this long before RGB."""
SLOP_NS = 12_000_000
"""More than the skew, and less than to the frames before and after: there is one right partner."""
TRANSPORT_MS = 100.0
"""What a mask may take from the node's last look at its age to here, on a busy machine."""
CLOCK_RANGE_NS = 60 * 10 ** 9
"""The age of a frame counts by its stamp up to this far from the clock, beyond by its receipt."""
JUMP_NS = 200_000_000
"""A stamp further back than this is a clock that was set back."""
SIZE = (48, 64)

PARAMETERS = {
    # The middleware loses nothing then, so what is lost was lost by the node.
    'rgb.reliability': 'reliable', 'x.reliability': 'reliable', 'rgb.depth': 100, 'x.depth': 100,
    'sync.slop_ms': SLOP_NS / 1e6, 'sync.max_wait_ms': 60.0, 'health.late_ms': 100.0,
    'health.dead_ms': 300.0, 'health.frozen_ms': 300.0, 'health.recovery_ms': 150.0}
QOS = QoSProfile(depth=100)


@dataclass(eq=False)
class Shot:
    """A frame on its way to the node."""

    modality: str
    stamp_ns: int
    grey: np.ndarray
    encoding: str
    delay_s: float = 0.0
    intact: bool = True
    """Whether nothing is wrong with it: two such frames of one time are a pair."""
    known: bool = True
    """Whether its number is known; else it counts as any."""
    hopeless: bool = False
    """Whether no mask may come of it."""
    alter: object = None
    """Changes the message, if not None."""
    sent_ns: int = 0
    index: int = 0
    number: int = 0
    size: tuple | None = SIZE
    key: tuple = ()
    """Seconds, nanoseconds and frame_id of the mask that may come of it."""


@dataclass
class Row:
    """What one scenario came to."""

    name: str
    tries: int = 0
    sent: int = 0
    intact: int = 0
    masks: int = 0
    drops: Counter = field(default_factory=Counter)
    lost: int | None = 0
    """RGB frames of which neither a mask came nor a count by reason tells; None: cannot tell."""
    wrong: list = field(default_factory=list)
    ended: int = 0
    back_ms: list = field(default_factory=list)


def table(rows) -> str:
    """Return the rows as markdown."""
    lines = ['| fault | tries | RGB frames | intact pairs | masks | dropped, by reason | lost '
             '| wrong | ended | back after, ms |',
             '| --- | ---: | ---: | ---: | ---: | --- | ---: | ---: | ---: | ---: |']
    for row in rows:
        drops = ', '.join(f'{reason} {count}' for reason, count in row.drops.most_common()
                          if count)
        back = '-'
        if row.back_ms:
            back = f'{np.median(row.back_ms):.0f} / {max(row.back_ms):.0f}'
        lost = '-' if row.lost is None else row.lost
        lines.append(f'| {row.name} | {row.tries} | {row.sent} | {row.intact} | {row.masks} '
                     f'| {drops or "-"} | {lost} | {len(row.wrong)} | {row.ended} | {back} |')
    return '\n'.join(lines)


class Gone(Exception):
    """The node gives no masks any more."""


class Rig:
    """The two cameras and the node, in this process, as a context."""

    kind, suffix = Image, ''
    """Of the topics on which the cameras publish."""

    def __init__(self, model, seed=0, degrades=False, **parameters):
        self.rng = np.random.default_rng(seed)
        self.domain = next_domain()
        self.stage = Stage(self.domain)
        self.degrades = degrades
        self.clock_ns = {'rgb': 0, 'x': 0}
        self.size = {'rgb': SIZE, 'x': SIZE}
        self.encoding = {'rgb': 'rgb8', 'x': 'mono8'}
        self.back_ms = []
        self.untold = []
        self.parameters = {'model': str(model), **PARAMETERS, **parameters}
        self._number = int(self.rng.integers(60_000))
        self._queue, self._order = [], itertools.count(1)
        self._sent = []
        self._publishers = {}
        self.stage.listen(Image, 'segmentation/mask', QOS)
        self.stage.listen(CameraInfo, 'segmentation/camera_info', QOS)
        self.stage.listen(DiagnosticArray, '/diagnostics', QOS)
        self.start_node()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        try:
            self.stop_node()
        finally:
            self.stage.close()

    def start_node(self):
        """Start the node with an engine class of its own."""
        class Engine(BarEngine):
            pass
        self.engine = Engine
        before = engines.ENGINES['torch'], run.self_test
        engines.ENGINES['torch'], run.self_test = Engine, do_nothing
        try:
            self.node = node.SegNode(context=self.stage.context, parameter_overrides=[
                Parameter(name, value=value) for name, value in self.parameters.items()])
            self.stage.spin(self.node)
            assert self.node.start()
        finally:
            engines.ENGINES['torch'], run.self_test = before

    def stop_node(self):
        """End the node."""
        self.node.destroy_node()

    def pack(self, image):
        """Return the message that goes out for an Image."""
        return image

    # Frames

    def publisher(self, topic, kind=None):
        """Return the publisher of a topic, by default of an image; a new one after `restart`."""
        if topic not in self._publishers:
            publisher = self._publishers[topic] = self.stage.node.create_publisher(
                kind or self.kind, topic if kind else f'{topic}/image{self.suffix}', QOS)
            self.stage.wait(publisher.get_subscription_count, 60)
        return self._publishers[topic]

    def restart(self, modality):
        """Take a camera's publisher away; the next frame makes a new one."""
        publisher = self._publishers.pop(modality)
        publisher.wait_for_all_acked()
        self.stage.node.destroy_publisher(publisher)

    def tick(self, **alter):
        """
        Take a picture with both cameras, and let a period pass.

        `rgb` and `x` are called with the Shot and return what is to be sent in its place.
        """
        self._number = self._number % (2 ** BITS - 2) + 1
        now_ns = self.stage.stamp()
        for modality in ('rgb', 'x'):
            grey = bars(self.size[modality], self._number) * np.uint8(150) + self.rng.integers(
                40, 60, self.size[modality], np.uint8)
            skew_ns = int(self.rng.integers(SKEW_NS)) if modality == 'x' else 0
            shot = Shot(modality, now_ns + self.clock_ns[modality] - skew_ns, grey,
                        self.encoding[modality])
            for one in alter.get(modality, lambda shot: [shot])(shot):
                heapq.heappush(self._queue, (time.monotonic() + one.delay_s, next(self._order),
                                             one))
        self.wait(PERIOD_S)

    def wait(self, seconds):
        """Send what is due in the next seconds, when it is."""
        end = time.monotonic() + seconds
        while True:
            when = min(end, self._queue[0][0] if self._queue else end)
            time.sleep(max(0.0, when - time.monotonic()))
            if not self._queue or self._queue[0][0] > end:
                return
            self._send(heapq.heappop(self._queue)[2])

    def _send(self, shot):
        message, raw = self.pack(to_image(
            coloured(shot.grey, shot.encoding), shot.encoding,
            header(shot.stamp_ns, shot.modality))), None
        if shot.alter is not None:
            message = shot.alter(message)
        publisher = self.publisher(shot.modality)
        if isinstance(message, bytes):  # what goes over the wire itself
            raw = message
            try:
                message = deserialize_message(raw, self.kind)
            except Exception:  # noqa: BLE001 whatever the middleware calls it: it is no message
                publisher.publish(raw)
                return
        stamp = message.header.stamp
        shot.index, shot.sent_ns = len(self._sent), time.time_ns()
        shot.number = read(shot.grey)
        if shot.known:
            shot.size = shot.grey.shape
        elif isinstance(message, Image):
            shot.size = message.height, message.width
        else:
            shot.size = None
        shot.stamp_ns = stamp.sec * 10 ** 9 + stamp.nanosec
        # A mask of X alone lies on RGB, of which the node has seen frames by then.
        alone = self.degrades and shot.modality == 'x'
        shot.key = stamp.sec, stamp.nanosec, 'rgb' if alone else message.header.frame_id
        shot.grey = shot.alter = None
        self._sent.append(shot)
        publisher.publish(message if raw is None else raw)

    def play(self, seconds, **alter):
        """Take pictures for a while."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            self.tick(**alter)

    def play_until_told(self, words, seconds=10.0, **alter):
        """Take pictures until the headline has the words and is not OK; note if it never does."""
        reports, told = self.stage.received['/diagnostics'], 'nothing'
        seen, end = len(reports), time.monotonic() + seconds
        while time.monotonic() < end:
            self.tick(**alter)
            for message, _ in reports[seen:]:
                seen += 1
                head = _headline(message)
                told = f'{head.level.name} {head.message}'
                if words in told and head.level != Level.OK:
                    return
        self.untold.append(f'diagnostics do not tell of {words!r}, but of {told!r}')

    def recover(self, seconds=20.0):
        """Take good pictures until a mask of two of them comes; raise Gone if none ever does."""
        masks = self.stage.received['segmentation/mask']
        start_ns, end, seen = self.stage.stamp(), time.monotonic() + seconds, len(masks)
        while True:
            self.tick()
            for message, received_ns in masks[seen:]:
                seen += 1
                stamp = message.header.stamp
                if (stamp.sec * 10 ** 9 + stamp.nanosec >= start_ns
                        and read(decode_x(message)[message.height // 2:])):
                    self.back_ms.append((received_ns - start_ns) / 1e6)
                    return
            if time.monotonic() > end:
                raise Gone

    # Accounts

    def row(self, name, tries, ended=0):
        """Let everything arrive, and return what it came to."""
        while self._queue:
            self.wait(PERIOD_S)
        # Frames that still wait for a partner are no loss. Good pairs take them out of the queues,
        # but for one that comes before the last frame of the other topic, or while a clock that
        # was set back settles.
        self.wait(CLOCK_SETTLE_NS / 1e9)
        for _ in range(3):
            self.tick()
            self.wait(0.2)
        lost = None
        if not ended:
            end = time.monotonic() + 5
            while (lost := self.lost()) and time.monotonic() < end:
                time.sleep(0.05)
        intact = {name: sorted(shot.stamp_ns for shot in self._sent
                               if shot.intact and shot.modality == name) for name in ('rgb', 'x')}
        pairs = sum(bisect_left(intact['x'], stamp_ns - SLOP_NS)
                    < bisect_right(intact['x'], stamp_ns + SLOP_NS) for stamp_ns in intact['rgb'])
        return Row(name, tries, sum(shot.modality == 'rgb' for shot in self._sent), pairs,
                   len(self.stage.received['segmentation/mask']), self._told()[1], lost,
                   self.wrong(), ended, self.back_ms[1:])

    def _told(self):
        """Return the newest sections of the node's diagnostics and its counts of drops."""
        messages = self.stage.received['/diagnostics']
        nodes = from_array(messages[-1][0]) if messages else {}
        if not nodes:
            return None, Counter()
        sections, = nodes.values()
        return {name: status.values for name, status in sections.items()}, Counter({
            name.partition('.')[2]: int(value)
            for name, value in sections['segmentation'].values.items()
            if name.startswith('drops.')})

    def lost(self):
        """
        Return how many RGB frames have come to nothing without a reason.

        Each ends in a mask or in one count. Of the reasons that frames of X share, what X came to
        tells how many are its own: each of its frames is in a pair or in one count.
        """
        told, drops = self._told()
        if told is None:
            return len(self._sent)
        by_x = {shot.key for shot in self._sent if shot.modality == 'x'}
        masks = Counter(_key(message) in by_x
                        for message, _ in self.stage.received['segmentation/mask'])
        received = {name: int(told[name]['received']) for name in ('rgb', 'x')}
        shared = drops['x_malformed'] + drops['sensor_failed']
        of_x = received['x'] - int(told['segmentation']['pairs']) - masks[True] - sum(
            drops[name] for name in DROP_REASONS if name.startswith('x_'))
        of_rgb = shared - of_x + sum(
            count for name, count in drops.items()
            if name not in ('x_malformed', 'sensor_failed')
            and not (name in DROP_REASONS and name.startswith('x_')))
        undelivered = max(0, sum(s.modality == 'rgb' for s in self._sent) - received['rgb'])
        return undelivered + received['rgb'] - masks[False] - of_rgb

    def wrong(self):
        """Return what is wrong with masks, one line for each."""
        found, last = [], None
        by_key = defaultdict(list)
        for shot in self._sent:
            by_key[shot.key].append(shot)
        by_x = sorted((shot.stamp_ns, shot.index, shot) for shot in self._sent
                      if shot.modality == 'x')
        for message, received_ns in self.stage.received['segmentation/mask']:
            candidates = by_key[_key(message)]
            faults = ['its stamp is that of no frame']
            for shot in candidates:
                faults = [*self._faults(shot, message, received_ns, last, by_x)]
                if not faults:
                    last = shot
                    break
            if faults:
                found.append(f'{_key(message)}: {"; ".join(faults)}')
        found += [f'{_key(message)}: camera_info with the stamp of no frame'
                  for message, _ in self.stage.received['segmentation/camera_info']
                  if _key(message) not in by_key]
        return [*found, *self._untrue(), *self.untold]

    def _untrue(self):
        """Return where diagnostics were OK although no mask had come since the report before."""
        masks = sorted(ns for _, ns in self.stage.received['segmentation/mask'])
        slack_ns = int(TRANSPORT_MS * 1e6)
        for (_, start_ns), (message, end_ns) in itertools.pairwise(
                self.stage.received['/diagnostics']):
            head = _headline(message)
            if head.level == Level.OK and bisect_left(masks, start_ns - slack_ns) == bisect_right(
                    masks, end_ns + slack_ns):
                yield f'diagnostics say {head.message!r}, but no mask has come'

    def _faults(self, shot, message, received_ns, last, by_x):
        """Yield what speaks against `message` being the mask of `shot`."""
        if shot.hopeless:
            yield 'no mask may come of its frame'
        if last is not None and shot.stamp_ns <= last.stamp_ns and not (
                last.stamp_ns - shot.stamp_ns > JUMP_NS and shot.index > last.index):
            yield f'it comes after one that is {(last.stamp_ns - shot.stamp_ns) / 1e6} ms newer'
        lag_ns = shot.sent_ns - shot.stamp_ns
        start_ns = shot.stamp_ns if 0 <= lag_ns <= CLOCK_RANGE_NS else shot.sent_ns
        age_ms = (received_ns - start_ns) / 1e6
        if age_ms > self.parameters.get('max_age_ms', 2000.0) + TRANSPORT_MS:
            yield f'it is {age_ms:.0f} ms old'
        mask = decode_x(message)
        if self.degrades and (mask == 255).all():
            return
        upper, lower = mask[:-(-mask.shape[0] // 2)], mask[-(-mask.shape[0] // 2):]
        if shot.modality == 'x':
            if not self.degrades or read(upper) or read(lower) != shot.number:
                yield f'it shows {read(upper)} and {read(lower)}, sent was X {shot.number}'
            return
        if shot.size is not None and mask.shape != shot.size:
            yield f'its size is {mask.shape}, not {shot.size}'
        if shot.known and not np.array_equal(mask[:len(upper)], bars(
                mask.shape, shot.number, 0)[:len(upper)]):
            yield f'it shows {read(upper)}, sent was RGB {shot.number}'
        near = by_x[bisect_left(by_x, (shot.stamp_ns - SLOP_NS,)):
                    bisect_right(by_x, (shot.stamp_ns + SLOP_NS + 1,))]
        numbers = [x.number if x.known else None for *_, x in near if not x.hopeless]
        readable = shot.known or (lower.size and mask.shape[1] >= 2 * BITS)
        if (readable and None not in numbers and read(lower) not in numbers
                and not (self.degrades and not lower.any())):
            yield f'it shows X {read(lower)}, within the slop are {numbers}'


def do_nothing(segmenter):
    """Stand in for the self-test: an engine that reads bars sees nothing in a golden frame."""


def _headline(message):
    sections, = from_array(message).values()
    return sections['segmentation']


def _key(message):
    stamp = message.header.stamp
    return stamp.sec, stamp.nanosec, message.header.frame_id


def serve():
    """Run the node as its own command does, with the engine that reads bars."""
    engines.ENGINES['torch'] = BarEngine
    run.self_test = do_nothing
    return node.main()


if __name__ == '__main__':
    sys.exit(serve())
