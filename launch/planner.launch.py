# Copyright 2026 rgbx_seg_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""
Start the segmentation node and what projects its masks for a planner.

It takes all that seg.launch.py takes. `planner:=FILE` is a parameter file for both nodes, such as
those in config/planners; several namespaces get a pair of nodes each.
"""

import importlib.util

from launch import LaunchDescription
from launch.actions import DeclareLaunchArgument, IncludeLaunchDescription, OpaqueFunction
from launch.launch_description_sources import PythonLaunchDescriptionSource
from launch.substitutions import LaunchConfiguration
from launch_ros.actions import Node, SetParametersFromFile
from rgbx_seg_ros.resources import share_dir

SEG = share_dir() / 'launch' / 'seg.launch.py'
OWN = {
    # name: (default, description)
    'planner': (str(share_dir() / 'config' / 'planners' / 'nav2_obstacle_layer.yaml'),
                'Parameter file with sections for rgbx_seg_projection and, maybe, rgbx_seg.'),
    'depth_topic': ('depth/image', 'Topic of depth images that lie on the mask, for points.source '
                    'at depth.'),
    'lidar_topic': ('lidar/points', 'Topic of the clouds that are painted, for points.source at '
                    'cloud.'),
}


def seg_launch():
    """Return seg.launch.py as a module."""
    spec = importlib.util.spec_from_file_location('seg_launch', SEG)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def start(context):
    """Return the segmentation nodes, the projection nodes and, where asked for, RViz."""
    names = [*seg_launch().ARGUMENTS, *OWN]
    given = {name: LaunchConfiguration(name).perform(context) for name in names}
    sim_time = {'use_sim_time': given['use_sim_time'] == 'true'}
    namespaces = [name.strip() for name in given['namespace'].split(',')]
    rviz = [] if given['rviz'] == 'false' else [Node(
        package='rviz2', executable='rviz2', namespace=namespaces[0], parameters=[sim_time],
        arguments=['-d', str(share_dir() / 'config' / 'rviz' / 'planner.rviz')])]
    return [
        # Each node takes the section that has its name.
        SetParametersFromFile(given['planner']),
        # Its own view would be the one of a camera alone.
        IncludeLaunchDescription(PythonLaunchDescriptionSource(str(SEG)), launch_arguments={
            **{name: given[name] for name in seg_launch().ARGUMENTS}, 'rviz': 'false'}.items()),
        *(Node(
            package='rgbx_seg_ros', executable='seg_projection', name='rgbx_seg_projection',
            namespace=namespace, output='screen', parameters=[sim_time],
            remappings=[('depth/image', given['depth_topic']),
                        ('lidar/points', given['lidar_topic'])],
            arguments=['--ros-args', '--log-level', given['log_level']])
          for namespace in namespaces), *rviz]


def generate_launch_description():
    """Return what `ros2 launch` runs."""
    arguments = {**seg_launch().ARGUMENTS, **{
        name: (default, text, None) for name, (default, text) in OWN.items()}}
    return LaunchDescription([
        *(DeclareLaunchArgument(name, default_value=default, description=text, choices=choices)
          for name, (default, text, choices) in arguments.items()),
        OpaqueFunction(function=start),
    ])
