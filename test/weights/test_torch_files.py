# Copyright 2026 rgbx_seg_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""Files of torch.save: what is in them is found, whatever the file, and nothing of it is run."""

from collections import OrderedDict
import io
import os
from pathlib import Path
import pickle
import struct
import subprocess
import sys
import textwrap
import zipfile

from hypothesis import given, HealthCheck, settings
from hypothesis import strategies as st
import pytest
from rgbx_seg_ros.errors import WeightsError
from rgbx_seg_ros.weights.torch_files import parameters_of, read_checkpoint
import torch
from torch import nn

FORMATS = pytest.mark.parametrize('zipped', [True, False], ids=['zip', 'legacy'])


def small_net():
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4), nn.Sequential(nn.Linear(4, 2)))


def save(content, path, zipped=True, protocol=2):
    torch.save(content, path, _use_new_zipfile_serialization=zipped, pickle_protocol=protocol)
    return path


def load(path):
    return parameters_of(read_checkpoint(path), path)[:2]


def refused(path, match):
    with pytest.raises(WeightsError, match=match) as error:
        load(path)
    assert '\n' not in str(error.value)
    assert str(path) in str(error.value)


def assert_same(found, expected):
    assert found.keys() == expected.keys()
    for name, tensor in expected.items():
        assert found[name].dtype == tensor.dtype
        assert torch.equal(found[name], tensor), name


@FORMATS
@pytest.mark.parametrize('protocol', [2, 4, 5])
def test_a_state_dict_comes_back_to_the_bit(tmp_path, zipped, protocol):
    state = small_net().state_dict()
    place, found = load(save(state, tmp_path / 'a.pth', zipped, protocol))
    assert place == ''
    assert_same(found, state)


@FORMATS
@pytest.mark.parametrize('dtype', [
    torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.int64, torch.int32,
    torch.int16, torch.int8, torch.uint8, torch.bool])
def test_every_type_of_number_is_read(tmp_path, zipped, dtype):
    state = {'a': torch.arange(6).reshape(2, 3).to(dtype), 'one': torch.tensor(1).to(dtype)}
    assert_same(load(save(state, tmp_path / 'a.pth', zipped))[1], state)


@FORMATS
def test_complex_numbers_are_refused(tmp_path, zipped):
    refused(save({'a': torch.ones(2, dtype=torch.complex64)}, tmp_path / 'a.pth', zipped),
            'ComplexFloatStorage')


@FORMATS
def test_views_keep_their_numbers_and_share_them(tmp_path, zipped):
    base = torch.arange(24.0).reshape(4, 6)
    state = {'base': base, 'turned': base.T, 'part': base[1:3, ::2], 'empty': base[:0]}
    found = load(save(state, tmp_path / 'a.pth', zipped))[1]
    assert_same(found, state)
    found['base'][1, 2] = -1.0
    assert found['turned'][2, 1] == found['part'][0, 1] == -1.0


@FORMATS
@pytest.mark.parametrize(('wrap', 'expected'), [
    (lambda state: {'state_dict': state}, 'state_dict'),
    (lambda state: {'meta': {'epoch': 3, 'CLASSES': ('a', 'b')}, 'state_dict': state},
     'state_dict'),
    (lambda state: {'epoch': 3, 'model_state_dict': state, 'loss': torch.tensor(0.5)},
     'model_state_dict'),
    (lambda state: {'ema': {name: 2 * value for name, value in state.items()}, 'model': state},
     'model'),
    (lambda state: {'weights': {'module': state}, 'other': {'a': torch.ones(1)}},
     'weights.module'),
    (lambda state: {'state_dict_ema': state}, 'state_dict_ema'),
])
def test_the_state_dict_is_found_wherever_it_is(tmp_path, zipped, wrap, expected):
    state = small_net().state_dict()
    place, found = load(save(wrap(state), tmp_path / 'a.pth', zipped))
    assert place == expected
    assert_same(found, state)


@FORMATS
def test_the_optimizer_is_not_taken_for_the_network(tmp_path, zipped):
    net = nn.Linear(2, 2)
    optimizer = torch.optim.AdamW(net.parameters(), amsgrad=True)
    net(torch.ones(1, 2)).sum().backward()
    optimizer.step()  # five tensors for each parameter
    content = {'optimizer': optimizer.state_dict(), 'state_dict': net.state_dict()}
    place, found = load(save(content, tmp_path / 'a.pth', zipped))
    assert place == 'state_dict'
    assert_same(found, net.state_dict())


