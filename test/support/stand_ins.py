# Copyright 2026 rgbx_seg_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""Engines that stand in for real ones where a test is not about what a network computes."""

from rgbx_seg_ros.engines.base import Engine


class StandIn(Engine):
    """An engine whose subclass says what `__call__` returns."""

    device = 'no device'
    network = None


def engine_of(function, network=None) -> Engine:
    """Return an engine that calls `function(rgb, x, x_limits, sensors)`."""
    class Calling(StandIn):

        def __call__(self, rgb, x, x_limits, sensors):
            return function(rgb, x, x_limits, sensors)

    engine = Calling()
    engine.network = network
    return engine
