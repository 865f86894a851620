# Copyright 2026 rgbx_seg_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""Published checkpoints and backbones: recognised, complete, and under our names."""

import json
from pathlib import Path
import re

import pytest
from rgbx_seg_ros.cards.card import load_card
from rgbx_seg_ros.errors import CardError, WeightsError
from rgbx_seg_ros.networks import build, NETWORKS
from rgbx_seg_ros.networks.mix_transformer import MIT
from rgbx_seg_ros.weights.checkpoint import convert_state_dict
from rgbx_seg_ros.weights.published import ARGUMENTS, BACKBONES, read_weights
from safetensors.torch import save_file
from support.train_stage import Mini
from support.trials import PUBLISHED
import torch

DATA = Path(__file__).parents[1] / 'data' / 'parity'
SMALL = {
    # name: arguments, each of which differs from the published model's
    'ms_irtnet': {'backbone': 'atto', 'decoder_width': 16, 'gwim_ratio': 0.5},
    'rxssnet': {'backbone': 'pico', 'decoder_width': 24},
    'mddg': {'variant': 'b0', 'freq_size': (40, 48), 'decoder_width': 32, 'scan_states': 5,
             'scan_ratios': (2, 3, 1, 1)},
    'ms2mnet': {'base_width': 12},
    'difusionseg': {'backbone': 'femto', 'variant': 'mfd', 'width': 64, 'fusion_width': 16,
                    'layers': 2},
    'gated_lite': {'width': 24, 'shared': False},
}


def numbered(shapes):
    """Return tensors of these shapes and of numbers of their own, views of one small storage."""
    generator = torch.Generator().manual_seed(0)
    sizes = {name: torch.Size(shape).numel() for name, shape in shapes.items()}
    storage = torch.randn(max(sizes.values()) + len(sizes), generator=generator)
    state = {}
    for i, (name, shape) in enumerate(shapes.items()):
        if name.endswith('num_batches_tracked'):
            state[name] = torch.tensor(i)
        else:
            state[name] = storage[i:i + sizes[name]].view(shape)
    return state


def shapes_of(name, classes=5, **arguments):
    with torch.device('meta'):
        return {key: value.shape
                for key, value in build(name, classes, **arguments).state_dict().items()}


def authors_shapes(name):
    return {entry['key']: entry['shape'] for entry in
            json.loads((DATA / name / 'keys.json').read_text()) if not entry.get('computed')}


@pytest.fixture
def save(tmp_path):
    """Return a function that saves a checkpoint and returns its path."""
    def write(content):
        torch.save(content, tmp_path / 'a.pth')
        return tmp_path / 'a.pth'
    return write


def refused(path, *arguments, match, **keywords):
    with pytest.raises((WeightsError, CardError), match=match) as error:
        read_weights(path, *arguments, **keywords)
    assert '\n' not in str(error.value)


def assert_same(found, expected):
    assert found.keys() == expected.keys()
    for name, tensor in expected.items():
        assert torch.equal(found[name], tensor), name


def test_every_network_can_be_imported():
    assert ARGUMENTS.keys() == SMALL.keys() == NETWORKS.keys()
    assert BACKBONES.keys() <= NETWORKS.keys()


def test_a_network_of_a_user_needs_a_card_and_no_table(save, write_card, monkeypatch):
    monkeypatch.setitem(NETWORKS, 'mini', Mini)
    state = numbered(shapes_of('mini', 3, exact=True))
    path = save({'model': state})
    card = load_card(write_card(network='mini', network_args={'exact': True}))
    found = read_weights(path, card=card)
    assert (found.kind, found.arguments) == ('network', {'num_classes': 3, 'exact': True})
    assert_same(found.state, state)
    refused(path, 'mini', match="size of 'mini' cannot be told from a file: give --card")
    refused(path, card=load_card(write_card(network='mini', network_args={})), match='missing')


