# Copyright 2026 rgbx_seg_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""`rgbx-seg top`: what it shows, and how it begins and ends."""

from contextlib import contextmanager
import os
import pty
import re
import select
import signal
import subprocess
import sys
import threading
import time
from types import SimpleNamespace

import pytest

pytest.importorskip('rclpy', reason='needs rclpy, from a ROS distribution or the ros extra')

from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue  # noqa: E402,I100
from rgbx_seg_ros.health.assessor import Assessor  # noqa: E402
from rgbx_seg_ros.health.report import Level, Status  # noqa: E402
from rgbx_seg_ros.node.diagnostics import to_array  # noqa: E402
from rgbx_seg_ros.node.top import block, Node, report, screen  # noqa: E402
from rich.console import Console  # noqa: E402
from support.health_reports import HEALTHY, sample_report  # noqa: E402
from support.ros_stage import next_domain, Stage  # noqa: E402


def heard(*reports):
    """Return what was heard of a node that told these reports, the newest at 10 s."""
    node, assessor = Node(), Assessor()
    for each in reports:
        node.take(assessor.assess(each), 10.0)
    return node


def shown(*nodes, now_s=10.4, size=(80, 60)):
    """Return the lines on the screen for nodes a, b, ..."""
    console = Console(width=size[0], file=open(os.devnull, 'w'), record=True)
    ear = SimpleNamespace(nodes=dict(zip('abc', nodes, strict=False)), silence=lambda: 'silence')
    console.print(screen(ear, now_s, size))
    return console.export_text().splitlines()


def words(lines, start):
    """Return the words of the line that begins with `start`, the frame left out."""
    found = [line.strip('│ ').split() for line in lines if line.strip('│ ').startswith(start)]
    assert found, '\n'.join(lines)
    return found[0]


def test_all_of_a_healthy_node_is_shown_in_80_columns():
    lines = shown(heard(sample_report(0.0), sample_report(2.0, drops={
        'superseded': 110, 'x_unused': 3})))
    assert max(map(len, lines)) == 80
    assert len(lines) < 24
    assert words(lines, 'OK') == ['OK', 'fusion', 'segmenting,', '20.0', 'masks/s']
    assert words(lines, 'night') == 'night on torch, cuda:0; 840 masks in 0:01:42'.split()
    assert words(lines, 'rgb ') == ['rgb', 'ok', '30.0', '12.3', '1.2', '/cam/rgb/image']
    assert words(lines, 'x ') == ['x', 'ok', '25.0', '31.2', '0.9', '/cam/x/image']
    assert words(lines, 'pairs/s') == (
        'pairs/s 25.0 x - rgb ms p50 3.0 apart ms p95 9.0 of 50.0'.split())
    assert words(lines, 'inference')[:4] == ['inference', '45.0', '50.0', '55.0']
    assert words(lines, 'latency') == ['latency', '80.0', '85.0', '90.0']
    text = '\n'.join(lines)
    assert re.search(r'superseded +110 +5\.0 ', text)
    assert re.search(r'x_unused +3 +1\.5 ', text)


def test_a_fault_is_shown_once_with_its_advice():
    bad = {**HEALTHY, 'mode': 'rgb_only', 'x_state': 'frozen'}
    text = ' '.join(' '.join(shown(heard(
        sample_report(0.0), sample_report(1.0, health=bad, drops={'too_old': 4})))
    ).replace('│', ' ').split())
    assert 'WARN rgb_only masks come from rgb alone: x is frozen: the same pixels' in text
    assert text.count('the same pixels') == 1
    assert 'WARN 4 mask(s) were too old just now' in text


def test_before_the_first_result_there_are_dashes():
    lines = shown(heard(sample_report(0.0, percentiles=dict.fromkeys(
        sample_report(0.0).percentiles), health={
            **HEALTHY, 'rgb_rate_hz': None, 'rgb_age_ms': None, 'rgb_jitter_ms': None})))
    assert words(lines, 'rgb ')[2:5] == ['-', '-', '-']
    assert words(lines, 'latency') == ['latency', '-', '-', '-']
    assert words(lines, 'inference')[:4] == ['inference', '-', '-', '-']


