# Copyright 2026 rgbx_seg_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""
The ROS 2 node: pairs of camera and X messages in, label images out.

It only moves messages. The executor's thread pairs them; decoding, inference and publishing of the
newest pair run on one worker thread, so latency is bounded by inference and never by a queue.
"""

import functools
import os
import signal
import sys
import time
import traceback

import rclpy
from rclpy.clock import Clock, ClockType
from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor
from rclpy.lifecycle import LifecycleNode, TransitionCallbackReturn
from rclpy.qos import QoSProfile, ReliabilityPolicy
from rgbx_seg_ros.allocator import keep_freed_memory
from rgbx_seg_ros.errors import MessageError, RgbxSegError
from rgbx_seg_ros.health import fingerprint, Health, HealthSettings, MODES, saturation
from rgbx_seg_ros.messages import raw_pixels, stamp_ns
from rgbx_seg_ros.node_parameters import NodeParameters
from rgbx_seg_ros.node_report import Assessor, InputReport, NodeReport
from rgbx_seg_ros.outputs import Outputs
from rgbx_seg_ros.pairing import PairingSettings
from rgbx_seg_ros.pipeline import Frame, Job, Pipeline
from rgbx_seg_ros.resources import use_fastdds_profile
from rgbx_seg_ros.segmenter import Segmenter
from rgbx_seg_ros.sync import make_synchronizer
from rgbx_seg_ros.telemetry import Telemetry
from rgbx_seg_ros.worker import NewestWorker
from sensor_msgs.msg import CameraInfo, CompressedImage, Image

try:
    from rclpy.event_handler import SubscriptionEventCallbacks
except ImportError:  # Humble
    from rclpy.qos_event import SubscriptionEventCallbacks

_NS_PER_MS = 1_000_000
_MIN_PERIOD_NS = 5 * _NS_PER_MS
"""No camera of this use delivers faster than 200 Hz; see PairingSettings."""
_POLL_S = 0.01
_LABELS_S = 5.0
_DIAGNOSTICS_S = 1.0
_SILENCE_S = 5.0
_HEALTH_S = 0.1
_REPEAT_WARNING_S = 10.0
_STRANGE_AGE_NS = 60 * 10 ** 9
"""Stamps this far from the node's clock come from another clock, as those of a bag do."""


def _logged(transition):
    """Log what a transition raises: rclpy turns it into ERROR without a word."""
    @functools.wraps(transition)
    def logged(node, state):
        try:
            return transition(node, state)
        except RgbxSegError as error:
            node.get_logger().error(f'{transition.__name__} failed: {error}')
            return TransitionCallbackReturn.FAILURE
        except Exception:
            if node.context.ok():
                node.get_logger().error(f'{transition.__name__}: {traceback.format_exc()}')
            raise
    return logged