@pytest.mark.parametrize('name', PUBLISHED)
def test_the_authors_checkpoint_is_recognised_and_whole(name, save):
    state = numbered(authors_shapes(name))
    found = read_weights(save(state), name)
    meta = json.loads((DATA / name / 'meta.json').read_text())
    assert (found.kind, found.arguments['num_classes']) == ('network', meta['num_classes'])
    assert found.network_args == {}
    expected = convert_state_dict(name, state)
    assert_same(found.state, expected)
    assert found.unused == expected.unused and not found.unexpected


@pytest.mark.parametrize('name', NETWORKS)
def test_size_and_classes_are_read_from_shapes(name, save):
    state = numbered(shapes_of(name, 5, **SMALL[name]))
    if name == 'ms2mnet':  # one of our names means another parameter among the authors'
        state = {key.replace('wase.weight_x', 'wase.weight_y')
                 .replace('wase.weight_rgb', 'wase.weight_x'): value
                 for key, value in state.items()}
    found = read_weights(save(state), name)
    assert found.arguments['num_classes'] == 5
    assert found.network_args == SMALL[name]
    assert_same(found.state, convert_state_dict(name, state, **SMALL[name]))


@pytest.mark.parametrize('variant', [
    pytest.param(variant, marks=[] if variant in ('b0', 'b2') else [pytest.mark.long])
    for variant in MIT])
def test_every_variant_of_mddg_is_told_from_the_others(variant, save):
    found = read_weights(save(numbered(shapes_of('mddg', variant=variant))), 'mddg')
    assert found.arguments['variant'] == variant


@pytest.fixture
def atto():
    """Return a checkpoint of a small MS-IRTNet for five classes, under the authors' names."""
    return {key.replace('encoder_x.', 'encoder_thermal.'): value for key, value in
            numbered(shapes_of('ms_irtnet', **SMALL['ms_irtnet'])).items()}


@pytest.mark.parametrize('prefix', [
    '', 'module.', '_orig_mod.', 'model.', 'module._orig_mod.', 'module.model.net.'])
def test_what_stands_before_all_names_is_taken_off(prefix, save, atto):
    state = {prefix + name: value for name, value in atto.items()}
    found = read_weights(save({'state_dict': state, 'epoch': 3}), 'ms_irtnet')
    assert found.place == 'state_dict'
    assert found.prefix == prefix.replace('module.', '').replace('_orig_mod.', '')
    assert len(found.state) == len(atto)


@pytest.mark.parametrize('wrapper', [
    '_orig_mod', '_fsdp_wrapped_module', '_checkpoint_wrapped_module', 'module',
    '_fsdp_wrapped_module._checkpoint_wrapped_module'])
def test_a_wrapper_inside_of_the_names_is_taken_off(wrapper, save, atto):
    state = {name.replace('.', f'.{wrapper}.', 1): value for name, value in atto.items()}
    assert_same(read_weights(save(state), 'ms_irtnet').state,
                read_weights(save(atto), 'ms_irtnet').state)


@pytest.mark.parametrize('extras', [
    ['total_ops', 'decoder.total_params'], ['n_averaged'], ['criterion.weight', 'loss_fn.lut.0']])
def test_what_a_training_keeps_beside_its_network_is_dropped_and_told(extras, save, atto):
    atto |= dict.fromkeys(extras, torch.zeros(1))
    found = read_weights(save(atto), 'ms_irtnet')
    assert not found.state.keys() & set(extras)
    assert set(extras) <= set(found.unused) and not found.unexpected


def test_an_averaged_model_is_taken_with_its_counter(save, atto):
    state = {'n_averaged': torch.tensor(7), **{f'module.{name}': v for name, v in atto.items()}}
    found = read_weights(save(state), 'ms_irtnet')
    assert found.unused == ['n_averaged'] and len(found.state) == len(atto)


def test_lists_are_looked_into(save, atto):
    found = read_weights(save([{'epoch': 3}, (atto, [1.0])]), 'ms_irtnet')
    assert (found.place, len(found.state)) == ('1.0', len(atto))


