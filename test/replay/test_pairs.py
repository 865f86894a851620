# Copyright 2026 rgbx_seg_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""The pairs of a recording: decoded as the node does, and all that is left out is counted."""

import numpy as np
import pytest
from rgbx_seg_ros.bags.storage import BagWriter, image_message
from rgbx_seg_ros.cards.card import load_card
from rgbx_seg_ros.errors import FrameError
from rgbx_seg_ros.inference.segmenter import Segmenter
from rgbx_seg_ros.messages.images import decode_rgb
from rgbx_seg_ros.parameters import Parameters
from rgbx_seg_ros.replay.pairs import PairFinder, pairing_settings
from rgbx_seg_ros.replay.replay import replay
from support.replay_bags import PERIOD_NS, rgb_message, START_NS, x_message
from support.stand_ins import engine_of


def test_of_16_bit_colour_the_bits_count_that_the_parameters_name(tmp_path, tiny_card):
    dim = np.random.default_rng(0).integers(0, 1024, (12, 16, 3), np.uint16)
    message = image_message(dim, 'rgb16', START_NS, 'f')
    with BagWriter(tmp_path / 'bag') as bag:
        bag.write('/rgb/image', message, START_NS)
        bag.write('/x/image', x_message(0), START_NS)
    seen = []

    def note(rgb, x, limits, sensors):
        seen.append(rgb.copy())
        return np.zeros(rgb.shape[:2], np.uint8), np.zeros(rgb.shape[:2], np.uint8)

    replay(tmp_path / 'bag', Segmenter(load_card(tiny_card), engine_of(note)),
           parameters=Parameters(rgb_bits=10))
    np.testing.assert_array_equal(seen, [decode_rgb(message, 10)])
    assert seen[0].max() > 200


def test_a_frame_that_has_no_pixels_does_not_take_the_partner_of_a_good_one():
    finder = PairFinder(pairing_settings(50, 0))
    broken = rgb_message(0)
    broken.step = 1
    pairs = finder.take('x', x_message(0), 0) + finder.take('rgb', broken, 1)
    pairs += finder.take('rgb', rgb_message(0, START_NS + 30_000_000), 2) + finder.finish()
    assert [pair.offset_ns for pair in pairs] == [-30_000_000]
    assert (finder.found, finder.drops, finder.messages) == (
        1, {'rgb_malformed': 1}, {'rgb': 2, 'x': 1})


def test_a_pair_that_cannot_be_used_counts_both_of_its_frames():
    finder = PairFinder(pairing_settings(50, 0))
    finder.refuse_pair('x', FrameError('first'), 'unregistered')
    finder.refuse_pair('x', FrameError('second'), 'unregistered')
    assert finder.drops == {'x_unregistered': 2, 'rgb_no_partner': 2}
    assert finder.first_errors == {'x': 'first'}


@pytest.mark.parametrize('offset_ms', [0, 40])
def test_the_offset_of_x_is_taken_into_account(offset_ms):
    finder = PairFinder(pairing_settings(10, -offset_ms))
    for i in range(3):
        finder.take('rgb', rgb_message(i), i * PERIOD_NS)
        finder.take('x', x_message(i, offset_ms * 1_000_000), i * PERIOD_NS)
    finder.finish()
    assert finder.found == 3
