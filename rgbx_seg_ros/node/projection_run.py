# Copyright 2026 rgbx_seg_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""What the projection node has while it is configured: the way from a mask to a planner."""

from collections import Counter
from contextlib import ExitStack
import time
from typing import Any, NamedTuple

import numpy as np
from rclpy.clock import Clock, ClockType, JumpThreshold
from rclpy.duration import Duration
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy
from rgbx_seg_ros.errors import MessageError, ParameterError, PoseError, RgbxSegError
from rgbx_seg_ros.health.assessor import stamp_trouble
from rgbx_seg_ros.health.report import Level, Status
from rgbx_seg_ros.health.telemetry import SHARES, Window
from rgbx_seg_ros.messages.images import raw_pixels, stamp_ns
from rgbx_seg_ros.node.diagnostics import clock_of
from rgbx_seg_ros.node.projection_outputs import GRIDS, ProjectionOutputs
from rgbx_seg_ros.node.projection_points import PointMaker
from rgbx_seg_ros.node.tf import open_poses
from rgbx_seg_ros.projection.camera import Camera
from rgbx_seg_ros.projection.classes import Classes, read_palette
from rgbx_seg_ros.projection.ground import GroundView, UNKNOWN
from rgbx_seg_ros.projection.parameters import ProjectionParameters
from rgbx_seg_ros.projection.points import contact_points
from rgbx_seg_ros.projection.report import TIMES
from sensor_msgs.msg import CameraInfo, Image
from std_msgs.msg import Header, String

_POLL_S = 0.02
_DIAGNOSTICS_S = 1.0
_QUEUE = 10
"""Masks that wait for their confidence, and the other way round."""
_SAME_M, _SAME_RAD = 1e-3, 1e-4
"""Poses that differ by less are one: tf repeats static transforms with its rounding."""
_MOVED_M, _MOVED_RAD = 0.05, 0.02
_STRANGE_AGE_NS = 60 * 10 ** 9
_BEST_EFFORT = QoSProfile(depth=5, reliability=ReliabilityPolicy.BEST_EFFORT)
_LATCHED = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)


class Mask(NamedTuple):
    """A mask with its confidence."""

    labels: np.ndarray
    """(H, W) uint8."""
    confidence: np.ndarray
    header: Any
    stamp_ns: int
    received_ns: int
    """On the steady clock."""
    age_ns: int
    """By its stamp when it was received."""

    def age_now_ms(self) -> float:
        """Return the age now, ms."""
        return (self.age_ns + time.monotonic_ns() - self.received_ns) / 1e6


