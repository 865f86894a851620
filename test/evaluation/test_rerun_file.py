# Copyright 2026 rgbx_seg_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""Recordings for the viewer Rerun, read back with its own reader."""

from collections import defaultdict
from contextlib import nullcontext
import json
import resource
import signal
import subprocess
import sys

import cv2
import numpy as np
import pytest
from rgbx_seg_ros.cards.card import load_card
from rgbx_seg_ros.cards.labels import UNLABELED
from rgbx_seg_ros.datasets import Sample
from rgbx_seg_ros.distributed import Processes
from rgbx_seg_ros.errors import DataError
from rgbx_seg_ros.evaluation.frame_scores import FrameScore
from rgbx_seg_ros.evaluation.rerun_file import FRAME, RerunFile
from rgbx_seg_ros.inference.segmenter import Segmenter
from support.fleets import write_fleet
from support.replay_bags import (
    Engine,
    label_message,
    PERIOD_NS,
    rgb_message,
    START_NS,
    write_bag,
    write_pairs,
    x_message,
)

H, W = 64, 96
_NEEDS = "needs pip install 'rgbx_seg_ros[rerun]'"


def rows(path):
    """Return the values of each component by entity and place, None for what always holds."""
    reader = pytest.importorskip('rerun.chunk', reason=_NEEDS).RrdReader(path)
    found = defaultdict(dict)
    for chunk in reader.stream():
        batch = chunk.to_record_batch()
        places = [name for name in chunk.timeline_names if name in ('frame', 'stamp')]
        times = (batch.column(places[0]).cast('int64').to_pylist() if places
                 else [None] * batch.num_rows)
        for name in batch.schema.names:
            if ':' in name:
                for when, value in zip(times, batch.column(name).to_pylist(), strict=True):
                    found[chunk.entity_path, name.partition(':')[2]][when] = value
    return found


def pixels(found, entity, when):
    """Return a picture that was recorded, in RGB."""
    if (entity, 'blob') in found:
        picture = cv2.imdecode(np.uint8(found[entity, 'blob'][when][0]), cv2.IMREAD_UNCHANGED)
        return picture if picture.ndim == 2 else picture[..., ::-1]
    return np.uint8(found[entity, 'buffer'][when][0]).reshape(H, W)


@pytest.fixture
def rerun():
    return pytest.importorskip('rerun', reason=_NEEDS)


@pytest.fixture
def segmenter(tiny_card, monkeypatch):
    """Return a model whose masks and confidence show both inputs, also for commands."""
    segmenter = Segmenter(load_card(tiny_card), Engine())
    for module in ('evaluation.evaluate', 'replay.command'):
        monkeypatch.setattr(f'rgbx_seg_ros.{module}.Segmenter.from_parameters',
                            lambda parameters: segmenter)
    return segmenter


