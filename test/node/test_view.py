# Copyright 2026 rgbx_seg_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""`rgbx-seg view`: what it shows of real nodes, what it asks of them, and how it ends."""

from array import array
from contextlib import contextmanager
import json
import os
import re
import shlex
import signal
import socket
import subprocess
import sys
import threading
import time
from types import SimpleNamespace

import numpy as np
import pytest

pytest.importorskip('rclpy', reason='needs rclpy, from a ROS distribution or the ros extra')

import cv2  # noqa: E402,I100
from diagnostic_msgs.msg import DiagnosticArray  # noqa: E402
import rclpy  # noqa: E402
from rgbx_seg_ros.__main__ import parse  # noqa: E402
from rgbx_seg_ros.errors import MessageError  # noqa: E402
from rgbx_seg_ros.health.assessor import Assessor  # noqa: E402
from rgbx_seg_ros.messages.images import to_image  # noqa: E402
from rgbx_seg_ros.node import view, view_board, view_server  # noqa: E402
from rgbx_seg_ros.node.diagnostics import to_array  # noqa: E402
from rgbx_seg_ros.node.ear import Ear, Node  # noqa: E402
from rgbx_seg_ros.node.view_board import Board  # noqa: E402
from rgbx_seg_ros.node.view_facts import facts, legend  # noqa: E402
from rgbx_seg_ros.resources import share_dir  # noqa: E402
from sensor_msgs.msg import CompressedImage, Image  # noqa: E402
from std_msgs.msg import Header, String  # noqa: E402
from support.health_reports import HEALTHY, sample_report  # noqa: E402
from support.node_stage import RGB, X  # noqa: E402
from support.ros_stage import CAMERA, LATCHED, next_domain, Stage  # noqa: E402
from support.view_stage import ask, pixels, serving, state  # noqa: E402

# Facts


def heard(*reports):
    """Return what was heard of a node that told these reports, the newest at 10 s."""
    node, assessor = Node(), Assessor()
    for each in reports:
        node.take(assessor.assess(each), 10.0)
    return node


def test_all_of_a_healthy_node_is_told():
    told = facts(heard(sample_report(0.0), sample_report(2.0, drops={
        'superseded': 110, 'x_unused': 3})), 10.4)
    assert (told['level'], told['mode'], told['message']) == (
        'OK', 'fusion', 'segmenting, 20.0 masks/s')
    assert told['silent_s'] == 0.4 and told['problems'] == []
    assert told['about'] == 'night on torch, cuda:0; 840 masks in 0:01:42'
    assert [figure for figure, _ in told['figures']] == [
        '20.0', '80.0', '85.0', '30.0', '25.0', '6.5']
    assert told['inputs'][0] == {
        'level': 'OK', 'cells': ('rgb', 'ok', '30.0', '12.3', '1.2', '/cam/rgb/image')}
    assert told['times'][1] == ('inference', '45.0', '50.0', '55.0')
    assert [drop[:3] for drop in told['drops']] == [
        ('superseded', '110', '5.0'), ('x_unused', '3', '1.5')]
    assert 'gave way to a newer one' in told['drops'][0][3]
    assert '25.0 pairs/s, X later than RGB by 3.0 ms' in told['sync']
    json.dumps(told, allow_nan=False)


def test_a_fault_is_told_with_its_level():
    told = facts(heard(sample_report(0.0), sample_report(
        1.0, health={**HEALTHY, 'mode': 'rgb_only', 'x_state': 'frozen'})), 10.0)
    assert (told['level'], told['mode']) == ('WARN', 'rgb_only')
    assert 'x is frozen' in told['message']
    assert told['inputs'][1]['level'] != 'OK'


@pytest.mark.parametrize('text', ['n/a', 'many', 'nan', 'inf', '1e999', ''])
def test_numbers_that_are_none_are_no_reason_to_end(text):
    node = heard(sample_report(0.0), sample_report(1.0))
    sections = dict(node.sections)
    for name, status in node.sections.items():
        sections[name] = type(status)(status.level, status.message, {
            key: text if key != 'mode' else value for key, value in status.values.items()})
    node.take(sections, 11.0)
    json.dumps(facts(node, 12.0), allow_nan=False)


def test_a_legend_has_names_as_they_are_and_colours_that_are_some():
    text = json.dumps([{'id': 0, 'name': '<b>', 'color': [1, 2, 999]},
                       {'id': 1, 'name': 'x' * 500, 'color': [0, 0, -4], 'groups': []}])
    assert legend(text) == [{'name': '<b>', 'color': [1, 2, 255]},
                            {'name': 'x' * 80, 'color': [0, 0, 0]}]
    assert len(legend(json.dumps([{'name': 'a', 'color': [1, 2, 3]}] * 1000))) == 256


