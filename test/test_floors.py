# Copyright 2026 rgbx_seg_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""The floors of the package: an import points down, and each floor has its own libraries."""

import ast
from graphlib import CycleError, TopologicalSorter
from pathlib import Path
import sys

import pytest

PACKAGE = 'rgbx_seg_ros'
ROOT = Path(__file__).parents[1]

# Every module stands here once, or its folder does. A module may import from its own floor and
# from those below; the libraries of a floor are for it and for those above.
FLOORS = {
    'plain data': {
        '', 'allocator', 'card', 'errors', 'fields', 'health', 'labels',
        'node_report', 'pairing', 'parameters', 'periods', 'pickles', 'resources', 'telemetry',
        'worker'},
    'torch': {
        'checkpoint', 'compiled_files', 'engines', 'folding', 'frames', 'graph', 'model_files',
        'networks', 'onnx_files', 'published_weights', 'segmenter', 'self_test', 'torch_files',
        'x_range'},
    'offline work': {
        'alignment', 'augment', 'benchmark_page', 'data_check', 'datasets', 'doctor',
        'doctor_engines', 'evaluate', 'export', 'golden', 'images', 'import_weights',
        'label_boxes', 'losses', 'metrics', 'models', 'optimizers', 'predict', 'processes',
        'protocols', 'quantization', 'registration', 'report', 'report_page', 'rig', 'roofline',
        'ros_runs', 'stages', 'tiles', 'train', 'train_config', 'train_data', 'train_log',
        'train_state', 'validation'},
    'edge': {
        'bags', 'benchmark', 'calibrate', 'compressed', 'demo', 'diagnostics', 'inputs',
        'make_bag', 'messages', 'node', 'node_parameters', 'outputs', 'pipeline', 'replay',
        'ros_benchmark', 'sync', 'top'},
    'command line': {'__main__'},
}
LIBRARIES = {
    'plain data': {'numpy', 'yaml'},
    'torch': {'safetensors', 'torch'},
    'offline work': {'cv2', 'h5py', 'jinja2', 'rasterio', 'scipy', 'tqdm'},
    'edge': {'rich', 'rosbags'},
    'command line': set(),
}

# Bags are written, replayed and scored on a laptop without ROS: these modules alone import it.
ROS_MODULES = {'demo', 'diagnostics', 'inputs', 'messages', 'node', 'node_parameters', 'outputs',
               'pipeline', 'ros_benchmark', 'sync', 'top'}
ROS_LIBRARIES = {
    'cv_bridge', 'diagnostic_msgs', 'lifecycle_msgs', 'message_filters', 'rcl_interfaces',
    'rclpy', 'sensor_msgs', 'std_msgs', 'vision_msgs'}
HEIGHT = {floor: height for height, floor in enumerate(FLOORS)}


def module_name(path):
    """Return the dotted name below the package: '' for the package, 'engines.torch_engine'."""
    parts = path.relative_to(ROOT / PACKAGE).with_suffix('').parts
    return '.'.join(parts[:-1] if parts[-1] == '__init__' else parts)


MODULES = {module_name(path): path for path in sorted((ROOT / PACKAGE).rglob('*.py'))}


def floor_of(module):
    """Return the floor of a module; that of its folder where it has one."""
    for floor, members in FLOORS.items():
        if module.split('.')[0] in members:
            return floor
    raise AssertionError(f'{module!r} has no floor: give it one in FLOORS of {__file__}')


def statements(tree, lazy):
    """Yield the nodes of the code; those inside of functions only if `lazy`."""
    for node in ast.iter_child_nodes(tree):
        yield node
        if lazy or not isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            yield from statements(node, lazy)


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


@pytest.mark.parametrize('module', MODULES)
def test_imports_point_down(module):
    height = HEIGHT[floor_of(module)]
    upward = {name for name in own_imports(module) if HEIGHT[floor_of(name)] > height}
    assert not upward, f'{module or PACKAGE} imports {upward} from a higher floor'


@pytest.mark.parametrize('module', MODULES)
def test_a_floor_uses_its_own_libraries_and_those_below(module):
    height = HEIGHT[floor_of(module)]
    allowed = {name for floor, names in LIBRARIES.items() if HEIGHT[floor] <= height
               for name in names} | (ROS_LIBRARIES if module in ROS_MODULES else set())
    used = {name for kind, name in IMPORTS[module] if kind == 'library'}
    foreign = used - allowed - sys.stdlib_module_names
    assert not foreign, f'{module or PACKAGE} imports {foreign}: not a library of its floor'


@pytest.mark.parametrize('module', sorted(set(MODULES) - ROS_MODULES))
def test_a_module_that_does_not_speak_ros_can_be_imported_without_it(module):
    reached, waiting = set(), {module}
    while waiting:
        name = waiting.pop()
        reached.add(name)
        at_once = imports(MODULES[name], lazy=False)
        ros = {library for kind, library in at_once if kind == 'library'} & ROS_LIBRARIES
        assert not ros, f'importing {module or PACKAGE} imports {name} and with it {ros}'
        waiting |= {own for kind, own in at_once if kind == 'own'} - reached


def test_networks_do_not_import_each_other():
    networks = {name for name in own_imports('networks') if name.startswith('networks.')}
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


def test_every_module_named_by_a_floor_exists():
    named = {name for members in FLOORS.values() for name in members}
    existing = {module.split('.')[0] for module in MODULES}
    assert named <= existing
    assert len(named) == sum(map(len, FLOORS.values())), 'a module stands on two floors'
