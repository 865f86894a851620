# Copyright 2026 rgbx_seg_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""The pages that lead a user by the hand: what they tell to type, name and quote is so."""

import ast
import os
from pathlib import Path
import re
import shlex
import signal
import subprocess
import sys

import pytest
from rgbx_seg_ros.__main__ import COMMANDS, parse
from rgbx_seg_ros.cards.card import list_cards, load_card, X_KINDS, X_NORMALIZATIONS
from rgbx_seg_ros.health.monitor import MODES, POLICIES, STATES
from rgbx_seg_ros.health.report import DIAGNOSTICS
from rgbx_seg_ros.networks import build, NETWORKS
from rgbx_seg_ros.parameters import Parameters
from rgbx_seg_ros.projection.parameters import ProjectionParameters
import torch
import yaml

ROOT = Path(__file__).parents[1]
PAGES = {name: (ROOT / 'docs' / f'{name}.md').read_text(encoding='utf-8') for name in (
    'first_mask', 'own_cameras', 'several_rigs', 'own_network', 'troubleshooting')}


def blocks(page, language):
    """Return the code blocks of a page in that language."""
    return re.findall(rf'^```{language}\n(.*?)^```', PAGES[page], re.MULTILINE | re.DOTALL)


# Commands

ARGUMENTS = {name: {*re.findall(
    r"^    '(\w+)': \(|Argument\('(\w+)'", (ROOT / 'launch' / name).read_text(), re.MULTILINE)}
    for name in ('seg.launch.py', 'replay.launch.py')}
ARGUMENTS = {name: {''.join(pair) for pair in found} for name, found in ARGUMENTS.items()}
ARGUMENTS['replay.launch.py'] |= ARGUMENTS['seg.launch.py']
BY_ROS = ('topic list', 'topic info', 'topic echo', 'topic hz', 'bag record', 'lifecycle get')
"""What ROS has by itself, as its own pages tell."""
OTHERS = ('make demo', 'seg_node', 'python play.py my_bag', 'fastdds shm clean',
          '. .venv/bin/activate', '. install/setup.bash', "pip install 'numpy<2'",
          'python3 -m colcon build --packages-select rgbx_seg_ros')


def check_ros2(words):
    """Check a launch file and its arguments, a parameter, or a verb."""
    for file in re.findall(r'rgbx_seg_ros\)/(\S+)', ' '.join(words)):
        assert (ROOT / file).is_file(), file
    if words[0] == 'launch':
        assert words[1] == 'rgbx_seg_ros'
        assert {word.partition(':=')[0] for word in words[3:]} <= ARGUMENTS[words[2]]
    elif words[:2] == ['param', 'set']:
        assert words[2].rpartition('/')[2] == Parameters.NODE_NAME
        Parameters.check({words[3]: yaml.safe_load(words[4])})
        assert Parameters.specs()[words[3]].metadata['runtime']
    elif words[:2] == ['run', 'rgbx_seg_ros']:
        assert words[2] == 'rgbx-seg' and words[3] in COMMANDS
    elif words[:2] != ['run', 'diagnostic_aggregator']:
        assert ' '.join(words[:2]) in BY_ROS


@pytest.mark.parametrize(('page', 'command'), [
    (page, line) for page in PAGES for block in blocks(page, 'bash')
    for line in block.splitlines()])
def test_a_command_is_understood(page, command):
    if command in OTHERS:
        return
    if command.startswith('export '):
        assert (ROOT / command.rpartition('rgbx_seg_ros)/')[2]).is_file()
        return
    program, *words = shlex.split(re.sub(r'^OMP_NUM_THREADS=\d ', '', command))
    if program == 'docker':
        assert words[:2] == ['run', '--rm']
        program, *words = words[words.index('ros2'):]
    if program == 'ros2':
        check_ros2(words)
        return
    assert program == 'rgbx-seg'
    args = parse(words)
    for name in ('rgb', 'x', 'folder'):
        path = str(getattr(args, name, ''))
        assert not path.startswith('demo') or (ROOT / path).exists(), path


# Names

OF_FILES = {'md', 'yaml', 'py', 'png', 'log', 'pth', 'safetensors', 'bag', 'launch', 'txt', 'xml'}


