# Copyright 2026 rgbx_seg_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""
What the projection node uses of tf2_ros, which has no wheel: its calls, answers and exceptions.

A test says what tf would know by `say`; nothing is asked of /tf.
"""

import threading
from types import SimpleNamespace

from geometry_msgs.msg import TransformStamped


class TransformException(Exception):
    """Base of the others, as in tf2."""


class LookupException(TransformException):
    """A frame is unknown."""


class ExtrapolationException(TransformException):
    """A time is not reached yet."""


class Buffer:
    """Knows how frames lie in each other at all times, or up to a time."""

    newest = None
    """The buffer of the node that was started last."""

    def __init__(self):
        type(self).newest = self
        self._lock = threading.Lock()
        self.known, self.asked, self.cleared = {}, [], 0

    def say(self, target, source, place, quaternion=(0.0, 0.0, 0.0, 1.0), until_ns=None):
        """Let the buffer know a transform, for all times or until one."""
        with self._lock:
            self.known[target, source] = place, quaternion, until_ns

    def lookup_transform(self, target, source, time):
        return self._answer(target, source, time.nanoseconds)

    def lookup_transform_full(self, target, target_time, source, source_time, fixed):
        self.asked.append((target_time.nanoseconds, source_time.nanoseconds, fixed))
        return self._answer(target, source, max(target_time.nanoseconds, source_time.nanoseconds))

    def clear(self):
        self.cleared += 1

    def _answer(self, target, source, stamp_ns):
        with self._lock:
            if (target, source) not in self.known:
                raise LookupException(f'"{source}" passed to lookupTransform argument '
                                      'source_frame does not exist. ')
            place, quaternion, until_ns = self.known[target, source]
        if until_ns is not None and stamp_ns > until_ns:
            raise ExtrapolationException('Lookup would require extrapolation into the future.')
        found = TransformStamped()
        for name, value in zip('xyz', place, strict=True):
            setattr(found.transform.translation, name, float(value))
        for name, value in zip('xyzw', quaternion, strict=True):
            setattr(found.transform.rotation, name, float(value))
        return found


class TransformListener:
    """Listens to nothing."""

    def __init__(self, buffer, node):
        pass

    def unregister(self):
        pass


MODULE = SimpleNamespace(
    Buffer=Buffer, TransformListener=TransformListener, TransformException=TransformException,
    LookupException=LookupException, ExtrapolationException=ExtrapolationException)
