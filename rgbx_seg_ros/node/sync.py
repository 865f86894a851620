# Copyright 2026 rgbx_seg_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""
The policies of `sync.policy`: which frames of the two streams become pairs.

`nearest` is `pairing.Pairer`. `approximate` and `exact` leave the matching to the synchronizers of
ROS's message_filters, but not the rest: frames with useless stamps never reach them, what can find
no partner any more is let go and counted at once, and a clock that jumps, at which they would
stop to match for good, starts new ones.
"""

from collections.abc import Callable
import heapq
from types import SimpleNamespace

from rgbx_seg_ros.errors import ParameterError
from rgbx_seg_ros.fields import unknown_name
from rgbx_seg_ros.sync.pairing import Pair, Pairer, PairingSettings, Synchronizer

_STAMP_RANGE_NS = 2**31 * 1_000_000_000
"""The seconds of a stamp are an int32, and message_filters takes none below 0."""


class _MessageFilters(Synchronizer):
    """
    Pairs that one of message_filters' synchronizers makes, as soon as it makes them.

    It gets stamps only. The frames wait in the queues here, which hold those of its own that can
    still be matched: it drops the oldest of its `queue_size`, so a frame leaves both at once.
    """

    def __init__(self, settings: PairingSettings):
        super().__init__(settings)
        self._last_stamps_ns = (0, 0)
        self._start_again()

    def _new_matcher(self, message_filters, inputs: list):
        """Return one of its synchronizers for RGB and X."""
        raise NotImplementedError

    def _reach_ns(self) -> int:
        """Return how far apart a pair may be."""
        raise NotImplementedError

    def _start_again(self):
        """Make a new synchronizer, and let it know the frames that wait."""
        import message_filters

        self._matched: list[tuple[int, int]] = []
        self._inputs = [message_filters.SimpleFilter() for _ in range(2)]
        # The callback does no more than this: it runs under a lock that no exception would free.
        self._new_matcher(message_filters, self._inputs).registerCallback(
            lambda rgb, x: self._matched.append((rgb.time_ns, x.time_ns)))
        for frame in heapq.merge(self._rgb.queue, self._x.queue):
            self._send(frame)

    def reset(self):
        """Drop every frame that waits and know nothing of the clocks; the counts stay."""
        super().reset()
        self._last_stamps_ns = (0, 0)

    def _admit(self, stream, other, frame):
        if not super()._admit(stream, other, frame):
            return False
        if len(stream.queue) > self._settings.queue_size:
            stream.queue.popleft()
            self.drops[f'{stream.name}_queue_full'] += 1
        self._send(frame)
        return True

    def _send(self, frame):
        from rclpy.time import Time

        # Only differences of stamps count: those out of the range may as well lie in it.
        stamp = Time(nanoseconds=frame.time_ns % _STAMP_RANGE_NS).to_msg()
        self._inputs[frame.is_x].signalMessage(
            SimpleNamespace(header=SimpleNamespace(stamp=stamp), time_ns=frame.time_ns))

    def _decide(self):
        pairs = []
        for times_ns in self._matched:
            rgb, x = (self._take(stream, time_ns) for stream, time_ns
                      in zip((self._rgb, self._x), times_ns, strict=True))
            stamps_ns = rgb.stamp_ns, x.stamp_ns
            if all(now > last for now, last in zip(stamps_ns, self._last_stamps_ns, strict=True)):
                pairs.append(Pair(*stamps_ns, rgb.data, x.data))
                self._last_stamps_ns = stamps_ns
            else:  # matched across a pair made before: nobody downstream expects to go back
                self.drops.update((self._rgb.loser, self._x.loser))
        self._matched.clear()
        for stream, other in ((self._rgb, self._x), (self._x, self._rgb)):
            # The next frame of the other stream is newer than its newest one.
            while stream.queue and (
                    other.newest_ns - stream.queue[0].time_ns >= self._reach_ns()):
                stream.queue.popleft()
                self.drops[stream.loser] += 1
        return pairs

    def _take(self, stream, time_ns):
        frame = next(frame for frame in stream.queue if frame.time_ns == time_ns)
        stream.queue.remove(frame)
        return frame


class _Approximate(_MessageFilters):
    """A new frame is matched at once with the nearest that waits, within the slop."""

    def _new_matcher(self, message_filters, inputs):
        # It matches below the slop, not at it, and cuts nanoseconds off a time in seconds.
        return message_filters.ApproximateTimeSynchronizer(
            inputs, self._settings.queue_size, (self._settings.slop_ns + 1.5) / 1e9)

    def _reach_ns(self):
        return self._settings.slop_ns


class _Exact(_MessageFilters):
    """Frames with the same stamp are matched."""

    def _new_matcher(self, message_filters, inputs):
        return message_filters.TimeSynchronizer(inputs, self._settings.queue_size)

    def _reach_ns(self):
        return 0


POLICIES: dict[str, Callable[[PairingSettings], Synchronizer]] = {
    'nearest': Pairer, 'approximate': _Approximate, 'exact': _Exact}
"""What makes pairs, by the name of the policy."""


def make_synchronizer(policy: str, settings: PairingSettings) -> Synchronizer:
    """
    Return what makes pairs by the policy of this name, one of POLICIES.

    `approximate` counts neither `max_wait_ns` nor the promised periods, `exact` not even
    `slop_ns`; for both `queue_size` is message_filters' own. Raise ParameterError for another
    name, and where message_filters is needed and not installed.
    """
    if policy not in POLICIES:
        raise ParameterError(f'sync.policy {unknown_name(policy, POLICIES)}')
    try:
        return POLICIES[policy](settings)
    except ImportError as error:
        raise ParameterError(
            f'sync.policy is {policy!r}, which needs message_filters, and that cannot be loaded '
            f"({error}): apt install ros-$ROS_DISTRO-message-filters, or take 'nearest'"
        ) from error
