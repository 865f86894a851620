# Copyright 2026 rgbx_seg_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""What reports of a node come to: how bad it is, why, and what to do about it."""

from collections.abc import Callable, Mapping
from typing import Any

from rgbx_seg_ros.health.monitor import FAILED
from rgbx_seg_ros.health.report import (
    DIAGNOSTICS,
    DROPS,
    InputReport,
    Level,
    NodeReport,
    Status,
)

_AHEAD_MS, _BEHIND_MS = -50.0, 60_000.0
"""Stamps beyond these are of another clock; simulated time comes a little late by its nature."""
_SILENT_S = 5.0
"""Without a mask for so long something is wrong, however slow the engine is."""
_CLOCK_ADVICE = {
    'system': 'synchronise the clocks of all computers (chrony, PTP); for a bag or a simulator '
              'set use_sim_time and let it publish /clock (ros2 bag play --clock)',
    'simulated': 'use_sim_time is true: let its stamps come from /clock too, or set it to false',
}
_ENDS = ('x_unregistered', 'too_old', 'engine_failed', 'publish_failed')
"""Where a pair ends that has reached the engine: not the older ones, which gave way to it."""
_ON_THE_WAY = ('superseded', 'rgb_malformed', 'x_malformed')
"""Where other pairs end; frames that find no partner beside them are no reason."""
_TOLD_IN = {
    **{f'{name}_{reason}': name for name in ('rgb', 'x')
       for reason in ('malformed', 'no_stamp', 'duplicate', 'out_of_order')},
    **dict.fromkeys(('rgb_no_partner', 'x_unused', 'rgb_queue_full', 'x_queue_full', 'rgb_reset',
                     'x_reset'), 'sync'),
    'x_unregistered': 'x', 'too_old': 'timing',
}
"""The section that knows more of a drop than its name."""


class Assessor:
    """
    Finds what to tell of one report after another.

    Rates, whether something happens right now and how long a state lasts come from the reports
    before.
    """

    def __init__(self) -> None:
        self._first: NodeReport | None = None
        self._before: NodeReport | None = None
        self._entered: dict[str, tuple[str, float]] = {}
        self.silence = ''
        """Why no mask has come for 5 s although both cameras deliver; empty where one has."""

    def assess(self, report: NodeReport) -> dict[str, Status]:
        """Return the sections of DIAGNOSTICS; `record` where something is recorded."""
        if self._first is None or self._before is None or self._before.uptime_s >= report.uptime_s:
            self._first = self._before = report
            self._entered, self._masks = {}, _Masks(report)
        since = _Since(report, self._before, self._first)
        self._before = report
        self._masks.take(report)
        rgb = _input('rgb', report, since, self._lasts_s('rgb', report))
        x = _input('x', report, since, self._lasts_s('x', report))
        told = {'rgb': rgb, 'x': x, 'sync': _sync(report, since), 'timing': _timing(report, since)}
        silent = self._masks.missed and self._masks.quiet_s >= _SILENT_S and since.delivers()
        head = _segmentation(report, since, self._masks, silent, told)
        self.silence = head.message if silent else ''
        if report.record is not None:
            told['record'] = _record(report, report.record, since)
        return {'segmentation': head, **told}

    def _lasts_s(self, name: str, report: NodeReport) -> float:
        """Return for how long the state of a camera has been told."""
        state = report.health[f'{name}_state']
        before, entered_s = self._entered.get(name, ('', 0.0))
        if state != before:
            entered_s = report.uptime_s
            self._entered[name] = state, entered_s
        return report.uptime_s - entered_s


