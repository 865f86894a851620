# Copyright 2026 rgbx_seg_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""Weights files: read, written, converted and loaded, and the line a user gets when not."""

import hashlib
import os
import stat

import pytest
from rgbx_seg_ros.errors import CardError, WeightsError
from rgbx_seg_ros.networks import build
from rgbx_seg_ros.weights.checkpoint import (
    convert_state_dict,
    load_into,
    load_weights,
    save_weights,
    sha256,
    start_from,
)
from safetensors import safe_open
from safetensors.torch import save_file
import torch
from torch import nn


def small_net(classes=3):
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4), nn.Conv2d(4, classes, 1))


def one_line(error):
    assert '\n' not in str(error.value)
    return str(error.value)


def test_names_of_a_published_checkpoint_become_ours():
    ones = torch.ones(1)
    converted = convert_state_dict('ms_irtnet', {
        'encoder_thermal.stages.0.0.norm.weight': ones,
        'react.3.conv1.0.bias': ones,
        'encoder_rgb.norm.weight': ones,
        'transformer.0.cross.end_proj1.weight': ones,
        'aux_head.weight': ones,
    })
    assert sorted(converted) == ['encoder_x.stages.0.0.norm.weight', 'gwim.3.conv1.0.bias']
    assert converted.unused == ['encoder_rgb.norm.weight', 'transformer.0.cross.end_proj1.weight']
    assert converted.unexpected == ['aux_head.weight']
    assert 'gwim.3.conv1.0.weight' in converted.missing
    assert not set(converted) & set(converted.missing)


def test_a_rotary_table_of_any_length_is_computed_not_loaded():
    key = 'Token_corrector.0.mlla.attn.rope.rotations'
    converted = convert_state_dict('rxssnet', {key: torch.zeros(7, 48, 2)})
    assert converted.unused == [key]
    assert not converted.unexpected


@pytest.mark.parametrize('name', ['ms_irtnet', 'rxssnet'])
def test_a_converted_checkpoint_loads_without_another_step(name):
    torch.manual_seed(1)
    trained = build(name, 4, backbone='atto')
    renamed = {'ms_irtnet': ('fiim.', 'transformer.'), 'rxssnet': ('cgpi.', 'Token_corrector.')}
    authors = {key.replace(*renamed[name]): value for key, value in trained.state_dict().items()}
    net = build(name, 4, backbone='atto')
    net.load_state_dict(convert_state_dict(name, authors, backbone='atto'))
    for ours, theirs in zip(net.parameters(), trained.parameters(), strict=True):
        assert torch.equal(ours, theirs)


def test_the_names_expected_follow_the_networks_arguments():
    state = {'encoder_rgb.stages.2.8.norm.weight': torch.ones(1)}  # the ninth block
    assert not convert_state_dict('rxssnet', state).unexpected
    assert convert_state_dict('rxssnet', state, backbone='atto').unexpected == list(state)
    with pytest.raises(CardError, match="network is 'rxs'"):
        convert_state_dict('rxs', state)


def test_saved_weights_come_back_within_half_precision(tmp_path):
    net, path = small_net(), tmp_path / 'net.safetensors'
    net(torch.randn(8, 3, 5, 5))  # moves the batch-norm statistics
    save_weights(net, path, {'network': 'small'})
    stored = load_weights(path)
    assert stored['0.weight'].dtype == torch.float16
    assert stored['1.running_var'].dtype == torch.float32
    assert stored['1.num_batches_tracked'].dtype == torch.int64
    with safe_open(path, 'pt') as file:
        assert file.metadata() == {'network': 'small'}
    other = small_net()
    load_into(other, stored, path)
    for name, value in net.state_dict().items():
        loaded = other.state_dict()[name]
        assert loaded.dtype == value.dtype
        torch.testing.assert_close(loaded, value, rtol=1e-3, atol=1e-6)


