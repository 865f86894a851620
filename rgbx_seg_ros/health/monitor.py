# Copyright 2026 rgbx_seg_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""
Tell whether each sensor can be trusted, and what to publish when one cannot.

A modality is `ok` or `late`, or it has failed: `frozen`, `saturated` or `dead` (see STATES). It
fails the moment a limit is reached, and it recovers only once it was good without a break for
`recovery_ms`. Good asks for more than not failed: pauses and repeated pixels may last half of
their limits at most. So a sensor that flickers at a limit stays failed instead of flapping.

Real frames leave a wide margin to `saturated`. Of 292 colour frames of roads, half of them at
night, none comes to more than 8 %; with 40 levels cut off at the dark end, as a camera with a high
black level does, none of those at night to more than 97.7 %. The default of 98 % is for a digital
black, a white-out, a closed shutter or a test card. A cap over a camera whose noise is not cut off
passes for a dark night, and so it must: the reverse would stop a robot at night.

A simulated thermal camera, which gives all but a few objects one ambient value, looks the same as
a closed shutter or a test card: in the pixels nothing tells them apart, only noise would, which
neither has. A real camera must not be used there, so the sensor fails. What is told of it names
`health.saturated_share` and the share that was measured: whoever simulates raises it.

No threads, no locks and no clock in here: the caller passes `now_ns`, the time of receipt, on any
clock that is the same for all calls, and calls from one thread.
"""

from collections import deque
from dataclasses import dataclass
import math
from statistics import median
from typing import Any
import zlib

import numpy as np
from rgbx_seg_ros.errors import FrameError, ParameterError
from rgbx_seg_ros.fields import check_number, unknown_name
from rgbx_seg_ros.sensors import Sensors
from rgbx_seg_ros.sync.pairing import CLOCK_JUMP_NS

STATES = {
    'ok': 'frames come as they usually do',
    'late': 'no frame for longer than usual; what comes is still used',
    'frozen': 'the same pixels come again and again under new stamps',
    'saturated': 'nearly all pixels have one value, full scale or no measurement: a covered lens, '
                 'a closed shutter, a white-out or a test card',
    'dead': 'no frame with a new stamp for so long that none is expected',
}
"""Every state of a modality and what it tells the user."""

FAILED = ('frozen', 'saturated', 'dead')
"""The states of a modality that must not be used."""

MODES = {
    'fusion': 'both modalities are used',
    'rgb_only': 'RGB alone: X has failed',
    'x_only': 'X alone: RGB has failed',
    'unlabeled': 'every mask is empty: a modality has failed',
    'wait': 'nothing is published: a modality has failed or has not come yet',
}
"""Every mode and what it tells the user."""

SENSORS = {'fusion': Sensors.BOTH, 'rgb_only': Sensors.RGB, 'x_only': Sensors.X}
"""Which frames masks are made of, in the modes that make any."""

# policy: modalities that have failed: mode; any others: wait
_DEGRADED: dict[str, dict[tuple[str, ...], str]] = {
    'wait': {},
    'rgb_only': {('x',): 'rgb_only'},
    'x_only': {('rgb',): 'x_only'},
    'unlabeled': dict.fromkeys((('rgb',), ('x',), ('rgb', 'x')), 'unlabeled'),
}
POLICIES = tuple(_DEGRADED)
"""What may be done when a modality has failed."""

_NS_PER_MS = 1_000_000
_RATE_WINDOW_NS = 5_000_000_000
_RATE_PERIODS = 5
_PERIODS = 50
_ROWS = 64
_PIXELS = 4000


@dataclass(frozen=True)
class HealthSettings:
    """When a modality fails, when it is back, and what happens meanwhile; times in ms."""

    policy: str = 'wait'
    """Mode when a modality has failed, where it can be had; one of POLICIES."""
    late_ms: float = 200.0
    """Late after this time without a frame, ms, above 0 ..."""
    late_periods: float = 3.0
    """... and after this many of the modality's own usual periods, 1 or more."""
    dead_ms: float = 1500.0
    """
    Dead after this time without a frame, ms, late_ms or more ...

    Thermal cameras that close a shutter to calibrate themselves pause for 0.5 to 1 s.
    """
    dead_periods: float = 5.0
    """... and after this many of the modality's own usual periods, late_periods or more."""
    start_ms: float = 10_000.0
    """Dead after this time if no frame has ever come, ms: drivers take time to start."""
    frozen_ms: float = 2000.0
    """
    Frozen when the pixels stay the same for this time, and dead_periods, under new stamps, ms.

    A time and not a number of frames: thermal cameras of 9 Hz repeat their frames at 30 Hz, and
    hold one while the shutter is closed. 0 turns it off, for simulated cameras without noise.
    """
    saturated_share: float = 0.98
    """Saturated when `saturation` is above this, 0.5 .. 1; 1 turns it off."""
    recovery_ms: float = 1000.0
    """So long a modality that has failed must be good before it is ok again, ms, 0 or more."""

    def __post_init__(self) -> None:
        if self.policy not in POLICIES:
            raise ParameterError(
                f'policy is {self.policy!r}, allowed are: {", ".join(POLICIES)}')
        for name, limits in (
                ('late_ms', {'above': 0}), ('late_periods', {'low': 1}), ('dead_ms', {}),
                ('dead_periods', {}), ('start_ms', {'low': 0}), ('frozen_ms', {'low': 0}),
                ('saturated_share', {'low': 0.5, 'high': 1}), ('recovery_ms', {'low': 0})):
            check_number(name, getattr(self, name), ParameterError, **limits)
        for name, late in (('dead_ms', 'late_ms'), ('dead_periods', 'late_periods')):
            if getattr(self, name) < getattr(self, late):
                raise ParameterError(
                    f'{name} is {getattr(self, name)!r}, allowed is {getattr(self, late)!r}, the '
                    f'value of {late}, or more')


