# Copyright 2026 rgbx_seg_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""
From raw frames to mask and confidence, as one module.

Everything between the camera's bytes and the planner's runs here, on the device: only the frames
go up and only the mask and the confidence come down, whichever engine runs the module.
"""

import numpy as np
from rgbx_seg_ros.cards.card import Card
from rgbx_seg_ros.networks.base import Network
import torch
from torch import nn
from torch.nn import functional as F

_LUMA = (0.299, 0.587, 0.114)
"""Shares of red, green and blue in a grey value, ITU-R BT.601."""


def to_batch(frame: np.ndarray) -> torch.Tensor:
    """Return `frame` as a batch of one, (1, H, W, C), sharing its memory where it can."""
    if frame.ndim == 2:
        frame = frame[..., None]
    # Torch takes neither negative strides, nor rows that end within a value, nor, without a
    # warning, the read-only buffer of a message.
    odd = any(stride < 0 or stride % frame.itemsize for stride in frame.strides)
    if odd or not frame.flags.writeable:
        frame = np.array(frame, order='C')
    return torch.from_numpy(frame)[None]


def resized(image: torch.Tensor, size) -> torch.Tensor:
    """Return a map (N, C, H, W) at `size` (H, W), bilinear; what shrinks is averaged."""
    if list(image.shape[2:]) == list(size):
        return image
    smaller = size[0] < image.shape[2] or size[1] < image.shape[3]
    return F.interpolate(image, size=size, mode='bilinear', antialias=smaller)


def _to_map(frame):
    """Return frames (N, H, W, C) as maps (N, C, H, W) float32, channel after channel."""
    return frame.permute(0, 3, 1, 2).to(torch.float32, memory_format=torch.contiguous_format)


class Normalize(nn.Module):
    """
    Raw frames to the network's input, as the card says.

    `forward(rgb, x, x_limits)` takes (N, H, W, 3) uint8 in RGB order, (N, h, w, 1 or 3) of any
    type, and (N, 2) float32 raw values that become 0 and 1. It returns two float32 maps, (N, 3,
    H, W) and (N, 1 or 3, h, w): the card has a mean for each channel of X that the network takes.
    Pixels of X without a measurement get the raw value that becomes 0.
    """

    def __init__(self, card: Card):
        super().__init__()
        self.flip_rgb = card.rgb.channel_order == 'bgr'
        self.invalid = card.x.invalid
        for name, spec in (('rgb', card.rgb), ('x', card.x)):
            mean, std = torch.tensor(spec.mean), torch.tensor(spec.std)
            self.register_buffer(f'{name}_mean', mean.view(1, -1, 1, 1), persistent=False)
            self.register_buffer(f'{name}_std', std.view(1, -1, 1, 1), persistent=False)
        self.register_buffer('luma', torch.tensor(_LUMA).view(1, 3, 1, 1), persistent=False)

    def forward(self, rgb, x, x_limits):
        return self.standardize(rgb, self.within_limits(x, x_limits))

    def within_limits(self, x, x_limits):
        """Return X as a map (N, 1 or 3, h, w) float32 without holes, its limits being 0 and 1."""
        raw = _to_map(x)
        low, high = x_limits[:, 0].view(-1, 1, 1, 1), x_limits[:, 1].view(-1, 1, 1, 1)
        x = ((raw - low) / (high - low)).clamp(0.0, 1.0)
        # The clamp bounds infinities. NaN comes from the sensor, or from a range that float32
        # cannot tell from one value.
        missing = x.isnan() | raw.isinf()
        if self.invalid is not None:
            missing = missing | (raw == self.invalid)
        x = x.masked_fill(missing, 0.0)
        if x.shape[1] > self.x_mean.shape[1]:
            x = (x * self.luma).sum(dim=1, keepdim=True)
        return x

    def standardize(self, rgb, x):
        """Return frames (N, H, W, 3) uint8 and a map of X within its limits, with mean and std."""
        return self.standardize_maps(_to_map(rgb), x)

    def standardize_maps(self, rgb, x):
        """Return maps of RGB, float32 in 0..255, and of X within its limits, with mean and std."""
        if self.flip_rgb:
            rgb = rgb.flip(1)
        rgb = (rgb / 255.0 - self.rgb_mean) / self.rgb_std
        return rgb, (x - self.x_mean) / self.x_std  # one channel becomes all there are means for


class SegmentationGraph(nn.Module):
    """
    The whole way of a frame through the network `network` of `card`.

    `forward(rgb, x, x_limits, present)` takes what `Normalize` takes, and (N, 2) float32: 1 for a
    modality that is there, 0 for one that is lost and whose mean takes the place of its frame. It
    returns two maps (N, H, W) uint8 at the size of the colour frame, which counts if it is lost as
    well: the class id, and the probability of that class times 255. A network that
    fuses gives a third one, (N, H, W, 3) uint8: its fused image in RGB. Both
    frames are scaled to fit the card's input size with the colour frame's aspect ratio kept; what
    is left at the right and bottom is zero, the mean.
    """

    def __init__(self, network: Network, card: Card):
        super().__init__()
        self.normalize = Normalize(card)
        self.network = network
        self.input_size = card.input_size

    def forward(self, rgb, x, x_limits, present):
        size = rgb.shape[1:3]
        fitted = self._fitted_size(size)
        # Mean and std come after the size: there are fewer pixels then, and X has one channel.
        maps = _to_map(rgb), self.normalize.within_limits(x, x_limits)
        maps = self.normalize.standardize_maps(*(resized(one, fitted) for one in maps))
        rgb, x = (self._pad(one * there.view(-1, 1, 1, 1))
                  for one, there in zip(maps, present.unbind(1), strict=True))
        logits, fused = self.network.forward_with_fusion(rgb, x)
        logits = self._unfit(logits, fitted, size)
        # Their softmax at its maximum. As one, ONNX Runtime would turn the whole map for it.
        highest, mask = logits.max(dim=1)
        confidence = (logits - highest[:, None]).exp().sum(dim=1).reciprocal()
        outputs = mask.to(torch.uint8), (confidence * 255.0).round().to(torch.uint8)
        if fused is None:
            return outputs
        fused = self._unfit(fused, fitted, size).flip(1)  # the network's is BGR, in 0..1
        return *outputs, (fused * 255.0).to(torch.uint8).permute(0, 2, 3, 1)

    def _fitted_size(self, size):
        """Return the largest (H, W) within the input size that has the aspect ratio of `size`."""
        scale = min(self.input_size[0] / size[0], self.input_size[1] / size[1])
        return [max(1, round(side * scale)) for side in size]

    def _pad(self, image):
        """Return a map with zeros at the bottom and the right, at the input size."""
        bottom, right = (self.input_size[i] - image.shape[2 + i] for i in (0, 1))
        return F.pad(image, (0, right, 0, bottom)) if bottom or right else image

    def _unfit(self, image, fitted, size):
        """Return the part of a map (N, C, H, W) that shows the frame, float32 and of its size."""
        image = image[:, :, :fitted[0], :fitted[1]].float()
        if tuple(fitted) == tuple(size):
            return image
        return F.interpolate(image, size=tuple(size), mode='bilinear')
