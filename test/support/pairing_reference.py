# Copyright 2026 rgbx_seg_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""What the pairs of two whole recordings should be, by brute force: slow, but plain to see."""


def closest_first(rgb, x, slop):
    """
    Pair the closest two of all stamps, then go on before them and after them on their own.

    `rgb` and `x` are increasing stamps; the result is a list of (rgb, x) stamps in order.
    """
    candidates = [(abs(b - a), a, b) for a in rgb for b in x if abs(b - a) <= slop]
    if not candidates:
        return []
    _, a, b = min(candidates)
    before = closest_first([t for t in rgb if t < a], [t for t in x if t < b], slop)
    after = closest_first([t for t in rgb if t > a], [t for t in x if t > b], slop)
    return [*before, (a, b), *after]


def most_pairs(rgb, x, slop):
    """Return the pairs without a crossing that are the most, and of these the closest in sum."""
    # best[j]: (number of pairs, minus the sum of their gaps, the pairs) of rgb so far and x[:j].
    best = [(0, 0, ())] * (len(x) + 1)
    for a in rgb:
        row = [best[0]]
        for j, b in enumerate(x):
            options = [best[j + 1], row[j]]
            if abs(b - a) <= slop:
                count, gaps, pairs = best[j]
                options.append((count + 1, gaps - abs(b - a), (*pairs, (a, b))))
            row.append(max(options, key=lambda option: option[:2]))
        best = row
    return list(best[-1][2])
