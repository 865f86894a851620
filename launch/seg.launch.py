# Copyright 2026 rgbx_seg_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""Start the segmentation node for one pair of cameras; `--show-args` lists what can be set."""

import os

from launch import LaunchDescription
from launch.actions import DeclareLaunchArgument, OpaqueFunction
from launch.conditions import IfCondition
from launch.substitutions import LaunchConfiguration
from launch_ros.actions import Node
from rgbx_seg_ros.resources import share_dir, use_fastdds_profile

ARGUMENTS = {
    # name: (default, description)
    'config': (str(share_dir() / 'config' / 'rgb_thermal.yaml'),
               'Parameter file of the sensor rig.'),
    'model': ('', 'Model card, a name or a path; empty: what the config says.'),
    'engine': ('', 'What runs the network; empty: what the config says.'),
    'device': ('', 'auto, cpu, cuda or cuda:N; empty: what the config says.'),
    'rgb_topic': ('rgb/image', 'Topic of the colour images.'),
    'x_topic': ('x/image', 'Topic of the thermal, depth or polarization images.'),
    'rgb_info_topic': ('rgb/camera_info', "Topic of the colour camera's CameraInfo."),
    'namespace': ('', 'Namespace, one for each pair of cameras.'),
    'rviz': ('false', 'Open RViz with the overlay.'),
    'use_sim_time': ('false', 'Take the time from /clock, for a bag played with --clock.'),
    'log_level': ('info', 'debug, info, warn or error.'),
}


def start(context):
    """Return the node and, where asked for, RViz."""
    given = {name: LaunchConfiguration(name).perform(context) for name in ARGUMENTS}
    overrides = {name: given[name] for name in ('model', 'engine', 'device') if given[name]}
    sim_time = {'use_sim_time': given['use_sim_time'].lower() == 'true'}
    return [
        Node(
            package='rgbx_seg_ros', executable='seg_node', name='rgbx_seg',
            namespace=given['namespace'], output='screen',
            parameters=[given['config'], overrides, sim_time],
            remappings=[('rgb/image', given['rgb_topic']), ('x/image', given['x_topic']),
                        ('rgb/camera_info', given['rgb_info_topic'])],
            arguments=['--ros-args', '--log-level', given['log_level']]),
        Node(
            package='rviz2', executable='rviz2', namespace=given['namespace'],
            arguments=['-d', str(share_dir() / 'config' / 'rviz' / 'seg.rviz')],
            parameters=[sim_time], condition=IfCondition(given['rviz'])),
    ]


def generate_launch_description():
    """Return what `ros2 launch` runs."""
    # Images between processes are mostly lost without it. The launch's own environment is what
    # its nodes inherit.
    use_fastdds_profile(os.environ)
    return LaunchDescription([
        *(DeclareLaunchArgument(name, default_value=default, description=text)
          for name, (default, text) in ARGUMENTS.items()),
        OpaqueFunction(function=start),
    ])
