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
import warnings

if 'OMP_WAIT_POLICY' not in os.environ:
    # By default PyTorch's threads wait for each other at full speed. Beside the threads and the
    # cameras of ROS, that turns the 0.1 s of a frame into seconds. OpenMP reads this as torch is
    # imported, so it stands before.
    os.environ['OMP_WAIT_POLICY'] = 'PASSIVE'

import rclpy
from rclpy.clock import Clock, ClockType
from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor
from rclpy.lifecycle import LifecycleNode, TransitionCallbackReturn
from rclpy.signals import install_signal_handlers, SignalHandlerOptions
from rgbx_seg_ros.allocator import keep_freed_memory
from rgbx_seg_ros.errors import MessageError, ParameterError, RgbxSegError
from rgbx_seg_ros.health.assessor import Assessor, too_old
from rgbx_seg_ros.health.monitor import fingerprint, Health, MODES
from rgbx_seg_ros.health.report import NodeReport
from rgbx_seg_ros.health.telemetry import Telemetry
from rgbx_seg_ros.inference.pipeline import Frame, Job, Pipeline
from rgbx_seg_ros.inference.segmenter import Segmenter
from rgbx_seg_ros.inference.self_test import self_test
from rgbx_seg_ros.messages.images import raw_pixels, stamp_ns
from rgbx_seg_ros.node.diagnostics import clock_of
from rgbx_seg_ros.node.inputs import Input
from rgbx_seg_ros.node.outputs import Outputs
from rgbx_seg_ros.node.ros_parameters import NodeParameters
from rgbx_seg_ros.node.sync import make_synchronizer
from rgbx_seg_ros.node.worker import NewestWorker
from rgbx_seg_ros.registration.rig import Rig
from rgbx_seg_ros.resources import use_fastdds_profile
from std_msgs.msg import Header

