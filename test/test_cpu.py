# Copyright 2026 rgbx_seg_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""A processor is told from others by what Linux says of it, x86 and ARM in words of their own."""

from pathlib import Path
import platform

import pytest
from rgbx_seg_ros import cpu
from rgbx_seg_ros.cpu import Cpu, find_cpu, parse_cpu

X86 = """\
processor\t: 0
vendor_id\t: GenuineIntel
cpu family\t: 6
model\t\t: 143
model name\t: Intel(R) Xeon(R) Platinum 8481C CPU @ 2.70GHz
stepping\t: 8
cpu MHz\t\t: 2700.000
flags\t\t: fpu avx2 avx512_bf16 amx_bf16
bugs\t\t: spectre_v1

processor\t: 1
vendor_id\t: GenuineIntel
cpu family\t: 6
model\t\t: 143
model name\t: Intel(R) Xeon(R) Platinum 8481C CPU @ 2.70GHz
stepping\t: 8
cpu MHz\t\t: 1100.000
flags\t\t: fpu avx2 avx512_bf16 amx_bf16
bugs\t\t: spectre_v1

"""
GRACE = """\
processor\t: 0
BogoMIPS\t: 2000.00
Features\t: fp asimd i8mm bf16
CPU implementer\t: 0x41
CPU architecture: 8
CPU variant\t: 0x0
CPU part\t: 0xd4f
CPU revision\t: 0

"""
BIG_LITTLE = GRACE + """\
processor\t: 1
BogoMIPS\t: 2000.00
Features\t: fp asimd bf16
CPU implementer\t: 0x41
CPU architecture: 8
CPU variant\t: 0x1
CPU part\t: 0xd05
CPU revision\t: 0

"""


def test_x86_has_a_name_and_flags():
    found = parse_cpu(X86, 'x86_64')
    assert str(found) == 'Intel(R) Xeon(R) Platinum 8481C CPU @ 2.70GHz'
    assert found.models == ('vendor_id GenuineIntel, cpu family 6, model 143, stepping 8',)
    assert found.flags == {'fpu', 'avx2', 'avx512_bf16', 'amx_bf16'}


def test_arm_has_features_and_is_told_by_its_numbers():
    found = parse_cpu(GRACE, 'aarch64')
    assert found.flags == {'fp', 'asimd', 'i8mm', 'bf16'}
    assert str(found).startswith('aarch64 (CPU implementer 0x41, CPU part 0xd4f, ')
    other = parse_cpu(GRACE.replace('0xd4f', '0xd0c'), 'aarch64')
    assert other.flags == found.flags and other != found


def test_of_two_kinds_of_cores_both_count_and_only_what_both_can_do():
    found = parse_cpu(BIG_LITTLE, 'aarch64')
    assert len(found.models) == 2
    assert found.flags == {'fp', 'asimd', 'bf16'}


def test_without_such_a_file_python_tells_the_rest(monkeypatch):
    monkeypatch.setattr(cpu, '_CPUINFO', Path('/nowhere/cpuinfo'))
    monkeypatch.setattr(platform, 'processor', lambda: '')
    assert find_cpu() == Cpu(platform.machine(), '', (), frozenset())
    assert str(find_cpu()) == platform.machine()


@pytest.mark.skipif(not Path('/proc/cpuinfo').exists(), reason='it is not Linux')
def test_this_machine_has_one():
    found = find_cpu()
    assert found.machine and found.flags
    assert parse_cpu('', 'x') == Cpu('x', '', (), frozenset())
