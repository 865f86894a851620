# Copyright 2026 rgbx_seg_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""Files to deploy the node: what they name exists, and what they install is what it needs."""

from configparser import ConfigParser
from dataclasses import replace
import json
import re
import shlex

import numpy as np
from packaging.requirements import Requirement
import pytest
from rgbx_seg_ros.__main__ import COMMANDS
from rgbx_seg_ros.cards.card import load_card
from rgbx_seg_ros.frames.raw import check_x, find_x_limits
from rgbx_seg_ros.parameters import Parameters, read_parameters
from support.checkout import NAME, ROOT
import yaml

DEPLOY = ROOT / 'deploy'
PAGE = (ROOT / 'docs' / 'deployment.md').read_text(encoding='utf-8')
DOCKERFILES = sorted(DEPLOY.glob('*Dockerfile'))
RIGS = sorted((ROOT / 'config' / 'rigs').glob('*.yaml'))
FROM_PIP = re.compile(r"""(?<=['"])(?:torch|filelock|safetensors|rosbags)[<>=]=?[^'"\s]*""")
LAUNCH_ARGUMENTS = {*re.findall(
    r"^    '(\w+)': \(", (ROOT / 'launch' / 'seg.launch.py').read_text(), re.MULTILINE)}


def check_command(text):
    """Check a command for a container or a service that launches the node or runs a verb."""
    words = shlex.split(text)
    words = words[words.index('ros2'):]
    assert words[2] == NAME
    if words[1] == 'launch':
        assert (ROOT / 'launch' / words[3]).is_file()
        assert {word.partition(':=')[0] for word in words[4:]} <= LAUNCH_ARGUMENTS
    else:
        assert words[1:4] == ['run', NAME, 'rgbx-seg'] and words[4] in COMMANDS


def instructions(path):
    """Return the instructions of a Dockerfile as pairs of their name and the rest."""
    lines = re.sub(r'^#.*\n', '', path.read_text(encoding='utf-8'), flags=re.MULTILINE)
    joined = re.sub(r'\\\n\s*', '', lines)
    return [tuple(line.split(maxsplit=1)) for line in joined.splitlines() if line.strip()]


@pytest.mark.parametrize('path', DOCKERFILES, ids=lambda path: path.name)
def test_an_image_gets_every_file_that_the_package_is_built_from(path):
    copied = set()
    for name, rest in instructions(path):
        if name == 'COPY':
            *sources, target = rest.split()
            for source in sources:
                assert (ROOT / source).exists(), source
                single = len(sources) == 1 and (ROOT / source).is_dir()
                assert target == f'src/{NAME}/{source if single else ""}'
            copied |= {*sources}
    text = (ROOT / 'setup.py').read_text(encoding='utf-8')
    shared = re.search(r'^SHARED_FOLDERS = (\[.*\])', text, re.MULTILINE).group(1)
    assert copied == {'package.xml', 'setup.py', 'setup.cfg', 'LICENSE', 'resource', NAME,
                      *re.findall(r'\w+', shared)}


@pytest.mark.parametrize('path', [*DOCKERFILES, ROOT / '.github' / 'workflows' / 'ros.yml'],
                         ids=lambda path: path.name)
def test_what_comes_from_pip_is_in_the_ranges_of_setup_py(path):
    """Beside what rosdep installs by package.xml, these four."""
    asked, given = (
        {requirement.name: requirement for requirement in map(Requirement, FROM_PIP.findall(
            file.read_text(encoding='utf-8')))} for file in (ROOT / 'setup.py', path))
    assert given.keys() == asked.keys() == {'torch', 'filelock', 'safetensors', 'rosbags'}
    for name, requirement in given.items():
        exact = str(requirement.specifier).removeprefix('==')
        assert requirement == asked[name] or asked[name].specifier.contains(exact), name


@pytest.mark.parametrize('path', DOCKERFILES, ids=lambda path: path.name)
def test_an_image_starts_the_node(path):
    found = dict(instructions(path))  # the last of each name
    assert '/ws/install/setup.bash' in json.loads(found['ENTRYPOINT'])[2]
    check_command(shlex.join(json.loads(found['CMD'])))


