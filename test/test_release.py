# Copyright 2026 rgbx_seg_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""What a release and ROS Index want: manifest, changelog, citation, forms, workflows, pages."""

import ast
import itertools
import json
import os
import re
import shlex
import subprocess
import sys
from xml.etree import ElementTree

import pytest
from rgbx_seg_ros import __version__
from rgbx_seg_ros.__main__ import COMMANDS
from rgbx_seg_ros.cards.card import list_cards, load_card
from support.checkout import checkout_files, imported_libraries, NAME, ROOT
import yaml

MANIFEST = ElementTree.parse(ROOT / 'package.xml').getroot()
URLS = {tag.get('type'): tag.text for tag in MANIFEST.iter('url')}
RELEASING = (ROOT / 'docs' / 'releasing.md').read_text(encoding='utf-8')
CHANGELOG = (ROOT / 'CHANGELOG.rst').read_text(encoding='utf-8')
WORKFLOWS = sorted((ROOT / '.github' / 'workflows').glob('*.yml'))
FORMS = sorted((ROOT / '.github' / 'ISSUE_TEMPLATE').glob('*.yml'))
DISTRIBUTIONS = {'humble': 'jammy', 'jazzy': 'noble', 'kilted': 'noble', 'lyrical': 'resolute'}
PYTHONS = [f'3.{minor}' for minor in range(10, 15)]


def load_yaml(path):
    return yaml.safe_load(path.read_text(encoding='utf-8'))


# package.xml


def test_the_tags_of_package_xml_stand_in_the_order_of_their_schema():
    order = ['name', 'version', 'description', 'maintainer', 'license', 'url', 'author',
             'exec_depend', 'test_depend', 'export']
    heights = [order.index(tag.tag) for tag in MANIFEST]
    assert heights == sorted(heights)


def test_package_xml_is_valid_by_its_schema():
    lint = pytest.importorskip(
        'ament_xmllint.main', reason='ament_xmllint comes with a ROS distribution')
    assert lint.main([str(ROOT / 'package.xml')]) == 0


def test_stand_ins_are_told_and_stand_where_the_checklist_says():
    """A new home of the project is two lines of package.xml, not a search through the tree."""
    stand_in = URLS['website'].split('/')[2]
    email = MANIFEST.find('maintainer').get('email')
    assert set(URLS) == {'website', 'repository', 'bugtracker'}
    assert URLS['website'] in RELEASING and email in RELEASING
    holding = {path.relative_to(ROOT).as_posix() for path in checkout_files('*')
               if path.suffix in {'.md', '.rst', '.xml', '.py', '.yml', '.yaml', '.cff', '.json'}
               and stand_in in path.read_text(encoding='utf-8')}
    assert holding == {'package.xml', 'CITATION.cff', 'docs/releasing.md'}


def test_the_tool_that_prepares_a_release_finds_every_version_that_it_writes(tmp_path):
    versions = pytest.importorskip(
        'catkin_pkg.package_version', reason='catkin_pkg comes with colcon-ros')
    package = pytest.importorskip('catkin_pkg.package')
    for name in ('package.xml', 'setup.py', 'LICENSE'):
        (tmp_path / name).write_bytes((ROOT / name).read_bytes())
    versions.update_versions({str(tmp_path): package.parse_package(tmp_path)}, '7.8.9')
    assert '<version>7.8.9</version>' in (tmp_path / 'package.xml').read_text()
    assert "version='7.8.9'" in (tmp_path / 'setup.py').read_text()


# CHANGELOG.rst


