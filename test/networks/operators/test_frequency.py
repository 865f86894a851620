# Copyright 2026 rgbx_seg_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""Fourier transforms and the logistic function without complex tensors."""

import pytest
from rgbx_seg_ros.networks.operators import complex_logistic, frequency, RealDFT
from support import operator_references
from support.operator_inputs import by_definition, close, noise, RECORDED
import torch

SIZES = [(1, 1), (1, 6), (6, 1), (2, 2), (5, 7), (6, 5), (7, 8), (8, 6)]


@pytest.mark.parametrize('size', SIZES)
def test_a_spectrum_is_the_sum_over_all_pixels(size):
    x = noise(2, 3, *size)
    close(torch.complex(*RealDFT()(x)), by_definition('real_dft', x))


@pytest.mark.parametrize('size', SIZES)
def test_the_inverse_takes_any_spectrum(size):
    height, width = size
    re, im = noise(2, 1, 3, height, width // 2 + 1)
    wanted = by_definition('inverse_real_dft', torch.complex(re, im), width)
    close(RealDFT().inverse(re, im, width), wanted)


def test_whole_and_half_turns_of_large_tables_are_exact():
    cos, sin = frequency.waves(999, 999, 500)
    turns = torch.outer(torch.arange(999), torch.arange(999)) % 500
    assert (cos[turns == 0] == 1).all()
    assert (sin[turns == 0] == 0).all()
    assert (cos[turns == 250] == -1).all()


@pytest.mark.parametrize('size', [(120, 160), (37, 53)])
def test_large_maps_come_back_in_single_precision(size):
    x = noise(1, 2, *size, dtype=torch.float32)
    dft = RealDFT()
    re, im = dft(x)
    assert re.dtype == im.dtype == torch.float32
    assert re.shape == (1, 2, size[0], size[1] // 2 + 1)
    close(dft.inverse(re, im, size[1]), x, 1e-5)
    exact = torch.fft.rfft2(x.double(), norm='ortho')
    assert (torch.complex(re, im) - exact).abs().max() < 1e-5


def test_a_gate_in_the_spectrum_equals_recorded_values():
    dft = RealDFT()
    re, im = dft(RECORDED['fftgate/x'].permute(0, 3, 1, 2))
    gate_re, gate_im = (RECORDED['fftgate/weight'] * RECORDED['fftgate/keep'][..., None, None]
                        ).permute(3, 2, 0, 1)
    ours = dft.inverse(re * gate_re - im * gate_im, re * gate_im + im * gate_re, 80)
    close(ours.permute(0, 2, 3, 1), RECORDED['fftgate/out'], 5e-6)


def test_the_constant_term_of_a_half_map_does_not_overflow():
    x = torch.full((1, 1, 120, 160), 1000.0, dtype=torch.float16)
    re, im = RealDFT()(x)
    assert re[0, 0, 0, 0] == pytest.approx(1000 * (120 * 160) ** 0.5, rel=1e-5)
    assert (im.abs() < 0.05).all()


def test_the_logistic_function_of_many_numbers():
    a, b = torch.meshgrid(
        torch.tensor([-1000.0, -88.0, -20.0, -3.0, -1e-3, 0.0, 1e-3, 2.0, 30.0, 710.0, 1000.0]),
        torch.tensor([-20.0, -3.0, -1.0, 0.0, 0.5, 3.1, 4.0, 100.0]), indexing='ij')
    a, b = a.double(), b.double()
    wanted = [operator_references.complex_logistic(complex(*z))
              for z in zip(a.flatten().tolist(), b.flatten().tolist(), strict=True)]
    ours = torch.complex(*complex_logistic(a, b)).flatten()
    close(ours, torch.tensor(wanted, dtype=torch.complex128), 1e-11)


def test_the_logistic_function_equals_recorded_values():
    ours = torch.stack(complex_logistic(*RECORDED['logistic/in'].unbind(-1)), dim=-1)
    close(ours, RECORDED['logistic/out'], 2e-5)


def test_near_a_pole_single_precision_keeps_its_digits():
    a = torch.tensor([1e-4, -1e-4, 0.0, 3e-3])
    b = torch.tensor([3.1416, 3.1415, 3.1414, -3.1410])
    ours = complex_logistic(a, b)
    wanted = complex_logistic(a.double(), b.double())
    for mine, exact in zip(ours, wanted, strict=True):
        assert ((mine - exact).abs() <= 1e-4 * exact.abs() + 1e-4).all()


@pytest.mark.parametrize('dtype', [torch.float32, torch.float64])
def test_the_logistic_function_has_finite_gradients_everywhere(dtype):
    a = torch.tensor([-1000.0, -100.0, 0.0, -0.0, 100.0, 1000.0], dtype=dtype)
    a, b = torch.meshgrid(a, torch.linspace(-40, 40, 41, dtype=dtype), indexing='ij')
    a, b = (x.clone().requires_grad_() for x in (a, b))
    re, im = complex_logistic(a, b)
    (re + im).sum().backward()
    for x in (re, im, a.grad, b.grad):
        assert x.isfinite().all()


def test_the_logistic_function_has_its_slope_at_zero():
    a, b = torch.zeros(2, dtype=torch.float64).requires_grad_().unbind()
    re, im = complex_logistic(a, b)
    close(torch.stack(torch.autograd.grad(re, (a, b), retain_graph=True)), [0.25, 0.0])
    close(torch.stack(torch.autograd.grad(im, (a, b))), [0.0, 0.25])
