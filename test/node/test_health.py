# Copyright 2026 rgbx_seg_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""What the node publishes while a sensor has failed, and when it is back."""

import threading

import numpy as np
import pytest

pytest.importorskip('rclpy', reason='needs rclpy, from a ROS distribution or the ros extra')

from rgbx_seg_ros.messages.images import decode_x, stamp_ns, to_image  # noqa: E402
from sensor_msgs.msg import CameraInfo, Image  # noqa: E402
from support.node_stage import RGB, X  # noqa: E402,I100
from support.ros_stage import CAMERA, header  # noqa: E402

QUICK = {'health__late_ms': 100.0, 'health__dead_ms': 400.0, 'health__frozen_ms': 400.0,
         'health__saturated_share': 0.98, 'health__recovery_ms': 300.0}
PERIOD_S = 0.05


class Cameras:
    """Two cameras at 20 Hz; `x` may be fine, cut, frozen or black, and so may `rgb`."""

    def __init__(self, stage, rgb='fine', x_pixels=X):
        self.stage, self.rgb, self.x = stage, rgb, 'fine'
        self._stills = ('rgb', RGB), ('x', x_pixels)
        self.sent = []
        self._rng = np.random.default_rng(0)
        self._stop = threading.Event()
        self._frames = {}
        self._publishers = {name: stage.publisher(Image, f'{name}/image') for name in ('rgb', 'x')}
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self):
        while not self._stop.wait(PERIOD_S):
            stamp = self.stage.stamp()
            for name, still in self._stills:
                how = getattr(self, name)
                if how == 'fine':
                    self._frames[name] = still + self._rng.integers(0, 9, still.shape, np.uint8)
                elif how == 'black':
                    self._frames[name] = np.zeros_like(still)
                if how != 'cut':
                    pixels = self._frames[name]
                    self._publishers[name].publish(to_image(
                        pixels, 'rgb8' if pixels.ndim == 3 else 'mono8', header(stamp, name)))
            self.sent.append(stamp)

    def stop(self):
        self._stop.set()
        self._thread.join()


@pytest.fixture
def cameras(stage):
    """Give a function that starts two cameras; they stop with the test."""
    started = []

    def start(**how):
        started.append(Cameras(stage, **how))
        return started[-1]
    yield start
    for one in started:
        one.stop()


def newest(stage, name='mask'):
    """Return the newest image of that name as (stamp, pixels, frame_id)."""
    messages = stage.received[f'segmentation/{name}']
    if not messages:
        return None, None, None
    message = messages[-1][0]
    return stamp_ns(message.header), decode_x(message), message.header.frame_id


def segments(stage):
    """Tell whether the newest mask is one of both modalities."""
    _, mask, _ = newest(stage)
    return mask is not None and np.array_equal(mask, X > 128)


@pytest.mark.parametrize('fault', ['cut', 'frozen', 'black'])
def test_with_rgb_alone_masks_go_on_with_less_confidence(stage, make_node, cameras, fault):
    make_node(degraded__policy='rgb_only', **QUICK)
    for name in ('mask', 'confidence'):
        stage.listen(Image, f'segmentation/{name}')
    pair = cameras()
    stage.wait(lambda: segments(stage) and stage.received['segmentation/confidence'])
    assert (newest(stage, 'confidence')[1] == 250).all()
    pair.x = fault
    stage.wait(lambda: not segments(stage))
    assert not newest(stage)[1].any(), 'the engine saw X'
    stage.wait(lambda: (newest(stage, 'confidence')[1] == 125).all())
    count = len(stage.received['segmentation/mask'])
    stage.wait(lambda: len(stage.received['segmentation/mask']) > count + 5)
    pair.x = 'fine'
    stage.wait(lambda: segments(stage))
    assert set(map(stamp_ns, (m.header for m, _ in stage.received['segmentation/mask']))) <= {
        *pair.sent}