PROGRAM = """
import torch
from torch import nn

class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.arange(3.0))
        self.register_parameter('nothing', None)
        self.register_buffer('table', torch.ones(2))
        self.register_buffer('hidden', torch.ones(2), persistent=False)
        self.not_a_parameter = torch.ones(9)
        self.hooks = Helper()

class Helper:
    __slots__ = ('a',)
    def __init__(self):
        self.a = 1

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.blocks = nn.ModuleList([Block(), Block()])
        self.twice = self.blocks[0]
        self.norm = nn.BatchNorm2d(3)
        self.tied = nn.Linear(2, 2)
        self.linear = nn.Linear(2, 2)
        self.linear.weight = self.tied.weight
        self.linear.weight.note = 'an attribute of a parameter'
"""


@FORMATS
@pytest.mark.filterwarnings("ignore:Couldn't retrieve source code")
@pytest.mark.parametrize('protocol', [2, 4])
@pytest.mark.parametrize('wrap', [lambda net: net, nn.DataParallel, lambda net: {'model': net}])
def test_a_whole_module_is_read_without_its_program(tmp_path, monkeypatch, zipped, protocol, wrap):
    (tmp_path / 'authors_program.py').write_text(PROGRAM)
    monkeypatch.syspath_prepend(tmp_path)
    import authors_program
    net = authors_program.Net()
    wrapped = wrap(net)
    path = save(wrapped, tmp_path / 'model.pth', zipped, protocol)
    (tmp_path / 'authors_program.py').unlink()
    monkeypatch.delitem(sys.modules, 'authors_program')
    before = set(sys.modules)
    _, found = load(path)
    assert set(sys.modules) == before
    assert any('hidden' in name for name, _ in net.named_buffers())
    assert_same(found, net.state_dict())


class Hostile:
    """Runs a function with arguments when it is unpickled."""

    def __init__(self, function, *arguments):
        self.made_by = function, arguments

    def __reduce__(self):
        return self.made_by


def contents_with(call):
    """Return checkpoints in which `call` stands where code could look for a tensor."""
    state = small_net().state_dict()
    rebuilt = Hostile(torch._utils._rebuild_tensor_v2, call, 0, (1,), (1,), False, OrderedDict())
    parameter = Hostile(torch._utils._rebuild_parameter, call, True, OrderedDict())
    return [call, {'state_dict': call}, {'state_dict': {**state, 'extra': call}}, [call, state],
            {**state, 'a': rebuilt, 'b': parameter}, {'meta': {'hooks': [call]}, **state}]


@FORMATS
@pytest.mark.parametrize('protocol', [2, 4])
@pytest.mark.parametrize('which', ['os.system', 'eval', 'exec', 'open'])
def test_nothing_that_a_checkpoint_names_is_run(tmp_path, zipped, protocol, which):
    canary = tmp_path / 'canary'
    call = {
        'os.system': Hostile(os.system, f'touch {canary}'),
        'eval': Hostile(eval, f'open({str(canary)!r}, "w")'),
        'exec': Hostile(exec, f'open({str(canary)!r}, "w")'),
        'open': Hostile(open, str(canary), 'w'),
    }[which]
    before, found = set(sys.modules), 0
    for content in contents_with(call):
        path = save(content, tmp_path / 'a.pth', zipped, protocol)
        try:
            found += len(load(path)[1])
        except WeightsError as error:
            assert 'holds no tensor' in str(error)
    assert found == 4 * len(small_net().state_dict())
    assert set(sys.modules) == before
    assert os.listdir(tmp_path) == ['a.pth']


def test_a_call_outside_of_a_state_dict_does_not_keep_it_from_being_read(tmp_path):
    state = small_net().state_dict()
    call = Hostile(subprocess.check_call, ['false'])
    assert_same(load(save({'hook': call, 'model': state}, tmp_path / 'a.pth'))[1], state)


def rezipped(path, change):
    """Write the members of a zip archive anew, as `change(name, data)` yields them."""
    with zipfile.ZipFile(path) as archive:
        members = [(name, archive.read(name)) for name in archive.namelist()]
    with zipfile.ZipFile(path, 'w') as archive:
        for name, data in members:
            for new in change(name, data):
                archive.writestr(*new)
    return path


