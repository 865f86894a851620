# Copyright 2026 rgbx_seg_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""What the processor of this machine is, and what it can do."""

from pathlib import Path
import platform
import re
from typing import NamedTuple

_CPUINFO = Path('/proc/cpuinfo')
_X86 = ('vendor_id', 'cpu family', 'model', 'stepping')
_ARM = ('CPU implementer', 'CPU part', 'CPU variant', 'CPU revision')


class Cpu(NamedTuple):
    """A processor, as far as the system tells."""

    machine: str
    """What programs it runs, such as x86_64 or aarch64."""
    name: str
    """What its maker calls it; empty on ARM, of which Linux knows numbers alone."""
    models: tuple[str, ...]
    """The numbers that tell it from others, of each kind of core that it has."""
    flags: frozenset[str]
    """What all of its cores can do, as Linux names it."""

    def __str__(self):
        if self.name:
            return self.name
        return f'{self.machine} ({"; ".join(self.models)})' if self.models else self.machine


def find_cpu() -> Cpu:
    """Return the processor of this machine; where it is not Linux, without most of the facts."""
    try:
        text = _CPUINFO.read_text(encoding='utf-8', errors='replace')
    except OSError:
        return Cpu(platform.machine(), platform.processor(), (), frozenset())
    return parse_cpu(text, platform.machine())


def parse_cpu(cpuinfo: str, machine: str) -> Cpu:
    """Return the processor of `machine` that a text like /proc/cpuinfo describes."""
    cores = [dict(re.findall(r'^([\w ]+?)[ \t]*: *(.*)$', core, re.MULTILINE))
             for core in cpuinfo.split('\n\n')]
    # x86 has flags, ARM has Features.
    flags = [set(core[name].split()) for core in cores for name in ('flags', 'Features')
             if name in core]
    models = {', '.join(f'{name} {core[name]}' for name in (*_X86, *_ARM) if name in core)
              for core in cores}
    names = [core['model name'] for core in cores if 'model name' in core]
    return Cpu(machine, names[0] if names else '', tuple(sorted(models - {''})),
               frozenset(set.intersection(*flags) if flags else ()))
