# Copyright 2026 rgbx_seg_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""
`rgbx-seg doctor`: what is installed, what runs the model here and how fast, and what to do.

Whatever is missing or broken becomes a line of the page: this is what one runs when nothing works.
"""

from collections.abc import Iterator
import contextlib
from importlib import import_module, metadata
import io
import os
from pathlib import Path
import platform
import re
import shlex
import shutil
import sys
from typing import NamedTuple
import warnings

import numpy as np
from rgbx_seg_ros import __version__
from rgbx_seg_ros.allocator import keep_freed_memory
from rgbx_seg_ros.cards.card import Card, load_card
from rgbx_seg_ros.cpu import Cpu, find_cpu
from rgbx_seg_ros.parameters import Parameters
from rgbx_seg_ros.resources import share_dir, use_fastdds_profile
from rgbx_seg_ros.tables import wrapped

OK, MISSING, BROKEN = '[ok]', '[--]', '[!!]'
DEFAULT = Parameters()
WORTHWHILE = 1.15
"""How many times as fast another engine must be to be recommended."""

_ROS = 'ROS 2'
_ERROR_LENGTH = 300
_SHARED_MEMORY = 128 << 20
"""Two processes with the shipped profile of Fast DDS need half of it for their segments."""
FLAGS = {'avx2': 'AVX2', 'avx512f': 'AVX-512', 'avx512_vnni': 'VNNI', 'avx_vnni': 'VNNI',
         'avx512_bf16': 'bfloat16', 'amx_bf16': 'bfloat16 (AMX)', 'asimd': 'NEON',
         'sve': 'SVE', 'i8mm': 'int8 products', 'bf16': 'bfloat16'}


class Fact(NamedTuple):
    """A line of the page."""

    mark: str
    """OK, MISSING (but not needed) or BROKEN; empty for a plain fact."""
    name: str
    text: str
    """Of several lines where one of them is a command to copy."""


class Library(NamedTuple):
    """Something that can be imported."""

    module: str
    name: str
    purpose: str
    source: str
    """How to get it."""
    needed: bool = False


_ONNX, _APT = "pip install 'rgbx_seg_ros[onnx]'", 'apt install ros-$ROS_DISTRO-'
LIBRARIES = (
    Library('torch', 'PyTorch', 'all networks', 'pip install torch', True),
    Library('numpy', 'NumPy', 'all frames', 'pip install numpy', True),
    Library('cv2', 'OpenCV', 'all frames', 'pip install opencv-python-headless', True),
    Library('onnxruntime', 'ONNX Runtime', 'engine onnx', _ONNX),
    Library('onnx', 'onnx', 'rgbx-seg export, engine onnx', _ONNX),
    Library('onnxscript', 'onnxscript', 'rgbx-seg export, engine onnx', _ONNX),
)
ROS_LIBRARIES = (
    Library('cv_bridge', 'cv_bridge', 'rare image encodings', f'{_APT}cv-bridge'),
    Library('message_filters', 'message_filters', 'sync.policy approximate and exact',
            f'{_APT}message-filters'),
    Library('vision_msgs', 'vision_msgs', 'topic segmentation/label_info', f'{_APT}vision-msgs'),
)


# What is installed

def installed() -> Iterator[Fact]:
    """Yield the libraries, ROS among them."""
    yield Fact(OK, 'Python', f'{platform.python_version()}, {sys.executable}')
    for library in LIBRARIES:
        yield _library(library)
    ros = _ros()
    yield ros
    if ros.mark == OK:  # else one line is enough
        yield from map(_library, ROS_LIBRARIES)


def _library(library):
    module, error = _import(library.module)
    if module is not None:
        details = _providers(module) if library.module == 'onnxruntime' else ''
        return Fact(OK, library.name, f'{_version(module)}{details}')
    if isinstance(error, ModuleNotFoundError) and error.name == library.module:
        return Fact(BROKEN if library.needed else MISSING, library.name,
                    f'missing, for {library.purpose}:\n{_source(library)}')
    return Fact(BROKEN, library.name,
                f'cannot be loaded: {_line(error)}; it is for {library.purpose}')


def _source(library):
    distribution = os.environ.get('ROS_DISTRO')
    if distribution is None and library in ROS_LIBRARIES:
        return 'it comes with a ROS distribution, not from pip'
    return library.source.replace('$ROS_DISTRO', str(distribution))


def _import(name):
    """Return a module and None, or None and the error, without a word of its own on stderr."""
    try:
        with contextlib.redirect_stderr(io.StringIO()), warnings.catch_warnings():
            warnings.simplefilter('ignore')
            return import_module(name), None
    except Exception as error:  # noqa: BLE001 whatever a broken library raises
        return None, error


def _version(module):
    """Return the version of a module; those of ROS have it in their metadata alone."""
    name = module.__name__
    for distribution in (name, f'ros-{name}'.replace('_', '-')):
        if found := getattr(module, '__version__', None):
            return str(found)
        with contextlib.suppress(metadata.PackageNotFoundError):
            return metadata.version(distribution)
    return 'found'


def _providers(runtime):
    names = [name.removesuffix('ExecutionProvider') for name in runtime.get_available_providers()]
    return f' ({", ".join(names)})'


def _ros():
    rclpy, error = _import('rclpy')
    if rclpy is None:
        if not isinstance(error, ModuleNotFoundError) or error.name != 'rclpy':
            return Fact(BROKEN, _ROS, f'cannot be loaded: {_line(error)}; this Python is '
                                      f'{platform.python_version()}, is it the one of ROS?')
        found = sorted(Path('/opt/ros').glob('*/setup.sh'))
        source = f'. {found[-1]}' if found else "pip install 'rgbx_seg_ros[ros]'"
        return Fact(MISSING, _ROS, f'missing, for the live node:\n{source}')
    try:
        middleware = import_module('rclpy.utilities').get_rmw_implementation_identifier()
    except Exception as error:  # noqa: BLE001 a middleware that is not there, in many ways
        return Fact(BROKEN, _ROS, f'has no middleware: {_line(error)}')
    name = os.environ.get('ROS_DISTRO', 'without a distribution')
    return Fact(OK, _ROS, f'{name}, rclpy {_version(rclpy)}, {middleware}')


def _line(error):
    """Return an error as one line."""
    text = ' '.join(str(error).split()) or type(error).__name__
    return text if len(text) <= _ERROR_LENGTH else f'{text[:_ERROR_LENGTH]}...'


# The machine

def machine() -> Iterator[Fact]:
    """Yield CPU, memory and GPUs."""
    cores = _cores()
    cpu = find_cpu()
    yield Fact('', 'CPU', ', '.join([str(cpu), f'{cores} core{"s" * (cores != 1)}',
                                     *features(cpu)]))
    memory = {name: int(kib) * 1024 for name, kib in re.findall(
        r'^(\w+): +(\d+) kB', _read('/proc/meminfo'), re.MULTILINE)}
    if 'MemAvailable' in memory:
        yield Fact('', 'memory', f'{memory["MemTotal"] / 1e9:.1f} GB, '
                                 f'{memory["MemAvailable"] / 1e9:.1f} GB of it available')
    yield from _gpus()


def _cores():
    """Return how many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, 'sched_getaffinity') else os.cpu_count()


