# Copyright 2026 rgbx_seg_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""Fill a dataclass from a mapping of YAML and check its numbers; errors name the field."""

import dataclasses
import difflib
import math
from pathlib import Path
import types
from typing import Any, get_args, get_origin, get_type_hints, Union

from rgbx_seg_ros.errors import RgbxSegError
import yaml


def read_yaml(path: Path, error: type[RgbxSegError]) -> dict:
    """Return the mapping in the YAML file `path`; raise `error` where there is none."""
    try:
        content = yaml.safe_load(path.read_text(encoding='utf-8'))
    except (OSError, ValueError, yaml.YAMLError) as cause:  # ValueError: bytes, the 32nd of May
        reason = ' '.join(str(cause).split())
        raise error(f'cannot read {str(path)!r}: {reason}') from cause
    if not isinstance(content, dict):
        found = 'nothing' if content is None else type(content).__name__
        raise error(f'{str(path)!r} holds {found}, a mapping of names is needed')
    return content


def unknown_name(name: str, allowed) -> str:
    """Say that `name` is not one of `allowed`, and which of them is nearest."""
    near = difflib.get_close_matches(str(name), list(allowed), 1)
    hint = f'did you mean {near[0]!r}? ' if near else ''
    return f'{name!r} is unknown; {hint}allowed are: {", ".join(allowed)}'


def check_number(name: str, value, error: type[RgbxSegError], *, low: float = -math.inf,
                 high: float = math.inf, above: float = -math.inf, integer: bool = False) -> None:
    """
    Raise `error` unless `value` is a finite number within `low`..`high` and more than `above`.

    With `integer` it must be an int. A bool, and text that reads as a number, is none. `name`
    opens the message.
    """
    kind = 'a whole number; round it first' if integer else 'a finite number'
    fits = isinstance(value, int if integer else (int, float)) and not isinstance(value, bool)
    if not fits or (isinstance(value, float) and not math.isfinite(value)):
        raise error(f'{name} is {value!r}, needed is {kind}')
    if not (low <= value <= high and value > above):
        raise error(f'{name} is {value!r}, allowed is {_range(low, high, above)}')


def _range(low, high, above):
    """Say what lies within the limits, of which one at least is finite."""
    if above > -math.inf:
        return f'more than {above:g}' + (f', up to {high:g}' if high < math.inf else '')
    if low == -math.inf:
        return f'{high:g} or less'
    return f'{low:g} to {high:g}' if high < math.inf else f'{low:g} or more'


def from_mapping(cls, mapping: Any, where: str, error: type[RgbxSegError]):
    """
    Return the dataclass `cls` filled from `mapping`.

    Unknown and missing names and wrong types raise `error`; `where` opens its message. Integers
    serve as floats, lists as tuples, and nested dataclasses are filled from nested mappings.
    Fields with `in_file: False` in their metadata are not for the mapping.
    """
    if not isinstance(mapping, dict):
        raise error(f'{where}: a mapping of names is needed, given is {mapping!r}')
    known = {field.name: field for field in dataclasses.fields(cls)
             if field.metadata.get('in_file', True)}
    for name in mapping:
        if name not in known:
            raise error(f'{where}: {unknown_name(name, known)}')
    for name, field in known.items():
        required = (field.default is dataclasses.MISSING
                    and field.default_factory is dataclasses.MISSING)
        if required and name not in mapping:
            raise error(f'{where}: {name!r} is missing')
    hints = get_type_hints(cls)
    values = {name: _convert(value, hints[name], f'{where}: {name!r}', error)
              for name, value in mapping.items()}
    return cls(**values)


def _convert(value, kind, where, error):
    """Return `value` as the annotated type `kind`."""
    origin, inner = get_origin(kind), get_args(kind)
    if origin in (types.UnionType, Union):
        if value is None and type(None) in inner:
            return None
        return _convert(value, next(k for k in inner if k is not type(None)), where, error)
    if dataclasses.is_dataclass(kind):
        return from_mapping(kind, value, where, error)
    if origin is tuple:
        return _convert_tuple(value, inner, where, error)
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    plain = origin or kind
    matches = isinstance(value, plain) and not (plain is int and isinstance(value, bool))
    if not matches:
        text = kind is float and _is_number(value)
        hint = '; YAML takes 1e-3 for text, write 1.0e-3' if text else ''
        raise error(f'{where} is {value!r}, needed is a value of type {plain.__name__}{hint}')
    return value


def _is_number(value):
    try:
        return isinstance(value, str) and math.isfinite(float(value))
    except ValueError:
        return False


def _convert_tuple(value, inner, where, error):
    if not isinstance(value, (list, tuple)):
        raise error(f'{where} is {value!r}, needed is a list')
    if inner[-1] is Ellipsis:
        inner = inner[:1] * len(value)
    if len(value) != len(inner):
        raise error(f'{where} is {value!r}, needed are {len(inner)} values')
    return tuple(_convert(v, k, f'{where}[{i}]', error)
                 for i, (v, k) in enumerate(zip(value, inner, strict=True)))
