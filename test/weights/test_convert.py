# Copyright 2026 rgbx_seg_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""The command import-weights: from the authors' file to a model that runs."""

import os

import numpy as np
import pytest
from rgbx_seg_ros.errors import WeightsError
from rgbx_seg_ros.inference.segmenter import Segmenter
from rgbx_seg_ros.networks import build
from rgbx_seg_ros.weights.checkpoint import load_into, load_weights, sha256, start_from
from safetensors import safe_open
import torch
import yaml

ARGUMENTS = {'backbone': 'atto', 'decoder_width': 16, 'gwim_ratio': 0.5}


@pytest.fixture(scope='module')
def trained():
    """Return a small network with random weights, by class count 3."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return build('ms_irtnet', 3, **ARGUMENTS).eval()


@pytest.fixture
def authors(trained):
    """Return its state dict under the authors' names, with parameters that nothing reads."""
    state = {key.replace('encoder_x.', 'encoder_thermal.').replace('gwim.', 'react.'): value
             for key, value in trained.state_dict().items()}
    idle = ('encoder_rgb.norm.weight', 'encoder_rgb.norm.bias', 'transformer.0.cross.norm2.bias')
    return {**state, **dict.fromkeys(idle, torch.ones(40))}


@pytest.fixture
def checkpoint(tmp_path, authors):
    path = tmp_path / 'Model_statedict.pth'
    torch.save({'epoch': 3, 'state_dict': {f'module.{name}': value
                                           for name, value in authors.items()}}, path)
    return path


def metadata(path):
    with safe_open(path, 'pt') as file:
        return file.metadata()


def failed(result, tmp_path, *words):
    """Check that a run has ended in one line with `words`, and has written nothing."""
    code, out, err = result
    assert (code, out) == (2, '')
    assert err.startswith('rgbx-seg: error: ') and err.count('\n') == 1
    for word in words:
        assert word in err
    assert not list(tmp_path.rglob('*.safetensors')) and not list(tmp_path.rglob('*.tmp'))


def test_an_imported_checkpoint_gives_the_same_logits(trained, checkpoint, tmp_path, command):
    out = tmp_path / 'ours.safetensors'
    code, said, err = command('import-weights', checkpoint, '--network', 'ms_irtnet', '-o', out)
    assert (code, err) == (0, '')
    net = build('ms_irtnet', 3, **ARGUMENTS).eval()
    load_into(net, load_weights(out), out)
    images = torch.randn(2, 1, 3, 64, 64).unbind()
    with torch.inference_mode():
        assert torch.equal(net(*images), trained(*images))


def test_the_command_tells_what_it_found_and_what_a_card_needs(checkpoint, tmp_path, command):
    out = tmp_path / 'ours.safetensors'
    _, said, _ = command('import-weights', checkpoint, '--network', 'ms_irtnet', '-o', out)
    assert "ms_irtnet in 'state_dict'\n" in said
    assert '3 classes, backbone atto, decoder_width 16, gwim_ratio 0.5' in said
    assert '3 dropped, which no prediction reads: encoder_rgb.norm (2)' in said
    assert all(len(line) <= 80 for line in said.splitlines() if str(tmp_path) not in line)
    card = yaml.safe_load(said[said.index('in a card:'):])['in a card']
    assert card == {'network': 'ms_irtnet', 'network_args': ARGUMENTS,
                    'weights': {'file': out.name, 'sha256': sha256(out)}}


def test_what_stands_before_the_names_and_other_states_are_told(authors, tmp_path, command):
    path, out = tmp_path / 'a.pth', tmp_path / 'ours.safetensors'
    states = [{f'net.{name}': value + add for name, value in authors.items()} for add in (0, 1)]
    torch.save(dict(zip(('model', 'model_ema'), states, strict=True)), path)
    words = ('import-weights', path, '--network', 'ms_irtnet', '-o', out)
    _, said, _ = command(*words)
    assert "ms_irtnet in 'model', names behind 'net.'" in said
    assert "the same names are also in 'model_ema': --state takes one" in ' '.join(said.split())
    plain = load_weights(out)['decoder.linear_pred.bias']
    command(*words, '--state', 'model_ema')
    assert torch.equal(load_weights(out)['decoder.linear_pred.bias'], plain + 1)


