# Copyright 2026 rgbx_seg_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""CVAT's Segmentation mask 1.1: what leaves comes back, and what is odd is named."""

import json
import shutil
import zipfile

import cv2
import numpy as np
import pytest
from rgbx_seg_ros.datasets import FolderDataset
from rgbx_seg_ros.datasets.base import classes
from rgbx_seg_ros.errors import DataError
from rgbx_seg_ros.frames.images import read_image
from rgbx_seg_ros.labelling.classes import voc_colors
from rgbx_seg_ros.labelling.labels import export, import_labels
from support.label_folders import (
    label_files,
    MANY,
    ODD,
    PLAIN,
    rezip,
    same_labels,
    SIZE,
    WITH_BACKGROUND,
    write_folder,
)
from support.picture_files import png, png_chunk

OF_THE_DOCS = """\
# labelmap.txt
# label : color (RGB) : 'body' parts : actions
background:0,128,0::
aeroplane:10,10,128::
bicycle:10,128,0::
bird:0,108,128::
boat:108,0,100::
bottle:18,0,8::
bus:12,28,0::
"""
"""https://docs.cvat.ai/docs/dataset_management/formats/format-smask"""
GREY_OF_THE_DOCS = """\
q:0,128,0:: # color index 0
aeroplane:10,10,128:: # color index 1
_dummy2:2,2,2:: # filler for color index 2
_dummy3:3,3,3:: # filler for color index 3
boat:108,0,100:: # color index 3
"""
OF_CVAT = 'SegmentationClass/a.png', 'SegmentationClass/b.png'


def encoded(rgb):
    return cv2.imencode('.png', np.uint8(rgb)[..., ::-1])[1].tobytes()


@pytest.fixture
def data(tmp_path):
    """Return a data set of two frames of the plain classes."""
    return write_folder(tmp_path / 'data', PLAIN)


@pytest.fixture
def exported(data, tmp_path):
    """Return the annotations.zip of that data set."""
    export(data, PLAIN, tmp_path / 'tool')
    return tmp_path / 'tool' / 'annotations.zip'


def problems(data, source, labels=PLAIN):
    """Import to a new folder, where nothing may appear, and return the problems."""
    out = data.root / 'new'
    report = import_labels(data, labels, source, out)
    assert report.problems and not out.exists() and report.written == 0
    return report.problems


@pytest.mark.parametrize('is_folder', [False, True])
@pytest.mark.parametrize('labels', [PLAIN, WITH_BACKGROUND, ODD, MANY])
def test_every_id_and_255_come_back(labels, is_folder, tmp_path):
    data = write_folder(tmp_path / 'data', labels, size=(16, 20))
    assert export(data, labels, tmp_path / 'tool') == (2, 0)
    source = tmp_path / 'tool' / 'annotations.zip'
    if is_folder:
        with zipfile.ZipFile(source) as archive:
            archive.extractall(tmp_path / 'unpacked')
        source = tmp_path / 'unpacked'
    report = import_labels(data, labels, source, tmp_path / 'back')
    assert (report.written, report.problems) == (2, [])
    assert same_labels(tmp_path / 'back', tmp_path / 'data' / 'label')


def test_the_files_are_those_that_cvat_reads(data, exported):
    folder = exported.parent
    with zipfile.ZipFile(exported) as archive:
        assert archive.read('labelmap.txt').decode() == (
            '# label:color_rgb:parts:actions\nbackground:0,0,0::\nroad:150,80,200::\n'
            'person:255,50,40::\ncar:30,90,255::\n')
        assert archive.read('ImageSets/Segmentation/default.txt') == b'a\nb\n'
        shown, objects = (cv2.imdecode(np.frombuffer(archive.read(f'{name}/a.png'), np.uint8), 1)
                          [..., ::-1] for name in ('SegmentationClass', 'SegmentationObject'))
    label = read_image(data.files('a').label)
    colors = {0: (150, 80, 200), 1: (255, 50, 40), 2: (30, 90, 255), 255: (0, 0, 0)}
    for class_id, color in colors.items():
        assert (shown[label == class_id] == color).all()
        assert (objects[label == class_id] == voc_colors()[(class_id + 1) % 256]).all()
    with zipfile.ZipFile(folder / 'images.zip') as archive:
        assert archive.namelist() == ['a.png', 'related_images/a_png/x.png', 'b.png',
                                      'related_images/b_png/x.png']
        assert archive.read('a.png') == data.files('a').rgb.read_bytes()
    assert json.loads((folder / 'labels.json').read_text())[0] == {
        'name': 'road', 'color': '#9650c8', 'attributes': []}


