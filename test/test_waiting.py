# Copyright 2026 rgbx_seg_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""The threads of PyTorch sleep while they wait, whatever starts them."""

import os
import subprocess
import sys

import pytest

# Starts what is named and tells what OpenMP would read, as torch is about to be imported.
LOOK = """
import os, pkgutil, sys
class Torch:
    def find_spec(self, name, path=None, target=None):
        if name == 'torch':
            print(os.environ.get('OMP_WAIT_POLICY'), flush=True)
            os._exit(0)
sys.meta_path.insert(0, Torch())
function = sys.argv.pop(1)
pkgutil.resolve_name(function)()
print('torch was not imported')
"""
VERB = 'rgbx_seg_ros.__main__:main'


def seen_by_torch(*command, **variables):
    """Return OMP_WAIT_POLICY as torch would find it in a process of its own."""
    environment = {name: value for name, value in os.environ.items() if name != 'OMP_WAIT_POLICY'}
    done = subprocess.run(
        [sys.executable, '-c', LOOK, *command], env={**environment, **variables},
        capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.mark.parametrize('verb', [
    'evaluate', 'replay', 'benchmark', 'train', 'export', 'import-weights', 'doctor'])
def test_no_verb_lets_threads_spin(verb):
    assert seen_by_torch(VERB, verb, *([] if verb == 'doctor' else ['--help'])) == 'PASSIVE'


@pytest.mark.parametrize('verb', ['predict', 'golden'])
def test_a_verb_that_imports_torch_late_lets_none_spin(verb, tiny_card, write_frames, tmp_path):
    frames = write_frames(tmp_path / 'frames', 1)
    pair = [str(frames / folder / 'a0.png') for folder in ('rgb', 'thermal')]
    card = [str(tiny_card)]
    arguments = [*card, *pair] if verb == 'golden' else [*pair, '-m', *card]
    assert seen_by_torch(VERB, verb, *arguments) == 'PASSIVE'


def test_the_node_lets_none_spin(tiny_card):
    pytest.importorskip('rclpy', reason='needs rclpy, from a ROS distribution or the ros extra')
    arguments = '--ros-args', '-p', f'model:={tiny_card}'
    assert seen_by_torch('rgbx_seg_ros.node.node:main', *arguments) == 'PASSIVE'


def test_what_the_user_has_set_stays():
    assert seen_by_torch(VERB, 'train', '--help', OMP_WAIT_POLICY='ACTIVE') == 'ACTIVE'