@pytest.mark.parametrize('page', PAGES)
def test_a_parameter_or_key_that_is_named_exists(page):
    parameters = Parameters.specs().keys() | ProjectionParameters.specs().keys()
    keys = parameters.union(*DIAGNOSTICS.values())
    text = re.sub(r'^```.*?^```', '', PAGES[page], flags=re.MULTILINE | re.DOTALL)
    named = set(re.findall(r'`(\w+(?:\.\w+)+)`', text))
    assert {name for name in named if name.rpartition('.')[2] not in OF_FILES} <= keys
    arguments = set().union(*ARGUMENTS.values())
    given = set(re.findall(r'`([\w.]+):=', text))
    assert given <= arguments | parameters, given - arguments - parameters


@pytest.mark.parametrize('page', PAGES)
def test_a_file_that_is_named_exists(page):
    for path in re.findall(r'`((?:config|test|docs|launch)/[\w/.]+)`', PAGES[page]):
        assert (ROOT / path).exists(), path


def test_keys_that_troubleshooting_names_alone_exist():
    named = set(re.findall(r'`(\w+_(?:p50|ms|hz))`', PAGES['troubleshooting']))
    assert len(named) > 6
    assert named <= {'wait_ms', *Parameters.specs()}.union(*DIAGNOSTICS.values())


@pytest.mark.parametrize(('page', 'text'), [
    (page, text) for page in PAGES for text in blocks(page, 'yaml') if 'ros__parameters' in text])
def test_a_parameter_file_is_taken(page, text):
    for content in yaml.safe_load(text).values():
        if 'path' not in content['ros__parameters']:  # that of diagnostic_aggregator
            Parameters.from_ros(content['ros__parameters'])


# Quotes

FIXED = 4
"""Letters of a text from which on it is looked for; shorter ones could be anything."""
OF_THE_CASE = {
    *STATES, *MODES, *POLICIES, *X_KINDS, *X_NORMALIZATIONS, *Parameters.specs(), *list_cards(),
    'rgb', 'x', 'RGB', 'X', 'it', 'is', 's', 'ms', 'apart', 'p99', 'BEST_EFFORT', 'RELIABLE',
    'rgb8', 'bgr8', 'yuv444', 'uint8', 'cuda:0', 'cpu', 'float16', 'None', 'ONNX', 'Runtime',
    'torch', 'g++', 'person', 'twin', 'msrs_scenes', 'slop', 'No', 'module', 'named',
    'OutOfMemoryError', 'CUDA', 'out', 'of', 'memory'}
"""Words of the quotes that are a name or a value, or stand between two; the last are Python's."""
VALUE = re.compile(r"""[-+]?[\d.]+|\d+x\d+|[\d.]+\+cpu|[0-9a-f]{12}|/[\w/.]*|theirs\.pth""")


@pytest.fixture(scope='module')
def fixed():
    """Return what no value takes the place of in the strings of the package, the longest first."""
    found = set()
    for path in (ROOT / 'rgbx_seg_ros').rglob('*.py'):
        for node in ast.walk(ast.parse(path.read_text(encoding='utf-8'))):
            parts = node.values if isinstance(node, ast.JoinedStr) else [node]
            texts = [getattr(part, 'value', None) for part in parts]
            joined = ''.join(text if isinstance(text, str) else '\0' for text in texts)
            found.update(re.split('[\0\n]', joined))
    return sorted((text for text in found if len(text) >= FIXED), key=len, reverse=True)


def without(quote, fixed):
    """Return a quote, which may end in ..., without what is fixed in it; a piece becomes a 0."""
    if quote.endswith('...'):
        quote = re.sub(r',? \.\.\.$', '', quote)
        ends = (end for end in range(len(quote) - FIXED) if any(
            text.startswith(quote[end:]) for text in fixed))
        quote = quote[:next(ends, len(quote))]
    for text in fixed:
        if text in quote:  # as whole words
            before, after = (r'\b' if end.isalnum() else '' for end in (text[0], text[-1]))
            quote = re.sub(f'{before}{re.escape(text)}{after}', '\0', quote)
    return quote


@pytest.mark.parametrize('quote', [
    line for block in blocks('troubleshooting', 'text') for line in block.splitlines()])
def test_what_is_quoted_stands_in_the_code(quote, fixed):
    words = [word.strip(""".,:;()'?""") for word in re.split(r'[\s\0]+', without(quote, fixed))]
    assert not [word for word in words if word and word not in OF_THE_CASE
                and not VALUE.fullmatch(word)]