class ProjectionRun:
    """
    All that `node` makes of `parameters` when it is configured: complete, or not there at all.

    `start` subscribes and publishes and `stop` ends that, any number of times; `close` takes the
    topics back. `warn(kind, text)` logs a warning, one of a kind now and then. All of it happens
    on the executor's thread.
    """

    def __init__(self, node, parameters: ProjectionParameters, warn):
        self._node, self._parameters, self._warn = node, parameters, warn
        self._counts, self._times = Counter(), {name: Window() for name in TIMES}
        self._subscriptions, self._timers, self._jumps = [], [], None
        self._info = self._palette = self._classes = self._camera = self._view = None
        self._start_s = time.monotonic()
        with ExitStack() as failed:
            self._poses = open_poses(node, parameters)
            failed.callback(self._poses.close)
            self._outputs = ProjectionOutputs(node, parameters)
            failed.pop_all()
        self._forget()

    @property
    def parameters(self) -> ProjectionParameters:
        """Those that count; others may be assigned at any time."""
        return self._parameters

    @parameters.setter
    def parameters(self, parameters: ProjectionParameters):
        self._parameters = self._points.parameters = parameters

    @property
    def summary(self) -> str:
        """What the node does, in words."""
        shape = self.parameters.shape
        return (f'grid of {shape.columns} x {shape.rows} cells of {shape.resolution:g} m in '
                f'{self.parameters.frame!r}')

    def start(self) -> None:
        """Subscribe and start to publish; where that fails, nothing of it is left."""
        node = self._node
        with ExitStack() as failed:
            failed.callback(self.stop)
            for name in ('mask', 'confidence'):
                self._subscribe(Image, f'segmentation/{name}',
                                lambda message, name=name: self._take(name, message), _BEST_EFFORT)
            self._subscribe(CameraInfo, 'segmentation/camera_info', self._take_info, _BEST_EFFORT)
            self._subscribe(String, 'segmentation/palette', self._take_palette, _LATCHED)
            self._points.start(self._subscribe)
            steady = Clock(clock_type=ClockType.STEADY_TIME)
            for period_s, callback in ((_POLL_S, self._poll), (_DIAGNOSTICS_S, self._diagnose)):
                self._timers.append(node.create_timer(period_s, callback, clock=steady))
            self._jumps = node.get_clock().create_jump_callback(
                JumpThreshold(min_forward=None, min_backward=Duration(nanoseconds=-1),
                              on_clock_change=True), post_callback=self._jump)
            failed.pop_all()

    def stop(self) -> None:
        """Unsubscribe, and forget the masks that wait."""
        for timer in self._timers:
            self._node.destroy_timer(timer)
        for subscription in self._subscriptions:
            self._node.destroy_subscription(subscription)
        if self._jumps is not None:
            self._jumps.unregister()
        self._timers.clear()
        self._subscriptions.clear()
        self._jumps = None
        self._forget()

    def close(self) -> None:
        """Stop, and take the topics back."""
        self.stop()
        self._outputs.destroy()
        self._poses.close()

    def _forget(self):
        self._waiting = {'mask': {}, 'confidence': {}}
        self._mask, self._failure, self._told_s = None, '', None
        self._points = PointMaker(self._parameters, self._poses, self._outputs, self._note)

    def _subscribe(self, *arguments):
        self._subscriptions.append(self._node.create_subscription(*arguments))

    # Messages

    def _take(self, name, message):
        self._counts[f'{name}_received'] += 1
        try:
            stamp, pixels = stamp_ns(message.header), _whole_numbers(message)
        except MessageError as error:
            self._note(f'{name}_malformed', f'segmentation/{name}: {error}')
            return
        waiting = self._waiting[name]
        waiting[stamp] = message.header, pixels, time.monotonic_ns()
        if len(waiting) > _QUEUE:
            del waiting[next(iter(waiting))]
            other = 'confidence' if name == 'mask' else 'mask'
            self._note(f'{name}_unmatched', f'segmentation/{name} comes without a '
                       f'segmentation/{other} of the same stamp: are both of one node?')
        self._match(stamp)

    def _match(self, stamp):
        if not all(stamp in waiting for waiting in self._waiting.values()):
            return
        header, labels, received_ns = self._waiting['mask'][stamp]
        confidence = self._waiting['confidence'][stamp][1]
        self._waiting = {name: {other: kept for other, kept in waiting.items() if other > stamp}
                         for name, waiting in self._waiting.items()}
        if labels.shape != confidence.shape:
            self._note('confidence_malformed', f'segmentation/mask is {labels.shape[::-1]} and '
                       f'segmentation/confidence {confidence.shape[::-1]}: are both of one node?')
            return
        if self._mask is not None:
            self._counts['superseded'] += 1
        self._mask = Mask(labels, confidence, header, stamp, received_ns, self._age_ns(stamp))
        self._work()

    def _age_ns(self, stamp):
        """Return the age of a stamp; of one from another clock, ages count from the receipt."""
        age_ns = self._node.get_clock().now().nanoseconds - stamp
        if abs(age_ns) <= _STRANGE_AGE_NS:
            return max(age_ns, 0)
        self._warn('clock', stamp_trouble('segmentation/mask', age_ns / 1e6, clock_of(self._node),
                                          _STRANGE_AGE_NS / 1e6)
                   + '. Until then ages are counted from the receipt')
        return 0

    def _take_info(self, message):
        self._info = message

    def _take_palette(self, message):
        if self._palette == message.data:
            return
        self._palette, self._classes = message.data, None

    def _jump(self, _):
        """Begin anew after the clock was set back, as by a bag that starts again."""
        self._counts['clock_jumps'] += 1
        self._poses.forget()
        self._forget()
        self._warn('jump', 'the clock has jumped: what was waiting is forgotten')

    # Work

    def _poll(self):
        self._work()
        self._points.poll()
        self._clear_old_grids()

    def _work(self):
        """Make of the newest mask what is asked for; or wait for what is missing for that."""
        mask = self._mask
        if mask is None:
            return
        if mask.age_now_ms() > self.parameters.max_age_ms:
            self._drop('too_old', f'a mask is dropped: it is {mask.age_now_ms():.0f} ms old, '
                       f'max_age_ms is {self.parameters.max_age_ms:g}{self._failure_so_far()}')
            return
        try:
            classes, camera = self._meaning(), self._optics(mask)
            view = self._ground(mask, camera)
        except RgbxSegError as error:
            has_no_pose = isinstance(error, PoseError)
            if has_no_pose:
                self._failure = str(error)
            # A pose may be late, and so may be what comes once, beside the very first mask.
            waited_ms = (time.monotonic_ns() - mask.received_ns) / 1e6
            late = has_no_pose or self._info is None or self._palette is None
            if not late or waited_ms >= self.parameters.tf_max_wait_ms:
                self._drop('no_pose' if has_no_pose else 'not_usable',
                           f'a mask is dropped: {error}')
            return
        self._mask = None
        try:
            self._publish(mask, classes, camera, view)
        except Exception as error:  # noqa: BLE001 RCLError of a full or vanishing middleware
            if self._node.context.ok():
                self._note('publish_failed', f'cannot publish: {error}')
            return
        self._failure = ''
        self._counts['masks'] += 1
        self._times['latency_ms'].add(mask.age_now_ms())

    def _failure_so_far(self):
        return f'; {self._failure}' if self._failure else ''

    def _meaning(self) -> Classes:
        """Return what the classes mean, or raise ParameterError."""
        if self._classes is None:
            if self._palette is None:
                raise ParameterError('nothing has come on segmentation/palette yet, which names '
                                     'the classes: is it published beside the mask?')
            parameters = self.parameters
            self._classes = Classes(
                read_palette(self._palette), parameters.classes_ground,
                parameters.classes_obstacle, parameters.points_drop, parameters.classes_costs)
        return self._classes

    def _optics(self, mask) -> Camera:
        """Return the camera of a mask, or raise ParameterError or FrameError."""
        info = self._info
        if info is None:
            raise ParameterError('nothing has come on segmentation/camera_info yet: let the '
                                 'camera publish rgb/camera_info to the segmentation node')
        if info.header.frame_id != mask.header.frame_id:
            raise ParameterError('segmentation/camera_info is of the frame '
                                 f'{info.header.frame_id!r}, the mask of '
                                 f'{mask.header.frame_id!r}')
        size = mask.labels.shape[::-1]
        facts = size, info.width, info.height, info.distortion_model, *(
            tuple(numbers) for numbers in (info.d, info.k, info.r, info.p))
        if self._camera is None or self._camera[0] != facts:
            camera = Camera.from_info('segmentation', info, self.parameters.camera_rectified)
            self._camera = facts, camera if camera.size == size else camera.scaled(size)
        return self._camera[1]

    def _ground(self, mask, camera) -> GroundView:
        """Return what the camera sees of the ground, or raise PoseError."""
        pose = self._poses.camera(mask.header.frame_id, mask.stamp_ns)
        view = self._view
        if view is not None and view.camera is camera:
            metres, angle = view.pose.distance(pose)
            if metres < _SAME_M and angle < _SAME_RAD:
                return view
            if metres > _MOVED_M or angle > _MOVED_RAD:
                self._warn('moved', f'the camera has moved over the ground by {metres:.2f} m and '
                           f'{np.degrees(angle):.1f} degrees between two masks: look at its '
                           'transform if it is fixed to the vehicle')
            self._counts['pose_changes'] += 1
        self._view = None
        self._view = GroundView(camera, pose, self.parameters.shape,
                                self.parameters.grid_max_range)
        return self._view

    def _publish(self, mask, classes, camera, view):
        parameters, outputs = self.parameters, self._outputs
        started = time.perf_counter()
        if outputs.wanted(*GRIDS, 'obstacle_points'):
            contacts = view.contacts(mask.labels, classes.obstacles, mask.confidence,
                                     parameters.least)
            for name, values, marks in (
                    ('ground_grid', classes.values, np.full(256, 100, np.int8)),
                    ('cost_grid', classes.cost_values, classes.cost_marks)):
                if outputs.wanted(name):
                    outputs.publish_grid(name, view.grid(
                        mask.labels, values, contacts, marks, mask.confidence, parameters.least),
                        mask.header.stamp)
            if outputs.wanted('obstacle_points'):
                outputs.publish_points('obstacle_points', contact_points(
                    contacts, parameters.ground_z + parameters.obstacle_z,
                    mask.labels, mask.confidence, classes.colors),
                    Header(stamp=mask.header.stamp, frame_id=parameters.frame))
            self._times['grid_ms'].add(1e3 * (time.perf_counter() - started))
        self._told_s = time.monotonic()
        started = time.perf_counter()
        if self._points.take(mask, camera, classes):
            self._times['points_ms'].add(1e3 * (time.perf_counter() - started))

    def _clear_old_grids(self):
        """Replace a grid that has grown old by one that knows nothing: some keep the last one."""
        if (self._told_s is None
                or 1e3 * (time.monotonic() - self._told_s) <= self.parameters.max_age_ms):
            return
        self._told_s = None
        shape = self.parameters.shape
        cells = np.full((shape.rows, shape.columns), UNKNOWN, np.int8)
        for name in GRIDS:
            if self._outputs.wanted(name):
                self._outputs.publish_grid(name, cells, self._node.get_clock().now().to_msg())
        self._counts['cleared'] += 1

    def _drop(self, reason, text):
        self._mask = None
        self._note(reason, text)

    def _note(self, reason, text):
        """Count a failure, keep it for diagnostics, and warn of it."""
        self._counts[reason] += 1
        self._failure = text
        self._warn(f'{reason}: {text.partition(":")[2][:30]}', text)

    # Diagnostics

    def _diagnose(self):
        self._outputs.publish_diagnostics({'projection': self._status()})

    def _status(self) -> Status:
        counts = self._counts
        age_s = None if self._told_s is None else time.monotonic() - self._told_s
        level, message = Level.OK, 'projecting'
        if self._failure:
            level, message = Level.ERROR, self._failure
        elif age_s is None:
            level = Level.WARN
            message = ('no mask yet: nothing has come on segmentation/mask'
                       if not counts['mask_received'] else 'masks have stopped')
            if counts['mask_received'] and not counts['confidence_received']:
                message = 'no mask yet: nothing has come on segmentation/confidence'
        values = {'frame': self.parameters.frame, 'uptime_s': time.monotonic() - self._start_s,
                  'masks': counts['masks'], 'failure': self._failure or 'none',
                  'clock': clock_of(self._node),
                  **{f'{name}_p{share}': window.percentile(share)
                     for name, window in self._times.items() for share in SHARES},
                  **{name: count for name, count in sorted(counts.items()) if name != 'masks'}}
        return Status(level, message, {
            name: 'n/a' if value is None else f'{value:.2f}' if isinstance(value, float)
            else str(value) for name, value in values.items()}, self.parameters.frame)


def _whole_numbers(message):
    """Return the pixels of a label image (H, W) as uint8, or raise MessageError."""
    pixels = raw_pixels(message)
    if pixels.ndim != 2 or pixels.dtype.kind not in 'iu':
        raise MessageError(f'encoding is {message.encoding!r}, needed is one of whole numbers and '
                           'one channel, such as mono8')
    return np.ascontiguousarray(pixels, np.uint8)
