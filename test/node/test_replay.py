# Copyright 2026 rgbx_seg_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""A bag, played to the live node and replayed without ROS, with one parameter file for both."""

import json

import cv2
import numpy as np
import pytest

pytest.importorskip('rclpy', reason='needs rclpy, from a ROS distribution or the ros extra')

from rgbx_seg_ros.bags.storage import BagReader, BagWriter, image_message  # noqa: E402,I100
from rgbx_seg_ros.datasets import FolderDataset  # noqa: E402
from rgbx_seg_ros.engines.torch_engine import TorchEngine  # noqa: E402
from rgbx_seg_ros.extraction.extract import extract  # noqa: E402
from rgbx_seg_ros.inference.segmenter import Segmenter  # noqa: E402
from rgbx_seg_ros.messages.images import decode_rgb, decode_x, stamp_ns, to_image  # noqa: E402
from rgbx_seg_ros.parameters import Parameters, read_parameters  # noqa: E402
from rgbx_seg_ros.replay.replay import replay  # noqa: E402
from rgbx_seg_ros.resources import share_dir  # noqa: E402
from sensor_msgs.msg import CameraInfo, Image  # noqa: E402
from std_msgs.msg import Header  # noqa: E402
from support.bag_files import camera_info_message  # noqa: E402
from support.node_stage import ThresholdEngine  # noqa: E402

START_NS = 1_700_000_000_000_000_000
COMMON = """
    device: cpu
    sync.slop_ms: 20.0
    confidence.threshold: 0.4
"""
RIGS = {
    'homography': """
    x.smoothing_s: 2.0
    registration:
      mode: homography
      homography: [1.5, 0.02, 9.0, -0.01, 1.6, -3.0, 1.0e-4, 0.0, 1.0]
      x_size: [40, 30]
      rgb_size: [64, 48]
""",
    'extrinsics and minmax': """
    x.normalization: minmax
    x.smoothing_s: 3.0
    registration.mode: extrinsics
    registration.translation: [0.1, 0.02, 0.0]
    registration.rotation: [0.0, 0.0, 0.05, 0.99875]
    registration.depth_m: 2.0
""",
    'a fixed range': """
    x.normalization: fixed
    x.range: [9500.0, 12000.0]
"""}
CHANGES = {'registration.mode': 'none', 'confidence.threshold': 0.0, 'x.smoothing_s': 0.0,
           'x.range': [8000.0, 9000.0]}
INFOS = {'rgb': (64, 48, 60.0), 'x': (40, 30, 40.0)}


class Telling(ThresholdEngine):
    """Makes classes of how warm X is in its range, and confidence of how red RGB is."""

    def __call__(self, rgb, x, limits, sensors):
        x = cv2.resize(x, rgb.shape[1::-1], interpolation=cv2.INTER_NEAREST)
        share = (x.astype(float) - limits[0]) / (limits[1] - limits[0])
        return np.uint8(share.clip(0, 1) * 2.999), rgb[..., 0].copy()


def write_bag(path, count=6):
    """Write pairs a fifth of a second apart: a scene that moves, warms up and changes its gain."""
    rng = np.random.default_rng(0)
    scene = cv2.resize(rng.integers(8000, 12_000, (12, 16)).astype(np.uint16), (60, 40))
    with BagWriter(path) as bag:
        for modality, optics in INFOS.items():
            bag.write(f'/{modality}/camera_info', camera_info_message(*optics), START_NS)
        for i in range(count):
            time_ns = START_NS + 200_000_000 * i
            rgb = rng.integers(0, 256, (48, 64, 3), np.uint8)
            x = scene[i:i + 30, 2 * i:2 * i + 40] + np.uint16(300 * i)
            if i > 3:
                x = x // 2
            bag.write('/rgb/image', image_message(rgb, 'rgb8', time_ns, 'left'), time_ns)
            bag.write('/x/image', image_message(x, 'mono16', time_ns + 5_000_000, 'ir'),
                      time_ns + 1)
    return path


def masks_of(bag):
    with BagReader(bag) as reader:
        return {stamp_ns(message.header): decode_x(message)
                for _, _, message in reader.messages(['/segmentation/mask'])}


def live_masks(stage, node, bag):
    """Return the masks that the node makes of a bag, by stamp: each pair waits for the last."""
    stage.listen(Image, 'segmentation/mask')
    received = stage.received['segmentation/mask']
    inputs = node._run._inputs
    for modality, (width, height, fx) in INFOS.items():
        optics = camera_info_message(width, height, fx)
        info = CameraInfo(width=width, height=height, distortion_model='plumb_bob',
                          d=optics.d.tolist(), k=optics.k, r=optics.r, p=optics.p)
        publisher = stage.publisher(CameraInfo, f'{modality}/camera_info')
        stage.wait(lambda publisher=publisher, info=info, modality=modality: (
            publisher.publish(info), inputs[modality].camera_info is not None)[1])
    with BagReader(bag) as reader:
        frames = {topic: [message for _, _, message in reader.messages([topic])]
                  for topic in ('/rgb/image', '/x/image')}
    for i, (rgb, x) in enumerate(zip(*frames.values(), strict=True)):
        stage.send(to_image(decode_rgb(rgb), 'rgb8', Header()),
                   to_image(decode_x(x), 'mono16', Header()),
                   stamp_ns(rgb.header), stamp_ns(x.header))
        stage.wait(lambda count=i + 1: len(received) == count)
    return {stamp_ns(message.header): decode_x(message) for message, _ in received}


