# Copyright 2026 rgbx_seg_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""The page of `rgbx-seg view` over HTTP: what it answers, to whom, and how soon."""

from concurrent.futures import ThreadPoolExecutor
import json
import re
import socket
import threading
import time
from types import SimpleNamespace

import numpy as np
import pytest
from rgbx_seg_ros.errors import ParameterError
from rgbx_seg_ros.messages.images import to_image
from rgbx_seg_ros.node import view_board, view_server
from rgbx_seg_ros.node.view_board import Board, Picture
from rgbx_seg_ros.node.view_server import is_loopback, Server
from support.view_stage import ask, pixels, serving, shown, state


def message(picture, encoding='rgb8'):
    """Return an image without ROS."""
    return to_image(picture, encoding, None, SimpleNamespace)


def plain(value, shape=(48, 64, 3)):
    return np.full(shape, value, np.uint8)


@pytest.fixture
def board():
    return Board()


@pytest.fixture
def server(board):
    with serving(board) as server:
        yield server


@pytest.fixture(scope='module')
def empty_server():
    with serving() as server:
        yield server


def connect(server, text=b''):
    """Return a connection on which `text` has been sent."""
    connection = socket.create_connection(('127.0.0.1', server.port), timeout=20)
    connection.sendall(text)
    return connection


# What is served, and to whom


@pytest.mark.parametrize(('path', 'kind'), [
    ('/', 'text/html'), ('/view.css', 'text/css'), ('/report.css', 'text/css'),
    ('/view.js', 'text/javascript')])
def test_the_page_is_served_whole_and_leads_nowhere_else(empty_server, path, kind):
    status, headers, body = ask(empty_server, path)
    assert status == 200 and headers['Content-Type'].startswith(kind)
    assert headers['Content-Security-Policy'].startswith("default-src 'none'; ")
    assert 'unsafe' not in headers['Content-Security-Policy']
    assert headers['Cache-Control'] == 'no-store'
    text = body.decode()
    assert '//' not in re.sub(r'^\s*//.*|  // .*', '', text, flags=re.MULTILINE)
    # Names of classes and nodes come from others.
    assert 'innerHTML' not in text and 'insertAdjacentHTML' not in text
    for target in re.findall(r'(?:src|href)="(.*?)"', text):
        assert ask(empty_server, f'/{target}')[0] == 200


@pytest.mark.parametrize('path', ['/nothing', '/../view.py', '/view.py', '/rgb', '/mask.jpg',
                                  '/overlay.jpg', '/%2e%2e/view.js', '/state/'])
def test_what_is_not_there_is_not_found(empty_server, path):
    status, headers, _ = ask(empty_server, path)
    assert status == 404 and headers['X-Content-Type-Options'] == 'nosniff'


@pytest.mark.parametrize('method', ['POST', 'PUT', 'DELETE', 'PATCH', 'HEAD', 'OPTIONS', 'TRACE'])
def test_it_is_read_only(empty_server, method):
    status, headers, body = ask(empty_server, '/state', method)
    assert (status, headers['Allow']) == (405, 'GET')
    assert (b'read-only' in body) == (method != 'HEAD')


def test_the_body_of_a_refused_request_is_not_taken_for_the_next_one(empty_server):
    inner = b'GET / HTTP/1.1\r\nHost: localhost\r\n\r\n'
    outer = b'POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n' % len(inner)
    with connect(empty_server, outer + inner) as connection:
        answer = b''.join(iter(lambda: connection.recv(4096), b''))
    assert answer.count(b'HTTP/1.1 ') == 1 and b' 405 ' in answer


@pytest.mark.parametrize(('host', 'status'), [
    ('localhost', 200), ('LOCALHOST:9000', 200), ('127.0.0.1:8080', 200), ('[::1]:8080', 200),
    ('127.0.0.2', 200), ('evil.example', 403), ('evil.example:8080', 403), ('', 403),
    ('192.168.0.7:8080', 403), ('localhost.evil.example', 403), ('127.0.0.1.evil.example', 403),
    ('[::1', 403)])
