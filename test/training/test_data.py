# Copyright 2026 rgbx_seg_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""Batches for training: every sample once a pass, shared out, and the same whoever makes them."""

from dataclasses import replace

import cv2
import numpy as np
import pytest
from rgbx_seg_ros.cards.card import load_card
from rgbx_seg_ros.datasets import FolderDataset, Sample
from rgbx_seg_ros.distributed import Processes
from rgbx_seg_ros.errors import DataError
from rgbx_seg_ros.training.augment import Augment
from rgbx_seg_ros.training.config import TrainConfig
from rgbx_seg_ros.training.data import Crops, limits_of, load_parts, Plan
import torch

CONFIG = TrainConfig('tiny', Augment((64, 96)), epochs=3, batch_size=4, workers=0)


def plan(samples=9, rank=0, count=1, **changes):
    return Plan(replace(CONFIG, **changes), samples, Processes(rank, count, torch.device('cpu')))


def indices(plan, start=0):
    return [[index for *_, index in part] for part in plan.batches(start)]


def test_a_pass_takes_each_sample_once_and_leaves_out_what_fills_no_batch():
    parts = indices(plan())
    assert len(parts) == 6
    epochs = [sum(parts[i:i + 2], []) for i in (0, 2, 4)]
    assert all(len(set(epoch)) == 8 for epoch in epochs)
    assert epochs[0] != epochs[1] != epochs[2]
    assert indices(plan(seed=1)) != parts
    assert indices(plan(), start=3) == parts[3:]


def test_longer_epochs_take_more_passes():
    first = sum(indices(plan(steps_per_epoch=5))[:5], [])
    assert len(first) == 20
    assert set(first[:9]) == set(first[9:18]) == set(range(9))
    assert first[:9] != first[9:18]


@pytest.mark.parametrize(('count', 'accumulate'), [(2, 1), (1, 2), (2, 2), (4, 1)])
def test_processes_and_parts_share_out_each_batch(count, accumulate):
    whole = [[*part] for part in plan().batches(0)]
    shared = [[*plan(rank=rank, count=count, accumulate=accumulate).batches(0)]
              for rank in range(count)]
    for step, batch in enumerate(whole):
        parts = [shared[rank][step * accumulate + part]
                 for part in range(accumulate) for rank in range(count)]
        assert sum(parts, []) == batch


def test_a_batch_that_cannot_be_shared_is_told():
    with pytest.raises(DataError, match='batch_size is 4: 3 processes with accumulate 1 need a '
                                        'multiple of 3'):
        plan(count=3)


@pytest.fixture
def crops(tmp_path, write_frames, write_card):
    return Crops(FolderDataset(write_frames(tmp_path / 'data', 9)), CONFIG,
                 load_card(write_card()))


def test_workers_make_the_same_crops_as_the_process_itself(crops):
    runs = [[*load_parts(crops, plan(workers=workers, epochs=1, accumulate=2), 0)]
            for workers in (0, 2)]
    assert len(runs[0]) == 2 and len(runs[0][0]) == 2
    for one, other in zip(*runs, strict=True):
        for part, same in zip(one, other, strict=True):
            assert all(torch.equal(a, b) for a, b in zip(part, same, strict=True))


@pytest.mark.timeout(60)
def test_workers_do_not_wait_for_threads_of_the_process_they_are_forked_from(crops):
    threads = cv2.getNumThreads()
    cv2.setNumThreads(4)
    try:
        large = np.zeros((2000, 2000, 3), np.uint8)
        cv2.resize(large, (1500, 1500))  # starts them
        parts = next(load_parts(crops, plan(workers=1, epochs=1), 0))
        assert len(parts) == 1 and cv2.getNumThreads() == 4
    finally:
        cv2.setNumThreads(threads)


def test_a_sample_looks_different_at_another_place(crops):
    images = [crops[0, place, 3][0].tobytes() for place in (0, 1, 1)]
    assert images[0] != images[1] == images[2]
    assert crops[1, 0, 3][0].tobytes() != images[0]


def test_the_frame_before_its_colours_were_changed_comes_along_where_it_is_needed(crops):
    assert len(crops[0, 0, 0]) == 4
    crops.needs_frame = True
    rgb, _, _, _, frame = crops[0, 0, 0]
    assert frame.shape == rgb.shape and not np.array_equal(frame, rgb)
    assert np.array_equal(rgb, Crops.__getitem__(crops, (0, 0, 0))[0])


def test_a_piece_of_an_image_has_the_range_of_the_whole(write_card):
    x = np.float32([[3, 4]])
    sample = Sample('a', np.zeros((1, 2, 3), np.uint8), x, None, x_limits=(0.0, 50.0))
    minmax = load_card(write_card(x={'kind': 'dsm', 'mean': [0.0], 'std': [1.0],
                                     'normalization': 'minmax'}))
    assert limits_of(sample, minmax) == (0.0, 50.0)
    assert limits_of(replace(sample, x_limits=None), minmax) == (3.0, 4.0)
