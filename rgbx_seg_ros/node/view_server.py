# Copyright 2026 rgbx_seg_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""The page of `rgbx-seg view` over HTTP: read-only, and for whom the user has let in alone."""

import errno
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
import ipaddress
import json
from pathlib import Path
import socket
import socketserver
import sys
import threading
from urllib.parse import parse_qs, urlsplit

from rgbx_seg_ros.errors import ParameterError
from rgbx_seg_ros.node.view_board import Board, DECODERS

_PACKAGE = Path(__file__).parents[1]
_FILES = {
    '/': ('text/html', 'node/templates/view.html'),
    '/report.css': ('text/css', 'evaluation/templates/report.css'),
    '/view.css': ('text/css', 'node/templates/view.css'),
    '/view.js': ('text/javascript', 'node/templates/view.js'),
}
_HEADERS = {
    'Cache-Control': 'no-store',
    'Content-Security-Policy':
        "default-src 'none'; connect-src 'self'; img-src 'self'; script-src 'self'; "
        "style-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    'Cross-Origin-Resource-Policy': 'same-origin',
    'Referrer-Policy': 'no-referrer',
    'X-Content-Type-Options': 'nosniff',
}
_WAIT_S = 1.0
"""So long a question for what is new waits for it."""
_SLOWEST_S = 10.0
"""A browser that takes an answer no faster than in this time is let go."""
_CONNECTIONS = 64
"""A browser has up to six."""
_PORTS = 20
"""So many ports above one that is taken are tried, to name a free one."""


def is_loopback(host: str) -> bool:
    """Tell whether only this machine reaches a name or an address."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host.lower() == 'localhost'


class Server(ThreadingHTTPServer):
    """
    Serves what is on `board` at `host` and `port`, each browser on threads of its own.

    Port 0 is any free one; `port` has it. Raise ParameterError where that cannot be.
    """

    def __init__(self, board: Board, host: str, port: int):
        self.board, self._host = board, host
        self.files = {path: (kind, (_PACKAGE / name).read_bytes())
                      for path, (kind, name) in _FILES.items()}
        self._free = threading.BoundedSemaphore(_CONNECTIONS)
        self._thread = None
        if not 0 <= port <= 65535:
            raise ParameterError(f'port is {port!r}, allowed are 0 to 65535; 0 is any free one')
        self.address_family, address = _resolved(host, port)
        try:
            super().__init__(address, _Handler)
        except OSError as error:
            raise ParameterError(_advice(error, self.address_family, host, port)) from error
        self.port = self.server_address[1]

    def server_bind(self):
        """Bind; HTTPServer would ask the network for the name of the machine."""
        socketserver.TCPServer.server_bind(self)

    @property
    def url(self) -> str:
        """Where the page is."""
        host = f'[{self._host}]' if ':' in self._host else self._host
        return f'http://{host}:{self.port}/'

    def start(self) -> None:
        """Serve on a thread until `close`."""
        self._thread = threading.Thread(target=self.serve_forever, args=(0.1,), daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Take no more questions; whoever waits for an answer is left alone."""
        if self._thread is not None:
            self.shutdown()
            self._thread.join()
        self.server_close()

    def is_ours(self, host: str) -> bool:
        """
        Tell whether a Host header names this server.

        A page of somebody else's whose name has been made to lead here (DNS rebinding) comes with
        that name. An address as such cannot be led anywhere else.
        """
        try:
            name = urlsplit(f'//{host}').hostname or ''
        except ValueError:  # of brackets that do not close
            return False
        if is_loopback(name):
            return True
        if is_loopback(self._host):
            return False
        own = socket.gethostname().lower()
        return name in (self._host.lower(), own, f'{own}.local') or _is_address(name)

    def process_request(self, request, client_address):
        """Answer on a thread of its own, as long as there are not too many."""
        if self._free.acquire(blocking=False):
            super().process_request(request, client_address)
        else:
            self.shutdown_request(request)

    def process_request_thread(self, request, client_address):
        """Answer, and make room for the next."""
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._free.release()

    def handle_error(self, request, client_address):
        """Say nothing of browsers that have gone; tell all else."""
        if not isinstance(sys.exc_info()[1], OSError):
            super().handle_error(request, client_address)


