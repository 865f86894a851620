# Copyright 2026 rgbx_seg_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""The launch files, with the real launch and launch_ros, and the files they name."""

from dataclasses import replace
import importlib.util
import json
from pathlib import Path
import re

import numpy as np
import pytest
from rgbx_seg_ros.cards.card import load_card
from rgbx_seg_ros.health.report import DIAGNOSTICS
from rgbx_seg_ros.inference.segmenter import Segmenter
from rgbx_seg_ros.parameters import Parameters, read_parameters
from rgbx_seg_ros.resources import share_dir
import yaml

CONFIGS = sorted({*(share_dir() / 'config').glob('*.yaml')} - {
    share_dir() / 'config' / 'diagnostics_aggregator.yaml'})
SEG = share_dir() / 'launch' / 'seg.launch.py'
LAUNCH_FILES = sorted((share_dir() / 'launch').glob('*.launch.py'))


@pytest.mark.parametrize('path', CONFIGS, ids=lambda path: path.name)
def test_every_config_holds_valid_parameters_for_every_node(path):
    content = yaml.safe_load(path.read_text(encoding='utf-8'))
    # A file for one node name would beat what a user gives with -p.
    assert list(content) == ['/**']
    parameters = Parameters.from_ros(content['/**']['ros__parameters'])
    load_card(parameters.model)


@pytest.mark.parametrize('path', CONFIGS, ids=lambda path: path.name)
def test_every_config_takes_the_raw_frames_of_its_cameras(path):
    parameters = Parameters.from_ros(read_parameters(path))
    segmenter = Segmenter.from_parameters(replace(parameters, device='cpu'))
    rng = np.random.default_rng(0)
    rgb = rng.integers(0, 256, (480, 640, 3), np.uint8)
    x = rng.integers(0, 256, (480, 640), np.uint8)
    if segmenter.card.x.kind == 'depth':  # mm, and 0 where nothing was measured
        x = np.linspace(300, 9000, 640 * 480).reshape(480, 640).astype(np.uint16)
        x[:, :60] = x[100:200, 300:] = 0
    assert segmenter(rgb, x).mask.shape == (480, 640)
    assert parameters.x_kind in ('card', segmenter.card.x.kind)


def test_rviz_shows_topics_that_the_node_publishes():
    view = yaml.safe_load((share_dir() / 'config' / 'rviz' / 'seg.rviz').read_text())
    topics = {d['Topic']['Value'] for d in view['Visualization Manager']['Displays']}
    assert topics <= {'segmentation/overlay', 'segmentation/confidence', 'segmentation/color',
                      'rgb/image', 'x/image'}


def test_the_foxglove_layout_shows_topics_that_the_node_publishes():
    layout = json.loads((share_dir() / 'config' / 'foxglove' / 'seg.json').read_text())
    panels = layout['configById']
    assert {panel['imageMode']['imageTopic'] for panel in panels.values()
            if 'imageMode' in panel} == {
        '/segmentation/overlay', '/segmentation/confidence', '/rgb/image', '/x/image'}
    lines = {path['label'].partition(',')[0]: path['value'] for name, panel in panels.items()
             if name.startswith('Plot!') for path in panel['paths']}
    assert [int(re.fullmatch(r'/segmentation/timing\.data\[(\d)\]', value).group(1))
            for value in lines.values()] == [1, 2, 3, 4, 5]
    assert panels['DiagnosticSummary!health1']['topicToRender'] == '/diagnostics'
    [transition] = panels['StateTransitions!mode1']['paths']
    assert transition['value'].startswith('/diagnostics.') and '"mode"' in transition['value']
    assert 'mode' in DIAGNOSTICS['segmentation']
    # Every panel has its place, once.
    assert sorted(re.findall(r'"(\w+!\w+)"', json.dumps(layout['layout']))) == sorted(panels)


def test_the_foxglove_layout_names_the_times_that_the_node_publishes():
    outputs = pytest.importorskip('rgbx_seg_ros.node.outputs', reason='needs rclpy')
    layout = json.loads((share_dir() / 'config' / 'foxglove' / 'seg.json').read_text())
    paths = [path for name, panel in layout['configById'].items() if name.startswith('Plot!')
             for path in panel['paths']]
    names = [list(outputs.TIMING)[int(path['value'][-2])] for path in paths]
    assert names == ['latency_ms', 'inference_ms', 'wait_ms', 'distance_ms', 'confidence']


