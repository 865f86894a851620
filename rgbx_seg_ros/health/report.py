# Copyright 2026 rgbx_seg_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""
What the node tells about itself, in sections, each with a level and a sentence for a human.

DIAGNOSTICS names every value. It is the one place for the names: what is not in it is not told.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntEnum

from rgbx_seg_ros.health.monitor import FAILED, MODES, STATES
from rgbx_seg_ros.health.telemetry import QUANTITIES, SHARES
from rgbx_seg_ros.sync.pairing import DROP_REASONS

DROPS = {
    **DROP_REASONS,
    'rgb_malformed': 'RGB frame that cannot be read; `refusal` of rgb says why',
    'x_malformed': 'X frame that cannot be read; `refusal` of x says why',
    'x_unregistered': 'X frame that could not be brought onto RGB; `refusal` of x says why',
    'sensor_failed': 'frame or pair left out since its sensor has failed, or the other one has',
    'superseded': 'pair that gave way to a newer one while the engine was at work: normal where '
                  'the engine is slower than the cameras',
    'too_old': 'pair whose mask came out older than `max_age_ms`',
    'engine_failed': 'pair that the engine failed on; `failure` says why',
    'publish_failed': 'mask that the middleware did not take; `failure` says why',
}
"""Every reason for which a frame or a pair is dropped, and what it tells the user."""

_INPUT = {
    'state': f'one of {", ".join(STATES)}',
    'state_s': 'for how long reports have told of this state, s',
    'rate_hz': 'frames per second, by their receipt',
    'age_ms': 'time since the newest frame was received, ms',
    'jitter_ms': 'how far the times between frames lie off their median, percentile 95, ms',
    'stamp_age_ms': 'age of the newest frame by its stamp when it was received, ms; negative '
                    'where it is stamped in the future',
    'received': 'frames received since the node was configured',
    'topic': 'where they come from, after remapping',
    'publishers': 'how many there are of this topic',
    'qos': 'ok, or what the two sides offer and ask where that does not fit',
    'refusal': 'why the newest frame that could not be read was dropped, or none',
}

DIAGNOSTICS = {
    'segmentation': {
        'mode': f'what is published; one of {", ".join(MODES)}',
        'model': 'name of the model card',
        'engine': 'what runs the network',
        'device': 'where it runs',
        'uptime_s': 'time since the node was configured, s; counts begin there',
        'pairs': 'pairs made of the frames received',
        'masks': 'masks published',
        'masks_hz': 'masks published per second, since the report before',
        'failure': 'what the engine or the middleware said when they failed on the newest pair, '
                   'or none',
        **{f'drops.{reason}': f'{meaning}; absent while there is none'
           for reason, meaning in DROPS.items()},
    },
    'rgb': _INPUT,
    'x': {
        **_INPUT,
        'registration': 'how X is brought onto RGB',
        'drift': 'what is wrong with the registration by now, or none',
    },
    'sync': {
        'policy': 'how pairs are found',
        'pairs_hz': 'pairs per second, since the report before',
        'slop_ms': 'longest time allowed between the two frames of a pair, ms',
        'x_offset_ms': 'what is added to the stamps of X, ms',
        'newest_apart_ms': 'stamp of the newest X frame minus that of the newest RGB frame, '
                           'whether they are a pair or not, ms',
        'clock_jumps': 'how often the clock of a camera was set back',
    },
    'timing': {},
}
"""The values of each section by name, with what they mean; `n/a` stands for what is not known."""

for _name, _meaning in QUANTITIES.items():
    _section = 'sync' if _name in ('offset_ms', 'distance_ms') else 'timing'
    for _share in SHARES:
        DIAGNOSTICS[_section][f'{_name}_p{_share}'] = (
            f'percentile {_share} of the newest pairs: {_meaning}, ms')

_AHEAD_MS, _BEHIND_MS = -50.0, 60_000.0
"""Stamps beyond these are of another clock; simulated time comes a little late by its nature."""


class Level(IntEnum):
    """How bad it is, with the numbers of diagnostic_msgs/DiagnosticStatus."""

    OK = 0
    WARN = 1
    ERROR = 2
    STALE = 3


@dataclass(frozen=True)
class Status:
    """One section of a report."""

    level: Level
    message: str
    """What is wrong and what to do about it, or how well it goes."""
    values: Mapping[str, str]
    """By the names in DIAGNOSTICS."""
    hardware_id: str = ''


@dataclass(frozen=True, kw_only=True)
class InputReport:
    """The topic of one camera as the node sees it."""

    topic: str
    received: int
    publishers: int
    frame_id: str = ''
    """Of the newest frame."""
    stamp_age_ms: float | None = None
    """Of the newest frame when it was received; None before the first."""
    qos: str = ''
    """What the two sides offer and ask where that does not fit, else empty."""
    refusal: str = ''
    """Why the newest of the malformed frames was dropped; empty before the first."""


