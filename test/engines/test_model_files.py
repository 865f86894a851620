# Copyright 2026 rgbx_seg_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""A kind of frames is told by the name of a file; PyTorch is quiet, and nobody else."""

import logging
from pathlib import Path
import threading
import warnings

import pytest
from rgbx_seg_ros.engines.model_files import FrameKind, quiet


@pytest.mark.parametrize('kind', [
    FrameKind((480, 640), (240, 320)), FrameKind((48, 64), (24, 32), 3, 'uint16')])
def test_a_kind_of_frames_is_read_from_its_tag(kind):
    assert FrameKind.from_tag(kind.tag) == kind
    assert FrameKind.from_tag(f'{kind.tag}!') is None
    assert Path(kind.tag).name == kind.tag


def test_pytorch_is_quiet_in_one_thread_and_others_are_heard():
    """What is said in the meantime, by another thread, must come through."""
    heard = logging.Handler()
    heard.records = []
    heard.emit = heard.records.append
    log = logging.getLogger('torch.onnx')
    inside, done = threading.Event(), threading.Event()

    def work():
        with quiet():
            log.getChild('part').warning('a remark on itself')
            log.error('an error')
            inside.set()
            done.wait(60)
    log.addHandler(heard)
    try:
        thread = threading.Thread(target=work)
        thread.start()
        assert inside.wait(60)
        with warnings.catch_warnings(record=True) as warned:
            warnings.simplefilter('always')
            warnings.warn('of this thread', stacklevel=1)
            log.warning('of this thread')
            done.set()
            thread.join()
            warnings.warn('of this thread again', stacklevel=1)
        log.warning('afterwards')
    finally:
        log.removeHandler(heard)
    assert [str(one.message) for one in warned] == ['of this thread', 'of this thread again']
    assert [one.getMessage() for one in heard.records] == [
        'an error', 'of this thread', 'afterwards']


def test_filters_of_warnings_are_as_they_were(monkeypatch):
    # catch_warnings of two threads that overlap bring back each other's filters, for good.
    monkeypatch.setattr(warnings, 'catch_warnings', None)
    with quiet():
        pass
