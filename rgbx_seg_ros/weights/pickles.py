# Copyright 2026 rgbx_seg_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""
Pickles, read without running them.

A pickle is a program: it imports what it names and calls it. Here it is followed opcode by
opcode, and nothing is imported or called: every class, function, call and object in it becomes a
`Record` of names and values. What is read takes time and memory in proportion to the pickle.
"""

import pickletools

_NEW_OBJECT = ('copyreg.__newobj__', 'copyreg.__newobj_ex__', 'copyreg._reconstructor',
               'copy_reg._reconstructor')

_CONSTANTS = {'NONE': None, 'NEWTRUE': True, 'NEWFALSE': False}
_EMPTY = {'EMPTY_LIST': list, 'EMPTY_SET': list, 'EMPTY_DICT': dict, 'EMPTY_TUPLE': tuple}
_LONGEST_NAME = 300


class Record:
    """
    What a pickle says of a class, a function or an object: never the thing itself.

    `name` is its dotted name. An object has the `args` it is made from, the `state` it is given
    and the `entries` that are set in it as in a dict.
    """

    __slots__ = ('args', 'entries', 'name', 'state')

    def __init__(self, name: str, args: tuple = ()):
        self.name, self.args, self.state, self.entries = name, args, None, {}


def follow(file, persistent=None):
    """
    Follow the pickle that begins where `file` stands, to its end, and return what it makes.

    A set comes as a list, a frozenset as a tuple, and a dict with those entries that have a
    string for a key. `persistent(id)` returns what stands for an object outside of the pickle.
    Raise ValueError, LookupError, TypeError or AttributeError for what is no pickle.
    """
    stack, marks, memo = [], [], {}

    def since_mark():
        start = marks.pop()
        if not 0 <= start <= len(stack):
            raise ValueError('more is taken from the stack than lies on it')
        items = stack[start:]
        del stack[start:]
        return items

    for opcode, argument, _ in pickletools.genops(file):
        match opcode.name:
            case 'PROTO' | 'FRAME' | 'STOP':
                pass
            case 'NONE' | 'NEWTRUE' | 'NEWFALSE' as name:
                stack.append(_CONSTANTS[name])
            case 'EMPTY_LIST' | 'EMPTY_SET' | 'EMPTY_DICT' | 'EMPTY_TUPLE' as name:
                stack.append(_EMPTY[name]())
            case 'MARK':
                marks.append(len(stack))
            case 'POP' if marks and marks[-1] == len(stack):
                marks.pop()
            case 'POP':
                stack.pop()
            case 'POP_MARK':
                since_mark()
            case 'DUP':
                stack.append(stack[-1])
            case 'GET' | 'BINGET' | 'LONG_BINGET':
                stack.append(memo[argument])
            case 'PUT' | 'BINPUT' | 'LONG_BINPUT':
                memo[argument] = stack[-1]
            case 'MEMOIZE':
                memo[len(memo)] = stack[-1]
            case 'TUPLE1' | 'TUPLE2' | 'TUPLE3' as name:
                marks.append(len(stack) - int(name[-1]))
                stack.append(tuple(since_mark()))
            case 'TUPLE' | 'FROZENSET':
                stack.append(tuple(since_mark()))
            case 'LIST':
                stack.append(since_mark())
            case 'DICT':
                items = since_mark()
                stack.append({})
                _set_items(stack[-1], items)
            case 'APPEND':
                item = stack.pop()
                _append(stack[-1], [item])
            case 'APPENDS' | 'ADDITEMS':
                items = since_mark()
                _append(stack[-1], items)
            case 'SETITEM':
                value, key = stack.pop(), stack.pop()
                _set_items(stack[-1], [key, value])
            case 'SETITEMS':
                items = since_mark()
                _set_items(stack[-1], items)
            case 'GLOBAL':
                stack.append(_named(*argument.split(' ', 1)))
            case 'STACK_GLOBAL':
                name, module = stack.pop(), stack.pop()
                stack.append(_named(module, name))
            case 'INST':
                stack.append(_call(_named(*argument.split(' ', 1)), tuple(since_mark())))
            case 'OBJ':
                called, *arguments = since_mark()
                stack.append(_call(called, tuple(arguments)))
            case 'REDUCE' | 'NEWOBJ':
                arguments, called = stack.pop(), stack.pop()
                stack.append(_call(called, arguments))
            case 'NEWOBJ_EX':
                _, arguments, called = stack.pop(), stack.pop(), stack.pop()
                stack.append(_call(called, arguments))
            case 'BUILD':
                state = stack.pop()
                if isinstance(stack[-1], Record):
                    stack[-1].state = state
            case 'PERSID' | 'BINPERSID' as name:
                stack.append(persistent(argument if name == 'PERSID' else stack.pop()))
            case 'EXT1' | 'EXT2' | 'EXT4' | 'NEXT_BUFFER' | 'READONLY_BUFFER' as name:
                raise ValueError(f'the opcode {name}, which torch.save never writes')
            case _:  # the others stand for the value that follows them
                stack.append(argument)
    return stack.pop()


def _named(module, name) -> Record:
    if len(module) + len(name) > _LONGEST_NAME:
        raise ValueError('a name of endless length')
    return Record('.'.join((module, name)))


def _call(called, arguments) -> Record:
    """Return the record of what a call would make."""
    if not isinstance(called, Record) or not isinstance(arguments, tuple):
        raise ValueError('a call of what is no function')
    if called.name in _NEW_OBJECT and arguments and isinstance(arguments[0], Record):
        return Record(arguments[0].name)
    return Record(called.name, arguments)


def _append(target, items):
    if isinstance(target, list):
        target.extend(items)


def _set_items(target, items):
    """Set keys and values, which take turns in `items`."""
    if isinstance(target, Record):
        target = target.entries
    for key, value in zip(items[::2], items[1::2], strict=True):
        # To hash any other key, such as a deep tuple, could end the process.
        if isinstance(key, str):
            target[key] = value


def entries(node) -> dict:
    """Return what is in a dict or in an object that is like one; {} for anything else."""
    if isinstance(node, Record):
        # Once an OrderedDict was pickled with a list of its pairs.
        pairs = node.args[0] if len(node.args) == 1 and not node.entries else None
        if not isinstance(pairs, list):
            return node.entries
        node = {}
        for pair in pairs:
            if isinstance(pair, list | tuple) and len(pair) == 2:
                _set_items(node, pair)
    return node if isinstance(node, dict) else {}


def attributes(node) -> dict:
    """Return the attributes that an object is given; {} for anything else."""
    state = node.state if isinstance(node, Record) else None
    if isinstance(state, tuple) and state:  # with those in its slots
        state = state[0]
    return state if isinstance(state, dict) else {}
