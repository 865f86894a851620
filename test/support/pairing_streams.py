# Copyright 2026 rgbx_seg_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""Streams of frames on a fake clock, for the tests of pairing."""

from hypothesis import settings
from rgbx_seg_ros.sync.pairing import Pairer, PairingSettings

MS = 1_000_000
S = 1_000_000_000
FOREVER = 10**15

always = settings(max_examples=200, deadline=None, derandomize=True)


def pairer_ms(slop=20, max_wait=100, **others):
    return Pairer(PairingSettings(slop * MS, max_wait * MS, **others))


def in_ms(pairs):
    return [(pair.rgb_stamp_ns // MS, pair.x_stamp_ns // MS) for pair in pairs]


def stamps(pairs):
    return [(pair.rgb_stamp_ns, pair.x_stamp_ns) for pair in pairs]


def feed(pairer, text, now_ns=0):
    """Add frames such as 'r100 x103' (stamps in ms), all received at `now_ns`."""
    pairs = []
    for word in text.split():
        add = {'r': pairer.add_rgb, 'x': pairer.add_x}[word[0]]
        pairs += add(int(word[1:]) * MS, word, now_ns)
    return in_ms(pairs)


def play(pairer, arrivals):
    """
    Play (now_ns, 'r' or 'x', stamp_ns) in the order of now_ns, polling at every deadline.

    Return a list of (now_ns, pair).
    """
    made = []
    for now_ns, kind, stamp_ns in sorted(arrivals):
        while (due_ns := pairer.next_deadline_ns) is not None and due_ns < now_ns:
            made += [(due_ns, pair) for pair in pairer.poll(due_ns)]
        add = pairer.add_rgb if kind == 'r' else pairer.add_x
        made += [(now_ns, pair) for pair in add(stamp_ns, None, now_ns)]
    return made


def periodic(rate_hz, seconds, jitter_ns=0, rng=None):
    times = [S + round(k * S / rate_hz) for k in range(round(rate_hz * seconds))]
    return [t + rng.randint(-jitter_ns, jitter_ns) for t in times] if jitter_ns else times


def live(times):
    return [(t, t) for t in times]


def arriving(kind, sent, delay_ns=0, jitter_ns=0, rng=None):
    """Give (sent_ns, stamp_ns) a transport delay with jitter; a stream keeps its order."""
    last = 0
    for sent_ns, stamp_ns in sent:
        last = max(last + 1, sent_ns + delay_ns + (rng.randint(0, jitter_ns) if rng else 0))
        yield last, kind, stamp_ns