def test_compose_names_the_image_that_it_builds():
    services = yaml.safe_load((DEPLOY / 'compose.yaml').read_text(encoding='utf-8'))['services']
    build = services['node']['build']
    assert (DEPLOY / build['context']).resolve() == ROOT
    assert (ROOT / build['dockerfile']).is_file()
    for service in services.values():
        assert service['image'] == services['node']['image'] == NAME
        check_command(re.sub(r'\$\{\w+:-([^}]*)\}', r'\1', service['command']))


def test_the_container_of_an_editor_is_built_from_the_same_file():
    path = ROOT / '.devcontainer' / 'devcontainer.json'
    config = json.loads(path.read_text(encoding='utf-8'))
    assert (path.parent / config['build']['dockerfile']).resolve() in DOCKERFILES
    assert (path.parent / config['build']['context']).resolve() == ROOT
    assert config['postCreateCommand'] == 'make venv'


def test_the_service_launches_the_node_and_ends_it_as_ctrl_c_does():
    unit = ConfigParser(strict=False, interpolation=None)
    unit.optionxform = str
    unit.read(DEPLOY / 'rgbx_seg.service', encoding='utf-8')
    assert unit.sections() == ['Unit', 'Service', 'Install']
    shell, option, script = shlex.split(unit['Service']['ExecStart'])
    assert (shell, option) == ('/bin/bash', '-c')
    check_command(script)
    assert unit['Service']['KillSignal'] == 'SIGINT'
    text = (DEPLOY / 'rgbx_seg.service').read_text(encoding='utf-8')
    assert {*re.findall(r'\$(\w+)', script)} <= {*re.findall(r'^Environment=(\w+)=', text,
                                                             re.MULTILINE)}


def test_every_file_is_told_on_the_page_and_says_that_it_has_not_run():
    for path in DEPLOY.iterdir():
        assert 'not yet run' in path.read_text(encoding='utf-8').lower(), path
        assert f'| `deploy/{path.name}` |' in PAGE
    for path in RIGS:
        assert f'| `config/rigs/{path.name}` |' in PAGE
    for line in re.findall(r'^(?:ros2|docker) .*$', PAGE, re.MULTILINE):
        for file in re.findall(r'(?:deploy|config)/[\w/.]+', line):
            assert (ROOT / file).is_file(), file
        if ' ros2 ' in f' {line}':
            check_command(re.sub(r'\$\(.*?\)', '', line))


# What the drivers publish, as an array of what their pages say.
FRAMES = {
    'zed_depth': np.array([[np.nan, np.inf, 0.8], [2.0, 5.0, 12.0]], np.float32),
    'oak_depth': np.array([[0, 0, 800], [2000, 5000, 12000]], np.uint16),
    'oak_thermal': np.array([[18.5, 19.0, 21.0], [24.0, 31.5, 36.0]], np.float32),
    'boson_thermal': np.array([[21500, 21600, 21800], [22100, 23000, 23900]], np.uint16),
}


@pytest.mark.parametrize('path', RIGS, ids=lambda path: path.stem)
def test_a_rig_is_read_by_the_node_and_takes_the_frames_of_its_driver(path):
    [(node, content)] = yaml.safe_load(path.read_text(encoding='utf-8')).items()
    assert node == '/**'
    parameters = Parameters.from_ros(content['ros__parameters'])
    assert parameters == Parameters.from_ros(read_parameters(path))
    card = load_card(parameters.model)
    spec = replace(card.x, **({} if parameters.x_normalization == 'card' else
                              {'normalization': parameters.x_normalization}))
    assert parameters.x_kind == card.x.kind
    frame = FRAMES[path.stem]
    check_x(frame)
    low, high = find_x_limits(frame, spec)
    valid = frame[np.isfinite(frame) & (frame != 0)]
    assert valid.min() <= low < high <= valid.max()


@pytest.mark.parametrize('path', RIGS, ids=lambda path: path.stem)
def test_a_rig_tells_the_topics_of_its_driver_and_where_they_are_documented(path):
    text = path.read_text(encoding='utf-8')
    topics = dict(re.findall(r'^#   (\w+_topic):=(/\S+)$', text, re.MULTILINE))
    assert {'x_topic', 'x_info_topic'} <= topics.keys() <= LAUNCH_ARGUMENTS
    assert len({*topics.values()}) == len(topics)
    assert re.search(r'^# Source: .*(commit \w{7}|\n.*commit \w{7})', text, re.MULTILINE)
    assert 'Not tried with a camera' in text
