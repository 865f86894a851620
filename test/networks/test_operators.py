# Copyright 2026 rgbx_seg_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""The operators against their definitions, and against values that the original code gave."""

import functools
import pathlib

import hypothesis
from hypothesis import strategies as st
import numpy as np
import operator_references
import pytest
from rgbx_seg_ros.errors import FrameError
from rgbx_seg_ros.networks.operators import (
    complex_logistic,
    deformable,
    deformable_sampling,
    frequency,
    NeighborhoodAttention,
    RealDFT,
    scan,
    selective_scan,
    smallest_share,
)
import torch
from torch import nn
from torch.nn import functional as F

DATA = pathlib.Path(__file__).parents[1] / 'data' / 'parity' / 'mddg' / 'ops.npz'


@pytest.fixture(scope='module')
def recorded():
    """Return inputs and outputs of the original code, in its own layouts."""
    with np.load(DATA) as file:
        return {name: torch.from_numpy(array) for name, array in file.items()}


def noise(*shape, seed=0, dtype=torch.float64):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed)).to(dtype)


def close(ours, wanted, tolerance=1e-12):
    wanted = torch.as_tensor(wanted)
    torch.testing.assert_close(ours, wanted, rtol=tolerance, atol=tolerance, check_dtype=False)


def by_definition(name, *inputs):
    """Return what the slow definition `name` gives for `inputs`, tensors or plain numbers."""
    inputs = (x.numpy() if isinstance(x, torch.Tensor) else x for x in inputs)
    return getattr(operator_references, name)(*inputs)


# One small case of each operator: a module and its differentiable inputs. ----------------------

class Attention(NeighborhoodAttention):
    """With the heads fixed, as a network has them."""

    def forward(self, query, key, value):
        return super().forward(query, key, value, 2)


class RoundTrip(RealDFT):
    """A transform, a change of the spectrum and the inverse."""

    def forward(self, x):
        re, im = super().forward(x)
        return self.inverse(re * re, im + re, x.shape[3])


class Call(nn.Module):
    """A function as a module, which torch.export asks for."""

    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, *inputs):
        return self.function(*inputs)


def scan_inputs(n=1, scans=2, channels=3, length=4, pixels=5, states=2):
    u, delta = noise(2, n, scans, channels, length, pixels)
    b, c = noise(2, n, scans, states, length, pixels, seed=1)
    a = -noise(scans, channels, states, seed=2).exp()
    return u, F.softplus(delta), a, b, c, noise(scans, channels, seed=3)


def sampling_inputs(n=1, heads=2, depth=3, size=(4, 5), queries=6, points=2):
    value = noise(n, heads, depth, *size)
    locations = 0.5 + 0.4 * noise(n, queries, heads, points, 2, seed=1)  # some lie outside
    return value, locations, noise(n, queries, heads, points, seed=2).softmax(-1)


CASES = {
    'neighborhood_attention': (Attention(3), tuple(noise(3, 1, 4, 5, 9))),
    'selective_scan': (Call(selective_scan), scan_inputs()),
    'real_dft': (RoundTrip(), (noise(1, 2, 5, 6),)),
    'complex_logistic': (Call(complex_logistic), (noise(7), noise(7, seed=1))),
    'deformable_sampling': (Call(deformable_sampling), sampling_inputs()),
}
each_operator = pytest.mark.parametrize('name', CASES)


@each_operator
def test_gradients_are_those_of_finite_differences(name):
    operator, inputs = CASES[name]
    inputs = [x.clone().requires_grad_() for x in inputs]
    assert torch.autograd.gradcheck(operator, inputs)


@each_operator
def test_an_exported_operator_gives_the_same(name):
    operator, inputs = CASES[name]
    inputs = tuple(x.float() for x in inputs)
    with torch.no_grad():
        wanted = operator(*inputs)
        program = torch.export.export(operator, inputs)
        torch.testing.assert_close(program.module()(*inputs), wanted)
    for node in program.graph.nodes:
        for made in torch.utils._pytree.tree_leaves(node.meta.get('val')):
            if isinstance(made, torch.Tensor):
                assert not made.is_complex()
                assert all(isinstance(side, int) for side in made.shape)


