# Copyright 2026 rgbx_seg_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""The launch files, with the real launch and launch_ros, and the files they name."""

import importlib.util
from pathlib import Path

import pytest
from rgbx_seg_ros.card import load_card
from rgbx_seg_ros.parameters import Parameters
from rgbx_seg_ros.resources import share_dir
import yaml

CONFIGS = sorted((share_dir() / 'config').glob('*.yaml'))
LAUNCH_FILES = sorted((share_dir() / 'launch').glob('*.launch.py'))


@pytest.mark.parametrize('path', CONFIGS, ids=lambda path: path.name)
def test_every_config_holds_valid_parameters_for_every_node(path):
    content = yaml.safe_load(path.read_text(encoding='utf-8'))
    # A file for one node name would beat what a user gives with -p.
    assert list(content) == ['/**']
    parameters = Parameters.from_ros(content['/**']['ros__parameters'])
    load_card(parameters.model)


def test_rviz_shows_topics_that_the_node_publishes():
    view = yaml.safe_load((share_dir() / 'config' / 'rviz' / 'seg.rviz').read_text())
    topics = {d['Topic']['Value'] for d in view['Visualization Manager']['Displays']}
    assert topics <= {'segmentation/overlay', 'segmentation/confidence', 'segmentation/color',
                      'rgb/image', 'x/image'}


def describe(path: Path):
    """Return the launch description that `path` makes."""
    pytest.importorskip('launch', reason='needs launch, from a ROS distribution')
    pytest.importorskip('launch_ros', reason='needs launch_ros, from a ROS distribution')
    spec = importlib.util.spec_from_file_location(path.name.replace('.', '_'), path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.generate_launch_description()


@pytest.mark.parametrize('path', LAUNCH_FILES, ids=lambda path: path.name)
def test_every_launch_argument_is_described(path):
    arguments = describe(path).get_launch_arguments()
    assert arguments
    for argument in arguments:
        assert argument.description
        assert argument.description != 'no description given'


def test_the_launch_file_takes_the_arguments_of_the_interface():
    path = share_dir() / 'launch' / 'seg.launch.py'
    names = {argument.name for argument in describe(path).get_launch_arguments()}
    assert names >= {'config', 'model', 'engine', 'device', 'rgb_topic', 'x_topic', 'namespace',
                     'rviz', 'use_sim_time', 'log_level'}