class _Since:
    """What has happened since the report before; nothing, if that is the same."""

    def __init__(self, report: NodeReport, before: NodeReport, first: NodeReport):
        self._report, self._before, self._first = report, before, first
        self.seconds = report.uptime_s - before.uptime_s

    def count(self, count: Callable[[NodeReport], int]) -> int:
        """Return how much a count has grown, which `count` takes from a report."""
        return count(self._report) - count(self._before)

    def received(self, name: str) -> int:
        """Return how many frames of a camera have come."""
        return self.count(lambda report: getattr(report, name).received)

    def was_heard(self, name: str) -> bool:
        """Return whether any frame of a camera has come since the first report."""
        return getattr(self._report, name).received > getattr(self._first, name).received

    def delivers(self) -> bool:
        """Return whether a camera delivers, and both have done so once."""
        heard = self._report.rgb.received > 0 and self._report.x.received > 0
        return heard and any(self.received(name) for name in ('rgb', 'x'))

    def drops(self, reason: str) -> int:
        """Return how often that happened."""
        return self.count(lambda report: report.drops.get(reason, 0))

    def rate_hz(self, count: Callable[[NodeReport], int]) -> float | None:
        """Return the same per second; None before there is a report before."""
        return self.count(count) / self.seconds if self.seconds else None

    def is_fusing(self) -> bool:
        """Return whether both reports have this mode."""
        return all(r.health['mode'] == 'fusion' for r in (self._report, self._before))


class _Masks:
    """How masks come: a camera that is slower than the reports makes none between some of them."""

    def __init__(self, report: NodeReport):
        self._count, self._grown_s = report.masks, report.uptime_s
        self.rate_hz: float | None = None
        self.quiet_s = 0.0
        """Time since the newest report that told of new masks, or since the first one."""
        self.missed = False
        """Whether one should have come since."""

    def take(self, report: NodeReport) -> None:
        passed_s = report.uptime_s - self._grown_s
        if report.masks != self._count:
            self.rate_hz = (report.masks - self._count) / passed_s
            self._count, self._grown_s, passed_s = report.masks, report.uptime_s, 0.0
        rates_hz = [report.health[f'{name}_rate_hz'] for name in ('rgb', 'x')]
        # A pair may be lost on the way.
        patience_s = max((2 / rate_hz for rate_hz in rates_hz if rate_hz), default=0.0)
        self.quiet_s, self.missed = passed_s, passed_s > patience_s
        if self.missed:
            self.rate_hz = 0.0


def stamp_trouble(name: str, stamp_age_ms: float | None, clock: str, most_ms: float) -> str:
    """
    Return what is wrong with the clocks and what to do; empty where nothing is.

    `stamp_age_ms` is the age that a frame of `name` had by its stamp when it was received, `clock`
    a key of CLOCKS, `most_ms` the age that the way from the camera may take.
    """
    if clock == 'waiting':
        return ('use_sim_time is true, but nothing has come on /clock, so the clock of this node '
                'stands still: start what publishes it (a simulator, ros2 bag play --clock), or '
                'set use_sim_time to false')
    if stamp_age_ms is None or _AHEAD_MS <= stamp_age_ms <= min(most_ms, _BEHIND_MS):
        return ''
    side = 'ahead of' if stamp_age_ms < 0 else 'behind'
    advice = _CLOCK_ADVICE[clock]
    if 0 < stamp_age_ms <= _BEHIND_MS:
        advice += '; or its driver or the network holds frames back for so long'
    return f"{name} is stamped {_span(abs(stamp_age_ms))} {side} this node's clock: {advice}"


def too_old(name: str, stamp_age_ms: float | None, clock: str, max_age_ms: float) -> str:
    """Return why a mask of a frame of `name` came out too old, and what to do."""
    # Beyond _BEHIND_MS and without a clock, ages are counted from the receipt.
    if clock != 'waiting' and stamp_age_ms is not None and stamp_age_ms <= _BEHIND_MS:
        clocks = stamp_trouble(name, max(stamp_age_ms, 0.0), clock, max_age_ms / 2)
        if clocks:
            return clocks
    return 'take a smaller model or input, or raise max_age_ms'


