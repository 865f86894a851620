# Copyright 2026 rgbx_seg_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""
How DiFusionSeg is trained: one step of denoising its labels, and losses of its fused image.

A prediction needs none of this. The sampler takes several steps from pure noise; training takes
one, from the encoded labels with noise of a random amount.
"""

from collections import OrderedDict

from rgbx_seg_ros.cards.labels import UNLABELED
from rgbx_seg_ros.networks.layers import at_least_float32, check_inputs, resize, without_autocast
from rgbx_seg_ros.networks.training import TrainingOutputs
import torch
from torch import nn
from torch.nn import functional as F

LATEST = 0.999
"""Times of training lie between 0 and this; 1 is pure noise."""


class ConvNormHead(nn.Module):
    """The auxiliary head: the neck's feature (N, C, h, w) to logits (N, num_classes, h, w)."""

    def __init__(self, channels: int, num_classes: int):
        super().__init__()
        self.convs = nn.Sequential(nn.Sequential(OrderedDict(
            conv=nn.Conv2d(channels, channels, 3, padding=1, bias=False),
            bn=nn.BatchNorm2d(channels), activation=nn.ReLU(inplace=True))))
        self.dropout = nn.Dropout2d(0.1)
        self.conv_seg = nn.Conv2d(channels, num_classes, 1)

    def forward(self, x):
        return self.conv_seg(self.dropout(self.convs(x)))


def unit_range(image: torch.Tensor) -> torch.Tensor:
    """Scale each image of (N, C, H, W) to 0..1, all its channels together; constant ones to 0."""
    low, high = image.amin(dim=(1, 2, 3), keepdim=True), image.amax(dim=(1, 2, 3), keepdim=True)
    return (image - low) / torch.where(high > low, high - low, 1.0)


def sobel(image: torch.Tensor) -> torch.Tensor:
    """Return |Sx| + |Sy| of each channel of (N, C, H, W), zeros around the image."""
    kernel = image.new_tensor(((-1, 0, 1), (-2, 0, 2), (-1, 0, 1)))
    gradients = F.conv2d(image.flatten(0, 1)[:, None], torch.stack((kernel, kernel.T))[:, None],
                         padding=1)
    return gradients.abs().sum(dim=1).view(image.shape)


def fusion_loss(fused, visible, thermal):
    """
    Return how far a fused image is from the brighter, and from the sharper, of both images.

    `fused` and `visible` are (N, 3, H, W), `thermal` is (N, 1, H, W), all in 0..1.
    """
    intensity = (fused - torch.maximum(visible, thermal)).abs().mean()
    sharper = torch.maximum(sobel(visible), sobel(thermal))
    return intensity + (sobel(fused) - sharper).abs().mean()


def synergy_loss(fused, logits, visible, thermal):
    """
    Return how far a fused image is from thermal in the foreground, from visible elsewhere.

    Images as in `fusion_loss`; the background is class 0 of `logits` (N, K, H, W), which learn
    from this loss, too.
    """
    background = logits.softmax(dim=1)[:, :1]
    foreground = 1.0 - background
    return (((fused - thermal) * foreground).square().mean()
            + ((fused - visible) * background).square().mean())


class DenoisingTraining(nn.Module):
    """
    What the losses of DiFusionSeg are taken of; `auxiliary_head` is None where none is trained.

    `forward(network, rgb, x, label, frame, t, noise)`: `frame` (N, H, W, 3) uint8 is the RGB frame
    before its colours were changed, and without one there are no losses of the fused image. `t`
    (N,) and `noise` (N, width, h, w) are drawn where not given.
    """

    def __init__(self, auxiliary_head: nn.Module | None):
        super().__init__()
        self.auxiliary_head = auxiliary_head

    def forward(self, network, rgb, x, label, frame=None, t=None, noise=None):
        check_inputs(rgb, x, network.X_CHANNELS)
        feature, logits, fused = self.denoise(network, rgb, x, label, t, noise)
        auxiliary = ()
        if self.auxiliary_head is not None:
            aside = self.auxiliary_head(feature)
            auxiliary = (self._to_size(aside, rgb, network.STRIDE),)
        logits, terms = self._to_size(logits, rgb, network.STRIDE), {}
        if frame is not None:
            with without_autocast(fused):
                terms = self.image_losses(fused, logits, x, frame)
        return TrainingOutputs(logits, auxiliary, terms)

    @staticmethod
    def denoise(network, rgb, x, label, t=None, noise=None):
        """Return feature and logits at a quarter of the size, and the fused image (N, 3, H, W)."""
        height, width = rgb.shape[2:]
        images = F.pad(torch.cat((rgb, x), dim=1),
                       (0, -width % network.STRIDE, 0, -height % network.STRIDE))
        feature = network.neck(network.backbone(images))
        condition, fused = network.fuse(feature, images)
        if t is None:
            t = LATEST * torch.rand(len(rgb), device=rgb.device)
        if noise is None:
            noise = torch.randn(condition.shape, device=rgb.device)
        label = label[:, ::network.STRIDE, ::network.STRIDE]  # nearest
        # The last row of the network's table stands for pixels without a label.
        label = label.masked_fill(label == UNLABELED, network.embedding_table.num_embeddings - 1)
        with without_autocast(condition):
            z, log_snr = network.add_noise(label, t, noise)
        logits = network.denoise(condition, z, log_snr)
        return feature, logits, fused[:, :, :height, :width]

    @staticmethod
    def image_losses(fused, logits, x, frame):
        """Return the losses of the fused image, which is in BGR order, by name."""
        fused, logits = at_least_float32(fused), at_least_float32(logits)
        visible = unit_range(frame.to(fused.dtype).permute(0, 3, 1, 2).flip(1))
        thermal = unit_range(x.to(fused.dtype))
        return {'fusion': fusion_loss(fused, visible, thermal),
                'synergy': synergy_loss(fused, logits, visible, thermal)}

    @staticmethod
    def _to_size(logits, rgb, stride):
        """Return logits at the size of `rgb`, without what padding has added."""
        height, width = rgb.shape[2:]
        padded = [side * stride for side in logits.shape[2:]]
        return resize(logits, padded)[:, :, :height, :width]
