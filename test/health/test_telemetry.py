# Copyright 2026 rgbx_seg_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""Counts and percentiles of a running node."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from rgbx_seg_ros.health.telemetry import QUANTITIES, Telemetry, Window


def test_percentiles_are_of_the_newest_values_only():
    window = Window(100)
    assert window.percentile(50) is None
    for value in [1e9] * 50 + list(range(101)):
        window.add(value)
    assert window.percentile(0) == 1
    assert window.percentile(50) == pytest.approx(50.5)
    assert window.percentile(100) == 100


def test_the_percentiles_of_a_node_forget_what_is_long_ago():
    telemetry = Telemetry()
    for value in [1e9] * 1000 + list(range(1000)):
        telemetry.time(latency_ms=value)
    found = telemetry.percentiles()
    for share in (50, 95, 99):
        assert found[f'latency_ms_p{share}'] == pytest.approx(share / 100 * 999)


def test_a_quantity_has_its_own_percentiles_and_none_before_its_first_value():
    telemetry = Telemetry()
    names = {f'{name}_p{share}' for name in QUANTITIES for share in (50, 95, 99)}
    assert telemetry.percentiles() == dict.fromkeys(names)
    for value in range(101):
        telemetry.time(inference_ms=value, offset_ms=-value)
    found = telemetry.percentiles()
    assert [found[f'inference_ms_p{share}'] for share in (50, 95, 99)] == [50, 95, 99]
    assert [found[f'offset_ms_p{share}'] for share in (50, 95, 99)] == [-50, -5, -1]
    assert {name for name in names if found[name] is None} == {
        name for name in names if name.rpartition('_')[0] not in ('inference_ms', 'offset_ms')}
    assert {type(value) for value in found.values()} == {float, type(None)}


def test_counts_and_percentiles_are_copies():
    telemetry = Telemetry()
    telemetry.count('masks')
    telemetry.time(latency_ms=np.float32(1.5))
    before = telemetry.counts(), telemetry.percentiles()
    telemetry.count('masks')
    telemetry.time(latency_ms=2.5)
    assert before[0] == {'masks': 1} and before[1]['latency_ms_p50'] == 1.5
    assert telemetry.counts() == {'masks': 2}
    assert telemetry.percentiles()['latency_ms_p50'] == 2


def test_a_quantity_that_is_not_known_is_refused():
    with pytest.raises(KeyError, match='inference_s'):
        Telemetry().time(inference_s=0.1)


def test_threads_lose_no_count_and_disturb_no_summary():
    telemetry = Telemetry()

    def work(_):
        for i in range(300):
            telemetry.count('masks')
            telemetry.time(inference_ms=i)
            if i % 100 == 0:
                telemetry.counts()
                telemetry.percentiles()

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(work, range(8)))
    assert telemetry.counts() == {'masks': 2400}