def _segmentation(report: NodeReport, since: _Since, masks: _Masks, silent: bool,
                  told: dict[str, Status]) -> Status:
    mode = report.health['mode']
    rgb, x, sync = told['rgb'], told['x'], told['sync']
    wrong = '; '.join(dict.fromkeys(s.message for s in (rgb, x) if s.level != Level.OK))
    level, message = Level.WARN, wrong
    if report.failure:
        level, message = Level.ERROR, f'pairs are lost: {report.failure}'
    elif not report.masks or mode == 'wait' or masks.missed:
        failed = any(report.health[f'{name}_state'] in FAILED for name in ('rgb', 'x'))
        if failed or silent:
            level = Level.ERROR
        what = 'no mask yet'
        if report.masks:
            what = (f'no mask for {_span(1e3 * masks.quiet_s)}' if masks.missed
                    else 'no mask is published')
        out = mode == 'wait' and failed
        message = f'{what}: {wrong if out else _reason(since, told, wrong)}'
    elif mode == 'unlabeled':
        level, message = Level.ERROR, f'every pixel is unlabeled: {wrong or sync.message}'
    elif mode != 'fusion':
        alone = mode.partition('_')[0]
        message = f'masks come from {alone} alone: {wrong or "both are back, about to return"}'
    elif not wrong and sync.level != Level.OK:
        message = sync.message
    elif not wrong:
        level, message = Level.OK, 'segmenting'
        if masks.rate_hz is not None:
            message += (f', {masks.rate_hz:.1f} masks/s' if masks.rate_hz >= 1
                        else f', a mask every {_span(1e3 / masks.rate_hz)}')
    return _status('segmentation', level, message, report.model, {
        'mode': mode, 'model': report.model, 'engine': report.engine,
        'device': report.device, 'clock': report.clock, 'uptime_s': report.uptime_s,
        'pairs': report.pairs, 'masks': report.masks, 'masks_hz': masks.rate_hz,
        'failure': report.failure or 'none', 'frame_rate_node': masks.rate_hz,
        'current_delay_from_realtime_ms': report.percentiles['latency_ms_p50'],
        **{f'drops.{reason}': count for reason, count in sorted(report.drops.items())
           if count}})


def _reason(since: _Since, told: dict[str, Status], wrong: str) -> str:
    """Return why no mask comes where the mode is no reason: by what has cost most just now."""
    others = _ON_THE_WAY if since.count(lambda r: r.pairs) else DROPS.keys() - {'sensor_failed'}
    for reasons in (_ENDS, others):
        grown = {reason: since.drops(reason) for reason in DROPS if reason in reasons}
        most = max(grown.values())
        if most:
            break
    else:
        sync = told['sync']
        return wrong or (sync.message if sync.level != Level.OK else 'the engine is at work')
    texts = []
    for reason in (reason for reason, count in grown.items() if count == most):
        text = f'{most} {reason} ({DROPS[reason]})'
        if reason in _TOLD_IN:
            section = told[_TOLD_IN[reason]]
            text = section.message if section.level != Level.OK else wrong or text
        texts.append(text)
    return '; '.join(dict.fromkeys(texts))


def _input(name: str, report: NodeReport, since: _Since, lasts_s: float) -> Status:
    """Return the section of one camera, which has been in its state for `lasts_s`."""
    given = getattr(report, name)
    state, rate_hz, age_ms, jitter_ms, stamp_rate_hz, saturation = (
        report.health[f'{name}_{key}'] for key in (
            'state', 'rate_hz', 'age_ms', 'jitter_ms', 'stamp_rate_hz', 'saturation'))
    values = {
        'state': state, 'state_s': lasts_s, 'rate_hz': rate_hz, 'age_ms': age_ms,
        'jitter_ms': jitter_ms, 'saturation': saturation, 'stamp_age_ms': given.stamp_age_ms,
        'received': given.received, 'topic': given.topic, 'publishers': given.publishers,
        'type': given.kind or 'ok', 'qos': given.qos or 'ok', 'refusal': given.refusal or 'none',
        'frame_rate_node': rate_hz, 'frame_rate_msg': stamp_rate_hz,
        'current_delay_from_realtime_ms': given.stamp_age_ms}
    if name == 'x':
        values |= {'registration': report.registration, 'drift': report.drift or 'none'}
    else:
        values['dark'] = report.dark or 'none'
    level, message = _trouble(name, report, since, lasts_s)
    return _status(name, level, message, given.frame_id or report.model, values)


