# Copyright 2026 rgbx_seg_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""Model cards: those that come with the package are right, wrong ones are told why."""

import hashlib
from pathlib import Path
import re
import shlex

import pytest
from rgbx_seg_ros.cards.card import list_cards, load_card, models_dir, Onnx, X_NORMALIZATIONS
from rgbx_seg_ros.errors import CardError, WeightsError
from rgbx_seg_ros.networks import build, NETWORKS
import torch

PUBLISHED = {
    'dataset': 'MFNet', 'origin': 'a paper',
    'source': 'a server,\ncode 42', 'file': 'best one.pth',
    'scores': [{'figures': {'mean IoU': 60.5}, 'source': 'README, 2024', 'protocol': '9 classes'}],
}


@pytest.fixture
def users_folder(tmp_path, monkeypatch):
    """Return the folder of imported weights, apart from that of whoever runs the tests."""
    folder = tmp_path / 'imported'
    folder.mkdir()
    monkeypatch.setenv('RGBX_SEG_MODELS', str(folder))
    return folder


@pytest.mark.parametrize('name', list_cards())
def test_a_shipped_card_loads_and_its_network_can_be_built(name):
    card = load_card(name)
    assert card.name == name
    assert card.description
    with torch.device('meta'):
        build(card.network, len(card.classes), **card.network_args)


@pytest.mark.parametrize('name', list_cards())
def test_a_shipped_card_normalizes_as_many_channels_as_its_network_takes(name):
    card = load_card(name)
    assert len(card.x.mean) == getattr(NETWORKS[card.network], 'X_CHANNELS', 3)


@pytest.mark.parametrize('name', list_cards())
def test_the_classes_of_a_shipped_card_can_be_told_apart_by_colour(name):
    labels = load_card(name).labels
    assert len({label.color for label in labels}) == len(labels) > 1


@pytest.mark.parametrize('name', list_cards())
def test_shipped_weights_are_those_that_the_card_was_made_for(name):
    card = load_card(name)
    shipped = models_dir() / card.weights.file
    if card.published and not shipped.is_file():
        return  # Whoever has the checkpoint imports it; a card of our own comes with its weights.
    assert card.weights.sha256 == hashlib.sha256(shipped.read_bytes()).hexdigest()
    assert card.weights.license, 'whoever redistributes the package must be able to tell'


@pytest.mark.parametrize('name', list_cards())
def test_a_shipped_card_states_the_terms_of_code_weights_and_data(name):
    card = load_card(name)
    assert list(card.licenses) == ['code', 'weights', 'data']
    assert all(terms.strip() for terms in card.licenses.values())
    if card.published and card.network in ('ms_irtnet', 'rxssnet'):  # from ImageNet weights
        assert 'CC BY-NC 4.0' in card.licenses['weights']


@pytest.mark.parametrize('name', list_cards())
def test_what_authors_have_published_is_kept_apart_and_has_a_source(name):
    card = load_card(name)
    if card.published is None:
        return
    assert name.startswith(f'{card.network}_')
    assert card.weights.file == f'{name}.safetensors' and card.weights.sha256 is None
    assert not card.scores, 'none of these was measured'
    for score in card.published.scores:
        assert re.search(r'\b20\d\d\b', score.source)
    if card.network == 'ms2mnet':  # a reconstruction: the authors' figures are of another network
        assert card.published.scores == ()
        assert not re.search(r'\d\.\d', card.description)


def test_at_least_one_card_is_shipped_and_every_file_is_listed():
    assert list_cards()
    assert {path.stem for path in models_dir().iterdir() if path.suffix == '.yaml'} == set(
        list_cards())


def test_what_macos_leaves_beside_a_card_is_none(write_card, monkeypatch):
    card = write_card()
    (card.parent / f'._{card.name}').write_bytes(b'\0\5\26\7')
    monkeypatch.setattr('rgbx_seg_ros.cards.card.models_dir', lambda: card.parent)
    assert list_cards() == ['tiny']
    assert load_card('tiny').name == 'tiny'


def test_a_card_is_read_from_a_path_with_the_weights_beside_it(write_card):
    path = write_card(weights={'file': 'w.safetensors'})
    card = load_card(str(path))
    assert card.labels.names == ['background', 'car', 'person']
    assert card.input_size == (64, 96)
    assert card.weights_path == path.parent / 'w.safetensors'
    assert load_card(write_card()).weights_path is None


