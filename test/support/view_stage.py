# Copyright 2026 rgbx_seg_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""A server of `rgbx-seg view` and what is on its board, for tests that ask it as browsers do."""

from contextlib import contextmanager
import json
from urllib.error import HTTPError
from urllib.parse import urlencode
from urllib.request import Request, urlopen

import cv2
import numpy as np
from rgbx_seg_ros.node.view_board import Board, Shown
from rgbx_seg_ros.node.view_server import Server


@contextmanager
def serving(board=None, host='127.0.0.1'):
    """Give a server of a board on any free port."""
    server = Server(board or Board(), host, 0)
    server.start()
    try:
        yield server
    finally:
        server.close()


def ask(server, path='/', method='GET', headers=(), **query):
    """Return the status, the headers and the body of an answer."""
    url = f'http://127.0.0.1:{server.port}{path}'
    request = Request(f'{url}?{urlencode(query)}' if query else url, method=method,
                      headers=dict(headers))
    try:
        with urlopen(request, timeout=20) as answer:
            return answer.status, answer.headers, answer.read()
    except HTTPError as error:
        return error.code, error.headers, error.read()


def state(server, seen=-1, node=''):
    """Return what a browser is told that has seen number `seen` of a node."""
    status, _, body = ask(server, '/state', seen=seen, node=node)
    assert status == 200
    return json.loads(body)


def pixels(body):
    """Return the picture of a JPEG, (H, W, 3) uint8 RGB."""
    return cv2.imdecode(np.frombuffer(body, np.uint8), cv2.IMREAD_COLOR)[..., ::-1]


def shown(number=1, images=(), **told):
    """Return what is shown of a node: of `told`, and as little as there may be of the rest."""
    return Shown(number, {'level': 'OK', 'mode': 'fusion', **told}, dict(images))