@pytest.mark.parametrize('text', [
    '', '{}', '[1]', '7', '[{"name": "a"}]', '[{"name": "a", "color": "red"}]',
    '[{"name": "a", "color": [1, 2]}]', '[{"name": "a", "color": [1, 2, Infinity]}]',
    '[{"name": "a", "color": [1, 2, null]}]', '[' * 100_000])
def test_a_palette_that_is_none_is_refused(text):
    with pytest.raises(MessageError, match='the palette'):
        legend(text)


# With real ROS


class Robot:
    """Nodes that tell about themselves when they are asked to, and publish what they are given."""

    def __init__(self, stage):
        self.stage, self._start_s = stage, time.monotonic()
        self._diagnostics = stage.node.create_publisher(DiagnosticArray, '/diagnostics', 5)

    def tell(self, server, *names, **changes):
        """Let nodes tell that they are well, or what `changes` say, until that is heard."""
        self.say(*names, **changes)
        for name in names:
            while 'name' not in server.board.newest(name.lstrip('/'), -1, 0.1):
                self.say(name, **changes)

    def say(self, *names, **changes):
        """Let nodes tell it once."""
        report = sample_report(time.monotonic() - self._start_s, **changes)
        sections = Assessor().assess(report)
        for name in names:
            self._diagnostics.publish(
                to_array(name, sections, self.stage.node.get_clock().now().to_msg()))

    def image(self, topic, value, shape=(48, 64, 3)):
        """Publish an image of one value on `topic` as soon as somebody listens."""
        picture = np.full(shape, value, np.uint8)
        self.stage.publisher(Image, topic).publish(
            to_image(picture, 'rgb8' if len(shape) == 3 else 'mono8', Header()))


@pytest.fixture
def robot(stage):
    return Robot(stage)


@contextmanager
def looking(stage, name=None):
    """Give a server of what an ear of its own hears of all nodes, or of one."""
    context, stop, board = rclpy.Context(), threading.Event(), Board()
    rclpy.init(context=context, domain_id=stage.context.get_domain_id())
    ear = Ear('view', name, threading.Event(), context)
    seen, failed = view.View(ear, board), []

    def run():
        try:
            while not stop.is_set():
                ear.listen(0.02)
                seen.update()
        except Exception as error:  # noqa: BLE001 whatever it is, the test must know
            failed.append(error)
    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    try:
        with serving(board) as server:
            yield server
    finally:
        stop.set()
        thread.join(20)
        seen.close()
        ear.close()
        context.try_shutdown()
    assert not failed


@pytest.fixture
def server(stage, monkeypatch):
    monkeypatch.setattr(view_server, '_WAIT_S', 0.05)
    monkeypatch.setattr(view, '_GRAPH_S', 0.05)
    with looking(stage) as server:
        yield server


def until(server, condition, node='', act=lambda: None):
    """Ask until what is told fulfils a condition, and return it."""
    end, told = time.monotonic() + 30, None
    while time.monotonic() < end:
        act()
        told = state(server, node=node)
        if condition(told):
            return told
    raise AssertionError(f'waited in vain, told is {told}')


def picture(server, kind, node=''):
    """Return the mean colour of a picture; None while there is none."""
    status, _, body = ask(server, f'/{kind}.jpg', node=node)
    return pixels(body).mean() if status == 200 else None


def test_it_subscribes_to_images_only_while_a_browser_looks(stage, robot, server, monkeypatch):
    monkeypatch.setattr(view_board, 'LOOKS_S', 0.3)
    topics = ('/segmentation/overlay', '/segmentation/confidence', '/cam/rgb/image',
              '/cam/x/image')
    publishers = [stage.node.create_publisher(Image, topic, CAMERA) for topic in topics]
    robot.tell(server, '/rgbx_seg')
    stage.wait(lambda: all(stage.node.count_publishers(topic) for topic in topics))
    assert not any(publisher.get_subscription_count() for publisher in publishers)
    until(server, lambda _: all(one.get_subscription_count() for one in publishers))
    # Nobody asks any more.
    stage.wait(lambda: not any(one.get_subscription_count() for one in publishers))
    assert not stage.node.count_subscribers('/segmentation/palette')


def test_the_newest_of_each_picture_is_shown(robot, server):
    robot.tell(server, '/rgbx_seg')
    until(server, lambda told: 'pictures' in told)
    assert picture(server, 'overlay') is None
    values = {'overlay': ('/segmentation/overlay', 60), 'rgb': ('/cam/rgb/image', 90)}
    for kind, (topic, value) in values.items():
        with ask_meanwhile(server):
            robot.image(topic, value)
            until(server, lambda told, kind=kind: told['pictures'][kind]['count'])
        assert abs(picture(server, kind) - value) < 3
    with ask_meanwhile(server):
        robot.image('/segmentation/overlay', 200)
    until(server, lambda _: abs(picture(server, 'overlay') - 200) < 3)


