# Copyright 2026 rgbx_seg_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""The scenarios that need the node as a process: restarts, signals in every state, a full disk."""

from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
import os
from pathlib import Path
import signal
import subprocess
import sys
import tempfile
import time

from lifecycle_msgs.msg import Transition
from lifecycle_msgs.srv import ChangeState
import numpy as np
from sensor_msgs.msg import Image
from support.campaign_rig import Gone, Rig
from support.ros_stage import next_domain, Stage

_HERE = Path(__file__).resolve().parent
_AT_ONCE = 2
_PATIENCE_S = 60.0
SIGNALS = (signal.SIGINT, signal.SIGTERM)
STATES = ('starting up', 'unconfigured', 'during configure', 'inactive', 'active',
          'active, under load')


class NodeProcess:
    """The node in a process of its own, which logs to `log`."""

    def __init__(self, domain, command, parameters, environment=None, stderr=None):
        self.log = tempfile.TemporaryFile('w+')
        arguments = [part for name, value in parameters.items() for part in (
            '-p', f'{name}:={str(value).lower() if isinstance(value, bool) else value}')]
        path = os.pathsep.join([str(_HERE.parent), str(_HERE.parents[1])])
        self.process = subprocess.Popen(
            [*command, '--ros-args', *arguments], stdout=self.log, stderr=stderr or self.log,
            env={**os.environ, 'ROS_DOMAIN_ID': str(domain), 'OMP_NUM_THREADS': '1',
                 'PYTHONPATH': path, **(environment or {})},
            # A shell that started the campaign in the background has switched Ctrl-C off for it.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL))

    def end(self, with_signal):
        """Send the signal; return the exit code, or 'hang', and the seconds to the end."""
        started = time.monotonic()
        self.process.send_signal(with_signal)
        try:
            code = self.process.wait(_PATIENCE_S)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            code = 'hang'
        return code, time.monotonic() - started

    def said(self):
        """Return what it has logged."""
        self.log.seek(0)
        return self.log.read()


@dataclass
class ProcessRow:
    """How a process ended, over all tries of one scenario."""

    name: str
    tries: int = 0
    codes: Counter = field(default_factory=Counter)
    seconds: list = field(default_factory=list)
    faults: list = field(default_factory=list)
    """Logs in which a crash or a traceback stands."""


def signalled(name, model, seconds, seed, state):
    """End the node with SIGINT or SIGTERM in a state, again and again."""
    row, rng = ProcessRow(name), np.random.default_rng(seed)
    end = time.monotonic() + seconds
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        while not row.tries or time.monotonic() < end:
            tries = [pool.submit(_signal_once, model, state, SIGNALS[(row.tries + i) % 2],
                                 rng.random()) for i in range(_AT_ONCE)]
            for one in tries:
                code, seconds, log = one.result()
                row.tries += 1
                row.codes[code] += 1
                row.seconds.append(seconds)
                if 'Traceback' in log or 'Segmentation fault' in log or code in ('hang', -11, -6):
                    row.faults.append(f'{state}, exit code {code}: {log}')
    return row


def _signal_once(model, state, with_signal, share):
    domain = next_domain()
    active = state.startswith('active')
    process = NodeProcess(
        domain, [sys.executable, '-m', 'rgbx_seg_ros.node.node'],
        {'model': model, 'autostart': active or state == 'starting up', 'health.frozen_ms': 0.0,
         'health.saturated_share': 1.0})
    stage = Stage(domain)
    try:
        if state == 'starting up':
            time.sleep(4 * share)
        else:
            client = stage.node.create_client(ChangeState, '/rgbx_seg/change_state')
            assert client.wait_for_service(_PATIENCE_S), process.said()
        if state in ('during configure', 'inactive'):
            future = client.call_async(ChangeState.Request(
                transition=Transition(id=Transition.TRANSITION_CONFIGURE)))
            if state == 'inactive':
                stage.wait(future.done, _PATIENCE_S)
            else:
                time.sleep(0.5 * share)
        if active:
            stage.listen(Image, 'segmentation/mask')
            stage.publisher(Image, 'x/image')
            stage.publisher(Image, 'rgb/image')
        if state == 'active, under load':
            rgb, x = np.zeros((480, 640, 3), np.uint8), np.zeros((480, 640), np.uint8)
            for _ in range(10 + int(20 * share)):
                stage.send(rgb, x, stage.stamp())
                time.sleep(0.02)
        code, seconds = process.end(with_signal)
        log = process.said()
        if state == 'starting up':  # Python itself may not be ready yet
            log = log.replace('Traceback', 'traceback')
        return code, seconds, log
    finally:
        process.process.kill()
        stage.close()


class ProcessRig(Rig):
    """The cameras with the node in a process of its own."""

    command = (sys.executable, str(_HERE / 'campaign_rig.py'))
    environment = None
    stderr = None

    def start_node(self):
        self.node = NodeProcess(self.domain, self.command, self.parameters, self.environment,
                                self.stderr)

    def stop_node(self):
        return self.node.end(signal.SIGTERM)

    def lost(self):
        """Return None: what a process counted has gone with it."""
        return None


def restarted(name, model, seconds, seed):
    """Kill the node while frames come, by any signal, and start it anew."""
    tries = 0
    with ProcessRig(model, seed) as rig:
        ended = 0
        try:
            rig.recover(_PATIENCE_S)
            end = time.monotonic() + seconds
            while not tries or time.monotonic() < end:
                tries += 1
                rig.play(rig.rng.uniform(0.2, 0.6))
                rig.node.process.send_signal(
                    (*SIGNALS, signal.SIGKILL)[rig.rng.integers(3)])
                while rig.node.process.poll() is None:
                    rig.tick()
                rig.start_node()
                rig.recover(_PATIENCE_S)
        except Gone:
            ended = 1
        row = rig.row(name, tries, ended)
        row.drops.clear()  # those of the last process alone
        return row


_IN_FULL_FOLDER = ('unshare', '--map-root-user', '--mount', 'sh', '-c', (
    'mount -t tmpfs -o size=4k none "$0" && head -c 4096 /dev/zero > "$0/fill" && exec "$@"'))


class FullDiskRig(ProcessRig):
    """The node's stderr is full, and so is its log folder where one can be mounted."""

    def start_node(self):
        folder = tempfile.mkdtemp()
        prefix = (*_IN_FULL_FOLDER, folder)
        if subprocess.run([*prefix, 'true'], stderr=subprocess.DEVNULL).returncode == 0:
            self.command = (*prefix, *ProcessRig.command)
            self.environment = {'ROS_LOG_DIR': folder}
        else:
            print('no folder of its own can be mounted here: only stderr is full',
                  file=sys.stderr)
        with open('/dev/full', 'w') as self.stderr:
            super().start_node()


def full_disk(name, model, seconds, seed):
    """Let the log go to a disk that is full, and give reasons to log."""
    def cut_off(shot):
        shot.alter, shot.known, shot.intact, shot.hopeless = _without_data, False, False, True
        return [shot]
    row, end = ProcessRow(name), time.monotonic() + seconds
    while not row.tries or time.monotonic() < end:
        row.tries += 1
        with FullDiskRig(model, seed + row.tries) as rig:
            try:
                rig.recover(_PATIENCE_S)
                rig.play(0.2, rgb=cut_off)
                rig.recover()
                code, to_end_s = rig.stop_node()
                row.seconds.append(to_end_s)
            except Gone:
                code = 'no mask'
            row.codes[code] += 1
            row.faults += rig.row(name, 1, 1).wrong
    return row


def _without_data(message):
    message.data = message.data[:-1]
    return message


PROCESS_SCENARIOS = {
    'node restarted under load': restarted,
    **{f'signal: {state}': partial(signalled, state=state) for state in STATES},
    'log on a full disk': full_disk,
}


def process_table(rows) -> str:
    """Return the rows of those that end as markdown."""
    lines = ['| scenario | tries | exit codes | time to end, s | hangs, crashes, tracebacks |',
             '| --- | ---: | --- | ---: | ---: |']
    for row in rows:
        codes = ', '.join(f'{code}: {count}' for code, count in row.codes.most_common())
        seconds = f'{np.median(row.seconds):.1f} / {max(row.seconds):.1f}' if row.seconds else '-'
        lines.append(f'| {row.name} | {row.tries} | {codes} | {seconds} | {len(row.faults)} |')
    return '\n'.join(lines)
