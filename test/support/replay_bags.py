# Copyright 2026 rgbx_seg_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""Bags and an engine for the tests of replays."""

import cv2
import numpy as np
from rgbx_seg_ros.bags.storage import BagReader, BagWriter, image_message
from rgbx_seg_ros.cards.labels import UNLABELED
from rgbx_seg_ros.evaluation.metrics import ConfusionMatrix
from support.stand_ins import StandIn

H, W = 12, 16
START_NS = 1_700_000_000_123_456_789
PERIOD_NS = 100_000_000


class Engine(StandIn):
    """Class by the warmth of X, confidence by the red of RGB: both inputs show in the output."""

    def __call__(self, rgb, x, x_limits, sensors):
        x = x if x.ndim == 2 else x[..., 0]
        warmth = x.astype(float) / (255 if x.dtype == np.uint8 else 65535)
        return np.uint8(warmth * 2.999), rgb[..., 0].copy()


def frame(i, dtype=np.uint8):
    """Return an RGB frame, an X frame and a label, all of them told by `i`."""
    generator = np.random.default_rng(i)
    rgb = generator.integers(0, 256, (H, W, 3), np.uint8)
    x = generator.integers(0, np.iinfo(dtype).max + 1, (H, W), dtype)
    label = generator.integers(0, 3, (H, W), np.uint8)
    label[:2] = UNLABELED
    return rgb, x, label


def write_folder(root, count=6):
    """Write such frames with their labels to a folder of pairs."""
    for name in ('rgb', 'thermal', 'label'):
        (root / name).mkdir(parents=True)
    for i in range(count):
        rgb, x, label = frame(i)
        cv2.imwrite(str(root / 'rgb' / f'{i}.png'), rgb[..., ::-1])
        cv2.imwrite(str(root / 'thermal' / f'{i}.png'), x)
        cv2.imwrite(str(root / 'label' / f'{i}.png'), label)
    return root


def rgb_message(i, time_ns=None):
    """Return frame `i` of RGB as a message."""
    time_ns = START_NS + i * PERIOD_NS if time_ns is None else time_ns
    return image_message(frame(i)[0], 'rgb8', time_ns, 'front_camera')


def x_message(i, offset_ns=0):
    """Return frame `i` of X as a message."""
    return image_message(frame(i)[1], 'mono8', START_NS + i * PERIOD_NS + offset_ns, 'infrared')


def label_message(i, label=None):
    """Return the label of frame `i`, or another one, as a message."""
    label = frame(i)[2] if label is None else label
    return image_message(label, 'mono8', START_NS + i * PERIOD_NS, 'front_camera')


def write_bag(path, messages):
    """Write (topic, message) pairs, received a millisecond after each other."""
    with BagWriter(path) as bag:
        for i, (topic, message) in enumerate(messages):
            bag.write(topic, message, START_NS + i * 1_000_000)
    return path


def write_pairs(path, count=6, offset_ns=0):
    """Write a bag of pairs, X later by `offset_ns`."""
    return write_bag(path, [message for i in range(count) for message in (
        ('/rgb/image', rgb_message(i)), ('/x/image', x_message(i, offset_ns)))])


def read(bag, topic):
    """Return the messages of a topic."""
    with BagReader(bag) as reader:
        return [message for _, _, message in reader.messages([topic])]


def matrix_of(indices, segmenter):
    """Return the confusion matrix of the masks of these frames."""
    matrix = ConfusionMatrix(3)
    for i in indices:
        rgb, x, label = frame(i)
        matrix.update(label, segmenter(rgb, x).mask)
    return matrix
