# Copyright 2026 rgbx_seg_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""Models and engines side by side: who runs when, and what is told of it."""

import json
import re
import warnings

import cv2
import numpy as np
import pytest
from rgbx_seg_ros.benchmark import benchmark, roofline
from rgbx_seg_ros.benchmark.benchmark import (
    load_pairs,
    network_card,
    open_segmenter,
    percentiles,
    turns,
    with_weights,
)
from rgbx_seg_ros.benchmark.page import page
from rgbx_seg_ros.benchmark.stages import Footprint
from rgbx_seg_ros.cards.card import load_card
from rgbx_seg_ros.engines import ENGINES
from rgbx_seg_ros.engines.cache import cache_dir
from rgbx_seg_ros.errors import ParameterError
from rgbx_seg_ros.inference.segmenter import Segmenter
from rgbx_seg_ros.networks import NETWORKS
from rgbx_seg_ros.networks.ms_irtnet import MSIRTNet
from support.stand_ins import StandIn
import torch

CPU = torch.device('cpu')


@pytest.fixture
def quick(monkeypatch):
    """Leave out what takes seconds and has its own tests: peaks of the device, memory."""
    monkeypatch.setitem(roofline._SIDE, 'cpu', 128)
    monkeypatch.setitem(roofline._COPIED, 'cpu', 1 << 20)
    monkeypatch.setattr(benchmark, 'measure_footprint', lambda *_: Footprint(100.0, 345.6))


@pytest.fixture
def frames(tmp_path, write_frames):
    return write_frames(tmp_path / 'frames', 3)


@pytest.fixture
def run(quick, frames, command, tmp_path):
    """Return a function that runs the command on small frames: what it prints, its JSON file."""
    def run(*arguments):
        file = tmp_path / 'all.json'
        code, out, err = command('benchmark', '--data', frames, '--json', file, '--device', 'cpu',
                                 '--frames', 2, *arguments)
        assert code == 0, err
        facts = json.loads(file.read_text())
        assert facts.pop('format') == 1
        return out, facts, err
    return run


def cells(out, engine):
    line, = (line for line in out.splitlines() if line.split(' ')[0] == engine)
    return line.split()


def test_percentiles_are_those_of_the_values():
    assert percentiles(range(101)) == {50: 50, 95: 95, 99: 99}
    assert percentiles([3.0, 1.0]) == {50: 2.0, 95: 2.9, 99: 2.98}


def test_all_run_one_frame_before_one_runs_the_next():
    assert [*turns('ab', [1, 2, 3], 4, 'frames')] == [
        ('a', 1), ('b', 1), ('a', 2), ('b', 2), ('a', 3), ('b', 3), ('a', 1), ('b', 1)]


def test_engines_take_turns_on_every_frame_that_is_timed(run, tiny_card, monkeypatch):
    calls = []
    inner = Segmenter.__call__

    def noted(self, rgb, x):
        calls.append((type(self.engine).__name__, rgb.tobytes()))
        return inner(self, rgb, x)
    monkeypatch.setattr(Segmenter, '__call__', noted)
    run('--model', tiny_card, '--frames', 7)
    plain, torch_ = 'PlainEngine', 'TorchEngine'
    rounds, staged, watched = calls[:16], calls[16:26], calls[26:]
    assert [name for name, _ in rounds] == [plain, torch_] * 8, 'one of them to warm up'
    for turns_ in (staged, watched):
        assert [name for name, _ in turns_] == [plain, torch_] * 5
    assert all(first[1] == second[1] for first, second in zip(rounds[::2], rounds[1::2],
                                                              strict=True))
    assert len({frame for _, frame in rounds}) == 3


def test_the_file_holds_what_was_measured_and_what_follows(run, tiny_card):
    out, facts, _ = run('--model', tiny_card, '--engine', 'torch', 'torch_bf16', '--frames', '4')
    assert facts['command'].startswith('rgbx-seg benchmark --data')
    assert facts['versions']['torch'] == torch.__version__
    assert facts['cpu'] and facts['threads'] == torch.get_num_threads()
    assert facts['frame_kind'] == '96x64 RGB with 96x64 X of uint8'
    assert [row['engine'] for row in facts['rows']] == ['plain', 'torch', 'torch_bf16']
    for row in facts['rows']:
        latency = row['latency_ms']
        assert len(latency) == len(row['all_stages_ms']) == 4 and min(latency) > 0
        assert row['p50_ms'] == pytest.approx(np.median(latency))
        assert row['p50_ms'] <= row['p95_ms'] <= row['p99_ms'] <= max(latency)
        assert row['frames_per_s'] == pytest.approx(4000 / sum(latency))
        assert row['longest_wait_ms'] == max(row['all_waits_ms']) > 0
        assert len(row['all_waits_ms']) == 4
        network_ms = np.median([one['network'] for one in row['all_stages_ms']])
        assert row['stages_ms']['network'] == pytest.approx(network_ms)
        assert row['roof_share'] == pytest.approx(row['roof_ms'] / network_ms)
        kind = row['runs_on'].split()[-1]
        size = row['parameters'] * (2 if kind == 'bfloat16' else 4) + 64 * 96 * 6
        assert row['roof_ms'] == pytest.approx(1e3 * max(
            2 * row['macs'] / facts['peak_flops'][kind], size / facts['peak_bytes_per_s']))
        assert row['memory_mb'] == {'before': 100.0, 'peak': 345.6}
        assert row['ready_s'] > 0
    assert facts['rows'][1]['macs'] < facts['rows'][0]['macs'], 'plain is not folded'
    assert page(facts) + '\n' == out, 'what is printed can be made again of the file'


