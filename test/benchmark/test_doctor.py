# Copyright 2026 rgbx_seg_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""The doctor: one page, whatever is missing or broken, and an exit status to rely on."""

import argparse
import os
import re
import shutil
import subprocess
import sys
import warnings

import numpy as np
import pytest
from rgbx_seg_ros.benchmark import doctor, doctor_engines
from rgbx_seg_ros.cards.card import load_card
from rgbx_seg_ros.cpu import Cpu
from rgbx_seg_ros.engines import cache as engine_cache
from rgbx_seg_ros.engines import ENGINES
from rgbx_seg_ros.engines.cache import cache_dir, cached_path, checksum_path, make_folder, ONNX
from rgbx_seg_ros.engines.model_files import FrameKind
from rgbx_seg_ros.engines.onnx_engine import OnnxEngine
from rgbx_seg_ros.engines.torch_engine import BFLOAT16_FLAGS, TorchEngine
from rgbx_seg_ros.frames.golden import Golden, save_golden
from rgbx_seg_ros.inference.segmenter import Segmenter
import yaml


@pytest.fixture(autouse=True)
def quiet_machine(tmp_path, monkeypatch):
    """Use an empty cache, and a machine on which nothing else runs."""
    monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path / 'cache'))
    monkeypatch.setattr(os, 'getloadavg', lambda: (0.0, 0.0, 0.0))


@pytest.fixture(scope='module')
def card(tiny_card, tmp_path_factory):
    """Return the path of a card with a golden frame that has two classes."""
    folder = tmp_path_factory.mktemp('golden')
    rng = np.random.default_rng(0)
    rgb = rng.integers(0, 256, (64, 96, 3), np.uint8)
    x = rng.integers(0, 5000, (64, 96), np.uint16)  # of the type that `exported` is for
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')
        mask = Segmenter.from_card(tiny_card, device='cpu')(rgb, x).mask
    save_golden(folder / 'tiny.npz', Golden(rgb, x, mask))
    (folder / 'tiny.safetensors').write_bytes(
        tiny_card.with_suffix('.safetensors').read_bytes())
    path = folder / 'tiny.yaml'
    path.write_text(yaml.safe_dump({**yaml.safe_load(tiny_card.read_text()),
                                    'golden': 'tiny.npz'}))
    return path


@pytest.fixture
def examined(card, capsys):
    """Return a function that runs the doctor: exit status and page."""
    def run(model=card):
        parser = argparse.ArgumentParser()
        doctor.add_arguments(parser)
        code = doctor.main(parser.parse_args(['--model', str(model)]))
        page, errors = capsys.readouterr()
        assert errors == ''
        return code, page
    return run


def engine_line(page, mark, name):
    """Return what the page says of the engine `name`: a library may have the same name."""
    return line(page.partition('Engines with')[2], mark, name)


def line(page, mark, name):
    """Return what the page says of `name`, its continuation lines included."""
    found = re.search(rf'^  {re.escape(mark)} +{re.escape(name)} +(.*(?:\n {{20,}}.*)*)', page,
                      re.MULTILINE)
    assert found, f'no {mark} {name} in\n{page}'
    return ' '.join(found[1].split())


class Broken:

    def __init__(self, card, device):
        raise RuntimeError('the driver\n  is mad')


class Wrong(TorchEngine):

    def __call__(self, *arguments):
        mask, *rest = super().__call__(*arguments)
        return np.flip(mask), *rest


def test_a_machine_that_can_run_the_model_gets_one_page_and_0(examined):
    code, page = examined()
    assert code == 0
    lines = page.splitlines()
    assert len(lines) <= 45
    # A command and a path are there to be copied; all else fits.
    assert max(len(one) for one in lines if '/' not in one) <= 80
    for name in ('Python', 'PyTorch', 'NumPy', 'OpenCV'):
        assert re.match(r'\d+\.\d+', line(page, '[ok]', name))
    assert re.search(r'\d+ cores?', line(page, '', 'CPU'))
    result = line(page, '[ok]', 'torch')
    assert re.fullmatch(r'passes \(IoU 1\.00\) +[\d.]+ ms c.* float\d\d', result)
    assert all(f'] {name} ' in page for name in ENGINES)
    assert '96x64 RGB' in line(page, '', 'frames')