class SegNode(LifecycleNode):
    """
    Lifecycle node `rgbx_seg`.

    configure reads the parameters and opens the engine, activate subscribes and publishes,
    deactivate and cleanup free what these made.
    """

    def __init__(self, **node_arguments):
        super().__init__('rgbx_seg', **node_arguments)
        self._steady = Clock(clock_type=ClockType.STEADY_TIME)
        self._warned = {}
        self._segmenter = self._outputs = self._worker = None
        self._subscriptions_and_timers = []
        self._options = NodeParameters(self, self._apply)

    # Lifecycle

    def start(self) -> bool:
        """Configure and activate unless `autostart` is off; return whether that went well."""
        if self.get_parameter('autostart').value is False:
            return True
        return (self.trigger_configure() == TransitionCallbackReturn.SUCCESS
                and self.trigger_activate() == TransitionCallbackReturn.SUCCESS)

    @_logged
    def on_configure(self, state):
        """Read the parameters, open the engine, offer the topics."""
        settings = self._options.read()
        if settings.tune_allocator:
            keep_freed_memory()
        self._segmenter = Segmenter.from_card(settings.model, settings.engine, settings.device)
        self._options.current = settings
        self._outputs = Outputs(self, self._segmenter)
        self._pairer = make_synchronizer(settings.sync_policy, _pairing_settings(settings))
        self._telemetry, self._assessor = Telemetry(), Assessor()
        self._start_s, self._failure = time.monotonic(), ''
        self._pipeline = Pipeline(self._segmenter, settings.x_smoothing_s, self._refuse,
                                  self._telemetry.time)
        self.get_logger().info(f'model {self._segmenter.card.name!r} runs on '
                               f'{self._segmenter.engine.device}')
        return TransitionCallbackReturn.SUCCESS

    @_logged
    def on_activate(self, state):
        """Subscribe and start to publish."""
        settings = self._options.current
        self._camera_info = None
        self._stamps_ns, self._facts = {}, {'rgb': {}, 'x': {}}
        self._health, self._mode = Health(_health_settings(settings)), 'wait'
        self._worker = NewestWorker(
            self._segment, lambda pair: self._telemetry.count('superseded'))
        self._outputs.publish_labels()
        # On the steady clock: neither a bag's clock that stops nor one that jumps may hold them.
        self._poll_timer = self.create_timer(_POLL_S, self._poll, clock=self._steady)
        self._inputs = {
            'rgb': self._subscribe('rgb', settings.rgb_transport, _input_qos(
                settings.rgb_reliability, settings.rgb_depth)),
            'x': self._subscribe('x', settings.x_transport, _input_qos(
                settings.x_reliability, settings.x_depth)),
        }
        self._subscriptions_and_timers = [
            *self._inputs.values(),
            self.create_subscription(CameraInfo, 'rgb/camera_info', self._receive_camera_info,
                                     _input_qos('best_effort')),
            self._poll_timer,
            self.create_timer(_LABELS_S, self._outputs.publish_labels, clock=self._steady),
            self.create_timer(_DIAGNOSTICS_S, self._publish_diagnostics, clock=self._steady),
            self.create_timer(_HEALTH_S, self._update_health, clock=self._steady),
            self.create_timer(_SILENCE_S, self._warn_of_silence, clock=self._steady),
        ]
        return TransitionCallbackReturn.SUCCESS

    @_logged
    def on_deactivate(self, state):
        """Unsubscribe and finish the pair in work."""
        self._stop()
        return TransitionCallbackReturn.SUCCESS

    @_logged
    def on_cleanup(self, state):
        """Free the engine and take the topics back."""
        self._stop()
        if self._outputs is not None:
            self._outputs.destroy()
        self._segmenter = self._outputs = self._options.current = None
        return TransitionCallbackReturn.SUCCESS

    def on_shutdown(self, state):
        """Free everything, from whatever state."""
        return self.on_cleanup(state)

    def on_error(self, state):
        """Free everything, so that the node can be configured again."""
        return self.on_cleanup(state)

    def destroy_node(self):
        """Stop the worker before the middleware goes away under it."""
        self._stop()
        super().destroy_node()

    def _stop(self):
        for entity in self._subscriptions_and_timers:
            destroy = (self.destroy_timer if hasattr(entity, 'timer_period_ns')
                       else self.destroy_subscription)
            destroy(entity)
        self._subscriptions_and_timers = []
        if self._worker is not None:
            self._worker.stop()
            self._worker = None
            self._pairer.reset()

    def _apply(self, parameters):
        """Let parameters changed at run time count; most of them are read where they are used."""
        health = _health_settings(parameters)
        self._pairer.settings = _pairing_settings(parameters)
        self._health.settings = health

    # Messages

    def _subscribe(self, modality, transport, qos):
        topic, kind = f'{modality}/image', Image
        if transport != 'raw':
            # As image_transport does: the suffix follows the topic that the base was remapped to.
            topic, kind = f'{self.resolve_topic_name(topic)}/{transport}', CompressedImage
        return self.create_subscription(
            kind, topic, functools.partial(self._receive, modality), qos,
            event_callbacks=SubscriptionEventCallbacks(
                incompatible_qos=functools.partial(self._warn_of_qos, modality)))

    def _receive(self, modality, message):
        """Take a message that can be read; one that cannot must not take a good one's partner."""
        self._telemetry.count(f'{modality}_received')
        try:
            pixels, stamp = raw_pixels(message), stamp_ns(message.header)
        except MessageError as error:
            self._refuse(modality, error)
            return
        now_ns = time.monotonic_ns()
        self._health.observe(modality, stamp, now_ns, fingerprint(pixels),
                             saturation(pixels) if pixels.ndim > 1 else None)
        self._stamps_ns[modality] = stamp
        self._facts[modality]['frame_id'] = message.header.frame_id
        mode = self._watch_mode()
        frame = Frame(message, now_ns, self._age_ns(modality, stamp))
        if mode in ('fusion', 'wait'):
            add = self._pairer.add_rgb if modality == 'rgb' else self._pairer.add_x
            self._submit(add(stamp, frame, now_ns))
            if self._pairer.next_deadline_ns is not None:
                self._poll_timer.reset()
        elif modality == ('x' if mode == 'x_only' else 'rgb'):
            self._worker.submit(Job(mode, *((None, frame) if modality == 'x' else (frame, None))))
        else:
            self._telemetry.count('sensor_failed')

    def _age_ns(self, modality, stamp):
        """Return how old a frame is that has just come, by its stamp if that can be so."""
        age_ns = self.get_clock().now().nanoseconds - stamp
        self._facts[modality]['stamp_age_ms'] = age_ns / _NS_PER_MS
        if stamp <= 0 or abs(age_ns) > _STRANGE_AGE_NS:
            if stamp > 0:
                self._warn(f'{modality} clock', (
                    f'{self.resolve_topic_name(f"{modality}/image")}: the stamps are '
                    f"{age_ns / 1e9:.0f} s behind this node's clock, so ages are counted from the "
                    'receipt; for a bag set use_sim_time and play it with --clock'))
            return 0
        return max(age_ns, 0)

    def _receive_camera_info(self, message):
        self._camera_info = message

    def _poll(self):
        self._submit(self._pairer.poll(time.monotonic_ns()))
        if self._pairer.next_deadline_ns is None:
            self._poll_timer.cancel()

    def _submit(self, pairs):
        for pair in pairs:
            self._telemetry.count('pairs')
            offset_ms = pair.offset_ns / _NS_PER_MS
            self._telemetry.time(offset_ms=offset_ms, distance_ms=abs(
                offset_ms + self._options.current.x_offset_ms))
            if self._health.mode == 'fusion':
                self._worker.submit(Job('fusion', pair.rgb, pair.x))
            else:
                self._telemetry.count('sensor_failed')

    def _update_health(self):
        self._health.update(time.monotonic_ns())
        self._watch_mode()

    def _watch_mode(self):
        """Return the mode; log when it changes, and forget what waits for a partner."""
        mode = self._health.mode
        if mode != self._mode:
            states = ', '.join(f'{name} is {state}'
                               for name, state in self._health.states.items())
            text = f'mode {mode}: {MODES[mode]}; {states}'
            if mode == 'fusion':  # rclpy wants a line of code for each severity
                self.get_logger().info(text)
            else:
                self.get_logger().warning(text)
            if 'only' in mode or mode == 'unlabeled':
                self._pairer.reset()
            self._mode = mode
        return mode

    def _segment(self, job):
        """Make and publish one mask, on the worker's thread."""
        parameters = self._options.current
        try:
            done = self._pipeline(job, parameters)
        except Exception as error:  # noqa: BLE001 an engine that fails must not end the node
            self._telemetry.count('engine_failed')
            self._failure = f'the engine failed: {error!r}'
            self._warn('engine', f'the engine failed, the pair is dropped: {error!r}')
            return
        if done is not None and not self._is_too_old(job.frame, parameters):
            self._publish(job.frame, *done, parameters)

    def _is_too_old(self, frame, parameters):
        age_ms = frame.age_ns() / _NS_PER_MS
        if age_ms <= parameters.max_age_ms:
            return False
        self._telemetry.count('too_old')
        self._warn('age', f'a mask is dropped: its frame is {age_ms:.0f} ms old, max_age_ms is '
                          f'{parameters.max_age_ms:g}; take a smaller model or raise it')
        return True

    def _publish(self, frame, rgb, result, parameters):
        started = time.perf_counter()
        header = frame.message.header
        try:
            self._outputs.publish_mask(result.mask, header, parameters.label_encoding)
            latency_ms = frame.age_ns() / _NS_PER_MS
            self._outputs.publish_rest(
                result, rgb, header, self._camera_info, parameters.overlay_alpha,
                parameters.overlay_max_rate_hz)
        except Exception as error:  # noqa: BLE001 RCLError of a full or vanishing middleware
            if self.context.ok():
                self._telemetry.count('publish_failed')
                self._failure = f'cannot publish: {error}'
                self._warn('publish', f'cannot publish: {error}')
            return
        self._failure = ''
        self._telemetry.count('masks')
        self._telemetry.time(latency_ms=latency_ms,
                             publish_ms=1e3 * (time.perf_counter() - started))

    def _refuse(self, modality, error):
        self._telemetry.count(f'{modality}_malformed')
        self._facts[modality]['refusal'] = str(error)
        self._warn(f'{modality}: {str(error).split(maxsplit=1)[0]}',
                   f'{self.resolve_topic_name(f"{modality}/image")}: frame dropped: {error}')

    def _warn(self, kind, text):
        """Log a warning, but one of a kind only now and then."""
        now = time.monotonic()
        if now - self._warned.get(kind, -_REPEAT_WARNING_S) >= _REPEAT_WARNING_S:
            self._warned[kind] = now
            self.get_logger().warning(text)

    def _warn_of_silence(self):
        """Help with a topic on which nothing has come yet: most often its name is wrong."""
        for modality, subscription in self._inputs.items():
            if self._telemetry.counts().get(f'{modality}_received'):
                continue
            topic, kind = subscription.topic_name, subscription.msg_type
            publishers = self.count_publishers(topic)
            if publishers:
                hint = f'it has {publishers} publisher(s), are type and QoS the same?'
            else:
                name = f'sensor_msgs/msg/{kind.__name__}'
                own = self.resolve_topic_name('segmentation')
                others = [other for other, types in self.get_topic_names_and_types()
                          if name in types and self.count_publishers(other)
                          and not other.startswith(own)]
                hint = (f'nobody publishes it; topics with {name} are: '
                        f'{", ".join(others) or "none"}')
            self._warn(f'{modality} is silent', f'no message on {topic} yet: {hint}')

    def _warn_of_qos(self, modality, event):
        """Say which side offers and which asks what; without this, nothing would just arrive."""
        topic = self._inputs[modality].topic_name
        offered = {info.qos_profile.reliability.name
                   for info in self.get_publishers_info_by_topic(topic)}
        self._warn(f'{modality} qos', (
            f'{topic}: a publisher offers {" or ".join(sorted(offered))}, this subscription asks '
            f'RELIABLE: set {modality}.reliability to best_effort'))

    def _publish_diagnostics(self):
        self._outputs.publish_diagnostics(self._assessor.assess(self._report()))

    def _report(self):
        parameters, drops = self._options.current, self._telemetry.counts()
        received = {name: drops.pop(f'{name}_received', 0) for name in ('rgb', 'x')}
        pairs, masks = drops.pop('pairs', 0), drops.pop('masks', 0)
        apart_ms = None
        if len(self._stamps_ns) == 2:
            apart_ms = (self._stamps_ns['x'] - self._stamps_ns['rgb']) / _NS_PER_MS
        return NodeReport(
            model=self._segmenter.card.name, engine=parameters.engine,
            device=self._segmenter.engine.device, uptime_s=time.monotonic() - self._start_s,
            health=self._health.summary(), pairs=pairs, masks=masks,
            drops={**drops, **self._pairer.drops}, percentiles=self._telemetry.percentiles(),
            policy=parameters.sync_policy, slop_ms=parameters.slop_ms,
            x_offset_ms=parameters.x_offset_ms, newest_apart_ms=apart_ms,
            clock_jumps=self._pairer.clock_jumps, failure=self._failure,
            **{name: self._input_report(name, received[name]) for name in ('rgb', 'x')})

    def _input_report(self, modality, received):
        subscription, qos = self._inputs[modality], ''
        publishers = self.get_publishers_info_by_topic(subscription.topic_name)
        if subscription.qos_profile.reliability == ReliabilityPolicy.RELIABLE and any(
                p.qos_profile.reliability == ReliabilityPolicy.BEST_EFFORT for p in publishers):
            qos = (f'a publisher offers BEST_EFFORT, this subscription asks RELIABLE: set '
                   f'{modality}.reliability to best_effort')
        return InputReport(topic=subscription.topic_name, received=received,
                           publishers=len(publishers), qos=qos, **self._facts[modality])


