# Copyright 2026 rgbx_seg_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""Where the files of the package are found, in a checkout and in an install."""

from pathlib import Path

import pytest
from rgbx_seg_ros import resources
from rgbx_seg_ros.errors import DataError
from rgbx_seg_ros.resources import share_dir, use_fastdds_profile


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


@pytest.mark.parametrize(('distribution', 'name'), [
    ('humble', 'FASTRTPS_DEFAULT_PROFILES_FILE'), ('jazzy', 'FASTRTPS_DEFAULT_PROFILES_FILE'),
    ('kilted', 'FASTDDS_DEFAULT_PROFILES_FILE'), (None, 'FASTDDS_DEFAULT_PROFILES_FILE')])
def test_the_dds_profile_is_set_by_the_name_that_the_distribution_reads(distribution, name):
    environment = {'ROS_DISTRO': distribution} if distribution else {}
    use_fastdds_profile(environment)
    assert Path(environment[name]).is_file()
    assert len(environment) == 1 + bool(distribution)
    for mine in ('FASTRTPS_DEFAULT_PROFILES_FILE', 'FASTDDS_DEFAULT_PROFILES_FILE'):
        environment = {'ROS_DISTRO': distribution or '', mine: 'mine.xml'}
        use_fastdds_profile(environment)
        assert environment == {'ROS_DISTRO': distribution or '', mine: 'mine.xml'}