@contextmanager
def ask_meanwhile(server, node=''):
    """Look at a node as a browser does that stays open."""
    with server.board.looking(node or server.board.first()):
        yield


def test_what_comes_between_two_looks_is_not_kept():
    class Graph:

        def create_subscription(self, *_):
            return None

        def get_publishers_info_by_topic(self, _):
            return ()
    source = view._Source(Graph(), 'a', 'rgb')
    source.update('/rgb/image', 1.0)
    for number in range(5):
        source._take(f'message {number}')
    source.update('/rgb/image', 2.0)
    assert source.count == 1 and source.picture._message == 'message 4'
    first = source.picture
    source.update('/rgb/image', 3.0)
    assert source.count == 1 and source.picture is first


def test_a_topic_that_is_missing_is_named_with_what_to_do(robot, server):
    robot.tell(server, '/front/rgbx_seg')
    told = until(server, lambda told: 'pictures' in told)
    trouble = {kind: one['trouble'] for kind, one in told['pictures'].items()}
    assert trouble['overlay'].startswith('nobody publishes /front/segmentation/overlay')
    assert 'ros2 lifecycle get /front/rgbx_seg' in trouble['confidence']
    assert trouble['x'].startswith('nobody publishes /cam/x/image')
    assert 'remapped to rgb/image' in trouble['rgb']


def test_a_topic_on_which_nothing_comes_is_told_with_the_reason(stage, robot, server, monkeypatch):
    monkeypatch.setattr(view, 'OLD_S', 0.1)
    for topic in ('/segmentation/overlay', '/segmentation/confidence', '/cam/rgb/image',
                  '/cam/x/image'):
        stage.node.create_publisher(Image, topic, CAMERA)
    stage.wait(lambda: stage.node.count_publishers('/cam/x/image'))

    def told(**changes):
        told = until(server, lambda told: 'pictures' in told and all(
            one['trouble'].startswith('nothing on') for one in told['pictures'].values()),
            act=lambda: robot.say('/rgbx_seg', **changes))
        return {kind: one['trouble'] for kind, one in told['pictures'].items()}
    trouble = told(health={**HEALTHY, 'x_state': 'dead'})
    assert 'the node hears nothing either' in trouble['x']
    assert 'config/fastdds.xml' in trouble['rgb']
    time.sleep(0.15)
    assert 'nor any report of the node' in state(server)['pictures']['overlay']['trouble']


def test_the_topics_of_the_inputs_are_those_that_the_node_tells(stage, robot, server):
    file = cv2.imencode('.png', np.full((48, 64), 77, np.uint8))[1].tobytes()
    publisher = stage.node.create_publisher(CompressedImage, '/cam/x/image', CAMERA)
    robot.tell(server, '/rgbx_seg')
    until(server, lambda _: publisher.get_subscription_count())
    with ask_meanwhile(server):
        publisher.publish(CompressedImage(format='mono8; png', data=array('B', file)))
        until(server, lambda _: picture(server, 'x') is not None)


def test_names_that_no_topic_can_have_are_no_reason_to_end(robot, server):
    robot.tell(server, '/a b/rgbx_seg')
    robot.tell(server, '/rgbx_seg')
    told = until(server, lambda told: 'pictures' in told, node='a b/rgbx_seg')
    assert told['name'] == 'a b/rgbx_seg'
    until(server, lambda told: 'pictures' in told, node='rgbx_seg')


def test_the_legend_is_there_for_who_comes_late(stage, robot, server):
    publisher = stage.node.create_publisher(String, '/segmentation/palette', LATCHED)
    publisher.publish(String(data='[{"id": 0, "name": "<i>road", "color": [1, 2, 3]}]'))
    robot.tell(server, '/rgbx_seg')
    told = until(server, lambda told: told.get('legend'))
    assert told['legend'] == [{'name': '<i>road', 'color': [1, 2, 3]}]
    with ask_meanwhile(server):
        publisher.publish(String(data='nothing'))
        told = until(server, lambda told: told['legend_trouble'])
    assert told['legend'] == [] and '/segmentation/palette' in told['legend_trouble']


def test_a_node_that_is_silent_is_told_as_that_until_it_is_back(robot, server):
    robot.tell(server, '/rgbx_seg')
    before = until(server, lambda told: 'silent_s' in told)
    later = until(server, lambda told: told['silent_s'] > 0.3)
    assert later['silent_s'] > before['silent_s']
    robot.tell(server, '/rgbx_seg')
    until(server, lambda told: told['silent_s'] < 0.3 and told['number'] > later['number'])


