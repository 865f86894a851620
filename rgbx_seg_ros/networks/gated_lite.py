# Copyright 2026 rgbx_seg_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""
GatedLite: EfficientNet-Lite encoders, a gated sum and a top-down decoder.

It is of this project, for small processors: all of it is convolutions with ReLU6, in any
precision. The sum weighs each pixel by what both modalities show there and by what the decoder
knows of it already, and a modality that is lost counts for nothing in it, so that the network is
one for both sensors and for each alone.
"""

from rgbx_seg_ros.networks.base import Foldable, Network
from rgbx_seg_ros.networks.efficientnet_lite import ConvNorm, EfficientNetLite
from rgbx_seg_ros.networks.layers import check_inputs, resize
from rgbx_seg_ros.networks.training import TrainingOutputs
import torch
from torch import nn


class GatedSum(nn.Module):
    """
    Bring two maps (N, C, h, w) to one width and add them, each pixel with a share of each.

    The gate sees both and `above`, what the decoder has made of the coarser maps (N, width, h, w):
    the finest maps show an outline, but not what it is the outline of. The coarsest have None.
    """

    def __init__(self, channels: int, width: int, coarsest: bool = False):
        super().__init__()
        self.rgb = ConvNorm(channels, width, 1, activation=False)
        self.x = ConvNorm(channels, width, 1, activation=False)
        self.gate = nn.Conv2d((2 if coarsest else 3) * width, 1, 1)

    def forward(self, rgb, x, there, above=None):
        """
        Return the sum, (N, width, h, w).

        `there` holds for each modality 1 or 0, (N, 1, 1, 1): one that is lost has no share.
        """
        rgb, x = self.rgb(rgb), self.x(x)
        rgb_there, x_there = there
        share = rgb_there * (1.0 - x_there * self.share_of_x(rgb, x, above))
        return self.weighed(rgb, x, share)

    def share_of_x(self, rgb, x, above=None):
        """Return the share of the second modality where both are there, (N, 1, h, w)."""
        seen = (rgb, x) if above is None else (rgb, x, above)
        return self.gate(torch.cat(seen, dim=1)).sigmoid()

    @staticmethod
    def weighed(rgb, x, share):
        """Return the sum of maps (N, width, h, w), `rgb` with this share."""
        return share * rgb + (1.0 - share) * x


class Smooth(nn.Sequential):
    """A depthwise 3x3 and a 1x1 convolution of a map (N, width, h, w)."""

    def __init__(self, width: int):
        super().__init__(ConvNorm(width, width, 3, groups=width, activation=False),
                         ConvNorm(width, width, 1))


class GatedLite(Network):
    """
    GatedLite for `num_classes` classes.

    `forward(rgb, x)` takes two normalised float maps (N, 3, H, W), each side at least 32 and best
    a multiple of 32, and returns logits (N, num_classes, H, W). A map of zeros is a modality that
    is lost.

    `width` is the number of channels in the decoder. With `shared` both modalities go through the
    same convolutions, with norms of their own, so that there is one encoder to train and to store;
    otherwise each has an encoder.
    """

    X_CHANNELS = 3
    AUXILIARY_HEADS = 2

    def __init__(self, num_classes: int, width: int = 96, shared: bool = True):
        super().__init__()
        if shared:
            self.encoder = EfficientNetLite(norms=2)
        else:
            self.encoder_rgb, self.encoder_x = EfficientNetLite(), EfficientNetLite()
        self.shared = shared
        *finer, coarsest = EfficientNetLite.CHANNELS
        self.fusion = nn.ModuleList(GatedSum(c, width) for c in finer)
        self.fusion.append(GatedSum(coarsest, width, coarsest=True))
        self.smooth = nn.ModuleList(Smooth(width) for _ in self.fusion)
        self.dropout = nn.Dropout2d(0.1)
        self.classify = nn.Conv2d(width, num_classes, 1)

    def forward(self, rgb, x):
        check_inputs(rgb, x)
        there = [image.abs().amax(dim=(1, 2, 3), keepdim=True).sign() for image in (rgb, x)]
        logits = self.decode(*self.encode(rgb, x), lambda fusion, a, b, above: fusion(
            a, b, there, above))
        return resize(logits, rgb.shape[2:])

    def encode(self, rgb, x):
        """Return the maps of each modality, from the finest to the coarsest."""
        if self.shared:
            return self.encoder(rgb, 0), self.encoder(x, 1)
        return self.encoder_rgb(rgb), self.encoder_x(x)

    def decode(self, rgb, x, fuse):
        """
        Return logits at a quarter of the input's size, of maps that begin with the finest.

        `fuse(fusion, rgb, x, above)` returns what a size adds to `above`, what is there already.
        """
        levels = list(zip(self.smooth, self.fusion, rgb, x, strict=True))
        out = None
        for smooth, fusion, *maps in reversed(levels):
            above = None if out is None else resize(out, maps[0].shape[2:])
            part = fuse(fusion, *maps, above)
            out = smooth(part if above is None else part + above)
        return self.classify(self.dropout(out))

    def training_parts(self, num_classes, auxiliary):
        return SingleSensors() if auxiliary else None

    def folded(self) -> Foldable:
        """Return this with an encoder for each modality, whose norms it then can take."""
        if self.shared:
            self.encoder_rgb, self.encoder_x = self.encoder.of(0), self.encoder.of(1)
            del self.encoder
            self.shared = False
        return self


class SingleSensors(nn.Module):
    """
    What the losses of GatedLite are taken of: both sensors, and each as if the other were lost.

    The encoders run once for the three, and the decoder sees them as one batch.
    """

    def forward(self, network, rgb, x, label, frame=None):
        check_inputs(rgb, x)

        def fuse(fusion, a, b, above):
            a, b = fusion.rgb(a), fusion.x(b)
            share_of_x = fusion.share_of_x(a, b, above if above is None else above.chunk(3)[0])
            return torch.cat((fusion.weighed(a, b, 1.0 - share_of_x), a, b))

        logits = network.decode(*network.encode(rgb, x), fuse)
        both, *alone = resize(logits, rgb.shape[2:]).chunk(3)
        return TrainingOutputs(both, tuple(alone))