@dataclass(frozen=True, kw_only=True)
class NodeReport:
    """The state of the node at one moment."""

    model: str
    engine: str
    device: str
    uptime_s: float
    health: Mapping[str, str | float | None]
    """What Health.summary returns."""
    rgb: InputReport
    x: InputReport
    pairs: int
    masks: int
    drops: Mapping[str, int]
    """How often each of DROPS has happened."""
    percentiles: Mapping[str, float | None]
    """What Telemetry.percentiles returns."""
    policy: str
    slop_ms: float
    x_offset_ms: float
    newest_apart_ms: float | None
    clock_jumps: int
    failure: str = ''
    """What went wrong with the newest pair; empty if nothing did."""
    registration: str = 'none'
    drift: str = ''
    """What is wrong with the registration; empty if nothing is."""


class Assessor:
    """
    Finds what to tell of one report after another.

    Rates, whether something happens right now and how long a state lasts come from the reports
    before.
    """

    def __init__(self):
        self._before = None
        self._entered = {}

    def assess(self, report: NodeReport) -> dict[str, Status]:
        """Return the sections of DIAGNOSTICS."""
        if self._before is None or self._before.uptime_s >= report.uptime_s:
            self._before, self._entered = report, {}
        since = _Since(report, self._before)
        self._before = report
        rgb = _input('rgb', report, since, self._lasts_s('rgb', report))
        x = _input('x', report, since, self._lasts_s('x', report))
        sync = _sync(report, since)
        return {'segmentation': _segmentation(report, since, rgb, x, sync), 'rgb': rgb, 'x': x,
                'sync': sync, 'timing': _timing(report, since)}

    def _lasts_s(self, name, report):
        """Return for how long the state of a camera has been told."""
        state = report.health[f'{name}_state']
        before, entered_s = self._entered.get(name, (None, 0.0))
        if state != before:
            entered_s = report.uptime_s
            self._entered[name] = state, entered_s
        return report.uptime_s - entered_s


class _Since:
    """What has happened since the report before; nothing, if that is the same."""

    def __init__(self, report, before):
        self._report, self._before = report, before
        self.seconds = report.uptime_s - before.uptime_s

    def count(self, count):
        """Return how much a count has grown, which `count` takes from a report."""
        return count(self._report) - count(self._before)

    def drops(self, reason):
        """Return how often that happened."""
        return self.count(lambda report: report.drops.get(reason, 0))

    def rate_hz(self, count):
        """Return the same per second; None before there is a report before."""
        return self.count(count) / self.seconds if self.seconds else None

    def is_fusing(self):
        """Return whether both reports have this mode."""
        return all(r.health['mode'] == 'fusion' for r in (self._report, self._before))


def _segmentation(report, since, rgb, x, sync):
    mode, masks_hz = report.health['mode'], since.rate_hz(lambda r: r.masks)
    wrong = '; '.join(status.message for status in (rgb, x) if status.level != Level.OK)
    level, message = Level.WARN, wrong
    if report.failure:
        level, message = Level.ERROR, f'pairs are lost: {report.failure}'
    elif not report.masks:
        message = f'no mask yet: {wrong or sync.message}'
    elif mode == 'wait':
        level, message = Level.ERROR, f'no mask is published: {wrong or sync.message}'
    elif mode == 'unlabeled':
        level, message = Level.ERROR, f'every pixel is unlabeled: {wrong or sync.message}'
    elif mode != 'fusion':
        alone = mode.partition('_')[0]
        message = f'masks come from {alone} alone: {wrong or "both are back, about to return"}'
    elif not wrong and sync.level != Level.OK:
        message = sync.message
    elif not wrong:
        level = Level.OK
        message = 'segmenting' if masks_hz is None else f'segmenting, {masks_hz:.1f} masks/s'
    return _status('segmentation', level, message, report.model, {
        'mode': mode, 'model': report.model, 'engine': report.engine,
        'device': report.device, 'uptime_s': report.uptime_s, 'pairs': report.pairs,
        'masks': report.masks, 'masks_hz': masks_hz, 'failure': report.failure or 'none',
        **{f'drops.{reason}': count for reason, count in sorted(report.drops.items())
           if count}})