@pytest.mark.parametrize(('name', 'absent'), [
    ('selective_scan', {'exp2'}), ('deformable_sampling', {'embedding_bag', '_embedding_bag'})])
def test_an_exported_operator_leaves_out_what_onnx_lacks(name, absent):
    operator, inputs = CASES[name]
    with torch.no_grad():
        graph = torch.export.export(operator, inputs).graph
    used = {node.target.__name__.partition('.')[0] for node in graph.nodes if node.op != 'output'
            and hasattr(node.target, '__name__')}
    assert {'exp', 'grid_sampler'} & used
    assert not absent & used


@each_operator
@pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16])
def test_half_precision_only_rounds(name, dtype):
    operator, inputs = CASES[name]
    inputs = [x.to(dtype) for x in inputs]
    ours = operator(*inputs)
    wanted = operator(*(x.double() for x in inputs))
    if isinstance(ours, torch.Tensor):
        ours, wanted = (ours,), (wanted,)
    for mine, exact in zip(ours, wanted, strict=True):
        tolerance = 4 * torch.finfo(dtype).eps * exact.abs().max()
        assert (mine - exact).abs().max() <= tolerance
        spectral = name in {'real_dft', 'complex_logistic'}
        assert mine.dtype == (torch.float32 if spectral else dtype)


@each_operator
def test_autocast_is_no_worse_than_bfloat16(name):
    operator, inputs = CASES[name]
    inputs = [x.float() for x in inputs]
    wanted = operator(*inputs)
    with torch.autocast('cpu', dtype=torch.bfloat16):
        ours = operator(*inputs)
    for mine, exact in zip(*((x,) if isinstance(x, torch.Tensor) else x for x in (ours, wanted)),
                           strict=True):
        # Attention alone may round; sums over a sequence, a map or a table may not.
        rounds = name == 'neighborhood_attention'
        torch.testing.assert_close(
            mine.float(), exact, rtol=0, atol=0.05 if rounds else 1e-6)


@each_operator
def test_a_training_step_works_after_inference_mode(name):
    operator, inputs = CASES[name]
    inputs = [x.clone() for x in inputs]
    with torch.inference_mode():
        operator(*inputs)
    ours = operator(*(x.requires_grad_() for x in inputs))
    ours = ours if isinstance(ours, torch.Tensor) else sum(ours)
    ours.square().sum().backward()
    for x in inputs:
        assert x.grad.isfinite().all()
        assert x.grad.any()


@pytest.mark.parametrize('name', sorted(set(CASES) - {'complex_logistic'}))
def test_items_of_a_batch_do_not_mix(name):
    operator, one = CASES[name]
    # Rates and skips of a scan are parameters, and belong to no item.
    batched = [not (name == 'selective_scan' and i in {2, 5}) for i in range(len(one))]
    other = [0.9 * x.roll(1, -1) if b else x for x, b in zip(one, batched, strict=True)]
    both = [torch.cat((x, y)) if b else x for x, y, b in zip(one, other, batched, strict=True)]
    close(operator(*both), torch.cat((operator(*one), operator(*other))))


# Neighbourhood attention -----------------------------------------------------------------------

@hypothesis.settings(max_examples=40, deadline=None, derandomize=True)
@hypothesis.given(
    st.sampled_from([1, 3, 5, 7]), st.integers(0, 14), st.integers(0, 14), st.integers(1, 3))
def test_every_query_attends_to_its_window(kernel_size, more_rows, more_columns, heads):
    size = kernel_size + more_rows, kernel_size + more_columns
    query, key, value = 2 * noise(3, 1, 2 * heads, *size)
    ours = NeighborhoodAttention(kernel_size)(query, key, value, heads)
    close(ours, by_definition('neighborhood_attention', query, key, value, kernel_size, heads))


