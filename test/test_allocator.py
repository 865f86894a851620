# Copyright 2026 rgbx_seg_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""Freed image buffers stay in the process."""

import platform
import subprocess
import sys

import pytest
from rgbx_seg_ros import allocator

# Prints the page faults of 200 images that come and go.
COUNT_FAULTS = """
import array, resource, sys
from rgbx_seg_ros.allocator import keep_freed_memory
if sys.argv[1] == 'keep':
    assert keep_freed_memory()
def faults():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt
def image():
    array.array('B', bytes(1_000_000))
image()
before = faults()
for _ in range(200):
    image()
print(faults() - before)
"""


def count_faults(mode):
    done = subprocess.run([sys.executable, '-c', COUNT_FAULTS, mode], capture_output=True,
                          text=True, timeout=60, check=True)
    return int(done.stdout)


@pytest.mark.skipif(platform.libc_ver()[0] != 'glibc', reason='needs glibc')
def test_images_that_come_and_go_take_no_new_pages():
    assert count_faults('keep') < 1000 < count_faults('default')


def test_another_c_library_is_left_alone(monkeypatch):
    monkeypatch.setattr(platform, 'libc_ver', lambda: ('', ''))
    monkeypatch.setattr(allocator.ctypes, 'CDLL', pytest.fail)
    assert allocator.keep_freed_memory() is False
