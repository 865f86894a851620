# Copyright 2026 rgbx_seg_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""The package as ROS and pip see it: metadata, locked versions, archives and installs."""

import ast
import itertools
import os
from pathlib import Path
import re
import runpy
import shutil
import subprocess
import sys
from xml.etree import ElementTree

import cv2
import pytest
from rgbx_seg_ros import __version__
from rgbx_seg_ros.resources import share_dir
from support.checkout import checkout_files, imported_libraries, MADE, NAME, ROOT

SHARED_FOLDERS = ['config', 'demo', 'launch', 'models']
LOCKS = sorted((ROOT / 'requirements').glob('lock*.txt'))

# Distribution of the module where their names differ.
DISTRIBUTIONS = {'cv2': 'opencv-python-headless', 'yaml': 'pyyaml'}


@pytest.fixture(scope='module')
def manifest():
    return ElementTree.parse(ROOT / 'package.xml').getroot()


@pytest.fixture(scope='module')
def metadata():
    """Return what setup.py hands to setuptools."""
    setuptools = pytest.importorskip('setuptools', reason='setup.py needs setuptools')
    given = {}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(setuptools, 'setup', lambda **keywords: given.update(keywords))
        patch.chdir(ROOT)
        runpy.run_path('setup.py')
    return given


# package.xml


def test_ros_parses_package_xml_without_a_warning():
    package = pytest.importorskip(
        'catkin_pkg.package', reason='catkin_pkg comes with colcon-ros')
    warnings = []
    parsed = package.parse_package(ROOT / 'package.xml', warnings=warnings)
    parsed.validate(warnings=warnings)
    assert warnings == []
    assert parsed.get_build_type() == 'ament_python'


def test_package_xml_and_setup_py_say_the_same(manifest, metadata):
    maintainer = manifest.find('maintainer')
    assert manifest.get('format') == '3'
    assert manifest.findtext('name') == metadata['name'] == NAME
    assert manifest.findtext('version') == metadata['version'] == __version__
    assert manifest.findtext('license') == metadata['license'] == 'Apache-2.0'
    assert (ROOT / manifest.find('license').get('file')).is_file()
    assert maintainer.text == metadata['maintainer']
    assert maintainer.get('email') == metadata['maintainer_email']
    assert [tag.text for tag in manifest.iter('author')] == [metadata['author']]
    urls = {tag.get('type'): tag.text for tag in manifest.iter('url')}
    assert urls == {'website': metadata['url'], 'repository': metadata['project_urls']['Source'],
                    'bugtracker': metadata['project_urls']['Tracker']}
    # A bad address is enough for colcon to take the package for one without ROS.
    assert re.fullmatch(r'[\w.+-]+@[\w-]+(\.[\w-]+)+', maintainer.get('email'))


def test_package_xml_names_every_library_that_rosdep_can_install(manifest):
    keys = {'cv2': 'python3-opencv', 'jinja2': 'python3-jinja2', 'numpy': 'python3-numpy',
            'tf2_ros': 'tf2_ros_py', 'tqdm': 'python3-tqdm', 'rich': 'python3-rich',
            'yaml': 'python3-yaml'}
    from_pip = {'filelock', 'h5py', 'pycocotools', 'rasterio', 'rosbags', 'safetensors', 'scipy',
                'torch'}
    needed = imported_libraries(ROOT / NAME) | imported_libraries(ROOT / 'launch')
    named = {tag.text for tag in manifest.iter('exec_depend')}
    missing = {keys.get(name, name) for name in needed - from_pip} - named
    assert not missing


# setup.py


def test_setup_py_asks_for_every_library_from_pip(metadata):
    from packaging.requirements import Requirement
    extras = metadata['extras_require']
    asked = {Requirement(text).name.lower() for text in (
        *metadata['install_requires'], *extras['coco'], *extras['large-images'],
        *extras['nyuv2'])}
    from_ros = {tag.text for tag in ElementTree.parse(ROOT / 'package.xml').iter('exec_depend')}
    from_ros.add('tf2_ros')  # which tf2_ros_py brings
    needed = {DISTRIBUTIONS.get(name, name)
              for name in imported_libraries(ROOT / NAME) - from_ros}
    assert needed == asked


