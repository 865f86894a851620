# Copyright 2026 rgbx_seg_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""What a network costs, and how fast a device could be at best."""

import pytest
from rgbx_seg_ros.benchmark import roofline
from rgbx_seg_ros.benchmark.roofline import count_macs, Peaks
from rgbx_seg_ros.networks import build, Network
from rgbx_seg_ros.networks.folding import fold
import torch
from torch import nn

CPU = torch.device('cpu')


class OneConvolution(Network):
    """A network whose cost is known."""

    X_CHANNELS = 1

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(4, 9, 3, padding=1)

    def forward(self, rgb, x):
        return self.conv(torch.cat((rgb, x), 1))


def test_the_count_is_that_of_the_layers_and_leaves_the_network_alone():
    network = OneConvolution().eval()
    assert count_macs(network, (32, 64)) == 32 * 64 * 9 * 9 * 4
    assert network.conv.weight.device == CPU


def test_a_published_network_costs_what_its_authors_counted():
    with torch.device('meta'):
        network = build('ms_irtnet', 9).eval()
    assert count_macs(network, (96, 128)) == pytest.approx(118.24e9 / 25, rel=0.01)


def test_a_folded_network_is_counted_as_it_runs():
    network = build('ms_irtnet', 9, backbone='atto').eval()
    before = count_macs(network, (64, 96))
    assert count_macs(fold(network), (64, 96)) < 0.8 * before


@pytest.fixture
def small(monkeypatch):
    """Make the measurement quick: what it finds then is less than the machine can do."""
    monkeypatch.setitem(roofline._SIDE, 'cpu', 128)
    monkeypatch.setitem(roofline._COPIED, 'cpu', 1 << 20)


def test_rates_are_work_through_time(small, monkeypatch):
    times = iter(range(1000))
    monkeypatch.setattr(roofline.time, 'perf_counter', lambda: next(times))  # a second for each
    peaks = Peaks([torch.float32, torch.bfloat16], CPU)
    peaks.measure()
    assert peaks.flops == {torch.float32: 2 * 128 ** 3, torch.bfloat16: 2 * 128 ** 3}
    assert peaks.bytes_per_s == 2 << 20


def test_the_best_try_counts(small):
    peaks = Peaks([torch.float32], CPU)
    peaks.measure()
    found = peaks.flops[torch.float32], peaks.bytes_per_s
    assert 1e8 < found[0] < 1e13
    assert 1e8 < found[1] < 1e13
    peaks.flops[torch.float32] = peaks.bytes_per_s = 1e15
    peaks.measure()
    assert (peaks.flops[torch.float32], peaks.bytes_per_s) == (1e15, 1e15)


@pytest.mark.parametrize(('macs', 'size', 'wanted_ms'), [
    (50 * 10 ** 9, 10 ** 9, 1000.0),  # 100 GFLOP at 100 GFLOP/s
    (10 ** 9, 10 ** 9, 100.0),  # 1 GB at 10 GB/s
])
def test_the_roof_is_what_takes_longer(macs, size, wanted_ms):
    peaks = Peaks([torch.float32], CPU)
    peaks.flops[torch.float32], peaks.bytes_per_s = 100e9, 10e9
    assert peaks.roof_ms(macs, size, torch.float32) == pytest.approx(wanted_ms)


@pytest.mark.parametrize(('free', 'wanted'), [(139 << 30, 4 << 30), (6 << 30, 384 << 20)])
def test_a_copy_leaves_most_of_the_memory_of_a_small_device_alone(free, wanted, monkeypatch):
    monkeypatch.setattr(torch.cuda, 'mem_get_info', lambda device: (free, 140 << 30))
    assert Peaks([], torch.device('cuda'))._copied() == wanted


@pytest.mark.parametrize('allowed', [True, False])
def test_products_have_the_precision_of_convolutions(allowed, small, monkeypatch):
    seen, inner = set(), torch.mm

    def noted(*arguments, **options):
        seen.add(torch.backends.cuda.matmul.allow_tf32)
        return inner(*arguments, **options)
    monkeypatch.setattr(torch.backends.cudnn, 'allow_tf32', allowed)
    monkeypatch.setattr(torch, 'mm', noted)
    Peaks([torch.float32], CPU).measure()
    assert seen == {allowed}
    assert not torch.backends.cuda.matmul.allow_tf32
