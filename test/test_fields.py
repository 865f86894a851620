# Copyright 2026 rgbx_seg_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""YAML into dataclasses: what a wrong file is told."""

from dataclasses import dataclass, field
import inspect
import math
from types import ModuleType
from typing import get_type_hints

import pytest
from rgbx_seg_ros.errors import DataError, ParameterError
from rgbx_seg_ros.fields import check_number, from_mapping, read_yaml, unknown_name
from rgbx_seg_ros.health import monitor
from rgbx_seg_ros.sync import pairing


@dataclass(frozen=True)
class Inner:
    size: tuple[int, int]


@dataclass(frozen=True)
class Outer:
    name: str
    rate: float = 1.0
    count: int = 1
    flag: bool = False
    inner: Inner | None = None
    parts: tuple[Inner, ...] = ()
    limit: float | None = None
    extra: dict = field(default_factory=dict)
    folder: str = field(default='', metadata={'in_file': False})


def fill(**mapping):
    return from_mapping(Outer, mapping, 'file', DataError)


def test_values_are_filled_in_with_integers_as_floats_and_lists_as_tuples():
    found = fill(name='a', rate=2, inner={'size': [3, 4]}, parts=[{'size': [5, 6]}], limit=7,
                 extra={'a': 1})
    assert found == Outer('a', 2.0, inner=Inner((3, 4)), parts=(Inner((5, 6)),), limit=7.0,
                          extra={'a': 1})
    assert isinstance(found.rate, float) and isinstance(found.limit, float)
    assert fill(name='a', inner=None).inner is None


@pytest.mark.parametrize(('mapping', 'message'), [
    ({}, "file: 'name' is missing"),
    ({'name': 'a', 'naem': 'b'}, "file: 'naem' is unknown; did you mean 'name'\\? allowed are: "),
    ({'name': 'a', 1: 'b'}, 'file: 1 is unknown; allowed are: name, '),
    ({'name': 'a', 'folder': 'b'}, "'folder' is unknown; allowed are: .*extra$"),
    ({'name': 1}, "'name' is 1, needed is a value of type str"),
    ({'name': None}, "'name' is None, needed is a value of type str"),
    ({'name': 'a', 'rate': True}, "'rate' is True, needed is a value of type float"),
    ({'name': 'a', 'rate': '5e-4'}, "'rate' is '5e-4', .* YAML takes 1e-3 for text, write 1.0e-3"),
    ({'name': 'a', 'rate': 'fast'}, "'rate' is 'fast', needed is a value of type float$"),
    ({'name': 'a', 'count': 1.5}, "'count' is 1.5, needed is a value of type int"),
    ({'name': 'a', 'count': True}, "'count' is True, needed is a value of type int"),
    ({'name': 'a', 'count': '7'}, "'count' is '7', needed is a value of type int$"),
    ({'name': 'a', 'flag': 1}, "'flag' is 1, needed is a value of type bool"),
    ({'name': 'a', 'limit': 'x'}, "'limit' is 'x', needed is a value of type float"),
    ({'name': 'a', 'extra': []}, "'extra' is \\[\\], needed is a value of type dict"),
    ({'name': 'a', 'inner': {}}, "file: 'inner': 'size' is missing"),
    ({'name': 'a', 'inner': 3}, "'inner': a mapping of names is needed, given is 3"),
    ({'name': 'a', 'inner': {'size': [1]}}, "'size' is \\[1\\], needed are 2 values"),
    ({'name': 'a', 'inner': {'size': 12}}, "'size' is 12, needed is a list"),
    ({'name': 'a', 'parts': [{'size': [1, 2]}, {'sise': 1}]}, "'parts'\\[1\\]: 'sise' is unknown"),
])
def test_a_wrong_mapping_is_told_which_field_and_why(mapping, message):
    with pytest.raises(DataError, match=message):
        from_mapping(Outer, mapping, 'file', DataError)


@pytest.mark.parametrize(('content', 'message'), [
    (b'', 'holds nothing, a mapping'),
    (b'- 1', 'holds list, a mapping'),
    (b'text', 'holds str, a mapping'),
    (b'\x89PNG\r\n\x1a\n\x00\xff', 'cannot read'),
    (b'a: [1', 'cannot read'),
    (b'a: \x00', 'cannot read'),
    (b'day: 2026-02-30', 'cannot read .*: day'),
    (b'a: !!python/object/apply:os.getcwd []', 'cannot read'),
    (None, 'cannot read .*No such file'),
])
def test_a_file_that_is_no_mapping_is_one_line_with_its_path(tmp_path, content, message):
    path = tmp_path / 'file.yaml'
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(DataError, match=message) as error:
        read_yaml(path, DataError)
    assert repr(str(path)) in str(error.value)
    assert '\n' not in str(error.value)


def test_a_name_that_is_near_to_none_gets_no_guess():
    assert unknown_name('zzz', ['torch', 'onnx']) == "'zzz' is unknown; allowed are: torch, onnx"


# Ranges


@pytest.mark.parametrize(('limits', 'inside', 'outside', 'allowed'), [
    ({'low': 0, 'high': 1}, (0, 0.5, 1), (-0.1, 1.01), '0 to 1'),
    ({'low': 2}, (2, 1e300, 10 ** 400), (1.9, -1), '2 or more'),
    ({'high': -1.5}, (-1.5, -9), (0,), '-1.5 or less'),
    ({'above': 0}, (1e-9, 5), (0, 0.0, -1), 'more than 0'),
    ({'above': 0, 'high': 1}, (0.1, 1), (0, 1.1), 'more than 0, up to 1'),
])
def test_a_number_outside_of_its_range_is_told_the_range(limits, inside, outside, allowed):
    for value in inside:
        check_number('share', value, DataError, **limits)
    for value in outside:
        with pytest.raises(DataError) as error:
            check_number('share', value, DataError, **limits)
        assert str(error.value) == f'share is {value!r}, allowed is {allowed}'


@pytest.mark.parametrize('value', [math.nan, math.inf, -math.inf, True, '1', None, [1]])
def test_what_is_no_number_is_in_no_range(value):
    for integer, needed in ((False, 'a finite number'), (True, 'a whole number')):
        with pytest.raises(DataError, match=f'^share is .*, needed is {needed}') as error:
            check_number('share', value, DataError, integer=integer)
        assert repr(value) in str(error.value)


def test_a_whole_number_has_no_point():
    check_number('count', -3, DataError, integer=True)
    with pytest.raises(DataError, match='^count is 3.0, needed is a whole number; round it first'):
        check_number('count', 3.0, DataError, integer=True)


@pytest.mark.parametrize('first_line', ['', 'from __future__ import annotations\n'],
                         ids=['annotations as they are', 'annotations postponed'])
@pytest.mark.parametrize(('module', 'name', 'given'), [
    (pairing, 'PairingSettings', {'slop_ns': 0, 'max_wait_ns': 0}),
    (monitor, 'HealthSettings', {})])
def test_every_number_of_the_settings_is_checked(module, name, given, first_line):
    copy = ModuleType(module.__name__)
    exec(first_line + inspect.getsource(module), copy.__dict__)
    settings = getattr(copy, name)
    numbers = [field for field, kind in get_type_hints(settings, copy.__dict__).items()
               if kind in (int, float)]
    assert len(numbers) > 5
    settings(**given)
    for number in numbers:
        for value in (math.nan, '1', True):
            with pytest.raises(ParameterError, match=f'^{number} is {value!r}, needed is'):
                settings(**{**given, number: value})
