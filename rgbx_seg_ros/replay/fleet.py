# Copyright 2026 rgbx_seg_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""
`rgbx-seg replay` of several bags: side by side, kept as they finish, and told as one.

What cannot be replayed costs its own bag and no other.
"""

from collections.abc import Callable, Iterator, Sequence
import contextlib
from dataclasses import dataclass
from datetime import timedelta
import math
import os
from pathlib import Path
import shlex
import sys
import time
from typing import Any

from rgbx_seg_ros.cards.card import load_card
from rgbx_seg_ros.evaluation.gate import FleetGate
from rgbx_seg_ros.evaluation.metrics import percent
from rgbx_seg_ros.files import write_json
from rgbx_seg_ros.parameters import Parameters
from rgbx_seg_ros.replay.fleet_page import write_fleet_page
from rgbx_seg_ros.replay.folder import bag_names, identity, RESULTS, RunFolder, setting
from rgbx_seg_ros.replay.merged import bag_facts, Merged
from rgbx_seg_ros.replay.report import BETWEEN
from rgbx_seg_ros.replay.worker import Task
from rgbx_seg_ros.replay.workers import threads
from rgbx_seg_ros.tables import aligned, figures, wrapped
from tqdm import tqdm

FAULTY = 1
"""The exit code where bags could not be replayed."""

Runner = Callable[[Iterator[Task], int, Callable[[Task, dict], None]], Iterator[tuple[Task, str]]]
"""As `workers.run_here`."""


@dataclass(frozen=True)
class Fleet:
    """What is to be done with which bags, and what has become of them."""

    bags: dict[str, Path]
    """By name."""
    folder: RunFolder
    parameters: Parameters
    options: dict[str, Any]
    """Those of `replay`: topics, slop, offset and storage."""
    has_pages: bool
    jobs: int

    @classmethod
    def of(cls, bags: Sequence[Path], out: Path, resume: bool, **more) -> 'Fleet':
        """Return a fleet; raise DataError for bags and for a folder that cannot be."""
        folder = RunFolder(out, resume)
        folder.check()
        return cls(bag_names(bags), folder, **more)

    def run(self, runner: Runner) -> tuple[dict[str, Any], Merged]:
        """
        Replay what is missing, failed or has changed; return the facts, and what they come from.

        A line on stdout tells of each. What is done stays done where this is interrupted.
        """
        card = load_card(self.parameters.model)
        facts = {name: {'identity': identity(bag),
                        'setting': {**setting(card, self.parameters, self.options),
                                    'threads': threads()}}
                 for name, bag in self.bags.items()}
        with self.folder:
            missing = self._missing(facts)
            for name in missing:
                self.folder.check_bag(name)
            failed: dict[str, str] = {}
            self._write(card, failed)
            try:
                self._replay(missing, facts, runner, failed)
            except KeyboardInterrupt:
                done = sum(self.folder.result(name) is not None for name in self.bags)
                print(f'rgbx-seg: stopped; {done} of {len(self.bags)} bags are done in '
                      f'{str(self.folder.path)!r}, and the same command with --resume goes on',
                      file=sys.stderr)
                raise
            finally:
                written = self._write(card, failed)
        return written

    def _missing(self, facts):
        """Return the names of the bags that are to be replayed, and tell why of those again."""
        missing = []
        for name in self.bags:
            why = self.folder.why_again(name, facts[name])
            if why:
                print(wrapped(f'again, {why}', f'{name}  ', '    '), flush=True)
            if why != '':
                missing.append(name)
        if kept := len(self.bags) - len(missing):
            print(f'{kept} of {len(self.bags)} bags are done and have not changed', flush=True)
        return missing

    def _replay(self, missing, facts, runner, failed):
        jobs = max(1, min(self.jobs, len(missing)))
        # One by one: what was made of a bag before is there until its turn comes.
        tasks = (Task(name, self.bags[name], self.folder.prepare(name), self.has_pages,
                      self.parameters, self.options, facts[name], threads(), sys.argv[1:],
                      os.getcwd()) for name in missing)
        lines = _Lines(len(missing))
        with contextlib.closing(lines), contextlib.closing(
                runner(tasks, jobs, lines.tell)) as ended:
            for task, fault in ended:
                if fault:
                    failed[task.name] = fault
                lines.end(task, fault or self.folder.result(task.name))

    def _write(self, card, failed):
        """Write what there is by now; return it."""
        names = card.labels.names
        merged, bags, made_by = Merged(names), [], {}
        for name in self.bags:
            result = self.folder.result(name)
            if result is not None and name not in failed:
                merged.add(result)
                bags.append(bag_facts(name, result, names))
                made_by = result['made_by']
        done = {bag['name'] for bag in bags}
        facts = {
            'bags': bags,
            'totals': {'model': card.name, **merged.facts()},
            'failed': [{'name': name, 'bag': str(self.bags[name]), 'reason': reason}
                       for name, reason in sorted(failed.items())],
            'missing': [name for name in self.bags if name not in done and name not in failed],
            'made_by': {**{name: text for name, text in made_by.items()
                           if not name.startswith('data')},
                        'command': shlex.join(['rgbx-seg', *sys.argv[1:]]),
                        'device': ', '.join(sorted({bag['device'] for bag in bags}))}}
        write_json(self.folder.path / RESULTS, facts)
        return facts, merged


class _Lines:
    """A line for each bag as it ends; on a terminal also a bar of all."""

    def __init__(self, count):
        self._started_s = time.monotonic()
        self._count, self._ended = count, 0
        self._done = {}
        self._bar = tqdm(
            total=count, leave=False, disable=None,
            bar_format='{l_bar}{bar}| {n:.1f}/{total} bags [{elapsed}<{remaining}]')

    def tell(self, task, facts):
        """Take what a worker tells."""
        if 'warning' in facts:
            self._print(f'rgbx-seg: {task.name}: warning: {facts["warning"]}', sys.stderr)
        if 'done' in facts:
            self._move(task, facts['done'])

    def end(self, task, outcome):
        """Tell of a bag that has ended: its result, or why there is none."""
        self._ended += 1
        self._move(task, 1.0)
        words = f'failed: {outcome}' if isinstance(outcome, str) else _in_short(outcome)
        after = timedelta(seconds=int(time.monotonic() - self._started_s))
        start = f'[{self._ended:{len(str(self._count))}}/{self._count}] {after} {task.name}  '
        self._print(wrapped(words, start, '    '), sys.stdout)

    def close(self):
        """Take the bar away."""
        self._bar.close()

    def _move(self, task, share):
        self._bar.update(share - self._done.get(task.name, 0.0))
        self._done[task.name] = share

    def _print(self, text, file):
        with self._bar.external_write_mode(file=file):
            print(text, file=file, flush=True)


def _in_short(result):
    scores = result['scores']
    score = f', mean IoU {_percent(scores["mean_iou"])} %' if scores else ''
    return f'{result["pairs"]} pairs{score}, inference {result["inference_ms"]["median"]:.1f} ms'


def told(facts: dict[str, Any], table: str) -> str:
    """Return the facts of a fleet, with its scores as a table, as text of 80 columns."""
    totals = facts['totals']
    rows = [('bag', 'pairs', 'rate', 'mean IoU', 'unlabeled', 'confidence', 'p95 ms'),
            *(_row(bag['name'], bag) for bag in facts['bags']), _row('all', totals)]
    drops = ', '.join(f'{reason} {count}' for reason, count in totals['drops'].items())
    offset, flicker = totals['offset_ms'], totals['flicker_per_s']
    more = [
        ('dropped', str(sum(totals['drops'].values())), drops),
        ('X minus RGB', f'{offset["median"]:.1f}', f'ms median, p95 {offset["p95"]:.1f} ms'),
        *([('disagreement', _percent(totals['disagreement']), BETWEEN)]
          * (totals['disagreement'] is not None)),
        ('flicker', 'n/a' if flicker is None else f'{flicker:.2f}',
         'of the pixels per second change their class where neither sensor changed, on '
         f'{_percent(totals["still_share"])} %'),
        *((name, str(part['pairs']), f'pairs, mean IoU {_percent(part["mean"].get("iou"))}, mean '
           f'confidence {_percent(part["mean_confidence"])} %')
          for name, part in totals['parts'].items())]
    lines = [figures(rows), '', *aligned(more, '<><')]
    if totals['scored']:
        lines += ['', f'{totals["scored"]} masks scored against their labels, percent', table]
    return '\n'.join(lines)


def _row(name, facts):
    rgb = facts['messages'].get('rgb')
    return (name, str(facts['pairs']), _percent(facts['pairs'] / rgb if rgb else None),
            _percent((facts['scores'] or {}).get('mean_iou')), _percent(facts['unlabeled_share']),
            _percent(facts['mean_confidence']), f'{facts["latency_ms"]["p95"]:.1f}')


def _percent(share):
    return percent(math.nan if share is None else share)


def replay_fleet(fleet: Fleet, gate: FleetGate, json: Path | None = None,
                 page: Path | None = None, *, runner: Runner) -> int:
    """
    Replay a fleet, tell of it on stdout and what has failed on stderr; return the exit code.

    `json` is a file for the facts, beside that in the folder, and `page` one for people.
    `runner` does the tasks.
    """
    gate.check_bags(fleet.bags)
    facts, merged = fleet.run(runner)
    labels = load_card(fleet.parameters.model).labels
    if facts['bags']:
        print(f'\n{told(facts, merged.table())}')
    print(f'\nwrote {fleet.folder.path / RESULTS}')
    if json:
        write_json(json, facts)
    if page:
        write_fleet_page(page, facts, labels, merged.times_ms())
    for bag in facts['failed']:
        print(f'rgbx-seg: failed: {bag["name"]}: {bag["reason"]}', file=sys.stderr)
    if facts['failed']:
        print(f'rgbx-seg: {len(facts["failed"])} of {len(fleet.bags)} bags could not be replayed; '
              'the same command with --resume tries them again', file=sys.stderr)
    return gate.judge(facts) or (FAULTY if facts['failed'] else 0)
