# Copyright 2026 rgbx_seg_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""
Pair each RGB frame with the X frame nearest to it in time, as early as that can be known.

The result is that of "closest pair first": of all frames take the RGB and the X frame that lie
closest together (no further apart than the slop; the earlier pair on a tie), then do the same on
its own with what lies before and with what lies after. So pairs never cross, and an X frame that
several RGB frames want goes to the nearest of them.

Lay the frames of both streams on one line in the order of their times. The closest pair are always
neighbours on it, hence only neighbours ever pair, and whether the first frame on the line does
follows from the gaps g0, g1, ... between neighbours alone (a gap counts as endless between two
frames of one stream, or when it exceeds the slop). Follow the gaps while they shrink: the last
one, gk, joins the closest pair of this stretch, which parts the line there; before it the gaps
g(k-2), g(k-4), ... are the closest that remain. So the first frame pairs with its neighbour when k
is even, stays alone when k is odd, and also when g0 is endless already. Since the stamps of a
stream increase, the part of the line that both streams have passed is final, and k is known as
soon as no frame that is still to come can make the gap after gk smaller than gk.

No threads, no locks and no clock in here: the caller passes `now_ns`, the time of receipt, on
any clock it likes. Frames are kept as they are given and are never looked into.
"""

from collections import Counter, deque
from dataclasses import dataclass
import heapq
from itertools import chain
import math
from typing import Any, NamedTuple

from rgbx_seg_ros.errors import ParameterError
from rgbx_seg_ros.fields import check_number
from rgbx_seg_ros.sync.periods import PeriodEstimator

DROP_REASONS = {
    'rgb_no_partner': 'RGB frame without an X frame within the slop, or none is left for it: '
                      'normal where RGB is faster than X, else look at slop and offset',
    'x_unused': 'X frame that no RGB frame took: normal where X is faster than RGB',
    'rgb_duplicate': 'RGB frame with the stamp of the frame before it',
    'x_duplicate': 'X frame with the stamp of the frame before it',
    'rgb_out_of_order': 'RGB frame a little older than one that came before it',
    'x_out_of_order': 'X frame a little older than one that came before it',
    'rgb_no_stamp': 'RGB frame whose driver set no stamp (0 or less)',
    'x_no_stamp': 'X frame whose driver set no stamp (0 or less)',
    'rgb_queue_full': 'RGB frame that had to make room before its partner could be known',
    'x_queue_full': 'X frame that had to make room before its partner could be known',
    'rgb_reset': 'RGB frame from before a clock jump or a call of reset()',
    'x_reset': 'X frame from before a clock jump or a call of reset()',
}
"""Every key of `Synchronizer.drops` and what it tells the user."""

CLOCK_JUMP_NS = 200_000_000
"""
A stamp further back than this is a clock that was set back, a nearer one a late frame: networks
reorder by tens of milliseconds, a looping bag jumps back by its whole length.
"""

CLOCK_SETTLE_NS = 1_000_000_000
"""For so long after one stream has jumped, the other may still deliver frames of the old clock."""


@dataclass(frozen=True)
class PairingSettings:
    """What decides about pairs; all times in nanoseconds."""

    slop_ns: int
    """Most time between the two frames of a pair, 0 or more."""
    max_wait_ns: int
    """Longest wait for a better partner, counted from the receipt of the RGB frame, 0 or more."""
    queue_size: int = 30
    """Most undecided frames of each stream, 1 or more."""
    x_offset_ns: int = 0
    """Added to every X stamp before it is compared; minus the usual offset of the pairs."""
    rgb_min_period_ns: int = 1
    """
    Promise that an RGB frame comes no sooner than this after the one before it, 1 or more.

    With 1 (stamps increase, no more) two frames that differ by a millisecond wait for the next
    one, which might be closer still. Half the period of the camera tells that it cannot be, and
    they pair at once. A frame that breaks the promise may miss its nearest partner, that is all.
    """
    x_min_period_ns: int = 1
    """The same promise for X."""
    learn_periods: bool = False
    """Let the stamps seen so far make both promises too; the longer one counts."""

    def __post_init__(self) -> None:
        for name, low in (('slop_ns', 0), ('max_wait_ns', 0), ('queue_size', 1),
                          ('x_offset_ns', -math.inf), ('rgb_min_period_ns', 1),
                          ('x_min_period_ns', 1)):
            check_number(name, getattr(self, name), ParameterError, low=low, integer=True)
        if not isinstance(self.learn_periods, bool):
            raise ParameterError(
                f'learn_periods is {self.learn_periods!r}, allowed are True and False')


@dataclass(frozen=True)
class Pair:
    """An RGB frame and its X frame, each with its stamp as it came."""

    rgb_stamp_ns: int
    x_stamp_ns: int
    rgb: Any
    x: Any

    @property
    def offset_ns(self) -> int:
        """X stamp minus RGB stamp; minus its median is the `x_offset_ns` to set."""
        return self.x_stamp_ns - self.rgb_stamp_ns


class _Frame(NamedTuple):
    """A frame on the line: the first two fields order it, and no two frames share both."""

    time_ns: int  # stamp, with the offset if it is X
    is_x: bool
    stamp_ns: int
    received_ns: float
    data: Any


class _Stream:
    """The undecided frames of one stream and what is known of its clock."""

    def __init__(self, name: str, loser: str):
        self.name = name
        self.loser = loser  # drop reason of a frame that stays alone
        self.queue: deque[_Frame] = deque()
        self.period = PeriodEstimator()
        self.forget()

    def forget(self) -> None:
        """Know nothing of the clock."""
        self.newest_ns = -math.inf
        self.settles_ns = -math.inf


class Synchronizer:
    """
    Turn two streams of stamped frames into pairs, by the rule that a subclass adds.

    `add_rgb`, `add_x` and `poll` return the pairs that became certain, oldest first; between two
    clock jumps both stamps increase strictly from pair to pair. Every frame ends in one pair, in
    one count of `drops` (a Counter over the keys of DROP_REASONS), or still waits.
    """

    def __init__(self, settings: PairingSettings):
        self._settings = settings
        self._rgb = _Stream('rgb', 'rgb_no_partner')
        self._x = _Stream('x', 'x_unused')
        self._now_ns = -math.inf
        self._set_back_ns: float = 0
        self.drops: Counter[str] = Counter()
        self.clock_jumps = 0
        """How often a stream's clock was found to be set back."""

    @property
    def settings(self) -> PairingSettings:
        """The settings; new ones may be assigned at any time and count from the next call on."""
        return self._settings

    @settings.setter
    def settings(self, settings: PairingSettings) -> None:
        shift_ns = settings.x_offset_ns - self._settings.x_offset_ns
        self._settings = settings
        self._x.newest_ns += shift_ns
        self._x.queue = deque(f._replace(time_ns=f.time_ns + shift_ns) for f in self._x.queue)
        self._start_again()

    @property
    def waiting(self) -> tuple[int, int]:
        """The number of undecided RGB and X frames."""
        return len(self._rgb.queue), len(self._x.queue)

    @property
    def next_deadline_ns(self) -> float | None:
        """When `poll` must be called at the latest, on the clock of `now_ns`; None is never."""
        return None

    def add_rgb(self, stamp_ns: int, frame: Any, now_ns: int) -> list[Pair]:
        """Take an RGB frame with its own stamp, received at `now_ns`."""
        self._set_clock(now_ns)
        self._admit(self._rgb, self._x, _Frame(stamp_ns, False, stamp_ns, self._now_ns, frame))
        return self._decide()

    def add_x(self, stamp_ns: int, frame: Any, now_ns: int) -> list[Pair]:
        """Take an X frame with its own stamp (the offset is added in here), received at now."""
        self._set_clock(now_ns)
        time_ns = stamp_ns + self._settings.x_offset_ns
        self._admit(self._x, self._rgb, _Frame(time_ns, True, stamp_ns, self._now_ns, frame))
        return self._decide()

    def poll(self, now_ns: int) -> list[Pair]:
        """Let time pass, which may make pairs due."""
        self._set_clock(now_ns)
        return self._decide()

    def reset(self) -> None:
        """Drop every frame that waits and know nothing of the clocks; the counts stay."""
        for stream in (self._rgb, self._x):
            if stream.queue:
                self.drops[f'{stream.name}_reset'] += len(stream.queue)
            stream.queue.clear()
            stream.forget()
        self._start_again()

    def _set_clock(self, now_ns: int) -> None:
        # A receive clock that is set back (simulated time that starts again) stands still for
        # the frames that wait: they keep the age they have.
        self._set_back_ns = max(self._set_back_ns, self._now_ns - now_ns)
        self._now_ns = now_ns + self._set_back_ns

    def _admit(self, stream: _Stream, other: _Stream, frame: _Frame) -> bool:
        """Put a frame at the end of its queue and return True, or count why it cannot be."""
        back_ns = stream.newest_ns - frame.time_ns
        ahead_ns = frame.time_ns - other.newest_ns
        if frame.stamp_ns <= 0:
            self.drops[f'{stream.name}_no_stamp'] += 1
        elif self._now_ns < stream.settles_ns and ahead_ns > CLOCK_JUMP_NS:
            self.drops[f'{stream.name}_reset'] += 1
        elif back_ns == 0:
            self.drops[f'{stream.name}_duplicate'] += 1
        elif 0 < back_ns <= CLOCK_JUMP_NS:
            self.drops[f'{stream.name}_out_of_order'] += 1
        else:
            if back_ns > CLOCK_JUMP_NS:
                self.clock_jumps += 1
                self.reset()
                other.settles_ns = self._now_ns + CLOCK_SETTLE_NS
            elif back_ns > -math.inf:
                stream.period.add(int(-back_ns))
            stream.queue.append(frame)
            stream.newest_ns = frame.time_ns
            return True
        return False

    def _decide(self) -> list[Pair]:
        """Take the frames whose fate is certain off their queues; return the pairs among them."""
        raise NotImplementedError

    def _start_again(self) -> None:
        """Follow new settings and queues that were changed."""


