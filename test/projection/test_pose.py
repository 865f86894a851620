# Copyright 2026 rgbx_seg_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""Poses: by the angles and axes of REP-103, and from one frame to the other."""

import math

import cv2
import numpy as np
import pytest
from rgbx_seg_ros.projection.pose import Pose, quaternion, rotation_matrix
from support.ray_scenes import turn

AHEAD = np.array([[0.0, 0.0, 1.0]])


@pytest.mark.parametrize(('angles', 'looks'), [
    ((0, 0, 0), (1, 0, 0)), ((0, math.pi / 2, 0), (0, 0, -1)), ((0, -math.pi / 2, 0), (0, 0, 1)),
    ((0, 0, math.pi / 2), (0, 1, 0)), ((1.0, 0, 0), (1, 0, 0))])
def test_a_camera_looks_ahead_and_its_angles_turn_it_as_rep_103_says(angles, looks):
    pose = Pose.from_angles(*angles, (1, 2, 3), optical=True)
    np.testing.assert_allclose(pose.of(AHEAD)[0] - (1, 2, 3), looks, atol=1e-12)


def test_right_and_down_of_a_level_camera_are_right_and_down_of_the_vehicle():
    pose = Pose.from_angles(0, 0, 0, (0, 0, 0), optical=True)
    np.testing.assert_allclose(pose.of(np.eye(3)), [[0, -1, 0], [0, 0, -1], [1, 0, 0]], atol=1e-12)
    rolled = Pose.from_angles(0.1, 0, 0, (0, 0, 0), optical=True)
    assert rolled.of(np.array([[1.0, 0, 0]]))[0, 2] < 0  # its right side is lower


def test_yaw_comes_after_pitch_after_roll():
    pose = Pose.from_angles(0.1, 0.2, 0.3, (0, 0, 0))
    np.testing.assert_allclose(pose.rotation, turn('z', 0.3) @ turn('y', 0.2) @ turn('x', 0.1))


@pytest.mark.parametrize('seed', range(5))
def test_a_quaternion_is_the_turn_that_opencv_makes_and_back_undoes_it(seed):
    rng = np.random.default_rng(seed)
    vector = rng.uniform(-2, 2, 3)
    angle = np.linalg.norm(vector)
    quaternion = (*(np.sin(angle / 2) * vector / angle), np.cos(angle / 2))
    pose = Pose.from_quaternion(quaternion, rng.uniform(-5, 5, 3))
    np.testing.assert_allclose(pose.rotation, cv2.Rodrigues(vector)[0], atol=1e-12)
    points = rng.uniform(-5, 5, (10, 3))
    np.testing.assert_allclose(pose.back(pose.of(points)), points)


def test_a_pose_seen_from_another_one_leads_from_sensor_to_sensor():
    rng = np.random.default_rng(0)
    one, two = (Pose.from_angles(*rng.uniform(-1, 1, 3), rng.uniform(-3, 3, 3)) for _ in range(2))
    points = rng.uniform(-5, 5, (10, 3))
    np.testing.assert_allclose(one.seen_from(two).of(points), two.back(one.of(points)))


@pytest.mark.parametrize('angle', [0.0, 1e-4, 0.5, 3.1])
def test_the_distance_of_two_poses_is_in_metres_and_rad(angle):
    one = Pose.from_angles(0.1, -0.4, 2.0, (0, 0, 0))
    two = Pose(one.rotation @ turn('y', angle), np.array([3.0, 0.0, 4.0]))
    np.testing.assert_allclose(one.distance(two), (5.0, angle), atol=1e-7)


@pytest.mark.parametrize('angles', [(0, 0, 0), (3.1, 0, 0), (0, 3.14159, 0), (0, 0, 3.14159),
                                    (0.3, -0.2, 2.5), (-1.2, 0.9, -3.0)])
def test_a_turn_becomes_a_quaternion_and_one_again(angles):
    rotation = Pose.from_angles(*angles, (0, 0, 0), optical=True).rotation
    found = quaternion(rotation)
    assert np.linalg.norm(found) == pytest.approx(1) and found[3] >= 0
    np.testing.assert_allclose(rotation_matrix(found), rotation, atol=1e-9)
