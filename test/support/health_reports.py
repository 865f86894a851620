# Copyright 2026 rgbx_seg_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""Reports of a node for the tests of what is told and shown of them."""

from rgbx_seg_ros.health.report import InputReport, NodeReport
from rgbx_seg_ros.health.telemetry import QUANTITIES

HEALTHY = {
    'mode': 'fusion',
    'rgb_state': 'ok', 'rgb_age_ms': 12.3, 'rgb_rate_hz': 29.98, 'rgb_stamp_rate_hz': 30.0,
    'rgb_jitter_ms': 1.24, 'rgb_saturation': 0.02,
    'x_state': 'ok', 'x_age_ms': 31.2, 'x_rate_hz': 25.01, 'x_stamp_rate_hz': 25.0,
    'x_jitter_ms': 0.9, 'x_saturation': 0.01,
}
"""What Health.summary returns while all is well."""

RECORD = {
    'state': 'waiting', 'events': 3, 'files': 2, 'suppressed': 1, 'dropped': 0, 'ring_s': 10.0,
    'ring_mb': 460.8, 'used_mb': 912.5, 'disagreement': 0.12, 'folder': '/data',
    'newest': '/data/rgbx_seg_2', 'failure': 'none',
}
"""What BlackBox.summary returns while all is well."""

_MS = {'latency_ms': 80.0, 'inference_ms': 45.0, 'offset_ms': 3.0, 'distance_ms': 4.0}


def sample_report(uptime_s, rgb_received=None, x_received=None, **changes) -> NodeReport:
    """
    Return the report of a healthy node after `uptime_s`, with changes.

    A change `x_qos` is one of the field `qos` of `x`.
    """
    inputs = {}
    for name, received, rate_hz in (('rgb', rgb_received, 30), ('x', x_received, 25)):
        fields = {field: changes.pop(f'{name}_{field}')
                  for field in ('stamp_age_ms', 'publishers', 'kind', 'qos', 'refusal')
                  if f'{name}_{field}' in changes}
        inputs[name] = InputReport(**{
            'topic': f'/cam/{name}/image', 'publishers': 1, 'frame_id': f'{name}_optical',
            'received': round(1000 + rate_hz * uptime_s) if received is None else received,
            **fields})
    percentiles = {f'{name}_p{share}': _MS.get(name, 1.0) + more for name in QUANTITIES
                   for share, more in ((50, 0.0), (95, 5.0), (99, 10.0))}
    return NodeReport(**{
        'model': 'night', 'engine': 'torch', 'device': 'cuda:0', 'uptime_s': 100.0 + uptime_s,
        'health': HEALTHY,
        'pairs': round(900 + 25 * uptime_s), 'masks': round(800 + 20 * uptime_s),
        'drops': {'superseded': round(100 + 5 * uptime_s)}, 'percentiles': percentiles,
        'clock': 'system', 'max_age_ms': 2000.0, 'policy': 'nearest', 'slop_ms': 50.0,
        'x_offset_ms': 0.0, 'newest_apart_ms': 7.0,
        'clock_jumps': 0, 'record': RECORD, **inputs, **changes})
