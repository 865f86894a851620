# Copyright 2026 rgbx_seg_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""Batches for training: every sample once a pass, shared out, and the same whoever makes them."""

from dataclasses import replace
import multiprocessing
import os
import shlex
import shutil
import signal
import subprocess
import sys

import cv2
from hypothesis import given, settings
from hypothesis import strategies as st
import numpy as np
import pytest
from rgbx_seg_ros.cards.card import Card, load_card, RgbInput, XInput
from rgbx_seg_ros.cards.labels import LabelClass
from rgbx_seg_ros.datasets import FolderDataset, Sample
from rgbx_seg_ros.distributed import Processes
from rgbx_seg_ros.engines.graph import Normalize, SegmentationGraph, to_batch
from rgbx_seg_ros.errors import DataError
from rgbx_seg_ros.frames.raw import X_TYPES
from rgbx_seg_ros.networks import Network
from rgbx_seg_ros.training.augment import Augment
from rgbx_seg_ros.training.config import TrainConfig
from rgbx_seg_ros.training.data import Crops, limits_of, load_parts, Plan, Stream
import torch
import yaml

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


def test_workers_come_from_this_process_and_not_from_the_working_folder(
        crops, tmp_path, monkeypatch):
    (tmp_path / 'multiprocessing.py').write_text(f"open({str(tmp_path / 'trace')!r}, 'w')")
    monkeypatch.chdir(tmp_path)
    multiprocessing.set_start_method('forkserver', force=True)  # as it is from Python 3.14 on
    try:
        assert next(load_parts(crops, plan(workers=1, epochs=1), 0))
    finally:
        multiprocessing.set_start_method(None, force=True)
    assert not (tmp_path / 'trace').exists()


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


class Fatal:
    """Samples whose second one ends the worker that reads it."""

    def __init__(self, samples, signal_number):
        self.samples, self.signal_number = samples, signal_number

    def __getitem__(self, index):
        if index == 1:
            os.kill(os.getpid(), self.signal_number)
        return self.samples[index]


@pytest.mark.timeout(120)
@pytest.mark.parametrize('signal_number', [signal.SIGKILL, signal.SIGBUS])
def test_a_worker_that_was_killed_is_told_in_one_line_with_what_helps(crops, signal_number):
    crops.samples = Fatal(crops.samples, signal_number)
    with pytest.raises(DataError, match='^workers is 1, and one failed as for want of memory, .* '
                       r'\(DataLoader worker .*\): set workers to 0 .* --shm-size') as error:
        [*load_parts(crops, plan(workers=1, epochs=1), 0)]
    assert '\n' not in str(error.value)


LITTLE = """
import sys
sys.path[:0] = {path!r}
from rgbx_seg_ros.__main__ import main
sys.argv = {words!r}
sys.exit(main())
"""


@pytest.mark.skipif(subprocess.run(['unshare', '-m', 'true'], stderr=subprocess.DEVNULL).returncode
                    if shutil.which('unshare') else True, reason='may not mount a small /dev/shm')
def test_batches_that_do_not_fit_into_shared_memory_are_told_in_one_line(
        tmp_path, write_frames, write_card):
    recipe = tmp_path / 'recipe.yaml'
    recipe.write_text(yaml.safe_dump({
        'card': str(write_card()), 'batch_size': 4, 'workers': 2,
        'augment': {'crop': [256, 384], 'scale': [3.0, 4.0]}}))
    words = ['rgbx-seg', 'train', recipe, '--data', write_frames(tmp_path / 'data'), '--out',
             tmp_path / 'out', '--device', 'cpu']
    script = tmp_path / 'run.py'
    script.write_text(LITTLE.format(path=sys.path, words=[*map(str, words)]))
    run = subprocess.run(
        ['unshare', '-m', 'sh', '-c', 'mount -t tmpfs -o size=1m tmpfs /dev/shm && exec '
         f'{shlex.quote(sys.executable)} {shlex.quote(str(script))}'],
        capture_output=True, text=True, timeout=240)
    assert run.returncode == 2
    *warned, line = run.stderr.splitlines()
    assert line.startswith('rgbx-seg: error: workers is 2, and one failed as for want of ')
    assert 'set workers to 0' in line and '--shm-size' in line
    assert all('will create 2 worker' in warning for warning in warned)
    assert not warned or len(os.sched_getaffinity(0)) == 1, 'PyTorch warns of more than the cores'


