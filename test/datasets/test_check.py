# Copyright 2026 rgbx_seg_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""`rgbx-seg data check`: what it tells of a whole data set, and of one that is not."""

import argparse
import os
import re

import cv2
import numpy as np
import pytest
from rgbx_seg_ros.datasets import DATASETS
from rgbx_seg_ros.datasets.check import _chosen, add_arguments, check, main, sheet, text
from rgbx_seg_ros.errors import DataError
from support.dataset_trees import SIZE, TREES, write
from support.picture_files import encode, tiff, turned


@pytest.fixture
def whole(tmp_path, monkeypatch):
    """Return a function that writes a data set of a few frames, which are all that it has."""
    def make(name):
        if name == 'nyuv2_mat':
            for library in ('h5py', 'scipy'):
                pytest.importorskip(library, reason=f'MATLAB files need {library}')
        if name in ('potsdam', 'vaihingen'):
            pytest.importorskip('rasterio', reason='aerial tiles need rasterio')
        root = tmp_path / 'data'
        expected = TREES[name](root)
        cls = DATASETS[name]
        if cls.SPLITS:
            splits = {split: len(found) if cls.SPLITS[split] else None
                      for split, found in expected.items()}
            small = type(cls.__name__, (cls,), {'SPLITS': splits, 'SIZE': cls.SIZE and SIZE})
            monkeypatch.setitem(DATASETS, name, small)
        return root, expected
    return make


def run(*arguments):
    parser = argparse.ArgumentParser()
    add_arguments(parser)
    return main(parser.parse_args(['check', *map(str, arguments)]))


@pytest.mark.parametrize('name', DATASETS)
def test_every_whole_data_set_passes_with_its_counts_and_shares(name, whole, capsys, tmp_path):
    root, expected = whole(name)
    picture = tmp_path / 'sheet.png'
    assert run(root, '--dataset', name, '--sheet', picture) == 0
    out = capsys.readouterr().out
    assert out.splitlines()[-1] == 'whole'
    for split, found in expected.items():
        labelled = sum(one.label is not None for one in found.values())
        line = next(line for line in out.splitlines() if line.startswith(f'{split or "all"}: '))
        count = len(found)
        assert re.search(rf': {count}( of {count})? pairs, {labelled} with a label', line)
    first = next(iter(expected.values()))
    labels = np.concatenate([one.label.ravel() for one in first.values()])
    for label in DATASETS[name].CLASSES or ():
        share = 100 * np.mean(labels[labels != 255] == label.id)
        row = next(line for line in out.splitlines()
                   if line.split()[:2] == [str(label.id), label.name])
        assert float(row.split()[2]) == pytest.approx(share, abs=0.006)
    assert cv2.imread(str(picture)).shape[1] == 960


@pytest.mark.parametrize('name', [name for name, cls in DATASETS.items()
                                  if any(cls.SPLITS.values())])
def test_a_part_of_a_data_set_is_not_whole(name, tmp_path, capsys):
    if name == 'nyuv2_mat':
        pytest.importorskip('h5py', reason='MATLAB files need h5py')
    TREES[name](tmp_path)
    assert run(tmp_path, '--dataset', name) == 1
    out = capsys.readouterr().out
    split, count = next(iter(DATASETS[name].SPLITS.items()))
    assert f'  {split}: 2 pairs, published are {count}\n' in out
    assert re.fullmatch(r'not whole: \d+ problems?', out.splitlines()[-1])
    if DATASETS[name].SIZE:
        height, width = DATASETS[name].SIZE
        assert f'2 of 2 frames are not {width}x{height} as published, such as ' in out


def test_a_frame_whose_size_is_not_the_published_one_is_named(whole, capsys):
    root, expected = whole('fmb')
    for kind in ('Visible', 'Infrared', 'Label'):
        path = root / 'train' / kind / '00002.png'
        write(path, cv2.cvtColor(cv2.imread(str(path)), cv2.COLOR_BGR2RGB)[:16] if kind ==
              'Visible' else cv2.imread(str(path), cv2.IMREAD_UNCHANGED)[:16])
    assert run(root, '--dataset', 'fmb') == 1
    assert ("1 of 2 frames are not 48x32 as published, such as '00002' with 48x16"
            in capsys.readouterr().out)


def test_every_file_that_is_wrong_is_told_and_the_others_are_counted(whole, capsys):
    root, _ = whole('fmb')
    (root / 'train' / 'Visible' / '00001.png').write_bytes(b'cut')
    write(root / 'train' / 'Label' / '00002.png', np.full(SIZE, 77, np.uint8))
    (root / 'test' / 'Infrared' / '00003.png').unlink()
    assert run(root, '--dataset', 'fmb') == 1
    out = capsys.readouterr().out
    assert "Visible/00001.png': it is not an image" in out
    assert "Label/00002.png' holds the ids 77, allowed are 0..14, 255" in out
    assert "Infrared' lacks 1 of 1 images that the other folders have, such as '00003'" in out
    assert out.splitlines()[-1] == 'not whole: 3 problems'


