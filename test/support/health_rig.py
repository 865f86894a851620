# Copyright 2026 rgbx_seg_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""Two cameras on a fake clock, for the tests of health."""

from rgbx_seg_ros.health.monitor import Health, HealthSettings
from support.pairing_streams import MS


class Rig:
    """Two cameras on a fake clock in ms; unless told otherwise both deliver new good frames."""

    def __init__(self, **settings):
        self.health = Health(HealthSettings(**settings))
        self.now_ms = 0
        self.pixels = 0
        self.modes = [self.health.mode]

    def frame(self, modality, at_ms=None, stamp_ms=None, pixels=None, share=0.0):
        self.now_ms = self.now_ms if at_ms is None else at_ms
        self.pixels += 1
        stamp_ms = 10_000 + self.now_ms if stamp_ms is None else stamp_ms
        self.health.observe(modality, stamp_ms * MS, self.now_ms * MS,
                            self.pixels if pixels is None else pixels, share)
        self._note()

    def wait(self, until_ms):
        self.now_ms = until_ms
        self.health.update(until_ms * MS)
        self._note()

    def run(self, until_ms, period_ms=100, rgb=True, x=True):
        """Deliver frames every `period_ms` up to and with `until_ms`; a dict tells of its own."""
        for at_ms in range(self.now_ms + period_ms, until_ms + 1, period_ms):
            for modality, wanted in (('rgb', rgb), ('x', x)):
                if wanted:
                    self.frame(modality, at_ms, **(wanted if isinstance(wanted, dict) else {}))
            self.wait(at_ms)

    def _note(self):
        if self.health.mode != self.modes[-1]:
            self.modes.append(self.health.mode)

    @property
    def x(self):
        return self.health.states['x']


def running(**settings):
    """Return a rig whose cameras have delivered 10 frames a second for 2 s."""
    rig = Rig(**settings)
    rig.run(2000)
    assert rig.health.states == {'rgb': 'ok', 'x': 'ok'}
    assert rig.health.mode == 'fusion'
    return rig


def fail(rig, state):
    """Let X fail up to 5000 ms, so that a good frame from now on starts recovery."""
    rig.run(5000, x={'dead': False, 'frozen': {'pixels': -1}, 'saturated': {'share': 1.0}}[state])
    assert rig.x == state
