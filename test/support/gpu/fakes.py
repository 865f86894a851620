# Copyright 2026 rgbx_seg_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""Checks that end in every way in which one can, for the test of what runs them."""

import os
import signal
import subprocess
import sys
import threading
import time

from support.gpu.runner import Check, Found, SkipError

_CHILD = 'import time, pathlib, sys; time.sleep(60)'


def _well(setting):
    return Found('all is well', {'device': setting.device, 'dry': setting.dry})


def _badly(setting):
    print('measured on', setting.device)
    return Found('half a summary', {'masks': 3}, ['a mask is wrong', 'and another one'])


def _raises(setting):
    raise ValueError('no such kernel')


def _is_missing(setting):
    raise SkipError('there is no TensorRT: install it')


def _hangs(setting):
    """Hang as a driver does, in C and deaf to signals, with a process of its own."""
    child = subprocess.Popen([sys.executable, '-c', _CHILD])
    print(f'child {child.pid}', flush=True)
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    threading.Event().wait()


def _listens(setting):
    print('it is there', flush=True)
    try:
        time.sleep(60)
    finally:
        print('cleaned up', flush=True)


def _dies(setting):
    os.kill(os.getpid(), signal.SIGKILL)


def _exits(setting):
    os._exit(7)


def ends(setting):
    """Return checks that all end, if they are made to."""
    return [
        Check('well', 'goes well', _well, 0, 30),
        Check('badly', 'finds a fault', _badly, 0, 30, beside=True),
        Check('raises', 'raises', _raises, 0, 30, beside=True),
        Check('missing', 'is not here', _is_missing, 0, 30, beside=True),
        Check('hangs', 'hangs', _hangs, 0, 1.5, beside=True),
        Check('dies', 'is killed', _dies, 0, 30, beside=True),
        Check('exits', 'ends without an answer', _exits, 0, 30, beside=True),
        Check('late', 'needs more time than there is', _well, 1000, 1000),
        Check('after', 'needs another one', _well, 0, 30, after='badly'),
        Check('still well', 'goes well after all that', _well, 0, 30, after='well'),
    ]


def endless(setting):
    """Return a check that takes longer than anybody waits."""
    return [Check('well', 'goes well', _well, 0, 30), Check('long', 'takes long', _listens, 0, 60),
            Check('never', 'is not begun', _well, 0, 30)]


def fine(setting):
    """Return a check that goes well."""
    return [Check('well', 'goes well', _well, 0, 30)]
