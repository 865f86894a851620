# Copyright 2026 rgbx_seg_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""Where the time of a frame goes, and the memory of a process of its own."""

import ctypes
import functools
import signal
import threading
import time

import numpy as np
import pytest
from rgbx_seg_ros.benchmark.stages import longest_wait_ms, measure_footprint, time_stages
from rgbx_seg_ros.cards.card import load_card
from rgbx_seg_ros.inference.segmenter import Segmenter
from support.stand_ins import engine_of
from support.trials import COMPACT
import torch

RNG = np.random.default_rng(0)
PAIR = RNG.integers(0, 256, (70, 90, 3), np.uint8), RNG.integers(0, 256, (50, 60), np.uint8)
CPU = torch.device('cpu')


@pytest.fixture(scope='module')
def segmenter(tiny_card):
    return Segmenter.from_card(tiny_card, device='cpu')


def slow_down(monkeypatch, kind, method, seconds):
    inner = getattr(kind, method)

    def slow(*arguments):
        time.sleep(seconds)
        return inner(*arguments)
    monkeypatch.setattr(kind, method, slow)


def test_the_parts_are_a_frame_together(segmenter):
    started = time.perf_counter()
    stages = time_stages(segmenter, *PAIR)
    total = 1e3 * (time.perf_counter() - started)
    assert all(part > 0 for part in stages)
    assert 0.5 * total < sum(stages) <= total


@pytest.mark.parametrize(('part', 'place', 'method'), [
    ('pre', 'graph.normalize', 'within_limits'),
    ('pre', 'graph', '_pad'),
    ('network', 'graph.network', 'forward'),
    ('post', 'graph', '_unfit'),
])
def test_what_is_slow_is_found_in_its_part(part, place, method, segmenter, monkeypatch):
    owner = segmenter.engine
    for name in place.split('.'):
        owner = getattr(owner, name)
    slow_down(monkeypatch, type(owner), method, 0.3)
    stages = time_stages(segmenter, *PAIR)._asdict()
    assert stages.pop(part) >= 300
    assert all(other < 300 for other in stages.values())


def test_frames_run_as_before_when_the_marks_are_gone(segmenter):
    before = segmenter(*PAIR)
    time_stages(segmenter, *PAIR)
    graph = segmenter.engine.graph
    assert 'forward' not in vars(graph) and 'forward' not in vars(graph.network)
    assert np.array_equal(segmenter(*PAIR).mask, before.mask)


def test_a_network_that_fuses_has_its_parts_as_well(write_card):
    path = write_card(network='difusionseg', network_args=COMPACT['difusionseg'],
                      x={'kind': 'thermal', 'mean': [0.5], 'std': [0.2]})
    with pytest.warns(UserWarning, match='no weights'):
        segmenter = Segmenter.from_card(path, device='cpu')
    stages = time_stages(segmenter, *PAIR)
    assert stages.network > stages.post > 0


def test_an_engine_without_a_graph_has_no_parts(tiny_card):
    def engine(rgb, x, limits, sensors):
        return rgb[..., 0], rgb[..., 1]
    assert time_stages(Segmenter(load_card(tiny_card), engine_of(engine)), *PAIR) is None


@pytest.mark.alone
def test_a_thread_waits_for_what_keeps_pythons_lock_and_for_nothing_else():
    kept, released = (functools.partial(library(None).usleep, 300_000)  # in us
                      for library in (ctypes.PyDLL, ctypes.CDLL))
    assert longest_wait_ms(kept) >= 300
    # The least of some, as a machine that pauses makes any thread wait.
    assert min(longest_wait_ms(released) for _ in range(3)) < 150


def test_a_thread_that_looks_on_ends_with_what_it_looks_at():
    before = threading.active_count()
    with pytest.raises(ZeroDivisionError):
        longest_wait_ms(lambda: 1 / 0)
    assert threading.active_count() == before


def test_the_memory_is_that_of_a_new_process_at_its_highest():
    ballast = np.ones(800 * 10 ** 6, np.uint8)  # of this process, and not to be seen there
    footprint = measure_footprint(np.ones, CPU, 200 * 10 ** 6, np.uint8)
    assert 190 < footprint.peak - footprint.before < 260
    assert footprint.before < ballast.nbytes / 1e6, 'PyTorch has 250 MB, with CUDA 540'


def test_a_process_that_dies_is_told_and_the_rest_goes_on():
    with pytest.warns(UserWarning, match='killed while its memory was measured'):
        assert measure_footprint(signal.raise_signal, CPU, signal.SIGKILL) is None