def test_what_hides_its_parts_has_a_roof_all_the_same(quick, frames, tiny_card, monkeypatch):
    monkeypatch.setattr(benchmark, 'time_stages', lambda *_: None)  # as with a CUDA graph
    facts = benchmark.compare([load_card(tiny_card)], ['torch'], load_pairs(frames, 1), 1, CPU,
                              weighs=False).facts()
    for row in facts['rows']:
        assert row['roof_ms'] > 0
        assert row['roof_share'] is row['stages_ms'] is row['memory_mb'] is None


def test_the_table_says_the_same_in_80_columns(run, tiny_card):
    out, facts, _ = run('--model', tiny_card)
    assert max(map(len, out.splitlines())) <= 80
    plain, torch_ = facts['rows']
    assert cells(out, 'plain')[-1] == '1.00'
    found = dict(zip(cells(out, 'engine'), cells(out, 'torch'), strict=True))
    assert float(found['p50']) == pytest.approx(torch_['p50_ms'], rel=0.01)
    assert float(found['net']) == pytest.approx(torch_['stages_ms']['network'], rel=0.01)
    assert found['MB'] == '346'
    assert float(found['ratio']) == pytest.approx(torch_['p50_ms'] / plain['p50_ms'], abs=0.006)
    line, = (line for line in out.splitlines() if line.startswith('longest wait of another thr'))
    assert re.fullmatch(r'longest wait of another thread: plain [\d.]+, torch [\d.]+', line)
    assert 'tiny: ms_irtnet at 96x64' in out and 'random' not in out


def test_a_table_of_large_numbers_keeps_to_80_columns(run, tiny_card):
    _, facts, _ = run('--model', tiny_card, '--engine', 'torch', 'torch_bf16')
    for row in facts['rows']:
        row.update(p50_ms=98765.4, p95_ms=98765.4, p99_ms=98765.4, frames_per_s=0.01,
                   macs=1234 * 10 ** 9, memory_mb={'before': 400.0, 'peak': 12345.6},
                   stages_ms={'pre': 999.4, 'network': 98765.4, 'post': 123.4, 'copy': 12.34})
    text = page(facts)
    assert '98765' in text
    assert max(map(len, text.splitlines())) <= 80


def test_the_plain_engine_gives_the_same_masks_with_nothing_folded(tiny_card):
    card = load_card(tiny_card)
    pair = np.random.default_rng(0).integers(0, 256, (64, 96, 3), np.uint8)
    plain, folded = (open_segmenter(card, name, CPU) for name in ('plain', 'torch'))
    assert any(isinstance(part, torch.nn.BatchNorm2d) for part in plain.engine.network.modules())
    assert np.array_equal(plain(pair, pair).mask, folded(pair, pair).mask)


class Background(StandIn):
    """An engine that makes something behind the first frames, or fails to."""

    def __init__(self, card, device):
        self._torch = ENGINES['torch'](card, device)
        self.network, self.calls = self._torch.network, 0

    def __call__(self, *pair):
        self.calls += 1
        return self._torch(*pair)

    def ready_kinds(self):
        return []

    def settle(self, timeout_s=None):
        assert self.calls >= 2, 'it has not begun'
        return self.works


@pytest.mark.parametrize('works', [True, False])
def test_an_engine_that_cannot_be_looked_into_is_timed_as_a_whole(
        works, run, tiny_card, monkeypatch):
    monkeypatch.setitem(ENGINES, 'background', type('Late', (Background,), {'works': works}))
    out, facts, _ = run('--model', tiny_card, '--engine', 'background')
    row = facts['rows'][1]
    assert row['p50_ms'] > 0
    assert row['stages_ms'] is row['roof_ms'] is row['roof_share'] is None
    assert cells(out, 'background')[5:9] == ['-'] * 4
    assert (cells(out, 'background')[9] == '-') == (not works)
    assert ('background: PyTorch ran it' in out) == (not works)


class Small(MSIRTNet):
    """A network whose published arguments are small."""

    def __init__(self, num_classes):
        super().__init__(num_classes, backbone='atto', decoder_width=16, gwim_ratio=0.5)


