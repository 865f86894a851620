# Copyright 2026 rgbx_seg_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""The parameters of the projection node: checked by type, range and name, and by their sense."""

import numpy as np
import pytest
from rgbx_seg_ros.errors import ParameterError
from rgbx_seg_ros.parameters import read_parameters
from rgbx_seg_ros.projection.parameters import ProjectionParameters
from rgbx_seg_ros.projection.poses import GivenPoses

SPECS = ProjectionParameters.specs()


def test_values_go_to_ros_and_back():
    changed = ProjectionParameters(camera_height=1.5, grid_x_range=(1.0, 5.0), frame='base')
    assert ProjectionParameters.from_ros(changed.to_ros()) == changed
    assert changed.to_ros().keys() == SPECS.keys()


@pytest.mark.parametrize('name', SPECS)
def test_a_value_of_another_type_or_out_of_range_is_refused(name):
    facts = SPECS[name].metadata
    bad = [None, {}]
    if facts['low'] is not None:
        bad += [facts['high'] + 1, facts['low'] - 1]
    for value in bad:
        with pytest.raises(ParameterError, match=f"parameter '{name}' is "):
            ProjectionParameters.from_ros({name: value})


def test_the_camera_lies_where_the_parameters_say_and_needs_a_height():
    parameters = ProjectionParameters(
        camera_height=1.5, camera_pitch=np.pi / 2, camera_x=2.0, camera_y=-1.0,
        lidar_pose=(2.0, -1.0, 2.5, 0.0, 0.0, 0.0))
    poses = GivenPoses(parameters)
    pose = poses.camera('any', 0)
    np.testing.assert_allclose(pose.of(np.array([[0, 0, 1.5]])), [[2, -1, 0]], atol=1e-12)
    # The lidar, a metre above a camera that looks down, lies behind it.
    between = poses.between('any', 0, 'other', 0)
    np.testing.assert_allclose(between.place, [0, 0, -1], atol=1e-12)
    with pytest.raises(ParameterError, match="'camera.height' is 0.0, needed is the height"):
        GivenPoses(ProjectionParameters())


@pytest.mark.parametrize(('share', 'least'), [(0.0, 0), (0.5, 128), (1.0, 255), (0.2, 51)])
def test_the_least_confidence_is_rounded_up(share, least):
    """So that what one sensor alone is sure of, 0.5 cut to 127, is less than the default."""
    assert ProjectionParameters(min_confidence=share).least == least
    assert int(255 * 0.5) < ProjectionParameters().least


def test_a_file_has_a_section_for_each_node(tmp_path):
    path = tmp_path / 'both.yaml'
    path.write_text('/**/rgbx_seg: {ros__parameters: {mask.size: x}}\n'
                    'rgbx_seg_projection: {ros__parameters: {camera: {height: 2}}}\n')
    assert read_parameters(path) == {'mask.size': 'x'}
    assert read_parameters(path, ProjectionParameters) == {'camera.height': 2}
    path.write_text('rgbx_seg: {ros__parameters: {}}')
    with pytest.raises(ParameterError, match="no parameters for '/\\*\\*' or 'rgbx_seg_projectio"):
        read_parameters(path, ProjectionParameters)
