# Copyright 2026 rgbx_seg_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""What the rest of the package asks of an engine."""

from abc import ABC, abstractmethod

import numpy as np
from rgbx_seg_ros.engines.model_files import FrameKind
from rgbx_seg_ros.sensors import Sensors
from torch import nn


class Engine(ABC):
    """What runs the model of a card on a device: opened by `Engine(card, device)`."""

    @property
    @abstractmethod
    def device(self) -> str:
        """Where and how it runs at the moment, in words such as 'cpu float32'."""

    @property
    @abstractmethod
    def network(self) -> nn.Module:
        """The network alone in PyTorch, in eval mode and on its device."""

    @abstractmethod
    def __call__(self, rgb: np.ndarray, x: np.ndarray, x_limits: tuple[float, float],
                 sensors: Sensors = Sensors.BOTH) -> tuple[np.ndarray, ...]:
        """
        Return mask and confidence of one raw pair, both (H, W) uint8.

        `rgb` is (H, W, 3) uint8, `x` (h, w) or (h, w, 1 or 3), `x_limits` the raw values of X that
        become 0 and 1, `sensors` those whose frames count. From a network that makes one, the
        fused image (H, W, 3) uint8 in RGB order comes third.
        """

    def settle(self, timeout_s: float | None = None) -> bool:
        """
        Wait until nothing is being made in the background, at most `timeout_s`.

        Return whether it runs frames like the latest ones as it is meant to.
        """
        return True

    def ready_kinds(self) -> list[FrameKind] | None:
        """Return the kinds of frames whose files are there; None where it needs no files."""
        return None