@pytest.mark.parametrize('stem', ['other', 'tiny.v2', 'Tiny'])
def test_the_name_of_a_card_is_that_of_its_file(write_card, stem):
    for ending in ('.yaml', '.yml'):
        path = write_card().rename(write_card().with_name(stem + ending))
        with pytest.raises(CardError, match=f"name is 'tiny', needed is .* the file, '{stem}'"):
            load_card(path)


def test_a_card_may_end_in_yml(write_card):
    path = write_card(published=PUBLISHED, weights={'file': 'w.safetensors'})
    path = path.rename(path.with_suffix('.yml'))
    card = load_card(path)
    assert card.path == path
    assert str(path) in card.import_command


def test_a_card_names_an_onnx_file_or_providers_or_both_or_nothing(write_card):
    assert load_card(write_card()).onnx is None
    card = load_card(write_card(onnx={'file': 'a.onnx', 'providers': ['CUDA', 'TensorRT', 'CPU']}))
    assert card.onnx == Onnx('a.onnx', ('CUDA', 'TensorRT', 'CPU'))
    assert load_card(write_card(onnx={'file': 'a.onnx'})).onnx == Onnx('a.onnx')
    assert load_card(write_card(onnx={'providers': ['CPU']})).onnx == Onnx(providers=('CPU',))


def test_a_card_may_group_its_classes(write_card):
    card = load_card(write_card(groups={'dynamic': ['car', 'person']}))
    assert card.labels.groups == {'dynamic': ('car', 'person')}
    assert load_card(write_card()).labels.groups == {}


@pytest.mark.parametrize(('groups', 'message'), [
    ({'dynamic': ['cat']}, "group 'dynamic': class 'cat' is unknown; did you mean 'car'"),
    (['car'], "'groups' is \\['car'\\], needed is a value of type dict"),
])
def test_a_card_with_groups_of_others_classes_is_refused_with_its_path(
        write_card, groups, message):
    path = write_card(groups=groups)
    with pytest.raises(CardError, match=message) as error:
        load_card(path)
    assert str(path) in str(error.value)


def test_an_unknown_model_gets_the_nearest_name():
    name = list_cards()[0]
    with pytest.raises(CardError, match=f"'{name}x' is unknown; did you mean '{name}'"):
        load_card(f'{name}x')
    with pytest.raises(CardError, match=r'cannot read .*No such file'):
        load_card('no_such_card.yaml')


@pytest.mark.parametrize('name', X_NORMALIZATIONS)
def test_every_normalization_can_be_chosen_and_only_some_take_a_range(write_card, name,
                                                                      card_content):
    limits = {'range': [0, 100]} if name in ('fixed', 'celsius') else {}
    assert load_card(write_card(x={**card_content['x'], 'normalization': name, **limits}))
    wrong = {} if limits else {'range': [0, 100]}
    with pytest.raises(CardError, match=f'x.range is .*{name}'):
        load_card(write_card(x={**card_content['x'], 'normalization': name, **wrong}))


