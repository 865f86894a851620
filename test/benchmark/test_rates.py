# Copyright 2026 rgbx_seg_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""The search for the highest rate, the figures of a run, and their table."""

from dataclasses import replace

import pytest
from rgbx_seg_ros.benchmark.rates import (
    ALLOWED_LOSS,
    drops_of,
    LIMIT_HZ,
    MAX_RATES,
    Result,
    Run,
    search,
    Settings,
    table,
    WARM_UP,
)
from rgbx_seg_ros.errors import ParameterError, RgbxSegError

PERIOD_NS = 100_000_000
START_NS = 1_790_000_000 * 1_000_000_000


class Node:
    """Serves `capacity_hz` pairs a second and loses the others."""

    def __init__(self, capacity_hz):
        self.capacity_hz, self.rates = capacity_hz, []

    def __call__(self, rate_hz):
        self.rates.append(rate_hz)
        return max(0.0, 1 - self.capacity_hz / rate_hz)


@pytest.mark.parametrize('capacity_hz', [0.3, 9.7, 60.0, 180.0])
@pytest.mark.parametrize('guess', [0.02, 0.9, 1.0, 1.5, 40.0])
def test_the_search_finds_where_losses_begin_to_be_too_many(capacity_hz, guess):
    node = Node(capacity_hz)
    found = search(node, guess * capacity_hz)
    best = capacity_hz / (1 - ALLOWED_LOSS)
    assert best / 1.02 <= found <= best
    assert found in node.rates


def test_a_good_guess_saves_runs():
    node = Node(10.0)
    search(node, 10.0)
    assert len(node.rates) <= 10


def test_the_search_ends_at_its_limit():
    node = Node(1000.0)
    assert search(node, 50.0) == LIMIT_HZ
    assert max(node.rates) == LIMIT_HZ


def test_a_node_that_is_too_slow_for_any_rate_is_an_error():
    with pytest.raises(RgbxSegError, match=r'even at 0\.1 Hz'):
        search(Node(0.05), 10.0)


def test_one_run_disturbed_by_something_else_does_not_count():
    node, disturbed = Node(10.0), iter([0.5])
    found = search(lambda rate: next(disturbed, None) or node(rate), 8.0)
    assert found > 10.0


def run_of(late_ms, lost=(), rate_hz=10.0):
    """Return the run of pairs whose masks come so much later, or not for the numbers `lost`."""
    stamps = [START_NS + number * PERIOD_NS for number in range(len(late_ms))]
    return Run.of(rate_hz, stamps, {
        stamp: stamp + round(1e6 * late) for number, (stamp, late) in
        enumerate(zip(stamps, late_ms, strict=True)) if number not in lost})


def test_every_pair_counts_as_sent_and_lost():
    run = run_of([20.0] * 40, lost=(0, 3, 20, 39))
    assert (run.sent, run.masks, run.lost) == (40, 36, pytest.approx(0.1))
    assert run.sent_hz == pytest.approx(10.0)
    assert run.masks_hz == pytest.approx(35 / 3.7)


def test_latency_is_told_without_the_first_pairs():
    run = run_of([900.0] * WARM_UP + [*map(float, range(1, 101))])
    assert run.latency_ms == pytest.approx(
        {'mean': 50.5, 'p50': 50.5, 'p95': 95.05, 'p99': 99.01, 'max': 100.0})


def test_jitter_is_the_second_difference_of_the_times_of_reception():
    steady = run_of([900.0] * WARM_UP + [20.0] * 20)
    assert steady.jitter_ms == pytest.approx(dict.fromkeys(steady.jitter_ms, 0.0), abs=1e-6)
    growing = run_of([10.0 + number for number in range(25)])
    assert growing.jitter_ms['max'] == pytest.approx(0.0, abs=1e-6)
    # One mask is 8 ms late: 8, -16, 8.
    once = run_of([20.0] * 12 + [28.0] + [20.0] * 12)
    assert once.jitter_ms['max'] == pytest.approx(16.0)
    assert once.jitter_ms['mean'] == pytest.approx(32.0 / 18)
    # Who waits for a mask that never comes waits a period longer.
    assert run_of([20.0] * 25, lost=(12,)).jitter_ms['max'] == pytest.approx(PERIOD_NS / 1e6)


