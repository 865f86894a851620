# Copyright 2026 rgbx_seg_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""
Deterministic weights and images: the way to compare two implementations of one network.

Every tensor comes from a generator seeded with its own name, so two programs that agree on names
have the same weights to the bit, and only the outputs need to be kept as test data. NumPy
guarantees that the stream of `RandomState` never changes.
"""

import zlib

import numpy as np


def fill(key: str, shape: tuple[int, ...], salt: str = '') -> np.ndarray:
    """
    Return the values of the state-dict entry `key`, float32 but for counters, which are int64.

    Weights of rank 2 and more have a standard deviation of 1/sqrt(fan-in), variances lie in
    0.5..1.5, scales near 1 and everything else near 0: signals neither vanish nor explode.
    """
    leaf = key.rpartition('.')[2]
    if leaf == 'num_batches_tracked':
        return np.zeros(shape, np.int64)
    rng = np.random.RandomState(zlib.crc32((salt + key).encode()))
    count = int(np.prod(shape, dtype=np.int64))
    if leaf == 'running_var':
        values = rng.uniform(0.5, 1.5, count)
    elif len(shape) >= 2:
        values = rng.standard_normal(count)
        values /= np.sqrt(max(1, count // shape[0]))
    else:
        values = rng.standard_normal(count)
        values *= 0.1
        if leaf in ('weight', 'gamma'):
            values += 1.0
    return values.astype(np.float32).reshape(shape)


def image(name: str, shape: tuple[int, int, int, int], salt: str = '') -> np.ndarray:
    """
    Return the normalised input `name`, (N, C, H, W) float32: six smooth blobs and some noise.

    It is smooth because on white noise one wrong resize looks like any other.
    """
    rng = np.random.RandomState(zlib.crc32((salt + name).encode()))
    height, width = shape[2:]
    rows, columns = np.mgrid[:height, :width].astype(np.float64)
    out = 0.1 * rng.standard_normal(shape)
    for plane in out.reshape(-1, height, width):
        for _ in range(6):
            row, column = rng.uniform(0, height), rng.uniform(0, width)
            sigma = rng.uniform(0.05, 0.35) * min(height, width)
            distance = (rows - row) ** 2 + (columns - column) ** 2
            plane += rng.uniform(-2, 2) * np.exp(-distance / (2 * sigma * sigma))
    return out.astype(np.float32)
