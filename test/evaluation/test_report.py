# Copyright 2026 rgbx_seg_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""The page of a run: whole, true to the figures, safe, and readable in a browser."""

import base64
import hashlib
import json
import math
import re

import cv2
from jinja2 import DictLoader
import numpy as np
import pytest
from rgbx_seg_ros.cards.card import load_card
from rgbx_seg_ros.cards.labels import LabelClass, LabelSet
from rgbx_seg_ros.datasets import Sample
from rgbx_seg_ros.errors import DataError
from rgbx_seg_ros.evaluation import pages
from rgbx_seg_ros.evaluation.evaluate import Evaluation, Part
from rgbx_seg_ros.evaluation.protocols import PROTOCOLS
from rgbx_seg_ros.evaluation.report import Gallery, provenance, write_report
from rgbx_seg_ros.files import check_outputs
from rgbx_seg_ros.inference.segmenter import Segmenter
from support.pages import check_look, LOOKS, Page
from support.stand_ins import engine_of

SIZE = (48, 64)


def labels(*names):
    return LabelSet(LabelClass(i, name, (40 * i % 256, 90, 200)) for i, name in enumerate(names))


def sample(seed, classes=3, label=True):
    rng = np.random.default_rng(seed)
    ids = rng.integers(0, classes, (6, 8), np.uint8).repeat(8, 0).repeat(8, 1)
    return Sample(f'frame{seed}', rng.integers(0, 256, (*SIZE, 3), np.uint8),
                  rng.integers(0, 9000, SIZE).astype(np.uint16), ids if label else None)


@pytest.fixture
def write(tmp_path):
    """Return a function that writes a page of four frames and returns its path."""
    def write(names=('background', 'car', 'person'), made_by=None, title='tiny on data',
              protocol='plain', **more):
        classes = labels(*names)
        gallery = Gallery(classes)
        parts = {'all': Part(len(names)), 'day': Part(len(names)), 'night': Part(len(names))}
        for i in range(4):
            one = sample(i, len(names))
            rng = np.random.default_rng(i)
            mask = np.where(rng.random(SIZE) < 0.2 * (i + 1), one.label, 0).astype(np.uint8)
            confidence = rng.integers(80, 256, SIZE).astype(np.uint8)
            for part in (parts['all'], parts['day' if i % 2 else 'night']):
                part.update(one, mask, confidence, [(1, 0.5, 0.5, 0.4, 0.4)])
            gallery.add(one, 0.1 + 0.2 * i, mask)
        scores = Evaluation(classes, PROTOCOLS[protocol], parts, [])
        facts = {**scores.facts(), 'made_by': made_by or {'command': 'rgbx-seg evaluate'},
                 'protocol': {'name': protocol, 'description': 'Means of all',
                              'classes': [names[i] for i in PROTOCOLS[protocol].ids(classes)]}}
        path = tmp_path / 'report.html'
        write_report(path, title, {**facts, **more}, classes, gallery, [20.0, 21.0, 22.5, 40.0])
        return path, facts
    return write


def test_the_page_is_whole_and_needs_nothing_from_elsewhere(write):
    path, _ = write()
    check_outputs([path])  # the next page may take its place
    page = Page(path)
    assert page.open == []
    assert not {'script', 'link', 'iframe', 'object', 'base'} & set(page.tags)
    assert len(page.links) == 4 * 5
    assert all(re.match(r'data:image/(png|jpeg);base64,', link) for link in page.links)
    text = path.read_text(encoding='utf-8')
    assert '@import' not in text and 'url(' not in text and '://' not in text


