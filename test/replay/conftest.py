# Copyright 2026 rgbx_seg_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""A model for the tests of replays."""

import pytest
from rgbx_seg_ros.cards.card import load_card
from rgbx_seg_ros.inference.segmenter import Segmenter
from support.replay_bags import Engine


@pytest.fixture
def segmenter(tiny_card):
    """Return a model whose masks are known."""
    return Segmenter(load_card(tiny_card), Engine())