def test_the_changelog_is_read_as_that_of_a_release():
    """By REP-132; catkin_prepare_release replaces the heading like this."""
    reader = pytest.importorskip('catkin_pkg.changelog',
                                 reason='catkin_pkg comes with colcon-ros')
    label = pytest.importorskip('catkin_pkg.package_version').get_forthcoming_label(CHANGELOG)
    text = CHANGELOG
    if label is not None:
        title = f'{__version__} (2026-01-02)'
        text = CHANGELOG.replace(f'{label}\n{"-" * len(label)}', f'{title}\n{"-" * len(title)}')
    read = reader.populate_changelog_from_rst(reader.Changelog(NAME), text)
    versions = [version for version, _, _ in read.foreach_version()]
    assert versions and max(versions, key=lambda v: [*map(int, v.split('.'))]) == __version__
    entries = [bullet for part in read.get_content_of_version(__version__)
               for bullet in getattr(part, 'bullets', [])]
    assert len(entries) == len(re.findall(r'^\* ', CHANGELOG, re.MULTILINE)) > 10


def test_the_changelog_is_sound_restructured_text():
    core = pytest.importorskip('docutils.core', reason='docutils comes with colcon-ros')
    core.publish_string(CHANGELOG, writer='null', settings_overrides={
        'report_level': 2, 'halt_level': 2})
    rest = re.sub(r'``[^`]+``|`[^`]+<[^`>]+>`__', '', CHANGELOG)
    assert '`' not in rest and '](' not in rest, 'that is Markdown'


# CITATION.cff


def test_the_citation_is_of_this_version_and_of_the_papers_of_all_published_networks():
    citation = load_yaml(ROOT / 'CITATION.cff')
    assert citation['version'] == __version__
    assert citation['license'] == MANIFEST.findtext('license')
    assert citation['repository-code'] == URLS['repository']
    assert [author['name'] for author in citation['authors']] == [MANIFEST.findtext('author')]
    cards = [load_card(name) for name in list_cards()]
    origins = {}
    for card in cards:
        if card.published:
            origins[card.network] = origins.get(card.network, '') + card.published.origin
    cited = {entry['notes'].partition(';')[0].partition(',')[0]: entry
             for entry in citation['references']}
    assert cited.keys() == origins.keys()
    for network, entry in cited.items():
        origin = ' '.join(origins[network].split())
        assert entry['repository-code'].removeprefix('https://') in origin
        assert entry.get('doi', '') in origin
        assert ('doi' in entry) == ('doi ' in origin)
        for author in entry['authors']:
            assert author.get('family-names', '') in origin
        assert set(entry) >= {'type', 'title', 'authors'}


# Policies


def test_the_policies_name_the_maintainer_and_the_rep():
    security = (ROOT / 'SECURITY.md').read_text(encoding='utf-8')
    conduct = (ROOT / 'CODE_OF_CONDUCT.md').read_text(encoding='utf-8')
    assert 'REP-2006' in security and '90 days' in security
    assert all('](package.xml)' in text for text in (security, conduct))
    assert '](SECURITY.md)' in (ROOT / 'QUALITY_DECLARATION.md').read_text(encoding='utf-8')


@pytest.mark.parametrize('path', FORMS, ids=lambda path: path.stem)
def test_a_form_is_one_that_can_be_filled_in(path):
    form = load_yaml(path)
    assert form['name'] and form['description']
    fields = [field for field in form['body'] if field['type'] != 'markdown']
    assert len({field['id'] for field in fields}) == len(fields)
    for field in fields:
        assert field['type'] in {'textarea', 'input', 'dropdown', 'checkboxes'}
        assert field['attributes']['label']
    assert any(field.get('validations', {}).get('required') for field in fields)


def test_who_reports_a_fault_is_asked_for_what_doctor_prints():
    fields = load_yaml(ROOT / '.github' / 'ISSUE_TEMPLATE' / 'bug.yml')['body']
    [doctor] = [field for field in fields if field.get('id') == 'doctor']
    assert doctor['validations']['required'] and doctor['attributes']['render'] == 'text'
    verb = doctor['attributes']['label'].partition('rgbx-seg ')[2].split()[0]
    assert verb == 'doctor' and verb in COMMANDS
    [where] = [field for field in fields if field.get('id') == 'where']
    assert {f'ROS 2 {name.title()}' for name in DISTRIBUTIONS} <= {*where['attributes']['options']}


