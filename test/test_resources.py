# Copyright 2026 rgbx_seg_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""Where the files of the package are found, in a checkout and in an install."""

from importlib import metadata
from pathlib import Path

import pytest
from rgbx_seg_ros import resources
from rgbx_seg_ros.errors import DataError
from rgbx_seg_ros.resources import keep_local, share_dir, use_fastdds_profile


@pytest.fixture
def installed(tmp_path, monkeypatch):
    """Make the module believe that it lies in an install below tmp_path."""
    folder = tmp_path / 'lib' / 'python3' / 'site-packages' / 'rgbx_seg_ros'
    folder.mkdir(parents=True)
    monkeypatch.setattr(resources, '__file__', str(folder / 'resources.py'))
    return tmp_path


def test_a_checkout_uses_its_own_folders():
    assert share_dir() == Path(__file__).parents[1]


def test_an_install_is_found_below_its_prefix(installed):
    share = installed / 'share' / 'rgbx_seg_ros'
    share.mkdir(parents=True)
    (share / 'package.xml').touch()
    assert share_dir() == share


def test_an_incomplete_install_says_so(installed):
    with pytest.raises(DataError, match='the install is incomplete'):
        share_dir()


OLD, NEW = 'FASTRTPS_DEFAULT_PROFILES_FILE', 'FASTDDS_DEFAULT_PROFILES_FILE'


@pytest.fixture
def rclpy_is(monkeypatch):
    """Give a function that sets the version of rclpy; None for none."""
    def set_version(version):
        def find(name):
            assert name == 'rclpy'
            if version is None:
                raise metadata.PackageNotFoundError(name)
            return version
        monkeypatch.setattr(metadata, 'version', find)
    return set_version


@pytest.mark.parametrize(('distribution', 'rclpy', 'name'), [
    ('humble', '9.1.2', OLD), ('jazzy', '9.1.2', OLD), ('kilted', '7.1.5', NEW),
    (None, '3.3.16', OLD), (None, '7.1.5', OLD), (None, '9.1.2', NEW), (None, None, NEW)])
def test_the_dds_profile_is_set_by_the_name_that_the_distribution_reads(
        distribution, rclpy, name, rclpy_is):
    rclpy_is(rclpy)
    environment = {'ROS_DISTRO': distribution} if distribution else {}
    use_fastdds_profile(environment)
    assert Path(environment[name]).is_file()
    assert len(environment) == 1 + bool(distribution)
    for mine in (OLD, NEW):
        environment = {'ROS_DISTRO': distribution or '', mine: 'mine.xml'}
        use_fastdds_profile(environment)
        assert environment == {'ROS_DISTRO': distribution or '', mine: 'mine.xml'}


@pytest.mark.parametrize(('distribution', 'rclpy', 'name', 'value'), [
    ('humble', None, 'ROS_LOCALHOST_ONLY', '1'), (None, '3.3.16', 'ROS_LOCALHOST_ONLY', '1'),
    ('jazzy', None, 'ROS_AUTOMATIC_DISCOVERY_RANGE', 'LOCALHOST'),
    (None, '7.1.5', 'ROS_AUTOMATIC_DISCOVERY_RANGE', 'LOCALHOST'),
    (None, None, 'ROS_AUTOMATIC_DISCOVERY_RANGE', 'LOCALHOST')])
def test_ros_stays_on_this_machine_by_what_the_distribution_reads(
        distribution, rclpy, name, value, rclpy_is):
    rclpy_is(rclpy)
    environment = {'ROS_DISTRO': distribution} if distribution else {}
    keep_local(environment)
    assert environment[name] == value
    assert environment.keys() - {'ROS_DISTRO', name} <= {OLD, NEW}
    environment[name] = 'mine'
    keep_local(environment)
    assert environment[name] == 'mine'
