# Copyright 2026 rgbx_seg_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""The page of `rgbx-seg view` in a browser: how it looks, and that it goes on by itself."""

from types import SimpleNamespace

import numpy as np
import pytest
from rgbx_seg_ros.messages.images import to_image
from rgbx_seg_ros.node.view_board import Board, DECODERS, Picture
from support.pages import BACK, CONTRASTS
from support.view_stage import serving, shown

EVIL = '<img src=x onerror="document.title = 1">'


def healthy(number=1, **changes):
    """Return what is shown of a node that is well, with `changes`, and a picture of each kind."""
    picture = to_image(np.full((48, 64, 3), 90, np.uint8), 'rgb8', None, SimpleNamespace)
    return shown(number, {kind: Picture(kind, picture) for kind in DECODERS}, **{
        'message': 'segmenting, 20.0 masks/s', 'problems': [], 'about': 'night on torch',
        'silent_s': 0.4, 'figures': [('20.0', 'masks/s')] * 6,
        'inputs': [{'level': 'OK', 'cells': ('rgb', 'ok', '30.0', '12.3', '1.2', '/rgb/image')}],
        'times': [('latency', '80.0', '85.0', '90.0')], 'drops': [('superseded', '1', '0.0', '')],
        'sync': '25.0 pairs/s', 'legend': [{'name': 'road', 'color': [9, 99, 199]}],
        'legend_trouble': '', 'pictures': {kind: {'count': number, 'silent_s': 0.1, 'trouble': ''}
                                           for kind in DECODERS}, **changes})


@pytest.fixture
def board():
    return Board()


@pytest.fixture
def server(board):
    with serving(board) as server:
        yield server


@pytest.fixture
def open_page(browser, server):
    """Return a function that opens the page, and what was asked for and said meanwhile."""
    pages = []

    def open_page(width=1280, scheme='light'):
        page = browser.new_page(viewport={'width': width, 'height': 800}, color_scheme=scheme)
        pages.append(page)
        asked, said = [], []
        page.on('request', lambda request: asked.append(request.url))
        page.on('console', lambda message: said.append(message.text))
        page.on('pageerror', lambda error: said.append(str(error)))
        page.goto(server.url)
        return page, asked, said
    yield open_page
    for page in pages:
        page.close()


@pytest.mark.parametrize('scheme', ['light', 'dark'])
@pytest.mark.parametrize('width', [1280, 390])
def test_it_fits_and_can_be_read_by_day_and_at_night(board, server, open_page, width, scheme):
    board.show({'front/rgbx_seg': healthy(
        level='WARN', mode='rgb_only', message='x is dead: ' + 60 * 'long ',
        problems=[{'level': 'ERROR', 'message': 40 * 'word'}],
        inputs=[{'level': level, 'cells': ('x', 'dead', '-', '-', '-', '/' + 30 * 'topic')}
                for level in ('ERROR', 'WARN', 'OK')],
        legend=[{'name': f'class {i} ' + i * 'o', 'color': [i, 0, 0]} for i in range(60)]),
        'rear/rgbx_seg': healthy()})
    page, asked, said = open_page(width, scheme)
    page.locator('#legend li').nth(59).wait_for()
    page.locator('#rgb img[src]').wait_for()
    assert page.evaluate('document.documentElement.scrollWidth') == width
    assert page.evaluate('getComputedStyle(document.body).backgroundColor') == BACK[scheme]
    assert page.evaluate(CONTRASTS) > 4.5
    assert all(url.startswith(server.url) for url in asked)
    assert page.evaluate('[...document.images].every(i => i.alt)')
    assert page.locator('[aria-live=polite]').inner_text() == 'rgb_only'
    assert page.locator('#nodes [aria-current=page]').inner_text() == 'front/rgbx_seg rgb_only'
    assert said == []


def test_what_nodes_tell_is_text(board, open_page):
    board.show({EVIL: healthy(
        mode=EVIL, message=EVIL, problems=[{'level': 'WARN', 'message': EVIL}], about=EVIL,
        inputs=[{'level': 'OK', 'cells': [EVIL] * 6}], drops=[[EVIL] * 4], sync=EVIL,
        legend=[{'name': EVIL, 'color': [1, 2, 3]}], legend_trouble=EVIL), 'a': healthy()})
    page, asked, said = open_page()
    page.locator('#nodes a').first.click()
    page.locator('#legend li').wait_for()
    assert page.locator('#legend li').inner_text() == page.locator('#message').inner_text() == EVIL
    assert page.locator('img').count() == 4
    assert page.title().startswith('<img') and said == []
    assert page.locator('.swatch').evaluate('s => s.style.backgroundColor') == 'rgb(1, 2, 3)'


def test_a_node_that_ends_and_comes_back_is_followed(board, open_page):
    board.show({}, 'no report: check it')
    page, _, said = open_page()
    page.locator('#mode:text-is("no node")').wait_for()
    assert page.locator('#silence').inner_text() == 'no report: check it'
    assert not page.locator('main').is_visible()
    board.show({'a': healthy(1)})
    page.locator('#mode.OK:text-is("fusion")').wait_for()
    assert page.locator('#silence').inner_text() == ''
    lost = {kind: {'count': 1, 'silent_s': 12.0, 'trouble': f'nothing on {kind}'}
            for kind in DECODERS}
    board.show({'a': healthy(2, silent_s=12.0, pictures=lost)})
    page.locator('#mode.ERROR:text-is("silent")').wait_for()
    assert 'for 12 s' in page.locator('#silence').inner_text()
    assert 'for 12 s' in page.locator('#rgb.old figcaption').inner_text()
    assert page.locator('#x .trouble').inner_text() == 'nothing on x'
    board.show({'a': healthy(3)})
    page.locator('#mode.OK:text-is("fusion")').wait_for()
    assert page.locator('.old').count() == 0 and said == []


def test_the_page_says_when_it_gets_no_answer_and_goes_on_when_there_is_one(board, open_page):
    board.show({'a': healthy(1)})
    page, _, _ = open_page()
    page.locator('#mode.OK').wait_for()
    page.context.set_offline(True)
    page.locator('#mode:text-is("no answer")').wait_for()
    assert page.locator('figure.old').count() == 4
    assert 'has it ended?' in page.locator('#silence').inner_text()
    page.context.set_offline(False)
    page.locator('#mode.OK:text-is("fusion")').wait_for()
    assert page.locator('.old').count() == 0


def test_no_more_than_ten_pictures_a_second_are_asked_for(board, open_page):
    board.show({'a': healthy(1)})
    page, asked, _ = open_page()
    page.locator('#rgb img[src]').wait_for()
    before = len(asked)
    for number in range(2, 52):
        board.show({'a': healthy(number)})
        page.wait_for_timeout(20)
    pictures = [url for url in asked[before:] if 'rgb.jpg' in url]
    assert 1 <= len(pictures) <= 14
    numbers = [int(url.rpartition('=')[2]) for url in pictures]
    assert numbers == sorted(set(numbers)) and numbers[-1] > 30