def _trouble(name: str, report: NodeReport, since: _Since, lasts_s: float) -> tuple[Level, str]:
    """Return how bad it is with a camera, and what to do."""
    given = getattr(report, name)
    state, age_ms = report.health[f'{name}_state'], report.health[f'{name}_age_ms']
    level = Level.ERROR if state in FAILED else Level.WARN
    refused, received = since.drops(f'{name}_malformed'), since.received(name)
    hint = f'it has {given.publishers} publisher(s), is the QoS the same?'
    if not given.publishers:
        hint = f'nobody publishes it: start the driver, or remap {name}/image'
    if given.kind:
        hint = given.kind
    elif given.qos:
        hint = f'QoS does not fit: {given.qos}'
    if not given.received or (age_ms is None and not since.was_heard(name)):
        return level, f'no frame on {given.topic} yet: {hint}'
    if refused:
        return level, f'{name}: {refused} frame(s) could not be read just now: {given.refusal}'
    if age_ms is None and given.refusal:
        return level, f'{name}: no frame could be used yet: {given.refusal}'
    # All that came since the report before have come since the newest frame that was of use.
    useless = received and state != 'ok' and (age_ms is None or age_ms > 1e3 * since.seconds)
    if age_ms is None or (useless and given.stamp_age_ms is None):
        return Level.ERROR, f'the frames of {name} have no stamp: let its driver set header.stamp'
    if useless:
        return level, (f'{name}: {received} frame(s) came just now, none with a newer stamp than '
                       'one before: let its driver stamp each frame anew')
    unregistered = since.drops(f'{name}_unregistered')
    if unregistered:
        return level, (f'{name}: {unregistered} frame(s) could not be brought onto rgb just now: '
                       f'{given.refusal}')
    if state != 'ok':
        lasts = f' for {_span(1e3 * lasts_s)}' if lasts_s else ''
        share = report.health[f'{name}_saturation']
        return level, f'{name} is {state}{lasts}: {_advice(state, given, age_ms, share)}'
    if given.qos:
        return level, f'{name}: not every publisher is heard: {hint}'
    stamp_age_ms = given.stamp_age_ms
    if name == 'x' and stamp_age_ms is not None:
        stamp_age_ms -= report.x_offset_ms
    stamps = stamp_trouble(name, stamp_age_ms, report.clock, report.max_age_ms)
    if stamps:
        return level, stamps
    if name == 'x' and report.drift:
        return level, f'x no longer lies on rgb: {report.drift}'
    if name == 'rgb' and report.dark:
        return level, f'rgb is dark: {report.dark}'
    return Level.OK, f'{name} is ok'


def _advice(state: str, given: InputReport, age_ms: float, share: float) -> str:
    """Return what a state means, and what to do."""
    if state == 'saturated':
        return (f'{100 * share:.1f} % of its pixels are at a limit or have one value; look for a '
                'covered lens or a closed shutter, then at exposure and gain; a simulated scene '
                'of one value looks the same: raise health.saturated_share (1: never)')
    ago = _span(age_ms)
    dead = ('its publisher is still there, look at the camera and its cable' if given.publishers
            else 'its publisher is gone, start the driver')
    return {
        'late': f'its newest frame came {ago} ago; look at its driver, the network and the load '
                'of this machine',
        'frozen': 'the same pixels under new stamps; restart its driver, or the camera itself; '
                  'for a simulated camera without noise set health.frozen_ms to 0',
        'dead': f'no frame on {given.topic} for {ago}; {dead}',
    }[state]


