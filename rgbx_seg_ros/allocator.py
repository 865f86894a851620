# Copyright 2026 rgbx_seg_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""Make glibc keep the memory of images that come and go at the frame rate."""

import ctypes
import platform

_M_TRIM_THRESHOLD, _M_TOP_PAD, _M_MMAP_THRESHOLD = -1, -2, -3
_MIB = 1 << 20


def keep_freed_memory() -> bool:
    """
    Let freed blocks of up to 32 MiB stay in the process, to be used for the next frame.

    By default glibc maps each buffer of an image anew and the kernel clears its pages, which
    costs more than reading the message. Up to 256 MiB stay with the process. Return whether it
    took effect; where the C library is not glibc nothing happens.
    """
    if platform.libc_ver()[0] != 'glibc':
        return False
    mallopt = ctypes.CDLL(None).mallopt
    settings = ((_M_MMAP_THRESHOLD, 32 * _MIB), (_M_TRIM_THRESHOLD, 256 * _MIB),
                (_M_TOP_PAD, 64 * _MIB))
    results = [mallopt(option, size) for option, size in settings]
    return all(results)