@pytest.fixture
def pairs(tmp_path):
    """Return a folder of two pairs of plain colours, the first one with a label."""
    for name in ('rgb', 'thermal', 'label'):
        (tmp_path / 'pairs' / name).mkdir(parents=True)
    for i in range(2):
        rgb = np.full((H, W, 3), (200, 100, 10 + 100 * i), np.uint8)
        x = np.zeros((H, W), np.uint8)
        x[:, :W // 2] = 255
        label = np.zeros((H, W), np.uint8)
        label[:H // 2], label[:8] = 2, UNLABELED
        cv2.imwrite(str(tmp_path / f'pairs/rgb/{i}.png'), rgb[..., ::-1])
        cv2.imwrite(str(tmp_path / f'pairs/thermal/{i}.png'), x)
        if i == 0:
            cv2.imwrite(str(tmp_path / f'pairs/label/{i}.png'), label)
    return tmp_path / 'pairs'


def test_frames_of_a_data_set_lie_there_with_masks_labels_and_scores(
        rerun, segmenter, pairs, tiny_card, command, tmp_path):
    path, scores = tmp_path / 'run.rrd', tmp_path / 'run.json'
    code, _, err = command('evaluate', '--model', tiny_card, '--data', pairs, '--disagreement',
                           '--rerun', path, '--json', scores)
    assert code == 0, err
    found = rows(path)
    assert [found['/name', 'text'][i] for i in (0, 1)] == [['0'], ['1']]
    for i in (0, 1):
        assert np.abs(pixels(found, '/rgb', i) - np.float32((200, 100, 10 + 100 * i))).max() < 8
        x = pixels(found, '/x', i)
        assert (x[:, :40] > 245).all() and (x[:, 56:] < 10).all()
        assert (pixels(found, '/mask', i)[:, :48] == 2).all()
        assert np.abs(pixels(found, '/confidence', i) - 200.0).max() < 8
    truth = pixels(found, '/truth', 0)
    assert (truth[:8] == UNLABELED).all() and (truth[8:32] == 2).all() and not truth[32:].any()
    facts = json.loads(scores.read_text())
    for frame in facts['frames']:
        told = [frame[name] for name in ('unlabeled', 'confidence', 'disagreement')]
        np.testing.assert_allclose(found['/scores', 'scalars'][frame['index']], told)
        assert found['/ms', 'scalars'][frame['index']] == [frame['ms']]
    assert found['/scores', 'names'][None] == [
        'unlabeled_share', 'mean_confidence', 'disagreement']
    # 24 of the upper 32 rows are labelled 2, and the mask says so of the left half.
    hits, union = 24 * 48, 24 * 96 + 32 * 48  # and there, of the lower rows too
    [ious] = found['/iou', 'scalars'].values()  # frame 1 has no label
    np.testing.assert_allclose(ious, [facts['mean_iou'], 32 * 48 / (32 * 96 + 24 * 48), np.nan,
                                      hits / union])
    assert found['/iou', 'names'][None] == ['mean', 'background', 'car', 'person']
    [classes] = found['/', 'context'][None]
    told = {one['class_id']: one['class_description']['info'] for one in classes}
    assert {i: info['label'] for i, info in told.items()} == {
        0: 'background', 1: 'car', 2: 'person', UNLABELED: 'unlabeled'}
    assert told[1]['color'] == 0x1e78ffff
    reader = sys.modules['rerun.chunk'].RrdReader(path)
    assert [one.application_id for one in (*reader.recordings(), *reader.blueprints())] == [
        'rgbx_seg_ros'] * 2
    subprocess.run([sys.executable, '-m', 'rerun', 'rrd', 'verify', path], check=True)


@pytest.mark.parametrize('label_first', [False, True])
def test_frames_of_a_bag_lie_at_their_stamps(rerun, segmenter, tiny_card, command, tmp_path,
                                             label_first):
    messages = []
    for i in range(2):
        pair = [('/rgb/image', rgb_message(i)), ('/x/image', x_message(i, 4_000_000))]
        label = [('/ground_truth/mask', label_message(i))]
        messages += label + pair if label_first else pair + label
    bag, path = write_bag(tmp_path / 'bag', messages), tmp_path / 'run.rrd'
    scores = tmp_path / 'run.json'
    code, _, err = command('replay', bag, '--model', tiny_card, '--rerun', path, '--json', scores)
    assert code == 0, err
    found, stamps = rows(path), [START_NS, START_NS + PERIOD_NS]
    for entity in ('/rgb', '/x', '/confidence'):
        assert [*found[entity, 'blob']] == stamps
    for entity in ('/mask', '/truth'):
        assert [*found[entity, 'buffer']] == stamps
    frames = json.loads(scores.read_text())['frames']
    assert [found['/ms', 'scalars'][stamp] for stamp in stamps] == [
        [frame['ms'], pytest.approx(4.0)] for frame in frames]
    assert found['/ms', 'names'][None] == ['inference', 'X minus RGB']
    assert [found['/iou', 'scalars'][stamp][0] for stamp in stamps] == [
        frame['mean_iou'] for frame in frames]
    np.testing.assert_array_equal(
        np.uint8(found['/truth', 'buffer'][stamps[1]][0]).reshape(12, 16),
        np.frombuffer(label_message(1).data, np.uint8).reshape(12, 16))


def test_a_recording_of_the_program_is_written_over_and_no_other(
        rerun, segmenter, pairs, tiny_card, command, tmp_path):
    path = tmp_path / 'run.rrd'
    arguments = 'evaluate', '--model', tiny_card, '--data', pairs, '--rerun', path
    for _ in range(2):
        assert command(*arguments)[0] == 0
    stream = rerun.RecordingStream('of_a_user')
    stream.save(path)
    stream.log('x', rerun.Scalars([1.0]))
    stream.disconnect()
    before = path.read_bytes()
    code, _, err = command(*arguments)
    assert code == 2 and 'exists already' in err and path.read_bytes() == before


def frames(count):
    """Yield the arguments of `RerunFile.add` for so many frames of noise."""
    rng = np.random.default_rng(0)
    for i in range(count):
        rgb = rng.integers(0, 256, (H, W, 3), np.uint8)
        mask = np.zeros((H, W), np.uint8)
        yield i, Sample(str(i), rgb, rgb[..., 0], None), mask, mask, FrameScore(
            i, str(i), np.nan, 1.0, None, 0.0, 0.5, {})


def test_what_came_before_an_interrupt_is_whole(rerun, segmenter, tmp_path):
    path = tmp_path / 'run.rrd'
    with pytest.raises(KeyboardInterrupt), RerunFile(
            path, 'run', segmenter.labels, segmenter.x, FRAME, False) as recording:
        assert not path.exists()  # nothing is lost where nothing comes
        for frame in frames(13):
            recording.add(*frame)
        raise KeyboardInterrupt
    assert [*rows(path)['/mask', 'buffer']] == [*range(13)]
    subprocess.run([sys.executable, '-m', 'rerun', 'rrd', 'verify', path], check=True)


def test_frames_do_not_wait_in_memory_until_the_end(rerun, segmenter, tmp_path):
    path = tmp_path / 'run.rrd'
    with RerunFile(path, 'run', segmenter.labels, segmenter.x, FRAME, False) as recording:
        sizes = [0]
        for number, frame in enumerate(frames(40), 1):
            recording.add(*frame)
            if number % 10 == 0:
                sizes.append(path.stat().st_size)
    assert (np.diff(sizes) > 10 * H * W).all()  # noise makes large pictures


def test_a_full_disk_is_told_in_one_line(rerun, segmenter, tmp_path):
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, limits[1]))
        with pytest.raises(DataError, match=r"cannot write '.*run\.rrd': "), RerunFile(
                tmp_path / 'run.rrd', 'run', segmenter.labels, segmenter.x, FRAME,
                False) as recording:
            for frame in frames(40):
                recording.add(*frame)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, handler)


