# Copyright 2026 rgbx_seg_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""The check of a GPU: what it makes of checks that end in every way, and a rehearsal of it."""

import ctypes
import json
import os
from pathlib import Path
import re
import shutil
import signal
import subprocess
import sys
import time
from types import SimpleNamespace

import gpu_check
import numpy as np
import pytest
from rgbx_seg_ros.benchmark.rates import Run
from rgbx_seg_ros.cards.card import load_card
from rgbx_seg_ros.engines import ENGINES, torch_engine
from rgbx_seg_ros.errors import EngineError
from rgbx_seg_ros.networks import NETWORKS
from support.gpu import checks, exactness, machine, page, runner, speed
from support.gpu.dry import HostGraph
from support.gpu.runner import Found, Setting, SkipError
from support.pages import check_look, LOOKS, Page
import torch

ROOT = Path(__file__).resolve().parents[1]
DRY = Setting('cpu', True)


def run(registry, folder, *words):
    """Run checks in this process, and those in theirs; return the exit status and the JSON."""
    options = gpu_check.parse(['--out', str(folder), '--dry', *words])
    status = gpu_check.check(options, f'support.gpu.fakes:{registry}')
    return status, json.loads((folder / 'gpu_check.json').read_text())


@pytest.fixture(scope='module')
def ended(tmp_path_factory):
    """Return the folder, the status and the JSON of checks that end in every way."""
    folder = tmp_path_factory.mktemp('gpu') / 'new'
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(runner, '_GRACE_S', 0.2)
        patch.setattr(runner, '_DRY_PATIENCE', 1.0)
        return folder, *run('ends', folder, '--minutes', '10')


def row_of(facts, name):
    return next(row for row in facts['checks'] if row['name'] == name)


def without_paths(out, folder):
    """Return the lines of what was printed but the names of files, which are never broken."""
    return [line for line in out.splitlines() if str(folder) not in line]


@pytest.mark.parametrize(('name', 'status', 'reason'), [
    ('well', 'ok', ''),
    ('badly', 'failed', 'a mask is wrong; and another one'),
    ('raises', 'failed', 'ValueError: no such kernel'),
    ('missing', 'skipped', 'there is no TensorRT: install it'),
    ('hangs', 'failed', 'it was not done after 2 s'),
    ('dies', 'failed', 'its process was killed by SIGKILL, as when memory runs out'),
    ('exits', 'failed', 'its process ended with 7 and no answer'),
    ('late', 'skipped', r'\d+ s were left of 600, it needs 1000: see --minutes'),
    ('after', 'skipped', "it needs 'badly', which is failed"),
    ('still well', 'ok', ''),
])
def test_each_end_of_a_check_is_told_and_costs_only_that_one(name, status, reason, ended):
    row = row_of(ended[2], name)
    assert row['status'] == status
    assert re.fullmatch(reason, row['reason'])


def test_a_failing_check_keeps_its_figures_and_its_last_words(ended):
    *_, facts = ended
    badly = row_of(facts, 'badly')
    assert badly['figures'] == {'masks': 3} and badly['log'] == ['measured on cpu']
    assert row_of(facts, 'raises')['log'][-1] == 'ValueError: no such kernel'
    assert row_of(facts, 'well')['figures'] == {'device': 'cpu', 'dry': True}
    assert 'log' not in row_of(facts, 'well')


def test_what_a_check_has_started_ends_with_it(ended):
    child, = (line.split()[1] for line in row_of(ended[2], 'hangs')['log']
              if line.startswith('child '))
    end = time.monotonic() + 10
    while Path(f'/proc/{child}').exists() and _state(child) != 'Z':
        assert time.monotonic() < end, 'it lives on'
        time.sleep(0.01)


def _state(pid):
    return Path(f'/proc/{pid}/stat').read_text().rpartition(')')[2].split()[0]


def test_the_file_says_what_it_is_and_that_it_was_a_dry_run(ended):
    _, status, facts = ended
    assert status == 1
    assert facts['schema'] == 1 and facts['format'] == 1
    assert facts['dry_run'] and facts['finished'] and facts['note'] == page.DRY
    assert facts['limit_s'] == 600 and 0 < facts['seconds'] < 600
    assert {'version', 'commit', 'started', 'python', 'machine'} <= facts.keys()
    for row in facts['checks']:
        assert {'name', 'what', 'status', 'reason', 'seconds', 'limit_s', 'summary',
                'figures'} <= row.keys()


