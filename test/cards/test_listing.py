# Copyright 2026 rgbx_seg_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""What models there are, as the command tells."""

import shlex

import pytest
from rgbx_seg_ros.cards.card import list_cards, load_card


@pytest.fixture(autouse=True)
def users_folder(tmp_path, monkeypatch):
    """Return an empty folder of imported weights, below a home folder of the usual length."""
    home = tmp_path / 'home'
    folder = home / '.local' / 'share' / 'rgbx_seg_ros' / 'models'
    folder.mkdir(parents=True)
    monkeypatch.setenv('HOME', str(home))
    monkeypatch.delenv('XDG_DATA_HOME', raising=False)
    monkeypatch.delenv('RGBX_SEG_MODELS', raising=False)
    return folder


def longest(out):
    """Return the length of the longest line, but for those with a path of this machine."""
    return max(len(line) for line in out.splitlines() if not line.startswith('    file /'))


def row(out, name):
    """Return the words of the line of a card."""
    [line] = [line for line in out.splitlines() if line.startswith(f'{name} ')]
    return line.split()


def test_the_list_has_a_line_for_every_model(command):
    code, out, _ = command('models')
    assert code == 0
    for name in list_cards():
        card = load_card(name)
        assert row(out, name)[:6] == [
            name, card.network, 'RGB', '+', card.x.kind, str(len(card.classes))]
    assert longest(out) <= 80
    assert command('models', 'list') == (0, out, '')


def test_the_list_says_what_is_on_disk_and_starts_with_what_can_run(command, users_folder):
    _, out, _ = command('models')
    assert out.splitlines()[1].split()[0] == 'msrs_scene'
    assert row(out, 'msrs_scene')[6:] == ['ready,', '7', 'MB']
    assert row(out, 'rxssnet_mfnet')[6:] == ['not', 'imported', 'yet']
    assert row(out, 'mddg_b2_mfnet')[6:] == ['none', 'published']
    (users_folder / 'rxssnet_mfnet.safetensors').write_bytes(bytes(3_000_000))
    _, out, _ = command('models')
    assert row(out, 'rxssnet_mfnet')[6:] == ['ready,', '3', 'MB']
    names = [line.split()[0] for line in out.splitlines()[1:4]]
    assert names == ['msrs_scene', 'potholes', 'rxssnet_mfnet']


def test_the_terms_of_the_weights_are_told_under_their_names_in_spdx(command, users_folder):
    _, out, _ = command('models')
    words = ' '.join(out.split())
    assert ('Licences of the weights: potholes: Apache-2.0; msrs_scene: '
            'LicenseRef-research-only.') in words
    assert '\n    license Apache-2.0\n' in command('models', 'show', 'potholes')[1]
    (users_folder / 'rxssnet_mfnet.safetensors').write_bytes(b'weights')
    assert 'rxssnet_mfnet: not stated.' in ' '.join(command('models')[1].split())
    assert '    license ' not in command('models', 'show', 'rxssnet_mfnet')[1]


@pytest.mark.parametrize('name', list_cards())
def test_a_card_is_told_in_full_and_fits_the_terminal(name, command):
    card = load_card(name)
    code, out, _ = command('models', 'show', name)
    assert code == 0
    assert longest(out) <= 80
    words = ' '.join(out.split())
    facts = [card.name, card.network, card.description, card.training, *card.licenses,
             *card.licenses.values(), *card.scores, *map(str, card.scores.values()),
             *map(str, card.network_args.values()),
             *(f'{value:g}' for value in card.x.mean + card.rgb.mean),
             *(' '.join(map(str, (label.id, label.name, *label.color))) for label in card.labels)]
    if card.published:
        facts += [card.published.dataset, card.published.origin, card.published.source or 'none']
        for score in card.published.scores:
            facts += [score.source, score.protocol,
                      *(f'{name} {value:g}' for name, value in score.figures.items())]
    for fact in facts:
        assert ' '.join(fact.split()) in words


@pytest.mark.parametrize(('name', 'parts'), [
    ('ms_irtnet_mfnet', ['channels in the order BGR', '640x480 pixels; other frames',
                         'X: thermal, three channels']),
    ('difusionseg_fmb', ['channels in the order RGB', '800x608', 'X: thermal, one channel']),
    ('ms2mnet_potsdam', ['256x256 pixels, a window', 'steps of 64 pixels', 'X: dsm, one channel',
                         'lowest to highest value of each frame']),
])
def test_inputs_are_told_in_words(name, parts, command):
    words = ' '.join(command('models', 'show', name)[1].split())
    for part in parts:
        assert part in words


