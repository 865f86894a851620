# Copyright 2026 rgbx_seg_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""Counts and percentiles of a running node."""

from concurrent.futures import ThreadPoolExecutor

import pytest
from rgbx_seg_ros.telemetry import Telemetry, Window


def test_percentiles_are_of_the_newest_values_only():
    window = Window(100)
    assert window.percentile(50) is None
    for value in [1e9] * 50 + list(range(101)):
        window.add(value)
    assert window.percentile(0) == 1
    assert window.percentile(50) == pytest.approx(50.5)
    assert window.percentile(100) == 100


def test_the_summary_has_counts_and_percentiles_none_before_the_first():
    telemetry = Telemetry()
    names = {f'{name}_p{share}' for name in Telemetry.QUANTITIES for share in (50, 95, 99)}
    assert telemetry.summary() == dict.fromkeys(names)
    telemetry.count('masks')
    telemetry.count('masks')
    for value in range(101):
        telemetry.time(inference_ms=value, offset_ms=-value)
    summary = telemetry.summary()
    assert summary['masks'] == 2
    assert [summary[f'inference_ms_p{share}'] for share in (50, 95, 99)] == [50, 95, 99]
    assert summary['offset_ms_p50'] == -50
    assert summary['publish_ms_p50'] is None


def test_threads_lose_no_count_and_disturb_no_summary():
    telemetry = Telemetry()

    def work(_):
        for i in range(300):
            telemetry.count('masks')
            telemetry.time(inference_ms=i)
            if i % 100 == 0:
                telemetry.summary()

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(work, range(8)))
    assert telemetry.summary()['masks'] == 2400