def test_the_default_model_is_that_of_the_node(capsys):
    parser = argparse.ArgumentParser()
    doctor.add_arguments(parser)
    assert parser.parse_args([]).model == doctor.DEFAULT.model
    assert doctor.DEFAULT.engine in ENGINES


@pytest.mark.parametrize(('engine', 'told'), [
    (Broken, 'the driver is mad'), (Wrong, 'the self-test failed: on cpu float32')])
def test_a_default_engine_that_fails_is_told_in_the_page_and_1(examined, monkeypatch, engine,
                                                               told):
    monkeypatch.setitem(ENGINES, 'torch', engine)
    code, page = examined()
    assert code == 1
    assert told in line(page, '[!!]', 'torch')
    assert 'Traceback' not in page
    assert 'engine torch does not work, so the node will not start' in page
    assert 'engine torch_bf16 works:\n    ros2 launch' in page


def test_an_engine_that_fails_at_a_later_frame_is_broken(examined, monkeypatch):
    class Tired(TorchEngine):
        calls = 0

        def __call__(self, *arguments):
            self.calls += 1
            if self.calls > 4:
                raise RuntimeError('out of memory')
            return super().__call__(*arguments)

    monkeypatch.setitem(ENGINES, 'torch', Tired)
    code, page = examined()
    assert (code, line(page, '[!!]', 'torch')) == (1, 'out of memory')


def test_another_engine_that_fails_is_no_failure(examined, monkeypatch):
    monkeypatch.setitem(ENGINES, 'torch_bf16', Broken)
    code, page = examined()
    assert code == 0
    assert line(page, '[!!]', 'torch_bf16') == 'the driver is mad'


@pytest.fixture
def timed(monkeypatch):
    """Return a function that sets the times of torch and torch_bf16, in ms; None: broken."""
    def set_times(torch_ms, other_ms):
        trials = [doctor_engines.Trial('torch', ms=torch_ms),
                  doctor_engines.Trial('torch_bf16', ms=other_ms)]
        monkeypatch.setattr(doctor_engines, 'examine', lambda card, device: (
            doctor_engines.Trials(trials, 'frames', [])))
    return set_times


def test_a_faster_engine_is_recommended_by_a_command_to_copy(examined, timed, card):
    timed(30.0, 20.0)
    assert ('engine torch_bf16 is 1.5 x as fast here and works:\n    ros2 launch rgbx_seg_ros '
            f'seg.launch.py engine:=torch_bf16 model:={card}\n') in examined()[1]


@pytest.mark.parametrize('times', [(20.0, 30.0), (20.0, 19.0), (20.0, None)])
def test_an_engine_that_is_hardly_faster_is_not_recommended(examined, timed, times):
    timed(*times)
    code, page = examined()
    assert code == 0 and 'ros2 launch' not in page


def test_what_an_engine_warns_of_is_told_once(examined, monkeypatch):
    class Warning_(TorchEngine):

        def __call__(self, *arguments):
            warnings.warn('it is hot in here', stacklevel=2)
            return super().__call__(*arguments)

    monkeypatch.setitem(ENGINES, 'torch', Warning_)
    assert examined()[1].count('it is hot in here') == 1


@pytest.mark.parametrize('library', [
    one for one in doctor.LIBRARIES if not one.needed], ids=lambda one: one.module)
def test_an_optional_library_that_is_missing_is_no_failure(examined, monkeypatch, library):
    monkeypatch.setitem(sys.modules, library.module, None)
    code, page = examined()
    assert code == 0
    told = line(page, '[--]', library.name)
    assert told.startswith(f'missing, for {library.purpose}: pip install ')
    if library.module == 'onnxruntime':
        assert 'onnxruntime is not installed' in engine_line(page, '[--]', 'onnx')


def test_without_ros_one_line_says_how_to_get_it(examined, monkeypatch):
    monkeypatch.setitem(sys.modules, 'rclpy', None)
    code, page = examined()
    assert code == 0
    assert line(page, '[--]', 'ROS 2').startswith('missing, for the live node: ')
    assert 'cv_bridge' not in page and 'Fast DDS' not in page