def test_the_figures_on_the_page_are_those_of_the_evaluation(write):
    path, facts = write()
    cells = [' '.join(cell.split()) for cell in Page(path).cells]
    for name, scores in facts['classes'].items():
        row = cells[cells.index(name) + 1:][:5]
        assert row == ['–' if scores[key] is None else f'{100 * scores[key]:.1f}'
                       for key in ('iou', 'recall', 'precision', 'f1', 'boundary')]
    row = cells[cells.index('car') + 6:][:3]
    box = facts['boxes']['car']
    assert row == ['4', f'{100 * box["found"]:.1f}', f'{100 * box["inside"]:.1f}']
    row = cells[cells.index('mean') + 1:][:5]
    assert row == [f'{100 * facts["mean"][key]:.1f}'
                   for key in ('iou', 'recall', 'precision', 'f1', 'boundary')]
    parts = [facts, facts['parts']['day'], facts['parts']['night']]
    for title, values in (
            ('pairs', [part['pairs'] for part in parts]),
            ('mean IoU', [f'{100 * part["mean"]["iou"]:.1f}' for part in parts]),
            ('pixel accuracy', [f'{100 * part["pixel_accuracy"]:.1f}' for part in parts]),
            ('calibration error', [f'{100 * part["calibration_error"]:.1f}' for part in parts])):
        assert cells[cells.index(title) + 1:][:3] == list(map(str, values))
    counts = np.array(facts['confusion'])
    shares = 100 * counts[1, :3] / counts[1].sum()
    row = cells[len(cells) - cells[::-1].index('car'):][:3]
    assert row == [f'{share:.1f}' if share else '' for share in shares]


def test_a_class_outside_of_the_means_is_marked(write):
    path, _ = write(protocol='foreground')
    text = path.read_text(encoding='utf-8')
    assert text.count('(not in the means)') == 1
    assert re.search(r'background\s+<span class="dim">\(not in the means', text)


def test_names_from_files_are_text_and_never_markup(write):
    evil = '<script>alert(1)</script>'
    path, _ = write(names=('background', evil, '" onload="x'), title=f'{evil} & more',
                    made_by={'command': f'rgbx-seg {evil}'})
    page = Page(path)
    assert 'script' not in page.tags and page.open == []
    assert f'{evil} & more' in page.cells and f'rgbx-seg {evil}' in page.cells
    assert all(set(image) == {'src', 'width', 'height', 'alt'} for image in page.images)


def test_a_run_without_labels_has_times_and_frames_but_no_scores(tmp_path):
    gallery = Gallery(labels('a', 'b'), 'mean confidence')
    for i in range(3):
        gallery.add(sample(i, label=False), i / 3, np.zeros(SIZE, np.uint8))
    path = tmp_path / 'report.html'
    write_report(path, 'tiny on bag', {'made_by': {'command': 'rgbx-seg replay'}},
                 labels('a', 'b'), gallery, [3.0], {'pairs': '3, in time'})
    page, text = Page(path), path.read_text(encoding='utf-8')
    assert page.open == [] and len(page.images) == 3 * 3
    assert '3, in time' in page.cells and 'mean confidence 0.0 %' in text
    assert 'mean IoU' not in text and 'Histogram of the time of 1 frames' in text


def test_a_page_that_cannot_be_written_is_one_error(tmp_path):
    with pytest.raises(DataError, match="cannot write '.*nowhere/r.html': No such file"):
        write_report(tmp_path / 'nowhere' / 'r.html', 't', {'made_by': {}}, labels('a'),
                     Gallery(labels('a')), [])


def test_a_template_that_was_not_installed_is_one_error(tmp_path, monkeypatch):
    page = DictLoader({'report.html.j2': "{% include 'report.css' %}"})
    monkeypatch.setattr(pages, 'PackageLoader', lambda package: page)
    path = tmp_path / 'report.html'
    with pytest.raises(DataError, match="no template 'report.css' beside .*: the install is inc"):
        write_report(path, 't', {'made_by': {}}, labels('a'), Gallery(labels('a')), [])
    assert not path.exists()


def test_bars_hold_every_frame_and_the_longest_are_in_the_last(tmp_path):
    values = [*range(100, 200), 5000.0]
    path = tmp_path / 'report.html'
    write_report(path, 't', {'made_by': {}}, labels('a'), Gallery(labels('a')), values)
    text = path.read_text(encoding='utf-8')
    assert sum(map(int, re.findall(r'ms: (\d+) frames', text))) == len(values)
    assert 'median 150.0 ms' in text and '5000.0' in text
    ticks = [float(tick) for tick in re.findall(r'y="207"[^>]*>([\d.]+)<', text)]
    assert ticks == [100, 120, 140, 160, 180]