def test_a_page_whose_name_leads_here_is_told_nothing(empty_server, host, status):
    assert ask(empty_server, headers={'Host': host})[0] == status
    if status == 403:
        assert ask(empty_server, '/state', headers={'Host': host})[0] == 403


@pytest.mark.parametrize(('host', 'status'), [
    ('localhost', 200), ('192.168.0.7:8080', 200), (socket.gethostname(), 200),
    (f'{socket.gethostname()}.local:80', 200), ('evil.example', 403)])
def test_with_host_it_answers_to_addresses_and_to_names_of_its_own(host, status):
    with serving(host='0.0.0.0') as server:
        assert ask(server, headers={'Host': host})[0] == status


def test_a_name_that_is_no_text_is_quoted_in_the_answer(empty_server):
    with connect(empty_server, b'GET / HTTP/1.1\r\nHost: \xff<b>\r\n\r\n') as connection:
        answer = b''.join(iter(lambda: connection.recv(4096), b''))
    assert b' 403 ' in answer and b'text/plain' in answer


@pytest.mark.parametrize('line', [b'GET http://[ HTTP/1.1', b'GET  / HTTP/1.1', b'GET /', b'\xff',
                                  b'GET /?node=%ff&seen=%00 HTTP/1.1'])
def test_a_question_that_is_none_is_no_fault_of_the_server(empty_server, line, capfd):
    with connect(empty_server, line + b'\r\nHost: localhost\r\nConnection: close\r\n\r\n') as one:
        answer = b''.join(iter(lambda: one.recv(4096), b''))
    assert answer
    assert capfd.readouterr() == ('', '')


@pytest.mark.parametrize(('mode', 'site', 'status'), [
    ('no-cors', 'cross-site', 403), ('cors', 'cross-site', 403), ('no-cors', 'same-site', 403),
    ('navigate', 'cross-site', 200), ('cors', 'same-origin', 200), ('navigate', 'none', 200)])
def test_other_pages_may_lead_here_but_not_show_what_is_here(empty_server, mode, site, status):
    assert ask(empty_server, headers={'Sec-Fetch-Mode': mode, 'Sec-Fetch-Site': site})[0] == status


def test_loopback_is_known_by_name_and_address():
    assert all(map(is_loopback, ('127.0.0.1', '127.1.2.3', '::1', 'localhost', 'LocalHost')))
    assert not any(map(is_loopback, ('0.0.0.0', '::', '192.168.0.7', 'robot', '')))


# What is newest


def test_only_the_newest_is_there(board, server):
    for number, value in ((1, 10), (2, 200)):
        board.show({'a': shown(number, {'rgb': Picture('rgb', message(plain(value)))})})
    assert state(server)['number'] == 2
    # An address of an older one leads to the newest as well.
    assert abs(int(pixels(ask(server, '/rgb.jpg', node='a', n=1)[2]).mean()) - 200) < 3


def test_a_question_waits_for_what_is_new(board, server):
    board.show({'a': shown(1)})
    assert state(server, seen=0)['number'] == 1
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(state, server, 1)
        while not board.is_looked_at('a'):
            time.sleep(0.001)
        board.show({'a': shown(1)})  # as before
        assert not waiting.done()
        board.show({'a': shown(2)})
        assert waiting.result()['number'] == 2


def test_a_question_is_answered_where_nothing_is_new(board, server, monkeypatch):
    monkeypatch.setattr(view_server, '_WAIT_S', 0.05)
    board.show({'a': shown(7, silent_s=1.5)})
    told = state(server, seen=7)
    assert (told['number'], told['silent_s']) == (7, 1.5)
    for seen in ('', 'x', '9' * 5000):
        assert json.loads(ask(server, '/state', seen=seen)[2])['number'] == 7


def test_each_node_has_its_own_and_one_that_is_not_heard_none(board, server, monkeypatch):
    monkeypatch.setattr(view_server, '_WAIT_S', 0.05)
    assert state(server)['silence'] == 'no report of a node yet'
    board.show({}, 'nobody publishes')
    assert state(server) == {'nodes': [], 'silence': 'nobody publishes'}
    board.show({'rear/b': shown(mode='wait'), 'front/a': shown(
        images={'rgb': Picture('rgb', message(plain(9)))})})
    assert state(server)['name'] == 'front/a'
    told = state(server, node='rear/b')
    assert (told['name'], told['mode']) == ('rear/b', 'wait')
    assert [one['name'] for one in told['nodes']] == ['front/a', 'rear/b']
    assert ask(server, '/rgb.jpg', node='front/a')[0] == 200
    assert ask(server, '/rgb.jpg', node='rear/b')[0] == 404
    assert state(server, node='side/c')['silence'] == 'no report of a node side/c yet'


