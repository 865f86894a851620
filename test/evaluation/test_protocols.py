# Copyright 2026 rgbx_seg_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""What a protocol takes the mean of, and which cards it belongs to."""

import math
from pathlib import Path
import re

import numpy as np
import pytest
from rgbx_seg_ros.cards.card import list_cards, load_card
from rgbx_seg_ros.errors import ParameterError
from rgbx_seg_ros.evaluation.protocols import Protocol, PROTOCOLS

CARD_OF = {
    'ms_irtnet_mfnet': 'ms_irtnet_mfnet', 'rxssnet_mfnet': 'rxssnet_mfnet',
    'mddg_mfnet': 'mddg_b2_mfnet', 'difusionseg_msrs': 'difusionseg_msrs',
    'difusionseg_fmb': 'difusionseg_fmb', 'ms2mnet_vaihingen': 'ms2mnet_vaihingen',
    'ms2mnet_potsdam': 'ms2mnet_potsdam'}


def test_every_protocol_of_an_author_belongs_to_a_card():
    assert PROTOCOLS.keys() == {'plain', 'foreground', *CARD_OF}
    assert set(CARD_OF.values()) <= set(list_cards())


@pytest.mark.parametrize(('name', 'card'), CARD_OF.items())
def test_the_protocol_of_a_card_fits_it(name, card):
    card = load_card(card)
    PROTOCOLS[name].check(card)
    assert PROTOCOLS[name].window == card.window


@pytest.mark.parametrize(('name', 'counted'), [
    ('plain', 9), ('foreground', 8), ('ms_irtnet_mfnet', 9), ('rxssnet_mfnet', 9),
    ('mddg_mfnet', 9), ('difusionseg_msrs', 9)])
def test_nine_classes_of_mfnet_with_or_without_the_first(name, counted):
    labels = load_card('ms_irtnet_mfnet').labels
    assert PROTOCOLS[name].ids(labels) == list(range(9))[-counted:]


def test_the_published_table_of_fmb_gives_the_published_mean():
    """The authors of DiFusionSeg print eight classes, and 67.06 is the mean of these alone."""
    card = load_card('difusionseg_fmb')
    figures = card.published.scores[0].figures
    scores = np.full(len(card.labels), math.nan)
    for name, value in figures.items():
        if name.startswith('IoU '):
            scores[card.labels.names.index(name[4:])] = value
    scores[np.isnan(scores)] = 1.0  # what the table does not show
    found = PROTOCOLS['difusionseg_fmb'].mean(scores, card.labels)
    assert round(found, 2) == figures['mean IoU of 8 classes'] == 67.06


@pytest.mark.parametrize('card', ['difusionseg_msrs', 'difusionseg_mfd'])
def test_the_published_table_of_nine_classes_gives_the_published_mean(card):
    card = load_card(card)
    figures = card.published.scores[0].figures
    scores = np.array([figures[f'IoU {name}'] for name in card.labels.names])
    assert PROTOCOLS['difusionseg_msrs'].mean(scores, card.labels) == pytest.approx(
        figures['mean IoU'], abs=0.01)


def test_a_class_that_never_occurs_is_left_out_or_counts_as_nothing():
    labels = load_card('ms_irtnet_mfnet').labels
    scores = np.array([0.9] * 6 + [math.nan] * 3)
    assert PROTOCOLS['ms_irtnet_mfnet'].mean(scores, labels) == pytest.approx(0.9)
    assert PROTOCOLS['mddg_mfnet'].mean(scores, labels) == pytest.approx(0.6)
    assert Protocol('', absent=1.0).mean(scores, labels) == pytest.approx(8.4 / 9)
    assert math.isnan(PROTOCOLS['plain'].mean(scores * math.nan, labels))


def test_clutter_is_not_in_the_mean_of_the_aerial_images():
    labels = load_card('ms2mnet_potsdam').labels
    scores = np.array([0.5, 0.5, 0.5, 0.5, 0.5, 0.0])
    assert labels.names[5] == 'clutter'
    assert PROTOCOLS['ms2mnet_potsdam'].mean(scores, labels) == 0.5


@pytest.mark.parametrize(('name', 'message'), [
    ('ms_irtnet_mfnet', "the model has no 'unlabeled', its classes are other, road"),
    ('ms2mnet_potsdam', "the model has no 'impervious_surface'")])
def test_a_model_with_other_classes_is_refused(name, message):
    with pytest.raises(ParameterError, match=message):
        PROTOCOLS[name].check(load_card('msrs_scene'))


def test_a_window_needs_a_network_that_is_made_for_it(write_card):
    classes = [{'id': i, 'name': name, 'color': [0, 0, 0]}
               for i, name in enumerate((*PROTOCOLS['ms2mnet_potsdam'].classes, 'clutter'))]
    with pytest.raises(ParameterError, match="256 pixels, the network of 'tiny' sees the whole"):
        PROTOCOLS['ms2mnet_potsdam'].check(load_card(write_card(classes=classes)))
    small = write_card(classes=classes, input_size=[64, 64], window={'size': 64, 'stride': 32})
    with pytest.raises(ParameterError, match='256 pixels'):
        PROTOCOLS['ms2mnet_potsdam'].check(load_card(small))


def test_every_protocol_says_what_it_does():
    for name, protocol in PROTOCOLS.items():
        assert len(protocol.description) > 30 and not protocol.description.endswith('.'), name


def test_the_document_has_a_row_for_every_protocol():
    text = (Path(__file__).parents[2] / 'docs' / 'evaluation.md').read_text(encoding='utf-8')
    section = text.partition('## Protocols\n')[2].partition('\n## ')[0]
    rows = {row[1]: row[0] for row in re.findall(r'^(\| `(\w+)`.*)$', section, re.MULTILINE)}
    assert list(rows) == list(PROTOCOLS)
    for name, protocol in PROTOCOLS.items():
        never_occurs = rows[name].split('|')[3].strip()
        assert never_occurs == ('left out' if math.isnan(protocol.absent) else 'counts as 0')
        assert ('at their own size' in rows[name] or 'to 480' in rows[name]) == protocol.own_size
        if protocol.window:
            assert (f'window of {protocol.window.size}, stride {protocol.window.stride}, borders '
                    f'eroded by {protocol.border_px} pixels') in rows[name]
