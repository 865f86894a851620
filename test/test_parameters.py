# Copyright 2026 rgbx_seg_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""The node's parameters: checked by type, range and name, and the same everywhere."""

from dataclasses import fields
import math
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st
import pytest
from rgbx_seg_ros.engines import ENGINES
from rgbx_seg_ros.errors import ParameterError
from rgbx_seg_ros.parameters import markdown_table, Parameters, read_parameters
import yaml

CONFIGS = sorted(path for path in (Path(__file__).parents[1] / 'config').glob('*.yaml')
                 if path.stem != 'diagnostics_aggregator')  # of another node
SPECS = {spec.metadata['name']: spec for spec in fields(Parameters)}
NUMBERS = [name for name, spec in SPECS.items() if isinstance(spec.default, float)]
COUNTS = [name for name, spec in SPECS.items() if type(spec.default) is int]
APART = {'health.late_ms': 1.0, 'health.dead_ms': 600_000.0}
"""Values that exclude no other value of any parameter."""


def test_values_go_to_ros_and_back():
    changed = Parameters(slop_ms=12.5, overlay_alpha=0.25, autostart=False, label_encoding='16UC1')
    values = changed.to_ros()
    assert values['sync.slop_ms'] == 12.5 and values['autostart'] is False
    assert Parameters.from_ros(values) == changed
    assert Parameters.from_ros({}) == Parameters()
    assert values.keys() == SPECS.keys()


@pytest.mark.parametrize('path', CONFIGS, ids=lambda path: path.stem)
def test_a_shipped_configuration_is_accepted(path):
    """And serves any node name, else it would beat values from the command line."""
    [(node, content)] = yaml.safe_load(path.read_text()).items()
    assert node == '/**'
    assert Parameters.from_ros(content['ros__parameters'])


def test_there_is_a_configuration():
    assert CONFIGS


@pytest.mark.parametrize('name', NUMBERS)
def test_a_number_may_be_an_integer_and_must_lie_in_its_range(name):
    low, high = (SPECS[name].metadata[key] for key in ('low', 'high'))
    field = SPECS[name].name
    for value in (low, high, math.ceil(low)):
        found = getattr(Parameters.from_ros({**APART, name: value}), field)
        assert found == value and isinstance(found, float)
    for value in (low - 1, high + 1, int(high) + 1, float('inf'), -float('inf'), float('nan')):
        with pytest.raises(ParameterError, match=f"parameter '{name}' is "):
            Parameters.from_ros({name: value})


@pytest.mark.parametrize('name', COUNTS)
def test_a_count_must_lie_in_its_range(name):
    low, high = (SPECS[name].metadata[key] for key in ('low', 'high'))
    for value in (low, high):
        assert Parameters.from_ros({name: value}).to_ros()[name] == value
    for value in (low - 1, high + 1):
        with pytest.raises(ParameterError, match=f"parameter '{name}' is .*, allowed is {low} to"):
            Parameters.from_ros({name: value})


@pytest.mark.parametrize('name', SPECS)
def test_a_value_of_another_type_is_refused(name):
    others = {float: [True, '1.0'], int: [True, 1.0]}.get(type(SPECS[name].default), [1, 1.0])
    for value in (None, [], {}, *others):
        with pytest.raises(ParameterError, match=f"parameter '{name}' is .*, needed (is|are) "):
            Parameters.from_ros({name: value})


@pytest.mark.parametrize('name', [n for n, spec in SPECS.items() if spec.metadata['allowed']])
def test_a_word_that_is_not_allowed_is_refused_with_those_that_are(name):
    allowed = SPECS[name].metadata['allowed']
    for word in allowed:
        assert Parameters.from_ros({name: word}).to_ros()[name] == word
    with pytest.raises(ParameterError, match=f'allowed are: {", ".join(allowed)}'):
        Parameters.from_ros({name: 'nothing'})


@pytest.mark.parametrize('values', [
    {'health.dead_ms': 199.0}, {'health.late_ms': 1501.0},
    {'health.late_ms': 100.0, 'health.dead_ms': 99}])