@pytest.mark.parametrize(('name', 'shown'), [('cv2', 'OpenCV'), ('rclpy', 'ROS 2')])
def test_a_library_that_cannot_be_loaded_is_told_with_its_reason(examined, monkeypatch, tmp_path,
                                                                 name, shown):
    (tmp_path / f'{name}.py').write_text(
        "import sys\nprint('noise', file=sys.stderr)\n"
        "raise ImportError('libGL.so.1: cannot open\\nshared object file')\n")
    monkeypatch.delitem(sys.modules, name, raising=False)
    monkeypatch.syspath_prepend(tmp_path)
    _, page = examined()
    assert 'cannot be loaded: libGL.so.1: cannot open shared object file' in line(
        page, '[!!]', shown)
    assert f'{shown} is needed, see above' in ' '.join(page.split())


def test_without_pytorch_there_is_still_a_page():
    done = subprocess.run(
        [sys.executable, '-c', "import sys; sys.modules['torch'] = None\n"
         'from argparse import Namespace\n'
         'from rgbx_seg_ros.benchmark.doctor import DEFAULT, main\n'
         'sys.exit(main(Namespace(model=DEFAULT.model)))'],
        capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stderr) == (1, '')
    assert line(done.stdout, '[!!]', 'PyTorch') == 'missing, for all networks: pip install torch'
    assert 'cannot be loaded' in line(done.stdout, '[!!]', 'torch')


def test_a_card_without_a_golden_frame_is_timed_and_told(examined, tiny_card):
    code, page = examined(tiny_card)
    assert code == 0
    assert line(page, '[ok]', 'torch').startswith('runs, untested')
    assert 'rgbx-seg golden --help' in page


def test_weights_that_are_missing_fail(examined, tiny_card, tmp_path):
    path = tmp_path / 'tiny.yaml'
    path.write_text(tiny_card.read_text())
    code, page = examined(path)
    assert code == 1
    assert 'does not exist' in line(page, '[!!]', 'torch')


def test_onnx_without_a_file_is_not_built_and_not_waited_for(examined, monkeypatch):
    pytest.importorskip('onnxruntime', reason='it needs the extra onnx')
    monkeypatch.setattr(subprocess, 'Popen', None)
    _, page = examined()
    assert 'the node makes one in the background' in engine_line(page, '[--]', 'onnx')
    assert line(page, '', 'engine files').startswith('none in ')


def test_a_folder_of_engines_that_others_can_write_is_told(examined):
    make_folder(cache_dir())
    cache_dir().chmod(0o770)
    code, page = examined()
    assert code == 0  # PyTorch needs none of it
    assert f'chmod go-w {cache_dir()}' in line(page, '[!!]', 'engine files')


@pytest.mark.long
@pytest.mark.timeout(900)  # an export takes minutes on a machine that is busy
def test_onnx_with_a_file_is_tested_and_timed_on_frames_of_its_kind(
        examined, card, request, monkeypatch):
    for name in ('onnx', 'onnxruntime', 'onnxscript'):
        pytest.importorskip(name, reason='it needs the extra onnx')
    exported, loaded = request.getfixturevalue('exported')[0], load_card(card)
    path = cached_path(loaded, FrameKind((70, 90), (50, 60), 1, 'uint16'),
                       OnnxEngine(loaded, 'cpu')._runtime.key, ONNX)
    make_folder(path.parent)
    shutil.copy(exported, path)
    checksum_path(path).write_text(engine_cache._checksum_line(path, path))

    monkeypatch.setattr(subprocess, 'Popen', None)
    code, page = examined()
    assert code == 0
    assert re.fullmatch(r'agrees with torch +[\d.]+ ms cpu by ONNX Runtime .*',
                        engine_line(page, '[ok]', 'onnx'))
    assert line(page, '', 'frames').startswith('90x70 RGB with 60x50 X of uint16')
    assert re.match(r'1 in .*engines, \d+ MB', line(page, '', 'engine files'))

    path.write_bytes(b'nonsense')
    assert 'the node makes one' in engine_line(examined()[1], '[--]', 'onnx')


