# Copyright 2026 rgbx_seg_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""A model and pairs for the tests of scores."""

import pytest
from rgbx_seg_ros.cards.card import load_card
from rgbx_seg_ros.inference.segmenter import Segmenter
from support.warm_frames import SIZE, WarmIsPerson


@pytest.fixture
def segmenter(write_card):
    """Return a model that takes what is warm for a person."""
    return Segmenter(load_card(write_card()), WarmIsPerson())


@pytest.fixture
def data(tmp_path, write_frames):
    """Return a folder of three labelled pairs."""
    return write_frames(tmp_path / 'data', 3, SIZE)