def test_of_several_states_the_others_are_named_and_can_be_chosen(save, atto):
    average = {f'module.{name}': value + 1 for name, value in atto.items()}
    path = save({'optimizer': {'state': atto['decoder.linear_pred.weight']},
                 'model_ema': average, 'model': atto})
    found = read_weights(path, 'ms_irtnet')
    assert (found.place, found.others) == ('model', ('model_ema',))
    chosen = read_weights(path, 'ms_irtnet', place='model_ema')
    assert (chosen.place, chosen.others) == ('model_ema', ('model',))
    name = 'decoder.linear_pred.weight'
    assert torch.equal(chosen.state[name], found.state[name] + 1)
    refused(path, 'ms_irtnet', place='ema',
            match="has no tensors at 'ema', but at: 'optimizer', 'model_ema', 'model'")


def test_safetensors_under_the_names_of_the_authors_are_taken(tmp_path, save, atto):
    path = tmp_path / 'hub.safetensors'
    save_file({f'module.{name}': value.clone() for name, value in atto.items()}, path)
    found = read_weights(path, 'ms_irtnet')
    assert_same(found.state, read_weights(save(atto), 'ms_irtnet').state)
    refused(path, 'ms_irtnet', place='model', match='which holds one state')
    path.write_bytes(path.read_bytes()[:999])
    refused(path, 'ms_irtnet', match='no complete safetensors file')


def test_counters_of_batch_norm_are_added_where_an_old_file_lacks_them(save, atto):
    old = {name: value for name, value in atto.items() if 'num_batches' not in name}
    found = read_weights(save(old), 'ms_irtnet')
    assert found.state.keys() == {name.replace('thermal', 'x') for name in atto}
    assert found.state['decoder.linear_fuse.1.num_batches_tracked'].dtype == torch.int64


@pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16, torch.float64])
def test_numbers_of_another_type_become_those_of_the_network(dtype, save, atto):
    state = {name: value.to(dtype) for name, value in atto.items()}
    found = read_weights(save(state), 'ms_irtnet')
    name = 'decoder.linear_pred.weight'
    assert found.state[name].dtype == torch.float32
    assert torch.equal(found.state[name], state[name].float())
    assert found.state['decoder.linear_fuse.1.num_batches_tracked'].dtype == torch.int64


def test_half_of_a_checkpoint_is_refused(save, atto):
    half = dict(list(atto.items())[::2])
    refused(save(half), 'ms_irtnet', match=r"a.pth' do not fit ms_irtnet: \d+ missing .*whole")


def test_one_missing_parameter_is_named(save, atto):
    del atto['encoder_thermal.stages.2.1.norm.bias']
    refused(save(atto), 'ms_irtnet',
            match=r'1 missing \(encoder_x.stages.2.1.norm.bias\); is it a whole')


def test_one_parameter_too_many_is_named_as_in_the_file(save, atto):
    atto['transformer.9.novel'] = torch.ones(1)
    refused(save(atto), 'ms_irtnet', match=r'1 unexpected \(transformer.9.novel\)')


def test_a_parameter_of_another_shape_is_named(save, atto):
    name = 'encoder_thermal.stages.2.1.norm.bias'
    atto[name] = torch.ones(7)
    refused(save(atto), 'ms_irtnet', match=r'1 of another shape .*norm.bias \(7,\) instead of')


@pytest.mark.parametrize('given', ['rxssnet', 'mddg', 'ms2mnet', 'difusionseg'])
def test_a_checkpoint_of_another_network_is_recognised(given, save, atto):
    refused(save(atto), given, match="its names are those of 'ms_irtnet'")


def test_names_of_no_network_are_refused(save):
    refused(save({'fc.weight': torch.ones(2, 2)}), 'ms_irtnet', match='is it a whole checkpoint')


def test_the_network_must_be_given_and_known(save, atto, write_card):
    path, card = save(atto), load_card(write_card())
    refused(path, match='Give --network or --card')
    refused(path, 'irtnet', match="network is 'irtnet', allowed are: ms_irtnet")
    refused(path, 'rxssnet', card, match="is 'rxssnet', but card 'tiny' is for 'ms_irtnet'")