def _input(name, report, since, lasts_s):
    """Return the section of one camera, which has been in its state for `lasts_s`."""
    given = getattr(report, name)
    state, rate_hz, age_ms, jitter_ms = (
        report.health[f'{name}_{key}'] for key in ('state', 'rate_hz', 'age_ms', 'jitter_ms'))
    values = {
        'state': state, 'state_s': lasts_s, 'rate_hz': rate_hz, 'age_ms': age_ms,
        'jitter_ms': jitter_ms, 'stamp_age_ms': given.stamp_age_ms, 'received': given.received,
        'topic': given.topic, 'publishers': given.publishers, 'qos': given.qos or 'ok',
        'refusal': given.refusal or 'none'}
    if name == 'x':
        values |= {'registration': report.registration, 'drift': report.drift or 'none'}
    refused = since.drops(f'{name}_malformed')
    hint = f'it has {given.publishers} publisher(s), are type and QoS the same?'
    if not given.publishers:
        hint = f'nobody publishes it: start the driver, or remap {name}/image'
    if given.qos:
        hint = f'QoS does not fit: {given.qos}'
    if not given.received:
        level = Level.ERROR if state == 'dead' else Level.STALE
        message = f'no frame on {given.topic} yet: {hint}'
    elif refused:
        level = Level.ERROR if state in FAILED else Level.WARN
        message = f'{name}: {refused} frame(s) could not be read just now: {given.refusal}'
    elif age_ms is None:
        level = Level.ERROR
        message = f'no frame of {name} has a usable stamp: let its driver set header.stamp'
    elif state != 'ok':
        level = Level.ERROR if state in FAILED else Level.WARN
        lasts = f' for {_span(1e3 * lasts_s)}' if lasts_s else ''
        message = f'{name} is {state}{lasts}: {_advice(state, given, age_ms)}'
    elif given.qos:
        level, message = Level.WARN, f'{name}: not every publisher is heard: {hint}'
    elif given.stamp_age_ms is not None and not _AHEAD_MS <= given.stamp_age_ms <= _BEHIND_MS:
        side = 'ahead of' if given.stamp_age_ms < 0 else 'behind'
        level, message = Level.WARN, (
            f"{name} is stamped {_span(abs(given.stamp_age_ms))} {side} this node's clock: "
            'synchronise them (chrony, PTP); for a bag set use_sim_time and play it with --clock')
    elif name == 'x' and report.drift:
        level, message = Level.WARN, f'x no longer lies on rgb: {report.drift}'
    else:
        level, message = Level.OK, f'{name} is ok'
    return _status(name, level, message, given.frame_id or report.model, values)


def _advice(state, given, age_ms):
    """Return what a state means, and what to do."""
    ago = _span(age_ms)
    dead = ('its publisher is still there, look at the camera and its cable' if given.publishers
            else 'its publisher is gone, start the driver')
    return {
        'late': f'its newest frame came {ago} ago; look at its driver, the network and the load '
                'of this machine',
        'frozen': 'the same pixels under new stamps; restart its driver, or the camera itself',
        'saturated': 'nearly all pixels have one value; look for a covered lens or a closed '
                     'shutter, then at exposure and gain',
        'dead': f'no frame on {given.topic} for {ago}; {dead}',
    }[state]


def _sync(report, since):
    both = min(since.count(lambda r: r.rgb.received) - since.drops('rgb_malformed'),
               since.count(lambda r: r.x.received) - since.drops('x_malformed'))
    pairs_hz = since.rate_hz(lambda r: r.pairs)
    offset_ms, apart_ms = report.percentiles['offset_ms_p50'], report.newest_apart_ms
    rest_ms = 0.0 if offset_ms is None else offset_ms + report.x_offset_ms
    level = Level.WARN
    if since.count(lambda r: r.clock_jumps):
        message = 'a camera clock was set back (a bag that starts again?), pairing began anew'
    elif both > 1 and not since.count(lambda r: r.pairs) and since.is_fusing():
        apart = '' if apart_ms is None else f'the newest stamps are {apart_ms:.0f} ms apart, '
        message = (f'both cameras deliver, but no two frames pair: {apart}allowed are '
                   f'{report.slop_ms:g} (sync.slop_ms); synchronise their clocks, or set '
                   'sync.x_offset_ms')
    elif abs(rest_ms) > report.slop_ms / 2 > 0:
        message = (f'x is stamped {abs(offset_ms):.1f} ms {"after" if offset_ms > 0 else "before"}'
                   f' rgb at the median: set sync.x_offset_ms to {-offset_ms:.1f}')
    elif offset_ms is None:
        level, message = Level.STALE, 'no pair of frames yet'
    else:
        level, message = Level.OK, f'x is {offset_ms:+.1f} ms off rgb at the median'
    return _status('sync', level, message, report.model, {
        'policy': report.policy, 'pairs_hz': pairs_hz, 'slop_ms': report.slop_ms,
        'x_offset_ms': report.x_offset_ms, 'newest_apart_ms': apart_ms,
        'clock_jumps': report.clock_jumps, **_percentiles('sync', report)})


def _timing(report, since):
    half, most = (report.percentiles[f'latency_ms_{share}'] for share in ('p50', 'p99'))
    old = since.drops('too_old')
    level = Level.WARN
    if old:
        message = (f'{old} mask(s) were too old just now: take a smaller model or input, or raise '
                   'max_age_ms')
    elif half is None:
        level, message = Level.STALE, 'no mask yet'
    else:
        level = Level.OK
        message = f'capture to publish takes {_span(half)} at the median, {_span(most)} at p99'
        if since.drops('superseded'):
            message += ', and the engine is slower than the cameras'
    return _status('timing', level, message, report.model, _percentiles('timing', report))


def _percentiles(section, report):
    return {name: value for name, value in report.percentiles.items()
            if name in DIAGNOSTICS[section]}


def _status(section, level, message, hardware_id, values):
    """Return the section with its values as text."""
    return Status(level, message, {name: _text(value) for name, value in values.items()},
                  hardware_id)


def _text(value) -> str:
    if value is None:
        return 'n/a'
    return f'{value:.2f}' if isinstance(value, float) else str(value)


def _span(ms) -> str:
    """Return a time as a human reads it."""
    return f'{ms:.0f} ms' if ms < 1000 else f'{ms / 1e3:.1f} s'