def test_a_state_dict_is_saved_like_its_network(tmp_path):
    net = small_net()
    save_weights(net, tmp_path / 'a.safetensors')
    save_weights(net.state_dict(), tmp_path / 'b.safetensors')
    assert sha256(tmp_path / 'a.safetensors') == sha256(tmp_path / 'b.safetensors')


def test_the_same_weights_with_the_same_metadata_make_the_same_file(tmp_path):
    metadata = {letter: 2 * letter for letter in 'hgfedcba'}
    for name in ('a', 'b'):
        save_weights(small_net(), tmp_path / f'{name}.safetensors', metadata)
    assert sha256(tmp_path / 'a.safetensors') == sha256(tmp_path / 'b.safetensors')
    with safe_open(tmp_path / 'a.safetensors', 'pt') as file:
        assert file.metadata() == metadata


def test_weights_can_be_saved_as_they_are(tmp_path):
    net, path = small_net(), tmp_path / 'net.safetensors'
    save_weights(net, path, dtype=torch.float32)
    for name, value in load_weights(path).items():
        assert value.dtype == net.state_dict()[name].dtype
        assert torch.equal(value, net.state_dict()[name])


def test_a_backbone_is_not_loaded_as_a_model_but_is_a_start(tmp_path):
    path = tmp_path / 'backbone.safetensors'
    part = {name: small_net().state_dict()[name] + 1.0 for name in ('0.weight', '0.bias')}
    save_weights(part, path, {'kind': 'backbone'}, torch.float32)
    with pytest.raises(WeightsError, match='only a backbone .* rgbx-seg train') as error:
        load_weights(path)
    one_line(error)
    net, before = small_net(), small_net().state_dict()
    start_from(net, path)
    assert all(torch.equal(value, part.get(name, before[name]))
               for name, value in net.state_dict().items())


def test_a_start_must_fill_whole_parts_and_no_others(tmp_path):
    path, state = tmp_path / 'a.safetensors', small_net().state_dict()
    for kind, part, said in (
            ('backbone', {'0.weight': state['0.weight']}, '1 missing .0.bias'),
            ('backbone', {'7.weight': state['0.weight']}, '1 unexpected .7.weight'),
            ('network', {'0.weight': state['0.weight'], '0.bias': state['0.bias']}, '7 missing')):
        save_weights(part, path, {'kind': kind})
        with pytest.raises(WeightsError, match=said):
            start_from(small_net(), path)
    save_weights(state, path)
    start_from(small_net(), path)


def test_views_and_shared_tensors_are_saved(tmp_path):
    base = torch.arange(6.0).reshape(2, 3)
    save_weights({'turned': base.T, 'same': base, 'again': base}, tmp_path / 'w.safetensors')
    assert torch.equal(load_weights(tmp_path / 'w.safetensors')['turned'], base.T.half())


@pytest.mark.parametrize('value', [70000.0, -1e9, float('nan'), float('inf')])
def test_a_value_beyond_half_precision_is_refused_and_the_old_file_kept(tmp_path, value):
    path = tmp_path / 'net.safetensors'
    net = small_net()
    save_weights(net, path)
    before = path.read_bytes()
    with torch.no_grad():
        net[0].weight[0] = value
    with pytest.raises(WeightsError, match="'0.weight' reaches .*float16 .* 65504") as error:
        save_weights(net, path)
    one_line(error)
    assert path.read_bytes() == before
    assert os.listdir(tmp_path) == [path.name]


def test_a_variance_beyond_half_precision_is_kept(tmp_path):
    net = small_net()
    net[1].running_var.fill_(1e6)
    save_weights(net, tmp_path / 'net.safetensors')
    assert load_weights(tmp_path / 'net.safetensors')['1.running_var'].tolist() == [1e6] * 4


def test_a_save_that_fails_half_way_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / 'net.safetensors'
    save_weights(small_net(), path)
    before = path.read_bytes()

    def full_disk(source, target):
        assert path.read_bytes() == before  # nothing was written in place
        raise OSError(28, 'No space left on device')

    monkeypatch.setattr('rgbx_seg_ros.files.os.replace', full_disk)
    with pytest.raises(WeightsError, match='cannot be written: No space left'):
        save_weights(small_net(5), path)
    assert path.read_bytes() == before
    assert os.listdir(tmp_path) == [path.name]