# The gallery


def test_a_gallery_keeps_the_worst_and_the_best_of_many():
    rng = np.random.default_rng(0)
    scores = rng.permutation(40) / 40
    gallery = Gallery(labels('a', 'b', 'c'), size=3)
    for i, score in enumerate(scores):
        gallery.add(sample(i), score, np.zeros(SIZE, np.uint8))
    assert [frame.score for frame in gallery.worst()] == sorted(scores)[:3]
    assert [frame.score for frame in gallery.best()] == sorted(scores)[:-4:-1]
    assert gallery.worst()[0].name == f'frame{scores.argmin()}'


@pytest.mark.parametrize(('count', 'worst', 'best'), [
    (0, [], []), (1, [0], []), (3, [0, 1, 2], []), (4, [0, 1, 2], [3]), (7, [0, 1, 2], [6, 5, 4])])
def test_a_frame_is_never_shown_twice(count, worst, best):
    gallery = Gallery(labels('a', 'b', 'c'), size=3)
    for i in range(count):
        gallery.add(sample(i), i, np.zeros(SIZE, np.uint8))
    assert [frame.score for frame in gallery.worst()] == worst
    assert [frame.score for frame in gallery.best()] == best


@pytest.mark.parametrize('position', [0, 3, 7, 14])
def test_a_frame_without_a_score_is_neither_best_nor_worst(position):
    # NaN is neither below nor above anything: sorting leaves what lies on its two sides apart.
    scores = [*np.random.default_rng(2).permutation(14) / 14]
    scores.insert(position, math.nan)
    gallery = Gallery(labels('a', 'b', 'c'), size=3)
    for i, score in enumerate(scores):
        gallery.add(sample(i), score, np.zeros(SIZE, np.uint8))
    known = sorted(score for score in scores if score == score)
    assert [frame.score for frame in gallery.worst()] == known[:3]
    assert [frame.score for frame in gallery.best()] == known[:-4:-1]


@pytest.mark.parametrize('levels', [20, 3])
def test_galleries_of_several_processes_become_that_of_one(levels):
    """Also where frames have the same score: their names decide then."""
    scores = np.random.default_rng(1).permutation(20) % levels / levels
    whole, *shares = (Gallery(labels('a', 'b', 'c'), size=2) for _ in range(4))
    for i, score in enumerate(scores):
        for gallery in (whole, shares[i % 3]):
            gallery.add(sample(i), score, np.zeros(SIZE, np.uint8))
    shares[0].replace_by(list(shares))
    for one, other in ((whole.worst(), shares[0].worst()), (whole.best(), shares[0].best())):
        assert [frame[:2] for frame in one] == [frame[:2] for frame in other]


def test_the_map_of_errors_shows_what_is_wrong_and_what_has_no_label():
    one = sample(0)
    one.label[:16] = 255
    mask = one.label.copy()
    mask[:8], mask[40:] = 1, (mask[40:] + 1) % 3
    gallery = Gallery(labels('a', 'b', 'c'))
    gallery.add(one, 0.5, mask)
    pictures = gallery.worst()[0].pictures
    assert list(pictures) == ['RGB', 'X', 'truth', 'prediction', 'errors']
    red, green, blue = pictures['errors'].astype(int).transpose(2, 0, 1)
    assert (blue[:16] > red[:16] + 50).all()
    assert (red[16:40] == green[16:40]).all() and (red[40:] > green[40:] + 50).all()
    assert (pictures['truth'][:16] == 150).all()
    np.testing.assert_array_equal(pictures['prediction'][40:], labels('a', 'b', 'c').colorize(
        mask)[40:])


