# Copyright 2026 rgbx_seg_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""Choosing the smallest entries."""

import math

import torch


def smallest_share(values: torch.Tensor, share: float) -> torch.Tensor:
    """
    Return a mask in the type of `values`: 1 at the ceil(share·n) smallest entries, 0 elsewhere.

    n is the number of entries of one item of the batch, that is of all dimensions but the first;
    each item is ranked on its own, and `share` lies in (0, 1]. Entries that tie with the last one
    chosen are chosen as well, so a mask can have more ones. The mask has no gradient.
    """
    flat = values.flatten(1)  # N n
    count = math.ceil(share * flat.shape[1])
    threshold = flat.topk(count, dim=1, largest=False, sorted=False).values.amax(1, keepdim=True)
    return (flat <= threshold).to(values.dtype).view_as(values)
