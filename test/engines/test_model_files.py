# Copyright 2026 rgbx_seg_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""A kind of frames is told by the name of a file."""

from pathlib import Path

import pytest
from rgbx_seg_ros.engines.model_files import FrameKind


@pytest.mark.parametrize('kind', [
    FrameKind((480, 640), (240, 320)), FrameKind((48, 64), (24, 32), 3, 'uint16')])
def test_a_kind_of_frames_is_read_from_its_tag(kind):
    assert FrameKind.from_tag(kind.tag) == kind
    assert FrameKind.from_tag(f'{kind.tag}!') is None
    assert Path(kind.tag).name == kind.tag
