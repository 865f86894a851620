# Copyright 2026 rgbx_seg_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""
The recipes for planners: our sections are taken by our nodes, those of others by their contracts.

What a consumer takes is what its own documentation says: Nav2's pages on the obstacle and the
static layer, the README of semantic_segmentation_layer, and nvblox's pages on parameters and
topics. Here it stands as names and types; none of these consumers is run.
"""

from pathlib import Path

import pytest
from rgbx_seg_ros.parameters import Parameters, read_parameters
from rgbx_seg_ros.projection.parameters import ProjectionParameters
from rgbx_seg_ros.resources import share_dir
import yaml

FILES = sorted((share_dir() / 'config' / 'planners').glob('*.yaml'))
PAGE = (Path(__file__).parents[1] / 'docs' / 'planners.md').read_text(encoding='utf-8')
NUMBER = (int, float)

OBSTACLE_SOURCE = {
    'topic': str, 'sensor_frame': str, 'observation_persistence': NUMBER,
    'expected_update_rate': NUMBER, 'data_type': str, 'min_obstacle_height': NUMBER,
    'max_obstacle_height': NUMBER, 'inf_is_valid': bool, 'marking': bool, 'clearing': bool,
    'obstacle_max_range': NUMBER, 'obstacle_min_range': NUMBER, 'raytrace_max_range': NUMBER,
    'raytrace_min_range': NUMBER}
STATIC_LAYER = {
    'plugin': str, 'enabled': bool, 'map_topic': str, 'map_subscribe_transient_local': bool,
    'subscribe_to_updates': bool, 'transform_tolerance': NUMBER}
SEMANTIC_SOURCE = {
    'segmentation_topic': str, 'confidence_topic': str, 'labels_topic': str,
    'pointcloud_topic': str, 'observation_persistence': NUMBER, 'expected_update_rate': NUMBER,
    'visualize_tile_map': bool, 'use_cost_selection': bool, 'max_obstacle_distance': NUMBER,
    'min_obstacle_distance': NUMBER, 'tile_map_decay_time': NUMBER, 'class_types': list}
SEMANTIC_TYPE = {
    'classes': list, 'base_cost': int, 'max_cost': int, 'mark_confidence': int,
    'samples_to_max_cost': int, 'dominant_priority': bool}
NVBLOX = {'mapping_type': str, 'use_segmentation': bool,
          'connected_mask_component_size_threshold': int}
PUBLISHED = {'mask', 'confidence', 'binary', 'camera_info', 'label_info', 'ground_grid',
             'cost_grid', 'obstacle_points', 'points'}


def content(name):
    return yaml.safe_load((share_dir() / 'config' / 'planners' / f'{name}.yaml').read_text())


def check(given, contract):
    """Check that a consumer knows each name, and takes a value of this type."""
    for name, value in given.items():
        assert name in contract, name
        assert isinstance(value, contract[name]), (name, value)
        if name.endswith('topic') and isinstance(value, str):
            assert value.removeprefix('/segmentation/') in PUBLISHED, value


def costmap(name):
    return content(name)['local_costmap']['local_costmap']['ros__parameters']


@pytest.mark.parametrize('path', FILES, ids=lambda path: path.stem)
def test_our_sections_are_taken_by_our_nodes_in_every_namespace(path):
    found = 0
    for key in yaml.safe_load(path.read_text()):
        for kind in (Parameters, ProjectionParameters):
            if key.rpartition('/')[2] == kind.NODE_NAME:
                assert key == f'/**/{kind.NODE_NAME}'
                assert kind.from_ros(read_parameters(path, kind))
                found += 1
    assert found


@pytest.mark.parametrize('path', FILES, ids=lambda path: path.stem)
def test_every_file_is_told_on_the_page(path):
    assert f'config/planners/{path.name}' in PAGE


def test_the_obstacle_layer_takes_its_source_and_marks_the_height_that_points_have():
    layer = costmap('nav2_obstacle_layer')['obstacle_layer']
    source = layer[layer['observation_sources']]
    check(source, OBSTACLE_SOURCE)
    assert (source['topic'], source['data_type']) == ('/segmentation/obstacle_points',
                                                      'PointCloud2')
    ours = ProjectionParameters.from_ros(read_parameters(FILES_BY_NAME['nav2_obstacle_layer'],
                                                         ProjectionParameters))
    assert source['min_obstacle_height'] < ours.obstacle_z < source['max_obstacle_height']
    assert ours.frame == costmap('nav2_obstacle_layer')['robot_base_frame']
    assert ours.grid_resolution == costmap('nav2_obstacle_layer')['resolution']


FILES_BY_NAME = {path.stem: path for path in FILES}


def test_the_static_layer_takes_the_grid():
    layer = costmap('nav2_obstacle_layer')['ground_layer']
    check(layer, STATIC_LAYER)
    assert layer['map_subscribe_transient_local'] is False  # the grid is not latched


def test_every_plugin_of_a_costmap_has_its_section():
    for name in ('nav2_obstacle_layer', 'nav2_semantic_layer'):
        for plugin in costmap(name)['plugins']:
            assert plugin == 'inflation_layer' or 'plugin' in costmap(name)[plugin]


def test_the_semantic_layer_takes_its_source_and_each_type_of_its_classes():
    layer = costmap('nav2_semantic_layer')['semantic_segmentation_layer']
    source = dict(layer[layer['observation_sources']])
    types = [source.pop(name) for name in source['class_types']]
    check(source, SEMANTIC_SOURCE)
    for one in types:
        check(one, SEMANTIC_TYPE)
        assert 0 <= one['base_cost'] <= one['max_cost'] <= 254
    names = [name for one in types for name in one['classes']]
    assert len(names) == len(set(names))
    # It reads a cloud of the mask's size: one of depth, which is organized.
    ours = read_parameters(FILES_BY_NAME['nav2_semantic_layer'], ProjectionParameters)
    assert ours['points.source'] == 'depth'
    assert read_parameters(FILES_BY_NAME['nav2_semantic_layer'])['mask.size'] == 'x'


def test_nvblox_gets_the_binary_mask_and_never_the_one_of_ids():
    check(content('nvblox')['/**/nvblox_node']['ros__parameters'], NVBLOX)
    assert read_parameters(FILES_BY_NAME['nvblox'])['binary.group'] == 'dynamic'
    text = FILES_BY_NAME['nvblox'].read_text()
    assert 'mask/image       := /segmentation/binary' in text
    assert 'mask/camera_info := /segmentation/camera_info' in text


def test_the_page_says_what_was_run_and_what_was_checked_on_paper():
    assert '| run here |' in PAGE and 'on paper' in PAGE