def fingerprint(frame: np.ndarray) -> int:
    """
    Return a number that is the same for the same pixels and another one for others.

    `frame` is (H, W) or (H, W, C) of any type, a view over a padded buffer as well: padding is
    not read; or (bytes,), a compressed image. It is the CRC-32 of 64 to 127 evenly spaced rows,
    or of all the bytes: for 640 x 480 RGB 0.04 ms instead of 0.2 ms for every row. Sensor noise
    that changes one pixel in a thousand by one level is missed once in 10^19 such frames.
    """
    step = 1 if frame.ndim == 1 else max(1, frame.shape[0] // _ROWS)
    return zlib.crc32(np.ascontiguousarray(frame[::step]).data)


def saturation(frame: np.ndarray) -> float:
    """
    Return the share of pixels, 0..1, that are at a limit of their type or all have one value.

    `frame` is (H, W) or (H, W, C). A pixel is at a limit when each of its channels is 0 or full
    scale (uint8, uint16), or is NaN or infinite (float). One value is what 14 bits in uint16 show
    when they are overexposed; a share of it below one half is not looked for. Some 4000 evenly
    spaced pixels are read, in about 0.1 ms whatever the size. Anything else raises FrameError.
    """
    if frame.ndim not in (2, 3) or not frame.size or frame.dtype.kind not in 'uif':
        raise FrameError(f'frame is an array {frame.shape!r} of {frame.dtype}, needed is (H, W) '
                         'or (H, W, C) of integers or floats, with pixels in it')
    height, width = frame.shape[:2]
    # Odd, so that Bayer patterns and YUV pairs are met in every phase.
    step = int((height * width / _PIXELS) ** 0.5) | 1
    pixels = frame[::step, ::step]
    pixels = pixels.reshape(pixels.shape[0] * pixels.shape[1], -1).T  # C, pixels
    pixels = np.ascontiguousarray(pixels)
    if frame.dtype.kind == 'f':
        limit = ~np.isfinite(pixels)
    else:
        limits = np.iinfo(pixels.dtype)
        limit = (pixels == limits.min) | (pixels == limits.max)
    # What more than half of the pixels share is the median.
    middle = pixels.shape[1] // 2
    usual = np.partition(pixels, middle, axis=1)[:, middle, None]
    return max(float(limit.all(axis=0).mean()), float((pixels == usual).all(axis=0).mean()))


class _Modality:
    """What is known of one stream of frames; times on the clock of the receipts."""

    def __init__(self) -> None:
        self.state = 'late'
        self.received_ns: float | None = None
        self.changed_ns = self.stamp_ns = -math.inf
        self.fingerprint: int | None = None
        self.saturation: float | None = None
        self.good_since_ns: float | None = None
        self.receipts_ns: deque[float] = deque(maxlen=1000)
        self.stamps_ns: deque[int] = deque(maxlen=1000)
        self.periods_ns: deque[float] = deque(maxlen=_PERIODS)
        self.period_ns = 0.0

    def late_ns(self, settings: HealthSettings) -> float:
        return max(settings.late_ms * _NS_PER_MS, settings.late_periods * self.period_ns)

    def dead_ns(self, settings: HealthSettings) -> float:
        return max(settings.dead_ms * _NS_PER_MS, settings.dead_periods * self.period_ns)

    def frozen_ns(self, settings: HealthSettings) -> float:
        if not settings.frozen_ms:
            return math.inf
        return max(settings.frozen_ms * _NS_PER_MS, settings.dead_periods * self.period_ns)

    def take(self, stamp_ns: int, now_ns: float, fingerprint: int, saturation: float | None,
             settings: HealthSettings) -> None:
        """Take a frame with a new stamp."""
        if self.received_ns is None:
            self.changed_ns = now_ns
        else:
            gap_ns = now_ns - self.received_ns
            if (2 * gap_ns >= self.dead_ns(settings)
                    or 2 * (now_ns - self.changed_ns) >= self.frozen_ns(settings)):
                self.good_since_ns = None
            self.periods_ns.append(gap_ns)
            self.period_ns = median(self.periods_ns)
        self.receipts_ns.append(now_ns)
        if stamp_ns < self.stamp_ns:
            self.stamps_ns.clear()
        self.stamps_ns.append(stamp_ns)
        if fingerprint != self.fingerprint or not settings.frozen_ms:
            self.changed_ns = now_ns
        if saturation is not None:
            self.saturation = saturation
        self.stamp_ns, self.received_ns, self.fingerprint = stamp_ns, now_ns, fingerprint

    def judge(self, now_ns: float, start_ns: float, settings: HealthSettings) -> None:
        """Fail where a limit is reached, recover where frames were good for long enough."""
        fault = self._fault(now_ns, start_ns, settings)
        if fault:
            self.state, self.good_since_ns = fault, None
            return
        if self.state in FAILED:
            if self.changed_ns != now_ns:
                return  # only a frame, and one with new pixels, tells that a sensor is back
            if self.good_since_ns is None:
                self.good_since_ns = now_ns
            if now_ns - self.good_since_ns < settings.recovery_ms * _NS_PER_MS:
                return
        late = self.received_ns is None or now_ns - self.received_ns >= self.late_ns(settings)
        self.state = 'late' if late else 'ok'

    def _fault(self, now_ns: float, start_ns: float, settings: HealthSettings) -> str | None:
        if self.received_ns is None:
            return 'dead' if now_ns - start_ns >= settings.start_ms * _NS_PER_MS else None
        if now_ns - self.received_ns >= self.dead_ns(settings):
            return 'dead'
        if self.saturation is not None and self.saturation > settings.saturated_share:
            return 'saturated'
        # Counted up to the last frame: time without frames does not tell that pixels stay.
        unchanged_ns = self.received_ns - self.changed_ns
        return 'frozen' if unchanged_ns >= self.frozen_ns(settings) else None

    def rate_hz(self, now_ns: float) -> float | None:
        """Return the rate within the last seconds, 200 Hz at most; None before two frames."""
        if not self.periods_ns:
            return None
        recent = self._recent_ns(now_ns)
        if not recent:
            return 0.0
        # The time since the last frame counts from where the next one is overdue.
        span_ns = max(recent[-1], now_ns - self.period_ns) - recent[0]
        return 1e9 * (len(recent) - 1) / span_ns if span_ns else None

    def stamp_rate_hz(self, now_ns: float) -> float | None:
        """Return the rate by the stamps of the same frames; None where fewer than two tell it."""
        count = len(self._recent_ns(now_ns))
        stamps_ns = list(self.stamps_ns)[-count:] if count else []
        if len(stamps_ns) < 2:
            return None
        return 1e9 * (len(stamps_ns) - 1) / (stamps_ns[-1] - stamps_ns[0])

    def _recent_ns(self, now_ns: float) -> list[float]:
        oldest_ns = now_ns - max(_RATE_WINDOW_NS, _RATE_PERIODS * self.period_ns)
        return [t for t in self.receipts_ns if t >= oldest_ns]

    def jitter_ms(self) -> float | None:
        """Return how far the periods lie off their median, p95; None before two frames."""
        if not self.periods_ns:
            return None
        off_ns = np.abs(np.array(self.periods_ns) - self.period_ns)
        return float(np.percentile(off_ns, 95)) / _NS_PER_MS


class Health:
    """
    The states of both modalities, `rgb` and `x`, and the mode that follows from them.

    Call `observe` for each frame received and `update` now and then, ten times a second or so,
    since it is time that passes without frames that makes a modality late or dead. `settings` may
    be assigned anew at any time: the policy counts at once, the rest from the next call on.
    """

    def __init__(self, settings: HealthSettings):
        self.settings = settings
        self._modalities = {'rgb': _Modality(), 'x': _Modality()}
        self._start_ns, self._now_ns = math.inf, -math.inf
        self._set_back_ns: float = 0

    def observe(self, modality: str, stamp_ns: int, now_ns: int, fingerprint: int,
                saturation: float | None = None) -> None:
        """
        Take a frame of `rgb` or `x` received at `now_ns`, by what the functions above tell of it.

        A `saturation` of None was not measured: the last one counts on. A frame without a stamp,
        with the stamp of the one before it or with a little older one is no sign of life, it
        cannot be paired; a much older stamp is a sensor's clock that was set back.
        """
        if modality not in self._modalities:
            raise ParameterError(f'modality {unknown_name(modality, self._modalities)}')
        self.update(now_ns)
        one = self._modalities[modality]
        if stamp_ns > 0 and not 0 <= one.stamp_ns - stamp_ns <= CLOCK_JUMP_NS:
            one.take(stamp_ns, self._now_ns, fingerprint, saturation, self.settings)
            one.judge(self._now_ns, self._start_ns, self.settings)

    def update(self, now_ns: int) -> None:
        """Let time pass."""
        # A receive clock that is set back (simulated time that starts again) stands still for
        # what was received: it keeps the age it has.
        self._set_back_ns = max(self._set_back_ns, self._now_ns - now_ns)
        self._now_ns = now_ns + self._set_back_ns
        self._start_ns = min(self._start_ns, self._now_ns)
        for one in self._modalities.values():
            one.judge(self._now_ns, self._start_ns, self.settings)

    @property
    def states(self) -> dict[str, str]:
        """The state of `rgb` and of `x`: keys of STATES."""
        return {name: one.state for name, one in self._modalities.items()}

    @property
    def mode(self) -> str:
        """What to publish now: a key of MODES."""
        modalities = self._modalities.values()
        if any(one.received_ns is None and one.state not in FAILED for one in modalities):
            return 'wait'
        failed = tuple(name for name, one in self._modalities.items() if one.state in FAILED)
        if not failed:
            return 'fusion'
        mode = _DEGRADED[self.settings.policy].get(failed, 'wait')
        # An empty mask needs the header of an RGB image.
        return 'wait' if mode == 'unlabeled' and self.states['rgb'] == 'dead' else mode

    @property
    def ages_ms(self) -> dict[str, float | None]:
        """The time since the last frame of `rgb` and of `x`, ms, or None before the first one."""
        return {name: None if one.received_ns is None
                else (self._now_ns - one.received_ns) / _NS_PER_MS
                for name, one in self._modalities.items()}

    def summary(self) -> dict[str, Any]:
        """
        Return the mode, and of each modality what is known, None where nothing is yet.

        That is its state, age, rate, rate by the stamps, jitter and newest `saturation`.
        """
        facts: dict[str, Any] = {'mode': self.mode}
        for name, one in self._modalities.items():
            facts |= {f'{name}_state': one.state, f'{name}_age_ms': self.ages_ms[name],
                      f'{name}_rate_hz': one.rate_hz(self._now_ns),
                      f'{name}_stamp_rate_hz': one.stamp_rate_hz(self._now_ns),
                      f'{name}_jitter_ms': one.jitter_ms(),
                      f'{name}_saturation': one.saturation}
        return facts
