# Copyright 2026 rgbx_seg_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""What the projection node tells about itself, by the names in the diagnostics."""

from rgbx_seg_ros.health.report import CLOCKS
from rgbx_seg_ros.health.telemetry import SHARES

TIMES = {
    'grid_ms': 'to make and publish grids and feet of a mask',
    'points_ms': 'to give points their classes and publish them',
    'latency_ms': 'from the stamp of a mask until all of it is published',
}
"""What is timed, and from where to where."""

COUNTS = {
    'mask_received': 'masks received',
    'confidence_received': 'confidence images received',
    'superseded': 'masks that gave way to a newer one while they waited for a transform',
    'pose_changes': 'poses of the camera for which the table of cells was made anew',
    'clock_jumps': 'how often the clock was set, as by a bag that starts again',
    'cleared': 'how often an all unknown grid took the place of an old one',
    'mask_malformed': 'masks that cannot be read',
    'confidence_malformed': 'confidence images that cannot be read, or are of another size',
    'mask_unmatched': 'masks without a confidence image of the same stamp',
    'confidence_unmatched': 'confidence images without a mask of the same stamp',
    'too_old': 'masks dropped since they were older than max_age_ms',
    'no_pose': 'masks dropped since nobody told where the camera was, and clouds that went out '
               'without labels for that reason',
    'not_usable': 'masks dropped since palette or camera_info are missing or do not fit',
    'publish_failed': 'masks of which the middleware did not take what was made',
    'no_depth': 'masks without a depth image that fits',
    'depth_malformed': 'depth images that cannot be read',
    'cloud_malformed': 'clouds that cannot be read',
    'no_mask': 'clouds that went out without labels, as no mask came in time',
}
"""What is counted, and what each tells the user."""

DIAGNOSTICS = {
    'frame': 'where grids and feet lie',
    'uptime_s': 'time since the node was configured, s; counts begin there',
    'masks': 'masks of which all was published',
    'failure': 'what kept the newest mask from being used, or none',
    'clock': f'what ages are told by; one of {", ".join(CLOCKS)}',
    **{f'{name}_p{share}': f'percentile {share} of the newest masks: {meaning}, ms'
       for name, meaning in TIMES.items() for share in SHARES},
    **{name: f'{meaning}; absent while there is none' for name, meaning in COUNTS.items()},
}
"""The values of the section `projection`; `n/a` stands for what is not known."""