def test_a_card_names_the_network_and_must_agree(save, atto, write_card):
    path = save(atto)
    refused(path, card=load_card(write_card()), match=(
        "card 'tiny' is for 3 classes, backbone atto.*a.pth' holds 5 classes, backbone atto"))
    arguments = {**SMALL['ms_irtnet'], 'decoder_width': 32}
    classes = [{'id': i, 'name': f'c{i}', 'color': [i, 0, 0]} for i in range(5)]
    card = load_card(write_card(classes=classes, network_args=arguments))
    refused(path, card=card, match='decoder_width 32.* holds .*decoder_width 16')
    card = load_card(write_card(classes=classes))
    assert len(read_weights(path, card=card).state) == len(atto)


def test_names_of_variants_with_the_same_parameters_are_no_contradiction(save, write_card):
    path = save(numbered(shapes_of('difusionseg', 15, backbone='atto')))
    classes = [{'id': i, 'name': f'c{i}', 'color': [i, 0, 0]} for i in range(15)]
    card = load_card(write_card(network='difusionseg', classes=classes,
                                network_args={'variant': 'fmb', 'backbone': 'atto'}))
    assert read_weights(path, card=card).arguments['num_classes'] == 15


def encoder(shapes, name):
    """Return numbers for an encoder of a network, by the names inside of it."""
    return numbered({key.removeprefix(f'{name}.'): shape for key, shape in shapes.items()
                     if key.startswith(f'{name}.')})


@pytest.mark.parametrize('name', ['ms_irtnet', 'rxssnet'])
def test_convnext_v2_of_imagenet_fills_both_encoders(name, save):
    official = encoder(shapes_of(name, backbone='atto'), 'encoder_rgb')
    extra = {'norm.weight': torch.ones(320), 'norm.bias': torch.ones(320),
             'head.weight': torch.ones(1000, 320), 'head.bias': torch.ones(1000)}
    found = read_weights(save({'model': {**official, **extra}}), name)
    assert (found.kind, found.place) == ('backbone', 'model')
    assert found.network_args == {'backbone': 'atto'}
    assert found.unused == list(extra)
    assert_same(found.state, {f'{encoder}.{key}': value for encoder in ('encoder_rgb', 'encoder_x')
                              for key, value in official.items()})


@pytest.mark.parametrize('style', ['official', 'mmcls'])
def test_convnext_of_imagenet_gets_a_fourth_channel(style, save):
    ours = encoder(shapes_of('difusionseg', backbone='atto'), 'backbone')
    stem = 'downsample_layers.0.0.weight'
    ours[stem] = ours[stem][:, :3].contiguous()
    file = {}
    for key, value in ours.items():
        if key.startswith(('norms.0', 'norms.1', 'norms.2')):
            continue
        if style == 'official':
            key = key.replace('norms.3.', 'norm.')
        else:
            key = 'backbone.' + key.replace('norms.3.', 'norm3.').replace(
                'dwconv', 'depthwise_conv').replace('pwconv', 'pointwise_conv')
        file[key] = value
    file |= {'head.weight' if style == 'official' else 'head.fc.weight': torch.ones(1000, 320)}
    found = read_weights(save({'model': file}), 'difusionseg')
    assert (found.kind, found.network_args) == ('backbone', {'backbone': 'atto'})
    expected = {f'backbone.{key}': value for key, value in ours.items()}
    expected |= {f'backbone.norms.{i}.{leaf}': torch.full((width,), float(leaf == 'weight'))
                 for i, width in enumerate((40, 80, 160)) for leaf in ('weight', 'bias')}
    four = found.state.pop(f'backbone.{stem}')
    three = expected.pop(f'backbone.{stem}')
    assert torch.equal(four[:, :3], three)
    torch.testing.assert_close(four[:, 3], (three[:, 0] + three[:, 1] + three[:, 2]) / 3)
    assert_same(found.state, expected)