@pytest.mark.parametrize(('labels', 'names'), [
    (PLAIN, ['road', 'person', 'car']),
    (WITH_BACKGROUND, ['background', 'car', 'person', 'unlabeled'])])
def test_the_task_gets_labels_for_what_can_be_drawn(labels, names, tmp_path):
    export(write_folder(tmp_path / 'data', labels), labels, tmp_path / 'tool')
    told = json.loads((tmp_path / 'tool' / 'labels.json').read_text())
    assert [label['name'] for label in told] == names


NAMES = ['frame.0001', 'Stra\xdfe 7', 'sn\N{SNOWMAN}w', 'a b', 'x.png.y']


def test_names_with_periods_spaces_and_all_letters_survive(tmp_path):
    data = write_folder(tmp_path / 'data', PLAIN, NAMES)
    export(data, PLAIN, tmp_path / 'tool')
    import_labels(data, PLAIN, tmp_path / 'tool' / 'annotations.zip', tmp_path / 'back')
    assert same_labels(tmp_path / 'back', tmp_path / 'data' / 'label')


def test_masks_find_their_frames_through_folders_and_other_forms_of_letters(tmp_path):
    data = write_folder(tmp_path / 'data', PLAIN, ['\xfcber.1', 'b'])
    export(data, PLAIN, tmp_path / 'tool')
    source = tmp_path / 'deep.zip'
    with zipfile.ZipFile(tmp_path / 'tool' / 'annotations.zip') as old, \
            zipfile.ZipFile(source, 'w') as new:
        for name in old.namelist():  # a share in CVAT, packed again by macOS
            inner = name.replace('Class/', 'Class/day 1/rgb/').replace('\xfc', 'u\u0308')
            new.writestr(f'task 7/{inner}', old.read(name))
    assert import_labels(data, PLAIN, source, tmp_path / 'back').written == 2
    assert same_labels(tmp_path / 'back', tmp_path / 'data' / 'label')


def test_the_example_of_the_documentation_is_understood(tmp_path):
    labels = classes(('aeroplane', (1, 2, 3)), ('boat', (4, 5, 6)))
    data = write_folder(tmp_path / 'data', labels, ['image1'])
    shown = np.zeros((*SIZE, 3), np.uint8)
    shown[:] = 0, 128, 0
    shown[1], shown[2] = (10, 10, 128), (108, 0, 100)
    root = tmp_path / 'taskname'
    (root / 'SegmentationClass').mkdir(parents=True)
    (root / 'labelmap.txt').write_text(OF_THE_DOCS)
    (root / 'SegmentationClass' / 'image1.png').write_bytes(encoded(shown))
    import_labels(data, labels, root, tmp_path / 'back')
    expected = np.full(SIZE, 255)
    expected[1], expected[2] = 0, 1
    assert (label_files(tmp_path / 'back')['image1.png'] == expected).all()
    # bird is declared, but is no class: it counts where a pixel has it.
    shown[3, :5] = 0, 108, 128
    (root / 'SegmentationClass' / 'image1.png').write_bytes(encoded(shown))
    problem, = problems(data, root, labels)
    assert 'has 5 pixels of a label that is no class' in problem and "'bird' is unknown" in problem


def test_a_grey_mask_holds_numbers_of_lines_as_documented(data, exported, tmp_path):
    labels = classes(('aeroplane', (1, 2, 3)), ('boat', (4, 5, 6)), ('q', (7, 8, 9)))
    data = write_folder(tmp_path / 'grey', labels, ['a'])
    numbers = np.full(SIZE, 4, np.uint8)
    numbers[0], numbers[1] = 0, 1
    changes = {'labelmap.txt': GREY_OF_THE_DOCS,
               OF_CVAT[0]: cv2.imencode('.png', numbers)[1].tobytes()}
    source = rezip(exported, tmp_path / 'grey.zip', changes, drop=OF_CVAT[1:])
    import_labels(data, labels, source, tmp_path / 'back')
    expected = np.full(SIZE, 1)
    expected[0], expected[1] = 2, 0
    assert (label_files(tmp_path / 'back')['a.png'] == expected).all()
    numbers[3, 3] = 5
    changes[OF_CVAT[0]] = cv2.imencode('.png', numbers)[1].tobytes()
    problem, = problems(data, rezip(source, tmp_path / 'high.zip', changes), labels)
    assert 'holds the number 5, labelmap.txt has labels 0..4' in problem


