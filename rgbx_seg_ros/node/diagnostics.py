# Copyright 2026 rgbx_seg_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""The node's state as a diagnostic_msgs/DiagnosticArray, and back."""

from collections import defaultdict
from collections.abc import Mapping

from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue
from rgbx_seg_ros.health.report import DIAGNOSTICS, Level, Status


def clock_of(node) -> str:
    """Return what the clock of `node` follows: a key of CLOCKS."""
    clock = node.get_clock()
    if not clock.ros_time_is_active:
        return 'system'
    return 'simulated' if clock.now().nanoseconds else 'waiting'


def to_array(node_name: str, sections: Mapping[str, Status], stamp) -> DiagnosticArray:
    """
    Return the sections, as `Assessor.assess` returns them, as `NODE: SECTION` in one message.

    `node_name` is the full one; its leading slash, which viewers take for a folder, is left out.
    """
    array = DiagnosticArray(status=[
        DiagnosticStatus(
            # A byte is bytes of length 1 in Python.
            level=bytes([status.level]), name=f'{node_name.lstrip("/")}: {section}',
            message=status.message, hardware_id=status.hardware_id,
            values=[KeyValue(key=key, value=value) for key, value in status.values.items()])
        for section, status in sections.items()])
    array.header.stamp = stamp
    return array


def from_array(message: DiagnosticArray) -> dict[str, dict[str, Status]]:
    """
    Return the sections by the name of the node, of each segmentation node in `message`.

    Other nodes use the same topic: one is ours if it has a section `segmentation` with a mode.
    """
    nodes = defaultdict(dict)
    for status in message.status:
        node, _, section = status.name.rpartition(': ')
        if section in DIAGNOSTICS:
            nodes[node][section] = Status(
                Level(min(status.level[0], Level.STALE)), status.message,
                {value.key: value.value for value in status.values}, status.hardware_id)
    return {node: sections for node, sections in nodes.items()
            if 'segmentation' in sections and 'mode' in sections['segmentation'].values}