def test_limits_that_exclude_each_other_are_refused_by_their_full_names(values):
    late, dead = ({**Parameters().to_ros(), **values}[f'health.{name}_ms']
                  for name in ('late', 'dead'))
    with pytest.raises(ParameterError) as error:
        Parameters.from_ros(values)
    assert str(error.value) == (f"parameter 'health.dead_ms' is {float(dead)!r}, allowed is "
                                f"{late!r}, the value of 'health.late_ms', or more")
    Parameters.check(values)  # each is fine by itself
    assert Parameters.from_ros({'health.late_ms': 99.0, 'health.dead_ms': 99}).health.dead_ms == 99


@given(st.fixed_dictionaries({}, optional={
    name: (st.sampled_from(spec.metadata['allowed']) if spec.metadata['allowed']
           else (st.integers if name in COUNTS else st.floats)(
               spec.metadata['low'], spec.metadata['high']))
    for name, spec in SPECS.items() if spec.metadata['runtime']}))
def test_what_is_accepted_excludes_nothing_that_the_node_makes_of_it(values):
    try:
        parameters = Parameters.from_ros(values)
    except ParameterError as error:
        assert "'health." in str(error)  # names of parameters, not of what is made of them
        return
    assert parameters.health.policy == parameters.degraded_policy
    assert abs(parameters.pairing.slop_ns - parameters.slop_ms * 1e6) <= 0.5


def test_each_value_can_be_checked_by_itself():
    Parameters.check({name: spec.default for name, spec in SPECS.items()})
    with pytest.raises(ParameterError, match="parameter 'overlay.alpha' is 2.0, allowed is 0 to"):
        Parameters.check({'sync.slop_ms': 1.0, 'overlay.alpha': 2.0})
    with pytest.raises(ParameterError, match="'sync.slop_m' is unknown; did you mean 'sync.slop_"):
        Parameters.check({'sync.slop_m': 1.0})


def test_an_unknown_name_gets_the_nearest():
    with pytest.raises(ParameterError, match="'sync.slop_m' is unknown; did you mean 'sync.slop_"):
        Parameters.from_ros({'sync.slop_m': 1.0})
    # Fields are not names.
    with pytest.raises(ParameterError, match="'slop_ms' is unknown"):
        Parameters.from_ros({'slop_ms': 1.0})


def test_the_engines_that_can_be_chosen_are_those_that_exist():
    assert SPECS['engine'].metadata['allowed'] == tuple(ENGINES)


def test_the_policies_that_can_be_chosen_are_those_that_exist():
    pytest.importorskip('rclpy', reason='sync needs rclpy')
    from rgbx_seg_ros.node.sync import POLICIES
    assert SPECS['sync.policy'].metadata['allowed'] == tuple(POLICIES)


def test_the_table_has_a_row_for_every_parameter():
    head, rule, *rows = markdown_table().splitlines()
    assert [row.split('`')[1] for row in rows] == list(SPECS)
    for row in (rule, *rows):
        assert row.count('|') == head.count('|')
    for row, spec in zip(rows, SPECS.values(), strict=True):
        facts = spec.metadata
        assert facts['doc'] in row and ('| yes |' in row) == facts['runtime']
        assert all(word in row for word in facts['allowed'] or ())
    assert '| 50.0 | 0 .. 10000 | yes |' in markdown_table()
    assert '| true |' in markdown_table()


# Files


@pytest.fixture
def write(tmp_path):
    """Return a function that writes a parameter file and returns its path."""
    def write(text):
        path = tmp_path / 'rig.yaml'
        path.write_text(text)
        return path
    return write


@pytest.mark.parametrize('path', CONFIGS, ids=lambda path: path.stem)
def test_a_shipped_configuration_is_read(path):
    assert read_parameters(path) == yaml.safe_load(path.read_text())['/**']['ros__parameters']


@pytest.mark.parametrize('head', [
    '/**:', '/*:', '/rgbx_seg:', 'rgbx_seg:', '/robot/rgbx_seg:', '/**/rgbx_seg:',
    'robot:\n front:\n  rgbx_seg:'])
def test_parameters_stand_under_a_wildcard_or_the_name_of_the_node_with_dots_or_nested(
        write, head):
    values = read_parameters(write(f"""
{head}
    ros__parameters:
        sync.slop_ms: 20
        x: {{range: [7000, 9.5e3], normalization: fixed}}
        registration:
            mode: homography
            x_size: [1e2, 80]
            depth_m: 2e1
        use_sim_time: true
        qos_overrides: {{/tf: {{subscription: {{depth: 3}}}}}}
        qos_overrides./tf.reliability: reliable
"""))
    assert values == {
        'sync.slop_ms': 20, 'x.range': [7000, 9500.0], 'x.normalization': 'fixed',
        'registration.mode': 'homography', 'registration.x_size': [100.0, 80],
        'registration.depth_m': 20.0}


