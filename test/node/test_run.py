# Copyright 2026 rgbx_seg_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""
What the node does with frames while it is active, one message after the other.

The node does not spin here: messages are handed to it, so their order is certain.
"""

import threading

import numpy as np
import pytest

pytest.importorskip('rclpy', reason='needs rclpy, from a ROS distribution or the ros extra')

from rclpy.parameter import Parameter  # noqa: E402,I100
from rgbx_seg_ros.errors import FrameError  # noqa: E402
from rgbx_seg_ros.messages.images import decode_x, stamp_ns, to_image  # noqa: E402
from rgbx_seg_ros.node import run  # noqa: E402
from sensor_msgs.msg import CameraInfo, Image  # noqa: E402
from support.node_stage import RGB, stamps, walk, X  # noqa: E402
from support.ros_stage import header  # noqa: E402

MS = 1_000_000
BLACK = np.zeros_like(RGB)
MASK = 'segmentation/mask'


def take(node, modality, pixels, stamp):
    """Hand the node an image, with the noise that tells one from a covered lens or a test card."""
    if pixels.any():
        pixels = pixels + np.random.default_rng(stamp).integers(0, 9, pixels.shape, np.uint8)
    encoding = 'rgb8' if pixels.ndim == 3 else 'mono8'
    node._run._receive(modality, to_image(pixels, encoding, header(stamp, modality)))


def pair(node, stamp):
    """Hand the node a pair, to be segmented."""
    take(node, 'x', X, stamp)
    take(node, 'rgb', RGB, stamp)


def masks(stage, count):
    """Wait for masks; return their stamps and frame_ids."""
    stage.wait(lambda: len(stage.received[MASK]) >= count)
    return [(stamp_ns(m.header), m.header.frame_id) for m, _ in stage.received[MASK]]


@pytest.fixture
def node(stage, make_node):
    """Return a function that makes an active node that does not spin, whose masks are heard."""
    def make(**parameters):
        node = make_node(spins=False, **{
            'sync__max_wait_ms': 10_000.0, 'health__saturated_share': 0.98, **parameters})
        stage.listen(Image, MASK)
        stage.wait(lambda: stage.node.count_publishers(MASK))
        stage.wait(lambda: node._run._outputs._images['mask'].get_subscription_count())
        return node
    return make


def test_frames_from_before_a_deactivate_make_no_mask(stage, node):
    node = node()
    start = stage.stamp()
    take(node, 'x', X, start)
    run_ = node._run
    assert run_._pairer.waiting == (0, 1)
    walk(node, 'deactivate')
    assert run_._pairer.waiting == (0, 0) and run_._pairer.drops['x_reset'] == 1
    walk(node, 'activate')
    take(node, 'x', X, start + 1000 * MS)
    take(node, 'rgb', RGB, start)
    pair(node, start + 2000 * MS)
    assert masks(stage, 1) == [(start + 2000 * MS, 'rgb')]
    assert run_._pairer.drops['rgb_no_partner'] == 1


@pytest.mark.parametrize(('policy', 'failed', 'mode'), [
    ('rgb_only', 'x', 'rgb_only'), ('x_only', 'rgb', 'x_only'), ('unlabeled', 'x', 'unlabeled'),
    ('unlabeled', 'rgb', 'unlabeled')])
def test_a_degraded_mode_forgets_the_frames_that_wait(stage, node, policy, failed, mode):
    """With both sensors back, a mask of what was seen before the fault would come late."""
    node = node(degraded__policy=policy)
    start = stage.stamp()
    pair(node, start)
    other = 'x' if failed == 'rgb' else 'rgb'
    take(node, other, RGB if other == 'rgb' else X, start + 500 * MS)
    pairer = node._run._pairer
    assert sum(pairer.waiting) == 1
    take(node, failed, BLACK if failed == 'rgb' else BLACK[..., 0], start + 1000 * MS)
    assert node._run._mode == mode
    assert pairer.waiting == (0, 0) and pairer.drops[f'{other}_reset'] == 1


def test_while_nothing_is_published_frames_go_on_to_pair(stage, node):
    """So that the first good pair is known the moment that a sensor is back."""
    node = node(health__recovery_ms=0.0)
    start = stage.stamp()
    pair(node, start)
    masks(stage, 1)
    take(node, 'rgb', RGB, start + 500 * MS)
    take(node, 'x', BLACK[..., 0], start + 500 * MS)
    run_ = node._run
    assert run_._mode == 'wait' and run_._telemetry.counts()['sensor_failed'] == 1
    pair(node, start + 1000 * MS)
    assert masks(stage, 2) == [(start, 'rgb'), (start + 1000 * MS, 'rgb')]
    assert run_._telemetry.counts()['pairs'] == 3


@pytest.mark.parametrize(('policy', 'failed'), [('rgb_only', 'x'), ('x_only', 'rgb')])
def test_in_a_degraded_mode_only_the_sensor_that_works_is_used(stage, node, policy, failed):
    node = node(degraded__policy=policy)
    start, other = stage.stamp(), {'x': 'rgb', 'rgb': 'x'}[failed]
    frames = {'rgb': RGB, 'x': X}
    pair(node, start)
    masks(stage, 1)
    take(node, failed, np.zeros_like(frames[failed]), start + 1000 * MS)
    take(node, failed, np.zeros_like(frames[failed]), start + 1100 * MS)
    take(node, other, frames[other], start + 1200 * MS)
    assert masks(stage, 2) == [(start, 'rgb'), (start + 1200 * MS, 'rgb')]
    assert node._run._telemetry.counts()['sensor_failed'] == 2


def test_after_a_deactivate_x_alone_no_longer_lies_on_a_colour_frame_from_before(stage, node):
    """By then it may be another camera; its camera_info has to come again as well."""
    node = node(degraded__policy='x_only')
    start = stage.stamp()
    pair(node, start)
    masks(stage, 1)
    walk(node, 'deactivate', 'activate')
    take(node, 'rgb', BLACK, start + 1000 * MS)
    take(node, 'x', X[:30, 12:52], start + 1000 * MS)
    assert masks(stage, 2) == [(start, 'rgb'), (start + 1000 * MS, 'x')]
    np.testing.assert_array_equal(decode_x(stage.received[MASK][-1][0]), X[:30, 12:52] > 128)


def test_a_frame_refused_while_the_node_deactivates_is_told_as_refused(
        stage, node, engine, monkeypatch, warnings):
    """Its topic is still known then, and the engine has not failed."""
    node = node()
    began, stopping = threading.Event(), threading.Event()

    def segment(self, *_):
        began.set()
        assert stopping.wait(30)
        raise FrameError('x is odd')

    class Worker(run.NewestWorker):

        def stop(self):
            stopping.set()
            super().stop()

    engine.__call__ = segment
    walk(node, 'deactivate')
    monkeypatch.setattr(run, 'NewestWorker', Worker)
    walk(node, 'activate')
    pair(node, stage.stamp())
    assert began.wait(30)
    walk(node, 'deactivate')
    assert any('/x/image: frame dropped: x is odd' in line for line in warnings())
    counts = node._run._telemetry.counts()
    assert counts['x_malformed'] == 1 and 'engine_failed' not in counts


def test_the_mask_in_work_is_published_before_the_node_is_inactive(stage, node, engine):
    node = node()
    info = CameraInfo(distortion_model='rgb')
    stage.listen(CameraInfo, 'segmentation/camera_info')
    stage.wait(lambda: node._run._outputs._camera_info.get_subscription_count())
    node._run._inputs['rgb'].camera_info = info
    engine.seconds = 0.2
    sent = stage.stamp()
    pair(node, sent)
    stage.wait(lambda: engine.calls)
    walk(node, 'deactivate')
    assert masks(stage, 1) == [(sent, 'rgb')]
    stage.wait(lambda: stage.received['segmentation/camera_info'])
    assert stage.received['segmentation/camera_info'][0][0].header == header(sent, 'rgb')
    assert info == CameraInfo(distortion_model='rgb'), 'the message of the camera was changed'
    assert node._run._telemetry.counts()['masks'] == 1


def test_an_undecided_frame_is_decided_when_its_time_has_come_and_no_poll_before(stage, node):
    node = node(sync__max_wait_ms=0.0)
    timer = node._run._poll_timer
    node._run._poll()
    assert timer.is_canceled(), 'with nothing to decide it would wake the node 100 times a second'
    start = stage.stamp()
    take(node, 'x', X, start)
    assert timer.is_canceled()
    node.set_parameters([Parameter('sync.max_wait_ms', value=10_000.0)])
    take(node, 'rgb', RGB, start + 10 * MS)
    assert not timer.is_canceled() and not stage.received[MASK]
    node.set_parameters([Parameter('sync.max_wait_ms', value=0.0)])
    node._run._poll()
    assert timer.is_canceled()
    assert masks(stage, 1) == [(start + 10 * MS, 'rgb')]


def test_what_is_told_of_times_and_offsets(stage, node):
    node = node(sync__x_offset_ms=-5.0)
    start = stage.stamp()
    for later_ms in (0, 1000):
        take(node, 'x', X, start + (later_ms + 4) * MS)
        take(node, 'rgb', RGB, start + later_ms * MS)
    report = node._run._report()
    assert report.percentiles['offset_ms_p50'] == 4.0
    assert report.percentiles['distance_ms_p50'] == 1.0
    assert report.newest_apart_ms == 4.0
    assert (report.rgb.received, report.x.received) == (2, 2)
    assert report.pairs == 2 and report.policy == 'nearest' and report.x_offset_ms == -5.0


def test_a_failure_is_told_until_a_mask_goes_out(stage, node, engine):
    node = node()
    engine.failure = RuntimeError('out of memory')
    start = stage.stamp()
    pair(node, start)
    stage.wait(lambda: node._run._telemetry.counts().get('engine_failed'))
    assert 'out of memory' in node._run._report().failure
    engine.failure = None
    pair(node, start + 1000 * MS)
    stage.wait(lambda: node._run._telemetry.counts().get('masks'))
    assert node._run._report().failure == ''
    assert stamps(stage) == [start + 1000 * MS]


def test_a_mask_that_the_middleware_does_not_take_is_counted_and_told(
        stage, node, monkeypatch, warnings):
    node = node()

    def publish(*_):
        raise RuntimeError('cannot publish data')

    with monkeypatch.context() as patch:
        patch.setattr(run.Outputs, 'publish_mask', publish)
        pair(node, stage.stamp())
        stage.wait(lambda: node._run._telemetry.counts().get('publish_failed'))
    assert node._run._report().failure == 'cannot publish: cannot publish data'
    assert any('cannot publish data' in line for line in warnings())
    assert 'masks' not in node._run._telemetry.counts()


def test_after_a_refused_pair_the_next_one_is_served(stage, node, engine):
    node = node()
    engine.failure = FrameError('x is odd')
    start = stage.stamp()
    pair(node, start)
    stage.wait(lambda: node._run._telemetry.counts().get('x_malformed'))
    assert node._run._report().x.refusal == 'x is odd'
    engine.failure = None
    pair(node, start + 1000 * MS)
    assert masks(stage, 1) == [(start + 1000 * MS, 'rgb')]
