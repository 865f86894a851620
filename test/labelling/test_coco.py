# Copyright 2026 rgbx_seg_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""COCO: panoptic masks out and in, instances in, crowds and overlaps as documented."""

import json
import sys

import cv2
import numpy as np
import pytest
from rgbx_seg_ros.errors import DataError
from rgbx_seg_ros.labelling import coco
from rgbx_seg_ros.labelling.labels import export, import_labels
from support.label_folders import (
    label_files,
    MANY,
    ODD,
    PLAIN,
    same_labels,
    SIZE,
    WITH_BACKGROUND,
    write_folder,
)

HEIGHT, WIDTH = SIZE


@pytest.fixture
def data(tmp_path):
    """Return a data set of one frame of the plain classes."""
    return write_folder(tmp_path / 'data', PLAIN, ['a'])


@pytest.fixture
def panoptic(data, tmp_path):
    """Return that data set as COCO."""
    export(data, PLAIN, tmp_path / 'tool', 'coco')
    return tmp_path / 'tool'


def changed(folder, change):
    """Change what the panoptic.json in a folder holds."""
    path = folder / 'panoptic.json'
    facts = json.loads(path.read_text())
    change(facts)
    path.write_text(json.dumps(facts))
    return folder


def imported(data, source, labels=PLAIN, **options):
    """Return the pixels of the label of the frame a."""
    report = import_labels(data, labels, source, data.root / 'back', **options)
    assert report.problems == []
    return label_files(data.root / 'back')['a.png']


def problem(data, source):
    """Return the only problem of an import."""
    found, = import_labels(data, PLAIN, source, data.root / 'none').problems
    return found


def instances(path, *annotations, size=SIZE, image='a.png'):
    """Write instances of one image: category id, segmentation and maybe iscrowd; return where."""
    path.write_text(json.dumps({
        'images': [{'id': 7, 'file_name': image, 'height': size[0], 'width': size[1]}],
        'categories': [{'id': 10 + i, 'name': one.name} for i, one in enumerate(PLAIN)],
        'annotations': [
            {'id': i, 'image_id': 7, 'category_id': category, 'segmentation': segmentation,
             'iscrowd': int(bool(crowd))}
            for i, (category, segmentation, *crowd) in enumerate(annotations)]}))
    return path


def runs(mask):
    """Return a mask as run lengths of COCO, down the columns and from what is not covered."""
    flat = np.concatenate([[0], np.ravel(mask, 'F').astype(int)])
    starts = np.flatnonzero(np.diff(flat))
    return {'size': [*mask.shape],
            'counts': np.diff([0, *starts, mask.size]).tolist()}


def rows(first, last):
    """Return run lengths that cover some rows."""
    mask = np.zeros(SIZE, bool)
    mask[first:last] = True
    return runs(mask)


@pytest.mark.parametrize('labels', [PLAIN, WITH_BACKGROUND, ODD, MANY])
def test_every_id_and_255_come_back(labels, tmp_path):
    data = write_folder(tmp_path / 'data', labels, ['a.1', 'sn\N{SNOWMAN}w'], size=(16, 20))
    assert export(data, labels, tmp_path / 'tool', 'coco') == (2, 0)
    for i, source in enumerate((tmp_path / 'tool', tmp_path / 'tool' / 'panoptic.json')):
        assert import_labels(data, labels, source, tmp_path / f'back{i}').problems == []
        assert same_labels(tmp_path / f'back{i}', tmp_path / 'data' / 'label')


def test_the_json_is_that_of_coco(data, panoptic):
    facts = json.loads((panoptic / 'panoptic.json').read_text())
    assert facts['images'] == [{'id': 1, 'file_name': 'a.png', 'width': WIDTH, 'height': HEIGHT}]
    assert [(one['id'], one['name'], one['isthing']) for one in facts['categories']] == [
        (1, 'road', 0), (2, 'person', 0), (3, 'car', 0)]
    annotation, = facts['annotations']
    assert (annotation['image_id'], annotation['file_name']) == (1, 'a.png')
    label = label_files(data.root / 'label')['a.png']
    pixels = cv2.imread(str(panoptic / 'panoptic' / 'a.png'))[..., ::-1].astype(int)
    numbers = pixels @ [1, 256, 256 * 256]
    assert (numbers[label == 255] == 0).all()
    for segment in annotation['segments_info']:
        here = numbers == segment['id']
        assert (label[here] == segment['category_id'] - 1).all()
        assert segment['area'] == here.sum() and segment['iscrowd'] == 0
        left, top, width, height = segment['bbox']
        box = here[top:top + height, left:left + width]
        assert box.sum() == here.sum() and box.any(0)[[0, -1]].all() and box.any(1)[[0, -1]].all()
    assert (panoptic / 'images' / 'a.png').read_bytes() == data.files('a').rgb.read_bytes()