def test_a_run_without_masks_has_no_figures():
    run = run_of([20.0] * 25, lost=range(25))
    assert (run.lost, run.masks_hz, run.latency_ms, run.jitter_ms) == (1.0, None, {}, {})


def test_drops_are_those_of_the_run_alone_and_what_got_lost_on_the_way():
    run = run_of([20.0] * 30, lost=range(20, 30))
    before = {'rgb_received': 50, 'x_received': 50, 'masks': 40, 'pairs': 50,
              'drops.superseded': 10, 'drops.too_old': 3}
    after = {'rgb_received': 80, 'x_received': 79, 'masks': 61, 'pairs': 79,
             'drops.superseded': 17, 'drops.too_old': 3, 'drops.rgb_no_partner': 1}
    assert drops_of(run, before, after) == {
        'superseded': 7, 'rgb_no_partner': 1, 'x_lost_on_the_way': 1, 'mask_lost_on_the_way': 1}


@pytest.mark.parametrize(('wrong', 'message'), [
    ({'rates_hz': (10.0, 0.0)}, r'rate is 0\.0 Hz, allowed is 0\.1 to 200'),
    ({'rates_hz': (1000.0,)}, r'rate is 1000\.0 Hz'),
    ({'rates_hz': (1.0,) * (MAX_RATES + 1)}, 'at most 4'),
    ({'seconds': 0.0}, r'seconds is 0\.0, allowed is 1 to 3600'),
    ({'seconds': float('nan')}, 'seconds is nan'),
])
def test_wrong_settings_are_named(wrong, message):
    with pytest.raises(ParameterError, match=message):
        Settings(model='potholes', **wrong)


def result(late_ms=20.0, rates_hz=(10.0, 30.0), **changes):
    run = replace(run_of([late_ms] * 40), drops={'superseded': 4, 'mask_lost_on_the_way': 1})
    runs = tuple(replace(run, rate_hz=rate) for rate in rates_hz)
    return replace(Result(
        'potholes', 'torch', 'cpu float32', 'rmw_fastrtps_cpp', 'RGB 640x480 rgb8', 2, 3.2, run,
        runs, ()), **changes)


def test_the_table_holds_every_figure():
    rows = {cells[0].strip(): [cell.strip() for cell in cells[1:-1]] for cells in (
        line.split('|')[1:] for line in table(result()).splitlines() if line.startswith('|'))}
    assert rows['rate, Hz'] == ['peak', '10', '30']
    assert rows['pairs sent'] == ['40'] * 3
    assert rows['- superseded'] == ['4'] * 3
    assert rows['latency p99, ms'] == ['20.00'] * 3
    assert {f'{name} {figure}, ms' for name in ('latency', 'jitter')
            for figure in ('mean', 'p50', 'p95', 'p99', 'max')} <= rows.keys()


@pytest.mark.parametrize('shown', [
    result(), result(9876543.21, rates_hz=(199.9, 33.333, 12.5, 0.125)),
    result(model='a_model_of_a_long_name', engine='torch_bf16', device=(
        'cuda:0 (a card of a very long name, second edition) by ONNX Runtime 1.27.0 '
        '(TensorrtExecutionProvider)'))])
def test_the_table_fits_into_80_columns(shown):
    assert max(map(len, table(shown).splitlines())) <= 80


def test_the_table_tells_that_more_was_not_tried():
    limit = 'being the highest that is tried'
    peak = replace(result().throughput, rate_hz=LIMIT_HZ)
    assert limit in table(result(throughput=peak)).replace('\n', ' ')
    assert limit not in table(result()).replace('\n', ' ')
