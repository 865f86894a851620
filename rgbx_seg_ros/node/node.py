# Copyright 2026 rgbx_seg_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""
The ROS 2 node: pairs of camera and X messages in, label images out.

It only moves messages, and here stand no more than its states: what it does is that of a `Run`.
"""

import sys

from rgbx_seg_ros.node.lifecycle import RunNode, spin_process
from rgbx_seg_ros.node.run import Run
from rgbx_seg_ros.parameters import Parameters


class SegNode(RunNode):
    """Lifecycle node `rgbx_seg`."""

    def __init__(self, **node_arguments):
        super().__init__(Parameters, Run, **node_arguments)


def main(args=None) -> int:
    """Run the node until it is interrupted; return 0, or 2 if it could not start."""
    return spin_process(SegNode, 'seg_node', args)


if __name__ == '__main__':
    sys.exit(main())
