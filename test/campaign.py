# Copyright 2026 rgbx_seg_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""
The fault campaign: every fault again and again at random, and an account of all masks.

    python test/campaign.py --seconds 600

prints the tables of docs/reliability.md. `run` runs one scenario, as the tests do.
"""

import argparse
from copy import copy
from dataclasses import dataclass, field
from functools import partial
import re
import sys
import time

import cv2
import numpy as np
from rclpy.parameter import Parameter
from rclpy.serialization import serialize_message
from rgbx_seg_ros.messages.images import decode_rgb, decode_x
from sensor_msgs.msg import CameraInfo, CompressedImage
from support.campaign_frames import BITS
from support.campaign_processes import PROCESS_SCENARIOS, process_table
from support.campaign_rig import Gone, PERIOD_S, Rig, Row, SIZE, table
from support.ros_stage import header

RGB_ENCODINGS = ('rgb8', 'bgr8', 'rgba8', 'bgra8', 'mono8', 'rgb16', 'mono16', 'bayer_rggb8',
                 'yuv422', '8UC3')
X_ENCODINGS = ('mono8', '8UC1', 'mono16', '16UC1', '32FC1', 'rgb8')


def nothing(shot):
    """Send nothing."""
    return []


def as_message(alter, hopeless=False):
    """Return a fault that changes the message by `alter`, so that any number may be in it."""
    def change(shot):
        shot.alter, shot.intact, shot.known, shot.hopeless = alter, False, False, hopeless
        return [shot]
    return change


def one_of(rig):
    """Return rgb or x."""
    return str(rig.rng.choice(['rgb', 'x']))


def some(rig):
    """Return rgb, x or both."""
    return [('rgb',), ('x',), ('rgb', 'x')][rig.rng.integers(3)]


def cut(rig, modality):
    rig.play(rig.rng.uniform(0.35, 0.7), **{modality: nothing})


def degraded(rig, fault):
    """Let a sensor fail under a policy that goes on without it."""
    policies = {'rgb': ('x_only', 'unlabeled'), 'x': ('rgb_only', 'unlabeled')}
    modality = one_of(rig)
    policy = str(rig.rng.choice(policies[modality]))
    assert rig.node.set_parameters([Parameter('degraded.policy', value=policy)])[0].successful
    fault(rig, modality)


def frozen(rig, modality):
    held = []

    def hold(shot):
        held.append(shot.grey)
        shot.grey, shot.intact = held[0], False
        return [shot]
    rig.play(rig.rng.uniform(0.4, 0.8), **{modality: hold})


def saturated(rig, modality):
    value = rig.rng.choice([0, 255])

    def saturate(shot):
        shot.grey, shot.intact = np.full_like(shot.grey, value), False
        shot.hopeless = True
        return [shot]
    rig.play(rig.rng.uniform(0.1, 0.5), **{modality: saturate})


def delayed(rig):
    """Let one stream come up to half a second late, each frame by the same time."""
    delay_s = rig.rng.uniform(0, 0.5)

    def delay(shot):
        shot.delay_s = delay_s
        return [shot]
    rig.play(rig.rng.uniform(0.2, 0.6), **{one_of(rig): delay})


def jittered(rig):
    def delay(shot):
        shot.delay_s = rig.rng.uniform(0, PERIOD_S)
        return [shot]
    rig.play(rig.rng.uniform(0.2, 0.6), rgb=delay, x=delay)


def duplicated(rig):
    def repeat(shot):
        copies = [copy(shot) for _ in range(rig.rng.integers(3))]
        for one in copies:
            one.delay_s, one.intact = rig.rng.choice([0.0, rig.rng.uniform(0, 0.1)]), False
        return [shot, *copies]
    rig.play(rig.rng.uniform(0.2, 0.6), **dict.fromkeys(some(rig), repeat))


def reordered(rig):
    def delay(shot):
        if rig.rng.random() < 0.3:
            shot.delay_s = rig.rng.uniform(0, 3 * PERIOD_S)
        return [shot]
    rig.play(rig.rng.uniform(0.2, 0.6), **dict.fromkeys(some(rig), delay))


def without_stamp(rig):
    def strip(shot):
        if rig.rng.random() < 0.5:
            shot.stamp_ns, shot.intact, shot.hopeless = 0, False, True
        return [shot]
    rig.play(rig.rng.uniform(0.2, 0.6), **dict.fromkeys(some(rig), strip))


def clock_jump(rig, sign):
    """Let a clock, or both, jump by 10 ms to a day, and back."""
    jump_ns = sign * int(10 ** rig.rng.uniform(7, 13.9))
    for modality in some(rig):
        rig.clock_ns[modality] = jump_ns
    rig.play(rig.rng.uniform(0.1, 0.4))
    rig.clock_ns.update(rgb=0, x=0)


def clock_behind(rig):
    """Let the clock of a camera, or of both, be 3 to 30 s behind, until diagnostics say so."""
    behind_ns = int(rig.rng.uniform(3e9, 30e9))
    for modality in some(rig):
        rig.clock_ns[modality] = -behind_ns
    rig.play_until_told('chrony')
    rig.clock_ns.update(rgb=0, x=0)


def truncated(rig):
    def cut_off(message):
        message.data = message.data[:rig.rng.integers(len(message.data))]
        return message
    rig.play(rig.rng.uniform(0.1, 0.4), **dict.fromkeys(some(rig), as_message(cut_off, True)))


def random_data(rig):
    def scramble(message):
        message.data = rig.rng.bytes(int(rig.rng.integers(2 * len(message.data))))
        return message
    rig.play(rig.rng.uniform(0.1, 0.4), **dict.fromkeys(some(rig), as_message(scramble)))


def text(rng):
    """Return any text that a ROS string can hold."""
    return ''.join(map(chr, rng.integers(1, 0xD800, rng.integers(12))))


def scramble_header(header, name, rng):
    """Put anything into the frame_id or the stamp."""
    if name == 'frame_id':
        header.frame_id = text(rng)
    else:
        header.stamp.sec = int(rng.integers(-2 ** 31, 2 ** 31))
        header.stamp.nanosec = int(rng.integers(2 ** 32))


def random_fields(rig):
    """Put anything into one field after the other, or into several."""
    rng = rig.rng

    def change(message):
        for name in rng.choice(FIELDS, rng.integers(1, 4)):
            if name in ('height', 'width', 'step'):
                high = int(rng.choice([2, 100, 1000, 2 ** 32]))
                setattr(message, name, int(rng.integers(high)))
            elif name == 'is_bigendian':
                message.is_bigendian = int(rng.integers(256))
            elif name == 'encoding':
                message.encoding = text(rng) if rng.random() < 0.5 else str(
                    rng.choice([*RGB_ENCODINGS, *X_ENCODINGS, '64FC4', 'nv12']))
            elif name == 'data':
                message.data = rng.bytes(int(rng.choice([0, 1, 1000, 3072, 9216, 100_000])))
            else:
                scramble_header(message.header, name, rng)
        return message
    rig.play(rng.uniform(0.1, 0.4), **dict.fromkeys(some(rig), as_message(change)))


FIELDS = ('height', 'width', 'step', 'is_bigendian', 'encoding', 'data', 'frame_id', 'stamp')


def random_wire(rig):
    """Send what is no message: one cut off, or with bytes changed, or any bytes."""
    def garble(message):
        raw = bytearray(serialize_message(message))
        kind = rig.rng.integers(3)
        if kind == 0:
            return bytes(raw[:rig.rng.integers(len(raw))])
        if kind == 1:
            return rig.rng.bytes(int(rig.rng.integers(1000)))
        start = int(rig.rng.integers(4, 60))  # behind the CDR header, up to the pixels
        raw[start:start + 8] = rig.rng.bytes(8)
        return bytes(raw)
    rig.play(rig.rng.uniform(0.1, 0.4), **dict.fromkeys(some(rig), as_message(garble)))


class CompressedRig(Rig):
    """The same, with PNGs on the compressed topics."""

    kind, suffix = CompressedImage, '/compressed'

    def pack(self, image):
        pixels = decode_x(image) if image.encoding == 'mono8' else decode_rgb(image)
        return CompressedImage(header=image.header, format='png',
                               data=cv2.imencode('.png', pixels)[1].tobytes())


def random_compressed(rig):
    # One modality at a time: a pair of which both cannot be decoded is counted twice.
    def change(message):
        kind = rig.rng.integers(4)
        if kind == 0:
            message.data = message.data[:rig.rng.integers(len(message.data))]
        elif kind == 1:
            message.data = rig.rng.bytes(int(rig.rng.integers(1000)))
        elif kind == 2:
            message.format = text(rig.rng)
        else:
            data = bytearray(message.data)
            for _ in range(rig.rng.integers(1, 10)):
                data[rig.rng.integers(len(data))] = rig.rng.integers(256)
            message.data = bytes(data)
        return message
    rig.play(rig.rng.uniform(0.1, 0.4), **{one_of(rig): as_message(change)})


class CameraInfoRig(Rig):
    """The same, with X brought onto RGB by what the camera_infos say: both cameras are alike."""

    def tick(self, info=None, **alter):
        for modality in ('rgb', 'x'):
            message = CameraInfo(
                header=header(self.stage.stamp(), modality), height=SIZE[0], width=SIZE[1],
                distortion_model='plumb_bob', d=[0.0] * 5, r=np.eye(3).ravel(),
                k=[60.0, 0.0, 31.5, 0.0, 60.0, 23.5, 0.0, 0.0, 1.0],
                p=[60.0, 0.0, 31.5, 0.0, 0.0, 60.0, 23.5, 0.0, 0.0, 0.0, 1.0, 0.0])
            if info is not None:
                info(message)
            self.publisher(f'{modality}/camera_info', CameraInfo).publish(message)
        super().tick(**alter)


def random_camera_info(rig):
    """Put anything into some fields."""
    rng = rig.rng

    def numbers(count):
        values = rng.normal(0, 10 ** rng.uniform(-3, 30), count)
        values[rng.random(count) < 0.2] = rng.choice([np.nan, np.inf, -np.inf, 0.0])
        return values

    def change(info):
        for name in rng.choice(['height', 'width', 'distortion_model', 'd', 'k', 'r', 'p',
                                'frame_id', 'stamp'], rng.integers(1, 4)):
            if name in ('height', 'width'):
                setattr(info, name, int(rng.integers(int(rng.choice([2, 100, 2 ** 32])))))
            elif name == 'distortion_model':
                info.distortion_model = text(rng) if rng.random() < 0.5 else str(
                    rng.choice(['equidistant', 'rational_polynomial', '']))
            elif name in ('d', 'k', 'r', 'p'):
                count = {'k': 9, 'r': 9, 'p': 12}.get(name, int(rng.integers(15)))
                setattr(info, name, numbers(count))
            else:
                scramble_header(info.header, name, rng)

    def doubtful(shot):  # a camera that is possible, but another, moves what X shows
        shot.known = False
        return [shot]
    rig.play(4 * PERIOD_S, x=doubtful)
    rig.play(rng.uniform(0.1, 0.4), x=doubtful, info=change)
    rig.play(4 * PERIOD_S, x=doubtful)


def bad_camera_info(rig):
    """Let camera_infos lose the focal length or get a wrong size, until diagnostics say so."""
    kind, modalities = rig.rng.integers(3), some(rig)

    def spoil(info):
        if info.header.frame_id not in modalities:
            return
        if kind == 0:
            info.k[[0, 4]] = 0.0
        elif kind == 1:
            info.width *= 2
        else:
            info.width = info.height = 0
    rig.play_until_told('could not be brought onto rgb', info=spoil)


def size_change(rig):
    for modality in some(rig):
        rig.size[modality] = tuple(int(side) for side in rig.rng.integers((8, 3 * BITS), 200))
    rig.play(rig.rng.uniform(0, 0.2))


def encoding_change(rig):
    """Change encodings, byte order and padding; every one of these frames is a good one."""
    rng = rig.rng
    rig.encoding = {'rgb': str(rng.choice(RGB_ENCODINGS)), 'x': str(rng.choice(X_ENCODINGS))}
    padding, swap = int(rng.choice([0, 1, 64])), rng.random() < 0.5

    def pad(message):
        rows = np.frombuffer(message.data, np.uint8)
        if swap and '16' in message.encoding:
            message.is_bigendian = 1
            rows = rows.reshape(-1, 2)[:, ::-1]
        rows = np.pad(rows.reshape(message.height, -1), ((0, 0), (0, padding)))
        message.data, message.step = rows.tobytes(), rows.shape[1]
        return message

    def change(shot):
        shot.alter = pad
        return [shot]
    rig.play(rng.uniform(0.1, 0.3), rgb=change, x=change)


def publisher_restart(rig):
    for modality in some(rig):
        rig.restart(modality)
    rig.play(rig.rng.uniform(0.1, 0.3))


def engine_failure(rig):
    import torch
    failures = [RuntimeError('the engine is broken'), MemoryError(), ValueError('no'),
                torch.OutOfMemoryError('CUDA out of memory')]
    rig.engine.failures = [failures[i] if i < len(failures) else None
                           for i in rig.rng.integers(8, size=20)]
    rig.play(rig.rng.uniform(0.2, 0.5))
    rig.engine.failures = ()


def engine_slow(rig):
    rig.engine.seconds = rig.rng.uniform(0, 0.8)
    rig.play(rig.rng.uniform(0.5, 1.0))
    rig.engine.seconds = 0.0


@dataclass
class Scenario:
    """A fault, and how the node is set up for it."""

    fault: object
    parameters: dict = field(default_factory=dict)
    degrades: bool = False
    """Whether masks without one modality are right."""
    rig: type = Rig


SCENARIOS = {
    'RGB cut and restored': Scenario(partial(cut, modality='rgb')),
    'X cut and restored': Scenario(partial(cut, modality='x')),
    'RGB frozen': Scenario(partial(frozen, modality='rgb')),
    'X frozen': Scenario(partial(frozen, modality='x')),
    'RGB saturated': Scenario(partial(saturated, modality='rgb')),
    'X saturated': Scenario(partial(saturated, modality='x')),
    'one cut, degraded mode': Scenario(partial(degraded, fault=cut), degrades=True),
    'one frozen, degraded mode': Scenario(partial(degraded, fault=frozen), degrades=True),
    'one delayed by 0-500 ms': Scenario(delayed),
    'jittered by a period': Scenario(jittered),
    'duplicated': Scenario(duplicated),
    'reordered': Scenario(reordered),
    'stamps of zero': Scenario(without_stamp),
    'clock jumps forward and returns': Scenario(partial(clock_jump, sign=1)),
    'clock jumps back and returns': Scenario(partial(clock_jump, sign=-1)),
    'clock behind by 3-30 s': Scenario(clock_behind),
    'Image: data cut off': Scenario(truncated),
    'Image: random data': Scenario(random_data),
    'Image: random fields': Scenario(random_fields),
    'no message at all on the wire': Scenario(random_wire),
    'CompressedImage: random': Scenario(
        random_compressed, {'rgb.transport': 'compressed', 'x.transport': 'compressed'},
        rig=CompressedRig),
    'CameraInfo: random fields': Scenario(
        random_camera_info, {'registration.mode': 'extrinsics'}, rig=CameraInfoRig),
    'CameraInfo: turns bad': Scenario(
        bad_camera_info, {'registration.mode': 'extrinsics'}, rig=CameraInfoRig),
    'size changes': Scenario(size_change),
    'encoding, byte order, padding change': Scenario(encoding_change),
    'publisher starts again': Scenario(publisher_restart),
    'engine fails now and then': Scenario(engine_failure),
    'engine slower than max_age_ms': Scenario(engine_slow, {'max_age_ms': 300.0}),
}


def run(name, model, seconds, seed=0) -> Row:
    """Run one scenario for that long, a try at least; return what it came to."""
    scenario, tries, ended = SCENARIOS[name], 0, 0
    with scenario.rig(model, seed, scenario.degrades, **scenario.parameters) as rig:
        try:
            rig.recover()
            end = time.monotonic() + seconds
            while tries == 0 or time.monotonic() < end:
                tries += 1
                rig.play(3 * PERIOD_S)
                scenario.fault(rig)
                rig.recover()
        except Gone:
            ended = 1
        return rig.row(name, tries, ended)


def main():
    """Run every scenario and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.partition('\n\n')[0].strip())
    parser.add_argument('--seconds', type=float, default=600, help='how long, about, in all')
    parser.add_argument('--model', default='msrs_scene', help='name or path of a card')
    parser.add_argument('--seed', type=int, default=0)
    parser.add_argument('--only', default='', help='pattern: scenarios that match')
    options = parser.parse_args()
    names = [name for name in (*SCENARIOS, *PROCESS_SCENARIOS) if re.search(options.only, name)]
    each_s = options.seconds / max(1, len(names))
    rows = []
    for name in names:
        print(f'{name} ...', file=sys.stderr, flush=True)
        scenario = PROCESS_SCENARIOS.get(name) or run
        rows.append(scenario(name, options.model, each_s, options.seed))
    streams = [row for row in rows if isinstance(row, Row)]
    processes = [row for row in rows if not isinstance(row, Row)]
    for row in rows:
        for fault in row.wrong if row in streams else row.faults:
            print(f'{row.name}: {fault}', file=sys.stderr)
    print(table(streams))
    print()
    print(process_table(processes))
    return any(row.wrong or row.lost or row.ended for row in streams) or any(
        row.faults for row in processes)


if __name__ == '__main__':
    sys.exit(main())
