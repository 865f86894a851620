# Copyright 2026 rgbx_seg_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""Fleets of small bags, and a way to replay them in this process."""

from rgbx_seg_ros.replay.worker import raise_model_error, work
from support.bag_files import data_file
from support.replay_bags import label_message, rgb_message, write_bag, x_message


def write_fleet(root, names='abcd', labelled='abcd', count=4):
    """Write bags of other frames each, the scored ones with labels, and return their paths."""
    return [write_bag(root / name, [
        message for i in range(10 * k, 10 * k + count) for message in (
            ('/rgb/image', rgb_message(i)), ('/x/image', x_message(i)),
            *([('/ground_truth/mask', label_message(i))] if name in labelled else []))])
            for k, name in enumerate(names)]


def truncate(bag):
    """Cut off the second half of a bag's file, as a full disk does."""
    file = data_file(bag)
    file.write_bytes(file.read_bytes()[:file.stat().st_size // 2])
    return bag


def run_inline(tasks, jobs, tell):
    """Do the tasks one after the other in this process, in the place of `workers.run_here`."""
    for task in tasks:
        answer = work(task, lambda task=task, **facts: tell(task, facts))
        raise_model_error(answer)
        yield task, answer.get('error', '')