def test_drops_have_no_rate_after_one_report_or_a_restart():
    first, later = sample_report(0.0), sample_report(1.0)
    assert heard(first).drops == {'superseded': (100, None)}
    assert heard(first, later).drops == {'superseded': (105, 5.0)}
    assert heard(later, first).drops == {'superseded': (100, None)}


def test_a_level_has_its_colour():
    console = Console(width=80, file=open(os.devnull, 'w'), record=True, force_terminal=True,
                      color_system='standard')
    console.print(report(heard(sample_report(0.0, failure='no memory')), 10.0))
    assert '\x1b[1;31mERROR fusion' in console.export_text(styles=True)


def test_an_old_report_is_called_old():
    node = heard(sample_report(0.0))
    assert not any('no report' in line for line in shown(node, now_s=12.9))
    assert 'no report for 13 s' in ' '.join(shown(node, now_s=22.9))


def test_several_nodes_get_a_panel_each_and_short_ones_where_room_is_short():
    nodes = [heard(sample_report(0.0), sample_report(1.0))] * 3
    tall = shown(*nodes, size=(80, 60))
    titles = [line.split()[1] for line in tall if line.startswith('╭')]
    assert titles == ['a', 'b', 'c']
    assert sum('inference' in line for line in tall) == 3
    short = shown(*nodes, size=(80, 30))
    assert len(short) < 30
    assert sum('latency ms p50 80.0 p95 85.0 p99 90.0' in line for line in short) == 3


def test_brackets_in_a_message_are_not_taken_for_markup():
    node = heard(sample_report(0.0, failure='bad [red] value [/red]'))
    assert 'pairs are lost: bad [red] value [/red]' in ' '.join(shown(node))


def test_a_node_that_tells_less_is_shown_as_far_as_it_goes():
    node = Node()
    for _ in range(2):
        node.take({'segmentation': Status(Level.OK, 'hm', {
            'mode': 'fusion', 'uptime_s': 'n/a', 'drops.superseded': 'many'})}, 10.0)
    assert words(shown(node), 'OK') == ['OK', 'fusion', 'hm']


def test_text_for_a_pipe_has_neither_frames_nor_colours(monkeypatch):
    monkeypatch.delenv('FORCE_COLOR', raising=False)
    node = heard(sample_report(0.0))
    ear = SimpleNamespace(nodes={'front/rgbx_seg': node})
    text = block(ear, 10.4)
    assert text.startswith('front/rgbx_seg\nOK fusion')
    assert text.isascii() and '\x1b' not in text
    assert not re.search(' $', text, re.MULTILINE)


# With real ROS


