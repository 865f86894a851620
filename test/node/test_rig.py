# Copyright 2026 rgbx_seg_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""What the node knows of the pair of cameras it serves: how X is scaled, and lies on RGB."""

import re

import cv2
import numpy as np
import pytest

pytest.importorskip('rclpy', reason='needs rclpy, from a ROS distribution or the ros extra')

from diagnostic_msgs.msg import DiagnosticArray  # noqa: E402,I100
from rgbx_seg_ros.messages.images import decode_x, to_image  # noqa: E402,I100
from sensor_msgs.msg import CameraInfo, CompressedImage, Image  # noqa: E402
from std_msgs.msg import Header  # noqa: E402
from support.node_stage import diagnostics, RGB, stamps, X  # noqa: E402
from support.ros_stage import header  # noqa: E402


def masks(stage):
    """Return the masks received."""
    return [decode_x(message) for message, _ in stage.received['segmentation/mask']]


def test_x_is_brought_onto_rgb_by_a_homography(stage, make_node):
    make_node(registration__mode='homography',
              registration__homography=[1.0, 0.0, 10.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0],
              registration__x_size=[64, 48], registration__rgb_size=[64, 48])
    stage.listen(Image, 'segmentation/mask')
    stage.listen(DiagnosticArray, '/diagnostics')
    stage.send(RGB, X, stage.stamp())
    stage.wait(lambda: masks(stage))
    np.testing.assert_array_equal(masks(stage)[0][:, 42:], 1)
    np.testing.assert_array_equal(masks(stage)[0][:, :42], 0)
    stage.wait(lambda: diagnostics(stage).get('registration') == 'homography')
    assert diagnostics(stage)['drift'] == 'none'


def test_extrinsics_need_both_camera_infos(stage, make_node, warnings):
    make_node(registration__mode='extrinsics', registration__depth_m=2.0,
              registration__translation=[0.1, 0.0, 0.0])
    stage.listen(Image, 'segmentation/mask')
    stage.listen(DiagnosticArray, '/diagnostics')
    stage.send(RGB, X, stage.stamp())
    stage.wait(lambda: diagnostics(stage).get('drops.x_unregistered') == '1')
    assert 'nothing has come on rgb/camera_info yet' in warnings()[0]
    info = CameraInfo(width=64, height=48, distortion_model='plumb_bob', d=[0.0] * 5)
    info.k = [60.0, 0.0, 31.5, 0.0, 60.0, 23.5, 0.0, 0.0, 1.0]
    publishers = [stage.publisher(CameraInfo, f'{name}/camera_info') for name in ('rgb', 'x')]

    def came():
        for publisher in publishers:
            publisher.publish(info)
        stage.send(RGB, X, stage.stamp())
        return masks(stage)
    stage.wait(came)
    assert masks(stage)[0][0].tolist() == [0] * 35 + [1] * 29


def test_frames_of_another_shape_than_calibrated_are_refused(stage, make_node, warnings):
    make_node(registration__mode='homography')
    stage.listen(Image, 'segmentation/mask')
    stage.listen(DiagnosticArray, '/diagnostics')
    stage.send(RGB, X[:40], stage.stamp())
    stage.wait(lambda: diagnostics(stage).get('drops.x_unregistered') == '1')
    assert 'X frames are 64x40, but registration is calibrated for 640x480' in warnings()[0]
    stage.send(RGB, X, stage.stamp() + 10**9)  # of that shape, and smaller
    stage.wait(lambda: masks(stage))


def test_the_rig_says_how_x_is_scaled(stage, make_node, engine):
    """Kelvin in hundredths: 0 degrees become 0, 40 degrees 1."""
    make_node(x__normalization='celsius', x__range=[0.0, 40.0], x__smoothing_s=0.0)
    ranges = []
    segment = engine.__call__
    engine.__call__ = lambda self, rgb, x, x_limits, sensors: (
        ranges.append(x_limits), segment(self, rgb, x, x_limits, sensors))[1]
    stage.listen(Image, 'segmentation/mask')
    x = to_image(np.full((48, 64), 30_000, np.uint16), 'mono16', Header())
    stage.send(RGB, x, stage.stamp())
    stage.wait(lambda: masks(stage))
    np.testing.assert_allclose(ranges[0], (27_315, 31_315))


@pytest.mark.parametrize(('parameters', 'reason'), [
    ({'x__kind': 'depth'}, "'x.kind' is 'depth', but the model 'tiny' takes 'thermal'"),
    ({'x__normalization': 'fixed'}, "x.range is None with x.normalization 'fixed'"),
    ({'x__range': [0.0, 40.0]}, "x.range is .* with x.normalization 'auto'"),
    ({'registration__mode': 'homography', 'registration__homography': [0.0] * 9},
     'registration.homography is'),
])
def test_a_rig_that_cannot_be_is_refused_at_the_start(make_node, warnings, parameters, reason):
    node = make_node(start=False, **parameters)
    assert not node.start()
    assert re.search(reason, warnings()[-1])


@pytest.mark.parametrize('modality', ['rgb', 'x'])
def test_a_covered_lens_is_seen_through_compression_as_well(stage, make_node, modality):
    """And its end too, although no mask is made meanwhile."""
    make_node(**{f'{modality}__transport': 'compressed', 'health__saturated_share': 0.98,
                 'health__recovery_ms': 200.0})
    stage.listen(Image, 'segmentation/mask')
    stage.listen(DiagnosticArray, '/diagnostics')
    rng = np.random.default_rng(0)
    compressed = stage.publisher(CompressedImage, f'{modality}/image/compressed')
    other = 'x' if modality == 'rgb' else 'rgb'
    raw = stage.publisher(Image, f'{other}/image')

    def send(covered):
        stamp = stage.stamp()
        fine = {'rgb': rng.integers(90, 110, RGB.shape, np.uint8),
                'x': rng.integers(90, 110, X.shape, np.uint8)}
        pixels = fine[modality] * (not covered)
        data = cv2.imencode('.png', pixels)[1].tobytes()
        message = CompressedImage(format='png', header=header(stamp, modality))
        message.data.frombytes(data)
        compressed.publish(message)
        raw.publish(to_image(fine[other], 'rgb8' if other == 'rgb' else 'mono8',
                             header(stamp, other)))
        return stamp

    def mode_is(wanted, covered):
        def condition():
            send(covered)
            return diagnostics(stage).get('mode') == wanted
        return condition
    stage.wait(mode_is('fusion', covered=False))
    stage.wait(mode_is('wait', covered=True))
    stage.wait(mode_is('fusion', covered=False))
    count = len(stamps(stage))
    stage.wait(lambda: send(covered=False) and len(stamps(stage)) > count)