def test_a_saved_file_is_readable_like_any_other_new_file(tmp_path):
    save_weights(small_net(), tmp_path / 'net.safetensors')
    (tmp_path / 'plain').touch()
    modes = [stat.S_IMODE((tmp_path / f).stat().st_mode) for f in ('net.safetensors', 'plain')]
    assert modes[0] == modes[1]


def test_saving_into_a_folder_that_does_not_exist_says_so(tmp_path):
    with pytest.raises(WeightsError, match='none/net.safetensors.*No such file') as error:
        save_weights(small_net(), tmp_path / 'none' / 'net.safetensors')
    one_line(error)


def test_a_missing_file_and_a_folder_are_named(tmp_path):
    for read in (load_weights, sha256):
        with pytest.raises(WeightsError, match="gone.safetensors' does not exist") as error:
            read(tmp_path / 'gone.safetensors')
        one_line(error)
        with pytest.raises(WeightsError, match='is a folder') as error:
            read(tmp_path)
        one_line(error)


@pytest.mark.parametrize('kept', [0, 4, 60, -1])
def test_a_truncated_file_is_refused(tmp_path, kept):
    path = tmp_path / 'net.safetensors'
    save_weights(small_net(), path)
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(WeightsError, match='no complete safetensors file') as error:
        load_weights(path)
    assert 'net.safetensors' in one_line(error)


def test_bytes_of_something_else_are_refused(tmp_path):
    path = tmp_path / 'net.safetensors'
    path.write_text('version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n')
    with pytest.raises(WeightsError, match='no complete safetensors file') as error:
        load_weights(path)
    one_line(error)


@pytest.mark.parametrize('zipped', [True, False])
def test_a_pickled_checkpoint_is_refused_whatever_its_name(tmp_path, zipped):
    path = tmp_path / 'net.safetensors'
    torch.save({'a': torch.ones(2)}, path, _use_new_zipfile_serialization=zipped)
    with pytest.raises(WeightsError, match='pickled PyTorch checkpoint.*import-weights') as error:
        load_weights(path)
    one_line(error)


def test_loading_casts_to_the_networks_types():
    net = small_net().double()
    load_into(net, {k: v.half() for k, v in small_net().state_dict().items()}, 'half')
    assert net[0].weight.dtype == torch.float64
    assert torch.equal(net[0].weight, small_net()[0].weight.half().double())


def test_names_that_do_not_fit_are_counted_and_the_first_are_listed():
    net, state = small_net(), small_net().state_dict()
    before = [p.clone() for p in net.parameters()]
    for name in ('0.weight', '0.bias', '1.weight', '1.bias'):
        state['old.' + name] = state.pop(name) + 1.0
    state['2.bias'] = torch.zeros(7)
    with pytest.raises(WeightsError) as error:
        load_into(net, state, 'w.safetensors')
    said = one_line(error)
    assert "weights 'w.safetensors' do not fit Sequential" in said
    assert '4 missing (0.weight, 0.bias, 1.weight and 1 more)' in said
    assert '4 unexpected (old.0.weight, old.0.bias, old.1.weight and 1 more)' in said
    assert '1 of another shape (2.bias (7,) instead of (3,))' in said
    assert 'classes' not in said
    assert all(torch.equal(a, b) for a, b in zip(before, net.parameters(), strict=True))


def test_another_number_of_classes_is_recognised():
    with pytest.raises(WeightsError, match='the weights are for 9 classes, the network has 3'):
        load_into(small_net(3), small_net(9).state_dict(), 'w.safetensors')


def test_the_checksum_is_that_of_the_bytes(tmp_path):
    path = tmp_path / 'w.safetensors'
    save_file({'a': torch.arange(600000.0)}, path)  # more than one block
    assert sha256(path) == hashlib.sha256(path.read_bytes()).hexdigest()