@contextmanager
def telling(domain, *names):
    """Let nodes tell about themselves every 0.2 s, beside one that is not ours."""
    stage, stop = Stage(domain), threading.Event()
    publisher = stage.node.create_publisher(DiagnosticArray, '/diagnostics', 5)

    def tell():
        assessor, start = Assessor(), time.monotonic()
        while not stop.wait(0.2):
            sections = assessor.assess(sample_report(time.monotonic() - start))
            stamp = stage.node.get_clock().now().to_msg()
            publisher.publish(DiagnosticArray(status=[DiagnosticStatus(
                name='camera: rgb', values=[KeyValue(key='state', value='ok')])]))
            for name in names:
                publisher.publish(to_array(name, sections, stamp))

    thread = threading.Thread(target=tell, daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()
        stage.close()


def start_top(domain, *arguments, **options):
    environment = {**os.environ, 'ROS_DOMAIN_ID': str(domain), 'TERM': 'xterm', 'COLUMNS': '80'}
    return subprocess.Popen(
        [sys.executable, '-m', 'rgbx_seg_ros', 'top', *arguments], env=environment,
        # A shell that started the tests in the background has switched Ctrl-C off for them.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        **{'stdout': subprocess.PIPE, 'stderr': subprocess.PIPE, 'text': True, **options})


def test_once_prints_every_node_that_is_heard_and_ends():
    domain = next_domain()
    with telling(domain, '/front/rgbx_seg', '/rear/rgbx_seg'):
        top = start_top(domain, '--once')
        out, err = top.communicate(timeout=60)
    assert (top.returncode, err) == (0, '')
    lines = out.splitlines()
    assert lines[0] == 'front/rgbx_seg' and 'rear/rgbx_seg' in lines and 'camera' not in out
    assert words(lines, 'OK')[:3] == ['OK', 'fusion', 'segmenting,']
    rate = re.search(r'superseded +\d+ +(\d+\.\d) *$', out, re.MULTILINE)
    assert 2.0 < float(rate.group(1)) < 8.0  # 5.0, but the report has whole frames


def test_once_shows_only_the_node_asked_for_and_names_the_others_where_it_is_not_heard():
    domain = next_domain()
    with telling(domain, '/front/rgbx_seg', '/rear/rgbx_seg'):
        top = start_top(domain, '--once', '--node', '/rear/rgbx_seg')
        missing = start_top(domain, '--once', '--node', 'side/rgbx_seg', '--timeout', '4')
        out, _ = top.communicate(timeout=60)
        none, err = missing.communicate(timeout=60)
    assert top.returncode == 0
    assert out.startswith('rear/rgbx_seg\n') and 'front' not in out
    assert (missing.returncode, none) == (2, '')
    assert err.startswith("rgbx-seg: error: no report of a node 'side/rgbx_seg' for 4.")
    assert 'heard are: front/rgbx_seg, rear/rgbx_seg' in err and err.count('\n') == 1


def test_once_ends_with_2_and_what_to_check_where_nothing_is_heard():
    domain = next_domain()
    top = start_top(domain, '--once', '--timeout', '0.5')
    out, err = top.communicate(timeout=60)
    assert (top.returncode, out) == (2, '')
    assert f'on /diagnostics in domain {domain} with rmw_' in err
    assert 'is published by: nobody' in err and 'ROS_DOMAIN_ID' in err
    assert err.count('\n') == 1


def test_a_timeout_that_is_none_is_refused(command):
    code, out, err = command('top', '--once', '--timeout', '0')
    assert (code, out) == (2, '')
    assert 'timeout is 0.0, needed is a number above 0' in err


def test_into_a_pipe_it_prints_a_block_each_second_until_ctrl_c():
    domain = next_domain()
    with telling(domain, '/rgbx_seg'):
        top = start_top(domain)
        blocks = 0
        while blocks < 2:
            line = top.stdout.readline()
            assert line, top.stderr.read()
            blocks += line == 'rgbx_seg\n'
        top.send_signal(signal.SIGINT)
        _, err = top.communicate(timeout=60)
    assert (top.returncode, err) == (130, '')


@pytest.mark.parametrize('with_signal', [signal.SIGINT, signal.SIGTERM])
def test_in_a_terminal_it_draws_in_place_and_leaves_the_terminal_in_order(with_signal):
    domain = next_domain()
    outer, inner = pty.openpty()
    with telling(domain, '/rgbx_seg'):
        top = start_top(domain, stdout=inner, stderr=inner, text=False)
        os.close(inner)
        drawn = _read(outer, until='OK fusion', process=top)
        top.send_signal(with_signal)
        drawn += _read(outer, process=top)
    assert top.wait(60) == 130, drawn
    os.close(outer)
    assert '╭─ rgbx_seg' in drawn and 'Traceback' not in drawn
    assert drawn.rindex('\x1b[?25h') > drawn.rindex('\x1b[?25l'), 'the cursor stays hidden'


def _read(terminal, process, until=None, seconds=60.0):
    """Return what is written to a terminal up to the text `until`, or to its end."""
    text, end = '', time.monotonic() + seconds
    while until is None or until not in re.sub('\x1b\\[[0-9;]*m', '', text):
        assert time.monotonic() < end, text
        if select.select([terminal], [], [], 0.5)[0]:
            try:
                text += os.read(terminal, 65536).decode(errors='replace')
            except OSError:  # Linux, once the other side is closed
                break
    return text
