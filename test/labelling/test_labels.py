# Copyright 2026 rgbx_seg_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""`rgbx-seg labels`, and what docs/labelling.md tells to type."""

from pathlib import Path
import re
import shutil
import zipfile

import cv2
import numpy as np
import pytest
from rgbx_seg_ros.bags.make_bag import make_bag
from rgbx_seg_ros.cards.card import load_card
from rgbx_seg_ros.datasets import FolderDataset
from rgbx_seg_ros.errors import DataError
from rgbx_seg_ros.inference.segmenter import Segmenter
from rgbx_seg_ros.labelling.labels import export
from support.label_folders import (
    label_files,
    PLAIN,
    rezip,
    same_labels,
    SIZE,
    WITH_BACKGROUND,
    write_folder,
)
from support.stand_ins import engine_of

PAGE = (Path(__file__).parents[2] / 'docs' / 'labelling.md').read_text(encoding='utf-8')
COMMANDS = [line for block in re.findall(r'```bash\n(.*?)```', PAGE, re.DOTALL)
            for line in block.splitlines()]


@pytest.mark.parametrize('action', ['export', 'import'])
def test_the_help_of_an_action_has_80_columns(action, command):
    code, out, err = command('labels', action, '--help')
    assert (code, err) == (0, '') and out.startswith(f'usage: rgbx-seg labels {action} ')
    assert max(map(len, out.splitlines())) <= 80


def test_the_commands_of_the_page_lead_from_a_bag_to_a_score(
        tmp_path, write_frames, tiny_card, monkeypatch, command):
    monkeypatch.chdir(tmp_path)
    make_bag(write_frames(tmp_path / 'frames', 2), tmp_path / 'my_bag', rate_hz=1)
    said = []
    for line in COMMANDS:
        if 'labels import' in line and 'corrected' in line:
            # What somebody does in CVAT: the left half of each mask becomes background.
            rezip('for_cvat/annotations.zip', 'corrected.zip', {
                name: _half_black(name) for name in _masks('for_cvat/annotations.zip')})
        words = ['--min-change=0' if word == '2' else word for word in line.split()[1:]
                 if word != '--min-change']
        words = [tiny_card if word == 'msrs_scene' else word for word in words]
        code, out, err = command(*words)
        assert (code, err) == (0, ''), (line, out, err)
        said.append(out)
    assert len(said) == 7
    assert said[1].startswith('wrote 2 frames to for_cvat: 0 with a label, 2 with a mask of ')
    assert said[2].startswith('wrote 2 labels to to_label/label')
    assert said[3].endswith('whole\n') and '2 with a label' in said[3]
    assert 'IoU' in said[4]
    assert all((label[:, :48] == 0).all() for label in label_files('to_label/label').values())
    assert '2 were there already' in said[6]


def _masks(path):
    with zipfile.ZipFile(path) as archive:
        return [name for name in archive.namelist() if 'Class/' in name]


def _half_black(name):
    with zipfile.ZipFile('for_cvat/annotations.zip') as archive:
        shown = cv2.imdecode(np.frombuffer(archive.read(name), np.uint8), 1)
    shown[:, :48] = 0
    return cv2.imencode('.png', shown)[1].tobytes()


def test_a_label_goes_before_the_mask_of_a_model(tmp_path, tiny_card):
    data = write_folder(tmp_path / 'data', WITH_BACKGROUND)
    (tmp_path / 'data' / 'label' / 'b.png').unlink()
    data = FolderDataset(data.root)
    guess = np.full(SIZE, 2, np.uint8)
    segmenter = Segmenter(load_card(tiny_card), engine_of(lambda *_: (guess, guess)))
    assert export(data, WITH_BACKGROUND, tmp_path / 'tool', 'coco', segmenter) == (1, 1)
    numbers = label_files(tmp_path / 'tool' / 'panoptic')
    assert (numbers['b.png'] == [3, 0, 0]).all()
    label = label_files(data.root / 'label')['a.png']
    assert (numbers['a.png'][..., 0] == label + np.uint8(1)).all()


@pytest.mark.parametrize('format_name', ['cvat', 'coco'])
def test_an_export_is_whole_or_not_there(format_name, tmp_path, tiny_card):
    data = write_folder(tmp_path / 'data', PLAIN)
    with pytest.raises(DataError, match="'.*a.png' holds the id 2, the classes are 0..1 and 255"):
        export(data, type(PLAIN)(PLAIN[:2]), tmp_path / 'tool', format_name)
    assert [path.name for path in tmp_path.iterdir()] == ['data']


def test_a_frame_whose_name_is_no_text_is_told(tmp_path):
    data = write_folder(tmp_path / 'data', PLAIN, ['Stra\udcdfe'])
    with pytest.raises(DataError, match='has a name that is no line of text'):
        export(data, PLAIN, tmp_path / 'tool')


def test_problems_end_with_1_and_nothing_is_written(tmp_path, command):
    data = write_folder(tmp_path / 'data', PLAIN)
    assert command('labels', 'export', data.root, '-o', tmp_path / 'tool')[0] == 0
    shutil.rmtree(data.root / 'label')
    source = rezip(tmp_path / 'tool' / 'annotations.zip', tmp_path / 'less.zip',
                   drop=['SegmentationClass/b.png'])
    code, out, err = command('labels', 'import', data.root, source)
    assert (code, err) == (1, '') and out.endswith('nothing is written: 1 problem\n')
    assert not (data.root / 'label').exists()
    assert command('labels', 'import', data.root, source, '--partial')[0] == 0
    code, out, _ = command('labels', 'import', data.root, tmp_path / 'tool' / 'annotations.zip')
    assert code == 0 and 'wrote 1 labels' in out and '1 were there already' in out


def test_a_split_is_exported_and_imported_by_itself(tmp_path, command):
    for name in ('train', 'val'):
        write_folder(tmp_path / 'data' / name, PLAIN)
    (tmp_path / 'data' / 'dataset.yaml').write_text(
        (tmp_path / 'data' / 'train' / 'dataset.yaml').read_text())
    assert command('labels', 'export', tmp_path / 'data', '-o', tmp_path / 'tool', '--split',
                   'val')[0] == 0
    assert command('labels', 'import', tmp_path / 'data', tmp_path / 'tool' / 'annotations.zip',
                   '--split', 'val', '-o', tmp_path / 'back')[0] == 0
    assert same_labels(tmp_path / 'back', tmp_path / 'data' / 'val' / 'label')


def test_labels_go_to_no_folder_that_is_there(tmp_path, command):
    data = write_folder(tmp_path / 'data', PLAIN)
    export(data, PLAIN, tmp_path / 'tool')
    (tmp_path / 'mine').mkdir()
    code, _, err = command('labels', 'import', data.root, tmp_path / 'tool' / 'annotations.zip',
                           '-o', tmp_path / 'mine')
    assert code == 2 and 'exists already' in err and not [*(tmp_path / 'mine').iterdir()]


@pytest.mark.parametrize(('names', 'message'), [
    (['a/SegmentationClass/a.png', 'b/SegmentationClass/a.png'], 'has several exports, a/, b/'),
    (['a.json', 'b.json'], 'has 2 .json files, a.json, b.json'),
    (['readme.txt'], 'it has neither'),
])
def test_what_is_no_single_export_is_told(names, message, tmp_path, command):
    data = write_folder(tmp_path / 'data', PLAIN)
    for name in names:
        (tmp_path / 'made' / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / 'made' / name).write_bytes(b'')
    code, _, err = command('labels', 'import', data.root, tmp_path / 'made')
    assert code == 2 and message in err