@pytest.mark.parametrize(('part', 'changes', 'message'), [
    (None, {'netwrok': 'a'}, "'netwrok' is unknown; did you mean 'network'"),
    (None, {'folder': '/tmp'}, "'folder' is unknown"),
    (None, {'name': '../tiny'}, "name is '../tiny': it must serve as the name of a file"),
    (None, {'name': ''}, "name is ''"),
    (None, {'name': 7}, "'name' is 7, needed is a value of type str"),
    (None, {'classes': []}, 'class ids are \\[\\]'),
    (None, {'classes': [{'id': 0, 'name': 'a', 'colour': [0, 0, 0]}]}, "did you mean 'color'"),
    (None, {'classes': [{'id': 1, 'name': 'a', 'color': [0, 0, 0]}]}, 'must run 0, 1, 2'),
    (None, {'input_size': [64, 16]}, 'input_size is \\[64, 16\\]'),
    (None, {'input_size': [64, 100]}, 'multiples of 32'),
    (None, {'input_size': [64]}, 'needed are 2 values'),
    (None, {'input_size': ['64', 96]}, "'input_size'\\[0\\] is '64'"),
    (None, {'weights': {'file': '../x.safetensors'}}, "stay in the card's folder"),
    (None, {'weights': {'file': '/x.safetensors'}}, "stay in the card's folder"),
    (None, {'weights': {'file': ''}}, "stay in the card's folder"),
    (None, {'weights': {'file': 'x', 'sha256': 'abc'}}, "sha256 is 'abc': needed are 64"),
    (None, {'weights': {'file': 'x', 'license': 'research use'}},
     "license is 'research use': needed is an SPDX licence expression"),
    (None, {'onnx': {}}, 'onnx is empty: needed is file, .* or providers, a list of TensorRT, C'),
    (None, {'onnx': {'fiel': 'a.onnx'}}, "'fiel' is unknown; did you mean 'file'"),
    (None, {'onnx': {'file': '../a.onnx'}}, "onnx.file is '../a.onnx': it must stay in"),
    (None, {'onnx': {'providers': []}}, r'onnx.providers is \[\]: needed is at least one of Te'),
    (None, {'onnx': {'providers': ['CPU', 'CPU']}}, 'of TensorRT, CUDA, CPU, each of them once'),
    (None, {'onnx': {'providers': ['Cuda']}}, "'Cuda' is unknown; .*allowed are: TensorRT, CUDA"),
    (None, {'onnx': {'providers': 'CPU'}}, "'providers' is 'CPU', needed is a list"),
    ('rgb', {'channel_order': 'rbg'}, "channel_order is 'rbg', allowed are: rgb, bgr"),
    ('rgb', {'std': [1, 1, 0]}, 'rgb: mean .* std above 0'),
    ('rgb', {'mean': [0, 0, float('nan')]}, 'rgb: mean .* must be finite'),
    ('rgb', {'mean': [0, 0]}, 'needed are 3 values'),
    ('x', {'std': [1, 1, -1]}, 'x: mean'),
    ('x', {'kind': 'termal'}, "x.kind: 'termal' is unknown; did you mean 'thermal'"),
    ('x', {'normalization': 'minmaxx'}, "x.normalization: .*did you mean 'minmax'"),
    ('x', {'normalization': 'fixed', 'range': [5, 5]}, 'low must be below high'),
    ('x', {'normalization': 'fixed', 'range': [0, float('inf')]}, 'both finite'),
    ('x', {'percentiles': [99, 1]}, 'x.percentiles is'),
    ('x', {'percentiles': [0, 101]}, 'x.percentiles is'),
])
def test_a_wrong_card_is_told_in_one_line_with_its_path(write_card, card_content, part, changes,
                                                        message):
    path = write_card(**({part: {**card_content[part], **changes}} if part else changes))
    with pytest.raises(CardError, match=message) as error:
        load_card(path)
    assert repr(str(path)) in str(error.value)
    assert '\n' not in str(error.value)


@pytest.mark.parametrize('field', ['name', 'network', 'classes', 'input_size', 'rgb', 'x'])
def test_a_missing_field_is_named(write_card, card_content, field):
    del card_content[field]
    with pytest.raises(CardError, match=f"'{field}' is missing"):
        load_card(write_card())


@pytest.mark.parametrize(('content', 'message'), [
    ({'size': 100, 'stride': 32}, 'window.size is 100, it must be a multiple of 32'),
    ({'size': 0, 'stride': 1}, 'window.size is 0'),
    ({'size': 64, 'stride': 0}, r'window.stride is 0, allowed are 1\.\.64'),
    ({'size': 64, 'stride': 65}, r'window.stride is 65, allowed are 1\.\.64'),
    ({'size': 64}, "'stride' is missing"),
    ({'size': 64, 'stride': 32}, r'input_size is \[64, 96\] with a window of 64: both sides'),
])
def test_a_window_without_sense_is_refused(write_card, content, message):
    with pytest.raises(CardError, match=message):
        load_card(write_card(window=content))


def test_a_window_is_as_large_as_the_input(write_card):
    card = load_card(write_card(input_size=[64, 64], window={'size': 64, 'stride': 64}))
    assert (card.window.size, card.window.stride) == (64, 64)
    assert load_card(write_card()).window is None


@pytest.mark.parametrize(('mean', 'std'), [
    ([0.5], [0.2]), ([0.5, 0.4, 0.3], [0.2, 0.2, 0.2])])
def test_x_has_one_channel_or_three(write_card, mean, std):
    card = load_card(write_card(x={'kind': 'thermal', 'mean': mean, 'std': std}))
    assert (card.x.mean, card.x.std) == (tuple(mean), tuple(std))


@pytest.mark.parametrize(('mean', 'std'), [
    ([], []), ([0.5, 0.5], [0.2, 0.2]), ([0.5], [0.2, 0.2, 0.2]), ([0.5] * 4, [0.2] * 4)])
def test_another_number_of_channels_is_refused(write_card, mean, std):
    with pytest.raises(CardError, match=f'x has {len(mean)} values of mean and {len(std)} of std'):
        load_card(write_card(x={'kind': 'thermal', 'mean': mean, 'std': std}))


