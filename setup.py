# Copyright 2026 rgbx_seg_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""Metadata, dependencies and data files, for pip and for colcon (ament_python)."""

import os
from xml.etree import ElementTree

from setuptools import find_packages, setup

NAME = 'rgbx_seg_ros'
SHARED_FOLDERS = ['config', 'demo', 'launch', 'models']


def people_and_addresses():
    """Return what package.xml says of people and addresses, under the names of setuptools."""
    manifest = ElementTree.parse('package.xml').getroot()
    urls = {tag.get('type'): tag.text for tag in manifest.iter('url')}
    maintainer = manifest.find('maintainer')
    return {'maintainer': maintainer.text, 'maintainer_email': maintainer.get('email'),
            'author': ', '.join(tag.text for tag in manifest.iter('author')),
            'url': urls['website'],
            'project_urls': {'Source': urls['repository'], 'Tracker': urls['bugtracker']}}


def shared_files():
    """Return every file of the shared folders, grouped by the folder that it is installed to."""
    groups = []
    for top in SHARED_FOLDERS:
        # A link to a folder is followed: colcon's --symlink-install may have made one.
        for folder, subfolders, files in os.walk(top, followlinks=True):
            subfolders[:] = sorted(name for name in subfolders if name != '__pycache__')
            paths = [os.path.join(folder, name) for name in sorted(files) if name[0] != '.']
            if paths:
                groups.append((os.path.join('share', NAME, folder), paths))
    return groups


setup(
    name=NAME,
    version='0.1.0',
    description='RGB-X semantic segmentation for ROS 2: a camera paired with thermal, depth or '
                'polarization',
    long_description='A ROS-free segmentation library with a thin ROS 2 edge.',
    license='Apache-2.0',
    **people_and_addresses(),
    python_requires='>=3.10',
    packages=find_packages(include=[NAME, f'{NAME}.*']),
    package_data={'': ['templates/*']},
    data_files=[
        ('share/ament_index/resource_index/packages', [f'resource/{NAME}']),
        (f'share/{NAME}', ['package.xml']),
        *shared_files(),
    ],
    # The lower ends are what Ubuntu 22.04 has, the oldest system for a supported ROS, except where
    # a line says otherwise. requirements/lock.txt has the versions that are tested together.
    install_requires=[
        # torch brings it; older ones wait for ever where a file system, such as NFS, cannot lock.
        'filelock>=3.24.3',
        'Jinja2>=3.0',
        'numpy>=1.21.5',
        'opencv-python-headless>=4.5.4',
        'PyYAML>=5.4',
        'rich>=11.2',
        'rosbags>=0.11.9,<0.12',  # as long as it is at 0 a minor version may change its interface
        'safetensors>=0.4',  # the oldest one tested
        # JetPack 6 began with 2.3; 2.13 is the newest one tested. The cap also keeps a machine
        # without a GPU on the build it has: a newer one would bring gigabytes of CUDA.
        'torch>=2.3,<2.14',
        'tqdm>=4.57',
    ],
    extras_require={
        # Polygons of COCO, imported as labels; the oldest one that was built for NumPy 2.
        'coco': ['pycocotools>=2.0.8'],
        # Aerial images and other large ones, read and written in pieces.
        'large-images': ['rasterio>=1.3'],
        # Fleets of bags on the machines of a cluster; the oldest one tested.
        'fleet': ['ray>=2.60'],
        # Models as ONNX files, and ONNX Runtime as an engine; the oldest ones tested. For a GPU
        # onnxruntime-gpu takes the place of onnxruntime.
        'onnx': ['onnxruntime>=1.23', 'onnxscript>=0.7'],
        # NYUv2 as its authors give it, in MATLAB files.
        'nyuv2': ['h5py>=3.6', 'scipy>=1.8'],
        # Recordings for the viewer Rerun, with NumPy 2 and pyarrow. The oldest one tested is the
        # newest for Python 3.10; 0.41, tested as well, is for 3.11 and later ones.
        'rerun': ['rerun-sdk>=0.39'],
        # ROS 2 from PyPI, for a machine without a distribution. On a robot ROS comes from apt.
        'ros': [
            'ros-kilted-diagnostic-msgs>=5.5,<6',
            'ros-kilted-lifecycle-msgs>=2.3,<3',
            'ros-kilted-nav-msgs>=5.5,<6',
            'ros-kilted-rcl-interfaces>=2.3,<3',
            'ros-kilted-rclpy>=9.1,<10',
            'ros-kilted-rmw-fastrtps-cpp>=9.3,<10',  # rclpy alone comes without a middleware
            'ros-kilted-sensor-msgs>=5.5,<6',
            'ros-kilted-std-msgs>=5.5,<6',
            'ros-kilted-std-srvs>=5.5,<6',
        ],
        # Curves of a training.
        'train': ['tensorboard>=2.10'],
        'test': [
            'colcon-package-information',  # colcon list
            'colcon-recursive-crawl',  # how colcon finds packages
            'colcon-ros',  # colcon build
            'flake8',
            'flake8-builtins',
            'flake8-class-newline',
            'flake8-comprehensions',
            'flake8-docstrings',
            'flake8-import-order',
            'flake8-quotes',
            'h5py',
            'hypothesis',
            'mypy',
            'pycocotools',
            'pytest>=6.2',
            'pytest-timeout',
            'pytest-xdist',
            'rasterio',
            'ruff',
            'scikit-learn',
            'scipy',
            'tensorboard',
            'types-PyYAML',
            'uv',
        ],
    },
    entry_points={
        'console_scripts': [
            f'rgbx-seg = {NAME}.__main__:main',
            f'seg_node = {NAME}.node.node:main',
            f'seg_projection = {NAME}.node.projection_node:main',
        ],
    },
    zip_safe=False,
)