def test_a_quote_that_the_code_does_not_have_is_noticed(fixed):
    quote = 'no frame on /x/image yet: nobody publishes it: start the driver, or remap x/image'
    assert without(quote, fixed).strip('\0') in ('/x/image', 'x', '/x/image\0x')
    assert 'begin' in without(quote.replace('start', 'begin'), fixed)


# What the pages let a user write


def test_the_player_publishes_pairs_of_now(tmp_path, write_frames):
    pytest.importorskip('rclpy', reason='needs rclpy, from a ROS distribution or the ros extra')
    from rgbx_seg_ros.bags.make_bag import make_bag
    from rgbx_seg_ros.messages.images import stamp_ns
    from sensor_msgs.msg import Image
    from support.ros_stage import CAMERA, next_domain, Stage
    (play,) = blocks('first_mask', 'python')
    (tmp_path / 'play.py').write_text(play)
    make_bag(write_frames(tmp_path / 'frames', 2), tmp_path / 'my_bag', rate_hz=20)
    domain = next_domain()
    stage = Stage(domain)
    for topic in ('rgb/image', 'x/image'):
        stage.listen(Image, topic, CAMERA)
    player = subprocess.Popen(
        [sys.executable, 'play.py', 'my_bag'], cwd=tmp_path, stderr=-1,
        env={**os.environ, 'ROS_DOMAIN_ID': str(domain)},
        # A shell has SIGINT ignored by what it starts in the background, and by its children.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL))
    try:
        stage.wait(lambda: len(stage.received['x/image']) > 2)  # from the second time on
        stamps = {topic: {stamp_ns(message.header) for message, _ in messages}
                  for topic, messages in stage.received.items()}
        (_, received_ns), *_ = stage.received['x/image']
        assert len(stamps['rgb/image'] & stamps['x/image']) > 1
        assert 0 <= received_ns - min(stamps['x/image']) < 5_000_000_000
        player.send_signal(signal.SIGINT)
        assert player.communicate(timeout=20) == (None, b'')
    finally:
        player.kill()
        stage.close()


def test_the_network_of_the_page_trains_predicts_and_is_imported(
        tmp_path, write_frames, command, monkeypatch):
    code, entry = blocks('own_network', 'python')
    names = {}
    exec(code, names)  # the module itself
    assert entry == "NETWORKS = {\n    'twin_net': TwinNet,\n}\n"
    monkeypatch.setitem(NETWORKS, 'twin_net', names['TwinNet'])
    card, recipe, weights = blocks('own_network', 'yaml')
    (tmp_path / 'mine').mkdir()
    (tmp_path / 'mine' / 'twin.yaml').write_text(card)
    (tmp_path / 'mine' / 'recipe.yaml').write_text(recipe)
    write_frames(tmp_path / 'mine' / 'frames')
    for name, folder in (('night.jpg', 'rgb'), ('night_thermal.png', 'thermal')):
        (tmp_path / name).symlink_to(tmp_path / 'mine' / 'frames' / folder / 'a0.png')
    theirs = {'aux.weight': torch.zeros(1)}
    for name, value in build('twin_net', 3, width=32).state_dict().items():
        module, _, rest = name.partition('.')
        module = {'rgb': 'enc_rgb', 'x': 'enc_t', 'head': 'final'}[module]
        theirs[f'{module}.{rest}'] = value
    torch.save({'state_dict': theirs}, tmp_path / 'theirs.pth')
    monkeypatch.chdir(tmp_path)
    for line in '\n'.join(blocks('own_network', 'bash')).splitlines():
        if line.startswith('rgbx-seg'):
            status, out, err = command(*shlex.split(line)[1:])
            assert status == 0, err
    assert 'network: twin_net' in out and weights.splitlines()[1] in out
    assert load_card(tmp_path / 'mine' / 'out' / 'twin.yaml').network_args == {'width': 32}


def test_the_launch_file_of_two_pairs_gives_what_the_package_takes():
    (code,) = blocks('several_rigs', 'python')
    tree = ast.parse(code)
    (pairs,) = (ast.literal_eval(node.value) for node in tree.body
                if isinstance(node, ast.Assign) and node.targets[0].id == 'PAIRS')
    assert len(pairs) == 2
    for given in pairs.values():
        assert {'namespace', *given} <= ARGUMENTS['seg.launch.py']