@pytest.mark.parametrize('rig', RIGS)
def test_replay_and_the_live_node_make_the_same_masks_of_a_bag(
        stage, make_node, engine, tiny_card, tmp_path, monkeypatch, rig):
    from rgbx_seg_ros import engines
    monkeypatch.setitem(engines.ENGINES, 'torch', Telling)
    file = tmp_path / 'rig.yaml'
    file.write_text(f'/**:\n  ros__parameters:\n    model: {tiny_card}{COMMON}{RIGS[rig]}')
    bag = write_bag(tmp_path / 'bag')
    live = live_masks(stage, make_node(file=file), bag)

    parameters = Parameters.from_ros(read_parameters(file))
    replay(bag, Segmenter.from_parameters(parameters), tmp_path / 'out', parameters=parameters)
    replayed = masks_of(tmp_path / 'out')
    assert live.keys() == replayed.keys() and len(live) == 6
    for stamp, mask in live.items():
        np.testing.assert_array_equal(replayed[stamp], mask)
    assert {*np.unique([*live.values()])} == {0, 1, 2, 255}
    # And each of what the file says has changed them.
    for name, value in CHANGES.items():
        if name in read_parameters(file):
            other = Parameters.from_ros({**read_parameters(file), name: value})
            out = tmp_path / name
            replay(bag, Segmenter.from_parameters(other), out, parameters=other)
            assert any((mask != replayed[stamp]).any() for stamp, mask in masks_of(out).items())


FIVE_MINUTES = 300
DEAD = range(120, 150)


def five_minutes(path):
    """
    Write a pair a second for five minutes: real frames that drift, X with jitter and a dead time.

    Messages are received late and out of order between the streams, as over a network.
    """
    rng, messages = np.random.default_rng(1), []
    demo = FolderDataset(share_dir() / 'demo')
    scenes = [[cv2.resize(one, (160, 120), interpolation=cv2.INTER_AREA)
               for one in (sample.rgb, sample.x)] for sample in demo]
    for i in range(FIVE_MINUTES):
        rgb, x = (np.roll(one, i // len(scenes), axis=1) for one in scenes[i % len(scenes)])
        time_ns = START_NS + i * 10 ** 9
        messages.append((time_ns + int(rng.uniform(1e6, 60e6)), '/rgb/image',
                         image_message(rgb, 'rgb8', time_ns, 'left')))
        if i not in DEAD:
            x_ns = time_ns + int(rng.uniform(-80e6, 80e6))
            messages.append((x_ns + int(rng.uniform(1e6, 60e6)), '/x/image',
                             image_message(x, 'mono8', x_ns, 'ir')))
    with BagWriter(path) as bag:
        for receive_ns, topic, message in sorted(messages, key=lambda one: one[0]):
            bag.write(topic, message, max(receive_ns, START_NS))
    return path


def throttled(stage, node, bag, pairs):
    """Play a bag to the node, every message after what came of the last one; return the masks."""
    stage.listen(Image, 'segmentation/mask')
    received, heard = stage.received['segmentation/mask'], node._run._telemetry.counts
    sent, partners = {'rgb': set(), 'x': set()}, dict(pairs)
    publishers = {name: stage.publisher(Image, f'{name}/image', qos=10) for name in sent}
    with BagReader(bag) as reader:
        for topic, _, message in reader.messages(['/rgb/image', '/x/image']):
            name = topic.split('/')[1]
            pixels, encoding = ((decode_rgb(message), 'rgb8') if name == 'rgb' else
                                (decode_x(message), 'mono8'))
            header = Header(frame_id=message.header.frame_id)
            header.stamp.sec = message.header.stamp.sec
            header.stamp.nanosec = message.header.stamp.nanosec
            sent[name].add(stamp_ns(message.header))
            publishers[name].publish(to_image(pixels, encoding, header))
            due = sum(rgb in sent['rgb'] and x in sent['x'] for rgb, x in partners.items())
            stage.wait(lambda name=name: heard().get(f'{name}_received') == len(sent[name]))
            stage.wait(lambda due=due: len(received) >= due)
    return {stamp_ns(message.header): decode_x(message) for message, _ in received}


@pytest.mark.long
def test_five_minutes_live_offline_and_extracted_are_the_same_pairs_and_masks(
        stage, make_node, tmp_path, monkeypatch):
    from rgbx_seg_ros import engines
    monkeypatch.setitem(engines.ENGINES, 'torch', TorchEngine)
    bag = five_minutes(tmp_path / 'bag')
    parameters = Parameters(model='msrs_scene', device='cpu')
    extract([bag], tmp_path / 'pairs', parameters=parameters)
    lines = map(json.loads, (tmp_path / 'pairs' / 'manifest.jsonl').read_text().splitlines())
    pairs = [tuple(line[side]['stamp']['sec'] * 10 ** 9 + line[side]['stamp']['nanosec']
                   for side in ('rgb', 'x')) for line in lines]
    replay(bag, Segmenter.from_parameters(parameters), tmp_path / 'out', parameters=parameters)
    replayed = masks_of(tmp_path / 'out')
    assert [*replayed] == [rgb for rgb, _ in pairs]
    # Some are too far from each other, and X is away for half a minute.
    assert FIVE_MINUTES / 2 < len(pairs) < FIVE_MINUTES - len(DEAD)

    node = make_node(model='msrs_scene', device='cpu', rgb__reliability='reliable',
                     x__reliability='reliable', sync__max_wait_ms=10_000.0,
                     max_age_ms=60_000.0)
    live = throttled(stage, node, bag, pairs)
    assert live.keys() == replayed.keys()
    for stamp, mask in live.items():
        np.testing.assert_array_equal(replayed[stamp], mask)
    assert len(np.unique([*live.values()])) > 5
