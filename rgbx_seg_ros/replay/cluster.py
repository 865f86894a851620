# Copyright 2026 rgbx_seg_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""Bags replayed on the machines of a Ray cluster, which see the same files at the same paths."""

from collections.abc import Callable, Iterator
import importlib
import itertools
from typing import Any

from rgbx_seg_ros.errors import ParameterError, UnavailableError
from rgbx_seg_ros.replay.worker import raise_model_error, Task, work_silently


def run_on_ray(address: str, tasks: Iterator[Task], jobs: int,
               tell: Callable[[Task, dict], None]) -> Iterator[tuple[Task, str]]:
    """
    Do the tasks on the cluster at `address`, as `workers.run_here` does them here.

    `address` is one that `ray.init` takes, as 'auto' or 'ray://HOST:10001'. What a worker tells
    comes as it ends. Raise UnavailableError without Ray, and ParameterError where there is no
    such cluster.
    """
    ray = _import_ray()
    running: dict[Any, Task] = {}
    try:
        ray.init(address=address, log_to_driver=False, logging_level='error')
    except (ConnectionError, ValueError, RuntimeError) as error:
        reason = ' '.join(str(error).split())
        raise ParameterError(f'--ray is {address!r}, and no cluster answers there: {reason}'
                             ) from error
    try:
        # Each bag has a process of its own; one that has died is told, and not started again.
        remote = ray.remote(max_retries=0, max_calls=1)(work_silently)
        has_gpu = ray.cluster_resources().get('GPU', 0) >= 1
        while True:
            for task in itertools.islice(tasks, jobs - len(running)):
                needs_gpu = has_gpu and task.parameters.device != 'cpu'
                job = remote.options(num_cpus=task.threads, num_gpus=int(needs_gpu))
                running[job.remote(task)] = task
            if not running:
                return
            [ended], _ = ray.wait([*running])
            task = running.pop(ended)
            try:
                answer, said = ray.get(ended)
            except ray.exceptions.RayError as error:
                yield task, f'its worker has died: {_first_line(error)}'
                continue
            for warning in said:
                tell(task, {'warning': warning})
            raise_model_error(answer)
            yield task, answer.get('error', '')
    finally:
        for one in running:
            ray.cancel(one, force=True)
        ray.shutdown()


def _import_ray():
    try:
        return importlib.import_module('ray')
    except ImportError as error:
        raise UnavailableError(f'--ray needs the library ray ({error}): pip install '
                               "'rgbx_seg_ros[fleet]'") from error


def _first_line(error):
    return next(iter(str(error).strip().splitlines()), type(error).__name__)