@pytest.mark.parametrize('fault', ['cut', 'frozen', 'black'])
@pytest.mark.parametrize('name', ['rgb', 'x'])
def test_by_default_nothing_is_published_while_a_sensor_has_failed(
        stage, make_node, cameras, warnings, name, fault):
    make_node(**QUICK)
    stage.listen(Image, 'segmentation/mask')
    pair = cameras()
    stage.wait(lambda: segments(stage))
    setattr(pair, name, fault)
    stage.wait(lambda: any('mode wait' in line and f'{name} is' in line for line in warnings()))
    last, sent = newest(stage)[0], len(pair.sent)
    stage.wait(lambda: len(pair.sent) > sent + 10)
    assert newest(stage)[0] <= last + 2 * PERIOD_S * 1e9
    setattr(pair, name, 'fine')
    stage.wait(lambda: newest(stage)[0] > pair.sent[sent])
    assert segments(stage)


def test_that_both_are_gone_is_noticed_without_a_message(stage, make_node, cameras, warnings):
    make_node(degraded__policy='unlabeled', **QUICK)
    stage.listen(Image, 'segmentation/mask')
    pair = cameras()
    stage.wait(lambda: segments(stage))
    pair.rgb = pair.x = 'cut'
    stage.wait(lambda: any('rgb is dead, x is dead' in line for line in warnings()))


def test_with_empty_masks_every_pixel_is_unlabeled(stage, make_node, cameras):
    make_node(degraded__policy='unlabeled', **QUICK)
    stage.listen(Image, 'segmentation/mask')
    pair = cameras()
    stage.wait(lambda: segments(stage))
    pair.x = 'cut'
    stage.wait(lambda: (newest(stage)[1] == 255).all())
    pair.x = 'fine'
    stage.wait(lambda: segments(stage))


@pytest.fixture
def optics(stage):
    """Let each camera tell its optics, which bear its name, until the test ends."""
    def tell():
        for name, publisher in publishers.items():
            publisher.publish(CameraInfo(distortion_model=name, header=header(7, name)))

    publishers = {name: stage.node.create_publisher(CameraInfo, f'{name}/camera_info', CAMERA)
                  for name in ('rgb', 'x')}
    timer = stage.node.create_timer(0.05, tell)
    yield
    stage.node.destroy_timer(timer)


def test_with_x_alone_masks_lie_on_rgb_and_say_so(
        stage, make_node, cameras, optics, warnings):
    """Who projects them needs the pose and the optics of RGB, whatever camera took the pixels."""
    make_node(degraded__policy='x_only', registration__mode='homography',
              registration__homography=[0.5, 0.0, 0.0, 0.0, 0.5, 0.0, 0.0, 0.0, 1.0],
              registration__x_size=[64, 48], registration__rgb_size=[64, 48], **QUICK)
    stage.listen(Image, 'segmentation/mask')
    stage.listen(CameraInfo, 'segmentation/camera_info')
    pair = cameras()
    stage.wait(lambda: newest(stage)[0])
    of_both = newest(stage)[1]
    pair.rgb = 'cut'
    stage.wait(lambda: any('mode x_only' in line for line in warnings()))
    switched = stage.stamp()
    stage.wait(lambda: newest(stage)[0] > switched)
    stamp, mask, frame_id = newest(stage)
    assert frame_id == 'rgb' and stamp in pair.sent
    np.testing.assert_array_equal(mask, of_both)
    stage.wait(lambda: info_of(stage, stamp))
    assert info_of(stage, stamp).distortion_model == info_of(stage, stamp).header.frame_id == 'rgb'


def test_with_x_alone_from_the_start_masks_lie_on_x_and_say_so(
        stage, make_node, cameras, optics):
    """Of RGB not even the frame_id is known: nobody could project a mask on its pixels."""
    make_node(degraded__policy='x_only', registration__mode='homography',
              registration__x_size=[40, 30], registration__rgb_size=[64, 48], **QUICK)
    stage.listen(Image, 'segmentation/mask')
    stage.listen(CameraInfo, 'segmentation/camera_info')
    cameras(rgb='black', x_pixels=X[:30, 12:52])
    stage.wait(lambda: newest(stage)[0])
    stamp, mask, frame_id = newest(stage)
    assert frame_id == 'x'
    np.testing.assert_array_equal(mask, X[:30, 12:52] > 128)
    stage.wait(lambda: stage.received['segmentation/camera_info'])
    for message, _ in stage.received['segmentation/camera_info']:
        assert message.distortion_model == message.header.frame_id == 'x'


def info_of(stage, stamp):
    """Return the CameraInfo received that has the stamp, or None."""
    return next((message for message, _ in stage.received['segmentation/camera_info']
                 if stamp_ns(message.header) == stamp), None)