def test_every_shared_file_is_installed_under_its_own_path(metadata):
    installed = {f'{folder}/{Path(path).name}': path
                 for folder, paths in metadata['data_files'] for path in paths}
    for target, source in installed.items():
        assert (ROOT / source).is_file(), f'{source} is installed as {target} and does not exist'
    for path in checkout_files('*'):
        relative = path.relative_to(ROOT).as_posix()
        if relative.split('/')[0] in SHARED_FOLDERS and not path.name.startswith('.'):
            assert installed.get(f'share/{NAME}/{relative}') == relative
    assert installed[f'share/{NAME}/package.xml'] == 'package.xml'
    assert installed[f'share/ament_index/resource_index/packages/{NAME}'] == f'resource/{NAME}'


def test_every_file_of_a_package_that_is_no_module_is_carried_with_it(metadata):
    carried = {path for name in metadata['packages'] for pattern in metadata['package_data']['']
               for path in (ROOT / name.replace('.', '/')).glob(pattern)}
    assert carried and carried == {
        path for path in checkout_files('*')
        if ROOT / NAME in path.parents and path.suffix != '.py'}


def test_data_folders_are_not_taken_for_python_packages(metadata):
    assert all(name.split('.')[0] == NAME for name in metadata['packages'])
    folders = {path.parent.relative_to(ROOT).as_posix().replace('/', '.')
               for path in (ROOT / NAME).rglob('*.py')}
    assert set(metadata['packages']) == folders


def test_the_console_scripts_exist(metadata):
    scripts = dict(re.split(r'\s*=\s*', text)
                   for text in metadata['entry_points']['console_scripts'])
    assert set(scripts) == {'rgbx-seg', 'seg_node', 'seg_projection'}
    for target in scripts.values():
        module, function = target.split(':')
        tree = ast.parse((ROOT / f'{module.replace(".", "/")}.py').read_text(encoding='utf-8'))
        assert function in {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}


# requirements/


def locked():
    """Return the locked versions of each distribution; lock-distro.txt replaces, so it is left."""
    lines = [line for path in LOCKS if path.name != 'lock-distro.txt'
             for line in path.read_text(encoding='utf-8').splitlines()]
    pins = [line.partition(';')[0].split('==') for line in lines if line and line[0] != '#']
    return {re.sub('[_.]', '-', name.lower()): {
        version.strip() for other, version in pins if other == name} for name, _ in pins}


@pytest.mark.parametrize('path', LOCKS, ids=lambda path: path.name)
def test_a_lock_names_exact_versions_once(path):
    lines = [line for line in path.read_text(encoding='utf-8').splitlines()
             if line and not line.startswith('#')]
    for line in lines:
        assert re.fullmatch(r"[\w.-]+==[\w.]+(; python_version (<|>=) '3\.\d+')?", line), line
    # Two lines of one distribution are for the Pythons before a version, and for the others.
    pins = [(line.split('==')[0].lower(), line.partition(';')[2].replace('>=', '<'), '>=' in line)
            for line in lines]
    assert len(pins) == len(set(pins))
    names = [name for name, _, _ in pins]
    for name, marker, _ in pins:
        assert names.count(name) == 1 or {(name, marker, False), (name, marker, True)} < {*pins}


def test_the_locks_lie_within_the_ranges_of_setup_py(metadata):
    from packaging.requirements import Requirement
    pins = locked()
    extras = metadata['extras_require']
    for text in metadata['install_requires'] + extras['ros'] + extras['test']:
        requirement = Requirement(text)
        for version in pins[re.sub('[_.]', '-', requirement.name.lower())]:
            assert requirement.specifier.contains(version), text


PYTHONS = [f'3.{minor}' for minor in range(10, 15)]


@pytest.mark.long
@pytest.mark.parametrize('python', PYTHONS)
def test_the_locks_can_be_installed_and_are_whole(python, metadata, tmp_path):
    uv = pytest.importorskip('uv', reason='uv comes with requirements/lock.txt')
    out = tmp_path / 'resolved.txt'
    done = subprocess.run(
        [uv.find_uv_bin(), 'pip', 'compile', '--python-version', python, '--python-platform',
         'x86_64-manylinux_2_28', '--index-strategy', 'unsafe-best-match', '--no-annotate',
         '--no-header', '--no-python-downloads', '--output-file', out,
         *(path for path in LOCKS if path.name != 'lock-distro.txt')],
        capture_output=True, text=True)
    if 'dns error' in done.stderr or 'error sending request' in done.stderr:
        pytest.skip('needs the network')
    assert done.returncode == 0, done.stderr
    resolved = {re.sub('[_.]', '-', line.split('==')[0].lower()) for line in
                out.read_text().splitlines() if '==' in line}
    # torch says itself which CUDA it wants, where it wants any.
    cuda = re.compile('(nvidia|cuda)-.*|triton')
    assert {name for name in resolved if not cuda.fullmatch(name)} <= locked().keys()
    assert {'torch', 'numpy', 'rosbags'} < resolved


