# Copyright 2026 rgbx_seg_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""The rooms of the package: an import points down, and each room has its own libraries."""

import ast
from functools import cache
from graphlib import CycleError, TopologicalSorter
from pathlib import Path
import re
import sys

import pytest

PACKAGE = 'rgbx_seg_ros'
ROOT = Path(__file__).parents[1]

# A room is a folder, or a module beside them. It may use the rooms above it in this list, and
# never those below. With it stand the libraries that it brings, besides those of the rooms above.
ROOMS = {
    '': set(),
    'errors': set(),
    'fields': {'yaml'},
    'files': set(),
    'tables': set(),
    'resources': set(),
    'sensors': set(),
    'subprocesses': set(),
    'cpu': set(),
    'allocator': set(),
    'waiting': set(),
    'pictures': {'cv2', 'numpy'},
    'distributed': {'torch'},
    'cards': set(),
    'messages': set(),
    'sync': set(),
    'networks': set(),
    'frames': set(),
    'health': set(),
    'parameters': set(),
    'projection': set(),
    'weights': {'safetensors'},
    'datasets': {'h5py', 'rasterio', 'scipy', 'tqdm'},
    'bags': {'rosbags'},
    'registration': set(),
    'engines': {'filelock'},
    'inference': set(),
    'evaluation': {'jinja2'},
    'export': set(),
    'training': set(),
    'replay': set(),
    'extraction': set(),
    'labelling': {'pycocotools'},
    'node': {'rich'},
    'benchmark': set(),
    '__main__': set(),
}
HEIGHT = {room: height for height, room in enumerate(ROOMS)}

# Bags are written, replayed and scored on a laptop without ROS: these alone import it.
ROS_ROOMS = {'node'}
ROS_MODULES = {'benchmark.live'}
ROS_LIBRARIES = {
    'cv_bridge', 'diagnostic_msgs', 'lifecycle_msgs', 'message_filters', 'nav_msgs',
    'rcl_interfaces', 'rclpy', 'sensor_msgs', 'std_msgs', 'std_srvs', 'tf2_ros', 'vision_msgs'}
LAZY_ROS = {'messages.images': {'cv_bridge', 'sensor_msgs'}}
"""What a module may ask of ROS where it is there."""

# A node that only waits, and the help of a verb, must not wait for PyTorch.
TORCH_FREE = {'pictures', 'cards', 'messages', 'sync', 'frames', 'health', 'parameters',
              'projection', 'node'}


def module_name(path):
    """Return the dotted name below the package: '' for the package, 'engines.torch_engine'."""
    parts = path.relative_to(ROOT / PACKAGE).with_suffix('').parts
    return '.'.join(parts[:-1] if parts[-1] == '__init__' else parts)


MODULES = {module_name(path): path for path in sorted((ROOT / PACKAGE).rglob('*.py'))}


def room_of(module):
    """Return the room of a module."""
    room = module.partition('.')[0]
    assert room in ROOMS, f'{module!r} stands in no room: give it one in ROOMS of {__file__}'
    return room


def statements(tree, lazy):
    """Yield the nodes of the code; those inside of functions, and for types, only if `lazy`."""
    for node in ast.iter_child_nodes(tree):
        if not lazy and isinstance(node, ast.If) and ast.unparse(node.test) == 'TYPE_CHECKING':
            continue
        yield node
        if lazy or not isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            yield from statements(node, lazy)


@cache
def imports(path, lazy=True):
    """Return what a file imports: ('own', module) and ('library', top-level name)."""
    found = set()
    for node in statements(ast.parse(path.read_text(encoding='utf-8')), lazy):
        if isinstance(node, ast.Import):
            for alias in node.names:
                found.update(resolve(alias.name, []))
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f'{path}:{node.lineno}: relative import, write {PACKAGE}. ...'
            found.update(resolve(node.module, [alias.name for alias in node.names]))
    return found


def resolve(name, members):
    """Yield ('own', module) or ('library', top-level name) for `from name import members`."""
    if name.split('.')[0] != PACKAGE:
        yield 'library', name.split('.')[0]
        return
    module = name[len(PACKAGE):].lstrip('.')
    submodules = {f'{module}.{member}'.lstrip('.') for member in members} & set(MODULES)
    for own in submodules or {module}:
        yield 'own', own


IMPORTS = {module: imports(path) for module, path in MODULES.items()}


def own_imports(module):
    """Return the modules of the package that `module` imports."""
    return {name for kind, name in IMPORTS[module] if kind == 'own'}


