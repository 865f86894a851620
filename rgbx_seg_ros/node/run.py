# Copyright 2026 rgbx_seg_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""What the node has while it is configured: a model, and the way of frames to its masks."""

from contextlib import ExitStack
import math
import time

from rclpy.clock import Clock, ClockType
from rgbx_seg_ros.cards.labels import parse_groups
from rgbx_seg_ros.errors import MessageError
from rgbx_seg_ros.health.assessor import Assessor, too_old
from rgbx_seg_ros.health.monitor import fingerprint, Health, MODES
from rgbx_seg_ros.health.report import NodeReport
from rgbx_seg_ros.health.telemetry import Telemetry
from rgbx_seg_ros.inference.disagreement import DisagreementWatch
from rgbx_seg_ros.inference.pipeline import Frame, Job, Pipeline
from rgbx_seg_ros.inference.segmenter import Segmenter
from rgbx_seg_ros.inference.self_test import self_test
from rgbx_seg_ros.messages.images import decode_x, raw_pixels, stamp_ns
from rgbx_seg_ros.node.diagnostics import clock_of
from rgbx_seg_ros.node.inputs import Input
from rgbx_seg_ros.node.outputs import DIAGNOSTICS_TOPIC, Outputs
from rgbx_seg_ros.node.sync import make_synchronizer
from rgbx_seg_ros.node.worker import NewestWorker
from rgbx_seg_ros.parameters import Parameters, parse_size
from rgbx_seg_ros.registration.rig import Rig
from std_msgs.msg import Header

_NS_PER_MS = 1_000_000
_POLL_S = 0.01
_LABELS_S = 5.0
_DIAGNOSTICS_S = 1.0
_SILENCE_S = 5.0
_HEALTH_S = 0.1


def _make_recorder(node, parameters):
    """Return the recorder where `record.folder` is set, else None."""
    if not parameters.record_folder:
        return None
    from rgbx_seg_ros.node.recorder import Recorder  # which few need, and rosbags with it
    return Recorder(node, parameters)


