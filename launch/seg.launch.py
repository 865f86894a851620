# Copyright 2026 rgbx_seg_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""
Start the segmentation node, one for each pair of cameras; `--show-args` lists what can be set.

`namespace:=front,rear` starts two nodes with the same settings, whose topics differ by their
namespace. Pairs with settings of their own: include this file once for each.
"""

import os

from ament_index_python.packages import get_package_prefix, PackageNotFoundError
from launch import LaunchDescription
from launch.actions import DeclareLaunchArgument, LogInfo, OpaqueFunction
from launch.conditions import IfCondition
from launch.substitutions import LaunchConfiguration
from launch_ros.actions import Node
from rgbx_seg_ros.resources import share_dir, use_fastdds_profile

ARGUMENTS = {
    # name: (default, description, choices)
    'config': (str(share_dir() / 'config' / 'rgb_thermal.yaml'),
               'Parameter file of the sensor rig.', None),
    'model': ('', 'Model card, a name or a path; empty: what the config says.', None),
    'engine': ('', 'What runs the network; empty: what the config says.', None),
    'device': ('', 'auto, cpu, cuda or cuda:N; empty: what the config says.', None),
    'rgb_topic': ('rgb/image', 'Topic of the colour images.', None),
    'x_topic': ('x/image', 'Topic of the thermal, depth or polarization images.', None),
    'rgb_info_topic': ('rgb/camera_info', "Topic of the colour camera's CameraInfo.", None),
    'x_info_topic': ('x/camera_info', "Topic of the other camera's CameraInfo.", None),
    'namespace': ('', 'Namespace of the pair of cameras; several, with commas between them, start '
                  'a node each.', None),
    'rviz': ('false', 'Open RViz with the overlay.', ['true', 'false']),
    'foxglove': ('false', 'Let Foxglove on this machine look on, by foxglove_bridge.',
                 ['true', 'false']),
    'use_sim_time': ('false', 'Take the time from /clock, for a bag played with --clock.',
                     ['true', 'false']),
    'log_level': ('info', 'The least severity that is logged.',
                  ['debug', 'info', 'warn', 'error', 'fatal']),
}
TOPICS = {'rgb_topic': 'rgb/image', 'x_topic': 'x/image', 'rgb_info_topic': 'rgb/camera_info',
          'x_info_topic': 'x/camera_info'}
"""The node's names of the topics by the arguments that replace them."""


def start(context):
    """Return the nodes and, where asked for, RViz and the bridge to Foxglove."""
    given = {name: LaunchConfiguration(name).perform(context) for name in ARGUMENTS}
    namespaces = [name.strip() for name in given['namespace'].split(',')]
    if len(set(namespaces)) < len(namespaces) or (len(namespaces) > 1 and '' in namespaces):
        raise ValueError(f'namespace is {given["namespace"]!r}: needed are different names with '
                         'commas between them')
    for name in TOPICS:
        if len(namespaces) > 1 and given[name].startswith('/'):
            raise ValueError(
                f'{name} is {given[name]!r}, the same for {given["namespace"]!r}: give it without '
                'the leading /, so that it lies in each namespace, or include seg.launch.py once '
                'for each pair')
    return [*(action for namespace in namespaces for action in actions(namespace, given)),
            *(foxglove_bridge(given) if given['foxglove'] == 'true' else ())]


def foxglove_bridge(given):
    """Return the bridge; where it is not installed, what says how that is mended."""
    layout = share_dir() / 'config' / 'foxglove' / 'seg.json'
    try:
        get_package_prefix('foxglove_bridge')
    except PackageNotFoundError:
        return [LogInfo(msg='foxglove:=true needs foxglove_bridge, which is not installed: apt '
                            'install ros-$ROS_DISTRO-foxglove-bridge; `rgbx-seg view` needs none')]
    # By itself it listens on every network, and takes messages, parameters and calls of services.
    return [
        Node(
            package='foxglove_bridge', executable='foxglove_bridge', parameters=[{
                'address': '127.0.0.1', 'port': 8765, 'capabilities': ['connectionGraph'],
                'use_sim_time': given['use_sim_time'] == 'true'}]),
        LogInfo(msg=f'Foxglove: open ws://localhost:8765 with the layout {layout}')]


def actions(namespace, given):
    """Return what one pair of cameras needs."""
    overrides = {name: given[name] for name in ('model', 'engine', 'device') if given[name]}
    sim_time = {'use_sim_time': given['use_sim_time'] == 'true'}
    return [
        Node(
            package='rgbx_seg_ros', executable='seg_node', name='rgbx_seg', namespace=namespace,
            output='screen', parameters=[given['config'], overrides, sim_time],
            remappings=[(topic, given[name]) for name, topic in TOPICS.items()],
            arguments=['--ros-args', '--log-level', given['log_level']]),
        Node(
            package='rviz2', executable='rviz2', namespace=namespace,
            arguments=['-d', str(share_dir() / 'config' / 'rviz' / 'seg.rviz')],
            parameters=[sim_time], condition=IfCondition(given['rviz'])),
    ]


def generate_launch_description():
    """Return what `ros2 launch` runs."""
    # Images between processes are mostly lost without it. The launch's own environment is what
    # its nodes inherit.
    use_fastdds_profile(os.environ)
    return LaunchDescription([
        *(DeclareLaunchArgument(name, default_value=default, description=text, choices=choices)
          for name, (default, text, choices) in ARGUMENTS.items()),
        OpaqueFunction(function=start),
    ])