def load(path: Path):
    """Return the launch file as a module."""
    pytest.importorskip('launch', reason='needs launch, from a ROS distribution')
    pytest.importorskip('launch_ros', reason='needs launch_ros, from a ROS distribution')
    spec = importlib.util.spec_from_file_location(path.name.replace('.', '_'), path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize('path', LAUNCH_FILES, ids=lambda path: path.name)
def test_every_launch_argument_is_described(path):
    arguments = load(path).generate_launch_description().get_launch_arguments()
    assert arguments
    for argument in arguments:
        assert argument.description
        assert argument.description != 'no description given'


def arguments_of_seg():
    description = load(SEG).generate_launch_description()
    return {argument.name: argument for argument in description.get_launch_arguments()}


def test_the_launch_file_takes_the_arguments_of_the_interface():
    assert arguments_of_seg().keys() == {
        'config', 'model', 'engine', 'device', 'rgb_topic', 'x_topic', 'rgb_info_topic',
        'x_info_topic', 'namespace', 'rviz', 'foxglove', 'use_sim_time', 'log_level'}


@pytest.mark.parametrize('name, value', [
    ('rviz', 'maybe'), ('foxglove', 'yes'), ('use_sim_time', '1'), ('log_level', 'loud')])
def test_a_value_that_is_not_a_choice_is_refused_with_the_choices(name, value):
    argument = arguments_of_seg()[name]
    from launch import LaunchContext
    context = LaunchContext()
    context.launch_configurations[name] = value
    with pytest.raises(RuntimeError, match=f'{value}.*{argument.choices[0]}'):
        argument.execute(context)


def nodes(monkeypatch, **given):
    """Return what the launch file asks of launch_ros for each node, RViz left out."""
    module, asked = load(SEG), []
    from launch import LaunchContext
    monkeypatch.setattr(module, 'Node', lambda **facts: asked.append(facts))
    context = LaunchContext()
    defaults = {name: facts[0] for name, facts in module.ARGUMENTS.items()}
    context.launch_configurations.update({**defaults, **given})
    module.start(context)
    return [facts for facts in asked if facts['package'] == 'rgbx_seg_ros']


def test_every_argument_arrives_at_the_node(monkeypatch):
    [node] = nodes(
        monkeypatch, config='rig.yaml', model='m', engine='e', device='cpu', rgb_topic='/a',
        x_topic='/b', rgb_info_topic='/c', x_info_topic='/d', namespace='front',
        use_sim_time='true', log_level='warn')
    assert node['namespace'] == 'front'
    assert node['parameters'] == [
        'rig.yaml', {'model': 'm', 'engine': 'e', 'device': 'cpu'}, {'use_sim_time': True}]
    assert node['remappings'] == [('rgb/image', '/a'), ('x/image', '/b'),
                                  ('rgb/camera_info', '/c'), ('x/camera_info', '/d')]
    assert node['arguments'] == ['--ros-args', '--log-level', 'warn']
    [node] = nodes(monkeypatch)
    assert node['namespace'] == '' and node['parameters'][1:] == [{}, {'use_sim_time': False}]


def foxglove(monkeypatch, is_installed):
    """Return what foxglove:=true asks of launch_ros for the bridge, and what it says."""
    module, asked, said = load(SEG), [], []

    def get_package_prefix(name):
        assert name == 'foxglove_bridge'
        if not is_installed:
            raise module.PackageNotFoundError(name)
    from launch import LaunchContext
    monkeypatch.setattr(module, 'get_package_prefix', get_package_prefix)
    monkeypatch.setattr(module, 'Node', lambda **facts: asked.append(facts))
    monkeypatch.setattr(module, 'LogInfo', lambda msg: said.append(msg))
    context = LaunchContext()
    defaults = {name: facts[0] for name, facts in module.ARGUMENTS.items()}
    context.launch_configurations.update(
        {**defaults, 'namespace': 'front, rear', 'foxglove': 'true'})
    module.start(context)
    return [facts for facts in asked if facts['package'] == 'foxglove_bridge'], said


def test_foxglove_may_look_on_from_this_machine_alone_and_change_nothing(monkeypatch):
    [bridge], [text] = foxglove(monkeypatch, is_installed=True)
    assert bridge['parameters'] == [{'address': '127.0.0.1', 'port': 8765, 'use_sim_time': False,
                                     'capabilities': ['connectionGraph']}]
    assert 'ws://localhost:8765' in text and text.endswith('seg.json')


def test_a_bridge_that_is_not_installed_is_no_reason_not_to_start(monkeypatch):
    bridges, [text] = foxglove(monkeypatch, is_installed=False)
    assert bridges == [] and 'apt install ros-$ROS_DISTRO-foxglove-bridge' in text


def test_namespaces_with_commas_start_a_node_each(monkeypatch):
    given = nodes(monkeypatch, namespace='front, rear', rgb_topic='camera/image_raw')
    assert [node['namespace'] for node in given] == ['front', 'rear']
    for node in given:
        assert ('rgb/image', 'camera/image_raw') in node['remappings']


@pytest.mark.parametrize('given, said', [
    ({'namespace': 'front,front'}, "'front,front': needed are different names"),
    ({'namespace': 'front,'}, "'front,': needed are different names"),
    ({'namespace': 'front,rear', 'x_topic': '/thermal'}, "x_topic is '/thermal'.*leading /"),
    ({'namespace': 'front,rear', 'x_info_topic': '/i'}, "x_info_topic is '/i'.*leading /")])
def test_pairs_that_would_share_their_topics_are_refused(monkeypatch, given, said):
    with pytest.raises(ValueError, match=said):
        nodes(monkeypatch, **given)


# planner.launch.py


PLANNER = share_dir() / 'launch' / 'planner.launch.py'


def planner_actions(monkeypatch, **given):
    """Return what the launch file asks of launch_ros for each node, and the rest by kind."""
    module, asked = load(PLANNER), []
    from launch import LaunchContext
    monkeypatch.setattr(module, 'Node', lambda **facts: asked.append(facts))
    others = {}
    for name in ('SetParametersFromFile', 'IncludeLaunchDescription'):
        monkeypatch.setattr(module, name, lambda *arguments, name=name, **named: others.update(
            {name: (arguments, named)}))
    context = LaunchContext()
    defaults = {argument.name: argument.default_value[0].text if argument.default_value else ''
                for argument in module.generate_launch_description().get_launch_arguments()}
    context.launch_configurations.update({**defaults, **given})
    module.start(context)
    return asked, others


def test_the_planner_launch_starts_a_projection_node_beside_each_segmentation_node(monkeypatch):
    asked, others = planner_actions(monkeypatch, namespace='front, rear', planner='p.yaml',
                                    depth_topic='/d', use_sim_time='true', model='m')
    assert [node['namespace'] for node in asked] == ['front', 'rear']
    for node in asked:
        assert (node['executable'], node['name']) == ('seg_projection', 'rgbx_seg_projection')
        assert ('depth/image', '/d') in node['remappings']
        assert node['parameters'] == [{'use_sim_time': True}]
    assert others['SetParametersFromFile'][0] == ('p.yaml',)
    passed = dict(others['IncludeLaunchDescription'][1]['launch_arguments'])
    assert (passed['model'], passed['namespace'], passed['rviz']) == ('m', 'front, rear', 'false')


def test_the_planner_launch_shows_grid_and_points(monkeypatch):
    asked, _ = planner_actions(monkeypatch, rviz='true')
    by_name = {node['executable']: node for node in asked}
    assert by_name.keys() == {'seg_projection', 'rviz2'}
    assert by_name['rviz2']['arguments'][1].endswith('planner.rviz')


def test_the_planner_view_shows_topics_that_the_nodes_publish():
    view = yaml.safe_load((share_dir() / 'config' / 'rviz' / 'planner.rviz').read_text())
    manager = view['Visualization Manager']
    shown = {display['Topic']['Value']: display['Class'].rpartition('/')[2]
             for display in manager['Displays'] if 'Topic' in display}
    assert shown == {
        'segmentation/overlay': 'Image', 'segmentation/ground_grid': 'Map',
        'segmentation/cost_grid': 'Map', 'segmentation/obstacle_points': 'PointCloud2',
        'segmentation/points': 'PointCloud2'}
    assert manager['Global Options']['Fixed Frame'] == 'base_link'