def test_what_the_command_prints_makes_a_card_that_runs(checkpoint, write_card, card_content,
                                                        tmp_path, command):
    out = tmp_path / 'ours.safetensors'
    _, said, _ = command('import-weights', checkpoint, '--card', write_card(), '-o', out)
    printed = yaml.safe_load(said[said.index('in a card:'):])['in a card']
    segmenter = Segmenter.from_card(write_card(**printed), device='cpu')
    frame = np.zeros((64, 96, 3), np.uint8)
    assert segmenter(frame, frame[..., 0]).mask.shape == (64, 96)


def test_a_card_that_waits_for_its_weights_gets_them(checkpoint, write_card, tmp_path, command):
    path = write_card(weights={'file': 'deep/tiny.safetensors'})
    out = tmp_path / 'deep' / 'tiny.safetensors'
    code, said, _ = command('import-weights', checkpoint, '--card', path, '-o', out)
    assert code == 0 and said.endswith("now card 'tiny' has its weights\n")
    assert f'sha256 {sha256(out)}' in said


def test_the_file_says_where_it_is_from_and_is_the_same_each_time(checkpoint, tmp_path, command):
    files = [tmp_path / 'a.safetensors', tmp_path / 'b.safetensors']
    for out in files:
        command('import-weights', checkpoint, '--network', 'ms_irtnet', '-o', out)
        checkpoint = checkpoint.rename(tmp_path / 'renamed.pth')
    assert files[0].read_bytes() == files[1].read_bytes()
    assert metadata(files[0]) == {
        'kind': 'network', 'network': 'ms_irtnet', 'num_classes': '3',
        'network_args': '{"backbone": "atto", "decoder_width": 16, "gwim_ratio": 0.5}',
        'source_sha256': sha256(checkpoint)}


def test_a_former_import_is_replaced(checkpoint, tmp_path, command):
    out = tmp_path / 'ours.safetensors'
    for _ in range(2):
        assert command('import-weights', checkpoint, '--network', 'ms_irtnet', '-o', out)[0] == 0
    assert load_weights(out)


class Hostile:
    """Runs a command when it is unpickled."""

    def __init__(self, line):
        self.line = line

    def __reduce__(self):
        return os.system, (self.line,)


def test_what_the_checkpoint_names_is_not_run(authors, tmp_path, command):
    path, out = tmp_path / 'a.pth', tmp_path / 'ours.safetensors'
    torch.save({'hook': Hostile(f'touch {tmp_path}/canary'), 'state_dict': authors}, path)
    assert command('import-weights', path, '--network', 'ms_irtnet', '-o', out)[0] == 0
    assert sorted(os.listdir(tmp_path)) == ['a.pth', 'ours.safetensors']


def test_a_checkpoint_that_is_hostile_only_ends_in_one_line(tmp_path, command):
    path, out = tmp_path / 'a.pth', tmp_path / 'ours.safetensors'
    torch.save({'state_dict': Hostile(f'touch {tmp_path}/canary')}, path)
    failed(command('import-weights', path, '--network', 'ms_irtnet', '-o', out), tmp_path,
           'holds no tensor')
    assert os.listdir(tmp_path) == ['a.pth']


@pytest.mark.parametrize(('arguments', 'words'), [
    (['--network', 'rxssnet'], ['do not fit rxssnet', "those of 'ms_irtnet'"]),
    (['--network', 'irtnet'], ["network is 'irtnet'", 'allowed are: ms_irtnet']),
    ([], ['Give --network or --card']),
    (['--card', 'nothing'], ["'nothing'"]),
])
def test_a_wrong_network_or_card_is_told_and_nothing_written(arguments, words, checkpoint,
                                                             tmp_path, command):
    out = tmp_path / 'new' / 'a.safetensors'
    failed(command('import-weights', checkpoint, *arguments, '-o', out), tmp_path, *words)
    assert not out.parent.exists()


def test_another_number_of_classes_than_the_cards_is_told(checkpoint, write_card, card_content,
                                                          tmp_path, command):
    card = write_card(classes=card_content['classes'][:2])
    failed(command('import-weights', checkpoint, '--card', card, '-o', tmp_path / 'a.safetensors'),
           tmp_path, "card 'tiny' is for 2 classes", 'Model_statedict.pth', 'holds 3 classes',
           'take another card')


