# Copyright 2026 rgbx_seg_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""One bag of a fleet, replayed in a process of its own."""

from collections.abc import Callable
from dataclasses import asdict, dataclass
import json
import os
from pathlib import Path
import pickle
import signal
import sys
import threading
import time
from typing import Any
import warnings

import cv2
from rgbx_seg_ros import errors
from rgbx_seg_ros.allocator import keep_freed_memory
from rgbx_seg_ros.errors import RgbxSegError
from rgbx_seg_ros.files import write_json
from rgbx_seg_ros.inference.segmenter import Segmenter
from rgbx_seg_ros.parameters import Parameters
from rgbx_seg_ros.replay.replay import replay
from rgbx_seg_ros.replay.report import made_by
import torch

RESULT = 'result.json'
MASKS = 'masks'
PAGE = 'page.html'
_TELL_S = 0.5


@dataclass(frozen=True)
class Task:
    """What is to be done with a bag."""

    name: str
    """Of the bag in the fleet."""
    bag: Path
    out: Path
    """Folder, which is there, for the masks, the result and the page."""
    has_page: bool
    parameters: Parameters
    options: dict[str, Any]
    """Those of `replay`: topics, slop, offset and storage."""
    facts: dict[str, Any]
    """What goes into the result beside the report."""
    threads: int
    """With which PyTorch computes."""
    command: list[str]
    """The command line that has asked for it."""
    folder: str
    """In which that was, and of which paths go out."""


def work(task: Task, tell: Callable[..., None]) -> dict[str, str]:
    """
    Replay a bag and write its result; return {} or, of what went wrong, `error` or `model`.

    `model` is of a model that cannot be opened, and so of no bag. `tell` is called with the `done`
    share of the messages, 0..1, from time to time.
    """
    try:
        segmenter = Segmenter.from_parameters(task.parameters)
    except RgbxSegError as error:
        return {'model': str(error), 'kind': type(error).__name__}

    def progress(messages, total):
        told_s = time.monotonic()
        for i, message in enumerate(messages):
            if time.monotonic() - told_s >= _TELL_S:
                told_s = time.monotonic()
                tell(done=i / total)
            yield message
    try:
        report = replay(
            task.bag, segmenter, task.out / MASKS, **task.options, parameters=task.parameters,
            page=task.out / PAGE if task.has_page else None, progress=progress)
        write_json(task.out / RESULT, {
            **report.facts(), 'made_by': made_by(report, segmenter), **task.facts,
            'sums': asdict(report.sums)})
    except RgbxSegError as error:
        return {'error': str(error)}
    except OSError as error:
        return {'error': f'{error.strerror}: {error.filename!r}'}
    return {}


def raise_model_error(answer: dict[str, str]) -> None:
    """Raise what `work` has told of a model that cannot be opened."""
    if 'model' in answer:
        raise getattr(errors, answer['kind'])(answer['model'])


def main() -> None:
    """Do the task that is pickled on stdin; tell, a line of JSON each, on stdout."""
    answers = os.fdopen(os.dup(sys.stdout.fileno()), 'w', encoding='utf-8')
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # for what else has something to say

    def tell(**facts):
        answers.write(json.dumps(facts) + '\n')
        answers.flush()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    task = pickle.load(sys.stdin.buffer)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    tell(end=_work_alone(task, tell))


def work_silently(task: Task) -> tuple[dict[str, str], list[str]]:
    """Do a task in a process that does nothing else; return the answer of `work`, and warnings."""
    said = []
    os.chdir(task.folder)
    return _work_alone(task, lambda warning=None, **_: said.append(warning)), [*filter(None, said)]


def _work_alone(task, tell):
    sys.argv[1:] = task.command
    warnings.showwarning = lambda message, *_: tell(warning=str(message))
    torch.set_num_threads(task.threads)
    cv2.setNumThreads(task.threads)
    if task.parameters.tune_allocator:
        keep_freed_memory()
    return work(task, tell)


def _end_with_parent():
    """Wait until nobody holds the other end of stdin, and end this process."""
    sys.stdin.buffer.read()
    os.kill(os.getpid(), signal.SIGTERM)