def test_every_python_is_named_where_people_look(metadata):
    for path in ('README.md', 'CONTRIBUTING.md', 'Makefile', 'requirements/lock.txt'):
        text = (ROOT / path).read_text(encoding='utf-8')
        assert f'Python {PYTHONS[0]} to {PYTHONS[-1]}' in text, path
    assert metadata['python_requires'] == f'>={PYTHONS[0]}'


# Every file


def test_every_python_file_begins_with_the_license_header():
    for path in checkout_files('*.py'):
        header = path.read_text(encoding='utf-8').splitlines()[:2]
        assert header == [f'# Copyright 2026 {NAME} contributors',
                          '# SPDX-License-Identifier: Apache-2.0'], path


def test_warnings_are_caught_only_where_no_other_thread_may_warn():
    # catch_warnings changes filters of the whole process: it swallows what other threads say.
    catching = {path.stem for path in (ROOT / NAME).rglob('*.py')
                if 'catch_warnings(' in path.read_text(encoding='utf-8')}
    assert catching == {'doctor', 'doctor_engines'}  # processes of their own


def test_the_license_is_the_whole_apache_license():
    text = (ROOT / 'LICENSE').read_text(encoding='utf-8')
    assert 'Version 2.0, January 2004' in text
    assert 'END OF TERMS AND CONDITIONS' in text


@pytest.mark.parametrize('suffix', ['py', 'yaml', 'xml', 'md', 'txt', 'cfg', 'toml', 'json'])
def test_no_file_holds_a_path_of_somebodys_machine(suffix):
    private = re.compile(r'(?<![\w.~$}])/(?:home|root|Users|work|mnt)/\w')
    for path in checkout_files(f'*.{suffix}'):
        found = private.search(path.read_text(encoding='utf-8'))
        assert not found, f'{path.relative_to(ROOT)}: {found}'


# Makefile


@pytest.mark.parametrize('version', [(3, 9), (3, 15)])
def test_make_refuses_a_python_that_the_lock_is_not_for(version, tmp_path):
    copy = copy_checkout(tmp_path)
    python = tmp_path / 'python3'
    python.write_text(f'#!/bin/sh\nexec {sys.executable} -c '
                      f'"import sys; sys.version_info = {version}; exec(sys.argv[1])" "$2"\n')
    python.chmod(0o755)
    done = make('venv', copy, PYTHON=python)
    assert done.returncode != 0
    assert f"'{python}' is not a Python 3.10 to 3.14" in done.stderr
    assert not (copy / '.venv').exists()


def test_make_says_so_when_a_sourced_distribution_is_for_another_python(tmp_path):
    copy = copy_checkout(tmp_path)
    without_rclpy = tmp_path / 'python3'
    without_rclpy.write_text(f'#!/bin/sh\nexec {sys.executable} -I -S "$@"\n')
    without_rclpy.chmod(0o755)
    done = make('venv', copy, PYTHON=without_rclpy, ROS_DISTRO='jazzy', AMENT_PREFIX_PATH='/opt')
    assert done.returncode != 0
    assert 'ROS jazzy is sourced' in done.stderr
    assert not (copy / '.venv').exists()


def test_make_lints_and_then_runs_each_test_in_one_of_four_parts():
    assert (ROOT / '.ci' / 'run').read_text().splitlines()[-3:] == [
        'make test', 'make test-long', 'make docs']
    said = subprocess.run(['make', '-n', 'test', 'test-long'], cwd=ROOT, check=True,
                          capture_output=True, text=True).stdout
    parts = re.findall(r"-m pytest -m '(.*?)'(.*)", said)
    assert said.index(' ruff check .') < said.index(' flake8 .') < said.index(' pytest ')
    for marks in itertools.product((False, True), repeat=2):
        chosen, = (options for expression, options in parts
                   if eval(expression, dict(zip(('long', 'alone'), marks, strict=True))))
        assert ('--numprocesses' in chosen) != marks[1]


