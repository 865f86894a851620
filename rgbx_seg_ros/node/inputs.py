# Copyright 2026 rgbx_seg_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""What the node subscribes to of one camera, and what it tells a user whose frames do not come."""

from contextlib import ExitStack
import functools

from rclpy.qos import QoSProfile, ReliabilityPolicy
from rgbx_seg_ros.errors import FrameError, MessageError
from rgbx_seg_ros.health.assessor import stamp_trouble
from rgbx_seg_ros.health.monitor import saturation
from rgbx_seg_ros.health.report import InputReport
from rgbx_seg_ros.messages.images import decode_rgb, decode_x
from rgbx_seg_ros.node.diagnostics import clock_of
from sensor_msgs.msg import CameraInfo, CompressedImage, Image

try:
    from rclpy.event_handler import SubscriptionEventCallbacks
except ImportError:  # Humble
    from rclpy.qos_event import SubscriptionEventCallbacks

_STRANGE_AGE_NS = 60 * 10 ** 9
"""Stamps this far from the node's clock come from another clock, as those of a bag do."""
_DECODE_EVERY_NS = 500_000_000
"""
How often a compressed frame is decoded only to see whether it is saturated.

Here and not where masks are made, since of a sensor that has failed none are.
"""
_INFO_QOS = QoSProfile(depth=5, reliability=ReliabilityPolicy.BEST_EFFORT)


