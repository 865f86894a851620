# Copyright 2026 rgbx_seg_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""What the rest of the package asks of a network, and of the modules in it."""

from typing import ClassVar

import torch
from torch import nn


class Foldable(nn.Module):
    """A module that another one may take the place of, for inference."""

    def folded(self) -> nn.Module:
        """
        Return a module with the same outputs from less work, or this one.

        It has its weights, and no parameter of it is used afterwards.
        """
        return self


class Network(Foldable):
    """
    A network for pairs of frames, with `num_classes` as its first argument.

    `forward(rgb, x)` takes two normalised float maps (N, 3, H, W) and (N, X_CHANNELS, H, W) and
    returns logits (N, num_classes, H, W). Raise FrameError for a size that it cannot take. All
    else has a default here.
    """

    X_CHANNELS: ClassVar[int] = 3
    """Channels of the second input."""
    FUSES: ClassVar[bool] = False
    """Whether `forward_with_fusion` returns a fused image."""
    RENAMES: ClassVar[tuple[tuple[str, str], ...]] = ()
    """Pattern and replacement of each step from the authors' names of parameters to ours."""
    UNUSED: ClassVar[tuple[str, ...]] = ()
    """Patterns of the authors' names of what no prediction reads."""
    AUXILIARY_HEADS: ClassVar[int] = 0
    """How many heads `training_parts` can add."""
    TRAINING_TERMS: ClassVar[tuple[str, ...]] = ()
    """Names of the losses of its own that `training_parts` computes."""

    def forward_with_fusion(self, rgb: torch.Tensor, x: torch.Tensor) -> tuple[
            torch.Tensor, torch.Tensor | None]:
        """
        Return the logits and the fused image, None from a network that makes none.

        The image is (N, 3, H, W) in BGR order, from 0 to 1.
        """
        return self(rgb, x), None

    def training_parts(self, num_classes: int, auxiliary: bool) -> nn.Module | None:
        """
        Return what runs this network in training, None where that is `forward`.

        With `auxiliary` it has auxiliary heads. It is no part of the network, so that the state of
        that is the same in training and in a prediction. See `networks.training`.
        """
        return None