@pytest.mark.parametrize(('flags', 'found'), [
    ('fpu avx2 avx512f avx512_vnni avx_vnni', ['AVX2', 'AVX-512', 'VNNI']),
    ('fp asimd bf16', ['NEON', 'bfloat16']), ('', [])])
def test_a_cpu_is_told_by_what_makes_networks_quick(flags, found):
    assert doctor.features(Cpu('x86_64', '', (), frozenset(flags.split()))) == found


def test_it_finds_bfloat16_where_the_engine_does():
    flags = {flag for flag, text in doctor.FLAGS.items() if text.startswith('bfloat16')}
    assert flags == BFLOAT16_FLAGS


@pytest.mark.parametrize(('text', 'version'), [
    ('NVRM version: NVIDIA UNIX x86_64 Kernel Module  535.104.05  Sat Aug 19 2023\nGCC 12.3.0 \n',
     '535.104.05'),
    ('NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  550.54.14  Release Build\n',
     '550.54.14'),
    ('', '')])
def test_the_driver_is_read_from_what_it_says(monkeypatch, text, version):
    monkeypatch.setattr(doctor, '_read', lambda path: text)
    assert doctor.driver() == version


def test_a_driver_that_pytorch_cannot_use_is_told(examined, monkeypatch):
    import torch
    if torch.cuda.is_available():
        pytest.skip('PyTorch can use the driver here')
    monkeypatch.setattr(doctor, 'driver', lambda: '535.104.05')
    assert "NVIDIA's driver 535.104.05 is here, but PyTorch" in examined()[1]


def test_a_busy_machine_is_told_since_times_are_longer_there(examined, monkeypatch):
    monkeypatch.setattr(os, 'getloadavg', lambda: (99.0, 0.0, 0.0))
    assert 'other processes keep the CPU busy (load 99.0' in examined()[1]


@pytest.mark.parametrize(('middleware', 'environment', 'told'), [
    ('rmw_fastrtps_cpp', {'ROS_DISTRO': 'jazzy'}, 'export FASTRTPS_DEFAULT_PROFILES_FILE=/'),
    ('rmw_fastrtps_cpp', {'ROS_DISTRO': 'kilted'}, 'export FASTDDS_DEFAULT_PROFILES_FILE=/'),
    ('rmw_fastrtps_cpp', {'FASTDDS_DEFAULT_PROFILES_FILE': '/none.xml'},
     "FASTDDS_DEFAULT_PROFILES_FILE names '/none.xml', which is not there"),
    ('rmw_cyclonedds_cpp', {}, None),
    ('rmw_fastrtps_cpp', {'FASTDDS_DEFAULT_PROFILES_FILE': __file__}, None),
    ('rmw_cyclonedds_cpp', {'ROS_DOMAIN_ID': '0', 'ROS_LOCALHOST_ONLY': '0'}, None),
    ('rmw_cyclonedds_cpp', {'ROS_DOMAIN_ID': '42'}, 'ROS_DOMAIN_ID is 42'),
    ('rmw_cyclonedds_cpp', {'ROS_LOCALHOST_ONLY': '1'}, 'ROS_LOCALHOST_ONLY is 1'),
    ('rmw_cyclonedds_cpp', {'ROS_AUTOMATIC_DISCOVERY_RANGE': 'OFF'}, 'RANGE is OFF'),
])
def test_the_environment_of_ros_is_told_where_it_matters(middleware, environment, told,
                                                         monkeypatch):
    monkeypatch.setitem(sys.modules, 'cv_bridge', None)
    monkeypatch.setattr(doctor, '_SHARED_MEMORY', 0)
    advice = list(doctor.advise_on_ros(environment, middleware))
    assert len(advice) == (told is not None)
    assert told is None or told in advice[0]


def test_shared_memory_that_is_too_small_is_told(monkeypatch):
    if not os.path.isdir('/dev/shm'):
        pytest.skip('there is no /dev/shm')
    monkeypatch.setattr(doctor, '_SHARED_MEMORY', 1 << 60)
    environment = {'FASTDDS_DEFAULT_PROFILES_FILE': __file__}
    assert any('--shm-size' in one for one in doctor.advise_on_ros(
        environment, 'rmw_fastrtps_cpp'))