class Input:
    """
    The topics of one camera, `modality` rgb or x, for `node`.

    Each image goes to `receive(modality, message)`, and before that, as every message, to
    `record(topic, message)` if that is given. `warn(kind, text)` logs a warning, one of a kind now
    and then.
    """

    def __init__(self, node, modality: str, transport: str, reliability: str, depth: int, *,
                 receive, warn, record=None):
        self.modality = modality
        self._node, self._warn, self._record = node, warn, record
        self.camera_info = None
        """The newest CameraInfo, or None."""
        self.stamp_ns: int | None = None
        """Stamp of the newest frame that could be read, and has one."""
        self.refusal = ''
        """Why the newest frame that could not be used was dropped."""
        self._frame_id, self._stamp_age_ms = '', None
        self._decoded_ns = -_DECODE_EVERY_NS
        topic, kind = f'{modality}/image', Image
        if transport != 'raw':
            # As image_transport does: the suffix follows the topic that the base was remapped to.
            topic, kind = f'{node.resolve_topic_name(topic)}/{transport}', CompressedImage
        # Names, for subscriptions that are gone tell none.
        self.topic = node.resolve_topic_name(topic)
        """Where the images come from, after remapping."""
        self._type = f'sensor_msgs/msg/{kind.__name__}'
        self._reliability = ReliabilityPolicy[reliability.upper()]
        self._subscriptions = []
        with ExitStack() as failed:
            failed.callback(self.destroy)
            self._subscribe(
                kind, topic, functools.partial(receive, modality),
                QoSProfile(depth=depth, reliability=self._reliability),
                event_callbacks=SubscriptionEventCallbacks(incompatible_qos=self._warn_of_qos))
            self._subscribe(CameraInfo, f'{modality}/camera_info', self._receive_camera_info,
                            _INFO_QOS)
            failed.pop_all()

    def _subscribe(self, kind, topic, callback, *rest, **named):
        if self._record is not None:
            callback = self._recorded(self._node.resolve_topic_name(topic), callback)
        self._subscriptions.append(
            self._node.create_subscription(kind, topic, callback, *rest, **named))

    def _recorded(self, topic, callback):
        """Return the callback of a topic, with its messages recorded before."""
        def take(message):
            self._record(topic, message)
            callback(message)
        return take

    def destroy(self):
        """Unsubscribe; what is known of the topic stays."""
        for subscription in self._subscriptions:
            self._node.destroy_subscription(subscription)
        self._subscriptions.clear()

    def note(self, stamp_ns: int, frame_id: str) -> int:
        """Keep the facts of a frame that has just come; return its age, by its stamp if it can."""
        self._frame_id, self._stamp_age_ms = frame_id, None
        if stamp_ns <= 0:
            return 0
        age_ns = self._node.get_clock().now().nanoseconds - stamp_ns
        self.stamp_ns, self._stamp_age_ms = stamp_ns, age_ns / 1e6
        if abs(age_ns) > _STRANGE_AGE_NS:
            clock = clock_of(self._node)
            trouble = stamp_trouble(self.topic, age_ns / 1e6, clock, _STRANGE_AGE_NS / 1e6)
            self._warn('no clock' if clock == 'waiting' else f'{self.modality} clock',
                       f'{trouble}. Until then ages are counted from the receipt')
            return 0
        return max(age_ns, 0)

    def saturation(self, message, pixels, now_ns: int) -> float | None:
        """Return that of a frame, see `health.saturation`; None where it was not looked at."""
        if pixels.ndim > 1:
            return saturation(pixels)
        if now_ns - self._decoded_ns < _DECODE_EVERY_NS:
            return None
        self._decoded_ns = now_ns
        try:
            return saturation((decode_rgb if self.modality == 'rgb' else decode_x)(message))
        except (MessageError, FrameError):
            return None  # whoever makes a mask of it says so

    def report(self, received: int) -> InputReport:
        """Return what diagnostics tell of the topic, of which `received` frames have come."""
        publishers = self._publishers()
        return InputReport(
            topic=self.topic, received=received, publishers=len(publishers),
            frame_id=self._frame_id, stamp_age_ms=self._stamp_age_ms, refusal=self.refusal,
            kind=self._other_type(publishers),
            qos=self._advice() if self._is_unheard(publishers) else '')

    def _other_type(self, publishers):
        """Return what a topic is published as of which this node takes nothing, else ''."""
        kinds = sorted({publisher.topic_type for publisher in publishers})
        if not kinds or self._type in kinds:
            return ''
        return (f'it is published as {", ".join(kinds)}, and with {self.modality}.transport as it '
                f'is this node takes {self._type}')

    def warn_of_silence(self):
        """Help with a topic on which nothing has come yet: most often its name is wrong."""
        node = self._node
        publishers = self._publishers()
        hint = self._other_type(publishers)
        if not hint and self._is_unheard(publishers):
            self._warn_of_qos()  # the event of it is lost now and then
            hint = self._advice()
        if not hint and publishers:
            hint = f'it has {len(publishers)} publisher(s), is the QoS the same?'
        if not hint:
            own = node.resolve_topic_name('segmentation')
            others = [other for other, types in node.get_topic_names_and_types()
                      if self._type in types and node.count_publishers(other)
                      and not other.startswith(own)]
            hint = (f'nobody publishes it; topics with {self._type} are: '
                    f'{", ".join(others) or "none"}')
        self._warn(f'{self.modality} is silent', f'no message on {self.topic} yet: {hint}')

    def _warn_of_qos(self, event=None):
        """Say which side offers and which asks what; without this, nothing would just arrive."""
        # The graph may not know the publisher yet, but nothing else can be amiss: an input asks
        # for no more than to be reliable.
        self._warn(f'{self.modality} qos', f'{self.topic}: {self._advice()}')

    def _is_unheard(self, publishers):
        """Return whether one of them offers less than this subscription asks."""
        return self._reliability == ReliabilityPolicy.RELIABLE and any(
            p.qos_profile.reliability == ReliabilityPolicy.BEST_EFFORT for p in publishers)

    def _advice(self):
        return ('a publisher offers BEST_EFFORT, this subscription asks RELIABLE: set '
                f'{self.modality}.reliability to best_effort')

    def _publishers(self):
        return self._node.get_publishers_info_by_topic(self.topic)

    def _receive_camera_info(self, message):
        self.camera_info = message
