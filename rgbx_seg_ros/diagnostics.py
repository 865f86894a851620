# Copyright 2026 rgbx_seg_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""The node's state as a diagnostic_msgs/DiagnosticArray."""

from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue


def diagnostic_array(node_name: str, facts: dict, stamp) -> DiagnosticArray:
    """
    Return one status with all `facts`: words, counts, and times in ms (None before the first).

    `facts['pairs']` tells whether frames have arrived; the level is WARN until then.
    """
    started = bool(facts.get('pairs'))
    status = DiagnosticStatus(
        level=DiagnosticStatus.OK if started else DiagnosticStatus.WARN,
        name=f'{node_name}: segmentation',
        message='segmenting' if started else 'no pair of frames yet',
        values=[KeyValue(key=name, value=_text(value)) for name, value in facts.items()])
    array = DiagnosticArray(status=[status])
    array.header.stamp = stamp
    return array


def _text(value) -> str:
    if value is None:
        return 'n/a'
    return f'{value:.2f}' if isinstance(value, float) else str(value)