def _read(path):
    try:
        return Path(path).read_text(encoding='utf-8', errors='replace')
    except OSError:
        return ''  # not Linux


def features(cpu: Cpu) -> list[str]:
    """Return what makes networks quick on a processor."""
    return list(dict.fromkeys(text for flag, text in FLAGS.items() if flag in cpu.flags))


def driver() -> str:
    """Return the version of NVIDIA's driver, '' without one."""
    found = re.search(r'\s(\d+(?:\.\d+)+)\s', _read('/proc/driver/nvidia/version'))
    return found.group(1) if found else ''


def _gpus():
    torch, _ = _import('torch')
    count = torch.cuda.device_count() if torch is not None else 0
    for index in range(count):
        facts = torch.cuda.get_device_properties(index)
        yield Fact('', 'GPU', f'cuda:{index} {facts.name}, {facts.total_memory / 1e9:.0f} GB, '
                              f'driver {driver() or "unknown"}, CUDA {torch.version.cuda}')
    if not count:
        yield Fact('', 'GPU', 'none that PyTorch can use')


# The engines

def _engines(card):
    """Return Trials, and facts; None and the reason where there cannot be any."""
    try:
        from rgbx_seg_ros.benchmark.doctor_engines import examine
    except ImportError as error:
        return None, [Fact(BROKEN, DEFAULT.engine, f'cannot be loaded: {_line(error)}')]
    keep_freed_memory()
    trials = examine(card, DEFAULT.device)
    facts = [*map(_trial, trials.engines),
             Fact('', 'frames', f'{trials.frames}; times are medians'), _cache()]
    return trials, facts


def _trial(trial):
    if trial.error is not None:
        return Fact(BROKEN, trial.name, _line(trial.error))
    if trial.ms is None:
        return Fact(MISSING, trial.name, trial.result)
    return Fact(OK, trial.name, f'{trial.result:17}  {trial.ms:6.1f} ms  {trial.device}')


def _cache():
    from rgbx_seg_ros.engines.cache import cache_dir, check_trusted, COMPILED, ONNX
    from rgbx_seg_ros.errors import EngineError
    folder, home = cache_dir(), Path(os.path.expanduser('~'))
    try:
        check_trusted(folder)
    except EngineError as error:
        return Fact(BROKEN, 'engine files', str(error))
    size = models = 0
    for path in folder.rglob('*'):
        with contextlib.suppress(FileNotFoundError):  # a node may be at work
            size += path.stat().st_size
            models += path.suffix in (ONNX, COMPILED)
    if folder.is_relative_to(home):
        folder = f'~/{folder.relative_to(home)}'
    return Fact('', 'engine files', f'{models} in {folder}, {size / 1e6:.0f} MB; they may be '
                'deleted' if models else f'none in {folder}')


# What to do