def _sync(report: NodeReport, since: _Since) -> Status:
    both = min(since.received('rgb') - since.drops('rgb_malformed'),
               since.received('x') - since.drops('x_malformed'))
    pairs_hz = since.rate_hz(lambda r: r.pairs)
    offset_ms, apart_ms = report.percentiles['offset_ms_p50'], report.newest_apart_ms
    level = Level.WARN
    if since.count(lambda r: r.clock_jumps):
        message = 'a camera clock was set back (a bag that starts again?), pairing began anew'
    elif both > 1 and not since.count(lambda r: r.pairs) and since.is_fusing():
        apart = '' if apart_ms is None else f'the newest stamps are {apart_ms:.0f} ms apart, '
        message = (f'both cameras deliver, but no two frames pair: {apart}allowed are '
                   f'{report.slop_ms:g} (sync.slop_ms); synchronise their clocks (chrony, PTP), '
                   'or set sync.x_offset_ms')
    elif offset_ms is None:
        message = 'no pair of frames yet'
    elif abs(offset_ms + report.x_offset_ms) > report.slop_ms / 2 > 0:
        message = (f'x is stamped {abs(offset_ms):.1f} ms {"after" if offset_ms > 0 else "before"}'
                   f' rgb at the median: set sync.x_offset_ms to {-offset_ms:.1f}')
    else:
        level, message = Level.OK, f'x is {offset_ms:+.1f} ms off rgb at the median'
    return _status('sync', level, message, report.model, {
        'policy': report.policy, 'pairs_hz': pairs_hz, 'slop_ms': report.slop_ms,
        'x_offset_ms': report.x_offset_ms, 'newest_apart_ms': apart_ms,
        'clock_jumps': report.clock_jumps, **_percentiles('sync', report)})


def _timing(report: NodeReport, since: _Since) -> Status:
    half, most = (report.percentiles[f'latency_ms_{share}'] for share in ('p50', 'p99'))
    old = since.drops('too_old')
    level = Level.WARN
    if old:
        name = 'x' if report.health['mode'] == 'x_only' else 'rgb'
        why = too_old(name, getattr(report, name).stamp_age_ms, report.clock, report.max_age_ms)
        message = f'{old} mask(s) were too old just now: {why}'
    elif half is None or most is None:
        message = 'no mask yet'
    else:
        level = Level.OK
        message = f'capture to publish takes {_span(half)} at the median, {_span(most)} at p99'
        if since.drops('superseded'):
            message += ', and the engine is slower than the cameras'
    return _status('timing', level, message, report.model, _percentiles('timing', report))


def _record(report: NodeReport, record: Mapping[str, Any], since: _Since) -> Status:
    dropped = since.count(lambda r: r.record['dropped'] if r.record else 0)
    level, message = Level.WARN, record['failure']
    if message != 'none':
        pass
    elif dropped:
        message = (f'{dropped} message(s) were not recorded just now: the disk is too slow for '
                   'them, raise record.max_ring_mb')
    else:
        level = Level.OK
        message = {
            'waiting': f'the last {record["ring_s"]:.1f} s wait for an event',
            'recording': f'an event is recorded to {record["newest"]!r}',
            'cooldown': 'events are only counted, as one was recorded just now',
        }[record['state']]
    return _status('record', level, message, report.model, dict(record))


def _percentiles(section: str, report: NodeReport) -> dict[str, float | None]:
    return {name: value for name, value in report.percentiles.items()
            if name in DIAGNOSTICS[section]}


def _status(section: str, level: Level, message: str, hardware_id: str,
            values: dict[str, Any]) -> Status:
    """Return the section with its values as text."""
    return Status(level, message, {name: _text(value) for name, value in values.items()},
                  hardware_id)


def _text(value: Any) -> str:
    if value is None:
        return 'n/a'
    return f'{value:.2f}' if isinstance(value, float) else str(value)


def _span(ms: float) -> str:
    """Return a time as a human reads it."""
    return f'{ms:.0f} ms' if ms < 1000 else f'{ms / 1e3:.1f} s'
