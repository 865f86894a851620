# Copyright 2026 rgbx_seg_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""Pickles: what is in them is read, and nothing of it is run."""

import collections
import io
import os
import pickle
import struct
import subprocess
import sys

from hypothesis import given, settings
from hypothesis import strategies as st
import pytest
from rgbx_seg_ros.weights.pickles import attributes, entries, follow, Record

ERRORS = (ValueError, LookupError, TypeError, AttributeError)


def read(data):
    return follow(io.BytesIO(data))


PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text()
    | st.binary(),
    lambda inner: st.lists(inner) | st.tuples(inner, inner) | st.tuples(inner)
    | st.dictionaries(st.text(), inner), max_leaves=20)


@given(PLAIN, st.integers(3, 5))
def test_plain_values_are_what_was_pickled(value, protocol):
    assert read(pickle.dumps(value, protocol)) == value


@pytest.mark.parametrize('protocol', range(6))
def test_every_protocol_is_read(protocol):
    shared = [1, -2, 3.5]
    value = {'a': shared, 'b': (shared, None, True, 'ä\n'), 'c': {'d': 1 << 80}, 'e': ((), (1,))}
    found = read(pickle.dumps(value, protocol))
    assert found == value
    assert found['a'] is found['b'][0]


def test_a_list_may_hold_itself():
    value = []
    value.append(value)
    found = read(pickle.dumps(value))
    assert found[0] is found


class Thing:
    """Any class of somebody's program."""

    def __init__(self):
        self.weight = [1.0]


@pytest.mark.parametrize('protocol', range(6))
def test_an_object_becomes_a_record_of_its_attributes(protocol):
    found = read(pickle.dumps(Thing(), protocol))
    assert isinstance(found, Record)
    assert found.name == f'{__name__}.Thing'
    assert attributes(found) == {'weight': [1.0]}


@pytest.mark.parametrize('protocol', range(6))
@pytest.mark.parametrize('value', [
    collections.OrderedDict(a=1, b=[2]),
    collections.defaultdict(list, a=1, b=[2]),
    {'a': 1, 'b': [2]},
], ids=lambda value: type(value).__name__)
def test_what_is_like_a_dict_has_its_entries(value, protocol):
    assert entries(read(pickle.dumps(value, protocol))) == {'a': 1, 'b': [2]}


def test_an_ordered_dict_of_python_2_has_its_entries():
    assert entries(read(b'ccollections\nOrderedDict\n((lp0\n(lp1\nVa\naI1\naatR.')) == {'a': 1}


@pytest.mark.parametrize('protocol', range(6))
def test_a_set_comes_as_a_list(protocol):
    found = read(pickle.dumps({'a', 'b'}, protocol))
    assert sorted(found if protocol >= 4 else found.args[0]) == ['a', 'b']


def test_keys_that_are_no_names_are_left_out():
    assert read(pickle.dumps({1: 'a', (1, 2): 'b', None: 'c', 'name': 'd'})) == {'name': 'd'}


class Hostile:
    """Runs a function with arguments when it is unpickled."""

    def __init__(self, function, *arguments):
        self.made_by = function, arguments

    def __reduce__(self):
        return self.made_by


def hostile_pickles(canary):
    """Return pickles that make the file `canary` when they are run."""
    touch, code = f'touch {canary}', f"open({str(canary)!r}, 'w')"
    calls = [Hostile(os.system, touch), Hostile(eval, code), Hostile(exec, code),
             Hostile(open, str(canary), 'w'), Hostile(subprocess.check_call, touch.split())]
    found = [pickle.dumps(call, protocol) for call in calls for protocol in range(6)]
    nested = {'a': [(Hostile(getattr, calls[0], 'x'), {'b': calls[0]})]}
    found += [pickle.dumps(nested, protocol) for protocol in range(6)]
    quoted = repr(touch).encode()
    found += [
        b'cos\nsystem\n(S' + quoted + b'\ntR.',
        b'(S' + quoted + b'\nios\nsystem\n.',
        b'(cos\nsystem\nS' + quoted + b'\no.',
        b'\x80\x02cos\nsystem\nS' + quoted + b'\n\x85\x81.',
        b'\x80\x04cos\nsystem\nS' + quoted + b'\n\x85}\x92.',
        b'\x80\x04\x8c\x02os\x8c\x06system\x93S' + quoted + b'\n\x85R.',
        b'\x80\x04\x8c\x08builtins\x8c\x0deval.__call__\x93S' + quoted + b'\n\x85R.',
        b'ccopyreg\n__newobj__\n(cos\nsystem\nS' + quoted + b'\ntR.',
        b'ccopy_reg\n_reconstructor\n(cos\nsystem\ncbuiltins\nobject\nNtR.',
        # an object that gets the function as its __setstate__, and then a state
        b"cos\npath\n}(S'__setstate__'\ncos\nsystem\nubS" + quoted + b'\nb.',
    ]
    return found


