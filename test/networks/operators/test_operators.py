# Copyright 2026 rgbx_seg_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""What every operator does, whatever it computes."""

import pytest
from rgbx_seg_ros.networks.operators import (
    complex_logistic,
    deformable_sampling,
    NeighborhoodAttention,
    RealDFT,
    selective_scan,
)
from support.operator_inputs import Call, close, noise, sampling_inputs, scan_inputs
import torch


class Attention(NeighborhoodAttention):
    """With the heads fixed, as a network has them."""

    def forward(self, query, key, value):
        return super().forward(query, key, value, 2)


class RoundTrip(RealDFT):
    """A transform, a change of the spectrum and the inverse."""

    def forward(self, x):
        re, im = super().forward(x)
        return self.inverse(re * re, im + re, x.shape[3])


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