BAD = {
    'rgb/a0.png': (encode('.png', np.zeros(SIZE, np.uint8))[:-20], 'the PNG is truncated'),
    'thermal/a1.png': (b'', 'it is empty'),
    'label/a2.png': (encode('.jpg', np.zeros(SIZE, np.uint8)), 'compressed with loss'),
    'thermal/a3.png': (tiff(np.zeros(SIZE, np.uint8), _256=60_000, _257=60_000),
                       'it has 60000x60000 pixels'),
    'rgb/a4.png': (turned('.jpg', np.zeros((*SIZE, 3), np.uint8)), 'EXIF orientation 6'),
    'thermal/a5.png': (tiff(np.zeros((*SIZE, 3))), 'float64|of a sort that cv2 lacks'),
}


def test_every_kind_of_bad_file_is_told_by_its_name(tmp_path, write_frames, capsys):
    root = write_frames(tmp_path / 'data', 8, SIZE)
    for name, (content, _) in BAD.items():
        (root / name).write_bytes(content)
    assert run(root, '--dataset', 'folder') == 1
    out = capsys.readouterr().out
    for name, (_, why) in BAD.items():
        assert re.search(f"^  all: .*{name}'.*({why})", out, re.MULTILINE), name
    assert '    2 x RGB 48x32, X 48x32 uint8\n' in out
    assert out.splitlines()[-1] == f'not whole: {len(BAD)} problems'


def binary(root):
    for path in (root / 'label').iterdir():
        write(path, 255 * np.uint8(cv2.imread(str(path), cv2.IMREAD_GRAYSCALE) > 0))


def suffixed(root):
    for path in (root / 'label').iterdir():
        path.rename(path.with_stem(f'{path.stem}_mask'))


def one_suffixed(root):
    (root / 'label' / 'a1.png').rename(root / 'label' / 'a1_mask.png')


def one_deep(root):
    write(root / 'thermal' / 'a1.png', np.zeros(SIZE, np.uint16))


@pytest.mark.parametrize(('change', 'problem'), [
    (binary, 'the labels hold nothing but class 0 and 255, which means unlabeled'),
    (suffixed, "label' holds 4 images, and none has the name of a frame"),
    (one_suffixed, "1 images of label/ belong to no frame: 'a1_mask.png'"),
    (one_deep, "X of 3 frames is of uint8, that of 1 is not: '.*thermal/a1.png' of uint16"),
])
def test_what_shows_only_of_all_frames_together_is_a_problem(tmp_path, write_frames, capsys,
                                                             change, problem):
    root = write_frames(tmp_path / 'data', 4, SIZE)
    assert run(root, '--dataset', 'folder') == 0
    change(root)
    assert run(root, '--dataset', 'folder') == 1
    out = capsys.readouterr().out
    assert re.search(f'^  all: .*{problem}', out, re.MULTILINE)
    assert out.splitlines()[-1] == 'not whole: 1 problem'


def test_what_may_be_as_it_should_is_told_and_is_no_problem(whole, capsys):
    root, expected = whole('pst900')
    for name, one in expected['train'].items():
        write(root / 'train' / 'labels' / f'{name}.png', np.where(one.label == 3, 0, one.label))
    assert run(root, '--dataset', 'pst900') == 0
    out = capsys.readouterr().out
    assert "\n  train, to look at: no label has a pixel of 'hand_drill'\n" in out
    assert out.count('to look at') == 1 and out.splitlines()[-1] == 'whole'


def test_a_sheet_shows_frames_whose_names_are_no_text(tmp_path, capsys):
    """Of such letters cv2 dies."""
    TREES['folder'](tmp_path)
    for kind in ('rgb', 'thermal', 'label'):
        (tmp_path / kind / 'a0.png').rename(tmp_path / kind / os.fsdecode(b'Stra\xdfe.png'))
    picture = tmp_path / 'sheet.png'
    assert run(tmp_path, '--dataset', 'folder', '--sheet', picture) == 0
    assert cv2.imread(str(picture)).shape[1] == 960


def test_x_that_no_network_takes_is_told(tmp_path):
    TREES['folder'](tmp_path)
    (tmp_path / 'thermal' / 'a1.png').unlink()
    assert cv2.imwrite(str(tmp_path / 'thermal' / 'a1.tif'), np.zeros(SIZE, np.float64))
    report, = check('folder', tmp_path)
    assert len(report.problems) == 1 and report.pairs == 4
    assert "a1.tif' is float64, a network takes uint8, uint16, float32" in report.problems[0]


def test_many_problems_are_cut_short_but_counted(tmp_path):
    TREES['folder'](tmp_path)
    for i in range(30):
        for kind in ('rgb', 'thermal'):
            (tmp_path / kind / f'b{i}.png').write_bytes(b'')
    lines = text(check('folder', tmp_path)).splitlines()
    assert lines[-2:] == ['  and 10 more', 'not whole: 30 problems']
    assert sum('it is empty' in line for line in lines) == 20