@pytest.mark.parametrize(('changes', 'message'), [
    ({'source': None}, "published.file is 'best one.pth' without published.source"),
    ({'scores': [{**PUBLISHED['scores'][0], 'source': ' '}]}, 'needs figures, a source'),
    ({'scores': [{**PUBLISHED['scores'][0], 'protocol': ''}]}, 'needs figures, a source'),
    ({'scores': [{**PUBLISHED['scores'][0], 'figures': {}}]}, 'needs figures, a source'),
    ({'scores': [{'figures': {'mIoU': 60.5}, 'protocol': 'a'}]}, "'source' is missing"),
    ({'scores': [{**PUBLISHED['scores'][0], 'figures': {'mIoU': '60.5'}}]}, "'mIoU' is '60.5'"),
    ({'scores': [{**PUBLISHED['scores'][0], 'figures': {'mIoU': 605}}]}, "'mIoU' is 605"),
    ({'scores': [{**PUBLISHED['scores'][0], 'figures': {'mIoU': True}}]}, "'mIoU' is True"),
    ({'sources': 'a'}, "did you mean 'source'"),
])
def test_a_published_result_without_its_source_is_refused(write_card, changes, message):
    load_card(write_card(published=PUBLISHED))
    with pytest.raises(CardError, match=message):
        load_card(write_card(published={**PUBLISHED, **changes}))


def test_weights_beside_the_card_come_before_imported_ones(write_card, users_folder):
    path = write_card(weights={'file': 'w.safetensors'})
    beside, imported = path.parent / 'w.safetensors', users_folder / 'w.safetensors'
    assert load_card(path).weights_path == beside
    imported.touch()
    assert load_card(path).weights_path == load_card(path).find_weights() == imported
    beside.touch()
    assert load_card(path).weights_path == load_card(path).find_weights() == beside


@pytest.mark.parametrize(('variables', 'folder'), [
    ({'RGBX_SEG_MODELS': '/a', 'XDG_DATA_HOME': '/b'}, '/a'),
    ({'RGBX_SEG_MODELS': '~/a'}, '/nest/a'),
    ({'RGBX_SEG_MODELS': '', 'XDG_DATA_HOME': '/b'}, '/b/rgbx_seg_ros/models'),
    ({'XDG_DATA_HOME': 'b'}, '/nest/.local/share/rgbx_seg_ros/models'),
    ({}, '/nest/.local/share/rgbx_seg_ros/models'),
])
def test_imported_weights_of_a_shipped_card_belong_to_the_user(variables, folder, monkeypatch):
    for name in ('RGBX_SEG_MODELS', 'XDG_DATA_HOME'):
        monkeypatch.delenv(name, raising=False)
    for name, value in {'HOME': '/nest', **variables}.items():
        monkeypatch.setenv(name, value)
    card = load_card('rxssnet_mfnet')
    assert card.import_path == Path(folder, 'rxssnet_mfnet.safetensors')


def test_a_published_card_without_weights_says_where_to_get_them_and_what_to_run(write_card):
    path = write_card(weights={'file': 'w.safetensors'}, published=PUBLISHED)
    with pytest.raises(WeightsError, match=r'authors .* offer it \(a server, code 42\)') as error:
        load_card(path).find_weights()
    assert '\n' not in str(error.value)
    assert shlex.split(str(error.value).partition('then run: ')[2]) == [
        'rgbx-seg', 'import-weights', 'best one.pth', '--card', str(path),
        '-o', str(path.parent / 'w.safetensors')]


def test_the_import_command_of_a_shipped_card_has_its_name(users_folder):
    with pytest.raises(WeightsError) as error:
        load_card('rxssnet_mfnet').find_weights()
    assert str(error.value).endswith(
        'run: rgbx-seg import-weights MFNet_Model_statedict.pth --card rxssnet_mfnet '
        f'-o {users_folder}/rxssnet_mfnet.safetensors')


def test_where_no_checkpoint_is_published_training_is_named(users_folder):
    with pytest.raises(WeightsError, match='have published none: train it .*or import .* that you '
                                           'have: rgbx-seg import-weights CHECKPOINT.pth '):
        load_card('mddg_b2_mfnet').find_weights()


def test_other_weights_that_are_gone_are_named_with_their_path(write_card):
    path = write_card(weights={'file': 'w.safetensors'})
    with pytest.raises(WeightsError, match="w.safetensors' of card 'tiny' does not exist: put it"):
        load_card(path).find_weights()
    assert load_card(write_card()).find_weights() is None
