# Copyright 2026 rgbx_seg_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""Networks are tested on one thread: the fixtures were, and threads fight on a busy machine."""

import pytest
import torch


@pytest.fixture(scope='package', autouse=True)
def one_thread():
    """Run every test here on one thread."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