@pytest.mark.parametrize(
    ('kernel_size', 'size'),
    [(13, (13, 13)), (13, (17, 30)), (13, (41, 24)), (7, (33, 8)), (5, (15, 20)), (17, (40, 25))])
def test_wide_windows_are_covered_by_the_keys_of_a_block(kernel_size, size):
    query, key, value = 2 * noise(3, 1, 2, *size)
    ours = NeighborhoodAttention(kernel_size)(query, key, value, 1)
    close(ours, by_definition('neighborhood_attention', query, key, value, kernel_size, 1))


@pytest.mark.parametrize('kernel_size', [5, 7, 13])
def test_attention_equals_recorded_values(recorded, kernel_size):
    def to_map(x):  # N H W h d
        return x.permute(0, 3, 4, 1, 2).flatten(1, 2)

    maps = (to_map(recorded[f'na/{name}']) for name in 'qkv')
    ours = NeighborhoodAttention(kernel_size)(*maps, 2)
    close(ours, to_map(recorded[f'na/out_k{kernel_size}']), 2e-6)


def test_a_map_smaller_than_its_window_is_an_error():
    with pytest.raises(FrameError, match=r'12x20.*13x13'):
        NeighborhoodAttention(13)(*noise(3, 1, 4, 12, 20), 2)
    with pytest.raises(FrameError, match=r'20x12.*13x13'):
        NeighborhoodAttention(13)(*noise(3, 1, 4, 20, 12), 2)


def test_an_even_window_is_an_error():
    with pytest.raises(ValueError, match=r'4.*odd'):
        NeighborhoodAttention(4)


def test_attention_of_a_large_map_stays_small():
    """The keys of a block are few: a mask of all pixels with all would have 369 million."""
    attention = NeighborhoodAttention(13)
    cpu = torch.device('cpu')
    assert attention.mask(cpu, 120, 160).nbytes < 32e6
    assert attention.index(cpu, 120, 160).numel() < 6.5 * 120 * 160


@pytest.mark.parametrize('scale', [1.0, 100.0])
def test_strong_scores_stay_finite(scale):
    maps = [(scale * x).half() for x in noise(3, 1, 64, 16, 16)]
    ours = NeighborhoodAttention(5)(*maps, 2)
    assert ours.isfinite().all()
    assert ours.abs().max() <= maps[2].abs().max()


# Selective scan --------------------------------------------------------------------------------

@pytest.mark.parametrize('sizes', [
    {}, {'length': 1}, {'pixels': 1}, {'states': 1}, {'scans': 1, 'channels': 1},
    {'n': 3, 'length': 17, 'pixels': 7, 'states': 5},
])
def test_a_scan_follows_its_recurrence(sizes):
    inputs = scan_inputs(**sizes)
    wanted = by_definition('selective_scan', *inputs)
    close(selective_scan(*inputs), wanted)
    with torch.no_grad():
        close(selective_scan(*inputs), wanted)


def test_a_scan_equals_recorded_values(recorded):
    def split(x):  # P K·h L to 1 K h L P
        return x.unflatten(1, (2, -1)).permute(1, 2, 3, 0).unsqueeze(0)

    steps = F.softplus(recorded['scan/delta'] + recorded['scan/delta_bias'][:, None])
    b, c = (recorded[f'scan/{name}'].permute(1, 2, 3, 0).unsqueeze(0) for name in 'BC')
    a, d = (recorded[f'scan/{name}'].unflatten(0, (2, -1)) for name in 'AD')
    ours = selective_scan(split(recorded['scan/u']), split(steps), a, b, c, d)
    close(ours, split(recorded['scan/out']), 5e-6)