def _is_address(name):
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def _resolved(host, port):
    try:
        family, *_, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
    except (OSError, UnicodeError) as error:
        raise ParameterError(f'host is {host!r}, which is no name or address that this machine '
                             f'knows: {error}') from error
    return family, address


def _advice(error, family, host, port):
    if error.errno == errno.EADDRINUSE:
        free = next((other for other in range(port + 1, min(port + _PORTS, 65535) + 1)
                     if _is_free(family, host, other)), 0)
        return f'port {port} is taken on {host}: give another one, such as --port {free}'
    if error.errno == errno.EADDRNOTAVAIL:
        return f'host is {host!r}, which is no address of this machine: see `ip address`'
    if error.errno == errno.EACCES:
        return f'port {port} is for the administrator: give one above 1023, such as --port 8080'
    return f'cannot listen on port {port} of {host!r}: {error.strerror}'


def _is_free(family, host, port):
    with socket.socket(family, socket.SOCK_STREAM) as one:
        try:
            one.bind((host, port))
        except OSError:
            return False
    return True


class _Handler(BaseHTTPRequestHandler):
    protocol_version = 'HTTP/1.1'
    server_version, sys_version = 'rgbx-seg', ''
    timeout = _SLOWEST_S
    disable_nagle_algorithm = True

    def parse_request(self):
        """Read the head of a request and tell whether it is one that is answered."""
        if not super().parse_request():
            return False
        if self.command != 'GET':
            return self._refuse(HTTPStatus.METHOD_NOT_ALLOWED, 'this page is read-only: GET alone',
                                Allow='GET')
        host = self.headers.get('Host', '')
        if not self.server.is_ours(host):
            return self._refuse(HTTPStatus.FORBIDDEN, f'{host!r} is no name of this server: use '
                                f'{self.server.url}, or start it with --host')
        if (self.headers.get('Sec-Fetch-Site') in ('cross-site', 'same-site')
                and self.headers.get('Sec-Fetch-Mode') != 'navigate'):
            return self._refuse(HTTPStatus.FORBIDDEN,
                                'other pages may lead here, but not show what is here')
        return True

    def _refuse(self, status, text, **headers):
        # A body that was not read would be taken for the next request.
        self._send(status, 'text/plain', f'{text}\n'.encode(), Connection='close', **headers)
        return False

    def do_GET(self):  # noqa: N802 the name is that of http.server
        """Answer."""
        path, _, query = self.path.partition('?')
        asked = {name: values[-1] for name, values in parse_qs(query).items()}
        board = self.server.board
        name = asked.get('node') or board.first()
        kind = path.removeprefix('/').removesuffix('.jpg')
        if path in self.server.files:
            self._send(HTTPStatus.OK, *self.server.files[path])
        elif path == '/state':
            with board.looking(name):
                state = board.newest(name, _number(asked.get('seen')), _WAIT_S)
                self._send(HTTPStatus.OK, 'application/json', json.dumps(state).encode())
        elif path == f'/{kind}.jpg' and kind in DECODERS:
            with board.looking(name):
                picture = board.picture(name, kind)
                jpeg = picture.jpeg() if picture else b''
                if jpeg:
                    self._send(HTTPStatus.OK, 'image/jpeg', jpeg)
                else:
                    self._send(HTTPStatus.NOT_FOUND, 'text/plain', b'there is no picture\n')
        elif path == '/favicon.ico':
            self._send(HTTPStatus.NO_CONTENT, 'image/x-icon', b'')
        else:
            self._send(HTTPStatus.NOT_FOUND, 'text/plain', b'there is nothing here\n')

    def _send(self, status, kind, body, **headers):
        self.send_response(status)
        self.send_header('Content-Type', f'{kind}; charset=utf-8' if 'text' in kind else kind)
        for name, value in headers.items():
            self.send_header(name, value)
        if status != HTTPStatus.NO_CONTENT:
            self.send_header('Content-Length', str(len(body)))
        self.end_headers()
        if self.command != 'HEAD':
            self.wfile.write(body)

    def end_headers(self):
        """End the head of an answer, be it one of http.server's own."""
        for name, value in _HEADERS.items():
            self.send_header(name, value)
        super().end_headers()

    def log_message(self, *_):
        """Say nothing of every question."""


def _number(text):
    try:
        return int(text)
    except (TypeError, ValueError):
        return -1