def test_without_a_failure_the_status_is_0_and_80_columns_say_so(tmp_path, capsys):
    status, _ = run('fine', tmp_path)
    out = capsys.readouterr().out
    assert status == 0
    assert '1 ok, 0 failed, 0 skipped of 1' in out
    assert out.count('A dry run, on a CPU') == 2
    assert max(map(len, without_paths(out, tmp_path))) <= 80


def test_an_end_at_any_time_leaves_what_is_known(tmp_path):
    code = ('import sys; sys.path[:0] = sys.argv[1:3]; import gpu_check; '
            "sys.exit(gpu_check.check(gpu_check.parse(['--dry', '--out', sys.argv[3]]), "
            "'support.gpu.fakes:endless'))")
    process = subprocess.Popen(
        [sys.executable, '-c', code, ROOT, ROOT / 'test', tmp_path], stdout=subprocess.PIPE,
        text=True, preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler))
    try:
        assert any(line.startswith('[ok] well') for line in process.stdout)
        known = json.loads((tmp_path / 'gpu_check.json').read_text())
        process.send_signal(signal.SIGTERM)
        said = process.communicate(timeout=60)[0]
    finally:
        process.kill()
    assert process.returncode == 130
    assert not known['finished']
    facts = json.loads((tmp_path / 'gpu_check.json').read_text())
    for found in (known, facts):
        assert [row['status'] for row in found['checks']] == ['ok', 'skipped', 'skipped']
        assert found['checks'][2]['reason'] == 'the run ended before it'
    assert not facts['finished'] and 'skipped: long, never' in said
    assert 'has not come to its end' in (tmp_path / 'gpu_check.html').read_text()


def test_with_the_time_up_the_check_that_runs_is_skipped_and_not_failed():
    assert runner._overdue(limit=60.0, left=20.0) == {
        'status': 'skipped',
        'reason': 'the time of the run was up after 20 of its 60 s: see --minutes'}


@pytest.mark.parametrize(('words', 'said'), [
    (['--minutes', '0'], 'minutes is 0.0, allowed is above 0'),
    (['--only', 'nonesuch'], "check is 'nonesuch', allowed are: well"),
])
def test_what_makes_no_sense_is_told(words, said, tmp_path, capsys):
    with pytest.raises(SystemExit) as end:
        run('fine', tmp_path, *words)
    assert said in f'{end.value} {capsys.readouterr().err}'


def test_a_file_of_somebody_else_stays_and_so_it_is_told(tmp_path, monkeypatch, capsys):
    (tmp_path / 'gpu_check.json').write_text('mine')
    monkeypatch.setattr(gpu_check, 'CHECKS', 'support.gpu.fakes:fine')
    assert gpu_check.main(['--dry', '--out', str(tmp_path)]) == 1
    assert 'is of no rgbx-seg command' in capsys.readouterr().err
    assert (tmp_path / 'gpu_check.json').read_text() == 'mine'


def test_a_python_that_lacks_packages_is_told_how_to_get_them(monkeypatch, capsys):
    monkeypatch.setitem(gpu_check.NEEDED, 'no_such_module', 'no-such-package')
    assert gpu_check.main(['--dry']) == 1
    said = capsys.readouterr().err
    assert 'lacks no-such-package' in said and '-m pip install --editable' in said


# The real checks


@pytest.mark.parametrize('dry', [False, True])
def test_every_network_engine_and_shipped_model_has_its_checks(dry):
    found = {check.name for check in checks.checks(Setting('cpu', dry))}
    assert sorted(checks.NETWORKS) == sorted(NETWORKS)
    assert {f'parity {name}' for name in NETWORKS} <= found
    assert {'machine', 'graphs', 'torch', 'soak', 'live', 'onnx CUDA', 'onnx TensorRT'} <= found
    assert {f'build {name}' for name in ENGINES if 'torch' not in name} <= found
    assert {name for name in ENGINES if 'compiled' in name} <= found
    shipped = {path.stem for path in (ROOT / 'models').glob('*.safetensors')}
    assert set(speed.MODELS) == shipped
    assert dry or {f'onnx CUDA, {name}' for name in speed.MODELS[1:]} <= found


def test_a_check_that_waits_for_another_comes_after_it():
    seen = set()
    for check in checks.checks(Setting()):
        assert check.after is None or check.after in seen, check.name
        assert check.needs_s <= check.limit_s
        seen.add(check.name)


