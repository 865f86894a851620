# Copyright 2026 rgbx_seg_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""What the networks cost: counts that are right, and times of every round."""

import pytest
from rgbx_seg_ros.benchmark import Cost, measure, table
from rgbx_seg_ros.networks import build
import torch
from torch import nn


class OneConvolution(nn.Module):
    """A network whose cost is known."""

    X_CHANNELS = 1

    def __init__(self, num_classes):
        super().__init__()
        self.conv = nn.Conv2d(4, num_classes, 3, padding=1)

    def forward(self, rgb, x):
        return self.conv(torch.cat((rgb, x), 1))


@pytest.fixture
def one_convolution(monkeypatch):
    from rgbx_seg_ros.networks import NETWORKS
    monkeypatch.setitem(NETWORKS, 'one_convolution', OneConvolution)


def test_counts_are_those_of_the_layers_and_every_round_is_timed(one_convolution):
    cost, = measure(['one_convolution'], (32, 64), 'cpu', rounds=4)
    assert cost.parameters == 9 * (4 * 9 + 1)
    assert cost.macs == 32 * 64 * 9 * 9 * 4
    assert len(cost.seconds) == 4
    assert all(second > 0 for second in cost.seconds)


def test_a_published_network_costs_what_its_authors_counted():
    with torch.device('meta'):
        parameters = sum(p.numel() for p in build('ms_irtnet', 9).parameters())
    cost, = measure(['ms_irtnet'], (96, 128), 'cpu', rounds=1)
    assert cost.parameters == parameters
    assert cost.macs == pytest.approx(118.24e9 / 25, rel=0.01)


def test_the_table_compares_the_time_of_a_multiply_add_with_the_first_row():
    costs = [Cost('a', 2_000_000, 10 ** 9, (0.5, 0.1, 0.1)),
             Cost('b', 3_000_000, 2 * 10 ** 9, (0.4, 0.4, 9.0))]
    first, second = table(costs).splitlines()[2:]
    assert first == '| a | 2.00 | 1.0 | 0.1 | 100.0 | 1.00 |'
    assert second == '| b | 3.00 | 2.0 | 0.4 | 200.0 | 2.00 |'


@pytest.mark.parametrize(('arguments', 'said'), [
    (['nothing'], "network is 'nothing', allowed are:"),
    (['ms_irtnet', '--rounds', '0'], 'rounds is 0, needed is at least 1'),
    (['ms_irtnet', '--size', '8', '8'], 'a side is shorter than 32 pixels'),
    (['ms_irtnet', '--device', 'gpu'], "device is 'gpu', allowed are"),
])
def test_what_cannot_be_measured_is_told_in_one_line(arguments, said, command):
    code, out, err = command('benchmark', *arguments)
    assert (code, out) == (2, '')
    assert said in err
    assert err.count('\n') == 1


def test_the_command_prints_the_table_in_80_columns(one_convolution, command):
    code, out, err = command('benchmark', 'one_convolution', '--size', '64', '64')
    assert code == 0
    assert '| one_convolution |' in out
    assert max(map(len, out.splitlines())) <= 80
