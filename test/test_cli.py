# Copyright 2026 rgbx_seg_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""The command line: help that reads well, and errors of one line."""

import os
from pathlib import Path
import re
import subprocess
import sys

import pytest
from rgbx_seg_ros import __version__
from rgbx_seg_ros.__main__ import COMMANDS, ROS_PACKAGES
from rgbx_seg_ros.errors import FROM_PIP

ROOT = Path(__file__).parents[1]


def start(*command, **options):
    return subprocess.Popen([sys.executable, *command], cwd=ROOT, stdout=subprocess.PIPE,
                            stderr=subprocess.PIPE, text=True, **options)


def test_help_lists_every_verb_with_what_it_does(command):
    code, out, err = command('--help')
    assert (code, err) == (0, '')
    for verb, (_, text) in COMMANDS.items():
        assert re.search(f'^  {verb} +{text}$', out, re.MULTILINE)
    assert max(map(len, out.splitlines())) <= 80


@pytest.mark.parametrize('verb', COMMANDS)
def test_the_help_of_a_verb_explains_every_argument_in_80_columns(verb, command):
    if verb in ('demo', 'top', 'view'):
        pytest.importorskip('rclpy', reason='it needs rclpy')
    code, out, err = command(verb, '--help')
    assert (code, err) == (0, '')
    assert out.startswith(f'usage: rgbx-seg {verb} ')
    assert max(map(len, out.splitlines())) <= 80
    lines = out.split('\n\n', 2)[2].splitlines()
    for i, line in enumerate(lines):
        if re.match('  [-a-z]', line):
            explained = re.search(r'\S  +\S', line) or lines[i + 1].startswith(' ' * 10)
            assert explained, f'{line!r} is not explained'


@pytest.mark.parametrize('arguments', [['--help'], ['--version'], ['predickt'], ['models']])
def test_what_needs_no_network_does_not_wait_for_torch(arguments):
    process = start('-c', 'import sys\nfrom rgbx_seg_ros.__main__ import main\ntry:\n main()\n'
                    "finally: print('torch' in sys.modules, 'cv2' in sys.modules)", *arguments)
    out, _ = process.communicate(timeout=60)
    assert out.endswith('False False\n')


@pytest.mark.parametrize('encoding', ['ascii:strict', 'latin-1:strict', 'utf-8:strict'])
def test_a_terminal_that_cannot_show_a_name_is_no_reason_to_fail(encoding, tmp_path):
    for name in (os.fsdecode(b'Stra\xdfe'), '\N{SNOWMAN}', '\xe9'):
        (tmp_path / name).mkdir()
    process = start('-m', 'rgbx_seg_ros', 'data', 'check', str(tmp_path), '--dataset', 'folder',
                    env={**os.environ, 'PYTHONIOENCODING': encoding}, errors='replace')
    out, err = process.communicate(timeout=60)
    assert (process.returncode, err) == (1, '')
    assert 'Stra' in out and out.endswith('not whole: 1 problem\n')


def test_the_version_is_that_of_the_package(command):
    assert command('--version') == (0, f'rgbx-seg {__version__}\n', '')


@pytest.mark.parametrize(('arguments', 'message'), [
    ([], 'required: VERB'),
    (['predickt'], "invalid choice: 'predickt' (choose from"),
    (['predict'], 'required: rgb, x'),
    (['predict', 'a', 'b', '--modle', 'c'], 'unrecognized arguments: --modle c'),
    (['evaluate', '--model', 'a'], 'required: --data'),
    (['train', 'recipe.yaml'], 'required: --data, --out'),
    (['labels'], 'required: ACTION'),
    (['labels', 'export', 'a'], 'required: -o/--out'),
    (['--verbose', 'models'], 'VERB'),
])
def test_wrong_arguments_end_with_usage_and_2(arguments, message, command):
    code, out, err = command(*arguments)
    assert (code, out) == (2, '')
    usage, *_, last = err.splitlines()
    assert usage.startswith('usage: rgbx-seg')
    assert message in last


def test_an_unknown_verb_is_told_which_there_are(command):
    _, _, err = command('predickt')
    assert all(verb in err for verb in COMMANDS)


@pytest.fixture
def places(tmp_path, write_frames, write_card):
    data = write_frames(tmp_path / 'data', 1)
    card, broken = write_card(), tmp_path / 'broken.yaml'
    broken.write_text('name: [')
    return {'DATA': data, 'RGB': data / 'rgb' / 'a0.png', 'X': data / 'thermal' / 'a0.png',
            'CARD': card, 'BROKEN': broken, 'NONE': tmp_path / 'none', 'OUT': tmp_path / 'out'}