@pytest.mark.parametrize(('size', 'card_variant', 'filled'), [
    ('b2', None, {'encoder_rgb'}), ('b4', None, {'encoder_rgb'}),
    ('b1', None, {'encoder_rgb', 'encoder_x'}), ('b1', 'b2', {'encoder_x'}),
    ('b2', 'b2', {'encoder_rgb'}),
])
def test_mit_of_imagenet_fills_the_encoders_of_its_size(size, card_variant, filled, save,
                                                        write_card):
    official = encoder(shapes_of('mddg', variant=size), 'encoder_rgb')
    path = save({**official, 'head.weight': torch.ones(1000, 512), 'head.bias': torch.ones(1000)})
    card = card_variant and load_card(
        write_card(network='mddg', network_args={'variant': card_variant}))
    found = read_weights(path, 'mddg', card)
    assert found.kind == 'backbone'
    assert_same(found.state, {f'{encoder}.{key}': value for encoder in filled
                              for key, value in official.items()})


def test_a_backbone_of_another_size_than_the_cards_is_refused(save, write_card):
    official = encoder(shapes_of('mddg', variant='b2'), 'encoder_rgb')
    card = load_card(write_card(network='mddg', network_args={'variant': 'b4'}))
    refused(save(official), card=card, match=r'do not fit encoder_rgb of mddg: \d+ missing')


@pytest.mark.parametrize('counters', [True, False])
def test_resnet_of_torchvision_fills_both_streams_one_with_a_single_channel(counters, save):
    official = encoder(shapes_of('ms2mnet'), 'encoder_rgb')
    file = {key: value for key, value in official.items() if counters or 'num_batches' not in key}
    file |= dict.fromkeys(['layer4.0.conv1.weight', 'fc.weight', 'fc.bias'], torch.ones(1))
    found = read_weights(save(file), 'ms2mnet')
    assert len(found.state) == 2 * len(official)
    assert torch.equal(found.state['encoder_rgb.conv1.weight'], official['conv1.weight'])
    torch.testing.assert_close(
        found.state['encoder_x.conv1.weight'][:, 0], official['conv1.weight'].sum(1) / 3)
    last = 'layer3.5.bn3.weight'
    assert torch.equal(found.state[f'encoder_x.{last}'], official[last])


@pytest.mark.parametrize('shared', [True, False])
def test_efficientnet_lite_of_imagenet_fills_every_encoder_and_all_norms(
        shared, save, write_card):
    ours = encoder(shapes_of('gated_lite', shared=False), 'encoder_rgb')
    file = {}
    for key, value in ours.items():
        # The first block does not widen, so that its norms are called 1 and 2 as well.
        key = re.sub(r'^blocks', '_blocks', key)
        for part, norm in (('expand', '_bn0'), ('depthwise', '_bn1'), ('project', '_bn2')):
            key = key.replace(f'{part}.conv.', f'_{part}_conv.').replace(
                f'{part}.norms.0.', f'{norm}.')
        file[key.replace('stem.conv.', '_conv_stem.').replace('stem.norms.0.', '_bn0.')] = value
    extra = {'_conv_head.weight': torch.ones(1), '_bn1.weight': torch.ones(1),
             '_fc.bias': torch.ones(1)}
    assert len(file) == 288 and '_blocks.0._bn1.weight' in file, 'not the names of the file'
    card = load_card(write_card(network='gated_lite', network_args={'shared': shared}))
    found = read_weights(save({**file, **extra}), card=card)
    assert (found.kind, found.unused) == ('backbone', list(extra))
    if shared:
        expected = {f'encoder.{key}': value for key, value in ours.items()}
        expected |= {key.replace('norms.0', 'norms.1'): value for key, value in expected.items()}
    else:
        expected = {f'{place}.{key}': value for place in ('encoder_rgb', 'encoder_x')
                    for key, value in ours.items()}
    assert_same(found.state, expected)


def test_half_of_a_backbone_is_refused(save):
    official = encoder(shapes_of('mddg', variant='b2'), 'encoder_rgb')
    refused(save(dict(list(official.items())[::2])), 'mddg',
            match=r'do not fit encoder_rgb of mddg: \d+ missing')


def test_a_backbone_of_another_network_is_recognised(save):
    official = encoder(shapes_of('mddg', variant='b2'), 'encoder_rgb')
    refused(save(official), 'ms_irtnet', match="its names are those of 'mddg'")