@pytest.fixture
def saved(tmp_path):
    return save(small_net().state_dict(), tmp_path / 'a.pth')


def test_members_outside_of_the_archive_are_never_written(tmp_path, saved):
    folder = tmp_path / 'in' / 'side'
    folder.mkdir(parents=True)
    evil = [('../../evil', b'x'), ('/tmp/rgbx_seg_ros_evil', b'x'), ('a/../../evil', b'x')]
    rezipped(saved, lambda name, data: [(name, data), *(evil if name.endswith('.pkl') else [])])
    before = sorted(tmp_path.rglob('*'))
    assert_same(load(saved)[1], small_net().state_dict())
    assert sorted(tmp_path.rglob('*')) == before
    assert not Path('/tmp/rgbx_seg_ros_evil').exists()


@pytest.mark.parametrize('key', [b'../../../etc/passwd', b'/etc/passwd', b''])
def test_a_storage_lies_in_the_archive_whatever_its_name(saved, key):
    def change(name, data):
        if name.endswith('data.pkl'):
            mine, theirs = (b'X' + struct.pack('<I', len(k)) + k for k in (b'0', key))
            assert mine in data
            data = data.replace(mine, theirs)
        return [(name, data)]
    refused(rezipped(saved, change), 'is damaged or cut off: storage')


@pytest.mark.parametrize(('change', 'match'), [
    (lambda name, data: [(name, data, zipfile.ZIP_DEFLATED)], 'is compressed'),
    (lambda name, data: [(name, data), *([('b/data.pkl', data)] if 'data.pkl' in name else [])],
     'without the one data.pkl'),
    (lambda name, data: [] if name.endswith('data.pkl') else [(name, data)],
     'without the one data.pkl'),
    (lambda name, data: [] if name.endswith('data/3') else [(name, data)], "storage '3' cannot"),
    (lambda name, data: [(name, data[:-1] if name.endswith('data/0') else data)],
     'is damaged: 47 bytes hold 12 numbers'),
    (lambda name, data: [(name, b'big' if name.endswith('byteorder') else data)], 'big-endian'),
    (lambda name, data: [(name, data[:-40] if name.endswith('data.pkl') else data)],
     'is damaged or cut off'),
    (lambda name, data: [(name, b'N.' if name.endswith('data.pkl') else data)],
     'holds no tensor with a name'),
])
def test_an_archive_that_torch_would_not_write_is_refused(saved, change, match):
    refused(rezipped(saved, change), match)


@pytest.mark.parametrize(('size', 'stride', 'offset', 'match'), [
    *((*where, 'reaches beyond its storage') for where in (
        ((5,), (1,), 0), ((4,), (1,), 1), ((2, 2), (3, 1), 0), ((2, 2), (2, 3), 0),
        ((1,), (1,), 4), ((4, 1 << 40), (1, 0), 0))),
    *((*where, 'no whole numbers') for where in (
        ((-1,), (1,), 0), ((4,), (-1,), 3), ((4,), (1,), -1), ((4,), (1, 1), 0),
        ((4,), (1.0,), 0), ((1 << 63,), (0,), 0), ((True,), (1,), 0))),
    *((*where, 'without a size') for where in (
        ((1,) * 100, (1,) * 100, 0), ([4], [1], 0), (None, None, 0))),
    ((0, 1 << 61, 1 << 61), (1, 1, 1), 0, 'cannot be made'),
], ids=repr)
def test_a_tensor_never_reaches_beyond_its_storage(tmp_path, size, stride, offset, match):
    storage = torch.arange(4.0).untyped_storage()
    typed = torch.storage.TypedStorage(wrap_storage=storage, dtype=torch.float32, _internal=True)
    tensor = Hostile(torch._utils._rebuild_tensor_v2, typed, offset, size, stride, False, {})
    refused(save({'a': tensor}, tmp_path / 'a.pth'), match)


@FORMATS
def test_tensors_and_parameters_with_attributes_are_read(tmp_path, zipped):
    state = {'a': torch.ones(2), 'b': nn.Parameter(torch.ones(3)), 'c': nn.Linear(1, 1).weight}
    state['a'].note = state['b'].note = 'an attribute'
    assert_same(load(save(state, tmp_path / 'a.pth', zipped))[1], state)


