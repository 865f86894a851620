# Copyright 2026 rgbx_seg_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""What a training tells while it runs: lines, a progress bar, a CSV file and TensorBoard."""

import csv
from pathlib import Path
import sys

from rgbx_seg_ros.files import appearing
from tqdm import tqdm

LOSSES = 'losses.csv'


class TrainLog:
    """
    The log of a training in the folder `out`, from step `start` of `steps` on.

    `losses.csv` has a row for each step, with the losses by name; of a resumed run those from
    `start` on are written anew, and cells stay empty for losses that a changed recipe has or had
    not. Without TensorBoard its files are left out, which is said once.
    """

    def __init__(self, out: Path, start: int, steps: int):
        self._rows = None
        self._path = out / LOSSES
        self._start = start
        self._bar = tqdm(total=steps, initial=start, unit='step', disable=None)
        self._board = self._open_board(out / 'tensorboard', start)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._bar.close()
        if self._rows is not None:
            self._file.close()
        if self._board is not None:
            self._board.close()

    def say(self, line: str) -> None:
        """Print a line, above the progress bar where there is one."""
        tqdm.write(line, file=sys.stdout)
        sys.stdout.flush()

    def step(self, step: int, step_size: float, losses: dict[str, float]) -> None:
        """Write down a step; `losses` are its terms by name."""
        row = {'step': step, 'loss': sum(losses.values()), **losses, 'step_size': step_size}
        if self._rows is None:
            self._go_on([*row])
        self._rows.writerow(row)
        self._file.flush()
        self._bar.set_postfix(loss=f'{row["loss"]:.4f}', refresh=False)
        self._bar.update()
        if self._board is not None:
            for name, value in row.items():
                if name != 'step':
                    self._board.add_scalar(f'train/{name}', value, step)

    def score(self, step: int, mean_iou: float) -> None:
        """Write down a validation after `step` steps."""
        if self._board is not None:
            self._board.add_scalar('val/mean_iou', mean_iou, step)

    def _go_on(self, names):
        """Begin the file with columns for `names`, and the rows of the steps before the first."""
        former = self._former()
        if former:
            *terms, size = names
            names = [*dict.fromkeys([*former[0], *terms])]
            names.append(names.pop(names.index(size)))  # it stays the last one
        with appearing(self._path) as part, part.open('w', newline='', encoding='utf-8') as file:
            rows = csv.DictWriter(file, names)
            rows.writeheader()
            rows.writerows(former)
        self._file = self._path.open('a', newline='', encoding='utf-8')
        self._rows = csv.DictWriter(self._file, names)

    def _former(self):
        """Return the rows that stay, by column; of a run that was killed the last may be cut."""
        if not self._path.exists():
            return []
        head, *lines = self._path.read_text(encoding='utf-8').splitlines(keepends=True) or ['']
        kept = [line for line in lines if line.endswith('\n')
                and (step := line.partition(',')[0]).isdigit() and int(step) < self._start]
        return [*csv.DictReader([head, *kept])]

    def _open_board(self, folder, start):
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError:
            self.say("no TensorBoard here: for its curves pip install 'rgbx_seg_ros[train]'")
            return None
        return SummaryWriter(str(folder), purge_step=start)