def _input_qos(reliability, depth=5):
    return QoSProfile(depth=depth, reliability=ReliabilityPolicy[reliability.upper()])


def _pairing_settings(parameters):
    return PairingSettings(
        slop_ns=round(parameters.slop_ms * _NS_PER_MS),
        max_wait_ns=round(parameters.max_wait_ms * _NS_PER_MS),
        x_offset_ns=round(parameters.x_offset_ms * _NS_PER_MS),
        rgb_min_period_ns=_MIN_PERIOD_NS, x_min_period_ns=_MIN_PERIOD_NS, learn_periods=True)


def _health_settings(parameters):
    return HealthSettings(
        policy=parameters.degraded_policy, late_ms=parameters.health_late_ms,
        dead_ms=parameters.health_dead_ms, frozen_ms=parameters.health_frozen_ms,
        saturated_share=parameters.health_saturated_share,
        recovery_ms=parameters.health_recovery_ms)


def main(args=None) -> int:
    """Run the node until it is interrupted; return 0, or 2 if it could not start."""
    use_fastdds_profile(os.environ)
    rclpy.init(args=args)
    node = None
    try:
        node = SegNode()
        if not node.start():
            return 2
        executor = SingleThreadedExecutor()
        executor.add_node(node)
        executor.spin()
    except (KeyboardInterrupt, ExternalShutdownException):
        pass
    except Exception:
        # After a signal the context is gone, and whatever was at work fails in its own way.
        if rclpy.ok():
            raise
    finally:
        # Launch repeats the terminal's signal; a second one must not break the clean-up.
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        if node is not None:
            node.destroy_node()
        rclpy.try_shutdown()
    return 0


if __name__ == '__main__':
    sys.exit(main())