def test_of_a_palette_the_colours_count(data, exported, tmp_path):
    index = np.zeros(SIZE, np.uint8)
    index[2] = 1
    content = png(index, 8, False)
    header, end = content[:33], content[33:]
    painted = (header[:16] + header[16:25] + b'\3' + header[26:29])[8:]
    painted = content[:8] + png_chunk(b'IHDR', painted[8:21]) + png_chunk(
        b'PLTE', bytes([255, 50, 40, 30, 90, 255]) + bytes(254 * 3)) + end
    source = rezip(exported, tmp_path / 'p.zip', {OF_CVAT[0]: painted})
    import_labels(data, PLAIN, source, tmp_path / 'back')
    expected = np.full(SIZE, 1)
    expected[2] = 2
    assert (label_files(tmp_path / 'back')['a.png'] == expected).all()


def test_smoothed_edges_are_named_with_the_nearest_colour_and_what_to_do(data, exported, tmp_path):
    shown = np.zeros((*SIZE, 3), np.uint8)
    shown[0, :3], shown[1, 1] = (254, 50, 41), (20, 80, 250)
    source = rezip(exported, tmp_path / 's.zip', {OF_CVAT[1]: encoded(shown)})
    problem, = problems(data, source)
    assert problem.startswith("'SegmentationClass/b.png' has 3 pixels of the colour (254, 50, 41)")
    assert '(254, 50, 41) and 1 more, which labelmap.txt does not declare' in problem
    assert "the nearest one is (255, 50, 40), 'person'" in problem
    assert 'anti-aliasing' in problem


@pytest.mark.parametrize(('content', 'message'), [
    ('', 'names no label'),
    ('road:1,2::', "has the line 'road:1,2::'"),
    ('road:1,2,256::', 'needed is'),
    ('road', "as in 'person:255,50,40::'"),
    ('road:1,2,3::\nperson:1,2,3::', "the labels 'road' and 'person' in one colour, (1, 2, 3)"),
])
def test_a_labelmap_without_a_meaning_is_told(content, message, data, exported, tmp_path):
    source = rezip(exported, tmp_path / 'm.zip', {'labelmap.txt': content})
    with pytest.raises(DataError) as error:
        import_labels(data, PLAIN, source, tmp_path / 'back')
    assert message in str(error.value)


def test_labels_that_mean_the_same_may_share_a_colour(data, exported, tmp_path):
    text = ('background:0,0,0::\nunlabeled:0,0,0::\nroad:150,80,200::\nperson:255,50,40::\n'
            'car:30,90,255::\n')
    source = rezip(exported, tmp_path / 'm.zip', {'labelmap.txt': text})
    assert import_labels(data, PLAIN, source, tmp_path / 'back').written == 2
    assert same_labels(tmp_path / 'back', data.root / 'label')


def test_without_a_labelmap_nobody_knows_what_colours_mean(data, exported, tmp_path):
    source = rezip(exported, tmp_path / 'm.zip', drop=['labelmap.txt'])
    with pytest.raises(DataError, match='has no labelmap.txt, which says what the colours mean'):
        import_labels(data, PLAIN, source)


@pytest.mark.parametrize(('content', 'message'), [
    (encoded(np.zeros((5, 8, 3))), 'has 8x5 pixels, its frame has 8x6'),
    (cv2.imencode('.jpg', np.zeros((*SIZE, 3), np.uint8))[1].tobytes(), 'compressed with loss'),
    (cv2.imencode('.png', np.zeros((*SIZE, 3), np.uint16))[1].tobytes(), 'needed are 8 bits'),
    (b'no picture', 'it is not an image'),
    (png(np.zeros(SIZE, np.uint8), 8, False)[:-30], 'truncated'),
    (bytes(2 << 20), 'more than the'),
])
def test_a_mask_that_is_none_is_named(content, message, data, exported, tmp_path):
    source = rezip(exported, tmp_path / 'w.zip', {OF_CVAT[0]: content})
    problem, = problems(data, source)
    assert OF_CVAT[0] in problem and message in problem


@pytest.mark.parametrize('name', ['a:b', '#a', ' a', 'a\nb', 'a\x85b', ''])
def test_a_name_that_labelmap_cannot_hold_is_told_before_anything_is_written(name, tmp_path):
    labels = classes((name, (1, 2, 3)))
    data = write_folder(tmp_path / 'data', labels)
    with pytest.raises(DataError, match='cannot stand in labelmap.txt'):
        export(data, labels, tmp_path / 'tool')
    assert [path.name for path in tmp_path.iterdir()] == ['data']


def test_without_labels_and_model_only_frames_are_exported(data, tmp_path):
    shutil.rmtree(data.root / 'label')
    data = FolderDataset(data.root)
    assert export(data, PLAIN, tmp_path / 'tool') == (0, 0)
    assert {path.name for path in (tmp_path / 'tool').iterdir()} == {'images.zip', 'labels.json'}