def test_another_error_of_a_worker_stays_what_it_is(crops, monkeypatch):
    monkeypatch.setattr(Augment, '__call__', lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        [*load_parts(crops, plan(workers=1, epochs=1), 0)]


def test_a_sample_looks_different_at_another_place(crops):
    images = [crops[0, place, 3][0].tobytes() for place in (0, 1, 1)]
    assert images[0] != images[1] == images[2]
    assert crops[1, 0, 3][0].tobytes() != images[0]


def test_the_frame_before_its_colours_were_changed_comes_along_where_it_is_needed(crops):
    assert len(crops[0, 0, 0]) == 3
    crops.needs_frame = True
    rgb, _, _, frame = crops[0, 0, 0]
    assert frame.shape == rgb.shape and not np.array_equal(frame, rgb)
    assert np.array_equal(rgb, Crops.__getitem__(crops, (0, 0, 0))[0])


def test_a_piece_of_an_image_has_the_range_of_the_whole(write_card):
    x = np.float32([[3, 4]])
    sample = Sample('a', np.zeros((1, 2, 3), np.uint8), x, None, x_limits=(0.0, 50.0))
    minmax = load_card(write_card(x={'kind': 'dsm', 'mean': [0.0], 'std': [1.0],
                                     'normalization': 'minmax'}))
    assert limits_of(sample, minmax) == (0.0, 50.0)
    assert limits_of(replace(sample, x_limits=None), minmax) == (3.0, 4.0)


def test_the_order_of_an_epoch_its_changes_and_its_dropout_are_drawn_apart(crops, monkeypatch):
    states = [stream.of(seed, *where).generate_state(4).tobytes() for stream in Stream
              for seed in (0, 1) for where in ((0, 0), (0, 1), (1, 0), (1, 1), (0,), (1,))]
    assert len({*states}) == len(states)
    drawn = []
    monkeypatch.setattr(Augment, '__call__', lambda _, sample, rng, prepare: drawn.append(
        rng.permutation(9).tolist()))
    for epoch in range(3):
        for place in range(3):
            crops[epoch, place, 0]
    orders = [plan().order(epoch).tolist()[:8] for epoch in range(3)]
    assert not [order for order in orders if order in [changes[:8] for changes in drawn]]
    assert len({*map(tuple, drawn)}) == 9


class Recorder(Network):
    """Keeps its inputs."""

    def forward(self, rgb, x):
        self.inputs = rgb, x
        return torch.zeros(len(rgb), 2, *rgb.shape[2:])


SIDES = st.integers(33, 230)
STANDARD = ((0.5, 0.4, 0.3), (0.2, 0.25, 0.3))
CLASSES = (LabelClass(0, 'road', (0, 0, 0)), LabelClass(1, 'hole', (1, 1, 1)))


@st.composite
def pairs(draw):
    """Draw a card and a sample for it: X of any type and size, with holes."""
    x_type, channels = draw(st.sampled_from(X_TYPES)), draw(st.sampled_from(((), (1,), (3,))))
    normalization = draw(st.sampled_from(('auto', 'fixed', 'minmax', 'percentile')))
    rgb_size, x_size = (draw(st.tuples(SIDES, SIDES)) for _ in range(2))
    rng = np.random.default_rng(draw(st.integers(0, 9)))
    rgb = rng.integers(0, 256, (*rgb_size, 3), np.uint8)
    x = rng.integers(1, 250, (*x_size, *channels)).astype(x_type)
    holes = rng.random(x.shape) < draw(st.sampled_from((0.0, 0.05, 0.6)))
    x[holes] = np.nan if x_type == np.float32 else 0
    takes = draw(st.sampled_from((1, 3)))
    card = Card('a', 'b', 'mini', CLASSES, (64, 96), RgbInput(*STANDARD), XInput(
        'depth', *(values[:takes] for values in STANDARD), normalization, invalid=0.0,
        range=(20.0, 180.0) if normalization == 'fixed' else None))
    return card, Sample('a', rgb, x, np.zeros(rgb_size, np.uint8))


@settings(deadline=None, max_examples=80)
@given(pairs())
def test_a_frame_at_any_scale_is_what_the_vehicle_makes_of_it(pair):
    card, sample = pair
    size = sample.rgb.shape[:2]
    scale = min(64 / size[0], 96 / size[1])
    plain = Augment((64, 96), scale=(scale, scale), log_scale=False, flip=0.0, jitter=0.0,
                    blank=0.0, anchor=0.0)
    crops = Crops([sample], replace(CONFIG, augment=plain), card)
    rgb, x, _ = map(torch.from_numpy, crops[0, 0, 0])
    trained = Normalize(card).standardize(rgb[None], x[None].permute(0, 3, 1, 2))
    network = Recorder()
    SegmentationGraph(network, card)(
        to_batch(sample.rgb), to_batch(sample.x), torch.tensor([limits_of(sample, card)]),
        torch.ones(1, 2))
    height, width = (round(side * scale) for side in size)
    for ours, theirs, level in zip(trained, network.inputs, (1.01 / 255 / 0.2, 2e-5), strict=True):
        shown = theirs[..., :height, :width]
        torch.testing.assert_close(ours[..., :height, :width].expand_as(shown), shown,
                                   rtol=0, atol=level)


@pytest.mark.parametrize('invalid', [0.0, 255.0])
def test_holes_of_x_do_not_grow_and_what_lies_outside_is_filled_like_a_frame(write_card, invalid):
    card = load_card(write_card(x={
        'kind': 'depth', 'mean': [0.0], 'std': [1.0], 'normalization': 'fixed',
        'range': [100, 200], 'invalid': invalid}))
    x = np.full((80, 120), 200, np.uint8)
    x[::4, ::5] = invalid
    sample = Sample('a', np.zeros((80, 120, 3), np.uint8), x, np.zeros((80, 120), np.uint8))
    for scale in (0.5, 0.7, 1.5):
        augment = Augment((130, 192), scale=(scale, scale), rotate=10.0, fill_x=255.0, blank=0.0)
        _, x, label = Crops([sample], replace(CONFIG, augment=augment), card)[0, 0, 0]
        inside = cv2.erode(np.uint8(label == 0), np.ones((5, 5)), borderValue=0) > 0
        assert (1 - x[inside]).mean() == pytest.approx(1 / 20, abs=0.01)
        outside = cv2.dilate(np.uint8(label == 0), np.ones((5, 5))) == 0
        assert outside.any() and (x[outside] == (invalid == 0.0)).all()


@pytest.mark.parametrize('takes', [1, 3])
def test_frames_of_x_of_other_types_and_channels_share_a_batch(tmp_path, write_frames, write_card,
                                                               takes):
    data = write_frames(tmp_path / 'data', 4)
    paths = sorted((data / 'thermal').iterdir())
    plain = cv2.imread(str(paths[0]), cv2.IMREAD_UNCHANGED)
    for path, x in zip(paths, (plain, plain.astype(np.uint16) * 100, cv2.merge([plain] * 3),
                               np.float32(plain)), strict=True):
        path.unlink()
        cv2.imwrite(str(path.with_suffix('.tif')), x)
    card = load_card(write_card(x={'kind': 'thermal', 'mean': [0.0] * takes, 'std': [1.0] * takes,
                                   'normalization': 'minmax'}))
    augment = Augment((64, 96), scale=(1.0, 1.0), flip=0.0, jitter=0.0, blank=0.0)
    crops = Crops(FolderDataset(data), replace(CONFIG, augment=augment), card)
    (_, x, _), = next(load_parts(crops, plan(4, epochs=1), 0))
    assert x.shape == (4, 64, 96, 3 if takes == 3 else 1)
    for other in x[1:]:
        torch.testing.assert_close(other, x[0], rtol=0, atol=1e-6)