def test_a_node_is_looked_at_while_it_is_asked_for_and_shortly_after(board, server, monkeypatch):
    monkeypatch.setattr(view_board, 'LOOKS_S', 0.0)
    board.show({'a': shown(1), 'b': shown(1)})
    assert not board.is_looked_at('a')
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(state, server, 1, 'a')  # which takes a second
        while not board.is_looked_at('a'):
            time.sleep(0.001)
        assert not board.is_looked_at('b')
        waiting.result()
    while board._asking:  # the answer is there a moment before that is noted
        time.sleep(0.001)
    assert not board.is_looked_at('a')
    monkeypatch.setattr(view_board, 'LOOKS_S', 0.9)
    assert board.is_looked_at('a')


def test_what_is_asked_for_and_not_there_is_not_kept(board, server, monkeypatch):
    monkeypatch.setattr(view_server, '_WAIT_S', 0.01)
    for i in range(5):
        state(server, node=f'node_{i}')
    assert not board._asking and not board._asked_s


# Pictures


@pytest.mark.parametrize('kind', ['overlay', 'rgb'])
def test_colours_are_those_of_the_camera(kind):
    picture = plain(0)
    picture[:, :32] = (250, 120, 10)
    seen = pixels(Picture(kind, message(picture)).jpeg())
    assert seen.shape == (48, 64, 3)
    assert np.abs(seen[20, 10].astype(int) - (250, 120, 10)).max() < 12


def test_confidence_is_grey_and_what_is_wide_is_made_smaller():
    seen = pixels(Picture('confidence', message(plain(128, (30, 1920)), 'mono8')).jpeg())
    assert seen.shape == (15, 960, 3) and abs(int(seen.mean()) - 128) < 3


@pytest.mark.parametrize(('encoding', 'dtype'), [('mono16', np.uint16), ('32FC1', np.float32)])
def test_x_is_stretched(encoding, dtype):
    x = np.full((48, 64), 7000, dtype)
    x[:, 32:] = 7040
    if dtype == np.float32:
        x[:4] = np.nan
    seen = pixels(Picture('x', message(x, encoding)).jpeg())
    assert seen[24, 8].max() < 60 and seen[24, 56].min() > 240


def test_x_in_colours_stays_as_it_is():
    seen = pixels(Picture('x', message(plain((200, 30, 30)))).jpeg())
    assert seen[24, 8, 0] > 190 and seen[24, 8, 1] < 50


@pytest.mark.parametrize(('kind', 'encoding', 'shape', 'why'), [
    ('rgb', '16UC1', (4, 6), 'encoding'), ('x', '8UC2', (4, 6, 2), 'x is')])
def test_what_cannot_be_shown_is_told(board, server, kind, encoding, shape, why):
    dtype = np.uint16 if '16' in encoding else np.uint8
    picture = Picture(kind, message(np.zeros(shape, dtype), encoding))
    board.show({'a': shown(1, {kind: picture})})
    for _ in range(2):
        assert ask(server, f'/{kind}.jpg', node='a')[0] == 404
    assert why in picture.trouble


def test_a_picture_is_encoded_once_for_all_browsers_and_for_nobody_not_at_all(
        board, server, monkeypatch):
    made, together = [], threading.Barrier(4)

    def decode(message):
        made.append(message)
        time.sleep(0.05)
        return plain(9)
    monkeypatch.setitem(view_board.DECODERS, 'rgb', decode)
    for number in range(5):
        board.show({'a': shown(number, {'rgb': Picture('rgb', f'message {number}')})})

    def look(_):
        together.wait()
        return ask(server, '/rgb.jpg', node='a')[2]
    with ThreadPoolExecutor(4) as pool:
        bodies = set(pool.map(look, range(4)))
    assert made == ['message 4'] and len(bodies) == 1


