# Copyright 2026 rgbx_seg_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""
The second ROS 2 node: masks in, what a planner takes out.

It only moves messages, and here stand no more than its states: what it does is that of a
`ProjectionRun`.
"""

import sys

from rgbx_seg_ros.node.lifecycle import RunNode, spin_process
from rgbx_seg_ros.node.projection_run import ProjectionRun
from rgbx_seg_ros.projection.parameters import ProjectionParameters


class ProjectionNode(RunNode):
    """Lifecycle node `rgbx_seg_projection`."""

    def __init__(self, **node_arguments):
        super().__init__(ProjectionParameters, ProjectionRun, **node_arguments)


def main(args=None) -> int:
    """Run the node until it is interrupted; return 0, or 2 if it could not start."""
    return spin_process(ProjectionNode, 'seg_projection', args)


if __name__ == '__main__':
    sys.exit(main())