def test_one_split_can_be_looked_at_alone(whole, capsys):
    root, _ = whole('msrs')
    (root / 'train' / 'ir' / '00001D.png').unlink()
    assert run(root, '--dataset', 'msrs', '--split', 'test') == 0
    assert 'train' not in capsys.readouterr().out
    assert run(root, '--dataset', 'msrs', '--split', 'tost') == 1
    assert "split 'tost' is unknown; did you mean 'test'?" in capsys.readouterr().out


def test_splits_that_overlap_are_read_once(whole, monkeypatch):
    root, _ = whole('mfnet')
    cls, read = DATASETS['mfnet'], []
    original = cls.__getitem__

    def counted(self, index):
        read.append(self.names[index])
        return original(self, index)
    monkeypatch.setattr(cls, '__getitem__', counted)
    reports = check('mfnet', root)
    assert [report.pairs for report in reports] == [2, 1, 3, 1, 2]
    assert sorted(read) == ['00001D', '00002N', '00003D', '00004D', '00005N', '00006N']
    assert reports[2].total.sum() == reports[3].total.sum() + reports[4].total.sum()


def test_the_sheet_shows_the_frame_x_and_the_colours_of_the_label(whole):
    root, expected = whole('gmrpd')
    picture = sheet(check('gmrpd', root))
    one = expected['demo']['gmrpd_1']
    height = round(SIZE[0] * 320 / SIZE[1])
    row = picture[18:18 + height]
    assert np.abs(row[:, :320].mean((0, 1)) - one.rgb.mean((0, 1))).max() < 2
    # At the middle of a pixel of the label its colour stands on the sheet.
    colors = DATASETS['gmrpd'].CLASSES.palette()
    colors[255] = 90
    for y, x in ((2, 3), (10, 20), (20, 40), (30, 47)):
        at = int((y + 0.5) * height / SIZE[0]), 640 + int((x + 0.5) * 320 / SIZE[1])
        assert row[at].tolist() == colors[one.label[y, x]].tolist()
    gray = row[:, 320:640]
    assert (gray[..., 0] == gray[..., 1]).all() and gray.max() == 255


def test_on_the_sheet_x_is_black_where_it_measured_nothing_and_only_there(whole):
    """The range of the rest is stretched, whatever stands for nothing."""
    root, expected = whole('gmrpd')
    x = np.full(SIZE, 40_000, np.uint16)
    x[:, 24:] = 40_500
    x[:16] = 0
    write(root / 'demo' / 'depth' / 'gmrpd_1.png', x)
    height = round(SIZE[0] * 320 / SIZE[1])
    shown = sheet(check('gmrpd', root))[18:18 + height, 320:640, 0]
    top, left, right = shown[:90], shown[120:, :150], shown[120:, 170:]
    assert top.max() == 0 and (left == 30).all() and (right == 255).all()


def test_the_sheet_shows_a_class_that_one_frame_alone_has(tmp_path):
    TREES['folder'](tmp_path)
    rng = np.random.default_rng(0)
    for i in range(40):
        for kind in ('rgb', 'thermal', 'label'):
            shape = (*SIZE, 3) if kind == 'rgb' else SIZE
            image = np.zeros(shape, np.uint8) if kind == 'label' else rng.integers(
                0, 256, shape, np.uint8)
            if kind == 'label' and i == 27:
                image[:] = 5
            write(tmp_path / kind / f'b{i:02}.png', image)
    reports = check('folder', tmp_path)
    names = [name for _, name in _chosen(reports)]
    assert 'b27' in names and len(set(names)) == len(names) == 8


def test_frames_without_a_label_can_be_looked_at(tmp_path):
    TREES['folder'](tmp_path)
    for path in (tmp_path / 'label').iterdir():
        path.unlink()
    reports = check('folder', tmp_path)
    assert text(reports).splitlines() == [
        'all: 4 pairs, 0 with a label', '    4 x RGB 48x32, X 48x32 uint8', 'whole']
    assert sheet(reports).shape[1] == 960


def test_what_cannot_be_checked_is_told_at_once(tmp_path):
    with pytest.raises(DataError, match="nowhere' is not a folder"):
        run(tmp_path / 'nowhere', '--dataset', 'msrs')
    with pytest.raises(DataError, match='its folder does not exist'):
        run(tmp_path, '--dataset', 'msrs', '--sheet', tmp_path / 'nowhere' / 'sheet.png')
    (tmp_path / 'train').mkdir()
    assert run(tmp_path, '--dataset', 'msrs', '--sheet', tmp_path / 'sheet.png') == 1
    assert not (tmp_path / 'sheet.png').exists()
    with pytest.raises(DataError, match='no frame to show'):
        sheet(check('msrs', tmp_path))