@FORMATS
def test_a_truncated_file_is_refused_at_any_length(tmp_path, zipped):
    path = save(small_net().state_dict(), tmp_path / 'a.pth', zipped)
    whole = path.read_bytes()
    for length in [*range(0, len(whole), 37), len(whole) - 1]:
        path.write_bytes(whole[:length])
        with pytest.raises(WeightsError) as error:
            load(path)
        assert '\n' not in str(error.value)


@FORMATS
@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture],
          deadline=None)
@given(data=st.data())
def test_a_changed_byte_gives_tensors_or_one_clear_error(tmp_path, zipped, data):
    path = save(small_net().state_dict(), tmp_path / 'a.pth', zipped)
    content = bytearray(path.read_bytes())
    for _ in range(data.draw(st.integers(1, 3))):
        place = data.draw(st.integers(0, len(content) - 1))
        content[place] = data.draw(st.integers(0, 255))
    path.write_bytes(content)
    try:
        _, found = load(path)
    except WeightsError as error:
        assert '\n' not in str(error)
    else:
        assert all(isinstance(tensor, torch.Tensor) for tensor in found.values())


def numpy_archive():
    file = io.BytesIO()
    with zipfile.ZipFile(file, 'w') as archive:
        archive.writestr('a.npy', b'\x93NUMPY')
    return file.getvalue()


@pytest.mark.parametrize(('content', 'match'), [
    (b'', 'is no file of torch.save'),
    (b'version https://git-lfs.github.com/spec/v1\n', "begins with b'version https://'"),
    (b'<!DOCTYPE html>\n<title>Sign in', 'check what was downloaded'),
    (pickle.dumps({'a': [1.0]}), 'is no file of torch.save'),
    (pickle.dumps({'a': [1.0]}, 0), 'is no file of torch.save'),
    (b'storages'.ljust(257, b'\0') + b'ustar\x0000', 'PyTorch 0.1'),
    (numpy_archive(), 'without the one data.pkl'),
    (b'PK\x03\x04' + bytes(100), 'is damaged or cut off'),
])
def test_other_files_are_named(tmp_path, content, match):
    path = tmp_path / 'a.pth'
    path.write_bytes(content)
    refused(path, match)


def test_a_torchscript_program_is_refused(tmp_path):
    path = tmp_path / 'a.pt'
    code = f"""
        import torch
        torch.jit.save(torch.jit.trace(torch.nn.Linear(2, 2), torch.ones(1, 2)), {str(path)!r})
    """
    subprocess.run([sys.executable, '-W', 'ignore', '-c', textwrap.dedent(code)], check=True)
    refused(path, 'is a TorchScript program')


def test_a_file_that_cannot_be_read_is_named(tmp_path):
    refused(tmp_path / 'gone.pth', 'cannot be read: No such file')
    refused(tmp_path, 'cannot be read: Is a directory')


def test_names_that_could_not_be_printed_are_left_out(tmp_path):
    one = torch.ones(1)
    content = {'good': one, 'bad\nname': one, '\033[2J': one, '': one, 'x' * 300: one, 3: one}
    assert list(load(save(content, tmp_path / 'a.pth'))[1]) == ['good']


class Made:
    """An object with a given state."""

    def __init__(self, state):
        self.__dict__ = state


def test_a_module_inside_of_itself_is_refused(tmp_path):
    module = Made({'_parameters': {'w': torch.ones(1)}, '_buffers': {}})
    module._modules = {'again': module}
    refused(save(module, tmp_path / 'a.pth'), 'a module inside of itself')


def test_a_module_that_is_in_ever_more_others_is_refused(tmp_path):
    module = Made({'_parameters': {'w': torch.ones(1)}, '_buffers': {}, '_modules': {}})
    for _ in range(60):  # 2**60 names
        module = Made({'_parameters': {}, '_buffers': {}, '_modules': {'a': module, 'b': module}})
    refused(save(module, tmp_path / 'a.pth'), 'a module inside of itself')


def test_dicts_inside_of_themselves_come_to_an_end(tmp_path):
    content = {'state_dict': {'a': torch.ones(1)}}
    content |= {f'self{i}': content for i in range(20)}
    place, found = load(save(content, tmp_path / 'a.pth'))
    assert (place, list(found)) == ('state_dict', ['a'])
