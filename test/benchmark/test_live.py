# Copyright 2026 rgbx_seg_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""The benchmark of the live node over the real middleware: what it finds, and how it ends."""

from dataclasses import replace
import json
import os
from pathlib import Path
import signal
import statistics
import subprocess
import sys

import pytest

pytest.importorskip('rclpy', reason='needs rclpy, from a ROS distribution or the ros extra')

from rgbx_seg_ros.benchmark import live  # noqa: E402,I100
from rgbx_seg_ros.benchmark.live import measure, measure_at_rates, run  # noqa: E402
from rgbx_seg_ros.benchmark.rates import ALLOWED_LOSS, LIMIT_HZ, Settings  # noqa: E402
from rgbx_seg_ros.errors import RgbxSegError  # noqa: E402

pytestmark = pytest.mark.skipif(not Path('/proc/self/cmdline').exists(),
                                reason='it looks for processes in /proc')


@pytest.fixture
def settings(tiny_card, write_frames, tmp_path):
    """Return settings of a short run of a node that needs milliseconds."""
    return Settings(str(tiny_card), device='cpu', rates_hz=(10.0,), seconds=1.0,
                    data=write_frames(tmp_path / 'frames'))


def processes(owner=None):
    """Return the ids of the processes that a benchmark has started, by what they run."""
    space, found = f'rgbx_seg_benchmark_{owner or os.getpid()}', {}
    for path in Path('/proc').glob('[0-9]*/cmdline'):
        try:
            words = path.read_text().split('\0')
        except OSError:  # it has just ended
            continue
        if any(space in word for word in words):
            found[next(word for word in words if 'rgbx_seg_ros.' in word)] = int(path.parent.name)
    return found


def at_the_first_run(action):
    """Return a `tell` that calls `action(id of the node's process)` when the search begins."""
    def tell(text):
        if 'Hz' in text and not done:
            done.append(text)
            action(processes()['rgbx_seg_ros.node.node:main'])
    done = []
    return tell


@pytest.mark.alone  # pairs are sent at a rate that is checked
def test_a_live_node_is_measured(settings, tmp_path, capsys, monkeypatch):
    # On a busy machine a pair takes a second, and more of them minutes.
    monkeypatch.setattr(live, '_LEAST_PAIRS', 12)
    path = tmp_path / 'result.json'
    run(replace(settings, rates_hz=(10.0,) * 3), path)
    out, err = capsys.readouterr()
    found = json.loads(path.read_text())
    assert found['format'] == 1
    assert '| latency p99, ms ' in out and 'waiting for the first mask' in err
    peak, runs = found['throughput'], found['runs']

    assert 0.2 < peak['rate_hz'] <= LIMIT_HZ
    assert peak['lost'] <= ALLOWED_LOSS
    assert peak['sent'] - peak['masks'] == round(peak['lost'] * peak['sent'])
    assert [each['sent'] for each in runs] == [12] * 3
    # A machine that pauses makes one of them wrong.
    assert statistics.median(each['sent_hz'] for each in runs) == pytest.approx(10.0, rel=0.1)
    for each in (peak, *runs):
        latency = each['latency_ms']
        assert 0.5 < latency['p50'] <= latency['p95'] <= latency['p99'] <= latency['max'] < 5000
        # Each pair is a mask or counted as dropped; a lost frame of X costs an RGB frame as well.
        dropped = sum(count for name, count in each['drops'].items() if not name.startswith('x_'))
        assert each['sent'] == each['masks'] + dropped
    assert found['first_mask_s'] > 0.5
    assert found['frames'].startswith('RGB 96x64 rgb8, X 96x64 mono8, 4 pairs')
    assert found['search'][0]['drops'] is None
    assert not processes()


@pytest.mark.long
def test_fixed_rates_can_be_measured_without_a_search(settings, monkeypatch):
    monkeypatch.setattr(live, '_LEAST_PAIRS', 12)
    monkeypatch.setattr(live, 'search', None)
    device, (fixed,) = measure_at_rates(settings)
    assert device == 'cpu float32'
    assert (fixed.rate_hz, fixed.sent) == (10.0, 12)
    assert fixed.masks and fixed.latency_ms
    assert not processes()


def test_a_model_that_does_not_load_is_named(settings):
    wrong = Settings('nonesuch', data=settings.data)
    with pytest.raises(RgbxSegError, match=r"the node ended with 2; it said last: .*'nonesuch'"):
        measure(wrong)
    assert not processes()


def test_a_node_that_dies_ends_the_benchmark(settings):
    with pytest.raises(RgbxSegError, match='the node ended with -9'):
        measure(settings, at_the_first_run(lambda node: os.kill(node, signal.SIGKILL)))
    assert not processes()


@pytest.mark.long
def test_a_node_that_hangs_ends_the_benchmark(settings, monkeypatch):
    monkeypatch.setattr(live, '_STOP_S', 0.5)
    with pytest.raises(RgbxSegError, match='no mask within'):
        measure(settings, at_the_first_run(lambda node: os.kill(node, signal.SIGSTOP)))
    assert not processes()


def test_frames_that_cannot_be_sent_are_named_before_anything_starts(settings, tmp_path):
    with pytest.raises(RgbxSegError, match='must hold rgb/'):
        measure(Settings(settings.model, data=tmp_path))


@pytest.mark.long
@pytest.mark.parametrize('with_signal', [signal.SIGINT, signal.SIGTERM])
def test_a_signal_leaves_no_process_behind(settings, with_signal):
    code = ('import sys\nfrom pathlib import Path\n'
            'from rgbx_seg_ros.benchmark.live import run\n'
            'from rgbx_seg_ros.benchmark.rates import Settings\n'
            'try: run(Settings(sys.argv[1], data=Path(sys.argv[2])))\n'
            'except KeyboardInterrupt: sys.exit(130)')
    benchmark = subprocess.Popen(
        [sys.executable, '-c', code, settings.model, str(settings.data)], stderr=subprocess.PIPE,
        text=True, preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler))
    try:
        assert any('Hz' in line for line in benchmark.stderr)
        assert len(processes(benchmark.pid)) == 2
        benchmark.send_signal(with_signal)
        assert benchmark.wait(30) == 130
        assert not processes(benchmark.pid)
    finally:
        benchmark.kill()
        benchmark.stderr.close()