def test_groups_of_classes_are_told_where_a_card_has_some(command, write_card):
    _, out, _ = command('models', 'show', write_card(groups={'dynamic': ['car', 'person']}))
    assert '\ngroups:\n    dynamic: car, person\n' in out
    assert 'groups:' not in command('models', 'show', write_card())[1]


def test_what_the_authors_state_never_looks_measured(command):
    _, out, _ = command('models', 'show', 'difusionseg_msrs')
    head, _, tail = out.partition('\nscores of the authors, not measured with this package:\n')
    assert 'mean IoU 80.83' in tail and '80.83' not in head
    assert 'measured with this package' not in head
    _, out, _ = command('models', 'show', 'msrs_scene')
    assert '\nscores, measured with this package:\n    test set: ' in out
    assert 'of the authors' not in out


def test_how_to_import_a_checkpoint_can_be_copied_into_a_shell(command, users_folder):
    _, out, _ = command('models', 'show', 'rxssnet_mfnet')
    text = out.partition('\nimport the checkpoint:\n')[2].replace('\\\n', '')
    assert shlex.split(text) == [
        'rgbx-seg', 'import-weights', 'MFNet_Model_statedict.pth', '--card', 'rxssnet_mfnet', '-o',
        '~/.local/share/rgbx_seg_ros/models/rxssnet_mfnet.safetensors']
    assert '\n    not imported yet\n    expected at ~/.local/share/' in out
    (users_folder / 'rxssnet_mfnet.safetensors').write_bytes(bytes(3_000_000))
    _, out, _ = command('models', 'show', 'rxssnet_mfnet')
    assert ('\n    ready, 3 MB\n    file ~/.local/share/rgbx_seg_ros/models/'
            'rxssnet_mfnet.safetensors\n') in out
    assert 'import a checkpoint that you have:' in command('models', 'show', 'mddg_b2_mfnet')[1]


def test_a_folder_with_a_space_is_quoted_outside_home(command, monkeypatch):
    monkeypatch.setenv('RGBX_SEG_MODELS', '/big disk')
    _, out, _ = command('models', 'show', 'rxssnet_mfnet')
    assert "        -o '/big disk/rxssnet_mfnet.safetensors'\n" in out


def test_a_card_of_ones_own_is_told_by_its_path(write_card, command):
    path = write_card(licenses={'code': 'Apache-2.0', 'weights': 'research only ' * 9},
                      scores={'mean IoU': 0.5})
    code, out, _ = command('models', 'show', path)
    assert code == 0
    assert '\nweights:\n    none: random\n' in out
    assert '\nlicenses:\n    code: Apache-2.0\n    weights: research only' in out
    assert out.endswith('measured with this package:\n    mean IoU: 0.5\n')
    assert longest(out) <= 80
    path = write_card(weights={'file': 'gone.safetensors', 'sha256': 'a' * 64})
    _, out, _ = command('models', 'show', path)
    assert f'\n    missing\n    expected at {path.parent}/gone.safetensors\n' in out
    assert f'sha256 {"a" * 64}' in out


@pytest.mark.parametrize(('terminal', 'variable', 'colored'), [
    (True, '', True), (False, '', False), (True, '1', False)])
def test_colours_are_for_terminals(terminal, variable, colored, command, monkeypatch):
    monkeypatch.setenv('NO_COLOR', variable)
    monkeypatch.setattr('sys.stdout.isatty', lambda: terminal)
    _, out, _ = command('models', 'show', 'msrs_scene')
    assert ('\033[48;2;30;90;255m  \033[0m 7  car' in out) == colored
    assert ('\033' in out) == colored


@pytest.mark.parametrize(('arguments', 'message'), [
    (['show', 'rxsnet_mfnet'], "'rxsnet_mfnet' is unknown; did you mean 'rxssnet_mfnet'"),
    (['show', 'gone.yaml'], "cannot read 'gone.yaml'"),
    (['show'], 'arguments are required: model'),
    (['rxssnet_mfnet'], "invalid choice: 'rxssnet_mfnet'"),
])
def test_what_cannot_be_shown_is_told(arguments, message, command):
    code, out, err = command('models', *arguments)
    assert (code, out) == (2, '')
    assert message in err.splitlines()[-1]
