# Copyright 2026 rgbx_seg_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""What the compiler makes is called without Python's lock, and needs nothing else."""

import ctypes
import json
import os
import shutil
import subprocess
import threading
import zipfile

import pytest
from rgbx_seg_ros.engines.compiled_files import _Code, _library, antialiased
import torch
from torch.nn import functional as F

# Code whose run goes on for as long as nobody answers; it has failed then, with nothing returned.
WAITING = r"""
#include <poll.h>
#include <stddef.h>
#include <unistd.h>
extern "C" {
int began, answer, answered;
int AOTInductorModelContainerCreateWithDevice(void **handle) { *handle = &began; return 0; }
int AOTInductorModelContainerGetNumOutputs(void *, size_t *count) { *count = 2; return 0; }
int AOTInductorModelContainerDelete(void *) { return 0; }
int AOTInductorModelContainerRun() {
    struct pollfd waited = {answer, POLLIN, 0};
    answered = write(began, "x", 1) == 1 && poll(&waited, 1, 20000) == 1;
    return 1;
}
}
"""


@pytest.mark.skipif(shutil.which('g++') is None, reason='it needs g++')
def test_other_threads_run_while_the_code_computes(tmp_path):
    source = tmp_path / 'waiting.cpp'
    source.write_text(WAITING)
    subprocess.run(['g++', '-shared', '-fPIC', '-o', tmp_path / 'waiting.so', source], check=True)
    code, library = _Code(tmp_path / 'waiting.so'), ctypes.CDLL(str(tmp_path / 'waiting.so'))
    began, answer = os.pipe(), os.pipe()
    ctypes.c_int.in_dll(library, 'began').value = began[1]
    ctypes.c_int.in_dll(library, 'answer').value = answer[0]
    other = threading.Thread(
        target=lambda: os.read(began[0], 1) and os.write(answer[1], b'x'), daemon=True)
    other.start()
    with pytest.raises(RuntimeError, match='Run failed'):
        code([torch.zeros(1)])
    assert ctypes.c_int.in_dll(library, 'answered').value, 'the other thread got no turn'
    other.join()
    for one in (*began, *answer):
        os.close(one)


@pytest.mark.parametrize('calls', [[], ['aten::fft', 'aten::bincount']])
def test_code_that_calls_back_for_an_operation_is_refused(calls, tmp_path):
    with zipfile.ZipFile(tmp_path / 'model.pt2', 'w') as archive:
        archive.writestr('a/model/x.wrapper_metadata.json', json.dumps({'AOTI_PLATFORM': 'linux'}))
        archive.writestr('a/model/x.wrapper.json', json.dumps(
            {'nodes': [{'name': 'buf', 'node': {'target': call}} for call in calls]}))
        archive.writestr('a/model/x.wrapper.so', b'code')
    if calls:
        with pytest.raises(ValueError, match='compiled code cannot call aten::bincount, aten::f'):
            _library(tmp_path / 'model.pt2')
    else:
        assert _library(tmp_path / 'model.pt2') == b'code'


@pytest.mark.parametrize(('size', 'smaller'), [
    ((480, 640), (312, 416)), ((61, 93), (20, 31)), ((100, 37), (33, 40)), ((33, 500), (6, 96)),
    ((108, 192), (36, 64)), ((480, 64), (480, 41)), ((32, 32), (1, 32))], ids=str)
def test_what_shrinks_is_averaged_as_pytorch_does_it(size, smaller):
    image = torch.rand(2, 3, *size, generator=torch.Generator().manual_seed(0))
    expected = F.interpolate(image, size=smaller, mode='bilinear', antialias=True)
    torch.testing.assert_close(antialiased(image, smaller), expected, rtol=0, atol=1e-6)