@pytest.mark.parametrize('entries', [1, 40, 100, 10 ** 9])
def test_the_size_of_the_pieces_does_not_matter(entries, monkeypatch):
    monkeypatch.setitem(scan.PIECE, 'cpu', entries)
    inputs = [x.requires_grad_() for x in scan_inputs(pixels=11)]
    ours = selective_scan(*inputs)
    plain = scan._scan(torch.exp, *inputs)
    close(ours, plain)
    weight = noise(*plain.shape)
    mine, wanted = (torch.autograd.grad((y * weight).sum(), inputs) for y in (ours, plain))
    for x, y in zip(mine, wanted, strict=True):
        close(x, y)


def test_a_backward_pass_keeps_no_states():
    inputs = [x.requires_grad_() for x in scan_inputs(length=16, pixels=3000, states=12)]
    known = {x.untyped_storage().data_ptr() for x in inputs}
    kept = {}

    def pack(x):
        kept[x.untyped_storage().data_ptr()] = x.untyped_storage().nbytes()
        return x

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda x: x):
        selective_scan(*inputs)
    states = 16 * 12 * inputs[0][..., 0, :].nbytes
    assert sum(size for place, size in kept.items() if place not in known) < states / 100


@pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16])
def test_the_states_of_a_long_scan_are_not_rounded(dtype):
    u, delta, a, b, c, d = scan_inputs(length=64)
    inputs = [x.to(dtype) for x in (u, 0.1 * delta, 0.01 * a, b, c, d)]
    wanted = selective_scan(*(x.double() for x in inputs))
    ours = selective_scan(*inputs)
    assert ours.dtype == dtype
    assert ((ours - wanted).abs() <= torch.finfo(dtype).eps * wanted.abs() + 1e-4).all()


# Fourier transform -----------------------------------------------------------------------------

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


def test_a_gate_in_the_spectrum_equals_recorded_values(recorded):
    dft = RealDFT()
    re, im = dft(recorded['fftgate/x'].permute(0, 3, 1, 2))
    gate_re, gate_im = (recorded['fftgate/weight'] * recorded['fftgate/keep'][..., None, None]
                        ).permute(3, 2, 0, 1)
    ours = dft.inverse(re * gate_re - im * gate_im, re * gate_im + im * gate_re, 80)
    close(ours.permute(0, 2, 3, 1), recorded['fftgate/out'], 5e-6)


def test_the_constant_term_of_a_half_map_does_not_overflow():
    x = torch.full((1, 1, 120, 160), 1000.0, dtype=torch.float16)
    re, im = RealDFT()(x)
    assert re[0, 0, 0, 0] == pytest.approx(1000 * (120 * 160) ** 0.5, rel=1e-5)
    assert (im.abs() < 0.05).all()


# Complex logistic ------------------------------------------------------------------------------

def test_the_logistic_function_of_many_numbers():
    a, b = torch.meshgrid(
        torch.tensor([-1000.0, -88.0, -20.0, -3.0, -1e-3, 0.0, 1e-3, 2.0, 30.0, 710.0, 1000.0]),
        torch.tensor([-20.0, -3.0, -1.0, 0.0, 0.5, 3.1, 4.0, 100.0]), indexing='ij')
    a, b = a.double(), b.double()
    wanted = [operator_references.complex_logistic(complex(*z))
              for z in zip(a.flatten().tolist(), b.flatten().tolist(), strict=True)]
    ours = torch.complex(*complex_logistic(a, b)).flatten()
    close(ours, torch.tensor(wanted, dtype=torch.complex128), 1e-11)


def test_the_logistic_function_equals_recorded_values(recorded):
    ours = torch.stack(complex_logistic(*recorded['logistic/in'].unbind(-1)), dim=-1)
    close(ours, recorded['logistic/out'], 2e-5)


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


# Smallest share --------------------------------------------------------------------------------

@pytest.mark.parametrize('share', [0.01, 1 / 3, 0.5, 0.77, 1.0])
@pytest.mark.parametrize('shape', [(1, 1), (2, 7), (3, 1, 5, 9), (2, 1, 40, 30)])
def test_the_smallest_entries_of_each_item_are_chosen(shape, share):
    values = noise(*shape)
    close(smallest_share(values, share), by_definition('smallest_share', values, share))