def libraries_at_import(module):
    """Return the libraries that importing a module imports, with the module that does it."""
    found, reached, waiting = {}, set(), {module}
    while waiting:
        name = waiting.pop()
        reached.add(name)
        for kind, target in imports(MODULES[name], lazy=False):
            if kind == 'library':
                found.setdefault(target, name)
            else:
                # With a module comes the face of its folder.
                waiting |= {target, target.partition('.')[0]} - reached
    return found


@pytest.mark.parametrize('module', MODULES)
def test_imports_point_to_rooms_above(module):
    height = HEIGHT[room_of(module)]
    below = {name for name in own_imports(module) if HEIGHT[room_of(name)] > height}
    assert not below, f'{module or PACKAGE} imports {below} from a room below its own'


@pytest.mark.parametrize('module', MODULES)
def test_a_room_uses_the_libraries_of_its_own_and_of_those_above(module):
    height = HEIGHT[room_of(module)]
    allowed = set().union(*(names for room, names in ROOMS.items() if HEIGHT[room] <= height))
    if room_of(module) in ROS_ROOMS or module in ROS_MODULES:
        allowed |= ROS_LIBRARIES
    used = {name for kind, name in IMPORTS[module] if kind == 'library'}
    foreign = used - allowed - sys.stdlib_module_names - LAZY_ROS.get(module, set())
    assert not foreign, f'{module or PACKAGE} imports {foreign}: not a library of its room'


@pytest.mark.parametrize('module', [
    name for name in MODULES if room_of(name) not in ROS_ROOMS and name not in ROS_MODULES])
def test_a_module_that_does_not_speak_ros_can_be_imported_without_it(module):
    ros = {library: by for library, by in libraries_at_import(module).items()
           if library in ROS_LIBRARIES}
    assert not ros, f'importing {module or PACKAGE} imports {ros}'


@pytest.mark.parametrize('module', [name for name in MODULES if room_of(name) in TORCH_FREE])
def test_a_module_that_must_be_quick_does_not_import_torch(module):
    by = libraries_at_import(module).get('torch')
    assert by is None, f'importing {module} imports torch, in {by}'


def test_networks_do_not_import_each_other():
    networks = {name for name in own_imports('networks') if name.startswith('networks.')}
    networks.remove('networks.base')
    assert networks, 'networks/__init__.py imports no network'
    for module in MODULES:
        if module.startswith('networks.'):
            others = own_imports(module) & networks
            assert not others, f'{module} imports the network {others}: share through layers'


def test_no_modules_import_each_other_in_a_circle():
    try:
        TopologicalSorter({module: own_imports(module) for module in MODULES}).prepare()
    except CycleError as error:
        raise AssertionError(f'a circle of imports: {" -> ".join(error.args[1])}') from None


def test_every_room_exists():
    assert set(ROOMS) == {module.partition('.')[0] for module in MODULES}


# docs/architecture.md


PAGE = (ROOT / 'docs' / 'architecture.md').read_text(encoding='utf-8')
AT_THE_ROOT = {
    '', '__main__', 'allocator', 'cpu', 'distributed', 'errors', 'fields', 'files', 'pictures',
    'resources', 'sensors', 'subprocesses', 'tables', 'waiting'}


def uses():
    """Return for each room of the picture those that it imports from."""
    found = {room: set() for room in ROOMS if room not in AT_THE_ROOT}
    for module in MODULES:
        if room_of(module) in found:
            found[room_of(module)] |= {room_of(name) for name in own_imports(module)}
    return {room: others & found.keys() - {room} for room, others in found.items()}


def test_the_page_has_every_room_in_its_order():
    tree = PAGE.partition('```\n')[2].partition('```')[0]
    names = re.findall(r'^  (\w+)(?:/|\.py) ', tree, re.MULTILINE)
    shown = [name for name in names if name not in AT_THE_ROOT | {'__init__'}]
    assert shown == [room for room in ROOMS if room not in AT_THE_ROOT]
    assert set(names) == {room or '__init__' for room in ROOMS}


def test_the_picture_has_the_arrows_that_do_not_follow_from_others():
    graph = uses()

    def reachable(room, but=None):
        waiting, reached = graph[room] - {but}, set()
        while waiting:
            room = waiting.pop()
            reached.add(room)
            waiting |= graph[room] - reached
        return reached
    needed = {(room, other) for room, others in graph.items() for other in others
              if other not in reachable(room, but=other)}
    assert set(re.findall(r'^    (\w+) --> (\w+)$', PAGE, re.MULTILINE)) == needed


def test_every_file_that_the_page_names_exists():
    names = set(re.findall(r'`((?:\w+/)+[\w.]*|\w+\.py)`', PAGE))
    assert len(names) > 40
    for name in names:
        assert (ROOT / PACKAGE / name).exists() or (ROOT / name).exists(), name
