# Copyright 2026 rgbx_seg_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""Where the files that come with the package are: model cards, node parameters, DDS profile."""

from importlib import metadata
from pathlib import Path

from rgbx_seg_ros.errors import DataError

_PACKAGE = 'rgbx_seg_ros'
_BY_RCLPY = {'3': 'humble', '7': 'jazzy'}
"""The distributions with an older middleware, by the first number of their rclpy."""


def share_dir() -> Path:
    """
    Return the folder that holds `models/`, `config/` and `launch/`.

    A checkout, an editable install and `colcon build --symlink-install` run from the source tree
    and use its folders; any other install (pip, colcon, a .deb) has put them into
    `<prefix>/share/rgbx_seg_ros`, with this file somewhere below the same prefix.
    """
    here = Path(__file__).resolve()
    source = here.parents[1]
    if (source / 'package.xml').is_file():
        return source
    for prefix in here.parents:
        share = prefix / 'share' / _PACKAGE
        if (share / 'package.xml').is_file():
            return share
    raise DataError(
        f'found no share/{_PACKAGE} beside {here.parent}: the install is incomplete, '
        'build or install the package again')


def use_fastdds_profile(environment) -> None:
    """
    Point Fast DDS to `config/fastdds.xml` in `environment`, unless a profile is set there.

    It must happen before the first node of a process starts; see the file for what it is for.
    """
    old, new = 'FASTRTPS_DEFAULT_PROFILES_FILE', 'FASTDDS_DEFAULT_PROFILES_FILE'
    if not environment.get(old) and not environment.get(new):
        # Fast DDS 2 reads the old name; version 3 knows both, but warns about the old one.
        name = old if _distribution(environment) in ('humble', 'jazzy') else new
        environment[name] = str(share_dir() / 'config' / 'fastdds.xml')


def keep_local(environment) -> None:
    """Keep ROS to this machine in `environment`, and let images go through shared memory."""
    if _distribution(environment) == 'humble':
        environment.setdefault('ROS_LOCALHOST_ONLY', '1')
    else:
        environment.setdefault('ROS_AUTOMATIC_DISCOVERY_RANGE', 'LOCALHOST')
    use_fastdds_profile(environment)


def _distribution(environment):
    """Return what is sourced; else, as with wheels, that of rclpy if it is an older one, or ''."""
    if name := environment.get('ROS_DISTRO'):
        return name
    try:
        return _BY_RCLPY.get(metadata.version('rclpy').partition('.')[0], '')
    except metadata.PackageNotFoundError:
        return ''