@pytest.mark.parametrize(('file', 'out', 'words'), [
    ('gone.pth', 'a.safetensors', ["gone.pth' does not exist"]),
    ('.', 'a.safetensors', ['is a folder']),
    ('Model_statedict.pth', 'a.pth', ["a.pth' must end in .safetensors"]),
    ('Model_statedict.pth', 'Model_statedict.pth/a.safetensors', ['cannot be made']),
])
def test_a_path_that_does_not_do_is_told(file, out, words, checkpoint, tmp_path, command):
    before = checkpoint.read_bytes()
    arguments = (tmp_path / file, '--network', 'ms_irtnet', '-o', tmp_path / out)
    failed(command('import-weights', *arguments), tmp_path, *words)
    assert checkpoint.read_bytes() == before


def test_the_checkpoint_is_not_overwritten_by_its_import(checkpoint, tmp_path, command):
    path = checkpoint.rename(tmp_path / 'a.safetensors')
    before = path.read_bytes()
    code, _, err = command('import-weights', path, '--network', 'ms_irtnet', '-o', path)
    assert code == 2 and 'it is what is read' in err
    assert path.read_bytes() == before


def test_a_folder_in_which_nothing_can_be_written_is_told(checkpoint, tmp_path, command):
    failed(command('import-weights', checkpoint, '--network', 'ms_irtnet',
                   '-o', '/proc/a.safetensors'), tmp_path, 'cannot be written')


def test_a_full_disk_leaves_the_old_file(checkpoint, tmp_path, command, monkeypatch):
    out = tmp_path / 'ours.safetensors'
    old = b'{"source_sha256":"'
    out.write_bytes(old)

    def full_disk(source, target):
        raise OSError(28, 'No space left on device')

    monkeypatch.setattr('rgbx_seg_ros.files.os.replace', full_disk)
    code, _, err = command('import-weights', checkpoint, '--network', 'ms_irtnet', '-o', out)
    assert code == 2 and 'No space left' in err
    assert out.read_bytes() == old and len(os.listdir(tmp_path)) == 2


@pytest.fixture
def backbone(trained, tmp_path, command):
    """Return the imported ImageNet weights of the smallest backbone."""
    official = {name.removeprefix('encoder_rgb.'): value + 1.0
                for name, value in trained.state_dict().items() if name.startswith('encoder_rgb.')}
    path, out = tmp_path / 'atto.pt', tmp_path / 'backbone.safetensors'
    torch.save({'model': {**official, 'head.bias': torch.ones(1000)}}, path)
    code, said, err = command('import-weights', path, '--network', 'ms_irtnet', '-o', out)
    assert (code, err) == (0, '')
    return out, said


def test_a_backbone_is_told_with_its_licence_and_what_it_is_for(backbone):
    out, said = backbone
    assert 'a backbone for encoder_rgb and encoder_x of ms_irtnet' in said
    assert 'CC BY-NC 4.0' in said and f'--weights {out}' in said and 'in a card' not in said
    assert metadata(out)['kind'] == 'backbone' and 'num_classes' not in metadata(out)


def test_training_starts_from_a_backbone(backbone, trained):
    net = build('ms_irtnet', 3, **ARGUMENTS)
    before = {name: value.clone() for name, value in net.state_dict().items()}
    start_from(net, backbone[0])
    for name, value in net.state_dict().items():
        encoder, _, inside = name.partition('.')
        expected = (trained.state_dict()[f'encoder_rgb.{inside}'] + 1.0
                    if encoder.startswith('encoder') else before[name])
        assert torch.equal(value, expected), name


def test_a_backbone_of_another_size_is_no_start(backbone):
    with pytest.raises(WeightsError, match='do not fit MSIRTNet: .* of another shape'):
        start_from(build('ms_irtnet', 3, **{**ARGUMENTS, 'backbone': 'femto'}), backbone[0])
    with pytest.raises(WeightsError, match=r'\d+ missing'):
        start_from(build('ms_irtnet', 3, **{**ARGUMENTS, 'backbone': 'nano'}), backbone[0])


def test_a_backbone_is_no_model(backbone, write_card, tmp_path):
    card = write_card(weights={'file': backbone[0].name})
    with pytest.raises(WeightsError, match='holds only a backbone .* rgbx-seg train'):
        Segmenter.from_card(card, device='cpu')