@pytest.mark.parametrize(('line', 'message'), [
    ('models show mrs_scene', "did you mean 'msrs_scene'"),
    ('models show NONE.yaml', 'No such file'),
    ('models show BROKEN', 'cannot read'),
    ('models show DATA', 'is unknown'),
    ('predict RGB X -m mrs_scene', 'did you mean'),
    ('predict RGB X -m BROKEN', 'cannot read'),
    ('predict NONE X -m CARD', 'No such file'),
    ('predict RGB DATA -m CARD', 'Is a directory'),
    ('predict RGB X -m CARD --device gpu', "device is 'gpu', allowed are"),
    ('predict RGB X -m CARD --device cpu -o NONE/o.png', 'its folder does not exist'),
    ('evaluate --model CARD --data NONE', 'is not a folder'),
    ('evaluate --model nothing --data DATA', "'nothing' is unknown"),
    ('train NONE --data DATA --out OUT', 'No such file'),
    ('train CARD --data DATA --out OUT', 'is unknown'),
    ('train RECIPE --data NONE --out OUT', 'is not a folder'),
    ('train RECIPE --data DATA --out RGB --device cpu', 'File exists'),
    ('make-bag NONE OUT', 'is not a folder'),
    ('extract NONE --out OUT', 'NONE'),
    ('extract DATA --out OUT', 'has no metadata.yaml'),
    ('extract DATA --out DATA', 'is of no rgbx-seg extract'),
    ('extract NONE --out OUT --every -1', '--every is -1.0, allowed is 0 or more'),
    ('extract NONE --out OUT --min-change nan', '--min-change is nan, needed is a finite number'),
    ('extract NONE --out OUT --slop-ms -1', 'slop_ms'),
    ('extract NONE --out OUT --model nothing', "'nothing' is unknown"),
    ('labels export NONE --out OUT', 'is not a folder'),
    ('labels export DATA --out OUT', 'does not say what its classes are'),
    ('labels export DATA --out OUT --model nothing', "'nothing' is unknown"),
    ('labels import DATA NONE --out OUT --model CARD', 'No such file'),
    ('labels import DATA DATA --out OUT --model CARD', 'is of no tool that is read'),
    ('labels import DATA RGB --out OUT --model CARD', 'neither a folder nor a zip'),
    ('replay NONE --model CARD --device cpu', 'NONE'),
    ('replay DATA --model nothing', "'nothing' is unknown"),
])
def test_what_a_user_can_mend_ends_in_one_line_and_2(line, message, places, command, tmp_path):
    recipe = tmp_path / 'recipe.yaml'
    recipe.write_text(f'card: {places["CARD"]}\naugment: {{crop: [64, 96]}}\nbatch_size: 1\n')
    for name, path in {**places, 'RECIPE': recipe}.items():
        line = re.sub(rf'\b{name}\b', str(path), line)
        message = message.replace(name, str(path))
    code, _, err = command(*line.split())
    assert code == 2
    assert err.startswith('rgbx-seg: error: ') and err.endswith('\n') and err.count('\n') == 1
    assert message in err
    assert not places['OUT'].exists()


@pytest.mark.parametrize('name', ROS_PACKAGES)
def test_without_ros_the_demo_tells_how_to_get_it(name, command, monkeypatch):
    class NotInstalled:

        @staticmethod
        def find_spec(module, path=None, target=None):
            if module == name:
                raise ModuleNotFoundError(f'No module named {name!r}', name=name)

    monkeypatch.setattr(sys, 'meta_path', [NotInstalled, *sys.meta_path])
    for module in list(sys.modules):
        if f'{module}.'.startswith((f'{name}.', 'rgbx_seg_ros.node.', 'rgbx_seg_ros.messages.')):
            monkeypatch.delitem(sys.modules, module)
    code, out, err = command('demo', '--out', '/nowhere', '--help')
    if code == 0:
        pytest.skip(f'the demo does not import {name}')
    assert (code, out) == (2, '')
    assert err.count('\n') == 1
    assert "'demo' needs ROS 2" in err and name in err and "'rgbx_seg_ros[ros]'" in err


@pytest.mark.parametrize('name', FROM_PIP)
def test_a_library_from_pip_that_is_missing_is_told_in_one_line(name, command, monkeypatch):
    def lack(args):
        raise ModuleNotFoundError(f'No module named {name!r}', name=name)
    monkeypatch.setattr('rgbx_seg_ros.cards.listing.main', lack)
    code, _, err = command('models')
    assert (code, err.count('\n')) == (2, 1)
    assert err.startswith(f'rgbx-seg: error: {name!r} is not installed for {sys.executable}: pip ')


def test_a_missing_module_of_our_own_is_not_taken_for_ros(command, monkeypatch):
    monkeypatch.setitem(COMMANDS, 'broken', ('no_such_module', 'fail'))
    with pytest.raises(ModuleNotFoundError, match='no_such_module'):
        command('broken')


def test_the_hint_knows_every_ros_package_that_we_import():
    imported = set()
    for path in (ROOT / 'rgbx_seg_ros').rglob('*.py'):
        imported |= set(re.findall(r'^(?:import|from) (\w+)', path.read_text(), re.MULTILINE))
    assert {name for name in imported if name.endswith('_msgs') or name in (
        'rclpy', 'rcl_interfaces')} <= set(ROS_PACKAGES)


@pytest.mark.parametrize('arguments', [['models'], ['--help']])
def test_a_reader_that_goes_away_is_no_error(arguments):
    # Where nothing is buffered, argparse itself keeps quiet, with exit code 0.
    environment = {name: value for name, value in os.environ.items() if name != 'PYTHONUNBUFFERED'}
    process = start('-m', 'rgbx_seg_ros', *arguments, env=environment)
    process.stdout.close()
    assert process.stderr.read() == ''
    assert process.wait(60) == 141


def test_ctrl_c_ends_without_a_traceback(command, monkeypatch):
    def interrupt(args):
        raise KeyboardInterrupt
    monkeypatch.setattr('rgbx_seg_ros.cards.listing.main', interrupt)
    assert command('models') == (130, '', '')
