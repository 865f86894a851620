# Copyright 2026 rgbx_seg_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""
Check all that the package does on a GPU, within six minutes: what `make gpu-check` runs.

It writes gpu_check.json, after every check, and gpu_check.html; docs/gpu_check.md tells of both.
With --dry every step runs on the CPU with little of everything, so that it works on the day when
there is a GPU. The exit status is 0 if nothing failed.
"""

import argparse
from datetime import datetime, timezone
import importlib.util
from pathlib import Path
import signal
import subprocess
import sys
import time

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / 'test')]  # the package of this checkout, and no other one

NEEDED = {'cv2': 'opencv-python-headless', 'filelock': 'filelock', 'jinja2': 'Jinja2',
          'numpy': 'numpy', 'rosbags': 'rosbags', 'safetensors': 'safetensors', 'torch': 'torch',
          'tqdm': 'tqdm', 'yaml': 'PyYAML'}
"""What the checks import, and in which package of pip it is."""
SCHEMA = 1
"""Of gpu_check.json, one more when a name in it goes or means something else."""
MINUTES, DRY_MINUTES = 6.0, 30.0
CHECKS = 'support.gpu.checks:checks'


def parse(arguments):
    """Return the options; exit with 2 where they make no sense."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--out', type=Path, default=ROOT / 'out' / 'gpu-check', metavar='FOLDER',
                        help='where the two files go (default: out/gpu-check)')
    parser.add_argument('--dry', action='store_true',
                        help='run every step on the CPU, with little of everything')
    parser.add_argument('--minutes', type=float, metavar='M',
                        help=f'time for all of it (default: {MINUTES:g}, with --dry '
                             f'{DRY_MINUTES:g}); what does not fit is skipped')
    parser.add_argument('--only', nargs='+', default=[], metavar='CHECK',
                        help="names of checks, such as 'onnx TensorRT', in quotes")
    options = parser.parse_args(arguments)
    if options.minutes is None:
        options.minutes = DRY_MINUTES if options.dry else MINUTES
    if not 0 < options.minutes <= 600:
        parser.error(f'minutes is {options.minutes!r}, allowed is above 0 and up to 600')
    return options


def missing() -> list[str]:
    """Return the packages of pip that this Python does not have."""
    return [package for module, package in NEEDED.items()
            if importlib.util.find_spec(module) is None]


def commit() -> str | None:
    """Return the commit of the checkout, with a + if files have changed; None without git."""
    try:
        name, changed = (subprocess.run(
            ['git', *words], cwd=ROOT, capture_output=True, text=True, check=True).stdout.strip()
            for words in (('rev-parse', '--short=12', 'HEAD'),
                          ('status', '--porcelain', '--untracked-files=no')))
    except (OSError, subprocess.SubprocessError):
        return None
    return name + '+' * bool(changed)


def check(options, registry: str = CHECKS) -> int:
    """Run the checks; return the exit status."""
    from rgbx_seg_ros import __version__
    from rgbx_seg_ros.files import check_outputs, write_json
    from support.gpu import page
    from support.gpu.runner import FAILED, Runner, Setting

    options.out.mkdir(parents=True, exist_ok=True)
    files = [options.out / f'gpu_check.{suffix}' for suffix in ('json', 'html')]
    check_outputs(files)
    start = time.monotonic()
    facts = {'schema': SCHEMA, 'dry_run': options.dry, 'note': page.DRY if options.dry else '',
             'started': datetime.now(timezone.utc).isoformat(timespec='seconds'), 'seconds': 0.0,
             'limit_s': 60 * options.minutes, 'finished': False, 'version': __version__,
             'commit': commit(), 'python': sys.executable, 'machine': {}, 'checks': []}

    def write(rows):
        facts.update(checks=rows, seconds=time.monotonic() - start, machine=next(
            (row['figures'] for row in rows if row['name'] == 'machine'), {}))
        write_json(files[0], facts)

    def note(row, rows):
        write(rows)
        print(page.line(row), flush=True)

    setting = Setting('cpu', True) if options.dry else Setting()
    runner = Runner(registry, setting, 60 * options.minutes, note, options.only)
    if options.dry:
        print(page.wrapped(page.DRY))
    write(runner.rows)
    # A process that is asked to end does so as after Ctrl-C, with its checks.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        runner.run()
        facts['finished'] = True
    except KeyboardInterrupt:
        print('it was ended', file=sys.stderr)
    write(runner.rows)
    page.write(files[1], facts)
    print(page.summary(facts, files))
    if not facts['finished']:
        return 130
    return 1 if any(row['status'] == FAILED for row in runner.rows) else 0


def main(arguments) -> int:
    """Run what the command line asks for."""
    if arguments[:1] == ['--one']:  # one of the processes
        from support.gpu.runner import be_check
        be_check(*arguments[1:])
        return 0
    options = parse(arguments)
    if packages := missing():
        print(f'{sys.executable} lacks {", ".join(packages)}: {sys.executable} -m pip install '
              f'--editable {ROOT}, which leaves a PyTorch that is there alone; docs/gpu_check.md '
              'has the ways to an environment', file=sys.stderr)
        return 1
    from rgbx_seg_ros.errors import RgbxSegError
    try:
        return check(options)
    except RgbxSegError as error:
        print(error, file=sys.stderr)
        return 1


if __name__ == '__main__':
    sys.exit(main(sys.argv[1:]))
