# Copyright 2026 rgbx_seg_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""
A network that trains in milliseconds, and `rgbx-seg` with it, for processes that tests start.

`python train_stage.py VERB ...` is the command line; `python train_stage.py forks SEED RECIPE
DATA OUT COUNT` trains in forked processes that it kills at random moments, see `run_forks`.
"""

import contextlib
import csv
from importlib import import_module
import os
from pathlib import Path
import random
import re
import signal
import sys
import time

from rgbx_seg_ros.__main__ import main
from rgbx_seg_ros.engines import cache
from rgbx_seg_ros.networks import Network, NETWORKS
import torch
from torch import nn
from torch.nn import functional as F

SIZE = (64, 96)
_MOST_STEPS = 6
"""A quick machine must not come to the end of a training before the last kill."""
PLAIN = {'crop': list(SIZE), 'scale': [1.0, 1.0], 'flip': 0.0, 'jitter': 0.0, 'blank': 0.0}


class Mini(Network):
    """Two layers; `exact` leaves out what makes a batch more than the sum of its samples."""

    X_CHANNELS = 3

    def __init__(self, num_classes: int, exact: bool = False):
        super().__init__()
        self.head = nn.Sequential(
            nn.Conv2d(6, 8, 4, stride=4),
            nn.Identity() if exact else nn.BatchNorm2d(8),
            nn.ReLU(),
            nn.Dropout(0.0 if exact else 0.2),
            nn.Conv2d(8, num_classes, 1),
        )

    def forward(self, rgb, x):
        return F.interpolate(self.head(torch.cat((rgb, x), dim=1)), size=rgb.shape[2:])


def losses(text):
    """Return the losses that a training has told."""
    return [float(value) for value in re.findall(r'loss (\S+)', text)]


def read_losses(out):
    """Return the steps of a training and the losses of each, from its CSV file."""
    with (Path(out) / 'losses.csv').open(encoding='utf-8', newline='') as file:
        rows = [*csv.DictReader(file)]
    return [int(row['step']) for row in rows], [float(row['loss']) for row in rows]


def run_forks(seed, recipe, data, out, count):
    """
    Train in forked processes, kill `count` of them with SIGKILL, then let one finish.

    A moment comes up to 0.2 s, and some steps, after a process has begun to train, so that it
    falls into a step or into a save. Print how many were killed before their end.
    """
    # What training imports late is imported once, not in every process.
    torch.optim.SGD([nn.Parameter(torch.zeros(1))], 0.1)
    with contextlib.suppress(ImportError):
        import_module('torch.utils.tensorboard')
    rng, killed = random.Random(int(seed)), 0
    words = ['rgbx-seg', 'train', recipe, '--data', data, '--out', out, '--device', 'cpu']
    for _ in range(int(count)):
        child = _fork(words)
        before = _steps(out)
        while _steps(out) == before and os.waitpid(child, os.WNOHANG) == (0, 0):
            time.sleep(0.002)
        end = time.monotonic() + rng.uniform(0.0, 0.2)
        while time.monotonic() < end and _steps(out) < before + _MOST_STEPS:
            time.sleep(0.002)
        try:
            os.kill(child, signal.SIGKILL)
            _, status = os.waitpid(child, 0)
        except (ProcessLookupError, ChildProcessError):
            sys.exit('a training ended before it was killed')
        killed += os.WIFSIGNALED(status)
    _, status = os.waitpid(_fork(words), 0)
    print(f'killed {killed}, the last one ended with {os.waitstatus_to_exitcode(status)}')


def build_file():
    """Make the file of an engine with this network: what a build process runs."""
    NETWORKS['mini'] = Mini
    return cache.main()


def run_alone():
    """Run the command line; end with an error if threads of a process group outlive it."""
    code = main()
    names = {path.read_text().strip() for path in Path('/proc/self/task').glob('*/comm')}
    left = sorted(name for name in names if 'gloo' in name)
    sys.exit(f'threads of the process group go on: {left}' if left and not code else code)


def _fork(words):
    child = os.fork()
    if not child:
        sys.argv = words
        os._exit(main())
    return child


def _steps(out):
    path = Path(out) / 'losses.csv'
    return path.read_text(encoding='utf-8').count('\n') if path.exists() else 0


if __name__ == '__main__':
    NETWORKS['mini'] = Mini
    if sys.argv[1] == 'forks':
        run_forks(*sys.argv[2:])
    else:
        run_alone()