# Workflows


@pytest.mark.parametrize('path', WORKFLOWS, ids=lambda path: path.stem)
def test_a_workflow_says_that_it_has_not_run_and_calls_what_exists(path):
    text = path.read_text(encoding='utf-8')
    assert 'Not yet run' in text.partition('name:')[0]
    flow = yaml.safe_load(text)
    assert flow.keys() == {'name', True, 'jobs'}, 'on: is the key True of YAML 1.1'
    steps = [step for job in flow['jobs'].values() for step in job['steps']]
    for step in steps:
        assert ('uses' in step) != ('run' in step)
        if 'uses' in step:
            assert re.fullmatch(r'[\w-]+/[\w-]+@v\d[\w.]*', step['uses']), step
    commands = [shlex.split(line) for step in steps for line in step.get('run', '').splitlines()]
    assert path.stem == 'ros' or any(words[0] in {'make', 'rgbx-seg', 'rosdoc2'}
                                     for words in commands)
    for words in commands:
        if words[0] == 'make':
            subprocess.run(['make', '-n', words[1]], cwd=ROOT, check=True, capture_output=True)
        if words[0] == 'rgbx-seg':
            assert words[1] in COMMANDS
        for word in words:
            if re.match(r'(demo|docs|requirements|config|test)/', word):
                assert (ROOT / word).is_file(), word


def test_the_workflows_run_on_everything_that_is_supported():
    jobs = {path.stem: load_yaml(path)['jobs'] for path in WORKFLOWS}
    matrix = jobs['ros']['colcon']['strategy']['matrix']['include']
    assert {entry['distro']: entry['ubuntu'] for entry in matrix} == DISTRIBUTIONS
    for job in ('test', 'wheel'):
        assert jobs['python'][job]['strategy']['matrix']['python'] == PYTHONS
    defaults = json.loads(jobs['ros']['colcon']['steps'][-1]['with']['colcon-defaults'])
    assert defaults['test']['pytest-args'] == ['-m', 'not long and not alone']


# Pages


def test_rosdoc2_finds_the_pages_and_knows_what_cannot_be_imported_there():
    named = MANIFEST.findtext('export/rosdoc2')
    _, settings = yaml.safe_load_all((ROOT / named).read_text(encoding='utf-8'))
    [sphinx] = [entry['sphinx'] for entry in settings['builders'] if 'sphinx' in entry]
    assert (ROOT / named).parent == ROOT, 'user_doc_dir is relative to both'
    folder = ROOT / sphinx['user_doc_dir']
    assert (folder / 'releasing.md').is_file()
    tree = ast.parse((folder / 'conf.py').read_text(encoding='utf-8'))
    [mocked] = [ast.literal_eval(node.value) for node in tree.body if isinstance(node, ast.Assign)
                and getattr(node.targets[0], 'id', None) == 'autodoc_mock_imports']
    # rosdoc2 mocks these by the names in package.xml, python3-numpy as numpy.
    known = {tag.text.removeprefix('python3-') for tag in MANIFEST.iter('exec_depend')}
    assert imported_libraries(ROOT / NAME) - known == {*mocked}


def test_the_site_has_every_page_once_and_asks_for_nothing_from_elsewhere():
    """What MkDocs checks as well, for those who have not made its environment."""
    site = load_yaml(ROOT / 'mkdocs.yml')
    assert site['strict'] and site['theme']['font'] is False

    def pages(entries):
        for entry in entries:
            [content] = entry.values()
            yield from [content] if isinstance(content, str) else pages(content)
    found = [*pages(site['nav'])]
    assert len(found) == len(set(found))
    assert set(found) == {path.name for path in (ROOT / site['docs_dir']).glob('*.md')}
    assert [*site['nav'][0].values()] == ['index.md']
    assert [name for part in site['nav'][1:] for name in part] == [
        'Tutorial', 'How-to', 'Reference', 'Explanation']


