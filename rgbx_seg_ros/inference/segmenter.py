# Copyright 2026 rgbx_seg_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""
A card and an engine: the one object that node, replay, predict and evaluate all use.

PyTorch is imported when a model is opened: a node that is not configured yet does not wait for it.
"""

from dataclasses import dataclass, replace
from pathlib import Path
import time
from typing import Any, TYPE_CHECKING
import warnings

import cv2
import numpy as np
from rgbx_seg_ros.cards.card import Card, load_card, XInput
from rgbx_seg_ros.cards.labels import LabelSet, UNLABELED
from rgbx_seg_ros.errors import ParameterError
from rgbx_seg_ros.frames.raw import check_rgb, check_x, find_x_limits
from rgbx_seg_ros.parameters import Parameters
from rgbx_seg_ros.sensors import Sensors

if TYPE_CHECKING:
    from rgbx_seg_ros.engines.base import Engine


@dataclass(frozen=True)
class Segmentation:
    """What the network says about one pair."""

    mask: np.ndarray
    """(H, W) uint8 class ids at the size of the colour frame."""
    confidence: np.ndarray
    """(H, W) uint8, the probability of the class in the mask times 255."""
    fused: np.ndarray | None
    """(H, W, 3) uint8 in RGB, both frames in one image, from a network that makes one."""
    prepare_ms: float
    """Time for checks and for the range of X."""
    inference_ms: float
    """Time from the frames in memory to mask and confidence in memory."""

    @property
    def mean_confidence(self) -> float:
        """The mean confidence of the pixels, 0..1."""
        return float(cv2.mean(self.confidence)[0]) / 255

    def where_sure(self, threshold: float) -> 'Segmentation':
        """Return it with 255 in the mask where the confidence, 0..1, is below `threshold`."""
        if not threshold:
            return self
        unsure = self.confidence < 255.0 * threshold
        return replace(self, mask=np.where(unsure, np.uint8(UNLABELED), self.mask))


class Segmenter:
    """
    Segments pairs of raw frames.

    `card` and `labels` say what the masks mean, `engine` what runs the network, and `x` which raw
    values of X become 0 and 1: by default the card.
    """

    def __init__(self, card: Card, engine: 'Engine', x: XInput | None = None):
        self.card, self.engine, self.x = card, engine, x or card.x

    @classmethod
    def from_card(cls, path_or_name: str | Path, engine: str = 'torch', device: str = 'auto',
                  **x_input: Any) -> 'Segmenter':
        """
        Open the model of a card: a path to a YAML file or the name of one in the package.

        `x_input` replaces fields of the card's XInput that say what becomes 0 and 1, as a rig may
        need it; the engine and the golden frame are none of its business. Raise CardError,
        WeightsError or EngineError where it cannot run here; warn where the card has no weights.
        """
        from rgbx_seg_ros.engines import open_engine

        card = load_card(path_or_name)
        x = replace(card.x, **x_input)
        if card.weights is None:
            warnings.warn(f'card {card.name!r} has no weights: its masks mean nothing',
                          stacklevel=2)
        return cls(card, open_engine(engine, card, device), x)

    @classmethod
    def from_parameters(cls, parameters: Parameters) -> 'Segmenter':
        """
        Open the model that `parameters` name, with X as they say.

        Raise what `from_card` does, and ParameterError for a model of another kind of X.
        """
        segmenter = cls.from_card(
            parameters.model, parameters.engine, parameters.device, **parameters.x_input)
        kind = segmenter.card.x.kind
        if parameters.x_kind not in ('card', kind):
            raise ParameterError(f"parameter 'x.kind' is {parameters.x_kind!r}, but the model "
                                 f'{segmenter.card.name!r} takes {kind!r}: choose another model')
        return segmenter

    @property
    def labels(self) -> LabelSet:
        """The classes of the mask, a LabelSet."""
        return self.card.labels

    @property
    def fuses(self) -> bool:
        """Whether the network makes a fused image."""
        from rgbx_seg_ros.networks import NETWORKS

        return NETWORKS[self.card.network].FUSES

    def settle(self, rgb: np.ndarray, x: np.ndarray) -> bool:
        """
        Wait until the engine runs frames like this pair as it will run them from then on.

        The node does not wait for an engine that gets ready in the background; a score must.
        Return whether it is as it is meant to: not where it fails, nor on a pair without contrast.
        """
        if self.engine.ready_kinds() is None:
            return True
        for _ in range(2):  # a single frame is not worth it to an engine that makes files
            self(rgb, x)
        return self.engine.settle()

    def __call__(self, rgb: np.ndarray, x: np.ndarray, sensors: Sensors = Sensors.BOTH,
                 x_limits: tuple[float, float] | None = None) -> Segmentation:
        """
        Segment one pair, of which the frames of `sensors` count.

        `rgb` is (H, W, 3) uint8 in RGB order; `x` is the raw frame as stored, (H, W) or (H, W, 3)
        of uint8, uint16 or float32, showing the same field of view, of any size. The mask has the
        size of `rgb`, also where that does not count. `x_limits` are the raw values of X that
        become 0 and 1, by default those that `x` gives this frame by itself. Raise FrameError for
        anything else.
        """
        started = time.perf_counter()
        check_rgb(rgb)
        check_x(x)
        x_limits = x_limits or find_x_limits(x, self.x)
        prepared = time.perf_counter()
        mask, confidence, *fused = self.engine(rgb, x, x_limits, sensors)
        done = time.perf_counter()
        return Segmentation(mask, confidence, fused[0] if fused else None,
                            1e3 * (prepared - started), 1e3 * (done - prepared))

    def disagreement(self, rgb: np.ndarray, x: np.ndarray,
                     x_limits: tuple[float, float] | None = None) -> float:
        """
        Return the share of the pixels, 0..1, to which RGB alone and X alone give other classes.

        It takes what a call takes, and segments the pair twice.
        """
        alone = [self(rgb, x, sensors, x_limits).mask for sensors in (Sensors.RGB, Sensors.X)]
        return float((alone[0] != alone[1]).mean())
