# Copyright 2026 rgbx_seg_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""
What the node tells about itself, in sections, each with a level and a sentence for a human.

DIAGNOSTICS names every value. It is the one place for the names: what is not in it is not told.
What greenwave_monitor and ros2_medkit look for by names of theirs is told under those as well.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntEnum
from typing import Any

from rgbx_seg_ros.health.monitor import MODES, STATES
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

CLOCKS = {
    'system': "the machine's",
    'simulated': '/clock, since use_sim_time is true',
    'waiting': 'use_sim_time is true, but nothing has come on /clock',
}
"""What the clock of the node follows; its name, and what it tells the user."""

_INPUT = {
    'state': f'one of {", ".join(STATES)}',
    'state_s': 'for how long reports have told of this state, s',
    'rate_hz': 'frames per second, by their receipt',
    'age_ms': 'time since the newest frame was received, ms',
    'jitter_ms': 'how far the times between frames lie off their median, percentile 95, ms',
    'saturation': 'share of pixels at a limit of their type, or of one value, 0..1; above '
                  'health.saturated_share the sensor has failed',
    'stamp_age_ms': 'age of the newest frame by its stamp when it was received, ms; negative '
                    'where it is stamped in the future',
    'received': 'frames received since the node was configured',
    'topic': 'where they come from, after remapping',
    'publishers': 'how many there are of this topic',
    'type': 'ok, or as what it is published where the node takes another type',
    'qos': 'ok, or what the two sides offer and ask where that does not fit',
    'refusal': 'why the newest frame that could not be used was dropped, or none',
    'frame_rate_node': 'rate_hz, for other tools',
    'frame_rate_msg': 'frames per second, by their stamps',
    'current_delay_from_realtime_ms': 'stamp_age_ms, for other tools',
}

DIAGNOSTICS = {
    'segmentation': {
        'mode': f'what is published; one of {", ".join(MODES)}',
        'model': 'name of the model card',
        'engine': 'what runs the network',
        'device': 'where it runs',
        'clock': f'what ages are told by; one of {", ".join(CLOCKS)}',
        'uptime_s': 'time since the node was configured, s; counts begin there',
        'pairs': 'pairs made of the frames received',
        'masks': 'masks published',
        'masks_hz': 'masks published per second, between the newest reports that tell of new ones',
        'failure': 'what the engine or the middleware said when they failed on the newest pair, '
                   'or none',
        'frame_rate_node': 'masks_hz, for other tools',
        'current_delay_from_realtime_ms': 'latency_ms_p50, for other tools',
        **{f'drops.{reason}': f'{meaning}; absent while there is none'
           for reason, meaning in DROPS.items()},
    },
    'rgb': {
        **_INPUT,
        'dark': 'what is wrong with the bits of 16-bit frames, or none',
    },
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
    'record': {
        'state': 'waiting for an event, recording one, or cooldown: events are only counted',
        'events': 'events so far, since the node became active, as all counts here',
        'files': 'recordings written',
        'suppressed': 'events that came while one was recorded, or within record.cooldown_s',
        'dropped': 'messages that should have been recorded, and gave way to newer ones as '
                   'record.max_ring_mb was reached, or to the end of the node',
        'ring_s': 'time since the oldest message in memory came, s',
        'ring_mb': 'size of the messages in memory, MB',
        'used_mb': 'size of the recordings in the folder, MB',
        'disagreement': 'share of the pixels to which RGB alone and X alone gave other classes '
                        'when they were last compared, see record.events, or none',
        'folder': 'where they are',
        'newest': 'path of the newest one, or none',
        'failure': 'why the newest event is not recorded, or not to its end, or none',
    },
}
"""
The values of each section by name, with what they mean; `n/a` stands for what is not known.

The section `record` is there while `record.folder` is set.
"""

for _name, _meaning in QUANTITIES.items():
    _section = 'sync' if _name in ('offset_ms', 'distance_ms') else 'timing'
    for _share in SHARES:
        DIAGNOSTICS[_section][f'{_name}_p{_share}'] = (
            f'percentile {_share} of the newest pairs: {_meaning}, ms')


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
    """Of the newest frame when it was received; None before the first and without a stamp."""
    kind: str = ''
    """As what it is published, and what the node takes, where that is not the same, else empty."""
    qos: str = ''
    """What the two sides offer and ask where that does not fit, else empty."""
    refusal: str = ''
    """Why the newest frame that could not be used was dropped; empty before the first."""


@dataclass(frozen=True, kw_only=True)
class NodeReport:
    """The state of the node at one moment."""

    model: str
    engine: str
    device: str
    uptime_s: float
    health: Mapping[str, Any]
    """What Health.summary returns."""
    rgb: InputReport
    x: InputReport
    pairs: int
    masks: int
    drops: Mapping[str, int]
    """How often each of DROPS has happened."""
    percentiles: Mapping[str, float | None]
    """What Telemetry.percentiles returns."""
    clock: str
    """A key of CLOCKS."""
    max_age_ms: float
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
    dark: str = ''
    """What is wrong with the bits of 16-bit colour frames; empty if nothing is."""
    record: Mapping[str, Any] | None = None
    """What BlackBox.summary returns; None where nothing is recorded."""