def test_readme_leads_to_every_page_of_the_site():
    text = (ROOT / 'README.md').read_text(encoding='utf-8')
    linked = set(re.findall(r'\]\(docs/(\w+\.md)\)', text))
    assert linked == {path.name for path in (ROOT / 'docs').glob('*.md')}


@pytest.mark.parametrize('path', sorted((ROOT / 'docs').glob('*.md')), ids=lambda path: path.stem)
def test_a_list_is_one_for_every_reader_of_markdown(path):
    """For MkDocs one begins behind an empty line alone, and so does a table."""
    text = re.sub(r'^( *)```.*?^\1```', '', path.read_text(encoding='utf-8'),
                  flags=re.DOTALL | re.MULTILINE)
    begins = re.compile(r'\s*([-*+]|\d+\.) |\s*\|')
    for before, line in itertools.pairwise(text.splitlines()):
        if begins.match(line) and before.strip():
            assert begins.match(before) or before.startswith('  '), line


LINK = re.compile(r'\]\(([^)\s]+)\)|`[^`<]+<([^>]+)>`__|<img src="([^"]+)"')


def anchors(text):
    """Return the anchors that GitHub makes of the headings of a page."""
    titles = re.findall(r'^#+ +(.+)$', re.sub(r'```.*?```', '', text, flags=re.DOTALL),
                        re.MULTILINE)
    return {re.sub(r'[^\w\- ]', '', title.lower()).replace(' ', '-') for title in titles}


@pytest.mark.parametrize('path', sorted([*checkout_files('*.md'), ROOT / 'CHANGELOG.rst']),
                         ids=lambda path: path.relative_to(ROOT).as_posix())
def test_no_link_of_a_page_is_dead(path):
    for found in LINK.findall(path.read_text(encoding='utf-8')):
        target, _, anchor = ''.join(found).partition('#')
        if re.match(r'https?:|mailto:', target):
            continue
        file = path if not target else path.parent / target
        assert file.exists(), f'{target} does not exist'
        if anchor:
            assert anchor in anchors(file.read_text(encoding='utf-8')), f'{target}#{anchor}'


# What stands between this package and bloom


def test_the_checklist_names_every_library_that_comes_from_pip():
    keys = {'cv2': 'opencv', 'tf2_ros': 'tf2_ros_py'}
    named = {tag.text.removeprefix('python3-') for tag in MANIFEST.iter('exec_depend')}
    optional = {'h5py', 'pycocotools', 'rasterio', 'scipy'}  # extras of setup.py
    libraries = {keys.get(name, name) for name in imported_libraries(ROOT / NAME)}
    table = RELEASING.partition('| library |')[2].partition('\n\n')[0]
    assert {*re.findall(r'^\| `(\w+)`', table, re.MULTILINE)} == libraries - named - optional


def test_the_node_starts_without_the_library_of_bags(tmp_path):
    """What it imports and what configure makes: weights are read, bags are not."""
    pytest.importorskip('rclpy', reason='needs rclpy, from a ROS distribution or PyPI')
    from support.ros_stage import next_domain
    code = """
import sys
class Missing:
    def find_spec(self, name, path=None, target=None):
        if name.partition('.')[0] == 'rosbags':
            raise ModuleNotFoundError(name)
sys.meta_path.insert(0, Missing())
import rclpy
from rgbx_seg_ros.node import projection_node, top
from rgbx_seg_ros.node.node import SegNode
rclpy.init(args=['--ros-args', '-p', 'device:=cpu', '-p', 'model:=msrs_scene'])
node = SegNode()
print(node.trigger_configure().name, node.trigger_cleanup().name)
"""
    done = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, env={
        **os.environ, 'ROS_AUTOMATIC_DISCOVERY_RANGE': 'LOCALHOST', 'HOME': str(tmp_path),
        'ROS_DOMAIN_ID': str(next_domain()), 'ROS_LOG_DIR': str(tmp_path)})
    assert done.stdout.split() == ['SUCCESS', 'SUCCESS'], done.stderr