def test_a_place_where_nothing_can_be_written_is_named(rerun, segmenter, tmp_path):
    with pytest.raises(DataError, match='cannot write .*: Is a directory'), RerunFile(
            tmp_path, 'run', segmenter.labels, segmenter.x, FRAME, False) as recording:
        recording.add(*next(frames(1)))


def test_where_the_environment_turns_rerun_off_that_is_told(rerun, segmenter, pairs, tiny_card,
                                                            command, tmp_path, monkeypatch):
    monkeypatch.setenv('RERUN', 'off')
    code, _, err = command('evaluate', '--model', tiny_card, '--data', pairs, '--rerun',
                           tmp_path / 'run.rrd')
    assert code == 2 and 'the environment variable RERUN turns Rerun off' in err


@pytest.mark.parametrize('verb', ['evaluate', 'replay'])
def test_without_rerun_the_command_says_how_to_get_it(verb, tmp_path, tiny_card, command,
                                                      monkeypatch):
    monkeypatch.setitem(sys.modules, 'rerun', None)
    given = ('--data', tmp_path) if verb == 'evaluate' else (write_pairs(tmp_path / 'bag'),)
    code, _, err = command(verb, *given, '--model', tiny_card, '--rerun', tmp_path / 'run.rrd')
    assert code == 2 and err.count('\n') == 1
    assert '--rerun needs the library rerun-sdk' in err
    assert "pip install 'rgbx_seg_ros[rerun]'" in err


def test_several_processes_are_refused(tmp_path, tiny_card, command, monkeypatch):
    monkeypatch.setattr('rgbx_seg_ros.evaluation.rerun_file.import_rerun', lambda: None)
    monkeypatch.setattr('rgbx_seg_ros.evaluation.evaluate.joined',
                        lambda device: nullcontext(Processes(0, 2, device)))
    code, _, err = command('evaluate', '--data', tmp_path, '--model', tiny_card, '--device', 'cpu',
                           '--rerun', tmp_path / 'run.rrd')
    assert code == 2 and 'of 2 processes each sees a part of the frames' in err


def test_several_bags_are_refused(tmp_path, tiny_card, command):
    code, _, err = command('replay', *write_fleet(tmp_path / 'bags', 'ab'), '--model', tiny_card,
                           '-o', tmp_path / 'out', '--rerun', tmp_path / 'run.rrd')
    assert code == 2 and err.count('\n') == 1 and 'a recording is of one bag' in err
    assert not (tmp_path / 'out').exists()