def test_networks_run_with_random_weights_at_the_size_of_the_frames(run, monkeypatch):
    monkeypatch.setitem(NETWORKS, 'small', Small)
    out, facts, err = run('small', '--size', 32, 64)
    assert [row['input_size'] for row in facts['rows']] == [[32, 64]] * 2
    parameters = sum(values.numel() for values in Small(9).parameters())
    assert f'small: small at 64x32, {parameters / 1e6:.2f} M parameters, random weights' in out
    assert err == ''


def test_without_a_name_all_networks_run_and_with_a_model_it_alone(quick, monkeypatch, command):
    chosen = []

    def compare(cards, *_):
        chosen.append([card.name for card in cards])
        raise ParameterError('enough')
    monkeypatch.setattr(benchmark, 'compare', compare)
    for arguments in ([], ['--model', 'potholes'], ['mddg', '--model', 'potholes']):
        command('benchmark', *arguments)
    assert chosen == [[*NETWORKS], ['potholes'], ['mddg', 'potholes']]


def test_a_card_of_a_network_has_its_classes_and_channels():
    card = network_card('ms2mnet', (32, 64))
    assert (len(card.classes), len(card.x.mean), card.input_size) == (9, 1, (32, 64))


def test_engines_that_make_files_get_random_weights_for_as_long_as_it_takes(tmp_path, monkeypatch):
    monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path))
    bare = network_card('ms2mnet', (32, 64))
    with with_weights([bare], ['torch']) as cards:
        assert cards == [bare]
    with with_weights([bare], ['torch', 'compiled']) as (card,):
        assert card.weights_path.is_file()
        assert not cache_dir().is_relative_to(tmp_path)
    assert not card.weights_path.exists()
    assert cache_dir().is_relative_to(tmp_path)


def test_cards_without_weights_run_with_one_warning(run, write_card, tiny_card, tmp_path):
    path = write_card(name='bare').rename(tmp_path / 'bare.yaml')
    lost = tmp_path / 'lost.yaml'
    lost.write_text(tiny_card.read_text().replace('tiny', 'lost'))
    with pytest.warns(UserWarning, match='no weights on disk for bare, lost: random') as said:
        out, facts, _ = run('--model', path, tiny_card, lost)
    assert len(said) == 1
    assert [row['random_weights'] for row in facts['rows']] == [True, True, False, False,
                                                                True, True]
    assert out.count('random weights\n') == 2


def test_frames_are_brought_to_one_size_without_new_values(tmp_path, write_frames):
    root = write_frames(tmp_path / 'frames', 3, x_folder='depth', x_type=np.uint16)
    small = np.full((30, 40), 7777, np.uint16)
    cv2.imwrite(str(root / 'depth' / 'a1.png'), small)
    (rgb, _), (_, x) = load_pairs(root, 2)
    assert (rgb.shape, x.shape, set(np.unique(x))) == ((64, 96, 3), (64, 96), {7777})
    assert [frame.shape for frame in load_pairs(root, 1, (20, 30))[0]] == [(20, 30, 3), (20, 30)]


@pytest.mark.long
def test_the_memory_of_each_row_is_that_of_a_process_of_its_own(
        tiny_card, frames, command, monkeypatch):
    monkeypatch.setitem(roofline._SIDE, 'cpu', 128)
    monkeypatch.setitem(roofline._COPIED, 'cpu', 1 << 20)
    with warnings.catch_warnings():
        warnings.simplefilter('error')
        code, out, _ = command('benchmark', '--model', tiny_card, '--data', frames,
                               '--frames', 1, '--device', 'cpu')
    assert code == 0
    for engine in ('plain', 'torch'):
        assert 150 < int(cells(out, engine)[9]) < 2000


@pytest.mark.parametrize(('arguments', 'said'), [
    (['nothing'], "network is 'nothing', allowed are:"),
    (['--model', 'pothole'], "model 'pothole' is unknown; did you mean 'potholes'"),
    (['--engine', 'troch'], "engine 'troch' is unknown; did you mean 'torch'"),
    (['ms_irtnet', '--frames', '0'], 'frames is 0, needed is at least 1'),
    (['ms_irtnet', '--size', '0', '64'], 'size is [0, 64], needed are height and width'),
    (['ms_irtnet', '--size', '64', '65'], 'must be multiples of 32'),
    (['ms_irtnet', '--device', 'gpu'], "device is 'gpu', allowed are"),
    (['ms_irtnet', '--data', 'nowhere'], "'nowhere'"),
    (['ms_irtnet', '--json', 'nowhere/file'], "cannot write 'nowhere/file'"),
])
def test_what_cannot_be_measured_is_told_in_one_line(arguments, said, command):
    code, out, err = command('benchmark', *arguments)
    assert (code, out) == (2, '')
    assert said in err
    assert err.count('\n') == 1
