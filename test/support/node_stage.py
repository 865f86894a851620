# Copyright 2026 rgbx_seg_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""What the tests of the node share besides fixtures."""

import time

import numpy as np
from rclpy.lifecycle import TransitionCallbackReturn
from rgbx_seg_ros.messages.images import stamp_ns
from support.stand_ins import StandIn

RGB = np.full((48, 64, 3), 100, np.uint8)
X = np.zeros((48, 64), np.uint8)
X[:, 32:] = 200


class ThresholdEngine(StandIn):
    """Marks what is bright in X; takes `seconds` for it, or raises `failure`."""

    device = 'test'
    seconds = 0.0
    failure = None
    calls = 0

    def __init__(self, card, device):
        pass

    def __call__(self, rgb, x, x_limits, sensors):
        type(self).calls += 1
        if self.failure is not None:
            raise self.failure
        time.sleep(self.seconds)
        mask = np.zeros(rgb.shape[:2], np.uint8)
        mask[:] = x * sensors.present[1] > 128
        return mask, np.full_like(mask, 250)


def diagnostics(stage):
    """Return the newest values of all sections of what the node has told about itself."""
    messages = stage.received['/diagnostics']
    return {v.key: v.value for status in messages[-1][0].status
            for v in status.values} if messages else {}


def stamps(stage, topic='segmentation/mask'):
    """Return the stamps received on `topic`."""
    return [stamp_ns(message.header) for message, _ in stage.received[topic]]


STATES = {
    'unconfigured': (),
    'inactive': ('configure',),
    'active': ('configure', 'activate'),
    'inactive again': ('configure', 'activate', 'deactivate'),
    'cleaned up': ('configure', 'activate', 'deactivate', 'cleanup'),
    'shut down': ('configure', 'activate', 'shutdown'),
}
"""The states of a node, and the transitions that lead there from its start."""


def walk(node, *transitions):
    """Let a node make transitions, which must go well."""
    for name in transitions:
        result = getattr(node, f'trigger_{name}')()
        assert result == TransitionCallbackReturn.SUCCESS, f'{name}: {result}'
