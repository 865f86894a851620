# Copyright 2026 rgbx_seg_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""
How scores come about, by name, so that a score can say which protocol made it.

Two masks of one network get different mean IoUs from different authors: one leaves a class that
never occurs out of the mean, the next counts it as 0, a third takes the mean of the classes in its
table. The presets follow what the authors' programs do, one scale and no flips in all of them, as
far as it is published.
"""

from dataclasses import dataclass
import math

import numpy as np
from rgbx_seg_ros.cards.card import Card, Window
from rgbx_seg_ros.cards.labels import LabelSet
from rgbx_seg_ros.errors import ParameterError
from rgbx_seg_ros.evaluation.metrics import mean


@dataclass(frozen=True)
class Protocol:
    """What is shown to the network, which pixels count, and what a mean is the mean of."""

    description: str
    """What it does, and whose it is."""
    classes: tuple[str, ...] | None = None
    """The classes in the means, which the model must have; None: all of the model."""
    background: bool = True
    """Whether class 0 is in the means, where `classes` does not say."""
    absent: float = math.nan
    """What a class without a score counts, as neither label nor mask holds it; NaN: nothing."""
    own_size: bool = False
    """Whether a frame must reach the network at its own size; else it is scaled to the card's."""
    short_side: int | None = None
    """
    Pixels that the shorter side is scaled to, both sides then rounded up to multiples of 32, the
    label with the frames; None: frames and label stay as they are.
    """
    window: Window | None = None
    """The window that slides over the frame; None: that of the card, or none."""
    border_px: int = 0
    """Pixels with another class within this distance do not count: eroded labels."""

    def ids(self, labels: LabelSet) -> list[int]:
        """
        Return the ids of the classes in the means.

        Raise ParameterError where the model lacks one of them.
        """
        if self.classes is None:
            first = 0 if self.background or len(labels) == 1 else 1
            return list(range(first, len(labels)))
        for name in self.classes:
            if name not in labels.names:
                raise ParameterError(f'the protocol takes the mean of {", ".join(self.classes)}; '
                                     f'the model has no {name!r}, its classes are '
                                     f'{", ".join(labels.names)}: take another protocol')
        return [labels.names.index(name) for name in self.classes]

    def mean(self, scores: np.ndarray, labels: LabelSet) -> float:
        """Return the mean over the classes in it of `scores`, (K,) with NaN for none."""
        return mean(scores[self.ids(labels)], self.absent)

    def check(self, card: Card) -> None:
        """Raise ParameterError where the model of `card` cannot be scored by this protocol."""
        self.ids(card.labels)
        if self.window and (card.window is None or card.window.size != self.window.size):
            raise ParameterError(
                f'the protocol slides a window of {self.window.size} pixels, the network of '
                f'{card.name!r} sees {"the whole frame" if card.window is None else card.window}'
                ': take another protocol')


_MFNET = ('unlabeled', 'car', 'person', 'bike', 'curve', 'car_stop', 'guardrail', 'color_cone',
          'bump')
_FMB_TABLE = ('car', 'person', 'truck', 'lamp', 'sign', 'building', 'vegetation', 'pole')
_ISPRS = ('impervious_surface', 'building', 'low_vegetation', 'tree', 'car')


def _ms2mnet(data, stride):
    return Protocol(
        f'MS2MNet on {data}: a window of 256 pixels moves by {stride}, those that would leave the '
        'tile are shifted back inside and count as often as they come, logits are summed; borders '
        'eroded by 3 pixels do not count; means of the five classes without clutter, accuracy of '
        'all six', classes=_ISPRS, window=Window(256, stride), border_px=3)


PROTOCOLS = {
    'plain': Protocol(
        'Means of all classes of the model; one that neither label nor mask holds is left out'),
    'foreground': Protocol('As plain, the means without class 0, the background',
                           background=False),
    'ms_irtnet_mfnet': Protocol(
        'MS-IRTNet on MFNet, whole frames at their own size; means of all nine classes, unlabeled '
        'among them; one that neither label nor mask holds is left out, as happens by day or at '
        'night alone', classes=_MFNET, own_size=True),
    'rxssnet_mfnet': Protocol(
        'RXSSNet on MFNet, as MS-IRTNet: whole frames at their own size; mean of all nine '
        'classes, unlabeled among them; one that neither label nor mask holds is left out',
        classes=_MFNET, own_size=True),
    'mddg_mfnet': Protocol(
        'MDDG on MFNet: the shorter side scaled to 480 pixels, both rounded up to multiples of '
        '32, the label likewise; means of all nine classes, unlabeled among them; one that '
        'neither label nor mask holds counts as 0', classes=_MFNET, absent=0.0, own_size=True,
        short_side=480),
    'difusionseg_msrs': Protocol(
        'DiFusionSeg on MSRS or MFD, whole frames at their own size; means of all nine classes, '
        'unlabeled among them; one that neither label nor mask holds is left out. The network '
        'starts from random noise: another seed or machine can give other figures',
        classes=_MFNET, own_size=True),
    'difusionseg_fmb': Protocol(
        'DiFusionSeg on FMB, whole frames at their own size; means of the eight classes of the '
        'table in README, not of the fifteen that the program prints. The network starts from '
        'random noise: another seed or machine can give other figures',
        classes=_FMB_TABLE, own_size=True),
    'ms2mnet_vaihingen': _ms2mnet('ISPRS Vaihingen', 32),
    'ms2mnet_potsdam': _ms2mnet('ISPRS Potsdam', 64),
}
"""The protocols by name."""