def make(target, folder, **variables):
    """Run make in a folder, outside of the make that may have started the tests."""
    environment = {name: value for name, value in os.environ.items()
                   if name not in {'MAKEFLAGS', 'MAKELEVEL', 'ROS_DISTRO', 'AMENT_PREFIX_PATH'}}
    environment.update({name: str(value) for name, value in variables.items()})
    return subprocess.run(['make', target], cwd=folder, env=environment, capture_output=True,
                          text=True)


# Installs


def copy_checkout(tmp_path):
    """Copy the checkout as it is now, without what was made in it, and return the copy."""
    return Path(shutil.copytree(ROOT, tmp_path / 'checkout', symlinks=True,
                                ignore=shutil.ignore_patterns(*MADE, '*.egg-info')))


def check_files(packages, share):
    """Check that modules and templates lie below `packages`, and the shared files in `share`."""
    carried = []
    for path in checkout_files('*'):
        relative = path.relative_to(ROOT)
        if relative.parts[0] in {NAME, *SHARED_FOLDERS} and not path.name.startswith('.'):
            found = (packages if relative.parts[0] == NAME else share) / relative
            assert found.is_file(), f'{relative} is missing'
            assert found.read_bytes() == path.read_bytes(), f'{relative} is another one'
            carried.append(relative)
    for pattern in ('templates/*.j2', 'templates/*.css', 'models/*.yaml', 'models/*.safetensors',
                    'models/*.golden.npz', 'launch/*.launch.py', 'config/*.yaml', 'config/*.xml'):
        assert any(path.match(pattern) for path in carried), pattern


def say(*words, environment):
    """Run a command far from the checkout; return what it said."""
    return subprocess.run([str(word) for word in words], env=environment, check=True,
                          cwd=ROOT.anchor, stdout=subprocess.PIPE, text=True).stdout


def check_installed(command, python, share, environment):
    """Check that an installed `rgbx-seg` runs and that its data are those below `share`."""
    assert say(command, '--version', environment=environment) == f'rgbx-seg {__version__}\n'
    package, found = say(
        python, '-c', f'from {NAME} import resources; print(resources.__file__); '
                      'print(resources.share_dir())', environment=environment).splitlines()
    assert Path(found).resolve() == share.resolve()
    check_files(Path(package).parents[1], share)
    cards = [path.stem for path in (share_dir() / 'models').glob('*.yaml')]
    listed = say(command, 'models', environment=environment)
    assert cards and all(card in listed for card in cards)


def clean_environment(**variables):
    """Return the environment without what could lead Python or ROS to this checkout."""
    kept = {name: value for name, value in os.environ.items()
            if name not in {'PYTHONPATH', 'AMENT_PREFIX_PATH', 'COLCON_PREFIX_PATH',
                            '_ROS_WHEELS_BOOTSTRAP_COMPLETE', 'VIRTUAL_ENV'}}
    return {**kept, 'OMP_NUM_THREADS': '1', **variables}


@pytest.fixture(scope='module')
def archives(tmp_path_factory):
    """Return the sdist of the checkout and the wheel that is built from this sdist."""
    folder = tmp_path_factory.mktemp('archives')
    subprocess.run(
        [sys.executable, '-c', 'import sys; from setuptools import build_meta; '
                               'build_meta.build_sdist(sys.argv[1])', folder],
        cwd=copy_checkout(folder), check=True, env=clean_environment())
    sdist, = folder.glob('*.tar.gz')
    # Without --no-cache-dir pip would keep this wheel in the user's cache for good.
    subprocess.run([sys.executable, '-m', 'pip', 'wheel', '--no-cache-dir', '--no-deps',
                    '--no-build-isolation', '--wheel-dir', folder, sdist],
                   check=True, env=clean_environment())
    wheel, = folder.glob('*.whl')
    return sdist, wheel


@pytest.fixture
def fresh_python(tmp_path):
    """Return the Python of a new environment that has all libraries, but not this package."""
    environment = clean_environment()
    subprocess.run([sys.executable, '-m', 'venv', '--without-pip', tmp_path / 'venv'],
                   check=True, env=environment)
    python = tmp_path / 'venv' / 'bin' / 'python'
    # The new environment borrows the libraries of this one, pip and torch above all. As lines of a
    # .pth file the folders are searched last, and their own .pth files (this checkout's) do not
    # count.
    purelib = subprocess.run(
        [python, '-c', 'import sysconfig; print(sysconfig.get_path("purelib"))'],
        check=True, env=environment, stdout=subprocess.PIPE, text=True).stdout.strip()
    folders = [path for path in sys.path if path.endswith(('site-packages', 'dist-packages'))]
    Path(purelib, 'borrowed.pth').write_text('\n'.join(folders))
    return python