def test_several_nodes_have_pictures_of_their_own(robot, server):
    names = ('/front/rgbx_seg', '/rear/rgbx_seg')
    robot.tell(server, *names)
    until(server, lambda told: len(told['nodes']) == 2)
    for name, value in (('front/rgbx_seg', 40), ('rear/rgbx_seg', 160)):
        with ask_meanwhile(server, name):
            robot.image(f'/{name.partition("/")[0]}/segmentation/overlay', value)
            until(server, lambda told: told['pictures']['overlay']['count'], node=name)
        assert abs(picture(server, 'overlay', name) - value) < 3


def test_where_no_node_is_heard_it_says_what_to_check(stage, server):
    told = until(server, lambda told: 'published by' in told.get('silence', ''))
    assert f'in domain {stage.context.get_domain_id()}' in told['silence']


def test_only_the_node_asked_for_is_shown(stage, robot):
    with looking(stage, '/rear/rgbx_seg') as server:
        told = until(server, lambda told: 'heard are' in told.get('silence', ''),
                     act=lambda: robot.say('/front/rgbx_seg'))
        assert 'heard are: front/rgbx_seg' in told['silence']
        robot.tell(server, '/rear/rgbx_seg')
        told = until(server, lambda told: 'name' in told)
        assert [one['name'] for one in told['nodes']] == ['rear/rgbx_seg']


def test_a_real_node_is_seen(stage, make_node, server):
    make_node()
    until(server, lambda told: 'pictures' in told)
    told = until(server, lambda told: all(one['count'] for one in told['pictures'].values()),
                 act=lambda: stage.send(RGB, X, stage.stamp()))
    assert [entry['name'] for entry in told['legend']] == [
        'background', 'car', 'person', 'unlabeled']
    status, _, body = ask(server, '/overlay.jpg')
    overlay = pixels(body).astype(int)
    assert status == 200 and overlay.shape == RGB.shape
    # A class lies on the right half alone, half of its colour over half of the camera's.
    assert np.abs(overlay[24, 8] - 100).max() < 8
    assert np.abs(overlay[24, 56] - (65, 110, 178)).max() < 12
    assert abs(picture(server, 'confidence') - 250) < 3


# The verb


def test_what_the_page_about_it_names_is_there():
    text = (share_dir() / 'docs' / 'view.md').read_text(encoding='utf-8')
    commands = re.findall(r'^(?:.*ROBOT )?(rgbx-seg view.*|rgbx-seg top.*)$', text, re.MULTILINE)
    assert len(commands) == 3
    for command in commands:
        assert parse(shlex.split(command)[1:]).main is view.main
    assert f'{view_board.LOOKS_S:g} s\n' in text and f'in {view_server._SLOWEST_S:g} s' in text
    assert f'at most {view_board._WIDEST} pixels' in text and view._PERIOD_S == 0.1
    for path in re.findall(r'`(config/[\w/.]+)`', text):
        assert (share_dir() / path).is_file()


def test_ctrl_c_ends_it_at_once_though_a_browser_waits():
    stage = Stage(next_domain())
    environment = {**os.environ, 'ROS_DOMAIN_ID': str(stage.context.get_domain_id())}
    process = subprocess.Popen(
        [sys.executable, '-m', 'rgbx_seg_ros', 'view', '--port', '0'], env=environment, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        # A shell that started the tests in the background has switched Ctrl-C off for them.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL))
    try:
        line = process.stdout.readline()
        port = re.fullmatch(
            r'the page is http://127\.0\.0\.1:(\d+)/ \(Ctrl-C ends it\)\n', line)
        assert port, line + process.stderr.read()
        server = SimpleNamespace(port=int(port.group(1)))
        assert ask(server)[0] == 200
        waiting = socket.create_connection(('127.0.0.1', server.port))
        waiting.sendall(b'GET /state HTTP/1.1\r\nHost: localhost\r\n\r\n')
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=20)
        assert (process.returncode, err) == (130, '')
    finally:
        process.kill()
        process.wait()
        waiting.close()
        stage.close()


def test_an_address_that_others_reach_is_warned_of_in_one_line(command, monkeypatch):
    @contextmanager
    def interrupted():
        raise KeyboardInterrupt
        yield
    monkeypatch.setattr(view, 'ros', interrupted)
    with pytest.warns(UserWarning, match='whoever reaches http://0.0.0.0:') as warned:
        assert command('view', '--host', '0.0.0.0', '--port', '0')[:2] == (130, '')
    assert len(warned) == 1 and '\n' not in str(warned[0].message)
    assert command('view', '--port', '0') == (130, '', '')
