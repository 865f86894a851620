# Copyright 2026 rgbx_seg_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""Fourier transforms of maps as products with constant matrices, without complex tensors."""

import math

from rgbx_seg_ros.networks.layers import at_least_float32, Tables, without_autocast
import torch
from torch import nn

DTYPES = (torch.float32, torch.float64)


def waves(rows: int, columns: int, period: int) -> torch.Tensor:
    """Return cos and sin (2, rows, columns) of 2π·row·column/period, in float64."""
    # The product modulo the period: a large angle would lose digits in the sine.
    turns = torch.outer(torch.arange(rows), torch.arange(columns)) % period
    angle = turns.double() * (2 * math.pi / period)
    return torch.stack((angle.cos(), angle.sin()))


class RealDFT(nn.Module):
    """
    The orthonormal Fourier transform of real maps (N, C, H, W), the spectrum in two real halves.

    A spectrum is re, im, each (N, C, H, F) with F = W // 2 + 1, rows not shifted, exp(-i...)
    forward. It is float32 or wider whatever the map: its constant term is √(H·W) times the mean,
    soon out of the range of fp16.
    """

    def __init__(self):
        super().__init__()
        self.columns = Tables(self._columns)
        self.rows = Tables(self._rows)
        self.columns_back = Tables(self._columns_back)

    @staticmethod
    def _columns(width, double):
        cos, sin = waves(width, width // 2 + 1, width) / width ** 0.5
        return torch.cat((cos, -sin), dim=1).to(DTYPES[double])  # W 2F

    @staticmethod
    def _rows(height, double):
        return (waves(height, height, height) / height ** 0.5).to(DTYPES[double])  # 2 H H

    @staticmethod
    def _columns_back(width, double):
        cos, sin = waves(width // 2 + 1, width, width) / width ** 0.5
        # The columns left out of the half spectrum are the conjugates of those in it.
        times = torch.full((width // 2 + 1, 1), 2.0, dtype=torch.float64)
        times[0] = 1.0
        if width % 2 == 0:
            times[-1] = 1.0
        return torch.cat((times * cos, -times * sin)).to(DTYPES[double])  # 2F W

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return re, im of the maps `x`."""
        with without_autocast(x):
            x = at_least_float32(x)
            double, (height, width) = x.dtype == torch.float64, x.shape[2:]
            re, im = (x @ self.columns(x.device, width, double)).chunk(2, dim=-1)
            cos, sin = self.rows(x.device, height, double)
            return cos @ re + sin @ im, cos @ im - sin @ re

    def inverse(self, re: torch.Tensor, im: torch.Tensor, width: int) -> torch.Tensor:
        """
        Return the maps of `width` columns that belong to a spectrum, float32 or wider.

        A spectrum that no real map has is taken as it comes: of its first column, and of the last
        if `width` is even, the real part counts alone, after the transform along the rows.
        """
        with without_autocast(re):
            re, im = at_least_float32(re), at_least_float32(im)
            double = re.dtype == torch.float64
            cos, sin = self.rows(re.device, re.shape[2], double)
            lines = torch.cat((cos @ re - sin @ im, sin @ re + cos @ im), dim=-1)  # N C H 2F
            return lines @ self.columns_back(re.device, width, double)


def complex_logistic(a: torch.Tensor, b: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """
    Return re, im of 1 / (1 + exp(-(a + ib))), in float32 or wider.

    No intermediate overflows, and half angles keep the digits near the poles a = 0, b = ±π.
    """
    a, b = at_least_float32(a), at_least_float32(b)
    positive = a >= 0
    minus = torch.where(positive, -a, a)  # -|a|; the gradient of abs would be 0 at a = 0
    e, m = minus.exp(), -minus.expm1()
    cos, sin = (b / 2).cos(), (b / 2).sin()
    ecc = e * cos * cos
    q = m * m + 4 * ecc  # = |1 + exp(-|a| - ib)|²
    re = torch.where(positive, m + 2 * ecc, 2 * ecc - e * m) / q
    return re, 2 * e * sin * cos / q