def test_the_share_of_one_item_does_not_depend_on_another():
    values = noise(2, 1, 6, 6) + torch.tensor([0.0, 100.0]).view(2, 1, 1, 1)
    assert smallest_share(values, 0.5).flatten(1).sum(1).tolist() == [18, 18]


def test_entries_that_tie_with_the_last_one_are_chosen_too():
    values = torch.tensor([[3.0, 1.0, 2.0, 2.0, 2.0, 5.0]])
    assert smallest_share(values, 0.5).tolist() == [[0, 1, 1, 1, 1, 0]]


def test_a_mask_equals_the_recorded_one(recorded):
    rgb, x = (F.normalize(recorded[f'mask/{name}'], dim=1) for name in ('rgb', 'x'))
    ours = smallest_share((rgb * x).sum(1, keepdim=True), 0.5)
    assert torch.equal(ours, recorded['mask/mask'].float())


def test_a_mask_has_the_type_of_the_values_and_no_gradient():
    values = noise(2, 8, dtype=torch.float16).requires_grad_()
    mask = smallest_share(values, 0.5)
    assert mask.dtype == torch.float16
    assert not mask.requires_grad


def test_an_exported_mask_is_the_same():
    values = noise(2, 1, 9, 11)
    module = Call(functools.partial(smallest_share, share=0.3))
    program = torch.export.export(module, (values,))
    assert torch.equal(program.module()(values), module(values))


# Deformable sampling ---------------------------------------------------------------------------

PATHS = {'bags': deformable._bags, 'grid_sample': deformable._grid_sample}
"""What runs on the CPU, and what runs on a GPU and in an exported graph."""


@pytest.mark.parametrize('sample', PATHS.values(), ids=PATHS)
@pytest.mark.parametrize('sizes', [
    {}, {'n': 2, 'size': (3, 8), 'queries': 1}, {'heads': 1, 'points': 1, 'size': (1, 1)},
    {'depth': 1, 'points': 4, 'size': (7, 2), 'queries': 20},
])
def test_samples_are_bilinear_with_zeros_outside(sample, sizes):
    inputs = sampling_inputs(**sizes)
    close(sample(*inputs), by_definition('deformable_sampling', *inputs))


@pytest.mark.parametrize('sample', PATHS.values(), ids=PATHS)
def test_a_point_at_the_centre_of_a_pixel_reads_that_pixel(sample):
    value = noise(1, 1, 2, 4, 5)
    rows, columns = torch.meshgrid(torch.arange(4), torch.arange(5), indexing='ij')
    centres = (torch.stack((columns, rows), dim=-1).double() + 0.5) / torch.tensor([5.0, 4.0])
    ours = sample(value, centres.view(1, 20, 1, 1, 2), torch.ones(1, 20, 1, 1).double())
    close(ours, value.flatten(3).squeeze(1).transpose(1, 2))


@pytest.mark.parametrize('sample', PATHS.values(), ids=PATHS)
def test_points_far_outside_read_zero(sample):
    value, locations, weights = sampling_inputs()
    for shift in (-3.0, 3.0, -1e4, 1e4):
        assert not sample(value, locations + shift, weights).any()


def test_half_maps_are_sampled_at_exact_places():
    """In fp16 a place on a map 160 wide would be off by up to a twelfth of a pixel."""
    value, _, weights = sampling_inputs(size=(120, 160), queries=50)
    locations = 0.9 + 0.02 * noise(1, 50, 2, 2, 2).clamp(-3, 3)
    ours = deformable_sampling(value.half(), locations.float(), weights.half())
    wanted = deformable_sampling(value.half().double(), locations, weights.half().double())
    assert ours.dtype == torch.float16
    assert (ours - wanted).abs().max() < 2e-3