def test_of_several_sections_the_last_counts_and_those_of_other_nodes_are_passed_over(write):
    """As in rclpy, where the name of the node counts no more than a wildcard."""
    own, all_ = 'rgbx_seg: {ros__parameters: {sync.slop_ms: 1.0, overlay.alpha: 0.25}}', (
        '/**: {ros__parameters: {sync.slop_ms: 2.0, max_age_ms: 7.0}}')
    other = 'camera: {ros__parameters: {exposure: 3}}'
    again = '/rgbx_seg: {ros__parameters: {max_age_ms: 7.0}}'
    for lines, slop_ms in (([own, other, all_], 2.0), ([all_, own, other], 1.0),
                           ([own, other, again], 1.0)):
        assert read_parameters(write('\n'.join(lines))) == {
            'sync.slop_ms': slop_ms, 'overlay.alpha': 0.25, 'max_age_ms': 7.0}


@pytest.mark.parametrize('lines', [
    ['rgbx_seg: {ros__parameters: {sync.slop_ms: 1.0}}',
     '/**: {ros__parameters: {sync.slop_ms: 2.0}}'],
    ['/**: {ros__parameters: {sync.slop_ms: 2.0}}',
     '/**/rgbx_seg: {ros__parameters: {sync: {slop_ms: 1.0}, registration.x_size: [1e2, 80.0]}}'],
    ['/**: {ros__parameters: {sync.slop_ms: 5e1, use_sim_time: true, x.range: [7.0, 9e3]}}']])
def test_a_file_says_to_a_verb_what_it_says_to_a_node(write, lines):
    rclpy = pytest.importorskip('rclpy', reason='reads the file with rclpy as well')
    path = write('\n'.join(lines))
    context = rclpy.Context()
    rclpy.init(context=context)
    node = rclpy.create_node('rgbx_seg', context=context, cli_args=[
        '--ros-args', '--params-file', str(path)])
    told = {name: parameter.value for name, parameter in node._parameter_overrides.items()}
    node.destroy_node()
    context.try_shutdown()
    told.pop('use_sim_time', None)
    assert told and Parameters.from_ros(told) == Parameters.from_ros(read_parameters(path))


@pytest.mark.parametrize(('text', 'said'), [
    ('/**: {ros__parameters: {sync.slop: 1.0}}',
     "'sync.slop' is unknown; did you mean 'sync.slop_ms'"),
    ('/**: {ros__parameters: {sync: {slop_ms: -1.0}}}', "'sync.slop_ms' is -1.0, allowed is 0 to"),
    ('/**: {ros__parameters: {sync.slop_ms: fast}}', "'sync.slop_ms' is 'fast', needed is a fin"),
    ('/**: {ros__parameters: [1]}', r"'ros__parameters' is \[1\], needed are names with values"),
    ('front: {ros__parameters: {a: 1}}',
     "has no parameters for '/\\*\\*' or 'rgbx_seg', .*; it has some for '/front'"),
    ('sync.slop_ms: 1.0', 'it has some for nothing'),
    ('{a: {rgbx_seg: {ros__parameters: {}}}, /b/rgbx_seg: {ros__parameters: {}}}',
     "for several nodes, '/a/rgbx_seg', '/b/rgbx_seg': leave those of one"),
    ('[1]', 'holds list, a mapping of names is needed'), ('', 'holds nothing'),
    ('a: [', 'cannot read')])
def test_a_file_that_the_node_would_not_take_is_refused_by_its_name(write, text, said):
    path = write(text)
    with pytest.raises(ParameterError, match=said) as error:
        read_parameters(path)
    assert repr(str(path)) in str(error.value) and '\n' not in str(error.value)


def test_what_of_the_second_input_is_replaced():
    for changed, replaced in (
            ({}, {}), ({'x_range': (1.0, 2.0)}, {'range': (1.0, 2.0)}),
            ({'x_normalization': 'minmax'}, {'normalization': 'minmax', 'range': None}),
            ({'x_normalization': 'fixed', 'x_range': (0.0, 2.0)},
             {'normalization': 'fixed', 'range': (0.0, 2.0)})):
        assert Parameters(**changed).x_input == replaced