_NS_PER_MS = 1_000_000
_POLL_S = 0.01
_LABELS_S = 5.0
_DIAGNOSTICS_S = 1.0
_SILENCE_S = 5.0
_HEALTH_S = 0.1
_WAKE_S = 1.0
_REPEAT_WARNING_S = 10.0


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
        # First, since a context that is shut down destroys a node that is only half made as well.
        self._segmenter = self._outputs = self._worker = None
        self._inputs, self._timers = {}, []
        super().__init__('rgbx_seg', **node_arguments)
        self._steady = Clock(clock_type=ClockType.STEADY_TIME)
        # A signal wakes the executor first and ends the context then. One that is asleep again by
        # that time needs something else to wake it, which an idle node has not.
        self.create_timer(_WAKE_S, lambda: None, clock=self._steady)
        self._warned = {}
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
        self._segmenter = Segmenter.from_card(
            settings.model, settings.engine, settings.device, **_x_input(settings))
        card = self._segmenter.card
        self_test(self._segmenter)
        if settings.x_kind not in ('card', card.x.kind):
            raise ParameterError(f"parameter 'x.kind' is {settings.x_kind!r}, but the model "
                                 f'{card.name!r} takes {card.x.kind!r}: choose another model')
        self._options.current = settings
        self._outputs = Outputs(self, self._segmenter)
        self._pairer = make_synchronizer(settings.sync_policy, settings.pairing)
        self._telemetry = Telemetry()
        self._start_s, self._failure = time.monotonic(), ''
        self._rig = Rig(settings, card.x, lambda modality: self._inputs[modality].camera_info)
        self._pipeline = Pipeline(self._segmenter, self._rig, settings.x_smoothing_s,
                                  self._refuse, self._telemetry.time)
        self.get_logger().info(f'model {card.name!r} runs on '
                               f'{self._segmenter.engine.device}')
        return TransitionCallbackReturn.SUCCESS

    @_logged
    def on_activate(self, state):
        """Subscribe and start to publish."""
        settings = self._options.current
        self._health, self._mode = Health(settings.health), 'wait'
        self._assessor = Assessor()
        self._worker = NewestWorker(
            self._segment, lambda pair: self._telemetry.count('superseded'))
        self._outputs.publish_labels()
        # On the steady clock: neither a bag's clock that stops nor one that jumps may hold them.
        self._poll_timer = self.create_timer(_POLL_S, self._poll, clock=self._steady)
        take = {'receive': self._receive, 'warn': self._warn}
        self._inputs = {
            'rgb': Input(self, 'rgb', settings.rgb_transport, settings.rgb_reliability,
                         settings.rgb_depth, **take),
            'x': Input(self, 'x', settings.x_transport, settings.x_reliability,
                       settings.x_depth, **take),
        }
        self._timers = [self._poll_timer, *(
            self.create_timer(period_s, callback, clock=self._steady) for period_s, callback in (
                (_LABELS_S, self._outputs.publish_labels),
                (_DIAGNOSTICS_S, self._publish_diagnostics),
                (_HEALTH_S, self._update_health),
                (_SILENCE_S, self._warn_of_silence)))]
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
        for one in self._inputs.values():
            one.destroy()
        for timer in self._timers:
            self.destroy_timer(timer)
        if self._worker is not None:
            self._worker.stop()
            self._worker = None
            self._pairer.reset()
        # Last: the pair in work still asks the inputs.
        self._inputs, self._timers = {}, []

    def _apply(self, parameters):
        """Let parameters changed at run time count; most of them are read where they are used."""
        self._pairer.settings = parameters.pairing
        self._health.settings = parameters.health

    # Messages

    def _receive(self, modality, message):
        """Take a message that can be read; one that cannot must not take a good one's partner."""
        self._telemetry.count(f'{modality}_received')
        source = self._inputs[modality]
        try:
            pixels, stamp = raw_pixels(message), stamp_ns(message.header)
        except MessageError as error:
            self._refuse(modality, error, 'malformed')
            return
        now_ns = time.monotonic_ns()
        frame = Frame(message, now_ns, source.note(stamp, message.header.frame_id))
        self._health.observe(modality, stamp, now_ns, fingerprint(pixels),
                             source.saturation(message, pixels, now_ns))
        mode = self._watch_mode()
        if mode in ('fusion', 'wait'):
            add = self._pairer.add_rgb if modality == 'rgb' else self._pairer.add_x
            self._submit(add(stamp, frame, now_ns))
            if self._pairer.next_deadline_ns is not None:
                self._poll_timer.reset()
        elif modality == ('x' if mode == 'x_only' else 'rgb'):
            self._worker.submit(Job(mode, *((None, frame) if modality == 'x' else (frame, None))))
        else:
            self._telemetry.count('sensor_failed')

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
        why = too_old('it', frame.received_age_ns / _NS_PER_MS, clock_of(self),
                      parameters.max_age_ms)
        self._warn(f'age: {why.split(maxsplit=1)[0]}',
                   f'a mask is dropped: its frame is {age_ms:.0f} ms old, max_age_ms is '
                   f'{parameters.max_age_ms:g}; {why}')
        return True

    def _publish(self, frame, rgb, result, grid, parameters):
        started = time.perf_counter()
        header = Header(stamp=frame.message.header.stamp, frame_id=grid.frame_id)
        try:
            self._outputs.publish_mask(result.mask, header, parameters.label_encoding)
            latency_ms = frame.age_ns() / _NS_PER_MS
            self._outputs.publish_rest(
                result, rgb, header, self._inputs[grid.modality].camera_info,
                parameters.overlay_alpha, parameters.overlay_max_rate_hz)
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

    def _refuse(self, modality, error, reason):
        self._telemetry.count(f'{modality}_{reason}')
        source = self._inputs[modality]
        source.refusal = str(error)
        self._warn(f'{modality}: {str(error).split(maxsplit=1)[0]}',
                   f'{source.topic}: frame dropped: {error}')

    def _warn(self, kind, text):
        """Log a warning, but one of a kind only now and then."""
        now = time.monotonic()
        if now - self._warned.get(kind, -_REPEAT_WARNING_S) >= _REPEAT_WARNING_S:
            self._warned[kind] = now
            self.get_logger().warning(text)

    def _warn_of_silence(self):
        for modality, source in self._inputs.items():
            if not self._telemetry.counts().get(f'{modality}_received'):
                source.warn_of_silence()

    def _publish_diagnostics(self):
        self._outputs.publish_diagnostics(self._assessor.assess(self._report()))
        if self._assessor.silence:
            self._warn('no mask', self._assessor.silence)

    def _report(self):
        parameters, drops = self._options.current, self._telemetry.counts()
        received = {name: drops.pop(f'{name}_received', 0) for name in ('rgb', 'x')}
        pairs, masks = drops.pop('pairs', 0), drops.pop('masks', 0)
        stamps_ns = [self._inputs[name].stamp_ns for name in ('rgb', 'x')]
        apart_ms = None if None in stamps_ns else (stamps_ns[1] - stamps_ns[0]) / _NS_PER_MS
        return NodeReport(
            model=self._segmenter.card.name, engine=parameters.engine,
            device=self._segmenter.engine.device, uptime_s=time.monotonic() - self._start_s,
            health=self._health.summary(), pairs=pairs, masks=masks,
            drops={**drops, **self._pairer.drops}, percentiles=self._telemetry.percentiles(),
            clock=clock_of(self), max_age_ms=parameters.max_age_ms,
            policy=parameters.sync_policy, slop_ms=parameters.slop_ms,
            x_offset_ms=parameters.x_offset_ms, newest_apart_ms=apart_ms,
            clock_jumps=self._pairer.clock_jumps, failure=self._failure,
            registration=parameters.registration_mode, drift=self._rig.drift,
            **{name: one.report(received[name]) for name, one in self._inputs.items()})


def _x_input(parameters):
    """Return what of the card's second input the parameters replace."""
    span = parameters.x_range if any(parameters.x_range) else None
    if parameters.x_normalization != 'card':
        return {'normalization': parameters.x_normalization, 'range': span}
    return {'range': span} if span else {}


def main(args=None) -> int:
    """Run the node until it is interrupted; return 0, or 2 if it could not start."""
    use_fastdds_profile(os.environ)
    # Until the node is up a signal is only noted: rclpy's handlers would take the context away
    # under a transition, and an exception would end the process where it came upon C++.
    arrived = []
    _handle_signals(lambda number, _: arrived.append(number))
    node = None
    try:
        try:
            rclpy.init(args=args, signal_handler_options=SignalHandlerOptions.NO)
        except RuntimeError as error:  # an argument it cannot read, a log folder it cannot write
            print(f'seg_node: error: ROS does not start: {error}', file=sys.stderr)
            return 2
        node = SegNode()
        # An engine that falls back to another one warns, whenever it does; so does a model.
        warnings.showwarning = lambda message, *_, **__: node.get_logger().warning(str(message))
        if not arrived and not node.start():
            return 2
        install_signal_handlers()
        executor = SingleThreadedExecutor()
        executor.add_node(node)
        if not arrived:
            executor.spin()
    except ExternalShutdownException:
        pass
    except Exception:
        # After a signal the context is gone, and whatever was at work fails in its own way.
        if rclpy.ok():
            raise
    finally:
        # Launch repeats the terminal's signal; a second one must not break the clean-up.
        _handle_signals(signal.SIG_IGN)
        if node is not None:
            node.destroy_node()
        rclpy.try_shutdown()
    return 0


def _handle_signals(handler):
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, handler)


if __name__ == '__main__':
    sys.exit(main())
