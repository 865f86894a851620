# Copyright 2026 rgbx_seg_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""Play a bag to the segmentation node: `bag:=PATH`, and all that seg.launch.py takes."""

from launch import LaunchDescription
from launch.actions import DeclareLaunchArgument, ExecuteProcess, IncludeLaunchDescription
from launch.launch_description_sources import PythonLaunchDescriptionSource
from launch.substitutions import LaunchConfiguration
from rgbx_seg_ros.resources import share_dir


def generate_launch_description():
    """Return what `ros2 launch` runs."""
    seg = str(share_dir() / 'launch' / 'seg.launch.py')
    return LaunchDescription([
        DeclareLaunchArgument('bag', description='Folder or file of a rosbag2.'),
        DeclareLaunchArgument('rate', default_value='1.0', description='Speed of the playback.'),
        IncludeLaunchDescription(
            PythonLaunchDescriptionSource(seg), launch_arguments={'use_sim_time': 'true'}.items()),
        ExecuteProcess(
            cmd=['ros2', 'bag', 'play', LaunchConfiguration('bag'), '--clock', '100',
                 '--rate', LaunchConfiguration('rate')],
            output='screen'),
    ])
