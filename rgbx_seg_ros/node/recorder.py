# Copyright 2026 rgbx_seg_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""The black box of the node: what is recorded, which events it knows, and `~/snapshot`."""

from collections.abc import Mapping

from rclpy.serialization import serialize_message
from rgbx_seg_ros.bags.black_box import BlackBox
from rgbx_seg_ros.errors import ParameterError
from rgbx_seg_ros.health.monitor import FAILED
from rgbx_seg_ros.parameters import Parameters

try:
    from std_srvs.srv import Trigger
except ImportError as error:
    raise ParameterError(
        f"parameter 'record.folder' is set, which needs std_srvs, and that cannot be loaded "
        f'({error}): apt install ros-$ROS_DISTRO-std-srvs') from error

_REST = 2000
"""About so many bytes has a message besides its pixels."""
_ANSWER_S = 2.0
"""So long a call waits until the recording has begun."""


class Recorder:
    """
    Records what `node` takes and publishes, around events, with the `record.` of `parameters`.

    Raise ParameterError for a folder in which nothing can be written.
    """

    def __init__(self, node, parameters: Parameters):
        name = node.get_fully_qualified_name().strip('/').replace('/', '_')
        self._node, self._box = node, BlackBox(name, serialize_message, parameters)
        self._service = None
        self._failed: set[str] = set()
        self._was_sure = self._agreed = True
        self._disagreement: float | str = 'none'

    @property
    def parameters(self) -> Parameters:
        """Those that count; others may be assigned at any time."""
        return self._box.parameters

    @parameters.setter
    def parameters(self, parameters: Parameters):
        self._box.parameters = parameters

    def start(self) -> None:
        """Begin to keep messages and offer the service."""
        self._failed, self._was_sure, self._agreed = set(), True, True
        self._disagreement = 'none'
        self._box.start()
        self._service = self._node.create_service(Trigger, '~/snapshot', self._snapshot)

    def stop(self) -> None:
        """End a recording that is being written and forget all messages."""
        if self._service is not None:
            self._node.destroy_service(self._service)
        self._service = None
        self._box.stop()

    def take(self, topic: str, message) -> None:
        """Keep a message of `topic`, its full name, as it is."""
        kind = type(message)
        size = _REST + len(getattr(message, 'data', ()))
        self._box.add(topic, f'{kind.__module__.partition(".")[0]}/msg/{kind.__name__}', message,
                      size, self._now_ns())

    def watch_sensors(self, states: Mapping[str, str], ages_ms: Mapping[str, float | None]):
        """Take the states of both sensors; one that fails, after it was there, is an event."""
        failed = {name for name, state in states.items() if state in FAILED}
        lost = [name for name in failed - self._failed if ages_ms[name] is not None]
        self._failed = failed
        if lost and self._box.parameters.record_events in ('sensor_failed', 'all'):
            self._begin('sensor_failed', ', '.join(f'{name} is {states[name]}' for name in lost))

    def watch_confidence(self, mean: float) -> None:
        """Take the mean confidence of a mask, 0..1; one that falls below the limit is an event."""
        parameters = self._box.parameters
        is_sure, was_sure = mean >= parameters.record_min_confidence, self._was_sure
        self._was_sure = is_sure
        if was_sure and not is_sure and parameters.record_events in ('low_confidence', 'all'):
            self._begin('low_confidence', f'the mean is {mean:.2f}')

    @property
    def wants_disagreement(self) -> bool:
        """Whether that of the sensors is an event."""
        return self._box.parameters.record_events in ('disagreement', 'all')

    def watch_disagreement(self, share: float) -> None:
        """Take the share of pixels on which the sensors differ; above the limit is an event."""
        agrees, agreed = share <= self._box.parameters.record_max_disagreement, self._agreed
        self._agreed, self._disagreement = agrees, share
        if agreed and not agrees:
            self._begin('disagreement', 'RGB alone and X alone give other classes to '
                        f'{100 * share:.0f} % of the pixels')

    def summary(self):
        """Return what diagnostics tell, by the names there."""
        return {**self._box.summary(), 'disagreement': self._disagreement}

    def _begin(self, name, detail):
        now_ns = self._now_ns()
        event = self._box.trigger(name, detail, now_ns)
        if event is not None and event.time_ns == now_ns:  # and not one that is being recorded
            self._node.get_logger().info(f'{name} is recorded: {detail}')

    def _now_ns(self):
        return self._node.get_clock().now().nanoseconds

    def _snapshot(self, request, response):
        event = self._box.trigger('snapshot', '', self._now_ns(), at_once=True)
        event.decided.wait(_ANSWER_S)
        response.success = event.path is not None and not event.failure
        response.message = str(event.path) if response.success else (
            event.failure or f'nothing was written within {_ANSWER_S:g} s: see diagnostics')
        return response