# Browsers that are slow, many or gone


class Huge:
    """A picture that no buffer between here and a browser takes."""

    trouble = ''

    def jpeg(self):
        return bytes(40_000_000)


def test_a_slow_browser_keeps_nobody_waiting_and_is_let_go(board, server, monkeypatch):
    monkeypatch.setattr(view_server._Handler, 'timeout', 1.0)
    board.show({'a': shown(1, {'rgb': Huge(), 'x': Picture('x', message(plain(9)))})})
    with connect(server, b'GET /rgb.jpg?node=a HTTP/1.1\r\nHost: localhost\r\n\r\n') as slow:
        assert slow.recv(16).startswith(b'HTTP/1.1 200')
        started = time.monotonic()
        board.show({'a': shown(2, {'x': Picture('x', message(plain(9)))})})
        assert state(server, seen=1)['number'] == 2
        assert ask(server, '/x.jpg', node='a')[0] == 200
        assert time.monotonic() - started < 0.9
        while board._asking:  # it counts as one that looks until it is let go
            time.sleep(0.01)
        assert time.monotonic() - started < 10
        read = sum(map(len, iter(lambda: slow.recv(1 << 20), b'')))
    assert read < 40_000_000


def test_a_browser_that_goes_is_not_told_of(board, server, capfd):
    board.show({'a': shown(1, {'rgb': Huge()})})
    connect(server, b'GET /rgb.jpg?node=a HTTP/1.1\r\nHost: localhost\r\n\r\n').close()
    while not board.is_looked_at('a'):
        time.sleep(0.001)
    while board._asking:
        time.sleep(0.001)
    assert ask(server)[0] == 200
    assert capfd.readouterr() == ('', '')


def test_there_are_no_more_connections_than_it_can_bear(board, monkeypatch):
    monkeypatch.setattr(view_server, '_CONNECTIONS', 2)
    with serving(board) as server:
        held = [connect(server) for _ in range(2)]
        with connect(server) as third:
            assert third.recv(16) == b''
        for one in held:
            one.close()
        end = time.monotonic() + 20
        while time.monotonic() < end:
            try:
                assert ask(server)[0] == 200
                return
            except OSError:  # those that are gone have not been noticed yet
                time.sleep(0.01)
        raise AssertionError('there is no room again')


def test_it_ends_at_once_though_browsers_wait(board):
    board.show({'a': shown(1)})
    with serving(board) as server:
        held = connect(server, b'GET /state?seen=1 HTTP/1.1\r\nHost: localhost\r\n\r\n')
        while not board.is_looked_at('a'):
            time.sleep(0.001)
        started = time.monotonic()
        server.close()
        assert time.monotonic() - started < 0.8
    held.close()


# The address


def test_a_port_that_is_taken_is_told_with_one_that_is_free(board, server, command):
    pytest.importorskip('rclpy', reason='the verb needs rclpy')
    code, out, err = command('view', '--port', server.port)
    assert (code, out) == (2, '') and err.count('\n') == 1
    assert f'port {server.port} is taken on 127.0.0.1' in err
    other = int(re.search(r'such as --port (\d+)', err).group(1))
    assert other != server.port
    Server(board, '127.0.0.1', other).close()


@pytest.mark.parametrize(('host', 'port', 'why'), [
    ('127.0.0.1', 65536, 'port is 65536, allowed are 0 to 65535'),
    ('127.0.0.1', -1, 'port is -1'),
    ('192.0.2.1', 0, "host is '192.0.2.1', which is no address of this machine"),
    ('no.such.name.invalid', 0, "host is 'no.such.name.invalid', which is no name"),
    ('a..b', 0, "host is 'a..b', which is no name"),
])
def test_an_address_that_cannot_be_is_refused(board, host, port, why):
    with pytest.raises(ParameterError, match=re.escape(why)):
        Server(board, host, port)


def test_an_address_of_ipv6_has_its_brackets(board):
    try:
        server = Server(board, '::1', 0)
    except ParameterError as error:
        pytest.skip(f'no IPv6 here: {error}')
    assert server.url == f'http://[::1]:{server.port}/'
    server.close()