def advise(model: str, card: Card, trials, load: float) -> Iterator[str]:
    """
    Yield what to do, the most important first.

    `model` is what names the card, `load` that of the machine before the engines ran.
    """
    yield from _advise_on_engines(model, trials.engines)
    if card.weights is None:
        yield f'{card.name} has no weights: its masks mean nothing'
    elif card.golden is None:
        yield (f'{card.name} has no golden frame to test engines with; how to make one:\n'
               'rgbx-seg golden --help')
    yield from trials.warnings
    torch, _ = _import('torch')
    if driver() and not torch.cuda.is_available():
        yield (f"NVIDIA's driver {driver()} is here, but PyTorch {torch.__version__} cannot use "
               'it: install a build for a CUDA that the driver knows, see pytorch.org')
    cores = _cores()
    if load > cores / 2:
        yield (f'other processes keep the CPU busy (load {load:.1f}, {cores} cores): on a quiet '
               'machine the times are shorter')


def _advise_on_engines(model, trials):
    default = next(trial for trial in trials if trial.name == DEFAULT.engine)
    if default.ms is None:
        yield f'engine {default.name} does not work, so the node will not start with it'
    best = min((trial for trial in trials if trial.ms is not None), default=default,
               key=lambda trial: trial.ms)
    if best is default or (default.ms is not None and default.ms < WORTHWHILE * best.ms):
        return
    gain = '' if default.ms is None else f'is {default.ms / best.ms:.1f} x as fast here and '
    model = '' if model == DEFAULT.model else f' model:={shlex.quote(model)}'
    yield (f'engine {best.name} {gain}works:\n'
           f'ros2 launch rgbx_seg_ros seg.launch.py engine:={best.name}{model}')


def advise_on_ros(environment, middleware: str) -> Iterator[str]:
    """Yield what keeps images from arriving, from environment variables and the middleware."""
    if 'fastrtps' in middleware:
        with_profile = dict(environment)
        use_fastdds_profile(with_profile)
        for name, path in with_profile.items() - environment.items():
            yield ('Fast DDS loses most images between processes by default; the node sets a '
                   'profile for itself, set it where the cameras start as well:\n'
                   f'export {name}={shlex.quote(path)}')
        for name in ('FASTDDS_DEFAULT_PROFILES_FILE', 'FASTRTPS_DEFAULT_PROFILES_FILE'):
            if environment.get(name) and not Path(environment[name]).is_file():
                yield f'{name} names {environment[name]!r}, which is not there: correct it'
        if os.path.isdir('/dev/shm') and shutil.disk_usage('/dev/shm').free < _SHARED_MEMORY:
            yield ('/dev/shm is nearly full, images may not get through: in Docker, run with '
                   '--ipc=host or --shm-size=1g')
    if environment.get('ROS_DOMAIN_ID', '0') != '0':
        yield (f'ROS_DOMAIN_ID is {environment["ROS_DOMAIN_ID"]}: cameras and viewers need the '
               'same')
    for name, values in (('ROS_AUTOMATIC_DISCOVERY_RANGE', ('LOCALHOST', 'OFF')),
                         ('ROS_LOCALHOST_ONLY', ('1',))):
        if environment.get(name) in values:
            yield f'{name} is {environment[name]}: cameras of other machines are not seen'
    if _import('cv_bridge')[0] and int(np.__version__.partition('.')[0]) >= 2:
        yield ('cv_bridge of ROS is compiled against NumPy 1, but NumPy 2 is installed:\n'
               "pip install 'numpy<2'")


# The page

def section(title: str, facts) -> str:
    """Return a section of the page."""
    return '\n'.join([title, *(
        _item(f'  {fact.mark:4} {fact.name:15} ', fact.text) for fact in facts)])


def _item(start, text):
    """Return `text` as an item of a list; only prose is wrapped, commands are there to copy."""
    prose, *commands = text.split('\n')
    indent = ' ' * len(start)
    return '\n'.join([wrapped(prose, start), *(f'{indent}{command}' for command in commands)])


def add_arguments(parser):
    """Declare the command's arguments."""
    parser.add_argument('--model', default=DEFAULT.model, metavar='CARD',
                        help='a card, or the name of one (default: that of the node)')


def main(args) -> int:
    """Print the page; return 0 if the default engine works, else 1."""
    card, load = load_card(args.model), os.getloadavg()[0]
    libraries = list(installed())
    print(section(f'rgbx_seg_ros {__version__}, {share_dir()}', libraries), end='\n\n')
    print(section('This machine', machine()), end='\n\n', flush=True)
    trials, facts = _engines(card)
    print(section(f'Engines with {card.name}', facts), end='\n\n')
    ros = next(fact for fact in libraries if fact.name == _ROS)
    advice = [*(advise(args.model, card, trials, load) if trials else ()),
              *(advise_on_ros(os.environ, ros.text) if ros.mark == OK else ()),
              *(f'{fact.name} is needed, see above' for fact in libraries
                if fact.mark == BROKEN)]
    print('Advice')
    for text in advice or ['all is well; see it live:\nrgbx-seg demo']:
        print(_item('  * ', text))
    works = trials and any(trial.name == DEFAULT.engine and trial.ms is not None
                           for trial in trials.engines)
    return 0 if works else 1