class Pairer(Synchronizer):
    """Pair each RGB frame with the X frame nearest to it, as the top of this file has it."""

    @property
    def next_deadline_ns(self) -> float | None:
        """When `poll` must be called at the latest, on the clock of `now_ns`; None is never."""
        if not self._rgb.queue:
            return None
        received_ns = self._rgb.queue[0].received_ns
        return received_ns + self._settings.max_wait_ns - self._set_back_ns

    def flush(self) -> list[Pair]:
        """Decide about every frame that still waits, as at the end of a bag."""
        return self._decide(flush=True)

    def _decide(self, flush: bool = False) -> list[Pair]:
        """Take frames off the start of the line as long as their partners are certain or due."""
        rgb, x, settings = self._rgb, self._x, self._settings
        pairs = []
        while rgb.queue or x.queue:
            reason = None
            paired = self._first_is_paired()
            if paired is None:
                full = next((s for s in (rgb, x) if len(s.queue) > settings.queue_size), None)
                due = rgb.queue and rgb.queue[0].received_ns + settings.max_wait_ns <= self._now_ns
                if not (flush or due or full):
                    break
                paired = self._first_is_paired(known_is_all=True)
                reason = f'{full.name}_queue_full' if full else None
            if paired:
                a, b = rgb.queue.popleft(), x.queue.popleft()
                pairs.append(Pair(a.stamp_ns, b.stamp_ns, a.data, b.data))
            else:
                first = min((s for s in (rgb, x) if s.queue), key=lambda s: s.queue[0])
                first.queue.popleft()
                self.drops[reason if reason and first is full else first.loser] += 1
        return pairs

    def _first_is_paired(self, known_is_all: bool = False) -> bool | None:
        """
        Tell whether the first frame on the line pairs with its neighbour, or None if still open.

        With `known_is_all` the answer is never None: no frame is expected to come.
        """
        endless = self._settings.slop_ns + 1
        # No frame of either stream can come before these times any more.
        next_rgb_ns = self._next_ns(self._rgb, self._settings.rgb_min_period_ns)
        next_x_ns = self._next_ns(self._x, self._settings.x_min_period_ns)
        final_ns = math.inf if known_is_all else min(next_rgb_ns, next_x_ns)
        line = heapq.merge(self._rgb.queue, self._x.queue)
        left, shortest, gap = next(line), float(endless), 0.0
        for index, right in enumerate(chain(line, (None,))):
            final = known_is_all if right is None else right.time_ns < final_ns
            if right is not None and right.is_x != left.is_x:
                # Not final: a frame of the left stream may come between, the gap is then endless.
                gap = right.time_ns - left.time_ns
            elif final:
                gap = endless
            else:
                gap = max(0, (next_rgb_ns if left.is_x else next_x_ns) - left.time_ns)
            if min(gap, endless) >= shortest:
                return index % 2 == 1
            if right is None or not final:
                break
            left, shortest = right, gap
        return None

    def _next_ns(self, stream: _Stream, promise_ns: float) -> float:
        """Return the time before which no further frame of a stream is to be expected."""
        if self._settings.learn_periods:
            promise_ns = max(promise_ns, stream.period.promise_ns)
        return stream.newest_ns + promise_ns