def test_nothing_that_a_pickle_names_is_called(tmp_path):
    canary = tmp_path / 'canary'
    pickles = hostile_pickles(canary)
    for data in pickles:
        read(data)
    assert not canary.exists()
    pickle.loads(pickles[0])  # the canary would sing
    assert canary.exists()


def test_nothing_that_a_pickle_names_is_imported(tmp_path, monkeypatch):
    (tmp_path / 'never_imported.py').write_text('raise SystemExit(1)')
    monkeypatch.syspath_prepend(tmp_path)
    before = set(sys.modules)
    found = read(b'\x80\x04\x8c\x0enever_imported\x8c\x05Thing\x93)\x81.')
    assert found.name == 'never_imported.Thing'
    found = read(b'cthis\nd\n(tR.')
    assert found.name == 'this.d'
    assert set(sys.modules) == before


@pytest.mark.parametrize('data', [
    # cut off, or without what an opcode takes from the stack
    b'', b'N', b'.', b'0.', b'1.', b'2.', b'(', b't.', b'R.', b'\x86.', b'N\x86.', b'u.', b'e.',
    b'o.', b'(o.', b'\x93.', b'b.', b'a.',
    # calls of what is no function, with arguments that are none
    b'NNR.', b'cos\nsystem\nNR.', b'(No.', b'NN\x81.', b']]\x93.',
    # a key without a value, what is not in the memo, an opcode that there is not
    b'}(Nu.', b'h\x00.', b'g5\n.', b'\xff.',
    # objects from outside, extension codes, buffers
    b'NQ.', b'Pid\n.', b'\x82\xf0.', b'\x83\xf0\x00.', b'\x84\xf0\x00\x00\x00.', b'\x97.',
    b'N\x98.',
    # lengths that are not there
    b'\x8e' + struct.pack('<Q', 1 << 62) + b'ab.', b'\x8d' + struct.pack('<Q', 1 << 63) + b'ab.',
    b'T\xff\xff\xff\x7fab.', b'T\xff\xff\xff\xffab.', b'\x8b\xff\xff\xff\xff.',
    # a name without an end
    b'c' + b'a' * 400 + b'\nb\n.',
])
def test_what_is_no_whole_pickle_is_an_error(data):
    with pytest.raises(ERRORS):
        read(data)


@settings(max_examples=300)
@given(st.binary(max_size=60))
def test_any_bytes_are_a_value_or_an_error(data):
    try:
        read(data)
    except ERRORS:
        pass


@pytest.mark.parametrize('opcodes', [
    b'\x85',                       # a tuple of one
    b'\x85cos\npath\n\x85\x85',    # and of records in it
    b'q\x00]h\x00a',               # a list
    b'q\x00cos\nsystem\nh\x00\x85R',
])
def test_depth_is_no_danger(opcodes):
    # Each level holds the one before; so many would overflow the stack of a function
    # that calls itself, and so would their end.
    found = read(b'N' + opcodes * 100_000 + b'.')
    del found


def test_a_deep_key_is_left_out():
    assert read(b'}N' + b'\x85' * 300_000 + b'Ns.') == {}


@pytest.mark.parametrize('call', [
    b'cbuiltins\nset\nh\x00\x85R', b'ccollections\nOrderedDict\nh\x00\x85R',
    b'ccopyreg\n__newobj__\nh\x01R', b'ccopyreg\n__newobj__\nh\x01\x81',
])
def test_what_is_read_is_no_larger_than_the_pickle(call):
    # A reader that copies the arguments of a call would take the product of both thousands.
    thousand = b'N' * 1000
    made = b'(' + thousand + b'lq\x00(cbuiltins\nset\n' + thousand + b'tq\x01'
    found = read(made + b'](' + call * 1000 + b'e.')
    assert len(found) == 1000
    held = {id(part): len(part) for record in found for part in (record.args, *record.args)
            if isinstance(part, (list, tuple))}
    assert sum(held.values()) <= 3 * 1000