class Run:
    """
    All that `node` makes of `parameters` when it is configured: complete, or not there at all.

    `start` subscribes and publishes and `stop` ends that, any number of times; `close` takes the
    topics back and lets the model go. `warn(kind, text)` logs a warning, one of a kind now and
    then. Messages, timers and parameters come on the executor's thread, which pairs the frames;
    decoding, inference and publishing of the newest pair run on one worker thread.
    """

    def __init__(self, node, parameters: Parameters, warn):
        self._node, self._parameters, self._warn = node, parameters, warn
        self._steady = Clock(clock_type=ClockType.STEADY_TIME)
        self._pairer = make_synchronizer(parameters.sync_policy, parameters.pairing)
        self._health, self._mode = Health(parameters.health), 'wait'
        self._telemetry = Telemetry()
        self._worker = self._pipeline = self._comparison = None
        self._poll_timer = self._assessor = None
        self._inputs = inputs = {}
        self._x_size = None
        self._timers = []
        self._recorder = _make_recorder(node, parameters)
        self._segmenter = Segmenter.from_parameters(parameters)
        self_test(self._segmenter)
        self._rig = Rig(parameters, self._segmenter.card.x,
                        lambda modality: inputs[modality].camera_info)
        self._start_s, self._failure = time.monotonic(), ''
        # Last: whatever fails before leaves nothing that would have to be taken back.
        labels = self._segmenter.labels.grouped(parse_groups(parameters.classes_groups))
        self._outputs = Outputs(node, labels, self._segmenter.fuses, parameters.binary_group)

    @property
    def parameters(self) -> Parameters:
        """
        Those that count; others may be assigned at any time.

        Most are read where they are used, so what only `start` or configure reads stays as it was.
        """
        return self._parameters

    @parameters.setter
    def parameters(self, parameters: Parameters):
        self._parameters = parameters
        self._pairer.settings = parameters.pairing
        self._health.settings = parameters.health
        if self._recorder is not None:
            self._recorder.parameters = parameters

    @property
    def summary(self) -> str:
        """Which model runs, and where, in words."""
        return f'model {self._segmenter.card.name!r} runs on {self._segmenter.engine.device}'

    def start(self) -> None:
        """Subscribe and start to publish; where that fails, nothing of it is left."""
        parameters = self._parameters
        with ExitStack() as failed:
            failed.callback(self.stop)
            self._health, self._mode = Health(parameters.health), 'wait'
            self._assessor = Assessor()
            self._pipeline = Pipeline(self._segmenter, self._rig, parameters.x_smoothing_s,
                                      self._refuse, self._telemetry.time)
            self._comparison = DisagreementWatch(self._segmenter)
            self._worker = NewestWorker(
                self._segment, lambda job: self._telemetry.count('superseded'))
            if self._recorder is not None:
                self._recorder.start()
            self._outputs.publish_labels()
            self._poll_timer = self._every(_POLL_S, self._poll)
            for modality, transport, reliability, depth in (
                    ('rgb', parameters.rgb_transport, parameters.rgb_reliability,
                     parameters.rgb_depth),
                    ('x', parameters.x_transport, parameters.x_reliability, parameters.x_depth)):
                self._inputs[modality] = Input(
                    self._node, modality, transport, reliability, depth,
                    receive=self._receive, warn=self._warn,
                    record=self._recorder and self._recorder.take)
            self._every(_LABELS_S, self._outputs.publish_labels)
            self._every(_DIAGNOSTICS_S, self._publish_diagnostics)
            self._every(_HEALTH_S, self._update_health)
            self._every(_SILENCE_S, self._warn_of_silence)
            failed.pop_all()

    def stop(self) -> None:
        """Finish the job in work, unsubscribe, and forget the frames that wait."""
        # The worker first: its job still asks the inputs, and publishes.
        if self._worker is not None:
            self._worker.stop()
        for timer in self._timers:
            self._node.destroy_timer(timer)
        for one in self._inputs.values():
            one.destroy()
        self._inputs.clear()
        self._timers.clear()
        if self._recorder is not None:
            self._recorder.stop()
        self._worker = self._pipeline = self._comparison = self._poll_timer = None
        self._pairer.reset()

    def close(self) -> None:
        """Stop, take the topics back and let the model go, whoever still knows of this."""
        self.stop()
        self._outputs.destroy()
        self._segmenter = None

    def _every(self, period_s, callback):
        """Call back again and again; return the timer."""
        # On the steady clock: neither a bag's clock that stops nor one that jumps may hold it.
        timer = self._node.create_timer(period_s, callback, clock=self._steady)
        self._timers.append(timer)
        return timer

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
            frames = (None, frame) if modality == 'x' else (frame, None)
            self._worker.submit(Job(mode, *frames, now_ns))
        else:
            self._telemetry.count('sensor_failed')

    def _poll(self):
        self._submit(self._pairer.poll(time.monotonic_ns()))
        if self._pairer.next_deadline_ns is None:
            self._poll_timer.cancel()

    def _submit(self, pairs):
        now_ns = time.monotonic_ns()
        for pair in pairs:
            self._telemetry.count('pairs')
            offset_ms = pair.offset_ns / _NS_PER_MS
            self._telemetry.time(offset_ms=offset_ms, distance_ms=abs(
                offset_ms + self._parameters.x_offset_ms))
            if self._health.mode == 'fusion':
                self._worker.submit(Job('fusion', pair.rgb, pair.x, now_ns))
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
                self._node.get_logger().info(text)
            else:
                self._node.get_logger().warning(text)
            if 'only' in mode or mode == 'unlabeled':
                self._pairer.reset()
            self._mode = mode
        if self._recorder is not None:
            self._recorder.watch_sensors(self._health.states, self._health.ages_ms)
        return mode

    def _segment(self, job):
        """Make and publish one mask, on the worker's thread."""
        parameters = self._parameters
        try:
            done = self._pipeline(job, parameters)
        except Exception as error:  # noqa: BLE001 an engine that fails must not end the node
            self._telemetry.count('engine_failed')
            self._failure = f'the engine failed: {error!r}'
            self._warn('engine', f'the engine failed, the pair is dropped: {error!r}')
            return
        if done is not None and not self._is_too_old(job.frame, parameters):
            self._publish(job, *done, parameters)

    def _is_too_old(self, frame, parameters):
        age_ms = frame.age_ns() / _NS_PER_MS
        if age_ms <= parameters.max_age_ms:
            return False
        self._telemetry.count('too_old')
        why = too_old('it', frame.received_age_ns / _NS_PER_MS, clock_of(self._node),
                      parameters.max_age_ms)
        self._warn(f'age: {why.split(maxsplit=1)[0]}',
                   f'a mask is dropped: its frame is {age_ms:.0f} ms old, max_age_ms is '
                   f'{parameters.max_age_ms:g}; {why}')
        return True

    def _size(self, job, parameters):
        """Return the width and height with which the mask of a job goes out; None for its own."""
        size = parse_size(parameters.mask_size)
        if size != (0, 0):
            return size
        if job.x is not None:
            pixels = raw_pixels(job.x.message)
            if pixels.ndim == 1:  # only decoding tells
                pixels = decode_x(job.x.message)
            self._x_size = pixels.shape[1::-1]
        return self._x_size

    def _publish(self, job, rgb, result, grid, parameters):
        started = time.perf_counter()
        frame, size = job.frame, self._size(job, parameters)
        header = Header(stamp=frame.message.header.stamp, frame_id=grid.frame_id)
        try:
            mask = self._outputs.publish_mask(
                result.mask, header, parameters.label_encoding, size)
            latency_ms = frame.age_ns() / _NS_PER_MS
            self._outputs.publish_rest(
                result, rgb, header, self._inputs[grid.modality].camera_info,
                parameters.overlay_alpha, parameters.overlay_max_rate_hz, size)
            self._outputs.publish_timing(lambda: self._timing(
                job, latency_ms, result, parameters.x_offset_ms))
        except Exception as error:  # noqa: BLE001 RCLError of a full or vanishing middleware
            if self._node.context.ok():
                self._telemetry.count('publish_failed')
                self._failure = f'cannot publish: {error}'
                self._warn('publish', f'cannot publish: {error}')
            return
        self._failure = ''
        self._telemetry.count('masks')
        self._telemetry.time(latency_ms=latency_ms,
                             publish_ms=1e3 * (time.perf_counter() - started))
        if self._recorder is not None:
            self._recorder.take(self._outputs.mask_topic, mask)
            if job.mode == 'fusion':
                self._recorder.watch_confidence(result.mean_confidence)
                self._compare_sensors(rgb)

    def _compare_sensors(self, rgb):
        """Compare what each sensor alone says of the newest pair, if it is time and wanted."""
        if not self._recorder.wants_disagreement:
            return
        try:
            share = self._comparison.look(rgb, *self._pipeline.placed)
        except Exception as error:  # noqa: BLE001 as above, but the mask of the pair is out
            self._warn('disagreement', f'the engine failed, sensors are not compared: {error!r}')
            return
        if share is not None:
            self._recorder.watch_disagreement(share)

    def _timing(self, job, latency_ms, result, x_offset_ms):
        """Return the numbers of TIMING."""
        stamps_ns = [stamp_ns(frame.message.header) for frame in (job.x, job.rgb) if frame]
        distance_ms = math.nan
        if len(stamps_ns) > 1:
            distance_ms = abs((stamps_ns[0] - stamps_ns[1]) / _NS_PER_MS + x_offset_ms)
        return (stamps_ns[-1] / 1e9, latency_ms, result.inference_ms,
                (job.submitted_ns - job.frame.received_ns) / _NS_PER_MS, distance_ms,
                result.mean_confidence)

    def _refuse(self, modality, error, reason):
        self._telemetry.count(f'{modality}_{reason}')
        source = self._inputs[modality]
        source.refusal = str(error)
        self._warn(f'{modality}: {str(error).split(maxsplit=1)[0]}',
                   f'{source.topic}: frame dropped: {error}')

    def _warn_of_silence(self):
        for modality, source in self._inputs.items():
            if not self._telemetry.counts().get(f'{modality}_received'):
                source.warn_of_silence()

    def _publish_diagnostics(self):
        message = self._outputs.publish_diagnostics(self._assessor.assess(self._report()))
        if self._recorder is not None:
            self._recorder.take(DIAGNOSTICS_TOPIC, message)
        if self._assessor.silence:
            self._warn('no mask', self._assessor.silence)

    def _report(self):
        parameters, drops = self._parameters, self._telemetry.counts()
        received = {name: drops.pop(f'{name}_received', 0) for name in ('rgb', 'x')}
        pairs, masks = drops.pop('pairs', 0), drops.pop('masks', 0)
        stamps_ns = [self._inputs[name].stamp_ns for name in ('rgb', 'x')]
        apart_ms = None if None in stamps_ns else (stamps_ns[1] - stamps_ns[0]) / _NS_PER_MS
        return NodeReport(
            model=self._segmenter.card.name, engine=parameters.engine,
            device=self._segmenter.engine.device, uptime_s=time.monotonic() - self._start_s,
            health=self._health.summary(), pairs=pairs, masks=masks,
            drops={**drops, **self._pairer.drops}, percentiles=self._telemetry.percentiles(),
            clock=clock_of(self._node), max_age_ms=parameters.max_age_ms,
            policy=parameters.sync_policy, slop_ms=parameters.slop_ms,
            x_offset_ms=parameters.x_offset_ms, newest_apart_ms=apart_ms,
            clock_jumps=self._pairer.clock_jumps, failure=self._failure,
            registration=parameters.registration_mode, drift=self._rig.drift,
            dark=self._pipeline.dark, record=self._recorder and self._recorder.summary(),
            **{name: one.report(received[name]) for name, one in self._inputs.items()})
