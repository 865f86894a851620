# Copyright 2026 rgbx_seg_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""What a process holds, by /proc of Linux, and how much more than before it may hold."""

from pathlib import Path

MOST_GROWTH = {'rss': 10_000_000, 'threads': 0, 'descriptors': 0}
"""Over some hundred pairs. Steps of some MB of the C library's heap are no leak."""


def held(pid: int) -> dict[str, int]:
    """Return the bytes of memory of a process, its threads and descriptors."""
    lines = Path(f'/proc/{pid}/status').read_text(encoding='ascii').splitlines()
    facts = dict(line.split(':', 1) for line in lines)
    memory = {name: 1024 * int(facts[key].split()[0]) for name, key in (
        ('rss', 'VmRSS'), ('private', 'RssAnon'), ('shared', 'RssShmem'))}
    return {**memory, 'threads': int(facts['Threads']),
            'descriptors': len(list(Path(f'/proc/{pid}/fd').iterdir()))}
