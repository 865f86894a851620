# Copyright 2026 rgbx_seg_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""
What browsers are shown, between the thread of ROS and theirs: the newest alone.

Nothing waits for a browser. Each asks for what is newest when it has shown the last, and a picture
is encoded when the first of them asks for it, once for all.
"""

from collections.abc import Callable, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
import threading
import time
from typing import Any

import cv2
import numpy as np
from rgbx_seg_ros.errors import FrameError, MessageError
from rgbx_seg_ros.frames.raw import check_x, visible_x
from rgbx_seg_ros.messages.images import decode_rgb, decode_x

LOOKS_S = 3.0
"""So long after its last question a browser counts as one that looks."""
_WIDEST = 960
"""Pictures that are wider, in pixels, are made smaller."""
_QUALITY = 80


def _rgb_picture(message):
    return _shrunk(decode_rgb(message), cv2.INTER_AREA)


def _x_picture(message):
    x = decode_x(message)
    check_x(x)
    # No means of X: one pixel without a measurement would take its neighbours along.
    x = _shrunk(x, cv2.INTER_NEAREST)
    return x if x.ndim == 3 and x.shape[2] == 3 and x.dtype == np.uint8 else visible_x(x)


def _shrunk(pixels, method):
    height, width = pixels.shape[:2]
    if width <= _WIDEST:
        return pixels
    return cv2.resize(pixels, (_WIDEST, max(1, round(height * _WIDEST / width))),
                      interpolation=method)


DECODERS: dict[str, Callable[[Any], np.ndarray]] = {
    'overlay': _rgb_picture, 'confidence': _rgb_picture, 'rgb': _rgb_picture, 'x': _x_picture}
"""What makes a picture (H, W, 3) uint8 of a message, by the name of the picture."""


class Picture:
    """A message of an image as JPEG, once somebody asks; `trouble` says why it cannot be."""

    def __init__(self, name: str, message: Any):
        self._name, self._message = name, message
        self._lock, self._jpeg = threading.Lock(), b''
        self.trouble = ''

    def jpeg(self) -> bytes:
        """Return the file, of 960 x any pixels at most; nothing where the message holds none."""
        with self._lock:
            if self._message is not None:
                message, self._message = self._message, None
                try:
                    pixels = DECODERS[self._name](message)
                    self._jpeg = cv2.imencode('.jpg', np.ascontiguousarray(pixels[..., ::-1]), [
                        cv2.IMWRITE_JPEG_QUALITY, _QUALITY])[1].tobytes()
                except (MessageError, FrameError) as error:
                    self.trouble = str(error)
            return self._jpeg


@dataclass(frozen=True)
class Shown:
    """What is shown of one node."""

    number: int
    """It changes with whatever is new."""
    facts: Mapping[str, Any]
    """As they go to a browser."""
    pictures: Mapping[str, Picture] = field(default_factory=dict)
    """The newest of each name, as far as one has come."""


class Board:
    """What is shown of each node, by its name, and whether browsers look at it."""

    def __init__(self):
        self._changed = threading.Condition()
        self._nodes: dict[str, Shown] = {}
        self._silence = ''
        self._asking: dict[str, int] = {}
        self._asked_s: dict[str, float] = {}

    def show(self, nodes: Mapping[str, Shown], silence: str = '') -> None:
        """Show `nodes` from now on; `silence` says what to check where there are none."""
        with self._changed:
            self._nodes, self._silence = dict(nodes), silence
            self._changed.notify_all()

    def is_looked_at(self, name: str) -> bool:
        """Tell whether a browser looks at a node, or has done so just now."""
        with self._changed:
            return bool(self._asking.get(name)) or (
                time.monotonic() - self._asked_s.get(name, -LOOKS_S) < LOOKS_S)

    @contextmanager
    def looking(self, name: str):
        """Count as one that looks at a node while inside."""
        with self._changed:
            if name in self._nodes:  # what else is asked for has no end
                self._asked_s[name] = time.monotonic()
            self._asking[name] = self._asking.get(name, 0) + 1
        try:
            yield
        finally:
            with self._changed:
                self._asking[name] -= 1
                if not self._asking[name]:
                    del self._asking[name]
                if name in self._asked_s:
                    self._asked_s[name] = time.monotonic()

    def first(self) -> str:
        """Return the name of a node that is shown; an empty one where there is none."""
        with self._changed:
            return min(self._nodes, default='')

    def newest(self, name: str, seen: int, seconds: float) -> dict:
        """Return what is shown of a node, as soon as it is not number `seen` or after seconds."""
        with self._changed:
            self._changed.wait_for(
                lambda: name in self._nodes and self._nodes[name].number != seen, seconds)
            shown, silence = self._nodes.get(name), self._silence
            nodes = [{'name': other, 'level': one.facts['level'], 'mode': one.facts['mode']}
                     for other, one in sorted(self._nodes.items())]
        if shown is None:
            return {'nodes': nodes, 'silence': silence or ' '.join(
                ['no report of a node', *name.split(), 'yet'])}
        return {'nodes': nodes, 'name': name, 'number': shown.number, **shown.facts}

    def picture(self, name: str, kind: str) -> Picture | None:
        """Return the newest picture of a node; None where there is none."""
        with self._changed:
            shown = self._nodes.get(name)
            return shown and shown.pictures.get(kind)