def test_segments_of_others_have_high_numbers_and_folders(data, panoptic, tmp_path):
    """Datumaro puts the masks into a folder named as the JSON, and objects have their own."""
    numbers = np.zeros(SIZE, int)
    numbers[1], numbers[2], numbers[3] = 1 + 2 * 256 + 3 * 65536, 70000, 300
    root = tmp_path / 'annotations'
    (root / 'panoptic_default').mkdir(parents=True)
    rgb = np.dstack([numbers % 256, numbers // 256 % 256, numbers // 65536]).astype(np.uint8)
    cv2.imwrite(str(root / 'panoptic_default' / 'a.png'), rgb[..., ::-1])
    facts = json.loads((panoptic / 'panoptic.json').read_text())
    facts['annotations'][0]['segments_info'] = [
        {'id': 197121, 'category_id': 3}, {'id': 70000, 'category_id': 3, 'iscrowd': 1},
        {'id': 300, 'category_id': 1}, {'id': 9, 'category_id': 2}]
    (root / 'panoptic_default.json').write_text(json.dumps(facts))
    label = imported(data, root.parent / 'annotations')
    assert [*label[:5, 0]] == [255, 2, 255, 0, 255]


@pytest.mark.parametrize(('change', 'message'), [
    (lambda facts: facts['annotations'][0]['segments_info'].pop(), 'pixels of the segment 3'),
    (lambda facts: facts['categories'][0].update(name='raod'), "did you mean 'road'"),
    (lambda facts: facts['categories'].pop(), 'the category 3, which'),
    (lambda facts: facts['annotations'][0].pop('file_name'), "'file_name' is missing"),
    (lambda facts: facts['annotations'][0].update(file_name='b.png'), 'there is no'),
    (lambda facts: facts['annotations'][0].update(file_name='../b.png'), 'outside of it'),
    (lambda facts: facts['annotations'][0].update(segments_info=3), 'none of COCO'),
])
def test_a_panoptic_mask_without_a_meaning_is_told(change, message, data, panoptic):
    assert message in problem(data, changed(panoptic, change))


@pytest.mark.parametrize(('text', 'message'), [
    ('', 'no JSON of COCO'),
    ('[]', 'no JSON of COCO'),
    ('{"images": []}', "'categories' is missing"),
    ('[' * 100_000, 'nested too deeply'),
    ('{"images": [], "categories": [], "annotations": [{"image_id": 4}]}',
     'annotation of the image 4'),
    ('{"images": [], "categories": [], "annotations": []}', 'holds no mask'),
])
def test_a_json_of_another_kind_is_told(text, message, data, tmp_path):
    (tmp_path / 'a.json').write_text(text)
    with pytest.raises(DataError) as error:
        import_labels(data, PLAIN, tmp_path / 'a.json')
    assert message in str(error.value)


def test_panoptic_and_instances_do_not_mix(data, panoptic):
    changed(panoptic, lambda facts: facts['annotations'].append({'image_id': 1}))
    with pytest.raises(DataError, match='mixes panoptic masks and instances'):
        import_labels(data, PLAIN, panoptic)


def test_of_instances_the_later_one_lies_on_top(data, tmp_path):
    path = instances(tmp_path / 'i.json', (10, rows(0, 4)), (12, rows(2, 3)), (11, rows(3, 5)))
    assert [*imported(data, path)[:, 0]] == [0, 0, 2, 1, 1, 255]


def test_what_no_instance_covers_is_background_where_a_class_is(tmp_path):
    data = write_folder(tmp_path / 'data', WITH_BACKGROUND, ['a'])
    path = instances(tmp_path / 'i.json', (11, rows(0, 2)))
    assert [*imported(data, path, WITH_BACKGROUND)[:, 0]] == [2, 2, 0, 0, 0, 0]


def test_crowds_are_unlabeled_below_the_rest_and_told(data, tmp_path):
    path = instances(tmp_path / 'i.json', (10, rows(0, 2)), (11, rows(1, 4), True))
    with pytest.warns(UserWarning, match='marks 1 of 2 areas as crowds .* give --crowds class'):
        assert [*imported(data, path)[:, 0]] == [0, 0, 255, 255, 255, 255]


def test_what_the_brush_of_cvat_has_painted_keeps_its_class_and_layer(data, tmp_path):
    path = instances(tmp_path / 'i.json', (10, rows(0, 2)), (11, rows(1, 4), True))
    assert [*imported(data, path, crowds='class')[:, 0]] == [0, 1, 1, 1, 255, 255]


@pytest.mark.parametrize('size', [(1, 1), (6, 8), (40, 70), (200, 3)])
def test_compressed_run_lengths_are_those_of_pycocotools(size, tmp_path):
    tools = pytest.importorskip('pycocotools.mask', reason="it needs 'rgbx_seg_ros[coco]'")
    rng = np.random.default_rng(1)
    for share in (0, 0.01, 0.3, 0.99, 1):
        mask = np.asfortranarray(rng.random(size) < share, np.uint8)
        packed = tools.encode(mask)
        for segmentation in (runs(mask), {**packed, 'counts': packed['counts'].decode()}):
            assert (coco._covered(segmentation, size) == mask).all()


def test_polygons_are_filled_as_pycocotools_does(data, tmp_path):
    pytest.importorskip('pycocotools.mask', reason="it needs 'rgbx_seg_ros[coco]'")
    square, other = [1, 1, 4, 1, 4, 3, 1, 3], [6, 3, 8, 3, 8, 6, 6, 6]
    label = imported(data, instances(tmp_path / 'i.json', (11, [square, other])))
    expected = np.full(SIZE, 255)
    expected[1:3, 1:4] = expected[3:6, 6:8] = 1
    assert (label == expected).all()


def test_without_pycocotools_polygons_tell_how_to_get_it(data, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, 'pycocotools', None)
    path = instances(tmp_path / 'i.json', (11, [[1, 1, 4, 1, 4, 3]]))
    assert "pip install 'rgbx_seg_ros[coco]'" in problem(data, path)
    assert imported(data, instances(path, (11, rows(0, 6)))).tolist() == np.ones(SIZE).tolist()


@pytest.mark.parametrize('segmentation', [
    [], None, 3, 'abc', [[1, 2, 3, 4]], [[1, 2, 3, 4, 5]], [[1, 2, 3, 4, 5, 'x']],
    [[0, 0, 1e9, 0, 5, 5]], [[0, 0, float('nan'), 0, 5, 5]], [3],
    {'size': [6, 8]}, {'size': [8, 6], 'counts': [48]}, {'size': [6, 8], 'counts': [47]},
    {'size': [6, 8], 'counts': [10 ** 15]}, {'size': [6, 8], 'counts': [10, -10, 48]},
    {'size': [6, 8], 'counts': [1.5, 46.5]},
    {'size': [6, 8], 'counts': 'PPPPPPPPPPPPPPPPPPPPP'}, {'size': [6, 8], 'counts': '\xfc'},
    {'size': [6, 8], 'counts': 'o' * 9}, {'size': [6, 8], 'counts': 10 ** 9}], ids=str)
def test_an_area_that_is_none_is_told_and_harmless(segmentation, data, tmp_path):
    found = problem(data, instances(tmp_path / 'i.json', (11, segmentation)))
    assert "the annotation 0 of 'a.png'" in found and 'has no area that can be read' in found


@pytest.mark.parametrize(('options', 'message'), [
    ({'size': (6, 9)}, 'has 9x6 pixels, its frame has 8x6'),
    ({'image': 'day/c.png'}, "none is named 'c'"),
])
def test_instances_of_another_image_are_told(options, message, data, tmp_path):
    path = instances(tmp_path / 'i.json', (11, rows(0, 1)), **options)
    assert any(message in found for found in import_labels(data, PLAIN, path).problems)