def test_the_page_of_figures_can_be_looked_at(figures, tmp_path):
    page.write(tmp_path / 'page.html', figures)
    read = Page(tmp_path / 'page.html')
    assert not read.open and not read.links and 'script' not in read.tags
    for text in ('NVIDIA H200', '0.512', '1.2e-05', 'TensorRT 10'):
        assert any(text in cell for cell in read.cells), text


@pytest.mark.parametrize('look', LOOKS, ids=str)
def test_the_page_fits_and_can_be_read_in_a_browser(look, figures, browser, tmp_path):
    page.write(tmp_path / 'page.html', figures)
    check_look(browser, tmp_path / 'page.html', look)


@pytest.fixture
def figures():
    """Return facts of a run on a GPU that never was, with a check of every kind."""
    def row(name, status='ok', reason='', **figures):
        return {'name': name, 'what': name, 'status': status, 'reason': reason, 'seconds': 3.25,
                'limit_s': 60.0, 'summary': 'p50 2.5 ms', 'figures': figures,
                **({'log': ['<b>Traceback</b>']} if status == 'failed' else {})}
    times = {'model': 'm', 'engine': 'torch', 'p50_ms': 2.5, 'p95_ms': 2.6, 'p99_ms': 3.0,
             'replay_ms': 0.512, 'roof_ms': 0.1, 'frame_roof_share': 0.04, 'golden_iou': None,
             'difference': {'mask': 0.0002}, 'ready_s': 4.0, 'runs_on': 'cuda (NVIDIA H200)'}
    held = {'rss': 10 ** 9, 'threads': 9, 'descriptors': 30, 'cuda_allocated': 10 ** 8}
    gpu = {'name': 'NVIDIA H200', 'driver': '570.1', 'nvidia_smi': {'power.limit': '700.00 W'}}
    rows = [
        row('machine', gpu=gpu, board=None, versions={'tensorrt': 'TensorRT 10', 'rclpy': None},
            power_mode=['MAXN']),
        row('parity ms_irtnet', outputs=[
            {'case': 'c', 'output': 'logits', 'largest_difference': 1.2e-5, 'bound': 2e-3,
             'other_class': 0.0},
            {'case': 'c', 'output': 'fused', 'largest_difference': 1e-6, 'bound': 2e-3}],
            halves={'c float16': {'differ': 0.01, 'clear_share': 0.9, 'differ_of_clear': 0.0}}),
        row('graphs', graphs=[{'network': 'n', 'captured': 4, 'values_differing': 0,
                               'values_of_eager_differing': 0}]),
        row('torch', rows=[times], peak_flops={'float16': 7e14}, peak_bytes_per_s=4e12),
        row('build onnx', model='m', engine='onnx', seconds=9.0, file_bytes=10 ** 7),
        row('soak', frames=2000, readings=[held] * 5, growth=dict.fromkeys(held, 0),
            bounds={'rss': 10 ** 7, 'threads': 0, 'descriptors': 0, 'cuda_allocated': 1 << 20}),
        row('live', model='m', runs_on='cuda', sent=300, sent_hz=30.0, lost=0.0, masks=300,
            masks_hz=30.0, latency_ms={'p50': 8.0, 'p95': 9.0}, jitter_ms={}),
        row('onnx TensorRT', 'skipped', 'there is no TensorRT (libnvinfer): pip install tensorrt'),
        row('compiled', 'failed', 'its process was killed by SIGSEGV'),
    ]
    return {'dry_run': False, 'finished': True, 'started': '2026-01-01T00:00:00+00:00',
            'version': '0', 'commit': None, 'seconds': 200.0, 'limit_s': 360.0, 'checks': rows,
            'machine': rows[0]['figures']}


@pytest.mark.parametrize(('number', 'wanted'), [(8601, '8.6.1'), (100300, '10.3.0')])
def test_the_release_of_tensorrt_is_read_of_its_library(number, wanted, monkeypatch):
    monkeypatch.setitem(sys.modules, 'tensorrt', None)
    loaded = SimpleNamespace(getInferLibVersion=lambda: number)
    monkeypatch.setattr(ctypes, 'CDLL', lambda name: loaded)
    assert machine.tensorrt_version() == wanted