def pip_install(python, *what):
    """Install without the network; return the folder of the commands that it made."""
    subprocess.run([python, '-m', 'pip', 'install', '--no-deps', '--no-build-isolation', *what],
                   check=True, env=clean_environment())
    assert (python.parent / 'seg_node').is_file()
    return python.parent


@pytest.mark.long
def test_sdist_and_wheel_carry_every_file(archives, tmp_path):
    sdist, wheel = archives
    shutil.unpack_archive(sdist, tmp_path)
    shutil.unpack_archive(wheel, tmp_path / 'wheel', 'zip')
    folder = tmp_path / f'{NAME}-{__version__}'
    check_files(folder, folder)
    check_files(tmp_path / 'wheel',
                tmp_path / 'wheel' / f'{NAME}-{__version__}.data' / 'data' / 'share' / NAME)


# It holds for `pip install .` as well, for which pip builds a wheel and installs that.
@pytest.mark.long
def test_an_installed_wheel_predicts_and_leaves_a_report(archives, fresh_python, tmp_path):
    command = pip_install(fresh_python, archives[1]) / 'rgbx-seg'
    share, environment = tmp_path / 'venv' / 'share' / NAME, clean_environment()
    check_installed(command, fresh_python, share, environment)
    demo, mask, page = share / 'demo', tmp_path / 'mask.png', tmp_path / 'report.html'
    say(command, 'predict', demo / 'rgb' / '00024N.jpg', demo / 'thermal' / '00024N.png',
        '--out', tmp_path / 'overlay.png', '--mask', mask, environment=environment)
    ids = cv2.imread(str(mask), cv2.IMREAD_UNCHANGED)
    assert ids.shape == cv2.imread(str(demo / 'rgb' / '00024N.jpg')).shape[:2]
    assert 0.02 < (ids == 6).mean() < 0.15  # persons
    say(command, 'evaluate', '--model', 'potholes', '--data', demo / 'potholes',
        '--dataset', 'potholes', '--split', 'test', '--report', page, environment=environment)
    text = page.read_text(encoding='utf-8')
    assert text.endswith('</html>') and text.count('</svg>') == 2 and ':root {' in text


@pytest.mark.long
def test_an_editable_install_runs_from_the_checkout(fresh_python, tmp_path):
    copy = copy_checkout(tmp_path)
    command = pip_install(fresh_python, '--editable', copy) / 'rgbx-seg'
    check_installed(command, fresh_python, copy, clean_environment())


@pytest.mark.long
@pytest.mark.parametrize('options', [(), ('--merge-install',), ('--symlink-install',)],
                         ids=['plain', 'merged', 'symlinks'])
def test_colcon_builds_a_ros_package(options, tmp_path):
    for module in ('colcon_core', 'colcon_ros', 'colcon_package_information'):
        pytest.importorskip(module, reason=f'{module} comes with requirements/lock.txt')
    copy = copy_checkout(tmp_path)
    environment = clean_environment(COLCON_HOME=str(tmp_path), COLCON_LOG_PATH=str(tmp_path))

    def colcon(*words):
        return subprocess.run([sys.executable, '-m', 'colcon', *words], cwd=tmp_path,
                              env=environment, check=True, stdout=subprocess.PIPE, text=True)

    listed = colcon('list', '--base-paths', 'checkout').stdout.split('\t')
    assert [listed[0], listed[2].strip()] == [NAME, '(ros.ament_python)']

    colcon('build', '--base-paths', 'checkout', *options)
    prefix = tmp_path / 'install' / ('' if '--merge-install' in options else NAME)
    # Sourcing the workspace is what leads Python and `ros2 run` to the package.
    sourced = subprocess.run(
        ['sh', '-c', '. install/local_setup.sh && env -0'], cwd=tmp_path, env=environment,
        check=True, stdout=subprocess.PIPE, text=True).stdout
    environment = dict(entry.split('=', 1) for entry in sourced.split('\0') if entry)
    assert str(prefix) in environment['AMENT_PREFIX_PATH'].split(os.pathsep)
    assert (prefix / f'share/ament_index/resource_index/packages/{NAME}').is_file()
    executables = prefix / 'lib' / NAME
    assert os.access(executables / 'seg_node', os.X_OK)
    check_installed(executables / 'rgbx-seg', sys.executable,
                    copy if '--symlink-install' in options else prefix / 'share' / NAME,
                    environment)