@pytest.mark.parametrize('x', [
    np.linspace(28000, 31000, 3072).reshape(SIZE).astype(np.uint16),
    np.linspace(0.5, 9, 3072).reshape(SIZE).astype(np.float32),
    np.where(np.arange(3072).reshape(SIZE) % 7, np.linspace(1, 5, 3072).reshape(SIZE), np.nan)
    .astype(np.float32),
    np.tile(np.linspace(20, 60, 64), (48, 1)).astype(np.uint8)])
def test_every_kind_of_x_becomes_a_picture_of_full_contrast(x):
    gallery = Gallery(labels('a', 'b', 'c'))
    one = sample(0)
    gallery.add(Sample('one', one.rgb, x, one.label), 0.5, one.label)
    picture = gallery.worst()[0].pictures['X']
    assert picture.shape == (*SIZE, 3) and picture.dtype == np.uint8
    assert picture.min() == 0 and picture.max() == 255


def test_an_x_without_a_measurement_is_a_black_picture():
    gallery = Gallery(labels('a', 'b', 'c'))
    one = sample(0)
    gallery.add(Sample('one', one.rgb, np.full(SIZE, np.nan, np.float32), None), 0.5, one.label)
    assert not gallery.worst()[0].pictures['X'].any()


def test_pictures_are_small_and_ids_in_them_unchanged(write):
    rng = np.random.default_rng(0)
    big = Sample('big', rng.integers(0, 256, (480, 640, 3), np.uint8),
                 np.zeros((120, 160), np.uint8), np.zeros((480, 640), np.uint8))
    gallery = Gallery(labels('a', 'b', 'c'))
    gallery.add(big, 0.5, big.label)
    assert {picture.shape for picture in gallery.worst()[0].pictures.values()} == {(240, 320, 3)}
    path, _ = write()
    for image in Page(path).images:
        kind, code = image['src'].split(';base64,')
        pixels = cv2.imdecode(np.frombuffer(base64.b64decode(code), np.uint8), cv2.IMREAD_COLOR)
        assert pixels.shape[:2] == SIZE == (int(image['height']), int(image['width']))
        if kind.endswith('png'):  # class ids: in their colours and no other
            colors = np.unique(pixels[..., ::-1].reshape(-1, 3), axis=0).tolist()
            palette = labels('background', 'car', 'person').palette()[:3].tolist()
            assert all(color in palette for color in colors)


# What made it


def test_hashes_are_those_of_the_files(tmp_path, tiny_card, monkeypatch):
    monkeypatch.setattr('sys.argv', ['rgbx-seg', 'evaluate', '--data', 'two words'])
    card = load_card(tiny_card)
    found = provenance(Segmenter(card, engine_of(None)), tmp_path, ['a 1', 'b 2'])
    assert found['command'] == "rgbx-seg evaluate --data 'two words'"
    for name, path in (('card', tiny_card), ('weights', card.weights_path)):
        assert found[f'{name} sha256'] == hashlib.sha256(path.read_bytes()).hexdigest()
    assert found['data listing sha256'] == hashlib.sha256(b'a 1\nb 2').hexdigest()
    assert found['device'] == 'no device' and 'torch' in found['versions']
    assert json.dumps(found)


# In a browser


@pytest.mark.parametrize('classes', [3, 40])
@pytest.mark.parametrize('look', LOOKS, ids=str)
def test_the_page_fits_a_screen_and_a_phone_in_light_and_dark(write, browser, classes, look):
    path, _ = write([f'class_{i}' for i in range(classes)])
    check_look(browser, path, look)


def test_the_page_prints_in_dark_ink_on_white_without_being_cut_off(write, browser):
    path, _ = write()
    view = browser.new_page(viewport={'width': 740, 'height': 1000}, color_scheme='dark')
    view.goto(path.as_uri())
    view.emulate_media(media='print')
    assert view.evaluate('getComputedStyle(document.body).backgroundColor') == (
        'rgb(255, 255, 255)')
    assert view.evaluate('getComputedStyle(document.body).color') == 'rgb(0, 0, 0)'
    assert view.evaluate('document.documentElement.scrollWidth') <= 740
    assert view.pdf(format='A4').startswith(b'%PDF')
    view.close()