def test_without_tensorrt_or_the_provider_a_check_says_what_to_install(monkeypatch):
    offered = ['TensorrtExecutionProvider', 'CUDAExecutionProvider']
    library = SimpleNamespace(__version__='1', get_available_providers=lambda: offered)
    monkeypatch.setattr(speed, 'import_onnx', lambda name: library)
    monkeypatch.setattr(speed, 'tensorrt_version', lambda: None)
    speed._require_provider('CUDA')
    with pytest.raises(SkipError, match='no TensorRT .*apt install tensorrt'):
        speed._require_provider('TensorRT')
    offered[:] = ['CPUExecutionProvider']
    with pytest.raises(SkipError, match='offers CPUExecutionProvider: .*onnxruntime-gpu'):
        speed._require_provider('CUDA')


@pytest.mark.parametrize(('device', 'off', 'fails'), [
    ('cpu', 1.5e-4, False), ('cpu', 3e-4, True), ('cuda', 1.5e-3, False), ('cuda', 3e-3, True),
    ('cuda', float('nan'), True)])
def test_an_output_that_is_not_the_originals_fails(device, off, fails):
    theirs = np.random.default_rng(0).standard_normal((1, 4, 20, 20)).astype(np.float32)
    case = SimpleNamespace(outputs={'fused': {'tolerance': 2e-4}},
                           output=lambda name: (theirs, lambda values: values))
    found = Found()
    row = exactness._row(case, 'fused', theirs + np.float32(off), torch.device(device), found)
    assert bool(found.faults) == fails
    assert np.isnan(off) or row['largest_difference'] == pytest.approx(off, rel=0.01)


def test_a_network_whose_classes_are_others_fails():
    theirs = np.random.default_rng(0).standard_normal((1, 4, 20, 20)).astype(np.float32)
    case = SimpleNamespace(outputs={'logits': {'tolerance': 100.0}},
                           output=lambda name: (theirs, lambda values: values))
    found = Found()
    exactness._row(case, 'logits', theirs[:, ::-1], torch.device('cuda'), found)
    assert 'have another class, allowed is 0.1 %' in found.faults[0]


def test_each_half_precision_is_summed_up_by_itself():
    found, rows = Found(), [{'largest_difference': 1e-5, 'bound': 2e-4}]
    exactness._finish(found, rows, {'c float16': {'differ': 0.01}, 'c bfloat16': {'differ': 0.02}})
    assert found.summary == '1.0e-05 of 2.0e-04, fp16 1 %, bf16 2 %'


@pytest.mark.parametrize(('alter', 'fault'), [
    (lambda logits: logits * float('nan'), 'no numbers'),
    (lambda logits: logits.roll(1, dims=1), 'of the clear pixels have another class'),
])
def test_masks_in_half_precision_that_are_wrong_fail(alter, fault):
    exact = torch.randn(1, 4, 20, 20, generator=torch.Generator().manual_seed(0))
    found = Found()
    assert exactness._masks('m', exact.half(), exact, 'float16', found)['differ_of_clear'] == 0
    assert not found.faults
    exactness._masks('m', alter(exact), exact, 'float16', found)
    assert any(fault in one for one in found.faults)


class Off:
    """A graph that gives one value of the last frame, as one that was captured wrongly."""

    def __init__(self, run, examples, device):
        self._run, self._last = run, None

    def __call__(self, *tensors):
        outputs = self._run(*tensors)
        before, self._last = self._last, outputs
        return outputs if before is None else (before[0], outputs[1])


class Refused:
    """A graph that cannot be captured."""

    def __init__(self, run, examples, device):
        raise RuntimeError('operation not permitted when stream is capturing')


@pytest.mark.filterwarnings('ignore:the network cannot be captured')
@pytest.mark.parametrize(('graph', 'faults'), [
    (HostGraph, None),
    (Off, r'tiny: \d+ values differ between CUDA graph and eager, and 0 between eager and itself'),
    (Refused, 'tiny cannot be captured as a CUDA graph'),
])
def test_a_graph_that_gives_another_mask_or_cannot_be_captured_fails(
        graph, faults, monkeypatch, tiny_card):
    monkeypatch.setattr(torch_engine, 'CudaGraph', graph)
    found = Found()
    row = exactness._compared(load_card(tiny_card), DRY, found)
    assert row['captured'] == (0 if graph is Refused else 3)
    assert bool(found.faults) == bool(faults)
    assert not faults or re.fullmatch(faults, *found.faults)


@pytest.mark.parametrize(('changed', 'engine', 'device', 'fails'), [
    (1, 'torch', 'cuda', False), (3, 'torch', 'cuda', True), (3, 'torch_bf16', 'cuda', True),
    (1, 'compiled', 'cpu', True), (1, 'compiled_bf16', 'cpu', False)])
def test_an_engine_with_another_mask_fails(changed, engine, device, fails, monkeypatch):
    monkeypatch.setattr(speed, 'self_test', lambda segmenter: 0.97)
    mask = np.zeros((10, 10), np.uint8)
    other = mask.copy()
    other[0, :changed] = 1

    def row(mask):
        return SimpleNamespace(engine=engine, card=SimpleNamespace(name='m'), segmenter=lambda *_:
                               SimpleNamespace(mask=mask, confidence=mask))
    found = Found()
    judged = speed._judged(row(other), row(mask), [(None, None)], torch.device(device), found)
    assert judged['golden_iou'] == 0.97
    assert judged['difference']['mask'] == changed / 100
    assert bool(found.faults) == fails


def test_an_engine_that_fails_on_its_golden_frame_fails(monkeypatch):
    def refuse(segmenter):
        raise EngineError('the self-test failed')
    monkeypatch.setattr(speed, 'self_test', refuse)
    monkeypatch.setattr(speed, '_outputs', lambda *_: (np.zeros((2, 2), np.uint8),) * 2)
    row, found = SimpleNamespace(engine='torch', segmenter=None), Found()
    speed._judged(row, row, [None], torch.device('cpu'), found)
    assert found.faults == ['the self-test failed']


@pytest.mark.parametrize(('lost', 'dry', 'fails'), [
    (0.04, False, False), (0.06, False, True), (0.06, True, False)])
def test_a_live_node_that_loses_pairs_fails(lost, dry, fails, monkeypatch):
    figures = dict.fromkeys(('p50', 'p95'), 8.0)
    delivered = Run(30.0, 300, 280, lost, 30.0, 28.0, figures, figures)
    monkeypatch.setitem(sys.modules, 'rgbx_seg_ros.benchmark.live', SimpleNamespace(
        measure_at_rates=lambda settings: ('cuda', (delivered,))))
    found = speed.live(Setting('cuda', dry))
    assert bool(found.faults) == fails
    assert found.summary.startswith('28.0 masks/s at 30.0 Hz, ')


def test_without_ros_the_live_node_is_skipped(monkeypatch):
    monkeypatch.setitem(sys.modules, 'rgbx_seg_ros.benchmark.live', None)
    with pytest.raises(SkipError, match='ROS 2 is not here .* source a distribution'):
        speed.live(Setting())


def test_memory_that_grows_fails(monkeypatch):
    grown = iter(range(5))
    monkeypatch.setattr(speed, 'DRY_SOAKED', 4)
    monkeypatch.setattr(speed.Segmenter, 'from_card', lambda *_, **__: SimpleNamespace(
        __call__=None, engine=SimpleNamespace(device='none')))
    monkeypatch.setattr(speed, 'itertools', SimpleNamespace(
        cycle=lambda one: one, islice=lambda turns, count: ()))
    monkeypatch.setattr(speed, '_held', lambda setting: {
        'rss': 3_000_000 * next(grown), 'threads': 9, 'descriptors': 9})
    assert speed.soak(DRY).faults == ['rss grew by 12000000, allowed is 10000000']


def test_only_a_captured_graph_has_a_time_of_its_own():
    assert speed._replay_ms(SimpleNamespace()) is None
    assert speed._replay_ms(SimpleNamespace(_kinds={'a': print})) is None


@pytest.mark.long
@pytest.mark.timeout(2400)
@pytest.mark.skipif(shutil.which('g++') is None, reason='compiled engines need g++')
def test_a_dry_run_goes_through_every_step(tmp_path):
    done = subprocess.run(
        [sys.executable, ROOT / 'test' / 'gpu_check.py', '--dry', '--out', tmp_path],
        capture_output=True, text=True, env={**os.environ, 'COLUMNS': '80'})
    facts = json.loads((tmp_path / 'gpu_check.json').read_text())
    assert done.returncode == 0, done.stdout + done.stderr
    skipped = {row['name']: row['reason'] for row in facts['checks'] if row['status'] != 'ok'}
    assert not skipped or ([*skipped] == ['live'] and 'ROS 2 is not here' in skipped['live'])
    assert facts['dry_run'] and facts['finished'] and facts['machine']['gpu'] is None
    assert max(map(len, without_paths(done.stdout, tmp_path))) <= 80
